//! What a management protocol wants to find again after a start.

use serde::{Deserialize, Serialize};

/// A text under a name. Nothing here reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRecord {
    /// Its name.
    pub name: String,
    /// The text.
    pub text: String,
}
