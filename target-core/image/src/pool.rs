//! Directories that hold images: their space, and removing images from them.

use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use crate::error::{ImageError, Operation};
use crate::redo::journal_path;

/// The space of the file system that holds a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSpace {
    /// Size in bytes.
    pub total: u64,
    /// Bytes that this process may still use.
    pub free: u64,
}

/// Asks the file system that holds `directory` for its space.
///
/// # Errors
/// `NotFound` if the directory is gone, otherwise as the system says.
pub fn pool_space(directory: &Path) -> Result<PoolSpace, ImageError> {
    let stat = rustix::fs::statvfs(directory)
        .map_err(|errno| ImageError::from_io(Operation::PoolSpace, directory, errno.into()))?;
    Ok(PoolSpace {
        total: stat.f_blocks.saturating_mul(stat.f_frsize),
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
    })
}

/// What a file that is not there means to [`delete`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingFile {
    /// Nothing is left to do: the answer for a job that is repeated after a crash. A directory that is
    /// not there may bring the file back with its file system, and is an error all the same.
    Tolerate,
    /// An error of kind `NotFound`.
    Refuse,
}

/// Removes an image's file and the journal beside it, and makes the removal durable.
///
/// # Errors
/// As the system says; `NotFound` depends on `missing`.
pub fn delete(path: &Path, missing: MissingFile) -> Result<(), ImageError> {
    let fail =
        |errno: rustix::io::Errno| ImageError::from_io(Operation::Delete, path, errno.into());
    // First: a journal must not be found by an image that gets this name later.
    match rustix::fs::unlink(journal_path(path)) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(errno) => return Err(fail(errno)),
    }
    match rustix::fs::unlink(path) {
        Ok(()) => {}
        // Even then the directory is synced: the unlink of a run that crashed may not be durable.
        Err(rustix::io::Errno::NOENT) if missing == MissingFile::Tolerate => {}
        Err(errno) => return Err(fail(errno)),
    }
    sync_directory(path).map_err(fail)
}

/// Makes the entry of `path` in its directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), rustix::io::Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, directory_of(path), flags, Mode::empty())?;
    rustix::fs::fsync(directory)
}

/// The directory that holds `path`.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
