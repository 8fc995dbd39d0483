//! One function a verb, without HTTP. All of them may wait for the medium.

mod access;
mod chap;
mod configuration;
mod copying;
mod current;
mod events;
mod job_row;
mod jobs;
mod limits;
mod pools;
mod portal_group;
mod session;
mod snapshots;
mod suggest;
mod view;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use job_engine::{
    BlockLength, Cause, CreateDisk, DiskId, Engine, JobCounts, JobId, MapRequest, PoolId,
    StoreFigures, Submission, TargetRequest,
};

use crate::api;
use crate::otlp;
use crate::rest::{MAX_READERS, Wanted};

pub use self::configuration::{Kept, KeptRecords};
pub use self::current::lasting;
pub use self::events::{Event, Found};
pub(crate) use self::job_row::JobRow;
pub use self::jobs::submission;
pub use self::limits::LimitOf;
pub use self::portal_group::AccessStateRefusal;
pub(crate) use self::session::SessionFigures;
pub use self::session::{
    CacheCounters, SessionRequest, Times, TotalCounters, Totals, Trace, TraceRefusal, UnitCounters,
};

/// What the management needs to know of the data path.
pub trait Host: Send + Sync {
    /// The sessions that are there now.
    fn sessions(&self) -> Vec<api::Session>;
    /// Counts over all sessions that there are and were since the start.
    fn totals(&self) -> TotalCounters;
    /// CHECK CONDITIONs since the start, by sense key.
    fn senses(&self) -> [u64; 16];
    /// Bytes of images that are pinned in memory.
    fn pinned_bytes(&self) -> u64;
    /// Counts of the disks that are exposed, by their identifiers.
    fn units(&self) -> Vec<UnitCounters>;
    /// A session with everything that is known of it.
    fn session(&self, tsih: u16) -> Option<api::SessionDetail>;
    /// How long commands of a session took, by what they do.
    fn session_times(&self, tsih: u16) -> Vec<(&'static str, Times)> {
        let _ = tsih;
        Vec::new()
    }
    /// What became of traces; none if nobody collects them.
    fn traces(&self) -> Option<otlp::Figures> {
        None
    }
    /// What sessions begin their negotiation with.
    fn session_parameters(&self) -> api::SessionParameters;
    /// Asks the initiator of a session for something, or ends it; false if it is not there.
    fn ask(&self, tsih: u16, request: SessionRequest) -> bool;
    /// Takes a trace of a session, from now on.
    ///
    /// # Errors
    /// There is no such session, or too many traces are taken.
    fn trace(&self, tsih: u16) -> std::result::Result<Trace, TraceRefusal>;
    /// Addresses at which initiators are served.
    fn portals(&self) -> Vec<String>;
    /// The portal groups, with the states of their ports.
    fn portal_groups(&self) -> Vec<api::PortalGroup>;
    /// Brings a group into a state, or into the one that is configured; for one target, or for
    /// all.
    ///
    /// # Errors
    /// Nothing has changed then.
    fn set_access_state(
        &self,
        group: u16,
        target: Option<&str>,
        state: Option<api::AccessState>,
    ) -> std::result::Result<(), AccessStateRefusal>;
    /// The accounts with which initiators prove who they are.
    fn chap_accounts(&self) -> Vec<api::ChapAccount>;
    /// See [`Service::set_chap_account`].
    ///
    /// # Errors
    /// Nothing has changed then.
    fn set_chap_account(
        &self,
        user: &str,
        request: &api::SetChapAccount,
    ) -> Result<api::ChapAccount>;
    /// See [`Service::delete_chap_account`].
    ///
    /// # Errors
    /// Nothing has changed then.
    fn delete_chap_account(&self, user: &str, open: bool) -> Result<()>;
    /// Limits of disks and initiators.
    fn limits(&self) -> Vec<(LimitOf, api::SetLimit)>;
    /// Sets a limit, or takes it away.
    ///
    /// # Errors
    /// Nothing has changed then.
    fn set_limit(&self, of: &LimitOf, limit: Option<api::SetLimit>) -> Result<()>;
    /// Makes limits and CHAP accounts what is wanted. `commit` makes the records durable, and
    /// whatever shall be in the same transaction; `false`: nothing was to be done, and nothing is
    /// put in force. What protects targets is in force before that.
    ///
    /// # Errors
    /// What is wrong with it, or why `commit` refused; nothing has changed then.
    fn configure(
        &self,
        wanted: &Kept,
        commit: &mut dyn FnMut(KeptRecords) -> Result<bool>,
    ) -> Result<()>;
    /// What the daemon was started with.
    fn settings(&self) -> Vec<api::Setting>;
    /// Whether portal groups have access states.
    fn has_access_states(&self) -> bool;
    /// Puts in force the access states that the engine has.
    fn reload_access_states(&self);
    /// The iSNS server that is kept informed, if there is one.
    fn isns(&self) -> Option<api::Isns>;
    /// Whether initiators are let in.
    fn state(&self) -> api::NodeState;
    /// Lets nobody in any more and asks all initiators to log out. Waits for that, with a limit.
    fn drain(&self);
    /// Lets initiators in again. False if the daemon is stopping.
    fn resume(&self) -> bool;
}

/// Why a request was refused, in terms that a client can act upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Something in the request is wrong.
    Invalid,
    /// What it is about does not exist.
    NotFound,
    /// It contradicts what is there.
    Conflict,
    /// There is no room for it.
    NoSpace,
    /// Not now.
    Unavailable,
    /// It is for a state that is over.
    Changed,
    /// Our fault.
    Internal,
}

/// A refused request.
#[derive(Debug, Clone)]
pub struct ServiceError {
    /// Its kind.
    pub refusal: Refusal,
    /// What is wrong.
    pub problem: Box<api::Problem>,
}

impl ServiceError {
    /// Without a `CIM_Error`.
    pub fn new(refusal: Refusal, message: impl Into<String>) -> Self {
        let problem = api::Problem { message: message.into(), error: None };
        Self { refusal, problem: Box::new(problem) }
    }
}

impl From<job_engine::RequestError> for ServiceError {
    fn from(error: job_engine::RequestError) -> Self {
        let cim_error = error.cim_error().clone();
        let problem = api::Problem { message: cim_error.message.clone(), error: Some(cim_error) };
        Self { refusal: refusal(error.cause()), problem: Box::new(problem) }
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the enum of another crate may grow")]
fn refusal(cause: &Cause) -> Refusal {
    match cause {
        Cause::ChangedMeanwhile => Refusal::Changed,
        Cause::NotFound { .. } => Refusal::NotFound,
        Cause::NameInUse { .. }
        | Cause::DiskInUse { .. }
        | Cause::TargetInUse { .. }
        | Cause::PoolInUse { .. }
        | Cause::LastAdministrator { .. }
        | Cause::JobNotEnded { .. }
        | Cause::InvalidTransition { .. } => Refusal::Conflict,
        Cause::BadName { .. }
        | Cause::BadSize { .. }
        | Cause::BadValue { .. }
        | Cause::BadFormat { .. } => Refusal::Invalid,
        Cause::FileExists { .. } | Cause::ImageLocked { .. } => Refusal::Conflict,
        Cause::Missing { .. } => Refusal::NotFound,
        Cause::OutOfSpace { .. } | Cause::LimitReached { .. } | Cause::StoreNearlyFull { .. } => {
            Refusal::NoSpace
        }
        Cause::PoolUnavailable { .. }
        | Cause::StoreUnavailable { .. }
        | Cause::ShuttingDown
        | Cause::CouldNotStart { .. } => Refusal::Unavailable,
        _ => Refusal::Internal,
    }
}

/// What every function gives back.
pub type Result<T> = std::result::Result<T, ServiceError>;

/// The service.
pub struct Service {
    engine: Arc<Engine>,
    host: Arc<dyn Host>,
    /// Told when there are events, once somebody follows them.
    followed: Mutex<Option<watch::Sender<()>>>,
    readers: Arc<Semaphore>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl Service {
    /// Over an engine and a data path.
    #[must_use]
    pub fn new(engine: Arc<Engine>, host: Arc<dyn Host>) -> Self {
        let readers = Arc::new(Semaphore::new(MAX_READERS));
        Self { engine, host, followed: Mutex::new(None), readers }
    }

    /// Places of those that follow the events.
    pub(crate) fn readers(&self) -> Arc<Semaphore> {
        self.readers.clone()
    }

    /// About the daemon.
    #[must_use]
    pub fn status(&self) -> api::Status {
        api::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: self.host.state(),
            portals: self.host.portals(),
            isns: self.host.isns(),
            alerts: self.engine.alerts(),
        }
    }

    /// A saved state: everything that the daemon knows, with all secrets.
    ///
    /// # Errors
    /// [`Refusal::Internal`]: it has no text form.
    pub fn saved_state(&self) -> Result<String> {
        self.engine
            .export_state()
            .map_err(|error| ServiceError::new(Refusal::Internal, error.to_string()))
    }

    /// What the daemon runs with.
    #[must_use]
    pub fn settings(&self) -> Vec<api::Setting> {
        let mut settings = self.host.settings();
        for setting in settings.iter_mut().filter(|it| it.key == "jobs.bandwidth") {
            setting.value = self.engine.bandwidth().into();
        }
        settings
    }

    /// Lets nobody in any more and has all sessions end; what is left then.
    #[must_use]
    pub fn drain(&self) -> api::Drained {
        self.host.drain();
        self.drained()
    }

    /// Lets initiators in again.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`]: the daemon is stopping.
    pub fn resume(&self) -> Result<api::Drained> {
        if self.host.resume() {
            return Ok(self.drained());
        }
        Err(ServiceError::new(Refusal::Unavailable, "the daemon is stopping"))
    }

    fn drained(&self) -> api::Drained {
        api::Drained { state: self.host.state(), sessions: self.host.sessions().len() }
    }

    /// All disks.
    #[must_use]
    pub fn disks(&self) -> Vec<api::Disk> {
        self.disks_wanted(&Wanted::default())
    }

    /// Disks as far as they are wanted: in the order of their identifiers, and one more than `limit`.
    pub(crate) fn disks_wanted(&self, wanted: &Wanted) -> Vec<api::Disk> {
        let is = |name, value: &str| wanted.value(name).is_none_or(|wanted| wanted == value);
        let matches = |disk: &job_engine::Disk, mapped: bool| {
            is("name", &disk.name)
                && is("pool", &disk.pool.to_string())
                && is("exposed", if mapped { "true" } else { "false" })
        };
        let (after, limit) = wanted.range::<DiskId>();
        let found = self.engine.disks_where(after, limit, matches);
        found.iter().map(|(disk, mappings)| self.view_of(disk, mappings)).collect()
    }

    /// A disk by name or identifier.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn disk(&self, key: &str) -> Result<api::Disk> {
        let disk = self.find_disk(key)?;
        Ok(self.view_of(&disk, &self.engine.mappings_of(disk.id)))
    }

    fn view_of(&self, disk: &job_engine::Disk, mappings: &[Arc<job_engine::Mapping>]) -> api::Disk {
        let parent = self.engine.visible_snapshot(disk.parent).map(|it| it.to_string());
        api::Disk { parent, ..view::disk(disk, mappings.iter().map(|it| &**it)) }
    }

    /// A disk without asking its file system.
    fn lasting_disk(&self, key: &str) -> Result<api::Disk> {
        let disk = self.find_disk(key)?;
        let mappings = self.engine.mappings_of(disk.id);
        Ok(view::lasting_disk(&disk, mappings.iter().map(|it| &**it)))
    }

    fn find_disk(&self, key: &str) -> Result<Arc<job_engine::Disk>> {
        self.engine.find_disk(key).ok_or_else(|| self.no_such_disk(key))
    }

    /// Submits the creation of a disk.
    ///
    /// # Errors
    /// Everything but [`Refusal::Internal`].
    pub fn create_disk(&self, request: api::CreateDisk, by: Submission) -> Result<api::Job> {
        let block_length = match request.block_length {
            None => BlockLength::default(),
            Some(bytes) => BlockLength::try_from(bytes)
                .map_err(|reason| ServiceError::new(Refusal::Invalid, reason))?,
        };
        let create = CreateDisk {
            name: request.name,
            size_bytes: request.size_bytes,
            block_length,
            provisioning: request.provisioning.unwrap_or_default(),
            format: request.format.unwrap_or_default(),
            pool: request.pool.as_deref().map(PoolId::parse),
        };
        let pool = request.pool.unwrap_or_default();
        let made = self.engine.create_disk_with(create, by);
        let id = made.map_err(|error| self.near_pool(error, &pool))?;
        self.job_by_id(&id)
    }

    /// Submits the deletion of a disk.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Conflict`], [`Refusal::Unavailable`].
    pub fn delete_disk(&self, key: &str, by: Submission) -> Result<api::Job> {
        let disk = self.find_disk(key)?;
        let id = self.engine.delete_disk_with(disk.id, by)?;
        self.job_by_id(&id)
    }

    /// Changes what can be changed at once of a disk, which may be exposed; the disk as it is then.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Conflict`], [`Refusal::Unavailable`].
    pub fn change_disk(&self, key: &str, request: &api::ChangeDisk) -> Result<api::Disk> {
        let disk = self.find_disk(key)?;
        if let Some(read_only) = request.read_only {
            self.engine.set_read_only(disk.id, read_only)?;
        }
        self.disk(&disk.id.to_string())
    }

    /// Submits the expansion of a disk, which may be exposed.
    ///
    /// # Errors
    /// Everything but [`Refusal::Internal`].
    pub fn expand_disk(
        &self,
        key: &str,
        request: &api::ExpandDisk,
        by: Submission,
    ) -> Result<api::Job> {
        let disk = self.find_disk(key)?;
        let id = self.engine.expand_disk_with(disk.id, request.size_bytes, by)?;
        self.job_by_id(&id)
    }

    /// All targets.
    #[must_use]
    pub fn targets(&self) -> Vec<api::Target> {
        let snapshot = self.engine.snapshot_without_jobs();
        let sessions = self.host.sessions();
        view::Targets::new(&snapshot, &sessions).all()
    }

    /// A target by its iSCSI name or the short one.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn target(&self, key: &str) -> Result<api::Target> {
        let name = job_engine::catalogue::default_target_name(key);
        let missing =
            || ServiceError::new(Refusal::NotFound, format!("there is no target `{name}`"));
        let (snapshot, sessions) = (self.engine.snapshot_without_jobs(), self.host.sessions());
        let found = view::Targets::new(&snapshot, &sessions).find(&name);
        found.ok_or_else(|| self.near_target(missing(), key))
    }

    /// A target without its sessions.
    fn lasting_target(&self, key: &str) -> Option<api::Target> {
        let name = job_engine::catalogue::default_target_name(key);
        let snapshot = self.engine.snapshot_without_jobs();
        view::Targets::new(&snapshot, &[]).find(&name)
    }

    /// Makes a target.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], [`Refusal::Conflict`], [`Refusal::NoSpace`],
    /// [`Refusal::Unavailable`].
    pub fn create_target(&self, request: api::CreateTarget) -> Result<api::Target> {
        let api::CreateTarget { name, alias } = request;
        let target = self.engine.create_target(TargetRequest { name, alias })?;
        self.target(&target.name)
    }

    /// Removes a target without LUNs.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Conflict`], [`Refusal::Unavailable`].
    pub fn delete_target(&self, key: &str) -> Result<()> {
        let name = job_engine::catalogue::default_target_name(key);
        self.engine.delete_target(&name).map_err(|error| self.near_target(error, key))
    }

    /// Exposes a disk; the target as it is then.
    ///
    /// # Errors
    /// Everything but [`Refusal::Internal`].
    pub fn map(&self, target: &str, request: &api::Map) -> Result<api::Mapping> {
        let disk = self.find_disk(&request.disk)?;
        let name = job_engine::catalogue::default_target_name(target);
        let wanted = MapRequest { disk: disk.id, target: name, lun: request.lun };
        let mapping = self.engine.map(wanted).map_err(|error| self.near_target(error, target))?;
        Ok(api::Mapping { target: mapping.target, lun: mapping.lun })
    }

    /// Takes a LUN away. If its disk stands for a snapshot that was exposed itself, and nobody sees it
    /// any more, a job deletes that, as `HidePaths` has it.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Unavailable`].
    pub fn unmap(&self, target: &str, lun: u16, by: &str) -> Result<()> {
        let name = job_engine::catalogue::default_target_name(target);
        let mut mappings = self.engine.mappings().into_iter();
        let found = mappings.find(|mapping| mapping.target == name && mapping.lun == lun);
        self.engine.unmap(&name, lun).map_err(|error| self.near_target(error, target))?;
        let disk: Vec<_> = found.into_iter().map(|mapping| mapping.disk).collect();
        let submission = Submission { owner: by.to_owned(), ..Submission::default() };
        self.engine.delete_unseen(&disk, &submission);
        Ok(())
    }

    /// All jobs and faults.
    #[must_use]
    pub fn jobs(&self) -> Vec<api::Job> {
        self.engine.jobs().into_iter().map(view::job).collect()
    }

    /// How many jobs and faults there are.
    #[must_use]
    pub fn job_counts(&self) -> JobCounts {
        self.engine.job_counts()
    }

    /// What the database does.
    #[must_use]
    pub fn store_figures(&self) -> StoreFigures {
        self.engine.store_figures()
    }

    /// A job, by its identifier or `InstanceID`.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn job(&self, key: &str) -> Result<api::Job> {
        self.job_by_id(&self.parse_job(key)?)
    }

    fn job_by_id(&self, id: &JobId) -> Result<api::Job> {
        self.engine.job(id).map(view::job).ok_or_else(|| self.no_such_job(&id.to_string()))
    }

    fn parse_job(&self, key: &str) -> Result<JobId> {
        job_id(key).ok_or_else(|| self.no_such_job(key))
    }

    /// A job once it has ended, or after `timeout`.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn wait(&self, key: &str, timeout: Duration) -> Result<api::Job> {
        let id = self.parse_job(key)?;
        let job = self.engine.wait(&id, timeout);
        job.map(view::job).ok_or_else(|| self.no_such_job(key))
    }

    /// Removes a job that has ended, or clears a fault.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Conflict`], [`Refusal::Unavailable`].
    pub fn delete_job(&self, key: &str) -> Result<()> {
        self.engine.delete_job(&self.parse_job(key)?).map_err(|error| self.near_job(error, key))
    }
}

/// A job's identifier, or `InstanceID`.
fn job_id(key: &str) -> Option<JobId> {
    key.strip_prefix(job_engine::INSTANCE_ID_PREFIX).unwrap_or(key).parse().ok()
}
