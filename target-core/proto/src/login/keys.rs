//! Every key of RFC 7143 §13 and the rule by which it is negotiated.

use super::negotiate::Draft;

/// The range of lengths in bytes (§13.12 to §13.14).
const LENGTH: (u32, u32) = (512, 0x00ff_ffff);

/// How the answer to a key follows from what was asked.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// The first value of the list that the target knows (§6.2.1).
    List(&'static [&'static str], fn(&mut Draft, bool)),
    /// The result is Yes if either side says so.
    Or(fn(&mut Draft) -> bool, fn(&mut Draft, bool)),
    /// The result is Yes only if both sides say so.
    And(fn(&mut Draft) -> bool, fn(&mut Draft, bool)),
    /// The result is the smaller value.
    Minimum((u32, u32), fn(&mut Draft) -> u32, fn(&mut Draft, u32)),
    /// The result is the larger value.
    Maximum((u32, u32), fn(&mut Draft) -> u32, fn(&mut Draft, u32)),
    /// Each side speaks for itself; there is no answer.
    Declare((u32, u32), fn(&mut Draft, u32)),
    /// Read elsewhere; there is no answer.
    Text,
    /// Always this answer.
    Answer(&'static str),
}

/// One row of the table.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) rule: Rule,
    /// May stand in the security negotiation stage too.
    pub(super) in_security: bool,
    /// Irrelevant in discovery sessions.
    pub(super) normal_only: bool,
    /// Settled by the login that the session began with (LO in §13).
    pub(super) leading_only: bool,
}

const fn operational(name: &'static str, rule: Rule) -> Key {
    Key { name, rule, in_security: false, normal_only: false, leading_only: false }
}

const fn leading(name: &'static str, rule: Rule) -> Key {
    Key { leading_only: true, ..operational(name, rule) }
}

const fn normal(name: &'static str, rule: Rule) -> Key {
    Key { normal_only: true, ..leading(name, rule) }
}

const fn any_stage(name: &'static str, rule: Rule) -> Key {
    Key { in_security: true, ..operational(name, rule) }
}

pub(super) static KEYS: &[Key] = &[
    // §13.1
    operational("HeaderDigest", Rule::List(DIGESTS, |d, on| d.parameters.header_digest = on)),
    operational("DataDigest", Rule::List(DIGESTS, |d, on| d.parameters.data_digest = on)),
    // §13.2
    normal(
        "MaxConnections",
        Rule::Minimum((1, 65535), |_| 1, |d, n| d.parameters.max_connections = low16(n)),
    ),
    // §13.4 to §13.9, §13.21
    any_stage("TargetName", Rule::Text),
    any_stage("InitiatorName", Rule::Text),
    any_stage("InitiatorAlias", Rule::Text),
    any_stage("SessionType", Rule::Text),
    // Keys that only a target may send.
    any_stage("TargetAlias", Rule::Answer("Reject")),
    any_stage("TargetAddress", Rule::Answer("Reject")),
    any_stage("TargetPortalGroupTag", Rule::Answer("Reject")),
    // Full feature phase only (§13.3).
    operational("SendTargets", Rule::Answer("Reject")),
    // §13.10
    normal(
        "InitialR2T",
        Rule::Or(|d| d.offer.initial_r2t, |d, yes| d.parameters.initial_r2t = yes),
    ),
    // §13.11
    normal(
        "ImmediateData",
        Rule::And(|d| d.offer.immediate_data, |d, yes| d.parameters.immediate_data = yes),
    ),
    // §13.12
    any_stage(
        "MaxRecvDataSegmentLength",
        Rule::Declare(LENGTH, |d, n| d.parameters.initiator_max_recv_data_segment_length = n),
    ),
    // §13.13
    normal(
        "MaxBurstLength",
        Rule::Minimum(
            LENGTH,
            |d| d.offer.max_burst_length,
            |d, n| d.parameters.max_burst_length = n,
        ),
    ),
    // §13.14: never over MaxBurstLength, which is negotiated before.
    normal(
        "FirstBurstLength",
        Rule::Minimum(
            LENGTH,
            |d| d.offer.first_burst_length.min(d.parameters.max_burst_length),
            |d, n| d.parameters.first_burst_length = n,
        ),
    ),
    // §13.15
    leading(
        "DefaultTime2Wait",
        Rule::Maximum((0, 3600), |_| 0, |d, n| d.parameters.default_time2wait = low16(n)),
    ),
    // §13.16: no task is kept for a connection that is gone.
    leading(
        "DefaultTime2Retain",
        Rule::Minimum((0, 3600), |_| 0, |d, n| d.parameters.default_time2retain = low16(n)),
    ),
    // §13.17
    normal(
        "MaxOutstandingR2T",
        Rule::Minimum(
            (1, 65535),
            |d| u32::from(d.offer.max_outstanding_r2t),
            |d, n| d.parameters.max_outstanding_r2t = low16(n),
        ),
    ),
    // §13.18, §13.19
    normal("DataPDUInOrder", Rule::Or(|_| true, |d, yes| d.parameters.data_pdu_in_order = yes)),
    normal(
        "DataSequenceInOrder",
        Rule::Or(|_| true, |d, yes| d.parameters.data_sequence_in_order = yes),
    ),
    // §13.20
    leading("ErrorRecoveryLevel", Rule::Minimum((0, 2), |_| 0, |_, _| ())),
    // §13.23
    normal("TaskReporting", Rule::List(TASK_REPORTING, |d, fast| d.parameters.fast_abort = fast)),
    // §13.24 and RFC 7144 §7.1.1: 1 is RFC 7143, 2 has RFC 7144 too.
    normal(
        "iSCSIProtocolLevel",
        Rule::Minimum((0, 31), |_| 2, |d, n| d.parameters.protocol_level = low8(n)),
    ),
    // §13.25: obsolete, but never NotUnderstood.
    operational("IFMarker", Rule::Answer("No")),
    operational("OFMarker", Rule::Answer("No")),
    operational("IFMarkInt", Rule::Answer("Reject")),
    operational("OFMarkInt", Rule::Answer("Reject")),
];

/// The first of them is the one that turns the digest on.
const DIGESTS: &[&str] = &["CRC32C", "None"];

/// The first of them is the one that changes what is done.
const TASK_REPORTING: &[&str] = &["FastAbort", "ResponseFence", "RFC3720"];

/// The rows' ranges end at 65535.
fn low16(value: u32) -> u16 {
    u16::try_from(value).unwrap_or(u16::MAX)
}

/// The rows' ranges end far below 256.
fn low8(value: u32) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

/// The row of a key.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Keys of the security negotiation (§12).
pub(super) const SECURITY: &[&str] =
    &["AuthMethod", "CHAP_A", "CHAP_I", "CHAP_C", "CHAP_N", "CHAP_R"];
