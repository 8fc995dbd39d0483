//! What the data path tells the outside world. Implementations must not wait.

use std::path::PathBuf;

use disk_image::{ImageErrorKind, Operation};

use crate::sessions::SessionSummary;

/// A command that failed because of the image below it.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The unit's name in the catalogue ([`crate::UnitConfig::name`]).
    pub unit: String,
    /// The target's iSCSI name.
    pub target: String,
    /// The target's LUN.
    pub lun: u16,
    /// First logical block of the command, if it names one.
    pub lba: Option<u64>,
    /// Operation code of the command.
    pub operation_code: u8,
    /// The initiator's iSCSI name.
    pub initiator: String,
    /// Why.
    pub kind: ImageErrorKind,
    /// What was being done to the image.
    pub operation: Operation,
    /// The errno behind it.
    pub errno: Option<i32>,
    /// The image's file.
    pub path: PathBuf,
    /// The error in words.
    pub text: String,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The initiator logged out.
    Logout,
    /// The initiator logged in again under the same name (RFC 7143 §6.3.5).
    Reinstated,
    /// The connection was lost.
    Disconnected,
    /// The initiator broke the protocol, or its data were damaged on the way.
    ProtocolError(&'static str),
    /// The target was removed or reset.
    TargetGone,
    /// The initiator reset the nexus (I_T NEXUS RESET, RFC 7144 §6.3).
    NexusReset,
    /// The initiator may not use the target any more.
    AccessRevoked,
    /// The node stops.
    Drained,
    /// An operator ended it.
    Ended,
}

impl SessionEnd {
    /// What has begun is finished, and the initiator is told.
    pub(crate) fn is_orderly(self) -> bool {
        matches!(self, Self::Drained | Self::Ended)
    }
}

/// Hears of sessions and faults.
pub trait Events: Send + Sync {
    /// A session is in its full feature phase.
    fn session_up(&self, session: &SessionSummary);
    /// A session is over, and none of its commands can write any more.
    fn session_down(&self, session: &SessionSummary, end: SessionEnd);
    /// A command failed because of its image.
    fn fault(&self, fault: Fault);
}

/// Hears of nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEvents;

impl Events for NoEvents {
    fn session_up(&self, _session: &SessionSummary) {}
    fn session_down(&self, _session: &SessionSummary, _end: SessionEnd) {}
    fn fault(&self, _fault: Fault) {}
}
