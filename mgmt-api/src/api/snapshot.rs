//! Snapshots.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A request for snapshots of disks, all at the same instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSnapshots {
    /// The disks, by name or identifier.
    pub disks: Vec<String>,
    /// Name of each snapshot, unique among those of its disk.
    pub name: String,
}

/// A request for a disk with the data of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExposeSnapshot {
    /// Name of the disk.
    pub name: String,
    /// Writes to it are refused.
    #[serde(default)]
    pub read_only: bool,
    /// It is an image that is laid over the snapshot, even where blocks could be shared; the
    /// snapshot cannot be deleted as long as the disk is there.
    #[serde(default)]
    pub linked: bool,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// Its identifier.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The disk's identifier.
    pub disk: String,
    /// The disk's name.
    pub disk_name: String,
    /// Size in bytes that the disk had.
    pub size_bytes: u64,
    /// Its file.
    pub path: String,
    /// The format of that.
    #[schemars(with = "super::ImageFormat")]
    pub format: job_engine::ImageFormat,
    /// The instant.
    pub created: Timestamp,
    /// Space that its file takes; what it shares with others is counted here too. None if it is gone.
    #[serde(default)]
    pub allocated_bytes: Option<u64>,
    /// The snapshot that its image lies over, by identifier, where images lie over each other.
    #[serde(default)]
    pub parent: Option<String>,
    /// Those that have this in common are of the same instant: the job that made them.
    pub group: String,
}

/// A run of bytes that may differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangedExtent {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// It reads as zeroes now.
    pub zeroes: bool,
}

/// What has changed since a snapshot: a page of it. What is not listed is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changes {
    /// Size of the disk in bytes, as it is at the end of the time that is looked at.
    pub size_bytes: u64,
    /// In order.
    pub extents: Vec<ChangedExtent>,
    /// The `offset` of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

impl Snapshot {
    /// `DISK@NAME`
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}@{}", self.disk_name, self.name)
    }
}
