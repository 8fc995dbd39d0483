//! Which commands meet a reservation conflict (SPC-4 tables 65 and 66, SBC-3 table 13,
//! SPC-2 table 10).

use super::nexus::Nexus;
use super::state::Reservations;
use crate::asc::AdditionalSense;
use crate::cdb::Cdb;
use crate::sense::{Sense, SenseKey};

/// What a persistent reservation means for a command of a nexus that does not hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Allowed for everybody.
    Always,
    /// Reads: allowed under the write exclusive types, and for registrants where they have
    /// access.
    Read,
    /// Writes, or changes something: allowed only for registrants, where they have access.
    Write,
    /// Service actions of PERSISTENT RESERVE OUT that every registered nexus may send.
    Registered,
    /// Service actions of PERSISTENT RESERVE OUT that only the holder may send.
    Holder,
    /// RESERVE and RELEASE: a conflict as soon as any nexus is registered.
    Legacy,
}

/// What RESERVE(6) or RESERVE(10) of another nexus means for a command (SPC-2 table 10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Allowed,
    Conflict,
}

struct Rule {
    operation_code: u8,
    service_action: Option<u8>,
    class: Class,
    unit: Unit,
}

const fn rule(operation_code: u8, class: Class, unit: Unit) -> Rule {
    Rule { operation_code, service_action: None, class, unit }
}

const fn action(operation_code: u8, service_action: u8, class: Class, unit: Unit) -> Rule {
    Rule { operation_code, service_action: Some(service_action), class, unit }
}

/// What is not in the table.
const OTHER: Rule = rule(0xff, Write, Conflict);
const START_STOP_UNIT: u8 = 0x1b;
const PREVENT_ALLOW_MEDIUM_REMOVAL: u8 = 0x1e;
const PERSISTENT_RESERVE_IN: u8 = 0x5e;
const PERSISTENT_RESERVE_OUT: u8 = 0x5f;
const REPLACE_LOST_RESERVATION: u8 = 0x08;

use Class::{Always, Holder, Legacy, Read, Registered, Write};
use Unit::{Allowed, Conflict};

/// The commands that are not of class [`Class::Write`], by operation code and service action.
#[rustfmt::skip]
static RULES: &[Rule] = &[
    rule(0x00, Always, Conflict),         // TEST UNIT READY
    rule(0x03, Always, Allowed),          // REQUEST SENSE
    rule(0x08, Read, Conflict),           // READ(6)
    rule(0x12, Always, Allowed),          // INQUIRY
    rule(0x16, Legacy, Conflict),         // RESERVE(6)
    rule(0x17, Legacy, Allowed),          // RELEASE(6)
    rule(0x1a, Read, Conflict),           // MODE SENSE(6)
    rule(0x1b, Always, Allowed),          // START STOP UNIT: see Rule::of
    rule(0x1c, Read, Conflict),           // RECEIVE DIAGNOSTIC RESULTS
    rule(0x1e, Always, Allowed),          // PREVENT ALLOW MEDIUM REMOVAL: see Rule::of
    rule(0x25, Always, Allowed),          // READ CAPACITY(10)
    rule(0x28, Read, Conflict),           // READ(10)
    rule(0x2f, Read, Conflict),           // VERIFY(10)
    rule(0x34, Read, Conflict),           // PRE-FETCH(10)
    rule(0x37, Read, Conflict),           // READ DEFECT DATA(10)
    rule(0x3c, Read, Conflict),           // READ BUFFER(10)
    rule(0x4d, Always, Allowed),          // LOG SENSE
    rule(0x56, Legacy, Conflict),         // RESERVE(10)
    rule(0x57, Legacy, Allowed),          // RELEASE(10)
    rule(0x5a, Read, Conflict),           // MODE SENSE(10)
    rule(0x5e, Always, Conflict),         // PERSISTENT RESERVE IN
    action(0x5f, 0x00, Always, Conflict), // REGISTER
    action(0x5f, 0x01, Holder, Conflict), // RESERVE
    action(0x5f, 0x02, Registered, Conflict), // RELEASE
    action(0x5f, 0x03, Registered, Conflict), // CLEAR
    action(0x5f, 0x04, Registered, Conflict), // PREEMPT
    action(0x5f, 0x05, Registered, Conflict), // PREEMPT AND ABORT
    action(0x5f, 0x06, Always, Conflict), // REGISTER AND IGNORE EXISTING KEY
    action(0x5f, 0x07, Holder, Conflict), // REGISTER AND MOVE
    action(0x5f, 0x08, Registered, Conflict), // REPLACE LOST RESERVATION
    action(0x83, 0x10, Read, Conflict),   // POPULATE TOKEN
    rule(0x84, Always, Conflict),         // RECEIVE COPY RESULTS, RECEIVE ROD TOKEN INFORMATION
    rule(0x86, Always, Conflict),         // ACCESS CONTROL IN
    rule(0x87, Always, Conflict),         // ACCESS CONTROL OUT
    rule(0x88, Read, Conflict),           // READ(16)
    rule(0x8c, Read, Conflict),           // READ ATTRIBUTE
    rule(0x8f, Read, Conflict),           // VERIFY(16)
    rule(0x90, Read, Conflict),           // PRE-FETCH(16)
    action(0x9e, 0x10, Always, Allowed),  // READ CAPACITY(16)
    action(0x9e, 0x12, Read, Conflict),   // GET LBA STATUS
    action(0x9e, 0x13, Always, Conflict), // REPORT REFERRALS
    rule(0xa0, Always, Allowed),          // REPORT LUNS
    rule(0xa2, Read, Conflict),           // SECURITY PROTOCOL IN
    action(0xa3, 0x05, Always, Allowed),  // REPORT IDENTIFYING INFORMATION
    action(0xa3, 0x0a, Always, Allowed),  // REPORT TARGET PORT GROUPS
    action(0xa3, 0x0b, Always, Conflict), // REPORT ALIASES
    action(0xa3, 0x0c, Read, Conflict),   // REPORT SUPPORTED OPERATION CODES
    action(0xa3, 0x0d, Read, Conflict),   // REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS
    action(0xa3, 0x0e, Always, Conflict), // REPORT PRIORITY
    action(0xa3, 0x0f, Always, Conflict), // REPORT TIMESTAMP
    action(0xa3, 0x10, Read, Conflict),   // MANAGEMENT PROTOCOL IN
    rule(0xa8, Read, Conflict),           // READ(12)
    action(0xab, 0x01, Always, Allowed),  // READ MEDIA SERIAL NUMBER
    rule(0xaf, Read, Conflict),           // VERIFY(12)
    rule(0xb7, Read, Conflict),           // READ DEFECT DATA(12)
];

impl Rule {
    fn of(cdb: Cdb) -> &'static Self {
        // The writes of the data path, without the search.
        if matches!(cdb.operation_code(), 0x2a | 0x8a) {
            return &OTHER;
        }
        let changes = match cdb.operation_code() {
            // START STOP UNIT that does more than start.
            START_STOP_UNIT => !starts(cdb),
            // PREVENT other than 00b.
            PREVENT_ALLOW_MEDIUM_REMOVAL => cdb.bit(4, 0x03),
            _ => false,
        };
        if changes {
            return &OTHER;
        }
        let start = RULES.partition_point(|rule| rule.operation_code < cdb.operation_code());
        let found = RULES.iter().skip(start).find(|rule| {
            rule.operation_code != cdb.operation_code()
                || rule.service_action.is_none_or(|action| action == cdb.service_action())
        });
        found.filter(|rule| rule.operation_code == cdb.operation_code()).unwrap_or(&OTHER)
    }
}

/// For documents: the class of a CDB, and whether RESERVE of another nexus lets it through.
#[cfg(test)]
pub(crate) fn describe(cdb: Cdb) -> (&'static str, &'static str) {
    let rule = Rule::of(cdb);
    let class = match rule.class {
        Always => "always",
        Read => "read",
        Write => "write",
        Registered => "registered",
        Holder => "holder",
        Legacy => "legacy",
    };
    (class, if rule.unit == Allowed { "allowed" } else { "conflict" })
}

/// START STOP UNIT with START one and POWER CONDITION 0h.
fn starts(cdb: Cdb) -> bool {
    cdb.bit(4, 0x01) && !cdb.bit(4, 0xf0)
}

impl Reservations {
    /// Whether a command may run: false means that it ends with RESERVATION CONFLICT.
    ///
    /// Commands that are not known count as writes. The reservation commands look further when
    /// they are processed; this says no more than the tables.
    #[must_use]
    pub fn check(&self, nexus: &Nexus, cdb: Cdb) -> bool {
        if self.is_idle() && self.registrations.is_empty() {
            return true;
        }
        let rule = Rule::of(cdb);
        if let Some(holder) = &self.unit_reservation {
            return match cdb.operation_code() {
                // The two methods exclude each other, even for the holder.
                PERSISTENT_RESERVE_IN | PERSISTENT_RESERVE_OUT => false,
                _ => rule.unit == Allowed || holder == nexus,
            };
        }
        if rule.class == Legacy {
            return self.registrations.is_empty();
        }
        let Some(held) = &self.reservation else { return true };
        let is_registered = || self.key_of(nexus).is_some();
        let has_access =
            || self.is_holder(nexus) || (held.kind.is_for_registrants() && is_registered());
        match rule.class {
            Always => true,
            Read => held.kind.is_write_exclusive() || has_access(),
            Write => has_access(),
            Registered => is_registered(),
            Holder => self.is_holder(nexus),
            Legacy => false,
        }
    }

    /// PERSISTENT RESERVATION INFORMATION LOST, if these are [`Reservations::lost`] and the
    /// command is not one of those that run all the same (SPC-4 §5.13.5.2, §5.13.5.3.2). Comes in
    /// front of [`Self::check`].
    #[must_use]
    pub fn information_lost(&self, cdb: Cdb) -> Option<Sense> {
        let runs = match cdb.operation_code() {
            // REQUEST SENSE, INQUIRY, WRITE BUFFER, READ BUFFER, LOG SENSE, REPORT LUNS.
            0x03 | 0x12 | 0x3b | 0x3c | 0x4d | 0xa0 => true,
            START_STOP_UNIT => starts(cdb),
            PERSISTENT_RESERVE_OUT => cdb.service_action() == REPLACE_LOST_RESERVATION,
            // REPORT TARGET PORT GROUPS.
            0xa3 => cdb.service_action() == 0x0a,
            _ => false,
        };
        (self.lost && !runs).then(|| {
            Sense::new(
                SenseKey::DataProtect,
                AdditionalSense::PERSISTENT_RESERVATION_INFORMATION_LOST,
            )
        })
    }
}
