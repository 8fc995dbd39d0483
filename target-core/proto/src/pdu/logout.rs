//! Logout Request and Logout Response (RFC 7143 §11.14, §11.15).

use super::{U16, U24, U32, U64, header};

header! {
    /// Logout Request (RFC 7143 §11.14).
    LogoutRequest = opcode::LOGOUT_REQUEST {
        /// 06h, immediate bit.
        pub opcode: u8,
        /// Final bit and the reason.
        pub flags: u8,
        /// Reserved.
        pub reserved: U16,
        /// 0.
        pub total_ahs_length: u8,
        /// 0.
        pub data_segment_length: U24,
        /// Reserved.
        pub reserved2: U64,
        /// Names the request.
        pub initiator_task_tag: U32,
        /// The connection that is meant.
        pub cid: U16,
        /// Reserved.
        pub reserved3: U16,
        /// CmdSN.
        pub cmd_sn: U32,
        /// ExpStatSN.
        pub exp_stat_sn: U32,
        /// Reserved.
        pub reserved4: [u8; 16],
    }
}

impl LogoutRequest {
    /// The reason.
    #[must_use]
    pub const fn reason(&self) -> LogoutReason {
        match self.flags & 0x7f {
            0 => LogoutReason::CloseSession,
            1 => LogoutReason::CloseConnection,
            2 => LogoutReason::RemoveConnectionForRecovery,
            other => LogoutReason::Reserved(other),
        }
    }
}

impl LogoutReason {
    /// The number of the reason.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::CloseSession => 0,
            Self::CloseConnection => 1,
            Self::RemoveConnectionForRecovery => 2,
            Self::Reserved(code) => code & 0x7f,
        }
    }
}

/// Reason Code (RFC 7143 §11.14.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogoutReason {
    /// 0
    CloseSession,
    /// 1
    CloseConnection,
    /// 2
    RemoveConnectionForRecovery,
    /// Any other.
    Reserved(u8),
}

header! {
    /// Logout Response (RFC 7143 §11.15).
    LogoutResponse = opcode::LOGOUT_RESPONSE {
        /// 26h.
        pub opcode: u8,
        /// Final bit only.
        pub flags: u8,
        /// See [`LogoutResponseCode`].
        pub response: u8,
        /// Reserved.
        pub reserved: u8,
        /// 0.
        pub total_ahs_length: u8,
        /// 0.
        pub data_segment_length: U24,
        /// Reserved.
        pub reserved2: U64,
        /// Names the request.
        pub initiator_task_tag: U32,
        /// Reserved.
        pub reserved3: U32,
        /// StatSN.
        pub stat_sn: U32,
        /// ExpCmdSN.
        pub exp_cmd_sn: U32,
        /// MaxCmdSN.
        pub max_cmd_sn: U32,
        /// Reserved.
        pub reserved4: U32,
        /// Seconds.
        pub time2wait: U16,
        /// Seconds.
        pub time2retain: U16,
        /// Reserved.
        pub reserved5: U32,
    }
}

/// Response (RFC 7143 §11.15.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum LogoutResponseCode {
    /// Connection or session closed.
    Closed = 0,
    /// There is no such connection.
    CidNotFound = 1,
    /// Connection recovery is not supported.
    RecoveryNotSupported = 2,
    /// Cleanup failed.
    CleanupFailed = 3,
}

impl LogoutResponse {
    /// What became of the request; `None` is a reserved code.
    #[must_use]
    pub const fn response(&self) -> Option<LogoutResponseCode> {
        Some(match self.response {
            0 => LogoutResponseCode::Closed,
            1 => LogoutResponseCode::CidNotFound,
            2 => LogoutResponseCode::RecoveryNotSupported,
            3 => LogoutResponseCode::CleanupFailed,
            _ => return None,
        })
    }
}
