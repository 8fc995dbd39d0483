//! Disks of other formats than raw, as LUNs.

use std::fs;

use super::support::{MIB, Place, Session};

#[test]
fn a_qcow2_disk_keeps_its_data_over_a_restart_and_grows_in_use() {
    let place = Place::new();
    let daemon = place.start_demo();
    let create = ["disk", "create", "q", "--size", "64MiB", "--format", "qcow2"];
    daemon.lunctl(&create).ok();
    let disk = daemon.json(&["disk", "list"]);
    let disk = disk.as_array().unwrap().iter().find(|disk| disk["name"] == "q").unwrap().clone();
    assert_eq!(disk["format"], "qcow2");
    let path = disk["path"].as_str().unwrap();
    assert!(path.ends_with(".qcow2") && fs::read(path).unwrap().starts_with(b"QFI\xfb"));
    let target = daemon.expose("formats", "q", 0);
    let mut session = Session::login(daemon.portal, &target);
    session.settle(0);
    let blocks = 64 * MIB / 512;
    assert_eq!(session.capacity(0).0, blocks);
    session.write_through(0, blocks - 1, &[0x11; 512]);
    session.write(0, 1000, &[0x22; 512]);
    daemon.lunctl(&["disk", "expand", "q", "--size", "128MiB"]).ok();
    session.settle(0);
    assert_eq!(session.capacity(0).0, 2 * blocks);
    session.write_through(0, 2 * blocks - 1, &[0x33; 512]);
    drop(session);
    daemon.stop();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, &target);
    session.settle(0);
    assert_eq!(session.capacity(0).0, 2 * blocks);
    assert_eq!(session.read(0, 999, 3), [[0; 512], [0x22; 512], [0; 512]].concat());
    assert_eq!(session.read(0, blocks - 1, 2), [[0x11; 512], [0; 512]].concat());
    assert_eq!(session.read(0, 2 * blocks - 1, 1), [0x33; 512]);
    drop(session);
    daemon.lunctl(&["target", "unmap", &target, "0"]).ok();
    daemon.lunctl(&["disk", "delete", "q"]).ok();
    assert!(!fs::exists(path).unwrap());
    daemon.stop();
}

#[test]
fn a_format_that_does_not_exist_or_a_size_that_it_has_not_got_is_refused_at_once() {
    let place = Place::new();
    let daemon = place.start_demo();
    let create = |format: &str, size: &str| {
        daemon.lunctl(&["disk", "create", "x", "--size", size, "--format", format])
    };
    create("floppy", "1MiB").fails(2, &["floppy", "qcow2"]);
    create("qcow2", "4096TiB").fails(2, &["at most"]);
    daemon.stop();
}

#[test]
fn a_disk_is_checked_and_each_finding_is_told() {
    let place = Place::new();
    let daemon = place.start(&[]);
    daemon.lunctl(&["disk", "create", "a", "--size", "8MiB", "--format", "qcow2"]).ok();
    assert_eq!(daemon.lunctl(&["disk", "check", "a"]).ok(), "disk a is sound\n");
    // An entry of the L1 table that names a place outside of the file.
    let path = daemon.file_of("a");
    let mut bytes = fs::read(&path).unwrap();
    let table = usize::try_from(u64::from_be_bytes(bytes[40..48].try_into().unwrap())).unwrap();
    bytes[table..table + 8].copy_from_slice(&(1_u64 << 40 | 1 << 63).to_be_bytes());
    fs::write(&path, &bytes).unwrap();
    daemon.lunctl(&["disk", "check", "a"]).fails(5, &["the L1 table"]);
    daemon.lunctl(&["disk", "check", "a", "--repair"]).fails(5, &["the L1 table"]);
    assert!(fs::read(&path).unwrap() == bytes, "nothing is repaired that is not sound");
    let jobs = daemon.json(&["job", "list"]);
    let last = jobs.as_array().unwrap().last().unwrap();
    assert_eq!((&last["kind"], &last["state"]), (&"check-disk".into(), &"Exception".into()));
    let says = |error: &serde_json::Value| error["message"].as_str().unwrap().contains("LBA 0");
    assert!(last["errors"].as_array().unwrap().iter().any(says), "{last}");
    daemon.stop();
}
