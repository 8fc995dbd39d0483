//! Copying a file in steps, so that a job can show progress, stop between two of them and go on
//! after a crash. Holes stay holes.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::{Errno, retry_on_intr};

use crate::create::{Preallocation, Progress};
use crate::device;
use crate::error::{ImageError, ImageErrorKind, Operation};

/// Read at once where the kernel does not copy by itself.
const BUFFER: usize = 1 << 20;

/// An open file and the path under which errors name it.
#[derive(Debug)]
pub struct NamedFile {
    /// The file.
    pub file: OwnedFd,
    /// Its path.
    pub path: Arc<Path>,
}

impl NamedFile {
    pub(crate) fn error(&self, operation: Operation, errno: Errno, at: u64, n: u64) -> ImageError {
        ImageError::from_io(operation, self.path.clone(), errno.into()).at(at, n)
    }

    /// Its length in bytes.
    ///
    /// # Errors
    /// As the system says.
    pub fn length(&self) -> Result<u64, ImageError> {
        let length =
            rustix::fs::fstat(&self.file).and_then(|stat| device::length(&self.file, &stat));
        length.map_err(|errno| self.error(Operation::Open, errno, 0, 0))
    }

    /// The bytes that it takes of its file system; all of a device.
    ///
    /// # Errors
    /// As the system says.
    pub fn allocated(&self) -> Result<u64, ImageError> {
        let stat = rustix::fs::fstat(&self.file)
            .map_err(|errno| self.error(Operation::Open, errno, 0, 0))?;
        if device::is_block_device(&stat) {
            return self.length();
        }
        Ok(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512))
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// `SyncFailed`.
    pub fn sync(&self) -> Result<(), ImageError> {
        retry_on_intr(|| rustix::fs::fsync(&self.file)).map_err(|errno| {
            self.error(Operation::Flush, errno, 0, 0).with_kind(ImageErrorKind::SyncFailed)
        })
    }

    /// Makes it so many bytes long; a device stays as it is.
    ///
    /// # Errors
    /// `OutOfSpace` for a device that is shorter; as the system says.
    pub fn set_length(&self, bytes: u64) -> Result<(), ImageError> {
        device::set_length(&self.file, bytes)
            .map_err(|errno| self.error(Operation::Resize, errno, bytes, 0))
    }
}

/// The first byte from `from` on that is not in a hole; `None` if there is only hole. A file system
/// that knows no holes says `from`.
///
/// # Errors
/// As the system says.
pub fn first_data(file: &NamedFile, from: u64) -> Result<Option<u64>, ImageError> {
    match rustix::fs::seek(&file.file, SeekFrom::Data(from)) {
        Ok(at) => Ok(Some(at.max(from))),
        Err(Errno::NXIO) => Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(from)),
        Err(errno) => Err(file.error(Operation::BlockStatus, errno, from, 0)),
    }
}

/// Where the data that begins at `from` ends.
pub(crate) fn data_end(file: &NamedFile, from: u64, end: u64) -> Result<u64, ImageError> {
    match rustix::fs::seek(&file.file, SeekFrom::Hole(from)) {
        Ok(hole) => Ok(hole.clamp(from, end)),
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NXIO) => Ok(end),
        Err(errno) => Err(file.error(Operation::BlockStatus, errno, from, 0)),
    }
}

/// What to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyOptions {
    /// Bytes of the copy: those of the source, and zeroes behind its end.
    pub size_bytes: u64,
    /// Bytes that an earlier run has copied and made durable.
    pub done: u64,
    /// Whether holes take space in the copy.
    pub preallocation: Preallocation,
}

/// A copy under way.
#[derive(Debug)]
pub struct FileCopier {
    source: NamedFile,
    target: NamedFile,
    source_length: u64,
    options: CopyOptions,
    done: u64,
    in_kernel: bool,
    buffer: Vec<u8>,
}

impl FileCopier {
    /// Starts to copy `source` to `target`, or goes on after `options.done` bytes. What the target
    /// has beyond them goes.
    ///
    /// # Errors
    /// As the system says.
    pub fn begin(
        source: NamedFile,
        target: NamedFile,
        options: CopyOptions,
    ) -> Result<Self, ImageError> {
        let source_length = source.length()?.min(options.size_bytes);
        // What is behind the checkpoint may be anything; behind the end of a file are zeroes.
        let done = options.done.min(options.size_bytes).min(target.length()?);
        target.set_length(done)?;
        let buffer = Vec::new();
        Ok(Self { source, target, source_length, options, done, in_kernel: true, buffer })
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress { done: self.done, total: self.options.size_bytes }
    }

    /// Does the next part: at most `max_bytes` of data, or a hole of any length.
    ///
    /// # Errors
    /// `ShortTransfer` if the source becomes shorter meanwhile, otherwise as the system says. The
    /// step can be repeated.
    pub fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError> {
        let size = self.options.size_bytes;
        let data = if self.done < self.source_length {
            first_data(&self.source, self.done)?.filter(|at| *at < self.source_length)
        } else {
            None
        };
        let Some(data) = data else {
            self.skip_to(size)?;
            return Ok(self.progress());
        };
        if data > self.done {
            self.skip_to(data)?;
            return Ok(self.progress());
        }
        let limit = self.done.saturating_add(max_bytes.max(1)).min(self.source_length);
        let end = data_end(&self.source, self.done, limit)?;
        // A hole that appears here now is data that the copy has to have as zeroes.
        let end = if end > self.done { end } else { limit };
        while self.done < end {
            self.done += self.copy(end - self.done)?;
        }
        Ok(self.progress())
    }

    /// Makes the copy longer by a hole, or by space that reads as zeroes.
    fn skip_to(&mut self, end: u64) -> Result<(), ImageError> {
        let length = end.saturating_sub(self.done);
        let fail = |errno| self.target.error(Operation::Copy, errno, self.done, length);
        if length > 0 && self.options.preallocation == Preallocation::Full {
            let mode = FallocateFlags::empty();
            let space =
                retry_on_intr(|| rustix::fs::fallocate(&self.target.file, mode, self.done, length));
            match space {
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(errno) => return Err(fail(errno)),
            }
        }
        retry_on_intr(|| rustix::fs::ftruncate(&self.target.file, end)).map_err(fail)?;
        self.done = end;
        Ok(())
    }

    /// Copies at least one byte of data; how many.
    fn copy(&mut self, length: u64) -> Result<u64, ImageError> {
        let count = usize::try_from(length).unwrap_or(usize::MAX).min(1 << 30);
        if self.in_kernel {
            let (mut from, mut to) = (self.done, self.done);
            let copied = rustix::fs::copy_file_range(
                &self.source.file,
                Some(&mut from),
                &self.target.file,
                Some(&mut to),
                count,
            );
            match copied {
                Ok(0) => return Err(self.cut_short(length)),
                Ok(copied) => return Ok(u64::try_from(copied).unwrap_or(0)),
                Err(Errno::INTR) => return Ok(0),
                Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    self.in_kernel = false;
                }
                Err(errno) => {
                    return Err(self.target.error(Operation::Copy, errno, self.done, length));
                }
            }
        }
        self.buffer.resize(count.min(BUFFER), 0);
        let read = retry_on_intr(|| {
            rustix::io::pread(&self.source.file, self.buffer.as_mut_slice(), self.done)
        });
        let read = read.map_err(|e| self.source.error(Operation::Read, e, self.done, length))?;
        let data = self.buffer.get(..read).unwrap_or_default();
        if data.is_empty() {
            return Err(self.cut_short(length));
        }
        let written = retry_on_intr(|| rustix::io::pwrite(&self.target.file, data, self.done))
            .map_err(|errno| self.target.error(Operation::Write, errno, self.done, length))?;
        Ok(u64::try_from(written).unwrap_or(0))
    }

    fn cut_short(&self, length: u64) -> ImageError {
        let kind = ImageErrorKind::ShortTransfer;
        ImageError::new(kind, Operation::Copy, self.source.path.clone()).at(self.done, length)
    }

    /// Makes what was copied durable, before a checkpoint says that it is there.
    ///
    /// # Errors
    /// `SyncFailed`.
    pub fn sync(&self) -> Result<(), ImageError> {
        self.target.sync()
    }
}

#[cfg(test)]
pub(crate) mod tests;
