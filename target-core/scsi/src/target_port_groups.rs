//! Asymmetric logical unit access (SPC-4 §5.11): REPORT TARGET PORT GROUPS and SET TARGET PORT
//! GROUPS (§6.37, §6.45), and what each access state lets through.

use crate::asc::AdditionalSense;
use crate::cdb::Cdb;
use crate::command::AccessClass;
use crate::commands::Unit;
use crate::plan::{BlockRange, Plan};
use crate::reply::{Fields as _, truncate};
use crate::sense::{Sense, SenseKey};

/// ASYMMETRIC ACCESS STATE of a target port group (SPC-4 table 278).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum AccessState {
    /// Every command runs.
    #[default]
    ActiveOptimized = 0x0,
    /// Every command runs; other groups are faster.
    ActiveNonOptimized = 0x1,
    /// Commands about the unit run, those that need its medium do not.
    Standby = 0x2,
    /// Hardly anything runs.
    Unavailable = 0x3,
    /// On its way to another state.
    Transitioning = 0xf,
}

/// What can bring a group into a state: everything but TRANSITIONING, by SET TARGET PORT GROUPS.
const SETTABLE: [AccessState; 4] = [
    AccessState::ActiveOptimized,
    AccessState::ActiveNonOptimized,
    AccessState::Standby,
    AccessState::Unavailable,
];

/// T_SUP, U_SUP, S_SUP, AN_SUP, AO_SUP.
const SUPPORTED_STATES: u8 = 0x80 | 0x08 | 0x04 | 0x02 | 0x01;

impl AccessState {
    /// Why commands of a class do not run, if they do not (SPC-4 §5.11.2).
    pub(crate) fn refusal(self, class: AccessClass) -> Option<Sense> {
        let (lets_through, asc) = match self {
            Self::ActiveOptimized | Self::ActiveNonOptimized => return None,
            Self::Standby => (
                AccessClass::Standby,
                AdditionalSense::LOGICAL_UNIT_NOT_ACCESSIBLE_TARGET_PORT_IN_STANDBY_STATE,
            ),
            Self::Unavailable => (
                AccessClass::Unavailable,
                AdditionalSense::LOGICAL_UNIT_NOT_ACCESSIBLE_TARGET_PORT_IN_UNAVAILABLE_STATE,
            ),
            Self::Transitioning => (
                AccessClass::Always,
                AdditionalSense::LOGICAL_UNIT_NOT_ACCESSIBLE_ASYMMETRIC_ACCESS_STATE_TRANSITION,
            ),
        };
        (class < lets_through).then(|| Sense::new(SenseKey::NotReady, asc))
    }
}

/// STATUS CODE: what brought a group into its state (SPC-4 table 280).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum AccessStatus {
    /// It has always been so.
    #[default]
    NoStatus = 0x00,
    /// SET TARGET PORT GROUPS.
    Explicit = 0x01,
    /// The target itself, as its operator wants it.
    Implicit = 0x02,
}

/// What can change access states (TPGS in INQUIRY data, SPC-4 table 144).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AccessMethods {
    /// The target itself.
    pub implicit: bool,
    /// SET TARGET PORT GROUPS.
    pub explicit: bool,
}

impl AccessMethods {
    /// Whether there are groups to report at all.
    #[must_use]
    pub const fn any(self) -> bool {
        self.implicit || self.explicit
    }

    /// TPGS, where it stands in INQUIRY data.
    pub(crate) fn tpgs(self) -> u8 {
        u8::from(self.explicit) << 5 | u8::from(self.implicit) << 4
    }
}

/// A target port group. Each has one port, whose RELATIVE TARGET PORT IDENTIFIER is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetPortGroup {
    /// TARGET PORT GROUP: in iSCSI, the Target Portal Group Tag.
    pub tag: u16,
    /// ASYMMETRIC ACCESS STATE.
    pub state: AccessState,
    /// What brought it there.
    pub status: AccessStatus,
    /// PREF: the group that hosts should use, other things being equal.
    pub preferred: bool,
}

/// PARAMETER DATA FORMAT: descriptors behind the length.
const LENGTH_ONLY: u8 = 0;
/// PARAMETER DATA FORMAT: descriptors behind the extended header.
const EXTENDED: u8 = 1;

pub(crate) fn report_target_port_groups(
    cdb: Cdb,
    unit: &Unit<'_>,
    reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    reply.u32(0);
    match cdb.byte(1) >> 5 {
        LENGTH_ONLY => {}
        // FORMAT TYPE 001b; IMPLICIT TRANSITION TIME 0: nothing is said of it.
        EXTENDED => reply.u32(0x1000_0000),
        _ => return Err(Sense::invalid_field_in_cdb(1, Some(7))),
    }
    for group in unit.context.groups {
        reply.u8(u8::from(group.preferred) << 7 | group.state as u8);
        reply.u8(SUPPORTED_STATES);
        reply.u16(group.tag);
        // Reserved, STATUS CODE, vendor specific, TARGET PORT COUNT.
        reply.extend_from_slice(&[0, group.status as u8, 0, 1]);
        reply.u16(0);
        reply.u16(group.tag);
    }
    let length = u32::try_from(reply.len().saturating_sub(4)).unwrap_or(u32::MAX);
    if let Some(field) = reply.get_mut(..4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
    truncate(reply, cdb.u32_at(6));
    Ok(Plan::DataIn)
}

/// Bytes in front of the descriptors, and of each descriptor.
const LIST_HEADER: usize = 4;
const DESCRIPTOR: usize = 4;
/// More groups than there can be.
const LONGEST_LIST: u32 = 4 + 4 * 0xffff;

const LENGTH_ERROR: Sense = Sense::illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);

pub(crate) fn set_target_port_groups(
    cdb: Cdb,
    unit: &Unit<'_>,
    _reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    // It changes what all initiators see, which who may only read shall not.
    if unit.context.read_only {
        return Err(Sense::new(SenseKey::DataProtect, AdditionalSense::WRITE_PROTECTED));
    }
    match cdb.u32_at(6) {
        0 => Ok(Plan::Good),
        length if length > LONGEST_LIST => Err(Sense::invalid_field_in_cdb(6, None)),
        length if unit.context.data_out_length < length => Err(LENGTH_ERROR),
        length => Ok(Plan::NeedData { length }),
    }
}

/// The groups of a list are all changed or none of them.
pub(crate) fn set_target_port_groups_with_data(
    _cdb: Cdb,
    unit: &Unit<'_>,
    data: &[u8],
    _ranges: &mut Vec<BlockRange>,
) -> Result<Plan, Sense> {
    let descriptors = data.get(LIST_HEADER..).ok_or(LENGTH_ERROR)?;
    if descriptors.len() % DESCRIPTOR != 0 {
        return Err(LENGTH_ERROR);
    }
    let field = |at: usize, bit| {
        let at = LIST_HEADER + at;
        Sense::invalid_field_in_parameter_list(u16::try_from(at).unwrap_or(u16::MAX), bit)
    };
    let mut seen = Vec::new();
    for (index, descriptor) in descriptors.chunks_exact(DESCRIPTOR).enumerate() {
        let (tag, _) = read(descriptor).ok_or_else(|| field(index * DESCRIPTOR, Some(3)))?;
        let known = unit.context.groups.iter().any(|group| group.tag == tag);
        if !known || seen.contains(&tag) {
            return Err(field(index * DESCRIPTOR + 2, None));
        }
        seen.push(tag);
    }
    if seen.is_empty() { Ok(Plan::Good) } else { Ok(Plan::SetTargetPortGroups) }
}

/// The groups of a list that [`Plan::SetTargetPortGroups`] came for, and their new states.
pub fn set_target_port_groups_list(data: &[u8]) -> impl Iterator<Item = (u16, AccessState)> {
    let descriptors = data.get(LIST_HEADER..).unwrap_or_default();
    descriptors.chunks_exact(DESCRIPTOR).filter_map(read)
}

/// TARGET PORT GROUP, and a state that it can be brought into.
fn read(descriptor: &[u8]) -> Option<(u16, AccessState)> {
    let &[state, _, high, low] = descriptor else { return None };
    let state = SETTABLE.into_iter().find(|it| *it as u8 == state & 0x0f)?;
    Some((u16::from_be_bytes([high, low]), state))
}

/// The states could not be changed (SPC-4 §6.45).
#[must_use]
pub const fn set_target_port_groups_failed() -> Sense {
    Sense::new(SenseKey::HardwareError, AdditionalSense::SET_TARGET_PORT_GROUPS_COMMAND_FAILED)
}
