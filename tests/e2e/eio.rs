//! Reads, writes and flushes of a disk's file that fail with EIO: what initiators are told, that it is
//! over when it is over, and that a flush that failed is never taken back.

#[path = "../../job-engine/tests/support/faulty.rs"]
mod faulty;

use faulty::{Access, Faulty};
use serde_json::Value;

use super::support::{Daemon, MEDIUM_ERROR, Place, Session, eventually};

const FORMATS: [&str; 4] = ["raw", "qcow2", "vhdx", "vhd"];
const WRITE_ERROR: (u8, u8, u8) = (0x3, 0x0c, 0x00);
const LBA: u64 = 4096;
const ALWAYS: u64 = u64::MAX;

/// A daemon with a pool that can fail; in it a disk of each format, LUN 1 to 4, and LUN 0 is elsewhere.
fn start(place: &Place, faulty: &Faulty) -> (Daemon, String) {
    let daemon = place.start(&[]);
    let pool = faulty.path().canonicalize().unwrap();
    daemon.lunctl(&["pool", "create", "p", pool.to_str().unwrap()]).ok();
    daemon.lunctl(&["disk", "create", "other", "--size", "8MiB"]).ok();
    let target = daemon.expose("t", "other", 0);
    for (lun, format) in (1..).zip(FORMATS) {
        let create = ["disk", "create", format, "--size", "8MiB", "--pool", "p"];
        daemon.lunctl(&[&create[..], &["--format", format]].concat()).ok();
        daemon.lunctl(&["target", "map", "t", format, "--lun", &format!("{lun}")]).ok();
    }
    (daemon, target)
}

fn login(daemon: &Daemon, target: &str) -> Session {
    let mut session = Session::login(daemon.portal, target);
    (0..=4).for_each(|lun| drop(session.settle(lun)));
    session
}

/// SYNCHRONIZE CACHE(16).
fn flush(session: &mut Session, lun: u16) -> Option<(u8, u8, u8)> {
    let mut cdb = [0; 16];
    cdb[0] = 0x91;
    session.run(lun, &cdb, 0).unwrap().check()
}

/// The information field names the block.
fn names(sense: &[u8], lba: u64) -> bool {
    let lba = lba.to_be_bytes();
    sense.windows(4).any(|it| it == &lba[4..])
}

#[test]
fn reads_and_writes_that_fail_are_medium_errors_for_as_long_as_they_fail() {
    let Some(faulty) = Faulty::mount() else { return };
    let place = Place::new();
    let (daemon, target) = start(&place, &faulty);
    let mut session = login(&daemon, &target);
    for (lun, format) in (1..).zip(FORMATS) {
        session.write_through(lun, LBA, &[1; 4096]);
        faulty.fail(Access::Read, 0, ALWAYS);
        let done = session.try_read(lun, LBA, 8).unwrap();
        assert_eq!(done.check(), Some(MEDIUM_ERROR), "{format}");
        assert!(names(&done.sense, LBA), "{format}: {:x?}", done.sense);
        session.write(0, 0, &[2; 512]);
        faulty.heal();
        assert_eq!(session.read(lun, LBA, 8), [1; 4096], "{format}: over at once");
        faulty.fail(Access::Write, 0, ALWAYS);
        // Where there are data already, and where space has to be taken.
        for lba in [LBA, 2 * LBA] {
            let done = session.try_write(lun, lba, &[3; 4096]).unwrap();
            assert_eq!(done.check(), Some(WRITE_ERROR), "{format}");
            assert!(names(&done.sense, lba), "{format}: {:x?}", done.sense);
        }
        assert_eq!(session.read(0, 0, 1), [2; 512], "another disk is not concerned");
        faulty.heal();
        // Nothing of it, all of it, or some blocks.
        let found = session.read(lun, LBA, 8);
        assert!(found.iter().all(|byte| [1, 3].contains(byte)), "{format}");
        for lba in [LBA, 2 * LBA] {
            session.write(lun, lba, &[4; 4096]);
            assert_eq!(session.read(lun, lba, 8), [4; 4096], "{format}");
        }
        assert_eq!(flush(&mut session, lun), None, "{format}");
    }
}

#[test]
fn a_flush_that_failed_is_never_followed_by_a_good_one() {
    let Some(faulty) = Faulty::mount() else { return };
    let place = Place::new();
    let (daemon, target) = start(&place, &faulty);
    let mut session = login(&daemon, &target);
    for (lun, format) in (1..).zip(FORMATS) {
        session.write_through(lun, LBA, &[1; 4096]);
        session.write(lun, LBA, &[2; 4096]);
        session.write(lun, 2 * LBA, &[2; 4096]);
        // What was written may be lost now, and the file system thinks that all is well again.
        faulty.fail(Access::Flush, 0, 1);
        assert_eq!(flush(&mut session, lun), Some(WRITE_ERROR), "{format}");
        faulty.heal();
        assert_eq!(flush(&mut session, lun), Some(WRITE_ERROR), "{format}: it may be lost still");
        session.write(0, 0, &[3; 512]);
        assert_eq!(flush(&mut session, 0), None, "another disk is not concerned");
    }
    drop(session);
    // It cannot say that all is written down.
    daemon.kill();
    let daemon = place.start(&[]);
    let mut session = login(&daemon, &target);
    for (lun, format) in (1..).zip(FORMATS) {
        let found = session.read(lun, LBA, 8);
        assert!(
            found.iter().all(|byte| [1, 2].contains(byte)),
            "{format}: what was flushed is there"
        );
        session.write(lun, LBA, &[5; 4096]);
        assert_eq!(flush(&mut session, lun), None, "{format}");
        assert_eq!(session.read(lun, LBA, 8), [5; 4096], "{format}");
    }
    drop(session);
    daemon.stop();
}

#[test]
fn a_thousand_errors_are_one_record_that_tells_where_all_of_them_were() {
    let Some(faulty) = Faulty::mount() else { return };
    let place = Place::new();
    let (daemon, target) = start(&place, &faulty);
    let mut session = login(&daemon, &target);
    let lun = 1;
    session.write_through(lun, 16000, &[1; 4096]);
    faulty.fail(Access::Read, 0, ALWAYS);
    for number in 0..1000 {
        let done = session.try_read(lun, number * 8, 8).unwrap();
        assert_eq!(done.check(), Some(MEDIUM_ERROR), "{number}");
    }
    faulty.heal();
    faulty.fail(Access::Write, 0, ALWAYS);
    assert_eq!(session.try_write(lun, 16000, &[3; 4096]).unwrap().check(), Some(WRITE_ERROR));
    faulty.heal();
    let faults = eventually("all of them are recorded", || {
        let jobs = daemon.json(&["job", "list"]);
        let faults = jobs.as_array().unwrap().iter().filter(|job| job["kind"] == "data-path-fault");
        let faults: Vec<_> = faults.cloned().collect();
        let count = |fault: &Value| fault["occurrences"].as_u64().unwrap();
        (faults.iter().map(count).sum::<u64>() == 1001).then_some(faults)
    });
    assert_eq!(faults.len(), 1, "{faults:?}");
    let message = faults[0]["errors"][0]["message"].as_str().unwrap();
    for part in ["read at LBA 0 to 7992 (1000 times)", "write at LBA 16000 (once)"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    daemon.stop();
}
