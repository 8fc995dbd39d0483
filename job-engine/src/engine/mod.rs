//! The engine: takes requests, runs jobs, keeps what must not be forgotten.

mod accounts;
mod changes;
mod checking;
mod concerned;
mod condition;
mod configuration;
mod control;
mod copying;
mod core;
mod disks;
mod events;
mod exposure;
mod figures;
mod health;
mod job_view;
mod masking;
mod moving;
mod notify;
mod open;
mod outbox;
mod overlays;
mod pace;
mod pools;
mod provisioning;
mod saved;
mod shared;
mod snapshots;
mod state;
mod stored;
mod worker;

use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use disk_image::Image;
use ipnet::IpNet;
use parking_lot::Mutex;

pub use accounts::AccountChange;
pub use changes::{ChangedBlocks, ChangedExtent};
pub use checking::Checks;
pub use concerned::Shown;
pub use condition::{Condition, holds as condition_holds, under};
pub use configuration::{Configuration, WantedTarget};
pub use copying::{CloneDisk, ImportDisk};
pub(crate) use core::Core;
pub use events::{BadEventPosition, EventPosition, Events};
pub(crate) use figures::CommitTimes;
pub use figures::{COMMIT_BOUNDS, FaultCount, JobCounts, StoreFigures};
pub use job_view::JobView;
pub use masking::{Expose, ExposeTo, ExposeUnit, Hide};
pub use moving::MoveDisk;
pub use outbox::Outbox;
pub(crate) use overlays::swept;
pub(crate) use pools::{Wish, find_pool};
pub use saved::{ImportError, Imported, import_state};
pub(crate) use shared::{Message, Shared};
pub use snapshots::{CreateSnapshots, Exposing};
pub(crate) use state::{Change, Debris, JobEntry, JobRecord, State};
pub(crate) use worker::{Failure, IfEnding, Interrupt, JobContext, remove_files};

use crate::catalogue::{
    AccessEntry, Disk, DiskSnapshot, Mapping, PoolLimits, PoolSettings, Target,
};
use crate::clock::{Clock, SystemClock};
use crate::datapath::{DataPath, NoDataPath};
use crate::error::{Cause, CimError, ObjectPaths, RequestError};
use crate::event::ChangeEvent;
use crate::faults::FaultReport;
use crate::id::{DiskId, JobId};
use crate::job::{
    Element, Job, JobSettings, KillJobResult, RequestKey, RequestStateChangeResult, RequestedState,
    Submission,
};
use crate::kinds::{CreateDisk, OperationRequest, OperationRunner};
use crate::parents::AllowedParents;
use crate::store::Store;

/// Where and how an engine works.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The data directory: lock, database, journal. Made if it does not exist.
    pub directory: PathBuf,
    /// Directory of the default pool. Made if it does not exist.
    pub default_pool: PathBuf,
    /// `CIM_ComputerSystem.Name`, for the object paths in errors.
    pub system_name: String,
    /// Jobs that run at the same time.
    pub max_workers: usize,
    /// Of these, those that work in one pool.
    pub max_workers_per_pool: usize,
    /// Bytes a second that all jobs together copy at most; may change later.
    pub bandwidth: Option<u64>,
    /// Jobs that copy give way while initiators are busy.
    pub back_off: bool,
    /// Bytes a second that each of them does all the same, if its medium lets it.
    pub least_bandwidth: Option<u64>,
    /// Jobs that have not ended, in all.
    pub max_unfinished_jobs: usize,
    /// Jobs that are kept after their end; beyond it the oldest go.
    pub max_ended_jobs: usize,
    /// What the space of the default pool may be used for.
    pub default_limits: PoolLimits,
    /// Other pools. Directories that do not exist are not made: they may not be mounted.
    pub pools: Vec<PoolSettings>,
    /// No job is accepted while the data directory's file system has fewer free bytes.
    pub min_free_bytes: u64,
    /// Directories, absolute and without links, that disks may be imported from and exported to.
    pub allowed_directories: Vec<PathBuf>,
    /// What has the disks open.
    pub data_path: Arc<dyn DataPath>,
    /// Who makes messages of changes, if somebody does.
    pub outbox: Option<Arc<dyn Outbox>>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
}

impl EngineConfig {
    /// Who opens the parents of what clients bring.
    pub(crate) fn parents_of_clients(&self) -> Arc<dyn disk_image::ParentOpener> {
        Arc::new(AllowedParents { directories: self.allowed_directories.clone() })
    }

    /// Defaults for a data directory: the pool is its `disks`.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Self {
            default_pool: directory.join("disks"),
            directory,
            system_name: "lund".to_owned(),
            max_workers: 4,
            max_workers_per_pool: 4,
            bandwidth: None,
            back_off: true,
            least_bandwidth: Some(4 << 20),
            max_unfinished_jobs: 1024,
            max_ended_jobs: 10_000,
            default_limits: PoolLimits::default(),
            pools: Vec::new(),
            min_free_bytes: 4 << 20,
            allowed_directories: Vec::new(),
            data_path: Arc::new(NoDataPath),
            outbox: None,
            clock: Arc::new(SystemClock),
        }
    }
}

/// Why the engine cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon uses the data directory.
    #[error("the data directory {} is in use by another daemon{}", directory.display(),
            pid.map_or_else(String::new, |pid| format!(" (process {pid})")))]
    InUse {
        /// The data directory.
        directory: PathBuf,
        /// The other daemon's process, as it wrote it into the lock file.
        pid: Option<u32>,
    },
    /// A directory or file cannot be made or read.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The database cannot be opened, and not because it is damaged.
    #[error("cannot open the database in {}: {reason}", path.display())]
    Store {
        /// The database.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The images that the data path has open: what a job does to one of them must go through it.
pub trait LiveImages: Send + Sync {
    /// The image of a disk, if it is open.
    fn image(&self, disk: &DiskId) -> Option<Arc<dyn Image>>;
}

/// A request for a new target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetRequest {
    /// An iSCSI name, or a short name that gets the default prefix.
    pub name: String,
    /// `TargetAlias`; may be empty.
    pub alias: String,
}

/// A change of who may use a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessChange {
    /// Everybody may.
    Open,
    /// These may, and nobody else: nobody at all, if there are none.
    Replace(Vec<AccessEntry>),
    /// These may too, or in another way than before. The first entry shuts everybody else out.
    Allow(AccessEntry),
    /// These may not; with the last entry, nobody may.
    Disallow {
        /// [`AccessEntry::initiator`] of the entry.
        initiator: Option<String>,
        /// [`AccessEntry::address`] of the entry.
        address: Option<IpNet>,
    },
}

/// A request to expose a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapRequest {
    /// The disk.
    pub disk: DiskId,
    /// The target's iSCSI name.
    pub target: String,
    /// The LUN; `None` takes the lowest free one.
    pub lun: Option<u16>,
}

/// Everything at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Number of the last change that it contains.
    pub sequence: u64,
    /// Jobs in the order of their submission.
    pub jobs: Vec<Job>,
    /// Disks in the order of their creation.
    pub disks: Vec<Disk>,
    /// Targets by name.
    pub targets: Vec<Target>,
    /// Mappings by target and LUN.
    pub mappings: Vec<Mapping>,
    /// Snapshots in the order of their creation.
    pub snapshots: Vec<DiskSnapshot>,
}

/// The engine. Methods that change something return when the change is on the medium **and** every
/// subscriber has seen it.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Opens the data directory, recovers what a crash left, and starts to work.
    ///
    /// # Errors
    /// See [`OpenError`]. A damaged database is no error: it is moved aside and a new one made
    /// from the journal; [`Engine::alerts`] tells.
    pub fn open(config: EngineConfig) -> Result<Arc<Self>, OpenError> {
        let foundation = open::open_directory(&config)?;
        Self::start(config, foundation)
    }

    /// Works on a store of the caller's, without lock and journal: for tests.
    ///
    /// # Errors
    /// See [`OpenError`]; a damaged store is one.
    pub fn open_with_store(
        config: EngineConfig,
        store: Box<dyn Store>,
    ) -> Result<Arc<Self>, OpenError> {
        let foundation = open::open_store(&config, store)?;
        Self::start(config, foundation)
    }

    fn start(config: EngineConfig, foundation: open::Foundation) -> Result<Arc<Self>, OpenError> {
        let open::Foundation { state, store, journal, lock } = foundation;
        let (sender, receiver) = channel();
        let waker = sender.clone();
        config.clock.on_jump(Box::new(move || {
            let _ = waker.send(Message::Wake);
        }));
        let path = config.directory.clone();
        crate::checksums::sweep(&config.directory, |id| state.is_image(id));
        if let Some(outbox) = &config.outbox {
            outbox.open(state.stored_records(), state.stored_messages());
        }
        let shared = Shared::new(config, state, sender);
        let core = Core::new(shared.clone(), store, journal, lock);
        let engine = Arc::new(Self { shared, thread: Mutex::new(None) });
        if let Some(outbox) = &engine.shared.config.outbox {
            outbox.engine(Arc::downgrade(&engine));
        }
        let thread = std::thread::Builder::new()
            .name("lund-jobs".to_owned())
            .spawn(move || core.run(&receiver))
            .map_err(|source| OpenError::Io { operation: "start a thread for", path, source })?;
        *engine.thread.lock() = Some(thread);
        Ok(engine)
    }

    /// Stops at the next step boundaries and closes the database. Jobs go on at the next start.
    /// Every request from now on is refused; reading goes on to work.
    pub fn shutdown(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        let _ = self.shared.sender.send(Message::Stop);
        let thread = self.thread.lock().take();
        // A subscriber that drops the last handle must not wait for the thread that waits for it.
        let calls_subscribers =
            self.shared.delivery.lock().thread == Some(std::thread::current().id());
        if let Some(thread) = thread
            && !calls_subscribers
            // Nor the thread itself, which may be what an outbox looks at the engine from.
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the job engine's thread panicked");
        }
        // He holds what holds the engine.
        *self.shared.runner.lock() = None;
    }

    /// Submits the creation of a disk. Everything that can be checked at once is checked now;
    /// capacity is the job's to find out.
    ///
    /// # Errors
    /// `BadName`, `NameInUse`, `BadSize`, `NotFound` (the pool), `CouldNotStart`,
    /// `StoreNearlyFull`, `StoreUnavailable`, `ShuttingDown`.
    pub fn create_disk(&self, request: CreateDisk) -> Result<JobId, RequestError> {
        self.create_disk_with(request, Submission::default())
    }

    /// [`Engine::create_disk`], saying who submits the job and how it shall run.
    ///
    /// # Errors
    /// As [`Engine::create_disk`].
    pub fn create_disk_with(
        &self,
        request: CreateDisk,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared.request(move |core| core.submit_create(request, submission))
    }

    /// Submits the deletion of a disk and its file.
    ///
    /// # Errors
    /// `DiskInUse` for a disk that is mapped or that a job works on, `NotFound`, `CouldNotStart`,
    /// `StoreNearlyFull`, `StoreUnavailable`, `ShuttingDown`.
    pub fn delete_disk(&self, disk: DiskId) -> Result<JobId, RequestError> {
        self.delete_disk_with(disk, Submission::default())
    }

    /// [`Engine::delete_disk`], saying who submits the job and how it shall run.
    ///
    /// # Errors
    /// As [`Engine::delete_disk`].
    pub fn delete_disk_with(
        &self,
        disk: DiskId,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared.request(move |core| core.submit_delete(disk, submission))
    }

    /// All jobs in the order of their submission, faults of the data path among them.
    #[must_use]
    pub fn jobs(&self) -> Vec<Job> {
        self.job_views().iter().map(|job| Job::clone(job)).collect()
    }

    /// The same, without copies of those that have ended.
    #[must_use]
    pub fn job_views(&self) -> Vec<JobView> {
        self.jobs_where((None, usize::MAX, false), |_| true)
    }

    /// Jobs that are wanted, so many at most: those behind `after` in the order of their submission,
    /// or the newest ones first. What it costs goes by how many those are.
    #[must_use]
    pub fn jobs_where(
        &self,
        (after, limit, newest): (Option<JobId>, usize, bool),
        wanted: impl Fn(&Job) -> bool,
    ) -> Vec<JobView> {
        let now = self.shared.now();
        let first = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.shared.state.lock();
        let all = state.jobs.range((first, Bound::Unbounded)).map(|(_, entry)| entry);
        let found = all.filter(|entry| wanted(&entry.record.job));
        // The lock is for decisions about jobs: of thousands, it is not held for all their texts.
        let entries: Vec<JobEntry> = if newest {
            found.rev().take(limit).cloned().collect()
        } else {
            found.take(limit).cloned().collect()
        };
        drop(state);
        entries.into_iter().map(|entry| JobView::new(entry, now)).collect()
    }

    /// A job as it is now.
    #[must_use]
    pub fn job(&self, id: &JobId) -> Option<Job> {
        let now = self.shared.now();
        self.shared.state.lock().jobs.get(id).map(|entry| entry.view(now))
    }

    /// The job that a client's request started, and what that request was.
    #[must_use]
    pub fn job_of_request(&self, owner: &str, key: &str) -> Option<(JobId, RequestKey)> {
        let state = self.shared.state.lock();
        // The newest first: it is most likely to be asked for.
        state.jobs.iter().rev().find_map(|(id, entry)| {
            let request = entry.record.request.as_ref()?;
            let same = request.key == key && entry.record.job.owner == owner;
            same.then(|| (*id, request.clone()))
        })
    }

    /// `GetErrors`: empty while nothing went wrong; the first is `GetError`'s.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn errors(&self, id: &JobId) -> Result<Vec<CimError>, RequestError> {
        let errors =
            self.shared.state.lock().jobs.get(id).map(|entry| entry.record.job.errors.clone());
        errors.ok_or_else(|| {
            let cause = Cause::NotFound { what: "job".to_owned(), name: id.to_string() };
            self.shared.refuse(cause, None)
        })
    }

    /// Submits the expansion of a disk, which may be mapped: a job.
    ///
    /// # Errors
    /// `NotFound`, `DiskInUse` while another job works on it, `BadSize`, `CouldNotStart`,
    /// `StoreNearlyFull`, `StoreUnavailable`, `ShuttingDown`.
    pub fn expand_disk(&self, disk: DiskId, size_bytes: u64) -> Result<JobId, RequestError> {
        self.expand_disk_with(disk, size_bytes, Submission::default())
    }

    /// [`Engine::expand_disk`] with an owner, a priority or a start time.
    ///
    /// # Errors
    /// As [`Engine::expand_disk`].
    pub fn expand_disk_with(
        &self,
        disk: DiskId,
        size_bytes: u64,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared.request(move |core| core.submit_expand(disk, size_bytes, submission))
    }

    /// Waits until the job has ended, `timeout` has passed or the engine stops; the job as it is
    /// then, `None` if there is no such job (any more).
    #[must_use]
    pub fn wait(&self, id: &JobId, timeout: Duration) -> Option<Job> {
        self.shared.wait_until(Some(timeout), |state| {
            let ended = |job: &Job| job.state.is_terminal();
            let waits = state.jobs.get(id).is_some_and(|entry| !ended(&entry.record.job));
            (!waits || self.shared.is_stopping()).then_some(())
        });
        self.job(id)
    }

    /// `RequestStateChange`. `timeout` is `None` or zero; anything else is not supported. `by` is
    /// who asks, for the error that a cancelled job shows.
    #[must_use]
    pub fn request_state_change(
        &self,
        id: &JobId,
        state: RequestedState,
        timeout: Option<Duration>,
        by: &str,
    ) -> RequestStateChangeResult {
        if timeout.is_some_and(|timeout| !timeout.is_zero()) {
            return RequestStateChangeResult::TimeoutNotSupported;
        }
        let (id, by) = (*id, by.to_owned());
        let answer = self.shared.request(move |core| Ok(core.request_state(id, state, &by)));
        answer.unwrap_or(RequestStateChangeResult::Failed)
    }

    /// `KillJob`: `delete_on_kill` replaces `DeleteOnCompletion`.
    #[must_use]
    pub fn kill(&self, id: &JobId, delete_on_kill: bool, by: &str) -> KillJobResult {
        let (id, by) = (*id, by.to_owned());
        let answer = self.shared.request(move |core| Ok(core.kill_job(id, delete_on_kill, &by)));
        answer.unwrap_or(KillJobResult::Failed)
    }

    /// Changes the writable properties of a job.
    ///
    /// # Errors
    /// `NotFound`, `BadValue`, `StoreUnavailable`, `ShuttingDown`.
    pub fn modify_job(&self, id: &JobId, settings: JobSettings) -> Result<(), RequestError> {
        let id = *id;
        self.shared.request(move |core| core.modify(id, settings))
    }

    /// Bytes a second that all jobs together copy at most.
    #[must_use]
    pub fn bandwidth(&self) -> Option<u64> {
        let bandwidth = self.shared.bandwidth.load(Ordering::Relaxed);
        (bandwidth > 0).then_some(bandwidth)
    }

    /// Changes [`Engine::bandwidth`], for jobs that run too, until the engine is closed.
    pub fn set_bandwidth(&self, bytes_per_second: Option<u64>) {
        let bandwidth = bytes_per_second.map_or(0, |rate| rate.max(1));
        self.shared.bandwidth.store(bandwidth, Ordering::Relaxed);
        *self.shared.turns.lock() = pace::Turns::default();
        let _state = self.shared.state.lock();
        self.shared.changed.notify_all();
    }

    /// Removes a job that has ended, or clears a fault.
    ///
    /// # Errors
    /// `NotFound`, `JobNotEnded`, `StoreUnavailable`, `ShuttingDown`.
    pub fn delete_job(&self, id: &JobId) -> Result<(), RequestError> {
        let id = *id;
        self.shared.request(move |core| core.delete(id))
    }

    /// All targets by name.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        self.shared.state.lock().targets.values().map(|target| Target::clone(target)).collect()
    }

    /// Everything at one moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let now = self.shared.now();
        self.shared.state.lock().snapshot(now)
    }

    /// All of that but jobs, of which there may be thousands, at one moment.
    #[must_use]
    pub fn snapshot_without_jobs(&self) -> Snapshot {
        self.shared.state.lock().snapshot_without_jobs()
    }

    /// Makes a target.
    ///
    /// # Errors
    /// `BadName`, `BadValue` (the alias), `NameInUse`, `LimitReached`, `StoreUnavailable`,
    /// `ShuttingDown`.
    pub fn create_target(&self, request: TargetRequest) -> Result<Target, RequestError> {
        self.shared.request(move |core| core.create_target(request))
    }

    /// Changes who may use a target, for sessions that are there too; the target as it is then.
    ///
    /// # Errors
    /// `NotFound` (target or entry), `BadValue`, `LimitReached`, `StoreUnavailable`,
    /// `ShuttingDown`.
    pub fn change_access(&self, name: &str, change: AccessChange) -> Result<Target, RequestError> {
        let name = name.to_owned();
        self.shared.request(move |core| core.change_access(&name, change))
    }

    /// Has writes of initiators to a disk refused, or not any more. Initiators that may not write
    /// any more do not when this returns.
    ///
    /// # Errors
    /// `NotFound`, `DiskInUse` while a job works on the disk, `StoreUnavailable`, `ShuttingDown`.
    pub fn set_read_only(&self, disk: DiskId, read_only: bool) -> Result<Arc<Disk>, RequestError> {
        self.shared.request(move |core| core.set_read_only(disk, read_only))
    }

    /// Removes a target by its iSCSI name.
    ///
    /// # Errors
    /// `NotFound`, `TargetInUse` while disks are mapped to it, `StoreUnavailable`, `ShuttingDown`.
    pub fn delete_target(&self, name: &str) -> Result<(), RequestError> {
        let name = name.to_owned();
        self.shared.request(move |core| core.delete_target(&name))
    }

    /// Exposes a disk as a LUN of a target.
    ///
    /// # Errors
    /// `NotFound` (disk or target), `DiskInUse` while a job works on the disk, `NameInUse` (the
    /// LUN, or the disk in this target), `BadValue` (the LUN), `LimitReached`,
    /// `StoreUnavailable`, `ShuttingDown`.
    pub fn map(&self, request: MapRequest) -> Result<Mapping, RequestError> {
        self.shared.request(move |core| core.map(request))
    }

    /// Takes a LUN out of a target.
    ///
    /// # Errors
    /// `NotFound`, `StoreUnavailable`, `ShuttingDown`.
    pub fn unmap(&self, target: &str, lun: u16) -> Result<(), RequestError> {
        let target = target.to_owned();
        self.shared.request(move |core| core.unmap(&target, lun))
    }

    /// Who carries out operations on disks that are in use. Those that were begun before wait for
    /// him.
    pub fn set_operation_runner(&self, runner: Arc<dyn OperationRunner>) {
        *self.shared.runner.lock() = Some(runner);
        let _ = self.shared.sender.send(Message::Wake);
    }

    /// Begins an operation on a disk: durable when it returns, and its condition with it. Does not
    /// wait for subscribers, as [`Engine::save_reservations`] does not.
    ///
    /// # Errors
    /// `NotFound`, `DiskInUse` while a job works on the disk, `CouldNotStart`, `StoreNearlyFull`,
    /// `StoreUnavailable`, `ShuttingDown`.
    pub fn begin_operation(
        &self,
        disk: DiskId,
        request: OperationRequest,
    ) -> Result<JobId, RequestError> {
        if self.shared.is_stopping() {
            return Err(self.shared.refuse(Cause::ShuttingDown, None));
        }
        let done = self.shared.call(move |core| core.submit_operation(disk, request));
        done.unwrap_or_else(|| Err(self.shared.refuse(Cause::ShuttingDown, None)))
    }

    /// What stands between a disk and its initiators, if anything does.
    #[must_use]
    pub fn condition(&self, disk: &DiskId) -> Option<Vec<u8>> {
        let state = self.shared.state.lock();
        state.conditions.get(disk).map(|stored| stored.condition.clone())
    }

    /// Takes away what a failed operation left between a disk and its initiators. Does not wait
    /// for subscribers.
    ///
    /// # Errors
    /// `DiskInUse` while a job works on the disk, `StoreUnavailable`, `ShuttingDown`.
    pub fn clear_condition(&self, disk: DiskId) -> Result<(), RequestError> {
        let done = self.shared.call(move |core| core.clear_condition(disk));
        done.unwrap_or_else(|| Err(self.shared.refuse(Cause::ShuttingDown, None)))
    }

    /// Takes in an error of the data path. Never waits for the medium: may be called anywhere.
    /// Errors with one cause on one disk become one record, a failed job that counts.
    pub fn record_fault(&self, report: FaultReport) {
        self.shared.record_fault(report);
    }

    /// Reports of faults that were lost because too many different ones came at once.
    #[must_use]
    pub fn faults_dropped(&self) -> u64 {
        self.shared.faults_dropped.load(Ordering::Relaxed)
    }

    /// Tells jobs where to find the images that are in use; before the first is.
    pub fn set_live_images(&self, live: Arc<dyn LiveImages>) {
        *self.shared.live.write() = Some(live);
    }

    /// Calls `subscriber` for every change after the returned snapshot, in order, on one thread
    /// of the engine's. The subscriber may call the engine, but must not wait for another thread
    /// that does: requests come back only when subscribers have seen their changes.
    ///
    /// # Errors
    /// `CouldNotStart` if there is no thread for it, `ShuttingDown`.
    pub fn subscribe(
        &self,
        subscriber: Box<dyn Fn(&ChangeEvent) + Send + Sync>,
    ) -> Result<Snapshot, RequestError> {
        self.shared.request(move |core| {
            core.subscribe(subscriber).map_err(|error| {
                core.refuse(Cause::CouldNotStart { reason: error.to_string() }, None)
            })
        })
    }

    /// What operators should know about the engine itself: a replaced database, a database that
    /// cannot be written now, a pool that is not there or nearly full. Asks file systems.
    #[must_use]
    pub fn alerts(&self) -> Vec<CimError> {
        let pools = self.pool_causes().into_iter().map(|(pool, cause)| {
            cause.to_cim_error(Some(&Element::Pool(pool)), &self.shared.paths)
        });
        let mut alerts = self.own_alerts();
        alerts.extend(pools);
        alerts
    }

    /// Makes object paths as they stand in errors.
    #[must_use]
    pub fn object_paths(&self) -> &ObjectPaths {
        &self.shared.paths
    }

    /// The object path of an element.
    #[must_use]
    pub fn object_path(&self, element: &Element) -> String {
        self.shared.paths.of(element)
    }

    /// How it was configured.
    #[must_use]
    pub fn config(&self) -> &EngineConfig {
        &self.shared.config
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shutdown();
    }
}

#[cfg(test)]
mod tests;
