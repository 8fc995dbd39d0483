//! HTTP over TLS: bound at the start, and served to other machines once there is an administrator.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use mgmt_api::access::Access;
use mgmt_api::server::{self, Router};
use mgmt_api::tls::{Tls, TlsListener};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::config::TlsConfig;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;

/// Between two looks at the operator's own certificate.
const LOOK: Duration = Duration::from_secs(10);

/// The addresses, bound so that nobody else takes them.
pub(crate) struct Secure {
    tls: Arc<Tls>,
    /// The operator's own certificate may be renewed at any time.
    watched: bool,
    sockets: Vec<(SocketAddr, TcpSocket)>,
}

/// Reads or makes the certificate and binds the addresses.
///
/// # Errors
/// Names the file or address.
pub(crate) fn prepare(config: &TlsConfig) -> anyhow::Result<Secure> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let files = config.files.clone();
    let tls =
        Tls::open(files, &config.listen, &host).context("the certificate of management.tls")?;
    tracing::info!(sha256 = tls.fingerprint(), "the certificate of the management");
    let bind = |address: &SocketAddr| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(*address)?;
        Ok::<_, std::io::Error>((socket.local_addr()?, socket))
    };
    let mut sockets = Vec::new();
    for address in &config.listen {
        let cannot = || format!("cannot listen on {address} (management.tls.listen)");
        sockets.push(bind(address).with_context(cannot)?);
    }
    Ok(Secure { tls, watched: !config.files.own, sockets })
}

impl Secure {
    /// Serves what may be served: loopback addresses at once, others when there is an
    /// administrator. The addresses that are served at once.
    pub(crate) fn serve(
        self,
        access: &Arc<Access>,
        router: &Router,
        stop: &CancellationToken,
        (http, threads): (&mut JoinSet<std::io::Result<()>>, &Handle),
    ) -> anyhow::Result<(Vec<SocketAddr>, JoinHandle<()>)> {
        let (mut served, stopped) = (Vec::new(), stop.clone());
        for (address, socket) in self.sockets {
            let (tls, router, stop) = (self.tls.clone(), router.clone(), stop.clone());
            let on = move |listener: TcpListener| {
                server::serve(TlsListener::new(listener, tls), router, stop.cancelled_owned())
            };
            if address.ip().to_canonical().is_loopback() || !access.is_open() {
                let cannot = || format!("cannot listen on {address} (management.tls.listen)");
                http.spawn_on(on(socket.listen(BACKLOG).with_context(cannot)?), threads);
                served.push(address);
                continue;
            }
            tracing::warn!(
                "management.tls.listen: {address} is not served before there is an \
                 administrator; make one with `lunctl user add NAME --role administrator`"
            );
            let (access, stopped) = (access.clone(), stopped.clone());
            let waiting = async move {
                tokio::select! {
                    () = access.closed() => {}
                    () = stopped.cancelled() => return Ok(()),
                }
                tracing::info!(%address, "there is an administrator: management is served here");
                on(socket.listen(BACKLOG)?).await
            };
            http.spawn_on(waiting, threads);
        }
        let hangup = signal(SignalKind::hangup())?;
        Ok((served, tokio::spawn(renew(self.tls, self.watched, hangup))))
    }
}

/// Reads the certificate again on SIGHUP, and when its files have changed.
async fn renew(tls: Arc<Tls>, watched: bool, mut hangup: tokio::signal::unix::Signal) {
    let mut look = tokio::time::interval(LOOK);
    loop {
        let asked = tokio::select! {
            asked = hangup.recv() => asked.is_some(),
            _ = look.tick(), if watched => false,
        };
        let tls = tls.clone();
        // Files are read.
        let read = tokio::task::spawn_blocking(move || {
            if !asked && !tls.has_changed() {
                return;
            }
            match tls.reload() {
                Ok(()) => tracing::info!(sha256 = tls.fingerprint(), "the certificate is renewed"),
                Err(error) => tracing::error!(%error, "the certificate is not renewed"),
            }
        });
        let _ = read.await;
    }
}
