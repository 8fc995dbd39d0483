//! Giving space back.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, RwLockWriteGuard};

use super::bat::{BatEntry, ENTRY_LENGTH, PayloadBlockState};
use super::journal::{Change, place};
use super::write::Source;
use super::{MIB, Piece, STRIPES, VhdxImage, index};
use crate::error::ImageError;
use crate::image::{Durability, Wait};

impl VhdxImage {
    /// Makes a range read zeroes and gives back what space it can.
    pub(super) fn discard(&self, offset: u64, length: u64) -> Result<(), ImageError> {
        if length == 0 {
            return Ok(());
        }
        self.begin_writing()?;
        let size = self.geometry.block_size;
        let disk = self.geometry_now().size;
        let mut whole = 0..0;
        for piece in self.pieces(offset, length) {
            let to_the_end = piece.block * size + piece.end() == disk;
            if piece.start == 0 && (piece.length == size || to_the_end) {
                if whole.is_empty() {
                    whole = piece.block..piece.block;
                }
                whole.end = piece.block + 1;
            } else {
                self.discard_part(piece)?;
            }
        }
        self.discard_blocks(whole)
    }

    /// A part of a block: a hole in the block, if it has a place.
    fn discard_part(&self, piece: Piece) -> Result<(), ImageError> {
        {
            let stripe = self.stripe(piece.block);
            let _shared = stripe.read().unwrap_or_else(PoisonError::into_inner);
            let entry = self.payload(piece.block, Wait::Block)?;
            match entry.state() {
                Some(PayloadBlockState::FullyPresent) => {
                    return self.clear(entry.offset() + piece.start, piece.length);
                }
                Some(PayloadBlockState::PartiallyPresent) => {}
                Some(PayloadBlockState::NotPresent) if self.parent_covers(piece.block) => {}
                _ => return Ok(()),
            }
        }
        self.write_piece(piece, Source::Zeroes, Durability::Cached).map(|_| ())
    }

    fn discard_blocks(&self, blocks: Range<u64>) -> Result<(), ImageError> {
        let mut bat = self.bat_offset.load(Ordering::Acquire);
        let mut first = blocks.start;
        while first < blocks.end {
            let (table, _) = self.entry_table(self.geometry.payload_index(first))?;
            let word = |block| {
                let (offset, word) = place(bat + self.geometry.payload_index(block) * ENTRY_LENGTH);
                (offset == table.offset()).then_some(word)
            };
            let mut end = first;
            let mut idle = true;
            while end < blocks.end
                && let Some(word) = word(end)
            {
                idle &= self.discarded(end, BatEntry(table.le(word))).is_none();
                end += 1;
            }
            // The BAT has just moved: once more.
            if end == first {
                bat = self.bat_offset.load(Ordering::Acquire);
                continue;
            }
            if !idle {
                self.discard_run(first..end)?;
            }
            first = end;
        }
        Ok(())
    }

    /// What becomes of an entry whose block is discarded, `None` if it reads zeroes and has no space
    /// already.
    fn discarded(&self, block: u64, entry: BatEntry) -> Option<BatEntry> {
        match entry.state()? {
            PayloadBlockState::FullyPresent if self.fixed || !self.file.punches() => Some(entry),
            PayloadBlockState::FullyPresent | PayloadBlockState::PartiallyPresent => {
                Some(BatEntry::payload(PayloadBlockState::Unmapped, entry.offset()))
            }
            PayloadBlockState::NotPresent if self.parent_covers(block) => {
                Some(BatEntry::payload(PayloadBlockState::Zero, 0))
            }
            PayloadBlockState::NotPresent
            | PayloadBlockState::Undefined
            | PayloadBlockState::Zero
            | PayloadBlockState::Unmapped => None,
        }
    }

    /// Discards blocks whose entries are in one sector of the BAT. Nobody writes to them meanwhile:
    /// what a late writer left in the place of an unmapped block would come to light again.
    fn discard_run(&self, blocks: Range<u64>) -> Result<(), ImageError> {
        let mut journal = self.journal();
        let _alone = self.lock_stripes(&blocks);
        let mut changes = Vec::new();
        let mut holes = Vec::new();
        for block in blocks {
            let (table, word) = self.entry_table(self.geometry.payload_index(block))?;
            let entry = BatEntry(table.le(word));
            let Some(new) = self.discarded(block, entry) else { continue };
            if new != entry {
                changes.push(Change { table, word, value: new.0 });
            }
            if entry.offset() >= MIB && new.offset() == entry.offset() {
                holes.push(entry.offset());
            }
        }
        if !changes.is_empty() {
            self.change(&mut journal, &changes)?;
        }
        for offset in holes {
            self.clear(offset, self.geometry.block_size)?;
        }
        Ok(())
    }

    fn lock_stripes(&self, blocks: &Range<u64>) -> Vec<RwLockWriteGuard<'_, ()>> {
        let mut places: Vec<u64> = blocks.clone().take(STRIPES).collect();
        places.sort_unstable_by_key(|block| index(*block) % STRIPES);
        let lock = |block| self.stripe(block).write().unwrap_or_else(PoisonError::into_inner);
        places.into_iter().map(lock).collect()
    }
}
