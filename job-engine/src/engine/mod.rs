//! The engine: takes requests, runs jobs, keeps what must not be forgotten.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::catalogue::{Disk, Mapping, Pool, Target};
use crate::clock::{Clock, SystemClock};
use crate::error::{CimError, ObjectPaths, RequestError};
use crate::event::ChangeEvent;
use crate::faults::FaultReport;
use crate::id::{DiskId, JobId};
use crate::job::{
    Job, JobSettings, KillJobResult, RequestStateChangeResult, RequestedState, Submission,
};
use crate::kinds::CreateDisk;

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
    /// Jobs that have not ended, in all.
    pub max_unfinished_jobs: usize,
    /// Jobs that are kept after their end; beyond it the oldest go.
    pub max_ended_jobs: usize,
    /// Allows thin disks that are larger than the free space of their pool.
    pub overcommit: bool,
    /// No job is accepted while the data directory's file system has fewer free bytes.
    pub min_free_bytes: u64,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
}

impl EngineConfig {
    /// Defaults for a data directory: the pool is its `disks`.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Self {
            default_pool: directory.join("disks"),
            directory,
            system_name: "lund".to_owned(),
            max_workers: 4,
            max_unfinished_jobs: 1024,
            max_ended_jobs: 4096,
            overcommit: false,
            min_free_bytes: 4 << 20,
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

/// A request for a new target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TargetRequest {
    /// An iSCSI name, or a short name that gets the default prefix.
    pub name: String,
    /// `TargetAlias`; may be empty.
    pub alias: String,
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
}

/// The engine. Methods that change something return when the change is on the medium **and** every
/// subscriber has seen it.
#[derive(Debug)]
pub struct Engine {}

#[allow(
    clippy::unimplemented,
    unused_variables,
    clippy::missing_errors_doc,
    missing_docs,
    reason = "being written"
)]
impl Engine {
    /// Opens the data directory, recovers what a crash left, and starts to work.
    ///
    /// # Errors
    /// See [`OpenError`]. A damaged database is no error: it is moved aside and a new one made
    /// from the journal; [`Engine::alerts`] tells.
    pub fn open(config: EngineConfig) -> Result<Arc<Self>, OpenError> {
        unimplemented!()
    }

    /// Stops at the next step boundaries and closes the database. Jobs go on at the next start.
    pub fn shutdown(&self) {
        unimplemented!()
    }

    /// Submits the creation of a disk. Everything that can be checked at once is checked now;
    /// capacity is the job's to find out.
    pub fn create_disk(&self, request: CreateDisk) -> Result<JobId, RequestError> {
        unimplemented!()
    }
    pub fn create_disk_with(
        &self,
        request: CreateDisk,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        unimplemented!()
    }
    /// Submits the deletion of a disk and its file. A mapped disk is refused.
    pub fn delete_disk(&self, disk: DiskId) -> Result<JobId, RequestError> {
        unimplemented!()
    }
    pub fn delete_disk_with(
        &self,
        disk: DiskId,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        unimplemented!()
    }

    /// All jobs in the order of their submission.
    #[must_use]
    pub fn jobs(&self) -> Vec<Job> {
        unimplemented!()
    }
    #[must_use]
    pub fn job(&self, id: &JobId) -> Option<Job> {
        unimplemented!()
    }
    /// `GetErrors`: empty while nothing went wrong; the first is `GetError`'s.
    pub fn errors(&self, id: &JobId) -> Result<Vec<CimError>, RequestError> {
        unimplemented!()
    }
    /// Waits until the job has ended or `timeout` has passed; the job as it is then, `None` if
    /// there is no such job (any more).
    #[must_use]
    pub fn wait(&self, id: &JobId, timeout: Duration) -> Option<Job> {
        unimplemented!()
    }
    /// `timeout`: `None` or zero; anything else is not supported. `by` is who asks.
    pub fn request_state_change(
        &self,
        id: &JobId,
        state: RequestedState,
        timeout: Option<Duration>,
        by: &str,
    ) -> RequestStateChangeResult {
        unimplemented!()
    }
    /// `KillJob`: `delete_on_kill` replaces `DeleteOnCompletion`.
    pub fn kill(&self, id: &JobId, delete_on_kill: bool, by: &str) -> KillJobResult {
        unimplemented!()
    }
    pub fn modify_job(&self, id: &JobId, settings: JobSettings) -> Result<(), RequestError> {
        unimplemented!()
    }
    /// Removes a job that has ended.
    pub fn delete_job(&self, id: &JobId) -> Result<(), RequestError> {
        unimplemented!()
    }

    /// Pools with their space now; asks the file systems.
    #[must_use]
    pub fn pools(&self) -> Vec<Pool> {
        unimplemented!()
    }
    #[must_use]
    pub fn disks(&self) -> Vec<Disk> {
        unimplemented!()
    }
    #[must_use]
    pub fn disk(&self, id: &DiskId) -> Option<Disk> {
        unimplemented!()
    }
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        unimplemented!()
    }
    #[must_use]
    pub fn mappings(&self) -> Vec<Mapping> {
        unimplemented!()
    }
    /// Everything at one moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        unimplemented!()
    }

    pub fn create_target(&self, request: TargetRequest) -> Result<Target, RequestError> {
        unimplemented!()
    }
    /// Refused while disks are mapped to it.
    pub fn delete_target(&self, name: &str) -> Result<(), RequestError> {
        unimplemented!()
    }
    pub fn map(&self, request: MapRequest) -> Result<Mapping, RequestError> {
        unimplemented!()
    }
    pub fn unmap(&self, target: &str, lun: u16) -> Result<(), RequestError> {
        unimplemented!()
    }

    /// Never blocks. Coalesced per disk and cause.
    pub fn record_fault(&self, report: FaultReport) {
        unimplemented!()
    }

    /// Calls `subscriber` for every change after the returned snapshot, in order, on one thread
    /// of the engine's. The subscriber may call the engine.
    pub fn subscribe(&self, subscriber: Box<dyn Fn(&ChangeEvent) + Send + Sync>) -> Snapshot {
        unimplemented!()
    }

    /// What operators should know about the engine itself: a replaced database, a store that
    /// cannot be written.
    #[must_use]
    pub fn alerts(&self) -> Vec<CimError> {
        unimplemented!()
    }

    /// Makes object paths as they stand in errors.
    #[must_use]
    pub fn object_paths(&self) -> &ObjectPaths {
        unimplemented!()
    }
}
