//! qcow2, versions 2 and 3, as QEMU's docs/interop/qcow2 describes it.
//!
//! ```text
//!   guest cluster ── L1 table ── L2 table ── host cluster      each with a count of references:
//!                    (memory)    (cached)    (data)            count table ── count block (cached)
//! ```
//!
//! Reads, and writes to clusters that are there, look the cluster up and pass a gate (`gates.rs`);
//! they take no exclusive lock. Everything else changes tables, under the owner's lock (`owner.rs`),
//! in memory first; `commit.rs` writes them in an order that a crash cannot make harmful: what it
//! costs at most is clusters that nobody uses, which [`check`] finds.
//!
//! Refused: encryption, external data files, subclusters, unknown incompatible features. Lazy
//! reference counts are never used. Tables that contradict themselves make the operation fail that
//! meets them, and nothing is repaired on the way.

mod check;
mod commit;
mod compressed;
mod create;
mod entry;
mod gates;
mod header;
mod map;
mod open;
mod owner;
mod parent;
mod read;
mod resize;
mod write;
mod zero;

use std::collections::HashSet;
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};

pub use check::{CheckReport, Finding, check, check_file};
pub(crate) use create::{Qcow2Creator, check_create, write_new};
pub(crate) use parent::write_backing;

use self::entry::Geometry;
use self::gates::Gates;
use self::header::Compression;
use self::owner::Owner;
use self::parent::Parent;
use crate::block_file::BlockFile;
use crate::cache::{CacheBudget, CacheCounters, TableCache};
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::file::bytes;
use crate::format::ImageFormat;
use crate::image::{AtomicWrites, Durability, Extent, Features, Image, PAGE, Wait, check_range};
use crate::layers::Own;
use crate::redo::{self, RedoJournal};

/// Pieces of the tables are cached in this size, or a cluster's if that is smaller.
const PIECE_BYTES: u64 = 4096;

/// Something that is wrong with what a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    kind: ImageErrorKind,
    reason: String,
}

impl Problem {
    fn new(kind: ImageErrorKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }
}

/// Tables that are written at different times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A reference count block.
    Count,
    /// An L2 table.
    Map,
}

/// The cluster that was decompressed last, by its place in the file.
type Decompressed = Option<(u64, Arc<[u8]>)>;

/// An open qcow2 image. The file is locked until this is dropped.
pub struct Qcow2Image {
    file: Arc<dyn BlockFile>,
    geometry: Geometry,
    compression: Compression,
    read_only: bool,
    /// The disk's size as the header has it.
    capacity: AtomicU64,
    /// What of it is the disk's for the caller.
    size: AtomicU64,
    /// Bytes of data that the file had when it was opened for reading only: zeroes lie behind.
    data_end: u64,
    /// The end of the file, up to which entries may point.
    file_end: AtomicU64,
    gates: Gates,
    tables: TableCache<Kind>,
    /// Host clusters that hold metadata: nothing is written to them as data.
    metadata: RwLock<HashSet<u64>>,
    parent: ArcSwapOption<Parent>,
    /// For atomic writes that no page holds.
    redo: Option<RedoJournal>,
    decompressed: Mutex<Decompressed>,
    owner: Mutex<Owner>,
    /// Signalled when guest clusters are not busy any more.
    idle: Condvar,
    /// Held while tables are written.
    committing: Mutex<()>,
    /// Held while the disk is made larger.
    resizing: Mutex<()>,
    commits_begun: AtomicU64,
    commits_done: AtomicU64,
    /// Counts changes of tables; the number that the file has seen.
    changed: AtomicU64,
    settled: AtomicU64,
    /// Tables could not be written and it is not known how they are: nothing is changed any more.
    broken: AtomicBool,
}

impl fmt::Debug for Qcow2Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Qcow2Image({})", self.file.path().display())
    }
}

impl Qcow2Image {
    fn error(
        &self,
        kind: ImageErrorKind,
        operation: Operation,
        offset: u64,
        length: u64,
    ) -> ImageError {
        ImageError::new(kind, operation, self.file.path().clone()).at(offset, length)
    }

    fn check_write(
        &self,
        operation: Operation,
        offset: u64,
        length: u64,
    ) -> Result<(), ImageError> {
        if self.read_only {
            return Err(self.error(ImageErrorKind::ReadOnly, operation, offset, length));
        }
        if self.broken.load(Ordering::Acquire) {
            let error = self.error(ImageErrorKind::Io, operation, offset, length);
            return Err(error.because("the image's tables could not be written before"));
        }
        check_range(self.file.path(), operation, offset, length, self.size_bytes())
    }

    fn is_metadata(&self, cluster: u64) -> bool {
        let metadata = self.metadata.read().unwrap_or_else(PoisonError::into_inner);
        metadata.contains(&cluster)
    }

    fn add_metadata(&self, start: u64, count: u64) {
        let mut metadata = self.metadata.write().unwrap_or_else(PoisonError::into_inner);
        metadata.extend(start..start + count);
    }

    fn remove_metadata(&self, cluster: u64) {
        let mut metadata = self.metadata.write().unwrap_or_else(PoisonError::into_inner);
        metadata.remove(&cluster);
    }
}

impl Image for Qcow2Image {
    fn size_bytes(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn cache(&self) -> Option<CacheCounters> {
        Some(self.tables.counters())
    }

    fn cache_budget(&self) -> Option<CacheBudget> {
        Some(self.tables.budget().clone())
    }

    fn trim_caches(&self) {
        self.tables.trim();
        if let Some(parent) = &*self.parent.load() {
            parent.image.trim_caches();
        }
    }

    fn features(&self) -> Features {
        Features {
            read_only: self.read_only,
            unmap: !self.read_only,
            unmap_granularity: u32::try_from(self.geometry.cluster()).unwrap_or(u32::MAX),
            reads_zero_after_unmap: true,
            nowait_reads: self.file.nowait_reads(),
            joins_writes: self.file.joins_writes(),
        }
    }

    fn path(&self) -> Arc<Path> {
        self.file.path().clone()
    }

    fn read(&self, bufs: &mut [IoSliceMut<'_>], offset: u64, wait: Wait) -> Result<(), ImageError> {
        let length = bytes(bufs.iter().map(|buf| buf.len()).sum());
        check_range(self.file.path(), Operation::Read, offset, length, self.size_bytes())?;
        self.read_clusters(bufs, offset, length, wait)
            .map_err(|error| error.during(Operation::Read).at(offset, length))
    }

    fn write(
        &self,
        bufs: &[IoSlice<'_>],
        offset: u64,
        durability: Durability,
    ) -> Result<(), ImageError> {
        let length = bytes(bufs.iter().map(|buf| buf.len()).sum());
        self.check_write(Operation::Write, offset, length)?;
        self.write_clusters(bufs, offset, length, durability)
            .map_err(|error| error.during(Operation::Write).at(offset, length))
    }

    fn flush(&self) -> Result<(), ImageError> {
        if self.read_only {
            return Ok(());
        }
        self.settle_parent()
            .and_then(|()| self.commit())
            .map_err(|error| error.during(Operation::Flush))
    }

    fn unmap(&self, offset: u64, length: u64) -> Result<(), ImageError> {
        let operation = Operation::Unmap;
        self.check_write(operation, offset, length)?;
        self.zero(offset, length, true).map_err(|error| error.during(operation).at(offset, length))
    }

    fn write_zeroes(&self, offset: u64, length: u64, may_unmap: bool) -> Result<(), ImageError> {
        let operation = Operation::WriteZeroes;
        self.check_write(operation, offset, length)?;
        self.zero(offset, length, may_unmap)
            .map_err(|error| error.during(operation).at(offset, length))
    }

    fn block_status(&self, offset: u64, length: u64) -> Result<Extent, ImageError> {
        let operation = Operation::BlockStatus;
        if length == 0 {
            return Err(self.error(ImageErrorKind::OutOfRange, operation, offset, length));
        }
        check_range(self.file.path(), operation, offset, length, self.size_bytes())?;
        self.extent(offset, length).map_err(|error| error.during(operation).at(offset, length))
    }

    fn grow(&self, size_bytes: u64) -> Result<(), ImageError> {
        self.grow_to(size_bytes).map_err(|error| error.during(Operation::Resize))
    }

    fn shrink(&self, size_bytes: u64) -> Result<(), ImageError> {
        self.size.fetch_min(size_bytes, Ordering::AcqRel);
        Ok(())
    }

    fn cut(&self, size_bytes: u64) -> Result<(), ImageError> {
        self.cut_to(size_bytes).map_err(|error| error.during(Operation::Resize))
    }

    fn parent(&self) -> Option<Arc<dyn Image>> {
        self.parent.load().as_ref().map(|parent| parent.image.clone())
    }

    fn own_extent(&self, offset: u64, length: u64) -> Result<(Own, u64), ImageError> {
        check_range(self.file.path(), Operation::BlockStatus, offset, length, self.size_bytes())?;
        self.own(offset, length)
            .map_err(|error| error.during(Operation::BlockStatus).at(offset, length))
    }

    fn set_parent(&self, parent: Arc<dyn Image>) -> Result<(), ImageError> {
        self.parent.store(Some(Arc::new(Parent::of(parent))));
        Ok(())
    }

    fn rebase(
        &self,
        name: &str,
        format: ImageFormat,
        parent: Arc<dyn Image>,
    ) -> Result<(), ImageError> {
        self.change_parent(name, format, parent)
    }

    fn retire(&self) -> Result<(), ImageError> {
        self.close()?;
        if let Some(journal) = &self.redo {
            journal.end();
        }
        self.file.share()
    }

    fn atomic_writes(&self) -> AtomicWrites {
        let max_length = if self.redo.is_some() { redo::LIMIT } else { 0 };
        AtomicWrites { max_length, alignment: 0 }
    }

    fn write_atomic(
        &self,
        data: &[u8],
        offset: u64,
        durability: Durability,
    ) -> Result<(), ImageError> {
        self.check_write(Operation::Write, offset, bytes(data.len()))?;
        let page = u64::from(PAGE);
        let in_one_page = offset / page == (offset + bytes(data.len()).max(1) - 1) / page;
        match &self.redo {
            Some(journal) if !(in_one_page && self.file.granularity() >= PAGE) => {
                journal.write(self, offset, data)
            }
            Some(_) | None => self.write(&[IoSlice::new(data)], offset, durability),
        }
    }

    fn close(&self) -> Result<(), ImageError> {
        if !self.read_only {
            self.settle_parent()?;
        }
        // The second time writes what the first has freed.
        for _ in 0..2 {
            if self.read_only || self.is_settled() || self.broken.load(Ordering::Acquire) {
                break;
            }
            self.commit()?;
        }
        Ok(())
    }

    fn health(&self) -> Result<(), ImageError> {
        self.file.health()?;
        let length = self.file.length()?;
        let wanted =
            if self.read_only { self.data_end } else { self.file_end.load(Ordering::Acquire) };
        if length < wanted {
            let kind = ImageErrorKind::ShortTransfer;
            return Err(self.error(kind, Operation::Health, length, wanted - length));
        }
        self.parent.load().as_ref().map_or(Ok(()), |parent| parent.image.health())
    }
}

impl Drop for Qcow2Image {
    /// What was never flushed may be lost, but need not be.
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(path = %self.file.path().display(), %error, "not written at the end");
        }
    }
}

#[cfg(test)]
mod tests;
