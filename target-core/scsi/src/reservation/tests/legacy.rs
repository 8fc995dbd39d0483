//! RESERVE and RELEASE of SPC-2.

use super::*;

const RESERVE_6: [u8; 6] = [0x16, 0, 0, 0, 0, 0];
const RELEASE_6: [u8; 6] = [0x17, 0, 0, 0, 0, 0];
const RESERVE_10: [u8; 10] = [0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const RELEASE_10: [u8; 10] = [0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn reserve(state: &mut Reservations, letter: char) -> Verdict {
    state.reserve_unit(Cdb::new(&RESERVE_6), &nexus(letter))
}

fn release(state: &mut Reservations, letter: char) -> Verdict {
    state.release_unit(Cdb::new(&RELEASE_6), &nexus(letter))
}

#[test]
fn two_initiators_take_turns() {
    let mut state = Reservations::new();
    assert_eq!(reserve(&mut state, 'a'), Verdict::Good);
    assert_eq!(reserve(&mut state, 'a'), Verdict::Good);
    assert_eq!(reserve(&mut state, 'b'), Verdict::ReservationConflict);
    assert_eq!(release(&mut state, 'b'), Verdict::Good);
    assert_eq!(state.unit_reservation(), Some(&nexus('a')));
    assert_eq!(release(&mut state, 'a'), Verdict::Good);
    assert_eq!(state.reserve_unit(Cdb::new(&RESERVE_10), &nexus('b')), Verdict::Good);
    assert_eq!(state.release_unit(Cdb::new(&RELEASE_10), &nexus('b')), Verdict::Good);
    assert!(state.is_idle());
}

#[test]
fn a_reset_and_the_loss_of_the_nexus_end_it() {
    let mut state = Reservations::new();
    assert_eq!(reserve(&mut state, 'a'), Verdict::Good);
    state.nexus_lost(&nexus('b'));
    state.nexus_lost(&elsewhere('a'));
    assert!(!state.is_idle());
    state.nexus_lost(&nexus('a'));
    assert!(state.is_idle());
    assert_eq!(reserve(&mut state, 'b'), Verdict::Good);
    state.reset();
    assert_eq!(state, Reservations::new());
}

#[test]
fn neither_method_works_while_the_other_one_is_in_use() {
    let mut state = Reservations::new();
    assert_eq!(reserve(&mut state, 'a'), Verdict::Good);
    for from in ['a', 'b'] {
        conflict(out(&mut state, &nexus(from), REGISTER, 0, (0, 1)));
        let mut reply = Vec::new();
        let verdict = state.persistent_reserve_in(Cdb::new(&[0x5e, 0]), &mut reply);
        assert_eq!(verdict, Verdict::ReservationConflict);
    }
    for mut state in [registered("a"), reserved("a", WE)] {
        for from in ['a', 'b'] {
            assert_eq!(reserve(&mut state, from), Verdict::ReservationConflict);
            assert_eq!(release(&mut state, from), Verdict::ReservationConflict);
        }
    }
}

#[test]
fn third_parties_and_extents_are_refused() {
    let mut state = Reservations::new();
    for (bits, bit) in [(0x10, 4), (0x12, 4), (0x01, 0), (0x02, 1)] {
        let sense = Sense::invalid_field_in_cdb(1, Some(bit));
        for code in [0x16, 0x56] {
            let verdict = state.reserve_unit(Cdb::new(&[code, bits]), &nexus('a'));
            assert_eq!(verdict, Verdict::Check(sense));
        }
        let verdict = state.release_unit(Cdb::new(&[0x57, bits]), &nexus('a'));
        assert_eq!(verdict, Verdict::Check(sense));
    }
    let with_list = Cdb::new(&[0x56, 0, 0, 0, 0, 0, 0, 0, 8, 0]);
    let sense = Sense::invalid_field_in_cdb(7, None);
    assert_eq!(state.reserve_unit(with_list, &nexus('a')), Verdict::Check(sense));
    assert!(state.is_idle());
}

#[test]
fn it_is_not_stored() {
    let mut state = Reservations::new();
    assert_eq!(reserve(&mut state, 'a'), Verdict::Good);
    assert_eq!(Reservations::from_bytes(&state.to_bytes()), Ok(Reservations::new()));
}
