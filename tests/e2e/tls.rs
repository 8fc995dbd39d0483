//! Management over TLS, from the outside.

use std::path::Path;

use rustix::process::Signal;

use super::support::{Daemon, Place, Run, eventually, free_address, lunctl};

const PASSWORD: &str = "correct horse battery";

/// A daemon with TLS on a free loopback port, and its address.
fn running(place: &Place, more: &str) -> (Daemon, String) {
    let text = format!("[management.tls]\nlisten = ['127.0.0.1:0']\n{more}");
    let config = place.write("lund.toml", &text);
    let daemon = place.start(&["--config", config.to_str().unwrap()]);
    let line = daemon.lines.iter().find_map(|line| line.strip_prefix("https://"));
    let address = line.unwrap().strip_suffix("/cimom").unwrap();
    let server = format!("https://{address}");
    (daemon, server)
}

/// The certificate's fingerprint, as the log has it last.
fn fingerprint(daemon: &Daemon) -> String {
    let log = daemon.log();
    let found = log.lines().rev().find_map(|line| {
        let record: serde_json::Value = serde_json::from_str(line).ok()?;
        record["sha256"].as_str().map(str::to_owned)
    });
    found.unwrap()
}

fn add(daemon: &Daemon, place: &Place, name: &str, role: &str) {
    let file = place.write("password", PASSWORD);
    let file = file.to_str().unwrap();
    daemon.lunctl(&["user", "add", name, "--role", role, "--password-file", file]).ok();
}

fn status(server: &str, trust: &[&str]) -> Run {
    lunctl(server, &[trust, &["status"]].concat())
}

#[test]
fn a_certificate_is_made_and_clients_check_it_or_pin_it() {
    let place = Place::new();
    let (daemon, server) = running(&place, "");
    let ca = place.data().join("tls-certificate.pem");
    let ca = ca.to_str().unwrap();
    status(&server, &["--ca", ca]).ok();
    status(&server.replace("127.0.0.1", "localhost"), &["--ca", ca]).ok();
    let pin = fingerprint(&daemon);
    status(&server, &["--pin", &pin]).ok();
    status(&server, &["--pin", &pin.replace(':', "").to_lowercase()]).ok();
    status(&server, &["--pin", &"00".repeat(32)]).fails(7, &["cannot reach"]);
    status(&server, &["--pin", "abc"]).fails(2, &["64 hexadecimal digits"]);
    status(&server, &[]).fails(7, &["cannot reach"]);
    status(&server, &["--ca", "/nowhere"]).fails(2, &["/nowhere"]);
    add(&daemon, &place, "root", "administrator");
    let file = place.path().join("password");
    let login = ["--login", "root", "--login-password-file", file.to_str().unwrap()];
    let me = lunctl(&server, &[&["--ca", ca], &login[..], &["whoami"]].concat()).ok();
    assert_eq!(me, "root, administrator (by password)\n");
    daemon.stop();
    // It is the same after a restart.
    let (daemon, server) = running(&place, "");
    lunctl(&server, &[&["--pin", &pin], &login[..], &["whoami"]].concat()).ok();
    daemon.stop();
}

/// A certificate for 127.0.0.1 and its key, made by a daemon of its own.
fn other_certificate(place: &Place) -> [String; 2] {
    let other = Place::new();
    running(&other, "").0.stop();
    ["certificate", "key"].map(|what| {
        let from = other.data().join(format!("tls-{what}.pem"));
        let to = place.path().join(format!("own-{what}.pem"));
        std::fs::copy(from, &to).unwrap();
        to.to_str().unwrap().to_owned()
    })
}

#[test]
fn an_own_certificate_is_renewed_while_the_daemon_runs() {
    let place = Place::new();
    let [certificate, key] = other_certificate(&place);
    let (daemon, server) =
        running(&place, &format!("certificate = '{certificate}'\nkey = '{key}'"));
    let before = fingerprint(&daemon);
    status(&server, &["--pin", &before]).ok();
    // A bad one changes nothing.
    std::fs::write(&certificate, "nonsense").unwrap();
    daemon.signal(Signal::HUP);
    eventually("the log says so", || daemon.log().contains("is not renewed").then_some(()));
    status(&server, &["--pin", &before]).ok();
    other_certificate(&place);
    daemon.signal(Signal::HUP);
    let after = eventually("the new one is shown", || {
        Some(fingerprint(&daemon)).filter(|now| *now != before)
    });
    status(&server, &["--pin", &after]).ok();
    status(&server, &["--pin", &before]).fails(7, &[]);
    assert!(!Path::new(&place.data().join("tls-key.pem")).exists(), "none was made");
    daemon.stop();
}

#[test]
fn a_client_certificate_signs_its_user_in() {
    let place = Place::new();
    // One that is trusted for itself; its subject is `lund on HOST`, which no user can be.
    let [certificate, key] = other_certificate(&place);
    let (daemon, server) = running(&place, &format!("client_ca = '{certificate}'"));
    add(&daemon, &place, "root", "administrator");
    let pin = fingerprint(&daemon);
    let shown = ["--client-certificate", &certificate, "--client-key", &key];
    let run = lunctl(&server, &[&["--pin", &pin], &shown[..], &["whoami"]].concat());
    run.fails(8, &["sign in first"]);
    daemon.stop();
}

#[test]
fn other_machines_come_in_when_there_is_an_administrator_and_not_before() {
    let place = Place::new();
    let port = free_address().port();
    let config =
        place.write("lund.toml", &format!("[management.tls]\nlisten = ['0.0.0.0:{port}']"));
    let daemon = place.start(&["--config", config.to_str().unwrap()]);
    assert!(!daemon.lines.iter().any(|line| line.starts_with("https://")), "{:?}", daemon.lines);
    let log = daemon.log();
    assert!(log.contains("management.tls.listen") && log.contains("lunctl user add"), "{log}");
    let server = format!("https://127.0.0.1:{port}");
    let ca = place.data().join("tls-certificate.pem");
    let whoami = || lunctl(&server, &["--ca", ca.to_str().unwrap(), "whoami"]);
    whoami().fails(7, &["cannot reach"]);
    add(&daemon, &place, "eve", "viewer");
    whoami().fails(7, &["cannot reach"]);
    add(&daemon, &place, "root", "administrator");
    eventually("it is served", || (whoami().status == 8).then_some(()));
    daemon.stop();
    let daemon = place.start(&["--config", config.to_str().unwrap()]);
    assert!(daemon.lines.contains(&format!("https://0.0.0.0:{port}/cimom")), "{:?}", daemon.lines);
    whoami().fails(8, &["sign in first"]);
    daemon.stop();
}
