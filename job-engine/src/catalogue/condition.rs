//! What stands between a disk and its initiators: an operation that is not over, or has failed.

use serde::{Deserialize, Serialize};

use crate::id::DiskId;

/// What a disk's logical unit must know again after a start, and at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCondition {
    /// The disk.
    pub disk: DiskId,
    /// The condition as the SCSI layer writes it; nothing here reads it.
    pub condition: Vec<u8>,
}
