//! What was acknowledged is there after a restart, in order or not.

use serde_json::Value;

use super::support::{Busy, Daemon, Place, Session};

/// Everything that clients can ask for, without what changes by itself.
fn catalogue(daemon: &Daemon) -> [Value; 3] {
    let mut disks = daemon.json(&["disk", "list"]);
    for disk in disks.as_array_mut().unwrap() {
        disk.as_object_mut().unwrap().remove("allocated_bytes");
    }
    let mut targets = daemon.json(&["target", "list"]);
    for target in targets.as_array_mut().unwrap() {
        target.as_object_mut().unwrap().remove("sessions");
    }
    [disks, targets, daemon.json(&["job", "list"])]
}

/// Pages by which initiators recognize a disk.
fn identity(session: &mut Session, lun: u16) -> [Vec<u8>; 2] {
    session.settle(lun);
    [session.vpd(lun, 0x80), session.vpd(lun, 0x83)]
}

fn is_kept_over(restart: impl FnOnce(Daemon)) {
    let place = Place::new();
    let daemon = place.start(&[]);
    daemon.lunctl(&["disk", "create", "thin", "--size", "8MiB"]).ok();
    let full = ["disk", "create", "full", "--size", "3MiB", "--provisioning", "full"];
    daemon.lunctl(&full).ok();
    let large = ["disk", "create", "large", "--size", "4MiB", "--block-length", "4096"];
    daemon.lunctl(&large).ok();
    daemon.lunctl(&["disk", "create", "gone", "--size", "1MiB"]).ok();
    daemon.lunctl(&["disk", "delete", "gone"]).ok();
    daemon.lunctl(&["disk", "create", "impossible", "--size", "1PiB"]).fails(5, &[]);
    daemon.lunctl(&["target", "create", "kept", "--alias", "two disks"]).ok();
    daemon.lunctl(&["target", "map", "kept", "thin", "--lun", "3"]).ok();
    daemon.lunctl(&["target", "map", "kept", "full", "--lun", "7"]).ok();
    daemon.lunctl(&["target", "create", "empty"]).ok();
    let target = "iqn.2026-01.io.lund:kept";
    let mut session = Session::login(daemon.portal, target);
    let identities = [identity(&mut session, 3), identity(&mut session, 7)];
    session.write_through(3, 5, &[0xa5; 1024]);
    session.write(7, 100, &[0x5a; 8192]);
    session.synchronize(7);
    let before = catalogue(&daemon);
    assert_eq!(before[0].as_array().unwrap().len(), 3);
    assert_eq!(before[2].as_array().unwrap().len(), 6);
    restart(daemon);

    let daemon = place.start(&[]);
    assert_eq!(catalogue(&daemon), before);
    assert_eq!(daemon.json(&["status"])["alerts"], serde_json::json!([]));
    let mut session = Session::login(daemon.portal, target);
    assert_eq!([identity(&mut session, 3), identity(&mut session, 7)], identities);
    assert_eq!(session.report_luns(), [3, 7]);
    assert_eq!(session.capacity(3), (8 << 11, 512));
    assert_eq!(session.read(3, 5, 2), [0xa5; 1024]);
    assert_eq!(session.read(7, 100, 16), [0x5a; 8192]);
    // Work goes on.
    daemon.lunctl(&["disk", "delete", "large"]).ok();
    daemon.stop();
}

#[test]
fn disks_targets_jobs_and_data_are_kept_over_a_restart() {
    is_kept_over(Daemon::stop);
}

#[test]
fn disks_targets_jobs_and_data_are_kept_over_a_kill() {
    is_kept_over(Daemon::kill);
}

fn jobs_go_on_after(restart: impl FnOnce(Daemon)) {
    let busy = Busy::new();
    let creation = busy.submit("later", "2MiB");
    let before = busy.daemon.json(&["job", "show", &creation]);
    assert_eq!(before["state"], "New");
    restart(busy.daemon);
    drop(busy.lock);
    let daemon = busy.place.start(&[]);
    for job in [&busy.deletion, &creation] {
        let job = daemon.json(&["job", "wait", job]);
        assert_eq!(job["state"], "Completed");
    }
    let after = daemon.json(&["job", "show", &creation]);
    for field in ["name", "owner", "disk", "time_submitted"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    let disks = daemon.json(&["disk", "list"]);
    assert_eq!((disks.as_array().unwrap().len(), &disks[0]["id"]), (1, &before["disk"]));
}

#[test]
fn jobs_that_had_not_ended_go_on_after_a_restart() {
    jobs_go_on_after(Daemon::stop);
}

#[test]
fn jobs_that_had_not_ended_go_on_after_a_kill() {
    jobs_go_on_after(Daemon::kill);
}

#[test]
fn serial_numbers_and_names_of_disks_are_what_the_catalogue_says() {
    let place = Place::new();
    let daemon = place.start_demo();
    let disk = &daemon.json(&["disk", "list"])[0];
    let mut session = Session::login(daemon.portal, "iqn.2026-01.io.lund:demo");
    let [serial, identification] = identity(&mut session, 0);
    let text = String::from_utf8(serial[4..].to_vec()).unwrap();
    assert_eq!(text.trim(), disk["serial"].as_str().unwrap());
    let naa = disk["naa"].as_str().unwrap();
    let hex: String = identification.iter().map(|byte| format!("{byte:02x}")).collect();
    let digits: String = naa.to_lowercase().chars().filter(char::is_ascii_hexdigit).collect();
    // Without what a textual form may begin with.
    let digits = &digits[digits.len() - 32..];
    assert!(hex.contains(digits), "{naa} is not in {hex}");
}
