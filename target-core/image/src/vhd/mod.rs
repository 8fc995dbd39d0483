//! VHD images (Virtual Hard Disk Image Format Specification 1.0): fixed, dynamic and differencing.
//!
//! How the file stays whole, without a log:
//!
//! - A new block goes to where the footer is. First the footer is written behind it, then the block
//!   with its sector bitmap, then all of that is made durable, and only then does the BAT name the
//!   block: four bytes in one sector. If power is lost before, the footer at the end may be
//!   missing; the copy at the start of the file never changes meanwhile, and stands in.
//! - A bit of a sector bitmap is set when its sector is durable. Bits are never taken back, and
//!   blocks never move, so reads and writes of what is there need no lock.
//! - A disk grows by a new BAT at the end, which one sector of the header makes the one that counts.
//!   A fixed one gets its new footer before the old one becomes zeroes; until then both are there,
//!   and whoever opens it knows by the disk's size where to look.
//! - A disk becomes smaller by its footer. Blocks behind the new end are out of the BAT before; where
//!   they were is a hole. A fixed one gets its new footer before the file ends behind that.
//! - What is unmapped becomes a hole within its block.

mod blocks;
mod create;
mod cut;
mod footer;
mod grow;
mod open;
mod write;

use std::io::{IoSlice, IoSliceMut};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::block_file::BlockFile;
use crate::cache::{CacheBudget, CacheCounters};
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::image::{BlockState, Durability, Extent, Features, Image, Wait, check_range, first_run};
use crate::layers::Own;
use crate::slices::{part, part_mut};

use blocks::{Blocks, Piece};
use footer::{DynamicHeader, Footer};
use write::Source;

pub(crate) use create::{Plan, check as check_create};

/// Bytes of a sector.
const SECTOR: u64 = 512;

/// An open VHD image.
#[derive(Debug)]
pub struct VhdImage {
    file: Arc<dyn BlockFile>,
    /// Size that the user sees, at most that in the footer.
    size: AtomicU64,
    /// The blocks of a disk that is not fixed.
    blocks: Option<Blocks>,
    parent: Option<Arc<Self>>,
    /// Changes of the structure that were written, and those known to be durable.
    changed: AtomicU64,
    synced: AtomicU64,
    started: AtomicBool,
    structure: Mutex<Structure>,
}

/// What whoever changes the file's structure holds.
#[derive(Debug)]
struct Structure {
    footer: Footer,
    header: Option<DynamicHeader>,
    /// Where the footer is or belongs, behind everything else.
    end: u64,
    /// The footer is there.
    whole: bool,
}

impl VhdImage {
    fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn structure(&self) -> MutexGuard<'_, Structure> {
        self.structure.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Reads of the parent; without one, and beyond its end, there are zeroes.
    fn read_parent(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        offset: u64,
        wait: Wait,
    ) -> Result<(), ImageError> {
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        let there = self.parent.as_ref().map_or(0, |parent| parent.size().saturating_sub(offset));
        let there = index(there).min(length);
        if let Some(parent) = &self.parent
            && there == length
        {
            return parent.read(bufs, offset, wait);
        }
        for buf in &mut part_mut(bufs, there, length - there) {
            buf.fill(0);
        }
        match &self.parent {
            Some(parent) if there > 0 => parent.read(&mut part_mut(bufs, 0, there), offset, wait),
            _ => Ok(()),
        }
    }

    /// What `look` says of the bytes from `offset` on, and for how many of `length` bytes that is so; of
    /// a fixed image `fixed`.
    fn extent<T: PartialEq>(
        &self,
        offset: u64,
        length: u64,
        fixed: T,
        look: impl Fn(&Blocks, Piece) -> Result<(T, u64), ImageError>,
    ) -> Result<(T, u64), ImageError> {
        let operation = Operation::BlockStatus;
        let fail = |error: ImageError| error.during(operation).at(offset, length);
        if length == 0 {
            return Err(fail(self.error(ImageErrorKind::OutOfRange, operation)));
        }
        check_range(self.file.path(), operation, offset, length, self.size())?;
        let Some(blocks) = &self.blocks else { return Ok((fixed, length)) };
        let found = first_run(blocks.pieces(offset, length).map(|piece| {
            let (state, length) = look(blocks, piece)?;
            Ok((state, length, piece.length))
        }));
        found.map_err(fail)?.ok_or_else(|| fail(self.error(ImageErrorKind::OutOfRange, operation)))
    }
}

impl Image for VhdImage {
    fn size_bytes(&self) -> u64 {
        self.size()
    }

    fn cache(&self) -> Option<CacheCounters> {
        Some(self.blocks.as_ref()?.cache.counters())
    }

    fn cache_budget(&self) -> Option<CacheBudget> {
        Some(self.blocks.as_ref()?.cache.budget().clone())
    }

    fn trim_caches(&self) {
        if let Some(blocks) = &self.blocks {
            blocks.cache.trim();
        }
        if let Some(parent) = &self.parent {
            parent.trim_caches();
        }
    }

    fn features(&self) -> Features {
        Features {
            read_only: self.file.is_read_only(),
            unmap: self.blocks.is_some() && self.file.punches(),
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
        let fail = |error: ImageError| error.during(operation).at(offset, length);
        let Some(blocks) = &self.blocks else {
            return self.file.read(bufs, offset, wait).map_err(fail);
        };
        for piece in blocks.pieces(offset, length) {
            let result = if piece.length == length {
                self.read_piece(blocks, bufs, piece, wait)
            } else {
                let mut part = part_mut(bufs, index(piece.done), index(piece.length));
                self.read_piece(blocks, &mut part, piece, wait)
            };
            result.map_err(fail)?;
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
        let fail = |error: ImageError| error.during(operation).at(offset, length);
        self.begin_writing().map_err(fail)?;
        let Some(blocks) = &self.blocks else {
            return self.file.write(bufs, offset, durability).map_err(fail);
        };
        let mut flush = false;
        for piece in blocks.pieces(offset, length) {
            let some;
            let data = if piece.length == length {
                bufs
            } else {
                some = part(bufs, index(piece.done), index(piece.length));
                some.as_slice()
            };
            let source = Source::Data(data);
            flush |= !self.write_piece(blocks, piece, source, durability).map_err(fail)?;
        }
        if flush && durability == Durability::Durable {
            self.flush().map_err(fail)?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), ImageError> {
        let changed = self.changed.load(Ordering::Acquire);
        self.file.flush()?;
        self.synced.fetch_max(changed, Ordering::AcqRel);
        Ok(())
    }

    fn unmap(&self, offset: u64, length: u64) -> Result<(), ImageError> {
        self.zero(Operation::Unmap, offset, length, true)
    }

    fn write_zeroes(&self, offset: u64, length: u64, may_unmap: bool) -> Result<(), ImageError> {
        self.zero(Operation::WriteZeroes, offset, length, may_unmap)
    }

    fn block_status(&self, offset: u64, length: u64) -> Result<Extent, ImageError> {
        let look = |blocks: &Blocks, piece| self.status(blocks, piece);
        let (state, length) = self.extent(offset, length, BlockState::Mapped, look)?;
        Ok(Extent { offset, length, state })
    }

    fn parent(&self) -> Option<Arc<dyn Image>> {
        self.parent.clone().map(|parent| parent as Arc<dyn Image>)
    }

    fn own_extent(&self, offset: u64, length: u64) -> Result<(Own, u64), ImageError> {
        self.extent(offset, length, Own::Data, |blocks, piece| self.own(blocks, piece))
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

    fn health(&self) -> Result<(), ImageError> {
        self.file.health()?;
        let (length, end) = (self.file.length()?, self.structure().end);
        if length < end {
            let error = self.error(ImageErrorKind::ShortTransfer, Operation::Health);
            return Err(error.because(format!("the file ends at {length}, its blocks at {end}")));
        }
        self.parent.as_ref().map_or(Ok(()), |parent| parent.health())
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
