//! Block devices: a raw image may be one, or a link to one.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FallocateFlags, FileType, Mode, OFlags, SeekFrom, Stat, fallocate};
use rustix::io::{Errno, retry_on_intr};

use crate::allocate::write_zeroes;
use crate::error::{ImageError, Operation};

/// Whether `path`, or what it is a link to, is a block device.
#[must_use]
pub fn is_device(path: &Path) -> bool {
    rustix::fs::stat(path).is_ok_and(|stat| is_block_device(&stat))
}

/// Bytes of the block device that `path` is or leads to; `None` if it is none.
///
/// # Errors
/// As the system says.
pub fn device_length(path: &Path) -> Result<Option<u64>, ImageError> {
    if !is_device(path) {
        return Ok(None);
    }
    let fail = |errno: Errno| ImageError::from_io(Operation::Open, path, errno.into());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty())).map_err(fail)?;
    let stat = rustix::fs::fstat(&file).map_err(fail)?;
    is_block_device(&stat).then(|| length(&file, &stat).map_err(fail)).transpose()
}

pub(crate) fn is_block_device(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice
}

/// Bytes of a file or of a block device; the status of a device says 0.
pub(crate) fn length(file: &OwnedFd, stat: &Stat) -> Result<u64, Errno> {
    if is_block_device(stat) {
        return rustix::fs::seek(file, SeekFrom::End(0));
    }
    Ok(u64::try_from(stat.st_size).unwrap_or(0))
}

/// Makes a file so many bytes long. A device stays as long as it is, which must be enough.
///
/// # Errors
/// `NOSPC` for a device that is smaller; as the system says.
pub(crate) fn set_length(file: &OwnedFd, bytes: u64) -> Result<(), Errno> {
    let stat = rustix::fs::fstat(file)?;
    if is_block_device(&stat) {
        return if length(file, &stat)? < bytes { Err(Errno::NOSPC) } else { Ok(()) };
    }
    retry_on_intr(|| rustix::fs::ftruncate(file, bytes))
}

/// Of a writer: nobody else has the device open so, and no file system that is mounted lies on it.
pub(crate) fn exclusive(path: &Path) -> OFlags {
    if is_device(path) { OFlags::EXCL } else { OFlags::empty() }
}

/// Zeroes a part of a device, and gives its space back where that is possible.
pub(crate) fn zero(file: &OwnedFd, offset: u64, length: u64) -> Result<(), Errno> {
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match retry_on_intr(|| fallocate(file, mode, offset, length)) {
        // It has no such request, or not for what is no multiple of its blocks; or somebody reads there.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::BUSY) => {
            write_zeroes(file, offset, length)
        }
        result => result,
    }
}
