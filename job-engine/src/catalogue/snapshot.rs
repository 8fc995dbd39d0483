//! Snapshots of disks.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{DiskId, JobId, SnapshotId};

/// Snapshots of one disk.
pub const MAX_SNAPSHOTS: usize = 512;

/// What a disk was at one instant. Snapshots that one job made are of the same instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSnapshot {
    /// Its identifier.
    pub id: SnapshotId,
    /// Its name, unique among the snapshots of the disk.
    pub name: String,
    /// The disk.
    pub disk: DiskId,
    /// Size in bytes that the disk had.
    pub size_bytes: u64,
    /// Its file.
    pub path: PathBuf,
    /// The instant.
    pub created: Timestamp,
    /// The job that made it, and others with it.
    pub created_by: JobId,
}
