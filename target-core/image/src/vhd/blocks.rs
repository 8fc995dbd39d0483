//! Blocks: where they are, and which of their sectors.

use std::io::IoSliceMut;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock};

use super::{SECTOR, VhdImage, bytes, index};
use crate::cache::TableCache;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::image::{BlockState, Image as _, Wait};
use crate::layers::Own;
use crate::slices::part_mut;

/// An entry of the BAT without a block.
pub(super) const UNUSED: u32 = u32::MAX;

/// A block of the disk.
#[derive(Debug)]
pub(super) struct Block {
    /// Its first sector in the file, [`UNUSED`] if there is none.
    pub(super) sector: AtomicU32,
    /// All of its sectors are in this file. Once it is so, it stays so.
    pub(super) full: AtomicBool,
}

impl Block {
    /// A block as the BAT has it.
    pub(super) fn new(sector: u32) -> Self {
        Self { sector: AtomicU32::new(sector), full: AtomicBool::new(false) }
    }
}

/// All blocks of a disk.
#[derive(Debug)]
pub(super) struct Blocks {
    /// Bytes of a block's data.
    pub(super) size: u64,
    /// Bytes of the sector bitmap in front of them.
    pub(super) bitmap: u64,
    /// The BAT: at most 16 MiB, for a disk of 2040 GiB in blocks of 512 KiB.
    pub(super) table: RwLock<Vec<Block>>,
    /// Sectors of sector bitmaps, written through.
    pub(super) cache: TableCache<()>,
}

/// A part of a request that lies in one block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) block: u64,
    /// First byte in the block.
    pub(super) start: u64,
    pub(super) length: u64,
    /// First byte in the request.
    pub(super) done: u64,
}

impl Piece {
    pub(super) fn end(self) -> u64 {
        self.start + self.length
    }
}

impl Blocks {
    /// The parts of a range, block by block.
    pub(super) fn pieces(&self, offset: u64, length: u64) -> impl Iterator<Item = Piece> + use<> {
        let size = self.size;
        let mut done = 0;
        std::iter::from_fn(move || {
            if done >= length {
                return None;
            }
            let at = offset + done;
            let (block, start) = (at / size, at % size);
            let piece = Piece { block, start, length: (size - start).min(length - done), done };
            done += piece.length;
            Some(piece)
        })
    }

    /// Where the block begins in the file, with its bitmap, and whether all of it is there.
    pub(super) fn find(&self, block: u64) -> Option<(u64, bool)> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let block = table.get(index(block))?;
        let sector = block.sector.load(Ordering::Acquire);
        let full = block.full.load(Ordering::Acquire);
        (sector != UNUSED).then(|| (u64::from(sector) * SECTOR, full))
    }

    /// All of the block is there.
    pub(super) fn set_full(&self, block: u64) {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = table.get(index(block)) {
            block.full.store(true, Ordering::Release);
        }
    }
}

impl VhdImage {
    pub(super) fn read_piece(
        &self,
        blocks: &Blocks,
        bufs: &mut [IoSliceMut<'_>],
        piece: Piece,
        wait: Wait,
    ) -> Result<(), ImageError> {
        let disk = piece.block * blocks.size;
        let Some((place, full)) = blocks.find(piece.block) else {
            return self.read_parent(bufs, disk + piece.start, wait);
        };
        let data = place + blocks.bitmap;
        if full {
            return self.file.read(bufs, data + piece.start, wait);
        }
        let mut start = piece.start;
        while start < piece.end() {
            let (here, end) = self.run(blocks, piece.block, place, start, piece.end(), wait)?;
            let mut part = part_mut(bufs, index(start - piece.start), index(end - start));
            if here {
                self.file.read(&mut part, data + start, wait)?;
            } else {
                self.read_parent(&mut part, disk + start, wait)?;
            }
            start = end;
        }
        Ok(())
    }

    /// What this file has of the first bytes of a piece, and of how many that can be said.
    pub(super) fn own(&self, blocks: &Blocks, piece: Piece) -> Result<(Own, u64), ImageError> {
        let offset = piece.block * blocks.size + piece.start;
        // Behind the parent's end there are zeroes.
        let nothing = |length: u64| match self.parent.as_ref().map_or(0, |parent| parent.size()) {
            size if size > offset => (Own::Nothing, length.min(size - offset)),
            _ => (Own::Zeroes, length),
        };
        let Some((place, full)) = blocks.find(piece.block) else {
            return Ok(nothing(piece.length));
        };
        if full {
            return Ok((Own::Data, piece.length));
        }
        let (here, end) =
            self.run(blocks, piece.block, place, piece.start, piece.end(), Wait::Block)?;
        let length = end - piece.start;
        Ok(if here { (Own::Data, length) } else { nothing(length) })
    }

    /// State of the first bytes of a piece, and how many have it.
    pub(super) fn status(
        &self,
        blocks: &Blocks,
        piece: Piece,
    ) -> Result<(BlockState, u64), ImageError> {
        let (own, length) = self.own(blocks, piece)?;
        let state = match (own, &self.parent) {
            (Own::Data, _) => BlockState::Mapped,
            (Own::Nothing, Some(parent)) => {
                let offset = piece.block * blocks.size + piece.start;
                let extent = parent.block_status(offset, length)?;
                return Ok((extent.state, extent.length));
            }
            (Own::Zeroes | Own::Nothing, _) => BlockState::Deallocated,
        };
        Ok((state, length))
    }

    /// A byte of a block's sector bitmap; bit 7 is its first sector.
    pub(super) fn bitmap_byte(
        &self,
        blocks: &Blocks,
        place: u64,
        byte: u64,
        wait: Wait,
    ) -> Result<u8, ImageError> {
        let (offset, within) = (place + byte / SECTOR * SECTOR, index(byte % SECTOR));
        if let Some(byte) = blocks.cache.peek(offset, |table| table.byte(within)) {
            return Ok(byte);
        }
        if wait == Wait::Nowait {
            return Err(self.error(ImageErrorKind::WouldBlock, Operation::Read));
        }
        let table = blocks.cache.get(&*self.file, offset, (), |_| Ok(()))?;
        Ok(table.byte(within))
    }

    /// Whether the sector at `start` of a block is in this file, and up to where in the block (at most
    /// `end`) that holds for all.
    pub(super) fn run(
        &self,
        blocks: &Blocks,
        block: u64,
        place: u64,
        start: u64,
        end: u64,
        wait: Wait,
    ) -> Result<(bool, u64), ImageError> {
        let first = start / SECTOR;
        let last = end.div_ceil(SECTOR);
        let mut sector = first;
        let mut here = None;
        while sector < last {
            let byte = self.bitmap_byte(blocks, place, sector / 8, wait)?;
            let rest = byte << (sector % 8);
            let state = *here.get_or_insert(rest & 0x80 != 0);
            let same = if state { rest.leading_ones() } else { rest.leading_zeros() };
            let left = 8 - sector % 8;
            let same = u64::from(same).min(left);
            sector += same;
            if same < left {
                break;
            }
        }
        let here = here.unwrap_or(false);
        let sectors = blocks.size / SECTOR;
        if here && first == 0 && sector >= sectors {
            blocks.set_full(block);
        }
        Ok((here, (sector * SECTOR).min(end)))
    }

    /// Looks once whether all of a block is there, which makes everything faster.
    pub(super) fn is_full(
        &self,
        blocks: &Blocks,
        block: u64,
        place: u64,
    ) -> Result<bool, ImageError> {
        let all = self.run(blocks, block, place, 0, blocks.size, Wait::Block)?;
        Ok(all == (true, blocks.size))
    }

    /// Sets bits of a block's bitmap in the file and here.
    pub(super) fn set_bits(
        &self,
        blocks: &Blocks,
        place: u64,
        range: std::ops::Range<u64>,
    ) -> Result<(), ImageError> {
        let (first, last) = (range.start / SECTOR, range.end.div_ceil(SECTOR));
        let mut sector = first;
        while sector < last {
            let offset = place + sector / 8 / SECTOR * SECTOR;
            let table = blocks.cache.get(&*self.file, offset, (), |_| Ok(()))?;
            let mut content = table.bytes();
            let end = ((sector / 8 / SECTOR + 1) * SECTOR * 8).min(last);
            for sector in sector..end {
                let at = index(sector / 8 % SECTOR);
                if let Some(byte) = content.get_mut(at) {
                    *byte |= 0x80 >> (sector % 8);
                }
            }
            self.file.write_at(&content, offset)?;
            for (at, byte) in content.iter().enumerate() {
                table.set_byte(at, *byte);
            }
            sector = end;
        }
        Ok(())
    }

    /// Bytes of a bitmap of which all sectors in `range` are set, and no others.
    pub(super) fn new_bitmap(blocks: &Blocks, range: std::ops::Range<u64>) -> Vec<u8> {
        let mut bitmap = vec![0; index(blocks.bitmap)];
        for sector in range.start / SECTOR..range.end.div_ceil(SECTOR) {
            if let Some(byte) = bitmap.get_mut(index(sector / 8)) {
                *byte |= 0x80 >> (sector % 8);
            }
        }
        debug_assert_eq!(bytes(bitmap.len()), blocks.bitmap);
        bitmap
    }
}
