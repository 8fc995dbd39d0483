//! What is on the medium, in memory; and the changes that lead from one state to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Snapshot;
use super::configuration::is_generation;
use super::events::Recent;
use super::snapshots::exposed_record;
use crate::catalogue::{
    Disk, DiskSnapshot, Mapping, PoolHealth, PoolSettings, StoredAccessState, StoredCondition,
    StoredModePages, StoredRecord, StoredReservations, Target, Token, User,
};
use crate::clock::{between, later};
use crate::error::CimError;
use crate::event::ChangeKind;
use crate::id::{DiskId, JobId, PoolId, SnapshotId};
use crate::job::{Job, JobKind, JobState, RequestKey};
use crate::kinds::Step;
use crate::place::{Identity, Place};
use crate::plan::{Claim, Plan};
use crate::store::{Batch, StoreError, Tree};

/// A job as it lies in the database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobRecord {
    pub(crate) job: Job,
    /// The last step that was recorded.
    #[serde(deserialize_with = "Step::lenient")]
    pub(crate) step: Step,
    /// It is being undone, and ends like this.
    pub(crate) ending: Option<Ending>,
    /// What it does, if that is written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) plan: Option<Box<Plan>>,
    /// By what the client knows its request again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<RequestKey>,
}

/// How a job that is `ShuttingDown` will end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ending {
    pub(crate) state: JobState,
    pub(crate) errors: Vec<CimError>,
}

impl JobRecord {
    /// Enters a state; a terminal one is final in every respect.
    pub(crate) fn enter(&mut self, state: JobState, now: Timestamp) {
        let job = &mut self.job;
        job.state = state;
        job.time_of_last_state_change = now;
        if state.is_terminal() {
            self.ending = None;
            job.percent_complete = 100;
            job.end_time = Some(now);
            job.elapsed = job.start_time.map_or_else(Default::default, |start| between(start, now));
        }
    }

    /// Whether it cannot be suspended: what it follows goes on.
    pub(crate) fn cannot_rest(&self) -> bool {
        self.job.kind.follows() && !self.job.state.is_terminal()
    }

    /// The disks that it works on.
    pub(crate) fn claims(&self) -> Vec<Claim> {
        match &self.plan {
            Some(plan) => plan.claims.clone(),
            None if self.job.kind.follows() => Vec::new(),
            None => vec![Claim { disk: self.job.kind.disk(), exclusive: true }],
        }
    }

    /// The pool that it takes space of.
    pub(crate) fn pool(&self) -> Option<PoolId> {
        let planned = self.plan.as_ref().and_then(|plan| plan.pool.clone());
        planned.or_else(|| self.job.kind.pool())
    }

    /// What it leaves if it ends now, without being undone.
    pub(crate) fn leftovers(&self) -> Vec<Change> {
        match (&self.plan, self.step) {
            (Some(plan), Step::Planned { index, .. }) => plan.leftovers(index, self.job.id),
            (Some(_), _) => Vec::new(),
            (None, step) => step.leftovers(&self.job.kind, self.job.id),
        }
    }

    /// What it changes is in the catalogue: from here on nothing ends it but its end.
    pub(crate) fn put_in_force(&mut self, now: Timestamp) {
        self.step = Step::InForce;
        if self.ending.take().is_some() {
            // It came too late.
            self.enter(JobState::Running, now);
        }
    }

    /// It cannot be ended now.
    pub(crate) fn is_critical(&self) -> bool {
        self.step == Step::InForce
            || self.plan.as_ref().is_some_and(|plan| plan.is_critical(self.step))
    }

    /// When it goes by itself.
    fn due(&self) -> Option<Timestamp> {
        let end = self.job.end_time?;
        self.job.delete_on_completion.then(|| later(end, self.job.time_before_removal))
    }
}

/// What a running job changes more often than the database is told.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Percent, never falling.
    pub(crate) percent: AtomicU16,
    /// Bytes of its pool that it will still take.
    pub(crate) reserved: AtomicU64,
    /// Milliseconds that it will still take; 0 while that is not known.
    pub(crate) remaining: AtomicU64,
    /// A client wants it suspended.
    pub(crate) suspend: AtomicBool,
}

/// A file that is to be removed, and the file that it grew under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Debris {
    /// The image's path.
    pub(crate) path: PathBuf,
    /// The job that left it; it is not touched while that still runs.
    pub(crate) job: JobId,
    /// Where it is and which file it became, if the job had a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<(Place, Option<Identity>)>,
}

impl Debris {
    /// The file of a disk that was being made or deleted.
    pub(crate) fn of_disk(path: &Path, job: JobId) -> Self {
        Self { path: path.to_path_buf(), job, file: None }
    }
}

/// One change of the state. A transaction is a list of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    PutJob(Box<JobRecord>),
    DeleteJob(JobId),
    PutDisk(Box<Disk>),
    DeleteDisk(DiskId),
    PutTarget(Target),
    DeleteTarget(String),
    PutMapping(Mapping),
    DeleteMapping { target: String, lun: u16 },
    PutReservations(StoredReservations),
    DeleteReservations(DiskId),
    PutUser(User),
    DeleteUser(String),
    PutToken(Token),
    DeleteToken(String),
    PutAccessState(StoredAccessState),
    DeleteAccessState { group: u16, target: Option<String> },
    PutModePages(StoredModePages),
    PutRecord(StoredRecord),
    DeleteRecord(String),
    PutCondition(StoredCondition),
    DeleteCondition(DiskId),
    PutSnapshot(DiskSnapshot),
    DeleteSnapshot(SnapshotId),
    PutPool(PoolSettings),
    DeletePool(PoolId),
    PutPoolHealth(Box<PoolHealth>),
    DeletePoolHealth(PoolId),
    PutDebris(Debris),
    DeleteDebris(PathBuf),
    PutMessage(StoredRecord),
    DeleteMessage(String),
}

/// A job in memory.
#[derive(Debug, Clone)]
pub(crate) struct JobEntry {
    pub(crate) record: Arc<JobRecord>,
    pub(crate) live: Arc<Live>,
    /// What was made of this record for clients.
    pub(crate) text: Arc<OnceLock<Box<str>>>,
}

impl JobEntry {
    /// The job as a client sees it now.
    pub(crate) fn view(&self, now: Timestamp) -> Job {
        let mut job = self.record.job.clone();
        if !job.state.is_terminal() {
            let percent = self.live.percent.load(Ordering::Relaxed).min(99);
            job.percent_complete = job.percent_complete.max(percent);
            if let Some(start) = job.start_time {
                job.elapsed = between(start, now);
            }
            let remaining = self.live.remaining.load(Ordering::Relaxed);
            let moves = job.state == JobState::Running && remaining > 0;
            job.remaining = moves.then(|| Duration::from_millis(remaining));
        }
        job
    }
}

/// Everything that is on the medium.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) sequence: u64,
    /// The latest changes, for readers that were away.
    pub(crate) recent: Recent,
    pub(crate) jobs: BTreeMap<JobId, JobEntry>,
    pub(crate) unfinished: BTreeSet<JobId>,
    /// Faults by disk and message: there is one of each.
    pub(crate) faults: BTreeMap<(DiskId, String), JobId>,
    /// Ended jobs in the order in which they go by themselves.
    pub(crate) due: BTreeSet<(Timestamp, JobId)>,
    pub(crate) disks: BTreeMap<DiskId, Arc<Disk>>,
    pub(crate) targets: BTreeMap<String, Arc<Target>>,
    pub(crate) mappings: BTreeMap<(String, u16), Arc<Mapping>>,
    pub(crate) reservations: BTreeMap<DiskId, StoredReservations>,
    pub(crate) users: BTreeMap<String, Arc<User>>,
    pub(crate) tokens: BTreeMap<String, Arc<Token>>,
    pub(crate) access_states: BTreeMap<(u16, Option<String>), StoredAccessState>,
    pub(crate) mode_pages: BTreeMap<DiskId, StoredModePages>,
    pub(crate) records: BTreeMap<String, String>,
    pub(crate) conditions: BTreeMap<DiskId, Arc<StoredCondition>>,
    pub(crate) snapshots: BTreeMap<SnapshotId, Arc<DiskSnapshot>>,
    /// Those that do not stand in the configuration.
    pub(crate) pools: BTreeMap<PoolId, Arc<PoolSettings>>,
    /// Those with which something is wrong.
    pub(crate) pool_health: BTreeMap<PoolId, Arc<PoolHealth>>,
    pub(crate) debris: BTreeMap<PathBuf, Debris>,
    /// What is still to be sent, by key.
    pub(crate) messages: BTreeMap<String, String>,
    /// Why the database cannot be written, while it cannot.
    pub(crate) store_down: Option<String>,
    /// What happened to the database when it was opened.
    pub(crate) alerts: Vec<CimError>,
}

impl State {
    /// The data path has to follow a change that a job ends with. Who began an operation is told of its end
    /// by the data path, and may begin the next one then: so that one goes on behind the end of its job.
    pub(crate) fn is_followed(&self, change: &Change) -> bool {
        if let Change::PutDisk(disk) = change {
            return self.disks.contains_key(&disk.id);
        }
        matches!(change, Change::PutMapping(_))
    }

    /// Makes a change visible, and tells what to tell subscribers.
    #[allow(clippy::too_many_lines, reason = "a table")]
    pub(crate) fn apply(&mut self, change: Change, now: Timestamp) -> Option<ChangeKind> {
        // It says of the changes beside it that they were made.
        if !is_generation(&change) {
            self.sequence += 1;
        }
        match change {
            Change::PutJob(record) => Some(self.put_job(*record, now)),
            Change::DeleteJob(id) => self.delete_job(id, now),
            Change::PutDisk(disk) => {
                let disk = Arc::new(*disk);
                let before = self.disks.insert(disk.id, disk.clone());
                Some(match before {
                    Some(_) => ChangeKind::DiskChanged(disk),
                    None => ChangeKind::DiskCreated(disk),
                })
            }
            Change::DeleteDisk(id) => {
                self.reservations.remove(&id);
                self.mode_pages.remove(&id);
                self.conditions.remove(&id);
                self.records.remove(&exposed_record(id));
                self.disks.remove(&id).map(ChangeKind::DiskDeleted)
            }
            Change::PutTarget(target) => {
                let target = Arc::new(target);
                let before = self.targets.insert(target.name.clone(), target.clone());
                Some(match before {
                    Some(_) => ChangeKind::TargetChanged(target),
                    None => ChangeKind::TargetCreated(target),
                })
            }
            Change::DeleteTarget(name) => self.targets.remove(&name).map(ChangeKind::TargetDeleted),
            Change::PutMapping(mapping) => {
                let mapping = Arc::new(mapping);
                self.mappings.insert((mapping.target.clone(), mapping.lun), mapping.clone());
                Some(ChangeKind::MappingCreated(mapping))
            }
            Change::DeleteMapping { target, lun } => {
                self.mappings.remove(&(target, lun)).map(ChangeKind::MappingDeleted)
            }
            Change::PutCondition(stored) => {
                let stored = Arc::new(stored);
                self.conditions.insert(stored.disk, stored.clone());
                Some(ChangeKind::ConditionChanged(stored))
            }
            Change::DeleteCondition(disk) => {
                self.conditions.remove(&disk).map(|_| ChangeKind::ConditionOver(disk))
            }
            Change::PutSnapshot(snapshot) => self.put_snapshot(Arc::new(snapshot)),
            Change::DeleteSnapshot(id) => {
                let gone = self.snapshots.remove(&id).filter(|it| !it.hidden);
                gone.map(ChangeKind::SnapshotDeleted)
            }
            Change::PutPool(pool) => {
                let pool = Arc::new(pool);
                let before = self.pools.insert(pool.id.clone(), pool.clone());
                Some(match before {
                    Some(_) => ChangeKind::PoolChanged(pool),
                    None => ChangeKind::PoolCreated(pool),
                })
            }
            Change::DeletePool(id) => self.pools.remove(&id).map(ChangeKind::PoolDeleted),
            Change::PutPoolHealth(health) => {
                let current = Arc::new(*health);
                let pool = current.pool.clone();
                let previous = self.pool_health.insert(pool.clone(), current.clone());
                Some(ChangeKind::PoolHealthChanged { pool, previous, current: Some(current) })
            }
            Change::DeletePoolHealth(pool) => {
                let previous = Some(self.pool_health.remove(&pool)?);
                Some(ChangeKind::PoolHealthChanged { pool, previous, current: None })
            }
            change @ (Change::PutReservations(_)
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
            | Change::PutMessage(_)
            | Change::DeleteMessage(_)
            | Change::PutDebris(_)
            | Change::DeleteDebris(_)) => {
                self.apply_silently(change);
                None
            }
        }
    }

    fn delete_job(&mut self, id: JobId, now: Timestamp) -> Option<ChangeKind> {
        let entry = self.jobs.remove(&id)?;
        self.unfinished.remove(&id);
        if let JobKind::DataPathFault(fault) = &entry.record.job.kind {
            self.faults.remove(&(fault.disk, fault.message_id.clone()));
        }
        if let Some(due) = entry.record.due() {
            self.due.remove(&(due, id));
        }
        Some(ChangeKind::JobDeleted(Arc::new(entry.view(now))))
    }

    fn put_snapshot(&mut self, snapshot: Arc<DiskSnapshot>) -> Option<ChangeKind> {
        let before = self.snapshots.insert(snapshot.id, snapshot.clone());
        // Which file it is in is nobody's business.
        match (before.filter(|it| !it.hidden), snapshot.hidden) {
            (None, false) => Some(ChangeKind::SnapshotCreated(snapshot)),
            (Some(before), true) => Some(ChangeKind::SnapshotDeleted(before)),
            (None, true) | (Some(_), false) => None,
        }
    }

    /// Changes that subscribers do not hear of.
    fn apply_silently(&mut self, change: Change) {
        match change {
            Change::PutReservations(stored) => {
                self.reservations.insert(stored.disk, stored);
            }
            Change::DeleteReservations(disk) => {
                self.reservations.remove(&disk);
            }
            Change::PutUser(user) => {
                self.users.insert(user.name.clone(), Arc::new(user));
            }
            Change::DeleteUser(name) => {
                self.users.remove(&name);
            }
            Change::PutToken(token) => {
                self.tokens.insert(token.name.clone(), Arc::new(token));
            }
            Change::DeleteToken(name) => {
                self.tokens.remove(&name);
            }
            Change::PutAccessState(stored) => {
                self.access_states.insert((stored.group, stored.target.clone()), stored);
            }
            Change::DeleteAccessState { group, target } => {
                self.access_states.remove(&(group, target));
            }
            Change::PutModePages(stored) => {
                self.mode_pages.insert(stored.disk, stored);
            }
            Change::PutRecord(record) => {
                self.records.insert(record.name, record.text);
            }
            Change::DeleteRecord(name) => {
                self.records.remove(&name);
            }
            Change::PutMessage(message) => {
                self.messages.insert(message.name, message.text);
            }
            Change::DeleteMessage(key) => {
                self.messages.remove(&key);
            }
            Change::PutDebris(debris) => {
                self.debris.insert(debris.path.clone(), debris);
            }
            Change::DeleteDebris(path) => {
                self.debris.remove(&path);
            }
            Change::PutJob(_)
            | Change::DeleteJob(_)
            | Change::PutDisk(_)
            | Change::DeleteDisk(_)
            | Change::PutSnapshot(_)
            | Change::DeleteSnapshot(_)
            | Change::PutPool(_)
            | Change::DeletePool(_)
            | Change::PutPoolHealth(_)
            | Change::DeletePoolHealth(_)
            | Change::PutTarget(_)
            | Change::DeleteTarget(_)
            | Change::PutMapping(_)
            | Change::DeleteMapping { .. }
            | Change::PutCondition(_)
            | Change::DeleteCondition(_) => {}
        }
    }

    fn put_job(&mut self, record: JobRecord, now: Timestamp) -> ChangeKind {
        let id = record.job.id;
        let record = Arc::new(record);
        let before = self.jobs.get(&id).cloned();
        if let JobKind::DataPathFault(fault) = &record.job.kind {
            self.faults.insert((fault.disk, fault.message_id.clone()), id);
        }
        let live = before.as_ref().map_or_else(Arc::default, |entry| entry.live.clone());
        let previous = before.map(|entry| {
            if let Some(due) = entry.record.due() {
                self.due.remove(&(due, id));
            }
            // What subscribers were told before, not what happens to be fresher in memory.
            Arc::new(entry.record.job.clone())
        });
        if record.job.state.is_terminal() {
            self.unfinished.remove(&id);
            live.reserved.store(0, Ordering::Relaxed);
        } else {
            self.unfinished.insert(id);
        }
        if let Some(due) = record.due() {
            self.due.insert((due, id));
        }
        let entry = JobEntry { record, live, text: Arc::default() };
        let current = Arc::new(entry.view(now));
        self.jobs.insert(id, entry);
        match previous {
            Some(previous) => ChangeKind::JobChanged { previous, current },
            None => ChangeKind::JobCreated(current),
        }
    }

    /// Everything, for somebody outside.
    pub(crate) fn snapshot(&self, now: Timestamp) -> Snapshot {
        let jobs = self.jobs.values().map(|entry| entry.view(now)).collect();
        Snapshot { jobs, ..self.snapshot_without_jobs() }
    }

    /// The same without jobs, of which there may be thousands.
    pub(crate) fn snapshot_without_jobs(&self) -> Snapshot {
        Snapshot {
            sequence: self.sequence,
            jobs: Vec::new(),
            disks: self.disks.values().map(|disk| Disk::clone(disk)).collect(),
            targets: self.targets.values().map(|target| Target::clone(target)).collect(),
            mappings: self.mappings.values().map(|mapping| Mapping::clone(mapping)).collect(),
            snapshots: self.visible_snapshots().map(|it| DiskSnapshot::clone(it)).collect(),
        }
    }

    /// The catalogue as changes that make it from nothing.
    pub(crate) fn catalogue(&self) -> Vec<Change> {
        let disks = self.disks.values().map(|disk| Change::PutDisk(Box::new(Disk::clone(disk))));
        let targets = self.targets.values().map(|target| Change::PutTarget(Target::clone(target)));
        let mappings =
            self.mappings.values().map(|mapping| Change::PutMapping(Mapping::clone(mapping)));
        let reservations = self.reservations.values().cloned().map(Change::PutReservations);
        let users = self.users.values().map(|user| Change::PutUser(User::clone(user)));
        let tokens = self.tokens.values().map(|token| Change::PutToken(Token::clone(token)));
        let states = self.access_states.values().cloned().map(Change::PutAccessState);
        let pages = self.mode_pages.values().cloned().map(Change::PutModePages);
        let records = self.records.iter().map(|(name, text)| {
            Change::PutRecord(StoredRecord { name: name.clone(), text: text.clone() })
        });
        let of_disks = reservations.chain(pages);
        let exposure = disks.chain(targets).chain(mappings).chain(of_disks).chain(states);
        let conditions = self.conditions.values();
        let conditions = conditions.map(|it| Change::PutCondition(StoredCondition::clone(it)));
        let snapshots = self.snapshots.values();
        let snapshots = snapshots.map(|it| Change::PutSnapshot(DiskSnapshot::clone(it)));
        let pools = self.pools.values().map(|it| Change::PutPool(PoolSettings::clone(it)));
        exposure
            .chain(pools)
            .chain(users)
            .chain(tokens)
            .chain(records)
            .chain(conditions)
            .chain(snapshots)
            .collect()
    }

    /// Everything as changes that make it from nothing.
    pub(crate) fn everything(&self) -> Vec<Change> {
        let jobs = self
            .jobs
            .values()
            .map(|entry| Change::PutJob(Box::new(JobRecord::clone(&entry.record))));
        let debris = self.debris.values().cloned().map(Change::PutDebris);
        let messages = self.stored_messages().into_iter().map(Change::PutMessage);
        self.catalogue().into_iter().chain(jobs).chain(debris).chain(messages).collect()
    }

    /// The job that works on a disk, if one does.
    pub(crate) fn claim(&self, disk: DiskId) -> Option<JobId> {
        self.claims().find(|(_, claim)| claim.disk == disk).map(|(job, _)| job)
    }

    /// The job that works on a disk and lets nobody else do so, if one does.
    pub(crate) fn exclusive_claim(&self, disk: DiskId) -> Option<JobId> {
        let claim = |claim: &Claim| claim.disk == disk && claim.exclusive;
        self.claims().find(|(_, it)| claim(it)).map(|(job, _)| job)
    }

    fn claims(&self) -> impl Iterator<Item = (JobId, Claim)> {
        let records = self.unfinished.iter().filter_map(|id| self.jobs.get(id));
        records.flat_map(|entry| {
            let id = entry.record.job.id;
            entry.record.claims().into_iter().map(move |claim| (id, claim))
        })
    }

    /// Snapshots of a disk.
    pub(crate) fn snapshots_of(&self, disk: DiskId) -> impl Iterator<Item = &Arc<DiskSnapshot>> {
        self.visible_snapshots().filter(move |snapshot| snapshot.disk == disk)
    }

    /// The snapshots that clients know.
    pub(crate) fn visible_snapshots(&self) -> impl Iterator<Item = &Arc<DiskSnapshot>> {
        self.snapshots.values().filter(|snapshot| !snapshot.hidden)
    }

    /// The job that reads a file, to make another of it or to check it.
    pub(crate) fn reader(&self, path: &Path) -> Option<JobId> {
        let records = self.unfinished.iter().filter_map(|id| self.jobs.get(id));
        let mut reading =
            records.filter(|entry| entry.record.plan.as_ref().is_some_and(|plan| plan.reads(path)));
        reading.next().map(|entry| entry.record.job.id)
    }

    /// Whether a disk is a LUN.
    pub(crate) fn is_mapped(&self, disk: DiskId) -> bool {
        self.mappings.values().any(|mapping| mapping.disk == disk)
    }

    /// Jobs that have not ended.
    pub(crate) fn unfinished_jobs(&self) -> impl Iterator<Item = &Job> {
        self.unfinished.iter().filter_map(|id| self.jobs.get(id)).map(|entry| &entry.record.job)
    }

    /// Whether a disk has that name, or an unfinished job is about to give it to one or take it
    /// from one that may yet come back.
    pub(crate) fn disk_name_taken(&self, name: &str) -> bool {
        self.disks_and_coming().any(|disk| disk.name == name)
    }

    /// The disks, those that unfinished jobs are about to make, and those that are being deleted and may
    /// yet come back.
    pub(crate) fn disks_and_coming(&self) -> impl Iterator<Item = &Disk> {
        let of_jobs = self.unfinished_jobs().filter_map(|job| {
            let deleted =
                if let JobKind::DeleteDisk { disk } = &job.kind { Some(&**disk) } else { None };
            deleted.or_else(|| job.kind.makes())
        });
        self.disks.values().map(|disk| &**disk).chain(of_jobs)
    }

    /// Bytes of disks that jobs other than `except` bring into a pool.
    pub(crate) fn moved_into(&self, pool: &PoolId, except: Option<JobId>) -> u64 {
        let jobs = self.unfinished.iter().filter(|id| Some(**id) != except);
        let plans = jobs.filter_map(|id| self.jobs.get(id)?.record.plan.as_ref());
        let into = plans.filter(|plan| plan.pool.as_ref() == Some(pool));
        into.map(|plan| plan.grows).fold(0, u64::saturating_add)
    }

    /// Bytes of a pool promised to jobs other than `except`.
    pub(crate) fn reserved(&self, pool: &PoolId, except: Option<JobId>) -> u64 {
        self.unfinished
            .iter()
            .filter(|id| Some(**id) != except)
            .filter_map(|id| self.jobs.get(id))
            .filter(|entry| entry.record.pool().as_ref() == Some(pool))
            .map(|entry| entry.live.reserved.load(Ordering::Relaxed))
            .fold(0, u64::saturating_add)
    }
}

/// The transaction that does `changes`.
pub(crate) fn batch(changes: &[Change]) -> Result<Batch, StoreError> {
    let mut batch = Batch::default();
    for change in changes {
        match change {
            Change::PutJob(record) => {
                batch.put(Tree::Jobs, record.job.id.uuid().as_bytes(), record)?;
            }
            Change::DeleteJob(id) => batch.delete(Tree::Jobs, id.uuid().as_bytes()),
            Change::PutDisk(disk) => batch.put(Tree::Disks, disk.id.uuid().as_bytes(), disk)?,
            Change::DeleteDisk(id) => {
                batch.delete(Tree::Disks, id.uuid().as_bytes());
                batch.delete(Tree::Reservations, id.uuid().as_bytes());
                batch.delete(Tree::ModePages, id.uuid().as_bytes());
                batch.delete(Tree::Conditions, id.uuid().as_bytes());
                batch.delete(Tree::Records, exposed_record(*id).as_bytes());
            }
            Change::PutTarget(target) => {
                batch.put(Tree::Targets, target.name.as_bytes(), target)?;
            }
            Change::DeleteTarget(name) => batch.delete(Tree::Targets, name.as_bytes()),
            Change::PutMapping(mapping) => {
                let key = mapping_key(&mapping.target, mapping.lun);
                batch.put(Tree::Mappings, &key, mapping)?;
            }
            Change::DeleteMapping { target, lun } => {
                batch.delete(Tree::Mappings, &mapping_key(target, *lun));
            }
            Change::PutReservations(stored) => {
                batch.put(Tree::Reservations, stored.disk.uuid().as_bytes(), stored)?;
            }
            Change::DeleteReservations(disk) => {
                batch.delete(Tree::Reservations, disk.uuid().as_bytes());
            }
            Change::PutUser(user) => batch.put(Tree::Users, user.name.as_bytes(), user)?,
            Change::DeleteUser(name) => batch.delete(Tree::Users, name.as_bytes()),
            Change::PutToken(token) => batch.put(Tree::Tokens, token.name.as_bytes(), token)?,
            Change::DeleteToken(name) => batch.delete(Tree::Tokens, name.as_bytes()),
            Change::PutAccessState(stored) => {
                let key = access_state_key(stored.group, stored.target.as_deref());
                batch.put(Tree::AccessStates, &key, stored)?;
            }
            Change::DeleteAccessState { group, target } => {
                batch.delete(Tree::AccessStates, &access_state_key(*group, target.as_deref()));
            }
            Change::PutModePages(stored) => {
                batch.put(Tree::ModePages, stored.disk.uuid().as_bytes(), stored)?;
            }
            Change::PutRecord(record) => {
                batch.put(Tree::Records, record.name.as_bytes(), record)?;
            }
            Change::DeleteRecord(name) => batch.delete(Tree::Records, name.as_bytes()),
            Change::PutCondition(stored) => {
                batch.put(Tree::Conditions, stored.disk.uuid().as_bytes(), stored)?;
            }
            Change::DeleteCondition(disk) => {
                batch.delete(Tree::Conditions, disk.uuid().as_bytes());
            }
            Change::PutSnapshot(snapshot) => {
                batch.put(Tree::Snapshots, snapshot.id.uuid().as_bytes(), snapshot)?;
            }
            Change::DeleteSnapshot(id) => batch.delete(Tree::Snapshots, id.uuid().as_bytes()),
            Change::PutMessage(message) => {
                batch.put(Tree::Messages, message.name.as_bytes(), message)?;
            }
            Change::DeleteMessage(key) => batch.delete(Tree::Messages, key.as_bytes()),
            Change::PutPool(pool) => batch.put(Tree::Pools, pool.id.0.as_bytes(), pool)?,
            Change::DeletePool(id) => batch.delete(Tree::Pools, id.0.as_bytes()),
            Change::PutPoolHealth(health) => {
                batch.put(Tree::PoolHealth, health.pool.0.as_bytes(), health)?;
            }
            Change::DeletePoolHealth(pool) => batch.delete(Tree::PoolHealth, pool.0.as_bytes()),
            Change::PutDebris(debris) => {
                batch.put(Tree::Debris, path_key(&debris.path), debris)?;
            }
            Change::DeleteDebris(path) => batch.delete(Tree::Debris, path_key(path)),
        }
    }
    Ok(batch)
}

fn mapping_key(target: &str, lun: u16) -> Vec<u8> {
    let mut key = target.as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(&lun.to_be_bytes());
    key
}

fn access_state_key(group: u16, target: Option<&str>) -> Vec<u8> {
    let mut key = group.to_be_bytes().to_vec();
    // No target has the empty name.
    key.extend_from_slice(target.unwrap_or_default().as_bytes());
    key
}

fn path_key(path: &Path) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())
}
