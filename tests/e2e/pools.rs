//! Several pools: made at run time, full, and gone.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::{Daemon, NOT_READY, Place, SPACE_ALLOCATION_FAILED, Session, eventually};

const TARGET: &str = "iqn.2026-01.io.lund:t";
const MIB: u64 = 2048;

/// A directory of the place.
fn directory(place: &Place, name: &str) -> PathBuf {
    let path = place.path().canonicalize().unwrap().join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A daemon in a mount namespace of its own, in which `script` has mounted something at `$0`. None
/// where that is not allowed.
fn mounted(place: &Place, script: &str, at: &Path) -> Option<Daemon> {
    let allowed = Command::new("unshare").args(["--mount", "true"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no mount namespace can be made here (not root?)");
        return None;
    }
    let lund = place.command::<&str>(&[]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &format!("{script} && exec \"$@\"")]).arg(at);
    command.arg(lund.get_program()).args(lund.get_args());
    Some(Daemon::spawn(&mut command, place))
}

/// Runs a command in the daemon's mount namespace.
fn inside(daemon: &Daemon, command: &[&str]) {
    let pid = daemon.pid().to_string();
    let mut nsenter = Command::new("nsenter");
    let status = nsenter.args(["--mount", "--target", &pid, "--"]).args(command).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

fn alerts(daemon: &Daemon) -> Vec<String> {
    let status = daemon.json(&["status"]);
    let ids = status["alerts"].as_array().unwrap().iter();
    ids.map(|alert| alert["message_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn pools_are_made_and_used_without_a_restart_and_are_there_after_one() {
    let place = Place::new();
    let fast = directory(&place, "fast");
    let slow = directory(&place, "slow");
    let configuration = format!("[[pools]]\nname = 'slow'\ndirectory = {slow:?}\n");
    let configuration = place.write("lund.toml", &configuration);
    let arguments = ["--config", configuration.to_str().unwrap()];
    let daemon = place.start(&arguments);
    daemon.lunctl(&["pool", "create", "fast", fast.to_str().unwrap(), "--reserve", "1%"]).ok();
    for (disk, pool) in [("a", "fast"), ("b", "slow")] {
        daemon.lunctl(&["disk", "create", disk, "--size", "4MiB", "--pool", pool]).ok();
    }
    daemon.lunctl(&["disk", "clone", "a", "c", "--pool", "default"]).ok();
    daemon.lunctl(&["disk", "clone", "a", "d"]).ok();
    for (disk, directory) in [("a", &fast), ("b", &slow), ("c", &place.disks()), ("d", &fast)] {
        let parent = daemon.file_of(disk).parent().unwrap().canonicalize().unwrap();
        assert_eq!(parent, directory.canonicalize().unwrap(), "{disk}");
    }
    daemon.expose("t", "a", 0);
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    session.write_through(0, 7, &[7; 512]);
    drop(session);
    let refused = |daemon: &Daemon| {
        daemon.lunctl(&["pool", "delete", "fast"]).fails(4, &["in use", "2 disks"]);
        daemon.lunctl(&["pool", "delete", "slow"]).fails(2, &["configuration"]);
        daemon.lunctl(&["disk", "create", "x", "--size", "1MiB", "--pool", "none"]).fails(3, &[]);
    };
    refused(&daemon);
    daemon.stop();
    let daemon = place.start(&arguments);
    refused(&daemon);
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    assert_eq!(session.read(0, 7, 1), [7; 512]);
    drop(session);
    let pools = daemon.json(&["pool", "list"]);
    let names: Vec<_> = pools.as_array().unwrap().iter().map(|pool| &pool["id"]).collect();
    assert_eq!(names, ["default", "slow", "fast"]);
    assert_eq!((&pools[2]["disks"], &pools[2]["reserve"]), (&2.into(), &"1%".into()));
    assert_eq!(pools[2]["provisioned_bytes"], 8 << 20);
    daemon.lunctl(&["target", "unmap", "t", "0"]).ok();
    for disk in ["a", "d"] {
        daemon.lunctl(&["disk", "delete", disk]).ok();
    }
    daemon.lunctl(&["pool", "delete", "fast"]).ok();
    assert_eq!(std::fs::read_dir(&fast).unwrap().count(), 0, "and what was ours is gone");
    daemon.stop();
}

#[test]
fn a_pool_is_no_other_pool_and_nothing_that_is_not_there() {
    let place = Place::new();
    let daemon = place.start(&[]);
    let inner = directory(&place, "a/b");
    let outer = inner.parent().unwrap().to_path_buf();
    let link = place.path().canonicalize().unwrap().join("link");
    std::os::unix::fs::symlink(&inner, &link).unwrap();
    let create =
        |name: &str, path: &Path| daemon.lunctl(&["pool", "create", name, path.to_str().unwrap()]);
    create("b", &inner).ok();
    create("a", &outer).fails(2, &["pool b"]);
    create("c", &place.disks().canonicalize().unwrap()).fails(2, &["pool default"]);
    create("d", &link).fails(2, &["without links"]);
    create("e", &inner.join("none")).fails(3, &["does not exist"]);
    create("b", &directory(&place, "other")).fails(4, &["pool b"]);
    create("a/b", &directory(&place, "other")).fails(2, &["letters"]);
    let change = ["pool", "change", "b", "--soft-threshold", "120%"];
    daemon.lunctl(&change).fails(2, &["soft_thresholds", "99%"]);
    // The directory of one that was forgotten is known again by its mark.
    let marked = directory(&place, "marked");
    std::fs::write(marked.join(".lund-pool"), "theirs\n").unwrap();
    create("mine", &marked).fails(2, &["belongs to pool theirs"]);
    create("theirs", &marked).ok();
    daemon.stop();
}

#[test]
fn thin_disks_promise_as_much_as_they_may_and_jobs_leave_the_reserve() {
    let place = Place::new();
    let pool = directory(&place, "pool");
    let Some(daemon) = mounted(&place, "mount -t tmpfs -o size=16m tmpfs \"$0\"", &pool) else {
        return;
    };
    let path = pool.to_str().unwrap();
    let space = ["--overcommit", "200%", "--reserve", "8MiB"];
    daemon.lunctl(&[&["pool", "create", "p", path][..], &space].concat()).ok();
    let create = |name: &str, size: &str, how: &str| {
        let how = ["--provisioning", how, "--pool", "p"];
        daemon.lunctl(&[&["disk", "create", name, "--size", size][..], &how].concat())
    };
    create("a", "30MiB", "thin").ok();
    create("b", "3MiB", "thin").fails(5, &["Not enough capacity", "2097152"]);
    create("b", "1MiB", "thin").ok();
    daemon.lunctl(&["disk", "expand", "b", "--size", "3MiB"]).fails(5, &["Not enough capacity"]);
    daemon.lunctl(&["pool", "change", "p", "--overcommit", "unlimited"]).ok();
    create("c", "9MiB", "full").fails(5, &["Not enough capacity"]);
    create("c", "7MiB", "full").ok();
    daemon.stop();
}

#[test]
fn below_the_hard_threshold_thin_disks_take_no_more_but_keep_what_they_have() {
    let place = Place::new();
    let pool = directory(&place, "pool");
    let Some(daemon) = mounted(&place, "mount -t tmpfs -o size=32m tmpfs \"$0\"", &pool) else {
        return;
    };
    let path = pool.to_str().unwrap();
    let space = ["--overcommit", "unlimited", "--hard-threshold", "8MiB"];
    daemon.lunctl(&[&["pool", "create", "p", path][..], &space].concat()).ok();
    daemon.lunctl(&["disk", "create", "d", "--size", "64MiB", "--pool", "p"]).ok();
    daemon.expose("t", "d", 0);
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    session.write(0, 0, &[1; 1 << 20]);
    assert_eq!(alerts(&daemon), [""; 0]);
    inside(&daemon, &["dd", "if=/dev/zero", &format!("of={path}/other"), "bs=1M", "count=25"]);
    let mut next = MIB;
    eventually("nothing new is written", || {
        let done = session.try_write(0, next, &[2; 4096]).unwrap();
        next += 8;
        match done.check() {
            None => None,
            Some(told) => {
                assert_eq!(told, SPACE_ALLOCATION_FAILED);
                Some(())
            }
        }
    });
    session.write(0, 8, &[3; 4096]);
    assert_eq!(session.read(0, 0, 24), [[1; 4096], [3; 4096], [1; 4096]].concat());
    let crosses = session.try_write(0, MIB * 32 - 8, &[3; 8192]).unwrap();
    assert_eq!(crosses.check(), Some(SPACE_ALLOCATION_FAILED));
    assert_eq!(alerts(&daemon), ["ISCT-STG-018"]);
    assert_eq!(daemon.json(&["pool", "list"])[1]["exhausted"], true);
    inside(&daemon, &["rm", &format!("{path}/other")]);
    eventually("there is space again", || {
        (session.try_write(0, MIB * 40, &[2; 4096]).unwrap().status == 0).then_some(())
    });
    assert_eq!(alerts(&daemon), [""; 0]);
    daemon.stop();
}

#[test]
fn a_pool_that_is_unmounted_takes_its_disks_along_and_brings_them_back() {
    let place = Place::new();
    let pool = directory(&place, "pool");
    let device = place.path().join("device");
    std::fs::File::create(&device).unwrap().set_len(64 << 20).unwrap();
    let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&device).output();
    if !made.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: there is no mkfs.ext4");
        return;
    }
    let (device, path) = (device.to_str().unwrap(), pool.to_str().unwrap());
    let script = format!("mount -o loop {device} \"$0\"");
    let Some(daemon) = mounted(&place, &script, &pool) else { return };
    daemon.lunctl(&["pool", "create", "p", path]).ok();
    daemon.lunctl(&["disk", "create", "d", "--size", "8MiB", "--pool", "p"]).ok();
    daemon.lunctl(&["disk", "create", "other", "--size", "8MiB"]).ok();
    daemon.expose("t", "d", 0);
    daemon.lunctl(&["target", "map", "t", "other", "--lun", "1"]).ok();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    session.settle(1);
    for round in 1..=2_u8 {
        session.write_through(0, 0, &[round; 512]);
        inside(&daemon, &["umount", "--lazy", path]);
        eventually("the unit is not ready", || {
            (session.ready(0).check() == Some(NOT_READY)).then_some(())
        });
        assert_eq!(session.settle(1), [(0x6, 0x3f, 0x0e)], "its LUN was away for a moment");
        session.ready(1).good();
        eventually("the alert", || alerts(&daemon).contains(&"ISCT-STG-016".into()).then_some(()));
        // Nothing is made below the mount point.
        let create = ["disk", "create", "x", "--size", "1MiB", "--pool", "p"];
        daemon.lunctl(&create).fails(5, &["Pool p cannot be used", ".lund-pool"]);
        assert_eq!(std::fs::read_dir(&pool).unwrap().count(), 0);
        inside(&daemon, &["mount", "-o", "loop", device, path]);
        eventually("the unit is ready", || match session.ready(0).check() {
            None => Some(()),
            Some(told) => {
                assert!(told == NOT_READY || told.0 == 0x6, "{told:x?}");
                None
            }
        });
        assert_eq!(session.read(0, 0, 1), [round; 512]);
        assert_eq!(alerts(&daemon), [""; 0]);
    }
    daemon.lunctl(&["disk", "create", "x", "--size", "1MiB", "--pool", "p"]).ok();
    daemon.stop();
}

#[test]
fn a_pool_that_becomes_full_ends_a_move_into_it_and_no_write() {
    let place = Place::new();
    let pool = directory(&place, "pool");
    let Some(daemon) = mounted(&place, "mount -t tmpfs -o size=6m tmpfs \"$0\"", &pool) else {
        return;
    };
    daemon.lunctl(&["pool", "create", "p", pool.to_str().unwrap()]).ok();
    daemon.lunctl(&["pool", "change", "p", "--overcommit", "unlimited"]).ok();
    daemon.lunctl(&["disk", "create", "d", "--size", "16MiB"]).ok();
    daemon.expose("t", "d", 0);
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    session.write(0, 0, &vec![1; 1 << 20]);
    let file = daemon.file_of("d");
    let words = ["disk", "move", "d", "--pool", "p", "--no-wait", "--job-bandwidth", "4MiB"];
    let id = daemon.lunctl(&words).ok().trim().to_owned();
    let mut next = 0;
    let job = eventually("the job ends", || {
        // More than there is room for, and none of it fails.
        let byte = u8::try_from(next % 16 + 2).unwrap();
        session.write(0, next % 16 * MIB, &vec![byte; 1 << 20]);
        next += 1;
        let job = daemon.json(&["job", "show", &id]);
        (job["ended"] == true && next >= 16).then_some(job)
    });
    assert_eq!(job["errors"][0]["message_id"], "ISCT-STG-001", "{job}");
    assert_eq!(daemon.file_of("d"), file);
    for mib in 0..16 {
        let byte = u8::try_from(mib + 2).unwrap();
        assert!(session.read(0, mib * MIB, 2048) == vec![byte; 1 << 20], "MiB {mib}");
    }
    inside(&daemon, &["sh", "-c", &format!("test -z \"$(ls {})\"", pool.display())]);
    let left = daemon.json(&["pool", "list"])[1].clone();
    assert_eq!(left["disks"], 0, "{left}");
    assert!(left["free_bytes"].as_u64().unwrap() > 5 << 20, "{left}");
    daemon.stop();
}
