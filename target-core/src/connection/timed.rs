//! How long commands take, from their arrival until their answer went to the socket. The end of one is
//! not noticed where it happens, of which there are many places, but behind the send that follows.

use std::sync::Arc;
use std::time::Instant;

use iscsi_proto::session::TaskId;
use scsi::Plan;

use super::core::{Core, Job};
use crate::statistics::Kind;
use crate::unit::LogicalUnit;

/// At most so many are timed at once.
const MAX_TIMED: usize = 16;

/// A command that is timed.
#[derive(Debug)]
pub(super) struct Timed {
    task: TaskId,
    kind: Kind,
    since: Instant,
    unit: Arc<LogicalUnit>,
}

impl Core {
    /// Times a command if it is its turn.
    #[inline]
    pub(super) fn time_if(&mut self, timed: bool, job: &Job, kind: Kind) {
        if timed {
            self.time(job, kind);
        }
    }

    /// Times a command, unless many are.
    #[cold]
    fn time(&mut self, job: &Job, kind: Kind) {
        if self.timed.len() < MAX_TIMED {
            let (task, unit) = (job.task, Arc::clone(&job.unit));
            self.timed.push(Timed { task, kind, since: Instant::now(), unit });
        }
    }

    /// Times a command that is no READ or WRITE.
    #[inline]
    pub(super) fn time_other(&mut self, job: &Job, plan: &Plan) {
        if !matches!(plan, Plan::Read { .. } | Plan::Write { .. }) {
            let kind = if matches!(plan, Plan::Flush { .. }) { Kind::Flush } else { Kind::Other };
            self.time(job, kind);
        }
    }

    /// Counts those that have been answered.
    #[cold]
    pub(super) fn look_at_timed(&mut self) {
        let now = Instant::now();
        let (session, own) = (&self.session, &self.admission.published.times);
        self.timed.retain(|timed| {
            let goes_on = session.initiator_task_tag(timed.task).is_some();
            if !goes_on {
                let time = now.saturating_duration_since(timed.since);
                timed.unit.statistics().answered(timed.kind, time);
                own.count(timed.kind, time);
            }
            goes_on
        });
    }
}
