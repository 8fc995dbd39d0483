//! REGISTER and REGISTER AND IGNORE EXISTING KEY (SPC-4 §5.13.7, §5.13.11.2.3).

use std::num::NonZeroU64;

use super::nexus::{InitiatorPort, Nexus, TransportId};
use super::out::{Effects, Request};
use super::parameters::wrong;
use super::state::{ReservationType, Reservations};
use super::{Ports, Verdict};
use crate::asc::AdditionalSense;
use crate::device::Port;
use crate::sense::Sense;
use crate::unit_attention::UnitAttention;

pub(super) const NO_ROOM: Sense =
    Sense::illegal(AdditionalSense::INSUFFICIENT_REGISTRATION_RESOURCES);

impl Reservations {
    pub(super) fn register(
        &mut self,
        request: Request<'_>,
        ignore_existing_key: bool,
        ports: &dyn Ports,
        effects: &mut Effects,
    ) -> Result<(), Verdict> {
        let Request { nexus, list, .. } = request;
        let targets = if list.all_target_ports {
            with(ports.targets(), &nexus.target)
        } else {
            vec![nexus.target.clone()]
        };
        // ALL_TG_PT: as if the request had come through each of the target ports.
        let own = nexuses(&nexus.initiator, &targets);
        if !ignore_existing_key {
            for nexus in &own {
                let registered = self.key_of(nexus).map_or(0, NonZeroU64::get);
                if registered != list.reservation_key {
                    return Err(Verdict::ReservationConflict);
                }
            }
        }
        let is_registered = own.iter().any(|nexus| self.key_of(nexus).is_some());
        if is_registered && list.initiators.is_some() {
            return Err(wrong(20, Some(3)).into());
        }
        match NonZeroU64::new(list.service_action_key) {
            // Table 67: do nothing except return GOOD status.
            None if !is_registered => return Ok(()),
            None => self.unregister(&own, nexus, effects),
            Some(key) => {
                let others = self.specified(list.initiators.as_deref(), &targets, ports)?;
                for nexus in own.iter().chain(&others) {
                    self.set_key(nexus, key);
                }
                if self.registrations.len() > Self::MAX_REGISTRATIONS {
                    return Err(NO_ROOM.into());
                }
            }
        }
        self.aptpl = list.aptpl;
        self.count_generation();
        Ok(())
    }

    fn unregister(&mut self, nexuses: &[Nexus], sender: &Nexus, effects: &mut Effects) {
        let (_, released) = self.remove(|one| nexuses.contains(&one.nexus));
        // All registrants release with the last of them: nobody is left to be told.
        if released.is_some_and(ReservationType::is_for_registrants) {
            let others = self.registrations.iter().map(|one| &one.nexus);
            effects.tell(others, sender, UnitAttention::ReservationsReleased);
        }
    }

    /// The nexuses that SPEC_I_PT adds; none of them may be registered. The sender may be among
    /// them, since a name stands for all of its ports.
    fn specified(
        &self,
        list: Option<&[(usize, TransportId)]>,
        targets: &[Port],
        ports: &dyn Ports,
    ) -> Result<Vec<Nexus>, Sense> {
        let mut found = Vec::new();
        for (at, id) in list.unwrap_or_default() {
            let initiators = match id {
                TransportId::Initiator(name) => ports.initiators(name),
                TransportId::Port(port) => vec![port.clone()],
            };
            for nexus in initiators.iter().flat_map(|initiator| nexuses(initiator, targets)) {
                // Named twice, for instance by its name and on its own.
                if found.contains(&nexus) {
                    continue;
                }
                if self.key_of(&nexus).is_some() {
                    return Err(wrong(*at, None));
                }
                if found.len() >= Self::MAX_REGISTRATIONS {
                    return Err(NO_ROOM);
                }
                found.push(nexus);
            }
        }
        Ok(found)
    }
}

fn nexuses(initiator: &InitiatorPort, targets: &[Port]) -> Vec<Nexus> {
    targets
        .iter()
        .map(|target| Nexus { initiator: initiator.clone(), target: target.clone() })
        .collect()
}

/// The list, with `port` in it.
fn with(mut ports: Vec<Port>, port: &Port) -> Vec<Port> {
    if !ports.contains(port) {
        ports.push(port.clone());
    }
    ports
}
