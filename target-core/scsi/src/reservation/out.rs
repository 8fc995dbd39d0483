//! PERSISTENT RESERVE OUT (SPC-4 §6.16): what its service actions have in common.

use super::nexus::Nexus;
use super::parameters::{Basic, Move, REGISTER_AND_MOVE, whole};
use super::state::{ReservationType, Reservations};
use super::{Outcome, Ports, Verdict};
use crate::cdb::Cdb;
use crate::sense::Sense;
use crate::unit_attention::UnitAttention;

/// A service action to be processed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) cdb: Cdb,
    pub(super) nexus: &'a Nexus,
    pub(super) list: &'a Basic,
}

impl Request<'_> {
    /// SCOPE and TYPE of the reservation that is to be made.
    pub(super) fn kind(&self) -> Result<ReservationType, Sense> {
        self.check_scope()?;
        ReservationType::from_code(self.type_code()).ok_or(Sense::invalid_field_in_cdb(2, Some(3)))
    }

    /// LU_SCOPE is the only scope.
    pub(super) fn check_scope(&self) -> Result<(), Sense> {
        let lu_scope = self.cdb.byte(2) >> 4 == 0;
        if lu_scope { Ok(()) } else { Err(Sense::invalid_field_in_cdb(2, Some(7))) }
    }

    pub(super) fn type_code(&self) -> u8 {
        self.cdb.byte(2) & 0x0f
    }
}

/// What others notice of a service action.
#[derive(Debug, Default)]
pub(super) struct Effects {
    attentions: Vec<(Nexus, UnitAttention)>,
    pub(super) abort: Vec<Nexus>,
}

impl Effects {
    /// Establishes a unit attention for all of `nexuses` but the one that sent the command.
    pub(super) fn tell<'a>(
        &mut self,
        nexuses: impl IntoIterator<Item = &'a Nexus>,
        sender: &Nexus,
        attention: UnitAttention,
    ) {
        let others = nexuses.into_iter().filter(|nexus| *nexus != sender);
        self.attentions.extend(others.map(|nexus| (nexus.clone(), attention)));
    }
}

impl Reservations {
    /// Processes PERSISTENT RESERVE OUT as one indivisible action. `parameters` is the parameter
    /// list as gathered; `ports` is asked about the ports that it names.
    ///
    /// If [`Outcome::persist`] is set and storing fails, go back to a clone that was made before.
    /// Sense data of a refusal: PARAMETER LIST LENGTH ERROR, INVALID FIELD IN CDB, INVALID FIELD
    /// IN PARAMETER LIST (both with a field pointer), INVALID RELEASE OF PERSISTENT RESERVATION,
    /// INSUFFICIENT REGISTRATION RESOURCES, PERSISTENT RESERVATION INFORMATION LOST.
    pub fn persistent_reserve_out(
        &mut self,
        cdb: Cdb,
        parameters: &[u8],
        nexus: &Nexus,
        ports: &dyn Ports,
    ) -> Outcome {
        let (mut next, mut effects) = (self.clone(), Effects::default());
        match next.process(cdb, parameters, nexus, ports, &mut effects) {
            Ok(()) => {
                let persist = next.to_bytes() != self.to_bytes();
                *self = next;
                let Effects { attentions, abort } = effects;
                Outcome { verdict: Verdict::Good, attentions, abort, persist }
            }
            Err(verdict) => {
                Outcome { verdict, attentions: Vec::new(), abort: Vec::new(), persist: false }
            }
        }
    }

    fn process(
        &mut self,
        cdb: Cdb,
        parameters: &[u8],
        nexus: &Nexus,
        ports: &dyn Ports,
        effects: &mut Effects,
    ) -> Result<(), Verdict> {
        if let Some(sense) = self.information_lost(cdb) {
            return Err(sense.into());
        }
        if self.unit_reservation.is_some() {
            return Err(Verdict::ReservationConflict);
        }
        let action = cdb.service_action();
        if action > 0x08 {
            return Err(Sense::invalid_field_in_cdb(1, Some(4)).into());
        }
        let list = whole(cdb, parameters)?;
        if action == REGISTER_AND_MOVE {
            return self.register_and_move(&Move::parse(list)?, nexus, ports);
        }
        let list = &Basic::parse(list, action == 0x00)?;
        let request = Request { cdb, nexus, list };
        match action {
            0x00 => self.register(request, false, ports, effects),
            0x01 => self.reserve(request),
            0x02 => self.release(request, effects),
            0x03 => self.clear(request, effects),
            0x04 => self.preempt(request, false, effects),
            0x05 => self.preempt(request, true, effects),
            0x06 => self.register(request, true, ports, effects),
            _ => self.replace_lost(request),
        }
    }

    /// The nexus must be registered, with this key (SPC-4 §6.16.3).
    pub(super) fn verify_key(&self, nexus: &Nexus, key: u64) -> Result<(), Verdict> {
        match self.key_of(nexus) {
            Some(registered) if registered.get() == key => Ok(()),
            _ => Err(Verdict::ReservationConflict),
        }
    }
}
