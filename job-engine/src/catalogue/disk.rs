//! Virtual disks.

use std::path::{Path, PathBuf};

use disk_image::ImageFormat;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{DiskId, JobId, Naa, PoolId, SnapshotId};

/// Bytes in a physical block of every disk.
pub const PHYSICAL_BLOCK_LENGTH: u32 = 4096;

/// Bytes in a logical block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum BlockLength {
    /// 512 bytes.
    #[default]
    B512,
    /// 4096 bytes.
    B4096,
}

impl BlockLength {
    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u32 {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }
}

impl From<BlockLength> for u32 {
    fn from(length: BlockLength) -> Self {
        length.bytes()
    }
}

impl TryFrom<u32> for BlockLength {
    type Error = String;

    fn try_from(bytes: u32) -> Result<Self, String> {
        match bytes {
            512 => Ok(Self::B512),
            4096 => Ok(Self::B4096),
            other => Err(format!("a logical block has 512 or 4096 bytes, not {other}")),
        }
    }
}

/// Whether a disk owns its space from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provisioning {
    /// Space is taken when it is written.
    #[default]
    Thin,
    /// All space is taken when the disk is made.
    Full,
}

/// A virtual disk. Everything here but its size is fixed for its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its identifier.
    pub id: DiskId,
    /// Its name, unique among the disks.
    pub name: String,
    /// Size in bytes, a multiple of the block length.
    pub size_bytes: u64,
    /// Logical block length.
    pub block_length: BlockLength,
    /// Thin or full.
    pub provisioning: Provisioning,
    /// The format of its file. Nothing in the file can change that.
    #[serde(default)]
    pub format: ImageFormat,
    /// Unit serial number (VPD page 80h): 16 upper-case hexadecimal digits.
    pub serial: String,
    /// NAA identifier (VPD page 83h).
    pub naa: Naa,
    /// The snapshot that its image is laid over: what it has not itself is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<SnapshotId>,
    /// Writes are refused.
    #[serde(default)]
    pub read_only: bool,
    /// The block device that it was taken in from, as long as its data are there: its file is a link to it,
    /// or lies over that link since a snapshot was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<PathBuf>,
    /// The pool that it lives in.
    pub pool: PoolId,
    /// Its file.
    pub path: PathBuf,
    /// When its job was submitted.
    pub created: Timestamp,
    /// The job that made it.
    pub created_by: JobId,
}

impl Disk {
    /// Whether what is written to it takes space of its pool; else a device of its own has it.
    #[must_use]
    pub fn takes_pool_space(&self) -> bool {
        self.device.is_none() || self.parent.is_some()
    }

    /// Where what is written to it lies: its device, or its file.
    #[must_use]
    pub fn holder(&self) -> &Path {
        self.device.as_deref().filter(|_| self.parent.is_none()).unwrap_or(&self.path)
    }

    /// Logical blocks in all.
    #[must_use]
    pub fn block_count(&self) -> u64 {
        self.size_bytes / u64::from(self.block_length.bytes())
    }
}
