//! Copies by tokens (SBC-3 §4.27, §5.9, §5.49; SPC-4 §5.17.6): the parameter lists of POPULATE TOKEN
//! and WRITE USING TOKEN, and the token itself. ROD: representation of data.

use super::{Bytes, LENGTH_ERROR, at};
use crate::asc::AdditionalSense;
use crate::capacity::capacity_parameters;
use crate::device::Device;
use crate::plan::BlockRange;
use crate::reply::{Fields as _, truncate};
use crate::sense::Sense;
use crate::vpd::target_device_designator;

/// Bytes of a ROD token.
pub const TOKEN_LENGTH: usize = 512;
/// Random bytes that go into one.
pub const RANDOM_LENGTH: usize = TOKEN_LENGTH - TAIL;
/// TOKEN LIFETIME that no token outlives, however much it is used.
pub const MAX_LIFETIME_SECONDS: u32 = 24 * 3600;

/// MAXIMUM RANGE DESCRIPTORS.
pub(super) const MAX_RANGES: u16 = 64;
/// MAXIMUM INACTIVITY TIMEOUT.
pub(super) const MAX_INACTIVITY_SECONDS: u32 = 600;
/// DEFAULT INACTIVITY TIMEOUT.
pub(super) const DEFAULT_INACTIVITY_SECONDS: u32 = 60;
/// The most that a token represents, and that one command moves: it bounds how long a command
/// that is not IMMED takes.
pub(super) const MAX_TOKEN_BYTES: u64 = 1 << 30;
/// OPTIMAL TRANSFER COUNT, in bytes.
pub(super) const OPTIMAL_BYTES: u64 = 64 << 20;

/// ROD TYPE: point in time copy, default.
pub(super) const POINT_IN_TIME: u32 = 0x0080_0000;
/// ROD TYPE: point in time copy, change vulnerable. What is represented is what was there; a change
/// of it ends the token.
pub(super) const CHANGE_VULNERABLE: u32 = 0x0080_0001;
/// ROD TYPE: point in time copy, any.
const ANY_POINT_IN_TIME: u32 = 0x0080_ffff;
/// ROD TYPE: block device zero.
pub(super) const BLOCK_ZERO: u32 = 0xffff_0001;

/// ROD TOKEN LENGTH: bytes behind that field.
const LENGTH_FIELD: u16 = 0x01f8;
/// Where READ CAPACITY(16) data without its first field stands.
const CAPACITY: usize = 96;
/// Where the target device descriptor stands, and behind it what nobody can guess.
const TAIL: usize = 128;

/// Where the range descriptors of POPULATE TOKEN begin.
const POPULATE_HEADER: usize = 16;
/// The same of WRITE USING TOKEN.
const WRITE_HEADER: usize = 536;
/// Bytes of a range descriptor.
const DESCRIPTOR: usize = 16;

/// POPULATE TOKEN, with its parameter list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PopulateToken {
    /// LIST IDENTIFIER.
    pub list_identifier: u32,
    /// IMMED.
    pub immediate: bool,
    /// Seconds without use after which the token is gone.
    pub inactivity_seconds: u32,
    /// ROD TYPE of the token.
    pub rod_type: u32,
    /// What the token represents, in this order; all of it lies on the medium, nothing twice.
    pub ranges: Vec<BlockRange>,
}

/// WRITE USING TOKEN, with its parameter list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteUsingToken {
    /// LIST IDENTIFIER.
    pub list_identifier: u32,
    /// IMMED.
    pub immediate: bool,
    /// DEL_TKN: the token is not needed any more.
    pub delete: bool,
    /// OFFSET INTO ROD, in blocks of the unit that is written.
    pub offset: u64,
    /// ROD TOKEN.
    pub token: [u8; TOKEN_LENGTH],
    /// What is written, in this order; all of it lies on the medium, nothing twice.
    pub ranges: Vec<BlockRange>,
}

/// What a ROD token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RodToken {
    /// Zeroes, as many as are wanted.
    Zeroes,
    /// What the copy manager that made it knows under its COPY MANAGER ROD TOKEN IDENTIFIER.
    Identified(u64),
}

impl PopulateToken {
    pub(super) fn parse(list_identifier: u32, data: &[u8], device: &Device) -> Result<Self, Sense> {
        let mut bytes = Bytes(data);
        let mut read =
            || Some((bytes.u16()?, bytes.u8()?, bytes.u8()?, bytes.u32()?, bytes.u32()?));
        let (length, flags, _, inactivity, rod_type) = read().ok_or(LENGTH_ERROR)?;
        let list = range_list(data, length, POPULATE_HEADER)?;
        if inactivity > MAX_INACTIVITY_SECONDS {
            return Err(Sense::invalid_field_in_parameter_list(4, None));
        }
        // RTV: the type is valid.
        let rod_type = match (flags & 0x02 != 0, rod_type) {
            (false, _) | (true, CHANGE_VULNERABLE | ANY_POINT_IN_TIME) => CHANGE_VULNERABLE,
            (true, POINT_IN_TIME) => POINT_IN_TIME,
            (true, _) => return Err(Sense::invalid_field_in_parameter_list(8, None)),
        };
        let inactivity = if inactivity == 0 { DEFAULT_INACTIVITY_SECONDS } else { inactivity };
        Ok(Self {
            list_identifier,
            immediate: flags & 0x01 != 0,
            inactivity_seconds: inactivity,
            rod_type,
            ranges: ranges(list, POPULATE_HEADER, device)?,
        })
    }
}

impl WriteUsingToken {
    pub(super) fn parse(list_identifier: u32, data: &[u8], device: &Device) -> Result<Self, Sense> {
        let mut bytes = Bytes(data);
        let mut read = || {
            let (length, flags) = (bytes.u16()?, bytes.u8()?);
            bytes.take::<5>()?;
            Some((length, flags, bytes.u64()?, bytes.take::<TOKEN_LENGTH>()?))
        };
        let (length, flags, offset, token) = read().ok_or(LENGTH_ERROR)?;
        let list = range_list(data, length, WRITE_HEADER)?;
        Ok(Self {
            list_identifier,
            immediate: flags & 0x01 != 0,
            delete: flags & 0x02 != 0,
            offset,
            token,
            ranges: ranges(list, WRITE_HEADER, device)?,
        })
    }

    /// What the token stands for.
    ///
    /// # Errors
    /// INVALID TOKEN OPERATION: UNSUPPORTED TOKEN TYPE, INVALID TOKEN LENGTH.
    pub fn rod_token(&self) -> Result<RodToken, Sense> {
        let mut bytes = Bytes(&self.token);
        let kind = bytes.u32().ok_or(LENGTH_ERROR)?;
        if !matches!(kind, BLOCK_ZERO | POINT_IN_TIME | CHANGE_VULNERABLE) {
            let asc = AdditionalSense::INVALID_TOKEN_OPERATION_UNSUPPORTED_TOKEN_TYPE;
            return Err(at(asc, 16));
        }
        bytes.u16();
        if bytes.u16() != Some(LENGTH_FIELD) {
            return Err(at(AdditionalSense::INVALID_TOKEN_OPERATION_INVALID_TOKEN_LENGTH, 22));
        }
        if kind == BLOCK_ZERO {
            return Ok(RodToken::Zeroes);
        }
        bytes.u64().map(RodToken::Identified).ok_or(LENGTH_ERROR)
    }
}

/// COPY MANAGER ROD TOKEN IDENTIFIER.
#[must_use]
pub fn identifier_of(token: &[u8; TOKEN_LENGTH]) -> u64 {
    token.get(8..).and_then(|rest| Bytes(rest).u64()).unwrap_or_default()
}

/// Bytes of a ROD management token: a token without what makes it usable (SPC-4 §5.17.6.4).
const MANAGEMENT_TOKEN: usize = 96;

/// Parameter data of REPORT ALL ROD TOKENS (SPC-4 §6.31).
pub fn management_tokens<'a>(
    tokens: impl Iterator<Item = &'a [u8; TOKEN_LENGTH]>,
    allocation_length: u32,
    reply: &mut Vec<u8>,
) {
    reply.clear();
    reply.zeroes(8);
    for token in tokens {
        reply.extend_from_slice(token.get(..MANAGEMENT_TOKEN).unwrap_or_default());
    }
    // AVAILABLE DATA.
    super::status::set_length(reply);
    truncate(reply, allocation_length);
}

/// The range descriptors, whose length stands in the two bytes in front of them.
fn range_list(data: &[u8], length: u16, header: usize) -> Result<&[u8], Sense> {
    // POPULATE TOKEN DATA LENGTH, WRITE USING TOKEN DATA LENGTH: what follows it.
    let length = usize::from(length) + 2;
    if length < header + DESCRIPTOR {
        return Err(Sense::invalid_field_in_parameter_list(0, None));
    }
    let data = data.get(..length).ok_or(LENGTH_ERROR)?;
    let (head, list) = data.split_at_checked(header).ok_or(LENGTH_ERROR)?;
    let length_at = header - 2;
    let length = head.last_chunk::<2>().map_or(0, |field| u16::from_be_bytes(*field));
    // A descriptor that is not whole is ignored.
    let count = usize::from(length) / DESCRIPTOR;
    if count == 0 {
        return Err(at(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST, length_at));
    }
    if count > usize::from(MAX_RANGES) {
        return Err(at(AdditionalSense::TOO_MANY_SEGMENT_DESCRIPTORS, length_at));
    }
    let whole = list.get(..count * DESCRIPTOR);
    whole.ok_or_else(|| at(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST, length_at))
}

/// Reads block device range descriptors, which stand at `start`.
fn ranges(list: &[u8], start: usize, device: &Device) -> Result<Vec<BlockRange>, Sense> {
    let invalid = |byte| at(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST, byte);
    let block_length = u64::from(device.logical_block_length);
    let mut ranges = Vec::new();
    let mut total = 0;
    for (index, descriptor) in list.chunks_exact(DESCRIPTOR).enumerate() {
        let mut bytes = Bytes(descriptor);
        let (Some(lba), Some(blocks)) = (bytes.u64(), bytes.u32()) else { break };
        let end = lba.checked_add(u64::from(blocks));
        if end.is_none_or(|end| end > device.block_count()) {
            return Err(Sense::lba_out_of_range(lba));
        }
        let place = start + index * DESCRIPTOR;
        let overlaps = |other: &BlockRange| {
            let (start, end) = (other.lba, other.lba + u64::from(other.blocks));
            lba < end && start < lba + u64::from(blocks)
        };
        if ranges.iter().any(overlaps) {
            return Err(invalid(place));
        }
        total += u64::from(blocks) * block_length;
        if total > MAX_TOKEN_BYTES {
            return Err(invalid(place + 8));
        }
        ranges.push(BlockRange { lba, blocks });
    }
    Ok(ranges)
}

/// What a token says of the data that it represents (SPC-4 §5.17.6.4, SBC-3 §4.27.2).
#[derive(Debug, Clone, Copy)]
pub struct Represented<'a> {
    /// COPY MANAGER ROD TOKEN IDENTIFIER.
    pub identifier: u64,
    /// ROD TYPE.
    pub rod_type: u32,
    /// Where the data was.
    pub device: &'a Device,
    /// Name of the target device through which it was asked for.
    pub target: &'a str,
    /// NUMBER OF BYTES REPRESENTED.
    pub bytes: u64,
}

impl Represented<'_> {
    /// The token. Who has it can use it, so `random` must be what nobody can guess.
    #[must_use]
    pub fn token(&self, random: &[u8; RANDOM_LENGTH]) -> Box<[u8; TOKEN_LENGTH]> {
        let mut head = Vec::with_capacity(TOKEN_LENGTH);
        head.u32(self.rod_type);
        head.u16(0);
        head.u16(LENGTH_FIELD);
        head.u64(self.identifier);
        // CREATOR LOGICAL UNIT DESCRIPTOR: an identification descriptor CSCD descriptor.
        head.extend_from_slice(&[super::list::IDENTIFICATION, 0, 0, 0, 1, 3, 0, 16]);
        head.extend_from_slice(&self.device.naa);
        head.zeroes(4);
        head.u32(self.device.logical_block_length & 0x00ff_ffff);
        head.u64(0);
        head.u64(self.bytes);
        head.resize(CAPACITY, 0);
        capacity_parameters(self.device, &mut head);
        head.resize(TAIL, 0);
        target_device_designator(self.target, &mut head);
        let mut token = Box::new([0; TOKEN_LENGTH]);
        if let Some(tail) = token.get_mut(TAIL..) {
            tail.copy_from_slice(random);
        }
        // At most 232 bytes of the tail: 152 random ones are left.
        for (to, from) in token.iter_mut().zip(head) {
            *to = from;
        }
        token
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sense::FieldPointer;

    fn device() -> Device {
        Device::new("1", *b"\x60123456789abcdef", 512, 1 << 22)
    }

    fn with_ranges(mut head: Vec<u8>, ranges: &[(u64, u32)]) -> Vec<u8> {
        let at = head.len() - 2;
        let length = u16::try_from(ranges.len() * 16).unwrap();
        head[at..].copy_from_slice(&length.to_be_bytes());
        for (lba, blocks) in ranges {
            head.extend(lba.to_be_bytes());
            head.extend(blocks.to_be_bytes());
            head.extend([0; 4]);
        }
        let length = u16::try_from(head.len() - 2).unwrap();
        head[..2].copy_from_slice(&length.to_be_bytes());
        head
    }

    fn populate(ranges: &[(u64, u32)]) -> Vec<u8> {
        with_ranges(vec![0; 16], ranges)
    }

    fn write(token: &[u8; TOKEN_LENGTH], ranges: &[(u64, u32)]) -> Vec<u8> {
        let mut head = vec![0; 536];
        head[16..528].copy_from_slice(token);
        with_ranges(head, ranges)
    }

    fn field(byte: u16) -> Option<FieldPointer> {
        Some(FieldPointer { cdb: false, byte, bit: None })
    }

    fn refused(data: &[u8]) -> (AdditionalSense, Option<FieldPointer>) {
        let sense = PopulateToken::parse(1, data, &device()).unwrap_err();
        (sense.asc, sense.field)
    }

    const INVALID: AdditionalSense = AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST;
    const LENGTH: AdditionalSense = AdditionalSense::PARAMETER_LIST_LENGTH_ERROR;

    #[test]
    fn populate_token_is_read_as_windows_and_ddpt_send_it() {
        let mut data = populate(&[(8, 16), (100, 1)]);
        data[2] = 1;
        data[4..8].copy_from_slice(&300u32.to_be_bytes());
        let parsed = PopulateToken::parse(9, &data, &device()).unwrap();
        assert_eq!((parsed.list_identifier, parsed.immediate), (9, true));
        assert_eq!((parsed.inactivity_seconds, parsed.rod_type), (300, CHANGE_VULNERABLE));
        let ranges = [BlockRange { lba: 8, blocks: 16 }, BlockRange { lba: 100, blocks: 1 }];
        assert_eq!(parsed.ranges, ranges);
        // 0: the default.
        data[4..8].copy_from_slice(&[0; 4]);
        let parsed = PopulateToken::parse(9, &data, &device()).unwrap();
        assert_eq!(parsed.inactivity_seconds, DEFAULT_INACTIVITY_SECONDS);
        for (asked, given) in [
            (POINT_IN_TIME, Some(POINT_IN_TIME)),
            (CHANGE_VULNERABLE, Some(CHANGE_VULNERABLE)),
            (ANY_POINT_IN_TIME, Some(CHANGE_VULNERABLE)),
            // Access upon reference; point in time copy, persistent.
            (0x0001_0000, None),
            (0x0080_0002, None),
            (BLOCK_ZERO, None),
        ] {
            data[2] = 2;
            data[8..12].copy_from_slice(&asked.to_be_bytes());
            let parsed = PopulateToken::parse(9, &data, &device());
            assert_eq!(parsed.as_ref().ok().map(|it| it.rod_type), given, "{asked:08x}");
            if given.is_none() {
                assert_eq!(refused(&data), (INVALID, field(8)));
            }
            // Without RTV it is not looked at.
            data[2] = 0;
            assert!(PopulateToken::parse(9, &data, &device()).is_ok());
        }
    }

    #[test]
    fn each_wrong_field_of_populate_token_is_named() {
        let whole = populate(&[(8, 16), (100, 1)]);
        for length in 0..whole.len() {
            assert_eq!(refused(&whole[..length]).0, LENGTH, "{length} bytes");
        }
        let mut short = whole.clone();
        short[1] = 29;
        assert_eq!(refused(&short), (INVALID, field(0)));
        let mut less = whole.clone();
        less[1] = 30;
        assert_eq!(refused(&less), (INVALID, field(14)));
        let mut none = whole.clone();
        none[15] = 15;
        assert_eq!(refused(&none), (INVALID, field(14)));
        let mut patient = whole;
        patient[4..8].copy_from_slice(&601u32.to_be_bytes());
        assert_eq!(refused(&patient), (INVALID, field(4)));
        assert_eq!(refused(&populate(&[(8, 16), (23, 2)])), (INVALID, field(32)));
        let many: Vec<_> = (0..65).map(|lba| (lba, 1)).collect();
        let too_many = AdditionalSense::TOO_MANY_SEGMENT_DESCRIPTORS;
        assert_eq!(refused(&populate(&many)), (too_many, field(14)));
        assert!(PopulateToken::parse(1, &populate(&many[..64]), &device()).is_ok());
        assert_eq!(refused(&populate(&[(0, 1 << 21), (1 << 21, 1)])), (INVALID, field(40)));
        for range in [((1 << 22) - 1, 2), (1 << 22, 1), (u64::MAX, 1)] {
            let sense = PopulateToken::parse(1, &populate(&[range]), &device()).unwrap_err();
            assert_eq!(sense, Sense::lba_out_of_range(range.0));
        }
    }

    #[test]
    fn write_using_token_is_read_with_its_token() {
        let mut token = [0; TOKEN_LENGTH];
        token[..4].copy_from_slice(&BLOCK_ZERO.to_be_bytes());
        token[6..8].copy_from_slice(&LENGTH_FIELD.to_be_bytes());
        let mut data = write(&token, &[(7, 3)]);
        data[2] = 3;
        data[8..16].copy_from_slice(&5u64.to_be_bytes());
        let parsed = WriteUsingToken::parse(4, &data, &device()).unwrap();
        assert!(parsed.immediate && parsed.delete);
        assert_eq!((parsed.list_identifier, parsed.offset), (4, 5));
        assert_eq!(parsed.ranges, [BlockRange { lba: 7, blocks: 3 }]);
        assert_eq!(parsed.rod_token(), Ok(RodToken::Zeroes));
        let sense = |data: &[u8]| WriteUsingToken::parse(4, data, &device()).unwrap_err();
        for length in 0..data.len() {
            assert_eq!(sense(&data[..length]).asc, LENGTH, "{length} bytes");
        }
        data[535] = 8;
        assert_eq!((sense(&data).asc, sense(&data).field), (INVALID, field(534)));
        data[0..2].copy_from_slice(&0x0225u16.to_be_bytes());
        assert_eq!((sense(&data).asc, sense(&data).field), (INVALID, field(0)));
    }

    #[test]
    fn a_token_says_what_it_represents_and_how_long_it_is() {
        let device = device();
        let target = format!("iqn.2026-01.org.example:{}", "t".repeat(199));
        let represented = Represented {
            identifier: 77,
            rod_type: CHANGE_VULNERABLE,
            device: &device,
            target: &target,
            bytes: 4096,
        };
        let token = represented.token(&[0xa5; RANDOM_LENGTH]);
        assert_eq!(token[..8], [0x00, 0x80, 0, 1, 0, 0, 0x01, 0xf8]);
        assert_eq!(identifier_of(&token), 77);
        assert_eq!(token[16..24], [0xe4, 0, 0, 0, 1, 3, 0, 16]);
        assert_eq!(token[24..40], device.naa);
        assert_eq!(token[44..48], 512u32.to_be_bytes());
        assert_eq!(token[56..64], 4096u64.to_be_bytes());
        assert_eq!(token[96..100], 512u32.to_be_bytes());
        assert_eq!(token[128..132], [0x53, 0xa8, 0, 224]);
        assert_eq!(token[360..], [0xa5; 152]);
        let parsed = WriteUsingToken::parse(1, &write(&token, &[(0, 1)]), &device).unwrap();
        assert_eq!(parsed.rod_token(), Ok(RodToken::Identified(77)));
        let asc = |change: fn(&mut [u8; TOKEN_LENGTH])| {
            let mut other = token.clone();
            change(&mut other);
            let parsed = WriteUsingToken::parse(1, &write(&other, &[(0, 1)]), &device).unwrap();
            let sense = parsed.rod_token().unwrap_err();
            (sense.asc, sense.field)
        };
        let unsupported = AdditionalSense::INVALID_TOKEN_OPERATION_UNSUPPORTED_TOKEN_TYPE;
        assert_eq!(asc(|it| it[1] = 1), (unsupported, field(16)));
        let length = AdditionalSense::INVALID_TOKEN_OPERATION_INVALID_TOKEN_LENGTH;
        assert_eq!(asc(|it| it[7] = 0xf7), (length, field(22)));
    }

    proptest! {
        #[test]
        fn no_list_breaks_anything(data in prop::collection::vec(any::<u8>(), 0..700)) {
            for ranges in [
                PopulateToken::parse(1, &data, &device()).map(|it| it.ranges),
                WriteUsingToken::parse(1, &data, &device()).map(|it| it.ranges),
            ]
            .into_iter()
            .flatten()
            {
                let ends = ranges.iter().map(|it| it.lba + u64::from(it.blocks));
                prop_assert!(ends.max() <= Some(1 << 22));
            }
        }
    }
}
