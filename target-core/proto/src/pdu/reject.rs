//! Reject (RFC 7143 §11.17).

use super::{U24, U32, U64, header};

header! {
    /// Reject; the data segment is the header that is refused (RFC 7143 §11.17).
    Reject = opcode::REJECT {
        /// 3Fh.
        pub opcode: u8,
        /// Final bit only.
        pub flags: u8,
        /// See [`RejectReason`].
        pub reason: u8,
        /// Reserved.
        pub reserved: u8,
        /// 0.
        pub total_ahs_length: u8,
        /// At least 48.
        pub data_segment_length: U24,
        /// Reserved.
        pub reserved2: U64,
        /// The reserved value.
        pub initiator_task_tag: U32,
        /// Reserved.
        pub reserved3: U32,
        /// StatSN.
        pub stat_sn: U32,
        /// ExpCmdSN.
        pub exp_cmd_sn: U32,
        /// MaxCmdSN.
        pub max_cmd_sn: U32,
        /// DataSN or R2TSN of a protocol error in a task.
        pub data_sn: U32,
        /// Reserved.
        pub reserved4: U64,
    }
}

/// Reason (RFC 7143 §11.17.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RejectReason {
    /// The data digest did not match.
    DataDigestError = 0x02,
    /// SNACK is refused.
    SnackReject = 0x03,
    /// The PDU does not belong here.
    ProtocolError = 0x04,
    /// The opcode or function is not supported.
    CommandNotSupported = 0x05,
    /// Too many immediate commands.
    ImmediateCommandReject = 0x06,
    /// A task with that tag is in progress.
    TaskInProgress = 0x07,
    /// The tag or number that is acknowledged is not known.
    InvalidDataAck = 0x08,
    /// A field holds what it must not.
    InvalidPduField = 0x09,
    /// There are no resources for a long operation.
    LongOperationReject = 0x0a,
    /// The negotiation is dropped.
    NegotiationReset = 0x0b,
    /// The session is being logged out.
    WaitingForLogout = 0x0c,
}

impl Reject {
    /// Why the PDU was refused; `None` is a reserved code.
    #[must_use]
    pub const fn reason(&self) -> Option<RejectReason> {
        Some(match self.reason {
            0x02 => RejectReason::DataDigestError,
            0x03 => RejectReason::SnackReject,
            0x04 => RejectReason::ProtocolError,
            0x05 => RejectReason::CommandNotSupported,
            0x06 => RejectReason::ImmediateCommandReject,
            0x07 => RejectReason::TaskInProgress,
            0x08 => RejectReason::InvalidDataAck,
            0x09 => RejectReason::InvalidPduField,
            0x0a => RejectReason::LongOperationReject,
            0x0b => RejectReason::NegotiationReset,
            0x0c => RejectReason::WaitingForLogout,
            _ => return None,
        })
    }
}
