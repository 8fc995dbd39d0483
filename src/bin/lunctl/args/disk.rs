//! Disks and snapshots, and how the jobs run that change them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use job_engine::{ImageFormat, Provisioning};

use super::Filter;

/// Whether to wait for the job.
#[derive(Debug, Args)]
pub(crate) struct Waiting {
    /// Do not wait for the job to end
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DiskCommand {
    #[command(subcommand)]
    pub(crate) verb: Disk,
    #[command(flatten)]
    pub(crate) how: How,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotCommand {
    #[command(subcommand)]
    pub(crate) verb: Snapshot,
    #[command(flatten)]
    pub(crate) how: How,
}

/// How the job runs that a command submits.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "How the job runs")]
pub(crate) struct How {
    /// Start the job when this one has ended well
    #[arg(long, global = true, value_name = "JOB")]
    pub(crate) after: Vec<String>,
    /// Lower numbers go first [default: 100]
    #[arg(long, global = true)]
    pub(crate) job_priority: Option<u32>,
    /// Do not start the job before, as in 2026-01-31T22:00:00Z
    #[arg(long, global = true, value_name = "TIME")]
    pub(crate) job_start_at: Option<Timestamp>,
    /// The job fails if it takes longer
    #[arg(long, global = true, value_name = "SECONDS")]
    pub(crate) job_time_limit: Option<u64>,
    /// What the job copies at most a second, as in 100MiB
    #[arg(long, global = true, value_name = "SIZE", value_parser = mgmt_api::size::parse)]
    pub(crate) job_bandwidth: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Disk {
    /// Create a disk
    Create {
        /// Its name
        name: String,
        /// Its size, as in 10GiB
        #[arg(long, value_parser = mgmt_api::size::parse)]
        size: u64,
        /// Bytes in a logical block: 512 or 4096
        #[arg(long, value_name = "BYTES")]
        block_length: Option<u32>,
        /// Whether the disk owns its space from the start
        #[arg(long, value_enum, default_value_t = Space::Thin)]
        provisioning: Space,
        /// The format of its file: raw, qcow2, vhdx or vhd
        #[arg(long, default_value_t)]
        format: ImageFormat,
        /// Its pool [default: the default pool]
        #[arg(long)]
        pool: Option<String>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// List all disks
    List(Filter),
    /// Show a disk
    Show {
        /// Its name or identifier
        disk: String,
    },
    /// Make a disk larger, while it is in use
    Expand {
        /// Its name or identifier
        disk: String,
        /// Its new size, as in 20GiB
        #[arg(long, value_parser = mgmt_api::size::parse)]
        size: u64,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Have writes of initiators to a disk refused, at once
    Protect {
        /// Its name or identifier
        disk: String,
    },
    /// Let initiators write to a disk again
    Unprotect {
        /// Its name or identifier
        disk: String,
    },
    /// Make a disk smaller, while it is in use, by blocks that hold no data
    Shrink {
        /// Its name or identifier
        disk: String,
        /// Its new size, as in 5GiB
        #[arg(long, value_parser = mgmt_api::size::parse)]
        size: u64,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Make a full copy of a disk
    ///
    /// Of a disk that is exposed it is a copy as at one instant, which needs a pool on a file system
    /// with shared blocks (XFS, Btrfs).
    Clone {
        /// The disk, by name or identifier
        disk: String,
        /// Name of the new one
        name: String,
        /// Whether the new disk owns its space from the start [default: as the other]
        #[arg(long, value_enum)]
        provisioning: Option<Space>,
        /// Its format: raw, qcow2, vhdx or vhd [default: as the other]
        #[arg(long)]
        format: Option<ImageFormat>,
        /// Its pool [default: as the other]
        #[arg(long)]
        pool: Option<String>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Have a raw disk take all its space at once, or no more than is written, while it is in use
    Provision {
        /// Its name or identifier
        disk: String,
        /// How
        #[arg(value_enum)]
        provisioning: Space,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Look whether a disk's image is whole and all of it can be read
    ///
    /// Of a disk that is exposed it looks at a copy as at one instant, as `clone` does.
    Check {
        /// The disk, by name or identifier
        disk: String,
        /// Free what a crash has lost in a qcow2 image; not of a disk that is exposed
        #[arg(long)]
        repair: bool,
        /// Make checksums of its data if there are none that hold, for later checks to compare it with
        /// until it is written; not of a disk that is a LUN
        #[arg(long)]
        checksums: bool,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Give a disk another format, while it is in use or not
    ///
    /// It stays the same disk for initiators, which go on reading and writing.
    Convert {
        /// The disk, by name or identifier
        disk: String,
        /// The format: raw, qcow2, vhdx or vhd
        format: ImageFormat,
        /// Whether it owns all its space then [default: as it is]
        #[arg(long, value_enum)]
        provisioning: Option<Space>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Bring a disk into another pool, while it is in use or not
    ///
    /// It stays the same disk for initiators, which go on reading and writing. The old file goes when
    /// all is in the new one.
    Move {
        /// The disk, by name or identifier
        disk: String,
        /// The pool
        #[arg(long)]
        pool: String,
        /// Its format then: raw, qcow2, vhdx or vhd [default: as it is]
        #[arg(long)]
        format: Option<ImageFormat>,
        /// Whether it owns all its space then [default: as it is]
        #[arg(long, value_enum)]
        provisioning: Option<Space>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Have a thin disk give back space that it does not need, while it is in use or not
    ///
    /// What was unmapped and what is zero takes none in the new file that it gets.
    Compact {
        /// The disk, by name or identifier
        disk: String,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Make a disk of an image, with the data of its parents
    ///
    /// Parents must lie below an allowed directory, too.
    Import {
        /// The file on the daemon's host, below an allowed directory
        path: PathBuf,
        /// Name of the disk
        name: String,
        /// Use the file where it is; it becomes the disk's, and is deleted with it
        #[arg(long)]
        in_place: bool,
        /// Bytes in a logical block: 512 or 4096
        #[arg(long, value_name = "BYTES")]
        block_length: Option<u32>,
        /// Whether the disk owns its space from the start
        #[arg(long, value_enum, default_value_t = Space::Thin)]
        provisioning: Space,
        /// Do not compare the copy with the file
        #[arg(long)]
        no_verify: bool,
        /// The format of the file [default: what its content says]
        #[arg(long)]
        format: Option<ImageFormat>,
        /// The format of the copy [default: as the file]
        #[arg(long, conflicts_with = "in_place")]
        to_format: Option<ImageFormat>,
        /// The pool of the copy [default: the default pool]
        #[arg(long, conflicts_with = "in_place")]
        pool: Option<String>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Make a file of a disk
    Export {
        /// The disk, by name or identifier
        disk: String,
        /// The file to make on the daemon's host, below an allowed directory
        path: PathBuf,
        /// Its format: raw, qcow2, vhdx or vhd
        #[arg(long, default_value_t)]
        format: ImageFormat,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Delete a disk and its data
    Delete {
        /// Its name or identifier
        disk: String,
        /// Overwrite its data with zeroes before
        #[arg(long)]
        overwrite: bool,
        #[command(flatten)]
        waiting: Waiting,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Snapshot {
    /// Take a snapshot of a disk, or of several at the same instant, while they are in use
    Create {
        /// Name of the snapshot
        name: String,
        /// The disks, by name or identifier
        #[arg(required = true)]
        disks: Vec<String>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// List all snapshots
    List {
        /// Of this disk only
        #[arg(long)]
        disk: Option<String>,
        #[command(flatten)]
        filter: Filter,
    },
    /// Show one
    Show {
        /// DISK@NAME, or its identifier
        snapshot: String,
    },
    /// Delete a snapshot
    Delete {
        /// DISK@NAME, or its identifier
        snapshot: String,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Look whether a snapshot is whole, can be read and, with checksums, holds what it did
    Check {
        /// DISK@NAME, or its identifier
        snapshot: String,
        /// Make checksums of its data if there are none that hold, for later checks to compare it with
        #[arg(long)]
        checksums: bool,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Give a disk the data of a snapshot, while it is in use or not; what it has is lost
    Rollback {
        /// DISK@NAME, or its identifier
        snapshot: String,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// List what has changed since a snapshot, for backups: what is not listed is the same
    Diff {
        /// The older one: DISK@NAME, or its identifier
        since: String,
        /// The newer one; without it the disk as it is now
        until: Option<String>,
    },
    /// Make a disk of a snapshot, to map it as a LUN
    Expose {
        /// DISK@NAME, or its identifier
        snapshot: String,
        /// Name of the disk
        name: String,
        /// Refuse writes to it
        #[arg(long)]
        read_only: bool,
        /// Lay its image over the snapshot, even where blocks could be shared: the snapshot cannot be
        /// deleted before the disk
        #[arg(long)]
        linked: bool,
        #[command(flatten)]
        waiting: Waiting,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Space {
    /// Space is taken when it is written
    Thin,
    /// All space is taken now
    Full,
}

impl From<Space> for Provisioning {
    fn from(space: Space) -> Self {
        match space {
            Space::Thin => Self::Thin,
            Space::Full => Self::Full,
        }
    }
}
