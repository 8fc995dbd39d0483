//! Jobs.

use clap::Subcommand;
use jiff::Timestamp;

use super::{Filter, Waiting};

/// A size a second; 0 is one.
fn rate(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { mgmt_api::size::parse(text).map_err(|it| it.to_string()) }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    /// List all jobs and faults
    List(Filter),
    /// Show a job
    Show {
        /// Its identifier
        job: String,
    },
    /// Wait for a job to end; its outcome is the exit status
    Wait {
        /// Its identifier
        job: String,
        /// Give up after so many seconds
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
    },
    /// End a job and undo what it did
    Cancel {
        /// Its identifier
        job: String,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Stop a job where that does no harm, until it is resumed
    Suspend {
        /// Its identifier
        job: String,
    },
    /// Go on with a job that is suspended, or start one that waits for its time
    Resume {
        /// Its identifier
        job: String,
    },
    /// End a job at once; what it leaves is removed in the background
    Kill {
        /// Its identifier
        job: String,
    },
    /// Change how a job runs, while it does
    Set {
        /// Its identifier
        job: String,
        /// Lower numbers go first
        #[arg(long)]
        priority: Option<u32>,
        /// Do not start it before, as in 2026-01-31T22:00:00Z
        #[arg(long, value_name = "TIME")]
        start_at: Option<Timestamp>,
        /// It fails if it takes longer from its start on; 0 for no limit
        #[arg(long, value_name = "SECONDS")]
        time_limit: Option<u64>,
        /// What it copies at most a second, as in 100MiB; 0 for no limit
        #[arg(long, value_name = "SIZE", value_parser = rate)]
        bandwidth: Option<u64>,
    },
    /// Show or change what all jobs together may do, until the daemon stops
    Limits {
        /// What they copy at most a second, as in 100MiB; 0 for no limit
        #[arg(long, value_name = "SIZE", value_parser = rate)]
        bandwidth: Option<u64>,
    },
    /// Show why a job failed (GetErrors)
    Error {
        /// Its identifier
        job: String,
    },
    /// Remove a job that has ended, or clear a fault
    Delete {
        /// Its identifier
        job: String,
    },
}
