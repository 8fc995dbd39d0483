//! An iSNS client without I/O (RFC 4171): it keeps a server's registration of an iSCSI node as it
//! shall be.
//!
//! [`Client`] is told what is to be registered, asked what to send, and given what comes back; the
//! caller has the socket and the clock. [`message`] is the wire format.
#![forbid(unsafe_code)]

mod client;
pub mod message;
mod registration;

pub use client::{Client, ClientError, Notice};
pub use registration::{Portal, Registration, Target};
