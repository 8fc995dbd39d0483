//! Where management clients connect: TCP and the UNIX socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use job_engine::Role;
use tokio::net::{TcpListener, UnixListener};

use crate::access::Peer;
use crate::server::{Accepting, Handshake, Listener, Stream};

/// Plain HTTP over TCP.
#[derive(Debug)]
pub struct Plain(TcpListener);

impl Plain {
    /// # Errors
    /// The address is reached from other machines: passwords would go over the network as they
    /// are.
    pub fn new(listener: TcpListener) -> io::Result<Self> {
        let address: SocketAddr = listener.local_addr()?;
        if address.ip().to_canonical().is_loopback() {
            return Ok(Self(listener));
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "plain HTTP is for loopback addresses"))
    }
}

impl Listener for Plain {
    fn accept(&mut self) -> Accepting<'_> {
        Box::pin(async {
            let (stream, address) = self.0.accept().await?;
            let peer = Peer::Tcp { address, tls: false, certificate: None };
            let ready = async move { Ok((Box::new(stream) as Box<dyn Stream>, peer)) };
            Ok(Box::pin(ready) as Handshake)
        })
    }
}

/// Somebody on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalUser {
    /// Their name, if the system knows one.
    pub name: Option<String>,
    /// What they may do.
    pub role: Option<Role>,
}

/// Says who a user of this machine is. May wait for the system's user database.
pub type LookUp = Arc<dyn Fn(u32) -> LocalUser + Send + Sync>;

/// Plain HTTP over a UNIX socket, to which the kernel says whose process is at the other end.
pub struct Local {
    listener: UnixListener,
    look_up: LookUp,
}

impl Local {
    /// Asks `look_up` about everybody who connects.
    #[must_use]
    pub fn new(listener: UnixListener, look_up: LookUp) -> Self {
        Self { listener, look_up }
    }
}

impl Listener for Local {
    fn accept(&mut self) -> Accepting<'_> {
        Box::pin(async {
            let (stream, _) = self.listener.accept().await?;
            let look_up = self.look_up.clone();
            let ready = async move {
                let uid = stream.peer_cred()?.uid();
                let user = tokio::task::spawn_blocking(move || look_up(uid)).await?;
                let peer = Peer::Local { uid, name: user.name, role: user.role };
                Ok((Box::new(stream) as Box<dyn Stream>, peer))
            };
            Ok(Box::pin(ready) as Handshake)
        })
    }
}
