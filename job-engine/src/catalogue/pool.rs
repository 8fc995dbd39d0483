//! Storage pools: directories that hold images.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::name::InvalidName;
use crate::id::PoolId;
use crate::kinds::MAX_SIZE_BYTES;

/// Soft thresholds of a pool.
pub const MAX_SOFT_THRESHOLDS: usize = 8;

/// Pools beside the default one.
pub const MAX_POOLS: usize = 256;

/// Longest name of a pool in characters.
const MAX_NAME: usize = 64;

/// Whether a pool can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolState {
    /// Its file system answers.
    Ready,
    /// It does not, or is not there; the text says why.
    Unavailable(String),
}

/// A part of a pool's file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Threshold {
    /// Of its size, 1 to 99.
    Percent(u8),
    /// Bytes.
    Bytes(u64),
}

impl Threshold {
    /// In bytes, for a file system of this size.
    #[must_use]
    pub fn bytes(self, total: u64) -> u64 {
        match self {
            Self::Percent(percent) => {
                let bytes = u128::from(total) * u128::from(percent) / 100;
                u64::try_from(bytes).unwrap_or(u64::MAX)
            }
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

/// How much more thin disks may promise than there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overcommit {
    /// A new disk is not larger than the free space.
    #[default]
    None,
    /// All disks of the pool together have at most so many percent of its size.
    Percent(u32),
    /// Whatever.
    Unlimited,
}

/// What a pool's space may be used for, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PoolLimits {
    /// Over-commitment by thin disks.
    #[serde(default)]
    pub overcommit: Overcommit,
    /// Free space that no job takes.
    #[serde(default)]
    pub reserve: Option<Threshold>,
    /// Free space below which initiators of thin disks are warned (38h/07h).
    #[serde(default)]
    pub soft_thresholds: Vec<Threshold>,
    /// Free space below which thin disks take no more (07h/27h/07h).
    #[serde(default)]
    pub hard_threshold: Option<Threshold>,
    /// Disks are read and written past the page cache.
    #[serde(default)]
    pub direct_io: bool,
}

/// A pool as it was configured or made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolSettings {
    /// Its name.
    pub id: PoolId,
    /// The directory: absolute.
    pub directory: PathBuf,
    /// What its space may be used for.
    #[serde(default)]
    pub limits: PoolLimits,
}

/// A pool as it is now. All sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its identifier.
    pub id: PoolId,
    /// The directory.
    pub directory: PathBuf,
    /// It stands in the configuration, or is the default pool: it is changed there.
    pub configured: bool,
    /// What its space may be used for.
    pub limits: PoolLimits,
    /// Size of the file system that holds it; 0 if it is unavailable.
    pub total_bytes: u64,
    /// What may still be used of it, without what is reserved.
    pub free_bytes: u64,
    /// Promised to jobs that are still allocating.
    pub reserved_bytes: u64,
    /// Sizes of all disks in it.
    pub provisioned_bytes: u64,
    /// Disks in it.
    pub disks: usize,
    /// Whether it can be used.
    pub state: PoolState,
}

impl Pool {
    /// Its free space is below the hard threshold: thin disks take no more.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        let hard = self.limits.hard_threshold.map(|it| it.bytes(self.total_bytes));
        self.state == PoolState::Ready
            && hard.is_some_and(|hard| self.free_bytes.saturating_add(self.reserved_bytes) < hard)
    }

    /// The size of the largest disk, thin or not, that can be made in it now.
    #[must_use]
    pub fn largest_disk(&self, thin: bool) -> u64 {
        let free = self.free_bytes.saturating_sub(self.reserved_bytes);
        match self.limits.overcommit {
            Overcommit::Unlimited if thin => MAX_SIZE_BYTES,
            Overcommit::Percent(percent) if thin => {
                let limit = u128::from(self.total_bytes) * u128::from(percent) / 100;
                let limit = u64::try_from(limit).unwrap_or(u64::MAX);
                limit.saturating_sub(self.provisioned_bytes).min(MAX_SIZE_BYTES)
            }
            Overcommit::None | Overcommit::Percent(_) | Overcommit::Unlimited => free,
        }
    }
}

/// Checks the name of a pool: 1 to 64 letters, digits, `-`, `_` and `.`, the first one a letter or
/// digit.
///
/// # Errors
/// Says which rule is broken.
pub fn check_pool_name(name: &str) -> Result<(), InvalidName> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > MAX_NAME {
        Err(InvalidName("it has 1 to 64 characters"))
    } else if !name.chars().all(allowed) {
        Err(InvalidName("it has letters, digits, `-`, `_` and `.` only"))
    } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        Err(InvalidName("it begins with a letter or a digit"))
    } else {
        Ok(())
    }
}
