//! The parameter lists of PERSISTENT RESERVE OUT (SPC-4 §6.16.3, §6.16.4).

use super::nexus::{Malformed, TransportId};
use crate::asc::AdditionalSense;
use crate::cdb::Cdb;
use crate::sense::Sense;

/// Bytes of a parameter list without TransportIDs.
pub(super) const BASIC_LENGTH: usize = 24;
/// Where the list of TransportIDs starts.
const LIST_AT: usize = 28;
/// The longest parameter list that is taken: more than 60 TransportIDs of the longest names.
const MAX_LENGTH: usize = 16 << 10;

pub(super) const REGISTER_AND_MOVE: u8 = 0x07;

pub(super) const LENGTH_ERROR: Sense = Sense::illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);

/// How many bytes of parameter data PERSISTENT RESERVE OUT must gather, from its CDB and the
/// number of bytes that the initiator means to send.
///
/// PARAMETER LIST LENGTH ERROR if that is too little or too much for any parameter list, or more
/// than is sent.
pub fn parameter_list_length(cdb: Cdb, data_out_length: u32) -> Result<u32, Sense> {
    let length = cdb.u32_at(5);
    let plausible = (BASIC_LENGTH..=MAX_LENGTH).contains(&usize::try_from(length).unwrap_or(0));
    if plausible && length <= data_out_length { Ok(length) } else { Err(LENGTH_ERROR) }
}

/// The parameter list that the CDB announces.
pub(super) fn whole(cdb: Cdb, parameters: &[u8]) -> Result<&[u8], Sense> {
    let sent = u32::try_from(parameters.len()).unwrap_or(u32::MAX);
    let length = parameter_list_length(cdb, sent)?;
    usize::try_from(length).ok().and_then(|length| parameters.get(..length)).ok_or(LENGTH_ERROR)
}

/// Everything but the REGISTER AND MOVE list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Basic {
    pub(super) reservation_key: u64,
    pub(super) service_action_key: u64,
    pub(super) all_target_ports: bool,
    pub(super) aptpl: bool,
    /// With SPEC_I_PT: the TransportIDs, and where each of them stands.
    pub(super) initiators: Option<Vec<(usize, TransportId)>>,
}

impl Basic {
    pub(super) fn parse(list: &[u8], is_register: bool) -> Result<Self, Sense> {
        let (header, additional) = list.split_first_chunk::<BASIC_LENGTH>().ok_or(LENGTH_ERROR)?;
        let [k0, k1, k2, k3, k4, k5, k6, k7, s0, s1, s2, s3, s4, s5, s6, s7, rest @ ..] = *header;
        let [_, _, _, _, flags, ..] = rest;
        let specified = flags & 0x08 != 0;
        if specified && !is_register {
            return Err(wrong(20, Some(3)));
        }
        if !specified && !additional.is_empty() {
            return Err(LENGTH_ERROR);
        }
        Ok(Self {
            reservation_key: u64::from_be_bytes([k0, k1, k2, k3, k4, k5, k6, k7]),
            service_action_key: u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            all_target_ports: flags & 0x04 != 0,
            aptpl: flags & 0x01 != 0,
            initiators: specified.then(|| transport_ids(additional)).transpose()?,
        })
    }
}

/// TRANSPORTID PARAMETER DATA LENGTH and the list behind it (SPC-4 table 215).
fn transport_ids(additional: &[u8]) -> Result<Vec<(usize, TransportId)>, Sense> {
    let (length, mut list) = additional.split_first_chunk::<4>().ok_or(LENGTH_ERROR)?;
    if usize::try_from(u32::from_be_bytes(*length)) != Ok(list.len()) {
        return Err(LENGTH_ERROR);
    }
    let (mut ids, mut at) = (Vec::new(), LIST_AT);
    while !list.is_empty() {
        let (id, length) =
            TransportId::parse(list).map_err(|reason| malformed(reason, at, BASIC_LENGTH))?;
        ids.push((at, id));
        at += length;
        list = list.get(length..).unwrap_or_default();
    }
    Ok(ids)
}

/// The REGISTER AND MOVE list (SPC-4 table 217).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) reservation_key: u64,
    pub(super) service_action_key: u64,
    pub(super) unregister: bool,
    pub(super) aptpl: bool,
    pub(super) relative_target_port: u16,
    pub(super) initiator: TransportId,
}

impl Move {
    /// Where the TransportID stands.
    pub(super) const TRANSPORT_ID_AT: usize = BASIC_LENGTH;

    pub(super) fn parse(list: &[u8]) -> Result<Self, Sense> {
        let (header, id) = list.split_first_chunk::<BASIC_LENGTH>().ok_or(LENGTH_ERROR)?;
        let [k0, k1, k2, k3, k4, k5, k6, k7, s0, s1, s2, s3, s4, s5, s6, s7, rest @ ..] = *header;
        let [_, flags, port_high, port_low, l0, l1, l2, l3] = rest;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if length < 24 || !length.is_multiple_of(4) {
            return Err(wrong(20, None));
        }
        if usize::try_from(length) != Ok(id.len()) {
            return Err(LENGTH_ERROR);
        }
        let (initiator, taken) =
            TransportId::parse(id).map_err(|reason| malformed(reason, BASIC_LENGTH, 20))?;
        if taken != id.len() {
            return Err(wrong(20, None));
        }
        Ok(Self {
            reservation_key: u64::from_be_bytes([k0, k1, k2, k3, k4, k5, k6, k7]),
            service_action_key: u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            unregister: flags & 0x02 != 0,
            aptpl: flags & 0x01 != 0,
            relative_target_port: u16::from_be_bytes([port_high, port_low]),
            initiator,
        })
    }
}

/// A TransportID at `at` is malformed; the length that cuts it off stands at `length_at`.
fn malformed(reason: Malformed, at: usize, length_at: usize) -> Sense {
    match reason {
        Malformed::Truncated => wrong(length_at, None),
        Malformed::Field(byte, bit) => wrong(at + byte, bit),
    }
}

/// INVALID FIELD IN PARAMETER LIST.
pub(super) fn wrong(byte: usize, bit: Option<u8>) -> Sense {
    Sense::invalid_field_in_parameter_list(u16::try_from(byte).unwrap_or(u16::MAX), bit)
}
