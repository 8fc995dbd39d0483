//! Region tables ([MS-VHDX] 2.2.3): where BAT and metadata are.

use std::ops::Range;

use uuid::{Uuid, uuid};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::MIB;
use super::header::checksum;
use crate::defect::Defect;

/// Bytes of a region table.
pub(super) const TABLE_LENGTH: usize = 64 << 10;
/// Where the two copies of the table are.
pub(super) const TABLE_OFFSETS: [u64; 2] = [192 << 10, 256 << 10];
/// The most entries that a table has room for.
const MOST_ENTRIES: usize = 2047;

const BAT: Uuid = uuid!("2dc27766-f623-4200-9d64-115e9bfd4a08");
const METADATA: Uuid = uuid!("8b7ca206-4790-4b9a-b8fe-575f050f886e");

#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    signature: [u8; 4],
    checksum: U32,
    entry_count: U32,
    reserved: U32,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    guid: [u8; 16],
    file_offset: U64,
    length: U32,
    required: U32,
}

/// A piece of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    /// First byte.
    pub(super) offset: u64,
    /// Bytes.
    pub(super) length: u32,
}

impl Region {
    /// Its bytes.
    pub(super) fn range(self) -> Range<u64> {
        self.offset..self.offset.saturating_add(u64::from(self.length))
    }
}

/// A region table that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RegionTable {
    /// The block allocation table.
    pub(super) bat: Region,
    /// The metadata region.
    pub(super) metadata: Region,
    /// Regions that are not known and need not be: kept as they are.
    pub(super) others: Vec<(Uuid, Region)>,
}

impl RegionTable {
    /// The table of which `copies` are the two copies. The second counts only if the first is
    /// damaged.
    pub(super) fn parse(copies: [&[u8]; 2]) -> Result<Self, Defect> {
        let Some(entries) = copies.into_iter().find_map(entries) else {
            return Err(Defect::corrupt("both region tables are damaged"));
        };
        let (mut bat, mut metadata) = (None, None);
        let mut others = Vec::new();
        for entry in entries {
            let region = Region { offset: entry.file_offset.get(), length: entry.length.get() };
            let guid = Uuid::from_bytes_le(entry.guid);
            let length = u64::from(region.length);
            if region.offset < MIB
                || !region.offset.is_multiple_of(MIB)
                || length == 0
                || !length.is_multiple_of(MIB)
                || region.offset.checked_add(length).is_none()
            {
                return Err(Defect::corrupt(format!(
                    "region {guid} at {} of {length} bytes is not aligned to 1 MiB",
                    region.offset
                )));
            }
            let twice = match guid {
                BAT => bat.replace(region).is_some(),
                METADATA => metadata.replace(region).is_some(),
                _ if entry.required.get() & 1 != 0 => {
                    return Err(Defect::unsupported(format!(
                        "required region {guid} is not known"
                    )));
                }
                _ => {
                    let twice = others.iter().any(|(other, _)| *other == guid);
                    others.push((guid, region));
                    twice
                }
            };
            if twice {
                return Err(Defect::corrupt(format!("region {guid} is there twice")));
            }
        }
        let missing = |name| move || Defect::corrupt(format!("there is no {name} region"));
        let bat = bat.ok_or_else(missing("BAT"))?;
        let metadata = metadata.ok_or_else(missing("metadata"))?;
        Ok(Self { bat, metadata, others })
    }

    /// The bytes of one copy.
    pub(super) fn emit(&self) -> Vec<u8> {
        let known = [(BAT, self.bat, 1), (METADATA, self.metadata, 1)];
        let others = self.others.iter().map(|(guid, region)| (*guid, *region, 0));
        let entries: Vec<_> = known.into_iter().chain(others).take(MOST_ENTRIES).collect();
        let header = RawHeader {
            signature: *b"regi",
            checksum: U32::new(0),
            entry_count: U32::new(u32::try_from(entries.len()).unwrap_or(0)),
            reserved: U32::new(0),
        };
        let mut bytes = header.as_bytes().to_vec();
        for (guid, region, required) in entries {
            let entry = RawEntry {
                guid: guid.to_bytes_le(),
                file_offset: U64::new(region.offset),
                length: U32::new(region.length),
                required: U32::new(required),
            };
            bytes.extend_from_slice(entry.as_bytes());
        }
        bytes.resize(TABLE_LENGTH, 0);
        let sum = checksum(&bytes).to_le_bytes();
        for (byte, sum) in bytes.iter_mut().skip(4).zip(sum) {
            *byte = sum;
        }
        bytes
    }

    /// All pieces of the file that the table names.
    pub(super) fn all(&self) -> impl Iterator<Item = Region> + '_ {
        [self.bat, self.metadata].into_iter().chain(self.others.iter().map(|(_, region)| *region))
    }
}

/// The entries of a copy, or `None` if it is damaged.
fn entries(bytes: &[u8]) -> Option<Vec<RawEntry>> {
    let (header, rest) = RawHeader::ref_from_prefix(bytes).ok()?;
    let count = usize::try_from(header.entry_count.get()).ok()?;
    let whole = bytes.len() == TABLE_LENGTH
        && header.signature == *b"regi"
        && header.checksum.get() == checksum(bytes)
        && count <= MOST_ENTRIES;
    if !whole {
        return None;
    }
    let (entries, _) = <[RawEntry]>::ref_from_prefix_with_elems(rest, count).ok()?;
    Some(entries.to_vec())
}

/// Refuses pieces of the file that overlap each other or end behind `file_length`.
pub(super) fn check_disjoint(mut pieces: Vec<Range<u64>>, file_length: u64) -> Result<(), Defect> {
    pieces.sort_by_key(|piece| piece.start);
    for pair in pieces.windows(2) {
        if let [first, second] = pair
            && first.end > second.start
        {
            return Err(Defect::corrupt(format!(
                "what lies at {} and at {} overlaps",
                first.start, second.start
            )));
        }
    }
    match pieces.last() {
        Some(last) if last.end > file_length => Err(Defect::corrupt(format!(
            "a region ends at {}, the file at {file_length}",
            last.end
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ImageErrorKind;

    fn table() -> RegionTable {
        RegionTable {
            bat: Region { offset: 3 * MIB, length: 1 << 20 },
            metadata: Region { offset: 2 * MIB, length: 1 << 20 },
            others: vec![(Uuid::from_u128(5), Region { offset: 9 * MIB, length: 2 << 20 })],
        }
    }

    fn refused(table: &RegionTable) -> ImageErrorKind {
        let bytes = table.emit();
        RegionTable::parse([&bytes, &bytes]).unwrap_err().kind()
    }

    #[test]
    fn a_table_survives_and_one_whole_copy_is_enough() {
        let whole = table().emit();
        let mut damaged = whole.clone();
        damaged[70] ^= 1;
        assert_eq!(RegionTable::parse([&whole, &damaged]).unwrap(), table());
        assert_eq!(RegionTable::parse([&damaged, &whole]).unwrap(), table());
        let both = RegionTable::parse([&damaged, &damaged]).unwrap_err();
        assert_eq!(both.kind(), ImageErrorKind::Corrupt);
    }

    #[test]
    fn regions_that_cannot_be_are_refused() {
        for (offset, length) in [(0, 1 << 20), (3 * MIB + 1, 1 << 20), (3 * MIB, 4096), (MIB, 0)] {
            let table = RegionTable { bat: Region { offset, length }, ..table() };
            assert_eq!(refused(&table), ImageErrorKind::Corrupt, "{offset} {length}");
        }
        let mut twice = table();
        twice.others.push((BAT, table().bat));
        assert_eq!(refused(&twice), ImageErrorKind::Corrupt);
        let mut bytes = table().emit();
        bytes[16 + 2 * 32 + 28] = 1;
        let sum = checksum(&bytes).to_le_bytes();
        bytes[4..8].copy_from_slice(&sum);
        let required = RegionTable::parse([&bytes, &bytes]).unwrap_err();
        assert_eq!(required.kind(), ImageErrorKind::Unsupported);
    }

    #[test]
    fn overlaps_and_what_lies_behind_the_end_are_found() {
        check_disjoint(vec![4..8, 0..4, 8..9], 9).unwrap();
        assert!(check_disjoint(vec![4..8, 0..5], 9).is_err());
        assert!(check_disjoint(vec![4..8, 0..4], 7).is_err());
    }
}
