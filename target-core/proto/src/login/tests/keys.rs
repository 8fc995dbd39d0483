//! Every key of RFC 7143 §13 through a whole login: what is answered, and what is then in force.

use proptest::prelude::*;

use super::*;

/// Negotiates in the second stage of a normal session: the answers to these keys, and the outcome.
fn negotiate(pairs: &[&'static str], offer: Offer) -> (Vec<String>, Parameters) {
    let mut run = Run::with_offer(AuthPolicy::None, offer);
    run.ask(SECURITY_TO_OPERATIONAL, &NAMES);
    let answer = run.ask(OPERATIONAL_TO_FULL, pairs);
    let text = answer.text.split_terminator(';').map(str::to_owned).collect();
    (text, answer.outcome.unwrap().parameters)
}

fn answer_to(pair: &'static str) -> Option<String> {
    let (texts, _) = negotiate(&[pair], Offer::default());
    // The target's own declaration comes last.
    assert_eq!(texts.last().unwrap(), "MaxRecvDataSegmentLength=262144");
    let [answers @ .., _] = &texts[..] else { unreachable!() };
    assert!(answers.len() <= 1, "{pair}: {answers:?}");
    answers.first().map(|answer| answer.split_once('=').unwrap().1.to_owned())
}

#[test]
fn every_key_is_answered_by_its_rule() {
    for (asked, answered) in [
        // Lists: the first that is known.
        ("HeaderDigest=None", "None"),
        ("HeaderDigest=CRC32C,None", "CRC32C"),
        ("DataDigest=X-com.example.sum,CRC32C,None", "CRC32C"),
        ("DataDigest=crc32c", "Reject"),
        ("TaskReporting=RFC3720,ResponseFence,FastAbort", "RFC3720"),
        ("TaskReporting=ResponseFence,RFC3720", "ResponseFence"),
        ("TaskReporting=FastAbort,ResponseFence,RFC3720", "FastAbort"),
        ("TaskReporting=X-com.example.faster", "Reject"),
        // Numbers: the smaller, but for DefaultTime2Wait.
        ("MaxConnections=4", "1"),
        ("MaxConnections=0", "Reject"),
        ("MaxConnections=65536", "Reject"),
        ("MaxBurstLength=512", "512"),
        ("MaxBurstLength=16777215", "1048576"),
        ("MaxBurstLength=16777216", "Reject"),
        ("FirstBurstLength=16777215", "262144"),
        ("FirstBurstLength=0x200", "512"),
        ("FirstBurstLength=0x+200", "Reject"),
        ("DefaultTime2Wait=0", "0"),
        ("DefaultTime2Wait=3600", "3600"),
        ("DefaultTime2Retain=3600", "0"),
        ("DefaultTime2Retain=3601", "Reject"),
        ("MaxOutstandingR2T=1", "1"),
        ("MaxOutstandingR2T=65535", "8"),
        ("ErrorRecoveryLevel=2", "0"),
        ("ErrorRecoveryLevel=3", "Reject"),
        ("iSCSIProtocolLevel=31", "2"),
        ("iSCSIProtocolLevel=0", "0"),
        // Yes and No.
        ("InitialR2T=No", "No"),
        ("InitialR2T=Yes", "Yes"),
        ("InitialR2T=", "Reject"),
        ("ImmediateData=No", "No"),
        ("ImmediateData=Yes", "Yes"),
        ("DataPDUInOrder=No", "Yes"),
        ("DataSequenceInOrder=No", "Yes"),
        // Obsolete, but known.
        ("IFMarker=Yes", "No"),
        ("OFMarker=Yes", "No"),
        ("IFMarkInt=2048~8192", "Reject"),
        ("OFMarkInt=2048~8192", "Reject"),
        // Keys that an initiator does not send, or not now.
        ("TargetAlias=disk", "Reject"),
        ("TargetAddress=10.0.0.1:3260,1", "Reject"),
        ("TargetPortalGroupTag=1", "Reject"),
        ("SendTargets=All", "Reject"),
        // Keys that nobody knows, the vendor's too; case counts.
        ("X-com.example.key=1", "NotUnderstood"),
        ("headerdigest=None", "NotUnderstood"),
    ] {
        assert_eq!(answer_to(asked).as_deref(), Some(answered), "{asked}");
    }
    // Declarations have no answer.
    for declared in ["MaxRecvDataSegmentLength=4096", "InitiatorAlias=me"] {
        assert_eq!(answer_to(declared), None, "{declared}");
    }
    assert_eq!(answer_to("MaxRecvDataSegmentLength=511").as_deref(), Some("Reject"));
}

#[test]
fn what_is_answered_is_what_the_session_runs_by() {
    let pairs = [
        "HeaderDigest=CRC32C",
        "DataDigest=None,CRC32C",
        "MaxConnections=2",
        "InitialR2T=No",
        "ImmediateData=No",
        "MaxRecvDataSegmentLength=65536",
        "MaxBurstLength=131072",
        "FirstBurstLength=8192",
        "DefaultTime2Wait=3",
        "DefaultTime2Retain=30",
        "MaxOutstandingR2T=5",
    ];
    let expected = Parameters {
        header_digest: true,
        data_digest: false,
        max_connections: 1,
        initial_r2t: false,
        immediate_data: false,
        max_recv_data_segment_length: 262_144,
        initiator_max_recv_data_segment_length: 65_536,
        max_burst_length: 131_072,
        first_burst_length: 8192,
        default_time2wait: 3,
        default_time2retain: 0,
        max_outstanding_r2t: 5,
        ..Parameters::default()
    };
    assert_eq!(negotiate(&pairs, Offer::default()).1, expected);
}

#[test]
fn the_target_insists_on_what_its_offer_says() {
    let offer = Offer { initial_r2t: true, immediate_data: false, ..Offer::default() };
    let (texts, parameters) = negotiate(&["InitialR2T=No", "ImmediateData=Yes"], offer);
    assert_eq!(texts[..2], ["InitialR2T=Yes", "ImmediateData=No"]);
    assert!(parameters.initial_r2t && !parameters.immediate_data);
}

#[test]
fn a_key_may_come_only_once() {
    for pairs in [vec!["MaxBurstLength=512"; 2], vec!["X-a=1", "MaxBurstLength=512", "X-a=1"]] {
        let mut run = open();
        let answer = run.ask(OPERATIONAL_TO_FULL, &with_names(&pairs));
        assert_eq!(answer.failed, Some(LoginStatus::InitiatorError), "{pairs:?}");
    }
    // In another request and another stage too.
    let mut run = open();
    run.ask(SECURITY_TO_OPERATIONAL, &with_names(&["MaxRecvDataSegmentLength=4096"]));
    let again = run.ask(OPERATIONAL_TO_FULL, &["MaxRecvDataSegmentLength=8192"]);
    assert_eq!(again.failed, Some(LoginStatus::InitiatorError));
}

#[test]
fn keys_stay_in_their_stage() {
    let mut run = open();
    let early = run.ask(0, &with_names(&["MaxBurstLength=512"]));
    assert_eq!(early.failed, Some(LoginStatus::InitiatorError));
    for security in ["AuthMethod=None", "CHAP_A=5", "CHAP_R=0x00"] {
        let late = open().ask(OPERATIONAL_TO_FULL, &with_names(&[security]));
        assert_eq!(late.failed, Some(LoginStatus::InitiatorError), "{security}");
    }
    // The segment length may be declared in either, an unknown key is answered in either.
    let mut run = open();
    let keys = with_names(&["MaxRecvDataSegmentLength=4096", "X-a=1"]);
    let answer = run.ask(SECURITY_TO_FULL, &keys);
    assert_eq!(answer.value("X-a"), Some("NotUnderstood"));
    let parameters = answer.outcome.unwrap().parameters;
    assert_eq!(parameters.initiator_max_recv_data_segment_length, 4096);
}

#[test]
fn what_only_data_transfers_need_is_irrelevant_to_discovery() {
    let irrelevant = [
        "MaxConnections=1",
        "InitialR2T=Yes",
        "ImmediateData=Yes",
        "MaxBurstLength=512",
        "FirstBurstLength=512",
        "MaxOutstandingR2T=1",
        "DataPDUInOrder=Yes",
        "DataSequenceInOrder=Yes",
        "TaskReporting=RFC3720",
    ];
    let relevant =
        ["HeaderDigest=None", "DataDigest=None", "DefaultTime2Wait=2", "ErrorRecoveryLevel=0"];
    let mut run = open();
    let pairs = [&[NAMES[0], "SessionType=Discovery"], &irrelevant[..], &relevant[..]].concat();
    let answer = run.ask(OPERATIONAL_TO_FULL, &pairs);
    for (pairs, is_irrelevant) in [(&irrelevant[..], true), (&relevant[..], false)] {
        for pair in pairs {
            let name = pair.split_once('=').unwrap().0;
            assert_eq!(answer.value(name).unwrap() == "Irrelevant", is_irrelevant, "{pair}");
        }
    }
    let parameters = answer.outcome.unwrap().parameters;
    assert_eq!(parameters.max_burst_length, Parameters::default().max_burst_length);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn bursts_are_never_longer_than_either_side_wants(
        asked_first in 512u32..0x00ff_ffff, asked_max in 512u32..0x00ff_ffff,
        our_first in 512u32..0x00ff_ffff, our_max in 512u32..0x00ff_ffff,
        first_comes_first in any::<bool>(),
    ) {
        let offer = Offer { first_burst_length: our_first, max_burst_length: our_max, ..Offer::default() };
        let mut run = Run::with_offer(AuthPolicy::None, offer);
        run.ask(SECURITY_TO_OPERATIONAL, &NAMES);
        let (first, max) =
            (format!("FirstBurstLength={asked_first}"), format!("MaxBurstLength={asked_max}"));
        let pairs = if first_comes_first { [&*first, &*max] } else { [&*max, &*first] };
        let answer = run.ask(OPERATIONAL_TO_FULL, &pairs);
        let max = asked_max.min(our_max);
        let first = asked_first.min(our_first).min(max);
        prop_assert_eq!(answer.value("MaxBurstLength"), Some(&*max.to_string()));
        prop_assert_eq!(answer.value("FirstBurstLength"), Some(&*first.to_string()));
        let parameters = answer.outcome.unwrap().parameters;
        prop_assert_eq!((parameters.max_burst_length, parameters.first_burst_length), (max, first));
    }
}
