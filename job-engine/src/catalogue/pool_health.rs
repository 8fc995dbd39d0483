//! What is wrong with a pool, as it was seen last and told of.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk::{Disk, Provisioning};
use super::snapshot::DiskSnapshot;
use crate::error::CimError;
use crate::id::PoolId;

/// What is wrong with a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// Its free space is below a soft threshold.
    NearlyFull,
    /// Its free space is below the hard threshold: thin disks take no more.
    Exhausted,
    /// It is not there.
    Unavailable,
}

impl Trouble {
    /// What [`Trouble::Exhausted`] is, for operators.
    pub const EXHAUSTED: &str = "the pool is below its hard threshold";

    /// Its name for clients.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NearlyFull => "nearly-full",
            Self::Exhausted => "exhausted",
            Self::Unavailable => "unavailable",
        }
    }
}

/// A pool with which something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolHealth {
    /// The pool.
    pub pool: PoolId,
    /// Its directory.
    pub directory: PathBuf,
    /// What is wrong.
    pub trouble: Trouble,
    /// Why, in few words.
    pub reason: String,
    /// The same for operators, with the numbers of when it began.
    pub error: CimError,
}

impl PoolHealth {
    fn holds(&self, path: &Path) -> bool {
        path.parent() == Some(self.directory.as_path())
    }

    /// Whether it is the trouble of a disk too.
    #[must_use]
    pub fn concerns(&self, disk: &Disk) -> bool {
        let thin = disk.provisioning != Provisioning::Full && disk.takes_pool_space();
        self.holds(&disk.path)
            && match self.trouble {
                Trouble::NearlyFull => false,
                Trouble::Exhausted => thin,
                Trouble::Unavailable => true,
            }
    }

    /// Whether it is the trouble of a snapshot too: nothing is written to one.
    #[must_use]
    pub fn concerns_snapshot(&self, snapshot: &DiskSnapshot) -> bool {
        self.trouble == Trouble::Unavailable && self.holds(&snapshot.path)
    }
}
