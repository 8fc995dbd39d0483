//! Raw images: byte n of the disk is byte n of the file.

use std::io::{IoSlice, IoSliceMut};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::block_file::BlockFile as _;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::file::{ImageFile, bytes};
use crate::format::OpenOptions;
use crate::hot::Pinned;
use crate::image::{
    AtomicWrites, BlockState, Durability, Extent, Features, Image, PAGE, Wait, check_range,
};
use crate::redo::{self, RedoJournal};
use crate::switch::SwitchImage;

/// An open raw image. The file is locked until this is dropped, against other processes and
/// against a second opener in this one.
#[derive(Debug)]
pub struct RawImage {
    file: ImageFile,
    size: AtomicU64,
    redo: RedoJournal,
}

impl RawImage {
    /// Opens and locks the image in `path`. Its size is the file's size now, if the
    /// options know no smaller one, until it is told to grow.
    ///
    /// # Errors
    /// `InUse` if somebody else has it open, `InvalidFormat` if it is no regular file and no block device, otherwise
    /// as the system says.
    #[allow(clippy::needless_pass_by_value, reason = "as every opener")]
    pub fn open(path: impl Into<Arc<Path>>, options: OpenOptions) -> Result<Self, ImageError> {
        let path = path.into();
        if options.read_only {
            redo::finish(&path)?;
        }
        let file = ImageFile::open(path, options.read_only)?;
        Self::from_file(file.with_direct_io(options.direct_io), options.size_bytes)
    }

    /// The image in a file that is open.
    pub(crate) fn from_file(file: ImageFile, size: Option<u64>) -> Result<Self, ImageError> {
        let length = file.length().map_err(|error| error.during(Operation::Open))?;
        // Before anything is read.
        let redo = RedoJournal::open(&file)?;
        Ok(Self { size: AtomicU64::new(length.min(size.unwrap_or(length))), file, redo })
    }

    fn size(&self) -> u64 {
        self.size.load(Relaxed)
    }

    fn fault(
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
        if self.file.is_read_only() {
            return Err(self.fault(ImageErrorKind::ReadOnly, operation, offset, length));
        }
        check_range(self.file.path(), operation, offset, length, self.size())
    }
}

impl Image for RawImage {
    fn size_bytes(&self) -> u64 {
        self.size()
    }

    fn features(&self) -> Features {
        Features {
            read_only: self.file.is_read_only(),
            unmap: self.file.punches(),
            unmap_granularity: self.file.granularity(),
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
        check_range(self.file.path(), Operation::Read, offset, length, self.size())?;
        self.file.read(bufs, offset, wait)
    }

    fn write(
        &self,
        bufs: &[IoSlice<'_>],
        offset: u64,
        durability: Durability,
    ) -> Result<(), ImageError> {
        let length = bytes(bufs.iter().map(|buf| buf.len()).sum());
        self.check_write(Operation::Write, offset, length)?;
        self.file.write(bufs, offset, durability)
    }

    fn atomic_writes(&self) -> AtomicWrites {
        let max_length = if self.file.is_read_only() { 0 } else { redo::LIMIT };
        AtomicWrites { max_length, alignment: 0 }
    }

    fn write_atomic(
        &self,
        data: &[u8],
        offset: u64,
        durability: Durability,
    ) -> Result<(), ImageError> {
        let length = bytes(data.len());
        self.check_write(Operation::Write, offset, length)?;
        let page = u64::from(PAGE);
        let in_one_page = offset / page == (offset + length.max(1) - 1) / page;
        if in_one_page && self.file.granularity() >= PAGE {
            return self.file.write(&[IoSlice::new(data)], offset, durability);
        }
        self.redo.write(&self.file, offset, data)
    }

    fn flush(&self) -> Result<(), ImageError> {
        self.file.flush()
    }

    fn unmap(&self, offset: u64, length: u64) -> Result<(), ImageError> {
        let operation = Operation::Unmap;
        self.check_write(operation, offset, length)?;
        if length == 0 {
            return Ok(());
        }
        let unmap = || match self.file.punch_hole(offset, length)? {
            true => Ok(()),
            false => self.file.write_zero_bytes(offset, length),
        };
        unmap().map_err(|errno| self.file.error(errno, operation, offset, length))
    }

    fn write_zeroes(&self, offset: u64, length: u64, may_unmap: bool) -> Result<(), ImageError> {
        let operation = Operation::WriteZeroes;
        self.check_write(operation, offset, length)?;
        if length == 0 {
            return Ok(());
        }
        let write_zeroes = || {
            if may_unmap && self.file.punch_hole(offset, length)? {
                return Ok(());
            }
            self.file.zero(offset, length)
        };
        write_zeroes().map_err(|errno| self.file.error(errno, operation, offset, length))
    }

    fn retire(&self) -> Result<(), ImageError> {
        self.flush()?;
        self.redo.end();
        self.file.share()
    }

    fn pinned(&self, offset: u64, length: u64) -> Option<Pinned> {
        check_range(self.file.path(), Operation::Read, offset, length, self.size()).ok()?;
        self.file.pinned(offset, length)
    }

    fn plain_file(&self) -> Option<&ImageFile> {
        Some(&self.file)
    }

    fn copy_from(
        &self,
        source: &dyn Image,
        from: u64,
        to: u64,
        length: u64,
    ) -> Result<u64, ImageError> {
        let operation = Operation::Write;
        self.check_write(operation, to, length)?;
        let behind = source.switch().map(SwitchImage::current);
        let source = behind.as_deref().unwrap_or(source);
        let Some(file) = source.plain_file() else {
            return Err(self.fault(ImageErrorKind::Unsupported, operation, to, length));
        };
        check_range(file.path(), Operation::Read, from, length, source.size_bytes())?;
        self.file
            .copy_from(file, from, to, length)
            .map_err(|errno| self.file.error(errno, operation, to, length))
    }

    /// Space that was preallocated and never written counts as a hole here on most file
    /// systems: `SEEK_DATA` skips unwritten extents.
    fn block_status(&self, offset: u64, length: u64) -> Result<Extent, ImageError> {
        let operation = Operation::BlockStatus;
        if length == 0 {
            return Err(self.fault(ImageErrorKind::OutOfRange, operation, offset, length));
        }
        check_range(self.file.path(), operation, offset, length, self.size())?;
        let fail = |errno| self.file.error(errno, operation, offset, length);
        let extent = |end: u64, state| Extent {
            offset,
            length: end.saturating_sub(offset).clamp(1, length),
            state,
        };
        match self.file.seek(SeekFrom::Data(offset)) {
            Ok(data) if data > offset => Ok(extent(data, BlockState::Deallocated)),
            Ok(_) => {
                let hole = self.file.seek(SeekFrom::Hole(offset)).map_err(fail)?;
                Ok(extent(hole, BlockState::Mapped))
            }
            Err(Errno::NXIO) => Ok(extent(self.size(), BlockState::Deallocated)),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(extent(self.size(), BlockState::Mapped)),
            Err(errno) => Err(fail(errno)),
        }
    }

    fn grow(&self, size_bytes: u64) -> Result<(), ImageError> {
        let operation = Operation::Resize;
        let length = self.file.length().map_err(|error| error.during(operation))?;
        if length < size_bytes {
            let kind = ImageErrorKind::ShortTransfer;
            return Err(self.fault(kind, operation, length, size_bytes - length));
        }
        self.size.fetch_max(size_bytes, Relaxed);
        Ok(())
    }

    fn shrink(&self, size_bytes: u64) -> Result<(), ImageError> {
        self.size.fetch_min(size_bytes, Relaxed);
        Ok(())
    }

    fn cut(&self, size_bytes: u64) -> Result<(), ImageError> {
        self.size.fetch_min(size_bytes, Relaxed);
        let fail = |error: ImageError| error.during(Operation::Resize);
        if self.file.length().map_err(fail)? > size_bytes {
            self.file.set_length(size_bytes).map_err(fail)?;
        }
        self.flush()
    }

    fn health(&self) -> Result<(), ImageError> {
        let operation = Operation::Health;
        self.file.present()?;
        let length = self.file.length()?;
        let size = self.size();
        if length < size {
            let kind = ImageErrorKind::ShortTransfer;
            return Err(self.fault(kind, operation, length, size - length));
        }
        self.file.sync_state()
    }
}

#[cfg(test)]
mod tests;
