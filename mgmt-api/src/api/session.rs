//! Sessions of initiators.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A session in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Session {
    /// Target Session Identifying Handle.
    pub tsih: u16,
    /// The initiator's part of its name.
    pub isid: String,
    /// The initiator's iSCSI name.
    pub initiator: String,
    /// The initiator's alias; may be empty.
    pub initiator_alias: String,
    /// The target; none in a discovery session.
    pub target: Option<String>,
    /// Where the initiator connects from.
    pub address: String,
    /// Since when.
    pub since: Timestamp,
    /// SCSI commands so far.
    pub commands: u64,
    /// Bytes read by the initiator.
    pub read_bytes: u64,
    /// Bytes written by it.
    pub written_bytes: u64,
}

/// A session with everything that is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionDetail {
    /// The session in short.
    #[serde(flatten)]
    pub session: Session,
    /// How the initiator has proved who it is.
    pub authentication: Authentication,
    /// Tag of the portal group that the initiator came to.
    pub target_portal_group_tag: u16,
    /// Its connections.
    pub connections: Vec<Connection>,
    /// What was negotiated for the session.
    pub parameters: SessionParameters,
    /// Counts since the session began.
    pub counters: SessionCounters,
    /// `ExpCmdSN`: the next command that is expected.
    pub exp_cmd_sn: u32,
    /// `MaxCmdSN`, the end of the command window, as the initiator was told last.
    pub max_cmd_sn: u32,
    /// Commands that are not answered yet.
    pub outstanding_commands: usize,
}

/// A request to the initiator of a session: to log out, or to negotiate anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskInitiator {
    /// Time that it has.
    #[serde(default = "AskInitiator::default_seconds")]
    pub seconds: u16,
}

impl AskInitiator {
    const fn default_seconds() -> u16 {
        10
    }
}

/// How an initiator has proved who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "method", rename_all = "lowercase")]
pub enum Authentication {
    /// Not at all.
    None,
    /// CHAP.
    Chap {
        /// The name of its account.
        user: String,
        /// The hash function.
        algorithm: String,
        /// The target has proved itself too.
        mutual: bool,
    },
}

/// A connection of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Connection {
    /// CID.
    pub cid: u16,
    /// Where the initiator connects from.
    pub address: String,
    /// The address that it came to.
    pub portal: String,
    /// `HeaderDigest` is CRC32C.
    pub header_digest: bool,
    /// `DataDigest` is CRC32C.
    pub data_digest: bool,
    /// `MaxRecvDataSegmentLength` of the target, in bytes.
    pub max_recv_data_segment_length: u32,
    /// `MaxRecvDataSegmentLength` of the initiator, in bytes.
    pub initiator_max_recv_data_segment_length: u32,
}

/// What was negotiated for a session, by the names of RFC 7143 §13.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the RFC says what they are")]
pub struct SessionParameters {
    pub max_connections: u16,
    pub initial_r2t: bool,
    pub immediate_data: bool,
    /// Bytes.
    pub max_burst_length: u32,
    /// Bytes.
    pub first_burst_length: u32,
    pub max_outstanding_r2t: u16,
    /// Seconds.
    pub default_time2wait: u16,
    /// Seconds.
    pub default_time2retain: u16,
    pub error_recovery_level: u8,
    pub protocol_level: u8,
}

/// Counts since a session began; a new connection of the session goes on counting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionCounters {
    /// PDUs received after the login.
    pub pdus_received: u64,
    /// PDUs sent after the login.
    pub pdus_sent: u64,
    /// SCSI commands that read.
    pub read_commands: u64,
    /// SCSI commands that write.
    pub write_commands: u64,
    /// Task management functions.
    pub task_management_functions: u64,
    /// PDUs that were rejected.
    pub rejects: u64,
    /// PDUs whose data digest did not match.
    pub data_digest_errors: u64,
}
