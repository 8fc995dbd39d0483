//! What the daemon runs with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A setting in force, by its key in the configuration file. Secrets are none of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Setting {
    /// Its key, as in `iscsi.max_sessions`.
    pub key: String,
    /// Its value; null if it has none.
    pub value: serde_json::Value,
    /// What changes it while the daemon runs; null if only the file and a restart do.
    pub run_time: Option<String>,
}
