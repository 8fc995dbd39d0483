//! The database behind a small trait, and what stands beside it: lock and journal.

mod journal;
mod lock;
mod mem;
mod record;
mod schema;
mod sled;

pub(crate) use journal::{
    Entry as JournalEntry, Journal, NAME as JOURNAL, line as journal_line,
    read_all as parse_journal,
};
pub(crate) use lock::DirectoryLock;
pub(crate) use lock::LockError;
pub use mem::{MemContents, MemStore};
pub use record::{BadRecord, Batch, Operation, load};
pub(crate) use record::{mark, put_mark, put_schema, schema};
pub(crate) use schema::{MIGRATIONS, current as current_schema, migrate};
pub use sled::{Opened, SledStore};

/// A named set of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tree {
    /// Jobs and faults, by identifier.
    Jobs,
    /// Disks, by identifier.
    Disks,
    /// Targets, by name.
    Targets,
    /// Mappings, by target and LUN.
    Mappings,
    /// Persistent reservations, by disk.
    Reservations,
    /// Users, by name.
    Users,
    /// Tokens, by name.
    Tokens,
    /// Access states of portal groups that were set, by group and target.
    AccessStates,
    /// Saved mode pages, by disk.
    ModePages,
    /// What management protocols keep, by name.
    Records,
    /// What stands between disks and their initiators, by disk.
    Conditions,
    /// Snapshots of disks, by identifier.
    Snapshots,
    /// Pools that are not configured, by name.
    Pools,
    /// What is wrong with pools, by name.
    PoolHealth,
    /// Files that have no owner any more and are to be removed, by path.
    Debris,
    /// Messages about changes that are still to be sent, by key.
    Messages,
    /// What the database says about itself.
    Meta,
}

impl Tree {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Jobs,
        Self::Disks,
        Self::Targets,
        Self::Mappings,
        Self::Reservations,
        Self::Users,
        Self::Tokens,
        Self::AccessStates,
        Self::ModePages,
        Self::Records,
        Self::Conditions,
        Self::Snapshots,
        Self::Pools,
        Self::PoolHealth,
        Self::Debris,
        Self::Messages,
        Self::Meta,
    ];

    /// Its name in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Disks => "disks",
            Self::Targets => "targets",
            Self::Mappings => "mappings",
            Self::Reservations => "reservations",
            Self::Users => "users",
            Self::Tokens => "tokens",
            Self::AccessStates => "access-states",
            Self::ModePages => "mode-pages",
            Self::Records => "records",
            Self::Conditions => "conditions",
            Self::Snapshots => "snapshots",
            Self::Pools => "pools",
            Self::PoolHealth => "pool-health",
            Self::Debris => "debris",
            Self::Messages => "messages",
            Self::Meta => "meta",
        }
    }
}

/// Why the database did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be read or written now; [`Store::reopen`] may help.
    #[error("{0}")]
    Unavailable(String),
    /// It is damaged.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// A newer version of the program wrote it.
    #[error(
        "it has schema {found}, and this version knows those up to {known}; use the version that \
         wrote it, or import a saved state"
    )]
    TooNew {
        /// Its schema.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
}

/// A key and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// A transactional key-value store. One thread uses it at a time.
pub trait Store: Send {
    /// The value of a key.
    ///
    /// # Errors
    /// `Unavailable` or `Damaged`.
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// All keys of a tree in their order, with their values.
    ///
    /// # Errors
    /// `Unavailable` or `Damaged`.
    fn scan(&self, tree: Tree) -> Result<Vec<KeyValue>, StoreError>;

    /// Does all of it or nothing. When it returns `Ok`, it is on the medium.
    ///
    /// # Errors
    /// After an error it is unknown whether it was done; nothing else is accepted until
    /// [`Store::reopen`] succeeds.
    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError>;

    /// Tries to get back to work after an error.
    ///
    /// # Errors
    /// As before.
    fn reopen(&mut self) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests;
