//! What a row of the table of commands is.

use crate::cdb::Cdb;
use crate::device::{Context, Device};
use crate::plan::{BlockRange, Plan};
use crate::sense::Sense;

const COMPARE_AND_WRITE: u8 = 0x89;
const WRITE_ATOMIC_16: u8 = 0x9c;
/// REPORT and SET TARGET PORT GROUPS, by operation code and service action.
const REPORT_TARGET_PORT_GROUPS: (u8, Option<u8>) = (0xa3, Some(0x0a));
const SET_TARGET_PORT_GROUPS: (u8, Option<u8>) = (0xa4, Some(0x0a));

/// What a command needs of the logical unit before it may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: answered for a LUN that does not exist, and in front of unit attentions.
    Nothing,
    /// The logical unit, in whatever state.
    Unit,
    /// A medium that can be read.
    Medium,
    /// A medium that can be written.
    WritableMedium,
}

/// In which asymmetric access states of the target port a command runs besides the active ones
/// (SPC-4 §5.11.2), from few to many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessClass {
    /// In no other.
    Active,
    /// In standby.
    Standby,
    /// In standby and while it is unavailable.
    Unavailable,
    /// In all of them, transitions too.
    Always,
}

/// A command (SPC-4 §4.3, SBC-3 §5).
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// Its name in the standard.
    pub name: &'static str,
    /// OPERATION CODE.
    pub operation_code: u8,
    /// SERVICE ACTION, if the operation code has several.
    pub service_action: Option<u8>,
    /// CDB USAGE DATA (SPC-4 §6.35.3): the CDB's length, and a 1 for every bit that is looked at.
    pub usage: &'static [u8],
    /// The other way round, as [`Cdb::bits`]: what must be 0.
    pub(crate) reserved: u128,
    /// What must be there.
    pub needs: Needs,
    /// In which access states of its target port it runs.
    pub access: AccessClass,
    /// RECOMMENDED COMMAND TIMEOUT in seconds (SPC-4 §6.35.4).
    pub timeout_seconds: u32,
    /// It exists only where blocks can be unmapped.
    pub unmap_only: bool,
    pub(crate) handler: Handler,
    pub(crate) with_data: Option<WithData>,
}

/// Looks at the CDB.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Handler {
    /// Works without a logical unit.
    Any(fn(Cdb, &Context<'_>, &mut Vec<u8>) -> Result<Plan, Sense>),
    /// Needs one.
    Unit(fn(Cdb, &Unit<'_>, &mut Vec<u8>) -> Result<Plan, Sense>),
}

/// Looks at the CDB and the data that was gathered.
pub(crate) type WithData = fn(Cdb, &Unit<'_>, &[u8], &mut Vec<BlockRange>) -> Result<Plan, Sense>;

/// A logical unit and everything around it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit<'a> {
    pub(crate) device: &'a Device,
    pub(crate) context: &'a Context<'a>,
}

impl Unit<'_> {
    /// Whether writes are refused for any reason.
    pub(crate) fn is_write_protected(&self) -> bool {
        self.device.read_only || self.context.read_only || self.context.mode.software_write_protect
    }

    /// Without a write cache every write is durable before its answer.
    pub(crate) fn is_write_through(&self) -> bool {
        !self.context.mode.write_cache_enabled
    }
}

/// The bits that a command with such CDB USAGE DATA does not look at. What is behind the CDB's end is
/// not among them: it may be anything.
pub(crate) const fn reserved_bits(mut usage: &[u8]) -> u128 {
    let (mut reserved, mut shift) = (0, 128);
    while let ([used, rest @ ..], 8..) = (usage, shift) {
        shift -= 8;
        reserved |= (!*used as u128) << shift;
        usage = rest;
    }
    reserved
}

impl Command {
    /// Whether this logical unit has the command.
    pub(crate) fn exists(&self, device: &Device) -> bool {
        match (self.operation_code, self.service_action) {
            (COMPARE_AND_WRITE, _) => device.limits.max_compare_and_write_blocks != 0,
            (WRITE_ATOMIC_16, _) => device.atomic.max_blocks() != 0,
            REPORT_TARGET_PORT_GROUPS => device.access_methods.any(),
            SET_TARGET_PORT_GROUPS => device.access_methods.explicit,
            _ => device.unmap || !self.unmap_only,
        }
    }

    /// The first bit, from the left, that is set and must not be: byte and bit.
    pub(crate) fn reserved_bit(&self, cdb: Cdb) -> Option<(u16, u8)> {
        let wrong = cdb.bits() & self.reserved;
        if wrong == 0 {
            return None;
        }
        let zeros = wrong.leading_zeros();
        // The operation code and the service action are what led here.
        let byte = u16::try_from(zeros / 8).unwrap_or(u16::MAX);
        let bit = u8::try_from(7 - zeros % 8).unwrap_or(0);
        Some((byte, bit))
    }
}
