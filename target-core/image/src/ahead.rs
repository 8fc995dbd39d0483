//! Reads ahead of whoever reads one behind the other from a medium that answers late.
//!
//! The system reads ahead too, by default 128 KiB of a file. An initiator that waits for each answer
//! has no more of a medium that takes 5 ms than 25 to 50 MB/s with that. So where reads have
//! waited, the system is asked for more. Only reads that wait come here: what is in the page cache
//! costs nothing, and a medium that is quick is left to the system.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Streams of a file that are known at once.
const STREAMS: usize = 8;
/// Reads of a stream may come so far out of their order, in bytes.
const SLACK: u64 = 1 << 20;
/// After so many reads that each went on with it, it is a stream.
const READS: u32 = 4;
/// A medium with such a read is slow.
const SLOW: Duration = Duration::from_millis(1);
/// How far is read ahead at first, and at most, in bytes.
const FIRST: u64 = 512 << 10;
const MOST: u64 = 2 << 20;

/// What is known of those who read a file.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead(Mutex<Streams>);

impl ReadAhead {
    /// Makes a read of `length` bytes that may wait; before it, `fetch` is told what to have the
    /// system read.
    pub(crate) fn read<T>(
        &self,
        offset: u64,
        length: u64,
        fetch: impl FnOnce(Range<u64>),
        read: impl FnOnce() -> T,
    ) -> T {
        let start = Instant::now();
        let range = self.with(|streams| streams.begin(offset, length));
        if !range.is_empty() {
            fetch(range);
        }
        let result = read();
        if start.elapsed() >= SLOW {
            self.with(|streams| streams.has_waited(offset.saturating_add(length)));
        }
        result
    }

    fn with<T>(&self, with: impl FnOnce(&mut Streams) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug, Default)]
struct Streams {
    all: Vec<Stream>,
    /// Reads so far.
    count: u64,
}

#[derive(Debug)]
struct Stream {
    /// Behind the last byte that was read.
    end: u64,
    /// Behind the last byte that was asked for.
    fetched: u64,
    /// Reads that went on with it.
    reads: u32,
    /// How far was read ahead.
    window: u64,
    /// One of its reads has waited.
    slow: bool,
    /// Which of all reads was its last one.
    last: u64,
}

impl Streams {
    /// A read; what the system shall be asked for, which may be nothing.
    fn begin(&mut self, offset: u64, length: u64) -> Range<u64> {
        self.count += 1;
        let end = offset.saturating_add(length);
        if let Some(stream) = self.all.iter_mut().find(|stream| stream.is_near(offset)) {
            stream.last = self.count;
            return stream.go_on(offset, end);
        }
        // Doubled before it is used.
        let (reads, window, slow, last) = (1, FIRST / 2, false, self.count);
        let fresh = Stream { end, fetched: end, reads, window, slow, last };
        if self.all.len() < STREAMS {
            self.all.push(fresh);
        } else if let Some(oldest) = self.all.iter_mut().min_by_key(|stream| stream.last) {
            *oldest = fresh;
        }
        0..0
    }

    /// A read up to `end` has waited for long.
    fn has_waited(&mut self, end: u64) {
        if let Some(stream) = self.all.iter_mut().find(|stream| stream.is_near(end)) {
            stream.slow = true;
        }
    }
}

impl Stream {
    const fn is_near(&self, offset: u64) -> bool {
        offset >= self.end.saturating_sub(SLACK) && offset <= self.end.saturating_add(SLACK)
    }

    fn go_on(&mut self, offset: u64, end: u64) -> Range<u64> {
        if end <= self.end {
            // Out of order, or the same again.
            return 0..0;
        }
        self.end = end;
        self.reads = self.reads.saturating_add(1);
        if self.reads < READS || !self.slow {
            self.fetched = self.fetched.max(end);
            return 0..0;
        }
        // Its own bytes first, if nobody has asked for them.
        let from = self.fetched.max(offset);
        if from.saturating_sub(end) > self.window / 2 {
            return 0..0;
        }
        self.window = (self.window * 2).min(MOST);
        self.fetched = end.saturating_add(self.window);
        from..self.fetched
    }
}

#[cfg(test)]
mod tests;
