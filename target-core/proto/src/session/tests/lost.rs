//! Data that was damaged or lost on its way, and tasks that end before their data has come.

use super::*;
use crate::ids::TargetTransferTag;
use crate::pdu::{ReadyToTransfer, Reject, TaskManagementResponseCode};

/// Unsolicited data is allowed.
fn eager() -> Parameters {
    Parameters { initial_r2t: false, data_digest: true, ..Parameters::default() }
}

fn opcodes(replies: &[Reply]) -> Vec<u8> {
    replies.iter().map(Reply::opcode).collect()
}

/// A write of 4000 bytes that are solicited in sequences of 1000: its task and the R2Ts' tags.
fn solicited(wired: &mut Wired) -> (TaskId, InitiatorTaskTag, Vec<TargetTransferTag>) {
    let task = wired.command(write(4000));
    assert_eq!(wired.session.accept_write(task, 4000, &mut wired.tx), 4000);
    let tag = |reply: &Reply| {
        TargetTransferTag(ReadyToTransfer::view(&reply.bhs).target_transfer_tag.get())
    };
    let tags = wired.replies().iter().map(tag).collect();
    (task, wired.session.initiator_task_tag(task).unwrap(), tags)
}

fn two_at_once() -> Parameters {
    Parameters { max_burst_length: 1000, max_outstanding_r2t: 2, ..eager() }
}

#[test]
fn a_damaged_data_out_is_told_once_and_answered_after_the_last_bit_of_data() {
    let mut wired = Wired::new(eager());
    let task = wired.command(Scsi { more: true, ..write(3000) });
    wired.session.accept_write(task, 3000, &mut wired.tx);
    let itt = wired.session.initiator_task_tag(task).unwrap();
    let tags = (itt, TargetTransferTag::RESERVED);

    wired.initiator.data_out(tags, 0, 0, false, &[1; 1000]);
    let mut wire = wired.initiator.take();
    let last = wire.len() - 5;
    wire[last] ^= 1;
    assert_eq!(wired.feed_bytes(&wire), Ok(vec![Seen::DataLost(task)]));
    let reject = wired.reply();
    assert_eq!(Reject::view(&reject.bhs).reason(), Some(RejectReason::DataDigestError));
    assert_eq!(reject.data, wire[..48], "the header that was refused");

    // The device server fails the command at once, but more is on its way.
    wired.session.respond(task, 2, &[0x70], 0, &mut wired.tx);
    assert!(wired.replies().is_empty());
    wired.initiator.data_out(tags, 1, 1000, false, &[2; 1000]);
    assert_eq!(wired.feed(), Ok(vec![]));
    assert!(wired.replies().is_empty());
    wired.initiator.data_out(tags, 2, 2000, true, &[3; 1000]);
    assert_eq!(wired.feed(), Ok(vec![]));
    let response = wired.reply();
    assert_eq!(ScsiResponse::view(&response.bhs).status, 2);
    assert_eq!(response.data, [0, 1, 0x70]);
    assert_eq!(wired.session.outstanding(), 0);
}

#[test]
fn a_gap_in_data_sn_is_data_lost_on_its_way() {
    let mut wired = Wired::new(two_at_once());
    let (task, itt, tags) = solicited(&mut wired);
    let data = |n: usize| vec![u8::try_from(n).unwrap(); 500];
    wired.initiator.data_out((itt, tags[0]), 0, 0, false, &data(0));
    // The next should have number 1.
    wired.initiator.data_out((itt, tags[0]), 2, 500, true, &data(1));
    let seen = wired.feed().unwrap();
    assert!(matches!(seen[0], Seen::WriteData { complete: false, .. }));
    assert_eq!(seen[1..], [Seen::DataLost(task)]);
    assert!(wired.replies().is_empty(), "no R2T for what nobody wants any more");

    wired.session.respond(task, 2, &[], 0, &mut wired.tx);
    assert!(wired.replies().is_empty(), "the second R2T is still out");
    wired.initiator.data_out((itt, tags[1]), 0, 1000, false, &data(2));
    wired.initiator.data_out((itt, tags[1]), 1, 1500, true, &data(3));
    assert_eq!(wired.feed(), Ok(vec![]));
    assert_eq!(opcodes(&wired.replies()), [opcode::SCSI_RESPONSE]);
}

#[test]
fn however_much_is_lost_of_a_task_it_is_told_once() {
    let mut wired = Wired::new(eager());
    let task = wired.command(Scsi { more: true, ..write(100_000) });
    let itt = wired.session.initiator_task_tag(task).unwrap();
    let tags = (itt, TargetTransferTag::RESERVED);
    for number in [1, 2, 3] {
        wired.initiator.data_out(tags, number, number * 1000, number == 3, &[0; 1000]);
    }
    assert_eq!(wired.feed(), Ok(vec![Seen::DataLost(task)]));
    // A device server that is late asks for nothing more.
    wired.session.accept_write(task, 100_000, &mut wired.tx);
    assert!(wired.replies().is_empty());
    wired.good(task);
}

#[test]
fn a_response_waits_for_data_that_was_asked_for() {
    let mut wired = Wired::new(two_at_once());
    let (task, itt, tags) = solicited(&mut wired);
    wired.session.respond(task, 2, &[], 4000, &mut wired.tx);
    // A second answer changes nothing.
    wired.session.respond(task, 0, &[], 4000, &mut wired.tx);
    assert!(wired.tx.is_empty());
    for (n, tag) in (0..).zip(&tags) {
        assert!(wired.replies().is_empty());
        wired.initiator.data_out((itt, *tag), 0, n * 1000, true, &[0; 1000]);
        assert_eq!(wired.feed(), Ok(vec![]), "data for a task that has its answer");
    }
    let response = wired.reply();
    assert_eq!(ScsiResponse::view(&response.bhs).status, 2);
}

#[test]
fn a_response_waits_for_unsolicited_data_that_nobody_accepted() {
    let mut wired = Wired::new(eager());
    let task = wired.command(Scsi { more: true, ..write(2000) });
    let itt = wired.session.initiator_task_tag(task).unwrap();
    wired.session.respond(task, 2, &[], 0, &mut wired.tx);
    assert!(wired.tx.is_empty());
    wired.initiator.sequence((itt, TargetTransferTag::RESERVED), 0, &[0; 2000], [700].into_iter());
    assert_eq!(wired.feed(), Ok(vec![]));
    assert_eq!(opcodes(&wired.replies()), [opcode::SCSI_RESPONSE]);
}

/// A write of which two sequences were asked for is aborted by a function, whose tag is given.
fn aborted(wired: &mut Wired) -> (InitiatorTaskTag, Vec<TargetTransferTag>, InitiatorTaskTag) {
    let (task, itt, tags) = solicited(wired);
    let cmd_sn = wired.initiator.cmd_sn.wrapping_sub(1);
    let function = TaskManagementFunction::AbortTask;
    let function = wired.initiator.task_management(function, 0, itt, cmd_sn);
    wired.feed().unwrap();
    wired.session.abort(task, Some(function));
    (itt, tags, function)
}

fn reject_of(wired: &mut Wired) -> Option<RejectReason> {
    let reply = wired.reply();
    assert_eq!(reply.opcode(), opcode::REJECT);
    Reject::view(&reply.bhs).reason()
}

#[test]
fn data_for_an_aborted_task_is_dropped_as_long_as_it_can_come() {
    let mut wired = Wired::new(two_at_once());
    let (itt, tags, _) = aborted(&mut wired);
    for (n, tag) in (0..).zip(&tags) {
        wired.initiator.data_out((itt, *tag), 0, n * 1000, false, &[0; 500]);
        wired.initiator.data_out((itt, *tag), 1, n * 1000 + 500, true, &[0; 500]);
        assert_eq!(wired.feed(), Ok(vec![]));
        assert!(wired.replies().is_empty(), "the initiator could not know");
    }
    // All that was asked for has come.
    wired.initiator.data_out((itt, tags[1]), 0, 2000, true, &[0; 1000]);
    assert_eq!(wired.feed(), Ok(vec![]));
    assert_eq!(reject_of(&mut wired), Some(RejectReason::InvalidPduField));
    let task = wired.command(read(0));
    wired.good(task);
}

#[test]
fn data_for_an_aborted_task_is_rejected_when_the_initiator_knows() {
    let mut wired = Wired::new(two_at_once());
    let (itt, tags, function) = aborted(&mut wired);
    let code = TaskManagementResponseCode::Complete;
    wired.session.task_management_response(function, code, &mut wired.tx);
    // Built before the response was seen.
    wired.initiator.data_out((itt, tags[0]), 0, 0, false, &[0; 500]);
    wired.reply();
    assert_eq!(wired.feed(), Ok(vec![]));
    assert!(wired.replies().is_empty());
    wired.initiator.data_out((itt, tags[0]), 1, 500, true, &[0; 500]);
    assert_eq!(wired.feed(), Ok(vec![]));
    assert_eq!(reject_of(&mut wired), Some(RejectReason::InvalidPduField));
}

#[test]
fn another_functions_response_tells_nothing_of_an_abort() {
    let mut wired = Wired::new(two_at_once());
    let (itt, tags, _) = aborted(&mut wired);
    let code = TaskManagementResponseCode::Complete;
    wired.session.task_management_response(InitiatorTaskTag(777), code, &mut wired.tx);
    wired.reply();
    wired.initiator.data_out((itt, tags[0]), 0, 0, true, &[0; 1000]);
    assert_eq!(wired.feed(), Ok(vec![]));
    assert!(wired.replies().is_empty());
}

#[test]
fn a_tag_that_is_used_again_names_the_new_task() {
    let mut wired = Wired::new(eager());
    let task = wired.command(Scsi { more: true, ..write(1000) });
    let itt = wired.session.initiator_task_tag(task).unwrap();
    wired.session.abort(task, None);
    wired.initiator.scsi_with_tag(Scsi { more: true, ..write(1000) }, itt);
    let seen = wired.feed().unwrap();
    let [Seen::Command { task, .. }] = seen[..] else { panic!("{seen:?}") };
    wired.session.accept_write(task, 1000, &mut wired.tx);
    wired.initiator.data_out((itt, TargetTransferTag::RESERVED), 0, 0, true, &[7; 1000]);
    let data = vec![7; 1000];
    let expected = Seen::WriteData { task, offset: 0, data, complete: true };
    assert_eq!(wired.feed(), Ok(vec![expected]));
    wired.good(task);
    wired.initiator.data_out((itt, TargetTransferTag::RESERVED), 0, 0, true, &[7; 1000]);
    assert_eq!(wired.feed(), Ok(vec![]));
    assert_eq!(reject_of(&mut wired), Some(RejectReason::InvalidPduField));
}

#[test]
fn damaged_data_of_anything_but_a_data_out_ends_the_session() {
    type Build = fn(&mut Initiator);
    let builds: [Build; 3] = [
        |initiator| {
            initiator.scsi(Scsi { data: &[1; 512], ..write(512) });
        },
        |initiator| {
            let itt = initiator.new_tag();
            initiator.nop_out(itt, TargetTransferTag::RESERVED, false, b"ping");
        },
        |initiator| {
            let itt = initiator.new_tag();
            initiator.text(itt, TargetTransferTag::RESERVED, FINAL, b"SendTargets=All\0");
        },
    ];
    for build in builds {
        let mut wired = Wired::new(eager());
        build(&mut wired.initiator);
        let mut wire = wired.initiator.take();
        wire[48] ^= 0x80;
        assert_eq!(wired.feed_bytes(&wire), Err(SessionError::DataDigest));
        let reject = wired.reply();
        assert_eq!(Reject::view(&reject.bhs).reason(), Some(RejectReason::DataDigestError));
    }
}

#[test]
fn damaged_data_for_no_task_concerns_nobody() {
    let mut wired = Wired::new(eager());
    let tags = (InitiatorTaskTag(99), TargetTransferTag(1));
    wired.initiator.data_out(tags, 0, 0, true, &[0; 8]);
    let mut wire = wired.initiator.take();
    wire[50] ^= 1;
    assert_eq!(wired.feed_bytes(&wire), Ok(vec![]));
    assert_eq!(opcodes(&wired.replies()), [opcode::REJECT]);
}
