//! Targets, portal groups, sessions and limits.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use mgmt_api::api::LunView;

use super::Filter;

/// Asymmetric access state of the ports of a portal group.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum AccessState {
    /// Every command runs
    ActiveOptimized,
    /// Every command runs, but hosts should prefer other groups
    ActiveNonOptimized,
    /// Disks are found, but not read or written
    Standby,
    /// Hardly anything runs
    Unavailable,
    /// On its way to another state: hosts wait
    Transitioning,
}

impl From<AccessState> for job_engine::AccessState {
    fn from(state: AccessState) -> Self {
        match state {
            AccessState::ActiveOptimized => Self::ActiveOptimized,
            AccessState::ActiveNonOptimized => Self::ActiveNonOptimized,
            AccessState::Standby => Self::Standby,
            AccessState::Unavailable => Self::Unavailable,
            AccessState::Transitioning => Self::Transitioning,
        }
    }
}

/// Whom a limit is for.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct LimitOf {
    /// A disk: all its sessions together
    #[arg(long)]
    pub(crate) disk: Option<String>,
    /// An initiator: all its sessions together
    #[arg(long, value_name = "NAME")]
    pub(crate) initiator: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Limit {
    /// List all
    List,
    /// Limit a disk or an initiator, or change how; in force at once
    Set {
        #[command(flatten)]
        of: LimitOf,
        /// Reads and writes a second
        #[arg(long, value_name = "N", required_unless_present = "bytes_per_second")]
        iops: Option<u64>,
        /// What they read and write a second, as in 100MiB
        #[arg(long, value_name = "SIZE", value_parser = mgmt_api::size::parse)]
        bytes_per_second: Option<u64>,
        /// For so long the rates may have been saved up: what may come at once after a pause
        #[arg(long, value_name = "MILLISECONDS", default_value_t = 100)]
        burst_ms: u32,
    },
    /// Take a limit away
    Lift {
        #[command(flatten)]
        of: LimitOf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PortalGroup {
    /// List all, and their access states
    List,
    /// Show one
    Show {
        /// Its tag
        tag: u16,
    },
    /// Bring a group into a state; hosts are told, and a restart does not change it
    SetState {
        /// The group's tag
        tag: u16,
        /// Its new state
        #[arg(value_enum)]
        state: AccessState,
        /// For this target only [default: for all, whatever was set for single ones]
        #[arg(long)]
        target: Option<String>,
    },
    /// Bring a group back into the state that is configured
    Reset {
        /// The group's tag
        tag: u16,
        /// For this target only
        #[arg(long)]
        target: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Session {
    /// List all
    List(Filter),
    /// Show everything that is known of a session
    Show {
        /// Its TSIH
        tsih: u16,
    },
    /// Ask an initiator to log out; it is served until it does
    Logout {
        /// The session's TSIH
        tsih: u16,
        /// Time that it has
        #[arg(long, default_value_t = 10)]
        seconds: u16,
    },
    /// Ask an initiator to negotiate its parameters anew
    Renegotiate {
        /// The session's TSIH
        tsih: u16,
        /// Time that it has
        #[arg(long, default_value_t = 10)]
        seconds: u16,
    },
    /// End a session, once what it has begun is answered; its initiator may come back
    End {
        /// Its TSIH
        tsih: u16,
    },
    /// Record what goes over a session's connection, as a pcapng file for Wireshark
    ///
    /// From now on until the connection ends, --seconds are over, or this is interrupted. What was
    /// read and written is in it too. `lunctl session trace 1 | wireshark -k -i -` shows it live.
    Trace {
        /// Its TSIH
        tsih: u16,
        /// The file to write [default: standard output]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// For so long
        #[arg(long)]
        seconds: Option<u32>,
    },
}

/// The initiators that an entry concerns.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Who {
    /// An initiator's iSCSI name, or a pattern in which `*` stands for any text
    #[arg(long, value_name = "NAME")]
    pub(crate) initiator: Option<String>,
    /// Where they connect from: an address or a network such as 10.0.0.0/8
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) address: Option<String>,
}

/// `SEEN=LUN`, `SEEN=LUN:ro`
fn lun_view(text: &str) -> Result<LunView, String> {
    let (pair, read_only) = match text.strip_suffix(":ro") {
        Some(pair) => (pair, true),
        None => (text, false),
    };
    let wanted = || "SEEN=LUN or SEEN=LUN:ro is wanted, both numbers".to_owned();
    let (seen, lun) = pair.split_once('=').ok_or_else(wanted)?;
    let number = |text: &str| text.parse().map_err(|_| wanted());
    Ok(LunView { seen: number(seen)?, lun: number(lun)?, read_only })
}

#[derive(Debug, Subcommand)]
pub(crate) enum Target {
    /// Create a target
    Create {
        /// An iSCSI name, or a short name that gets the default prefix
        name: String,
        /// A name for people
        #[arg(long, default_value = "")]
        alias: String,
    },
    /// List all targets and their LUNs
    List(Filter),
    /// Expose a disk as a LUN
    Map {
        /// The target
        target: String,
        /// The disk, by name or identifier
        disk: String,
        /// The LUN [default: the lowest free one]
        #[arg(long)]
        lun: Option<u16>,
    },
    /// Take a LUN away
    Unmap {
        /// The target
        target: String,
        /// The LUN
        lun: u16,
    },
    /// Show a target: its LUNs, and who may use it
    Show {
        /// The target
        target: String,
    },
    /// Let initiators use a target, or change what they see
    ///
    /// The first entry shuts everybody else out. Where several entries meet an initiator, the
    /// most specific one decides: a name before a pattern, a pattern before an address.
    Allow {
        /// The target
        target: String,
        #[command(flatten)]
        who: Who,
        /// A LUN that they see, as SEEN=LUN or SEEN=LUN:ro [default: all LUNs as they are]
        #[arg(long = "lun", value_name = "SEEN=LUN[:ro]", value_parser = lun_view)]
        luns: Vec<LunView>,
        /// Refuse their writes
        #[arg(long)]
        read_only: bool,
    },
    /// Take an entry of `allow` away; with the last one, nobody may use the target
    Disallow {
        /// The target
        target: String,
        #[command(flatten)]
        who: Who,
    },
    /// Let everybody use a target
    Open {
        /// The target
        target: String,
    },
    /// Delete a target without LUNs
    Delete {
        /// The target
        target: String,
    },
}
