//! RESERVE, RELEASE and CLEAR.

use super::*;

const INVALID_RELEASE: AdditionalSense = AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION;

#[test]
fn every_type_is_reserved_again_by_its_holder_and_released() {
    for kind in [WE, EA, WE_RO, EA_RO, WE_AR, EA_AR] {
        let mut state = registered("a");
        for action in [RESERVE, RESERVE, RELEASE, RELEASE] {
            quiet(out(&mut state, &nexus('a'), action, kind, (0xa, 0x99)));
            let is_held = action == RESERVE;
            assert_eq!(held(&state).map(|(kind, _)| kind), is_held.then_some(kind));
        }
        assert_eq!((keys(&state), state.generation()), (vec![0xa], 1));
    }
}

#[test]
fn who_is_not_registered_or_has_the_wrong_key_gets_a_conflict() {
    for action in [RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT] {
        let mut state = reserved("ab", WE_AR);
        conflict(out(&mut state, &nexus('c'), action, WE_AR, (0, 0xa)));
        conflict(out(&mut state, &nexus('c'), action, WE_AR, (0xa, 0xa)));
        conflict(out(&mut state, &nexus('a'), action, WE_AR, (0, 0xa)));
        conflict(out(&mut state, &nexus('a'), action, WE_AR, (0xb, 0xa)));
        // The key comes before the scope (SPC-4 §6.16.3).
        conflict(out(&mut state, &nexus('a'), action, 0x1f, (0xb, 0xa)));
    }
}

#[test]
fn a_second_reservation_is_a_conflict() {
    for kind in [WE, EA, WE_RO, EA_RO] {
        let mut state = reserved("ab", kind);
        conflict(out(&mut state, &nexus('b'), RESERVE, kind, (0xb, 0)));
    }
    for (kind, other) in [(WE, EA), (WE_RO, EA_RO), (WE_AR, EA_AR)] {
        let mut state = reserved("ab", kind);
        conflict(out(&mut state, &nexus('a'), RESERVE, other, (0xa, 0)));
        conflict(out(&mut state, &nexus('b'), RESERVE, other, (0xb, 0)));
        assert_eq!(held(&state).unwrap().0, kind);
    }
}

#[test]
fn types_and_scopes_that_do_not_exist_are_refused() {
    let mut state = registered("a");
    for kind in [0, 2, 4, 9, 10, 11, 12, 13, 14, 15] {
        wrong_cdb(out(&mut state, &nexus('a'), RESERVE, kind, (0xa, 0)), 2, Some(3));
    }
    for scope in 1..16 {
        for action in [RESERVE, RELEASE] {
            let outcome = out(&mut state, &nexus('a'), action, scope << 4 | WE, (0xa, 0));
            wrong_cdb(outcome, 2, Some(7));
        }
    }
}

#[test]
fn the_release_of_another_type_is_an_invalid_release() {
    let mut state = reserved("ab", WE);
    for kind in [0, EA, WE_RO, 15] {
        refused(out(&mut state, &nexus('a'), RELEASE, kind, (0xa, 0)), INVALID_RELEASE, None);
    }
    // Who holds nothing releases nothing, of whatever type.
    quiet(out(&mut state, &nexus('b'), RELEASE, EA, (0xb, 0)));
    quiet(out(&mut state, &nexus('b'), RELEASE, WE, (0xb, 0)));
    assert_eq!(held(&state), Some((WE, 'a')));
}

#[test]
fn a_release_tells_the_registrants_of_the_types_that_let_them_in() {
    for (kind, expected) in [(WE, ""), (EA, ""), (WE_RO, "bc"), (EA_RO, "bc")] {
        let mut state = reserved("abc", kind);
        let outcome = good(out(&mut state, &nexus('a'), RELEASE, kind, (0xa, 0)));
        assert_eq!(outcome.attentions, told(UnitAttention::ReservationsReleased, expected));
    }
    for kind in [WE_AR, EA_AR] {
        let mut state = reserved("abc", kind);
        let outcome = good(out(&mut state, &nexus('b'), RELEASE, kind, (0xb, 0)));
        assert_eq!(outcome.attentions, told(UnitAttention::ReservationsReleased, "ac"));
        assert_eq!((held(&state), keys(&state).len()), (None, 3));
    }
}

#[test]
fn a_changed_key_keeps_the_reservation() {
    let mut state = reserved("ab", EA);
    quiet(out(&mut state, &nexus('a'), REGISTER, 0, (0xa, 0xaa)));
    assert_eq!(held(&state), Some((EA, 'a')));
    conflict(out(&mut state, &nexus('a'), RELEASE, EA, (0xa, 0)));
    quiet(out(&mut state, &nexus('a'), RELEASE, EA, (0xaa, 0)));
}

#[test]
fn clear_removes_everything_and_tells_everybody_else() {
    for kind in [WE, EA, WE_RO, EA_RO, WE_AR, EA_AR] {
        let mut state = reserved("abc", kind);
        // SCOPE and TYPE are ignored.
        let outcome = good(out(&mut state, &nexus('b'), CLEAR, 0xff, (0xb, 0)));
        assert_eq!(outcome.attentions, told(UnitAttention::ReservationsPreempted, "ac"));
        assert_eq!((held(&state), keys(&state), state.generation()), (None, vec![], 4));
    }
    let mut state = registered("a");
    quiet(out(&mut state, &nexus('a'), CLEAR, 0, (0xa, 0)));
}

#[test]
fn clear_keeps_aptpl() {
    let mut state = Reservations::new();
    fine(send(&mut state, &nexus('a'), REGISTER, 0, &basic(0, 1, APTPL)));
    let outcome = good(out(&mut state, &nexus('a'), CLEAR, 0, (1, 0)));
    assert!(outcome.persist && state.persists_through_power_loss());
}

#[test]
fn persistent_reservations_survive_resets_and_a_lost_nexus() {
    let mut state = reserved("ab", EA);
    let before = state.clone();
    state.nexus_lost(&nexus('a'));
    state.reset();
    assert_eq!(state, before);
}

#[test]
fn service_actions_that_do_not_exist_are_refused() {
    let mut state = registered("a");
    for action in 9..32 {
        wrong_cdb(out(&mut state, &nexus('a'), action, WE, (0xa, 0)), 1, Some(4));
    }
}

#[test]
fn the_generation_wraps() {
    let mut state = Reservations { generation: u32::MAX, ..registered("a") };
    quiet(out(&mut state, &nexus('a'), REGISTER, 0, (0xa, 1)));
    assert_eq!(state.generation(), 0);
}
