//! REGISTER and REGISTER AND IGNORE EXISTING KEY.

use super::*;

#[test]
fn a_nexus_registers_changes_its_key_and_unregisters() {
    let mut state = Reservations::new();
    quiet(out(&mut state, &nexus('a'), REGISTER, 0, (0, 1)));
    quiet(out(&mut state, &nexus('b'), REGISTER, 0, (0, 1)));
    quiet(out(&mut state, &nexus('a'), REGISTER, 0, (1, 2)));
    assert_eq!((keys(&state), state.generation()), (vec![2, 1], 3));
    quiet(out(&mut state, &nexus('a'), REGISTER, 0, (2, 0)));
    quiet(out(&mut state, &nexus('b'), REGISTER, 0, (1, 1)));
    assert_eq!((keys(&state), state.generation()), (vec![1], 5));
}

#[test]
fn a_wrong_key_is_a_conflict() {
    let mut state = registered("a");
    conflict(out(&mut state, &nexus('a'), REGISTER, 0, (0, 1)));
    conflict(out(&mut state, &nexus('a'), REGISTER, 0, (7, 0)));
    conflict(out(&mut state, &nexus('b'), REGISTER, 0, (0xa, 1)));
    conflict(out(&mut state, &nexus('b'), REGISTER, 0, (0xa, 0)));
    conflict(out(&mut state, &elsewhere('a'), REGISTER, 0, (0xa, 1)));
    assert_eq!(state.generation(), 1);
}

#[test]
fn to_ignore_the_existing_key_never_conflicts() {
    let mut state = Reservations::new();
    for (from, keys) in [('a', (9, 1)), ('a', (9, 2)), ('b', (0, 3)), ('b', (9, 0))] {
        quiet(out(&mut state, &nexus(from), REGISTER_AND_IGNORE, 0, keys));
    }
    assert_eq!((keys(&state), state.generation()), (vec![2], 4));
}

#[test]
fn to_unregister_what_is_not_registered_does_nothing() {
    let mut state = Reservations::new();
    quiet(send(&mut state, &nexus('a'), REGISTER, 0, &basic(0, 0, APTPL)));
    quiet(send(&mut state, &nexus('a'), REGISTER_AND_IGNORE, 0, &basic(5, 0, APTPL)));
    let list = specify(0, 0, APTPL, &[port_id('b', 1)]);
    quiet(send(&mut state, &nexus('a'), REGISTER, 0, &list));
    assert_eq!(state, Reservations::new());
}

#[test]
fn scope_and_type_are_ignored() {
    let mut state = Reservations::new();
    quiet(out(&mut state, &nexus('a'), REGISTER, 0xff, (0, 1)));
    quiet(out(&mut state, &nexus('a'), REGISTER_AND_IGNORE, 0xff, (0, 2)));
    assert_eq!(keys(&state), [2]);
}

#[test]
fn a_holder_that_unregisters_releases_and_only_registrants_only_types_tell() {
    for kind in [WE, EA, WE_RO, EA_RO] {
        for action in [REGISTER, REGISTER_AND_IGNORE] {
            let mut state = reserved("abc", kind);
            let outcome = good(out(&mut state, &nexus('a'), action, 0, (0xa, 0)));
            let expected = if matches!(kind, WE_RO | EA_RO) { "bc" } else { "" };
            assert_eq!(outcome.attentions, told(UnitAttention::ReservationsReleased, expected));
            assert_eq!((held(&state), keys(&state)), (None, vec![0xb, 0xc]));
        }
    }
}

#[test]
fn all_registrants_hold_until_the_last_one_is_gone() {
    for kind in [WE_AR, EA_AR] {
        let mut state = reserved("abc", kind);
        quiet(out(&mut state, &nexus('a'), REGISTER, 0, (0xa, 0)));
        quiet(out(&mut state, &nexus('c'), REGISTER, 0, (0xc, 0)));
        assert_eq!(held(&state), Some((kind, '-')));
        assert!(state.check(&nexus('b'), Cdb::new(&[0x2a])));
        quiet(out(&mut state, &nexus('b'), REGISTER, 0, (0xb, 0)));
        assert_eq!((held(&state), state.is_idle()), (None, true));
    }
}

#[test]
fn a_late_registrant_holds_an_all_registrants_reservation_too() {
    let mut state = reserved("a", EA_AR);
    quiet(out(&mut state, &nexus('b'), REGISTER, 0, (0, 0xb)));
    quiet(out(&mut state, &nexus('b'), RESERVE, EA_AR, (0xb, 0)));
    fine(out(&mut state, &nexus('b'), RELEASE, EA_AR, (0xb, 0)));
    assert_eq!(held(&state), None);
}

#[test]
fn the_last_aptpl_bit_decides() {
    let mut state = Reservations::new();
    assert!(good(send(&mut state, &nexus('a'), REGISTER, 0, &basic(0, 1, APTPL))).persist);
    assert!(state.persists_through_power_loss());
    // Nothing that is kept has changed.
    assert!(!good(send(&mut state, &nexus('a'), REGISTER, 0, &basic(1, 1, APTPL))).persist);
    assert!(good(out(&mut state, &nexus('a'), RESERVE, WE, (1, 0))).persist);
    assert!(good(out(&mut state, &nexus('b'), REGISTER_AND_IGNORE, 0, (0, 2))).persist);
    assert!(!state.persists_through_power_loss());
    assert!(!good(out(&mut state, &nexus('a'), RELEASE, WE, (1, 0))).persist);
}

#[test]
fn spec_i_pt_registers_ports_that_are_not_logged_in() {
    let mut state = Reservations::new();
    let list = specify(0, 7, 0, &[port_id('b', 1), port_id('c', 9)]);
    quiet(send(&mut state, &nexus('a'), REGISTER, 0, &list));
    let stranger = Nexus { initiator: initiator('c', 9), target: target(1) };
    let nexuses: Vec<_> = state.registrations().map(|(nexus, _)| nexus.clone()).collect();
    assert_eq!(nexuses, [nexus('a'), nexus('b'), stranger]);
    assert_eq!((keys(&state), state.generation()), (vec![7; 3], 1));
}

#[test]
fn a_name_without_isid_stands_for_every_port_of_it() {
    let mut state = Reservations::new();
    let ids = [name_id("d"), name_id("a"), name_id("nobody"), port_id('d', 2)];
    quiet(send(&mut state, &nexus('a'), REGISTER, 0, &specify(0, 7, 0, &ids)));
    let isids: Vec<_> = state.registrations().map(|(nexus, _)| nexus.initiator.clone()).collect();
    assert_eq!(isids, [initiator('a', 1), initiator('d', 1), initiator('d', 2)]);
}

#[test]
fn spec_i_pt_is_all_or_nothing() {
    let mut state = registered("c");
    let ids = [port_id('b', 1), port_id('c', 1)];
    let outcome = send(&mut state, &nexus('a'), REGISTER, 0, &specify(0, 7, 0, &ids));
    wrong_list(outcome, u16::try_from(28 + ids[0].len()).unwrap(), None);
    assert_eq!(keys(&state), [0xc]);
}

#[test]
fn spec_i_pt_is_for_nexuses_that_are_not_registered_themselves() {
    let mut state = registered("a");
    for action_key in [0, 7] {
        let list = specify(0xa, action_key, 0, &[port_id('b', 1)]);
        wrong_list(send(&mut state, &nexus('a'), REGISTER, 0, &list), 20, Some(3));
    }
    let list = specify(1, 7, 0, &[port_id('b', 1)]);
    conflict(send(&mut state, &nexus('a'), REGISTER, 0, &list));
}

#[test]
fn all_tg_pt_registers_through_every_target_port() {
    let mut state = Reservations::new();
    quiet(send(&mut state, &nexus('a'), REGISTER, 0, &basic(0, 7, ALL_TG_PT)));
    let nexuses: Vec<_> = state.registrations().map(|(nexus, _)| nexus.clone()).collect();
    assert_eq!(nexuses, [nexus('a'), elsewhere('a')]);
    quiet(send(&mut state, &elsewhere('a'), REGISTER, 0, &basic(7, 8, ALL_TG_PT)));
    assert_eq!((keys(&state), state.generation()), (vec![8, 8], 2));
    quiet(send(&mut state, &nexus('a'), REGISTER, 0, &basic(8, 9, 0)));
    assert_eq!(keys(&state), [9, 8]);
    conflict(send(&mut state, &nexus('a'), REGISTER, 0, &basic(9, 0, ALL_TG_PT)));
    quiet(send(&mut state, &nexus('a'), REGISTER_AND_IGNORE, 0, &basic(0, 0, ALL_TG_PT)));
    assert_eq!(keys(&state), []);
}

#[test]
fn spec_i_pt_and_all_tg_pt_multiply() {
    let mut state = Reservations::new();
    let list = specify(0, 7, ALL_TG_PT, &[name_id("d")]);
    quiet(send(&mut state, &nexus('a'), REGISTER, 0, &list));
    assert_eq!(keys(&state).len(), 6);
}

#[test]
fn a_unit_that_is_full_takes_no_more() {
    let mut state = Reservations::new();
    let name = |number: usize| InitiatorPort::new(&format!("iqn.2026-01.io.lund:{number}"), [0; 6]);
    for number in 0..Reservations::MAX_REGISTRATIONS {
        let nexus = Nexus { initiator: name(number), target: target(1) };
        quiet(out(&mut state, &nexus, REGISTER, 0, (0, 1)));
    }
    let resources = AdditionalSense::INSUFFICIENT_REGISTRATION_RESOURCES;
    for action in [REGISTER, REGISTER_AND_IGNORE] {
        refused(out(&mut state, &nexus('a'), action, 0, (0, 1)), resources, None);
    }
    let first = Nexus { initiator: name(0), target: target(1) };
    quiet(out(&mut state, &first, RESERVE, WE, (1, 0)));
    let list = movement(1, 2, 0, 1, &port_id('a', 1));
    refused(send(&mut state, &first, REGISTER_AND_MOVE, 0, &list), resources, None);
    quiet(out(&mut state, &first, REGISTER, 0, (1, 2)));
}
