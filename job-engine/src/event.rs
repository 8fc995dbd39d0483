//! What changed: told to subscribers in order, after it is on the medium.

use std::sync::Arc;

use crate::catalogue::{
    Disk, DiskSnapshot, Mapping, PoolHealth, PoolSettings, StoredCondition, Target,
};
use crate::id::{DiskId, PoolId};
use crate::job::Job;

/// One change. Numbers rise by one and start anew with every start of the engine.
#[derive(Debug, Clone)]
pub struct ChangeEvent {
    /// Position in the sequence of all changes since the engine was opened.
    pub sequence: u64,
    /// What changed.
    pub change: ChangeKind,
}

/// What changed.
#[derive(Debug, Clone)]
pub enum ChangeKind {
    /// A job was submitted, or a fault recorded for the first time.
    JobCreated(Arc<Job>),
    /// State, progress or settings of a job changed.
    JobChanged {
        /// Before.
        previous: Arc<Job>,
        /// After.
        current: Arc<Job>,
    },
    /// A job was removed.
    JobDeleted(Arc<Job>),
    /// A disk can be used.
    DiskCreated(Arc<Disk>),
    /// A disk has become larger or smaller.
    DiskChanged(Arc<Disk>),
    /// Something stands between a disk and its initiators from now on, or something else.
    ConditionChanged(Arc<StoredCondition>),
    /// Nothing stands between a disk and its initiators any more.
    ConditionOver(DiskId),
    /// A disk is gone.
    DiskDeleted(Arc<Disk>),
    /// A pool was made.
    PoolCreated(Arc<PoolSettings>),
    /// What the space of a pool may be used for has changed.
    PoolChanged(Arc<PoolSettings>),
    /// A pool is used no more.
    PoolDeleted(Arc<PoolSettings>),
    /// Something is wrong with a pool from now on, something else, or nothing any more.
    PoolHealthChanged {
        /// The pool.
        pool: PoolId,
        /// What was wrong.
        previous: Option<Arc<PoolHealth>>,
        /// What is wrong.
        current: Option<Arc<PoolHealth>>,
    },
    /// A snapshot was taken.
    SnapshotCreated(Arc<DiskSnapshot>),
    /// A snapshot is gone.
    SnapshotDeleted(Arc<DiskSnapshot>),
    /// A target was made.
    TargetCreated(Arc<Target>),
    /// Who may use a target changed.
    TargetChanged(Arc<Target>),
    /// A target is gone.
    TargetDeleted(Arc<Target>),
    /// A disk became a LUN.
    MappingCreated(Arc<Mapping>),
    /// A LUN is gone.
    MappingDeleted(Arc<Mapping>),
}
