//! PREEMPT and PREEMPT AND ABORT (SPC-4 §5.13.11.2.4 to §5.13.11.2.6).

use std::num::NonZeroU64;

use super::Verdict;
use super::out::{Effects, Request};
use super::parameters::wrong;
use super::state::{Held, Registration, Reservations};
use crate::unit_attention::UnitAttention;

impl Reservations {
    pub(super) fn preempt(
        &mut self,
        request: Request<'_>,
        abort: bool,
        effects: &mut Effects,
    ) -> Result<(), Verdict> {
        let Request { nexus, list, .. } = request;
        self.verify_key(nexus, list.reservation_key)?;
        let key = NonZeroU64::new(list.service_action_key);
        let all_registrants =
            self.reservation.as_ref().is_some_and(|held| held.kind.is_all_registrants());
        // Zero stands for everybody, and only where everybody holds the reservation (table 72).
        if key.is_none() && !all_registrants {
            return Err(wrong(8, None).into());
        }
        let is_meant = |one: &Registration| key.is_none_or(|key| one.key == key);
        let preempted = self.registrations.iter().filter(|one| is_meant(one));
        let preempted: Vec<_> = preempted.map(|one| one.nexus.clone()).collect();
        if preempted.is_empty() {
            return Err(Verdict::ReservationConflict);
        }
        if key.is_none() || key == self.holder_key() {
            self.replace(request, is_meant, effects)?;
        } else {
            // SCOPE and TYPE are ignored. The sender may remove its own registration too.
            let (removed, _) = self.remove(is_meant);
            effects.tell(&removed, nexus, UnitAttention::RegistrationsPreempted);
        }
        if abort {
            effects.abort = preempted;
        }
        self.count_generation();
        Ok(())
    }

    /// Puts a reservation of the sender in the place of the one there is; the sender stays
    /// registered.
    fn replace(
        &mut self,
        request: Request<'_>,
        is_meant: impl Fn(&Registration) -> bool,
        effects: &mut Effects,
    ) -> Result<(), Verdict> {
        let sender = request.nexus;
        let kind = request.kind()?;
        let before = self.reservation.replace(Held::new(kind, sender));
        let (removed, _) = self.remove(|one| one.nexus != *sender && is_meant(one));
        effects.tell(&removed, sender, UnitAttention::RegistrationsPreempted);
        if before.is_some_and(|held| held.kind != kind) {
            let others = self.registrations.iter().map(|one| &one.nexus);
            effects.tell(others, sender, UnitAttention::ReservationsReleased);
        }
        Ok(())
    }
}
