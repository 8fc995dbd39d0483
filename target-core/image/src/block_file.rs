//! What a disk image format stands on: a file of bytes, real or in a test's memory.

use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::path::Path;
use std::sync::Arc;

use crate::error::ImageError;
use crate::image::{Durability, Wait};

/// A file that holds an image. All methods take `&self`, are positional and may be called from any
/// number of threads.
///
/// Errors carry offsets in the file; a format says which bytes of the disk were concerned
/// ([`ImageError::at`]) before it hands them on.
pub trait BlockFile: Send + Sync + fmt::Debug {
    /// Its path, for messages.
    fn path(&self) -> &Arc<Path>;

    /// It was opened for reading only.
    fn is_read_only(&self) -> bool;

    /// A read with [`Wait::Nowait`] has a chance.
    fn nowait_reads(&self) -> bool;

    /// Writes of bytes that adjoin are better made as one.
    fn joins_writes(&self) -> bool;

    /// [`Self::punch`] may give space back.
    fn punches(&self) -> bool;

    /// The unit in bytes in which the file system takes and gives space.
    fn granularity(&self) -> u32;

    /// Its length in bytes now.
    ///
    /// # Errors
    /// As the system says.
    fn length(&self) -> Result<u64, ImageError>;

    /// Cuts it off, or makes it longer by a hole.
    ///
    /// # Errors
    /// As the system says.
    fn set_length(&self, length: u64) -> Result<(), ImageError>;

    /// Fills all of `bufs`, or fails; on failure their content is undefined.
    ///
    /// # Errors
    /// `ShortTransfer` beyond the end; `WouldBlock` only with [`Wait::Nowait`].
    fn read(&self, bufs: &mut [IoSliceMut<'_>], offset: u64, wait: Wait) -> Result<(), ImageError>;

    /// Writes all of `bufs`, or fails; on failure any part may have been written. Makes the file
    /// longer where it goes beyond its end.
    ///
    /// # Errors
    /// Any kind but `WouldBlock`.
    fn write(
        &self,
        bufs: &[IoSlice<'_>],
        offset: u64,
        durability: Durability,
    ) -> Result<(), ImageError>;

    /// Makes everything durable that was answered before this call: bytes, length, space.
    ///
    /// # Errors
    /// `SyncFailed` once the medium refused, and from then on always.
    fn flush(&self) -> Result<(), ImageError>;

    /// Makes a range inside of the file a hole that reads zeroes; `false` if the file system has no
    /// holes, and nothing was done.
    ///
    /// # Errors
    /// As the system says.
    fn punch(&self, offset: u64, length: u64) -> Result<bool, ImageError>;

    /// Makes a range inside of the file read zeroes and keep its space.
    ///
    /// # Errors
    /// Any kind but `WouldBlock` and `Unsupported`.
    fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), ImageError>;

    /// Takes space for a range, without changing what is there. The file does not get longer.
    ///
    /// # Errors
    /// `OutOfSpace`, or as the system says; a file system that cannot do it is no error.
    fn allocate(&self, offset: u64, length: u64) -> Result<(), ImageError>;

    /// Checks that the file is still there and takes writes.
    ///
    /// # Errors
    /// `NotFound` for a deleted file, `SyncFailed` after a failed flush.
    fn health(&self) -> Result<(), ImageError>;

    /// Lets others open it for reading, from now on; it is not written any more.
    ///
    /// # Errors
    /// `InUse` if somebody was faster.
    fn share(&self) -> Result<(), ImageError> {
        Ok(())
    }

    /// Fills `buf`; for metadata.
    ///
    /// # Errors
    /// As [`Self::read`], waiting.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), ImageError> {
        self.read(&mut [IoSliceMut::new(buf)], offset, Wait::Block)
    }

    /// Writes `buf`; for metadata.
    ///
    /// # Errors
    /// As [`Self::write`].
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), ImageError> {
        self.write(&[IoSlice::new(buf)], offset, Durability::Cached)
    }
}
