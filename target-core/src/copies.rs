//! Long copies as operations that operators see: EXTENDED COPY and WRITE USING TOKEN of
//! [`LONG_COPY`] bytes or more.
//!
//! A copy belongs to its command and its session, so it does not go on after a restart: its
//! initiator has been told nothing, and may write to the same blocks again. It is recorded before
//! its first piece; who carries operations out follows it, hears how far it is, and can stop it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::io::{Control, CopyEnd, Stop};
use crate::operation::{OperationControl, OperationError, OperationRequest};
use crate::unit::LogicalUnit;

/// Copies of so many bytes are recorded.
pub(crate) const LONG_COPY: u64 = 256 << 20;
/// Recorded copies to one unit at once; more are not recorded.
const MAX_RECORDED: usize = 64;
/// So often whoever follows a copy says how far it is.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);
/// So long it waits for the piece under way of a copy that was stopped.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// First byte of what names a copy: none of `scsi::operation::MediumOperation`.
const COPY: u8 = 0xc0;
const IDENTITY_LENGTH: usize = 16;

/// Names a copy. Random, so that no copy of another process is taken for it.
type Identity = [u8; IDENTITY_LENGTH];

/// The recorded copies that write to a unit.
#[derive(Debug, Default)]
pub(crate) struct UnitCopies(Mutex<Vec<(Identity, Arc<Control>)>>);

impl UnitCopies {
    fn add(&self, identity: Identity, control: &Arc<Control>) -> bool {
        let mut copies = self.0.lock();
        let room = copies.len() < MAX_RECORDED;
        if room {
            copies.push((identity, control.clone()));
        }
        room
    }

    fn find(&self, identity: &Identity) -> Option<Arc<Control>> {
        let copies = self.0.lock();
        copies.iter().find(|(other, _)| other == identity).map(|(_, control)| control.clone())
    }

    fn remove(&self, identity: &Identity) {
        self.0.lock().retain(|(other, _)| other != identity);
    }
}

/// Whether an operation is a copy: of no use without the process that began it.
#[must_use]
pub fn is_copy(operation: &[u8]) -> bool {
    operation.first() == Some(&COPY)
}

/// Has a copy to `unit` recorded. One that cannot be is done all the same: the record is for those
/// who watch it, and what it has written needs none.
pub(crate) fn record(unit: &LogicalUnit, initiator: &str, control: &Arc<Control>) {
    let mut identity = Identity::default();
    if getrandom::fill(&mut identity).is_err() || !unit.copies().add(identity, control) {
        tracing::warn!(unit = unit.name(), initiator, "a long copy is not recorded");
        return;
    }
    let mut operation = vec![COPY];
    operation.extend_from_slice(&identity);
    let begun = unit.operations().begin(OperationRequest {
        unit: unit.name().to_owned(),
        word: "copy-blocks",
        verb: "Copy blocks to",
        initiator: initiator.to_owned(),
        operation,
        condition: None,
    });
    match begun {
        Ok(id) => tracing::info!(unit = unit.name(), initiator, id, "a long copy has begun"),
        Err(refused) => {
            unit.copies().remove(&identity);
            tracing::warn!(unit = unit.name(), initiator, %refused, "a long copy is not recorded");
        }
    }
}

/// Follows a recorded copy to its end.
pub(crate) fn follow(
    unit: &LogicalUnit,
    operation: &[u8],
    control: &dyn OperationControl,
) -> Result<(), OperationError> {
    let identity = operation.strip_prefix(&[COPY]).and_then(|it| Identity::try_from(it).ok());
    let copy = identity.and_then(|identity| Some((identity, unit.copies().find(&identity)?)));
    let Some((identity, copy)) = copy else { return Err(OperationError::Lost) };
    let result = loop {
        let end = copy.wait(Instant::now() + FOLLOW_INTERVAL);
        if let Some(end) = end {
            break result(end);
        }
        if let Err(stopped) = control.progress(copy.bytes(), copy.total()) {
            copy.stop(Stop::Aborted);
            // Whoever ended it is told that it is over when it cannot write any more.
            let _ = copy.wait(Instant::now() + STOP_LIMIT);
            break Err(stopped);
        }
    };
    unit.copies().remove(&identity);
    result
}

fn result(end: CopyEnd) -> Result<(), OperationError> {
    match end {
        CopyEnd::Done => Ok(()),
        CopyEnd::Failed(error) => Err(OperationError::Image(error)),
        CopyEnd::Cancelled(by) => Err(OperationError::Cancelled(by)),
    }
}
