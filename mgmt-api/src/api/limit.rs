//! Limits of what initiators may use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A limit in force: of a disk, or of an initiator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limit {
    /// The disk's name: all sessions of all its LUNs together.
    pub disk: Option<String>,
    /// The initiator's name: all its sessions together.
    pub initiator: Option<String>,
    /// What it is.
    #[serde(flatten)]
    pub limit: SetLimit,
}

/// A request for a limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetLimit {
    /// Reads and writes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iops: Option<u64>,
    /// Bytes read and written a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// For so many milliseconds the rates may have been saved up: what may come at once after a
    /// pause. At most 60000.
    #[serde(default = "burst")]
    pub burst_ms: u32,
}

pub(super) const fn burst() -> u32 {
    100
}
