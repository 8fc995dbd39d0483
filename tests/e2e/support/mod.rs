//! What all tests need. No crate of lund is used here: the tests judge from outside.

mod busy;
mod daemon;
mod discovery;
mod http;
mod initiator;
mod lunctl;
mod pdu;
mod scsi;

use std::time::{Duration, Instant};

pub(crate) use busy::Busy;
pub(crate) use daemon::{Daemon, Place, exit_of, free_address};
pub(crate) use discovery::discover;
pub(crate) use http::{exchange, request};
pub(crate) use initiator::Session;
pub(crate) use lunctl::{Run, lunctl, lunctl_command};
pub(crate) use pdu::Pdu;
pub(crate) use scsi::{
    Done, LUN_NOT_SUPPORTED, MEDIUM_ERROR, NOT_READY, REPORTED_LUNS_CHANGED,
    SPACE_ALLOCATION_FAILED,
};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const MIB: u64 = 1 << 20;

/// Waits for a condition: looks until there is something to see.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begin.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
