//! What exists: pools, disks, targets, mappings, users and tokens. Values and rules, no I/O.

mod access;
mod account;
mod disk;
mod mapping;
mod name;
mod pool;
mod reservations;
mod target;

pub use access::{AccessEntry, InvalidEntry, LunView, parse_network};
pub use account::{Role, SecretHash, Token, User, check_account_name};
pub use disk::{BlockLength, Disk, PHYSICAL_BLOCK_LENGTH, Provisioning};
pub use mapping::{MAX_LUN, Mapping, lowest_free_lun};
pub use name::{InvalidName, check_disk_name, check_initiator_pattern, check_iscsi_name};
pub use pool::{Pool, PoolState};
pub use reservations::StoredReservations;
pub use target::{IQN_PREFIX, Target, default_target_name};
