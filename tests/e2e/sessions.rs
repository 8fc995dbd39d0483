//! `lunctl session`: what is known of sessions, and traces of them.

use std::path::Path;
use std::process::Stdio;

use serde_json::json;

use super::support::{Place, Session, eventually, lunctl_command, request};

const TARGET: &str = "iqn.2026-01.io.lund:demo";

/// Waits until a trace is being taken: then the file has a beginning.
fn begun(file: &Path) {
    eventually("the trace begins", || {
        let length = std::fs::metadata(file).map_or(0, |it| it.len());
        (length > 0).then_some(())
    });
}

#[test]
fn a_session_is_shown_with_everything_that_is_known_of_it() {
    let place = Place::new();
    let daemon = place.start_demo();
    assert_eq!(daemon.lunctl(&["session", "list"]).ok(), "");
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    session.write(0, 0, &[0x5a; 4096]);
    session.read(0, 0, 1);
    let listed = daemon.json(&["session", "list"]);
    let tsih = listed[0]["tsih"].to_string();
    // Counters are published behind the answer that they count.
    let shown = eventually("the counters", || {
        let shown = daemon.json(&["session", "show", &tsih]);
        (shown["counters"]["read_commands"] == json!(1)).then_some(shown)
    });
    assert_eq!(shown["initiator"], Session::NAME);
    assert_eq!(shown["authentication"], json!({ "method": "none" }));
    assert_eq!(shown["connections"][0]["portal"], daemon.portal.to_string());
    assert_eq!(shown["connections"][0]["initiator_max_recv_data_segment_length"], 262_144);
    assert_eq!(shown["parameters"]["initial_r2t"], true);
    assert_eq!(shown["counters"]["write_commands"], 1);
    assert_eq!(
        (&shown["written_bytes"], &shown["outstanding_commands"]),
        (&json!(4096), &json!(0))
    );
    let text = daemon.lunctl(&["session", "show", &tsih]).ok();
    for line in ["Initiator", "HeaderDigest", "InitialR2T", "1 read, 1 write", "ExpCmdSN"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    daemon.lunctl(&["session", "show", "60001"]).fails(3, &["60001"]);
    daemon.lunctl(&["session", "show", "x"]).fails(2, &["x"]);
    request(daemon.management, "GET", "/sessions/x", "").refused(400, &["`x`", "number"]);
    daemon.stop();
}

#[test]
fn a_trace_is_written_until_its_session_ends() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    let tsih = daemon.json(&["session", "list"])[0]["tsih"].to_string();
    let file = place.path().join("trace.pcapng");
    let path = file.to_str().unwrap();
    let mut command =
        lunctl_command(&daemon.server(), &["session", "trace", &tsih, "--output", path]);
    let trace = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It is being taken as soon as the file has a beginning.
    begun(&file);
    session.write(0, 3, &[0xa7; 512]);
    drop(session);
    let trace = trace.wait_with_output().unwrap();
    assert!(trace.status.success() && trace.stderr.is_empty(), "{trace:?}");
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(bytes[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
    assert!(bytes.windows(512).any(|window| window == [0xa7; 512]), "the data is in it");

    // What cannot be traced is told, and leaves no file.
    let other = place.path().join("other");
    let path = other.to_str().unwrap();
    daemon.lunctl(&["session", "trace", "60001", "--output", path]).fails(3, &["60001"]);
    assert!(!other.exists());
    daemon.stop();
}

#[test]
fn a_trace_ends_when_its_time_is_over_and_does_not_hold_up_the_end_of_the_daemon() {
    let place = Place::new();
    let daemon = place.start_demo();
    let session = Session::login(daemon.portal, TARGET);
    let tsih = daemon.json(&["session", "list"])[0]["tsih"].to_string();
    let server = daemon.server();
    let mut command = lunctl_command(&server, &["session", "trace", &tsih, "--seconds", "1"]);
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stdout.len() > 64, "{output:?}");
    let path = format!("/sessions/{tsih}/trace?second=1");
    request(daemon.management, "GET", &path, "").refused(400, &["second"]);

    let file = place.path().join("trace.pcapng");
    let path = file.to_str().unwrap();
    let mut command = lunctl_command(&server, &["session", "trace", &tsih, "--output", path]);
    let mut trace = command.spawn().unwrap();
    begun(&file);
    daemon.stop();
    assert!(trace.wait().unwrap().success());
    drop(session);
}

#[test]
fn an_operator_asks_one_initiator_to_leave_and_ends_its_session() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    let tsih = daemon.json(&["session", "list"])[0]["tsih"].to_string();
    let told = daemon.lunctl(&["session", "logout", &tsih, "--seconds", "4"]).ok();
    assert!(told.contains("4 s"), "{told}");
    assert_eq!(session.asynchronous_message(), (1, 0, 4));
    daemon.lunctl(&["session", "renegotiate", &tsih]).ok();
    assert_eq!(session.asynchronous_message(), (4, 0, 10));
    session.write(0, 0, &[1; 512]);
    daemon.lunctl(&["session", "end", &tsih]).ok();
    assert_eq!(session.asynchronous_message().0, 3);
    eventually("the session is over", || {
        daemon.json(&["session", "list"]).as_array().unwrap().is_empty().then_some(())
    });
    daemon.lunctl(&["session", "end", &tsih]).fails(3, &[&tsih]);
    let path = format!("/sessions/{tsih}/logout");
    request(daemon.management, "POST", &path, r#"{"second": 1}"#).refused(400, &["second"]);
    // It may come back.
    Session::login(daemon.portal, TARGET).settle(0);
    daemon.stop();
}
