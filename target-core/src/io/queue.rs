//! The queue of one logical unit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connection::Sender;
use iscsi_proto::session::TaskId;
use parking_lot::Mutex;

use super::{Output, Work, WorkError};
use crate::connection::Message;
use crate::unit::LogicalUnit;

/// Threads that work for one unit at once. More deepen the device's queue; without a bound a
/// device that hangs would take them all.
const THREADS_A_UNIT: usize = 16;

/// What has been handed off and waits for a thread.
#[derive(Debug, Default)]
pub(crate) struct UnitQueue {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Item>,
    threads: usize,
}

#[derive(Debug)]
struct Item {
    task: Option<TaskId>,
    work: Work,
    memory: usize,
    reply: Sender,
    since: Instant,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Completion {
    /// For which command; none for a check of the unit's health.
    pub(crate) task: Option<TaskId>,
    pub(crate) unit: Arc<LogicalUnit>,
    /// What [`UnitQueue::submit`] said.
    pub(crate) memory: usize,
    pub(crate) result: Result<Output, WorkError>,
    /// From when it was handed off until it was done.
    pub(crate) time: Duration,
}

impl UnitQueue {
    /// Pieces of work that wait for a thread, and threads at work.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.waiting.len(), state.threads)
    }

    /// Hands work off; the bytes of memory that it takes. Its completion goes to `reply`, whatever
    /// happens.
    pub(crate) fn submit(
        unit: &Arc<LogicalUnit>,
        task: Option<TaskId>,
        work: Work,
        reply: Sender,
    ) -> usize {
        let memory = work.memory();
        let mut state = unit.queue().state.lock();
        let since = Instant::now();
        state.waiting.push_back(Item { task, work, memory, reply, since });
        if state.threads < THREADS_A_UNIT {
            state.threads += 1;
            drop(state);
            let unit = unit.clone();
            tokio::task::spawn_blocking(move || drain(&unit));
        }
        memory
    }
}

fn drain(unit: &Arc<LogicalUnit>) {
    loop {
        let mut state = unit.queue().state.lock();
        let Some(Item { task, work, memory, reply, since }) = state.waiting.pop_front() else {
            state.threads -= 1;
            return;
        };
        drop(state);
        let kind = work.kind();
        let result = match work.run(unit) {
            Ok(Output::More(work)) => {
                let item = Item { task, work, memory, reply, since };
                unit.queue().state.lock().waiting.push_back(item);
                continue;
            }
            result => result,
        };
        let time = since.elapsed();
        if task.is_some() {
            unit.statistics().handed_off(kind, time);
        }
        let unit = unit.clone();
        // A connection that is gone has nobody to tell.
        let _ = reply.send(Message::Done(Completion { task, unit, memory, result, time }));
    }
}
