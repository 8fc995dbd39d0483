//! One daemon per data directory.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Name of the lock file in the data directory.
const NAME: &str = "lund.lock";

/// Why the lock was not taken.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Another process has it; its number, if the file says so.
    Held(Option<u32>),
    /// The lock file cannot be used.
    Io(PathBuf, std::io::Error),
}

/// The lock; given back when dropped, or when the process dies in whatever way.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock of `directory`.
    pub(crate) fn take(directory: &Path) -> Result<Self, LockError> {
        let path = directory.join(NAME);
        let fail = |error: std::io::Error| LockError::Io(path.clone(), error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(fail)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // The number is a help only: a file that cannot be read is no reason to fail.
                let _ = file.read_to_string(&mut text);
                return Err(LockError::Held(text.trim().parse().ok()));
            }
            Err(errno) => return Err(fail(errno.into())),
        }
        file.set_len(0).map_err(fail)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(fail)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_refused_and_told_who_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::take(directory.path()).unwrap();
        match DirectoryLock::take(directory.path()) {
            Err(LockError::Held(pid)) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(lock);
        DirectoryLock::take(directory.path()).unwrap();
    }
}
