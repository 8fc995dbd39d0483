//! Checks that compare data with checksums of an earlier check.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::support::{Daemon, MIB, Place, Session, eventually};

/// Another byte, as a medium gives it back that has lost one: nobody has written.
fn lose(path: &Path, at: u64) {
    let before = fs::metadata(path).unwrap().modified().unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[!byte[0]], at).unwrap();
    file.set_modified(before).unwrap();
}

fn written(daemon: &Daemon, blocks: std::ops::Range<u64>, byte: u8) {
    let target = daemon.expose("writers", "a", 0);
    let mut session = Session::login(daemon.portal, &target);
    session.settle(0);
    for lba in blocks.step_by(128) {
        session.write_through(0, lba, &[byte; 128 * 512]);
    }
    drop(session);
    daemon.lunctl(&["target", "unmap", &target, "0"]).ok();
    daemon.lunctl(&["target", "delete", &target]).ok();
}

#[test]
fn a_check_names_the_blocks_that_a_medium_has_lost_and_what_initiators_write_is_no_loss() {
    let place = Place::new();
    let daemon = place.start(&[]);
    daemon.lunctl(&["disk", "create", "a", "--size", "8MiB"]).ok();
    written(&daemon, 4096..6144, 1);
    let path = daemon.file_of("a");
    assert_eq!(daemon.lunctl(&["disk", "check", "a"]).ok(), "disk a is sound\n");
    let job = daemon.json(&["disk", "check", "a", "--checksums"]);
    assert_eq!(job["checksums"]["state"], "made", "{job}");
    let said = daemon.lunctl(&["disk", "check", "a"]).ok();
    assert!(said.starts_with("disk a is sound; its data are those of 20"), "{said}");
    // At 2.5 MiB.
    lose(&path, 5 * MIB / 2);
    let check = ["disk", "check", "a"];
    daemon.lunctl(&check).fails(5, &["logical blocks 4096 to 6143 of"]);
    // By the next start, too.
    daemon.kill();
    let daemon = place.start(&[]);
    daemon.lunctl(&check).fails(5, &["logical blocks 4096 to 6143 of"]);
    let jobs = daemon.json(&["job", "list"]);
    let last = jobs.as_array().unwrap().last().unwrap();
    assert_eq!(last["errors"][0]["message_id"], "ISCT-STG-019", "{last}");
    assert_eq!(last["checksums"]["state"], "differed", "{last}");
    lose(&path, 5 * MIB / 2);
    daemon.lunctl(&check).ok();
    written(&daemon, 0..1024, 2);
    let said = daemon.lunctl(&check).ok();
    assert!(said.contains("is sound; it may have been written since"), "{said}");
    let job = daemon.json(&["disk", "check", "a", "--checksums"]);
    assert_eq!(job["checksums"]["state"], "made", "{job}");
    lose(&path, 0);
    daemon.lunctl(&check).fails(5, &["logical blocks 0 to 2047 of"]);
    daemon.stop();
}

#[test]
fn checksums_of_a_snapshot_are_compared_while_its_disk_is_written() {
    let place = Place::new();
    let daemon = place.start(&[]);
    daemon.lunctl(&["disk", "create", "a", "--size", "8MiB"]).ok();
    let target = daemon.expose("writers", "a", 0);
    let mut session = Session::login(daemon.portal, &target);
    session.settle(0);
    session.write_through(0, 0, &[1; 4096]);
    daemon.lunctl(&["snapshot", "create", "s", "a"]).ok();
    daemon.lunctl(&["disk", "check", "a", "--checksums"]).fails(4, &["LUN 0"]);
    let said = daemon.lunctl(&["snapshot", "check", "a@s", "--checksums"]).ok();
    assert_eq!(said, "snapshot a@s is sound; checksums of its data are kept\n");
    for byte in 2..10 {
        session.write_through(0, 0, &[byte; 4096]);
        let said = daemon.lunctl(&["snapshot", "check", "a@s"]).ok();
        assert!(said.starts_with("snapshot a@s is sound; its data are those of 20"), "{said}");
        let job = daemon.json(&["disk", "check", "a"]);
        assert_eq!(
            (&job["state"], &job["checksums"]["state"]),
            (&"Completed".into(), &"in-use".into())
        );
    }
    drop(session);
    daemon.stop();
}

#[test]
fn a_check_that_is_killed_goes_on_at_the_next_start_and_leaves_checksums_that_hold() {
    let place = Place::new();
    let daemon = place.start(&[]);
    daemon.lunctl(&["disk", "create", "a", "--size", "8MiB"]).ok();
    written(&daemon, 0..16_384, 3);
    let path = daemon.file_of("a");
    let slow = ["disk", "check", "a", "--checksums", "--job-bandwidth", "1MiB", "--no-wait"];
    let id = daemon.lunctl(&slow).ok().trim().to_owned();
    eventually("the check reads", || {
        let job = daemon.json(&["job", "show", &id]);
        (job["percent_complete"].as_u64()? > 10).then_some(())
    });
    daemon.kill();
    let daemon = place.start(&[]);
    daemon.lunctl(&["job", "set", &id, "--bandwidth", "1GiB"]).ok();
    let job = eventually("the check ends", || {
        let job = daemon.json(&["job", "show", &id]);
        job["ended"].as_bool()?.then_some(job)
    });
    assert_eq!((&job["state"], &job["checksums"]["state"]), (&"Completed".into(), &"made".into()));
    lose(&path, 8 * MIB - 1);
    daemon.lunctl(&["disk", "check", "a"]).fails(5, &["logical blocks 14336 to 16383 of"]);
    let kept = fs::read_dir(place.data().join("checksums")).unwrap().count();
    assert_eq!(kept, 1, "nothing is left of the first run");
    daemon.lunctl(&["disk", "delete", "a"]).ok();
    assert_eq!(fs::read_dir(place.data().join("checksums")).unwrap().count(), 0);
    daemon.stop();
}
