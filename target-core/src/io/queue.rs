//! The queue of one logical unit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connection::Sender;
use bytes::Bytes;
use iscsi_proto::session::TaskId;
use parking_lot::Mutex;

use super::{Output, Work, WorkError};
use crate::connection::Message;
use crate::statistics::Kind;
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
    what: What,
    reply: Sender,
    since: Instant,
}

#[derive(Debug)]
enum What {
    One {
        task: Option<TaskId>,
        work: Work,
        memory: usize,
    },
    /// Writes of bytes that adjoin: of each its command, and how many of them.
    Writes {
        offset: u64,
        data: Bytes,
        parts: Vec<(TaskId, usize)>,
    },
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
        Self::push(unit, What::One { task, work, memory }, reply);
        memory
    }

    /// Hands writes off whose bytes adjoin: of each its command, and how many of them. Each has a
    /// completion of its own, with so many bytes of memory.
    pub(crate) fn submit_write(
        unit: &Arc<LogicalUnit>,
        offset: u64,
        data: Bytes,
        parts: Vec<(TaskId, usize)>,
        reply: Sender,
    ) {
        Self::push(unit, What::Writes { offset, data, parts }, reply);
    }

    fn push(unit: &Arc<LogicalUnit>, what: What, reply: Sender) {
        let mut state = unit.queue().state.lock();
        state.waiting.push_back(Item { what, reply, since: Instant::now() });
        if state.threads < THREADS_A_UNIT {
            state.threads += 1;
            drop(state);
            let unit = unit.clone();
            tokio::task::spawn_blocking(move || drain(&unit));
        }
    }
}

fn drain(unit: &Arc<LogicalUnit>) {
    loop {
        let mut state = unit.queue().state.lock();
        let Some(Item { what, reply, since }) = state.waiting.pop_front() else {
            state.threads -= 1;
            return;
        };
        drop(state);
        let done = |kind, task: Option<TaskId>, memory, result| {
            let time = since.elapsed();
            if task.is_some() {
                unit.statistics().handed_off(kind, time);
            }
            let unit = unit.clone();
            // A connection that is gone has nobody to tell.
            let _ = reply.send(Message::Done(Completion { task, unit, memory, result, time }));
        };
        match what {
            What::One { task, work, memory } => {
                let kind = work.kind();
                match work.run(unit) {
                    Ok(Output::More(work)) => {
                        let what = What::One { task, work, memory };
                        let item = Item { what, reply, since };
                        unit.queue().state.lock().waiting.push_back(item);
                    }
                    result => done(kind, task, memory, result),
                }
            }
            What::Writes { offset, data, parts } => {
                write(unit, offset, data, parts, |task, memory, result| {
                    done(Kind::Write, Some(task), memory, result);
                });
            }
        }
    }
}

/// Writes what adjoins as one. If that fails, each by itself: whose it is that cannot be written.
fn write(
    unit: &LogicalUnit,
    offset: u64,
    mut data: Bytes,
    parts: Vec<(TaskId, usize)>,
    done: impl Fn(TaskId, usize, Result<Output, WorkError>),
) {
    let write = |offset, data| Work::Write { offset, data, durable: false }.run(unit);
    if parts.len() > 1 && write(offset, data.clone()).is_ok() {
        return parts.into_iter().for_each(|(task, length)| done(task, length, Ok(Output::Done)));
    }
    let mut at = offset;
    for (task, length) in parts {
        let own = data.split_to(length.min(data.len()));
        done(task, length, write(at, own));
        at = at.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
    }
}
