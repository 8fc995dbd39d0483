//! What only who serves a disk can do to it, since he has it open and others use it meanwhile: a
//! sanitize operation, a format, a long copy. Nothing here knows what it is.
//!
//! 1. the request is recorded together with the condition that keeps initiators away, if there is
//!    one; 2. record `Operating`; 3. the runner works, and says now and then how far everything is
//!    durable, from where it goes on after a crash; 4. one transaction takes the condition away and
//!    completes the job. Whatever else the job comes to puts the other condition in force.

use std::cell::RefCell;

use disk_image::ImageError;
use serde::{Deserialize, Serialize};

use super::Step;
use crate::catalogue::{Disk, StoredCondition};
use crate::engine::{Change, Failure, IfEnding, JobContext};
use crate::error::Cause;
use crate::failpoint;

/// What shall be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRequest {
    /// A short word for it, as scripts like it: `sanitize-disk`.
    pub word: String,
    /// A verb for people, as in `Sanitize disk a`.
    pub verb: String,
    /// `Owner`: who asked for it.
    pub owner: String,
    /// For the runner; it must mean the same after a restart.
    pub operation: Vec<u8>,
    /// What stands between the disk and its initiators while it is done; and what does so after
    /// any end but success.
    pub condition: Option<(Vec<u8>, Vec<u8>)>,
}

/// The same in a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskOperation {
    /// The disk.
    pub disk: Disk,
    /// [`OperationRequest::word`].
    pub word: String,
    /// For the runner.
    pub operation: Vec<u8>,
    /// The condition after any end but success, if there is one in force meanwhile.
    pub otherwise: Option<Vec<u8>>,
}

impl DiskOperation {
    /// Whether it only follows what initiators do: then it keeps nobody else from the disk, takes
    /// no worker's place, and cannot be suspended.
    pub(crate) fn follows(&self) -> bool {
        self.otherwise.is_none()
    }

    pub(crate) fn new(request: OperationRequest, disk: Disk) -> Self {
        let OperationRequest { word, operation, condition, .. } = request;
        Self { disk, word, operation, otherwise: condition.map(|(_, otherwise)| otherwise) }
    }
}

/// One line for people.
pub(crate) fn name(request: &OperationRequest, disk: &Disk) -> String {
    format!("{} disk {}", request.verb, disk.name)
}

/// Carries out operations.
pub trait OperationRunner: Send + Sync {
    /// Does it, from where [`OperationControl::reached`] was told last: doing some of it twice must
    /// do no harm. Success means that all of it is durable.
    ///
    /// # Errors
    /// See [`OperationError`].
    fn run(
        &self,
        disk: &Disk,
        operation: &[u8],
        from: u64,
        control: &dyn OperationControl,
    ) -> Result<(), OperationError>;
}

impl std::fmt::Debug for dyn OperationRunner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OperationRunner")
    }
}

/// What a runner tells, and hears.
pub trait OperationControl {
    /// So much of it is done. Between two pieces: an operation must not go on when it may not.
    ///
    /// # Errors
    /// [`Stopped`]: leave now.
    fn progress(&self, done: u64, total: u64) -> Result<(), Stopped>;

    /// Everything up to here is durable.
    ///
    /// # Errors
    /// [`Stopped`]: leave now.
    fn reached(&self, position: u64) -> Result<(), Stopped>;
}

/// The job was suspended, terminated or killed, or the engine stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

/// Why an operation did not come to its end.
#[derive(Debug)]
pub enum OperationError {
    /// It was told to leave.
    Stopped,
    /// The image failed.
    Image(ImageError),
    /// It cannot be done; the text says why.
    Refused(String),
    /// Something else than a client of the engine ended it: what did.
    Cancelled(String),
    /// It ended with the process that began it.
    Lost,
}

impl From<Stopped> for OperationError {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<ImageError> for OperationError {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

struct Control<'a> {
    context: &'a JobContext,
    /// Why it was told to leave.
    stopped: RefCell<Option<Failure>>,
}

impl Control<'_> {
    fn stop(&self, why: impl Into<Failure>) -> Stopped {
        *self.stopped.borrow_mut() = Some(why.into());
        Stopped
    }
}

impl OperationControl for Control<'_> {
    fn progress(&self, done: u64, total: u64) -> Result<(), Stopped> {
        self.context.boundary().map_err(|why| self.stop(why))?;
        self.context.progress(done, total).map_err(|why| self.stop(why))
    }

    fn reached(&self, position: u64) -> Result<(), Stopped> {
        let step = Step::Operating { position };
        let recorded = self.context.step(failpoint::OPERATION_REACHED, step, Vec::new());
        recorded.map_err(|why| self.stop(why))
    }
}

pub(super) fn run(
    context: &JobContext,
    operation: &DiskOperation,
    step: Step,
) -> Result<(), Failure> {
    let from = if let Step::Operating { position } = step {
        position
    } else {
        let begun = Step::Operating { position: 0 };
        context.step(failpoint::OPERATION_BEGUN, begun, Vec::new())?;
        0
    };
    let runner = context.shared.runner.lock().clone();
    let Some(runner) = runner else {
        let reason = "nobody serves disks here".to_owned();
        return Err(Cause::CouldNotStart { reason }.into());
    };
    let control = Control { context, stopped: RefCell::new(None) };
    match runner.run(&operation.disk, &operation.operation, from, &control) {
        Ok(()) => {}
        Err(OperationError::Image(error)) => return Err(Cause::from(&error).into()),
        Err(OperationError::Refused(reason)) => return Err(Cause::CouldNotStart { reason }.into()),
        Err(OperationError::Cancelled(by)) => return Err(Cause::Cancelled { by }.into()),
        Err(OperationError::Lost) => {
            let step = operation.word.clone();
            return Err(Cause::RestartedDuringJob { step }.into());
        }
        Err(OperationError::Stopped) => {
            let reason = "the operation stopped by itself".to_owned();
            let stopped = control.stopped.into_inner();
            return Err(stopped.unwrap_or_else(|| Cause::CouldNotStart { reason }.into()));
        }
    }
    failpoint::hit("operation.done");
    let over = operation.otherwise.as_ref().map(|_| Change::DeleteCondition(operation.disk.id));
    let effect = over.into_iter().collect();
    Ok(context.complete(failpoint::OPERATION_COMPLETE, IfEnding::GoOn, effect)?)
}

/// What belongs into the transaction that ends it without success.
pub(crate) fn end(operation: &DiskOperation) -> Vec<Change> {
    let disk = operation.disk.id;
    let otherwise = operation.otherwise.clone();
    otherwise
        .map(|condition| Change::PutCondition(StoredCondition { disk, condition }))
        .into_iter()
        .collect()
}
