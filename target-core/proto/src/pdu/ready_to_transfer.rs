//! Ready To Transfer (RFC 7143 §11.8).

use super::{U16, U24, U32, U64, header};

header! {
    /// Ready To Transfer: the target asks for data (RFC 7143 §11.8).
    ReadyToTransfer = opcode::READY_TO_TRANSFER {
        /// 31h.
        pub opcode: u8,
        /// Final bit only.
        pub flags: u8,
        /// Reserved.
        pub reserved: U16,
        /// 0.
        pub total_ahs_length: u8,
        /// 0.
        pub data_segment_length: U24,
        /// To be returned with the Target Transfer Tag.
        pub lun: U64,
        /// Names the task.
        pub initiator_task_tag: U32,
        /// Names the sequence that is asked for.
        pub target_transfer_tag: U32,
        /// Next StatSN, which is not used up.
        pub stat_sn: U32,
        /// ExpCmdSN.
        pub exp_cmd_sn: U32,
        /// MaxCmdSN.
        pub max_cmd_sn: U32,
        /// Number within the task.
        pub r2t_sn: U32,
        /// First byte that is wanted.
        pub buffer_offset: U32,
        /// Bytes that are wanted, at least 1 and at most MaxBurstLength.
        pub desired_data_transfer_length: U32,
    }
}
