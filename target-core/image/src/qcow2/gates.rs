//! What readers and writers pass on their way to a host cluster, so that a cluster which nobody
//! refers to any more is not used anew while somebody still reads or writes it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::image::Wait;

const GATES: usize = 16;

/// The active L1 table, as numbers.
#[derive(Debug)]
pub(super) struct L1 {
    entries: Box<[AtomicU64]>,
}

impl L1 {
    pub(super) fn new(entries: impl Iterator<Item = u64>) -> Self {
        Self { entries: entries.map(AtomicU64::new).collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Entry `index`; 0 beyond the end.
    pub(super) fn get(&self, index: u64) -> u64 {
        let entry = usize::try_from(index).ok().and_then(|index| self.entries.get(index));
        entry.map_or(0, |entry| entry.load(Ordering::Acquire))
    }

    pub(super) fn set(&self, index: u64, value: u64) {
        let entry = usize::try_from(index).ok().and_then(|index| self.entries.get(index));
        if let Some(entry) = entry {
            entry.store(value, Ordering::Release);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.entries.iter().map(|entry| entry.load(Ordering::Acquire))
    }
}

/// The gates: each thread has its own, so that passing one touches nothing that others do.
#[derive(Debug)]
pub(super) struct Gates {
    gates: [RwLock<Arc<L1>>; GATES],
}

fn mine() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % GATES;
    }
    MINE.with(|mine| *mine)
}

impl Gates {
    pub(super) fn new(l1: &Arc<L1>) -> Self {
        Self { gates: std::array::from_fn(|_| RwLock::new(l1.clone())) }
    }

    /// Passes: host clusters that are found through the L1 table stay what they are until the guard
    /// is dropped. `None` if that would have to wait.
    pub(super) fn enter(&self, wait: Wait) -> Option<RwLockReadGuard<'_, Arc<L1>>> {
        let gate = self.gates.get(mine())?;
        match wait {
            Wait::Block => Some(gate.read().unwrap_or_else(PoisonError::into_inner)),
            Wait::Nowait => gate.try_read().ok(),
        }
    }

    /// Returns when everybody has come out again who was inside.
    pub(super) fn quiesce(&self) {
        for gate in &self.gates {
            drop(gate.write().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Puts a longer table into force.
    pub(super) fn replace(&self, l1: &Arc<L1>) {
        for gate in &self.gates {
            *gate.write().unwrap_or_else(PoisonError::into_inner) = l1.clone();
        }
    }
}
