//! What is asked of jobs.

use std::time::Duration;

use job_engine::{
    DiskId, Job, JobId, JobSettings, JobState, RequestStateChangeResult, RequestedState, Submission,
};

use super::job_row::JobRow;
use super::{Refusal, Result, Service, ServiceError, job_id};
use crate::api;
use crate::rest::Wanted;

/// How a job is to run that a client submits.
///
/// # Errors
/// [`Refusal::NotFound`]: what `after` names is no identifier of a job.
pub fn submission(owner: &str, options: &api::JobOptions) -> Result<Submission> {
    let names = options.after.iter().flat_map(|names| names.split(',')).map(str::trim);
    let after = names.filter(|name| !name.is_empty()).map(|name| {
        let missing = || format!("there is no job `{name}`");
        job_id(name).ok_or_else(|| ServiceError::new(Refusal::NotFound, missing()))
    });
    let after = after.collect::<Result<_>>()?;
    let default = Submission::default();
    Ok(Submission {
        owner: owner.to_owned(),
        priority: options.priority.unwrap_or(default.priority),
        scheduled_start_time: options.start_at,
        after,
        time_limit: options.time_limit_seconds.map(Duration::from_secs),
        bandwidth: options.bandwidth,
        ..default
    })
}

impl Service {
    /// Ends a job in order: what it did is undone.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Conflict`] if it has ended, [`Refusal::Unavailable`].
    pub fn cancel(&self, key: &str, by: &str) -> Result<api::Job> {
        self.change_state(key, RequestedState::Terminate, by, ("cancelled", JobState::ShuttingDown))
    }

    /// Stops a job where that does no harm, until it is resumed.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Conflict`] if it has ended, [`Refusal::Unavailable`].
    pub fn suspend(&self, key: &str, by: &str) -> Result<api::Job> {
        self.change_state(key, RequestedState::Suspend, by, ("suspended", JobState::Suspended))
    }

    /// Starts a job that is suspended, or one that waits for its time.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Conflict`] if it has ended, [`Refusal::Unavailable`].
    pub fn resume_job(&self, key: &str, by: &str) -> Result<api::Job> {
        self.change_state(key, RequestedState::Start, by, ("resumed", JobState::Running))
    }

    /// Ends a job at once; what it leaves is removed in the background.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Conflict`] if it has ended, [`Refusal::Unavailable`].
    pub fn kill(&self, key: &str, by: &str) -> Result<api::Job> {
        self.change_state(key, RequestedState::Kill, by, ("killed", JobState::Killed))
    }

    /// `already` is the state in which asking once more is as good as once.
    fn change_state(
        &self,
        key: &str,
        to: RequestedState,
        by: &str,
        (how, already): (&str, JobState),
    ) -> Result<api::Job> {
        let id = self.parse_job(key)?;
        let before = self.engine.job(&id).ok_or_else(|| self.no_such_job(key))?;
        let answer = self.engine.request_state_change(&id, to, None, by);
        #[allow(clippy::wildcard_enum_match_arm, reason = "the others are all failures")]
        match answer {
            RequestStateChangeResult::Completed | RequestStateChangeResult::Started => {
                self.job_by_id(&id)
            }
            _ if before.state == already => self.job_by_id(&id),
            RequestStateChangeResult::InvalidStateTransition => Err(ServiceError::new(
                Refusal::Conflict,
                format!("job {id} cannot be {how}: it is {}", before.state.name()),
            )),
            RequestStateChangeResult::Busy => Err(ServiceError::new(
                Refusal::Conflict,
                format!("job {id} cannot be {how} now: it is busy with an earlier request"),
            )),
            RequestStateChangeResult::NotSupported => Err(ServiceError::new(
                Refusal::Conflict,
                format!("job {id} is of a kind that cannot be {how}"),
            )),
            other => Err(ServiceError::new(
                Refusal::Unavailable,
                format!("job {id} cannot be {how} now ({other:?})"),
            )),
        }
    }

    /// Jobs and faults as far as they are wanted: in the order of their submission, and one more
    /// than `limit`; or so many of the newest.
    pub(crate) fn jobs_wanted(&self, wanted: &Wanted, newest: Option<usize>) -> Vec<JobRow> {
        let of = |name| wanted.value(name);
        let disk = of("disk").map(str::parse::<DiskId>);
        if matches!(disk, Some(Err(_))) {
            return Vec::new();
        }
        let (disk, kind, state) = (disk.and_then(std::result::Result::ok), of("kind"), of("state"));
        let (ended, owner) = (of("ended"), of("owner"));
        let is = |value: &str, wanted: Option<&str>| wanted.is_none_or(|wanted| wanted == value);
        let matches = |job: &Job| {
            is(job.kind.word(), kind)
                && is(job.state.name(), state)
                && is(if job.state.is_terminal() { "true" } else { "false" }, ended)
                && is(&job.owner, owner)
                && disk.is_none_or(|disk| job.kind.disk() == disk)
        };
        let (after, limit) = wanted.range::<JobId>();
        let page = newest.map_or((after, limit, false), |count| (None, count, true));
        self.engine.jobs_where(page, matches).into_iter().map(JobRow).collect()
    }

    /// Changes how a job runs.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Invalid`], [`Refusal::Unavailable`].
    pub fn change_job(&self, key: &str, change: &api::ChangeJob) -> Result<api::Job> {
        let id = self.parse_job(key)?;
        let limit = |seconds: u64| (seconds > 0).then(|| Duration::from_secs(seconds));
        let settings = JobSettings {
            priority: change.priority,
            scheduled_start_time: change.start_at,
            time_limit: change.time_limit_seconds.map(limit),
            bandwidth: change.bandwidth.map(|rate| (rate > 0).then_some(rate)),
            ..JobSettings::default()
        };
        self.engine.modify_job(&id, settings).map_err(|error| self.near_job(error, key))?;
        self.job_by_id(&id)
    }

    /// What all jobs together may do.
    #[must_use]
    pub fn job_limits(&self) -> api::JobLimits {
        api::JobLimits { bandwidth: self.engine.bandwidth() }
    }

    /// Changes what all jobs together may do.
    pub fn set_job_limits(&self, limits: api::JobLimits) -> api::JobLimits {
        self.engine.set_bandwidth(limits.bandwidth.filter(|rate| *rate > 0));
        self.job_limits()
    }
}
