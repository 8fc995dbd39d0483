//! Why something failed, as data; and the one way from there to a `CIM_Error`.

use std::path::{Path, PathBuf};

use disk_image::{ImageError, ImageErrorKind, Operation};
use jiff::Timestamp;

use super::row::{MessageRow, status_name};
use super::{CimError, OWNING_ENTITY, ObjectPaths, table};
use crate::job::Element;

/// Why something failed. Paths, sizes and names are those of the occasion.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are the message's arguments; table.rs describes them")]
pub enum Cause {
    /// No space: ENOSPC, EDQUOT, or more asked for than there is. Bytes; `available` is unknown
    /// when the operating system said no in the middle.
    OutOfSpace { what: String, place: PathBuf, needed: u64, available: Option<u64> },
    /// A limit of this product is reached.
    LimitReached { what: String, limit: u64 },
    /// The medium failed: EIO, or a file shorter than its disk.
    MediumError { context: ImageContext },
    /// The file, its directory or its file system is gone.
    Missing { context: ImageContext },
    /// Another opener holds the image.
    ImageLocked { context: ImageContext },
    /// The image contradicts itself.
    Corrupt { context: ImageContext },
    /// Not an image of the expected format.
    BadFormat { context: ImageContext },
    /// The parent of a differencing image is missing, was changed, or lies where no parent may.
    ParentMismatch { path: PathBuf, reason: String },
    /// A read-only file or file system, or one whose permissions refuse it.
    WriteProtected { context: ImageContext },
    /// Memory or file descriptors ran out.
    OutOfMemory { context: ImageContext },
    /// Data could not be made durable.
    SyncFailed { context: ImageContext },
    /// A file that must not be replaced is in the way.
    FileExists { context: ImageContext },
    /// The file system cannot do it.
    UnsupportedOperation { context: ImageContext },
    /// Ended by a client in order.
    Cancelled { by: String },
    /// Ended by a client at once.
    Killed { by: String },
    /// The daemon was restarted and the job could not go on.
    RestartedDuringJob { step: String },
    /// The job never got a worker.
    CouldNotStart { reason: String },
    /// A request that the job's state does not allow.
    InvalidTransition { job: String, state: String, request: String },
    /// The job took longer than it was given.
    TimeLimit { seconds: u64 },
    /// A job that this one was to wait for did not end well.
    DependencyFailed { job: String, state: String },
    /// Data that nobody has written are not what they were when checksums of them were made. Logical
    /// blocks.
    DataDiffer { path: PathBuf, first: u64, last: u64, made: Timestamp },
    /// Space of an image that nothing in it refers to: lost in a crash, no data is harmed.
    LostSpace { path: PathBuf, bytes: u64 },
    /// A job, or a part of one, that this version of the program does not know.
    UnknownJob { what: String },
    /// A bug: the worker panicked.
    Panic { message: String },
    /// What a failed job did could not be undone at once.
    CleanupFailed { path: PathBuf, reason: String },
    /// A job that has not ended cannot be deleted.
    JobNotEnded { job: String, state: String },
    /// The disk is mapped, or a job works on it.
    DiskInUse { disk: String, holder: String },
    /// A name, LUN or mapping that exists already.
    NameInUse { what: String, name: String },
    /// A size that no disk can have. `nearest` is the closest one that is possible.
    BadSize { size: u64, reason: String, nearest: Option<u64> },
    /// A disk cannot become smaller: there are data behind its new end.
    TailInUse { disk: String, first: u64, size: u64 },
    /// The file system cannot copy a file that is in use at one instant.
    NoReflinks { path: PathBuf },
    /// A name that is not allowed.
    BadName { what: String, name: String, reason: String },
    /// Something asked for by its name does not exist.
    NotFound { what: String, name: String },
    /// A pool's file system is not there or does not answer.
    PoolUnavailable { pool: String, directory: PathBuf, reason: String },
    /// A pool has less free space than a soft threshold. Bytes.
    PoolNearlyFull { pool: String, free: u64, threshold: u64 },
    /// A pool has less free space than its hard threshold: thin disks take no more. Bytes.
    PoolExhausted { pool: String, free: u64, threshold: u64 },
    /// There is something in the pool still.
    PoolInUse { pool: String, disks: usize, jobs: usize },
    /// The target still has mappings.
    TargetInUse { target: String, mappings: usize },
    /// What a request was for is not as its condition has it any more.
    ChangedMeanwhile,
    /// A value that a property cannot take.
    BadValue { property: String, reason: String },
    /// The database cannot be written now.
    StoreUnavailable { reason: String },
    /// The database was damaged and replaced.
    StoreReplaced { moved_to: PathBuf, restored: usize },
    /// Single records of the database were damaged.
    RecordsDamaged { damaged: usize, restored: usize },
    /// The file system of the data directory is too full to accept work.
    StoreNearlyFull { place: PathBuf, available: u64, needed: u64 },
    /// The daemon is stopping.
    ShuttingDown,
    /// The one user who can let others in cannot go.
    LastAdministrator { user: String },
    /// CHAP failed.
    LoginChapFailed { initiator: String, target: String },
    /// The initiator may not use the target.
    LoginNotAuthorized { initiator: String, target: String },
    /// The target takes no (more) sessions.
    LoginUnavailable { initiator: String, target: String, reason: String },
    /// A session ended without logout.
    SessionDropped { initiator: String, target: String, reason: String },
    /// An initiator broke the protocol.
    ProtocolError { initiator: String, reason: String },
}

/// Where an image error happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageContext {
    /// What was being done, as a verb: "read", "create", …
    pub operation: String,
    /// The file or directory.
    pub path: PathBuf,
    /// First byte concerned.
    pub offset: Option<u64>,
    /// Bytes concerned.
    pub length: Option<u64>,
    /// The errno.
    pub errno: Option<i32>,
    /// What exactly is wrong, if more than the kind is known.
    pub reason: Option<Box<str>>,
    /// For errors that were counted: how often, when, and the latest command.
    pub occasions: Option<Box<str>>,
}

impl ImageContext {
    /// Context of `operation` on `path`, with nothing else known.
    #[must_use]
    pub fn new(operation: Operation, path: impl Into<PathBuf>) -> Self {
        Self {
            operation: operation.verb().to_owned(),
            path: path.into(),
            offset: None,
            length: None,
            errno: None,
            reason: None,
            occasions: None,
        }
    }

    /// `byte 4096, 512 bytes, errno 5 (…)`, as far as it is known.
    fn details(&self) -> String {
        let mut parts = Vec::new();
        if let Some(offset) = self.offset {
            parts.push(format!("at byte {offset}"));
        }
        if let Some(length) = self.length {
            parts.push(format!("{length} bytes"));
        }
        if let Some(errno) = self.errno {
            parts.push(std::io::Error::from_raw_os_error(errno).to_string());
        }
        parts.extend(self.reason.as_deref().map(str::to_owned));
        parts.extend(self.occasions.as_deref().map(str::to_owned));
        if parts.is_empty() { "no details".to_owned() } else { parts.join(", ") }
    }
}

impl From<&ImageError> for Cause {
    fn from(error: &ImageError) -> Self {
        let context = ImageContext {
            operation: error.operation().verb().to_owned(),
            path: error.path().to_path_buf(),
            offset: error.offset(),
            length: error.length(),
            errno: error.errno(),
            reason: error.reason().map(Into::into),
            occasions: None,
        };
        Self::from_image(error.kind(), context)
    }
}

impl Cause {
    /// The cause behind a failed operation on an image.
    #[must_use]
    #[allow(clippy::wildcard_enum_match_arm, reason = "the enum of another crate may grow")]
    pub fn from_image(kind: ImageErrorKind, context: ImageContext) -> Self {
        match kind {
            ImageErrorKind::OutOfSpace => Self::OutOfSpace {
                what: format!("{} {}", context.operation, context.path.display()),
                place: context.path.parent().map_or_else(PathBuf::new, Path::to_path_buf),
                needed: context.length.unwrap_or(0),
                available: None,
            },
            ImageErrorKind::NotFound => Self::Missing { context },
            ImageErrorKind::InUse => Self::ImageLocked { context },
            ImageErrorKind::ReadOnly | ImageErrorKind::PermissionDenied => {
                Self::WriteProtected { context }
            }
            ImageErrorKind::OutOfMemory => Self::OutOfMemory { context },
            ImageErrorKind::SyncFailed => Self::SyncFailed { context },
            ImageErrorKind::InvalidFormat => Self::BadFormat { context },
            ImageErrorKind::Corrupt => Self::Corrupt { context },
            ImageErrorKind::AlreadyExists => Self::FileExists { context },
            ImageErrorKind::Unsupported | ImageErrorKind::OutOfRange => {
                Self::UnsupportedOperation { context }
            }
            ImageErrorKind::ParentMismatch => Self::ParentMismatch {
                reason: context.reason.as_deref().unwrap_or("it is another one").to_owned(),
                path: context.path,
            },
            ImageErrorKind::Cancelled => Self::Cancelled { by: "the data path".to_owned() },
            ImageErrorKind::Io
            | ImageErrorKind::ShortTransfer
            | ImageErrorKind::WouldBlock
            // The enum may grow; an unknown failure of the medium is a failure of the medium.
            | _ => Self::MediumError { context },
        }
    }

    /// The message that belongs to it.
    #[must_use]
    pub fn row(&self) -> &'static MessageRow {
        match self {
            Self::OutOfSpace { .. } => &table::OUT_OF_SPACE,
            Self::LimitReached { .. } => &table::LIMIT_REACHED,
            Self::MediumError { .. } => &table::MEDIUM_ERROR,
            Self::Missing { .. } => &table::MISSING,
            Self::ImageLocked { .. } => &table::IMAGE_LOCKED,
            Self::Corrupt { .. } => &table::CORRUPT,
            Self::BadFormat { .. } => &table::BAD_FORMAT,
            Self::ParentMismatch { .. } => &table::PARENT_MISMATCH,
            Self::WriteProtected { .. } => &table::WRITE_PROTECTED,
            Self::OutOfMemory { .. } => &table::OUT_OF_MEMORY,
            Self::SyncFailed { .. } => &table::SYNC_FAILED,
            Self::FileExists { .. } => &table::FILE_EXISTS,
            Self::UnsupportedOperation { .. } => &table::UNSUPPORTED_OPERATION,
            Self::Cancelled { .. } => &table::CANCELLED,
            Self::Killed { .. } => &table::KILLED,
            Self::RestartedDuringJob { .. } => &table::RESTARTED_DURING_JOB,
            Self::CouldNotStart { .. } => &table::COULD_NOT_START,
            Self::InvalidTransition { .. } => &table::INVALID_TRANSITION,
            Self::TimeLimit { .. } => &table::TIME_LIMIT,
            Self::DependencyFailed { .. } => &table::DEPENDENCY_FAILED,
            Self::DataDiffer { .. } => &table::DATA_DIFFER,
            Self::LostSpace { .. } => &table::LOST_SPACE,
            Self::UnknownJob { .. } => &table::UNKNOWN_JOB,
            Self::Panic { .. } => &table::PANIC,
            Self::CleanupFailed { .. } => &table::CLEANUP_FAILED,
            Self::JobNotEnded { .. } => &table::JOB_NOT_ENDED,
            Self::DiskInUse { .. } => &table::DISK_IN_USE,
            Self::NameInUse { .. } => &table::NAME_IN_USE,
            Self::BadSize { .. } => &table::BAD_SIZE,
            Self::TailInUse { .. } => &table::TAIL_IN_USE,
            Self::NoReflinks { .. } => &table::NO_REFLINKS,
            Self::BadName { .. } => &table::BAD_NAME,
            Self::NotFound { .. } => &table::NOT_FOUND,
            Self::TargetInUse { .. } => &table::TARGET_IN_USE,
            Self::ChangedMeanwhile => &table::CHANGED_MEANWHILE,
            Self::PoolUnavailable { .. } => &table::POOL_UNAVAILABLE,
            Self::PoolNearlyFull { .. } => &table::POOL_NEARLY_FULL,
            Self::PoolExhausted { .. } => &table::POOL_EXHAUSTED,
            Self::PoolInUse { .. } => &table::POOL_IN_USE,
            Self::BadValue { .. } => &table::BAD_VALUE,
            Self::StoreUnavailable { .. } => &table::STORE_UNAVAILABLE,
            Self::StoreReplaced { .. } => &table::STORE_REPLACED,
            Self::RecordsDamaged { .. } => &table::RECORDS_DAMAGED,
            Self::StoreNearlyFull { .. } => &table::STORE_NEARLY_FULL,
            Self::ShuttingDown => &table::SHUTTING_DOWN,
            Self::LastAdministrator { .. } => &table::LAST_ADMINISTRATOR,
            Self::LoginChapFailed { .. } => &table::LOGIN_CHAP_FAILED,
            Self::LoginNotAuthorized { .. } => &table::LOGIN_NOT_AUTHORIZED,
            Self::LoginUnavailable { .. } => &table::LOGIN_UNAVAILABLE,
            Self::SessionDropped { .. } => &table::SESSION_DROPPED,
            Self::ProtocolError { .. } => &table::PROTOCOL_ERROR,
        }
    }

    /// `MessageArguments`.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        fn all(arguments: &[&dyn ToString]) -> Vec<String> {
            arguments.iter().map(|argument| argument.to_string()).collect()
        }
        match self {
            Self::OutOfSpace { what, place, needed, available } => {
                let available = available.map_or_else(|| "too few".to_owned(), |n| n.to_string());
                all(&[what, &place.display(), needed, &available])
            }
            Self::LimitReached { what, limit } => all(&[what, limit]),
            Self::MediumError { context }
            | Self::Missing { context }
            | Self::ImageLocked { context }
            | Self::Corrupt { context }
            | Self::BadFormat { context }
            | Self::WriteProtected { context }
            | Self::OutOfMemory { context }
            | Self::SyncFailed { context }
            | Self::FileExists { context }
            | Self::UnsupportedOperation { context } => {
                all(&[&context.operation, &context.path.display(), &context.details()])
            }
            Self::ParentMismatch { path, reason } => all(&[&path.display(), reason]),
            Self::Cancelled { by } | Self::Killed { by } => all(&[by]),
            Self::RestartedDuringJob { step } => all(&[step]),
            Self::CouldNotStart { reason } | Self::StoreUnavailable { reason } => all(&[reason]),
            Self::InvalidTransition { job, state, request } => all(&[request, job, state]),
            Self::TimeLimit { seconds } => all(&[seconds]),
            Self::DependencyFailed { job, state } => all(&[job, state]),
            Self::DataDiffer { path, first, last, made } => {
                all(&[&path.display(), first, last, &format!("{made:.0}")])
            }
            Self::LostSpace { path, bytes } => all(&[&path.display(), bytes]),
            Self::UnknownJob { what } => all(&[what]),
            Self::Panic { message } => all(&[message]),
            Self::CleanupFailed { path, reason } => all(&[&path.display(), reason]),
            Self::JobNotEnded { job, state } => all(&[job, state]),
            Self::DiskInUse { disk, holder } => all(&[disk, holder]),
            Self::NameInUse { what, name } | Self::NotFound { what, name } => all(&[what, name]),
            Self::BadSize { size, reason, nearest } => {
                let nearest = nearest.map_or_else(|| "none".to_owned(), |n| n.to_string());
                all(&[size, reason, &nearest])
            }
            Self::TailInUse { disk, first, size } => all(&[disk, size, first]),
            Self::NoReflinks { path } => all(&[&path.display()]),
            Self::BadName { what, name, reason } => all(&[name, what, reason]),
            Self::TargetInUse { target, mappings } => all(&[target, mappings]),
            Self::PoolUnavailable { pool, directory, reason } => {
                all(&[pool, &directory.display(), reason])
            }
            Self::PoolNearlyFull { pool, free, threshold }
            | Self::PoolExhausted { pool, free, threshold } => all(&[pool, free, threshold]),
            Self::PoolInUse { pool, disks, jobs } => all(&[pool, disks, jobs]),
            Self::BadValue { property, reason } => all(&[property, reason]),
            Self::StoreReplaced { moved_to, restored } => all(&[&moved_to.display(), restored]),
            Self::RecordsDamaged { damaged, restored } => all(&[damaged, restored]),
            Self::StoreNearlyFull { place, available, needed } => {
                all(&[&place.display(), &available, needed])
            }
            Self::ShuttingDown | Self::ChangedMeanwhile => Vec::new(),
            Self::LastAdministrator { user } => all(&[user]),
            Self::LoginChapFailed { initiator, target }
            | Self::LoginNotAuthorized { initiator, target } => all(&[initiator, target]),
            Self::LoginUnavailable { initiator, target, reason }
            | Self::SessionDropped { initiator, target, reason } => {
                all(&[initiator, target, reason])
            }
            Self::ProtocolError { initiator, reason } => all(&[initiator, reason]),
        }
    }

    /// The `CIM_Error`, with `source` as the element that it comes from.
    #[must_use]
    pub fn to_cim_error(&self, source: Option<&Element>, paths: &ObjectPaths) -> CimError {
        let row = self.row();
        let message_arguments = self.arguments();
        CimError {
            error_type: row.error_type,
            other_error_type: row.other_error_type.map(str::to_owned),
            owning_entity: OWNING_ENTITY.to_owned(),
            message_id: row.id.to_owned(),
            message: row.format(&message_arguments),
            message_arguments,
            perceived_severity: row.severity,
            probable_cause: row.probable_cause,
            probable_cause_description: Some(row.description.to_owned()),
            recommended_actions: row.actions.iter().map(|&action| action.to_owned()).collect(),
            error_source: source.map(|element| paths.of(element)),
            error_source_format: if source.is_some() { 2 } else { 0 },
            other_error_source_format: None,
            cim_status_code: row.status,
            cim_status_code_description: Some(status_name(row.status).to_owned()),
        }
    }
}
