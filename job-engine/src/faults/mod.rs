//! Errors on the data path, as a record that management clients see.

use std::path::PathBuf;

use disk_image::{ImageErrorKind, Operation};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::DiskId;

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

/// All errors with one cause on one disk. The fields without `first` tell of the latest one.
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
}
