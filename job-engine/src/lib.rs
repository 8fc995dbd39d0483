//! The persisted side: store, catalogue, jobs, CIM_Error.
//!
//! Everything here is synchronous and may wait for the medium: call it from a thread that may
//! block, never from a reactor's worker. The one exception is [`Engine::record_fault`].
#![forbid(unsafe_code)]

pub mod catalogue;
mod checksums;
mod clock;
mod datapath;
mod engine;
pub mod error;
mod event;
pub mod failpoint;
mod faults;
mod id;
mod job;
mod kinds;
mod parents;
mod place;
mod plan;
pub mod store;

pub use catalogue::{
    AccessEntry, AccessState, AccessStateChange, BlockLength, Disk, DiskSnapshot, LunView,
    MAX_SOFT_THRESHOLDS, Mapping, Overcommit, Pool, PoolHealth, PoolLimits, PoolSettings,
    PoolState, Provisioning, Role, SecretHash, StoredAccessState, StoredCondition, StoredRecord,
    Target, Threshold, Token, Trouble, User,
};
pub use clock::{Clock, ManualClock, SystemClock};
pub use datapath::{DataPath, Mirrored, NoDataPath, SwitchError, Switched};
pub use disk_image::ImageFormat;
pub use engine::{
    AccessChange, AccountChange, BadEventPosition, COMMIT_BOUNDS, ChangedBlocks, ChangedExtent,
    Checks, CloneDisk, Condition, Configuration, CreateSnapshots, Engine, EngineConfig,
    EventPosition, Events, Expose, ExposeTo, ExposeUnit, Exposing, FaultCount, Hide, ImportDisk,
    ImportError, Imported, JobCounts, JobView, LiveImages, MapRequest, MoveDisk, OpenError, Outbox,
    Shown, Snapshot, StoreFigures, TargetRequest, WantedTarget, condition_holds, import_state,
    under,
};
pub use error::{Cause, CimError, ObjectPaths, RequestError};
pub use event::{ChangeEvent, ChangeKind};
pub use faults::{FaultDetail, FaultPlace, FaultPlaces, FaultReport};
pub use id::{DiskId, INSTANCE_ID_PREFIX, InvalidId, JobId, Naa, PoolId, SnapshotId};
pub use job::{
    AffectedElement, ChecksumState, ChecksumsUsed, DEFAULT_PRIORITY, DEFAULT_TIME_BEFORE_REMOVAL,
    Element, ElementEffect, Job, JobKind, JobSettings, JobState, KillJobResult, Purpose,
    RequestKey, RequestStateChangeResult, RequestedState, Submission,
};
pub use kinds::{
    CreateDisk, DiskOperation, MAX_SIZE_BYTES, OperationControl, OperationError, OperationRequest,
    OperationRunner, Stopped,
};
