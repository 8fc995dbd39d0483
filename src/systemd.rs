//! What a service manager is told (sd_notify(3)) and what it hands over (sd_listen_fds(3)). Without
//! one nothing here does anything.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;

/// Sockets that were bound before the daemon was started.
#[derive(Debug, Default)]
pub(crate) struct Sockets(Vec<(SocketAddr, std::net::TcpListener)>);

impl Sockets {
    /// Those that this process was started with.
    ///
    /// # Errors
    /// One of them is no listening TCP socket.
    pub(crate) fn inherited() -> anyhow::Result<Self> {
        let mut descriptors = ListenFd::from_env();
        let mut sockets = Vec::new();
        for number in 0..descriptors.len() {
            let socket = descriptors.take_tcp_listener(number).with_context(|| {
                format!("socket {} of the service manager does not listen on TCP", number + 1)
            })?;
            if let Some(socket) = socket {
                socket.set_nonblocking(true)?;
                sockets.push((socket.local_addr()?, socket));
            }
        }
        Ok(Self(sockets))
    }

    /// The socket with this address, if there is one. Must be called inside the runtime.
    ///
    /// # Errors
    /// The runtime does not take it.
    pub(crate) fn take(&mut self, address: SocketAddr) -> anyhow::Result<Option<TcpListener>> {
        let Some(at) = self.0.iter().position(|(bound, _)| *bound == address) else {
            return Ok(None);
        };
        Ok(Some(TcpListener::from_std(self.0.swap_remove(at).1)?))
    }

    /// Nobody would ever accept what comes to a socket that is left over.
    ///
    /// # Errors
    /// Names its address, and the keys where it should stand.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        if let Some((address, _)) = self.0.first() {
            bail!(
                "the service manager hands over a socket for {address}, which is neither in \
                 `iscsi.listen`, nor in a portal group, nor `management.listen`"
            );
        }
        Ok(())
    }
}

/// The daemon serves.
pub(crate) fn ready(portals: &[SocketAddr]) {
    let portals: Vec<_> = portals.iter().map(ToString::to_string).collect();
    let status = format!("Serving initiators on {}", portals.join(", "));
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// The daemon drains.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("Sessions are asked to log out")]);
}

/// Says again and again that the runtime runs tasks, if somebody waits for that.
pub(crate) async fn watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval((limit / 3).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told: {state:?}");
    }
}
