//! Login Request and Login Response (RFC 7143 §11.12, §11.13).

use super::{CONTINUE, FINAL, U16, U24, U32, header};

/// CSG and NSG (RFC 7143 §11.12.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// 0
    SecurityNegotiation,
    /// 1
    LoginOperationalNegotiation,
    /// 3
    FullFeaturePhase,
}

impl Stage {
    /// From two bits; 2 is reserved.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits & 3 {
            0 => Some(Self::SecurityNegotiation),
            1 => Some(Self::LoginOperationalNegotiation),
            3 => Some(Self::FullFeaturePhase),
            _ => None,
        }
    }

    /// As two bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::SecurityNegotiation => 0,
            Self::LoginOperationalNegotiation => 1,
            Self::FullFeaturePhase => 3,
        }
    }
}

header! {
    /// Login Request (RFC 7143 §11.12).
    LoginRequest = opcode::LOGIN_REQUEST {
        /// 43h: always immediate.
        pub opcode: u8,
        /// T, C, CSG and NSG.
        pub flags: u8,
        /// Highest version the initiator speaks.
        pub version_max: u8,
        /// Lowest version the initiator speaks.
        pub version_min: u8,
        /// 0.
        pub total_ahs_length: u8,
        /// Length of the text.
        pub data_segment_length: U24,
        /// The initiator's part of the session's name.
        pub isid: [u8; 6],
        /// 0 for a new session.
        pub tsih: U16,
        /// One for the whole login.
        pub initiator_task_tag: U32,
        /// Names the connection in the session.
        pub cid: U16,
        /// Reserved.
        pub reserved: U16,
        /// CmdSN, which is not used up.
        pub cmd_sn: U32,
        /// ExpStatSN.
        pub exp_stat_sn: U32,
        /// Reserved.
        pub reserved2: [u8; 16],
    }
}

impl LoginRequest {
    /// T: the initiator wants to go to the next stage.
    #[must_use]
    pub const fn transit(&self) -> bool {
        self.flags & FINAL != 0
    }

    /// C: the text goes on in the next PDU.
    #[must_use]
    pub const fn continues(&self) -> bool {
        self.flags & CONTINUE != 0
    }

    /// CSG; `None` is the reserved value.
    #[must_use]
    pub const fn current_stage(&self) -> Option<Stage> {
        Stage::from_bits(self.flags >> 2)
    }

    /// NSG; `None` is the reserved value. Meant only with T.
    #[must_use]
    pub const fn next_stage(&self) -> Option<Stage> {
        Stage::from_bits(self.flags)
    }
}

header! {
    /// Login Response (RFC 7143 §11.13).
    LoginResponse = opcode::LOGIN_RESPONSE {
        /// 23h.
        pub opcode: u8,
        /// T, C, CSG and NSG.
        pub flags: u8,
        /// Highest version the target speaks.
        pub version_max: u8,
        /// The version in use.
        pub version_active: u8,
        /// 0.
        pub total_ahs_length: u8,
        /// Length of the text.
        pub data_segment_length: U24,
        /// As in the request.
        pub isid: [u8; 6],
        /// Set in the final response of a new session.
        pub tsih: U16,
        /// As in the request.
        pub initiator_task_tag: U32,
        /// Reserved.
        pub reserved: U32,
        /// StatSN.
        pub stat_sn: U32,
        /// ExpCmdSN.
        pub exp_cmd_sn: U32,
        /// MaxCmdSN.
        pub max_cmd_sn: U32,
        /// Status class.
        pub status_class: u8,
        /// Status detail.
        pub status_detail: u8,
        /// Reserved.
        pub reserved2: [u8; 10],
    }
}

impl LoginResponse {
    /// T: the target goes to the next stage.
    #[must_use]
    pub const fn transit(&self) -> bool {
        self.flags & FINAL != 0
    }

    /// C: the text goes on in the next PDU.
    #[must_use]
    pub const fn continues(&self) -> bool {
        self.flags & CONTINUE != 0
    }

    /// CSG; `None` is the reserved value.
    #[must_use]
    pub const fn current_stage(&self) -> Option<Stage> {
        Stage::from_bits(self.flags >> 2)
    }

    /// NSG; `None` is the reserved value. Meant only with T.
    #[must_use]
    pub const fn next_stage(&self) -> Option<Stage> {
        Stage::from_bits(self.flags)
    }
}
