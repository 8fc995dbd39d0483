//! The configuration as a whole, as a file can hold it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Access, AccessState, ImageFormat, Secret};

/// What is wanted, or what there is. A list that is null is not spoken of: what it would hold stays
/// as it is. What a list does not name is taken away, but for disks, which are never deleted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// The generation that this was read from. What is wanted is refused if it is another one by
    /// then; null for whatever there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Disks that there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disks: Option<Vec<DeclaredDisk>>,
    /// Targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<DeclaredTarget>>,
    /// Limits of what initiators may read and write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Vec<DeclaredLimit>>,
    /// CHAP accounts, but for those that stand in the daemon's own configuration file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chap_accounts: Option<Vec<DeclaredAccount>>,
    /// Access states of portal groups that operators have set. What initiators have set is no part
    /// of this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_states: Option<Vec<DeclaredState>>,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclaredDisk {
    /// Its name.
    pub name: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Logical block length: 512 (default) or 4096.
    #[serde(default = "block_length")]
    pub block_length: u32,
    /// `thin` (default) or `full`.
    #[serde(default)]
    pub provisioning: job_engine::Provisioning,
    /// `raw` (default), `qcow2`, `vhdx` or `vhd`.
    #[serde(default)]
    #[schemars(with = "ImageFormat")]
    pub format: job_engine::ImageFormat,
    /// Writes of initiators are refused.
    #[serde(default)]
    pub read_only: bool,
}

const fn block_length() -> u32 {
    512
}

/// A target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclaredTarget {
    /// An iSCSI name, or a short name that gets the default prefix.
    pub name: String,
    /// `TargetAlias`.
    #[serde(default)]
    pub alias: String,
    /// Its LUNs.
    #[serde(default)]
    pub luns: Vec<DeclaredLun>,
    /// Who may use it; null is everybody, an empty list nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Vec<Access>>,
}

/// A LUN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclaredLun {
    /// The number.
    pub lun: u16,
    /// The disk's name.
    pub disk: String,
}

/// A limit, of a disk or an initiator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclaredLimit {
    /// The disk's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// The initiator's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiator: Option<String>,
    /// Reads and writes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iops: Option<u64>,
    /// Bytes read and written a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// As in a limit.
    #[serde(default = "super::limit::burst")]
    pub burst_ms: u32,
}

/// A CHAP account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclaredAccount {
    /// CHAP_N.
    pub user: String,
    /// The only targets it is good for; null for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<Vec<String>>,
    /// The only initiators it is good for; null for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiators: Option<Vec<String>>,
    /// 12 to 255 bytes; never told. An account that is there keeps its own without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
}

/// An access state of a portal group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclaredState {
    /// The group's tag.
    pub group: u16,
    /// For this target only; null for all for which nothing else is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The state.
    pub state: AccessState,
}

/// How a configuration is put in force: parameters of the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Configure {
    /// Nothing is changed: the answer says what would be.
    #[serde(default)]
    pub dry_run: bool,
    /// Targets that no account protects any more may be open to everybody from then on.
    #[serde(default)]
    pub open: bool,
}

/// What a configuration changes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigurationChanges {
    /// The generation that there is now: that of the changes if they were made, else the one that
    /// they are for.
    pub generation: u64,
    /// They were made; `false` for a dry run, and if there are none.
    pub applied: bool,
    /// What is changed at once, all of it or nothing.
    pub changes: Vec<ConfigurationChange>,
    /// What must be done before, by jobs: disks that are to be made or to grow. Unless it is a dry
    /// run, this is empty: a configuration that needs more than there is is refused.
    pub jobs: Vec<ConfigurationJob>,
    /// The configuration as it is then.
    pub configuration: Configuration,
}

/// What happens to a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It comes.
    Create,
    /// It changes.
    Change,
    /// It goes.
    Delete,
}

/// A change of one thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigurationChange {
    /// What happens to it.
    pub change: Change,
    /// What it is: `disk`, `target`, `limit`, `chap_account`, `access_state`.
    pub kind: String,
    /// Which.
    pub name: String,
    /// The members that change; a secret is named, and not told.
    pub members: Vec<String>,
}

/// A job that a configuration needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigurationJob {
    /// `create-disk` or `expand-disk`.
    pub kind: String,
    /// The disk.
    pub disk: DeclaredDisk,
}
