//! Jobs for somebody outside: one that has ended is shared, not copied.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;

use super::state::{JobEntry, JobRecord};
use crate::job::Job;

/// A job as it was at one moment. Of thousands nearly all have ended, and cost no copy.
#[derive(Debug, Clone)]
pub struct JobView(Shown);

#[derive(Debug, Clone)]
enum Shown {
    /// Nothing changes it any more.
    Ended(Arc<JobRecord>, Arc<OnceLock<Box<str>>>),
    Moving(Box<Job>),
}

impl JobView {
    pub(crate) fn new(entry: JobEntry, now: Timestamp) -> Self {
        if entry.record.job.state.is_terminal() {
            return Self(Shown::Ended(entry.record, entry.text));
        }
        Self(Shown::Moving(Box::new(entry.view(now))))
    }

    /// The form in which clients read it: of a job that has ended it is written once, and kept as
    /// long as the job as it is. None of another one, which differs each time.
    #[must_use]
    pub fn text(&self, write: impl FnOnce(&Job) -> String) -> Option<&str> {
        match &self.0 {
            Shown::Ended(record, text) => {
                Some(text.get_or_init(|| write(&record.job).into_boxed_str()))
            }
            Shown::Moving(_) => None,
        }
    }
}

impl Deref for JobView {
    type Target = Job;

    fn deref(&self) -> &Job {
        match &self.0 {
            Shown::Ended(record, _) => &record.job,
            Shown::Moving(job) => job,
        }
    }
}
