//! SCSI Data-Out and SCSI Data-In (RFC 7143 §11.7).

use super::{U16, U24, U32, U64, header, scsi};

header! {
    /// SCSI Data-Out (RFC 7143 §11.7).
    DataOut = opcode::DATA_OUT {
        /// 05h.
        pub opcode: u8,
        /// F: the last PDU of a sequence.
        pub flags: u8,
        /// Reserved.
        pub reserved: U16,
        /// 0.
        pub total_ahs_length: u8,
        /// Length of the data.
        pub data_segment_length: U24,
        /// The LUN of the R2T, if this answers one.
        pub lun: U64,
        /// Names the task.
        pub initiator_task_tag: U32,
        /// Of the R2T that is answered; the reserved value in unsolicited data.
        pub target_transfer_tag: U32,
        /// Reserved.
        pub reserved2: U32,
        /// ExpStatSN.
        pub exp_stat_sn: U32,
        /// Reserved.
        pub reserved3: U32,
        /// Number within the sequence.
        pub data_sn: U32,
        /// Where the data belongs in the command's buffer.
        pub buffer_offset: U32,
        /// Reserved.
        pub reserved4: U32,
    }
}

impl DataOut {
    /// The F bit: the last PDU of its sequence.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        self.flags & super::FINAL != 0
    }
}

header! {
    /// SCSI Data-In (RFC 7143 §11.7).
    DataIn = opcode::DATA_IN {
        /// 25h.
        pub opcode: u8,
        /// F, A, O, U and S.
        pub flags: u8,
        /// Reserved.
        pub reserved: u8,
        /// SAM status, if S is set.
        pub status: u8,
        /// 0.
        pub total_ahs_length: u8,
        /// Length of the data.
        pub data_segment_length: U24,
        /// Only with the A bit.
        pub lun: U64,
        /// Names the task.
        pub initiator_task_tag: U32,
        /// Only with the A bit; else the reserved value.
        pub target_transfer_tag: U32,
        /// StatSN, if S is set.
        pub stat_sn: U32,
        /// ExpCmdSN.
        pub exp_cmd_sn: U32,
        /// MaxCmdSN.
        pub max_cmd_sn: U32,
        /// Number within the task.
        pub data_sn: U32,
        /// Where the data belongs in the command's buffer.
        pub buffer_offset: U32,
        /// Meant by the O and U flags, if S is set.
        pub residual_count: U32,
    }
}

impl DataIn {
    /// S: the PDU carries the status too.
    pub const STATUS: u8 = 0x01;
    /// A: the target wants a data acknowledgement; only above ErrorRecoveryLevel 0.
    pub const ACKNOWLEDGE: u8 = 0x40;
    /// O: the device has more data than was expected.
    pub const OVERFLOW: u8 = scsi::OVERFLOW;
    /// U: the device has less data than was expected.
    pub const UNDERFLOW: u8 = scsi::UNDERFLOW;
}
