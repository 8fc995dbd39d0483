//! The PDUs of RFC 7143 §11.
//!
//! Every fixed header is a struct of exactly 48 bytes that lies over the bytes of the wire: it
//! is read where it arrived and written where it leaves, fields in the RFC's order and names.

mod ahs;
mod async_message;
mod data;
mod login;
mod logout;
mod nop;
mod ready_to_transfer;
mod reject;
mod scsi;
mod snack;
mod task_management;
mod text;

#[cfg(test)]
mod tests;

use zerocopy::byteorder::big_endian::{U16, U32, U64};

pub use ahs::{Ahs, AhsError};
pub use async_message::{AsyncEvent, AsyncMessage};
pub use data::{DataIn, DataOut};
pub use login::{LoginRequest, LoginResponse, Stage};
pub use logout::{LogoutReason, LogoutRequest, LogoutResponse, LogoutResponseCode};
pub use nop::{NopIn, NopOut};
pub use ready_to_transfer::ReadyToTransfer;
pub use reject::{Reject, RejectReason};
pub use scsi::{ScsiCommand, ScsiResponse, TaskAttribute};
pub use snack::Snack;
pub use task_management::{
    TaskManagementFunction, TaskManagementRequest, TaskManagementResponse,
    TaskManagementResponseCode,
};
pub use text::{TextRequest, TextResponse};

/// Length of a Basic Header Segment.
pub const BHS_LENGTH: usize = 48;

/// The bytes of a Basic Header Segment.
pub type Bhs = [u8; BHS_LENGTH];

/// Immediate delivery bit of byte 0.
pub const IMMEDIATE: u8 = 0x40;
/// Final bit of byte 1.
pub const FINAL: u8 = 0x80;
/// Continue bit of byte 1 of text and login PDUs.
pub const CONTINUE: u8 = 0x40;

/// Opcodes (RFC 7143 §11.2.1.2), immediate bit cleared.
pub mod opcode {
    #![allow(missing_docs, reason = "the names are the RFC's")]
    pub const NOP_OUT: u8 = 0x00;
    pub const SCSI_COMMAND: u8 = 0x01;
    pub const TASK_MANAGEMENT_REQUEST: u8 = 0x02;
    pub const LOGIN_REQUEST: u8 = 0x03;
    pub const TEXT_REQUEST: u8 = 0x04;
    pub const DATA_OUT: u8 = 0x05;
    pub const LOGOUT_REQUEST: u8 = 0x06;
    pub const SNACK: u8 = 0x10;
    pub const NOP_IN: u8 = 0x20;
    pub const SCSI_RESPONSE: u8 = 0x21;
    pub const TASK_MANAGEMENT_RESPONSE: u8 = 0x22;
    pub const LOGIN_RESPONSE: u8 = 0x23;
    pub const TEXT_RESPONSE: u8 = 0x24;
    pub const DATA_IN: u8 = 0x25;
    pub const LOGOUT_RESPONSE: u8 = 0x26;
    pub const READY_TO_TRANSFER: u8 = 0x31;
    pub const ASYNC_MESSAGE: u8 = 0x32;
    pub const REJECT: u8 = 0x3f;
}

/// Declares a 48-byte header: a struct that can lie over wire bytes.
macro_rules! header {
    ($(#[$doc:meta])* $name:ident = opcode::$opcode:ident { $($fields:tt)* }) => {
        $crate::pdu::header! { $(#[$doc])* $name { $($fields)* } }

        impl $name {
            /// Its opcode, without the immediate bit.
            pub const OPCODE: u8 = $crate::pdu::opcode::$opcode;

            /// A header of zeroes but for the opcode, as a base for struct update syntax.
            #[must_use]
            pub const fn new() -> Self {
                let mut header = Self::zeroed();
                header.opcode = Self::OPCODE;
                header
            }
        }
    };
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $visibility:vis $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable)]
        #[derive(zerocopy::KnownLayout, zerocopy::Unaligned)]
        #[repr(C)]
        pub struct $name { $($(#[$field_doc])* $visibility $field: $type,)* }

        impl $name {
            /// The header that these bytes are.
            #[must_use]
            pub const fn view(bhs: &$crate::pdu::Bhs) -> &Self {
                zerocopy::transmute_ref!(bhs)
            }

            /// The bytes of the header.
            #[must_use]
            pub const fn bytes(&self) -> &$crate::pdu::Bhs {
                zerocopy::transmute_ref!(self)
            }

            /// Writes the header where it is to be sent from.
            pub const fn emit(&self, bhs: &mut $crate::pdu::Bhs) {
                *bhs = *self.bytes();
            }

            /// A header of zeroes.
            #[must_use]
            pub const fn zeroed() -> Self {
                zerocopy::transmute!([0u8; $crate::pdu::BHS_LENGTH])
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::zeroed()
            }
        }
    };
}
use header;

/// A three-byte big-endian length.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
    zerocopy::Unaligned,
)]
#[repr(transparent)]
pub struct U24([u8; 3]);

impl U24 {
    /// The largest length that fits.
    pub const MAX: u32 = 0x00ff_ffff;

    /// Its value.
    #[must_use]
    pub const fn get(self) -> u32 {
        let [a, b, c] = self.0;
        u32::from_be_bytes([0, a, b, c])
    }

    /// From a value, of which only the low 24 bits are kept.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        let [_, a, b, c] = value.to_be_bytes();
        Self([a, b, c])
    }
}

impl std::fmt::Debug for U24 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

header! {
    /// What all headers share (RFC 7143 §11.2.1).
    BasicHeaderSegment {
        /// Opcode and, in requests, the immediate bit.
        pub opcode: u8,
        /// Final bit and opcode-specific flags.
        pub flags: u8,
        /// Opcode-specific.
        pub specific: [u8; 2],
        /// Length of all additional header segments in four-byte words.
        pub total_ahs_length: u8,
        /// Length of the data segment in bytes, without padding.
        pub data_segment_length: U24,
        /// Logical unit number, or opcode-specific.
        pub lun: U64,
        /// Initiator Task Tag.
        pub initiator_task_tag: U32,
        /// Opcode-specific.
        pub rest: [u8; 28],
    }
}

impl BasicHeaderSegment {
    /// The opcode without the immediate bit.
    #[must_use]
    pub const fn opcode(&self) -> u8 {
        self.opcode & 0x3f
    }

    /// Whether the request is for immediate delivery.
    #[must_use]
    pub const fn immediate(&self) -> bool {
        self.opcode & IMMEDIATE != 0
    }

    /// The final bit.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        self.flags & FINAL != 0
    }
}

/// A PDU as it lies in the receive buffer.
#[derive(Debug, Clone, Copy)]
pub struct Pdu<'a> {
    /// The Basic Header Segment.
    pub bhs: &'a Bhs,
    /// All additional header segments.
    pub ahs: &'a [u8],
    /// The data segment without padding.
    pub data: &'a [u8],
}

/// A request, by its opcode.
#[derive(Debug, Clone, Copy)]
pub enum Request<'a> {
    /// NOP-Out.
    NopOut(&'a NopOut),
    /// SCSI Command.
    ScsiCommand(&'a ScsiCommand),
    /// Task Management Function Request.
    TaskManagement(&'a TaskManagementRequest),
    /// Login Request.
    Login(&'a LoginRequest),
    /// Text Request.
    Text(&'a TextRequest),
    /// SCSI Data-Out.
    DataOut(&'a DataOut),
    /// Logout Request.
    Logout(&'a LogoutRequest),
    /// SNACK Request.
    Snack(&'a Snack),
    /// Any other opcode.
    Unknown(u8),
}

impl<'a> Pdu<'a> {
    /// The fields all headers share.
    #[must_use]
    pub const fn basic(&self) -> &'a BasicHeaderSegment {
        BasicHeaderSegment::view(self.bhs)
    }

    /// The header as the request its opcode says.
    #[must_use]
    pub const fn request(&self) -> Request<'a> {
        let bhs = self.bhs;
        match self.basic().opcode() {
            opcode::NOP_OUT => Request::NopOut(NopOut::view(bhs)),
            opcode::SCSI_COMMAND => Request::ScsiCommand(ScsiCommand::view(bhs)),
            opcode::TASK_MANAGEMENT_REQUEST => {
                Request::TaskManagement(TaskManagementRequest::view(bhs))
            }
            opcode::LOGIN_REQUEST => Request::Login(LoginRequest::view(bhs)),
            opcode::TEXT_REQUEST => Request::Text(TextRequest::view(bhs)),
            opcode::DATA_OUT => Request::DataOut(DataOut::view(bhs)),
            opcode::LOGOUT_REQUEST => Request::Logout(LogoutRequest::view(bhs)),
            opcode::SNACK => Request::Snack(Snack::view(bhs)),
            other => Request::Unknown(other),
        }
    }
}
