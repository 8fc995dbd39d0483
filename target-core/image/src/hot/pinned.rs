//! What is sent from the page cache without being read.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Chunks, chunks_of};

/// A range of a disk that stays in memory as long as this is there: sending it waits for no device.
///
/// What is sent are the bytes as they are when the system takes them from the page cache, for a network
/// card perhaps after that: somebody who writes there meanwhile may be seen, half of a block, too.
#[derive(Debug)]
pub struct Pinned {
    chunks: Arc<Chunks>,
    offset: u64,
    length: u64,
}

impl Pinned {
    /// All of a range whose length is not 0, if it is pinned.
    pub(super) fn of(chunks: &Arc<Chunks>, offset: u64, length: u64) -> Option<Self> {
        let pinned = Self::counted(chunks, offset, length);
        // Behind the count: who unpins looks for it when the chunk cannot be used any more.
        chunks.uses(offset, length).then_some(pinned)
    }

    fn counted(chunks: &Arc<Chunks>, offset: u64, length: u64) -> Self {
        let pinned = Self { chunks: chunks.clone(), offset, length };
        pinned.each(|senders| senders.fetch_add(1, Ordering::SeqCst));
        pinned
    }

    fn each(&self, count: impl Fn(&AtomicU32) -> u32) {
        for number in chunks_of(self.offset, self.length) {
            self.chunks.senders(number).map(&count);
        }
    }

    /// Sends a range of it, counted from its begin, as far as the socket takes it; how many bytes.
    ///
    /// # Errors
    /// `WouldBlock` if that is nothing; `UnexpectedEof` if the file has become shorter; otherwise as the
    /// system says.
    pub fn send_to(&self, socket: impl AsFd, range: &Range<usize>) -> io::Result<usize> {
        let start = u64::try_from(range.start).unwrap_or(u64::MAX);
        let mut offset = self.offset.saturating_add(start);
        let file = &self.chunks.file;
        match rustix::fs::sendfile(socket, file, Some(&mut offset), range.len())? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        }
    }
}

impl Clone for Pinned {
    fn clone(&self) -> Self {
        // What it was made for keeps the chunks pinned.
        Self::counted(&self.chunks, self.offset, self.length)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.each(|senders| senders.fetch_sub(1, Ordering::SeqCst));
    }
}
