//! RFC 7143 without I/O: bytes and decisions go in, bytes and events come out.
//!
//! [`codec`] cuts a byte stream into PDUs, [`login`] takes a connection from its first byte to the
//! full feature phase, [`session`] runs that phase, [`transmit`] holds what is to be sent. None of
//! them knows a socket, a clock or a disk.
#![forbid(unsafe_code)]

pub mod codec;
pub mod digest;
pub mod error;
pub mod fuzz;
pub mod ids;
pub mod login;
pub mod names;
pub mod parameters;
pub mod pdu;
pub mod serial;
pub mod session;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod text;
pub mod transmit;

pub use error::FramingError;
pub use ids::{Cid, InitiatorTaskTag, Isid, Lun, TargetTransferTag, Tsih};
pub use parameters::Parameters;
pub use serial::{CmdSn, DataSn, R2tSn, StatSn};
