//! PREEMPT and PREEMPT AND ABORT.

use super::*;

use UnitAttention::{RegistrationsPreempted, ReservationsReleased};

#[test]
fn the_key_of_the_holder_replaces_its_reservation() {
    for (old, new) in [(WE, WE), (WE, EA), (EA_RO, WE_AR), (EA_RO, EA_RO)] {
        let mut state = reserved("abc", old);
        let outcome = good(out(&mut state, &nexus('b'), PREEMPT, new, (0xb, 0xa)));
        let mut expected = told(RegistrationsPreempted, "a");
        if old != new {
            expected.extend(told(ReservationsReleased, "c"));
        }
        assert_eq!((outcome.attentions, outcome.abort), (expected, vec![]));
        assert_eq!((keys(&state), state.generation()), (vec![0xb, 0xc], 4));
        assert_eq!(held(&state), Some((new, if new == WE_AR { '-' } else { 'b' })));
    }
}

#[test]
fn another_key_only_removes_registrations() {
    for kind in [WE, EA, WE_RO, EA_RO, WE_AR, EA_AR] {
        let mut state = reserved("abc", kind);
        let before = held(&state);
        // SCOPE and TYPE are ignored.
        let outcome = good(out(&mut state, &nexus('b'), PREEMPT, 0xff, (0xb, 0xc)));
        assert_eq!(outcome.attentions, told(RegistrationsPreempted, "c"));
        assert_eq!((held(&state), keys(&state)), (before, vec![0xa, 0xb]));
    }
}

#[test]
fn without_a_reservation_registrations_are_removed_and_none_is_made() {
    let mut state = registered("ab");
    let outcome = good(out(&mut state, &nexus('b'), PREEMPT, EA, (0xb, 0xa)));
    assert_eq!(outcome.attentions, told(RegistrationsPreempted, "a"));
    assert_eq!((held(&state), keys(&state), state.generation()), (None, vec![0xb], 3));
}

#[test]
fn a_key_that_nobody_has_is_a_conflict() {
    for mut state in [registered("ab"), reserved("ab", WE), reserved("ab", EA_AR)] {
        for action in [PREEMPT, PREEMPT_AND_ABORT] {
            conflict(out(&mut state, &nexus('b'), action, WE, (0xb, 0xd)));
        }
    }
}

#[test]
fn zero_means_everybody_where_everybody_holds_and_is_wrong_elsewhere() {
    for kind in [WE_AR, EA_AR] {
        let mut state = reserved("abc", kind);
        let outcome = good(out(&mut state, &nexus('b'), PREEMPT, WE, (0xb, 0)));
        assert_eq!(outcome.attentions, told(RegistrationsPreempted, "ac"));
        assert_eq!((held(&state), keys(&state)), (Some((WE, 'b')), vec![0xb]));
    }
    let states = [registered("ab"), reserved("ab", WE), reserved("ab", EA_RO)];
    for mut state in states {
        wrong_list(out(&mut state, &nexus('b'), PREEMPT, WE, (0xb, 0)), 8, None);
    }
}

#[test]
fn a_holder_preempts_itself_to_change_the_type() {
    let mut state = reserved("ab", WE);
    let outcome = good(out(&mut state, &nexus('a'), PREEMPT, EA_RO, (0xa, 0xa)));
    assert_eq!(outcome.attentions, told(ReservationsReleased, "b"));
    assert_eq!((held(&state), keys(&state)), (Some((EA_RO, 'a')), vec![0xa, 0xb]));
    quiet(out(&mut state, &nexus('a'), PREEMPT, EA_RO, (0xa, 0xa)));
}

#[test]
fn who_holds_nothing_and_preempts_its_own_key_unregisters() {
    let mut state = reserved("ab", WE);
    quiet(out(&mut state, &nexus('b'), PREEMPT, EA, (0xb, 0xb)));
    assert_eq!((held(&state), keys(&state)), (Some((WE, 'a')), vec![0xa]));
    let mut state = reserved("ab", EA_AR);
    quiet(out(&mut state, &nexus('b'), PREEMPT, EA, (0xb, 0xb)));
    assert_eq!(held(&state), Some((EA_AR, '-')));
    quiet(out(&mut state, &nexus('a'), PREEMPT, EA, (0xa, 0xa)));
    assert_eq!((held(&state), keys(&state)), (None, vec![]));
}

#[test]
fn everybody_with_the_key_goes_but_the_sender_of_a_replacement() {
    let mut state = Reservations::new();
    for letter in ['a', 'b', 'c'] {
        quiet(out(&mut state, &nexus(letter), REGISTER, 0, (0, 1)));
    }
    quiet(out(&mut state, &nexus('a'), RESERVE, EA, (1, 0)));
    let outcome = good(out(&mut state, &nexus('b'), PREEMPT_AND_ABORT, EA, (1, 1)));
    assert_eq!(outcome.attentions, told(RegistrationsPreempted, "ac"));
    assert_eq!(outcome.abort, ['a', 'b', 'c'].map(nexus));
    assert_eq!((held(&state), keys(&state)), (Some((EA, 'b')), vec![1]));
}

#[test]
fn types_and_scopes_that_do_not_exist_are_refused_for_a_replacement() {
    let mut state = reserved("ab", WE);
    for action in [PREEMPT, PREEMPT_AND_ABORT] {
        wrong_cdb(out(&mut state, &nexus('b'), action, 2, (0xb, 0xa)), 2, Some(3));
        wrong_cdb(out(&mut state, &nexus('b'), action, 0x11, (0xb, 0xa)), 2, Some(7));
    }
}

#[test]
fn to_abort_names_everybody_with_the_key() {
    let mut state = reserved("abc", WE);
    let outcome = good(out(&mut state, &nexus('b'), PREEMPT_AND_ABORT, WE, (0xb, 0xc)));
    assert_eq!(outcome.abort, [nexus('c')]);
    let outcome = good(out(&mut state, &nexus('b'), PREEMPT_AND_ABORT, WE, (0xb, 0xa)));
    assert_eq!(outcome.abort, [nexus('a')]);
    let mut state = reserved("abc", EA_AR);
    let outcome = good(out(&mut state, &nexus('b'), PREEMPT_AND_ABORT, WE, (0xb, 0)));
    assert_eq!(outcome.abort, ['a', 'b', 'c'].map(nexus));
    assert_eq!(keys(&state), [0xb]);
}

#[test]
fn what_was_preempted_must_be_stored() {
    let mut state = Reservations::new();
    for letter in ['a', 'b'] {
        fine(send(&mut state, &nexus(letter), REGISTER, 0, &basic(0, key(letter), APTPL)));
    }
    assert!(good(out(&mut state, &nexus('a'), PREEMPT, WE, (0xa, 0xb))).persist);
}
