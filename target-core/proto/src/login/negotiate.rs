//! Applies the rules of [`super::keys`] to what an initiator asks (RFC 7143 §6.2).

use super::keys::{self, Key, Rule};
use crate::parameters::{Offer, Parameters};
use crate::text;

/// A negotiation that is going on.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) offer: Offer,
    pub(super) parameters: Parameters,
    /// Of a session that is there already: what concerns all of it is settled.
    pub(super) settled: bool,
}

/// A number in decimal or hexadecimal (§6.1); binary-value's base64 is for none of the numbers.
pub(super) fn number(value: &str) -> Option<u32> {
    let (digits, radix) = match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (value, 10),
    };
    // `from_str_radix` would take a sign.
    if digits.starts_with('+') { None } else { u32::from_str_radix(digits, radix).ok() }
}

fn in_range(value: &str, range: (u32, u32)) -> Option<u32> {
    number(value).filter(|n| (range.0..=range.1).contains(n))
}

fn boolean(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

const fn yes_no(value: bool) -> &'static str {
    if value { "Yes" } else { "No" }
}

/// Answers one key into `out`.
pub(super) fn answer(
    draft: &mut Draft,
    key: &Key,
    value: &str,
    discovery: bool,
    out: &mut Vec<u8>,
) {
    if discovery && key.normal_only {
        return text::push(out, key.name, "Irrelevant");
    }
    if draft.settled && key.leading_only {
        return text::push(out, key.name, "Reject");
    }
    let result = match key.rule {
        Rule::Text => return,
        Rule::Answer(answer) => Some(answer.to_owned()),
        Rule::List(known, apply) => value.split(',').find(|v| known.contains(v)).map(|chosen| {
            apply(draft, known.first() == Some(&chosen));
            chosen.to_owned()
        }),
        Rule::Or(ours, apply) => boolean(value).map(|theirs| {
            let result = theirs || ours(draft);
            apply(draft, result);
            yes_no(result).to_owned()
        }),
        Rule::And(ours, apply) => boolean(value).map(|theirs| {
            let result = theirs && ours(draft);
            apply(draft, result);
            yes_no(result).to_owned()
        }),
        Rule::Minimum(range, ours, apply) => in_range(value, range).map(|theirs| {
            let result = theirs.min(ours(draft));
            apply(draft, result);
            result.to_string()
        }),
        Rule::Maximum(range, ours, apply) => in_range(value, range).map(|theirs| {
            let result = theirs.max(ours(draft));
            apply(draft, result);
            result.to_string()
        }),
        Rule::Declare(range, apply) => match in_range(value, range) {
            Some(theirs) => return apply(draft, theirs),
            None => None,
        },
    };
    text::push(out, key.name, result.as_deref().unwrap_or("Reject"));
}

/// Answers the keys of a Text Request in the full feature phase, but for SendTargets, which is
/// the caller's: MaxRecvDataSegmentLength may be declared anew, everything else is settled
/// (RFC 7143 §7.2, §13.12).
pub fn full_feature(parameters: &mut Parameters, pairs: &[text::Pair<'_>], out: &mut Vec<u8>) {
    for &(name, value) in pairs {
        if name == "SendTargets" {
            continue;
        }
        let Some(key) = keys::find(name) else {
            text::push(out, name, "NotUnderstood");
            continue;
        };
        if let ("MaxRecvDataSegmentLength", Rule::Declare(range, _)) = (name, key.rule)
            && let Some(length) = in_range(value, range)
        {
            parameters.initiator_max_recv_data_segment_length = length;
        } else {
            text::push(out, name, "Reject");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, value: &str) -> (String, Parameters) {
        let mut draft =
            Draft { offer: Offer::default(), parameters: Parameters::default(), settled: false };
        let mut out = Vec::new();
        answer(&mut draft, keys::find(name).unwrap(), value, false, &mut out);
        (String::from_utf8(out).unwrap().replace('\0', ";"), draft.parameters)
    }

    #[test]
    fn each_key_follows_its_rule() {
        for (asked, answered) in [
            ("HeaderDigest=CRC32C,None", "HeaderDigest=CRC32C;"),
            ("HeaderDigest=None,CRC32C", "HeaderDigest=None;"),
            ("DataDigest=X-a,CRC32C", "DataDigest=CRC32C;"),
            ("DataDigest=X-a", "DataDigest=Reject;"),
            ("MaxConnections=8", "MaxConnections=1;"),
            ("InitialR2T=No", "InitialR2T=No;"),
            ("InitialR2T=Yes", "InitialR2T=Yes;"),
            ("InitialR2T=yes", "InitialR2T=Reject;"),
            ("ImmediateData=Yes", "ImmediateData=Yes;"),
            ("ImmediateData=No", "ImmediateData=No;"),
            ("MaxRecvDataSegmentLength=65536", ""),
            ("MaxRecvDataSegmentLength=100", "MaxRecvDataSegmentLength=Reject;"),
            ("MaxBurstLength=16776192", "MaxBurstLength=1048576;"),
            ("MaxBurstLength=0x10000", "MaxBurstLength=65536;"),
            ("MaxBurstLength=511", "MaxBurstLength=Reject;"),
            ("MaxBurstLength=-1", "MaxBurstLength=Reject;"),
            ("MaxBurstLength=+600", "MaxBurstLength=Reject;"),
            ("FirstBurstLength=16777215", "FirstBurstLength=262144;"),
            ("DefaultTime2Wait=5", "DefaultTime2Wait=5;"),
            ("DefaultTime2Wait=3601", "DefaultTime2Wait=Reject;"),
            ("DefaultTime2Retain=20", "DefaultTime2Retain=0;"),
            ("MaxOutstandingR2T=16", "MaxOutstandingR2T=8;"),
            ("MaxOutstandingR2T=0", "MaxOutstandingR2T=Reject;"),
            ("DataPDUInOrder=No", "DataPDUInOrder=Yes;"),
            ("DataSequenceInOrder=No", "DataSequenceInOrder=Yes;"),
            ("ErrorRecoveryLevel=2", "ErrorRecoveryLevel=0;"),
            ("IFMarker=Yes", "IFMarker=No;"),
            ("OFMarkInt=2048~8192", "OFMarkInt=Reject;"),
            ("TaskReporting=FastAbort,RFC3720", "TaskReporting=FastAbort;"),
            ("iSCSIProtocolLevel=1", "iSCSIProtocolLevel=1;"),
            ("iSCSIProtocolLevel=2", "iSCSIProtocolLevel=2;"),
            ("iSCSIProtocolLevel=32", "iSCSIProtocolLevel=Reject;"),
            ("TargetAlias=x", "TargetAlias=Reject;"),
        ] {
            let (name, value) = asked.split_once('=').unwrap();
            assert_eq!(ask(name, value).0, answered, "{asked}");
        }
    }

    #[test]
    fn what_is_answered_is_in_force() {
        assert!(ask("HeaderDigest", "CRC32C").1.header_digest);
        assert!(!ask("HeaderDigest", "None,CRC32C").1.header_digest);
        assert!(!ask("InitialR2T", "No").1.initial_r2t);
        assert!(ask("TaskReporting", "FastAbort,ResponseFence,RFC3720").1.fast_abort);
        assert!(!ask("TaskReporting", "ResponseFence,FastAbort,RFC3720").1.fast_abort);
        assert!(!ask("ImmediateData", "No").1.immediate_data);
        assert_eq!(ask("MaxBurstLength", "4096").1.max_burst_length, 4096);
        assert_eq!(ask("iSCSIProtocolLevel", "31").1.protocol_level, 2);
        assert_eq!(ask("iSCSIProtocolLevel", "0").1.protocol_level, 0);
        assert_eq!(ask("InitialR2T", "No").1.protocol_level, 1, "RFC 7143, if nobody says more");
        // A value that is refused changes nothing.
        assert_eq!(ask("MaxBurstLength", "1").1, Parameters::default());
        let declared = ask("MaxRecvDataSegmentLength", "512").1;
        assert_eq!(declared.initiator_max_recv_data_segment_length, 512);
        assert_eq!(declared.max_recv_data_segment_length, 8192);
    }

    #[test]
    fn in_the_full_feature_phase_only_the_segment_length_changes() {
        let mut parameters = Parameters::default();
        let mut out = Vec::new();
        let pairs = [
            ("MaxRecvDataSegmentLength", "4096"),
            ("MaxBurstLength", "512"),
            ("X-b", "1"),
            ("SendTargets", "All"),
        ];
        full_feature(&mut parameters, &pairs, &mut out);
        assert_eq!(out, b"MaxBurstLength=Reject\0X-b=NotUnderstood\0");
        let expected =
            Parameters { initiator_max_recv_data_segment_length: 4096, ..Parameters::default() };
        assert_eq!(parameters, expected);
    }
}
