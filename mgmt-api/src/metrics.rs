//! `/metrics`: what Prometheus collects, as OpenMetrics text; `/readyz`.
//!
//! Everything is read when it is asked for: nothing is counted twice, and nothing is counted where
//! nobody looks. Labels are names of the catalogue, so their number is bounded as that is; of sessions,
//! the 128 that have been there for the longest are named.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use job_engine::Role;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::api::NodeState;
use crate::otlp::Figures;
use crate::routes::Routes;
use crate::service::{Service, SessionFigures, Times, Totals, UnitCounters};
use job_engine::{COMMIT_BOUNDS, StoreFigures};

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
    store(&mut registry, service.store_figures());
    jobs(&mut registry, service);
    traces(&mut registry, service.traces());
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
    sessions_by_name(registry, totals);
    let senses = Counters::default();
    for (key, count) in SENSE_KEYS.iter().zip(totals.senses) {
        senses.get_or_create(&vec![("sense_key", (*key).to_owned())]).inc_by(count);
    }
    let help = "CHECK CONDITIONs by their sense key";
    register(registry, "check_conditions", help, None, &senses);
    let pinned = Gauge::<u64, AtomicU64>::default();
    pinned.set(totals.pinned_bytes);
    let help = "Parts of images that are kept in memory, as they are read again and again";
    register(registry, "image_pinned", help, Some(Unit::Bytes), &pinned);
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
    let zero_copy = Counter::<u64>::default();
    zero_copy.inc_by(counters.zero_copy_bytes);
    let help = "Data of reads that was sent without being copied";
    register(registry, "zero_copy", help, Some(Unit::Bytes), &zero_copy);
    let pdus = [("received", counters.pdus_received), ("sent", counters.pdus_sent)];
    register(registry, "pdus", "iSCSI PDUs after the login", None, &by(&pdus));
    let errors = [("reject", counters.rejects), ("data_digest", counters.data_digest_errors)];
    register(registry, "protocol_errors", "PDUs rejected, and damaged data", None, &by(&errors));
}

/// The sessions that have been there for the longest, one by one.
fn sessions_by_name(registry: &mut Registry, totals: &Totals) {
    let (commands, data) = (Counters::default(), Counters::default());
    let outstanding = Gauges::default();
    for session in &totals.named {
        let own = || labels_of(session);
        let labels = |kind: &str| [own(), vec![("kind", kind.to_owned())]].concat();
        let counters = &session.counters;
        commands.get_or_create(&labels("read")).inc_by(counters.read_commands);
        commands.get_or_create(&labels("write")).inc_by(counters.write_commands);
        data.get_or_create(&labels("read")).inc_by(session.read_bytes);
        data.get_or_create(&labels("write")).inc_by(session.written_bytes);
        outstanding.get_or_create(&own()).set(session.outstanding);
    }
    let help = "Commands of a session that read or write; the 128 oldest sessions are told";
    register(registry, "session_commands", help, None, &commands);
    let help = "What they read and wrote";
    register(registry, "session_data", help, Some(Unit::Bytes), &data);
    let help = "Commands of a session that are not answered yet";
    register(registry, "session_outstanding_commands", help, None, &outstanding);
    registry.register_collector(Box::new(SessionLatencies(totals.named.clone())));
}

fn labels_of(session: &SessionFigures) -> Labels {
    vec![
        ("session", session.tsih.to_string()),
        ("initiator", session.initiator.clone()),
        ("target", session.target.clone()),
    ]
}

/// How long commands of these sessions took.
#[derive(Debug)]
struct SessionLatencies(Vec<SessionFigures>);

impl Collector for SessionLatencies {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "As disk_command_time, of the 128 oldest sessions";
        let (name, unit) = ("session_command_time", Unit::Seconds);
        let mut family =
            encoder.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
        for session in &self.0 {
            for (kind, times) in &session.timed {
                let labels = || [labels_of(session), vec![("kind", (*kind).to_owned())]].concat();
                histogram(&mut family, labels, times)?;
            }
        }
        Ok(())
    }
}

/// One of a family; those that never happened would be most of the series.
fn histogram(
    family: &mut MetricEncoder<'_>,
    labels: impl FnOnce() -> Labels,
    times: &Times,
) -> Result<(), std::fmt::Error> {
    let (count, classes) = classes(times);
    if count == 0 {
        return Ok(());
    }
    let seconds = seconds(times.nanoseconds, 1_000_000_000);
    let labels = labels();
    let mut metric = family.encode_family(&labels)?;
    metric.encode_histogram::<NoLabelSet>(seconds, count, &classes, None)
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
    queues(registry, &units);
    caches(registry, &units);
    registry.register_collector(Box::new(Latencies(units)));
}

fn queues(registry: &mut Registry, units: &[UnitCounters]) {
    let (waiting, threads) = (Gauges::default(), Gauges::default());
    for unit in units {
        let labels = vec![("disk", unit.disk.clone())];
        waiting.get_or_create(&labels).set(number(unit.waiting));
        threads.get_or_create(&labels).set(number(unit.threads));
    }
    let help = "Commands of a disk that wait for a thread that may sleep";
    register(registry, "disk_queued_commands", help, None, &waiting);
    let help = "Threads that work for a disk, at most 16";
    register(registry, "disk_threads", help, None, &threads);
}

/// Caches of images that have tables.
fn caches(registry: &mut Registry, units: &[UnitCounters]) {
    let (bytes, limit, dirty) = (Gauges::default(), Gauges::default(), Gauges::default());
    let (loads, evictions) = (Counters::default(), Counters::default());
    for (unit, cache) in units.iter().filter_map(|unit| Some((unit, unit.cache?))) {
        let labels = vec![("disk", unit.disk.clone())];
        bytes.get_or_create(&labels).set(cache.bytes);
        limit.get_or_create(&labels).set(cache.limit_bytes);
        dirty.get_or_create(&labels).set(cache.dirty_bytes);
        loads.get_or_create(&labels).inc_by(cache.loads);
        evictions.get_or_create(&labels).inc_by(cache.evictions);
    }
    let unit = || Some(Unit::Bytes);
    let help = "Tables of a disk's image that are held in memory";
    register(registry, "image_cache_size", help, unit(), &bytes);
    register(registry, "image_cache_limit", "What may be held", unit(), &limit);
    register(registry, "image_cache_dirty", "What is not written yet", unit(), &dirty);
    let help = "Tables that were read from the file, as they were not held";
    register(registry, "image_cache_loads", help, None, &loads);
    let help = "Tables that were given up for others";
    register(registry, "image_cache_evictions", help, None, &evictions);
}

/// How long commands took.
#[derive(Debug)]
struct Latencies(Vec<UnitCounters>);

type OfUnit = fn(&UnitCounters) -> &[(&'static str, Times)];

impl Collector for Latencies {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Commands that were not answered from the page cache, from being handed off to \
                    being done";
        self.family(&mut encoder, ("handed_off_commands", help), |unit| &unit.handed_off)?;
        let help = "From a command's arrival until its answer went to the socket: the first of \
                    every 64 READs and WRITEs of a session, and every other command";
        self.family(&mut encoder, ("disk_command_time", help), |unit| &unit.timed)
    }
}

impl Latencies {
    fn family(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        of: OfUnit,
    ) -> Result<(), std::fmt::Error> {
        let unit = Unit::Seconds;
        let mut family =
            encoder.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
        for unit in &self.0 {
            for (kind, times) in of(unit) {
                let labels = || vec![("disk", unit.disk.clone()), ("kind", (*kind).to_owned())];
                histogram(&mut family, labels, times)?;
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

/// The database of the catalogue and the jobs.
fn store(registry: &mut Registry, figures: StoreFigures) {
    let gauge = |value: u64| {
        let gauge = Gauge::<u64, AtomicU64>::default();
        gauge.set(value);
        gauge
    };
    let help = "Whether the database takes changes";
    register(registry, "store_available", help, None, &gauge(figures.available.into()));
    let bytes = || Some(Unit::Bytes);
    if let Some(size) = figures.database_bytes {
        register(registry, "store_size", "The database's files", bytes(), &gauge(size));
    }
    if let Some(size) = figures.journal_bytes {
        register(registry, "store_journal_size", "The journal beside it", bytes(), &gauge(size));
    }
    registry.register_collector(Box::new(Commits(figures)));
}

#[derive(Debug)]
struct Commits(StoreFigures);

impl Collector for Commits {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Transactions of the database, until they are durable";
        let (name, unit) = ("store_commits", Unit::Seconds);
        let metric = encoder.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
        let bounds = COMMIT_BOUNDS.iter().copied().map(Some).chain([None]);
        let classes = bounds.zip(self.0.commits).collect();
        let times = Times { classes, nanoseconds: self.0.commit_nanoseconds };
        let (count, buckets) = self::classes(&times);
        let seconds = seconds(times.nanoseconds, 1_000_000_000);
        let mut metric = metric;
        metric.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)
    }
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
    let counts = service.job_counts();
    for ((kind, state), count) in counts.jobs {
        let labels = vec![("kind", kind), ("state", state.to_owned())];
        states.get_or_create(&labels).set(count);
    }
    for fault in counts.faults {
        // Of a disk that is not there any more.
        let id = || fault.disk.to_string();
        let disk = Some(fault.disk_name).filter(|name| !name.is_empty()).unwrap_or_else(id);
        let labels = vec![("disk", disk), ("message", fault.message_id)];
        faults.get_or_create(&labels).inc_by(fault.count);
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

/// What became of spans, if there is a collector.
fn traces(registry: &mut Registry, figures: Option<Figures>) {
    let Some(figures) = figures else { return };
    let spans = Counters::default();
    for (result, count) in [
        ("exported", figures.exported),
        ("rejected", figures.rejected),
        ("dropped", figures.dropped),
    ] {
        spans.get_or_create(&vec![("result", result.to_owned())]).inc_by(count);
    }
    let help =
        "Spans that the collector has taken or refused, and those that there was no room for";
    register(registry, "trace_spans", help, None, &spans);
    let waiting = Gauge::<u64, AtomicU64>::default();
    waiting.set(figures.waiting);
    register(registry, "trace_queued_spans", "Spans that wait for the collector", None, &waiting);
    let failed = Counter::<u64>::default();
    failed.inc_by(figures.failed_requests);
    let help = "Requests that did not reach the collector, or found it busy";
    register(registry, "trace_failed_requests", help, None, &failed);
}
