//! Whatever is sent, the state stays sound.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Out { from: usize, action: u8, kind: u8, keys: (u64, u64), flags: u8, ids: Vec<Vec<u8>> },
    Bytes { from: usize, cdb: Vec<u8>, list: Vec<u8> },
    Legacy { from: usize, reserve: bool },
    Lost(usize),
    Reset,
    PowerLoss,
}

fn nexuses() -> [Nexus; 4] {
    [nexus('a'), nexus('b'), elsewhere('a'), nexus('d')]
}

fn step() -> impl Strategy<Value = Step> {
    let id = prop::sample::select(vec![
        port_id('a', 1),
        port_id('b', 1),
        port_id('d', 2),
        name_id("d"),
        name_id("nobody"),
    ]);
    let kind = prop_oneof![9 => prop::sample::select(vec![WE, EA, WE_RO, EA_RO, WE_AR, EA_AR]),
        1 => any::<u8>()];
    let out = (0..4usize, 0..9u8, kind, (0..4u64, 0..4u64), any::<u8>())
        .prop_flat_map(move |fields| (Just(fields), prop::collection::vec(id.clone(), 0..3)))
        .prop_map(|((from, action, kind, keys, flags), ids)| Step::Out {
            from,
            action,
            kind,
            keys,
            flags,
            ids,
        });
    let bytes = prop::collection::vec(any::<u8>(), 0..16);
    let list = prop::collection::vec(any::<u8>(), 0..80);
    prop_oneof![
        20 => out,
        3 => (0..4usize, bytes, list).prop_map(|(from, cdb, list)| Step::Bytes { from, cdb, list }),
        2 => (0..4usize, any::<bool>()).prop_map(|(from, reserve)| Step::Legacy { from, reserve }),
        1 => (0..4usize).prop_map(Step::Lost),
        1 => Just(Step::Reset),
        1 => Just(Step::PowerLoss),
    ]
}

fn list_of(action: u8, keys: (u64, u64), flags: u8, ids: &[Vec<u8>]) -> Vec<u8> {
    match (action, ids) {
        (REGISTER_AND_MOVE, [id, ..]) => {
            movement(keys.0, keys.1, flags, u16::from(flags >> 4 & 3), id)
        }
        (REGISTER, _) if flags & SPEC_I_PT != 0 => specify(keys.0, keys.1, flags, ids),
        _ => basic(keys.0, keys.1, flags & !SPEC_I_PT),
    }
}

proptest! {
    #[test]
    fn no_sequence_of_commands_breaks_the_state(
        start_lost in prop::bool::weighted(0.1),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let nexuses = nexuses();
        let mut state = if start_lost { Reservations::lost() } else { Reservations::new() };
        for step in steps {
            match step {
                Step::Out { from, action, kind, keys, flags, ids } => {
                    let list = list_of(action, keys, flags, &ids);
                    let allowed = state.check(&nexuses[from], out_cdb(action, kind, 24));
                    let outcome = send(&mut state, &nexuses[from], action, kind, &list);
                    prop_assert!(allowed || outcome.verdict != Verdict::Good);
                }
                Step::Bytes { from, mut cdb, list } => {
                    if let Some(first) = cdb.first_mut() {
                        *first = 0x5f;
                    }
                    let cdb = Cdb::new(&cdb);
                    let _ = state.persistent_reserve_out(cdb, &list, &nexuses[from], &Fabric);
                }
                Step::Legacy { from, reserve } => {
                    let _ = if reserve {
                        state.reserve_unit(Cdb::new(&[0x16]), &nexuses[from])
                    } else {
                        state.release_unit(Cdb::new(&[0x17]), &nexuses[from])
                    };
                }
                Step::Lost(from) => state.nexus_lost(&nexuses[from]),
                Step::Reset => state.reset(),
                Step::PowerLoss => state = Reservations::from_bytes(&state.to_bytes()).unwrap(),
            }
            check_invariants(&state);
            for action in 0..4 {
                let cdb = Cdb::new(&[0x5e, action, 0, 0, 0, 0, 0, 0xff, 0xff, 0]);
                let _ = state.persistent_reserve_in(cdb, &mut Vec::new());
            }
            let restored = Reservations::from_bytes(&state.to_bytes()).unwrap();
            prop_assert_eq!(restored.to_bytes(), state.to_bytes());
        }
    }

    #[test]
    fn no_bytes_break_a_parameter_list(
        action in 0..10u8,
        kind in any::<u8>(),
        list in prop::collection::vec(any::<u8>(), 0..200),
        flags in any::<u8>(),
    ) {
        let mut list = list;
        if let Some(byte) = list.get_mut(20) {
            *byte = flags;
        }
        for mut state in [Reservations::new(), reserved("ab", WE), Reservations::lost()] {
            let _ = send(&mut state, &nexus('a'), action, kind, &list);
            check_invariants(&state);
        }
    }

    #[test]
    fn no_cdb_breaks_the_check(cdb in prop::collection::vec(any::<u8>(), 0..17)) {
        let cdb = Cdb::new(&cdb);
        for kind in [WE, EA, WE_RO, EA_RO, WE_AR, EA_AR] {
            let state = reserved("ab", kind);
            // The holder is refused nothing but RESERVE and RELEASE.
            let legacy = matches!(cdb.operation_code(), 0x16 | 0x17 | 0x56 | 0x57);
            prop_assert_eq!(state.check(&nexus('a'), cdb), !legacy);
            // Who is not registered gets no more than who is.
            prop_assert!(state.check(&nexus('b'), cdb) || !state.check(&nexus('c'), cdb));
            let _ = state.information_lost(cdb);
        }
    }

    #[test]
    fn stored_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(state) = Reservations::from_bytes(&bytes) {
            prop_assert_eq!(state.to_bytes(), bytes);
        }
    }

    #[test]
    fn every_port_has_a_transport_id_that_reads_as_the_port(
        name in "[a-z0-9.:-]{1,223}",
        isid in any::<[u8; 6]>(),
    ) {
        let port = InitiatorPort::new(&name, isid);
        let mut bytes = Vec::new();
        let length = TransportId::append(&port, &mut bytes);
        prop_assert_eq!(TransportId::parse(&bytes), Ok((TransportId::Port(port), length)));
    }

    #[test]
    fn no_bytes_break_a_transport_id(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok((_, length)) = TransportId::parse(&bytes) {
            prop_assert!(length <= bytes.len());
        }
    }
}
