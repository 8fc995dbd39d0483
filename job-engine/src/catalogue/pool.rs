//! Storage pools: directories that hold images.

use std::path::PathBuf;

use crate::id::PoolId;

/// Whether a pool can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolState {
    /// Its file system answers.
    Ready,
    /// It does not; the text says why.
    Unavailable(String),
}

/// A pool as it is now. All sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its identifier.
    pub id: PoolId,
    /// The directory.
    pub directory: PathBuf,
    /// Size of the file system that holds it; 0 if it is unavailable.
    pub total_bytes: u64,
    /// What may still be used of it, without what is reserved.
    pub free_bytes: u64,
    /// Promised to jobs that are still allocating.
    pub reserved_bytes: u64,
    /// Whether it can be used.
    pub state: PoolState,
}
