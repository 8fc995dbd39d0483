//! Looking things up: entries of the BAT, bits of sector bitmaps.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::bat::{BatEntry, ENTRY_LENGTH};
use super::journal::place;
use super::log::SECTOR;
use super::{VhdxImage, bytes};
use crate::cache::Table;
use crate::defect::Defect;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::image::Wait;

/// Bits of a word.
const WORD_BITS: u64 = 64;

impl VhdxImage {
    /// The entry of a payload block.
    pub(super) fn payload(&self, block: u64, wait: Wait) -> Result<BatEntry, ImageError> {
        self.entry(self.geometry.payload_index(block), wait)
    }

    /// The entry of the sector bitmap block that describes a payload block.
    pub(super) fn bitmap(&self, block: u64, wait: Wait) -> Result<BatEntry, ImageError> {
        self.entry(self.geometry.bitmap_index(block), wait)
    }

    fn entry(&self, index: u64, wait: Wait) -> Result<BatEntry, ImageError> {
        let bat = self.bat_offset.load(Ordering::Acquire);
        let (table, word) = place(bat + index * ENTRY_LENGTH);
        self.word(table, word, wait).map(BatEntry)
    }

    fn word(&self, table: u64, word: usize, wait: Wait) -> Result<u64, ImageError> {
        if let Some(value) = self.cache.peek(table, |table| table.le(word)) {
            return Ok(value);
        }
        if wait == Wait::Nowait {
            return Err(self.error(ImageErrorKind::WouldBlock, Operation::Read));
        }
        self.table(table).map(|table| table.le(word))
    }

    /// The sector of the BAT with the entry of this index, and which word that is.
    pub(super) fn entry_table(&self, index: u64) -> Result<(Arc<Table<()>>, usize), ImageError> {
        let bat = self.bat_offset.load(Ordering::Acquire);
        let (table, word) = place(bat + index * ENTRY_LENGTH);
        Ok((self.table(table)?, word))
    }

    /// A sector of the BAT or of a sector bitmap. Entries are looked at again whenever they come
    /// from the file.
    pub(super) fn table(&self, offset: u64) -> Result<Arc<Table<()>>, ImageError> {
        let bat = self.bat_offset.load(Ordering::Acquire);
        self.cache.get(&*self.file, offset, (), |table| {
            let Some(first) = offset.checked_sub(bat).map(|offset| offset / ENTRY_LENGTH) else {
                return Ok(());
            };
            let last = self.geometry_now().entries().min(first + bytes(SECTOR) / ENTRY_LENGTH);
            let end = self.end.load(Ordering::Acquire);
            for (index, word) in (first..last).zip(0..) {
                let claim = self.geometry_now().claim(index, BatEntry(table.le(word)));
                let claim = claim.and_then(|claim| match claim {
                    Some(claim) if claim.end > end => {
                        let what = format!("entry {index} of the BAT points behind the blocks");
                        Err(Defect::corrupt(what))
                    }
                    _ => Ok(()),
                });
                claim.map_err(|defect| {
                    defect.into_error(Operation::Read, self.file.path().clone())
                })?;
            }
            Ok(())
        })
    }

    /// The place in the file of the word with the bit of a sector, and the bit.
    pub(super) fn bit(&self, bitmap: BatEntry, block: u64, start: u64) -> (u64, usize, u64) {
        let sectors_per_block = self.geometry.block_size / self.geometry.sector_size;
        let sector = (block % self.geometry.chunk_ratio()) * sectors_per_block
            + start / self.geometry.sector_size;
        let (table, word) = place(bitmap.offset() + sector / WORD_BITS * ENTRY_LENGTH);
        (table, word, sector % WORD_BITS)
    }

    /// Whether the sector at `start` of a partially present block is in this file, and up to where
    /// in the block (at most `end`) that holds for all.
    pub(super) fn run(
        &self,
        block: u64,
        start: u64,
        end: u64,
        wait: Wait,
    ) -> Result<(bool, u64), ImageError> {
        let bitmap = self.bitmap(block, wait)?;
        if bitmap.bitmap_present() != Some(true) {
            let what = format!("block {block} is partially present and has no sector bitmap");
            return Err(Defect::corrupt(what).into_error(Operation::Read, self.file.path().clone()));
        }
        let size = self.geometry.sector_size;
        let mut at = start / size * size;
        let mut here = None;
        while at < end {
            let (table, word, bit) = self.bit(bitmap, block, at);
            let rest = self.word(table, word, wait)? >> bit;
            let state = *here.get_or_insert(rest & 1 == 1);
            let same = if state { rest.trailing_ones() } else { rest.trailing_zeros() };
            let left = WORD_BITS - bit;
            let same = u64::from(same).min(left);
            at += same * size;
            if same < left {
                break;
            }
        }
        Ok((here.unwrap_or(false), at.min(end)))
    }
}
