//! The metadata region ([MS-VHDX] 2.6): what the disk is.

use uuid::{Uuid, uuid};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::MIB;
use super::bat::{Geometry, LARGEST_DISK};
use super::locator::ParentLocator;
use crate::defect::Defect;

/// Bytes of the table in front of the items.
pub(super) const TABLE_LENGTH: usize = 64 << 10;
/// The most entries that the table has room for.
const MOST_ENTRIES: usize = 2047;
/// The longest item.
const LONGEST_ITEM: u32 = 1 << 20;

const FILE_PARAMETERS: Uuid = uuid!("caa16737-fa36-4d43-b3b6-33f0aa44e76b");
const VIRTUAL_DISK_SIZE: Uuid = uuid!("2fa54224-cd1b-4876-b211-5dbed83bf4b8");
const VIRTUAL_DISK_ID: Uuid = uuid!("beca12ab-b2e6-4523-93ef-c309e000c746");
const LOGICAL_SECTOR_SIZE: Uuid = uuid!("8141bf1d-a96f-4709-ba47-f233a8faab5f");
const PHYSICAL_SECTOR_SIZE: Uuid = uuid!("cda348c7-445d-4471-9cc9-e9885251c556");
const PARENT_LOCATOR: Uuid = uuid!("a8d35f2d-b30b-454d-abf7-d3d84834ab0c");

const IS_USER: u32 = 1;
const IS_VIRTUAL_DISK: u32 = 2;
const IS_REQUIRED: u32 = 4;
const LEAVE_BLOCKS_ALLOCATED: u32 = 1;
const HAS_PARENT: u32 = 2;

#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    signature: [u8; 8],
    reserved: U16,
    entry_count: U16,
    reserved2: [u8; 20],
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    item_id: [u8; 16],
    offset: U32,
    length: U32,
    flags: U32,
    reserved: U32,
}

/// What the metadata say of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metadata {
    /// Bytes of a payload block.
    pub(super) block_size: u32,
    /// The disk is a fixed one: blocks keep their space.
    pub(super) leave_blocks_allocated: bool,
    /// Size of the disk in bytes.
    pub(super) virtual_disk_size: u64,
    /// Identifies the disk to its user: page 83 data.
    pub(super) virtual_disk_id: Uuid,
    /// Bytes of a logical sector.
    pub(super) logical_sector_size: u32,
    /// Bytes of a physical sector.
    pub(super) physical_sector_size: u32,
    /// Where the parent is, if there is one.
    pub(super) parent: Option<ParentLocator>,
}

impl Metadata {
    /// The numbers that follow from it.
    pub(super) fn geometry(&self) -> Geometry {
        Geometry {
            size: self.virtual_disk_size,
            block_size: self.block_size.into(),
            sector_size: self.logical_sector_size.into(),
            has_parent: self.parent.is_some(),
        }
    }

    /// Refuses what the format does not allow.
    pub(super) fn check(&self) -> Result<(), Defect> {
        let corrupt = |what: String| Err(Defect::corrupt(what));
        let block = u64::from(self.block_size);
        if !block.is_power_of_two() || !(MIB..=256 * MIB).contains(&block) {
            return corrupt(format!("block size {block} is no power of two from 1 to 256 MiB"));
        }
        for (name, size) in
            [("logical", self.logical_sector_size), ("physical", self.physical_sector_size)]
        {
            if ![512, 4096].contains(&size) {
                return corrupt(format!("{name} sector size {size} is neither 512 nor 4096"));
            }
        }
        let size = self.virtual_disk_size;
        if size == 0 || size > LARGEST_DISK || !size.is_multiple_of(self.logical_sector_size.into())
        {
            return corrupt(format!(
                "disk size {size} is not from one sector to 64 TiB in whole sectors"
            ));
        }
        Ok(())
    }
}

/// The metadata, and where in the region the size of the disk stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) metadata: Metadata,
    /// Offset from the start of the region.
    pub(super) size_offset: u32,
}

/// Reads the table (of [`TABLE_LENGTH`] bytes) and the items, which `item` fetches by offset and
/// length.
pub(super) fn parse<E: From<Defect>>(
    table: &[u8],
    region_length: u32,
    mut item: impl FnMut(u32, u32) -> Result<Vec<u8>, E>,
) -> Result<Parsed, E> {
    let entries = entries(table, region_length)?;
    let mut find = |id: Uuid, name: &str| -> Result<Option<(RawEntry, Vec<u8>)>, E> {
        let Some(entry) = entries.iter().find(|entry| is(entry, id)) else { return Ok(None) };
        if entry.flags.get() & IS_REQUIRED == 0 && id != PARENT_LOCATOR {
            return Err(Defect::corrupt(format!("{name} is not marked as required")).into());
        }
        Ok(Some((*entry, item(entry.offset.get(), entry.length.get())?)))
    };
    let missing = |name: &str| Defect::corrupt(format!("the metadata have no {name}"));
    let mut number = |id, name| -> Result<(RawEntry, u64), E> {
        let (entry, bytes) = find(id, name)?.ok_or_else(|| missing(name))?;
        let value = match *bytes.as_slice() {
            [a, b, c, d] if id != VIRTUAL_DISK_SIZE => u64::from(u32::from_le_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] if id == VIRTUAL_DISK_SIZE || id == FILE_PARAMETERS => {
                u64::from_le_bytes([a, b, c, d, e, f, g, h])
            }
            _ => {
                let length = bytes.len();
                return Err(Defect::corrupt(format!("{name} has {length} bytes")).into());
            }
        };
        Ok((entry, value))
    };
    let (_, parameters) = number(FILE_PARAMETERS, "file parameters")?;
    let (size_entry, virtual_disk_size) = number(VIRTUAL_DISK_SIZE, "virtual disk size")?;
    let (_, logical) = number(LOGICAL_SECTOR_SIZE, "logical sector size")?;
    let (_, physical) = number(PHYSICAL_SECTOR_SIZE, "physical sector size")?;
    let (_, id) = find(VIRTUAL_DISK_ID, "virtual disk id")?.ok_or_else(|| missing("disk id"))?;
    let Ok(id) = <[u8; 16]>::try_from(id.as_slice()) else {
        return Err(Defect::corrupt(format!("the virtual disk id has {} bytes", id.len())).into());
    };
    let flags = low(parameters >> 32);
    let parent = if flags & HAS_PARENT != 0 {
        let (_, bytes) =
            find(PARENT_LOCATOR, "parent locator")?.ok_or_else(|| missing("parent locator"))?;
        Some(ParentLocator::parse(&bytes)?)
    } else {
        None
    };
    let metadata = Metadata {
        block_size: low(parameters),
        leave_blocks_allocated: flags & LEAVE_BLOCKS_ALLOCATED != 0,
        virtual_disk_size,
        virtual_disk_id: Uuid::from_bytes_le(id),
        logical_sector_size: low(logical),
        physical_sector_size: low(physical),
        parent,
    };
    metadata.check()?;
    Ok(Parsed { metadata, size_offset: size_entry.offset.get() })
}

fn low(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0)
}

/// A system item with this identifier.
fn is(entry: &RawEntry, id: Uuid) -> bool {
    entry.item_id == id.to_bytes_le() && entry.flags.get() & IS_USER == 0
}

/// The entries of the table, all of which could be and are known or not required.
fn entries(table: &[u8], region_length: u32) -> Result<Vec<RawEntry>, Defect> {
    let damaged = || Defect::corrupt("the metadata table is damaged");
    let (header, rest) = RawHeader::ref_from_prefix(table).map_err(|_| damaged())?;
    let count = usize::from(header.entry_count.get());
    if header.signature != *b"metadata" || count > MOST_ENTRIES || table.len() != TABLE_LENGTH {
        return Err(damaged());
    }
    let (entries, _) =
        <[RawEntry]>::ref_from_prefix_with_elems(rest, count).map_err(|_| damaged())?;
    let known = [
        FILE_PARAMETERS,
        VIRTUAL_DISK_SIZE,
        VIRTUAL_DISK_ID,
        LOGICAL_SECTOR_SIZE,
        PHYSICAL_SECTOR_SIZE,
        PARENT_LOCATOR,
    ];
    let mut seen = std::collections::HashSet::new();
    for entry in entries {
        let (offset, length) = (entry.offset.get(), entry.length.get());
        let id = Uuid::from_bytes_le(entry.item_id);
        let empty = offset == 0 && length == 0;
        let inside = offset >= 64 << 10
            && length > 0
            && length <= LONGEST_ITEM
            && offset.checked_add(length).is_some_and(|end| end <= region_length);
        if !empty && !inside {
            return Err(Defect::corrupt(format!(
                "metadata item {id} at {offset} of {length} bytes is not in its region"
            )));
        }
        if entry.flags.get() & IS_REQUIRED != 0 && !known.iter().any(|known| is(entry, *known)) {
            return Err(Defect::unsupported(format!("required metadata item {id} is not known")));
        }
        if !seen.insert((entry.item_id, entry.flags.get() & IS_USER)) {
            return Err(Defect::corrupt(format!("metadata item {id} is there twice")));
        }
    }
    Ok(entries.to_vec())
}

/// The beginning of a metadata region: table and items. The rest of the region is zeroes.
pub(super) fn emit(metadata: &Metadata) -> Vec<u8> {
    let parent = if metadata.parent.is_some() { HAS_PARENT } else { 0 };
    let fixed = if metadata.leave_blocks_allocated { LEAVE_BLOCKS_ALLOCATED } else { 0 };
    let parameters = u64::from(parent | fixed) << 32 | u64::from(metadata.block_size);
    let disk = IS_VIRTUAL_DISK | IS_REQUIRED;
    let mut items = vec![
        (FILE_PARAMETERS, IS_REQUIRED, parameters.to_le_bytes().to_vec()),
        (VIRTUAL_DISK_SIZE, disk, metadata.virtual_disk_size.to_le_bytes().to_vec()),
        (LOGICAL_SECTOR_SIZE, disk, metadata.logical_sector_size.to_le_bytes().to_vec()),
        (PHYSICAL_SECTOR_SIZE, disk, metadata.physical_sector_size.to_le_bytes().to_vec()),
        (VIRTUAL_DISK_ID, disk, metadata.virtual_disk_id.to_bytes_le().to_vec()),
    ];
    if let Some(locator) = &metadata.parent {
        items.push((PARENT_LOCATOR, IS_REQUIRED, locator.emit()));
    }
    let header = RawHeader {
        signature: *b"metadata",
        reserved: U16::new(0),
        entry_count: U16::new(u16::try_from(items.len()).unwrap_or(0)),
        reserved2: <[u8; 20]>::new_zeroed(),
    };
    let mut table = header.as_bytes().to_vec();
    let mut data = Vec::new();
    for (id, flags, bytes) in items {
        let entry = RawEntry {
            item_id: id.to_bytes_le(),
            offset: U32::new(u32::try_from(TABLE_LENGTH + data.len()).unwrap_or(0)),
            length: U32::new(u32::try_from(bytes.len()).unwrap_or(0)),
            flags: U32::new(flags),
            reserved: U32::new(0),
        };
        table.extend_from_slice(entry.as_bytes());
        data.extend_from_slice(&bytes);
    }
    table.resize(TABLE_LENGTH, 0);
    table.extend_from_slice(&data);
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ImageErrorKind;

    fn metadata() -> Metadata {
        Metadata {
            block_size: 32 << 20,
            leave_blocks_allocated: false,
            virtual_disk_size: 10 << 30,
            virtual_disk_id: Uuid::from_u128(77),
            logical_sector_size: 512,
            physical_sector_size: 4096,
            parent: None,
        }
    }

    fn read(region: &[u8]) -> Result<Parsed, Defect> {
        parse(&region[..TABLE_LENGTH], 1 << 20, |offset, length| {
            let start = offset as usize;
            Ok(region.get(start..start + length as usize).unwrap_or_default().to_vec())
        })
    }

    #[test]
    fn what_is_written_is_read() {
        for parent in [None, Some(ParentLocator::new(Uuid::from_u128(3), r".\p.vhdx", "/d/p.vhdx"))]
        {
            let metadata = Metadata { parent, ..metadata() };
            let region = emit(&metadata);
            let parsed = read(&region).unwrap();
            assert_eq!(parsed.metadata, metadata);
            let at = parsed.size_offset as usize;
            assert_eq!(region[at..at + 8], metadata.virtual_disk_size.to_le_bytes());
        }
    }

    #[test]
    fn disks_that_cannot_be_are_refused() {
        let wrong = [
            Metadata { block_size: 3 << 20, ..metadata() },
            Metadata { block_size: 512 << 20, ..metadata() },
            Metadata { block_size: 1 << 19, ..metadata() },
            Metadata { virtual_disk_size: 0, ..metadata() },
            Metadata { virtual_disk_size: 1000, ..metadata() },
            Metadata { virtual_disk_size: LARGEST_DISK + 512, ..metadata() },
            Metadata { logical_sector_size: 1024, ..metadata() },
            Metadata { physical_sector_size: 0, ..metadata() },
        ];
        for metadata in wrong {
            let refused = read(&emit(&metadata)).unwrap_err().kind();
            assert_eq!(refused, ImageErrorKind::Corrupt, "{metadata:?}");
        }
    }

    #[test]
    fn tables_that_cannot_be_are_refused() {
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut region = emit(&metadata());
            change(&mut region);
            read(&region).unwrap_err().kind()
        };
        let entry = |number: usize| 32 + 32 * number;
        assert_eq!(refused(&|region| region[0] = 0), ImageErrorKind::Corrupt);
        // An item outside of its region, twice, without its length, missing.
        assert_eq!(refused(&|region| region[entry(1) + 18] = 0xff), ImageErrorKind::Corrupt);
        assert_eq!(refused(&|region| region[entry(1) + 20] = 7), ImageErrorKind::Corrupt);
        assert_eq!(refused(&|region| region[10] = 4), ImageErrorKind::Corrupt);
        assert_eq!(
            refused(&|region| {
                let first: Vec<u8> = region[entry(0)..entry(1)].to_vec();
                region[entry(5)..entry(6)].copy_from_slice(&first);
                region[10] = 6;
            }),
            ImageErrorKind::Corrupt
        );
        // Something required that nobody knows; the same as a user's item.
        assert_eq!(refused(&|region| region[entry(4)] ^= 1), ImageErrorKind::Unsupported);
        assert_eq!(refused(&|region| region[entry(4) + 24] |= 1), ImageErrorKind::Unsupported);
    }
}
