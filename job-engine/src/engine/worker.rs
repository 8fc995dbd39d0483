//! The thread that runs one job, and what a job may ask of the engine.
//!
//! A thread is made when there is work and ends with it: nothing waits while nothing is to do.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use disk_image::{MissingFile, partial_path};

use super::core::Core;
use super::masking::Expose;
use super::pace;
use super::shared::Shared;
use super::state::{Change, Debris, Ending, JobRecord, Live};
use crate::clock::between;
use crate::error::Cause;
use crate::failpoint::{self, Commit};
use crate::id::{DiskId, JobId};
use crate::job::{Element, Job, JobKind, JobState};
use crate::kinds::{self, Step};

/// Progress goes to the database at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// So often a job that waits looks at the limits.
const PACE_SLICE: Duration = Duration::from_millis(200);

/// A long copy records how far it is so often: more is never done twice.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(2);

/// Why a job must leave its worker.
#[derive(Debug)]
pub(crate) enum Interrupt {
    /// A client wants it suspended.
    Suspend,
    /// It is to be undone: a client terminated it.
    End,
    /// It was killed: it exists no more.
    Gone,
    /// The engine stops; it goes on at the next start.
    Stop,
    /// It has taken longer than it may.
    Late(Duration),
}

/// Why a job did not come to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was told to leave.
    Interrupted(Interrupt),
    /// It failed.
    Cause(Box<Cause>),
    /// It failed for several reasons, and there is at least one.
    Causes(Vec<Cause>),
}

impl From<Interrupt> for Failure {
    fn from(interrupt: Interrupt) -> Self {
        Self::Interrupted(interrupt)
    }
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        Self::Cause(Box::new(cause))
    }
}

/// What to do with a job that is being undone when it wants to record something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfEnding {
    /// It must turn back.
    TurnBack,
    /// It is past the point of no return, or this is the way back.
    GoOn,
}

/// A running job's view of the engine.
pub(crate) struct JobContext {
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: JobId,
    pub(crate) live: Arc<Live>,
    written: Cell<Option<Instant>>,
    /// When this run began, and how far the job was then.
    began: Cell<Option<(Instant, u64)>>,
    /// Commands of initiators at the last look.
    commands: Cell<Option<u64>>,
    /// How far it is ahead of the least that it does.
    least: Cell<pace::Least>,
}

impl JobContext {
    /// The job as it was last recorded.
    pub(crate) fn record(&self) -> Result<Arc<JobRecord>, Interrupt> {
        let state = self.shared.state.lock();
        let entry = state.jobs.get(&self.id).ok_or(Interrupt::Gone)?;
        if entry.record.job.state.is_terminal() {
            return Err(Interrupt::Gone);
        }
        Ok(entry.record.clone())
    }

    /// Between two steps: may the job go on?
    pub(crate) fn boundary(&self) -> Result<(), Interrupt> {
        let record = self.record()?;
        if record.is_critical() {
            // Half of it would be left, or its end alone is missing.
            return if self.shared.is_stopping() { Err(Interrupt::Stop) } else { Ok(()) };
        }
        if record.ending.is_some() {
            Err(Interrupt::End)
        } else if self.shared.is_stopping() {
            Err(Interrupt::Stop)
        } else if self.live.suspend.load(Ordering::Acquire) {
            Err(Interrupt::Suspend)
        } else if let (Some(limit), Some(start)) = (record.job.time_limit, record.job.start_time)
            && between(start, self.shared.now()) > limit
        {
            Err(Interrupt::Late(limit))
        } else {
            Ok(())
        }
    }

    /// Records a change of the job, with `more` in the same transaction. While the database cannot
    /// be written it waits: what is not recorded has not happened.
    pub(crate) fn commit(
        &self,
        point: Commit,
        if_ending: IfEnding,
        change: impl Fn(&mut JobRecord) + Send + Sync + 'static,
        more: Vec<Change>,
    ) -> Result<(), Interrupt> {
        let change = Arc::new(change);
        let more = Arc::new(more);
        let id = self.id;
        self.until_stored(|| {
            let (more, change) = (more.clone(), change.clone());
            let commit =
                move |core: &mut Core| core.worker_commit(id, point, if_ending, &more, &*change);
            Ok(self.shared.call(commit))
        })
    }

    /// Asks for a commit until the database can be written.
    fn until_stored<E: From<Interrupt>>(
        &self,
        commit: impl Fn() -> Result<Option<Reply>, E>,
    ) -> Result<(), E> {
        loop {
            match commit()? {
                Some(Reply::Done) => return Ok(()),
                Some(Reply::Refused(interrupt)) => return Err(interrupt.into()),
                Some(Reply::StoreDown) if self.shared.wait_for_store() => {}
                Some(Reply::StoreDown) | None => return Err(Interrupt::Stop.into()),
            }
        }
    }

    /// Records that a step is about to be done.
    pub(crate) fn step(
        &self,
        point: Commit,
        step: Step,
        more: Vec<Change>,
    ) -> Result<(), Interrupt> {
        self.commit(point, IfEnding::TurnBack, move |record| record.step = step, more)
    }

    /// Records that the job is done, with its effect in the same transaction; but what the data path
    /// follows is in force there before anybody sees the end.
    pub(crate) fn complete(
        &self,
        point: Commit,
        if_ending: IfEnding,
        effect: Vec<Change>,
    ) -> Result<(), Interrupt> {
        let followed = {
            let state = self.shared.state.lock();
            effect.iter().any(|change| state.is_followed(change))
        };
        if followed {
            let shared = self.shared.clone();
            let change = move |record: &mut JobRecord| record.put_in_force(shared.now());
            self.commit(failpoint::IN_FORCE, if_ending, change, effect)?;
            return self.end(point);
        }
        let shared = self.shared.clone();
        let change = move |record: &mut JobRecord| record.enter(JobState::Completed, shared.now());
        self.commit(point, if_ending, change, effect)
    }

    /// Records the end of a job whose effect is recorded, once the data path has it.
    pub(crate) fn end(&self, point: Commit) -> Result<(), Interrupt> {
        let sequence = self.shared.state.lock().sequence;
        self.shared.wait_delivered(sequence);
        let shared = self.shared.clone();
        let change = move |record: &mut JobRecord| record.enter(JobState::Completed, shared.now());
        self.commit(point, IfEnding::GoOn, change, Vec::new())
    }

    /// [`JobContext::complete`], and exposes the disk that the job has made.
    pub(crate) fn complete_exposed(
        &self,
        made: DiskId,
        effect: Vec<Change>,
        request: Expose,
    ) -> Result<(), Failure> {
        let (id, both) = (self.id, Arc::new((effect, request)));
        self.until_stored(|| -> Result<_, Failure> {
            let both = both.clone();
            let reply =
                self.shared.call(move |core| core.put_exposed(id, (made, &both.0), &both.1));
            Ok(reply.transpose()?)
        })?;
        Ok(self.end(failpoint::PLAN_COMPLETE)?)
    }

    /// Whether a disk is a LUN now.
    pub(crate) fn is_mapped(&self, disk: DiskId) -> bool {
        self.shared.state.lock().is_mapped(disk)
    }

    /// How far the job is, for readers.
    pub(crate) fn went(&self, done: u64, total: u64) {
        let (begin, first) = self.began.get().unwrap_or_else(|| (Instant::now(), done));
        self.began.set(Some((begin, first)));
        let remaining = pace::remaining(done.saturating_sub(first), total, done, begin.elapsed());
        self.live.remaining.store(remaining, Ordering::Relaxed);
        let percent = u128::from(done.min(total)) * 99 / u128::from(total.max(1));
        self.live.percent.fetch_max(u16::try_from(percent).unwrap_or(99), Ordering::Relaxed);
    }

    /// It is time to record how far the job is.
    pub(crate) fn checkpoint_due(&self) -> bool {
        self.written.get().is_none_or(|at| at.elapsed() >= CHECKPOINT_INTERVAL)
    }

    /// Records how far the job is: so far nothing is done again after a crash.
    pub(crate) fn checkpoint(&self, step: Step) -> Result<(), Interrupt> {
        self.written.set(Some(Instant::now()));
        let change = move |record: &mut JobRecord| record.step = step;
        self.commit(failpoint::CHECKPOINT, IfEnding::TurnBack, change, Vec::new())
    }

    /// The most that is done between two looks at what clients want.
    pub(crate) fn piece(&self) -> Result<u64, Interrupt> {
        Ok(pace::piece(self.rates()?))
    }

    /// Bytes a second that the job, and all jobs together, may do.
    fn rates(&self) -> Result<(Option<u64>, Option<u64>), Interrupt> {
        let all = self.shared.bandwidth.load(Ordering::Relaxed);
        Ok((self.record()?.job.bandwidth, (all > 0).then_some(all)))
    }

    /// Lets others go first, after `bytes` that took from `begin` to now: initiators that are busy,
    /// and whoever shares the bandwidth. A limit that changes meanwhile is in force at once.
    pub(crate) fn pace(&self, bytes: u64, begin: Instant) -> Result<(), Interrupt> {
        let took = begin.elapsed();
        let commands = self.shared.config.data_path.commands();
        let before = self.commands.replace(Some(commands)).unwrap_or(commands);
        let back_off = self.shared.config.back_off;
        let busy = back_off && pace::is_busy(commands.saturating_sub(before), took);
        let mut least = self.least.get();
        let floor = self.shared.config.least_bandwidth;
        let rest = least.rest(bytes, took, begin + took, floor);
        self.least.set(least);
        let rest = if busy { rest } else { Duration::ZERO };
        let mut rates = self.rates()?;
        let limit = rates.1;
        let turn = self.shared.turns.lock().take(bytes, limit, begin);
        loop {
            let until = begin + pace::wait(bytes, took, rates.0, rest);
            // The turn was taken under the limit that there was then.
            let until = if rates.1 == limit { until.max(turn) } else { until };
            if until <= Instant::now() {
                return Ok(());
            }
            {
                let mut state = self.shared.state.lock();
                // A change of anything wakes; a slice bounds the wait for what does not.
                let slice = until.min(Instant::now() + PACE_SLICE);
                self.shared.changed.wait_until(&mut state, slice);
            }
            self.boundary()?;
            rates = self.rates()?;
        }
    }

    /// How far the job is. Readers see it at once, the database at most once a second.
    pub(crate) fn progress(&self, done: u64, total: u64) -> Result<(), Interrupt> {
        let percent = u128::from(done.min(total)) * 99 / u128::from(total.max(1));
        let percent = u16::try_from(percent).unwrap_or(99);
        let before = self.live.percent.fetch_max(percent, Ordering::Relaxed);
        let due = self.written.get().is_none_or(|at| at.elapsed() >= PROGRESS_INTERVAL);
        if percent > before && due {
            self.written.set(Some(Instant::now()));
            let change = move |record: &mut JobRecord| {
                record.job.percent_complete = record.job.percent_complete.max(percent);
            };
            self.commit(failpoint::PROGRESS, IfEnding::TurnBack, change, Vec::new())?;
        }
        Ok(())
    }
}

/// What the engine answers a worker.
pub(crate) enum Reply {
    Done,
    Refused(Interrupt),
    StoreDown,
}

impl Core {
    pub(super) fn worker_commit(
        &mut self,
        id: JobId,
        point: Commit,
        if_ending: IfEnding,
        more: &[Change],
        change: &(impl Fn(&mut JobRecord) + ?Sized),
    ) -> Reply {
        let Some(entry) = self.job(id) else { return Reply::Refused(Interrupt::Gone) };
        if entry.record.job.state.is_terminal() {
            return Reply::Refused(Interrupt::Gone);
        }
        if entry.record.ending.is_some() && if_ending == IfEnding::TurnBack {
            return Reply::Refused(Interrupt::End);
        }
        let mut record = JobRecord::clone(&entry.record);
        // What clients have seen must not fall after a restart.
        let seen = entry.live.percent.load(Ordering::Relaxed).min(99);
        record.job.percent_complete = record.job.percent_complete.max(seen);
        change(&mut record);
        let mut changes = more.to_vec();
        changes.push(Change::PutJob(Box::new(record)));
        match self.commit(point, changes) {
            Ok(()) => Reply::Done,
            Err(_) => Reply::StoreDown,
        }
    }
}

/// Starts a worker for a job.
pub(crate) fn spawn(shared: &Arc<Shared>, id: JobId, live: Arc<Live>) -> std::io::Result<()> {
    let context = JobContext {
        shared: shared.clone(),
        id,
        live,
        written: Cell::default(),
        began: Cell::default(),
        commands: Cell::default(),
        least: Cell::default(),
    };
    std::thread::Builder::new().name("lund-job".to_owned()).spawn(move || {
        // Whatever is logged on the job's way has its trace.
        let trace = context.id.trace();
        let _span = tracing::info_span!("job", trace, job = %context.id).entered();
        // Its own panics are caught inside; this one keeps the slot from being lost.
        let _ = catch_unwind(AssertUnwindSafe(|| run(&context)));
        let id = context.id;
        context.shared.call(move |core| core.worker_left(id));
    })?;
    Ok(())
}

fn run(context: &JobContext) {
    carry_out(context);
    // One that has ended has no record that could be changed, but is there.
    let entry = context.shared.state.lock().jobs.get(&context.id).cloned();
    if let Some(entry) = entry {
        let Job { name, state, elapsed, .. } = &entry.record.job;
        let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(name, state = state.name(), milliseconds, "the job leaves its worker");
    }
}

fn carry_out(context: &JobContext) {
    let outcome = catch_unwind(AssertUnwindSafe(|| work(context)));
    let failure = match outcome {
        Ok(Ok(())) => return,
        Ok(Err(failure)) => failure,
        Err(panic) => Cause::Panic { message: panic_message(&*panic) }.into(),
    };
    let result = match failure {
        Failure::Interrupted(Interrupt::Gone | Interrupt::Stop) => Ok(()),
        Failure::Interrupted(Interrupt::Suspend) => suspend(context),
        Failure::Interrupted(Interrupt::End) => undo(context),
        Failure::Interrupted(Interrupt::Late(limit)) => {
            let cause = Cause::TimeLimit { seconds: limit.as_secs() };
            fail(context, &[cause]).and_then(|()| undo(context))
        }
        Failure::Cause(cause) => fail(context, &[*cause]).and_then(|()| undo(context)),
        Failure::Causes(causes) => fail(context, &causes).and_then(|()| undo(context)),
    };
    if let Err(interrupt) = result {
        tracing::debug!(?interrupt, "the job is interrupted");
        // Terminated in the moment in which it was to be suspended.
        if matches!(interrupt, Interrupt::End) {
            let _ = undo(context);
        }
    }
}

fn work(context: &JobContext) -> Result<(), Failure> {
    let record = context.record()?;
    if record.ending.is_some() {
        return Err(Interrupt::End.into());
    }
    context.boundary()?;
    tracing::info!(name = record.job.name, owner = record.job.owner, "the job runs");
    if record.job.state != JobState::Running {
        let shared = context.shared.clone();
        let change = move |record: &mut JobRecord| record.enter(JobState::Running, shared.now());
        context.commit(failpoint::RUNNING, IfEnding::TurnBack, change, Vec::new())?;
    }
    kinds::run(context, &record)
}

fn suspend(context: &JobContext) -> Result<(), Interrupt> {
    let (shared, live) = (context.shared.clone(), context.live.clone());
    let change = move |record: &mut JobRecord| {
        record.enter(JobState::Suspended, shared.now());
        live.suspend.store(false, Ordering::Release);
    };
    context.commit(failpoint::SUSPENDED, IfEnding::TurnBack, change, Vec::new())
}

/// Records that the job has failed and is being undone. If a client has terminated it meanwhile,
/// the failure is still the better answer.
fn fail(context: &JobContext, causes: &[Cause]) -> Result<(), Interrupt> {
    let source = Element::Disk(context.record()?.job.kind.disk());
    tracing::warn!(?causes, "the job failed");
    let error = |cause: &Cause| cause.to_cim_error(Some(&source), &context.shared.paths);
    let errors: Vec<_> = causes.iter().map(error).collect();
    let shared = context.shared.clone();
    let change = move |record: &mut JobRecord| {
        record.enter(JobState::ShuttingDown, shared.now());
        record.ending = Some(Ending { state: JobState::Exception, errors: errors.clone() });
    };
    context.commit(failpoint::ENDING, IfEnding::GoOn, change, Vec::new())
}

/// Undoes what the job did, and ends it.
fn undo(context: &JobContext) -> Result<(), Interrupt> {
    let record = context.record()?;
    let undone = catch_unwind(AssertUnwindSafe(|| kinds::undo(&record)));
    failpoint::hit("undo.files");
    let (changes, failed) = match undone {
        Ok(undone) => undone,
        Err(panic) => {
            let leftovers = record.leftovers();
            (leftovers, Some(Cause::Panic { message: panic_message(&*panic) }))
        }
    };
    let source = Element::Disk(record.job.kind.disk());
    let extra = failed.map(|cause| cause.to_cim_error(Some(&source), &context.shared.paths));
    let shared = context.shared.clone();
    let change = move |record: &mut JobRecord| {
        if let Some(ending) = record.ending.take() {
            record.job.errors = ending.errors;
            record.job.errors.extend(extra.clone());
            record.enter(ending.state, shared.now());
        }
    };
    context.commit(failpoint::ENDED, IfEnding::GoOn, change, changes)
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the worker panicked".to_owned())
}

/// Removes an image's file and the file that it grew under.
pub(crate) fn remove_files(path: &std::path::Path) -> Result<(), disk_image::ImageError> {
    disk_image::delete(&partial_path(path), MissingFile::Tolerate)?;
    disk_image::delete(path, MissingFile::Tolerate)
}

/// Starts a thread that removes files nobody cares for any more.
pub(crate) fn spawn_sweeper(shared: &Arc<Shared>, debris: Debris) -> std::io::Result<()> {
    let shared = shared.clone();
    std::thread::Builder::new().name("lund-sweep".to_owned()).spawn(move || {
        let result = match &debris.file {
            Some((place, identity)) => place.remove(*identity),
            None => remove_files(&debris.path),
        };
        if let Err(error) = &result {
            tracing::warn!(%error, "left until the next start");
        }
        let removed = result.is_ok();
        shared.call(move |core| core.swept(debris.path, removed));
    })?;
    Ok(())
}

impl Step {
    /// What a job leaves that ends now, without being undone.
    pub(crate) fn leftovers(self, kind: &JobKind, job: JobId) -> Vec<Change> {
        match (self, kind) {
            (Self::InForce, _) => Vec::new(),
            (Self::CreateAllocating | Self::Unknown, JobKind::CreateDisk { disk, .. })
            | (Self::DeleteUnlinking, JobKind::DeleteDisk { disk }) => {
                vec![Change::PutDebris(Debris::of_disk(&disk.path, job))]
            }
            (_, JobKind::Operation(operation)) => kinds::end_operation(operation),
            _ => Vec::new(),
        }
    }
}
