//! iSCSI targets.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::access::AccessEntry;

/// What the names of targets made here start with: `iqn.2026-01.io.lund:<name>`.
pub const IQN_PREFIX: &str = "iqn.2026-01.io.lund:";

/// A target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its iSCSI name (RFC 7143 §4.2.7), lower case, unique.
    pub name: String,
    /// `TargetAlias`; may be empty.
    pub alias: String,
    /// When it was made.
    pub created: Timestamp,
    /// Who may use it, and nobody else; `None` lets everybody in. Targets that were made before
    /// there were entries have none.
    #[serde(default)]
    pub access: Option<Vec<AccessEntry>>,
}

/// The iSCSI name of a target that is called `name`: itself if it is one already.
#[must_use]
pub fn default_target_name(name: &str) -> String {
    let lower = name.to_lowercase();
    if ["iqn.", "eui.", "naa."].iter().any(|prefix| lower.starts_with(prefix)) {
        lower
    } else {
        format!("{IQN_PREFIX}{lower}")
    }
}
