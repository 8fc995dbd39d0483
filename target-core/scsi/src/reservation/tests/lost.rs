//! A lost persistent reservation and its replacement.

use super::*;

#[test]
fn what_was_lost_is_refused_until_it_is_replaced() {
    let state = Reservations::lost();
    assert!(!state.is_idle());
    let runs: [&[u8]; 8] =
        [&[0x03], &[0x12], &[0x1b, 0, 0, 0, 1], &[0x3b], &[0x3c], &[0x4d], &[0xa0], &[0xa3, 0x0a]];
    for cdb in runs {
        assert_eq!(state.information_lost(Cdb::new(cdb)), None, "{cdb:02x?}");
    }
    let refused: [&[u8]; 8] =
        [&[0], &[0x28], &[0x2a], &[0x1b], &[0x5e], &[0x5f], &[0x16], &[0xa3, 0x0c]];
    for cdb in refused {
        let sense = state.information_lost(Cdb::new(cdb)).unwrap();
        assert_eq!(sense.key, SenseKey::DataProtect, "{cdb:02x?}");
        assert_eq!(sense.asc, AdditionalSense(0x44, 0x01));
    }
    for cdb in [&[0x5f_u8][..], &[0x28], &[0x16]] {
        assert_eq!(registered("a").information_lost(Cdb::new(cdb)), None);
    }
}

#[test]
fn no_reservation_command_but_one_is_processed_meanwhile() {
    let mut state = Reservations::lost();
    for action in [REGISTER, RESERVE, CLEAR, REGISTER_AND_IGNORE, REGISTER_AND_MOVE] {
        let outcome = out(&mut state, &nexus('a'), action, WE, (0, 1));
        assert!(matches!(outcome.verdict, Verdict::Check(_)));
    }
    let verdict = state.persistent_reserve_in(Cdb::new(&[0x5e]), &mut Vec::new());
    assert!(matches!(verdict, Verdict::Check(_)));
    let verdict = state.reserve_unit(Cdb::new(&[0x16]), &nexus('a'));
    assert!(matches!(verdict, Verdict::Check(_)));
}

#[test]
fn the_replacement_registers_reserves_and_ends_it() {
    for aptpl in [0, APTPL] {
        let mut state = Reservations::lost();
        let outcome = good(send(&mut state, &nexus('a'), REPLACE_LOST, EA, &basic(0, 0xa, aptpl)));
        assert!(outcome.persist);
        assert_eq!((held(&state), keys(&state)), (Some((EA, 'a')), vec![0xa]));
        assert_eq!((state.generation(), state.persists_through_power_loss()), (0, aptpl == APTPL));
        assert_eq!(state.information_lost(Cdb::new(&[0x28])), None);
    }
}

#[test]
fn a_replacement_that_is_wrong_says_where() {
    let mut state = Reservations::lost();
    let mut attempt = |kind, keys| out(&mut state, &nexus('a'), REPLACE_LOST, kind, keys);
    wrong_list(attempt(WE, (1, 0xa)), 0, None);
    wrong_list(attempt(WE, (0, 0)), 8, None);
    wrong_cdb(attempt(2, (0, 0xa)), 2, Some(3));
    wrong_cdb(attempt(0x11, (0, 0xa)), 2, Some(7));
}

#[test]
fn without_a_loss_there_is_nothing_to_replace() {
    let asc = AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION;
    for mut state in [Reservations::new(), registered("a"), reserved("a", WE)] {
        refused(out(&mut state, &nexus('a'), REPLACE_LOST, WE, (0, 1)), asc, None);
    }
    let mut state = reserved("a", WE);
    conflict(out(&mut state, &nexus('b'), REPLACE_LOST, WE, (0, 1)));
}

#[test]
fn a_loss_survives_a_power_loss_and_a_reset() {
    let mut state = Reservations::from_bytes(&Reservations::lost().to_bytes()).unwrap();
    state.reset();
    assert_eq!(state, Reservations::lost());
}
