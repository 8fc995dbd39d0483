//! The bounds of a node.

use std::time::Duration;

use iscsi_proto::parameters::Offer;

/// What a node offers and allows.
#[derive(Debug, Clone, Copy)]
pub struct NodeConfig {
    /// What it offers in negotiations.
    pub offer: Offer,
    /// Commands that a session may have outstanding.
    pub max_tasks: u32,
    /// From the first byte to the full feature phase.
    pub login_timeout: Duration,
    /// An initiator that has sent nothing for so long is asked whether it is there (NOP-In); a
    /// session ends when it has sent nothing for so long again.
    pub nop_interval: Duration,
    /// Initiators that are asked to log out may take so long; zero: they are not asked.
    pub logout_time: Duration,
    /// Task management functions, and logins that end a session of the same name, wait so long for
    /// commands that a device holds on to. Then they are refused.
    pub abort_time: Duration,
    /// Commands that were handed off and took so long are logged; zero: none is.
    pub slow_command: Duration,
    /// Connections that have not logged in yet, in all. When there are more, those that have been
    /// silent for the longest are closed.
    pub max_logins: usize,
    /// Bytes that all sessions together hold for what initiators do not take and devices do not do;
    /// a session goes beyond it by what it takes in during one turn.
    pub max_backlog: usize,
    /// Which long reads are sent from the page cache without being copied.
    pub zero_copy_reads: ZeroCopyReads,
    /// Sessions, in all.
    pub max_sessions: usize,
    /// Sessions of one target.
    pub max_sessions_per_target: usize,
    /// Normal sessions of one initiator, whatever their targets; as many discovery sessions again.
    pub max_sessions_per_initiator: usize,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            offer: Offer::default(),
            max_tasks: 128,
            login_timeout: Duration::from_secs(15),
            nop_interval: Duration::from_secs(30),
            logout_time: Duration::from_secs(3),
            abort_time: Duration::from_secs(10),
            slow_command: Duration::from_secs(1),
            max_logins: 1024,
            max_backlog: 256 << 20,
            zero_copy_reads: ZeroCopyReads::Auto,
            max_sessions: 4096,
            max_sessions_per_target: usize::MAX,
            max_sessions_per_initiator: usize::MAX,
        }
    }
}

/// Which long reads are sent from the page cache (`sendfile`). What is sent so is what stands there when
/// it goes out, not when the command was carried out. So commands of the same session that write there wait
/// until the initiator has it; what other sessions write may show, in a half of a block, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ZeroCopyReads {
    /// None.
    Never,
    /// Those of units that one session alone sees, on connections on which it is a gain.
    #[default]
    Auto,
    /// All.
    Always,
}
