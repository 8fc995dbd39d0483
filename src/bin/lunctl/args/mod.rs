//! Nouns and verbs.

mod account;
mod configuration;
mod connection;
mod disk;
mod filter;
mod job;
mod pool;
mod target;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use self::account::{Chap, Life, Token, User};
pub(crate) use self::configuration::Declared;
pub(crate) use self::connection::{Credentials, Trust};
pub(crate) use self::disk::{Disk, DiskCommand, How, Snapshot, SnapshotCommand, Space, Waiting};
pub(crate) use self::filter::Filter;
pub(crate) use self::job::Job;
pub(crate) use self::pool::{Pool, PoolSpace};
pub(crate) use self::target::{Limit, LimitOf, PortalGroup, Session, Target, Who};

/// Manage a lund daemon.
#[derive(Debug, Parser)]
#[command(
    name = "lunctl",
    version,
    about,
    max_term_width = 100,
    after_help = "Exit status: 0 done, 1 other failure, 2 wrong usage, 3 not found, 4 conflict, \
                  5 the job failed, 6 the job was cancelled, 7 the daemon cannot be reached, \
                  8 not allowed, 9 there are differences"
)]
pub(crate) struct Arguments {
    /// The daemon's management address: https://HOST:PORT, http://HOST:PORT on this machine, or
    /// unix:PATH [default: the socket of a daemon that runs here, or http://127.0.0.1:5988]
    #[arg(long, global = true, env = "LUND_SERVER")]
    pub(crate) server: Option<String>,
    #[command(flatten)]
    pub(crate) credentials: Credentials,
    #[command(flatten)]
    pub(crate) trust: Trust,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) noun: Noun,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Noun {
    /// Virtual disks
    Disk(DiskCommand),
    /// Snapshots of virtual disks
    Snapshot(SnapshotCommand),
    /// iSCSI targets and their LUNs
    #[command(subcommand)]
    Target(Target),
    /// Jobs, and faults of the data path
    #[command(subcommand)]
    Job(Job),
    /// Storage pools
    #[command(subcommand)]
    Pool(Pool),
    /// Portal groups, and how hosts shall use them (ALUA)
    #[command(subcommand)]
    PortalGroup(PortalGroup),
    /// Sessions of initiators
    #[command(subcommand)]
    Session(Session),
    /// Limits of what initiators may read and write
    #[command(subcommand)]
    Limit(Limit),
    /// CHAP accounts, with which initiators prove who they are
    #[command(subcommand)]
    Chap(Chap),
    /// Users who may manage the daemon
    #[command(subcommand)]
    User(User),
    /// Tokens, which programs show instead of a password
    #[command(subcommand)]
    Token(Token),
    /// Who did what, the newest last
    Audit {
        /// So many of the newest
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Print targets, LUNs, who may use them, limits and CHAP accounts as a file, without secrets
    Export {
        /// The file, which must not exist [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Show what a file would change; exit status 9 if that is anything
    Diff(Declared),
    /// Make everything as a file says, all of it at once or nothing
    ///
    /// Disks that are missing or too small are made or made larger before, by jobs that are waited
    /// for. Sessions of initiators that nothing of it concerns notice nothing.
    Apply {
        #[command(flatten)]
        from: Declared,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// What changes from now on, one event a line, until you stop it
    Events,
    /// What sessions do now, the busiest first, until you stop it
    Top {
        /// Seconds between two looks
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
        every: u64,
        /// Stop after so many
        #[arg(long)]
        count: Option<u64>,
    },
    /// Who the daemon takes you for
    Whoami,
    /// What the daemon knows: disks, targets, users, …
    #[command(subcommand)]
    State(State),
    /// What the daemon runs with, by the keys of its configuration file
    Settings,
    /// The daemon itself
    Status,
    /// Print the description of the daemon's REST interface (OpenAPI)
    Openapi,
    /// Let no initiator in any more, and end all sessions
    Drain,
    /// Let initiators in again after a drain
    Resume,
    /// Print the script that completes lunctl's commands in a shell
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Write manual pages
    #[command(hide = true)]
    Man {
        /// Where to
        directory: PathBuf,
    },
}

/// What is done with all that the daemon knows.
#[derive(Debug, Subcommand)]
pub(crate) enum State {
    /// Save it, for `lund import-state`; hashes of passwords and CHAP secrets are in it
    Export {
        /// The file, which must not exist [default: standard output]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}
