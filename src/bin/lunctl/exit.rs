//! What can go wrong, and the exit status that says so.

use mgmt_api::api::{Job, Problem};

/// A failure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot reach the daemon at {server}: {reason} (is it running? see --server)")]
    Unreachable { server: String, reason: String },
    #[error("{}", problem.message)]
    Refused { status: u16, problem: Box<Problem>, hint: Option<String> },
    #[error("job {} {}: {}", job.id, if self.is_cancel() { "was cancelled" } else { "failed" }, first(job))]
    Job { job: Box<Job> },
    #[error("job {job} has not ended after {seconds} s")]
    Timeout { job: String, seconds: u64 },
    /// What `diff` has printed.
    #[error("there are differences")]
    Differs,
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Other(String),
}

fn first(job: &Job) -> &str {
    job.errors.first().map_or("no error was recorded", |error| error.message.as_str())
}

/// `JobState` of jobs that somebody ended.
const CANCELLED: [u16; 2] = [8, 9];

impl Failure {
    fn is_cancel(&self) -> bool {
        matches!(self, Self::Job { job } if CANCELLED.contains(&job.job_state))
    }

    /// The exit status.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Refused { status: 400, .. } => 2,
            Self::Refused { status: 401 | 403 | 429, .. } => 8,
            Self::Refused { status: 404, .. } => 3,
            Self::Refused { status: 409 | 412, .. } => 4,
            Self::Job { .. } if self.is_cancel() => 6,
            Self::Job { .. } => 5,
            Self::Unreachable { .. } => 7,
            Self::Differs => 9,
            Self::Refused { .. } | Self::Timeout { .. } | Self::Other(_) => 1,
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;
