//! What exists: pools, disks, targets, mappings, users and tokens. Values and rules, no I/O.

mod access;
mod access_state;
mod account;
mod condition;
mod disk;
mod mapping;
mod mode_pages;
mod name;
mod pool;
mod pool_health;
mod record;
mod reservations;
mod snapshot;
mod target;

pub use access::{AccessEntry, InvalidEntry, LunView, parse_network};
pub use access_state::{AccessState, AccessStateChange, StoredAccessState};
pub use account::{Role, SecretHash, Token, User, check_account_name};
pub use condition::StoredCondition;
pub use disk::{BlockLength, Disk, PHYSICAL_BLOCK_LENGTH, Provisioning};
pub use mapping::{MAX_LUN, Mapping, lowest_free_lun};
pub use mode_pages::StoredModePages;
pub use name::{InvalidName, check_disk_name, check_initiator_pattern, check_iscsi_name};
pub use pool::{
    MAX_POOLS, MAX_SOFT_THRESHOLDS, Overcommit, Pool, PoolLimits, PoolSettings, PoolState,
    Threshold, check_pool_name,
};
pub use pool_health::{PoolHealth, Trouble};
pub use record::{CONFIGURATION_RECORDS, StoredRecord};
pub use reservations::StoredReservations;
pub use snapshot::{DiskSnapshot, MAX_OVERLAYS, MAX_SNAPSHOTS};
pub use target::{IQN_PREFIX, Target, default_target_name};
