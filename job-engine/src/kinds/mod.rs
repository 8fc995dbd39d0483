//! One file per kind of job: persisted idempotent steps, and how they are undone.

use serde::{Deserialize, Serialize};

use crate::catalogue::{BlockLength, Provisioning};
use crate::id::PoolId;

/// A request for a new virtual disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateDisk {
    /// Its name, unique among the disks.
    pub name: String,
    /// Size in bytes: a multiple of the block length, at least one physical block.
    pub size_bytes: u64,
    /// Logical block length.
    pub block_length: BlockLength,
    /// Thin or full.
    pub provisioning: Provisioning,
    /// The pool; `None` is the default pool.
    pub pool: Option<PoolId>,
}

impl CreateDisk {
    /// A thin disk with 512-byte blocks in the default pool.
    #[must_use]
    pub fn new(name: impl Into<String>, size_bytes: u64) -> Self {
        Self {
            name: name.into(),
            size_bytes,
            block_length: BlockLength::default(),
            provisioning: Provisioning::default(),
            pool: None,
        }
    }
}
