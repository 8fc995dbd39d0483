//! Long operations on units that a crash must not end: SANITIZE, FORMAT UNIT, long copies.
//!
//! A command begins one through [`Operations`], which records it outside of here. Whoever keeps the
//! records has [`run_operation`] called, in this process or in the next one, until it has come to an
//! end, and says through [`LogicalUnit::set_condition`] what the end was. Operations on the whole
//! medium have a condition that keeps other commands away, from before they are recorded until they
//! have succeeded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use crate::connection::Sender;
use disk_image::ImageError;
use iscsi_proto::session::TaskId;
use parking_lot::{Mutex, MutexGuard};
use scsi::operation::{Condition, MediumOperation, Progress};
use scsi::{MediumState, Sense};

use crate::connection::Message;
use crate::exclusion::{Exclusion, Shut};
use crate::fault;
use crate::io;
use crate::unit::LogicalUnit;

/// A long operation that shall be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRequest {
    /// The unit that it is an operation of ([`crate::UnitConfig::name`]).
    pub unit: String,
    /// A short word for it, as scripts like it: `sanitize-disk`.
    pub word: &'static str,
    /// A verb for people, as in `Sanitize disk a`.
    pub verb: &'static str,
    /// The initiator's iSCSI name.
    pub initiator: String,
    /// What [`run_operation`] takes.
    pub operation: Vec<u8>,
    /// [`crate::UnitConfig::condition`] while it is not over; and after any end but success.
    pub condition: Option<(Vec<u8>, Vec<u8>)>,
}

/// Why an operation was not begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationRefused {
    /// Something else is being done to the unit's disk, and ends by itself.
    #[error("{0}")]
    Busy(String),
    /// It cannot be recorded.
    #[error("{0}")]
    Unavailable(String),
}

/// Records long operations. May wait for the medium, not for commands of the unit.
pub trait Operations: Send + Sync {
    /// Records an operation and its condition. When it returns `Ok`, it will be carried out
    /// whatever happens; the identifier names it to operators.
    ///
    /// # Errors
    /// See [`OperationRefused`]: nothing is recorded then.
    fn begin(&self, request: OperationRequest) -> Result<String, OperationRefused>;

    /// Forgets the condition that a failed operation left.
    ///
    /// # Errors
    /// It could not be stored.
    fn clear_condition(&self, unit: &str) -> Result<(), OperationRefused>;
}

/// Records nothing, so nothing can be begun.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoOperations;

impl Operations for NoOperations {
    fn begin(&self, _request: OperationRequest) -> Result<String, OperationRefused> {
        Err(OperationRefused::Unavailable("operations are not kept here".to_owned()))
    }

    fn clear_condition(&self, _unit: &str) -> Result<(), OperationRefused> {
        Ok(())
    }
}

/// What an operation tells while it is carried out, and hears.
pub trait OperationControl {
    /// So much of it is done. Called between two pieces.
    ///
    /// # Errors
    /// [`OperationError::Stopped`]: it must leave now.
    fn progress(&self, done: u64, total: u64) -> Result<(), OperationError>;

    /// Everything up to here is durable: after a crash it begins there.
    ///
    /// # Errors
    /// [`OperationError::Stopped`]: it must leave now.
    fn reached(&self, position: u64) -> Result<(), OperationError>;
}

/// Why an operation did not come to its end.
#[derive(Debug)]
pub enum OperationError {
    /// It was told to leave.
    Stopped,
    /// The image failed.
    Image(ImageError),
    /// It cannot be done.
    Refused(&'static str),
    /// Something else than an operator ended it: what did.
    Cancelled(&'static str),
    /// It ended with the process that began it.
    Lost,
}

impl From<ImageError> for OperationError {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

/// Carries out an operation that was begun, from `position` on. Doing some of it twice does no
/// harm. On success all of it is durable. Sleeps as long as it takes.
///
/// # Errors
/// See [`OperationError`].
pub fn run_operation(
    unit: &Arc<LogicalUnit>,
    operation: &[u8],
    position: u64,
    control: &dyn OperationControl,
) -> Result<(), OperationError> {
    if crate::copies::is_copy(operation) {
        return crate::copies::follow(unit, operation, control);
    }
    let operation = MediumOperation::from_bytes(operation)
        .ok_or(OperationError::Refused("the operation is of another version of lund"))?;
    // Already so, but for the first moments after a start of it or of the process.
    unit.claim().shut(unit.exclusion(), operation.during());
    io::medium::run(unit, &operation, position, control)
}

/// Who waits for the end of an operation.
#[derive(Debug)]
struct Waiter {
    task: TaskId,
    reply: Sender,
}

/// What keeps the commands of a unit away from its medium.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    /// There is something: looked at by every command.
    is_set: AtomicBool,
    progress: AtomicU16,
    state: Mutex<State>,
    /// Held while an operation writes.
    piece: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    condition: Option<Condition>,
    /// Kept while an operation is not over.
    shut: Option<Shut>,
    waiters: Vec<Waiter>,
}

impl Claim {
    /// With the condition that was stored before the start.
    pub(crate) fn new(condition: Option<Condition>, exclusion: &Exclusion) -> Self {
        let claim = Self::default();
        if let Some(condition) = condition {
            claim.set(exclusion, Some(condition));
        }
        claim
    }

    /// The state of the medium, if anything stands between it and commands.
    pub(crate) fn medium_state(&self) -> Option<MediumState> {
        if !self.is_set.load(Ordering::Acquire) {
            return None;
        }
        let condition = self.state.lock().condition?;
        Some(MediumState::Claimed(condition, self.progress.load(Ordering::Relaxed)))
    }

    /// Why no block may be touched, if none may.
    pub(crate) fn refusal(&self) -> Option<Sense> {
        match self.medium_state()? {
            MediumState::Claimed(condition, progress) => Some(condition.sense(progress)),
            MediumState::NotReady(sense) => Some(sense),
            MediumState::Ready => None,
        }
    }

    /// How far the operation is.
    pub(crate) fn set_progress(&self, done: u64, total: u64) {
        let part = u128::from(done.min(total)) * 65536 / u128::from(total.max(1));
        let progress = Progress::try_from(part).unwrap_or(Progress::MAX);
        self.progress.store(progress, Ordering::Relaxed);
    }

    /// Begins an operation, if none is under way, and comes back when no command of another kind
    /// touches a block any more; the condition before.
    pub(crate) fn begin(
        &self,
        exclusion: &Exclusion,
        during: Condition,
    ) -> Result<Option<Condition>, Sense> {
        let before = {
            let mut state = self.state.lock();
            if let Some(now) = state.condition.filter(|now| now.is_in_progress()) {
                return Err(now.sense(self.progress.load(Ordering::Relaxed)));
            }
            self.progress.store(0, Ordering::Relaxed);
            self.enter(&mut state, exclusion, during)
        };
        exclusion.alone(|| ());
        Ok(before)
    }

    /// Makes sure that an operation that is carried out is alone.
    fn shut(&self, exclusion: &Exclusion, during: Condition) {
        {
            let mut state = self.state.lock();
            if state.condition != Some(during) {
                self.enter(&mut state, exclusion, during);
            }
        }
        exclusion.alone(|| ());
    }

    fn enter(
        &self,
        state: &mut State,
        exclusion: &Exclusion,
        during: Condition,
    ) -> Option<Condition> {
        let before = state.condition.replace(during);
        state.shut.get_or_insert_with(|| exclusion.shut());
        self.is_set.store(true, Ordering::Release);
        before
    }

    /// Takes over what was recorded, or undoes what was not; who waits is told.
    pub(crate) fn set(&self, exclusion: &Exclusion, condition: Option<Condition>) {
        let mut state = self.state.lock();
        let in_progress = condition.is_some_and(Condition::is_in_progress);
        if let (true, Some(condition)) = (in_progress, condition) {
            self.enter(&mut state, exclusion, condition);
            return;
        }
        state.condition = condition;
        self.is_set.store(condition.is_some(), Ordering::Release);
        // Blocks are out of reach after a failure too, until the condition is over.
        match condition {
            Some(_) => drop(state.shut.get_or_insert_with(|| exclusion.shut())),
            None => state.shut = None,
        }
        let result = condition.map_or(Ok(()), |condition| Err(condition.failure()));
        for Waiter { task, reply } in state.waiters.drain(..) {
            // A connection that is gone has nobody to tell.
            let _ = reply.send(Message::OperationEnded { task, result });
        }
    }

    /// Keeps the operation from coming to another end while this is held; none if it has.
    pub(crate) fn piece(&self, during: Condition) -> Option<MutexGuard<'_, ()>> {
        let piece = self.piece.lock();
        (self.state.lock().condition == Some(during)).then_some(piece)
    }

    /// Has the end of the operation told; at once if it is over.
    pub(crate) fn wait(&self, task: TaskId, reply: Sender) {
        let mut state = self.state.lock();
        let result = match state.condition {
            Some(condition) if condition.is_in_progress() => {
                state.waiters.push(Waiter { task, reply });
                return;
            }
            Some(condition) => Err(condition.failure()),
            None => Ok(()),
        };
        let _ = reply.send(Message::OperationEnded { task, result });
    }
}

/// Records an operation on the whole medium, which nobody else can touch from now on.
pub(crate) fn begin(
    unit: &LogicalUnit,
    operation: &MediumOperation,
    initiator: String,
) -> Result<(), Sense> {
    let before = unit.claim().begin(unit.exclusion(), operation.during())?;
    let (word, verb) = match operation.during() {
        Condition::Formatting | Condition::FormatFailed => ("format-disk", "Format"),
        Condition::Sanitizing | Condition::SanitizeFailed { .. } => ("sanitize-disk", "Sanitize"),
    };
    let request = OperationRequest {
        unit: unit.name().to_owned(),
        word,
        verb,
        initiator,
        operation: operation.to_bytes(),
        condition: Some((operation.during().to_bytes(), operation.otherwise().to_bytes())),
    };
    match unit.operations().begin(request) {
        Ok(id) => {
            tracing::info!(unit = unit.name(), id, "an initiator has begun to {verb} a disk");
            Ok(())
        }
        Err(refused) => {
            tracing::error!(unit = unit.name(), %refused, "an operation cannot be begun");
            unit.claim().set(unit.exclusion(), before);
            Err(refusal(&refused))
        }
    }
}

/// EXIT FAILURE MODE.
pub(crate) fn exit_failure_mode(unit: &LogicalUnit) -> Result<(), Sense> {
    unit.operations().clear_condition(unit.name()).map_err(|refused| refusal(&refused))?;
    // The job may have been ended under an operation that has not left yet.
    let _piece = unit.claim().piece.lock();
    unit.claim().set(unit.exclusion(), None);
    Ok(())
}

fn refusal(refused: &OperationRefused) -> Sense {
    match refused {
        OperationRefused::Busy(_) => fault::busy(),
        OperationRefused::Unavailable(_) => fault::no_resources(),
    }
}
