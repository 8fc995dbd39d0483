//! Saved mode pages (MODE SELECT with SP) outlive the daemon.

use super::support::{Place, Session};

const TARGET: &str = "iqn.2026-01.io.lund:demo";
/// PC: current, changeable, default and saved values.
const CURRENT: u8 = 0x00;
const DEFAULT: u8 = 0x80;
const SAVED: u8 = 0xc0;
const SOFTWARE_WRITE_PROTECTED: (u8, u8, u8) = (0x7, 0x27, 0x02);
const MODE_PARAMETERS_CHANGED: (u8, u8, u8) = (0x6, 0x2a, 0x01);

/// A mode page without its header.
fn page(session: &mut Session, control: u8, code: u8) -> Vec<u8> {
    let data = session.run(0, &[0x1a, 0x08, control | code, 0, 255, 0], 255).unwrap().good();
    data[6..].to_vec()
}

/// WCE in current, default and saved values.
fn write_cache(session: &mut Session) -> [bool; 3] {
    [CURRENT, DEFAULT, SAVED].map(|control| page(session, control, 0x08)[0] & 0x04 != 0)
}

/// MODE SELECT(6) of one page.
fn select(session: &mut Session, save: bool, code: u8, page: &[u8]) {
    let mut list = vec![0, 0, 0, 0, code, u8::try_from(page.len()).unwrap()];
    list.extend(page);
    let length = u8::try_from(list.len()).unwrap();
    let cdb = [0x15, 0x10 | u8::from(save), 0, 0, length, 0];
    session.run_with(0, &cdb, &list).unwrap().good();
}

#[test]
fn what_was_saved_is_in_force_after_a_crash_and_what_was_not_is_gone() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    let mut other = Session::login(daemon.portal, TARGET);
    session.settle(0);
    other.settle(0);
    assert_eq!(write_cache(&mut session), [true, true, true]);
    let mut caching = page(&mut session, CURRENT, 0x08);
    caching[0] &= !0x04;
    select(&mut session, true, 0x08, &caching);
    assert_eq!(other.settle(0), [MODE_PARAMETERS_CHANGED]);
    assert_eq!(write_cache(&mut other), [false, true, false]);
    // In force, but not saved.
    let mut control = page(&mut session, CURRENT, 0x0a);
    control[2] |= 0x08;
    select(&mut session, false, 0x0a, &control);
    let refused = session.try_write(0, 0, &[1; 512]).unwrap();
    assert_eq!(refused.check(), Some(SOFTWARE_WRITE_PROTECTED));
    daemon.kill();

    let daemon = place.start(&[]);
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    assert_eq!(write_cache(&mut session), [false, true, false]);
    session.write(0, 0, &[1; 512]);
    // Now it is saved as well; the rest of what is saved stays.
    let mut control = page(&mut session, CURRENT, 0x0a);
    control[2] |= 0x08;
    select(&mut session, true, 0x0a, &control);
    daemon.kill();

    let daemon = place.start(&[]);
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    assert_eq!(write_cache(&mut session), [false, true, false]);
    let refused = session.try_write(0, 0, &[2; 512]).unwrap();
    assert_eq!(refused.check(), Some(SOFTWARE_WRITE_PROTECTED));
    assert_eq!(session.read(0, 0, 1), [1; 512]);
    daemon.stop();
}
