//! Users, tokens and the socket: who may manage the daemon, from the outside.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use serde_json::json;

use super::support::{Daemon, Place, Run, eventually, exchange, request};

const PASSWORD: &str = "correct horse battery";

/// Makes a user, over HTTP while that is open.
fn add(daemon: &Daemon, place: &Place, name: &str, role: &str) -> Run {
    let file = place.write("password", &format!("{PASSWORD}\n"));
    let file = file.to_str().unwrap();
    daemon.lunctl(&["user", "add", name, "--role", role, "--password-file", file])
}

/// The path of the socket, as `--server` takes it.
fn socket(place: &Place) -> String {
    format!("unix:{}", place.data().join("lund.sock").display())
}

fn local(place: &Place, arguments: &[&str]) -> Run {
    super::support::lunctl(&socket(place), arguments)
}

#[test]
fn the_first_administrator_ends_the_time_in_which_nobody_is_asked() {
    let place = Place::new();
    let daemon = place.start(&[]);
    assert!(daemon.lunctl(&["whoami"]).ok().contains("no administrator yet"));
    assert_eq!(add(&daemon, &place, "eve", "viewer").ok(), "user eve is viewer\n");
    daemon.lunctl(&["disk", "list"]).ok();
    assert_eq!(add(&daemon, &place, "root", "administrator").ok(), "user root is administrator\n");
    daemon.lunctl(&["disk", "list"]).fails(8, &["sign in first"]);
    request(daemon.management, "GET", "/disks", "").refused(401, &["sign in first"]);
    let get = |path: &str| {
        let server = daemon.management;
        let text = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
        exchange(server, text.as_bytes()).status
    };
    assert_eq!((get("/metrics"), get("/healthz"), get("/readyz"), get("/")), (401, 200, 200, 200));
    let file = place.write("password", PASSWORD);
    let login = |user: &'static str, more: &[&str]| {
        let file = file.to_str().unwrap();
        daemon.lunctl(&[&["--login", user, "--login-password-file", file], more].concat())
    };
    assert_eq!(login("root", &["whoami"]).ok(), "root, administrator (by password)\n");
    login("eve", &["disk", "list"]).ok();
    login("eve", &["disk", "create", "d", "--size", "1MiB"])
        .fails(8, &["for the role operator", "eve is viewer"]);
    login("root", &["disk", "create", "d", "--size", "1MiB"]).ok();
    let jobs: serde_json::Value = login("root", &["job", "list", "--json"]).json();
    assert_eq!(jobs[0]["owner"], "root");
    login("root", &["user", "remove", "root"]).fails(4, &["last administrator"]);
    let wrong = place.write("wrong", "wrong horse battery");
    let wrong = ["--login", "root", "--login-password-file", wrong.to_str().unwrap(), "whoami"];
    daemon.lunctl(&wrong).fails(8, &["is wrong"]);
    daemon.stop();
    // And after a restart.
    let daemon = place.start(&[]);
    daemon.lunctl(&["disk", "list"]).fails(8, &["sign in first"]);
    daemon.stop();
}

#[test]
fn passwords_come_from_files_and_standard_input_and_not_from_the_command_line() {
    let place = Place::new();
    let daemon = place.start(&[]);
    let add = |input: &str| {
        let arguments = ["user", "add", "ann", "--role", "viewer", "--password-file", "-"];
        let mut command = super::support::lunctl_command(&daemon.server(), &arguments);
        command.stdin(std::fs::File::open(place.write("input", input)).unwrap());
        Run::of(&mut command)
    };
    add("").fails(2, &["holds nothing"]);
    add("short\n").fails(2, &["at least 10 characters"]);
    add("long enough a password\r\nanother line\n").ok();
    let none = daemon.lunctl(&["user", "passwd", "ann"]);
    none.fails(2, &["no terminal", "--password-file"]);
    let new = place.write("new", "another password");
    daemon.lunctl(&["user", "passwd", "ann", "--password-file", new.to_str().unwrap()]).ok();
    daemon.lunctl(&["user", "role", "ann", "operator"]).ok();
    daemon.lunctl(&["user", "role", "ann", "root"]).fails(2, &["administrator"]);
    assert_eq!(daemon.json(&["user", "list"])[0]["role"], "operator");
    daemon.lunctl(&["user", "remove", "ann"]).ok();
    daemon.lunctl(&["user", "remove", "ann"]).fails(3, &["ann"]);
}

#[test]
fn a_token_is_shown_once_and_works_until_it_is_revoked() {
    let place = Place::new();
    let daemon = place.start(&[]);
    add(&daemon, &place, "root", "administrator").ok();
    let create = ["token", "create", "backup", "--role", "viewer", "--expires", "1h"];
    let secret = local(&place, &create).ok();
    assert!(secret.starts_with("lund_"), "{secret}");
    let file = place.write("token", &secret);
    let with =
        |more: &[&str]| daemon.lunctl(&[&["--token-file", file.to_str().unwrap()], more].concat());
    assert_eq!(with(&["whoami"]).ok(), "backup, viewer (by token)\n");
    with(&["user", "list"]).fails(8, &["for the role administrator"]);
    let list = local(&place, &["token", "list"]).ok();
    assert!(list.contains("backup") && !list.contains("lund_"), "{list}");
    local(&place, &["token", "create", "x", "--role", "viewer", "--expires", "1y"])
        .fails(2, &["as in 90d"]);
    local(&place, &["token", "revoke", "backup"]).ok();
    with(&["whoami"]).fails(8, &["is wrong"]);
}

#[test]
fn the_socket_knows_the_daemons_user_and_lunctl_finds_it() {
    let place = Place::new();
    let mut command = place.bare();
    command.args(["--iscsi-listen", "127.0.0.1:0", "--mgmt-listen", "127.0.0.1:0"]);
    let daemon = Daemon::spawn(&mut command, &place);
    let path = place.path().join("lund-data/lund.sock");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    add(&daemon, &place, "root", "administrator").ok();
    let lunctl = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lunctl"));
        command.env_remove("LUND_SERVER").env_remove("LUND_TOKEN_FILE").args(arguments);
        Run::of(command.current_dir(place.path()).stdin(Stdio::null()))
    };
    let me = lunctl(&["whoami", "--json"]).json();
    assert_eq!((&me["role"], &me["via"]), (&json!("administrator"), &json!("socket")));
    lunctl(&["disk", "create", "d", "--size", "1MiB"]).ok();
    daemon.stop();
    assert!(!path.exists(), "it goes with the daemon");
    lunctl(&["status", "--server", &format!("unix:{}", path.display())])
        .fails(7, &["cannot reach", "lund.sock"]);
    // One that a crash left behind is no obstacle.
    let daemon = Daemon::spawn(&mut command, &place);
    daemon.kill();
    assert!(path.exists());
    let daemon = Daemon::spawn(&mut command, &place);
    eventually("the socket is served", || {
        let status = lunctl(&["status", "--server", &format!("unix:{}", path.display())]);
        (status.status == 0).then_some(())
    });
    daemon.stop();
}

#[test]
fn the_audit_log_says_who_did_what() {
    let place = Place::new();
    let daemon = place.start(&[]);
    add(&daemon, &place, "root", "administrator").ok();
    local(&place, &["disk", "create", "d", "--size", "1MiB"]).ok();
    daemon.lunctl(&["disk", "list"]).fails(8, &[]);
    let audit = local(&place, &["audit"]).ok();
    let lines: Vec<_> = audit.lines().collect();
    assert!(lines[0].starts_with("TIME"), "{audit}");
    assert!(lines[1].contains("open") && lines[1].ends_with("root"), "{audit}");
    assert!(lines[2].contains("/api/v1/disks") && lines[2].contains("202"), "{audit}");
    assert!(lines[2].contains("socket") && lines[2].contains("Create disk d"), "{audit}");
    let file = place.data().join("audit.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains(PASSWORD) && !text.contains("argon2"), "{text}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    daemon.stop();
}
