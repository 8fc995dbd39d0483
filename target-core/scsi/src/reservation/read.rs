//! PERSISTENT RESERVE IN (SPC-4 §6.15).

use super::Verdict;
use super::nexus::TransportId;
use super::state::Reservations;
use crate::cdb::Cdb;
use crate::reply::{Fields as _, truncate};
use crate::sense::Sense;

impl Reservations {
    /// Processes PERSISTENT RESERVE IN: with [`Verdict::Good`], `reply` holds the parameter data,
    /// cut to the allocation length.
    ///
    /// INVALID FIELD IN CDB for a service action that does not exist; RESERVATION CONFLICT while
    /// any nexus has the logical unit with RESERVE.
    pub fn persistent_reserve_in(&self, cdb: Cdb, reply: &mut Vec<u8>) -> Verdict {
        reply.clear();
        if let Some(sense) = self.information_lost(cdb) {
            return sense.into();
        }
        if self.unit_reservation.is_some() {
            return Verdict::ReservationConflict;
        }
        match cdb.service_action() {
            0x00 => self.read_keys(reply),
            0x01 => self.read_reservation(reply),
            0x02 => self.report_capabilities(reply),
            0x03 => self.read_full_status(reply),
            _ => return Sense::invalid_field_in_cdb(1, Some(4)).into(),
        }
        truncate(reply, u32::from(cdb.u16_at(7)));
        Verdict::Good
    }

    fn read_keys(&self, reply: &mut Vec<u8>) {
        self.with_header(reply, |reply| {
            for registration in &self.registrations {
                reply.u64(registration.key.get());
            }
        });
    }

    fn read_reservation(&self, reply: &mut Vec<u8>) {
        self.with_header(reply, |reply| {
            let Some(held) = &self.reservation else { return };
            // Zero where all registrants hold it.
            reply.u64(self.holder_key().map_or(0, std::num::NonZeroU64::get));
            reply.zeroes(5);
            reply.u8(held.kind.code());
            reply.zeroes(2);
        });
    }

    fn report_capabilities(&self, reply: &mut Vec<u8>) {
        reply.u16(8);
        // RLR_C, SIP_C, ATP_C, PTPL_C; CRH is zero.
        reply.u8(0x8d);
        // TMV; ALLOW COMMANDS = 100b: what table 65 leaves to older devices is allowed here;
        // PTPL_A.
        reply.u8(0x80 | 0x40 | u8::from(self.aptpl));
        // All types: WR_EX_AR, EX_AC_RO, WR_EX_RO, EX_AC, WR_EX; EX_AC_AR.
        reply.u8(0xea);
        reply.u8(0x01);
        reply.zeroes(2);
    }

    fn read_full_status(&self, reply: &mut Vec<u8>) {
        self.with_header(reply, |reply| {
            for registration in &self.registrations {
                let held =
                    self.reservation.as_ref().filter(|_| self.is_holder(&registration.nexus));
                reply.u64(registration.key.get());
                reply.zeroes(4);
                // Every descriptor is one nexus: ALL_TG_PT is zero.
                reply.u8(u8::from(held.is_some()));
                reply.u8(held.map_or(0, |held| held.kind.code()));
                reply.zeroes(4);
                reply.u16(registration.nexus.target.relative_target_port_id);
                let length_at = reply.len();
                reply.u32(0);
                let length = TransportId::append(&registration.nexus.initiator, reply);
                reply.set_u16(length_at + 2, length);
            }
        });
    }

    /// PRGENERATION and ADDITIONAL LENGTH in front of what `body` appends. The length says how
    /// much there is, not how much fits.
    fn with_header(&self, reply: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
        reply.u32(self.generation);
        reply.u32(0);
        body(reply);
        let length = u32::try_from(reply.len().saturating_sub(8)).unwrap_or(u32::MAX);
        if let Some(field) = reply.get_mut(4..8) {
            field.copy_from_slice(&length.to_be_bytes());
        }
    }
}
