//! The parameter lists of EXTENDED COPY (SPC-4 §6.4, §6.5, §5.17.7).

use super::{Bytes, LENGTH_ERROR, ListId, at};
use crate::asc::AdditionalSense;
use crate::sense::Sense;

/// MAXIMUM CSCD DESCRIPTOR COUNT.
pub(super) const MAX_TARGETS: u16 = 8;
/// MAXIMUM SEGMENT DESCRIPTOR COUNT.
pub(super) const MAX_SEGMENTS: u16 = 16;
/// MAXIMUM SEGMENT LENGTH in bytes.
pub const MAX_SEGMENT_LENGTH: u32 = 64 << 20;
/// MAXIMUM DESCRIPTOR LIST LENGTH.
pub(super) const MAX_LIST: u32 = 1024;
/// CSCD DESCRIPTOR ID of the logical unit that the command came to.
pub const THIS_UNIT: u16 = 0xffff;

/// Bytes before the first descriptor, with identifiers of one byte.
const HEADER_LID1: usize = 16;
/// The same with identifiers of four bytes.
const HEADER_LID4: usize = 48;
/// HEADER CSCD DESCRIPTOR LIST LENGTH.
const HEADER_DESCRIPTOR: u16 = 0x20;
/// Extension descriptor: what stands in the header of the longer list.
const EXTENSION: u8 = 0xff;

/// Identification CSCD descriptor.
pub(super) const IDENTIFICATION: u8 = 0xe4;
/// Bytes of every CSCD descriptor that is known here.
const TARGET_LENGTH: usize = 32;
/// Block device to block device segment descriptor.
pub(super) const BLOCK_TO_BLOCK: u8 = 0x02;
/// Block device to block device with offset.
pub(super) const BLOCK_TO_BLOCK_OFFSET: u8 = 0x0a;

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
    /// Index of the source in the list's targets, or [`THIS_UNIT`].
    pub source: u16,
    /// The same of the destination.
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
    /// Where in the list it stands, and where in it its length does; for sense data.
    pub place: (u16, u16),
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

/// The parameter list of EXTENDED COPY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyList {
    /// LIST IDENTIFIER, under which the status is kept; none with LIST ID USAGE 11b.
    pub list_identifier: Option<ListId>,
    /// IMMED, which only the longer list has.
    pub immediate: bool,
    /// The logical units.
    pub targets: Vec<CopyTarget>,
    /// What is copied, in order.
    pub segments: Vec<CopySegment>,
}

/// The lengths of what stands behind a header, and where in it they stand.
struct Lengths {
    targets: (u32, usize),
    segments: (u32, usize),
    inline: (u32, usize),
}

impl CopyList {
    /// Reads the parameter list of EXTENDED COPY(LID1).
    ///
    /// # Errors
    /// PARAMETER LIST LENGTH ERROR, TOO MANY TARGET or SEGMENT DESCRIPTORS, UNSUPPORTED TARGET or
    /// SEGMENT DESCRIPTOR TYPE CODE, INVALID FIELD IN PARAMETER LIST.
    pub fn parse(data: &[u8]) -> Result<Self, Sense> {
        let mut bytes = Bytes(data);
        let [list_identifier, flags, high, low, ..] = bytes.take::<8>().ok_or(LENGTH_ERROR)?;
        let lengths = Lengths {
            targets: (u16::from_be_bytes([high, low]).into(), 2),
            segments: (bytes.u32().ok_or(LENGTH_ERROR)?, 8),
            inline: (bytes.u32().ok_or(LENGTH_ERROR)?, 12),
        };
        let (targets, segments) = descriptors(&mut bytes, &lengths, HEADER_LID1)?;
        let list_identifier = is_kept(flags)?.then_some(ListId::Lid1(list_identifier));
        Ok(Self { list_identifier, immediate: false, targets, segments })
    }

    /// Reads the parameter list of EXTENDED COPY(LID4).
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_lid4(data: &[u8]) -> Result<Self, Sense> {
        let (header, rest) = data.split_first_chunk::<HEADER_LID4>().ok_or(LENGTH_ERROR)?;
        let mut bytes = Bytes(header);
        let mut read = || -> Option<_> {
            let (format, flags, header_length) = (bytes.u8()?, bytes.u8()?, bytes.u16()?);
            bytes.take::<11>()?;
            let (more_flags, code) = (bytes.u8()?, bytes.u8()?);
            bytes.take::<3>()?;
            let list_identifier = bytes.u32()?;
            bytes.take::<18>()?;
            let lengths = Lengths {
                targets: (bytes.u16()?.into(), 42),
                segments: (bytes.u16()?.into(), 44),
                inline: (bytes.u16()?.into(), 46),
            };
            Some((format, flags, header_length, more_flags, code, list_identifier, lengths))
        };
        let (format, flags, header_length, more_flags, code, list_identifier, lengths) =
            read().ok_or(LENGTH_ERROR)?;
        if format != 1 {
            return Err(Sense::invalid_field_in_parameter_list(0, None));
        }
        if header_length != HEADER_DESCRIPTOR {
            return Err(Sense::invalid_field_in_parameter_list(2, None));
        }
        if code != EXTENSION {
            return Err(Sense::invalid_field_in_parameter_list(16, None));
        }
        let (targets, segments) = descriptors(&mut Bytes(rest), &lengths, HEADER_LID4)?;
        let list_identifier = is_kept(flags)?.then_some(ListId::Lid4(list_identifier));
        Ok(Self { list_identifier, immediate: more_flags & 0x01 != 0, targets, segments })
    }
}

/// LIST ID USAGE: whether the outcome can be asked for.
fn is_kept(flags: u8) -> Result<bool, Sense> {
    match flags >> 3 & 3 {
        0b00 | 0b10 => Ok(true),
        0b11 => Ok(false),
        _ => Err(Sense::invalid_field_in_parameter_list(1, Some(4))),
    }
}

fn descriptors(
    bytes: &mut Bytes<'_>,
    lengths: &Lengths,
    header: usize,
) -> Result<(Vec<CopyTarget>, Vec<CopySegment>), Sense> {
    let length_error = |byte| at(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR, byte);
    let (targets_length, targets_at) = lengths.targets;
    let (segments_length, segments_at) = lengths.segments;
    if lengths.inline.0 > 0 {
        return Err(length_error(lengths.inline.1));
    }
    if targets_length.saturating_add(segments_length) > MAX_LIST {
        return Err(length_error(segments_at));
    }
    // Bounded by MAX_LIST.
    let targets = bytes.slice(targets_length as usize).ok_or_else(|| length_error(targets_at))?;
    let segments =
        bytes.slice(segments_length as usize).ok_or_else(|| length_error(segments_at))?;
    let segments_start = header + targets.len();
    let targets = parse_targets(targets, header, targets_at)?;
    Ok((targets, parse_segments(segments, segments_start, segments_at)?))
}

fn parse_targets(list: &[u8], start: usize, length_at: usize) -> Result<Vec<CopyTarget>, Sense> {
    if list.len() / TARGET_LENGTH > usize::from(MAX_TARGETS) {
        return Err(at(AdditionalSense::TOO_MANY_TARGET_DESCRIPTORS, length_at));
    }
    let mut targets = Vec::new();
    for (index, descriptor) in list.chunks(TARGET_LENGTH).enumerate() {
        let Some(&[code, kind, _, _, ref rest @ ..]) = descriptor.first_chunk::<TARGET_LENGTH>()
        else {
            return Err(at(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR, length_at));
        };
        // A block device, named by a designator.
        if code != IDENTIFICATION || kind & 0x1f != 0 {
            let asc = AdditionalSense::UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE;
            let byte = usize::from(code == IDENTIFICATION);
            return Err(at(asc, start + index * TARGET_LENGTH + byte));
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

fn parse_segments(list: &[u8], start: usize, length_at: usize) -> Result<Vec<CopySegment>, Sense> {
    let mut bytes = Bytes(list);
    let mut segments = Vec::new();
    while !bytes.0.is_empty() {
        if segments.len() >= usize::from(MAX_SEGMENTS) {
            return Err(at(AdditionalSense::TOO_MANY_SEGMENT_DESCRIPTORS, length_at));
        }
        let place = start + list.len() - bytes.0.len();
        segments.push(parse_segment(&mut bytes, place, length_at)?);
    }
    Ok(segments)
}

fn parse_segment(
    bytes: &mut Bytes<'_>,
    place: usize,
    length_at: usize,
) -> Result<CopySegment, Sense> {
    let short = || at(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR, length_at);
    let [code, flags, high, low] = bytes.take().ok_or_else(short)?;
    let (expected, block_count_at) = match code {
        BLOCK_TO_BLOCK => (0x18, 10),
        BLOCK_TO_BLOCK_OFFSET => (0x1c, 8),
        _ => return Err(at(AdditionalSense::UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE, place)),
    };
    if u16::from_be_bytes([high, low]) != expected {
        return Err(at(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST, place + 2));
    }
    let body = bytes.slice(usize::from(expected)).ok_or_else(short)?;
    let place = u16::try_from(place).unwrap_or(u16::MAX);
    let place = (place, place.saturating_add(block_count_at));
    block_segment(code, flags, &mut Bytes(body), place).ok_or_else(short)
}

fn block_segment(
    code: u8,
    flags: u8,
    body: &mut Bytes<'_>,
    place: (u16, u16),
) -> Option<CopySegment> {
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
        place,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sense::FieldPointer;

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

    /// The same list in the longer format.
    fn list_lid4(targets: &[[u8; 32]], segments: &[Vec<u8>]) -> Vec<u8> {
        let segments = segments.concat();
        let mut data = vec![0; 48];
        data[0] = 1;
        data[3] = 0x20;
        data[15] = 1;
        data[16] = 0xff;
        data[20..24].copy_from_slice(&0x0102_0304u32.to_be_bytes());
        data[42..44].copy_from_slice(&u16::try_from(targets.len() * 32).unwrap().to_be_bytes());
        data[44..46].copy_from_slice(&u16::try_from(segments.len()).unwrap().to_be_bytes());
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

    fn field(byte: u16) -> Option<FieldPointer> {
        Some(FieldPointer { cdb: false, byte, bit: None })
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
        let segments = [segment(8, 0), segment(8, 2), with_offset];
        let data = list(&[target(), target()], &segments);
        let list = CopyList::parse(&data).unwrap();
        assert_eq!(list.list_identifier, Some(ListId::Lid1(7)));
        let naa = Some(*b"\x60123456789abcdef");
        assert_eq!(list.targets, [CopyTarget { naa, block_length: 512 }; 2]);
        let [first, second, third] = list.segments[..] else { panic!() };
        assert_eq!((first.source, first.destination), (0, 1));
        assert_eq!((first.source_lba, first.destination_lba), (5, 9));
        assert_eq!(first.length, CopyLength::SourceBlocks(8));
        assert_eq!(first.place, (80, 90));
        assert_eq!(second.length, CopyLength::DestinationBlocks(8));
        assert_eq!(third.length, CopyLength::Bytes(4096));
        assert_eq!((third.source_offset, third.destination_offset), (3, 4));
        assert_eq!(third.place, (136, 144));
        let mut discarding = data.clone();
        discarding[1] = 0x18;
        assert_eq!(CopyList::parse(&discarding).unwrap().list_identifier, None);
        discarding[1] = 0x08;
        assert_eq!(CopyList::parse(&discarding).unwrap_err().field.map(|it| it.byte), Some(1));

        let longer = list_lid4(&[target(), target()], &segments);
        let longer = CopyList::parse_lid4(&longer).unwrap();
        assert_eq!(longer.list_identifier, Some(ListId::Lid4(0x0102_0304)));
        assert!(longer.immediate && !list.immediate);
        assert_eq!(longer.targets, list.targets);
        assert_eq!(longer.segments[2].place, (168, 176));
        assert_eq!(longer.segments[2].length, CopyLength::Bytes(4096));
    }

    #[test]
    fn what_is_too_much_or_not_known_is_refused_with_its_place() {
        let refused = |data: &[u8]| {
            let sense = CopyList::parse(data).unwrap_err();
            (sense.asc, sense.field)
        };
        let targets = vec![target(); usize::from(MAX_TARGETS) + 1];
        let too_many = AdditionalSense::TOO_MANY_TARGET_DESCRIPTORS;
        assert_eq!(refused(&list(&targets, &[])), (too_many, field(2)));
        let segments = vec![segment(1, 0); usize::from(MAX_SEGMENTS) + 1];
        let many = list(&[target()], &segments);
        let too_many = AdditionalSense::TOO_MANY_SEGMENT_DESCRIPTORS;
        assert_eq!(refused(&many), (too_many, field(8)));
        let mut other = target();
        other[0] = 0xe0;
        let unknown = AdditionalSense::UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE;
        assert_eq!(refused(&list(&[target(), other], &[])), (unknown, field(48)));
        let stream = vec![0x03, 0, 0, 0x14];
        let unknown = AdditionalSense::UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE;
        assert_eq!(refused(&list(&[target()], &[stream])), (unknown, field(48)));
        let mut long = segment(1, 0);
        long[3] = 0x1c;
        let invalid = AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST;
        assert_eq!(refused(&list(&[target()], &[long])), (invalid, field(50)));
        let whole = list(&[target()], &[segment(1, 0)]);
        for length in 0..whole.len() {
            let length_error = AdditionalSense::PARAMETER_LIST_LENGTH_ERROR;
            assert_eq!(refused(&whole[..length]).0, length_error, "{length} bytes");
        }
        let mut inline = whole;
        inline[15] = 1;
        assert_eq!(refused(&inline), (AdditionalSense::PARAMETER_LIST_LENGTH_ERROR, field(12)));
    }

    #[test]
    fn the_header_of_the_longer_list_is_as_the_standard_has_it() {
        let whole = list_lid4(&[target()], &[segment(1, 0)]);
        for (byte, value) in [(0, 0), (2, 1), (16, 0)] {
            let mut data = whole.clone();
            data[byte] = value;
            let sense = CopyList::parse_lid4(&data).unwrap_err();
            let at = field(u16::try_from(byte).unwrap());
            assert_eq!(
                (sense.asc, sense.field),
                (AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST, at)
            );
        }
        for length in 0..whole.len() {
            let sense = CopyList::parse_lid4(&whole[..length]).unwrap_err();
            assert_eq!(sense.asc, AdditionalSense::PARAMETER_LIST_LENGTH_ERROR, "{length} bytes");
        }
        let mut inline = whole;
        inline[47] = 4;
        assert_eq!(CopyList::parse_lid4(&inline).unwrap_err().field, field(46));
    }

    proptest! {
        #[test]
        fn no_list_breaks_anything(data in prop::collection::vec(any::<u8>(), 0..600)) {
            for parse in [CopyList::parse, CopyList::parse_lid4] {
                if let Ok(list) = parse(&data) {
                    prop_assert!(list.targets.len() <= usize::from(MAX_TARGETS));
                    prop_assert!(list.segments.len() <= usize::from(MAX_SEGMENTS));
                }
            }
        }
    }
}
