//! SANITIZE and FORMAT UNIT: operations on the whole medium (SBC-4 §4.11, §4.33, §5.4, §5.30).
//!
//! What they do goes on after a restart, so an operation and the condition that it puts the unit
//! in can be written as bytes and read again.
//!
//! There is no CRYPTOGRAPHIC ERASE: it changes the key with which the medium encrypts, and images
//! are not encrypted by anything here. To answer it with an overwrite would promise what only a
//! lost key can keep, in the time that a lost key takes.

use crate::asc::AdditionalSense;
use crate::cdb::Cdb;
use crate::commands::{Command, Needs, Unit};
use crate::device::{Device, MediumState};
use crate::plan::{BlockRange, Plan};
use crate::sense::{Sense, SenseKey};

const FORMAT_UNIT: u8 = 0x04;
const SANITIZE: u8 = 0x48;
const LOG_SENSE: u8 = 0x4d;
const TEMPERATURE: u8 = 0x0d;
const OVERWRITE: u8 = 0x01;

/// How far an operation is, in 65536ths (PROGRESS INDICATION).
pub type Progress = u16;

/// How the medium is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// Every block is written with the pattern, again and again (SANITIZE, OVERWRITE).
    Overwrite {
        /// Repeated within each block, from its first byte on; 1 byte to a block.
        pattern: Vec<u8>,
        /// OVERWRITE COUNT, 1 to 31.
        passes: u8,
        /// INVERT: every second pass writes the opposite, the last one the pattern.
        invert: bool,
    },
    /// Every block becomes unmapped, after what it held was written over (SANITIZE, BLOCK ERASE).
    BlockErase,
    /// FORMAT UNIT.
    Format {
        /// Repeated within each block; none: zeroes.
        pattern: Option<Vec<u8>>,
    },
}

/// An operation on the whole medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediumOperation {
    /// How the medium is written.
    pub method: Method,
    /// IMMED: GOOD as soon as it is certain that it will be done.
    pub immediate: bool,
    /// AUSE: after a failure the unit can be used without another SANITIZE.
    pub unrestricted: bool,
}

/// Why a unit does not take ordinary commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// A sanitize operation is not over.
    Sanitizing,
    /// One has failed.
    SanitizeFailed {
        /// SANITIZE, EXIT FAILURE MODE is allowed (AUSE was set).
        unrestricted: bool,
    },
    /// A format operation is not over.
    Formatting,
    /// One has failed.
    FormatFailed,
}

impl Condition {
    /// An operation is not over.
    #[must_use]
    pub const fn is_in_progress(self) -> bool {
        matches!(self, Self::Sanitizing | Self::Formatting)
    }

    /// What commands are told that may not run.
    #[must_use]
    pub const fn sense(self, progress: Progress) -> Sense {
        match self {
            Self::Sanitizing => Sense::new(
                SenseKey::NotReady,
                AdditionalSense::LOGICAL_UNIT_NOT_READY_SANITIZE_IN_PROGRESS,
            )
            .with_progress(progress),
            Self::Formatting => Sense::new(
                SenseKey::NotReady,
                AdditionalSense::LOGICAL_UNIT_NOT_READY_FORMAT_IN_PROGRESS,
            )
            .with_progress(progress),
            Self::SanitizeFailed { .. } => {
                Sense::new(SenseKey::MediumError, AdditionalSense::SANITIZE_COMMAND_FAILED)
            }
            Self::FormatFailed => {
                Sense::new(SenseKey::MediumError, AdditionalSense::MEDIUM_FORMAT_CORRUPTED)
            }
        }
    }

    /// What the command is told whose operation has failed.
    #[must_use]
    pub const fn failure(self) -> Sense {
        match self {
            Self::Formatting | Self::FormatFailed => {
                Sense::new(SenseKey::MediumError, AdditionalSense::FORMAT_COMMAND_FAILED)
            }
            Self::Sanitizing | Self::SanitizeFailed { .. } => {
                Sense::new(SenseKey::MediumError, AdditionalSense::SANITIZE_COMMAND_FAILED)
            }
        }
    }

    /// Whether a command runs in it: INQUIRY, REPORT LUNS, REQUEST SENSE and LOG SENSE of the
    /// temperature always, and what can end the condition.
    pub(crate) fn permits(self, command: &Command, cdb: Cdb) -> bool {
        match command.operation_code {
            _ if command.needs == Needs::Nothing => true,
            LOG_SENSE => cdb.byte(2) & 0x3f == TEMPERATURE,
            SANITIZE => !self.is_in_progress(),
            // A medium that was not formatted has otherwise everything that a unit has.
            _ if self == Self::FormatFailed => {
                command.operation_code == FORMAT_UNIT || command.needs == Needs::Unit
            }
            _ => false,
        }
    }

    /// As bytes.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        vec![match self {
            Self::Sanitizing => 1,
            Self::SanitizeFailed { unrestricted: false } => 2,
            Self::SanitizeFailed { unrestricted: true } => 3,
            Self::Formatting => 4,
            Self::FormatFailed => 5,
        }]
    }

    /// From bytes. What cannot be read keeps everybody out until a sanitize operation succeeds:
    /// that never shows what must not be seen.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        match bytes {
            [1] => Self::Sanitizing,
            [3] => Self::SanitizeFailed { unrestricted: true },
            [4] => Self::Formatting,
            [5] => Self::FormatFailed,
            _ => Self::SanitizeFailed { unrestricted: false },
        }
    }
}

impl MediumOperation {
    /// What a command wants, with its parameter list; `data` is empty if it has none.
    ///
    /// # Errors
    /// What the initiator is told of a field that is wrong.
    pub fn of(cdb: Cdb, data: &[u8], device: &Device) -> Result<Self, Sense> {
        if cdb.operation_code() == FORMAT_UNIT {
            return format_parameters(cdb, data, device);
        }
        let method = match cdb.service_action() {
            OVERWRITE => overwrite_parameters(data, device)?,
            _ => Method::BlockErase,
        };
        Ok(Self { method, immediate: cdb.bit(1, 0x80), unrestricted: cdb.bit(1, 0x20) })
    }

    /// The condition of the unit meanwhile.
    #[must_use]
    pub const fn during(&self) -> Condition {
        match self.method {
            Method::Format { .. } => Condition::Formatting,
            Method::Overwrite { .. } | Method::BlockErase => Condition::Sanitizing,
        }
    }

    /// The condition of the unit if it fails.
    #[must_use]
    pub const fn otherwise(&self) -> Condition {
        match self.method {
            Method::Format { .. } => Condition::FormatFailed,
            Method::Overwrite { .. } | Method::BlockErase => {
                Condition::SanitizeFailed { unrestricted: self.unrestricted }
            }
        }
    }

    /// As bytes; whether it was to be answered at once is forgotten.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let unrestricted = u8::from(self.unrestricted);
        match &self.method {
            Method::Overwrite { pattern, passes, invert } => {
                let mut bytes = vec![1, unrestricted, *passes, u8::from(*invert)];
                bytes.extend_from_slice(pattern);
                bytes
            }
            Method::BlockErase => vec![2, unrestricted],
            Method::Format { pattern: None } => vec![3, unrestricted],
            Method::Format { pattern: Some(pattern) } => {
                let mut bytes = vec![4, unrestricted];
                bytes.extend_from_slice(pattern);
                bytes
            }
        }
    }

    /// From bytes; none for what nobody here has written.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[kind, unrestricted], rest) = bytes.split_first_chunk()?;
        let method = match (kind, rest) {
            (1, [passes @ 1..=31, invert, pattern @ ..]) if !pattern.is_empty() => {
                let (pattern, invert) = (pattern.to_vec(), *invert != 0);
                Method::Overwrite { pattern, passes: *passes, invert }
            }
            (2, []) => Method::BlockErase,
            (3, []) => Method::Format { pattern: None },
            (4, [_, ..]) => Method::Format { pattern: Some(rest.to_vec()) },
            _ => return None,
        };
        Some(Self { method, immediate: false, unrestricted: unrestricted != 0 })
    }
}

impl Method {
    /// The bytes of one block in a pass, which are counted from 0.
    #[must_use]
    pub fn block(&self, pass: u8, block_length: u32) -> Vec<u8> {
        let (pattern, inverted): (&[u8], bool) = match self {
            Self::Overwrite { pattern, passes, invert } => {
                (pattern, *invert && passes.wrapping_sub(pass).is_multiple_of(2))
            }
            Self::Format { pattern: Some(pattern) } => (pattern, false),
            Self::BlockErase | Self::Format { pattern: None } => (&[0], false),
        };
        let mask = if inverted { 0xff } else { 0 };
        let length = usize::try_from(block_length).unwrap_or(0);
        pattern.iter().cycle().take(length).map(|byte| byte ^ mask).collect()
    }

    /// How often the whole medium is written.
    #[must_use]
    pub const fn passes(&self) -> u8 {
        match self {
            Self::Overwrite { passes, .. } => *passes,
            Self::BlockErase => 2,
            Self::Format { .. } => 1,
        }
    }
}

/// SBC-4 §5.30.2. What is wrong in the list is told as a wrong field of the CDB, for which clients
/// that know no other device look; a field pointer would then lie.
fn overwrite_parameters(data: &[u8], device: &Device) -> Result<Method, Sense> {
    let wrong = Sense::illegal(AdditionalSense::INVALID_FIELD_IN_CDB);
    let Some((&[flags, _, high, low], pattern)) = data.split_first_chunk() else {
        return Err(wrong);
    };
    let (passes, test) = (flags & 0x1f, flags >> 5 & 0x03);
    let length = usize::from(u16::from_be_bytes([high, low]));
    let block = usize::try_from(device.logical_block_length).unwrap_or(0);
    // TEST other than 00b is the vendor's, and this one has none.
    if passes == 0 || test != 0 || length == 0 || length > block || pattern.len() != length {
        return Err(wrong);
    }
    Ok(Method::Overwrite { pattern: pattern.to_vec(), passes, invert: flags & 0x80 != 0 })
}

/// FMTDATA.
const FORMAT_DATA: u8 = 0x10;
/// LONGLIST.
const LONG_LIST: u8 = 0x20;

/// SBC-4 §5.4.2: the parameter list header, the initialization pattern descriptor, no defects.
fn format_parameters(cdb: Cdb, data: &[u8], device: &Device) -> Result<MediumOperation, Sense> {
    let zeroes = MediumOperation {
        method: Method::Format { pattern: None },
        immediate: false,
        unrestricted: false,
    };
    if !cdb.bit(1, FORMAT_DATA) {
        return Ok(zeroes);
    }
    let wrong = |byte, bit| Err(Sense::invalid_field_in_parameter_list(byte, bit));
    let too_short = Sense::illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);
    let header_length = if cdb.bit(1, LONG_LIST) { 8 } else { 4 };
    let (header, rest) = data.split_at_checked(header_length).ok_or(too_short)?;
    let (usage, flags) = match header {
        [usage, flags, ..] => (*usage, *flags),
        _ => return Err(too_short),
    };
    // PROTECTION FIELD USAGE, P_I_INFORMATION, PROTECTION INTERVAL EXPONENT: there is no protection
    // information.
    if usage != 0 {
        return wrong(0, Some(2));
    }
    if let [_, _, _, interval, defects @ ..] = header
        && header_length == 8
    {
        if *interval != 0 {
            return wrong(3, None);
        }
        if defects.iter().any(|byte| *byte != 0) {
            return wrong(4, None);
        }
    } else if header.get(2..).is_some_and(|defects| defects.iter().any(|byte| *byte != 0)) {
        return wrong(2, None);
    }
    // FOV, DPRY, DCRT, STPF, IP, IMMED. There are no primary defects and nothing is certified, so
    // whatever DPRY, DCRT and STPF say is so. Bit 2 is obsolete, bit 0 the vendor's.
    let valid_options = flags & 0x80 != 0;
    if flags & 0x05 != 0 {
        return wrong(1, Some(if flags & 0x04 != 0 { 2 } else { 0 }));
    }
    if !valid_options && flags & 0x78 != 0 {
        return wrong(1, Some(7));
    }
    let immediate = flags & 0x02 != 0;
    if flags & 0x08 == 0 {
        return Ok(MediumOperation { immediate, ..zeroes });
    }
    let at = u16::try_from(header_length).unwrap_or(0);
    let Some((&[modifier, kind, high, low], pattern)) = rest.split_first_chunk() else {
        return Err(too_short);
    };
    // SI is no wish more: all blocks are written anyhow, and none was ever reassigned.
    if modifier & !0x20 != 0 {
        return wrong(at, Some(7 - u8::try_from((modifier & !0x20).leading_zeros()).unwrap_or(0)));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    let block = usize::try_from(device.logical_block_length).unwrap_or(0);
    let pattern = match kind {
        0x00 if length != 0 => return wrong(at + 2, None),
        0x00 => None,
        0x01 if length == 0 || length > block => return wrong(at + 2, None),
        0x01 => Some(pattern.get(..length).ok_or(too_short)?.to_vec()),
        _ => return wrong(at + 1, None),
    };
    Ok(MediumOperation { method: Method::Format { pattern }, immediate, ..zeroes })
}

/// The longest parameter list of FORMAT UNIT that means anything: a long header and a pattern of
/// one block.
fn longest_format_list(device: &Device) -> u32 {
    8 + 4 + device.logical_block_length
}

pub(crate) fn format_unit(cdb: Cdb, unit: &Unit<'_>, _reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    // FMTPINFO.
    if cdb.byte(1) & 0xc0 != 0 {
        return Err(Sense::invalid_field_in_cdb(1, Some(7)));
    }
    // FFMT: every format is a fast one.
    if cdb.byte(4) & 0x03 == 0x03 {
        return Err(Sense::invalid_field_in_cdb(4, Some(1)));
    }
    if !cdb.bit(1, FORMAT_DATA) {
        // LONGLIST, CMPLST and DEFECT LIST FORMAT speak of a list that is not there.
        return if cdb.byte(1) & 0x2f == 0 {
            Ok(Plan::MediumOperation)
        } else {
            Err(Sense::invalid_field_in_cdb(1, Some(4)))
        };
    }
    // DEFECT LIST FORMAT: those without addresses of this list are all the same.
    if matches!(cdb.byte(1) & 0x07, 0x01 | 0x02 | 0x07) {
        return Err(Sense::invalid_field_in_cdb(1, Some(2)));
    }
    let length = unit.context.data_out_length;
    if !(4..=longest_format_list(unit.device)).contains(&length) {
        return Err(Sense::illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR));
    }
    Ok(Plan::NeedData { length })
}

/// AUSE = 1 is refused after an operation that failed with AUSE = 0 (SBC-4 §4.11.1).
fn check_exit(cdb: Cdb, unit: &Unit<'_>) -> Result<(), Sense> {
    let restricted = Condition::SanitizeFailed { unrestricted: false };
    match unit.context.state {
        MediumState::Claimed(condition, _) if condition == restricted && cdb.bit(1, 0x20) => {
            Err(Sense::invalid_field_in_cdb(1, Some(5)))
        }
        MediumState::Claimed(..) | MediumState::NotReady(_) | MediumState::Ready => Ok(()),
    }
}

pub(crate) fn overwrite(cdb: Cdb, unit: &Unit<'_>, _reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    check_exit(cdb, unit)?;
    let length = u32::from(cdb.u16_at(7));
    let longest = unit.device.logical_block_length.saturating_add(4);
    if !(5..=longest).contains(&length) || unit.context.data_out_length < length {
        return Err(Sense::invalid_field_in_cdb(7, None));
    }
    Ok(Plan::NeedData { length })
}

pub(crate) fn with_data(
    cdb: Cdb,
    unit: &Unit<'_>,
    data: &[u8],
    _ranges: &mut Vec<BlockRange>,
) -> Result<Plan, Sense> {
    MediumOperation::of(cdb, data, unit.device).map(|_| Plan::MediumOperation)
}

pub(crate) fn block_erase(cdb: Cdb, unit: &Unit<'_>, _reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    check_exit(cdb, unit)?;
    Ok(Plan::MediumOperation)
}

pub(crate) fn exit_failure_mode(
    _cdb: Cdb,
    unit: &Unit<'_>,
    _reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    match unit.context.state {
        MediumState::Claimed(Condition::SanitizeFailed { unrestricted: true }, _) => {
            Ok(Plan::ExitFailureMode)
        }
        // The service action is what is wrong.
        MediumState::Claimed(Condition::SanitizeFailed { .. }, _) => {
            Err(Sense::invalid_field_in_cdb(EXIT_FAILURE_MODE_AT, Some(4)))
        }
        // There is nothing to exit from.
        MediumState::Claimed(..) | MediumState::NotReady(_) | MediumState::Ready => Ok(Plan::Good),
    }
}

/// Where the service action stands.
const EXIT_FAILURE_MODE_AT: u16 = 1;
