//! With CHAP configured nobody gets in without it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use md5::{Digest, Md5};
use sha2::Sha256;

use super::support::{Daemon, PATIENCE, Pdu, Place, Session, exit_of, request};

/// Writes a secret that its owner alone may read.
fn secret_file(place: &Place, name: &str, secret: &str, mode: u32) -> String {
    let path = place.write(name, secret);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.display().to_string()
}

/// Writes a secret and the configuration that names it.
fn configure(place: &Place, secret: &str, mode: u32) -> std::path::PathBuf {
    let path = secret_file(place, "secret", secret, mode);
    place.write("lund.toml", &format!("[iscsi.chap]\nuser = 'hosts'\nsecret_file = '{path}'\n"))
}

fn start(place: &Place, config: &Path) -> Daemon {
    let daemon = Daemon::spawn(&mut place.configured(config), place);
    if daemon.json(&["target", "list"]) == serde_json::json!([]) {
        daemon.lunctl(&["target", "create", "safe"]).ok();
    }
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

/// Logs in with CHAP; the algorithm that the target chose, or the status of its refusal.
fn prove(
    daemon: &Daemon,
    session: &str,
    algorithms: &str,
    (user, secret): (&str, &str),
) -> Result<String, [u8; 2]> {
    let mut stream = TcpStream::connect(daemon.portal).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut send = |flags: u8, text: String| {
        Pdu::login(flags, [0x80, 0, 0, 0, 9, 8], text.into_bytes()).send(&mut stream).unwrap();
        let answer = Pdu::receive(&mut stream).unwrap();
        let text = String::from_utf8(answer.data).unwrap();
        let pairs = text.split_terminator('\0').map(|pair| pair.split_once('=').unwrap());
        let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned()));
        match [answer.header[36], answer.header[37]] {
            [0, 0] => Ok(pairs.collect::<HashMap<_, _>>()),
            status => Err(status),
        }
    };
    send(0, format!("InitiatorName={}\0{session}AuthMethod=CHAP\0", Session::NAME))?;
    let asked = send(0, format!("CHAP_A={algorithms}\0"))?;
    let digits = asked["CHAP_C"].strip_prefix("0x").unwrap();
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    let challenge: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
    let hashed = [&[asked["CHAP_I"].parse().unwrap()], secret.as_bytes(), &challenge].concat();
    let response = match asked["CHAP_A"].as_str() {
        "5" => Md5::digest(hashed).to_vec(),
        "7" => Sha256::digest(hashed).to_vec(),
        other => panic!("algorithm {other} was not offered"),
    };
    let response: String = response.iter().map(|byte| format!("{byte:02x}")).collect();
    // T, to the full feature phase.
    send(0x83, format!("CHAP_N={user}\0CHAP_R=0x{response}\0"))?;
    Ok(asked["CHAP_A"].clone())
}

const DISCOVERY: &str = "SessionType=Discovery\0";
const REFUSED: Result<String, [u8; 2]> = Err([2, 1]);

fn target(name: &str) -> String {
    format!("TargetName=iqn.2026-01.io.lund:{name}\0")
}

/// Three accounts: one is for the target `safe` only, one for other initiators; `more` stands in `[iscsi.chap]`.
fn start_with_two(place: &Place, more: &str) -> Daemon {
    let alice = secret_file(place, "alice", "secret of alice\n", 0o600);
    let bob = secret_file(place, "bob", "secret of bob", 0o400);
    let eve = secret_file(place, "eve", "secret of eve!", 0o600);
    let account = "[[iscsi.chap.accounts]]\nuser";
    let text = format!(
        "[iscsi.chap]\n{more}\n{account} = 'alice'\nsecret_file = '{alice}'\n\
         initiators = ['iqn.2001-04.com.example:*', '{}']\n\
         {account} = 'bob'\nsecret_file = '{bob}'\ntargets = ['safe']\n\
         {account} = 'eve'\nsecret_file = '{eve}'\ninitiators = ['iqn.2001-04.com.example:*']\n\
         [log]\nlevel = 'trace'\n",
        Session::NAME
    );
    let daemon = start(place, &place.write("lund.toml", &text));
    daemon.lunctl(&["target", "create", "other"]).ok();
    daemon
}

const ALICE: (&str, &str) = ("alice", "secret of alice");
const BOB: (&str, &str) = ("bob", "secret of bob");

#[test]
fn each_account_gets_in_where_it_may() {
    let place = Place::new();
    let daemon = start_with_two(&place, "");
    let md5 = Ok("5".to_owned());
    for session in [target("safe"), target("other"), DISCOVERY.to_owned()] {
        assert_eq!(prove(&daemon, &session, "5", ALICE), md5, "{session}");
    }
    assert_eq!(prove(&daemon, &target("safe"), "5", BOB), md5);
    assert_eq!(prove(&daemon, DISCOVERY, "5", BOB), md5);
    assert_eq!(prove(&daemon, &target("other"), "5", BOB), REFUSED);
    assert_eq!(prove(&daemon, &target("safe"), "5", ("bob", ALICE.1)), REFUSED);
    for session in [target("safe"), DISCOVERY.to_owned()] {
        assert_eq!(prove(&daemon, &session, "5", ("eve", "secret of eve!")), REFUSED);
    }
    // With everything that it can tell, no secret is told.
    let log = daemon.log();
    assert!(log.contains("TRACE") && !log.contains("secret of"), "{log}");
    for path in ["/status", "/targets", "/targets/safe", "/sessions", "/jobs"] {
        let answer = request(daemon.management, "GET", path, "");
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.body.contains("secret of"), "{path}");
    }
}

#[test]
fn the_strongest_algorithm_is_used_that_the_configuration_allows() {
    let place = Place::new();
    let daemon = start_with_two(&place, "");
    assert_eq!(prove(&daemon, &target("safe"), "5,7", ALICE), Ok("7".to_owned()));
    drop(daemon);
    let place = Place::new();
    let daemon = start_with_two(&place, "algorithms = ['sha256', 'sha1']");
    assert_eq!(prove(&daemon, &target("safe"), "5", ALICE), REFUSED);
    assert_eq!(prove(&daemon, &target("safe"), "5,7", ALICE), Ok("7".to_owned()));
}

#[test]
fn discovery_may_be_left_open() {
    let place = Place::new();
    let daemon = start_with_two(&place, "discovery = false");
    let (status, _) = ask(&daemon, 0x83, &format!("{DISCOVERY}AuthMethod=None\0")).unwrap();
    assert_eq!(status, [0, 0]);
    let (status, _) = ask(&daemon, 0x83, &format!("{}AuthMethod=None\0", target("safe"))).unwrap();
    assert_eq!(status, [2, 1]);
}

#[test]
fn discovery_has_accounts_of_its_own() {
    let place = Place::new();
    let scout = secret_file(&place, "scout", "secret of scout", 0o600);
    let config = configure(&place, "0123456789ab", 0o600);
    let text = std::fs::read_to_string(&config).unwrap();
    let own = "[[iscsi.chap.discovery_accounts]]\nuser = 'scout'\nsecret_file";
    std::fs::write(&config, format!("{text}{own} = '{scout}'\n")).unwrap();
    let daemon = start(&place, &config);
    let (scout, hosts) = (("scout", "secret of scout"), ("hosts", "0123456789ab"));
    let md5 = Ok("5".to_owned());
    assert_eq!(prove(&daemon, DISCOVERY, "5", scout), md5);
    assert_eq!(prove(&daemon, DISCOVERY, "5", hosts), REFUSED);
    assert_eq!(prove(&daemon, &target("safe"), "5", hosts), md5);
    assert_eq!(prove(&daemon, &target("safe"), "5", scout), REFUSED);
}

/// A generator without a seed once gave an attacker the same challenge after each start.
#[test]
fn no_challenge_comes_twice() {
    let place = Place::new();
    let config = configure(&place, "0123456789ab", 0o600);
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let daemon = start(&place, &config);
        for _ in 0..4 {
            let mut stream = TcpStream::connect(daemon.portal).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut send = |text: String| {
                Pdu::login(0, [0x80, 0, 0, 0, 9, 7], text.into()).send(&mut stream).unwrap();
                String::from_utf8(Pdu::receive(&mut stream).unwrap().data).unwrap()
            };
            send(format!("InitiatorName={}\0{DISCOVERY}AuthMethod=CHAP\0", Session::NAME));
            let asked = send("CHAP_A=7\0".to_owned());
            let challenge = asked.split('\0').find_map(|pair| pair.strip_prefix("CHAP_C="));
            assert!(seen.insert(challenge.unwrap().to_owned()), "{asked}");
        }
        daemon.kill();
    }
}

#[test]
fn accounts_are_made_and_taken_away_at_run_time() {
    let place = Place::new();
    let daemon = place.start(&["--log-level", "trace"]);
    for name in ["safe", "other"] {
        daemon.lunctl(&["target", "create", name]).ok();
    }
    let live = Session::login(daemon.portal, "iqn.2026-01.io.lund:safe");
    let with = |daemon: &Daemon, user: &str, secret: &str, more: &[&str]| {
        let file = place.write("new", secret);
        let file = file.to_str().unwrap();
        daemon.lunctl(&[&["chap", "set", user, "--secret-file", file], more].concat())
    };
    with(&daemon, "bob", "short", &[]).fails(2, &["5 bytes"]);
    with(&daemon, "bob", BOB.1, &["--target", "a b"]).fails(2, &["a b"]);
    daemon.lunctl(&["chap", "set", "bob"]).fails(2, &["needs a `secret`"]);
    with(&daemon, "bob", BOB.1, &["--target", "safe"]).ok();
    let open = |daemon: &Daemon, name: &str| {
        let text = format!("{}AuthMethod=None\0", target(name));
        ask(daemon, 0x83, &text).unwrap().0 == [0, 0]
    };
    let md5 = Ok("5".to_owned());
    let check = |daemon: &Daemon| {
        assert_eq!(prove(daemon, &target("safe"), "5", BOB), md5);
        assert_eq!(prove(daemon, &target("safe"), "5", ("bob", ALICE.1)), REFUSED);
        assert_eq!(prove(daemon, DISCOVERY, "5", BOB), md5);
        assert_eq!((open(daemon, "safe"), open(daemon, "other")), (false, true));
        let (status, _) = ask(daemon, 0x83, &format!("{DISCOVERY}AuthMethod=None\0")).unwrap();
        assert_eq!(status, [2, 1]);
    };
    check(&daemon);
    // Who was there before is still there.
    assert_eq!(daemon.json(&["session", "list"]).as_array().unwrap().len(), 1);
    drop(live);
    // What is lost would be open.
    daemon.lunctl(&["chap", "delete", "bob"]).fails(4, &["iqn.2026-01.io.lund:safe", "--open"]);
    daemon.lunctl(&["chap", "set", "bob", "--target", "other"]).fails(4, &["lund:safe"]);
    with(&daemon, "alice", ALICE.1, &["--initiator", "iqn.2001-04.com.example:*"]).ok();
    assert!(!open(&daemon, "other"), "alice is good for all targets");
    assert_eq!(prove(&daemon, &target("other"), "5", ALICE), REFUSED, "but not for this initiator");
    let list = daemon.lunctl(&["chap", "list"]).ok();
    assert!(list.contains("alice") && !list.contains("secret of"), "{list}");
    daemon.lunctl(&["chap", "delete", "alice", "--open"]).ok();
    daemon.lunctl(&["chap", "delete", "alice"]).fails(3, &["alice"]);
    let log = daemon.log();
    assert!(!log.contains("secret of"), "{log}");
    daemon.kill();
    let daemon = place.start(&[]);
    check(&daemon);
    // Another secret, for the same targets.
    with(&daemon, "bob", "another one of bob", &["--target", "safe"]).ok();
    assert_eq!(prove(&daemon, &target("safe"), "5", BOB), REFUSED);
    assert_eq!(prove(&daemon, &target("safe"), "5", ("bob", "another one of bob")), md5);
    daemon.lunctl(&["chap", "delete", "bob", "--open"]).ok();
    assert!(open(&daemon, "safe"));
    daemon.stop();
}

#[test]
fn an_account_of_the_configuration_is_changed_there() {
    let place = Place::new();
    let config = configure(&place, "0123456789ab", 0o600);
    let daemon = start(&place, &config);
    daemon.lunctl(&["chap", "set", "hosts", "--target", "safe"]).fails(4, &["configuration"]);
    daemon.lunctl(&["chap", "delete", "hosts"]).fails(4, &["configuration"]);
    let file = secret_file(&place, "bob", BOB.1, 0o600);
    daemon.lunctl(&["chap", "set", "bob", "--secret-file", &file, "--target", "safe"]).ok();
    let md5 = Ok("5".to_owned());
    assert_eq!(prove(&daemon, &target("safe"), "5", BOB), md5);
    assert_eq!(prove(&daemon, &target("safe"), "5", ("hosts", "0123456789ab")), md5);
    let list = daemon.json(&["chap", "list"]);
    assert_eq!((&list[0]["user"], &list[0]["configured"]), (&"hosts".into(), &true.into()));
    assert_eq!((&list[1]["user"], &list[1]["configured"]), (&"bob".into(), &false.into()));
    // Nothing is open without bob, either.
    daemon.lunctl(&["chap", "delete", "bob"]).ok();
    assert_eq!(prove(&daemon, &target("safe"), "5", BOB), REFUSED);
}

#[test]
fn one_secret_for_both_sides_stops_the_start() {
    let place = Place::new();
    let config = configure(&place, "0123456789ab", 0o600);
    let other = secret_file(&place, "other", "0123456789ab\n", 0o600);
    let text = std::fs::read_to_string(&config).unwrap();
    let mutual = format!("{text}mutual_user = 'target'\nmutual_secret_file = '{other}'\n");
    std::fs::write(&config, mutual).unwrap();
    let (status, error) = exit_of(&mut place.configured(&config));
    assert_eq!(status, 2, "{error}");
    assert!(error.contains("lund.toml:5: `iscsi.chap.mutual_secret_file`"), "{error}");
    assert!(error.contains("`hosts`") && !error.contains("0123456789ab"), "{error}");
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
        let (status, error) = exit_of(&mut place.configured(&config));
        assert_eq!(status, 2, "{error}");
        assert!(error.contains("lund.toml:3: `iscsi.chap.secret_file`"), "{error}");
        assert!(secret.is_empty() || !error.contains(secret), "{error}");
    }
}
