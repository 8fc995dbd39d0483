//! The engine's one thread: every change is decided, committed and published here, in that order.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::notify::Notifier;
use super::shared::{Message, Shared};
use super::state::{Change, JobEntry, JobRecord, batch};
use super::worker;
use crate::clock::between;
use crate::error::{Cause, RequestError};
use crate::event::ChangeEvent;
use crate::failpoint::{self, Commit};
use crate::id::{JobId, PoolId};
use crate::job::{Element, JobKind, JobState};
use crate::plan::Claim;
use crate::store::{
    Batch, DirectoryLock, Journal, JournalEntry, Store, StoreError, Tree, current_schema, put_mark,
    put_schema,
};

/// First and longest wait between two attempts to open a database that failed.
const REOPEN_BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// What only the engine's thread touches.
pub(crate) struct Core {
    pub(crate) shared: Arc<Shared>,
    store: Box<dyn Store>,
    journal: Option<Journal>,
    notifier: Option<Notifier>,
    /// Jobs that have a worker, and the disks that they work on.
    running: BTreeMap<JobId, (Vec<Claim>, PoolId)>,
    sweeping: BTreeSet<PathBuf>,
    /// Debris that could not be removed; the next start tries again.
    stuck: BTreeSet<PathBuf>,
    reopen: Option<(Instant, Duration)>,
    pub(crate) last_fault_write: Option<Instant>,
    stopping: bool,
    /// Held as long as the database is open.
    _lock: Option<DirectoryLock>,
}

impl Core {
    pub(crate) fn new(
        shared: Arc<Shared>,
        store: Box<dyn Store>,
        journal: Option<Journal>,
        lock: Option<DirectoryLock>,
    ) -> Self {
        Self {
            shared,
            store,
            journal,
            notifier: None,
            running: BTreeMap::new(),
            sweeping: BTreeSet::new(),
            stuck: BTreeSet::new(),
            reopen: None,
            last_fault_write: None,
            stopping: false,
            _lock: lock,
        }
    }

    /// Works until it is told to stop and the last worker has left.
    pub(crate) fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            let next = self.look_around();
            if self.stopping && self.running.is_empty() && self.sweeping.is_empty() {
                if self.is_up() {
                    // Those that wait for their second to pass: there is none left.
                    self.last_fault_write = None;
                    self.write_faults();
                }
                return;
            }
            let message = match next {
                None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => receiver.recv_timeout(wait),
            };
            match message {
                Ok(Message::Call(work)) => {
                    if catch_unwind(AssertUnwindSafe(|| work(&mut self))).is_err() {
                        tracing::error!("a request to the job engine panicked");
                    }
                }
                Ok(Message::Wake) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::Stop) => {
                    self.stopping = true;
                    // Under the lock, or a waiter could look just before and sleep just after.
                    let _state = self.shared.state.lock();
                    self.shared.changed.notify_all();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Does what is due, and says how long there is nothing to do: for ever, if nothing is
    /// planned. An idle engine sleeps without a timer.
    fn look_around(&mut self) -> Option<Duration> {
        let mut waits = Vec::new();
        if let Some((at, backoff)) = self.reopen {
            if at <= Instant::now() {
                self.try_reopen(backoff);
            }
            waits.extend(self.reopen.map(|(at, _)| at.saturating_duration_since(Instant::now())));
        }
        if self.is_up() && !self.stopping {
            waits.extend(self.write_faults());
            self.end_those_that_wait_in_vain();
            waits.extend(self.remove_due());
            waits.extend(self.dispatch());
            self.sweep();
        }
        // A commit in one of them may have failed: then the next attempt is what to wait for.
        waits.extend(self.reopen.map(|(at, _)| at.saturating_duration_since(Instant::now())));
        waits.into_iter().min()
    }

    /// The database can be written.
    pub(crate) fn is_up(&self) -> bool {
        self.reopen.is_none()
    }

    /// Number of the last change.
    pub(crate) fn sequence(&self) -> u64 {
        self.shared.state.lock().sequence
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.shared.now()
    }

    /// A job as it is.
    pub(crate) fn job(&self, id: JobId) -> Option<JobEntry> {
        self.shared.state.lock().jobs.get(&id).cloned()
    }

    pub(crate) fn refuse(&self, cause: Cause, element: Option<&Element>) -> RequestError {
        self.shared.refuse(cause, element)
    }

    /// [`Core::commit`] for a client's request.
    pub(crate) fn commit_request(
        &mut self,
        point: Commit,
        changes: Vec<Change>,
    ) -> Result<(), RequestError> {
        self.commit(point, changes).map_err(|error| {
            self.refuse(Cause::StoreUnavailable { reason: error.to_string() }, None)
        })
    }

    /// Makes changes durable, then visible. Nobody sees anything of them if this fails.
    pub(crate) fn commit(
        &mut self,
        point: Commit,
        mut changes: Vec<Change>,
    ) -> Result<(), StoreError> {
        if !self.is_up() {
            let state = self.shared.state.lock();
            return Err(StoreError::Unavailable(state.store_down.clone().unwrap_or_default()));
        }
        self.shared.state.lock().raise_generation(&mut changes);
        let told = self.tell(&mut changes);
        let done = self.commit_all(point, changes);
        if told {
            self.told(done.is_ok());
        }
        done
    }

    fn commit_all(&mut self, point: Commit, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut batch = batch(&changes)?;
        let entry = self.journal_entry(&changes);
        if let Some(entry) = &entry {
            put_mark(&mut batch, entry.number)?;
        }
        failpoint::hit(point.before);
        self.void_checksums(&changes);
        let begin = Instant::now();
        if let Err(error) = self.store.commit(&batch) {
            self.went_down(&error);
            return Err(error);
        }
        self.shared.commit_times.count(begin.elapsed());
        failpoint::hit(point.after);
        if let (Some(journal), Some(entry)) = (&mut self.journal, &entry)
            && let Err(error) = journal.append(entry)
        {
            tracing::warn!(%error, "the journal cannot be written");
        }
        self.publish(changes);
        Ok(())
    }

    fn publish(&mut self, changes: Vec<Change>) {
        let now = self.now();
        let mut state = self.shared.state.lock();
        for change in changes {
            let Some(change) = state.apply(change, now) else { continue };
            let event = ChangeEvent { sequence: state.sequence, change };
            if let Some(notifier) = &self.notifier {
                notifier.tell(event.clone());
            }
            state.recent.push(event);
        }
        if let Some(notifier) = &self.notifier {
            notifier.reached(state.sequence);
        }
        self.shared.changed.notify_all();
    }

    /// Jobs that have ended and changes of the catalogue go to the journal too. The database is
    /// what counts: a journal that cannot be written is a warning.
    fn journal_entry(&self, changes: &[Change]) -> Option<JournalEntry> {
        let time = self.now();
        let number = self.journal.as_ref()?.number().saturating_add(1);
        let known = &self.shared.state.lock().jobs;
        let kept: Vec<Change> = changes
            .iter()
            .filter(|change| match change {
                // A record that was terminal before is a fault counting up, or a setting.
                Change::PutJob(record) => {
                    let ended = known
                        .get(&record.job.id)
                        .is_some_and(|entry| entry.record.job.state.is_terminal());
                    record.job.state.is_terminal() && !ended
                }
                Change::PutDebris(_)
                | Change::DeleteDebris(_)
                | Change::PutPoolHealth(_)
                | Change::DeletePoolHealth(_)
                | Change::PutMessage(_)
                | Change::DeleteMessage(_) => false,
                Change::DeleteJob(_)
                | Change::PutDisk(_)
                | Change::DeleteDisk(_)
                | Change::PutTarget(_)
                | Change::DeleteTarget(_)
                | Change::PutMapping(_)
                | Change::DeleteMapping { .. }
                | Change::PutSnapshot(_)
                | Change::DeleteSnapshot(_)
                | Change::PutPool(_)
                | Change::DeletePool(_)
                | Change::PutReservations(_)
                | Change::DeleteReservations(_)
                | Change::PutUser(_)
                | Change::DeleteUser(_)
                | Change::PutToken(_)
                | Change::DeleteToken(_)
                | Change::PutAccessState(_)
                | Change::DeleteAccessState { .. }
                | Change::PutModePages(_)
                | Change::PutRecord(_)
                | Change::DeleteRecord(_)
                | Change::PutCondition(_)
                | Change::DeleteCondition(_) => true,
            })
            .cloned()
            .collect();
        (!kept.is_empty()).then(|| JournalEntry::new(time, number, false, kept))
    }

    /// Starts a new journal when it has become long.
    fn rotate_journal(&mut self) {
        let time = self.shared.now();
        let Some(journal) = &mut self.journal else { return };
        if journal.is_large() {
            let changes = self.shared.state.lock().catalogue();
            let number = journal.number();
            let everything = JournalEntry::new(time, number, true, changes);
            if let Err(error) = journal.rotate(&everything) {
                tracing::warn!(%error, "the journal cannot be rotated");
            }
        }
    }

    fn went_down(&mut self, error: &StoreError) {
        tracing::error!(%error, "the database cannot be written; it is tried again");
        let (first, _) = REOPEN_BACKOFF;
        self.reopen = Some((Instant::now() + first, first));
        self.shared.state.lock().store_down = Some(error.to_string());
        self.shared.changed.notify_all();
    }

    fn try_reopen(&mut self, backoff: Duration) {
        let result = self.store.reopen().and_then(|()| self.align_store());
        match result {
            Ok(()) => {
                tracing::info!("the database can be written again");
                self.reopen = None;
                self.shared.state.lock().store_down = None;
                self.shared.changed.notify_all();
            }
            Err(error) => {
                let (_, longest) = REOPEN_BACKOFF;
                let next = (backoff * 2).min(longest);
                self.reopen = Some((Instant::now() + next, next));
                self.shared.state.lock().store_down = Some(error.to_string());
            }
        }
    }

    /// Whether the commit that failed was done is not known. Its requester was told that it
    /// failed: so the database is made to say what everybody was told.
    fn align_store(&mut self) -> Result<(), StoreError> {
        let mut wanted = batch(&self.shared.state.lock().everything())?;
        if let Some(journal) = &self.journal {
            put_mark(&mut wanted, journal.number())?;
        }
        put_schema(&mut wanted, current_schema())?;
        let mut repair = Batch::default();
        for tree in Tree::ALL {
            let mut found: BTreeMap<_, _> = self.store.scan(tree)?.into_iter().collect();
            for operation in wanted.operations().iter().filter(|op| op.tree == tree) {
                if found.remove(&operation.key) != operation.value
                    && let Some(value) = &operation.value
                {
                    repair.put_raw(tree, &operation.key, value.clone());
                }
            }
            for key in found.keys() {
                repair.delete(tree, key);
            }
        }
        // Even an empty one: it shows that the database takes writes.
        self.store.commit(&repair)
    }

    /// Removes ended jobs whose time has come, and the oldest beyond the limit. Says how long
    /// until the next one.
    fn remove_due(&mut self) -> Option<Duration> {
        let now = self.now();
        let (mut changes, next) = {
            let state = self.shared.state.lock();
            let mut gone: BTreeSet<JobId> =
                state.due.iter().take_while(|(due, _)| *due <= now).map(|(_, id)| *id).collect();
            let ended = state.jobs.len() - state.unfinished.len();
            let surplus = ended.saturating_sub(self.shared.config.max_ended_jobs);
            let oldest = state.jobs.keys().filter(|id| !state.unfinished.contains(id));
            gone.extend(oldest.take(surplus));
            let next = state.due.iter().find(|(due, _)| *due > now).map(|(due, _)| *due);
            (gone.into_iter().map(Change::DeleteJob).collect::<Vec<_>>(), next)
        };
        if !changes.is_empty() {
            // On failure they are found again when the database is back.
            let _ = self.commit(failpoint::REMOVED, std::mem::take(&mut changes));
            self.rotate_journal();
        }
        next.map(|due| between(now, due))
    }

    /// Ends jobs that wait for one that has not ended well.
    fn end_those_that_wait_in_vain(&mut self) {
        loop {
            let found = {
                let state = self.shared.state.lock();
                let failed = |id: &JobId| {
                    let job = &state.jobs.get(id)?.record.job;
                    job.state.is_failure().then_some((*id, job.state))
                };
                state.unfinished_jobs().filter(|job| job.state == JobState::New).find_map(|job| {
                    job.after.iter().find_map(failed).map(|(other, how)| (job.id, other, how))
                })
            };
            let Some((id, other, how)) = found else { return };
            let Some(entry) = self.job(id) else { return };
            let (job, state) = (other.to_string(), how.name().to_owned());
            let cause = Cause::DependencyFailed { job, state };
            let mut record = JobRecord::clone(&entry.record);
            record.job.errors =
                vec![cause.to_cim_error(Some(&Element::Job(id)), &self.shared.paths)];
            record.enter(JobState::Exception, self.now());
            if self.commit(failpoint::ENDED, vec![Change::PutJob(Box::new(record))]).is_err() {
                return;
            }
        }
    }

    /// Gives waiting jobs to workers. Says how long until the next scheduled one.
    fn dispatch(&mut self) -> Option<Duration> {
        let now = self.now();
        let mut next: Option<Timestamp> = None;
        let mut ready = Vec::new();
        let has_runner = self.shared.runner.lock().is_some();
        {
            let state = self.shared.state.lock();
            for entry in state.unfinished.iter().filter_map(|id| state.jobs.get(id)) {
                let job = &entry.record.job;
                let waits = matches!(job.kind, JobKind::Operation(_)) && !has_runner;
                if waits || self.is_busy(&entry.record) || job.state == JobState::Suspended {
                    continue;
                }
                // One that is not there any more has ended well: else this one would have ended.
                let unfinished = |id: &JobId| state.unfinished.contains(id);
                if job.state == JobState::New && job.after.iter().any(unfinished) {
                    continue;
                }
                match job.scheduled_start_time {
                    Some(at) if job.state == JobState::New && at > now => {
                        next = Some(next.map_or(at, |earlier| earlier.min(at)));
                    }
                    _ => ready.push((job.priority, job.id)),
                }
            }
        }
        ready.sort_unstable();
        for (_, id) in ready {
            if !self.is_up() {
                break;
            }
            // Those that were started before it may want the same disk.
            let may = |entry: &JobEntry| {
                let follows = entry.record.job.kind.follows();
                let has_room = || self.has_room(&self.pool_of(&entry.record));
                !self.is_busy(&entry.record) && (follows || has_room())
            };
            if self.job(id).is_some_and(|entry| may(&entry)) {
                self.start(id);
            }
        }
        next.map(|at| between(now, at))
    }

    /// A worker is at one of the disks that a job claims, and one of the two wants it for itself:
    /// that of a job that was killed may still be at it.
    fn is_busy(&self, record: &JobRecord) -> bool {
        let claims = record.claims();
        let running = self.running.values().flat_map(|(claims, _)| claims);
        running.into_iter().any(|one| {
            claims.iter().any(|other| one.disk == other.disk && (one.exclusive || other.exclusive))
        }) || self.running.contains_key(&record.job.id)
    }

    /// The pool that a job works in.
    fn pool_of(&self, record: &JobRecord) -> PoolId {
        let kind = &record.job.kind;
        let of_disk = || {
            let state = self.shared.state.lock();
            state.disks.get(&kind.disk()).map(|disk| disk.pool.clone())
        };
        record.pool().or_else(of_disk).unwrap_or_default()
    }

    /// Whether there is a worker for one more job, in all and in a pool. Those that follow what
    /// initiators do count for nothing.
    fn has_room(&self, pool: &PoolId) -> bool {
        let config = &self.shared.config;
        let (limit, pool_limit) = (config.max_workers.max(1), config.max_workers_per_pool.max(1));
        let state = self.shared.state.lock();
        let follows = |id| state.jobs.get(id).is_some_and(|it| it.record.job.kind.follows());
        let running = || self.running.iter().filter(|(id, _)| !follows(*id));
        running().count() < limit
            && running().filter(|(_, (_, other))| other == pool).count() < pool_limit
    }

    fn start(&mut self, id: JobId) {
        let Some(entry) = self.job(id) else { return };
        if entry.record.job.state == JobState::New {
            let mut record = JobRecord::clone(&entry.record);
            let now = self.now();
            record.enter(JobState::Starting, now);
            record.job.start_time = Some(now);
            let change = vec![Change::PutJob(Box::new(record))];
            if self.commit(failpoint::STARTING, change).is_err() {
                return;
            }
        }
        match worker::spawn(&self.shared, id, entry.live) {
            Ok(()) => {
                let pool = self.pool_of(&entry.record);
                self.running.insert(id, (entry.record.claims(), pool));
            }
            Err(error) => {
                let cause = Cause::CouldNotStart { reason: error.to_string() };
                let source = Element::Job(id);
                let error = cause.to_cim_error(Some(&source), &self.shared.paths);
                if let Some(entry) = self.job(id) {
                    let mut record = JobRecord::clone(&entry.record);
                    record.job.errors = vec![error];
                    record.enter(JobState::Exception, self.now());
                    let mut changes = record.leftovers();
                    changes.push(Change::PutJob(Box::new(record)));
                    let _ = self.commit(failpoint::ENDED, changes);
                }
            }
        }
    }

    /// A worker has left.
    pub(crate) fn worker_left(&mut self, id: JobId) {
        self.running.remove(&id);
        self.rotate_journal();
    }

    /// Has files removed that no job cares for any more.
    fn sweep(&mut self) {
        let debris: Vec<_> = {
            let state = self.shared.state.lock();
            let idle =
                state.debris.values().filter(|debris| !self.running.contains_key(&debris.job));
            idle.cloned().collect()
        };
        for debris in debris {
            let path = debris.path.clone();
            if self.stuck.contains(&path) || !self.sweeping.insert(path.clone()) {
                continue;
            }
            if let Err(error) = worker::spawn_sweeper(&self.shared, debris) {
                tracing::warn!(%error, "no thread to sweep up {}", path.display());
                self.sweeping.remove(&path);
                self.stuck.insert(path);
            }
        }
    }

    /// A sweeper has done, or not.
    pub(crate) fn swept(&mut self, path: PathBuf, removed: bool) {
        self.sweeping.remove(&path);
        let change = vec![Change::DeleteDebris(path.clone())];
        if !removed || self.commit(failpoint::SWEPT, change).is_err() {
            self.stuck.insert(path);
        }
    }

    /// Adds a subscriber; the state that it starts from.
    pub(crate) fn subscribe(
        &mut self,
        subscriber: super::notify::Subscriber,
    ) -> std::io::Result<super::Snapshot> {
        let snapshot = self.shared.state.lock().snapshot(self.shared.now());
        if self.notifier.is_none() {
            self.notifier = Some(Notifier::start(&self.shared, snapshot.sequence)?);
        }
        if let Some(notifier) = &self.notifier {
            notifier.subscribe(subscriber);
        }
        Ok(snapshot)
    }
}
