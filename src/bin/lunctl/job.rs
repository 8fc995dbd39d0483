//! `lunctl job`

use job_engine::CimError;
use mgmt_api::api::Job;

use crate::args;
use crate::client::Client;
use crate::exit::{Failure, Result};
use crate::output::{Output, table};
use crate::progress::wait;

pub(crate) fn run(client: &Client, output: Output, verb: args::Job) -> Result<()> {
    match verb {
        args::Job::List => {
            let jobs: Vec<Job> = client.get(&["jobs"])?;
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
         submitted  {:.0}\nstarted    {}\nended      {}\n",
        job.id,
        job.name,
        job.kind,
        job.state,
        job.percent_complete,
        job.owner,
        job.time_submitted,
        time(job.start_time),
        time(job.end_time),
    );
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
