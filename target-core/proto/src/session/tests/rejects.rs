//! What an initiator must not do, and what it hears: a Reject, and the end of the session only
//! where there is no other way at recovery level 0.

use super::*;
use crate::ids::TargetTransferTag;
use crate::pdu::{ReadyToTransfer, Reject, Snack};
use crate::sim::login_request;

fn reason(reply: &Reply) -> RejectReason {
    assert_eq!(reply.opcode(), opcode::REJECT);
    Reject::view(&reply.bhs).reason().unwrap()
}

/// The one Reject that what was built leads to; the session goes on.
fn rejected(wired: &mut Wired) -> RejectReason {
    let wire = wired.initiator.take();
    assert_eq!(wired.feed_bytes(&wire), Ok(vec![]));
    let reply = wired.reply();
    assert_eq!(reply.data, wire[..48]);
    assert_eq!(wired.session.counters().rejects, 1);
    reason(&reply)
}

/// What was built ends the session, with a Reject.
fn ends(wired: &mut Wired, expected: RejectReason) {
    let result = wired.feed();
    assert!(matches!(result, Err(SessionError::Protocol(_))), "{result:?}");
    assert_eq!(reason(&wired.reply()), expected);
}

#[test]
fn commands_that_break_a_rule_are_rejected_and_use_their_number_up() {
    let immediate = Parameters::default();
    let r2t_only = Parameters { immediate_data: false, ..immediate };
    let eager = Parameters { initial_r2t: false, first_burst_length: 512, ..immediate };
    let kilobyte = [0; 1024];
    let cases = [
        ("more than expected", immediate, Scsi { data: &kilobyte, ..write(1023) }),
        ("immediate data refused", r2t_only, Scsi { data: &kilobyte[..1], ..write(1024) }),
        ("beyond FirstBurstLength", eager, Scsi { data: &kilobyte[..513], ..write(1024) }),
        ("data with a read", immediate, Scsi { data: &kilobyte[..4], ..read(1024) }),
        ("F missing with InitialR2T", immediate, Scsi { more: true, ..write(1024) }),
        ("F missing in a read", eager, Scsi { more: true, ..read(1024) }),
    ];
    for (what, parameters, scsi) in cases {
        let mut wired = Wired::new(parameters);
        wired.initiator.scsi(scsi);
        assert_eq!(rejected(&mut wired), RejectReason::ProtocolError, "{what}");
        assert_eq!(wired.session.outstanding(), 0);
        // The next number is the next.
        wired.command(read(0));
    }
}

#[test]
fn what_is_just_allowed_is_taken() {
    let eager = Parameters { initial_r2t: false, first_burst_length: 512, ..Parameters::default() };
    for scsi in [
        Scsi { data: &[0; 512], ..write(512) },
        Scsi { data: &[0; 512], more: false, ..write(4096) },
        Scsi { more: true, ..write(512) },
    ] {
        Wired::new(eager).command(scsi);
    }
}

#[test]
fn a_tag_names_one_task_at_a_time() {
    let mut wired = Wired::new(Parameters::default());
    let task = wired.command(read(0));
    let itt = wired.session.initiator_task_tag(task).unwrap();
    wired.initiator.scsi_with_tag(read(0), itt);
    assert_eq!(rejected(&mut wired), RejectReason::TaskInProgress);
    // The first task is still there, and its tag is free when it ends.
    wired.good(task);
    wired.initiator.scsi_with_tag(read(0), itt);
    assert_eq!(wired.feed().unwrap().len(), 1);
}

#[test]
fn the_reserved_tag_names_no_task() {
    let mut wired = Wired::new(Parameters::default());
    wired.initiator.scsi_with_tag(read(0), InitiatorTaskTag::RESERVED);
    assert_eq!(rejected(&mut wired), RejectReason::InvalidPduField);
}

#[test]
fn header_segments_are_read_or_rejected() {
    let mut wired = Wired::new(Parameters::default());
    // An extended CDB of 18 bytes: AHSLength counts the reserved byte.
    wired.initiator.scsi(Scsi { ahs: &[0, 3, 1, 0, 0xaa, 0xbb, 0, 0], ..read(0) });
    let seen = wired.feed().unwrap();
    let [Seen::Command { cdb, .. }] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!(cdb[16..], [0xaa, 0xbb]);
    wired.initiator.scsi(Scsi { ahs: &[0, 1, 9, 0], ..read(0) });
    assert_eq!(rejected(&mut wired), RejectReason::InvalidPduField);
}

#[test]
fn unknown_opcodes_and_snack_are_rejected() {
    for (opcode, expected) in [
        (0x07, RejectReason::CommandNotSupported),
        (0x1f, RejectReason::CommandNotSupported),
        (opcode::SCSI_RESPONSE, RejectReason::CommandNotSupported),
        (opcode::SNACK, RejectReason::SnackReject),
    ] {
        let mut wired = Wired::new(Parameters::default());
        let bhs = Snack { opcode, flags: FINAL, ..Snack::zeroed() };
        wired.initiator.push(bhs.bytes(), &[], &[]);
        assert_eq!(rejected(&mut wired), expected, "{opcode:#x}");
    }
}

#[test]
fn a_login_request_in_the_full_feature_phase_ends_the_session() {
    let mut wired = Wired::new(Parameters::default());
    wired.initiator.push(login_request(0).bytes(), &[], &[]);
    ends(&mut wired, RejectReason::ProtocolError);
}

#[test]
fn discovery_sessions_are_for_text_only() {
    let discovery = || Wired::of_type(SessionType::Discovery, Parameters::default(), 8);
    let mut wired = discovery();
    wired.initiator.scsi(read(0));
    ends(&mut wired, RejectReason::ProtocolError);
    let mut wired = discovery();
    let function = TaskManagementFunction::LogicalUnitReset;
    wired.initiator.task_management(function, 0, InitiatorTaskTag::RESERVED, 0);
    ends(&mut wired, RejectReason::ProtocolError);
    let mut wired = discovery();
    wired.initiator.data_out((InitiatorTaskTag(1), TargetTransferTag(1)), 0, 0, true, &[0; 4]);
    ends(&mut wired, RejectReason::ProtocolError);
    let mut wired = discovery();
    let itt = wired.initiator.new_tag();
    wired.initiator.text(itt, TargetTransferTag::RESERVED, FINAL, b"SendTargets=All\0");
    assert_eq!(wired.feed().unwrap().len(), 1);
}

#[test]
fn data_out_for_no_task_is_rejected() {
    let mut wired = Wired::new(Parameters::default());
    wired.initiator.data_out((InitiatorTaskTag(9), TargetTransferTag(1)), 0, 0, true, &[0; 4]);
    assert_eq!(rejected(&mut wired), RejectReason::InvalidPduField);
}

/// A Data-Out: whether it names the R2T, by how much its tag and offset are off, F, length.
type Wrong = (&'static str, bool, u32, u32, bool, usize);

#[test]
fn data_out_that_does_not_fit_its_r2t_ends_the_session() {
    let cases: [Wrong; 7] = [
        ("a tag of an R2T to come", true, 1 << 12, 0, true, 1000),
        ("another tag", true, 1, 0, true, 1000),
        ("unsolicited, which is not allowed", false, 0, 0, true, 1000),
        ("wrong offset", true, 0, 4, true, 1000),
        ("too long", true, 0, 0, true, 1001),
        ("ends too early", true, 0, 0, true, 999),
        ("does not end", true, 0, 0, false, 1000),
    ];
    for (what, solicited, off, offset, last, length) in cases {
        let parameters = Parameters { max_burst_length: 1000, ..Parameters::default() };
        let mut wired = Wired::new(parameters);
        let task = wired.command(write(4000));
        wired.session.accept_write(task, 4000, &mut wired.tx);
        let r2t = ReadyToTransfer::view(&wired.reply().bhs).target_transfer_tag.get();
        let tag = if solicited { r2t.wrapping_add(off) } else { TargetTransferTag::RESERVED.0 };
        let itt = wired.session.initiator_task_tag(task).unwrap();
        let tags = (itt, TargetTransferTag(tag));
        wired.initiator.data_out(tags, 0, offset, last, &vec![0; length]);
        let result = wired.feed();
        assert!(matches!(result, Err(SessionError::Protocol(_))), "{what}: {result:?}");
        assert_eq!(reason(&wired.reply()), RejectReason::ProtocolError);
    }
}

#[test]
fn r2ts_are_fulfilled_in_their_order() {
    let parameters =
        Parameters { max_burst_length: 1000, max_outstanding_r2t: 2, ..Parameters::default() };
    let mut wired = Wired::new(parameters);
    let task = wired.command(write(2000));
    wired.session.accept_write(task, 2000, &mut wired.tx);
    let second = ReadyToTransfer::view(&wired.replies()[1].bhs).target_transfer_tag.get();
    let itt = wired.session.initiator_task_tag(task).unwrap();
    wired.initiator.data_out((itt, TargetTransferTag(second)), 0, 1000, true, &[0; 1000]);
    ends(&mut wired, RejectReason::ProtocolError);
}

#[test]
fn unsolicited_data_ends_at_the_first_burst_and_at_its_f_bit() {
    let parameters =
        Parameters { initial_r2t: false, first_burst_length: 1000, ..Parameters::default() };
    let tags = |wired: &Wired, task| {
        (wired.session.initiator_task_tag(task).unwrap(), TargetTransferTag::RESERVED)
    };
    let mut wired = Wired::new(parameters);
    let task = wired.command(Scsi { more: true, data: &[0; 600], ..write(4000) });
    let both = tags(&wired, task);
    wired.initiator.data_out(both, 0, 600, true, &[0; 401]);
    ends(&mut wired, RejectReason::ProtocolError);

    let mut wired = Wired::new(parameters);
    let task = wired.command(Scsi { more: true, ..write(4000) });
    let both = tags(&wired, task);
    wired.initiator.data_out(both, 0, 0, true, &[0; 500]);
    assert_eq!(wired.feed(), Ok(vec![]));
    wired.initiator.data_out(both, 1, 500, true, &[0; 500]);
    ends(&mut wired, RejectReason::ProtocolError);
}
