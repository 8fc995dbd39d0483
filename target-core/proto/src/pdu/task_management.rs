//! Task Management Function Request and Response (RFC 7143 §11.5, §11.6).

use super::{U16, U24, U32, U64, header};

header! {
    /// Task Management Function Request (RFC 7143 §11.5).
    TaskManagementRequest = opcode::TASK_MANAGEMENT_REQUEST {
        /// 02h, immediate bit.
        pub opcode: u8,
        /// Final bit and the function.
        pub flags: u8,
        /// Reserved.
        pub reserved: U16,
        /// 0.
        pub total_ahs_length: u8,
        /// 0.
        pub data_segment_length: U24,
        /// The logical unit, for the functions that address one.
        pub lun: U64,
        /// Names this request.
        pub initiator_task_tag: U32,
        /// The task that is meant, or the reserved value.
        pub referenced_task_tag: U32,
        /// CmdSN.
        pub cmd_sn: U32,
        /// ExpStatSN.
        pub exp_stat_sn: U32,
        /// CmdSN of the task that is meant.
        pub ref_cmd_sn: U32,
        /// For TASK REASSIGN.
        pub exp_data_sn: U32,
        /// Reserved.
        pub reserved2: U64,
    }
}

impl TaskManagementRequest {
    /// The function.
    #[must_use]
    pub const fn function(&self) -> TaskManagementFunction {
        match self.flags & 0x7f {
            1 => TaskManagementFunction::AbortTask,
            2 => TaskManagementFunction::AbortTaskSet,
            3 => TaskManagementFunction::ClearAca,
            4 => TaskManagementFunction::ClearTaskSet,
            5 => TaskManagementFunction::LogicalUnitReset,
            6 => TaskManagementFunction::TargetWarmReset,
            7 => TaskManagementFunction::TargetColdReset,
            8 => TaskManagementFunction::TaskReassign,
            9 => TaskManagementFunction::QueryTask,
            10 => TaskManagementFunction::QueryTaskSet,
            11 => TaskManagementFunction::ItNexusReset,
            12 => TaskManagementFunction::QueryAsynchronousEvent,
            other => TaskManagementFunction::Other(other),
        }
    }
}

impl TaskManagementFunction {
    /// The number of the function.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::AbortTask => 1,
            Self::AbortTaskSet => 2,
            Self::ClearAca => 3,
            Self::ClearTaskSet => 4,
            Self::LogicalUnitReset => 5,
            Self::TargetWarmReset => 6,
            Self::TargetColdReset => 7,
            Self::TaskReassign => 8,
            Self::QueryTask => 9,
            Self::QueryTaskSet => 10,
            Self::ItNexusReset => 11,
            Self::QueryAsynchronousEvent => 12,
            Self::Other(code) => code & 0x7f,
        }
    }

    /// Whether the function came with RFC 7144: it needs iSCSIProtocolLevel 2
    /// (§6.3).
    #[must_use]
    pub const fn is_of_level_2(self) -> bool {
        matches!(self.code(), 9..=12)
    }
}

/// Function (RFC 7143 §11.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskManagementFunction {
    /// 1
    AbortTask,
    /// 2
    AbortTaskSet,
    /// 3
    ClearAca,
    /// 4
    ClearTaskSet,
    /// 5
    LogicalUnitReset,
    /// 6
    TargetWarmReset,
    /// 7
    TargetColdReset,
    /// 8
    TaskReassign,
    /// 9 (RFC 7144 §6.3, as the next three)
    QueryTask,
    /// 10
    QueryTaskSet,
    /// 11
    ItNexusReset,
    /// 12
    QueryAsynchronousEvent,
    /// Any other.
    Other(u8),
}

header! {
    /// Task Management Function Response (RFC 7143 §11.6).
    TaskManagementResponse = opcode::TASK_MANAGEMENT_RESPONSE {
        /// 22h.
        pub opcode: u8,
        /// Final bit only.
        pub flags: u8,
        /// See [`TaskManagementResponseCode`].
        pub response: u8,
        /// Reserved.
        pub reserved: u8,
        /// 0.
        pub total_ahs_length: u8,
        /// 0.
        pub data_segment_length: U24,
        /// Additional Response Information, of QUERY ASYNCHRONOUS EVENT (RFC 7144
        /// §6.4.1).
        pub additional_response_information: [u8; 3],
        /// Reserved.
        pub reserved2: [u8; 5],
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
        pub reserved4: [u8; 12],
    }
}

/// Response (RFC 7143 §11.6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TaskManagementResponseCode {
    /// The function is complete.
    Complete = 0,
    /// The referenced task is not in the task set.
    TaskDoesNotExist = 1,
    /// The logical unit does not exist.
    LunDoesNotExist = 2,
    /// The task still has an allegiance to another connection.
    TaskStillAllegiant = 3,
    /// Task allegiance reassignment is not supported.
    ReassignmentNotSupported = 4,
    /// The function is not supported.
    NotSupported = 5,
    /// The initiator may not ask for this.
    AuthorizationFailed = 6,
    /// The function succeeded: what was asked for is there (RFC 7144 §6.4.2).
    Succeeded = 7,
    /// The function is refused.
    Rejected = 255,
}

impl TaskManagementResponseCode {
    /// From the field; `None` is a reserved code.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Complete,
            1 => Self::TaskDoesNotExist,
            2 => Self::LunDoesNotExist,
            3 => Self::TaskStillAllegiant,
            4 => Self::ReassignmentNotSupported,
            5 => Self::NotSupported,
            6 => Self::AuthorizationFailed,
            7 => Self::Succeeded,
            255 => Self::Rejected,
            _ => return None,
        })
    }
}

impl TaskManagementResponse {
    /// What became of the function; `None` is a reserved code.
    #[must_use]
    pub const fn response(&self) -> Option<TaskManagementResponseCode> {
        TaskManagementResponseCode::from_code(self.response)
    }
}
