//! What REST and its clients say to each other, as JSON.

mod account;
mod chap;
mod configuration;
mod job;
mod limit;
mod pool;
mod portal_group;
mod session;
mod setting;
mod snapshot;

use jiff::Timestamp;
use job_engine::{AffectedElement, CimError};
pub use job_engine::{ChecksumState, ChecksumsUsed, LunView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::account::{
    AuditRecord, ChangePassword, ChangeUser, CreateToken, CreateUser, NewToken, Secret, SignIn,
    SignedIn, Token, User,
};
pub use self::chap::{ChapAccount, DeleteChapAccount, SetChapAccount};
pub use self::configuration::{
    Change, Configuration, ConfigurationChange, ConfigurationChanges, ConfigurationJob, Configure,
    DeclaredAccount, DeclaredDisk, DeclaredLimit, DeclaredLun, DeclaredState, DeclaredTarget,
};
pub use self::job::{ChangeJob, JobLimits, JobOptions};
pub use self::limit::{Limit, SetLimit};
pub use self::pool::{ChangePool, CreatePool, Pool};
pub use self::portal_group::{
    AccessState, PortalGroup, ResetAccessState, SetAccessState, TargetState,
};
pub use self::session::{
    AskInitiator, Authentication, Connection, Session, SessionCounters, SessionDetail,
    SessionParameters,
};
pub use self::setting::Setting;
pub use self::snapshot::{ChangedExtent, Changes, CreateSnapshots, ExposeSnapshot, Snapshot};

/// The format of a disk's file.
#[derive(Debug, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code, reason = "it stands for the type of another crate in the OpenAPI document")]
enum ImageFormat {
    Raw,
    Qcow2,
    Vhdx,
    Vhd,
    /// For imports only.
    Vmdk,
}

/// A request for a new disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDisk {
    /// Its name, unique among the disks.
    pub name: String,
    /// Size in bytes: a multiple of the block length.
    pub size_bytes: u64,
    /// Logical block length: 512 (default) or 4096.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_length: Option<u32>,
    /// `thin` (default) or `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning: Option<job_engine::Provisioning>,
    /// `raw` (default), `qcow2`, `vhdx` or `vhd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<ImageFormat>")]
    pub format: Option<job_engine::ImageFormat>,
    /// The pool; the default pool without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// A request to change a disk at once. What is not given stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeDisk {
    /// Writes of initiators are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
}

/// A request to make a disk thin or full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvisionDisk {
    /// `thin` or `full`.
    pub provisioning: job_engine::Provisioning,
}

/// A request for a disk with the data of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloneDisk {
    /// Name of the new one.
    pub name: String,
    /// `thin` or `full`; as the other without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning: Option<job_engine::Provisioning>,
    /// `raw`, `qcow2`, `vhdx` or `vhd`; as the other without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<ImageFormat>")]
    pub format: Option<job_engine::ImageFormat>,
    /// The pool; that of the other without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// A request to give a disk another format; its identity and its data stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConvertDisk {
    /// `raw`, `qcow2`, `vhdx` or `vhd`.
    #[schemars(with = "ImageFormat")]
    pub format: job_engine::ImageFormat,
    /// `thin` or `full`; as it is without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning: Option<job_engine::Provisioning>,
}

/// A request to bring a disk into another pool; its identity and its data stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveDisk {
    /// The pool.
    pub pool: String,
    /// `raw`, `qcow2`, `vhdx` or `vhd`; as it is without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<ImageFormat>")]
    pub format: Option<job_engine::ImageFormat>,
    /// `thin` or `full`; as it is without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning: Option<job_engine::Provisioning>,
}

/// A request for a check of a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckDisk {
    /// Frees what a crash has lost in a qcow2 image.
    #[serde(default)]
    pub repair: bool,
    /// Makes checksums of the data, if there are none that hold: one for each MiB or more. Every later
    /// check compares the data with them, until the disk is written or becomes a LUN. Not for a disk
    /// that is one.
    #[serde(default)]
    pub checksums: bool,
}

/// A request for a check of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckSnapshot {
    /// Makes checksums of the data, if there are none that hold.
    #[serde(default)]
    pub checksums: bool,
}

/// A request for a disk that is made of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportDisk {
    /// The file: absolute, below an allowed directory.
    pub path: String,
    /// Name of the disk.
    pub name: String,
    /// The file becomes the disk's, where it is, and goes with the disk.
    #[serde(default)]
    pub in_place: bool,
    /// Logical block length: 512 (default) or 4096.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_length: Option<u32>,
    /// `thin` (default) or `full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning: Option<job_engine::Provisioning>,
    /// Whether the copy is compared with the file (default), or a file that stays where it is is
    /// read as a whole.
    #[serde(default = "yes")]
    pub verify: bool,
    /// The format of the file; without it its content says, and is raw if it has no mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<ImageFormat>")]
    pub format: Option<job_engine::ImageFormat>,
    /// The format of the copy; as the file without it, raw for a VMDK image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<ImageFormat>")]
    pub to_format: Option<job_engine::ImageFormat>,
    /// The pool of the copy; the default pool without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

fn yes() -> bool {
    true
}

/// A request for a copy of a disk as an image in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportDisk {
    /// The file that is made: absolute, below an allowed directory.
    pub path: String,
    /// `raw` (default), `qcow2`, `vhdx` or `vhd`.
    #[serde(default)]
    #[schemars(with = "ImageFormat")]
    pub format: job_engine::ImageFormat,
}

/// A request to make a disk larger, or smaller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpandDisk {
    /// The new size in bytes: a multiple of the block length.
    pub size_bytes: u64,
}

/// A virtual disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Disk {
    /// Its identifier.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Logical block length.
    pub block_length: u32,
    /// Thin or full.
    pub provisioning: job_engine::Provisioning,
    /// The format of its file.
    #[schemars(with = "ImageFormat")]
    pub format: job_engine::ImageFormat,
    /// Unit serial number.
    pub serial: String,
    /// NAA identifier.
    pub naa: String,
    /// Its pool.
    pub pool: String,
    /// Its file.
    pub path: String,
    /// The block device that it was taken in from, as long as its data are there: its file is a link to it,
    /// or lies over that link since a snapshot was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// Bytes that its file takes; none if it cannot be asked.
    pub allocated_bytes: Option<u64>,
    /// The snapshot that its image lies over, by identifier, where images lie over each other.
    #[serde(default)]
    pub parent: Option<String>,
    /// Writes are refused.
    pub read_only: bool,
    /// Where it is exposed.
    pub mappings: Vec<Mapping>,
}

/// A disk as a LUN of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mapping {
    /// The target's iSCSI name.
    pub target: String,
    /// The LUN.
    pub lun: u16,
}

/// A request for a new target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTarget {
    /// An iSCSI name, or a short name that gets the default prefix.
    pub name: String,
    /// `TargetAlias`.
    #[serde(default)]
    pub alias: String,
}

/// A target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Target {
    /// Its iSCSI name.
    pub name: String,
    /// `TargetAlias`; may be empty.
    pub alias: String,
    /// When it was made.
    pub created: Timestamp,
    /// Who may use it, and nobody else; null lets everybody in.
    pub access: Option<Vec<Access>>,
    /// Its LUNs.
    pub luns: Vec<Lun>,
    /// Sessions that are logged in.
    pub sessions: usize,
}

/// Initiators that a target lets in: those that meet both conditions. Where several entries do,
/// the most specific one decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// An iSCSI name, or a pattern in which `*` stands for any text.
    #[serde(default)]
    pub initiator: Option<String>,
    /// An address or network: `192.0.2.7`, `2001:db8::/32`.
    #[serde(default)]
    pub address: Option<String>,
    /// What they see; all LUNs as they are if this is not given.
    #[serde(default)]
    pub luns: Option<Vec<LunView>>,
    /// Writes to all of these LUNs are refused.
    #[serde(default)]
    pub read_only: bool,
}

/// A request to change who may use a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplaceAccess {
    /// The whole list; null lets everybody in. It must be given: nothing is opened by omission.
    #[serde(deserialize_with = "Option::deserialize")]
    pub access: Option<Vec<Access>>,
}

/// The conditions of an entry that is to go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Disallow {
    /// [`Access::initiator`].
    #[serde(default)]
    pub initiator: Option<String>,
    /// [`Access::address`].
    #[serde(default)]
    pub address: Option<String>,
}

/// A LUN of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lun {
    /// The LUN.
    pub lun: u16,
    /// The disk's identifier.
    pub disk: String,
    /// The disk's name.
    pub disk_name: String,
}

/// A request to expose a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Map {
    /// The disk, by name or identifier.
    pub disk: String,
    /// The LUN; the lowest free one without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lun: Option<u16>,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// Its identifier.
    pub id: String,
    /// `InstanceID` of `MSISCSITARGET_ConcreteJob`.
    pub instance_id: String,
    /// What its lines of the log, and the spans that are exported, have as their trace.
    #[serde(default)]
    pub trace: String,
    /// `create-disk`, `delete-disk`, `expand-disk`, `clone-disk`, `import-disk`, `export-disk`,
    /// `shrink-disk`, `overwrite-disk`, `create-snapshot`, `delete-snapshot`, `roll-back`,
    /// `expose-snapshot`, `map-snapshot`, `data-path-fault`.
    pub kind: String,
    /// One line for people.
    pub name: String,
    /// `JobState` in words.
    pub state: String,
    /// `JobState`.
    pub job_state: u16,
    /// `OperationalStatus`.
    pub operational_status: Vec<u16>,
    /// It has ended.
    pub ended: bool,
    /// `PercentComplete`.
    pub percent_complete: u16,
    /// The disk concerned.
    pub disk: String,
    /// `Owner`.
    pub owner: String,
    /// `TimeSubmitted`.
    pub time_submitted: Timestamp,
    /// `StartTime`.
    pub start_time: Option<Timestamp>,
    /// When it ended.
    pub end_time: Option<Timestamp>,
    /// `ElapsedTime` in milliseconds.
    pub elapsed_ms: u64,
    /// How long it will still take, in milliseconds, while that can be said.
    pub remaining_ms: Option<u64>,
    /// `ScheduledStartTime`: not started by itself before that.
    pub scheduled_start_time: Option<Timestamp>,
    /// `Priority`: lower numbers go first.
    pub priority: u32,
    /// Jobs that must have ended well before.
    pub after: Vec<String>,
    /// It fails if it takes longer.
    pub time_limit_seconds: Option<u64>,
    /// Bytes a second that it copies at most.
    pub bandwidth: Option<u64>,
    /// How often a fault has happened; none for other jobs.
    pub occurrences: Option<u64>,
    /// What a check has found out with checksums, whatever else it found; none for other jobs, and
    /// where no check got so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksums: Option<ChecksumsUsed>,
    /// What it concerns.
    pub affected: Vec<AffectedElement>,
    /// `GetErrors`; the first is `GetError`'s.
    pub errors: Vec<CimError>,
}

/// Whether initiators are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Not yet.
    Starting,
    /// They are.
    Serving,
    /// No more, until the daemon is resumed.
    Draining,
    /// No more: the daemon stops.
    Stopping,
}

/// What a drain has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drained {
    /// Whether initiators are let in.
    pub state: NodeState,
    /// Sessions that are there.
    pub sessions: usize,
}

/// What is known of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Version.
    pub version: String,
    /// Whether initiators are let in.
    pub state: NodeState,
    /// Addresses at which initiators are served.
    pub portals: Vec<String>,
    /// The iSNS server that is kept informed; none if none is configured.
    pub isns: Option<Isns>,
    /// What operators should know: a database that was replaced, or cannot be written.
    pub alerts: Vec<CimError>,
}

/// An iSNS server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Isns {
    /// `HOST:PORT`.
    pub server: String,
    /// Whether the targets are registered there, in words.
    pub state: String,
}

/// A request that was refused: what problem details (RFC 9457) say beside the HTTP status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// What is wrong and what would be right.
    #[serde(rename = "detail")]
    pub message: String,
    /// The same as a `CIM_Error`, where the engine said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<CimError>,
}
