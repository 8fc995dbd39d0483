//! EXTENDED COPY(LID1) and RECEIVE COPY RESULTS(LID1) (SPC-4 §5.17, §6.4, §6.18): their parameter
//! data. Which logical unit a designator names, and copying, is for the engine.

use crate::asc::AdditionalSense;
use crate::cdb::Cdb;
use crate::commands::Unit;
use crate::plan::{BlockRange, Plan};
use crate::reply::{Fields as _, truncate};
use crate::sense::{Sense, SenseKey};

/// MAXIMUM CSCD DESCRIPTOR COUNT.
pub const MAX_TARGETS: u16 = 8;
/// MAXIMUM SEGMENT DESCRIPTOR COUNT.
pub const MAX_SEGMENTS: u16 = 16;
/// MAXIMUM SEGMENT LENGTH in bytes. An abort waits for a copy that has begun.
pub const MAX_SEGMENT_LENGTH: u32 = 64 << 20;
/// MAXIMUM DESCRIPTOR LIST LENGTH.
const MAX_LIST: u32 = 1024;
/// Bytes before the first descriptor.
const HEADER: usize = 16;
/// A parameter list that is longer is not gathered.
const MAX_PARAMETERS: u32 = 4096;

/// Identification CSCD descriptor.
const IDENTIFICATION: u8 = 0xe4;
/// Bytes of every CSCD descriptor that is known here.
const TARGET_LENGTH: usize = 32;
/// Block device to block device segment descriptor.
const BLOCK_TO_BLOCK: u8 = 0x02;
/// Block device to block device with offset.
const BLOCK_TO_BLOCK_OFFSET: u8 = 0x0a;

const LENGTH_ERROR: Sense = Sense::illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);

/// A logical unit that a list names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyTarget {
    /// Its NAA identifier; none if it is named by something else.
    pub naa: Option<[u8; 16]>,
    /// Its logical block length, as the initiator knows it.
    pub block_length: u32,
}

/// One run of blocks to be copied. All but the indices and addresses is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopySegment {
    /// Index of the source in the list's targets.
    pub source: u16,
    /// Index of the destination.
    pub destination: u16,
    /// First block of the source.
    pub source_lba: u64,
    /// Bytes from there on to the first one.
    pub source_offset: u16,
    /// First block of the destination.
    pub destination_lba: u64,
    /// Bytes from there on to the first one.
    pub destination_offset: u16,
    /// How much.
    pub length: CopyLength,
}

/// How much a segment copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyLength {
    /// Blocks of the source.
    SourceBlocks(u16),
    /// Blocks of the destination.
    DestinationBlocks(u16),
    /// Bytes.
    Bytes(u32),
}

/// The parameter list of EXTENDED COPY(LID1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyList {
    /// LIST IDENTIFIER, under which the status is kept; none with LIST ID USAGE 11b.
    pub list_identifier: Option<u8>,
    /// The logical units.
    pub targets: Vec<CopyTarget>,
    /// What is copied, in order.
    pub segments: Vec<CopySegment>,
}

/// COPY MANAGER STATUS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum CopyState {
    /// Done without errors.
    Completed = 0x01,
    /// Done with errors.
    Failed = 0x02,
}

/// What became of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyStatus {
    /// LIST IDENTIFIER.
    pub list_identifier: u8,
    /// How it ended.
    pub state: CopyState,
    /// SEGMENTS PROCESSED.
    pub segments: u16,
    /// Bytes copied.
    pub bytes: u64,
}

/// Sense data of a copy that stopped.
#[must_use]
pub const fn copy_aborted(asc: AdditionalSense) -> Sense {
    Sense::new(SenseKey::CopyAborted, asc)
}

pub(crate) fn extended_copy(
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

pub(crate) fn extended_copy_with_data(
    _cdb: Cdb,
    _unit: &Unit<'_>,
    _data: &[u8],
    _ranges: &mut Vec<BlockRange>,
) -> Result<Plan, Sense> {
    Ok(Plan::ExtendedCopy)
}

/// RECEIVE COPY RESULTS, COPY STATUS.
pub(crate) fn copy_status(cdb: Cdb, _unit: &Unit<'_>, _reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    Ok(Plan::CopyStatus { list_identifier: cdb.byte(2), allocation_length: cdb.u32_at(10) })
}

/// RECEIVE COPY RESULTS, OPERATING PARAMETERS.
pub(crate) fn operating_parameters(
    cdb: Cdb,
    _unit: &Unit<'_>,
    reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    reply.u32(0);
    // SNLID = 0.
    reply.u32(0);
    reply.u16(MAX_TARGETS);
    reply.u16(MAX_SEGMENTS);
    reply.u32(MAX_LIST);
    reply.u32(MAX_SEGMENT_LENGTH);
    // No inline data, held data or streams.
    reply.zeroes(14);
    // TOTAL CONCURRENT COPIES, MAXIMUM CONCURRENT COPIES.
    reply.u16(255);
    reply.u8(255);
    // DATA SEGMENT GRANULARITY: 2^9 bytes.
    reply.u8(9);
    reply.zeroes(2);
    reply.zeroes(3);
    let types = [BLOCK_TO_BLOCK, BLOCK_TO_BLOCK_OFFSET, IDENTIFICATION];
    reply.u8(u8::try_from(types.len()).unwrap_or(0));
    reply.extend_from_slice(&types);
    set_length(reply);
    truncate(reply, cdb.u32_at(10));
    Ok(Plan::DataIn)
}

/// The parameter data of COPY STATUS.
pub fn copy_status_reply(status: &CopyStatus, allocation_length: u32, reply: &mut Vec<u8>) {
    reply.clear();
    reply.u32(0);
    reply.u8(status.state as u8);
    reply.u16(status.segments);
    // TRANSFER COUNT UNITS: bytes, KiB, MiB, …: the smallest in which the count fits.
    let (mut units, mut count) = (0u8, status.bytes);
    while count > u64::from(u32::MAX) {
        (units, count) = (units + 1, count >> 10);
    }
    reply.u8(units);
    reply.u32(u32::try_from(count).unwrap_or(u32::MAX));
    set_length(reply);
    truncate(reply, allocation_length);
}

/// AVAILABLE DATA: bytes behind this field.
fn set_length(reply: &mut [u8]) {
    let length = u32::try_from(reply.len().saturating_sub(4)).unwrap_or(u32::MAX);
    if let Some(field) = reply.get_mut(..4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
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

impl CopyList {
    /// Reads the parameter list.
    ///
    /// # Errors
    /// PARAMETER LIST LENGTH ERROR, TOO MANY TARGET or SEGMENT DESCRIPTORS, UNSUPPORTED TARGET or
    /// SEGMENT DESCRIPTOR TYPE CODE, INVALID FIELD IN PARAMETER LIST.
    pub fn parse(data: &[u8]) -> Result<Self, Sense> {
        let mut bytes = Bytes(data);
        let [list_identifier, flags, high, low, ..] = bytes.take::<8>().ok_or(LENGTH_ERROR)?;
        let targets_length = u32::from(u16::from_be_bytes([high, low]));
        let segments_length = bytes.u32().ok_or(LENGTH_ERROR)?;
        let inline_length = bytes.u32().ok_or(LENGTH_ERROR)?;
        if targets_length.saturating_add(segments_length) > MAX_LIST || inline_length > 0 {
            return Err(LENGTH_ERROR);
        }
        // Bounded by MAX_LIST.
        let targets = bytes.slice(targets_length as usize).ok_or(LENGTH_ERROR)?;
        let segments = bytes.slice(segments_length as usize).ok_or(LENGTH_ERROR)?;
        let discards = flags >> 3 & 3 == 3;
        let targets = parse_targets(targets)?;
        let segments = parse_segments(segments, HEADER + targets.len() * TARGET_LENGTH)?;
        let list_identifier = (!discards).then_some(list_identifier);
        Ok(Self { list_identifier, targets, segments })
    }
}

fn parse_targets(list: &[u8]) -> Result<Vec<CopyTarget>, Sense> {
    if list.len() / TARGET_LENGTH > usize::from(MAX_TARGETS) {
        return Err(Sense::illegal(AdditionalSense::TOO_MANY_TARGET_DESCRIPTORS));
    }
    let mut targets = Vec::new();
    for descriptor in list.chunks(TARGET_LENGTH) {
        let Some(&[code, kind, _, _, ref rest @ ..]) = descriptor.first_chunk::<TARGET_LENGTH>()
        else {
            return Err(LENGTH_ERROR);
        };
        // A block device, named by a designator.
        if code != IDENTIFICATION || kind & 0x1f != 0 {
            let asc = AdditionalSense::UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE;
            return Err(Sense::illegal(asc));
        }
        let [_, designator_type, _, designator_length, designator @ ..] = rest;
        let [.., _, b0, b1, b2] = *rest;
        let naa = designator.first_chunk::<16>().copied();
        let is_naa = designator_type & 0x3f == 3 && *designator_length == 16;
        targets.push(CopyTarget {
            naa: naa.filter(|_| is_naa),
            block_length: u32::from_be_bytes([0, b0, b1, b2]),
        });
    }
    Ok(targets)
}

fn parse_segments(list: &[u8], at: usize) -> Result<Vec<CopySegment>, Sense> {
    let mut bytes = Bytes(list);
    let mut segments = Vec::new();
    while !bytes.0.is_empty() {
        if segments.len() >= usize::from(MAX_SEGMENTS) {
            return Err(Sense::illegal(AdditionalSense::TOO_MANY_SEGMENT_DESCRIPTORS));
        }
        let place = u16::try_from(at + list.len() - bytes.0.len()).unwrap_or(u16::MAX);
        let segment = parse_segment(&mut bytes, place)?;
        segments.push(segment);
    }
    Ok(segments)
}

fn parse_segment(bytes: &mut Bytes<'_>, at: u16) -> Result<CopySegment, Sense> {
    let [code, flags, high, low] = bytes.take().ok_or(LENGTH_ERROR)?;
    let expected = match code {
        BLOCK_TO_BLOCK => 0x18,
        BLOCK_TO_BLOCK_OFFSET => 0x1c,
        _ => {
            let asc = AdditionalSense::UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE;
            return Err(Sense::illegal(asc));
        }
    };
    if u16::from_be_bytes([high, low]) != expected {
        return Err(Sense::invalid_field_in_parameter_list(at + 2, None));
    }
    let body = bytes.slice(usize::from(expected)).ok_or(LENGTH_ERROR)?;
    block_segment(code, flags, &mut Bytes(body)).ok_or(LENGTH_ERROR)
}

fn block_segment(code: u8, flags: u8, body: &mut Bytes<'_>) -> Option<CopySegment> {
    let (source, destination) = (body.u16()?, body.u16()?);
    let length = if code == BLOCK_TO_BLOCK_OFFSET {
        CopyLength::Bytes(body.u32()?)
    } else {
        body.u16()?;
        let blocks = body.u16()?;
        // DC: the number is one of destination blocks.
        if flags & 0x02 != 0 {
            CopyLength::DestinationBlocks(blocks)
        } else {
            CopyLength::SourceBlocks(blocks)
        }
    };
    let (source_lba, destination_lba) = (body.u64()?, body.u64()?);
    let offsets = code == BLOCK_TO_BLOCK_OFFSET;
    Some(CopySegment {
        source,
        destination,
        source_lba,
        source_offset: if offsets { body.u16()? } else { 0 },
        destination_lba,
        destination_offset: if offsets { body.u16()? } else { 0 },
        length,
    })
}

/// VPD page 8Fh, Third-party Copy (SPC-4 §7.8.17).
pub(crate) fn third_party_copy_page(reply: &mut Vec<u8>) {
    // Supported Commands: EXTENDED COPY(LID1), and two of RECEIVE COPY RESULTS.
    descriptor(reply, 0x0001, &[7, 0x83, 1, 0x00, 0x84, 2, 0x00, 0x03]);
    // Supported Descriptors, Supported CSCD Descriptor IDs (none but those of the list).
    descriptor(reply, 0x0008, &[3, BLOCK_TO_BLOCK, BLOCK_TO_BLOCK_OFFSET, IDENTIFICATION]);
    descriptor(reply, 0x000c, &[0, 0]);
    // General Copy Operations: concurrent copies, identified ones, segment length, granularities.
    let mut general = Vec::new();
    general.u32(255);
    general.u32(255);
    general.u32(MAX_SEGMENT_LENGTH);
    general.u8(9);
    general.u8(0);
    general.zeroes(18);
    descriptor(reply, 0x8001, &general);
}

/// A descriptor, filled up to a multiple of four bytes.
fn descriptor(reply: &mut Vec<u8>, kind: u16, body: &[u8]) {
    let fill = body.len().wrapping_neg() & 3;
    reply.u16(kind);
    reply.u16(u16::try_from(body.len() + fill).unwrap_or(u16::MAX));
    reply.extend_from_slice(body);
    reply.zeroes(fill);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(targets: &[[u8; 32]], segments: &[Vec<u8>]) -> Vec<u8> {
        let segments = segments.concat();
        let mut data = vec![7, 0];
        data.extend(u16::try_from(targets.len() * 32).unwrap().to_be_bytes());
        data.extend([0; 4]);
        data.extend(u32::try_from(segments.len()).unwrap().to_be_bytes());
        data.extend([0; 4]);
        data.extend(targets.concat());
        data.extend(segments);
        data
    }

    fn target() -> [u8; 32] {
        let mut target = [0; 32];
        target[0] = IDENTIFICATION;
        target[4..8].copy_from_slice(&[1, 3, 0, 16]);
        target[8..24].copy_from_slice(b"\x60123456789abcdef");
        target[30] = 2;
        target
    }

    fn segment(blocks: u16, flags: u8) -> Vec<u8> {
        let mut segment = vec![BLOCK_TO_BLOCK, flags, 0, 0x18, 0, 0, 0, 1, 0, 0];
        segment.extend(blocks.to_be_bytes());
        segment.extend(5u64.to_be_bytes());
        segment.extend(9u64.to_be_bytes());
        segment
    }

    #[test]
    fn a_list_is_read_as_initiators_send_it() {
        let with_offset = {
            let mut segment = vec![BLOCK_TO_BLOCK_OFFSET, 0, 0, 0x1c, 0, 1, 0, 0];
            segment.extend(4096u32.to_be_bytes());
            segment.extend(1u64.to_be_bytes());
            segment.extend(2u64.to_be_bytes());
            segment.extend([0, 3, 0, 4]);
            segment
        };
        let data = list(&[target(), target()], &[segment(8, 0), segment(8, 2), with_offset]);
        let list = CopyList::parse(&data).unwrap();
        assert_eq!(list.list_identifier, Some(7));
        let naa = Some(*b"\x60123456789abcdef");
        assert_eq!(list.targets, [CopyTarget { naa, block_length: 512 }; 2]);
        let [first, second, third] = list.segments[..] else { panic!() };
        assert_eq!((first.source, first.destination), (0, 1));
        assert_eq!((first.source_lba, first.destination_lba), (5, 9));
        assert_eq!(first.length, CopyLength::SourceBlocks(8));
        assert_eq!(second.length, CopyLength::DestinationBlocks(8));
        assert_eq!(third.length, CopyLength::Bytes(4096));
        assert_eq!((third.source_offset, third.destination_offset), (3, 4));
        let mut discarding = data;
        discarding[1] = 0x18;
        assert_eq!(CopyList::parse(&discarding).unwrap().list_identifier, None);
    }

    #[test]
    fn what_is_too_much_or_not_known_is_refused() {
        let asc = |data: &[u8]| CopyList::parse(data).unwrap_err().asc;
        let targets = vec![target(); usize::from(MAX_TARGETS) + 1];
        assert_eq!(asc(&list(&targets, &[])), AdditionalSense::TOO_MANY_TARGET_DESCRIPTORS);
        let segments = vec![segment(1, 0); usize::from(MAX_SEGMENTS) + 1];
        let many = list(&[target()], &segments);
        assert_eq!(asc(&many), AdditionalSense::TOO_MANY_SEGMENT_DESCRIPTORS);
        let mut other = target();
        other[0] = 0xe0;
        let unknown = AdditionalSense::UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE;
        assert_eq!(asc(&list(&[other], &[])), unknown);
        let stream = vec![0x03, 0, 0, 0x14];
        let unknown = AdditionalSense::UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE;
        assert_eq!(asc(&list(&[target()], &[stream])), unknown);
        let whole = list(&[target()], &[segment(1, 0)]);
        for length in 0..whole.len() {
            let length_error = AdditionalSense::PARAMETER_LIST_LENGTH_ERROR;
            assert_eq!(asc(&whole[..length]), length_error, "{length} bytes");
        }
    }

    #[test]
    fn a_status_says_how_much_in_units_that_fit() {
        let mut reply = Vec::new();
        let status = CopyStatus {
            list_identifier: 1,
            state: CopyState::Completed,
            segments: 3,
            bytes: 5 << 32,
        };
        copy_status_reply(&status, 100, &mut reply);
        assert_eq!(reply, [0, 0, 0, 8, 1, 0, 3, 1, 0x01, 0x40, 0, 0]);
    }

    proptest! {
        #[test]
        fn no_list_breaks_anything(data in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(list) = CopyList::parse(&data) {
                prop_assert!(list.targets.len() <= usize::from(MAX_TARGETS));
                prop_assert!(list.segments.len() <= usize::from(MAX_SEGMENTS));
            }
        }
    }
}
