//! SANITIZE and FORMAT UNIT as jobs that outlive the daemon.

use super::support::{MIB, Place, Session, request};

const TARGET: &str = "iqn.2026-01.io.lund:demo";
const SANITIZING: (u8, u8, u8) = (2, 4, 0x1b);
const SANITIZE_FAILED: (u8, u8, u8) = (3, 0x31, 3);

/// SANITIZE, OVERWRITE: so many passes of a byte; IMMED, and AUSE or not.
fn overwrite(session: &mut Session, passes: u8, byte: u8, unrestricted: bool) {
    let flags = if unrestricted { 0xa1 } else { 0x81 };
    let cdb = [0x48, flags, 0, 0, 0, 0, 0, 0, 5, 0];
    session.run_with(0, &cdb, &[passes, 0, 0, 1, byte]).unwrap().good();
}

/// Tests the unit until it says something else.
fn outcome(session: &mut Session) -> Option<(u8, u8, u8)> {
    loop {
        match session.ready(0).check() {
            Some(SANITIZING) => std::thread::yield_now(),
            other => return other,
        }
    }
}

#[test]
fn a_sanitize_is_a_job_and_goes_on_after_a_kill() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    session.write(0, 0, &[0x11; 64 * 512]);
    overwrite(&mut session, 8, 0x5a, false);
    assert_eq!(session.ready(0).check(), Some(SANITIZING));
    let jobs = request(daemon.management, "GET", "/jobs", "").json();
    let job = jobs.as_array().unwrap().iter().find(|job| job["kind"] == "sanitize-disk").unwrap();
    assert_eq!((&job["name"], &job["ended"]), (&"Sanitize disk demo".into(), &false.into()));
    let id = job["id"].as_str().unwrap().to_owned();
    assert!(daemon.lunctl(&["job", "list"]).ok().contains("sanitize-disk"));
    daemon.kill();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    // From the first moment, and to the end.
    assert_eq!(session.ready(0).check(), Some(SANITIZING));
    assert_eq!(outcome(&mut session), None);
    for lba in [0, 64 * MIB / 512 - 64] {
        assert_eq!(session.read(0, lba, 64), [0x5a; 64 * 512]);
    }
    let job = request(daemon.management, "GET", &format!("/jobs/{id}"), "").json();
    assert_eq!(job["state"], "Completed");
    daemon.stop();
}

#[test]
fn a_sanitize_that_an_operator_cancels_has_failed_and_stays_so_over_a_restart() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    overwrite(&mut session, 31, 0x11, true);
    let jobs = request(daemon.management, "GET", "/jobs", "").json();
    let job = jobs.as_array().unwrap().iter().find(|job| job["kind"] == "sanitize-disk").unwrap();
    daemon.lunctl(&["job", "cancel", job["id"].as_str().unwrap()]).ok();
    assert_eq!(outcome(&mut session), Some(SANITIZE_FAILED));
    drop(session);
    daemon.stop();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    assert_eq!(session.ready(0).check(), Some(SANITIZE_FAILED));
    assert_eq!(session.try_read(0, 0, 1).unwrap().check(), Some(SANITIZE_FAILED));
    session.run(0, &[0x48, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0], 0).unwrap().good();
    session.write(0, 0, &[0x22; 512]);
    assert_eq!(session.read(0, 0, 1), [0x22; 512]);
    drop(session);
    daemon.stop();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    assert_eq!(session.read(0, 0, 1), [0x22; 512], "the exit is durable");
    daemon.stop();
}

#[test]
fn a_format_ends_with_its_command_and_the_disk_reads_zeroes() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    session.write(0, 100, &[0x11; 64 * 512]);
    session.run(0, &[0x04, 0, 0, 0, 0, 0], 0).unwrap().good();
    assert_eq!(session.read(0, 100, 64), [0; 64 * 512]);
    let jobs = request(daemon.management, "GET", "/jobs", "").json();
    let job = jobs.as_array().unwrap().iter().find(|job| job["kind"] == "format-disk").unwrap();
    assert_eq!((&job["state"], &job["percent_complete"]), (&"Completed".into(), &100.into()));
    daemon.stop();
}
