//! Where initiators connect.

use std::io;
use std::net::SocketAddr;

use anyhow::Context as _;
use target_core::PortalGroup;
use tokio::net::{TcpListener, TcpSocket};

use crate::access_states::to_scsi;
use crate::config;
use crate::systemd::Sockets;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// The portals, bound.
pub(crate) struct Portals {
    /// With the addresses that were really bound.
    pub(crate) groups: Vec<PortalGroup>,
    /// All of them, in the same order.
    pub(crate) addresses: Vec<SocketAddr>,
    /// With the tags of their groups.
    pub(crate) listeners: Vec<(u16, TcpListener)>,
}

pub(crate) async fn listen(
    wanted: &[config::PortalGroup],
    sockets: &mut Sockets,
) -> anyhow::Result<Portals> {
    let all: Vec<SocketAddr> = wanted.iter().flat_map(|group| group.listen.clone()).collect();
    let mut portals = Portals { groups: Vec::new(), addresses: Vec::new(), listeners: Vec::new() };
    for group in wanted {
        let mut bound = Vec::new();
        for address in &group.listen {
            let shared = all.iter().any(|it| it.is_ipv4() && it.port() == address.port());
            let portal = if let Some(portal) = sockets.take(*address)? {
                portal
            } else if address.is_ipv6() && address.ip().is_unspecified() && shared {
                v6_only(*address).with_context(|| cannot(*address, "--iscsi-listen"))?
            } else {
                bind(*address, "--iscsi-listen", sockets).await?
            };
            bound.push(portal.local_addr()?);
            portals.listeners.push((group.tag, portal));
        }
        portals.addresses.extend(&bound);
        portals.groups.push(PortalGroup {
            tag: group.tag,
            portals: bound,
            state: to_scsi(group.state),
            preferred: group.preferred,
        });
    }
    Ok(portals)
}

/// Takes the socket that the service manager has bound to an address, or binds one.
pub(crate) async fn bind(
    address: SocketAddr,
    option: &str,
    sockets: &mut Sockets,
) -> anyhow::Result<TcpListener> {
    if let Some(socket) = sockets.take(address)? {
        return Ok(socket);
    }
    TcpListener::bind(address).await.with_context(|| cannot(address, option))
}

fn cannot(address: SocketAddr, option: &str) -> String {
    format!("cannot listen on {address} (choose another with {option})")
}

/// `[::]` would take the port for IPv4 too, where another portal has it.
fn v6_only(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
