//! One bound for the tables of all images of a chain.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::DEFAULT_CACHE_BYTES;

/// How much memory the tables of a disk's images may take together. Its clones are the same budget:
/// each disk that is opened wants one of its own.
#[derive(Debug, Clone)]
pub struct CacheBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes: usize,
    members: AtomicUsize,
    newest: AtomicU64,
}

impl CacheBudget {
    /// A budget of so many bytes, which nobody has a share of.
    pub fn of(bytes: usize) -> Self {
        let (members, newest) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self(Arc::new(Shared { bytes, members, newest }))
    }

    /// A share of it, until that is dropped. A disk's own image is opened behind its parents, and
    /// laid over them later than they were, so the newest share is that of the image that is
    /// written.
    pub(crate) fn join(&self) -> CacheShare {
        self.0.members.fetch_add(1, Ordering::Relaxed);
        let number = self.0.newest.fetch_add(1, Ordering::Relaxed) + 1;
        CacheShare { budget: self.clone(), number }
    }
}

impl Default for CacheBudget {
    fn default() -> Self {
        Self::of(DEFAULT_CACHE_BYTES)
    }
}

/// What one image may take of a budget. It gets smaller as others join.
#[derive(Debug)]
pub(crate) struct CacheShare {
    budget: CacheBudget,
    number: u64,
}

impl CacheShare {
    /// The budget that it is of.
    pub(crate) fn budget(&self) -> &CacheBudget {
        &self.budget
    }

    /// Bytes: all of it for an image that has no others beside it, else a half for the newest and
    /// equal parts of the other half for the rest.
    pub(crate) fn bytes(&self) -> usize {
        let Shared { bytes, members, newest } = &*self.budget.0;
        let others = members.load(Ordering::Relaxed).saturating_sub(1);
        if others == 0 {
            *bytes
        } else if newest.load(Ordering::Relaxed) == self.number {
            bytes / 2
        } else {
            bytes / 2 / others
        }
    }
}

impl Drop for CacheShare {
    fn drop(&mut self) {
        self.budget.0.members.fetch_sub(1, Ordering::Relaxed);
    }
}
