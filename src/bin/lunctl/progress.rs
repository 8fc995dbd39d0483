//! Waiting for jobs.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mgmt_api::api::Job;

use crate::client::Client;
use crate::exit::{Failure, Result};
use crate::output::Output;

/// Between two looks at a job; one that ends is seen at once.
const STEP: u64 = 1;

/// `JobState` Completed.
const COMPLETED: u16 = 7;

/// Waits until a job has ended; an end other than success is a failure.
pub(crate) fn wait(client: &Client, output: Output, id: &str, timeout: Option<u64>) -> Result<Job> {
    let begin = Instant::now();
    let bar = bar(output);
    loop {
        let job: Job = client.get_waiting(&["jobs", id], STEP)?;
        bar.set_message(job.name.clone());
        bar.set_position(u64::from(job.percent_complete));
        bar.set_prefix(
            job.remaining_ms
                .map_or_else(String::new, |left| format!(", {} s left", left.div_ceil(1000))),
        );
        if job.ended {
            bar.finish_and_clear();
            return outcome(job);
        }
        if let Some(seconds) = timeout
            && begin.elapsed() >= Duration::from_secs(seconds)
        {
            bar.abandon();
            return Err(Failure::Timeout { job: id.to_owned(), seconds });
        }
    }
}

fn bar(output: Output) -> ProgressBar {
    if output.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {pos} % {elapsed}{prefix}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// What the end of a job means.
pub(crate) fn outcome(job: Job) -> Result<Job> {
    if job.job_state == COMPLETED { Ok(job) } else { Err(Failure::Job { job: Box::new(job) }) }
}
