//! Third-party copy (SPC-4 §5.17, SBC-3 §4.27): EXTENDED COPY with list identifiers of one and four
//! bytes, copies by tokens (POPULATE TOKEN, WRITE USING TOKEN), and what tells of them. Which
//! logical unit a designator names, which token is known, and copying, is for the engine.

mod list;
mod page;
mod rod;
mod status;

pub use list::{CopyLength, CopyList, CopySegment, CopyTarget, MAX_SEGMENT_LENGTH, THIS_UNIT};
pub(crate) use page::{operating_parameters, third_party_copy_page};
pub use rod::{
    MAX_LIFETIME_SECONDS, PopulateToken, RANDOM_LENGTH, Represented, RodToken, TOKEN_LENGTH,
    WriteUsingToken, identifier_of, management_tokens,
};
pub use status::{CopyState, CopyStatus, Transferred};

use crate::asc::AdditionalSense;
use crate::cdb::Cdb;
use crate::commands::Unit;
use crate::device::Device;
use crate::plan::{BlockRange, CopyReport, Plan};
use crate::sense::{FieldPointer, Sense, SenseKey};

/// Service actions of THIRD-PARTY COPY OUT (83h).
pub mod action {
    /// EXTENDED COPY(LID1).
    pub const EXTENDED_COPY_LID1: u8 = 0x00;
    /// EXTENDED COPY(LID4).
    pub const EXTENDED_COPY_LID4: u8 = 0x01;
    /// POPULATE TOKEN.
    pub const POPULATE_TOKEN: u8 = 0x10;
    /// WRITE USING TOKEN.
    pub const WRITE_USING_TOKEN: u8 = 0x11;
    /// COPY OPERATION ABORT.
    pub const COPY_OPERATION_ABORT: u8 = 0x1c;
}

/// Copies of one session that are under way at once: TOTAL CONCURRENT COPIES, MAXIMUM IDENTIFIED
/// CONCURRENT COPIES.
pub const MAX_CONCURRENT: u8 = 64;

/// A parameter list that is longer is not gathered.
const MAX_PARAMETERS: u32 = 4096;

const LENGTH_ERROR: Sense = Sense::illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);

/// LIST IDENTIFIER: both kinds are counted by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListId {
    /// Of EXTENDED COPY(LID1).
    Lid1(u8),
    /// Of all other commands.
    Lid4(u32),
}

/// A command that copies, with its parameter list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyRequest {
    /// EXTENDED COPY.
    Copy(CopyList),
    /// POPULATE TOKEN.
    PopulateToken(PopulateToken),
    /// WRITE USING TOKEN.
    WriteUsingToken(Box<WriteUsingToken>),
}

impl CopyRequest {
    /// Reads the parameter list of the command `cdb` to `device`.
    ///
    /// # Errors
    /// What is wrong with the list, most with the field.
    pub fn parse(cdb: Cdb, data: &[u8], device: &Device) -> Result<Self, Sense> {
        let list_identifier = cdb.u32_at(6);
        match cdb.service_action() {
            action::EXTENDED_COPY_LID1 => CopyList::parse(data).map(Self::Copy),
            action::EXTENDED_COPY_LID4 => CopyList::parse_lid4(data).map(Self::Copy),
            action::POPULATE_TOKEN => {
                PopulateToken::parse(list_identifier, data, device).map(Self::PopulateToken)
            }
            action::WRITE_USING_TOKEN => WriteUsingToken::parse(list_identifier, data, device)
                .map(|parsed| Self::WriteUsingToken(Box::new(parsed))),
            _ => Err(Sense::invalid_field_in_cdb(1, Some(4))),
        }
    }

    /// LIST IDENTIFIER, under which its state is kept; none with LIST ID USAGE 11b.
    #[must_use]
    pub fn list_identifier(&self) -> Option<ListId> {
        match self {
            Self::Copy(list) => list.list_identifier,
            Self::PopulateToken(it) => Some(ListId::Lid4(it.list_identifier)),
            Self::WriteUsingToken(it) => Some(ListId::Lid4(it.list_identifier)),
        }
    }

    /// IMMED: GOOD is sent before it is done.
    #[must_use]
    pub fn is_immediate(&self) -> bool {
        match self {
            Self::Copy(list) => list.immediate,
            Self::PopulateToken(it) => it.immediate,
            Self::WriteUsingToken(it) => it.immediate,
        }
    }
}

/// Sense data of a copy that stopped.
#[must_use]
pub const fn copy_aborted(asc: AdditionalSense) -> Sense {
    Sense::new(SenseKey::CopyAborted, asc)
}

/// ILLEGAL REQUEST with the byte of the parameter list at which it is wrong.
fn at(asc: AdditionalSense, byte: usize) -> Sense {
    let byte = u16::try_from(byte).unwrap_or(u16::MAX);
    Sense { field: Some(FieldPointer { cdb: false, byte, bit: None }), ..Sense::illegal(asc) }
}

/// The commands with a parameter list. One without is no error, and does nothing.
pub(crate) fn third_party_copy_out(
    cdb: Cdb,
    unit: &Unit<'_>,
    _reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    let length = cdb.u32_at(10);
    if length == 0 {
        return Ok(Plan::Good);
    }
    if length > MAX_PARAMETERS || length > unit.context.data_out_length {
        return Err(LENGTH_ERROR);
    }
    Ok(Plan::NeedData { length })
}

pub(crate) fn third_party_copy_out_with_data(
    _cdb: Cdb,
    _unit: &Unit<'_>,
    _data: &[u8],
    _ranges: &mut Vec<BlockRange>,
) -> Result<Plan, Sense> {
    Ok(Plan::ThirdPartyCopy)
}

/// COPY OPERATION ABORT (SPC-4 §6.3).
pub(crate) fn copy_operation_abort(
    cdb: Cdb,
    _unit: &Unit<'_>,
    _reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    Ok(Plan::CopyAbort { list_identifier: cdb.u32_at(2) })
}

/// RECEIVE COPY STATUS(LID1).
pub(crate) fn copy_status_lid1(
    cdb: Cdb,
    _unit: &Unit<'_>,
    _reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    Ok(report(CopyReport::Status, ListId::Lid1(cdb.byte(2)), cdb))
}

/// RECEIVE COPY FAILURE DETAILS(LID1).
pub(crate) fn copy_failure_details(
    cdb: Cdb,
    _unit: &Unit<'_>,
    _reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    Ok(report(CopyReport::FailureDetails, ListId::Lid1(cdb.byte(2)), cdb))
}

/// RECEIVE COPY STATUS(LID4).
pub(crate) fn copy_status_lid4(
    cdb: Cdb,
    _unit: &Unit<'_>,
    _reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    Ok(report(CopyReport::Status, ListId::Lid4(cdb.u32_at(2)), cdb))
}

/// RECEIVE ROD TOKEN INFORMATION.
pub(crate) fn rod_token_information(
    cdb: Cdb,
    _unit: &Unit<'_>,
    _reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    Ok(report(CopyReport::RodToken, ListId::Lid4(cdb.u32_at(2)), cdb))
}

/// REPORT ALL ROD TOKENS.
pub(crate) fn report_all_rod_tokens(
    cdb: Cdb,
    _unit: &Unit<'_>,
    _reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    Ok(Plan::RodTokens { allocation_length: cdb.u32_at(10) })
}

fn report(report: CopyReport, list_identifier: ListId, cdb: Cdb) -> Plan {
    Plan::CopyReport { report, list_identifier, allocation_length: cdb.u32_at(10) }
}

/// Bytes that are read from the front, big-endian.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }
}
