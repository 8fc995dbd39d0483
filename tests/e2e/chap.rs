//! With CHAP configured nobody gets in without it.

use std::io;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::support::{Daemon, PATIENCE, Pdu, Place, Session, exit_of};

/// Writes a secret that its owner alone may read, and the configuration that names it.
fn configure(place: &Place, secret: &str, mode: u32) -> std::path::PathBuf {
    let path = place.write("secret", secret);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    let text = format!("[iscsi.chap]\nuser = 'hosts'\nsecret_file = '{}'\n", path.display());
    place.write("lund.toml", &text)
}

fn start(place: &Place, config: &Path) -> Daemon {
    let daemon = Daemon::spawn(place.command::<&str>(&[]).arg("--config").arg(config), place);
    daemon.lunctl(&["target", "create", "safe"]).ok();
    daemon
}

/// The status and text that answer a first Login Request.
fn ask(daemon: &Daemon, flags: u8, text: &str) -> io::Result<([u8; 2], String)> {
    let mut stream = TcpStream::connect(daemon.portal)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let text = format!("InitiatorName={}\0{text}", Session::NAME);
    Pdu::login(flags, [0x80, 0, 0, 0, 9, 9], text.into_bytes()).send(&mut stream)?;
    let answer = Pdu::receive(&mut stream)?;
    let text = String::from_utf8_lossy(&answer.data).into_owned();
    Ok(([answer.header[36], answer.header[37]], text))
}

#[test]
fn without_it_no_login_succeeds() {
    let place = Place::new();
    let daemon = start(&place, &configure(&place, "0123456789ab", 0o600));
    let target = "iqn.2026-01.io.lund:safe";
    let error = Session::try_login(daemon.portal, target).unwrap_err().to_string();
    assert_eq!(error, "login status 0201");
    for session in [&format!("TargetName={target}\0"), "SessionType=Discovery\0"] {
        // T, security negotiation to the full feature phase.
        let (status, _) = ask(&daemon, 0x83, &format!("{session}AuthMethod=None\0")).unwrap();
        assert_eq!(status, [2, 1], "{session}");
        let (status, text) = ask(&daemon, 0x00, &format!("{session}AuthMethod=CHAP\0")).unwrap();
        assert_eq!((status, text.contains("AuthMethod=CHAP")), ([0, 0], true), "{text}");
    }
    assert_eq!(daemon.json(&["session", "list"]), serde_json::json!([]));
}

#[test]
fn a_secret_that_is_no_secret_stops_the_start() {
    let cases = [("0123456789ab", 0o644), ("short", 0o600), ("", 0o600)];
    for (secret, mode) in cases {
        let place = Place::new();
        let config = configure(&place, secret, mode);
        let (status, error) = exit_of(place.command::<&str>(&[]).arg("--config").arg(config));
        assert_eq!(status, 2, "{error}");
        assert!(error.contains("lund.toml:3: `iscsi.chap.secret_file`"), "{error}");
        assert!(secret.is_empty() || !error.contains(secret), "{error}");
    }
}
