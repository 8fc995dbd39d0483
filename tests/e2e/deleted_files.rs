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

/// Waits until a unit that is not ready is told to be; the unit attentions on the way.
fn recovers(session: &mut Session) {
    eventually("the unit is ready", || match session.ready(0).check() {
        None => panic!("the initiator was not told"),
        Some(told) => (told == (0x6, 0x28, 0x00)).then_some(()),
    });
    session.settle(0);
    session.ready(0).good();
}

#[test]
fn a_disk_that_could_not_be_opened_is_ready_when_its_file_is_back() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    session.write_through(0, 0, &[7; 512]);
    let file = daemon.file_of("demo");
    daemon.stop();
    let aside = file.with_extension("aside");
    std::fs::rename(&file, &aside).unwrap();
    let daemon = place.start(&[]);
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    assert_eq!(session.ready(0).check(), Some(NOT_READY));
    assert_eq!(session.try_read(0, 0, 1).unwrap().check(), Some(NOT_READY));
    let fault = eventually("the fault is recorded", || {
        let jobs = daemon.json(&["job", "list"]);
        let found = jobs.as_array().unwrap().iter().find(|job| job["kind"] == "data-path-fault");
        found.cloned()
    });
    let message = fault["errors"][0]["message"].as_str().unwrap();
    for text in ["open", file.to_str().unwrap(), "does not exist", TARGET] {
        assert!(message.contains(text), "{text}: {message}");
    }
    // Without a restart, and without a new session.
    std::fs::rename(&aside, &file).unwrap();
    recovers(&mut session);
    assert_eq!(session.read(0, 0, 1), [7; 512]);
    session.write(0, 1, &[8; 512]);
    daemon.stop();
}

#[test]
fn a_disk_whose_file_was_deleted_has_the_file_that_takes_its_place() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    let mut other = Session::login(daemon.portal, TARGET);
    for session in [&mut session, &mut other] {
        session.settle(0);
    }
    session.write_through(0, 0, &[7; 512]);
    let file = daemon.file_of("demo");
    let copy = file.with_extension("copy");
    std::fs::copy(&file, &copy).unwrap();
    session.write_through(0, 0, &[8; 512]);
    // A registration that is not kept over a restart: fences must hold all the same.
    let mut key = [0; 24];
    key[15] = 9;
    session.run_with(0, &[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], &key).unwrap().good();
    key[7] = 9;
    session.run_with(0, &[0x5f, 1, 1, 0, 0, 0, 0, 0, 24, 0], &key).unwrap().good();
    std::fs::remove_file(&file).unwrap();
    eventually("the unit is not ready", || {
        (session.ready(0).check() == Some(NOT_READY)).then_some(())
    });
    std::fs::rename(&copy, &file).unwrap();
    for session in [&mut session, &mut other] {
        // On the way it may not be there for a moment.
        let mut told = Vec::new();
        eventually("the unit is ready", || match session.ready(0).check() {
            None => Some(()),
            Some(check) => {
                told.push(check);
                None
            }
        });
        assert!(told.contains(&(0x6, 0x28, 0x00)), "{told:x?}");
    }
    assert_eq!(session.read(0, 0, 1), [7; 512]);
    session.write_through(0, 1, &[9; 512]);
    assert_eq!(std::fs::read(&file).unwrap()[512..1024], [9; 512]);
    // Write exclusive, of the first one.
    assert_eq!(other.try_write(0, 1, &[1; 512]).unwrap().status, 0x18);
    assert_eq!(other.report_luns(), [0]);
    daemon.stop();
}

#[test]
fn a_disk_that_somebody_else_has_open_becomes_ready_when_it_is_let_go() {
    let place = Place::new();
    let daemon = place.start_demo();
    let file = daemon.file_of("demo");
    daemon.stop();
    let held = std::fs::File::open(&file).unwrap();
    held.lock().unwrap();
    let daemon = place.start(&[]);
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    // In the process of becoming ready: hosts try again by themselves.
    assert_eq!(session.ready(0).check(), Some((0x2, 0x04, 0x01)));
    drop(held);
    recovers(&mut session);
    daemon.stop();
}
