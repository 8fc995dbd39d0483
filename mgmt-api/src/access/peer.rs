//! Who is at the other end of a connection, as far as that is known before a request.

use std::net::{IpAddr, SocketAddr};

use job_engine::Role;

/// The other end of a connection. The server puts it into every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP.
    Tcp {
        /// Where it connects from.
        address: SocketAddr,
        /// Whether nobody between can read along.
        tls: bool,
        /// The common name of its certificate, which one of the trusted authorities has signed.
        certificate: Option<String>,
    },
    /// Over the UNIX socket.
    Local {
        /// The user whose process it is, as the kernel says.
        uid: u32,
        /// Its name, if it has one.
        name: Option<String>,
        /// What that user may do without more.
        role: Option<Role>,
    },
}

impl Peer {
    /// As logs name it.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Tcp { address, .. } => address.ip().to_canonical().to_string(),
            Self::Local { uid, .. } => format!("uid {uid}"),
        }
    }

    /// The address from which it came over TCP.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp { address, .. } => Some(address.ip().to_canonical()),
            Self::Local { .. } => None,
        }
    }

    /// It is on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        self.ip().is_some_and(|ip| ip.is_loopback())
    }

    /// Nobody between can read along.
    pub(super) fn is_private(&self) -> bool {
        match self {
            Self::Tcp { tls, .. } => *tls || self.is_loopback(),
            Self::Local { .. } => true,
        }
    }

    /// Over TLS.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tcp { tls: true, .. })
    }
}
