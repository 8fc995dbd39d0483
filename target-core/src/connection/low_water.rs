//! SO_RCVLOWAT: how much must have come before a socket is readable.

use nix::sys::socket::setsockopt;
use nix::{setsockopt_impl, sockopt_impl};
use tokio::net::TcpStream;

sockopt_impl!(
    /// SO_RCVLOWAT, in bytes.
    LowWater,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_RCVLOWAT,
    libc::c_int
);

/// Sets it; false if that cannot be, and everything stays as it was. If so much is there already, the
/// socket becomes readable. The system wakes for less before the receive window is full, and when the
/// peer has closed the connection.
pub(super) fn set(stream: &TcpStream, bytes: usize) -> bool {
    libc::c_int::try_from(bytes).is_ok_and(|bytes| setsockopt(stream, LowWater, &bytes).is_ok())
}
