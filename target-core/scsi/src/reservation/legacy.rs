//! RESERVE(6), RESERVE(10), RELEASE(6) and RELEASE(10) (SPC-2 §7.21 to §7.24).
//!
//! CRH is zero: this method and persistent reservations exclude each other.

use super::Verdict;
use super::nexus::Nexus;
use super::state::Reservations;
use crate::cdb::Cdb;
use crate::sense::Sense;

/// The operation codes of ten bytes start here.
const TEN_BYTES: u8 = 0x20;

impl Reservations {
    /// RESERVE(6) and RESERVE(10): reserves the logical unit for a nexus. Again from the same
    /// nexus is no error; RESERVATION CONFLICT if another one has it, or while any nexus is
    /// registered for persistent reservations.
    pub fn reserve_unit(&mut self, cdb: Cdb, nexus: &Nexus) -> Verdict {
        if let Some(refusal) = self.refuse_legacy(cdb) {
            return refusal;
        }
        match &self.unit_reservation {
            Some(holder) if holder != nexus => Verdict::ReservationConflict,
            _ => {
                self.unit_reservation = Some(nexus.clone());
                Verdict::Good
            }
        }
    }

    /// RELEASE(6) and RELEASE(10): nothing happens, with GOOD, if the nexus has no such
    /// reservation. RESERVATION CONFLICT while any nexus is registered for persistent
    /// reservations.
    pub fn release_unit(&mut self, cdb: Cdb, nexus: &Nexus) -> Verdict {
        if let Some(refusal) = self.refuse_legacy(cdb) {
            return refusal;
        }
        self.nexus_lost(nexus);
        Verdict::Good
    }

    fn refuse_legacy(&self, cdb: Cdb) -> Option<Verdict> {
        if let Some(sense) = self.information_lost(cdb) {
            return Some(sense.into());
        }
        if !self.registrations.is_empty() {
            return Some(Verdict::ReservationConflict);
        }
        // Neither third parties nor extents.
        let options = cdb.byte(1) & 0x1f;
        if options != 0 {
            let bit = u8::try_from(options.ilog2()).ok();
            return Some(Sense::invalid_field_in_cdb(1, bit).into());
        }
        let with_list = cdb.operation_code() >= TEN_BYTES && cdb.u16_at(7) != 0;
        with_list.then(|| Sense::invalid_field_in_cdb(7, None).into())
    }
}
