//! Pools.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pool {
    /// Its identifier.
    pub id: String,
    /// Its directory.
    pub directory: String,
    /// It stands in the configuration, or is the default pool: it is changed there.
    pub configured: bool,
    /// Size of its file system in bytes.
    pub total_bytes: u64,
    /// Bytes that may still be used.
    pub free_bytes: u64,
    /// Bytes promised to jobs that are still allocating.
    pub reserved_bytes: u64,
    /// Sizes of all disks in it.
    pub provisioned_bytes: u64,
    /// Disks in it.
    pub disks: usize,
    /// Why it cannot be used; none if it can.
    pub unavailable: Option<String>,
    /// It has less free space than its hard threshold: thin disks take no more.
    pub exhausted: bool,
    /// What thin disks may promise: `none` (a new disk is not larger than the free space),
    /// `unlimited`, or as in `200%` of the pool's size for all disks together.
    pub overcommit: String,
    /// Free space that no job takes: `5%` of the size, or bytes.
    pub reserve: Option<String>,
    /// Free space below which initiators of thin disks are warned.
    pub soft_thresholds: Vec<String>,
    /// Free space below which thin disks take no more.
    pub hard_threshold: Option<String>,
    /// Disks are read and written past the page cache.
    pub direct_io: bool,
}

/// A request for a new pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreatePool {
    /// Its name: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// A directory that is there: absolute, without links, with nothing of another pool.
    pub directory: String,
    /// `none` (default), `unlimited` or as in `200%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overcommit: Option<String>,
    /// Free space that no job takes: as in `5%` or `10GiB`; `none` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<String>,
    /// Free space below which initiators of thin disks are warned: up to 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_thresholds: Option<Vec<String>>,
    /// Free space below which thin disks take no more; `none` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard_threshold: Option<String>,
    /// Whether disks are read and written past the page cache; not, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_io: Option<bool>,
}

/// What the space of a pool may be used for, and how. What is not given stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePool {
    /// `none`, `unlimited` or as in `200%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overcommit: Option<String>,
    /// Free space that no job takes: as in `5%` or `10GiB`; `none` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<String>,
    /// Free space below which initiators of thin disks are warned: up to 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_thresholds: Option<Vec<String>>,
    /// Free space below which thin disks take no more; `none` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard_threshold: Option<String>,
    /// Whether disks are read and written past the page cache; those in use follow at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_io: Option<bool>,
}
