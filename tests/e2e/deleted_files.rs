//! The file of a disk is deleted by somebody else.

use super::support::{NOT_READY, Place, Session, eventually};

const TARGET: &str = "iqn.2026-01.io.lund:demo";

#[test]
fn a_disk_whose_file_was_deleted_is_not_ready_and_a_fault() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    session.write(0, 0, &[1; 512]);
    std::fs::remove_file(daemon.file_of("demo")).unwrap();
    eventually("the unit is not ready", || {
        let done = session.try_read(0, 0, 1).unwrap();
        match done.check() {
            Some(NOT_READY) => Some(()),
            Some(other) => panic!("{other:x?}"),
            None => None,
        }
    });
    assert_eq!(session.ready(0).check(), Some(NOT_READY));
    assert_eq!(session.inquiry(0)[0], 0, "it can still be asked what it is");
    let fault = eventually("the fault is recorded", || {
        let jobs = daemon.json(&["job", "list"]);
        let found = jobs.as_array().unwrap().iter().find(|job| job["kind"] == "data-path-fault");
        found.cloned()
    });
    assert_eq!(
        (fault["state"].as_str(), fault["job_state"].as_u64()),
        (Some("Exception"), Some(10))
    );
    let message = fault["errors"][0]["message"].as_str().unwrap();
    for text in ["Missing", TARGET, Session::NAME, "does not exist"] {
        assert!(message.contains(text), "{text}: {message}");
    }
    let list = daemon.lunctl(&["disk", "list"]).ok();
    assert!(list.contains("missing"), "{list}");
    assert_eq!(daemon.json(&["disk", "list"])[0]["allocated_bytes"], serde_json::Value::Null);
    // The rest of it can be put away.
    daemon.lunctl(&["target", "unmap", "demo", "0"]).ok();
    daemon.lunctl(&["disk", "delete", "demo"]).ok();
}

#[test]
fn a_disk_whose_file_is_missing_at_the_start_is_there_and_not_ready() {
    let place = Place::new();
    let daemon = place.start_demo();
    let file = daemon.file_of("demo");
    daemon.stop();
    let aside = file.with_extension("aside");
    std::fs::rename(&file, &aside).unwrap();
    let daemon = place.start(&[]);
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    assert_eq!(session.ready(0).check(), Some(NOT_READY));
    assert_eq!(session.report_luns(), [0]);
    drop(session);
    daemon.stop();
    std::fs::rename(&aside, &file).unwrap();
    let daemon = place.start(&[]);
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    session.ready(0).good();
}
