//! Persistent reservations outlive the daemon (APTPL, SPC-4 §5.13.5).

use super::support::{Daemon, Place, Session};

const TARGET: &str = "iqn.2026-01.io.lund:demo";
const KEY: u64 = 0x1122_3344_5566_7788;
const CONFLICT: u8 = 0x18;

/// PERSISTENT RESERVE OUT.
fn reserve_out(session: &mut Session, action: u8, kind: u8, keys: [u64; 2], aptpl: bool) -> u8 {
    let cdb = [0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0];
    let mut list = Vec::new();
    list.extend(keys[0].to_be_bytes());
    list.extend(keys[1].to_be_bytes());
    list.extend([0, 0, 0, 0, u8::from(aptpl), 0, 0, 0]);
    session.run_with(0, &cdb, &list).unwrap().status
}

/// PERSISTENT RESERVE IN, READ KEYS.
fn keys(session: &mut Session) -> Vec<u64> {
    let data = session.run(0, &[0x5e, 0, 0, 0, 0, 0, 0, 1, 0, 0], 256).unwrap().good();
    data[8..].chunks_exact(8).map(|key| u64::from_be_bytes(key.try_into().unwrap())).collect()
}

/// PERSISTENT RESERVE IN, READ RESERVATION: the type.
fn kind(session: &mut Session) -> Option<u8> {
    let data = session.run(0, &[0x5e, 1, 0, 0, 0, 0, 0, 1, 0, 0], 256).unwrap().good();
    data.get(21).map(|kind| kind & 0x0f)
}

fn is_kept_over(restart: impl FnOnce(Daemon)) {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    // REGISTER with APTPL, then RESERVE: Write Exclusive.
    assert_eq!(reserve_out(&mut session, 0, 0, [0, KEY], true), 0);
    assert_eq!(reserve_out(&mut session, 1, 1, [KEY, 0], false), 0);
    restart(daemon);

    let daemon = place.start(&[]);
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    assert_eq!((keys(&mut session), kind(&mut session)), (vec![KEY], Some(1)));
    // This is another initiator port: it may read, and must register before it can take over.
    session.read(0, 0, 1);
    assert_eq!(session.try_write(0, 0, &[1; 512]).unwrap().status, CONFLICT);
    assert_eq!(reserve_out(&mut session, 0, 0, [0, KEY + 1], true), 0);
    assert_eq!(reserve_out(&mut session, 3, 0, [KEY + 1, 0], false), 0, "CLEAR");
    session.write(0, 0, &[1; 512]);
    daemon.kill();

    let daemon = place.start(&[]);
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    assert_eq!((keys(&mut session), kind(&mut session)), (vec![], None));
    daemon.stop();
}

#[test]
fn a_reservation_with_aptpl_is_kept_over_a_restart() {
    is_kept_over(Daemon::stop);
}

#[test]
fn a_reservation_with_aptpl_is_kept_over_a_kill() {
    is_kept_over(Daemon::kill);
}

#[test]
fn a_reservation_without_aptpl_ends_with_the_daemon() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    assert_eq!(reserve_out(&mut session, 0, 0, [0, KEY], false), 0);
    assert_eq!(reserve_out(&mut session, 1, 3, [KEY, 0], false), 0);
    // A wrong key is a conflict, and changes nothing.
    assert_eq!(reserve_out(&mut session, 3, 0, [KEY + 1, 0], false), CONFLICT);
    assert_eq!(kind(&mut session), Some(3));
    daemon.kill();
    let daemon = place.start(&[]);
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    assert_eq!((keys(&mut session), kind(&mut session)), (vec![], None));
    daemon.stop();
}

#[test]
fn the_reservation_of_a_deleted_disk_is_forgotten() {
    let place = Place::new();
    let daemon = place.start_demo();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    assert_eq!(reserve_out(&mut session, 0, 0, [0, KEY], true), 0);
    drop(session);
    daemon.lunctl(&["target", "unmap", "demo", "0"]).ok();
    daemon.lunctl(&["disk", "delete", "demo"]).ok();
    daemon.lunctl(&["disk", "create", "demo", "--size", "1MiB"]).ok();
    daemon.lunctl(&["target", "map", "demo", "demo"]).ok();
    let mut session = Session::login(daemon.portal, TARGET);
    session.settle(0);
    assert!(keys(&mut session).is_empty());
    daemon.stop();
}
