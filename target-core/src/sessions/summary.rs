//! A session as management sees it.

use std::net::SocketAddr;
use std::time::SystemTime;

use iscsi_proto::login::{Authentication, LoginOutcome};
use iscsi_proto::parameters::Parameters;
use iscsi_proto::serial::CmdSn;
use iscsi_proto::session::{Counters, Session};
use parking_lot::Mutex;

use crate::statistics::{Kind, KindTimes, Times};

/// A session in short.
#[derive(Debug, Clone)]
pub struct SessionSummary {
    /// Target Session Identifying Handle.
    pub tsih: u16,
    /// The initiator's part of the session's name, in hexadecimal.
    pub isid: String,
    /// The initiator's iSCSI name.
    pub initiator: String,
    /// The initiator's alias; may be empty.
    pub initiator_alias: String,
    /// The target's iSCSI name; none in a discovery session.
    pub target: Option<String>,
    /// Where the initiator connects from.
    pub address: SocketAddr,
    /// Since when.
    pub since: SystemTime,
    /// SCSI commands so far.
    pub commands: u64,
    /// Bytes sent to the initiator.
    pub read_bytes: u64,
    /// Bytes received from it.
    pub written_bytes: u64,
}

/// A session with everything that is known of it.
#[derive(Debug, Clone)]
pub struct SessionDetail {
    /// The session in short.
    pub summary: SessionSummary,
    /// How the initiator has proved who it is.
    pub authentication: Authentication,
    /// CID of its one connection.
    pub cid: u16,
    /// The address that the initiator came to.
    pub portal: SocketAddr,
    /// Its portal group.
    pub target_portal_group_tag: u16,
    /// What was negotiated.
    pub parameters: Parameters,
    /// Counts since the session began.
    pub counters: Counters,
    /// ExpCmdSN: the next command that is expected.
    pub exp_cmd_sn: u32,
    /// MaxCmdSN as the initiator was told last: the end of the command window.
    pub max_cmd_sn: u32,
    /// Commands that are not answered yet.
    pub outstanding: usize,
    /// How long commands took, from their arrival until their answer went to the socket: the first of
    /// every [`TIMED_OF`](crate::TIMED_OF) READs and WRITEs, and all others, by [`Kind`].
    pub times: [Times; Kind::ALL.len()],
}

/// What a connection lets others know of its session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct State {
    pub(crate) parameters: Parameters,
    pub(crate) counters: Counters,
    pub(crate) exp_cmd_sn: CmdSn,
    pub(crate) max_cmd_sn: CmdSn,
    pub(crate) outstanding: usize,
}

/// Written once a turn by the session's connection alone. The lock is the session's own, and held
/// for a copy: nobody waits there but while management looks.
#[derive(Debug)]
pub(crate) struct Published {
    state: Mutex<State>,
    /// How long its commands took.
    pub(crate) times: KindTimes,
}

impl Published {
    /// Of a session that begins.
    pub(super) fn new(outcome: &LoginOutcome) -> Self {
        let state = Mutex::new(State {
            parameters: outcome.parameters,
            counters: Counters::default(),
            exp_cmd_sn: outcome.cmd_sn,
            max_cmd_sn: outcome.cmd_sn,
            outstanding: 0,
        });
        Self { state, times: KindTimes::default() }
    }

    pub(crate) fn set(&self, session: &Session) {
        *self.state.lock() = State {
            parameters: *session.parameters(),
            counters: *session.counters(),
            exp_cmd_sn: session.exp_cmd_sn(),
            max_cmd_sn: session.max_cmd_sn_told(),
            outstanding: session.outstanding(),
        };
    }

    pub(super) fn get(&self) -> State {
        *self.state.lock()
    }
}
