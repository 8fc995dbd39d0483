//! The daemon's life: start, serve, drain, stop.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use job_engine::{Engine, EngineConfig};
use mgmt_api::access::Access;
use mgmt_api::cim::{Cimom, Indications};
use mgmt_api::listen::Plain;
use mgmt_api::otlp::{self, Exporter};
use mgmt_api::server::{self, Router};
use mgmt_api::service::{Host, Service};
use target_core::{Node, NodeConfig, NodeState};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::chap_accounts::ChapAccounts;
use crate::config::Config;
use crate::data_path;
use crate::demo;
use crate::io_limits::IoLimits;
use crate::isns;
use crate::limits;
use crate::local;
use crate::management::Management;
use crate::portals;
use crate::secure;
use crate::systemd::{self, Sockets};
use crate::wiring::{DRAIN_LIMIT, Exposed, Exposure, NodeHost, Recorder, Rules};

/// Requests of management clients may take so long after the sessions have ended.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// What the engine is configured with.
fn engine_config(config: &Config) -> EngineConfig {
    let mut engine_config = EngineConfig::new(&config.data_dir);
    engine_config.default_pool.clone_from(&config.disks_dir);
    engine_config.max_workers = config.max_running_jobs;
    engine_config.max_workers_per_pool = config.max_running_jobs_per_pool;
    engine_config.max_unfinished_jobs = config.max_unfinished_jobs;
    engine_config.max_ended_jobs = config.max_ended_jobs;
    engine_config.bandwidth = config.job_bandwidth;
    engine_config.back_off = config.job_back_off;
    engine_config.least_bandwidth = config.job_least_bandwidth;
    engine_config.default_limits.clone_from(&config.default_limits);
    engine_config.pools.clone_from(&config.pools);
    engine_config.allowed_directories.clone_from(&config.allowed_directories);
    engine_config
}

/// Runs the daemon until SIGTERM or SIGINT.
pub(crate) fn run(config: &Config, exporter: Option<&Arc<Exporter>>) -> anyhow::Result<()> {
    let sockets = Sockets::inherited()?;
    limits::raise_open_files(config);
    disk_image::set_hot_budget(config.pinned);
    let runtime = data_path::start(config.nice)?;
    let mut engine_config = engine_config(config);
    let exposed = Arc::new(Exposed::default());
    engine_config.data_path = exposed.clone();
    let indications =
        Indications::new(engine_config.system_name.clone()).map_err(anyhow::Error::msg)?;
    if let Some(trust) = &config.management.listeners {
        indications.trust(trust.config().context("management.listeners")?);
    }
    engine_config.outbox = Some(indications.clone());
    // Whoever holds the data directory may take the addresses; nobody else gets that far.
    let engine = Engine::open(engine_config)?;
    if let Some(exporter) = exporter {
        otlp::follow(&engine, exporter)?;
    }
    let recorder = Arc::new(Recorder::default());
    recorder.connect(engine.clone());
    let node_config = NodeConfig {
        max_logins: config.max_logins,
        max_backlog: config.max_backlog,
        zero_copy_reads: config.zero_copy_reads,
        max_sessions: config.max_sessions,
        max_sessions_per_target: config.max_sessions_per_target,
        max_sessions_per_initiator: config.max_sessions_per_initiator,
        max_tasks: config.max_tasks,
        logout_time: config.logout_time,
        abort_time: config.abort_time,
        slow_command: config.slow_command,
        ..NodeConfig::default()
    };
    let node = Node::new(node_config, recorder.clone());
    let chap = ChapAccounts::load(config.access.clone(), engine.clone(), node.clone())?;
    let limits = IoLimits::load(engine.clone(), node.clone());
    let rules = Rules {
        chap: chap.clone(),
        redirects: config.redirects.clone(),
        portal_groups: config.portal_groups.clone(),
        access_methods: config.access_methods,
        scsi: config.scsi.clone(),
    };
    let handle = runtime.handle().clone();
    let exposure = Exposure::start(node.clone(), &engine, handle, rules, recorder.clone())
        .inspect_err(|_| exposed.stop())?;
    exposed.connect(exposure.clone());
    // What reading the database has left.
    memory::give_back();
    let management = Management::start()?;
    let threads = management.handle()?;
    let served = runtime.block_on(serve(
        config,
        &engine,
        &node,
        (chap, limits),
        (&indications, exporter),
        (sockets, threads),
    ));
    drop(management);
    indications.stop();
    exposed.stop();
    engine.shutdown();
    exposed.disconnect();
    recorder.disconnect();
    runtime.shutdown_timeout(Duration::from_secs(1));
    exposure.close_images();
    served
}

async fn serve(
    config: &Config,
    engine: &Arc<Engine>,
    node: &Arc<Node>,
    (chap, limits): (Arc<ChapAccounts>, Arc<IoLimits>),
    (indications, exporter): (&Arc<Indications>, Option<&Arc<Exporter>>),
    (mut sockets, threads): (Sockets, Handle),
) -> anyhow::Result<()> {
    // Before anything is printed: whoever reads an address may send a signal at once.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let portals = portals::listen(&config.portal_groups, &mut sockets).await?;
    let addresses = portals.addresses.clone();
    node.set_portal_groups(portals.groups.clone());
    let keep = |it| isns::keep(it, &config.portal_groups, &portals.groups, engine);
    let isns = config.isns.as_ref().map(keep).transpose()?;
    let listen = config.management.listen;
    let management = portals::bind(listen, "--mgmt-listen", &mut sockets).await?;
    sockets.finish()?;
    let management_address = management.local_addr()?;
    let local = local::listen(&config.management).await?;
    let secure = config.management.tls.as_ref().map(secure::prepare).transpose()?;

    let cimom = Cimom::new(engine.clone(), indications.clone());
    let host: Arc<dyn Host> = Arc::new(NodeHost {
        node: node.clone(),
        engine: engine.clone(),
        settings: config.settings(),
        portals: addresses.iter().map(ToString::to_string).collect(),
        access_methods: config.access_methods,
        chap,
        limits,
        isns: isns.as_ref().map(|keeper| keeper.status.clone()),
        exporter: exporter.cloned(),
        runtime: Handle::current(),
    });
    let cimom = cimom.over(host.clone());
    let service = Arc::new(Service::new(engine.clone(), host));
    let access = Arc::new(Access::new(engine.clone()).map_err(anyhow::Error::msg)?);
    let router = router(config, (service, Arc::new(cimom), access.clone()), exporter);
    let stop = CancellationToken::new();
    let stopped = || stop.clone().cancelled_owned();
    let mut http = JoinSet::new();
    let plain = server::serve(Plain::new(management)?, router.clone(), stopped());
    http.spawn_on(plain, &threads);
    let secure = secure.map(|secure| secure.serve(&access, &router, &stop, (&mut http, &threads)));
    let (secure_addresses, renewing) = secure.transpose()?.unzip();
    let _socket = local.map(|(socket, listener)| {
        http.spawn_on(server::serve(listener, router, stopped()), &threads);
        socket
    });

    let demo_target = demo_target(config, engine).await?;
    node.set_state(NodeState::Serving);
    let accepting: Vec<_> = portals
        .listeners
        .into_iter()
        .map(|(tag, portal)| tokio::spawn(target_core::serve(node.clone(), tag, portal)))
        .collect();
    let secure_addresses = secure_addresses.unwrap_or_default();
    print_addresses(&addresses, &secure_addresses, management_address, demo_target.as_deref())?;
    tracing::info!(?addresses, management = %management_address, "lund serves");
    systemd::ready(&addresses);
    let watchdog = tokio::spawn(systemd::watchdog());

    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: lund drains"),
        _ = interrupt.recv() => tracing::info!("SIGINT: lund drains"),
        Some(ended) = http.join_next() => {
            ended?.context("the management server failed")?;
        }
    }
    systemd::stopping();
    // Nobody is sent here any more before those that are here are asked to go.
    if let Some(isns) = isns {
        isns.stop().await;
    }
    if !node.stop(DRAIN_LIMIT).await {
        tracing::warn!("sessions are cut off: their commands did not end in time");
    }
    for portal in accepting {
        portal.abort();
    }
    stop.cancel();
    answered(http, &access).await;
    watchdog.abort();
    if let Some(renewing) = renewing {
        renewing.abort();
    }
    tracing::info!("lund has stopped");
    Ok(())
}

/// The management's routes, with spans for their requests if these are wanted.
fn router(
    config: &Config,
    (service, cimom, access): (Arc<Service>, Arc<Cimom>, Arc<Access>),
    exporter: Option<&Arc<Exporter>>,
) -> Router {
    let (router, _) = server::router(service, cimom, access);
    let wanted = config.telemetry.as_ref().is_some_and(|it| it.requests);
    match exporter.filter(|_| wanted) {
        Some(exporter) => otlp::traced(router, exporter.clone()),
        None => router,
    }
}

/// Waits until the servers of the management have ended, and what clients began, for a while.
async fn answered(mut servers: JoinSet<std::io::Result<()>>, access: &Access) {
    let ended = async {
        while servers.join_next().await.is_some() {}
        access.finished().await;
    };
    if tokio::time::timeout(ANSWER_LIMIT, ended).await.is_err() {
        tracing::warn!("management requests are cut off");
    }
}

/// The target of the demo disk, if there shall be one.
async fn demo_target(config: &Config, engine: &Arc<Engine>) -> anyhow::Result<Option<String>> {
    let Some(size) = config.demo else { return Ok(None) };
    let engine = engine.clone();
    Ok(Some(tokio::task::spawn_blocking(move || demo::prepare(&engine, size)).await??))
}

/// What scripts read.
fn print_addresses(
    portals: &[SocketAddr],
    secure: &[SocketAddr],
    management: SocketAddr,
    demo_target: Option<&str>,
) -> anyhow::Result<()> {
    let mut text = String::new();
    for portal in portals {
        text.push_str(&format!("iscsi://{portal}\n"));
    }
    for address in secure {
        text.push_str(&format!("https://{address}/cimom\n"));
    }
    text.push_str(&format!("http://{management}/cimom\n"));
    if let (Some(target), Some(portal)) = (demo_target, portals.first()) {
        text.push_str(&demo::instructions(*portal, management, target));
    }
    let mut out = std::io::stdout().lock();
    // A closed standard output is no reason not to serve.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(())
}
