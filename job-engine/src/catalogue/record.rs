//! What a management protocol wants to find again after a start.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the names of records begin with that belong to the configuration: limits and CHAP accounts.
pub const CONFIGURATION_RECORDS: &[&str] = &["limit/", "chap-account/"];

/// A text under a name. Nothing here reads it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRecord {
    /// Its name.
    pub name: String,
    /// The text.
    pub text: String,
}

/// The text may hold secrets: it does not get into logs.
impl fmt::Debug for StoredRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredRecord").field("name", &self.name).finish_non_exhaustive()
    }
}
