//! NOP-Out and NOP-In (RFC 7143 §11.18, §11.19).

use super::{U16, U24, U32, U64, header};

header! {
    /// NOP-Out (RFC 7143 §11.18).
    NopOut = opcode::NOP_OUT {
        /// 00h, immediate bit.
        pub opcode: u8,
        /// Final bit only.
        pub flags: u8,
        /// Reserved.
        pub reserved: U16,
        /// In four-byte words.
        pub total_ahs_length: u8,
        /// Length of the ping data.
        pub data_segment_length: U24,
        /// Of the NOP-In that is answered.
        pub lun: U64,
        /// Reserved value: no answer is wanted.
        pub initiator_task_tag: U32,
        /// Of the NOP-In that is answered, or the reserved value.
        pub target_transfer_tag: U32,
        /// CmdSN.
        pub cmd_sn: U32,
        /// ExpStatSN.
        pub exp_stat_sn: U32,
        /// Reserved.
        pub reserved2: [u8; 16],
    }
}

header! {
    /// NOP-In (RFC 7143 §11.19).
    NopIn = opcode::NOP_IN {
        /// 20h.
        pub opcode: u8,
        /// Final bit only.
        pub flags: u8,
        /// Reserved.
        pub reserved: U16,
        /// 0.
        pub total_ahs_length: u8,
        /// Length of the ping data that is returned.
        pub data_segment_length: U24,
        /// To be returned with the Target Transfer Tag.
        pub lun: U64,
        /// Of the NOP-Out that is answered, or the reserved value.
        pub initiator_task_tag: U32,
        /// Reserved value: no answer is wanted.
        pub target_transfer_tag: U32,
        /// StatSN.
        pub stat_sn: U32,
        /// ExpCmdSN.
        pub exp_cmd_sn: U32,
        /// MaxCmdSN.
        pub max_cmd_sn: U32,
        /// Reserved.
        pub reserved2: [u8; 12],
    }
}
