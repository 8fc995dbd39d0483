//! Sessions, as the management shows them.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use mgmt_api::api;
use mgmt_api::service::{self, TotalCounters, TraceRefusal};
use target_core::{
    Authentication, BOUNDS, Kind, LogicalUnit, Node, NodeConfig, Parameters, SessionDetail,
    SessionSummary, Times, TraceError,
};

pub(crate) fn summary(session: SessionSummary) -> api::Session {
    api::Session {
        tsih: session.tsih,
        isid: session.isid,
        initiator: session.initiator,
        initiator_alias: session.initiator_alias,
        target: session.target,
        address: session.address.to_string(),
        since: jiff::Timestamp::try_from(session.since).unwrap_or_default(),
        commands: session.commands,
        read_bytes: session.read_bytes,
        written_bytes: session.written_bytes,
    }
}

fn parameters(parameters: &Parameters) -> api::SessionParameters {
    api::SessionParameters {
        max_connections: parameters.max_connections,
        initial_r2t: parameters.initial_r2t,
        immediate_data: parameters.immediate_data,
        max_burst_length: parameters.max_burst_length,
        first_burst_length: parameters.first_burst_length,
        max_outstanding_r2t: parameters.max_outstanding_r2t,
        default_time2wait: parameters.default_time2wait,
        default_time2retain: parameters.default_time2retain,
        error_recovery_level: parameters.error_recovery_level,
        protocol_level: parameters.protocol_level,
    }
}

pub(crate) fn detail(detail: SessionDetail) -> api::SessionDetail {
    let (parameters, counters) = (detail.parameters, detail.counters);
    let connection = api::Connection {
        cid: detail.cid,
        address: detail.summary.address.to_string(),
        portal: detail.portal.to_string(),
        header_digest: parameters.header_digest,
        data_digest: parameters.data_digest,
        max_recv_data_segment_length: parameters.max_recv_data_segment_length,
        initiator_max_recv_data_segment_length: parameters.initiator_max_recv_data_segment_length,
    };
    api::SessionDetail {
        session: summary(detail.summary),
        authentication: match detail.authentication {
            Authentication::None => api::Authentication::None,
            Authentication::Chap { name, algorithm, mutual } => api::Authentication::Chap {
                user: name,
                algorithm: algorithm.name().to_owned(),
                mutual,
            },
        },
        target_portal_group_tag: detail.target_portal_group_tag,
        connections: vec![connection],
        parameters: self::parameters(&parameters),
        counters: api::SessionCounters {
            pdus_received: counters.pdus_received,
            pdus_sent: counters.pdus_sent,
            read_commands: counters.read_commands,
            write_commands: counters.write_commands,
            task_management_functions: counters.task_management_functions,
            rejects: counters.rejects,
            data_digest_errors: counters.data_digest_errors,
        },
        exp_cmd_sn: detail.exp_cmd_sn,
        max_cmd_sn: detail.max_cmd_sn,
        outstanding_commands: detail.outstanding,
    }
}

/// What sessions begin their negotiation with.
pub(crate) fn offered(config: &NodeConfig) -> api::SessionParameters {
    let (offer, rest) = (&config.offer, Parameters::default());
    api::SessionParameters {
        initial_r2t: offer.initial_r2t,
        immediate_data: offer.immediate_data,
        max_burst_length: offer.max_burst_length,
        first_burst_length: offer.first_burst_length,
        max_outstanding_r2t: offer.max_outstanding_r2t,
        ..parameters(&rest)
    }
}

pub(crate) fn totals(node: &Node) -> TotalCounters {
    let counters = node.totals();
    TotalCounters {
        commands: counters.commands,
        read_commands: counters.read_commands,
        write_commands: counters.write_commands,
        task_management_functions: counters.task_management_functions,
        read_bytes: counters.data_in_bytes,
        written_bytes: counters.data_out_bytes,
        zero_copy_bytes: counters.in_place_bytes,
        pdus_received: counters.pdus_received,
        pdus_sent: counters.pdus_sent,
        rejects: counters.rejects,
        data_digest_errors: counters.data_digest_errors,
    }
}

/// How long commands took, by what they do.
pub(crate) fn by_kind(all: &[Times; Kind::ALL.len()]) -> Vec<(&'static str, service::Times)> {
    let name = |kind| match kind {
        Kind::Read => "read",
        Kind::Write => "write",
        Kind::Flush => "flush",
        Kind::Other => "other",
    };
    let times = |times: &Times| {
        let bounds = BOUNDS.iter().copied().map(Some).chain([None]);
        let classes = bounds.zip(times.classes).collect();
        service::Times { classes, nanoseconds: times.nanoseconds }
    };
    let all = Kind::ALL.into_iter().zip(all);
    all.map(|(kind, its)| (name(kind), times(its))).collect()
}

pub(crate) fn unit(unit: &LogicalUnit) -> service::UnitCounters {
    let counters = unit.counters();
    service::UnitCounters {
        disk: unit.name().to_owned(),
        read_commands: counters.read_commands,
        write_commands: counters.write_commands,
        read_bytes: counters.read_bytes,
        written_bytes: counters.written_bytes,
        handed_off: by_kind(&counters.handed_off),
        timed: by_kind(&counters.commands),
        waiting: counters.waiting,
        threads: counters.threads,
        cache: counters.cache.map(|cache| service::CacheCounters {
            bytes: cache.bytes,
            limit_bytes: cache.limit_bytes,
            dirty_bytes: cache.dirty_bytes,
            loads: cache.loads,
            evictions: cache.evictions,
        }),
    }
}

pub(crate) fn trace(node: &Node, tsih: u16) -> Result<service::Trace, TraceRefusal> {
    match node.trace(tsih) {
        Ok(trace) => {
            tracing::info!(tsih, "a trace of the session is taken");
            Ok(Box::pin(Blocks(trace)))
        }
        Err(TraceError::NoSuchSession(_)) => Err(TraceRefusal::NoSuchSession),
        Err(TraceError::TooMany) => Err(TraceRefusal::TooMany),
    }
}

struct Blocks(target_core::Trace);

impl Stream for Blocks {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_next(cx)
    }
}
