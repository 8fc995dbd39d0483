//! Keeps one thread of the runtime out of writes that may hang, so that sockets stay served
//! however many hang at once.
//!
//! The first few threads that write form a group, and one of the group always stays out. The other
//! threads write whenever they like, and share no memory for it.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::runtime::Handle;

/// Threads of the group: enough that all of them are hardly ever in healthy writes at once.
const GROUP: usize = 8;

thread_local! {
    /// The spare that this thread has asked, by its number, and whether it is of the group.
    static ROLE: Cell<(u64, bool)> = const { Cell::new((0, false)) };
}

/// Of one runtime, whose threads write for nobody else.
#[derive(Debug)]
#[repr(align(64))] // `writing` changes often
pub(crate) struct Spare {
    writing: AtomicUsize,
    number: u64,
    joined: AtomicUsize,
    group: OnceLock<usize>,
}

/// While it is held, its thread may hang.
#[derive(Debug)]
pub(crate) struct MayHang<'a>(Option<&'a AtomicUsize>);

impl Drop for MayHang<'_> {
    fn drop(&mut self) {
        if let Some(writing) = self.0 {
            writing.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Spare {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            writing: AtomicUsize::new(0),
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            joined: AtomicUsize::new(0),
            group: OnceLock::new(),
        }
    }

    /// Whether this thread of the runtime may hang now; `None` if it is the last that does not.
    pub(crate) fn may_hang(&self) -> Option<MayHang<'_>> {
        if !self.is_of_group() {
            return Some(MayHang(None));
        }
        // Relaxed: it counts, and guards nothing.
        let before = self.writing.fetch_add(1, Ordering::Relaxed);
        let entered = MayHang(Some(&self.writing));
        (before + 1 < self.group()).then_some(entered)
    }

    fn group(&self) -> usize {
        let workers = || Handle::try_current().map_or(1, |it| it.metrics().num_workers());
        *self.group.get_or_init(|| workers().min(GROUP))
    }

    fn is_of_group(&self) -> bool {
        let (number, of_group) = ROLE.get();
        if number == self.number {
            return of_group;
        }
        let of_group = self.joined.fetch_add(1, Ordering::Relaxed) < self.group();
        ROLE.set((self.number, of_group));
        of_group
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};

    use tokio::runtime::Builder;

    use super::*;

    /// How many of so many threads get in at once.
    fn enter_at_once(workers: usize) -> usize {
        let runtime = Builder::new_multi_thread().worker_threads(workers).build().unwrap();
        let (spare, all) = (Arc::new(Spare::new()), Arc::new(Barrier::new(workers)));
        let enter = |_| {
            let (spare, all) = (spare.clone(), all.clone());
            runtime.spawn(async move {
                // No thread can take a second one of these.
                all.wait();
                let entered = spare.may_hang();
                all.wait();
                entered.is_some()
            })
        };
        let tasks: Vec<_> = (0..workers).map(enter).collect();
        let entered =
            tasks.into_iter().filter_map(|task| runtime.block_on(task).unwrap().then_some(()));
        let entered = entered.count();
        assert_eq!(spare.writing.load(Ordering::Relaxed), 0, "all have left");
        entered
    }

    #[test]
    fn one_thread_at_least_stays_out_and_hardly_more() {
        for workers in [1, 2, 3, 8, 9, 20] {
            assert_eq!(enter_at_once(workers), workers - 1, "{workers}");
        }
    }

    #[test]
    fn a_thread_that_was_kept_out_gets_in_later() {
        let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let spare = Spare::new();
        let _runtime = runtime.enter();
        let first = spare.may_hang();
        assert!(first.is_some());
        assert!(spare.may_hang().is_none());
        drop(first);
        assert!(spare.may_hang().is_some());
    }
}
