//! Who may use a target, and what each initiator sees, as `lunctl` changes it under live sessions.

use std::io::Read as _;

use serde_json::json;

use super::support::{Place, Session};

const TARGET: &str = "iqn.2026-01.io.lund:demo";
const WRITE_PROTECTED: (u8, u8, u8) = (7, 0x27, 0);

#[test]
fn initiators_that_are_not_allowed_are_shut_out_at_once_and_after_a_restart() {
    let place = Place::new();
    let daemon = place.start_demo();
    let refused = |portal| Session::try_login(portal, TARGET).unwrap_err().to_string();
    assert_eq!(daemon.json(&["target", "show", "demo"])["access"], json!(null));
    let session = Session::login(daemon.portal, TARGET);
    let other = ["target", "allow", "demo", "--initiator", "iqn.2001-04.com.example:*"];
    assert!(daemon.lunctl(&other).ok().contains("iqn.2001-04.com.example:*"));
    assert!(session.stream().read_to_end(&mut Vec::new()).is_ok(), "its session is closed");
    assert_eq!(refused(daemon.portal), "login status 0202");
    daemon.stop();
    let daemon = place.start_demo();
    assert_eq!(refused(daemon.portal), "login status 0202");
    // An address lets it in, another one does not.
    daemon.lunctl(&["target", "allow", "demo", "--address", "192.0.2.0/24"]).ok();
    assert_eq!(refused(daemon.portal), "login status 0202");
    daemon.lunctl(&["target", "allow", "demo", "--address", "127.0.0.0/8"]).ok();
    let session = Session::login(daemon.portal, TARGET);
    daemon.lunctl(&["target", "disallow", "demo", "--address", "127.0.0.1/8"]).ok();
    assert!(session.stream().read_to_end(&mut Vec::new()).is_ok(), "its session is closed");
    let gone = ["target", "disallow", "demo", "--address", "127.0.0.1/8"];
    daemon.lunctl(&gone).fails(3, &["access entry", "127.0.0.0/8"]);
    daemon.lunctl(&["target", "disallow", "demo"]).fails(2, &["--initiator", "--address"]);
    // Without any entry, nobody gets in; until everybody is let in.
    daemon.lunctl(&["target", "disallow", "demo", "--address", "192.0.2.0/24"]).ok();
    let last = ["target", "disallow", "demo", "--initiator", "iqn.2001-04.com.example:*"];
    assert_eq!(daemon.lunctl(&last).ok(), format!("nobody may use {TARGET}\n"));
    assert_eq!(refused(daemon.portal), "login status 0202");
    let open = daemon.lunctl(&["target", "open", "demo"]).ok();
    assert_eq!(open, format!("everybody may use {TARGET}\n"));
    Session::login(daemon.portal, TARGET).settle(0);
    daemon.stop();
}

#[test]
fn an_initiator_sees_its_own_luns_and_cannot_write_what_it_may_only_read() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    session.write(0, 0, &[0x5a; 512]);
    let allow = |more: &[&str]| {
        let begin = ["target", "allow", "demo", "--initiator", Session::NAME];
        daemon.lunctl(&[&begin, more].concat()).ok();
    };
    allow(&["--lun", "5=0:ro"]);
    session.settle(5);
    assert_eq!(session.report_luns(), [5], "the session that is there sees it too");
    assert_eq!(session.read(5, 0, 1), [0x5a; 512]);
    assert_eq!(session.try_write(5, 0, &[1; 512]).unwrap().check(), Some(WRITE_PROTECTED));
    allow(&["--read-only"]);
    session.settle(0);
    assert_eq!(session.report_luns(), [0]);
    assert_eq!(session.try_write(0, 0, &[1; 512]).unwrap().check(), Some(WRITE_PROTECTED));
    allow(&[]);
    session.settle(0);
    session.write(0, 0, &[0xa5; 512]);
    assert_eq!(session.read(0, 0, 1), [0xa5; 512]);
    daemon.stop();
}

#[test]
fn a_disk_is_protected_for_everybody_at_once_and_after_a_kill() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    session.write(0, 0, &[0x5a; 512]);
    let told = daemon.lunctl(&["disk", "protect", "demo"]).ok();
    assert_eq!(told, "disk demo can only be read\n");
    // MODE PARAMETERS CHANGED; WP.
    let changed = [(6, 0x2a, 1)];
    let mode_sense = [0x1a, 8, 0x3f, 0, 4, 0];
    assert_eq!(session.settle(0), changed);
    let header = session.run(0, &mode_sense, 4).unwrap();
    assert_eq!(header.data[2] & 0x80, 0x80);
    assert_eq!(session.try_write(0, 0, &[1; 512]).unwrap().check(), Some(WRITE_PROTECTED));
    assert_eq!(session.read(0, 0, 1), [0x5a; 512]);
    assert_eq!(daemon.json(&["disk", "list"])[0]["read_only"], true);
    // What an initiator may do to other disks does not matter.
    let allow = ["target", "allow", "demo", "--initiator", Session::NAME, "--lun", "3=0"];
    daemon.lunctl(&allow).ok();
    session.settle(3);
    assert_eq!(session.try_write(3, 0, &[1; 512]).unwrap().check(), Some(WRITE_PROTECTED));
    daemon.lunctl(&["target", "open", "demo"]).ok();
    daemon.kill();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    assert_eq!(session.try_write(0, 0, &[1; 512]).unwrap().check(), Some(WRITE_PROTECTED));
    daemon.lunctl(&["disk", "protect", "demo"]).ok();
    assert_eq!(session.settle(0), [], "it is so already");
    assert_eq!(
        daemon.lunctl(&["disk", "unprotect", "demo"]).ok(),
        "disk demo can be read and written\n"
    );
    assert_eq!(session.settle(0), changed);
    session.write(0, 0, &[0xa5; 512]);
    daemon.lunctl(&["disk", "protect", "ghost"]).fails(3, &["ghost"]);
    daemon.stop();
}
