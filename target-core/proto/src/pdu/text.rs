//! Text Request and Text Response (RFC 7143 §11.10, §11.11).

use super::{CONTINUE, FINAL, U16, U24, U32, U64, header};

header! {
    /// Text Request (RFC 7143 §11.10).
    TextRequest = opcode::TEXT_REQUEST {
        /// 04h, immediate bit.
        pub opcode: u8,
        /// F and C.
        pub flags: u8,
        /// Reserved.
        pub reserved: U16,
        /// 0.
        pub total_ahs_length: u8,
        /// Length of the text.
        pub data_segment_length: U24,
        /// Returned with the Target Transfer Tag.
        pub lun: U64,
        /// Names the negotiation.
        pub initiator_task_tag: U32,
        /// The reserved value starts a negotiation.
        pub target_transfer_tag: U32,
        /// CmdSN.
        pub cmd_sn: U32,
        /// ExpStatSN.
        pub exp_stat_sn: U32,
        /// Reserved.
        pub reserved2: [u8; 16],
    }
}

impl TextRequest {
    /// The F bit: the initiator has nothing more to say.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        self.flags & FINAL != 0
    }

    /// C: the text goes on in the next PDU.
    #[must_use]
    pub const fn continues(&self) -> bool {
        self.flags & CONTINUE != 0
    }
}

header! {
    /// Text Response (RFC 7143 §11.11).
    TextResponse = opcode::TEXT_RESPONSE {
        /// 24h.
        pub opcode: u8,
        /// F and C.
        pub flags: u8,
        /// Reserved.
        pub reserved: U16,
        /// 0.
        pub total_ahs_length: u8,
        /// Length of the text.
        pub data_segment_length: U24,
        /// To be returned with the Target Transfer Tag.
        pub lun: U64,
        /// Names the negotiation.
        pub initiator_task_tag: U32,
        /// The reserved value: nothing more comes.
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

impl TextResponse {
    /// The F bit: the negotiation is over.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        self.flags & FINAL != 0
    }

    /// C: the text goes on in the next PDU.
    #[must_use]
    pub const fn continues(&self) -> bool {
        self.flags & CONTINUE != 0
    }
}
