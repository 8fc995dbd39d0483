//! Making new images.

use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use super::bat::{BatEntry, LARGEST_DISK, PayloadBlockState};
use super::header::{HEADER_OFFSETS, Header, file_identifier};
use super::locator::ParentLocator;
use super::metadata::{self, Metadata};
use super::region::{Region, RegionTable, TABLE_OFFSETS};
use super::{MIB, VhdxImage, index};
use crate::block_file::BlockFile;
use crate::create::{CreateOptions, NewImage, Preallocation};
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::file::ImageFile;
use crate::format::OpenOptions;
use crate::image::Image as _;
use crate::parents::Ancestors;

/// Bytes of a block, unless the options say otherwise: as Hyper-V has it.
const BLOCK: u32 = 32 << 20;
/// The same for a disk with a parent, where a block costs space as soon as it is touched.
const CHILD_BLOCK: u32 = 2 << 20;
const LOG: u32 = 1 << 20;
const METADATA: u32 = 1 << 20;
/// Room in the BAT for growth: so many times the disk.
const ROOM: u64 = 4;

/// What a new image looks like.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    metadata: Metadata,
    bat: Region,
    /// Where the blocks of a fixed disk are; the file ends behind them.
    blocks: std::ops::Range<u64>,
}

/// Checks what can be said before there is a file.
pub(crate) fn check(options: &CreateOptions) -> Result<(), String> {
    let block = options.block_bytes.unwrap_or(BLOCK);
    if !block.is_power_of_two() || !(MIB..=256 * MIB).contains(&block.into()) {
        return Err(format!("a VHDX has blocks of 1, 2, 4 … 256 MiB, not of {block} bytes"));
    }
    let sector = options.logical_block_bytes;
    if ![512, 4096].contains(&sector) {
        return Err(format!("a VHDX has logical blocks of 512 or 4096 bytes, not of {sector}"));
    }
    let size = options.size_bytes;
    if size == 0 || size > LARGEST_DISK || !size.is_multiple_of(sector.into()) {
        return Err(format!("a VHDX has at most 64 TiB in whole blocks, not {size} bytes"));
    }
    if options.parent.is_some() && options.preallocation == Preallocation::Full {
        return Err("a VHDX with a parent takes its space when it is written".to_owned());
    }
    Ok(())
}

impl Plan {
    /// What the options want for the image `path`. A parent is opened, to see what it is.
    pub(crate) fn of(path: &Arc<Path>, options: &CreateOptions) -> Result<Self, ImageError> {
        let refuse = |kind, reason: String| {
            ImageError::new(kind, Operation::Create, path.clone()).because(reason)
        };
        check(options).map_err(|reason| refuse(ImageErrorKind::Unsupported, reason))?;
        let Some(parent) = &options.parent else { return Ok(Self::new(options, None)) };
        let directory = crate::pool::directory_of(path);
        let file = ImageFile::open(directory.join(&parent.path), true)?;
        let mut ancestors = Ancestors::of(&file);
        // Whoever asks for it knows where it is.
        let allowed = parent.path.parent().map(|parent| directory.join(parent));
        let open = OpenOptions {
            parent_directories: allowed.into_iter().collect(),
            ..OpenOptions::read_only()
        };
        let image = VhdxImage::open(Arc::new(file), &open, &mut ancestors)?;
        if image.size_bytes() > options.size_bytes {
            let reason = format!("the parent has {} bytes", image.size_bytes());
            return Err(refuse(ImageErrorKind::ParentMismatch, reason));
        }
        let (Some(relative), Ok(absolute)) =
            (parent.path.to_str(), directory.join(&parent.path).canonicalize())
        else {
            let reason = "the parent's path is no text".to_owned();
            return Err(refuse(ImageErrorKind::Unsupported, reason));
        };
        let relative = relative.replace('/', r"\");
        let locator =
            ParentLocator::new(image.data_write_guid(), &relative, &absolute.to_string_lossy());
        Ok(Self::new(options, Some(locator)))
    }

    /// What the options want, which have been checked; `parent` if there is one.
    pub(super) fn new(options: &CreateOptions, parent: Option<ParentLocator>) -> Self {
        let fixed = options.preallocation == Preallocation::Full;
        let default = if parent.is_some() { CHILD_BLOCK } else { BLOCK };
        let metadata = Metadata {
            block_size: options.block_bytes.unwrap_or(default),
            leave_blocks_allocated: fixed,
            virtual_disk_size: options.size_bytes,
            virtual_disk_id: Uuid::new_v4(),
            logical_sector_size: options.logical_block_bytes,
            physical_sector_size: 4096,
            parent,
        };
        let geometry = metadata.geometry();
        let roomy = super::bat::Geometry {
            size: geometry.size.saturating_mul(ROOM).min(LARGEST_DISK),
            ..geometry
        };
        let bat = Region {
            offset: MIB + u64::from(LOG) + u64::from(METADATA),
            length: u32::try_from(roomy.table_length()).unwrap_or(u32::MAX),
        };
        let start = bat.range().end;
        let length = if fixed { geometry.blocks() * geometry.block_size } else { 0 };
        Self { metadata, bat, blocks: start..start + length }
    }

    fn write_all(&self, file: &dyn BlockFile) -> Result<(), ImageError> {
        file.set_length(self.blocks.end)?;
        let metadata_offset = MIB + u64::from(LOG);
        file.write_at(&metadata::emit(&self.metadata), metadata_offset)?;
        let regions = RegionTable {
            bat: self.bat,
            metadata: Region { offset: metadata_offset, length: METADATA },
            others: Vec::new(),
        };
        for offset in TABLE_OFFSETS {
            file.write_at(&regions.emit(), offset)?;
        }
        if self.metadata.leave_blocks_allocated {
            self.write_bat(file)?;
        }
        let mut header = Header {
            sequence_number: 1,
            file_write_guid: Uuid::new_v4(),
            data_write_guid: Uuid::new_v4(),
            log_guid: Uuid::nil(),
            log_version: 0,
            version: 1,
            log_length: LOG,
            log_offset: MIB,
        };
        for offset in HEADER_OFFSETS {
            file.write_at(&header.emit(), offset)?;
            header.sequence_number += 1;
        }
        file.write_at(&file_identifier(), 0)
    }

    /// All blocks are there, one after the other.
    fn write_bat(&self, file: &dyn BlockFile) -> Result<(), ImageError> {
        let geometry = self.metadata.geometry();
        let mut table = Vec::with_capacity(index(MIB));
        let mut start = self.bat.offset;
        let mut next = 0;
        for block in 0..geometry.blocks() {
            while next < geometry.payload_index(block) {
                table.extend_from_slice(&BatEntry::default().0.to_le_bytes());
                next += 1;
            }
            let offset = self.blocks.start + block * geometry.block_size;
            let entry = BatEntry::payload(PayloadBlockState::FullyPresent, offset);
            table.extend_from_slice(&entry.0.to_le_bytes());
            next += 1;
            if table.len() >= index(MIB) {
                file.write_at(&table, start)?;
                start += super::bytes(table.len());
                table.clear();
            }
        }
        file.write_at(&table, start)
    }
}

impl NewImage for Plan {
    fn write(&self, file: &dyn BlockFile) -> Result<(), ImageError> {
        self.write_all(file)
    }

    fn space(&self) -> std::ops::Range<u64> {
        self.blocks.clone()
    }
}
