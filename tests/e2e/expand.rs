//! Disks that grow under live sessions.

use std::os::unix::fs::MetadataExt as _;

use serde_json::json;

use super::support::{MIB, Place, Session, eventually, request};

const TARGET: &str = "iqn.2026-01.io.lund:demo";
const CAPACITY_DATA_HAS_CHANGED: (u8, u8, u8) = (6, 0x2a, 9);

#[test]
fn every_session_is_told_that_a_disk_has_grown_and_can_use_what_is_new() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut sessions: Vec<_> = (0..2).map(|_| Session::login(daemon.portal, TARGET)).collect();
    for session in &mut sessions {
        session.settle(0);
        assert_eq!(session.capacity(0).0, 64 * MIB / 512);
    }
    sessions[0].write(0, 64 * MIB / 512 - 1, &[0x11; 512]);
    let told = daemon.lunctl(&["disk", "expand", "demo", "--size", "96MiB"]).ok();
    assert_eq!(told, "disk demo has 96 MiB\n");
    for session in &mut sessions {
        assert_eq!(session.settle(0), [CAPACITY_DATA_HAS_CHANGED]);
        assert_eq!(session.capacity(0).0, 96 * MIB / 512);
    }
    let last = 96 * MIB / 512 - 1;
    sessions[0].write_through(0, last, &[0x22; 512]);
    assert_eq!(sessions[1].read(0, last, 1), [0x22; 512]);
    assert_eq!(sessions[1].read(0, 64 * MIB / 512 - 1, 2), [[0x11; 512], [0; 512]].concat());
    assert_eq!(daemon.file_of("demo").metadata().unwrap().size(), 96 * MIB);
    drop(sessions);
    daemon.stop();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    assert_eq!(session.read(0, last, 1), [0x22; 512]);
    daemon.stop();
}

#[test]
fn a_growth_that_is_not_possible_is_refused_and_says_what_is() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    let expand = |size: &str| daemon.lunctl(&["disk", "expand", "demo", "--size", size]);
    expand("32MiB").fails(2, &["67108864", "only grow"]);
    expand("64MiB").fails(2, &["only grow"]);
    expand("1048576TiB").fails(5, &["expand disk demo"]);
    daemon.lunctl(&["disk", "expand", "other", "--size", "1GiB"]).fails(3, &["other"]);
    let path = "/disks/demo/expand";
    request(daemon.management, "POST", path, r#"{"size":1}"#).refused(400, &["size"]);
    assert_eq!(session.settle(0), [], "nothing has changed");
    assert_eq!(session.capacity(0).0, 64 * MIB / 512);
    let answer =
        request(daemon.management, "POST", path, &json!({ "size_bytes": 65 * MIB }).to_string());
    assert_eq!((answer.status, &answer.json()["kind"]), (202, &json!("expand-disk")));
    daemon.stop();
}

/// PROVISIONING TYPE of the Logical Block Provisioning VPD page.
fn provisioning_type(session: &mut Session) -> u8 {
    session.run(0, &[0x12, 1, 0xb2, 0, 8, 0], 8).unwrap().data[6] & 0x07
}

#[test]
fn every_session_is_told_that_a_disk_has_become_full_or_thin() {
    // Only a thin disk has soft thresholds; which of the two comes first is no matter.
    const CHANGED: [(u8, u8, u8); 2] = [(6, 0x2a, 1), (6, 0x3f, 3)];
    let told_of = |session: &mut Session| {
        let mut told = Vec::new();
        eventually("the session is told", || {
            told.extend(session.settle(0));
            (told.len() >= CHANGED.len()).then_some(())
        });
        told.sort_unstable();
        told
    };
    let place = Place::new();
    // One that no file system on which tests run is below.
    let config = place.write("lund.toml", "[disks]\nthresholds = ['1MiB']\n");
    let start =
        || place.start(&["--demo", "--demo-size", "64MiB", "--config", config.to_str().unwrap()]);
    let daemon = start();
    let mut sessions: Vec<_> = (0..2).map(|_| Session::login(daemon.portal, TARGET)).collect();
    for session in &mut sessions {
        session.settle(0);
        assert_eq!(provisioning_type(session), 2, "thin");
    }
    sessions[0].write(0, 5, &[0x11; 512]);
    let told = daemon.lunctl(&["disk", "provision", "demo", "full"]).ok();
    assert_eq!(told, "disk demo is full\n");
    for session in &mut sessions {
        assert_eq!(told_of(session), CHANGED);
        assert_eq!(provisioning_type(session), 1, "resource provisioned");
        assert_eq!(session.read(0, 4, 3)[512..1024], [0x11; 512]);
    }
    let file = daemon.file_of("demo").metadata().unwrap();
    assert!(file.blocks() * 512 >= 64 * MIB);
    daemon.lunctl(&["disk", "provision", "demo", "full"]).fails(2, &["full already"]);
    daemon.kill();
    let daemon = start();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    assert_eq!(provisioning_type(&mut session), 1);
    daemon.lunctl(&["disk", "provision", "demo", "thin"]).ok();
    assert_eq!(told_of(&mut session), CHANGED);
    assert_eq!(provisioning_type(&mut session), 2);
    daemon.stop();
}
