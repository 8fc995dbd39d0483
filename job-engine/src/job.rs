//! What a client sees of a job: `MSISCSITARGET_ConcreteJob`.

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalogue::Disk;
use crate::error::CimError;
use crate::faults::FaultDetail;
use crate::id::{DiskId, JobId, PoolId};
use crate::kinds::{CreateDisk, DiskOperation};

/// How long a job stays after its end unless somebody says otherwise
/// (`CIM_ConcreteJob.TimeBeforeRemoval`: 5 minutes).
pub const DEFAULT_TIME_BEFORE_REMOVAL: Duration = Duration::from_secs(300);

/// Priority unless somebody says otherwise; lower numbers go first (`CIM_Job.Priority`).
pub const DEFAULT_PRIORITY: u32 = 100;

/// `CIM_ConcreteJob.JobState`, with its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u16)]
pub enum JobState {
    /// Waits for a worker.
    New = 2,
    /// Given to a worker.
    Starting = 3,
    /// At work.
    Running = 4,
    /// Stopped between two steps, until it is started again.
    Suspended = 5,
    /// Undoing what it did.
    ShuttingDown = 6,
    /// Done.
    Completed = 7,
    /// Ended by a client, everything undone.
    Terminated = 8,
    /// Ended by a client at once; what is left is swept up in the background.
    Killed = 9,
    /// Failed.
    Exception = 10,
    /// Not used here: a vendor's own state.
    Service = 11,
    /// Not used here: waits for an answer from a person.
    QueryPending = 12,
}

impl JobState {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::New,
        Self::Starting,
        Self::Running,
        Self::Suspended,
        Self::ShuttingDown,
        Self::Completed,
        Self::Terminated,
        Self::Killed,
        Self::Exception,
        Self::Service,
        Self::QueryPending,
    ];

    /// The number that CIM gives it.
    #[must_use]
    pub fn number(self) -> u16 {
        self as u16
    }

    /// Nothing will change it any more.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Terminated | Self::Killed | Self::Exception)
    }

    /// Ended, but not well.
    #[must_use]
    pub fn is_failure(self) -> bool {
        self.is_terminal() && self != Self::Completed
    }

    /// `CIM_ManagedSystemElement.OperationalStatus`. 2 (OK) with 17 (Completed) stands for success
    /// and 6 (Error) for every other end: clients decide by these alone.
    #[must_use]
    pub fn operational_status(self) -> &'static [u16] {
        match self {
            Self::New | Self::QueryPending => &[15],
            Self::Starting => &[8],
            Self::Running | Self::Suspended | Self::Service => &[2],
            Self::ShuttingDown => &[9],
            Self::Completed => &[2, 17],
            Self::Terminated => &[6, 10],
            Self::Killed => &[6, 14],
            Self::Exception => &[6, 17],
        }
    }

    /// `CIM_ManagedSystemElement.StatusDescriptions`, index-parallel with
    /// [`JobState::operational_status`].
    #[must_use]
    pub fn status_descriptions(self) -> &'static [&'static str] {
        match self {
            Self::New => &["Waiting for a worker"],
            Self::Starting => &["Starting"],
            Self::Running => &["Running"],
            Self::Suspended => &["Suspended"],
            Self::ShuttingDown => &["Undoing its changes"],
            Self::Completed => &["Completed without error", "Completed"],
            Self::Terminated => &["Cancelled", "Stopped"],
            Self::Killed => &["Killed", "Aborted"],
            Self::Exception => &["Failed", "Completed"],
            Self::Service => &["In service"],
            Self::QueryPending => &["Waiting for an answer"],
        }
    }

    /// `CIM_ConcreteJob.JobState`'s value text, also `CIM_Job.JobStatus`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "New",
            Self::Starting => "Starting",
            Self::Running => "Running",
            Self::Suspended => "Suspended",
            Self::ShuttingDown => "Shutting Down",
            Self::Completed => "Completed",
            Self::Terminated => "Terminated",
            Self::Killed => "Killed",
            Self::Exception => "Exception",
            Self::Service => "Service",
            Self::QueryPending => "Query Pending",
        }
    }

    /// `CIM_ManagedSystemElement.HealthState`: 5 (OK), or 25 (Critical failure) after a failure.
    #[must_use]
    pub fn health_state(self) -> u16 {
        if self == Self::Exception { 25 } else { 5 }
    }
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum JobKind {
    /// Makes a virtual disk.
    CreateDisk {
        /// What was asked for.
        request: CreateDisk,
        /// The disk that it makes; in the catalogue once the job is `Completed`.
        disk: Box<Disk>,
    },
    /// Deletes a virtual disk and its file.
    DeleteDisk {
        /// The disk as it was.
        disk: Box<Disk>,
    },
    /// Makes a virtual disk larger.
    ExpandDisk {
        /// The disk as it was.
        disk: Box<Disk>,
        /// The size that it gets, in bytes.
        size_bytes: u64,
    },
    /// What its plan says: copies of disks and of files, and what is done to them.
    Planned {
        /// What for.
        purpose: Purpose,
        /// The disk concerned.
        disk: DiskId,
        /// The disk that it makes; in the catalogue once the job is `Completed`.
        #[serde(default)]
        makes: Option<Box<Disk>>,
    },
    /// Does something to a disk that only who serves it can do.
    Operation(Box<DiskOperation>),
    /// No work: the record of errors on the data path, in the form of a failed job.
    DataPathFault(Box<FaultDetail>),
    /// Something that only another version of the program knows, as it wrote it down.
    #[serde(untagged)]
    Unknown(serde_json::Value),
}

impl JobKind {
    /// The disk concerned.
    #[must_use]
    pub fn disk(&self) -> DiskId {
        match self {
            Self::CreateDisk { disk, .. }
            | Self::DeleteDisk { disk }
            | Self::ExpandDisk { disk, .. } => disk.id,
            Self::Planned { disk, .. } => *disk,
            Self::Operation(operation) => operation.disk.id,
            Self::DataPathFault(fault) => fault.disk,
            // An identifier that no disk has, if it does not say.
            Self::Unknown(written) => {
                let disk = written.get("disk");
                let id = disk.and_then(|disk| disk.as_str().or_else(|| disk.get("id")?.as_str()));
                id.and_then(|id| id.parse().ok()).unwrap_or_else(|| uuid::Uuid::nil().into())
            }
        }
    }

    /// A short word for it, as scripts like it.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::CreateDisk { .. } => "create-disk",
            Self::DeleteDisk { .. } => "delete-disk",
            Self::ExpandDisk { .. } => "expand-disk",
            Self::Planned { purpose, .. } => purpose.word(),
            Self::Operation(operation) => &operation.word,
            Self::DataPathFault(_) => "data-path-fault",
            Self::Unknown(written) => {
                let text = |key| written.get(key).and_then(serde_json::Value::as_str);
                text("purpose").or_else(|| text("kind")).unwrap_or("unknown")
            }
        }
    }

    /// The CIM method that starts such a job (`CIM_MethodResult`).
    #[must_use]
    pub fn method_name(&self) -> Option<&'static str> {
        match self {
            Self::CreateDisk { .. } | Self::ExpandDisk { .. } => {
                Some("CreateOrModifyElementFromStoragePool")
            }
            Self::DeleteDisk { .. } => Some("ReturnToStoragePool"),
            Self::Planned { purpose, .. } => purpose.method_name(),
            Self::Operation(_) | Self::DataPathFault(_) | Self::Unknown(_) => None,
        }
    }

    /// Whether it only follows what initiators do.
    pub(crate) fn follows(&self) -> bool {
        matches!(self, Self::Operation(operation) if operation.follows())
    }

    /// The disk that it makes.
    pub(crate) fn makes(&self) -> Option<&Disk> {
        match self {
            Self::CreateDisk { disk, .. } => Some(disk),
            Self::Planned { makes, .. } => makes.as_deref(),
            Self::DeleteDisk { .. }
            | Self::ExpandDisk { .. }
            | Self::Operation(_)
            | Self::DataPathFault(_)
            | Self::Unknown(_) => None,
        }
    }

    /// The pool that it takes space of.
    pub(crate) fn pool(&self) -> Option<PoolId> {
        match self {
            Self::ExpandDisk { disk, .. } => Some(disk.pool.clone()),
            Self::CreateDisk { .. }
            | Self::DeleteDisk { .. }
            | Self::Planned { .. }
            | Self::Operation(_)
            | Self::DataPathFault(_)
            | Self::Unknown(_) => self.makes().map(|disk| disk.pool.clone()),
        }
    }
}

/// What a job with a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Makes a disk with the data of another.
    CloneDisk,
    /// Makes a disk of a file.
    ImportDisk,
    /// Makes a file of a disk.
    ExportDisk,
    /// Gives a disk another format.
    ConvertDisk,
    /// Brings a disk into another pool.
    MoveDisk,
    /// Has a disk take no more space than it needs.
    CompactDisk,
    /// Looks whether a disk's image is whole and can be read.
    CheckDisk,
    /// Makes a disk smaller.
    ShrinkDisk,
    /// Deletes a disk once its data are overwritten.
    OverwriteDisk,
    /// Makes a disk thin or full.
    ProvisionDisk,
    /// Takes snapshots of disks.
    CreateSnapshot,
    /// Deletes a snapshot.
    DeleteSnapshot,
    /// Gives a disk the data of a snapshot.
    RollBack,
    /// Makes a disk of a snapshot.
    ExposeSnapshot,
    /// Makes a disk of a snapshot, and exposes it.
    MapSnapshot,
    /// Makes a disk of a snapshot, which is none any more.
    DetachSnapshot,
}

impl Purpose {
    /// A short word for it, as scripts like it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::CloneDisk => "clone-disk",
            Self::ImportDisk => "import-disk",
            Self::ExportDisk => "export-disk",
            Self::ConvertDisk => "convert-disk",
            Self::MoveDisk => "move-disk",
            Self::CompactDisk => "compact-disk",
            Self::CheckDisk => "check-disk",
            Self::ShrinkDisk => "shrink-disk",
            Self::OverwriteDisk => "overwrite-disk",
            Self::ProvisionDisk => "provision-disk",
            Self::CreateSnapshot => "create-snapshot",
            Self::DeleteSnapshot => "delete-snapshot",
            Self::RollBack => "roll-back",
            Self::ExposeSnapshot => "expose-snapshot",
            Self::MapSnapshot => "map-snapshot",
            Self::DetachSnapshot => "detach-snapshot",
        }
    }

    /// The CIM method that starts such a job.
    #[must_use]
    pub fn method_name(self) -> Option<&'static str> {
        match self {
            Self::CloneDisk | Self::CreateSnapshot | Self::ExposeSnapshot => {
                Some("CreateElementReplica")
            }
            Self::DeleteSnapshot | Self::RollBack | Self::DetachSnapshot => {
                Some("ModifyReplicaSynchronization")
            }
            Self::ConvertDisk
            | Self::MoveDisk
            | Self::CompactDisk
            | Self::ShrinkDisk
            | Self::ProvisionDisk => Some("CreateOrModifyElementFromStoragePool"),
            Self::OverwriteDisk => Some("ReturnToStoragePool"),
            Self::MapSnapshot => Some("ExposePaths"),
            Self::ImportDisk | Self::ExportDisk | Self::CheckDisk => None,
        }
    }
}

/// Something that a job concerns or an error comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Element {
    /// A virtual disk (`MSISCSITARGET_StorageVolume`).
    Disk(#[schemars(with = "String")] DiskId),
    /// A pool (`MSISCSITARGET_StoragePool`).
    Pool(#[schemars(with = "String")] PoolId),
    /// A target, by its iSCSI name (`MSISCSITARGET_SCSIProtocolController`).
    Target(String),
    /// A job (`MSISCSITARGET_ConcreteJob`).
    Job(#[schemars(with = "String")] JobId),
}

/// `CIM_AffectedJobElement.ElementEffects`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[repr(u16)]
pub enum ElementEffect {
    /// None of the others; `OtherElementEffectsDescriptions` says what.
    Other = 1,
    /// Nobody else can use the element meanwhile.
    ExclusiveUse = 2,
    /// Its content may be damaged.
    ElementIntegrity = 4,
    /// The job made it.
    Create = 5,
}

/// `CIM_AffectedJobElement`: an element and what the job does to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AffectedElement {
    /// The element. It may not exist: before a creation is complete, and after a deletion.
    pub element: Element,
    /// What happens to it.
    pub effect: ElementEffect,
}

/// A job as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its identifier; [`Job::instance_id`] is the CIM form.
    pub id: JobId,
    /// What it does.
    pub kind: JobKind,
    /// `Name` and `ElementName`: one line for people.
    pub name: String,
    /// `JobState`.
    pub state: JobState,
    /// `PercentComplete`, 0 to 100: never falls, and is 100 exactly in the terminal states.
    pub percent_complete: u16,
    /// `GetErrors`: empty unless the job failed, was terminated or was killed; the first one is
    /// `GetError`'s.
    pub errors: Vec<CimError>,
    /// `TimeSubmitted`.
    pub time_submitted: Timestamp,
    /// `ScheduledStartTime`: not started by itself before that.
    pub scheduled_start_time: Option<Timestamp>,
    /// `StartTime`: when a worker took it for the first time.
    pub start_time: Option<Timestamp>,
    /// `TimeOfLastStateChange`; rejected requests do not touch it.
    pub time_of_last_state_change: Timestamp,
    /// When it reached a terminal state.
    pub end_time: Option<Timestamp>,
    /// `ElapsedTime`: since the start, final at the end.
    pub elapsed: Duration,
    /// `TimeBeforeRemoval`: how long it stays after its end, whatever `delete_on_completion` says.
    pub time_before_removal: Duration,
    /// `DeleteOnCompletion`: it is removed after `time_before_removal`, without anybody asking.
    pub delete_on_completion: bool,
    /// `Priority`: lower numbers go first.
    pub priority: u32,
    /// `Owner`: who submitted it.
    pub owner: String,
    /// `Notify`: whom to tell; kept for the client, not used.
    pub notify: String,
    /// What it concerns.
    pub affected: Vec<AffectedElement>,
    /// Not started before these have ended well.
    #[serde(default)]
    pub after: Vec<JobId>,
    /// It fails if it takes longer, from its start on.
    #[serde(default)]
    pub time_limit: Option<Duration>,
    /// Bytes a second that it copies at most.
    #[serde(default)]
    pub bandwidth: Option<u64>,
    /// How long it will still take, while that can be said.
    #[serde(default)]
    pub remaining: Option<Duration>,
    /// What a check has found out with checksums; none for other jobs, and until it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksums: Option<ChecksumsUsed>,
}

/// What a check has done with the checksums of a disk or a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChecksumsUsed {
    /// How it came out.
    pub state: ChecksumState,
    /// When the checksums were made that the data were compared with, or that were made now.
    pub made: Option<Timestamp>,
}

/// Whether data were compared with checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ChecksumState {
    /// All data that could be read are what they were.
    Matched,
    /// Some are not, though nobody has written them: the errors say which.
    Differed,
    /// Checksums were made; there were none to compare with.
    Made,
    /// There are none: nothing was compared.
    Absent,
    /// The files were written, or the disk was a LUN, since they were made: nothing was compared.
    Void,
    /// The checksums themselves are damaged: nothing was compared.
    Damaged,
    /// Initiators use the disk: nothing was compared.
    InUse,
}

impl Job {
    /// `InstanceID`: `MSISCSITARGET:<uuid>`.
    #[must_use]
    pub fn instance_id(&self) -> String {
        self.id.instance_id()
    }

    /// `OperationalStatus`.
    #[must_use]
    pub fn operational_status(&self) -> &'static [u16] {
        self.state.operational_status()
    }

    /// `StatusDescriptions`, index-parallel with [`Job::operational_status`].
    #[must_use]
    pub fn status_descriptions(&self) -> Vec<String> {
        let texts = self.state.status_descriptions();
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    /// `HealthState`.
    #[must_use]
    pub fn health_state(&self) -> u16 {
        self.state.health_state()
    }

    /// `GetError`.
    #[must_use]
    pub fn error(&self) -> Option<&CimError> {
        self.errors.first()
    }

    /// `ErrorCode`: 0 only while nothing went wrong.
    #[must_use]
    pub fn error_code(&self) -> u16 {
        self.error().map_or(0, CimError::error_code)
    }

    /// `ErrorDescription`: empty while nothing went wrong.
    #[must_use]
    pub fn error_description(&self) -> String {
        self.error().map_or_else(String::new, |error| error.message.clone())
    }
}

/// `CIM_ConcreteJob.RequestStateChange`, parameter `RequestedState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum RequestedState {
    /// Start, or go on after a suspension.
    Start = 2,
    /// Stop at the next step boundary.
    Suspend = 3,
    /// Undo and end, in order.
    Terminate = 4,
    /// End at once.
    Kill = 5,
    /// A vendor's own state: not supported.
    Service = 6,
}

impl RequestedState {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Start, Self::Suspend, Self::Terminate, Self::Kill, Self::Service];

    /// From the number on the wire; `None` is an invalid parameter (return value 5).
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as u16 == number)
    }
}

/// Return values of `RequestStateChange`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum RequestStateChangeResult {
    /// The transition has happened.
    Completed = 0,
    /// There is no such transition in this product.
    NotSupported = 1,
    /// Something unexpected happened.
    Unknown = 2,
    /// It would take longer than asked.
    CannotCompleteWithinTimeout = 3,
    /// It could not be recorded.
    Failed = 4,
    /// A parameter is wrong, or there is no such job.
    InvalidParameter = 5,
    /// Something else holds the job.
    InUse = 6,
    /// The transition has been started.
    Started = 4096,
    /// Not from this state.
    InvalidStateTransition = 4097,
    /// A time-out other than none or 0 was given.
    TimeoutNotSupported = 4098,
    /// Another transition is under way.
    Busy = 4099,
}

impl RequestStateChangeResult {
    /// The return value.
    #[must_use]
    pub fn number(self) -> u32 {
        self as u32
    }
}

/// Return values of `CIM_Job.KillJob`, numbers as in the DMTF's class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum KillJobResult {
    /// Killed.
    Success = 0,
    /// Not this kind of job.
    NotSupported = 1,
    /// Something unexpected happened.
    Unknown = 2,
    /// It took too long.
    Timeout = 3,
    /// The job has ended already, or the kill could not be recorded.
    Failed = 4,
    /// The caller may not.
    AccessDenied = 6,
    /// There is no such job.
    NotFound = 7,
}

impl KillJobResult {
    /// The return value.
    #[must_use]
    pub fn number(self) -> u32 {
        self as u32
    }
}

/// Properties of a job that a client may write (`ModifyInstance`); `None` leaves one alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobSettings {
    /// `DeleteOnCompletion`.
    pub delete_on_completion: Option<bool>,
    /// `TimeBeforeRemoval`.
    pub time_before_removal: Option<Duration>,
    /// `Priority`.
    pub priority: Option<u32>,
    /// `Notify`.
    pub notify: Option<String>,
    /// `ScheduledStartTime`; only before the job has started.
    pub scheduled_start_time: Option<Timestamp>,
    /// [`Job::bandwidth`]; in force at once.
    pub bandwidth: Option<Option<u64>>,
    /// [`Job::time_limit`].
    pub time_limit: Option<Option<Duration>>,
}

/// Who submits a job, and how it shall run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// `Owner`.
    pub owner: String,
    /// Lower numbers go first.
    pub priority: u32,
    /// Not before that.
    pub scheduled_start_time: Option<Timestamp>,
    /// Whether it goes away by itself after its end.
    pub delete_on_completion: bool,
    /// How long it stays after its end.
    pub time_before_removal: Duration,
    /// Jobs that must have ended well before; they may still work on the same disks.
    pub after: Vec<JobId>,
    /// It fails if it takes longer, from its start on.
    pub time_limit: Option<Duration>,
    /// Bytes a second that it copies at most.
    pub bandwidth: Option<u64>,
    /// By what the client will know the request again.
    pub request: Option<RequestKey>,
}

/// By what a client knows a request again that started a job: stored with the job, in the same
/// transaction, and gone with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestKey {
    /// What the client calls it, unique among the jobs of one owner.
    pub key: String,
    /// What was asked for, as a digest: the same key with another one is a mistake.
    pub fingerprint: String,
}

impl Default for Submission {
    fn default() -> Self {
        Self {
            owner: String::new(),
            priority: DEFAULT_PRIORITY,
            scheduled_start_time: None,
            delete_on_completion: true,
            time_before_removal: DEFAULT_TIME_BEFORE_REMOVAL,
            after: Vec::new(),
            time_limit: None,
            bandwidth: None,
            request: None,
        }
    }
}
