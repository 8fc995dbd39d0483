//! VHDX images ([MS-VHDX]): fixed, dynamic and differencing.
//!
//! How the file stays whole:
//!
//! - Every change of the BAT and of a sector bitmap goes through the log. An entry is in the page
//!   cache before the write that needed it is answered, so a crash of the process loses nothing;
//!   a flush makes entries durable together with the data. What it describes reaches its own place
//!   only at a checkpoint: when the log is full, and when the image is closed.
//! - The log is written from its beginning to its end and never wraps. Each checkpoint starts a
//!   new one under a new `LogGuid`, so that no reader has to find out which of two runs of entries
//!   is the older one.
//! - A block that lies in the file keeps its place for ever. Unmapped, it keeps it as an anchor
//!   (state `Unmapped` with an offset) and loses its space by a hole. So readers need no lock, and
//!   a block that is used again can never show another block's data.
//! - New blocks come from behind the last block. What a crash left there is cut off.
//! - Where the parent's data would come to light if power was lost between the two (a sector
//!   bitmap that says "here" before the data is), the data is made durable first.

mod bat;
mod create;
mod cut;
mod grow;
mod header;
mod journal;
mod locator;
mod log;
mod map;
mod metadata;
mod open;
mod parents;
mod region;
mod unmap;
mod write;

use std::io::{IoSlice, IoSliceMut};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use uuid::Uuid;

use crate::block_file::BlockFile;
use crate::cache::{CacheBudget, CacheCounters, TableCache};
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::image::{BlockState, Durability, Extent, Features, Image, Wait, check_range, first_run};
use crate::layers::Own;
use crate::slices::{part, part_mut};

use bat::{BatEntry, Geometry, PayloadBlockState};
use journal::Journal;
use write::Source;

pub(crate) use create::{Plan, check as check_create};

/// The unit in which the format places things.
const MIB: u64 = 1 << 20;
/// Locks that keep writes in place apart from changes of a block's state.
const STRIPES: usize = 64;

/// One of the locks, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Stripe(RwLock<()>);

/// An open VHDX image.
#[derive(Debug)]
pub struct VhdxImage {
    file: Arc<dyn BlockFile>,
    /// Size that the user sees, at most that in the metadata.
    size: AtomicU64,
    /// All but its size, which is that of when the image was opened: see [`Self::geometry_now`].
    geometry: Geometry,
    /// Size in the metadata.
    virtual_disk_size: AtomicU64,
    fixed: bool,
    virtual_disk_id: Uuid,
    data_write_guid_at_open: Uuid,
    physical_sector_size: u32,
    /// Where the BAT is.
    bat_offset: AtomicU64,
    /// Bytes of the file that blocks may lie in.
    end: AtomicU64,
    /// Sectors of the BAT and of sector bitmaps. Dirty ones are in the log.
    cache: TableCache<()>,
    parent: Option<Arc<Self>>,
    stripes: [Stripe; STRIPES],
    /// The headers say that the file is being changed.
    started: AtomicBool,
    /// Entries of the log that were written, and those of them known to be durable.
    logged: AtomicU64,
    synced: AtomicU64,
    /// Taken before any stripe.
    journal: Mutex<Journal>,
}

/// A part of a request that lies in one payload block.
#[derive(Debug, Clone, Copy)]
struct Piece {
    block: u64,
    /// First byte in the block.
    start: u64,
    length: u64,
    /// First byte in the request.
    done: u64,
}

impl Piece {
    fn end(self) -> u64 {
        self.start + self.length
    }
}

impl VhdxImage {
    /// The disk's identity: page 83 data.
    #[must_use]
    pub fn virtual_disk_id(&self) -> Uuid {
        self.virtual_disk_id
    }

    /// Bytes of a logical and of a physical sector.
    #[must_use]
    pub fn sector_sizes(&self) -> (u32, u32) {
        (u32::try_from(self.geometry.sector_size).unwrap_or(512), self.physical_sector_size)
    }

    /// By what a child made now would know this image.
    fn data_write_guid(&self) -> Uuid {
        if self.file.is_read_only() {
            return self.data_write_guid_at_open;
        }
        self.journal().header.data_write_guid
    }

    fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn geometry_now(&self) -> Geometry {
        let size = self.virtual_disk_size.load(Ordering::Acquire);
        Geometry { size, ..self.geometry }
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stripe(&self, block: u64) -> &RwLock<()> {
        let place = index(block) % STRIPES;
        let [first, ..] = &self.stripes;
        &self.stripes.get(place).unwrap_or(first).0
    }

    /// The parts of a range, block by block.
    fn pieces(&self, offset: u64, length: u64) -> impl Iterator<Item = Piece> + use<> {
        let size = self.geometry.block_size;
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

    fn error(&self, kind: ImageErrorKind, operation: Operation) -> ImageError {
        ImageError::new(kind, operation, self.file.path().clone())
    }

    fn check_write(
        &self,
        operation: Operation,
        offset: u64,
        length: u64,
    ) -> Result<(), ImageError> {
        if self.file.is_read_only() {
            return Err(self.error(ImageErrorKind::ReadOnly, operation).at(offset, length));
        }
        check_range(self.file.path(), operation, offset, length, self.size())
    }

    fn read_piece(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        piece: Piece,
        wait: Wait,
    ) -> Result<(), ImageError> {
        let entry = self.payload(piece.block, wait)?;
        match entry.state() {
            Some(PayloadBlockState::FullyPresent) => {
                self.file.read(bufs, entry.offset() + piece.start, wait)
            }
            Some(PayloadBlockState::PartiallyPresent) => {
                self.read_partial(bufs, piece, entry, wait)
            }
            Some(PayloadBlockState::NotPresent) if self.parent.is_some() => {
                self.read_parent(bufs, piece.block * self.geometry.block_size + piece.start, wait)
            }
            _ => {
                bufs.iter_mut().for_each(|buf| buf.fill(0));
                Ok(())
            }
        }
    }

    /// Reads of the parent; beyond its end there are zeroes.
    fn read_parent(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        offset: u64,
        wait: Wait,
    ) -> Result<(), ImageError> {
        let Some(parent) = &self.parent else {
            bufs.iter_mut().for_each(|buf| buf.fill(0));
            return Ok(());
        };
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        let there = parent.size_bytes().saturating_sub(offset);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(length);
        if there == length {
            return parent.read(bufs, offset, wait);
        }
        for buf in &mut part_mut(bufs, there, length - there) {
            buf.fill(0);
        }
        if there == 0 {
            return Ok(());
        }
        parent.read(&mut part_mut(bufs, 0, there), offset, wait)
    }

    fn read_partial(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        piece: Piece,
        entry: BatEntry,
        wait: Wait,
    ) -> Result<(), ImageError> {
        let mut start = piece.start;
        while start < piece.end() {
            let (here, end) = self.run(piece.block, start, piece.end(), wait)?;
            let mut part = part_mut(bufs, index(start - piece.start), index(end - start));
            if here {
                self.file.read(&mut part, entry.offset() + start, wait)?;
            } else {
                let offset = piece.block * self.geometry.block_size + start;
                self.read_parent(&mut part, offset, wait)?;
            }
            start = end;
        }
        Ok(())
    }

    /// What this file has of a block from `start` on, and where in the block that ends, at most `end`.
    fn own(&self, block: u64, start: u64, end: u64) -> Result<(Own, u64), ImageError> {
        let at = block * self.geometry.block_size + start;
        // Behind the parent's end there are zeroes.
        let nothing = |end: u64| match self.parent.as_ref().map_or(0, |parent| parent.size()) {
            size if size > at => (Own::Nothing, end.min(start.saturating_add(size - at))),
            _ => (Own::Zeroes, end),
        };
        Ok(match self.payload(block, Wait::Block)?.state() {
            Some(PayloadBlockState::FullyPresent) => (Own::Data, end),
            Some(PayloadBlockState::PartiallyPresent) => {
                let (here, end) = self.run(block, start, end, Wait::Block)?;
                if here { (Own::Data, end) } else { nothing(end) }
            }
            Some(PayloadBlockState::NotPresent) => nothing(end),
            _ => (Own::Zeroes, end),
        })
    }

    /// State of the bytes from `start` on in a block, and where in the block it ends, at most
    /// `end`.
    fn status(&self, block: u64, start: u64, end: u64) -> Result<(BlockState, u64), ImageError> {
        let (own, end) = self.own(block, start, end)?;
        let state = match (own, &self.parent) {
            (Own::Data, _) => BlockState::Mapped,
            (Own::Nothing, Some(parent)) => {
                let at = block * self.geometry.block_size + start;
                let extent = parent.block_status(at, end - start)?;
                return Ok((extent.state, start + extent.length));
            }
            (Own::Zeroes | Own::Nothing, _) => BlockState::Deallocated,
        };
        Ok((state, end))
    }

    /// What `look` says of the bytes from `offset` on, and for how many of `length` bytes that is so.
    fn extent<T: PartialEq>(
        &self,
        offset: u64,
        length: u64,
        look: impl Fn(u64, u64, u64) -> Result<(T, u64), ImageError>,
    ) -> Result<(T, u64), ImageError> {
        let operation = Operation::BlockStatus;
        let fail = |error: ImageError| error.during(operation).at(offset, length);
        if length == 0 {
            return Err(fail(self.error(ImageErrorKind::OutOfRange, operation)));
        }
        check_range(self.file.path(), operation, offset, length, self.size())?;
        let found = first_run(self.pieces(offset, length).map(|piece| {
            let (state, end) = look(piece.block, piece.start, piece.end())?;
            Ok((state, end - piece.start, piece.length))
        }));
        found.map_err(fail)?.ok_or_else(|| fail(self.error(ImageErrorKind::OutOfRange, operation)))
    }
}

impl Image for VhdxImage {
    fn size_bytes(&self) -> u64 {
        self.size()
    }

    fn cache(&self) -> Option<CacheCounters> {
        Some(self.cache.counters())
    }

    fn cache_budget(&self) -> Option<CacheBudget> {
        Some(self.cache.budget().clone())
    }

    fn trim_caches(&self) {
        self.cache.trim();
        if let Some(parent) = &self.parent {
            parent.trim_caches();
        }
    }

    fn features(&self) -> Features {
        Features {
            read_only: self.file.is_read_only(),
            unmap: !self.fixed && self.file.punches(),
            unmap_granularity: self.file.granularity(),
            reads_zero_after_unmap: true,
            nowait_reads: self.file.nowait_reads()
                && self.parent.as_ref().is_none_or(|parent| parent.features().nowait_reads),
            joins_writes: self.file.joins_writes(),
        }
    }

    fn retire(&self) -> Result<(), ImageError> {
        self.close()?;
        self.flush()?;
        self.file.share()
    }

    fn path(&self) -> Arc<Path> {
        self.file.path().clone()
    }

    fn read(&self, bufs: &mut [IoSliceMut<'_>], offset: u64, wait: Wait) -> Result<(), ImageError> {
        let operation = Operation::Read;
        let length = bytes(bufs.iter().map(|buf| buf.len()).sum());
        check_range(self.file.path(), operation, offset, length, self.size())?;
        for piece in self.pieces(offset, length) {
            let result = if piece.length == length {
                self.read_piece(bufs, piece, wait)
            } else {
                let mut part = part_mut(bufs, index(piece.done), index(piece.length));
                self.read_piece(&mut part, piece, wait)
            };
            result.map_err(|error| error.during(operation).at(offset, length))?;
        }
        Ok(())
    }

    fn write(
        &self,
        bufs: &[IoSlice<'_>],
        offset: u64,
        durability: Durability,
    ) -> Result<(), ImageError> {
        let operation = Operation::Write;
        let length = bytes(bufs.iter().map(|buf| buf.len()).sum());
        self.check_write(operation, offset, length)?;
        let mut flush = false;
        for piece in self.pieces(offset, length) {
            let some;
            let data = if piece.length == length {
                bufs
            } else {
                some = part(bufs, index(piece.done), index(piece.length));
                some.as_slice()
            };
            let result = self.write_piece(piece, Source::Data(data), durability);
            flush |= !result.map_err(|error| error.during(operation).at(offset, length))?;
        }
        if flush && durability == Durability::Durable {
            self.flush().map_err(|error| error.during(operation).at(offset, length))?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), ImageError> {
        let logged = self.logged.load(Ordering::Acquire);
        self.file.flush()?;
        self.synced.fetch_max(logged, Ordering::AcqRel);
        Ok(())
    }

    fn unmap(&self, offset: u64, length: u64) -> Result<(), ImageError> {
        let operation = Operation::Unmap;
        self.check_write(operation, offset, length)?;
        self.discard(offset, length).map_err(|error| error.during(operation).at(offset, length))
    }

    fn write_zeroes(&self, offset: u64, length: u64, may_unmap: bool) -> Result<(), ImageError> {
        let operation = Operation::WriteZeroes;
        self.check_write(operation, offset, length)?;
        let fail = |error: ImageError| error.during(operation).at(offset, length);
        if may_unmap {
            return self.discard(offset, length).map_err(fail);
        }
        for piece in self.pieces(offset, length) {
            self.write_piece(piece, Source::Zeroes, Durability::Cached).map_err(fail)?;
        }
        Ok(())
    }

    fn block_status(&self, offset: u64, length: u64) -> Result<Extent, ImageError> {
        let look = |block, start, end| self.status(block, start, end);
        let (state, length) = self.extent(offset, length, look)?;
        Ok(Extent { offset, length, state })
    }

    fn parent(&self) -> Option<Arc<dyn Image>> {
        self.parent.clone().map(|parent| parent as Arc<dyn Image>)
    }

    fn own_extent(&self, offset: u64, length: u64) -> Result<(Own, u64), ImageError> {
        self.extent(offset, length, |block, start, end| self.own(block, start, end))
    }

    fn grow(&self, size_bytes: u64) -> Result<(), ImageError> {
        self.resize(size_bytes).map_err(|error| error.during(Operation::Resize))
    }

    fn shrink(&self, size_bytes: u64) -> Result<(), ImageError> {
        self.size.fetch_min(size_bytes, Ordering::AcqRel);
        Ok(())
    }

    fn cut(&self, size_bytes: u64) -> Result<(), ImageError> {
        self.cut_to(size_bytes).map_err(|error| error.during(Operation::Resize))
    }

    fn close(&self) -> Result<(), ImageError> {
        self.settle()
    }

    fn health(&self) -> Result<(), ImageError> {
        self.file.health()?;
        let (length, end) = (self.file.length()?, self.end.load(Ordering::Acquire));
        if length < end {
            let error = self.error(ImageErrorKind::ShortTransfer, Operation::Health);
            return Err(error.because(format!("the file ends at {length}, its blocks at {end}")));
        }
        self.parent.as_ref().map_or(Ok(()), |parent| parent.health())
    }
}

impl Drop for VhdxImage {
    /// Leaves a file without a log.
    fn drop(&mut self) {
        if let Err(error) = self.settle() {
            tracing::warn!(
                path = %self.file.path().display(),
                error = &error as &dyn std::error::Error,
                "the log stays in the image, the next opener replays it"
            );
        }
    }
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn index(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
