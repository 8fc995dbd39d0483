//! Making the disk smaller while it is in use: nobody looks behind its new end any more.

use std::ops::Range;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::blocks::{Block, Blocks, UNUSED};
use super::{SECTOR, Structure, VhdImage, index};
use crate::error::{ImageError, ImageErrorKind, Operation};

/// Bytes of an entry of the BAT.
const ENTRY: u64 = 4;

impl VhdImage {
    /// Makes the disk as small as `size`, if it is not so small already.
    pub(super) fn cut_to(&self, size: u64) -> Result<(), ImageError> {
        let refuse = |kind, reason: &str| {
            Err(self.error(kind, Operation::Resize).at(0, size).because(reason))
        };
        let before = self.structure().footer.size();
        if size < before {
            if self.file.is_read_only() {
                return refuse(ImageErrorKind::ReadOnly, "it is open for reading");
            }
            if size == 0 || !size.is_multiple_of(SECTOR) {
                return refuse(ImageErrorKind::OutOfRange, "a VHD has sectors of 512 bytes");
            }
            if self.parent.as_ref().is_some_and(|parent| parent.size() > size) {
                let reason = "the parent is larger, and its data would come to light";
                return refuse(ImageErrorKind::Unsupported, reason);
            }
            self.begin_writing()?;
            let mut structure = self.structure();
            self.size.fetch_min(size, Ordering::AcqRel);
            match &self.blocks {
                None => self.cut_fixed(&mut structure, size)?,
                Some(blocks) => self.cut_blocks(&mut structure, blocks, size)?,
            }
        }
        self.size.fetch_min(size, Ordering::AcqRel);
        Ok(())
    }

    /// The file has a footer at its end at any time.
    fn cut_fixed(&self, structure: &mut Structure, size: u64) -> Result<(), ImageError> {
        let footer = structure.footer.resized(size);
        self.file.write_at(&footer.emit(), size)?;
        self.file.flush()?;
        self.file.set_length(size + SECTOR)?;
        self.file.flush()?;
        (structure.footer, structure.end, structure.whole) = (footer, size, true);
        Ok(())
    }

    fn cut_blocks(
        &self,
        structure: &mut Structure,
        blocks: &Blocks,
        size: u64,
    ) -> Result<(), ImageError> {
        let keeps = size.div_ceil(blocks.size);
        let gone = self.forget(structure, blocks, keeps)?;
        let footer = structure.footer.resized(size);
        self.put_footer(structure, footer)?;
        for place in gone {
            self.file.punch(place.start, place.end - place.start)?;
        }
        Ok(())
    }

    /// Takes the blocks from `first` on out of the BAT, durably; where they are in the file.
    fn forget(
        &self,
        structure: &Structure,
        blocks: &Blocks,
        first: u64,
    ) -> Result<Vec<Range<u64>>, ImageError> {
        let Some(header) = &structure.header else { return Ok(Vec::new()) };
        let mut table = blocks.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut gone = Vec::new();
        for (number, block) in (0..).zip(table.iter_mut()).skip(index(first)) {
            let sector = block.sector.load(Ordering::Acquire);
            if sector == UNUSED {
                continue;
            }
            let entry = header.table_offset + number * ENTRY;
            self.file.write_at(&UNUSED.to_be_bytes(), entry)?;
            *block = Block::new(UNUSED);
            let start = u64::from(sector) * SECTOR;
            gone.push(start..start + blocks.bitmap + blocks.size);
        }
        drop(table);
        if !gone.is_empty() {
            self.flush_structure()?;
        }
        Ok(gone)
    }

    fn flush_structure(&self) -> Result<(), ImageError> {
        let changed = self.changed.fetch_add(1, Ordering::AcqRel) + 1;
        self.file.flush()?;
        self.synced.fetch_max(changed, Ordering::AcqRel);
        Ok(())
    }
}
