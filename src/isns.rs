//! Keeps an iSNS server informed of the targets and portals (RFC 4171).

mod notifications;

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use isns::message::Reader;
use isns::{Client, Notice, Portal, Registration, Target};
use job_engine::{ChangeEvent, ChangeKind, Engine};
use parking_lot::Mutex;
use target_core::PortalGroup;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::notifications::Notifications;
use crate::config;

/// A server has so long to take a connection, and to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// After a failure it is tried again, later each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// The daemon's end does not wait longer for the server.
const FAREWELL: Duration = Duration::from_secs(2);

/// What is known of the registration.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) server: String,
    /// For people.
    state: Arc<Mutex<String>>,
}

impl Status {
    pub(crate) fn state(&self) -> String {
        self.state.lock().clone()
    }

    fn set(&self, state: String) {
        *self.state.lock() = state;
    }
}

/// The registration, while it is kept.
pub(crate) struct Keeper {
    pub(crate) status: Status,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Keeper {
    /// Takes everything back.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if tokio::time::timeout(FAREWELL, self.task).await.is_err() {
            tracing::warn!(server = self.status.server, "the iSNS server does not answer");
        }
    }
}

type Targets = std::collections::BTreeMap<String, Target>;

/// Registers what is in the catalogue, and what becomes of it.
pub(crate) fn keep(
    config: &config::Isns,
    groups: &[config::PortalGroup],
    bound: &[PortalGroup],
    engine: &Arc<Engine>,
) -> anyhow::Result<Keeper> {
    let (targets, changes) = watch::channel(Targets::new());
    let targets = Arc::new(targets);
    let groups = groups.to_vec();
    let target = move |target: &job_engine::Target| Target {
        alias: target.alias.clone(),
        groups: groups
            .iter()
            .filter(|group| group.serves(&target.name))
            .map(|group| group.tag)
            .collect(),
    };
    let (subscriber, of) = (targets.clone(), target.clone());
    let snapshot = engine.subscribe(Box::new(move |event: &ChangeEvent| match &event.change {
        ChangeKind::TargetCreated(it) | ChangeKind::TargetChanged(it) => {
            subscriber.send_modify(|targets| drop(targets.insert(it.name.clone(), of(it))));
        }
        ChangeKind::TargetDeleted(it) => {
            subscriber.send_modify(|targets| drop(targets.remove(&it.name)));
        }
        ChangeKind::DiskCreated(_)
        | ChangeKind::DiskChanged(_)
        | ChangeKind::ConditionChanged(_)
        | ChangeKind::ConditionOver(_)
        | ChangeKind::DiskDeleted(_)
        | ChangeKind::PoolCreated(_)
        | ChangeKind::PoolChanged(_)
        | ChangeKind::PoolDeleted(_)
        | ChangeKind::PoolHealthChanged { .. }
        | ChangeKind::SnapshotCreated(_)
        | ChangeKind::SnapshotDeleted(_)
        | ChangeKind::MappingCreated(_)
        | ChangeKind::MappingDeleted(_)
        | ChangeKind::JobCreated(_)
        | ChangeKind::JobChanged { .. }
        | ChangeKind::JobDeleted(_) => {}
    }))?;
    targets.send_modify(|targets| {
        targets.extend(snapshot.targets.iter().map(|it| (it.name.clone(), target(it))));
    });
    let status = Status {
        server: config.server.clone(),
        state: Arc::new(Mutex::new("not registered yet".to_owned())),
    };
    let stop = CancellationToken::new();
    let link = Link {
        client: Client::new(&config.entity),
        bound: bound.to_vec(),
        changes,
        status: status.clone(),
        stop: stop.clone(),
        _targets: targets,
    };
    Ok(Keeper { status, stop, task: tokio::spawn(link.run()) })
}

struct Link {
    client: Client,
    bound: Vec<PortalGroup>,
    changes: watch::Receiver<Targets>,
    status: Status,
    stop: CancellationToken,
    /// The channel stays open though nothing else may change the targets.
    _targets: Arc<watch::Sender<Targets>>,
}

impl Link {
    async fn run(mut self) {
        let mut pause = FIRST_RETRY;
        loop {
            let begun = Instant::now();
            match self.connection().await {
                Ok(()) => return,
                Err(error) => {
                    let server = &self.status.server;
                    tracing::warn!(server, error = format!("{error:#}"), "iSNS");
                    self.status.set(format!("not registered: {error:#}"));
                }
            }
            if begun.elapsed() > LAST_RETRY {
                pause = FIRST_RETRY;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LAST_RETRY),
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// One connection to the server; fine if the daemon stops and has taken everything back.
    async fn connection(&mut self) -> anyhow::Result<()> {
        let connect = tokio::time::timeout(PATIENCE, TcpStream::connect(&self.status.server));
        let stopped = self.stop.clone();
        let mut stream = tokio::select! {
            connected = connect => connected.context("it does not answer")?.context("no connection")?,
            () = stopped.cancelled() => return Ok(()),
        };
        let (local, peer) = (stream.local_addr()?.ip(), stream.peer_addr()?.ip());
        let mut notifications = Notifications::listen(local, peer).await?;
        self.client.connected(Some((local, notifications.port())));
        self.want(local);
        let (mut reader, mut buffer) = (Reader::default(), vec![0; 16 << 10]);
        let mut asked_at = Instant::now();
        loop {
            if let Some(request) = self.client.next(Instant::now()) {
                stream.write_all(&request).await?;
                asked_at = Instant::now();
            }
            if self.client.is_settled() {
                if self.stop.is_cancelled() {
                    return Ok(());
                }
                self.status.set(format!("{} targets registered", self.client.registered()));
            }
            let wake =
                if self.client.waits() { Some(asked_at + PATIENCE) } else { self.client.wake_at() };
            let timer = pin!(async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            });
            let stopping = self.stop.is_cancelled();
            tokio::select! {
                count = stream.read(&mut buffer) => {
                    let count = count?;
                    if count == 0 {
                        bail!("the server has closed the connection");
                    }
                    reader.push(buffer.get(..count).unwrap_or_default());
                    while let Some(message) = reader.next()? {
                        let (answer, notices) = self.client.receive(&message, Instant::now())?;
                        tell(&notices);
                        if let Some(answer) = answer {
                            stream.write_all(&answer).await?;
                        }
                    }
                }
                (message, reply) = notifications.next() => {
                    // What makes no sense there says nothing of the server.
                    if let Ok((Some(answer), notices)) = self.client.receive(&message, Instant::now()) {
                        tell(&notices);
                        let _ = reply.send(answer);
                    }
                }
                changed = self.changes.changed(), if !stopping => {
                    changed?;
                    self.want(local);
                }
                () = stopped.cancelled(), if !stopping => self.client.set(Registration::default()),
                () = timer => {
                    if self.client.waits() {
                        bail!("the server does not answer");
                    }
                }
            }
        }
    }

    fn want(&mut self, local: IpAddr) {
        if !self.stop.is_cancelled() {
            let targets = self.changes.borrow_and_update().clone();
            self.client.set(Registration { portals: portals(&self.bound, local), targets });
        }
    }
}

fn tell(notices: &[Notice]) {
    for Notice::Changed { node, bitmap } in notices {
        tracing::info!(node, bitmap = format!("{bitmap:#04x}"), "iSNS state change notification");
    }
}

/// The portals, as a server at the other end of `local` can tell others of them.
fn portals(groups: &[PortalGroup], local: IpAddr) -> Vec<Portal> {
    let mut portals = Vec::new();
    for group in groups {
        for address in group.reached_from(local) {
            let portal = Portal { address, group: group.tag };
            if !portals.contains(&portal) {
                portals.push(portal);
            }
        }
    }
    portals
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn a_server_is_told_of_portals_that_others_can_reach() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let group = |tag, portals: &[&str]| {
            PortalGroup::new(tag, portals.iter().map(|portal| address(portal)).collect())
        };
        let groups = [
            group(1, &["0.0.0.0:3260", "127.0.0.1:3261", "192.0.2.7:3262"]),
            group(2, &["[2001:db8::1]:3260", "[::]:3263"]),
        ];
        let seen = |local: &str| {
            let portals = portals(&groups, local.parse().unwrap());
            portals.iter().map(|it| format!("{},{}", it.address, it.group)).collect::<Vec<_>>()
        };
        assert_eq!(
            seen("192.0.2.9"),
            ["192.0.2.9:3260,1", "192.0.2.7:3262,1", "[2001:db8::1]:3260,2", "192.0.2.9:3263,2"]
        );
        assert_eq!(seen("127.0.0.1"), ["127.0.0.1:3260,1", "127.0.0.1:3261,1", "127.0.0.1:3263,2"]);
        assert_eq!(
            seen("2001:db8::9"),
            ["192.0.2.7:3262,1", "[2001:db8::1]:3260,2", "[2001:db8::9]:3263,2"]
        );
    }
}
