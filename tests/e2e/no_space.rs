//! The file system of the disks is full.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::support::{Daemon, Place, SPACE_ALLOCATION_FAILED, Session, eventually};

const TARGET: &str = "iqn.2026-01.io.lund:t";
const PIECE: usize = 256 << 10;
/// Of 512 bytes, in a piece.
const BLOCKS: u64 = (PIECE / 512) as u64;

/// A daemon that sees a file system of 16 MiB at `directory`: in a mount namespace of its own, so
/// that it goes with it. None where that is not allowed.
fn on_small_file_system(place: &Place, directory: &Path) -> Option<Daemon> {
    let allowed = Command::new("unshare").args(["--mount", "true"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no mount namespace can be made here (not root?)");
        return None;
    }
    std::fs::create_dir_all(directory).unwrap();
    let text = "[disks]\novercommit = true\nthresholds = ['50%', '2MiB']\n";
    let config = place.write("lund.toml", text);
    let lund = place.configured(&config);
    let script = "mount -t tmpfs -o size=16m tmpfs \"$0\" && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(directory);
    command.arg(lund.get_program()).args(lund.get_args());
    Some(Daemon::spawn(&mut command, place))
}

/// A path of the daemon, as this process can see it.
fn seen(daemon: &Daemon, path: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root", daemon.pid())).join(path.strip_prefix("/").unwrap())
}

/// Writes a new piece of the disk after the other until that fails; how many were written.
fn fill(session: &mut Session) -> u64 {
    let mut written = 0;
    loop {
        let done = session.try_write(0, written * BLOCKS, &[0xab; PIECE]).unwrap();
        if done.status != 0 {
            assert_eq!(done.check(), Some(SPACE_ALLOCATION_FAILED));
            return written;
        }
        written += 1;
        assert!(written < 64, "16 MiB are full by now");
    }
}

fn fault(daemon: &Daemon) -> Option<Value> {
    let jobs = daemon.json(&["job", "list"]);
    let found = jobs.as_array().unwrap().iter().find(|job| job["kind"] == "data-path-fault");
    found.cloned()
}

#[test]
fn a_thin_disk_that_finds_no_space_is_write_protected_until_there_is_some() {
    let place = Place::new();
    let Some(daemon) = on_small_file_system(&place, &place.disks()) else { return };
    daemon.lunctl(&["disk", "create", "thin", "--size", "64MiB"]).ok();
    daemon.expose("t", "thin", 0);
    // A file of somebody else, which will make room.
    let other = seen(&daemon, &place.disks()).join("other");
    std::fs::write(&other, vec![0; 4 << 20]).unwrap();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    let written = fill(&mut session);
    assert!(written >= 40, "{written}");
    assert_eq!(session.read(0, (written - 1) * BLOCKS, 8), [0xab; 4096], "the rest is there");
    let fault = eventually("the fault is recorded", || fault(&daemon));
    assert_eq!(fault["state"], "Exception");
    let message = fault["errors"][0]["message"].as_str().unwrap();
    for text in ["Not enough capacity", TARGET, "LUN 0", "8Ah", Session::NAME] {
        assert!(message.contains(text), "{text}: {message}");
    }
    std::fs::remove_file(other).unwrap();
    session.write(0, written * BLOCKS, &[0xab; PIECE]);
}

#[test]
fn a_file_system_that_is_full_for_the_database_too_takes_no_requests_and_loses_nothing() {
    let place = Place::new();
    let Some(daemon) = on_small_file_system(&place, &place.data()) else { return };
    daemon.lunctl(&["disk", "create", "thin", "--size", "64MiB"]).ok();
    daemon.expose("t", "thin", 0);
    let other = seen(&daemon, &place.data()).join("other");
    std::fs::write(&other, vec![0; 6 << 20]).unwrap();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    let written = fill(&mut session);
    // Nothing can be made, everything can be asked, what is there can be read.
    let create = ["disk", "create", "more", "--size", "1MiB"];
    daemon.lunctl(&create).fails(1, &["Not enough capacity for the database", "are available"]);
    daemon.lunctl(&["status"]).ok();
    assert_eq!(daemon.json(&["disk", "list"]).as_array().unwrap().len(), 1);
    assert_eq!(session.read(0, (written - 1) * BLOCKS, 8), [0xab; 4096]);
    std::fs::remove_file(other).unwrap();
    session.write(0, written * BLOCKS, &[0xab; PIECE]);
    eventually("the fault is recorded", || fault(&daemon));
    eventually("work is taken again", || (daemon.lunctl(&create).status == 0).then_some(()));
    daemon.stop();
}

#[test]
fn a_full_disk_that_does_not_fit_is_refused_and_leaves_nothing() {
    let place = Place::new();
    let Some(daemon) = on_small_file_system(&place, &place.disks()) else { return };
    let create = ["disk", "create", "full", "--size", "64MiB", "--provisioning", "full"];
    daemon.lunctl(&create).fails(5, &["Not enough capacity", "67108864"]);
    let entries = std::fs::read_dir(seen(&daemon, &place.disks())).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names.filter(|name| name != ".lund-pool").collect();
    assert_eq!(left.len(), 0, "{left:?}");
    let pool = &daemon.json(&["pool", "list"])[0];
    assert_eq!(pool["reserved_bytes"], 0);
    assert_eq!(pool["total_bytes"], 16 << 20);
}

const SOFT_THRESHOLD: (u8, u8, u8) = (0x6, 0x38, 0x07);

/// LOG SENSE, Logical Block Provisioning: MiB that are available, and used.
fn resources(session: &mut Session) -> Option<[u32; 2]> {
    let data = session.run(0, &[0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 255, 0], 255).unwrap().good();
    let count = |at: usize| u32::from_be_bytes(data[at..at + 4].try_into().unwrap());
    (data.len() == 28).then(|| [count(8), count(20)])
}

#[test]
fn initiators_are_warned_once_when_the_pool_falls_below_a_threshold() {
    let place = Place::new();
    let Some(daemon) = on_small_file_system(&place, &place.disks()) else { return };
    daemon.lunctl(&["disk", "create", "d", "--size", "64MiB"]).ok();
    daemon.lunctl(&["disk", "create", "f", "--size", "1MiB", "--provisioning", "full"]).ok();
    daemon.expose("t", "d", 0);
    daemon.lunctl(&["target", "map", "t", "f", "--lun", "1"]).ok();
    let mut sessions = [(); 2].map(|()| Session::login(daemon.portal, TARGET));
    for session in &mut sessions {
        session.settle(0);
        session.settle(1);
    }
    let [session, other] = &mut sessions;
    // 8 MiB and 2 MiB, as the mode page has it.
    let page = session.run(0, &[0x1a, 0x08, 0x1c, 2, 255, 0], 255).unwrap().good();
    assert_eq!(page[4 + 16..], [[0x80, 1, 0, 0, 0, 0, 0, 8], [0x80, 1, 0, 0, 0, 0, 0, 2]].concat());
    let before = eventually("the space is counted", || resources(session));
    assert!(before[0] > 12 && before[1] == 0, "{before:?}");
    for piece in 0..4 * 9 {
        session.write(0, piece * BLOCKS, &[1; PIECE]);
    }
    for warned in [&mut *session, &mut *other] {
        eventually("the threshold is reached", || match warned.ready(0).check() {
            None => None,
            Some(told) => {
                assert_eq!(told, SOFT_THRESHOLD);
                Some(())
            }
        });
        assert_eq!(warned.settle(1), [], "a full disk has its space");
    }
    let now = eventually("it is counted", || resources(session).filter(|now| now[1] >= 9));
    assert!(now[0] < 8, "{now:?}");
    // Once. The next one is another.
    assert_eq!((session.settle(0), other.settle(0)), (vec![], vec![]));
    for piece in 4 * 9..4 * 14 {
        session.write(0, piece * BLOCKS, &[1; PIECE]);
    }
    eventually("the next threshold is reached", || {
        other.ready(0).check().filter(|told| *told == SOFT_THRESHOLD)
    });
    daemon.stop();
}
