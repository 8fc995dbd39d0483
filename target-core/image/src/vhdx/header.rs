//! File type identifier and headers ([MS-VHDX] 2.2.1, 2.2.2).

use uuid::Uuid;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::MIB;
use crate::defect::Defect;

/// First bytes of every VHDX file.
pub(super) const FILE_SIGNATURE: [u8; 8] = *b"vhdxfile";
/// Bytes of a header.
pub(super) const HEADER_LENGTH: usize = 4096;
/// Where the two headers are.
pub(super) const HEADER_OFFSETS: [u64; 2] = [64 << 10, 128 << 10];
/// Who wrote the file, UTF-16.
const CREATOR: &str = concat!("lund ", env!("CARGO_PKG_VERSION"));

/// The file type identifier as lund writes it.
pub(super) fn file_identifier() -> Vec<u8> {
    let mut bytes = FILE_SIGNATURE.to_vec();
    bytes.extend(CREATOR.encode_utf16().take(256).flat_map(u16::to_le_bytes));
    bytes
}

#[derive(Debug, Clone, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Raw {
    signature: [u8; 4],
    checksum: U32,
    sequence_number: U64,
    file_write_guid: [u8; 16],
    data_write_guid: [u8; 16],
    log_guid: [u8; 16],
    log_version: U16,
    version: U16,
    log_length: U32,
    log_offset: U64,
    reserved: [u8; 4016],
}

/// A header whose signature and checksum are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// The header with the greater number is the current one.
    pub(super) sequence_number: u64,
    /// Changes whenever the file is opened and then changed in any way.
    pub(super) file_write_guid: Uuid,
    /// Changes whenever the file is opened and then changed in a way that the disk's user sees.
    /// Children know their parent by it.
    pub(super) data_write_guid: Uuid,
    /// Entries of the log that count have this one; nil if the log is empty.
    pub(super) log_guid: Uuid,
    /// Version of the log's format.
    pub(super) log_version: u16,
    /// Version of the file's format.
    pub(super) version: u16,
    /// Bytes of the log.
    pub(super) log_length: u32,
    /// Where the log is.
    pub(super) log_offset: u64,
}

impl Header {
    /// The header in `bytes`, or `None` if it is damaged.
    pub(super) fn parse(bytes: &[u8; HEADER_LENGTH]) -> Option<Self> {
        let (raw, _) = Raw::read_from_prefix(bytes).ok()?;
        if raw.signature != *b"head" || checksum(bytes) != raw.checksum.get() {
            return None;
        }
        Some(Self {
            sequence_number: raw.sequence_number.get(),
            file_write_guid: Uuid::from_bytes_le(raw.file_write_guid),
            data_write_guid: Uuid::from_bytes_le(raw.data_write_guid),
            log_guid: Uuid::from_bytes_le(raw.log_guid),
            log_version: raw.log_version.get(),
            version: raw.version.get(),
            log_length: raw.log_length.get(),
            log_offset: raw.log_offset.get(),
        })
    }

    /// The header's bytes, with checksum.
    pub(super) fn emit(&self) -> [u8; HEADER_LENGTH] {
        let mut raw = Raw {
            signature: *b"head",
            checksum: U32::new(0),
            sequence_number: U64::new(self.sequence_number),
            file_write_guid: self.file_write_guid.to_bytes_le(),
            data_write_guid: self.data_write_guid.to_bytes_le(),
            log_guid: self.log_guid.to_bytes_le(),
            log_version: U16::new(self.log_version),
            version: U16::new(self.version),
            log_length: U32::new(self.log_length),
            log_offset: U64::new(self.log_offset),
            reserved: <[u8; 4016]>::new_zeroed(),
        };
        raw.checksum = U32::new(checksum(raw.as_bytes()));
        zerocopy::transmute!(raw)
    }

    /// Refuses versions that are not known and a log that cannot be.
    pub(super) fn check(&self) -> Result<(), Defect> {
        if self.version != 1 {
            return Err(Defect::unsupported(format!("VHDX version {} is not 1", self.version)));
        }
        if self.log_version != 0 {
            let version = self.log_version;
            return Err(Defect::unsupported(format!("log version {version} is not 0")));
        }
        let length = u64::from(self.log_length);
        if length == 0 || !length.is_multiple_of(MIB) {
            return Err(Defect::corrupt(format!("log length {length} is no multiple of 1 MiB")));
        }
        if self.log_offset < MIB || !self.log_offset.is_multiple_of(MIB) {
            let offset = self.log_offset;
            return Err(Defect::corrupt(format!("log offset {offset} is no multiple of 1 MiB")));
        }
        Ok(())
    }
}

/// The current one of the two headers, and its place in [`HEADER_OFFSETS`].
pub(super) fn current(
    first: Option<Header>,
    second: Option<Header>,
) -> Result<(usize, Header), Defect> {
    let (place, header) = match (first, second) {
        (Some(first), Some(second)) if first.sequence_number == second.sequence_number => {
            if first != second {
                return Err(Defect::corrupt("two different headers have one sequence number"));
            }
            (0, first)
        }
        (Some(first), Some(second)) if first.sequence_number < second.sequence_number => {
            (1, second)
        }
        (Some(first), _) => (0, first),
        (None, Some(second)) => (1, second),
        (None, None) => return Err(Defect::corrupt("both headers are damaged")),
    };
    header.check()?;
    Ok((place, header))
}

/// CRC-32C of a structure whose checksum is in bytes 4 to 7, which count as zeroes.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let head = bytes.get(..4).unwrap_or_default();
    let tail = bytes.get(8..).unwrap_or_default();
    let crc = crc32c::crc32c_append(crc32c::crc32c(head), &[0; 4]);
    crc32c::crc32c_append(crc, tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ImageErrorKind;

    fn header(sequence_number: u64) -> Header {
        Header {
            sequence_number,
            file_write_guid: Uuid::from_u128(1),
            data_write_guid: Uuid::from_u128(2),
            log_guid: Uuid::nil(),
            log_version: 0,
            version: 1,
            log_length: 1 << 20,
            log_offset: 1 << 20,
        }
    }

    #[test]
    fn a_header_survives_and_any_flipped_byte_is_noticed() {
        let bytes = header(7).emit();
        assert_eq!(Header::parse(&bytes), Some(header(7)));
        for at in [0, 5, 9, 20, 60, 70, 79, 2000, 4095] {
            let mut bytes = bytes;
            bytes[at] ^= 1;
            assert_eq!(Header::parse(&bytes), None, "byte {at}");
        }
    }

    #[test]
    fn the_greater_number_of_the_whole_headers_wins() {
        let (one, two) = (Some(header(1)), Some(header(2)));
        assert_eq!(current(one, two).unwrap(), (1, header(2)));
        assert_eq!(current(two, one).unwrap(), (0, header(2)));
        assert_eq!(current(one, None).unwrap(), (0, header(1)));
        assert_eq!(current(None, one).unwrap(), (1, header(1)));
        assert_eq!(current(one, one).unwrap(), (0, header(1)));
        let other = Header { data_write_guid: Uuid::from_u128(9), ..header(1) };
        for damaged in [current(None, None), current(one, Some(other))] {
            assert_eq!(damaged.unwrap_err().kind(), ImageErrorKind::Corrupt);
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let refused = |header: Header| current(Some(header), None).unwrap_err().kind();
        assert_eq!(refused(Header { version: 2, ..header(1) }), ImageErrorKind::Unsupported);
        assert_eq!(refused(Header { log_version: 1, ..header(1) }), ImageErrorKind::Unsupported);
        for log_length in [0, 4096, (1 << 20) + 1] {
            assert_eq!(refused(Header { log_length, ..header(1) }), ImageErrorKind::Corrupt);
        }
        for log_offset in [0, 4096, (1 << 20) + 1] {
            assert_eq!(refused(Header { log_offset, ..header(1) }), ImageErrorKind::Corrupt);
        }
    }
}
