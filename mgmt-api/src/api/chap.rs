//! Accounts with which initiators prove who they are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;

/// A CHAP account. Its secret is never told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChapAccount {
    /// CHAP_N.
    pub user: String,
    /// iSCSI names of the only targets it is good for; without them it is good for all.
    pub targets: Option<Vec<String>>,
    /// Names or patterns of the only initiators it is good for; without them it is good for all.
    pub initiators: Option<Vec<String>>,
    /// It is good for discovery and nothing else.
    pub discovery_only: bool,
    /// It stands in the configuration, and can only be changed there.
    pub configured: bool,
}

/// A request for a CHAP account, or for another form of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetChapAccount {
    /// 12 to 255 bytes. An account that is there keeps its own without this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// The only targets it is good for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<String>>,
    /// The only initiators it is good for: names, or patterns with `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiators: Option<Vec<String>>,
    /// Targets that no other account protects may be open to everybody from then on.
    #[serde(default)]
    pub open: bool,
}

/// A request to take a CHAP account away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteChapAccount {
    /// As in [`SetChapAccount`].
    #[serde(default)]
    pub open: bool,
}
