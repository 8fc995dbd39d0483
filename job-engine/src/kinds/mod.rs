//! One file per kind of job: persisted idempotent steps, and how they are undone.
//!
//! A step is recorded, then done; being done twice does no harm. So a job that was interrupted
//! anywhere goes on from its last recorded step, or is undone from there.

mod create_disk;
mod delete_disk;
mod expand_disk;
mod operation;
mod space;

pub use create_disk::{CreateDisk, MAX_SIZE_BYTES};
pub(crate) use create_disk::{create_options, plan_disk};
pub(crate) use expand_disk::check_growth;
pub use operation::{
    DiskOperation, OperationControl, OperationError, OperationRequest, OperationRunner, Stopped,
};
pub(crate) use operation::{end as end_operation, name as operation_name};

use serde::{Deserialize, Serialize};

use crate::engine::{Change, Failure, JobContext, JobRecord};
use crate::error::Cause;
use crate::failpoint::{self, Commit};
use crate::job::JobKind;

/// The last step of a job that was recorded before it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// Nothing has been done.
    Pending,
    /// The image's file is being made.
    CreateAllocating,
    /// The disk is out of the catalogue, and its file is being removed.
    DeleteUnlinking,
    /// The image's file is being made longer.
    ExpandAllocating,
    /// An action of the job's plan has begun.
    Planned {
        /// Which one.
        index: u32,
        /// How far it is, durably.
        done: u64,
    },
    /// Who serves the disk is at it.
    Operating {
        /// It is durable up to here.
        position: u64,
    },
    /// What the job changes is in the catalogue, and the data path follows it. Its end alone is missing.
    InForce,
    /// A step of another version of the program.
    Unknown,
}

impl Step {
    /// A step that is not known is no reason to take the whole record for damaged.
    pub(crate) fn lenient<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let written = serde_json::Value::deserialize(from)?;
        Ok(serde_json::from_value(written).unwrap_or(Self::Unknown))
    }
}

/// The end of a job that this version cannot carry out.
fn unknown(record: &JobRecord) -> Failure {
    Cause::UnknownJob { what: record.job.kind.word().to_owned() }.into()
}

/// Runs a job from its last recorded step to its end.
pub(crate) fn run(context: &JobContext, record: &JobRecord) -> Result<(), Failure> {
    if record.step == Step::Unknown {
        return Err(unknown(record));
    }
    if record.step == Step::InForce {
        return Ok(context.end(end_point(record))?);
    }
    match &record.job.kind {
        JobKind::CreateDisk { disk, .. } => create_disk::run(context, disk, record.step),
        JobKind::DeleteDisk { disk } => delete_disk::run(context, disk, record.step),
        JobKind::ExpandDisk { disk, size_bytes } => {
            expand_disk::run(context, disk, *size_bytes, record.step)
        }
        JobKind::Planned { .. } => match &record.plan {
            Some(plan) if plan.is_unknown() => Err(unknown(record)),
            Some(plan) => crate::plan::run(context, plan, record.step),
            None => Err(Cause::Panic { message: "the job has no plan".to_owned() }.into()),
        },
        JobKind::Operation(operation) => operation::run(context, operation, record.step),
        JobKind::DataPathFault(_) => Ok(()),
        JobKind::Unknown(_) => Err(unknown(record)),
    }
}

fn end_point(record: &JobRecord) -> Commit {
    if matches!(record.job.kind, JobKind::ExpandDisk { .. }) {
        return failpoint::EXPAND_COMPLETE;
    }
    failpoint::PLAN_COMPLETE
}

/// Undoes what a job did: what belongs into the transaction that ends it, and what could not be
/// undone now.
pub(crate) fn undo(record: &JobRecord) -> (Vec<Change>, Option<Cause>) {
    if record.step == Step::InForce {
        return (Vec::new(), None);
    }
    if let Some(plan) = &record.plan {
        return crate::plan::undo(plan, record.step, record.job.id);
    }
    match (&record.job.kind, record.step) {
        (JobKind::CreateDisk { disk, .. }, Step::CreateAllocating | Step::Unknown) => {
            create_disk::undo(disk, record.job.id)
        }
        (JobKind::DeleteDisk { disk }, Step::DeleteUnlinking) => delete_disk::undo(disk),
        (JobKind::ExpandDisk { disk, .. }, Step::ExpandAllocating) => expand_disk::undo(disk),
        (JobKind::Operation(operation), _) => (operation::end(operation), None),
        _ => (Vec::new(), None),
    }
}
