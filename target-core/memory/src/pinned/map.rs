//! The mapping, and which of its ranges are locked.
#![allow(unsafe_code, reason = "a mapping's address")]

use std::ffi::c_void;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};

use rustix::mm::{self, Advice, MapFlags, ProtFlags};

use super::copy::{self, Lost};

/// A mapping of a file. Nothing is read, and no memory is used, before a range is pinned.
#[derive(Debug)]
pub struct PinnedFile {
    base: NonNull<c_void>,
    length: usize,
}

// SAFETY: the address belongs to this value alone, is never written through, and every method may be
// called from any thread at any time: the kernel orders what happens to the mapping.
unsafe impl Send for PinnedFile {}
// SAFETY: as above.
unsafe impl Sync for PinnedFile {}

impl Drop for PinnedFile {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, whole, and nobody can read from it any more: who
        // reads has a reference to this value.
        let _ = unsafe { mm::munmap(self.base.as_ptr(), self.length) };
    }
}

impl PinnedFile {
    /// Maps the first `length` bytes of a file, of which it may have less now.
    ///
    /// # Errors
    /// `Unsupported` on processors for which there is no copy, otherwise as the system says.
    pub fn map(file: impl AsFd, length: usize) -> io::Result<Self> {
        copy::prepare()?;
        // Private: the kernel need not look at it when it writes pages back; nothing is ever copied,
        // as nothing is written.
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let base = unsafe { mm::mmap(ptr::null_mut(), length, ProtFlags::READ, flags, file, 0)? };
        let base = NonNull::new(base).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { base, length })
    }

    /// Bytes that are mapped.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Reads a range into memory and keeps it there; may sleep for as long as the device takes. The
    /// range begins and ends at multiples of a page.
    ///
    /// # Errors
    /// As the system says: `ENOMEM` and `EAGAIN` where there is no more memory to be locked, `EFAULT`
    /// where the file has no such bytes or its device fails. Nothing is pinned then.
    pub fn pin(&self, range: &Range<usize>) -> io::Result<()> {
        let (address, length) = self.part(range)?;
        // First, since the lock has one error for bytes that are not there and for too many locks.
        // SAFETY: within the mapping; what is there is only brought into memory.
        let there = unsafe { mm::madvise(address, length, Advice::LinuxPopulateRead) };
        // SAFETY: as above; what was evicted meanwhile is brought in once more.
        let pinned = there.and_then(|()| unsafe { mm::mlock(address, length) });
        if pinned.is_err() {
            self.unpin(range);
        }
        Ok(pinned?)
    }

    /// Leaves a range to the system again: it may be evicted, and is not part of the program's
    /// memory any more.
    pub fn unpin(&self, range: &Range<usize>) {
        let Ok((address, length)) = self.part(range) else { return };
        // SAFETY: within the mapping, which is read only: who reads there meanwhile has the page back.
        let _ = unsafe { mm::munlock(address, length) };
        // SAFETY: as above; the pages are the file's, and nothing is lost.
        let _ = unsafe { mm::madvise(address, length, Advice::LinuxDontNeed) };
    }

    /// Copies what is there from `at` on. A range that is not pinned may be read, too; that may
    /// sleep.
    ///
    /// # Errors
    /// Where the file has no such bytes, or its device fails, or beyond the mapping; `into` has
    /// anything in it then.
    pub fn read(&self, at: usize, into: &mut [u8]) -> Result<(), Lost> {
        let end = at.checked_add(into.len()).ok_or(Lost)?;
        let (address, _) = self.part(&(at..end)).map_err(|_| Lost)?;
        // SAFETY: within the mapping, which lives as long as `self`, and no reference into it is ever
        // made; `map` has prepared the copy.
        unsafe { copy::copy(into, address.cast::<u8>().cast_const()) }
    }

    /// The address and the length of a range within the mapping.
    fn part(&self, range: &Range<usize>) -> io::Result<(*mut c_void, usize)> {
        let length = range.end.checked_sub(range.start).filter(|_| range.end <= self.length);
        let length = length.ok_or(io::ErrorKind::InvalidInput)?;
        // Not dereferenced here.
        Ok((self.base.as_ptr().wrapping_byte_add(range.start), length))
    }
}

#[cfg(test)]
mod tests;
