//! Snapshots of disks that initiators write, on whatever file system the tests run.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::support::{Daemon, MIB, Place, Session, eventually};

const TARGET: &str = "iqn.2026-01.io.lund:demo";
const MEDIUM_MAY_HAVE_CHANGED: (u8, u8, u8) = (6, 0x28, 0);

/// A daemon with two LUNs.
fn two_luns(place: &Place) -> Daemon {
    let daemon = place.start_demo();
    daemon.lunctl(&["disk", "create", "second", "--size", "64MiB"]).ok();
    daemon.lunctl(&["target", "map", "demo", "second"]).ok();
    daemon
}

fn logged_in(daemon: &Daemon, luns: &[u16]) -> Session {
    let mut session = Session::login(daemon.portal, TARGET);
    for lun in luns {
        session.settle(*lun);
    }
    session
}

/// So many files are left of all, beside the mark of the pool.
fn files(place: &Place, count: usize) {
    eventually("the files that nobody needs are gone", || {
        let names = std::fs::read_dir(place.disks()).unwrap().map(|it| it.unwrap().file_name());
        (names.filter(|name| name != ".lund-pool").count() == count).then_some(())
    });
}

fn number(session: &mut Session, lun: u16) -> u64 {
    u64::from_le_bytes(session.read(lun, 0, 1)[..8].try_into().unwrap())
}

/// Writes numbers to block 0 of both LUNs, one behind the other, and each to a block of its own;
/// what was answered last.
fn count(mut session: Session, stop: &AtomicBool) -> u64 {
    let mut n = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let mut block = [0; 512];
        block[..8].copy_from_slice(&n.to_le_bytes());
        session.write(0, 0, &block);
        session.write(1, 0, &block);
        // All over the disk: an image that is laid over it has clusters of its own everywhere.
        session.write(0, 8 + n * 977 % (60 * MIB / 512), &block);
    }
    n
}

fn snapshots(daemon: &Daemon) -> Vec<Value> {
    daemon.json(&["snapshot", "list"]).as_array().unwrap().clone()
}

#[test]
fn snapshots_of_two_disks_are_of_one_instant_under_load_and_go_under_load() {
    let place = Place::new();
    let daemon = two_luns(&place);
    let stop = AtomicBool::new(false);
    let session = logged_in(&daemon, &[0, 1]);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| count(session, &stop));
        for name in ["a", "b", "c"] {
            daemon.lunctl(&["snapshot", "create", name, "demo", "second"]).ok();
        }
        // One in the middle, the oldest, the one that the disk is laid over.
        for name in ["b", "a"] {
            daemon.lunctl(&["snapshot", "delete", &format!("demo@{name}")]).ok();
        }
        daemon.lunctl(&["snapshot", "create", "d", "demo", "second"]).ok();
        daemon.lunctl(&["snapshot", "delete", "demo@d"]).ok();
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    for (lun, snapshot) in [(10, "demo@c"), (11, "second@c"), (12, "second@d")] {
        let name = format!("disk{lun}");
        daemon.lunctl(&["snapshot", "expose", snapshot, &name, "--read-only"]).ok();
        daemon.lunctl(&["target", "map", "demo", &name, "--lun", &lun.to_string()]).ok();
    }
    let mut session = logged_in(&daemon, &[0, 1, 10, 11, 12]);
    let (one, other) = (number(&mut session, 10), number(&mut session, 11));
    assert!(one == other || one == other + 1, "{one} {other}");
    assert!(one > 0 && number(&mut session, 12) >= other);
    assert_eq!((number(&mut session, 0), number(&mut session, 1)), (written, written));
    assert!(session.try_write(10, 0, &[1; 512]).unwrap().check().is_some(), "read only");
    // Every block that was written last is what it was.
    for n in written.saturating_sub(500)..=written {
        let block = session.read(0, 8 + n * 977 % (60 * MIB / 512), 1);
        assert_eq!(block[..8], n.to_le_bytes());
    }
    // What was flushed does not depend on what the process had in memory.
    session.synchronize(0);
    session.synchronize(1);
    drop(session);
    daemon.kill();
    let daemon = place.start_demo();
    let mut session = logged_in(&daemon, &[0, 1, 10, 11]);
    assert_eq!((number(&mut session, 0), number(&mut session, 1)), (written, written));
    assert_eq!((number(&mut session, 10), number(&mut session, 11)), (one, other));
    daemon.stop();
}

/// More than lie over each other on most days; where blocks are shared, each is a file of its own.
#[test]
fn a_disk_with_a_hundred_snapshots_shows_each_of_them_and_is_what_it_was_after_a_crash() {
    const COUNT: u64 = 100;
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = logged_in(&daemon, &[0]);
    let block = |n: u64| n.to_le_bytes().repeat(64);
    for n in 1..=COUNT {
        session.write(0, 0, &block(n));
        session.write(0, n * 300, &block(n));
        daemon.lunctl(&["snapshot", "create", &format!("s{n}"), "demo"]).ok();
    }
    let check = |session: &mut Session| {
        assert_eq!(session.read(0, 0, 1), block(COUNT));
        for n in 1..=COUNT {
            assert_eq!(session.read(0, n * 300, 1), block(n), "{n}");
        }
    };
    check(&mut session);
    session.synchronize(0);
    drop(session);
    daemon.kill();
    let daemon = place.start_demo();
    let numbers = [1, COUNT / 2, COUNT - 1];
    for n in numbers {
        let (name, lun) = (format!("of{n}"), (n + 10).to_string());
        let snapshot = format!("demo@s{n}");
        daemon.lunctl(&["snapshot", "expose", &snapshot, &name, "--read-only"]).ok();
        daemon.lunctl(&["target", "map", "demo", &name, "--lun", &lun]).ok();
    }
    let mut session = logged_in(&daemon, &[0]);
    check(&mut session);
    for n in numbers {
        let lun = u16::try_from(n + 10).unwrap();
        session.settle(lun);
        assert_eq!(number(&mut session, lun), n);
        assert_eq!(session.read(lun, (n + 1) * 300, 1), [0; 512]);
    }
    daemon.stop();
}

#[test]
fn a_disk_is_rolled_back_under_its_sessions_and_every_format_can() {
    let place = Place::new();
    let daemon = place.start_demo();
    for (lun, format) in [(1, "raw"), (2, "qcow2"), (3, "vhdx"), (4, "vhd")] {
        let text = lun.to_string();
        daemon.lunctl(&["disk", "create", format, "--size", "16MiB", "--format", format]).ok();
        daemon.lunctl(&["target", "map", "demo", format, "--lun", &text]).ok();
        let mut session = logged_in(&daemon, &[lun]);
        session.write(lun, 0, &[1; 4096]);
        session.write(lun, 20_000, &[1; 512]);
        daemon.lunctl(&["snapshot", "create", "first", format]).ok();
        session.write(lun, 0, &[2; 512]);
        daemon.lunctl(&["disk", "expand", format, "--size", "32MiB"]).ok();
        session.settle(lun);
        session.write(lun, 40_000, &[2; 512]);
        daemon.lunctl(&["snapshot", "create", "second", format]).ok();
        session.write(lun, 8, &[3; 512]);
        let first = format!("{format}@first");
        daemon.lunctl(&["snapshot", "rollback", &first]).ok();
        assert!(session.settle(lun).contains(&MEDIUM_MAY_HAVE_CHANGED), "{format}");
        assert_eq!(session.capacity(lun).0, 16 * MIB / 512, "{format}");
        assert_eq!(session.read(lun, 0, 9), [vec![1; 4096], vec![0; 512]].concat(), "{format}");
        assert_eq!(session.read(lun, 20_000, 1), [1; 512], "{format}");
        session.write(lun, 8, &[4; 512]);
        let second = format!("{format}@second");
        daemon.lunctl(&["snapshot", "rollback", &second]).ok();
        session.settle(lun);
        assert_eq!(session.capacity(lun).0, 32 * MIB / 512, "{format}");
        let wanted = [vec![2; 512], vec![1; 4096 - 512], vec![0; 512]].concat();
        assert_eq!(session.read(lun, 0, 9), wanted, "{format}");
        assert_eq!(session.read(lun, 40_000, 1), [2; 512], "{format}");
        for snapshot in [&second, &first] {
            daemon.lunctl(&["snapshot", "delete", snapshot]).ok();
        }
        assert_eq!(session.read(lun, 0, 9), wanted, "{format}");
        daemon.lunctl(&["target", "unmap", "demo", &text]).ok();
        drop(session);
        daemon.lunctl(&["disk", "delete", format]).ok();
    }
    assert_eq!(snapshots(&daemon), [] as [Value; 0]);
    // The demo's disk alone.
    files(&place, 1);
    daemon.stop();
}

#[test]
fn disks_in_use_are_cloned_and_checked_at_one_instant_without_shared_blocks_too() {
    let place = Place::new();
    let daemon = two_luns(&place);
    let stop = AtomicBool::new(false);
    let session = logged_in(&daemon, &[0, 1]);
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| count(session, &stop));
        for format in ["raw", "qcow2", "vhdx"] {
            let name = format!("clone-{format}");
            daemon.lunctl(&["disk", "clone", "demo", &name, "--format", format]).ok();
        }
        daemon.lunctl(&["disk", "check", "demo"]).ok();
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    let mut before = 0;
    for (lun, format) in [(5, "raw"), (6, "qcow2"), (7, "vhdx")] {
        let text = lun.to_string();
        daemon.lunctl(&["target", "map", "demo", &format!("clone-{format}"), "--lun", &text]).ok();
        let mut session = logged_in(&daemon, &[lun]);
        let n = number(&mut session, lun);
        assert!(before <= n && n <= written, "{format}");
        for n in n.saturating_sub(300).max(1)..n {
            let block = session.read(lun, 8 + n * 977 % (60 * MIB / 512), 1);
            assert_eq!(block[..8], n.to_le_bytes(), "{format}");
        }
        before = n;
    }
    let mut session = logged_in(&daemon, &[0]);
    assert_eq!(number(&mut session, 0), written);
    drop(session);
    // What the clones needed for the moment does not add up.
    daemon.lunctl(&["target", "unmap", "demo", "0"]).ok();
    daemon.lunctl(&["disk", "delete", "demo"]).ok();
    // The second disk and three clones; what goes with the disk is swept up behind the answer.
    files(&place, 4);
    daemon.stop();
}

#[test]
fn what_has_changed_between_snapshots_is_listed_and_linked_disks_keep_their_snapshot() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = logged_in(&daemon, &[0]);
    session.write(0, 0, &[1; 4096]);
    daemon.lunctl(&["snapshot", "create", "a", "demo"]).ok();
    session.write(0, 1024, &[2; 512]);
    daemon.lunctl(&["snapshot", "create", "b", "demo"]).ok();
    session.write(0, 70_000, &[3; 512]);
    let extents = |words: &[&str]| {
        let changes = daemon.json(&[&["snapshot", "diff"][..], words].concat());
        assert_eq!(changes["size_bytes"], 64 * MIB);
        let extents = changes["extents"].as_array().unwrap().clone();
        let place = |it: &Value| (it["offset"].as_u64().unwrap(), it["length"].as_u64().unwrap());
        extents.iter().map(place).collect::<Vec<_>>()
    };
    let covers = |found: &[(u64, u64)], lba: u64| {
        found.iter().any(|(at, length)| (*at..at + length).contains(&(lba * 512)))
    };
    let between = extents(&["demo@a", "demo@b"]);
    assert_eq!(
        (covers(&between, 0), covers(&between, 1024), covers(&between, 70_000)),
        (false, true, false)
    );
    let since = extents(&["demo@a"]);
    assert_eq!(
        (covers(&since, 0), covers(&since, 1024), covers(&since, 70_000)),
        (false, true, true)
    );
    let bytes: u64 = since.iter().map(|(_, length)| length).sum();
    assert!(bytes <= MIB, "{since:?}");
    daemon.lunctl(&["snapshot", "diff", "demo@a", "demo@a"]).fails(2, &["not"]);
    // A linked disk.
    daemon.lunctl(&["snapshot", "expose", "demo@a", "linked", "--linked"]).ok();
    daemon.lunctl(&["target", "map", "demo", "linked", "--lun", "3"]).ok();
    daemon.lunctl(&["snapshot", "delete", "demo@a"]).fails(4, &["demo@a"]);
    session.settle(0);
    session.settle(3);
    assert_eq!(session.read(3, 0, 9), [vec![1; 4096], vec![0; 512]].concat());
    session.write(3, 0, &[9; 512]);
    assert_eq!(session.read(3, 0, 1), [9; 512]);
    assert_eq!(session.read(0, 0, 1), [1; 512]);
    daemon.lunctl(&["target", "unmap", "demo", "3"]).ok();
    session.settle(0);
    daemon.lunctl(&["disk", "delete", "linked"]).ok();
    daemon.lunctl(&["snapshot", "delete", "demo@a"]).ok();
    assert_eq!(session.read(0, 1024, 1), [2; 512]);
    daemon.stop();
}
