//! Footer and dynamic disk header (Virtual Hard Disk Image Format Specification 1.0).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::Uuid;
use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::SECTOR;
use crate::defect::Defect;

/// Bytes of a footer.
pub(super) const FOOTER_LENGTH: usize = 512;
/// Bytes of a dynamic disk header.
pub(super) const HEADER_LENGTH: usize = 1024;
/// The largest disk: the format's 2040 GiB.
pub(super) const LARGEST_DISK: u64 = 2040 << 30;
/// Sectors of the largest geometry.
const LARGEST_GEOMETRY: u64 = 65535 * 16 * 255;
/// An offset that points nowhere.
const NOWHERE: u64 = u64::MAX;
/// Seconds from 1970 to 2000, from which the format counts.
const EPOCH: u64 = 946_684_800;
/// Programs that mean the size where they write a size; others mean the geometry.
const SIZE_COUNTS: [&[u8; 4]; 6] = [b"win ", b"qem2", b"d2v ", b"CTXS", b"tap\0", b"wa\0\0"];
/// Each byte of a sector in hexadecimal is a locator's platform: Windows, UTF-16, absolute.
pub(super) const W2KU: [u8; 4] = *b"W2ku";
/// The same, relative to the child's directory.
pub(super) const W2RU: [u8; 4] = *b"W2ru";

/// What kind of disk it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DiskType {
    /// The data, then the footer.
    Fixed,
    /// Blocks that are there when they have been written.
    Dynamic,
    /// The same over a parent.
    Differencing,
}

/// Cylinders, heads, sectors in a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) cylinders: u16,
    pub(super) heads: u8,
    pub(super) sectors: u8,
}

impl Geometry {
    /// The geometry for so many sectors (appendix "CHS calculation").
    pub(super) fn of(sectors: u64) -> Self {
        let total = sectors.min(LARGEST_GEOMETRY);
        let (track, heads, cylinder_heads) = if total >= 65535 * 16 * 63 {
            (255, 16, total / 255)
        } else {
            let heads = (total / 17).div_ceil(1024).max(4);
            let candidates = [(17, heads, total / 17), (31, 16, total / 31), (63, 16, total / 63)];
            let fits = |(_, heads, cylinder_heads): &(u64, u64, u64)| {
                *heads <= 16 && *cylinder_heads < heads * 1024
            };
            candidates.into_iter().find(fits).unwrap_or((63, 16, total / 63))
        };
        let narrow = |value: u64| u8::try_from(value).unwrap_or(u8::MAX);
        Self {
            cylinders: u16::try_from(cylinder_heads / heads).unwrap_or(u16::MAX),
            heads: narrow(heads),
            sectors: narrow(track),
        }
    }

    /// Sectors of a disk with this geometry.
    fn total(self) -> u64 {
        u64::from(self.cylinders) * u64::from(self.heads) * u64::from(self.sectors)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawFooter {
    cookie: [u8; 8],
    features: U32,
    version: U32,
    data_offset: U64,
    time_stamp: U32,
    creator_application: [u8; 4],
    creator_version: U32,
    creator_host_os: [u8; 4],
    original_size: U64,
    current_size: U64,
    cylinders: U16,
    heads: u8,
    sectors: u8,
    disk_type: U32,
    checksum: U32,
    unique_id: [u8; 16],
    saved_state: u8,
    reserved: [u8; 427],
}

impl RawFooter {
    /// The same with its checksum.
    fn summed(mut self) -> Self {
        self.checksum = U32::new(checksum(self.as_bytes(), 64));
        self
    }
}

/// A footer whose checksum is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Footer {
    /// As it stands in the file: what is not known here is kept.
    raw: RawFooter,
    /// Kind of disk.
    pub(super) disk_type: DiskType,
    /// Where the dynamic disk header is.
    pub(super) data_offset: u64,
    /// Identifies the disk: children know their parent by it.
    pub(super) unique_id: Uuid,
}

impl Footer {
    /// A new disk's.
    pub(super) fn new(disk_type: DiskType, size: u64) -> Self {
        let geometry = Geometry::of(size / SECTOR);
        let unique_id = Uuid::new_v4();
        let data_offset = if disk_type == DiskType::Fixed { NOWHERE } else { SECTOR };
        let raw = RawFooter {
            cookie: *b"conectix",
            features: U32::new(2),
            version: U32::new(0x0001_0000),
            data_offset: U64::new(data_offset),
            time_stamp: U32::new(time_stamp(SystemTime::now())),
            // Of the names that readers know to mean the size in bytes, the one that all know.
            creator_application: *b"win ",
            creator_version: U32::new(0x0006_0001),
            creator_host_os: *b"Wi2k",
            original_size: U64::new(size),
            current_size: U64::new(size),
            cylinders: U16::new(geometry.cylinders),
            heads: geometry.heads,
            sectors: geometry.sectors,
            disk_type: U32::new(match disk_type {
                DiskType::Fixed => 2,
                DiskType::Dynamic => 3,
                DiskType::Differencing => 4,
            }),
            checksum: U32::new(0),
            unique_id: unique_id.into_bytes(),
            saved_state: 0,
            reserved: <[u8; 427]>::new_zeroed(),
        };
        Self { raw: raw.summed(), disk_type, data_offset, unique_id }
    }

    /// The footer in `bytes`; `None` if there is none or it is damaged.
    pub(super) fn parse(bytes: &[u8; FOOTER_LENGTH]) -> Result<Option<Self>, Defect> {
        let Ok(raw) = RawFooter::ref_from_bytes(bytes) else { return Ok(None) };
        if raw.cookie != *b"conectix" || raw.checksum.get() != checksum(bytes, 64) {
            return Ok(None);
        }
        let version = raw.version.get();
        if version >> 16 != 1 {
            return Err(Defect::unsupported(format!("VHD version {version:#x} is not 1.0")));
        }
        if raw.saved_state != 0 {
            return Err(Defect::unsupported("the disk belongs to a saved virtual machine"));
        }
        let disk_type = match raw.disk_type.get() {
            2 => DiskType::Fixed,
            3 => DiskType::Dynamic,
            4 => DiskType::Differencing,
            other => {
                return Err(Defect::unsupported(format!("VHD disk type {other} is not known")));
            }
        };
        Ok(Some(Self {
            disk_type,
            data_offset: raw.data_offset.get(),
            unique_id: Uuid::from_bytes(raw.unique_id),
            raw: raw.clone(),
        }))
    }

    /// Its bytes.
    pub(super) fn emit(&self) -> [u8; FOOTER_LENGTH] {
        zerocopy::transmute!(self.raw.clone())
    }

    /// Size of the disk in bytes, as whoever made it means it.
    pub(super) fn size(&self) -> u64 {
        let geometry = Geometry {
            cylinders: self.raw.cylinders.get(),
            heads: self.raw.heads,
            sectors: self.raw.sectors,
        };
        let sectors = geometry.total();
        let creator = &self.raw.creator_application;
        if SIZE_COUNTS.contains(&creator) || sectors == LARGEST_GEOMETRY {
            self.raw.current_size.get() / SECTOR * SECTOR
        } else {
            sectors * SECTOR
        }
    }

    /// The same disk, larger; from then on the size counts, not the geometry.
    pub(super) fn resized(&self, size: u64) -> Self {
        let geometry = Geometry::of(size / SECTOR);
        let raw = RawFooter {
            current_size: U64::new(size),
            cylinders: U16::new(geometry.cylinders),
            heads: geometry.heads,
            sectors: geometry.sectors,
            creator_application: *b"win ",
            ..self.raw.clone()
        };
        Self { raw: raw.summed(), ..*self }
    }
}

/// A place that a parent locator names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Locator {
    /// How the text there is to be read.
    pub(super) platform: [u8; 4],
    /// Bytes of the text.
    pub(super) length: u32,
    /// Where it is.
    pub(super) offset: u64,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawLocator {
    platform: [u8; 4],
    space: U32,
    length: U32,
    reserved: U32,
    offset: U64,
}

#[derive(Debug, Clone, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    cookie: [u8; 8],
    data_offset: U64,
    table_offset: U64,
    version: U32,
    max_table_entries: U32,
    block_size: U32,
    checksum: U32,
    parent_unique_id: [u8; 16],
    parent_time_stamp: U32,
    reserved: U32,
    parent_name: [u8; 512],
    locators: [RawLocator; 8],
    reserved2: [u8; 256],
}

/// The header of a disk that has blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DynamicHeader {
    /// Where the BAT is.
    pub(super) table_offset: u64,
    /// Its entries.
    pub(super) max_table_entries: u32,
    /// Bytes of a block's data.
    pub(super) block_size: u32,
    /// The parent's [`Footer::unique_id`].
    pub(super) parent_unique_id: Uuid,
    /// When the parent was changed last, in seconds since 2000.
    pub(super) parent_time_stamp: u32,
    /// The parent's file name.
    pub(super) parent_name: String,
    /// Where the parent's paths are.
    pub(super) locators: Vec<Locator>,
}

impl DynamicHeader {
    /// The header in `bytes`.
    pub(super) fn parse(bytes: &[u8; HEADER_LENGTH]) -> Result<Self, Defect> {
        let damaged = || Defect::corrupt("the dynamic disk header is damaged");
        let raw = RawHeader::ref_from_bytes(bytes).map_err(|_| damaged())?;
        if raw.cookie != *b"cxsparse" || raw.checksum.get() != checksum(bytes, 36) {
            return Err(damaged());
        }
        let version = raw.version.get();
        if version >> 16 != 1 {
            let what = format!("dynamic disk header version {version:#x} is not 1.0");
            return Err(Defect::unsupported(what));
        }
        let block = raw.block_size.get();
        if !block.is_power_of_two() || !(512 << 10..=256 << 20).contains(&block) {
            let what = format!("block size {block} is no power of two from 512 KiB to 256 MiB");
            return Err(Defect::unsupported(what));
        }
        let name = raw.parent_name.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair));
        let name: Vec<u16> = name.take_while(|unit| *unit != 0).collect();
        let locators = raw.locators.iter().filter(|locator| locator.platform != [0; 4]);
        Ok(Self {
            table_offset: raw.table_offset.get(),
            max_table_entries: raw.max_table_entries.get(),
            block_size: block,
            parent_unique_id: Uuid::from_bytes(raw.parent_unique_id),
            parent_time_stamp: raw.parent_time_stamp.get(),
            parent_name: String::from_utf16_lossy(&name),
            locators: locators
                .map(|locator| Locator {
                    platform: locator.platform,
                    length: locator.length.get(),
                    offset: locator.offset.get(),
                })
                .collect(),
        })
    }

    /// The first sector of the header `bytes` with another BAT, which is all that changes of it:
    /// what is not known here is kept.
    pub(super) fn moved(
        bytes: &[u8; HEADER_LENGTH],
        table_offset: u64,
        max_table_entries: u32,
    ) -> [u8; FOOTER_LENGTH] {
        let mut raw: RawHeader = zerocopy::transmute!(*bytes);
        raw.table_offset = U64::new(table_offset);
        raw.max_table_entries = U32::new(max_table_entries);
        raw.checksum = U32::new(checksum(raw.as_bytes(), 36));
        let bytes: [[u8; FOOTER_LENGTH]; 2] = zerocopy::transmute!(raw);
        let [first, _] = bytes;
        first
    }

    /// Its bytes, with checksum.
    pub(super) fn emit(&self) -> [u8; HEADER_LENGTH] {
        let mut parent_name = [0; 512];
        let units = self.parent_name.encode_utf16().flat_map(u16::to_be_bytes).take(510);
        for (to, from) in parent_name.iter_mut().zip(units) {
            *to = from;
        }
        let mut locators = <[RawLocator; 8]>::new_zeroed();
        for (to, from) in locators.iter_mut().zip(&self.locators) {
            *to = RawLocator {
                platform: from.platform,
                space: U32::new(from.length.next_multiple_of(512)),
                length: U32::new(from.length),
                reserved: U32::new(0),
                offset: U64::new(from.offset),
            };
        }
        let mut raw = RawHeader {
            cookie: *b"cxsparse",
            data_offset: U64::new(NOWHERE),
            table_offset: U64::new(self.table_offset),
            version: U32::new(0x0001_0000),
            max_table_entries: U32::new(self.max_table_entries),
            block_size: U32::new(self.block_size),
            checksum: U32::new(0),
            parent_unique_id: self.parent_unique_id.into_bytes(),
            parent_time_stamp: U32::new(self.parent_time_stamp),
            reserved: U32::new(0),
            parent_name,
            locators,
            reserved2: <[u8; 256]>::new_zeroed(),
        };
        raw.checksum = U32::new(checksum(raw.as_bytes(), 36));
        zerocopy::transmute!(raw)
    }
}

/// One's complement of the sum of all bytes but the four of the checksum itself.
fn checksum(bytes: &[u8], at: usize) -> u32 {
    let sum = |bytes: Option<&[u8]>| {
        bytes.unwrap_or_default().iter().map(|byte| u32::from(*byte)).sum::<u32>()
    };
    !(sum(bytes.get(..at)) + sum(bytes.get(at + 4..)))
}

/// A moment as the format has it.
pub(super) fn time_stamp(moment: SystemTime) -> u32 {
    let since = moment.duration_since(UNIX_EPOCH + Duration::from_secs(EPOCH));
    since.map_or(0, |since| u32::try_from(since.as_secs()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ImageErrorKind;

    #[test]
    fn geometries_are_those_of_the_specification() {
        // What QEMU and Virtual PC compute.
        for (mib, cylinders, heads, sectors) in [
            (10, 301, 4, 17),
            (100, 1003, 12, 17),
            (1024, 2080, 16, 63),
            (10 * 1024, 20805, 16, 63),
            (100 * 1024, 51400, 16, 255),
            (131_072, 65535, 16, 255),
        ] {
            let geometry = Geometry::of(mib * 2048);
            assert_eq!(geometry, Geometry { cylinders, heads, sectors }, "{mib} MiB");
        }
    }

    #[test]
    fn a_footer_survives_and_any_flipped_byte_is_noticed() {
        for kind in [DiskType::Fixed, DiskType::Dynamic, DiskType::Differencing] {
            let footer = Footer::new(kind, 12345 * 512);
            let bytes = footer.emit();
            assert_eq!(footer.size(), 12345 * 512);
            assert_eq!(Footer::parse(&bytes).unwrap(), Some(footer));
            for at in [0, 9, 40, 64, 70, 511] {
                let mut bytes = bytes;
                bytes[at] ^= 1;
                assert_eq!(Footer::parse(&bytes).unwrap(), None, "byte {at}");
            }
        }
    }

    #[test]
    fn the_size_is_what_its_maker_means() {
        let footer = Footer::new(DiskType::Dynamic, 10 << 20);
        let by = |creator, footer: &Footer| {
            let raw = RawFooter { creator_application: creator, ..footer.raw.clone() };
            Footer { raw, ..footer.clone() }
        };
        let old = by(*b"vpc ", &footer);
        assert_eq!(old.size(), 301 * 4 * 17 * 512);
        assert_eq!(by(*b"qemu", &Footer::new(DiskType::Dynamic, 1 << 40)).size(), 1 << 40);
        assert_eq!(old.resized(20 << 20).size(), 20 << 20);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let footer = Footer::new(DiskType::Fixed, 1 << 20).emit();
        let refused = |at: usize, value: u8| {
            let mut bytes = footer;
            bytes[at] = value;
            let sum = checksum(&bytes, 64).to_be_bytes();
            bytes[64..68].copy_from_slice(&sum);
            Footer::parse(&bytes).unwrap_err().kind()
        };
        for (at, value) in [(13, 2), (63, 9), (84, 1)] {
            assert_eq!(refused(at, value), ImageErrorKind::Unsupported, "byte {at}");
        }
    }

    #[test]
    fn a_header_survives() {
        let header = DynamicHeader {
            table_offset: 1536,
            max_table_entries: 7,
            block_size: 2 << 20,
            parent_unique_id: Uuid::from_u128(5),
            parent_time_stamp: 9,
            parent_name: "größer.vhd".to_owned(),
            locators: vec![Locator { platform: W2RU, length: 20, offset: 8192 }],
        };
        let bytes = header.emit();
        assert_eq!(DynamicHeader::parse(&bytes).unwrap(), header);
        let mut torn = bytes;
        torn[570] ^= 1;
        assert!(DynamicHeader::parse(&torn).is_err());
        // Bytes behind the name's end, which say nothing.
        let sum = checksum(&torn, 36).to_be_bytes();
        torn[36..40].copy_from_slice(&sum);
        let first = DynamicHeader::moved(&torn, 1 << 20, 9);
        torn[..512].copy_from_slice(&first);
        let larger = DynamicHeader { table_offset: 1 << 20, max_table_entries: 9, ..header };
        assert_eq!(DynamicHeader::parse(&torn).unwrap(), larger);
    }
}
