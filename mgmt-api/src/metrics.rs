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
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::api::NodeState;
use crate::routes::Routes;
use crate::service::{Service, Times, Totals, UnitCounters};

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
    units(&mut registry, service.units());
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
    let build = Gauges::default();
    build.get_or_create(&vec![("version", status.version)]).set(1);
    register(registry, "build_info", "1, with the version of the daemon", None, &build);
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
    let outstanding = Gauges::default();
    for (target, count) in &totals.outstanding {
        outstanding.get_or_create(&vec![("target", target.clone())]).set(*count);
    }
    let help = "Commands that are not answered yet";
    register(registry, "outstanding_commands", help, None, &outstanding);
    let senses = Counters::default();
    for (key, count) in SENSE_KEYS.iter().zip(totals.senses) {
        senses.get_or_create(&vec![("sense_key", (*key).to_owned())]).inc_by(count);
    }
    let help = "CHECK CONDITIONs by their sense key";
    register(registry, "check_conditions", help, None, &senses);
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

/// SPC-4 table 43; those without a meaning are never counted.
const SENSE_KEYS: [&str; 16] = [
    "no_sense",
    "recovered_error",
    "not_ready",
    "medium_error",
    "hardware_error",
    "illegal_request",
    "unit_attention",
    "data_protect",
    "blank_check",
    "vendor_specific",
    "copy_aborted",
    "aborted_command",
    "reserved",
    "volume_overflow",
    "miscompare",
    "completed",
];

/// What disks that are exposed do.
fn units(registry: &mut Registry, units: Vec<UnitCounters>) {
    let (commands, data) = (Counters::default(), Counters::default());
    for unit in &units {
        let labels = |kind: &str| vec![("disk", unit.disk.clone()), ("kind", kind.to_owned())];
        commands.get_or_create(&labels("read")).inc_by(unit.read_commands);
        commands.get_or_create(&labels("write")).inc_by(unit.write_commands);
        data.get_or_create(&labels("read")).inc_by(unit.read_bytes);
        data.get_or_create(&labels("write")).inc_by(unit.written_bytes);
    }
    let help = "Commands that read or write a disk, since it is exposed";
    register(registry, "disk_commands", help, None, &commands);
    let help = "What they read and wrote";
    register(registry, "disk_data", help, Some(Unit::Bytes), &data);
    registry.register_collector(Box::new(HandedOff(units)));
}

/// How long commands took that a thread had to wait for.
#[derive(Debug)]
struct HandedOff(Vec<UnitCounters>);

impl Collector for HandedOff {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Commands that were not answered from the page cache, from being handed off to \
                    being done";
        let (name, unit) = ("handed_off_commands", Unit::Seconds);
        let mut family =
            encoder.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
        for unit in &self.0 {
            for (kind, times) in &unit.handed_off {
                let (count, classes) = classes(times);
                // Those that never happened would be most of the series.
                if count > 0 {
                    let labels = vec![("disk", unit.disk.clone()), ("kind", (*kind).to_owned())];
                    let seconds = seconds(times.nanoseconds, 1_000_000_000);
                    let mut metric = family.encode_family(&labels)?;
                    metric.encode_histogram::<NoLabelSet>(seconds, count, &classes, None)?;
                }
            }
        }
        Ok(())
    }
}

#[allow(clippy::cast_precision_loss, reason = "a metric is a floating-point number")]
fn seconds(count: u64, in_a_second: u64) -> f64 {
    count as f64 / in_a_second as f64
}

/// How many there are in all, and in which classes.
fn classes(times: &Times) -> (u64, Vec<(f64, u64)>) {
    let count = times.classes.iter().map(|(_, count)| count).sum();
    let bound = |bound: &Option<u64>| bound.map_or(f64::MAX, |bound| seconds(bound, 1_000_000));
    (count, times.classes.iter().map(|(upper, count)| (bound(upper), *count)).collect())
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
