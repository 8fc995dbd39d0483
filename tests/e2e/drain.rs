//! Initiators are asked to log out before sessions are ended: at SIGTERM and by `lunctl drain`.

use std::io::Read as _;
use std::time::Instant;

use rustix::process::Signal;

use super::support::{PATIENCE, Place, Session, eventually, lunctl};

const TARGET: &str = "iqn.2026-01.io.lund:demo";
const LOGOUT_REQUESTED: u8 = 1;
const ALL_CONNECTIONS_DROPPED: u8 = 3;

#[test]
fn sigterm_waits_for_initiators_to_log_out_and_a_restart_is_but_a_pause() {
    let place = Place::new();
    let file = place.write("lund.toml", "[iscsi]\nlogout_seconds = 60\n");
    let arguments = ["--demo", "--demo-size", "64MiB", "--config", file.to_str().unwrap()];
    let mut daemon = place.start(&arguments);
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    let begin = Instant::now();
    daemon.signal(Signal::TERM);
    assert_eq!(session.asynchronous_message(), (LOGOUT_REQUESTED, 0, 60));
    // Its initiator may still finish what it is at.
    session.write(0, 0, &[0xda; 512]);
    let refused = Session::try_login(daemon.portal, TARGET).unwrap_err().to_string();
    assert_eq!(refused, "login status 0301");
    session.logout();
    assert!(daemon.ended().success());
    assert!(begin.elapsed() < PATIENCE, "it waited for nobody");
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    assert_eq!(session.read(0, 0, 1), [0xda; 512]);
}

#[test]
fn sigterm_ends_sessions_that_do_not_listen() {
    let place = Place::new();
    let file = place.write("lund.toml", "[iscsi]\nlogout_seconds = 1\n");
    let arguments = ["--demo", "--demo-size", "64MiB", "--config", file.to_str().unwrap()];
    let mut daemon = place.start(&arguments);
    let mut session = Session::login(daemon.portal, TARGET);
    daemon.signal(Signal::TERM);
    assert_eq!(session.asynchronous_message(), (LOGOUT_REQUESTED, 0, 1));
    // Time2Wait is RFC 7143's default: nothing else was negotiated.
    assert_eq!(session.asynchronous_message(), (ALL_CONNECTIONS_DROPPED, 2, 0));
    assert_eq!(session.stream().read_to_end(&mut Vec::new()).unwrap(), 0);
    assert!(daemon.ended().success());
}

#[test]
fn lunctl_drains_a_daemon_and_lets_it_go_on() {
    let place = Place::new();
    let daemon = place.start_demo();
    assert_eq!(daemon.json(&["status"])["state"], "serving");
    let mut session = Session::login(daemon.portal, TARGET);
    let server = daemon.server();
    std::thread::scope(|scope| {
        let drain = scope.spawn(|| lunctl(&server, &["drain"]).ok());
        assert_eq!(session.asynchronous_message(), (LOGOUT_REQUESTED, 0, 3));
        session.logout();
        assert_eq!(drain.join().unwrap(), "draining, no sessions\n");
    });
    assert_eq!(daemon.json(&["status"])["state"], "draining");
    assert!(daemon.lunctl(&["status"]).ok().contains("draining: no initiator is let in"));
    let refused = Session::try_login(daemon.portal, TARGET).unwrap_err().to_string();
    assert_eq!(refused, "login status 0301");
    assert_eq!(daemon.lunctl(&["resume"]).ok(), "serving, no sessions\n");
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    // Once more, with an initiator that does nothing.
    assert_eq!(daemon.json(&["drain"]), serde_json::json!({"state": "draining", "sessions": 0}));
    eventually("the session is closed", || {
        (session.stream().read_to_end(&mut Vec::new()).is_ok()).then_some(())
    });
    daemon.stop();
}
