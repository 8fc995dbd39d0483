//! PERSISTENT RESERVE IN.

use super::*;

fn read(state: &Reservations, action: u8, allocation_length: u16) -> Vec<u8> {
    let [high, low] = allocation_length.to_be_bytes();
    let mut reply = vec![0xff];
    let cdb = Cdb::new(&[0x5e, action, 0, 0, 0, 0, 0, high, low, 0]);
    assert_eq!(state.persistent_reserve_in(cdb, &mut reply), Verdict::Good);
    reply
}

#[test]
fn read_keys_reports_every_key_in_order() {
    assert_eq!(read(&Reservations::new(), 0, 255), [0; 8]);
    let mut state = registered("ab");
    quiet(out(&mut state, &nexus('c'), REGISTER, 0, (0, 0xa)));
    let mut expected = vec![0, 0, 0, 3, 0, 0, 0, 24];
    for key in [0xa_u64, 0xb, 0xa] {
        expected.extend(key.to_be_bytes());
    }
    assert_eq!(read(&state, 0, 255), expected);
}

#[test]
fn read_reservation_reports_type_and_key() {
    assert_eq!(read(&registered("a"), 1, 255), [0, 0, 0, 1, 0, 0, 0, 0]);
    for kind in [WE, EA, WE_RO, EA_RO, WE_AR, EA_AR] {
        let key = if matches!(kind, WE_AR | EA_AR) { 0 } else { 0xa };
        let reply = read(&reserved("ba", kind), 1, 255);
        assert_eq!(reply[..8], [0, 0, 0, 2, 0, 0, 0, 16]);
        assert_eq!(reply[8..], [0, 0, 0, 0, 0, 0, 0, key, 0, 0, 0, 0, 0, kind, 0, 0]);
    }
}

#[test]
fn report_capabilities_promises_what_there_is() {
    let mut state = registered("a");
    assert_eq!(read(&state, 2, 255), [0, 8, 0x8d, 0xc0, 0xea, 0x01, 0, 0]);
    fine(send(&mut state, &nexus('a'), REGISTER, 0, &basic(0xa, 1, APTPL)));
    let reply = read(&state, 2, 255);
    assert_eq!(reply[3], 0xc1);
    let mask = u16::from_be_bytes([reply[5], reply[4]]);
    for kind in ReservationType::ALL {
        // Table 209 numbers the bits like the types: byte 4 holds those below 8.
        assert_ne!(mask & 1 << kind.code(), 0, "{kind:?}");
    }
    assert_eq!(mask.count_ones(), 6);
}

#[test]
fn read_full_status_describes_every_nexus() {
    let mut state = reserved("a", EA);
    quiet(out(&mut state, &elsewhere('b'), REGISTER, 0, (0, 0xb)));
    let reply = read(&state, 3, u16::MAX);
    assert_eq!(reply[..4], [0, 0, 0, 2]);
    assert_eq!(reply[4..8], u32::try_from(reply.len() - 8).unwrap().to_be_bytes());
    let mut rest = &reply[8..];
    for (letter, holder, kind, port) in [('a', 1, EA, 1), ('b', 0, 0, 2)] {
        let id = port_id(letter, 1);
        let (descriptor, behind) = rest.split_at(24 + id.len());
        assert_eq!(descriptor[..8], key(letter).to_be_bytes());
        assert_eq!(descriptor[8..20], [0, 0, 0, 0, holder, kind, 0, 0, 0, 0, 0, port]);
        assert_eq!(descriptor[20..24], u32::try_from(id.len()).unwrap().to_be_bytes());
        assert_eq!(descriptor[24..], id);
        rest = behind;
    }
    assert!(rest.is_empty());
}

#[test]
fn read_full_status_calls_every_registrant_a_holder_where_all_of_them_are() {
    let reply = read(&reserved("ab", WE_AR), 3, u16::MAX);
    let length = 24 + port_id('a', 1).len();
    assert_eq!((reply[8 + 12], reply[8 + 13]), (1, WE_AR));
    assert_eq!((reply[8 + length + 12], reply[8 + length + 13]), (1, WE_AR));
}

#[test]
fn every_reply_is_cut_to_the_allocation_length_and_keeps_its_own_length() {
    let state = reserved("abc", WE);
    for action in 0..4 {
        let whole = read(&state, action, u16::MAX);
        for length in 0..whole.len() + 2 {
            let reply = read(&state, action, u16::try_from(length).unwrap());
            assert_eq!(reply, whole[..length.min(whole.len())]);
        }
    }
}

#[test]
fn service_actions_that_do_not_exist_are_refused() {
    for action in 4..32 {
        let mut reply = vec![1];
        let verdict =
            Reservations::new().persistent_reserve_in(Cdb::new(&[0x5e, action]), &mut reply);
        assert_eq!(verdict, Verdict::Check(Sense::invalid_field_in_cdb(1, Some(4))));
        assert!(reply.is_empty());
    }
}

#[test]
fn the_generation_counts_what_changes_registrations_and_nothing_else() {
    let mut state = Reservations::new();
    let mut expect = |from, action, kind, keys, generation| {
        fine(out(&mut state, &nexus(from), action, kind, keys));
        assert_eq!(read(&state, 0, 4), u32::to_be_bytes(generation));
    };
    expect('a', REGISTER, 0, (0, 0xa), 1);
    expect('b', REGISTER_AND_IGNORE, 0, (0, 0xb), 2);
    expect('c', REGISTER, 0, (0, 0), 2);
    expect('a', RESERVE, WE, (0xa, 0), 2);
    expect('a', RELEASE, WE, (0xa, 0), 2);
    expect('a', RESERVE, EA, (0xa, 0), 2);
    expect('b', PREEMPT, EA, (0xb, 0xa), 3);
    expect('a', REGISTER, 0, (0, 0xa), 4);
    expect('b', PREEMPT_AND_ABORT, EA, (0xb, 0xa), 5);
    expect('b', CLEAR, 0, (0xb, 0), 6);
    let list = movement(0xb, 0xd, 0, 1, &port_id('c', 1));
    quiet(out(&mut state, &nexus('b'), REGISTER, 0, (0, 0xb)));
    quiet(out(&mut state, &nexus('b'), RESERVE, EA, (0xb, 0)));
    quiet(send(&mut state, &nexus('b'), REGISTER_AND_MOVE, 0, &list));
    assert_eq!(state.generation(), 8);
    conflict(out(&mut state, &nexus('b'), REGISTER, 0, (1, 2)));
    assert_eq!(state.generation(), 8);
}
