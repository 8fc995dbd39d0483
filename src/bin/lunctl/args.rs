//! Nouns and verbs.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::Timestamp;
use job_engine::{ImageFormat, Provisioning, Role};
use mgmt_api::api::LunView;

/// Manage a lund daemon.
#[derive(Debug, Parser)]
#[command(
    name = "lunctl",
    version,
    about,
    max_term_width = 100,
    after_help = "Exit status: 0 done, 1 other failure, 2 wrong usage, 3 not found, 4 conflict, \
                  5 the job failed, 6 the job was cancelled, 7 the daemon cannot be reached, \
                  8 not allowed"
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
    Pool(List),
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
    /// The daemon itself
    Status,
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
pub(crate) enum Chap {
    /// List all, without their secrets
    List,
    /// Make an account, or give one another form; logins go by it from then on
    Set {
        /// What initiators send as their name (CHAP_N)
        user: String,
        /// File with the secret in its first line, 12 to 255 bytes; `-`: standard input
        /// [default: an account that is there keeps its own]
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
        /// A target it is good for (repeatable) [default: all]
        #[arg(long = "target", value_name = "TARGET")]
        targets: Vec<String>,
        /// An initiator it is good for, a name or a pattern with `*` (repeatable) [default: all]
        #[arg(long = "initiator", value_name = "INITIATOR")]
        initiators: Vec<String>,
        /// Targets that no other account protects may be open to everybody from then on
        #[arg(long)]
        open: bool,
    },
    /// Take an account away
    Delete {
        /// The account's user
        user: String,
        /// Targets that no other account protects may be open to everybody from then on
        #[arg(long)]
        open: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PortalGroup {
    /// List all, and their access states
    List,
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

/// Who asks. Over the socket, the daemon knows that anyway.
#[derive(Debug, Args)]
pub(crate) struct Credentials {
    /// A file that holds a token
    #[arg(long, global = true, env = "LUND_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Sign in as this user, with a password from the terminal or --login-password-file
    #[arg(long, global = true, value_name = "USER", conflicts_with = "token_file")]
    pub(crate) login: Option<String>,
    /// A file that holds the password of --login
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) login_password_file: Option<PathBuf>,
}

/// How the daemon shows who it is, over https.
#[derive(Debug, Args)]
pub(crate) struct Trust {
    /// A file with the certificates that are trusted: the daemon's own, or its authority's
    /// [default: those of the system]
    #[arg(long, global = true, env = "LUND_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The SHA-256 fingerprint of the daemon's certificate; nothing else is looked at
    #[arg(long, global = true, env = "LUND_PIN", value_name = "SHA256", conflicts_with = "ca")]
    pub(crate) pin: Option<Fingerprint>,
    /// A certificate to sign in with
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) client_certificate: Option<PathBuf>,
    /// Its key
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) client_key: Option<PathBuf>,
}

/// 32 bytes, as 64 hexadecimal digits with or without colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(pub(crate) [u8; 32]);

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted =
            || "64 hexadecimal digits are wanted, colons may stand between them".to_owned();
        let digits: String = text.chars().filter(|it| *it != ':').collect();
        if digits.len() != 64 || !digits.bytes().all(|it| it.is_ascii_hexdigit()) {
            return Err(wanted());
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let pair = digits.get(2 * at..2 * at + 2).ok_or_else(wanted)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wanted())?;
        }
        Ok(Self(bytes))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Make a user; the first administrator ends the time in which nobody is asked who they are
    Add {
        /// Its name: letters, digits and `._-@`
        name: String,
        /// viewer, operator or administrator
        #[arg(long)]
        role: Role,
        #[command(flatten)]
        password: NewPassword,
    },
    /// List all users
    List,
    /// Remove a user
    Remove {
        /// Its name
        name: String,
    },
    /// Give a user, or oneself, another password
    Passwd {
        /// Its name [default: oneself, who must know the password until now]
        name: Option<String>,
        #[command(flatten)]
        password: NewPassword,
    },
    /// Let a user do more or less
    Role {
        /// Its name
        name: String,
        /// viewer, operator or administrator
        role: Role,
    },
}

/// Where a new password comes from: never from the command line, which others can see.
#[derive(Debug, Args)]
pub(crate) struct NewPassword {
    /// A file whose first line is the new password, `-` for standard input [default: ask on the
    /// terminal]
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token and print its secret, once
    Create {
        /// Its name: letters, digits and `._-@`
        name: String,
        /// viewer, operator or administrator
        #[arg(long)]
        role: Role,
        /// For so long, as in 12h or 90d, or `never`
        #[arg(long, default_value = "90d", value_parser = life)]
        expires: Life,
    },
    /// List all tokens
    List,
    /// Remove a token
    Revoke {
        /// Its name
        name: String,
    },
}

/// How long a token lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Seconds(u32),
    Forever,
}

/// `30m`, `12h`, `90d`, `never`
fn life(text: &str) -> Result<Life, String> {
    if text == "never" {
        return Ok(Life::Forever);
    }
    let wanted = || "a number with m, h or d is wanted, as in 90d, or `never`".to_owned();
    let unit = match text.chars().last() {
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(wanted()),
    };
    let number: u32 =
        text.get(..text.len() - 1).unwrap_or_default().parse().map_err(|_| wanted())?;
    number.checked_mul(unit).filter(|it| *it > 0).map(Life::Seconds).ok_or_else(wanted)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Session {
    /// List all
    List,
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

#[derive(Debug, Subcommand)]
pub(crate) enum List {
    /// List all
    List,
}

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

/// A size a second; 0 is one.
fn rate(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { mgmt_api::size::parse(text).map_err(|it| it.to_string()) }
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
        #[command(flatten)]
        waiting: Waiting,
    },
    /// List all disks
    List,
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
    /// Make a raw disk smaller, while it is in use, by blocks that hold no data
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
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Give a disk that is not exposed another format
    ///
    /// It stays the same disk for initiators.
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
    /// Make a disk of an image without a parent
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
    },
    /// Delete a snapshot
    Delete {
        /// DISK@NAME, or its identifier
        snapshot: String,
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
    /// Make a disk of a snapshot, to map it as a LUN
    Expose {
        /// DISK@NAME, or its identifier
        snapshot: String,
        /// Name of the disk
        name: String,
        /// Refuse writes to it
        #[arg(long)]
        read_only: bool,
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
    List,
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

#[derive(Debug, Subcommand)]
pub(crate) enum Job {
    /// List all jobs and faults
    List,
    /// Show a job
    Show {
        /// Its identifier
        job: String,
    },
    /// Wait for a job to end; its outcome is the exit status
    Wait {
        /// Its identifier
        job: String,
        /// Give up after so many seconds
        #[arg(long, value_name = "SECONDS")]
        timeout: Option<u64>,
    },
    /// End a job and undo what it did
    Cancel {
        /// Its identifier
        job: String,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Stop a job where that does no harm, until it is resumed
    Suspend {
        /// Its identifier
        job: String,
    },
    /// Go on with a job that is suspended, or start one that waits for its time
    Resume {
        /// Its identifier
        job: String,
    },
    /// End a job at once; what it leaves is removed in the background
    Kill {
        /// Its identifier
        job: String,
    },
    /// Change how a job runs, while it does
    Set {
        /// Its identifier
        job: String,
        /// Lower numbers go first
        #[arg(long)]
        priority: Option<u32>,
        /// Do not start it before, as in 2026-01-31T22:00:00Z
        #[arg(long, value_name = "TIME")]
        start_at: Option<Timestamp>,
        /// It fails if it takes longer from its start on; 0 for no limit
        #[arg(long, value_name = "SECONDS")]
        time_limit: Option<u64>,
        /// What it copies at most a second, as in 100MiB; 0 for no limit
        #[arg(long, value_name = "SIZE", value_parser = rate)]
        bandwidth: Option<u64>,
    },
    /// Show or change what all jobs together may do, until the daemon stops
    Limits {
        /// What they copy at most a second, as in 100MiB; 0 for no limit
        #[arg(long, value_name = "SIZE", value_parser = rate)]
        bandwidth: Option<u64>,
    },
    /// Show why a job failed (GetErrors)
    Error {
        /// Its identifier
        job: String,
    },
    /// Remove a job that has ended, or clear a fault
    Delete {
        /// Its identifier
        job: String,
    },
}
