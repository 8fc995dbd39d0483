//! Saved values of mode pages (MODE SELECT with SP, SPC-4 §6.9).

use serde::{Deserialize, Serialize};

use crate::id::DiskId;

/// What a disk's logical unit begins with after a start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredModePages {
    /// The disk.
    pub disk: DiskId,
    /// The pages as the SCSI layer writes them; nothing here reads them.
    pub pages: Vec<u8>,
}
