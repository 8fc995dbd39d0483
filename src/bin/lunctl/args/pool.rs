//! Pools.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Pool {
    /// List all
    List,
    /// Show one
    Show {
        /// Its name
        pool: String,
    },
    /// Make a pool of a directory that is there
    Create {
        /// Its name
        name: String,
        /// The directory on the daemon's host, absolute and without links
        directory: PathBuf,
        #[command(flatten)]
        space: PoolSpace,
    },
    /// Change what the space of a pool may be used for, and how
    Change {
        /// Its name
        pool: String,
        #[command(flatten)]
        space: PoolSpace,
    },
    /// Use a pool without disks no more; its directory stays
    Delete {
        /// Its name
        pool: String,
    },
}

/// What the space of a pool may be used for.
#[derive(Debug, Args)]
pub(crate) struct PoolSpace {
    /// What thin disks may promise: none (a new disk is not larger than the free space), unlimited,
    /// or as in 200% of the pool's size for all of its disks together
    #[arg(long, value_name = "HOW")]
    pub(crate) overcommit: Option<String>,
    /// Free space that no job takes, as in 5% or 10GiB, or none
    #[arg(long, value_name = "SPACE")]
    pub(crate) reserve: Option<String>,
    /// Free space below which initiators of thin disks are warned (repeatable), or none
    #[arg(long, value_name = "SPACE")]
    pub(crate) soft_threshold: Vec<String>,
    /// Free space below which thin disks take no more, or none
    #[arg(long, value_name = "SPACE")]
    pub(crate) hard_threshold: Option<String>,
    /// Whether disks are read and written past the page cache
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) direct_io: Option<bool>,
}
