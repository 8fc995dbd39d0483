//! `lunctl job`

use job_engine::CimError;
use mgmt_api::api::{ChangeJob, Job, JobLimits};
use mgmt_api::size;

use crate::args;
use crate::client::Client;
use crate::exit::{Failure, Result};
use crate::output::{Output, table};
use crate::progress::wait;

pub(crate) fn run(client: &Client, output: Output, verb: args::Job) -> Result<()> {
    match verb {
        args::Job::List(filter) => {
            let jobs: Vec<Job> = client.list(&["jobs"], &filter)?;
            output.value(&jobs, || list(&jobs));
        }
        args::Job::Show { job } => {
            let job: Job = client.get(&["jobs", &job])?;
            output.value(&job, || show(&job));
        }
        args::Job::Wait { job, timeout } => {
            let job = wait(client, output, &job, timeout)?;
            output.value(&job, || format!("job {} is {}", job.id, job.state));
        }
        args::Job::Cancel { job, waiting } => {
            let mut job: Job = client.post(&["jobs", &job, "cancel"], &())?;
            if !waiting.no_wait && !job.ended {
                match wait(client, output, &job.id, None) {
                    // It was quicker than the request.
                    Ok(done) => job = done,
                    // That is what was asked for.
                    Err(Failure::Job { job: ended }) => job = *ended,
                    Err(other) => return Err(other),
                }
            }
            output.value(&job, || format!("job {} is {}", job.id, job.state));
        }
        args::Job::Suspend { job } => ask(client, output, &job, "suspend")?,
        args::Job::Resume { job } => ask(client, output, &job, "resume")?,
        args::Job::Kill { job } => ask(client, output, &job, "kill")?,
        args::Job::Set { job, priority, start_at, time_limit, bandwidth } => {
            let change =
                ChangeJob { priority, start_at, time_limit_seconds: time_limit, bandwidth };
            let job: Job = client.put(&["jobs", &job, "settings"], &change)?;
            output.value(&job, || show(&job));
        }
        args::Job::Limits { bandwidth } => {
            let limits: JobLimits = match bandwidth {
                None => client.get(&["job-limits"])?,
                Some(rate) => {
                    let bandwidth = (rate > 0).then_some(rate);
                    client.put(&["job-limits"], &JobLimits { bandwidth })?
                }
            };
            output.value(&limits, || {
                let none = || "none".to_owned();
                let rate = |rate| format!("{} a second", size::format(rate));
                format!("bandwidth  {}", limits.bandwidth.map_or_else(none, rate))
            });
        }
        args::Job::Error { job } => {
            let errors: Vec<CimError> = client.get(&["jobs", &job, "errors"])?;
            output.value(&errors, || {
                if errors.is_empty() {
                    return "no error".to_owned();
                }
                errors.iter().map(describe).collect::<Vec<_>>().join("\n\n")
            });
        }
        args::Job::Delete { job } => {
            let () = client.delete(&["jobs", &job])?;
            output.value(&serde_json::json!({ "job": job }), || format!("job {job} removed"));
        }
    }
    Ok(())
}

fn ask(client: &Client, output: Output, job: &str, verb: &str) -> Result<()> {
    let job: Job = client.post(&["jobs", job, verb], &())?;
    output.value(&job, || format!("job {} is {}", job.id, job.state));
    Ok(())
}

fn list(jobs: &[Job]) -> String {
    table(
        ["JOB", "KIND", "STATE", "DONE", "SUBMITTED", "WHAT"],
        jobs.iter().map(|job| {
            [
                job.id.clone(),
                job.kind.clone(),
                job.state.clone(),
                format!("{} %", job.percent_complete),
                format!("{:.0}", job.time_submitted),
                job.occurrences.map_or_else(|| job.name.clone(), |n| format!("{} ({n})", job.name)),
            ]
        }),
    )
}

fn show(job: &Job) -> String {
    let time = |time: Option<_>| time.map_or_else(|| "-".to_owned(), |time| format!("{time:.0}"));
    let mut text = format!(
        "job        {}\nwhat       {}\nkind       {}\nstate      {} ({} %)\nowner      {}\n\
         submitted  {:.0}\nstarted    {}\nended      {}\ntrace      {}\n",
        job.id,
        job.name,
        job.kind,
        job.state,
        job.percent_complete,
        job.owner,
        job.time_submitted,
        time(job.start_time),
        time(job.end_time),
        job.trace,
    );
    if let Some(left) = job.remaining_ms {
        text.push_str(&format!("remaining  {} s\n", left.div_ceil(1000)));
    }
    if let Some(at) = job.scheduled_start_time {
        text.push_str(&format!("starts at  {at:.0}\n"));
    }
    if !job.after.is_empty() {
        text.push_str(&format!("after      {}\n", job.after.join(" ")));
    }
    if let Some(seconds) = job.time_limit_seconds {
        text.push_str(&format!("time limit {seconds} s\n"));
    }
    if let Some(rate) = job.bandwidth {
        text.push_str(&format!("bandwidth  {} a second\n", size::format(rate)));
    }
    if let Some(count) = job.occurrences {
        text.push_str(&format!("happened   {count} times\n"));
    }
    for error in &job.errors {
        text.push_str(&format!("\n{}\n", describe(error)));
    }
    text
}

fn describe(error: &CimError) -> String {
    let mut text = format!("{}  {}", error.message_id, error.message);
    for action in &error.recommended_actions {
        text.push_str(&format!("\n  - {action}"));
    }
    text
}
