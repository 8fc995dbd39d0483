//! The order of the commands in a unit's task set (SAM-5 §8), which all its I_T nexuses share.
//!
//! A command is enabled as it comes, HEAD OF QUEUE and SIMPLE alike, unless an ORDERED one stands in
//! front of it. That establishes a boundary: it is enabled itself when everything before it has
//! ended, and what comes behind it in whatever session stays dormant until it has ended. A session
//! keeps its dormant commands ([`crate::connection`]), and those that have some take turns. Where
//! nobody sends ORDERED commands, all of this is one flag that nobody writes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::connection::Sender;
use parking_lot::Mutex;

use crate::connection::Message;
use crate::unit::LogicalUnit;

/// The task set of a unit.
#[derive(Debug, Default)]
pub(crate) struct TaskSet {
    /// There is a boundary, or somebody waits for one.
    blocked: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Somebody has the boundary.
    taken: bool,
    /// Sessions with dormant commands, in the order of their turns.
    waiting: VecDeque<Sender>,
}

/// Behind this nothing is enabled; when it is dropped, it is the turn of who waits.
#[derive(Debug)]
pub(crate) struct Boundary(Arc<LogicalUnit>);

impl TaskSet {
    /// Whether a command that comes now stays dormant.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    /// Establishes a boundary for an ORDERED command; `None` if there is one, or others wait.
    pub(crate) fn block(unit: &Arc<LogicalUnit>) -> Option<Boundary> {
        let set = unit.task_set();
        let mut state = set.state.lock();
        let free = !state.taken && state.waiting.is_empty();
        if free {
            state.taken = true;
            set.blocked.store(true, Ordering::Release);
        }
        free.then(|| Boundary(unit.clone()))
    }

    /// Has a session with dormant commands be given the boundary in its turn.
    pub(crate) fn wait(unit: &Arc<LogicalUnit>, session: &Sender) {
        let set = unit.task_set();
        let mut state = set.state.lock();
        if !state.waiting.iter().any(|other| other.same_channel(session)) {
            state.waiting.push_back(session.clone());
        }
        let next = if state.taken { None } else { set.next(&mut state) };
        set.blocked.store(true, Ordering::Release);
        drop(state);
        give(unit, next);
    }

    /// Whose turn it is.
    fn next(&self, state: &mut State) -> Option<Sender> {
        let next = state.waiting.pop_front();
        state.taken = next.is_some();
        self.blocked.store(state.taken, Ordering::Release);
        next
    }
}

/// To a session that is gone, it is dropped, and goes on to the next one.
fn give(unit: &Arc<LogicalUnit>, session: Option<Sender>) {
    if let Some(session) = session {
        let _ = session.send(Message::Boundary(Boundary(unit.clone())));
    }
}

impl Boundary {
    pub(crate) const fn unit(&self) -> &Arc<LogicalUnit> {
        &self.0
    }
}

impl Drop for Boundary {
    fn drop(&mut self) {
        let set = self.0.task_set();
        let next = set.next(&mut set.state.lock());
        give(&self.0, next);
    }
}

#[cfg(test)]
mod tests {
    use disk_image::MemImage;
    use scsi::Device;

    use super::*;
    use crate::connection::{Mailbox, mailbox};
    use crate::unit::UnitConfig;

    fn unit() -> Arc<LogicalUnit> {
        let device = Device::new("disk", [0x60; 16], 512, 1 << 11);
        let image = Arc::new(MemImage::new(1 << 20).unwrap());
        LogicalUnit::new(UnitConfig::new("disk", device, Ok(image)))
    }

    fn given(session: &mut Mailbox) -> Option<Boundary> {
        let message = session.try_recv()?;
        let Message::Boundary(boundary) = message else { panic!("{message:?}") };
        Some(boundary)
    }

    #[test]
    fn sessions_take_turns_and_one_that_is_gone_is_passed_over() {
        let unit = unit();
        let (one, mut first) = mailbox();
        let (two, second) = mailbox();
        let (three, mut third) = mailbox();
        assert!(!unit.task_set().is_blocked());
        let boundary = TaskSet::block(&unit).unwrap();
        assert!(unit.task_set().is_blocked() && TaskSet::block(&unit).is_none());
        for session in [&one, &two, &one, &three] {
            TaskSet::wait(&unit, session);
        }
        drop(second);
        drop(boundary);
        let boundary = given(&mut first).unwrap();
        assert!(Arc::ptr_eq(boundary.unit(), &unit));
        assert!(given(&mut third).is_none() && TaskSet::block(&unit).is_none());
        // Behind the others, though it has it now.
        TaskSet::wait(&unit, &one);
        drop(boundary);
        let boundary = given(&mut third).unwrap();
        assert!(given(&mut first).is_none());
        drop(boundary);
        drop(given(&mut first).unwrap());
        assert!(!unit.task_set().is_blocked());
        // Nobody has it: it is given at once.
        TaskSet::wait(&unit, &three);
        drop(third);
        TaskSet::wait(&unit, &one);
        drop(given(&mut first).unwrap());
        assert!(!unit.task_set().is_blocked());
    }
}
