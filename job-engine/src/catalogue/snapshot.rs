//! Snapshots of disks.

use std::path::PathBuf;

use disk_image::ImageFormat;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{DiskId, JobId, SnapshotId};

/// Snapshots of one disk.
pub const MAX_SNAPSHOTS: usize = 512;

/// Images that a disk's own is laid over, one over the other. Each costs a look at its tables.
pub const MAX_OVERLAYS: usize = MAX_SNAPSHOTS;

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
    /// Its file. Where the file system shares no blocks it was the disk's own, until the disk got
    /// another one that is laid over it.
    pub path: PathBuf,
    /// The format of its file; none in records of before it could be another one than the disk's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<ImageFormat>,
    /// The snapshot that its image is laid over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SnapshotId>,
    /// It was deleted, or never was one for clients: its file is there for the images that are laid
    /// over it.
    #[serde(default)]
    pub hidden: bool,
    /// The instant.
    pub created: Timestamp,
    /// The job that made it, and others with it.
    pub created_by: JobId,
}
