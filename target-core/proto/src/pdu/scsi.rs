//! SCSI Command and SCSI Response (RFC 7143 §11.3, §11.4).

use super::{U16, U24, U32, U64, header};

header! {
    /// SCSI Command (RFC 7143 §11.3).
    ScsiCommand = opcode::SCSI_COMMAND {
        /// 01h, immediate bit.
        pub opcode: u8,
        /// F, R, W and the task attribute.
        pub flags: u8,
        /// PRI in the upper half, at iSCSIProtocolLevel 2 (RFC 7144 §5.1.1).
        pub priority: u8,
        /// Reserved.
        pub reserved: u8,
        /// In four-byte words.
        pub total_ahs_length: u8,
        /// Length of the immediate data.
        pub data_segment_length: U24,
        /// The logical unit.
        pub lun: U64,
        /// Names the task.
        pub initiator_task_tag: U32,
        /// Bytes the initiator means to transfer.
        pub expected_data_transfer_length: U32,
        /// CmdSN.
        pub cmd_sn: U32,
        /// ExpStatSN.
        pub exp_stat_sn: U32,
        /// The first 16 bytes of the CDB.
        pub cdb: [u8; 16],
    }
}

impl ScsiCommand {
    /// The immediate bit.
    #[must_use]
    pub const fn immediate(&self) -> bool {
        self.opcode & super::IMMEDIATE != 0
    }

    /// The F bit: no unsolicited Data-Out PDUs follow.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        self.flags & super::FINAL != 0
    }

    /// R: data goes to the initiator.
    pub const READ: u8 = 0x40;
    /// W: data comes from the initiator.
    pub const WRITE: u8 = 0x20;

    /// The R bit.
    #[must_use]
    pub const fn reads(&self) -> bool {
        self.flags & Self::READ != 0
    }

    /// The W bit.
    #[must_use]
    pub const fn writes(&self) -> bool {
        self.flags & Self::WRITE != 0
    }

    /// PRI: 1 is the highest priority, 15 the lowest, 0 is none (SAM-5 §8.7).
    #[must_use]
    pub const fn priority(&self) -> u8 {
        self.priority >> 4
    }

    /// The task attribute.
    #[must_use]
    pub const fn attribute(&self) -> TaskAttribute {
        match self.flags & 7 {
            0 => TaskAttribute::Untagged,
            1 => TaskAttribute::Simple,
            2 => TaskAttribute::Ordered,
            3 => TaskAttribute::HeadOfQueue,
            4 => TaskAttribute::Aca,
            other => TaskAttribute::Reserved(other),
        }
    }
}

impl TaskAttribute {
    /// As three bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Untagged => 0,
            Self::Simple => 1,
            Self::Ordered => 2,
            Self::HeadOfQueue => 3,
            Self::Aca => 4,
            Self::Reserved(bits) => bits & 7,
        }
    }
}

/// ATTR (RFC 7143 §11.3.1, SAM-5 §8.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskAttribute {
    /// No attribute; treated as simple.
    Untagged,
    /// May be reordered.
    Simple,
    /// After all earlier, before all later ones.
    Ordered,
    /// Before all that wait.
    HeadOfQueue,
    /// For a task set with an auto contingent allegiance.
    Aca,
    /// 5 to 7.
    Reserved(u8),
}

header! {
    /// SCSI Response (RFC 7143 §11.4).
    ScsiResponse = opcode::SCSI_RESPONSE {
        /// 21h.
        pub opcode: u8,
        /// Final bit and the residual flags.
        pub flags: u8,
        /// 0: command completed at target; 1: target failure.
        pub response: u8,
        /// SAM status.
        pub status: u8,
        /// 0.
        pub total_ahs_length: u8,
        /// SenseLength, its two bytes and response data.
        pub data_segment_length: U24,
        /// Status Qualifier, at iSCSIProtocolLevel 2 (RFC 7144 §5.2.1); 0 says nothing.
        pub status_qualifier: U16,
        /// Reserved.
        pub reserved: [u8; 6],
        /// Names the task.
        pub initiator_task_tag: U32,
        /// 0 without recovery.
        pub snack_tag: U32,
        /// StatSN.
        pub stat_sn: U32,
        /// ExpCmdSN.
        pub exp_cmd_sn: U32,
        /// MaxCmdSN.
        pub max_cmd_sn: U32,
        /// Number of Data-In and R2T PDUs sent for the task.
        pub exp_data_sn: U32,
        /// Of bidirectional commands.
        pub bidirectional_read_residual_count: U32,
        /// Meant by the O and U flags.
        pub residual_count: U32,
    }
}

/// Residual Overflow, in [`ScsiResponse::flags`] and [`super::DataIn::flags`].
pub(crate) const OVERFLOW: u8 = 0x04;
/// Residual Underflow, likewise.
pub(crate) const UNDERFLOW: u8 = 0x02;

impl ScsiResponse {
    /// O: the device has more data than was expected.
    pub const OVERFLOW: u8 = OVERFLOW;
    /// U: the device has less data than was expected.
    pub const UNDERFLOW: u8 = UNDERFLOW;
    /// o: the same of the data that a bidirectional command reads.
    pub const BIDIRECTIONAL_OVERFLOW: u8 = 0x10;
    /// u: the same of the data that a bidirectional command reads.
    pub const BIDIRECTIONAL_UNDERFLOW: u8 = 0x08;
    /// Response: the command ran to its end at the target.
    pub const COMPLETED_AT_TARGET: u8 = 0;
    /// Response: the target failed.
    pub const TARGET_FAILURE: u8 = 1;
}
