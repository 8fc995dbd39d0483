//! Taking space for a file.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use rustix::fs::FallocateFlags;
use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};

use crate::create::Preallocation;

/// Allocates with `fallocate`, and by writing zeroes where the file system has none.
#[derive(Debug)]
pub(crate) struct Allocator {
    fallocate: bool,
}

impl Default for Allocator {
    fn default() -> Self {
        Self { fallocate: true }
    }
}

impl Allocator {
    /// As on a file system without `fallocate`.
    #[cfg(test)]
    pub(crate) fn by_writing() -> Self {
        Self { fallocate: false }
    }

    /// A step in which a file of `done` bytes becomes one of `size`: at once if it is sparse, else by
    /// at most `max_bytes`, but at least one. Its length in bytes afterwards.
    pub(crate) fn lengthen(
        &mut self,
        file: &OwnedFd,
        preallocation: Preallocation,
        done: u64,
        size: u64,
        max_bytes: u64,
    ) -> Result<u64, Errno> {
        let left = size.saturating_sub(done);
        if left == 0 {
            return Ok(done);
        }
        match preallocation {
            Preallocation::Sparse => {
                rustix::fs::ftruncate(file, size)?;
                Ok(size)
            }
            Preallocation::Full => {
                let count = left.min(max_bytes.max(1));
                self.allocate(file, done, count)?;
                Ok(done + count)
            }
        }
    }

    /// Takes space for a range, and makes the file at least so long.
    fn allocate(&mut self, file: &OwnedFd, start: u64, count: u64) -> Result<(), Errno> {
        if self.fallocate {
            let mode = FallocateFlags::empty();
            match retry_on_intr(|| rustix::fs::fallocate(file, mode, start, count)) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.fallocate = false,
                result => return result,
            }
        }
        write_zeroes(file, start, count)
    }
}

pub(crate) fn write_zeroes(file: &OwnedFd, start: u64, count: u64) -> Result<(), Errno> {
    static ZEROES: [u8; 64 << 10] = [0; 64 << 10];
    let end = start + count;
    let mut at = start;
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(ZEROES.len()).min(ZEROES.len());
        let piece = [IoSlice::new(ZEROES.get(..length).unwrap_or(&ZEROES))];
        match rustix::io::pwritev2(file, &piece, at, ReadWriteFlags::empty()) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => at += u64::try_from(written).unwrap_or(0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
