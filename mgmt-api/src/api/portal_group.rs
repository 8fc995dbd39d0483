//! Portal groups and the access states of their ports.

pub use job_engine::AccessState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A portal group: a port of every target that is reached through it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortalGroup {
    /// Target Portal Group Tag.
    pub tag: u16,
    /// Where it is served.
    pub portals: Vec<String>,
    /// Hosts should use it, other things being equal.
    pub preferred: bool,
    /// The state for every target for which nothing else was set.
    pub state: AccessState,
    /// The state that the configuration says.
    pub configured_state: AccessState,
    /// Targets for which another state was set.
    pub targets: Vec<TargetState>,
}

/// A state that was set for one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetState {
    /// The target's iSCSI name.
    pub target: String,
    /// The state.
    pub state: AccessState,
    /// By an initiator, with SET TARGET PORT GROUPS.
    pub explicit: bool,
}

/// A request to bring a group into a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetAccessState {
    /// `active-optimized`, `active-non-optimized`, `standby`, `unavailable` or `transitioning`.
    pub state: AccessState,
    /// For one target only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// A request to bring a group back into the state that is configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetAccessState {
    /// For one target only.
    #[serde(default)]
    pub target: Option<String>,
}
