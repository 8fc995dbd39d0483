//! SNACK Request (RFC 7143 §11.16).

use super::{U16, U24, U32, U64, header};

header! {
    /// SNACK Request (RFC 7143 §11.16); never valid at ErrorRecoveryLevel 0.
    Snack = opcode::SNACK {
        /// 10h.
        pub opcode: u8,
        /// Final bit and the type.
        pub flags: u8,
        /// Reserved.
        pub reserved: U16,
        /// 0.
        pub total_ahs_length: u8,
        /// 0.
        pub data_segment_length: U24,
        /// LUN or reserved.
        pub lun: U64,
        /// The task, or the reserved value.
        pub initiator_task_tag: U32,
        /// The transfer, SNACK tag or reserved value.
        pub target_transfer_tag: U32,
        /// Reserved.
        pub reserved2: U32,
        /// ExpStatSN.
        pub exp_stat_sn: U32,
        /// Reserved.
        pub reserved3: U64,
        /// First number of the run.
        pub beg_run: U32,
        /// Its length; 0: all.
        pub run_length: U32,
    }
}
