//! Writing: in place where the block is, and all that a block needs that is not.

use std::io::{IoSlice, IoSliceMut};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::bat::{BITMAP_LENGTH, BatEntry, PayloadBlockState};
use super::journal::{Change, Journal};
use super::{MIB, Piece, VhdxImage, index};
use crate::error::ImageError;
use crate::image::{Durability, Image as _, Wait};

/// In a block of which a part is the parent's, so much is taken over at once: each time costs a
/// flush.
const CLUSTER: u64 = 64 << 10;
/// Bits of a word of a sector bitmap.
const WORD_BITS: u64 = 64;

/// What is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// These bytes.
    Data(&'a [IoSlice<'a>]),
    /// Zeroes that get space.
    Zeroes,
}

/// Space for a block, and where the used part of the file ends then.
struct Room {
    bitmap: u64,
    payload: u64,
    end: u64,
}

impl VhdxImage {
    /// Writes a piece. Whether it is as durable as it was to be; if not, a flush makes it so.
    pub(super) fn write_piece(
        &self,
        piece: Piece,
        source: Source<'_>,
        durability: Durability,
    ) -> Result<bool, ImageError> {
        self.begin_writing()?;
        {
            let stripe = self.stripe(piece.block);
            let _shared = stripe.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(offset) = self.in_place(piece)? {
                // Data that is durable is lost all the same if the entry that finds it is not.
                let settled =
                    self.synced.load(Ordering::Acquire) >= self.logged.load(Ordering::Acquire);
                let now = if settled { durability } else { Durability::Cached };
                self.put(source, offset, piece.length, now)?;
                return Ok(now == durability);
            }
        }
        self.write_new(piece, source)?;
        Ok(durability == Durability::Cached)
    }

    /// Where in the file the piece is, if all of it is there.
    fn in_place(&self, piece: Piece) -> Result<Option<u64>, ImageError> {
        let entry = self.payload(piece.block, Wait::Block)?;
        let here = match entry.state() {
            Some(PayloadBlockState::FullyPresent) => true,
            Some(PayloadBlockState::PartiallyPresent) => {
                self.run(piece.block, piece.start, piece.end(), Wait::Block)? == (true, piece.end())
            }
            _ => false,
        };
        Ok(here.then(|| entry.offset() + piece.start))
    }

    fn put(
        &self,
        source: Source<'_>,
        offset: u64,
        length: u64,
        durability: Durability,
    ) -> Result<(), ImageError> {
        match source {
            Source::Data(bufs) => self.file.write(bufs, offset, durability),
            Source::Zeroes => self.file.write_zeroes(offset, length),
        }
    }

    fn write_new(&self, piece: Piece, source: Source<'_>) -> Result<(), ImageError> {
        let mut journal = self.journal();
        let stripe = self.stripe(piece.block);
        let _alone = stripe.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody may have been faster.
        if let Some(offset) = self.in_place(piece)? {
            return self.put(source, offset, piece.length, Durability::Cached);
        }
        let entry = self.payload(piece.block, Wait::Block)?;
        match entry.state() {
            Some(PayloadBlockState::NotPresent) if self.parent_covers(piece.block) => {
                self.write_over_parent(&mut journal, piece, entry, source)
            }
            Some(PayloadBlockState::PartiallyPresent) => {
                self.write_over_parent(&mut journal, piece, entry, source)
            }
            _ => self.write_over_zeroes(&mut journal, piece, entry, source),
        }
    }

    /// Whether a block that is not present may have data in the parent.
    pub(super) fn parent_covers(&self, block: u64) -> bool {
        let start = block * self.geometry.block_size;
        self.parent.as_ref().is_some_and(|parent| parent.size_bytes() > start)
    }

    /// Makes a block that reads zeroes one that is fully present.
    fn write_over_zeroes(
        &self,
        journal: &mut Journal,
        piece: Piece,
        entry: BatEntry,
        source: Source<'_>,
    ) -> Result<(), ImageError> {
        let size = self.geometry.block_size;
        let anchored = entry.state() == Some(PayloadBlockState::Unmapped) && entry.offset() >= MIB;
        let (offset, end) = if anchored {
            self.clear(entry.offset(), size)?;
            (entry.offset(), journal.end)
        } else {
            let offset = self.extend(journal, size)?;
            (offset, offset + size)
        };
        self.put(source, offset + piece.start, piece.length, Durability::Cached)?;
        if anchored {
            // What was there before it was unmapped must not come back after a loss of power.
            journal.sync(&*self.file)?;
        }
        let entry = BatEntry::payload(PayloadBlockState::FullyPresent, offset);
        let (table, word) = self.entry_table(self.geometry.payload_index(piece.block))?;
        self.publish(journal, end, &[Change { table, word, value: entry.0 }])
    }

    /// Makes a range of the file read zeroes.
    pub(super) fn clear(&self, offset: u64, length: u64) -> Result<(), ImageError> {
        if !self.fixed && self.file.punch(offset, length)? {
            return Ok(());
        }
        self.file.write_zeroes(offset, length)
    }

    /// Makes changes for which the file is used up to `end`.
    fn publish(
        &self,
        journal: &mut Journal,
        end: u64,
        changes: &[Change],
    ) -> Result<(), ImageError> {
        let before = std::mem::replace(&mut journal.end, end);
        if let Err(error) = self.change(journal, changes) {
            journal.end = before;
            return Err(error);
        }
        self.end.fetch_max(end, Ordering::AcqRel);
        Ok(())
    }

    /// Writes into a block of which other sectors are the parent's.
    fn write_over_parent(
        &self,
        journal: &mut Journal,
        piece: Piece,
        entry: BatEntry,
        source: Source<'_>,
    ) -> Result<(), ImageError> {
        let size = self.geometry.block_size;
        let first = entry.state() == Some(PayloadBlockState::NotPresent);
        let whole = piece.start == 0 && piece.length == size;
        let start = piece.start / CLUSTER * CLUSTER;
        let end = piece.end().next_multiple_of(CLUSTER).min(size);
        let bitmap = self.bitmap(piece.block, Wait::Block)?;
        let room = self.room(journal, entry, bitmap, first, whole)?;
        for (from, to) in [(start, piece.start), (piece.end(), end)] {
            self.copy_up(piece.block, from, to, room.payload)?;
        }
        self.put(source, room.payload + piece.start, piece.length, Durability::Cached)?;
        // Before anybody reads it there instead of what the parent has.
        journal.sync(&*self.file)?;
        let mut changes = Vec::new();
        let mut state = PayloadBlockState::FullyPresent;
        if !whole {
            let here = BatEntry::bitmap(room.bitmap);
            if self.set_bits(here, piece.block, start..end, first, &mut changes)? {
                state = PayloadBlockState::PartiallyPresent;
            }
            if bitmap.bitmap_present() != Some(true) {
                let (table, word) = self.entry_table(self.geometry.bitmap_index(piece.block))?;
                changes.push(Change { table, word, value: here.0 });
            }
        }
        let value = BatEntry::payload(state, room.payload).0;
        if value != entry.0 {
            let (table, word) = self.entry_table(self.geometry.payload_index(piece.block))?;
            changes.push(Change { table, word, value });
        }
        self.publish(journal, room.end, &changes)
    }

    /// Space for the block and for its bitmap, as far as they have none.
    fn room(
        &self,
        journal: &Journal,
        entry: BatEntry,
        bitmap: BatEntry,
        first: bool,
        whole: bool,
    ) -> Result<Room, ImageError> {
        let wants_bitmap = !whole && bitmap.bitmap_present() != Some(true);
        let mut length = 0;
        if wants_bitmap {
            length += BITMAP_LENGTH;
        }
        if first {
            length += self.geometry.block_size;
        }
        if length == 0 {
            let end = journal.end;
            return Ok(Room { bitmap: bitmap.offset(), payload: entry.offset(), end });
        }
        let start = self.extend(journal, length)?;
        let end = start + length;
        let (bitmap, rest) =
            if wants_bitmap { (start, start + BITMAP_LENGTH) } else { (bitmap.offset(), start) };
        let payload = if first { rest } else { entry.offset() };
        Ok(Room { bitmap, payload, end })
    }

    /// Brings bytes of a block as they read now to its place in this file.
    fn copy_up(&self, block: u64, from: u64, to: u64, payload: u64) -> Result<(), ImageError> {
        if from >= to {
            return Ok(());
        }
        let mut data = vec![0; index(to - from)];
        let piece = Piece { block, start: from, length: to - from, done: 0 };
        self.read_piece(&mut [IoSliceMut::new(&mut data)], piece, Wait::Block)?;
        self.file.write_at(&data, payload + from)
    }

    /// Changes that say that the sectors in `range` of a block are in this file; with `only`, that no
    /// others are. Whether some of the block then still are the parent's.
    fn set_bits(
        &self,
        bitmap: BatEntry,
        block: u64,
        range: std::ops::Range<u64>,
        only: bool,
        changes: &mut Vec<Change>,
    ) -> Result<bool, ImageError> {
        let step = WORD_BITS * self.geometry.sector_size;
        let mut at = 0;
        let mut missing = false;
        while at < self.geometry.block_size {
            let (offset, mut word, _) = self.bit(bitmap, block, at);
            let table = self.table(offset)?;
            while word < table.len() && at < self.geometry.block_size {
                let old = table.le(word);
                let low = range.start.saturating_sub(at) / self.geometry.sector_size;
                let high = range.end.saturating_sub(at).min(step) / self.geometry.sector_size;
                let new = if only { 0 } else { old } | ones(low, high);
                missing |= new != u64::MAX;
                if new != old {
                    changes.push(Change { table: table.clone(), word, value: new });
                }
                word += 1;
                at += step;
            }
        }
        Ok(missing)
    }
}

/// Bits `low` to `high`, without the latter.
fn ones(low: u64, high: u64) -> u64 {
    let below = |bit: u64| if bit >= WORD_BITS { u64::MAX } else { (1 << bit) - 1 };
    if low >= high { 0 } else { below(high) & !below(low) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_the_range() {
        assert_eq!(ones(0, 64), u64::MAX);
        assert_eq!(ones(3, 5), 0b11000);
        assert_eq!(ones(5, 5), 0);
        assert_eq!(ones(63, 64), 1 << 63);
        assert_eq!(ones(70, 64), 0);
    }
}
