//! Persistent reservations that survive a power loss (APTPL, SPC-4 §5.13.5).

use serde::{Deserialize, Serialize};

use crate::id::DiskId;

/// What a disk's logical unit must know again after a start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredReservations {
    /// The disk.
    pub disk: DiskId,
    /// The state as the SCSI layer writes it; nothing here reads it.
    pub state: Vec<u8>,
}
