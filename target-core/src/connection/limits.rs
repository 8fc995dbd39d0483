//! Commands that a limit makes wait. A READ waits before it begins, a WRITE before it is answered:
//! its data is taken in and written meanwhile, so that none is held for the time. While they wait
//! nothing of them is under way, and whatever ends tasks ends them too.

use std::sync::Arc;
use std::time::Instant;

use iscsi_proto::session::TaskId;

use super::core::{Core, Job};
use crate::limits::{Limited, Limiter, admit};
use crate::unit::LogicalUnit;

/// A limit that concerns a session: for a unit, or for all of them.
#[derive(Debug)]
pub(super) struct Concerns {
    unit: Option<Arc<LogicalUnit>>,
    limiter: Arc<Limiter>,
}

/// A command that must not be answered yet.
#[derive(Debug)]
pub(super) struct Delayed {
    task: TaskId,
    until: Instant,
    what: What,
}

#[derive(Debug)]
enum What {
    /// To be read.
    Read { job: Job, offset: u64, length: u64, fua: bool },
    /// A WRITE that is not done yet.
    Writes,
    /// A WRITE that is done.
    Written { device_length: u64 },
}

impl Core {
    /// Looks for the limits that concern the session now. What waits goes on at once.
    pub(super) fn look_for_limits(&mut self) {
        self.limits.clear();
        if !self.node.limits.is_empty() {
            let limits = &self.node.limits;
            let own = limits.get(&Limited::Initiator(self.nexus.initiator.clone()));
            self.limits.extend(own.map(|limiter| Concerns { unit: None, limiter }));
            for seen in self.nexus.units() {
                let limiter = limits.get(&Limited::Unit(seen.unit.name().to_owned()));
                let unit = Some(Arc::clone(&seen.unit));
                self.limits.extend(limiter.map(|limiter| Concerns { unit, limiter }));
            }
        }
        self.release(None);
    }

    fn admit(&self, unit: &Arc<LogicalUnit>, bytes: u64) -> Option<Instant> {
        let concerns = |it: &&Concerns| it.unit.as_ref().is_none_or(|own| Arc::ptr_eq(own, unit));
        let limiters = self.limits.iter().filter(concerns).map(|it| &it.limiter);
        admit(limiters, bytes, Instant::now())
    }

    /// Reads, as soon as limits allow it.
    pub(super) fn limited_read(&mut self, job: Job, offset: u64, length: u64, fua: bool) {
        match self.admit(&job.unit, length) {
            None => self.read(&job, offset, length, fua),
            Some(until) => {
                let (task, what) = (job.task, What::Read { job, offset, length, fua });
                self.delayed.push(Delayed { task, until, what });
            }
        }
    }

    /// Says that a WRITE may not be answered before limits allow it.
    pub(super) fn limit_write(&mut self, job: &Job, length: u64) {
        if let Some(until) = self.admit(&job.unit, length) {
            self.delayed.push(Delayed { task: job.task, until, what: What::Writes });
        }
    }

    /// Whether GOOD for a command must wait; then it is sent later.
    pub(super) fn delays(&mut self, task: TaskId, device_length: u64) -> bool {
        let now = Instant::now();
        let writes = |it: &Delayed| it.task == task && matches!(it.what, What::Writes);
        let Some(at) = self.delayed.iter().position(writes) else { return false };
        match self.delayed.get_mut(at) {
            Some(delayed) if delayed.until > now => {
                delayed.what = What::Written { device_length };
                true
            }
            Some(_) | None => {
                self.delayed.swap_remove(at);
                false
            }
        }
    }

    /// When the next one may go on.
    pub(super) fn next_release(&self) -> Option<Instant> {
        let waits = self.delayed.iter().filter(|it| !matches!(it.what, What::Writes));
        waits.map(|it| it.until).min()
    }

    /// Has those go on whose time has come; all of them without a time.
    pub(super) fn release(&mut self, now: Option<Instant>) {
        if self.delayed.is_empty() {
            return;
        }
        let (mut due, wait): (Vec<_>, Vec<_>) = std::mem::take(&mut self.delayed)
            .into_iter()
            .partition(|it| now.is_none_or(|now| it.until <= now));
        self.delayed = wait;
        due.sort_by_key(|it| it.until);
        for Delayed { task, what, .. } in due {
            if self.session.initiator_task_tag(task).is_none() {
                continue; // It was aborted meanwhile.
            }
            match what {
                What::Read { job, offset, length, fua } => self.read(&job, offset, length, fua),
                What::Written { device_length } => self.good(task, device_length),
                // It is answered when it is done.
                What::Writes => {}
            }
        }
    }
}
