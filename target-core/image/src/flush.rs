//! Group commit: flushes that wait for each other share one `fdatasync`, and a failed one stays
//! failed.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The errno with which the medium refused to make data durable.
pub(crate) type SyncErrno = i32;

/// Runs syncs one at a time. A caller is served by any sync that *started* after its call, so
/// that a thousand waiting flushes cost two.
///
/// One at a time matters for correctness too: Linux reports a write-back error once per open
/// file, and with two syncs at once the second could return success for pages the first was
/// told are lost.
#[derive(Debug, Default)]
pub(crate) struct GroupFlush {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    started: u64,
    completed: u64,
    running: bool,
    failed: Option<SyncErrno>,
}

impl GroupFlush {
    /// Returns once a sync that started after this call has ended. The first failure is kept
    /// and answered for ever.
    pub(crate) fn run(
        &self,
        sync: impl FnOnce() -> Result<(), SyncErrno>,
    ) -> Result<(), SyncErrno> {
        let mut state = self.lock();
        let wanted = state.started + 1;
        while state.completed < wanted && state.failed.is_none() {
            if state.running {
                state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.running = true;
            state.started += 1;
            drop(state);
            let result = sync();
            state = self.lock();
            state.running = false;
            state.completed = state.started;
            if let Err(errno) = result {
                state.failed.get_or_insert(errno);
            }
            self.done.notify_all();
            break;
        }
        state.failed.map_or(Ok(()), Err)
    }

    /// Records a failure that was found outside of [`Self::run`].
    pub(crate) fn fail(&self, errno: SyncErrno) {
        self.lock().failed.get_or_insert(errno);
        self.done.notify_all();
    }

    /// The first failure, if there was one.
    pub(crate) fn failed(&self) -> Option<SyncErrno> {
        self.lock().failed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
