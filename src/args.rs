//! The daemon's command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;

/// An iSCSI target daemon.
#[derive(Debug, Parser)]
#[command(name = "lund", version, about, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve disks to initiators, until SIGTERM
    Serve(Serve),
    /// Put a state that `lunctl state export` saved, or a journal, into a data directory; the daemon
    /// must not run
    ImportState(ImportState),
    /// Write manual pages
    #[command(hide = true)]
    Man {
        /// Where to
        directory: PathBuf,
    },
}

/// Where to, and what.
#[derive(Debug, Args)]
pub(crate) struct ImportState {
    /// The saved state
    pub(crate) file: PathBuf,
    /// Directory of the database [default: ./lund-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Move a database that holds something aside, instead of refusing
    #[arg(long)]
    pub(crate) replace: bool,
}

/// What stands here goes before what stands in the configuration file.
#[derive(Debug, Default, Args)]
pub(crate) struct Serve {
    /// Directory of the database and, unless configured otherwise, of the disks [default:
    /// ./lund-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where initiators connect; may be given several times; port 0 takes a free one [default:
    /// 127.0.0.1:3260]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) iscsi_listen: Vec<SocketAddr>,
    /// Where management clients connect: a loopback address; port 0 takes a free one [default:
    /// 127.0.0.1:5988]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) mgmt_listen: Option<SocketAddr>,
    /// How the log on standard error looks [default: auto]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, trace, or a filter such as
    /// `info,target_core=debug` [default: info]
    #[arg(long, value_name = "FILTER", env = "LUND_LOG")]
    pub(crate) log_level: Option<String>,
    /// Also create a disk `demo`, expose it as LUN 0, and say how to use it
    #[arg(long)]
    pub(crate) demo: bool,
    /// Size of the demo disk [default: 1GiB]
    #[arg(long, value_name = "SIZE", requires = "demo", value_parser = mgmt_api::size::parse)]
    pub(crate) demo_size: Option<u64>,
}

/// How the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people on a terminal, else JSON
    #[default]
    Auto,
    /// For people
    Human,
    /// One JSON object a line
    Json,
}
