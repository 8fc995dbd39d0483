//! Requests about jobs: submit, change state, kill, change settings, delete.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use disk_image::{ImageError, ImageErrorKind, Operation, device_length};

use super::core::Core;
use super::state::{Change, Ending, JobRecord};
use crate::catalogue::{Disk, StoredCondition};
use crate::error::{Cause, CimError, RequestError};
use crate::failpoint;
use crate::id::{DiskId, JobId};
use crate::job::{
    AffectedElement, Element, ElementEffect, Job, JobKind, JobSettings, JobState, KillJobResult,
    RequestStateChangeResult as Answer, RequestedState, Submission,
};
use crate::kinds::{self, CreateDisk, DiskOperation, OperationRequest, Step};
use crate::plan::Plan;

impl Core {
    /// Submits the creation of a disk.
    pub(crate) fn submit_create(
        &mut self,
        request: CreateDisk,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let id = JobId::generate();
        let disk = {
            let state = self.shared.state.lock();
            kinds::plan_disk(&request, id, self.now(), &self.shared.config, &state)
        };
        let disk = disk.map_err(|cause| self.refuse(cause, None))?;
        let affected = vec![
            AffectedElement { element: Element::Disk(disk.id), effect: ElementEffect::Create },
            AffectedElement {
                element: Element::Pool(disk.pool.clone()),
                effect: ElementEffect::Other,
            },
        ];
        let name = format!("Create disk {}", disk.name);
        let kind = JobKind::CreateDisk { request, disk: Box::new(disk) };
        self.submit(id, name, kind, affected, submission)
    }

    /// Submits the deletion of a disk.
    pub(crate) fn submit_delete(
        &mut self,
        disk: DiskId,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let element = Element::Disk(disk);
        let found = {
            let state = self.shared.state.lock();
            let claimed = state.claim(disk);
            let mapped = state.mappings.values().find(|mapping| mapping.disk == disk).cloned();
            match (state.disks.get(&disk), mapped, claimed) {
                (None, _, _) => {
                    Err(Cause::NotFound { what: "disk".to_owned(), name: disk.to_string() })
                }
                (Some(disk), Some(mapping), _) => Err(Cause::DiskInUse {
                    disk: disk.name.clone(),
                    holder: format!("LUN {} of target {}", mapping.lun, mapping.target),
                }),
                (Some(disk), None, Some(job)) => {
                    Err(Cause::DiskInUse { disk: disk.name.clone(), holder: format!("job {job}") })
                }
                (Some(disk), None, None) => {
                    super::snapshots::without_snapshots(&state, disk).map(|()| Disk::clone(disk))
                }
            }
        };
        let disk = found.map_err(|cause| self.refuse(cause, Some(&element)))?;
        let affected = vec![AffectedElement { element, effect: ElementEffect::ExclusiveUse }];
        let name = format!("Delete disk {}", disk.name);
        let kind = JobKind::DeleteDisk { disk: Box::new(disk) };
        self.submit(JobId::generate(), name, kind, affected, submission)
    }

    /// Submits the expansion of a disk, which may be mapped.
    pub(crate) fn submit_expand(
        &mut self,
        disk: DiskId,
        size_bytes: u64,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let element = Element::Disk(disk);
        let found = {
            let state = self.shared.state.lock();
            match (state.disks.get(&disk), state.claim(disk)) {
                (None, _) => {
                    Err(Cause::NotFound { what: "disk".to_owned(), name: disk.to_string() })
                }
                (Some(disk), Some(job)) => {
                    Err(Cause::DiskInUse { disk: disk.name.clone(), holder: format!("job {job}") })
                }
                (Some(disk), None) => kinds::check_growth(disk, size_bytes)
                    .map(|()| (Disk::clone(disk), state.device_below(disk))),
            }
        };
        let fits = |(disk, device): (Disk, Option<PathBuf>)| match device {
            Some(device) => device_holds(&disk, &device, size_bytes).map(|()| disk),
            None => Ok(disk),
        };
        let disk = found.and_then(fits).map_err(|cause| self.refuse(cause, Some(&element)))?;
        let affected = vec![
            AffectedElement { element, effect: ElementEffect::Other },
            AffectedElement {
                element: Element::Pool(disk.pool.clone()),
                effect: ElementEffect::Other,
            },
        ];
        let name = format!("Expand disk {}", disk.name);
        let kind = JobKind::ExpandDisk { disk: Box::new(disk), size_bytes };
        self.submit(JobId::generate(), name, kind, affected, submission)
    }

    /// Submits what only who serves the disk can do, and puts its condition in force with it.
    pub(crate) fn submit_operation(
        &mut self,
        disk: DiskId,
        request: OperationRequest,
    ) -> Result<JobId, RequestError> {
        let element = Element::Disk(disk);
        let found = {
            let state = self.shared.state.lock();
            match (state.disks.get(&disk), state.claim(disk)) {
                (None, _) => {
                    Err(Cause::NotFound { what: "disk".to_owned(), name: disk.to_string() })
                }
                (Some(disk), Some(job)) if request.condition.is_some() => {
                    Err(Cause::DiskInUse { disk: disk.name.clone(), holder: format!("job {job}") })
                }
                (Some(disk), _) => Ok(Disk::clone(disk)),
            }
        };
        let disk = found.map_err(|cause| self.refuse(cause, Some(&element)))?;
        let effect = match &request.condition {
            Some(_) => ElementEffect::ExclusiveUse,
            None => ElementEffect::Other,
        };
        let affected = vec![AffectedElement { element, effect }];
        let condition = request.condition.as_ref().map(|(during, _)| {
            Change::PutCondition(StoredCondition { disk: disk.id, condition: during.clone() })
        });
        let submission = Submission { owner: request.owner.clone(), ..Submission::default() };
        let name = kinds::operation_name(&request, &disk);
        let kind = JobKind::Operation(Box::new(DiskOperation::new(request, disk)));
        let with = condition.into_iter().collect();
        self.submit_with(JobId::generate(), (name, kind, affected), None, submission, with)
    }

    /// Takes away what stands between a disk and its initiators, if no job is at it.
    pub(crate) fn clear_condition(&mut self, disk: DiskId) -> Result<(), RequestError> {
        let (known, claimed) = {
            let state = self.shared.state.lock();
            (state.conditions.contains_key(&disk), state.claim(disk))
        };
        if let Some(job) = claimed {
            let cause = Cause::DiskInUse { disk: disk.to_string(), holder: format!("job {job}") };
            return Err(self.refuse(cause, Some(&Element::Disk(disk))));
        }
        let changes = if known { vec![Change::DeleteCondition(disk)] } else { return Ok(()) };
        self.commit_request(failpoint::CATALOGUE, changes)
    }

    fn submit(
        &mut self,
        id: JobId,
        name: String,
        kind: JobKind,
        affected: Vec<AffectedElement>,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.submit_planned(id, (name, kind, affected), None, submission)
    }

    /// Submits a job whose plan says what it does.
    pub(super) fn submit_planned(
        &mut self,
        id: JobId,
        what: (String, JobKind, Vec<AffectedElement>),
        plan: Option<Box<Plan>>,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.submit_with(id, what, plan, submission, Vec::new())
    }

    /// With changes that go into the same transaction.
    fn submit_with(
        &mut self,
        id: JobId,
        (name, kind, affected): (String, JobKind, Vec<AffectedElement>),
        plan: Option<Box<Plan>>,
        submission: Submission,
        mut with: Vec<Change>,
    ) -> Result<JobId, RequestError> {
        self.check_room()?;
        self.check_after(&submission.after)?;
        let now = self.now();
        let job = Job {
            id,
            kind,
            name,
            state: JobState::New,
            percent_complete: 0,
            errors: Vec::new(),
            time_submitted: now,
            scheduled_start_time: submission.scheduled_start_time,
            start_time: None,
            time_of_last_state_change: now,
            end_time: None,
            elapsed: std::time::Duration::ZERO,
            time_before_removal: submission.time_before_removal,
            delete_on_completion: submission.delete_on_completion,
            priority: submission.priority,
            owner: submission.owner,
            notify: String::new(),
            affected,
            after: submission.after,
            time_limit: submission.time_limit,
            bandwidth: submission.bandwidth.map(|rate| rate.max(1)),
            remaining: None,
            checksums: None,
        };
        let record =
            JobRecord { job, step: Step::Pending, ending: None, plan, request: submission.request };
        with.push(Change::PutJob(Box::new(record)));
        self.commit_request(failpoint::SUBMIT, with)?;
        Ok(id)
    }

    /// Refuses to wait for a job that is not there, or has failed already.
    fn check_after(&self, after: &[JobId]) -> Result<(), RequestError> {
        for id in after {
            let Some(entry) = self.job(*id) else { return Err(self.no_such_job(*id)) };
            let state = entry.record.job.state;
            if state.is_failure() {
                let state = state.name().to_owned();
                let cause = Cause::DependencyFailed { job: id.to_string(), state };
                return Err(self.refuse(cause, Some(&Element::Job(*id))));
            }
        }
        Ok(())
    }

    /// Refuses a job that could not be recorded to its end.
    fn check_room(&self) -> Result<(), RequestError> {
        let config = &self.shared.config;
        if self.shared.state.lock().unfinished.len() >= config.max_unfinished_jobs {
            let reason = format!(
                "{} jobs wait or run already, which is the limit",
                config.max_unfinished_jobs
            );
            return Err(self.refuse(Cause::CouldNotStart { reason }, None));
        }
        match disk_image::pool_space(&config.directory) {
            Ok(space) if space.free < config.min_free_bytes => Err(self.refuse(
                Cause::StoreNearlyFull {
                    place: config.directory.clone(),
                    available: space.free,
                    needed: config.min_free_bytes,
                },
                None,
            )),
            // A database in memory has no directory; one that is gone shows in the commit.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// `RequestStateChange`.
    pub(crate) fn request_state(&mut self, id: JobId, to: RequestedState, by: &str) -> Answer {
        if to == RequestedState::Service {
            return Answer::NotSupported;
        }
        let Some(entry) = self.job(id) else { return Answer::InvalidParameter };
        let mut record = JobRecord::clone(&entry.record);
        let state = record.job.state;
        let suspending = entry.live.suspend.load(Ordering::Acquire);
        match (state, to) {
            (_, RequestedState::Terminate | RequestedState::Kill) if record.is_critical() => {
                Answer::Busy
            }
            (_, RequestedState::Suspend) if record.cannot_rest() => Answer::NotSupported,
            (JobState::New, RequestedState::Start) => {
                if record.job.scheduled_start_time.take().is_some() {
                    self.answer(failpoint::RESUMED, record, Answer::Started)
                } else {
                    // It is in the queue as it is.
                    Answer::Started
                }
            }
            (JobState::Suspended, RequestedState::Start) => {
                record.enter(JobState::Starting, self.now());
                record.job.scheduled_start_time = None;
                record.job.start_time = record.job.start_time.or(Some(self.now()));
                self.answer(failpoint::RESUMED, record, Answer::Started)
            }
            (
                JobState::Starting | JobState::Running,
                RequestedState::Start | RequestedState::Suspend,
            ) if suspending => Answer::Busy,
            (JobState::New, RequestedState::Suspend) => {
                record.enter(JobState::Suspended, self.now());
                self.answer(failpoint::SUSPENDED, record, Answer::Completed)
            }
            (JobState::Starting | JobState::Running, RequestedState::Suspend) => {
                entry.live.suspend.store(true, Ordering::Release);
                Answer::Started
            }
            (JobState::New, RequestedState::Terminate) => {
                record.job.errors = vec![self.error(id, &Cause::Cancelled { by: by.to_owned() })];
                let mut changes = record.step.leftovers(&record.job.kind, id);
                record.enter(JobState::Terminated, self.now());
                changes.push(Change::PutJob(Box::new(record)));
                self.answer_with(failpoint::ENDED, changes, Answer::Completed)
            }
            (
                JobState::Starting | JobState::Running | JobState::Suspended,
                RequestedState::Terminate,
            ) => {
                let errors = vec![self.error(id, &Cause::Cancelled { by: by.to_owned() })];
                record.enter(JobState::ShuttingDown, self.now());
                record.ending = Some(Ending { state: JobState::Terminated, errors });
                self.answer(failpoint::ENDING, record, Answer::Started)
            }
            (
                JobState::New
                | JobState::Starting
                | JobState::Running
                | JobState::Suspended
                | JobState::ShuttingDown,
                RequestedState::Kill,
            ) => self.kill_record(record, by),
            (
                JobState::Starting
                | JobState::Running
                | JobState::ShuttingDown
                | JobState::Completed
                | JobState::Terminated
                | JobState::Killed
                | JobState::Exception
                | JobState::Service
                | JobState::QueryPending,
                _,
            )
            | (JobState::Suspended, RequestedState::Suspend)
            | (JobState::New | JobState::Suspended, RequestedState::Service) => {
                Answer::InvalidStateTransition
            }
        }
    }

    fn error(&self, job: JobId, cause: &Cause) -> CimError {
        cause.to_cim_error(Some(&Element::Job(job)), &self.shared.paths)
    }

    fn answer(&mut self, point: failpoint::Commit, record: JobRecord, answer: Answer) -> Answer {
        self.answer_with(point, vec![Change::PutJob(Box::new(record))], answer)
    }

    fn answer_with(
        &mut self,
        point: failpoint::Commit,
        changes: Vec<Change>,
        answer: Answer,
    ) -> Answer {
        match self.commit(point, changes) {
            Ok(()) => answer,
            Err(_) => Answer::Failed,
        }
    }

    fn kill_record(&mut self, mut record: JobRecord, by: &str) -> Answer {
        let id = record.job.id;
        record.job.errors = vec![self.error(id, &Cause::Killed { by: by.to_owned() })];
        let mut changes = record.leftovers();
        record.enter(JobState::Killed, self.now());
        changes.push(Change::PutJob(Box::new(record)));
        match self.commit(failpoint::KILLED, changes) {
            Ok(()) => Answer::Completed,
            Err(_) => Answer::Failed,
        }
    }

    /// `KillJob`.
    pub(crate) fn kill_job(&mut self, id: JobId, delete_on_kill: bool, by: &str) -> KillJobResult {
        let Some(entry) = self.job(id) else { return KillJobResult::NotFound };
        let mut record = JobRecord::clone(&entry.record);
        if record.job.state.is_terminal() {
            return KillJobResult::Failed;
        }
        if record.is_critical() {
            return KillJobResult::Timeout;
        }
        record.job.delete_on_completion = delete_on_kill;
        if self.kill_record(record, by) == Answer::Completed {
            KillJobResult::Success
        } else {
            KillJobResult::Failed
        }
    }

    /// `ModifyInstance`.
    pub(crate) fn modify(&mut self, id: JobId, settings: JobSettings) -> Result<(), RequestError> {
        let Some(entry) = self.job(id) else { return Err(self.no_such_job(id)) };
        let mut record = JobRecord::clone(&entry.record);
        let job = &mut record.job;
        if let Some(at) = settings.scheduled_start_time {
            if job.state != JobState::New {
                let cause = Cause::BadValue {
                    property: "ScheduledStartTime".to_owned(),
                    reason: "the job has been started".to_owned(),
                };
                return Err(self.refuse(cause, Some(&Element::Job(id))));
            }
            job.scheduled_start_time = Some(at);
        }
        job.delete_on_completion =
            settings.delete_on_completion.unwrap_or(job.delete_on_completion);
        job.time_before_removal = settings.time_before_removal.unwrap_or(job.time_before_removal);
        job.priority = settings.priority.unwrap_or(job.priority);
        if let Some(bandwidth) = settings.bandwidth {
            job.bandwidth = bandwidth.map(|rate| rate.max(1));
        }
        job.time_limit = settings.time_limit.unwrap_or(job.time_limit);
        job.notify = settings.notify.unwrap_or_else(|| std::mem::take(&mut job.notify));
        self.commit_request(failpoint::CATALOGUE, vec![Change::PutJob(Box::new(record))])
    }

    /// `DeleteInstance`: only of a job that has ended.
    pub(crate) fn delete(&mut self, id: JobId) -> Result<(), RequestError> {
        let Some(entry) = self.job(id) else { return Err(self.no_such_job(id)) };
        let state = entry.record.job.state;
        if !state.is_terminal() {
            let state = state.name().to_owned();
            let cause = Cause::JobNotEnded { job: id.to_string(), state };
            return Err(self.refuse(cause, Some(&Element::Job(id))));
        }
        self.commit_request(failpoint::REMOVED, vec![Change::DeleteJob(id)])
    }

    fn no_such_job(&self, id: JobId) -> RequestError {
        self.refuse(Cause::NotFound { what: "job".to_owned(), name: id.to_string() }, None)
    }
}

/// A disk on a device becomes as large as that at most, also where images lie over it: what they hold is
/// brought into it when the snapshots go.
fn device_holds(disk: &Disk, link: &Path, size_bytes: u64) -> Result<(), Cause> {
    let length = device_length(link).map_err(|error| Cause::from(&error))?.ok_or_else(|| {
        Cause::from(&ImageError::new(ImageErrorKind::NotFound, Operation::Open, link))
    })?;
    if length >= size_bytes {
        return Ok(());
    }
    let device = std::fs::read_link(link).unwrap_or_else(|_| link.to_path_buf());
    let device = device.display();
    let reason = format!("its device {device} has {length} bytes: make that larger first");
    let block = u64::from(disk.block_length.bytes());
    let nearest = Some(length / block * block).filter(|nearest| *nearest > disk.size_bytes);
    Err(Cause::BadSize { size: size_bytes, reason, nearest })
}
