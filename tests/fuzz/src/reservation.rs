//! Reservation commands of two nexuses, one after the other, with any parameters.
#![no_main]

use scsi::reservation::{InitiatorPort, Nexus, Ports, Reservations};
use scsi::{Cdb, Port};

struct Known(Vec<Nexus>);

impl Ports for Known {
    fn initiators(&self, name: &str) -> Vec<InitiatorPort> {
        let all = self.0.iter().map(|nexus| &nexus.initiator);
        all.filter(|port| port.name() == name).cloned().collect()
    }

    fn targets(&self) -> Vec<Port> {
        self.0.iter().take(1).map(|nexus| nexus.target.clone()).collect()
    }
}

fn nexus(number: u8) -> Nexus {
    let target = Port {
        target_name: "iqn.2026-01.io.lund:t".to_owned(),
        target_portal_group_tag: 1,
        relative_target_port_id: 1,
    };
    Nexus {
        initiator: InitiatorPort::new("iqn.2026-01.io.lund:i", [0, 0, 0, 0, 0, number]),
        target,
    }
}

/// Each step is a byte for nexus and length, a CDB of ten bytes, and the parameter list.
fn run(mut input: &[u8]) {
    let known = Known(vec![nexus(0), nexus(1)]);
    let mut state = Reservations::new();
    let mut reply = Vec::new();
    while let Some((&[head, ref cdb @ ..], rest)) = input.split_first_chunk::<11>() {
        let (list, rest) = rest.split_at(rest.len().min(usize::from(head >> 1)));
        input = rest;
        let Some(nexus) = known.0.get(usize::from(head & 1)) else { return };
        let cdb = Cdb::new(cdb);
        match cdb.operation_code() & 7 {
            0 => drop(state.persistent_reserve_in(cdb, &mut reply)),
            1 => drop(state.reserve_unit(cdb, nexus)),
            2 => drop(state.release_unit(cdb, nexus)),
            3 => state.nexus_lost(nexus),
            _ => drop(state.persistent_reserve_out(cdb, list, nexus, &known)),
        }
        let _ = state.check(nexus, cdb);
        // What is kept can be read again, and is all there.
        let kept = Reservations::from_bytes(&state.to_bytes()).expect("its own bytes");
        if state.persists_through_power_loss() {
            assert!(kept.registrations().eq(state.registrations()));
            assert_eq!(kept.reservation(), state.reservation());
        }
        let _ = Reservations::from_bytes(list);
    }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| run(input));
