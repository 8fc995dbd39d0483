//! REGISTER AND MOVE.

use super::*;

const UNREG: u8 = 0x02;

#[test]
fn the_reservation_moves_and_the_sender_stays_registered() {
    for kind in [WE, EA, WE_RO, EA_RO] {
        let mut state = reserved("ab", kind);
        let list = movement(0xa, 0xd, 0, 1, &port_id('c', 1));
        // SCOPE and TYPE are ignored.
        quiet(send(&mut state, &nexus('a'), REGISTER_AND_MOVE, 0xff, &list));
        assert_eq!(held(&state), Some((kind, 'c')));
        assert_eq!((keys(&state), state.generation()), (vec![0xa, 0xb, 0xd], 3));
    }
}

#[test]
fn the_sender_may_unregister_in_the_same_step() {
    let mut state = reserved("ab", EA_RO);
    let list = movement(0xa, 0xd, UNREG | APTPL, 2, &port_id('b', 1));
    assert!(good(send(&mut state, &nexus('a'), REGISTER_AND_MOVE, 0, &list)).persist);
    let nexuses: Vec<_> = state.registrations().map(|(nexus, _)| nexus.clone()).collect();
    assert_eq!(nexuses, [nexus('b'), elsewhere('b')]);
    assert_eq!(state.reservation().unwrap().1, Some(&elsewhere('b')));
    assert_eq!(keys(&state), [0xb, 0xd]);
}

#[test]
fn a_destination_that_is_registered_gets_the_new_key() {
    let mut state = reserved("ab", WE);
    let list = movement(0xa, 0xd, 0, 1, &port_id('b', 1));
    quiet(send(&mut state, &nexus('a'), REGISTER_AND_MOVE, 0, &list));
    assert_eq!((held(&state), keys(&state)), (Some((WE, 'b')), vec![0xa, 0xd]));
}

#[test]
fn a_name_moves_the_reservation_only_if_it_leaves_no_choice() {
    let mut state = reserved("a", WE);
    for name in ["d", "nobody"] {
        let list = movement(0xa, 0xd, 0, 1, &name_id(name));
        wrong_list(send(&mut state, &nexus('a'), REGISTER_AND_MOVE, 0, &list), 24, None);
    }
    let list = movement(0xa, 0xd, 0, 1, &name_id("c"));
    quiet(send(&mut state, &nexus('a'), REGISTER_AND_MOVE, 0, &list));
    assert_eq!(held(&state), Some((WE, 'c')));
}

#[test]
fn only_the_one_holder_moves_it() {
    let id = &port_id('c', 1);
    let mut state = reserved("ab", WE);
    let mut attempt = |from, key| {
        conflict(send(&mut state, &from, REGISTER_AND_MOVE, 0, &movement(key, 1, 0, 1, id)));
    };
    attempt(nexus('a'), 1);
    attempt(nexus('b'), 0xb);
    attempt(nexus('c'), 0);
    for kind in [WE_AR, EA_AR] {
        let mut state = reserved("ab", kind);
        let list = movement(0xa, 1, 0, 1, id);
        conflict(send(&mut state, &nexus('a'), REGISTER_AND_MOVE, 0, &list));
    }
    let mut state = registered("a");
    let list = movement(0xa, 1, 0, 1, id);
    wrong_cdb(send(&mut state, &nexus('a'), REGISTER_AND_MOVE, 0, &list), 1, Some(4));
}

#[test]
fn what_is_wrong_in_the_list_is_pointed_at() {
    let mut state = reserved("ab", WE);
    let mut attempt = |list: Vec<u8>, byte, bit| {
        wrong_list(send(&mut state, &nexus('a'), REGISTER_AND_MOVE, 0, &list), byte, bit);
    };
    attempt(movement(0xa, 0, 0, 1, &port_id('c', 1)), 8, None);
    attempt(movement(0xa, 1, 0, 3, &port_id('c', 1)), 18, None);
    attempt(movement(0xa, 1, 0, 1, &port_id('a', 1)), 24, None);
    attempt(movement(0xa, 1, 0, 2, &port_id('a', 1)), 24, None);
    attempt(movement(0xa, 1, 0, 1, &[0x45, 0, 0, 16, 0]), 20, None);
    attempt(movement(0xa, 1, 0, 1, &[port_id('c', 1), vec![0; 4]].concat()), 20, None);
    let mut fibre_channel = port_id('c', 1);
    fibre_channel[0] = 0x00;
    attempt(movement(0xa, 1, 0, 1, &fibre_channel), 24, Some(3));
    let mut long = port_id('c', 1);
    long[3] += 4;
    attempt(movement(0xa, 1, 0, 1, &long), 20, None);
}
