//! Changes while somebody is logged in.

use super::support::{
    Daemon, LUN_NOT_SUPPORTED, Place, REPORTED_LUNS_CHANGED, Session, eventually,
};

const TARGET: &str = "iqn.2026-01.io.lund:demo";

fn logged_in(daemon: &Daemon) -> Session {
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    session
}

#[test]
fn a_disk_that_is_mapped_shows_at_once_in_sessions_that_are_there() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = logged_in(&daemon);
    assert_eq!(session.ready(1).check(), Some(LUN_NOT_SUPPORTED));
    daemon.lunctl(&["disk", "create", "second", "--size", "2MiB"]).ok();
    daemon.lunctl(&["target", "map", "demo", "second"]).ok();
    // Nothing is waited for: the mapping was answered.
    assert_eq!(session.report_luns(), [0, 1]);
    assert_eq!(session.settle(0), [REPORTED_LUNS_CHANGED]);
    session.settle(1);
    assert_eq!(session.capacity(1), (4096, 512));
    session.write(1, 4095, &[9; 512]);
    assert_eq!(session.read(1, 4095, 1), [9; 512]);
    assert_eq!(session.read(0, 0, 1), [0; 512], "the others are not touched");
}

#[test]
fn a_disk_that_is_unmapped_is_gone_at_once_and_can_be_deleted() {
    let place = Place::new();
    let daemon = place.start_demo();
    daemon.lunctl(&["disk", "create", "second", "--size", "2MiB"]).ok();
    daemon.lunctl(&["target", "map", "demo", "second", "--lun", "5"]).ok();
    let file = daemon.file_of("second");
    let mut session = logged_in(&daemon);
    session.settle(5);
    session.write(5, 0, &[1; 512]);
    assert!(file.exists());
    daemon.lunctl(&["disk", "delete", "second"]).fails(4, &["second", TARGET]);
    assert_eq!(session.read(5, 0, 1), [1; 512], "what was refused has done nothing");
    daemon.lunctl(&["target", "unmap", "demo", "5"]).ok();
    assert_eq!(session.ready(5).check(), Some(LUN_NOT_SUPPORTED));
    assert_eq!(session.settle(0), [REPORTED_LUNS_CHANGED]);
    assert_eq!(session.report_luns(), [0]);
    daemon.lunctl(&["disk", "delete", "second"]).ok();
    assert!(!file.exists());
}

#[test]
fn a_disk_is_unmapped_and_deleted_under_load() {
    let place = Place::new();
    let daemon = place.start_demo();
    let file = daemon.file_of("demo");
    let mut session = logged_in(&daemon);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            loop {
                let done = session.try_read(0, 0, 8).unwrap();
                match done.check() {
                    Some(LUN_NOT_SUPPORTED) => return,
                    Some(other) => panic!("{other:x?}"),
                    None => {}
                }
            }
        });
        daemon.lunctl(&["target", "unmap", "demo", "0"]).ok();
        daemon.lunctl(&["disk", "delete", "demo"]).ok();
        reader.join().unwrap();
    });
    assert!(!file.exists());
    assert_eq!(daemon.json(&["disk", "list"]), serde_json::json!([]));
}

#[test]
fn one_disk_can_be_several_luns_of_several_targets() {
    let place = Place::new();
    let daemon = place.start_demo();
    daemon.lunctl(&["target", "create", "other"]).ok();
    daemon.lunctl(&["target", "map", "other", "demo", "--lun", "9"]).ok();
    let mut one = logged_in(&daemon);
    let mut other = Session::login(daemon.portal, "iqn.2026-01.io.lund:other");
    other.settle(9);
    assert_eq!(one.vpd(0, 0x80), other.vpd(9, 0x80));
    one.write(0, 17, &[3; 512]);
    assert_eq!(other.read(9, 17, 1), [3; 512]);
    daemon.lunctl(&["target", "unmap", "demo", "0"]).ok();
    assert_eq!(other.read(9, 17, 1), [3; 512], "the other way is still there");
    daemon.lunctl(&["disk", "delete", "demo"]).fails(4, &["iqn.2026-01.io.lund:other"]);
}

#[test]
fn a_target_that_is_deleted_ends_its_sessions() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = logged_in(&daemon);
    daemon.lunctl(&["target", "delete", "demo"]).fails(4, &[TARGET]);
    session.ready(0).good();
    daemon.lunctl(&["target", "unmap", "demo", "0"]).ok();
    daemon.lunctl(&["target", "delete", "demo"]).ok();
    eventually("the session has ended", || session.run(0, &[0; 6], 0).is_err().then_some(()));
    let error = Session::try_login(daemon.portal, TARGET).unwrap_err().to_string();
    assert_eq!(error, "login status 0203");
    assert_eq!(daemon.json(&["session", "list"]), serde_json::json!([]));
}

#[test]
fn a_logout_ends_the_session() {
    let place = Place::new();
    let daemon = place.start_demo();
    let session = logged_in(&daemon);
    assert_eq!(daemon.json(&["target", "list"])[0]["sessions"], 1);
    session.logout();
    eventually("the session has ended", || {
        (daemon.json(&["session", "list"]) == serde_json::json!([])).then_some(())
    });
}
