//! `/metrics`: what Prometheus collects, as OpenMetrics text; `/readyz`.
//!
//! Everything is read when it is asked for: nothing is counted twice, and nothing is counted where
//! nobody looks. Labels are names of the catalogue, so their number is bounded as that is.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use job_engine::Role;
use prometheus_client::encoding::EncodeMetric;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::api::NodeState;
use crate::routes::Routes;
use crate::service::{Service, Totals};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<u64, AtomicU64>>;
type Counters = Family<Labels, Counter>;

/// The routes.
pub(crate) fn routes(service: Arc<Service>) -> Routes {
    Routes::below("")
        .get(Role::Viewer, "/metrics", metrics)
        .everybody(Method::GET, "/readyz", ready)
        .with_state(service)
}

/// Whether initiators are served; load balancers and service managers ask.
async fn ready(State(service): State<Arc<Service>>) -> Response {
    match service.status().state {
        NodeState::Serving => "serving\n".into_response(),
        NodeState::Starting | NodeState::Draining | NodeState::Stopping => {
            (StatusCode::SERVICE_UNAVAILABLE, "no initiator is let in\n").into_response()
        }
    }
}

async fn metrics(State(service): State<Arc<Service>>) -> Response {
    // File systems are asked.
    let text = tokio::task::spawn_blocking(move || collect(&service)).await;
    match text {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Ok(Err(_)) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn collect(service: &Service) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("lund");
    daemon(&mut registry, service);
    initiators(&mut registry, &service.totals());
    storage(&mut registry, service);
    jobs(&mut registry, service);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn register<M: EncodeMetric + Clone + std::fmt::Debug + Send + Sync + 'static>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    metric: &M,
) {
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, metric.clone()),
        None => registry.register(name, help, metric.clone()),
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn daemon(registry: &mut Registry, service: &Service) {
    let status = service.status();
    let info = Info::new(vec![("version", status.version)]);
    registry.register("build", "The daemon", info);
    let state = Gauges::default();
    for (name, value) in [
        ("starting", NodeState::Starting),
        ("serving", NodeState::Serving),
        ("draining", NodeState::Draining),
        ("stopping", NodeState::Stopping),
    ] {
        let is = u64::from(status.state == value);
        state.get_or_create(&vec![("state", name.to_owned())]).set(is);
    }
    register(registry, "state", "1 for the state that the daemon is in", None, &state);
    let alerts = Gauge::<u64, AtomicU64>::default();
    alerts.set(number(status.alerts.len()));
    register(registry, "alerts", "What operators should know of the daemon itself", None, &alerts);
}

fn initiators(registry: &mut Registry, totals: &Totals) {
    let sessions = Gauges::default();
    for (target, count) in &totals.sessions {
        sessions.get_or_create(&vec![("target", target.clone())]).set(*count);
    }
    register(registry, "sessions", "Normal sessions that are logged in", None, &sessions);
    let by = |pairs: &[(&'static str, u64)]| {
        let family = Counters::default();
        for (kind, value) in pairs {
            family.get_or_create(&vec![("kind", (*kind).to_owned())]).inc_by(*value);
        }
        family
    };
    let counters = &totals.counters;
    let other = counters.commands - counters.read_commands.min(counters.commands);
    let other = other - counters.write_commands.min(other);
    let commands = [
        ("read", counters.read_commands),
        ("write", counters.write_commands),
        ("other", other),
        ("task_management", counters.task_management_functions),
    ];
    let help = "SCSI commands by the direction of their data, and task management functions";
    register(registry, "commands", help, None, &by(&commands));
    let bytes = [("read", counters.read_bytes), ("write", counters.written_bytes)];
    register(registry, "data", "Data of SCSI commands", Some(Unit::Bytes), &by(&bytes));
    let pdus = [("received", counters.pdus_received), ("sent", counters.pdus_sent)];
    register(registry, "pdus", "iSCSI PDUs after the login", None, &by(&pdus));
    let errors = [("reject", counters.rejects), ("data_digest", counters.data_digest_errors)];
    register(registry, "protocol_errors", "PDUs rejected, and damaged data", None, &by(&errors));
}

fn storage(registry: &mut Registry, service: &Service) {
    let (total, free, reserved) = (Gauges::default(), Gauges::default(), Gauges::default());
    let available = Gauges::default();
    let (provisioned, exhausted) = (Gauges::default(), Gauges::default());
    for pool in service.pools() {
        let labels = vec![("pool", pool.id)];
        available.get_or_create(&labels).set(u64::from(pool.unavailable.is_none()));
        reserved.get_or_create(&labels).set(pool.reserved_bytes);
        provisioned.get_or_create(&labels).set(pool.provisioned_bytes);
        exhausted.get_or_create(&labels).set(u64::from(pool.exhausted));
        if pool.unavailable.is_none() {
            total.get_or_create(&labels).set(pool.total_bytes);
            free.get_or_create(&labels).set(pool.free_bytes);
        }
    }
    let bytes = || Some(Unit::Bytes);
    register(registry, "pool_available", "Whether a pool can be used", None, &available);
    register(registry, "pool_size", "Size of a pool's file system", bytes(), &total);
    register(registry, "pool_free", "What may still be used of a pool", bytes(), &free);
    register(registry, "pool_reserved", "Promised to jobs that allocate", bytes(), &reserved);
    register(registry, "pool_provisioned", "Sizes of a pool's disks", bytes(), &provisioned);
    let help = "Whether a pool is below its hard threshold";
    register(registry, "pool_exhausted", help, None, &exhausted);
    let (size, allocated) = (Gauges::default(), Gauges::default());
    for disk in service.disks() {
        let labels = vec![("disk", disk.name)];
        size.get_or_create(&labels).set(disk.size_bytes);
        if let Some(bytes) = disk.allocated_bytes {
            allocated.get_or_create(&labels).set(bytes);
        }
    }
    register(registry, "disk_size", "Size of a disk", bytes(), &size);
    register(registry, "disk_allocated", "Space that a disk's file takes", bytes(), &allocated);
}

fn jobs(registry: &mut Registry, service: &Service) {
    let (states, faults) = (Gauges::default(), Counters::default());
    for job in service.jobs() {
        if let Some(occurrences) = job.occurrences {
            let message = job.errors.first().map_or("", |error| error.message_id.as_str());
            let labels = vec![("disk", job.disk), ("message", message.to_owned())];
            faults.get_or_create(&labels).inc_by(occurrences);
        } else {
            let labels = vec![("kind", job.kind), ("state", job.state)];
            states.get_or_create(&labels).inc();
        }
    }
    register(
        registry,
        "jobs",
        "Jobs that are known, by what they do and their state",
        None,
        &states,
    );
    let help = "Failed commands of the data path, by disk and message, since the fault was cleared";
    register(registry, "faults", help, None, &faults);
}
