//! RESERVE, RELEASE, CLEAR and REPLACE LOST RESERVATION (SPC-4 §5.13.9, §5.13.11.2.2,
//! §5.13.11.2.7, §5.13.11.3).

use std::num::NonZeroU64;

use super::Verdict;
use super::out::{Effects, Request};
use super::parameters::wrong;
use super::state::{Held, Reservations};
use crate::asc::AdditionalSense;
use crate::sense::Sense;
use crate::unit_attention::UnitAttention;

const INVALID_RELEASE: Sense =
    Sense::illegal(AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION);

impl Reservations {
    pub(super) fn reserve(&mut self, request: Request<'_>) -> Result<(), Verdict> {
        self.verify_key(request.nexus, request.list.reservation_key)?;
        let kind = request.kind()?;
        match &self.reservation {
            None => self.reservation = Some(Held::new(kind, request.nexus)),
            // The same once more is no error; a holder changes the type with PREEMPT.
            Some(held) if held.kind == kind && self.is_holder(request.nexus) => {}
            Some(_) => return Err(Verdict::ReservationConflict),
        }
        Ok(())
    }

    pub(super) fn release(
        &mut self,
        request: Request<'_>,
        effects: &mut Effects,
    ) -> Result<(), Verdict> {
        self.verify_key(request.nexus, request.list.reservation_key)?;
        request.check_scope()?;
        if !self.is_holder(request.nexus) {
            // Nothing of this nexus to release, and no error.
            return Ok(());
        }
        let Some(held) = self.reservation.take() else { return Ok(()) };
        if held.kind.code() != request.type_code() {
            return Err(INVALID_RELEASE.into());
        }
        if held.kind.is_for_registrants() {
            let others = self.registrations.iter().map(|one| &one.nexus);
            effects.tell(others, request.nexus, UnitAttention::ReservationsReleased);
        }
        Ok(())
    }

    pub(super) fn clear(
        &mut self,
        request: Request<'_>,
        effects: &mut Effects,
    ) -> Result<(), Verdict> {
        self.verify_key(request.nexus, request.list.reservation_key)?;
        let (removed, _) = self.remove(|_| true);
        effects.tell(&removed, request.nexus, UnitAttention::ReservationsPreempted);
        self.count_generation();
        Ok(())
    }

    /// Ends the lost persistent reservation condition.
    pub(super) fn replace_lost(&mut self, request: Request<'_>) -> Result<(), Verdict> {
        let Request { nexus, list, .. } = request;
        if !self.lost {
            let foreign = self.reservation.is_some() && self.key_of(nexus).is_none();
            return Err(if foreign {
                Verdict::ReservationConflict
            } else {
                INVALID_RELEASE.into()
            });
        }
        // Never RESERVATION CONFLICT (SPC-4 §5.13.5.3.2).
        if list.reservation_key != 0 {
            return Err(wrong(0, None).into());
        }
        let key = NonZeroU64::new(list.service_action_key).ok_or(wrong(8, None))?;
        let kind = request.kind()?;
        *self = Self { aptpl: list.aptpl, ..Self::default() };
        self.set_key(nexus, key);
        self.reservation = Some(Held::new(kind, nexus));
        Ok(())
    }
}
