//! Asymmetric access states of portal groups that were set (SPC-4 §5.11).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// ASYMMETRIC ACCESS STATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AccessState {
    /// Every command runs.
    #[default]
    ActiveOptimized,
    /// Every command runs; other groups are faster.
    ActiveNonOptimized,
    /// Commands about the unit run, those that need its medium do not.
    Standby,
    /// Hardly anything runs.
    Unavailable,
    /// On its way to another state.
    Transitioning,
}

impl AccessState {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ActiveOptimized,
        Self::ActiveNonOptimized,
        Self::Standby,
        Self::Unavailable,
        Self::Transitioning,
    ];

    /// Its name, as it is written to clients and read from them.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ActiveOptimized => "active-optimized",
            Self::ActiveNonOptimized => "active-non-optimized",
            Self::Standby => "standby",
            Self::Unavailable => "unavailable",
            Self::Transitioning => "transitioning",
        }
    }
}

/// A state that was set, instead of the one that is configured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAccessState {
    /// Tag of the portal group.
    pub group: u16,
    /// The target's iSCSI name; without it, every target for which nothing else was set.
    pub target: Option<String>,
    /// The state.
    pub state: AccessState,
    /// By an initiator: SET TARGET PORT GROUPS.
    pub explicit: bool,
}

/// A change of what was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessStateChange {
    /// Instead of what was there for the same group and target.
    Put(StoredAccessState),
    /// What was there for this group and target is no more.
    Delete {
        /// Tag of the portal group.
        group: u16,
        /// The target, if it was set for one.
        target: Option<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_in_json() {
        for state in AccessState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
    }
}
