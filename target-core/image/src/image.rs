//! The one interface through which the data path sees an image.

use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::path::Path;
use std::sync::Arc;

use crate::cache::{CacheBudget, CacheCounters};
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::file::ImageFile;
use crate::format::ImageFormat;
use crate::hot::Pinned;
use crate::layers::Own;
use crate::switch::SwitchImage;

/// Whether a call may sleep on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Fail with [`ImageErrorKind::WouldBlock`] rather than sleep.
    Nowait,
    /// Sleep as long as it takes.
    Block,
}

/// When a write may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// As soon as later reads see it.
    Cached,
    /// When it is on the medium (FUA).
    Durable,
}

/// Whether a range has space of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockState {
    /// Holds data, or at least space.
    Mapped,
    /// A hole: reads zeroes.
    Deallocated,
}

/// A run of bytes with one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Bytes, at least 1.
    pub length: u64,
    /// The state of all of them.
    pub state: BlockState,
}

/// What an image can do. May change while it is open: a file system that refuses an operation
/// once turns the feature off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Writes of any kind are refused.
    pub read_only: bool,
    /// [`Image::unmap`] really gives space back.
    pub unmap: bool,
    /// The unit in bytes in which space is given back.
    pub unmap_granularity: u32,
    /// Unmapped bytes read as zeroes.
    pub reads_zero_after_unmap: bool,
    /// A read with [`Wait::Nowait`] has a chance.
    pub nowait_reads: bool,
    /// Writes of bytes that adjoin are better made as one.
    pub joins_writes: bool,
}

/// What [`Image::write_atomic`] can do, in bytes; both are 0 where it can do nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AtomicWrites {
    /// The longest one.
    pub max_length: u32,
    /// Where they may begin; 0 for everywhere.
    pub alignment: u32,
}

/// Bytes of a page: written as a whole in the page cache, and at once to a file system whose blocks
/// are not smaller.
pub(crate) const PAGE: u32 = 4096;

/// A virtual disk's bytes. All methods take `&self`, are positional and may be called from any
/// number of threads; two calls on overlapping ranges have no order between them.
///
/// Offsets and lengths are bytes. A range outside of the image fails with
/// [`ImageErrorKind::OutOfRange`]; a length of 0 succeeds.
pub trait Image: Send + Sync + fmt::Debug {
    /// Size of the disk in bytes.
    fn size_bytes(&self) -> u64;

    /// What this image can do now.
    fn features(&self) -> Features;

    /// The file that holds it, for messages and fault records.
    fn path(&self) -> Arc<Path>;

    /// Fills all of `bufs`, or fails; on failure their content is undefined.
    ///
    /// # Errors
    /// [`ImageErrorKind::WouldBlock`] only with [`Wait::Nowait`].
    fn read(&self, bufs: &mut [IoSliceMut<'_>], offset: u64, wait: Wait) -> Result<(), ImageError>;

    /// Writes all of `bufs`, or fails; on failure any part may have been written.
    ///
    /// # Errors
    /// Any kind but `WouldBlock`.
    fn write(
        &self,
        bufs: &[IoSlice<'_>],
        offset: u64,
        durability: Durability,
    ) -> Result<(), ImageError>;

    /// Makes every write that was answered before this call durable on the medium.
    ///
    /// # Errors
    /// [`ImageErrorKind::SyncFailed`] once the medium refused, and from then on always: the
    /// operating system drops the pages it could not write, so a later success would be a lie.
    fn flush(&self) -> Result<(), ImageError>;

    /// Gives the space of a range back; it reads zeroes afterwards, aligned or not.
    ///
    /// # Errors
    /// Any kind but `WouldBlock` and `Unsupported`: where holes do not exist, zeroes are written.
    fn unmap(&self, offset: u64, length: u64) -> Result<(), ImageError>;

    /// Makes a range read zeroes. With `may_unmap` its space may be given back, without it the
    /// range keeps (or gets) its space.
    ///
    /// # Errors
    /// Any kind but `WouldBlock` and `Unsupported`.
    fn write_zeroes(&self, offset: u64, length: u64, may_unmap: bool) -> Result<(), ImageError>;

    /// The extent that starts at `offset`; it is at least 1 and at most `length` bytes long.
    ///
    /// # Errors
    /// [`ImageErrorKind::OutOfRange`] for a length of 0 too.
    fn block_status(&self, offset: u64, length: u64) -> Result<Extent, ImageError>;

    /// A range whose length is not 0, if all of it stays in memory and can be sent from there. It is no read, see
    /// [`Pinned`].
    fn pinned(&self, _offset: u64, _length: u64) -> Option<Pinned> {
        None
    }

    /// The file whose byte n is the disk's byte n, where there is one.
    fn plain_file(&self) -> Option<&ImageFile> {
        None
    }

    /// There is such a file.
    fn is_plain(&self) -> bool {
        self.plain_file().is_some()
    }

    /// What stands for another image, and for which one may change: [`SwitchImage`].
    fn switch(&self) -> Option<&SwitchImage> {
        None
    }

    /// Its cache of tables, if it has one; not those of its parents.
    fn cache(&self) -> Option<CacheCounters> {
        None
    }

    /// The budget of its cache, which an image that is laid over it shares.
    fn cache_budget(&self) -> Option<CacheBudget> {
        None
    }

    /// Its caches and those of its parents give up what is beyond their shares.
    fn trim_caches(&self) {}

    /// The image that this one shows where it has nothing of its own.
    fn parent(&self) -> Option<Arc<dyn Image>> {
        None
    }

    /// What this image has itself from `offset` on, without its parents, and for how many bytes that
    /// is so: at least 1, at most `length`. An image that says of itself that it has no parent has
    /// all of the disk.
    ///
    /// # Errors
    /// As [`Self::block_status`].
    fn own_extent(&self, offset: u64, length: u64) -> Result<(Own, u64), ImageError> {
        let extent = self.block_status(offset, length)?;
        let own = match extent.state {
            BlockState::Mapped => Own::Data,
            BlockState::Deallocated => Own::Zeroes,
        };
        Ok((own, extent.length))
    }

    /// Shows another image from now on where it has nothing of its own: one that has the same data
    /// there. The file stays as it is; who has it open for writing wants [`Self::rebase`].
    ///
    /// # Errors
    /// `Unsupported` by a format that has no such parents.
    fn set_parent(&self, _parent: Arc<dyn Image>) -> Result<(), ImageError> {
        let kind = ImageErrorKind::Unsupported;
        Err(ImageError::new(kind, Operation::Open, self.path()))
    }

    /// The same, and the file names it: `name` is that of a file beside its own.
    ///
    /// # Errors
    /// `Unsupported` as above; as a write.
    fn rebase(
        &self,
        _name: &str,
        _format: ImageFormat,
        parent: Arc<dyn Image>,
    ) -> Result<(), ImageError> {
        self.set_parent(parent)
    }

    /// For an image that is never written again: everything is brought to its file, durably, and
    /// others may open that for reading.
    ///
    /// # Errors
    /// As [`Self::flush`].
    fn retire(&self) -> Result<(), ImageError> {
        self.close()?;
        self.flush()
    }

    /// Has the file system copy bytes of another image, which it may do without moving any
    /// (reflinks). How many were copied, from the start on; at least 1 if `length` is.
    ///
    /// # Errors
    /// Any kind but `WouldBlock`. It may be that the same succeeds by reading and writing, and a
    /// failure does not say which of the two images failed.
    fn copy_from(
        &self,
        _source: &dyn Image,
        _from: u64,
        to: u64,
        length: u64,
    ) -> Result<u64, ImageError> {
        let (kind, operation) = (ImageErrorKind::Unsupported, Operation::Write);
        Err(ImageError::new(kind, operation, self.path()).at(to, length))
    }

    /// Takes more of the file for the disk: it has been made that long. Commands that are under way
    /// keep to what they were checked against. A smaller size changes nothing.
    ///
    /// # Errors
    /// `ShortTransfer` if there is not so much.
    fn grow(&self, size_bytes: u64) -> Result<(), ImageError>;

    /// Leaves what is behind so many bytes: from now on it is out of range. Called while no command
    /// is inside, and only for what holds no data.
    ///
    /// # Errors
    /// `Unsupported` where that cannot be done.
    fn shrink(&self, size_bytes: u64) -> Result<(), ImageError> {
        let kind = ImageErrorKind::Unsupported;
        Err(ImageError::new(kind, Operation::Resize, self.path()).at(size_bytes, 0))
    }

    /// Has the image itself end there, durably: what it has behind is gone, and its space with it as far
    /// as the format allows. A smaller one stays as it is, and to do it once more does no harm.
    ///
    /// # Errors
    /// `Unsupported` where that cannot be done; `OutOfRange` for a size that the format does not have;
    /// as the system says.
    fn cut(&self, size_bytes: u64) -> Result<(), ImageError> {
        let kind = ImageErrorKind::Unsupported;
        Err(ImageError::new(kind, Operation::Resize, self.path()).at(size_bytes, 0))
    }

    /// Brings what the format has put off to its place, for the end: any program may open the file
    /// after this. The image can still be used.
    ///
    /// # Errors
    /// As [`Self::flush`]. Nothing that was flushed is lost: the next opener does it.
    fn close(&self) -> Result<(), ImageError> {
        Ok(())
    }

    /// What atomic writes there are. By itself a write within a page is one, where the file system
    /// writes pages as a whole.
    fn atomic_writes(&self) -> AtomicWrites {
        let features = self.features();
        let pages = !features.read_only && features.unmap_granularity >= PAGE;
        let page = if pages { PAGE } else { 0 };
        AtomicWrites { max_length: page, alignment: page }
    }

    /// Writes all of `data` or nothing, whatever ends the process; the power too, as far as the
    /// host's device writes a page as a whole. It lies within what [`Self::atomic_writes`] says,
    /// and nobody reads or writes there meanwhile.
    ///
    /// # Errors
    /// As [`Self::write`]. After an error of the medium a part may have been written.
    fn write_atomic(
        &self,
        data: &[u8],
        offset: u64,
        durability: Durability,
    ) -> Result<(), ImageError> {
        self.write(&[IoSlice::new(data)], offset, durability)
    }

    /// Checks without touching data that the image is still there and whole.
    ///
    /// # Errors
    /// `NotFound` for a deleted file, `ShortTransfer` for a truncated one, `SyncFailed` after a
    /// failed flush.
    fn health(&self) -> Result<(), ImageError>;
}

/// Pieces of a range that one call looks at.
const MOST_PIECES: usize = 4096;

/// What the first of several pieces has, and how many bytes from its beginning on have it. Each piece
/// says what its first bytes have, how many do, and how many there are.
pub(crate) fn first_run<T: PartialEq>(
    pieces: impl Iterator<Item = Result<(T, u64, u64), ImageError>>,
) -> Result<Option<(T, u64)>, ImageError> {
    let mut found: Option<(T, u64)> = None;
    for piece in pieces.take(MOST_PIECES) {
        let (state, length, whole) = piece?;
        match &mut found {
            Some((first, _)) if *first != state => break,
            Some((_, sum)) => *sum += length,
            None => found = Some((state, length)),
        }
        if length < whole {
            break;
        }
    }
    Ok(found)
}

/// Refuses a range that is not inside of an image of `size` bytes.
pub(crate) fn check_range(
    path: &Arc<Path>,
    operation: Operation,
    offset: u64,
    length: u64,
    size: u64,
) -> Result<(), ImageError> {
    match offset.checked_add(length) {
        Some(end) if end <= size => Ok(()),
        _ => {
            Err(ImageError::new(ImageErrorKind::OutOfRange, operation, path.clone())
                .at(offset, length))
        }
    }
}
