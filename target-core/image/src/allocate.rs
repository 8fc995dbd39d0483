//! Taking space for a file.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use rustix::fs::FallocateFlags;
use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};

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

    /// Takes space for a range, and makes the file at least so long.
    pub(crate) fn allocate(&mut self, file: &OwnedFd, start: u64, count: u64) -> Result<(), Errno> {
        static ZEROES: [u8; 64 << 10] = [0; 64 << 10];
        if self.fallocate {
            let mode = FallocateFlags::empty();
            match retry_on_intr(|| rustix::fs::fallocate(file, mode, start, count)) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.fallocate = false,
                result => return result,
            }
        }
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
}
