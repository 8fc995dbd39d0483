//! REGISTER AND MOVE (SPC-4 §5.13.8).

use std::num::NonZeroU64;

use super::nexus::{Nexus, TransportId};
use super::parameters::{Move, wrong};
use super::register::NO_ROOM;
use super::state::Reservations;
use super::{Ports, Verdict};
use crate::sense::Sense;

impl Reservations {
    /// Makes another nexus the holder of the reservation. SCOPE and TYPE are ignored.
    pub(super) fn register_and_move(
        &mut self,
        list: &Move,
        nexus: &Nexus,
        ports: &dyn Ports,
    ) -> Result<(), Verdict> {
        self.verify_key(nexus, list.reservation_key)?;
        let Some(held) = &self.reservation else {
            return Err(Sense::invalid_field_in_cdb(1, Some(4)).into());
        };
        if held.holder.as_ref() != Some(nexus) {
            // Somebody else holds it, or all registrants do.
            return Err(Verdict::ReservationConflict);
        }
        let key = NonZeroU64::new(list.service_action_key).ok_or(wrong(8, None))?;
        let to = destination(list, nexus, ports)?;
        self.set_key(&to, key);
        if self.registrations.len() > Self::MAX_REGISTRATIONS {
            return Err(NO_ROOM.into());
        }
        if let Some(held) = &mut self.reservation {
            held.holder = Some(to);
        }
        if list.unregister {
            self.remove(|one| one.nexus == *nexus);
        }
        self.aptpl = list.aptpl;
        self.count_generation();
        Ok(())
    }
}

fn destination(list: &Move, nexus: &Nexus, ports: &dyn Ports) -> Result<Nexus, Sense> {
    let wrong_initiator = wrong(Move::TRANSPORT_ID_AT, None);
    let initiator = match &list.initiator {
        TransportId::Port(port) => port.clone(),
        // A reservation moves to one port: the name must leave no choice.
        TransportId::Initiator(name) => match <[_; 1]>::try_from(ports.initiators(name)) {
            Ok([port]) => port,
            Err(_) => return Err(wrong_initiator),
        },
    };
    if initiator == nexus.initiator {
        return Err(wrong_initiator);
    }
    let wanted = list.relative_target_port;
    let target = if nexus.target.relative_target_port_id == wanted {
        nexus.target.clone()
    } else {
        let mut targets = ports.targets().into_iter();
        targets.find(|port| port.relative_target_port_id == wanted).ok_or(wrong(18, None))?
    };
    Ok(Nexus { initiator, target })
}
