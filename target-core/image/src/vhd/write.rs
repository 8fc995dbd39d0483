//! Writing: in place where the block is, and all that a block needs that is not.

use std::io::{IoSlice, IoSliceMut};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::blocks::{Blocks, Piece};
use super::{SECTOR, Structure, VhdImage, index};
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::image::{Durability, Wait};

/// In a block of which a part is the parent's, so much is taken over at once: each time costs a
/// flush.
const CLUSTER: u64 = 64 << 10;
/// Data of new blocks begin at a multiple of this.
const ALIGNMENT: u64 = 4096;

/// What is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    /// These bytes.
    Data(&'a [IoSlice<'a>]),
    /// Zeroes that get space.
    Zeroes,
    /// Zeroes without.
    Hole,
}

impl VhdImage {
    /// Before the first change after the image was opened: a footer that a crash has lost comes back.
    pub(super) fn begin_writing(&self) -> Result<(), ImageError> {
        if self.started.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut structure = self.structure();
        if !structure.whole {
            self.file.set_length(structure.end)?;
            self.file.write_at(&structure.footer.emit(), structure.end)?;
            structure.whole = true;
        }
        self.started.store(true, Ordering::Release);
        Ok(())
    }

    /// Makes a range read zeroes.
    pub(super) fn zero(
        &self,
        operation: Operation,
        offset: u64,
        length: u64,
        may_unmap: bool,
    ) -> Result<(), ImageError> {
        self.check_write(operation, offset, length)?;
        if length == 0 {
            return Ok(());
        }
        let fail = |error: ImageError| error.during(operation).at(offset, length);
        self.begin_writing().map_err(fail)?;
        let Some(blocks) = &self.blocks else {
            return self.file.write_zeroes(offset, length).map_err(fail);
        };
        let source = if may_unmap { Source::Hole } else { Source::Zeroes };
        for piece in blocks.pieces(offset, length) {
            if may_unmap && self.reads_zero(blocks, piece) {
                continue;
            }
            self.write_piece(blocks, piece, source, Durability::Cached).map_err(fail)?;
        }
        Ok(())
    }

    /// Whether nothing stands there: no block, and no parent below.
    fn reads_zero(&self, blocks: &Blocks, piece: Piece) -> bool {
        let offset = piece.block * blocks.size + piece.start;
        blocks.find(piece.block).is_none()
            && self.parent.as_ref().is_none_or(|parent| parent.size() <= offset)
    }

    /// Writes a piece. Whether it is as durable as it was to be; if not, a flush makes it so.
    pub(super) fn write_piece(
        &self,
        blocks: &Blocks,
        piece: Piece,
        source: Source<'_>,
        durability: Durability,
    ) -> Result<bool, ImageError> {
        if let Some(offset) = self.in_place(blocks, piece)? {
            // Data that is durable is lost all the same if the entry that finds it is not.
            let settled =
                self.synced.load(Ordering::Acquire) >= self.changed.load(Ordering::Acquire);
            let now = if settled { durability } else { Durability::Cached };
            self.put(source, offset, piece.length, now)?;
            return Ok(now == durability);
        }
        self.write_new(blocks, piece, source)?;
        self.changed.fetch_add(1, Ordering::AcqRel);
        Ok(durability == Durability::Cached)
    }

    /// Where in the file the piece is, if all of it is there.
    fn in_place(&self, blocks: &Blocks, piece: Piece) -> Result<Option<u64>, ImageError> {
        let Some((place, full)) = blocks.find(piece.block) else { return Ok(None) };
        let here = full || self.is_full(blocks, piece.block, place)? || {
            let run =
                self.run(blocks, piece.block, place, piece.start, piece.end(), Wait::Block)?;
            run == (true, piece.end())
        };
        Ok(here.then_some(place + blocks.bitmap + piece.start))
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
            Source::Hole if self.file.punch(offset, length)? => Ok(()),
            Source::Zeroes | Source::Hole => self.file.write_zeroes(offset, length),
        }
    }

    fn write_new(
        &self,
        blocks: &Blocks,
        piece: Piece,
        source: Source<'_>,
    ) -> Result<(), ImageError> {
        let mut structure = self.structure();
        // Somebody may have been faster.
        if let Some(offset) = self.in_place(blocks, piece)? {
            return self.put(source, offset, piece.length, Durability::Cached);
        }
        let Some((place, _)) = blocks.find(piece.block) else {
            return self.allocate(&mut structure, blocks, piece, source);
        };
        let range = self.range(blocks, piece);
        self.fill(blocks, piece, range.clone(), place, Some(place))?;
        self.put(source, place + blocks.bitmap + piece.start, piece.length, Durability::Cached)?;
        // Before anybody reads it there instead of what it was.
        self.file.flush()?;
        self.set_bits(blocks, place, range)
    }

    /// The sectors of a block that are taken over when a piece is written: all that would else read
    /// zeroes; of what is the parent's, whole clusters.
    fn range(&self, blocks: &Blocks, piece: Piece) -> std::ops::Range<u64> {
        if self.parent.is_none() {
            return 0..blocks.size;
        }
        let start = piece.start / CLUSTER * CLUSTER;
        start..piece.end().next_multiple_of(CLUSTER).min(blocks.size)
    }

    /// Brings the sectors of a range that are not here (`bits` says where the bitmap is; without one,
    /// none are) and not wholly written by the piece, as they read now, to their places. Those that
    /// are here may be written by others meanwhile.
    fn fill(
        &self,
        blocks: &Blocks,
        piece: Piece,
        range: std::ops::Range<u64>,
        place: u64,
        bits: Option<u64>,
    ) -> Result<(), ImageError> {
        let data = place + blocks.bitmap;
        let inner = piece.start.next_multiple_of(SECTOR)..piece.end() / SECTOR * SECTOR;
        let mut start = range.start;
        while start < range.end {
            // The next part that is not overwritten.
            let end = if start < inner.start { inner.start.min(range.end) } else { range.end };
            if inner.contains(&start) {
                start = inner.end;
                continue;
            }
            let (here, end) = match bits {
                Some(place) => self.run(blocks, piece.block, place, start, end, Wait::Block)?,
                None => (false, end),
            };
            if !here && self.parent.is_none() {
                // A new block is zeroes already.
                if bits.is_some() {
                    self.file.write_zeroes(data + start, end - start)?;
                }
            } else if !here {
                let mut content = vec![0; index(end - start)];
                let offset = piece.block * blocks.size + start;
                self.read_parent(&mut [IoSliceMut::new(&mut content)], offset, Wait::Block)?;
                self.file.write_at(&content, data + start)?;
            }
            start = end;
        }
        Ok(())
    }

    /// Puts a new block at the end.
    fn allocate(
        &self,
        structure: &mut Structure,
        blocks: &Blocks,
        piece: Piece,
        source: Source<'_>,
    ) -> Result<(), ImageError> {
        let place = (structure.end + blocks.bitmap).next_multiple_of(ALIGNMENT) - blocks.bitmap;
        let end = place + blocks.bitmap + blocks.size;
        let sector = u32::try_from(place / SECTOR).ok().filter(|sector| *sector != u32::MAX);
        let (Some(sector), Some(header)) = (sector, &structure.header) else {
            return Err(self
                .error(ImageErrorKind::OutOfSpace, Operation::Write)
                .because("a VHD cannot point behind 2 TiB"));
        };
        let entry = header.table_offset + piece.block * 4;
        // What a crash or a failed write left behind the footer is nobody's, and not zeroes.
        if self.file.length()? > structure.end + SECTOR {
            self.file.set_length(structure.end + SECTOR)?;
        }
        self.file.write_at(&structure.footer.emit(), end)?;
        let range = self.range(blocks, piece);
        self.file.write_at(&Self::new_bitmap(blocks, range.clone()), place)?;
        self.fill(blocks, piece, range.clone(), place, None)?;
        let data = place + blocks.bitmap;
        self.put(source, data + piece.start, piece.length, Durability::Cached)?;
        self.file.flush()?;
        self.file.write_at(&sector.to_be_bytes(), entry)?;
        for bitmap in (place..data).step_by(index(SECTOR)) {
            blocks.cache.forget(bitmap);
        }
        let table = blocks.table.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = table.get(index(piece.block)) {
            block.full.store(range == (0..blocks.size), Ordering::Release);
            block.sector.store(sector, Ordering::Release);
        }
        drop(table);
        structure.end = end;
        Ok(())
    }
}
