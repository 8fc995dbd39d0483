//! The memory that all sessions together may hold for what initiators do not take and devices do
//! not do.
//!
//! A session may hold a little whatever the others do, so none is stopped for good. What goes
//! beyond that counts for all, and while it is too much, those that hold more take nothing in. Only
//! sessions that cannot send what they have, or wait for a device, ever write here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that a session may hold in any case.
const FREE: usize = 64 << 10;

/// All sessions' part.
#[derive(Debug)]
pub(crate) struct Backlog {
    held: AtomicUsize,
    limit: usize,
}

impl Backlog {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { held: AtomicUsize::new(0), limit })
    }

    /// One session's part, of nothing yet.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { backlog: self.clone(), held: 0 }
    }
}

/// One session's part; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    backlog: Arc<Backlog>,
    held: usize,
}

impl Share {
    /// The session holds so many bytes when its turn ends.
    pub(crate) fn set(&mut self, bytes: usize) {
        let bytes = if bytes > FREE { bytes } else { 0 };
        if bytes > self.held {
            self.backlog.held.fetch_add(bytes - self.held, Ordering::Relaxed);
        } else if bytes < self.held {
            self.backlog.held.fetch_sub(self.held - bytes, Ordering::Relaxed);
        }
        self.held = bytes;
    }

    /// Whether a session that holds so many bytes may take more in.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        bytes <= FREE || self.backlog.held.load(Ordering::Relaxed) < self.backlog.limit
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_for_all_stops_those_that_hold_more_than_a_little() {
        let backlog = Backlog::new(1 << 20);
        let (mut greedy, mut modest) = (backlog.share(), backlog.share());
        modest.set(FREE);
        assert_eq!(backlog.held.load(Ordering::Relaxed), 0);
        greedy.set(1 << 20);
        assert!(!greedy.has_room(1 << 20) && !modest.has_room(FREE + 1));
        assert!(modest.has_room(FREE));
        greedy.set(1 << 19);
        assert!(greedy.has_room(1 << 19));
        greedy.set(2 << 20);
        drop(greedy);
        assert_eq!(backlog.held.load(Ordering::Relaxed), 0);
        assert!(modest.has_room(FREE + 1));
    }
}
