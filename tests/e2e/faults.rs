//! Faults of the data path: what the initiator is told, and what the operator is told.

use std::fs::File;

use serde_json::{Value, json};

use super::support::{Daemon, MEDIUM_ERROR, MIB, Place, Session, eventually};

const TARGET: &str = "iqn.2026-01.io.lund:demo";
/// Behind the end of a demo disk's file that was cut down to 1 MiB.
const LOST: u64 = 8192;
/// READ(16).
const OPERATION: &str = "88h";

/// All fault records.
fn faults(daemon: &Daemon) -> Vec<Value> {
    let jobs = daemon.json(&["job", "list"]);
    let faults = jobs.as_array().unwrap().iter().filter(|job| job["kind"] == "data-path-fault");
    faults.cloned().collect()
}

fn count(fault: &Value) -> u64 {
    fault["occurrences"].as_u64().unwrap()
}

/// A daemon whose demo disk has lost most of its file while a session was logged in.
fn truncated(place: &Place) -> (Daemon, Session) {
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    session.write(0, 0, &[1; 512]);
    session.read(0, LOST, 8);
    let file = File::options().write(true).open(daemon.file_of("demo")).unwrap();
    file.set_len(MIB).unwrap();
    (daemon, session)
}

#[test]
fn a_read_of_what_the_file_has_lost_is_a_medium_error_and_a_failed_job() {
    let place = Place::new();
    let (daemon, mut session) = truncated(&place);
    let fault = eventually("the fault is recorded with its command", || {
        let done = session.try_read(0, LOST, 8).unwrap();
        assert_eq!(done.check(), Some(MEDIUM_ERROR));
        // The information field: a 64-bit descriptor, or the fixed format's 32 bits.
        let lba = LOST.to_be_bytes();
        assert!(done.sense.windows(4).any(|it| it == &lba[4..]), "{:02x?}", done.sense);
        let found = faults(&daemon);
        assert!(found.len() <= 1, "{found:?}");
        let message = found.first()?["errors"][0]["message"].as_str()?.to_owned();
        message.contains(OPERATION).then(|| found[0].clone())
    });
    assert_eq!(session.read(0, 0, 1), [1; 512], "what is there can still be read");
    assert_eq!((&fault["state"], &fault["ended"]), (&json!("Exception"), &json!(true)));
    assert_eq!(fault["name"], "Errors of disk demo");
    assert!(count(&fault) > 0);
    let message = fault["errors"][0]["message"].as_str().unwrap();
    let file = daemon.file_of("demo").display().to_string();
    let luns = format!("LUN 0 of {TARGET}");
    for text in ["read", &file, "LBA 8192", &luns, Session::NAME, "times from"] {
        assert!(message.contains(text), "{text}: {message}");
    }
    let id = fault["id"].as_str().unwrap();
    assert_eq!(
        daemon.json(&["job", "error", id])[0]["message_id"],
        fault["errors"][0]["message_id"]
    );
    let text = daemon.lunctl(&["job", "error", id]).ok();
    assert!(text.contains("LBA 8192") && text.contains("\n  - "), "{text}");
    let shown = daemon.lunctl(&["job", "show", id]).ok();
    assert!(shown.contains("happened "), "{shown}");
    // A fault is a job that has failed, for scripts too.
    daemon.lunctl(&["job", "wait", id]).fails(5, &["LBA 8192"]);
}

#[test]
fn a_storm_of_faults_is_one_record_that_counts_and_survives_and_can_be_cleared() {
    const STORM: u64 = 1000;
    let place = Place::new();
    let (daemon, mut session) = truncated(&place);
    for _ in 0..STORM {
        let done = session.try_read(0, LOST, 1).unwrap();
        assert_eq!(done.check(), Some(MEDIUM_ERROR));
    }
    drop(session);
    // At once: what has not been written yet is not lost in an orderly end.
    daemon.stop();
    let daemon = place.start(&[]);
    let found = faults(&daemon);
    assert_eq!(found.len(), 1, "{found:?}");
    // The unit's own checks find it too, once a second.
    let more = count(&found[0]).checked_sub(STORM).expect("every read is counted");
    assert!(more < 60, "{more} more than there were");
    let id = found[0]["id"].as_str().unwrap();
    daemon.kill();
    let daemon = place.start(&[]);
    assert_eq!(faults(&daemon), found);
    daemon.lunctl(&["job", "delete", id]).ok();
    assert_eq!(faults(&daemon), [] as [Value; 0]);
    daemon.kill();
    let daemon = place.start(&[]);
    assert_eq!(faults(&daemon), [] as [Value; 0], "cleared is cleared");
}

#[test]
fn a_fault_that_was_cleared_comes_back_if_its_cause_is_still_there() {
    let place = Place::new();
    let (daemon, mut session) = truncated(&place);
    let mut fail = || {
        eventually("the fault is recorded", || {
            session.try_read(0, LOST, 1).unwrap();
            faults(&daemon).pop()
        })
    };
    let first = fail();
    daemon.lunctl(&["job", "delete", first["id"].as_str().unwrap()]).ok();
    let second = fail();
    assert_ne!(first["id"], second["id"]);
}
