//! Errors on the data path, as records that management clients see.
//!
//! A report costs the data path one short lock and never a wait for the medium. Reports with one
//! cause on one disk become one record that counts; the database hears of them at most once a
//! second, whatever rains in.

mod places;
mod record;

pub use places::{FaultPlace, FaultPlaces};

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use disk_image::{ImageErrorKind, Operation};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::engine::{Message, Shared};
use crate::error::{Cause, ImageContext};
use crate::id::DiskId;

/// Records that wait for the database at most. Causes are few: this is a bound on disks.
const MAX_PENDING: usize = 1024;

/// One error on the data path, as the engine that serves the LUN saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultReport {
    /// The disk.
    pub disk: DiskId,
    /// The target's iSCSI name.
    pub target: String,
    /// The LUN.
    pub lun: u16,
    /// First logical block of the command, if it had one.
    pub lba: Option<u64>,
    /// Operation code of the command.
    pub opcode: u8,
    /// The initiator's iSCSI name.
    pub initiator: String,
    /// The cause.
    pub kind: ImageErrorKind,
    /// What was being done.
    pub operation: Operation,
    /// The errno.
    pub errno: Option<i32>,
    /// The file.
    pub path: PathBuf,
    /// The error in words.
    pub text: String,
}

/// All errors with one cause on one disk. The fields that are not about time or number tell of the
/// latest one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultDetail {
    /// The disk.
    pub disk: DiskId,
    /// `MessageID` of the cause: what the errors have in common.
    pub message_id: String,
    /// How many.
    pub count: u64,
    /// When the first one happened.
    pub first: Timestamp,
    /// When the latest one happened.
    pub last: Timestamp,
    /// The target's iSCSI name.
    pub target: String,
    /// The LUN.
    pub lun: u16,
    /// First logical block of the command.
    pub lba: Option<u64>,
    /// Operation code of the command.
    pub opcode: u8,
    /// The initiator's iSCSI name.
    pub initiator: String,
    /// The operation on the image, as a verb.
    pub operation: String,
    /// The errno.
    pub errno: Option<i32>,
    /// The file.
    pub path: PathBuf,
    /// The error in words.
    pub text: String,
    /// Where all of them were. A record of an earlier version has none.
    #[serde(default)]
    pub places: FaultPlaces,
}

/// Faults that the database does not know yet.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) faults: HashMap<(DiskId, &'static str), PendingFault>,
}

/// Faults of one disk and cause since the database was told.
#[derive(Debug)]
pub(crate) struct PendingFault {
    pub(crate) count: u64,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) latest: FaultReport,
    pub(crate) places: FaultPlaces,
}

impl PendingFault {
    /// Puts older ones under newer ones.
    pub(crate) fn after(mut self, older: &Self) -> Self {
        self.count = self.count.saturating_add(older.count);
        self.first = older.first;
        self.places.extend(&older.places);
        self
    }
}

/// The cause of a fault, without what the record adds to it.
pub(crate) fn cause(report: &FaultReport) -> Cause {
    let context =
        ImageContext { errno: report.errno, ..ImageContext::new(report.operation, &report.path) };
    Cause::from_image(report.kind, context)
}

impl Shared {
    /// Takes a report in. Never waits for the medium.
    pub(crate) fn record_fault(&self, report: FaultReport) {
        let key = (report.disk, cause(&report).row().id);
        let now = self.now();
        let place = (report.operation.verb(), report.lba);
        let first_to_come = {
            let mut pending = self.faults.lock();
            let was_empty = pending.faults.is_empty();
            let full = pending.faults.len() >= MAX_PENDING;
            match pending.faults.get_mut(&key) {
                Some(fault) => {
                    fault.count = fault.count.saturating_add(1);
                    fault.last = now;
                    fault.latest = report;
                    fault.places.add(place.0, place.1);
                }
                None if full => {
                    self.faults_dropped.fetch_add(1, Ordering::Relaxed);
                }
                None => {
                    let mut places = FaultPlaces::default();
                    places.add(place.0, place.1);
                    let (count, first, last, latest) = (1, now, now, report);
                    let fault = PendingFault { count, first, last, latest, places };
                    pending.faults.insert(key, fault);
                }
            }
            was_empty
        };
        if first_to_come {
            // An engine that has stopped records nothing any more.
            let _ = self.sender.send(Message::Wake);
        }
    }
}
