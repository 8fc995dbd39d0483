//! NOP, text, task management and logout.

use super::*;
use crate::ids::TargetTransferTag;
use crate::pdu::{
    CONTINUE, LogoutResponse, LogoutResponseCode, NopIn, Reject, TaskManagementResponse,
    TaskManagementResponseCode, TextResponse,
};

const NEW: TargetTransferTag = TargetTransferTag::RESERVED;

#[test]
fn a_ping_comes_back_with_its_data() {
    for immediate in [false, true] {
        let mut wired = Wired::new(Parameters::default());
        let itt = wired.initiator.new_tag();
        wired.initiator.nop_out(itt, NEW, immediate, b"are you there?");
        assert_eq!(wired.feed(), Ok(vec![]));
        let reply = wired.reply();
        let header = NopIn::view(&reply.bhs);
        assert_eq!((reply.opcode(), header.flags), (opcode::NOP_IN, FINAL));
        assert_eq!(header.initiator_task_tag.get(), itt.0);
        assert_eq!(header.target_transfer_tag.get(), NEW.0);
        assert_eq!(reply.data, b"are you there?");
    }
}

#[test]
fn ping_data_is_cut_to_what_the_initiator_takes() {
    let parameters =
        Parameters { initiator_max_recv_data_segment_length: 512, ..Parameters::default() };
    let mut wired = Wired::new(parameters);
    let itt = wired.initiator.new_tag();
    wired.initiator.nop_out(itt, NEW, true, &pattern(513));
    wired.feed().unwrap();
    assert_eq!(wired.reply().data, pattern(512));
}

#[test]
fn an_answer_to_the_targets_ping_is_not_answered() {
    let mut wired = Wired::new(Parameters::default());
    wired.initiator.nop_out(InitiatorTaskTag::RESERVED, TargetTransferTag(5), true, b"");
    assert_eq!(wired.feed(), Ok(vec![]));
    assert!(wired.replies().is_empty());
}

#[test]
fn text_comes_in_one_pdu_or_in_several() {
    let mut wired = Wired::new(Parameters::default());
    let itt = wired.initiator.new_tag();
    wired.initiator.text(itt, NEW, FINAL, b"SendTargets=All\0");
    let text = b"SendTargets=All\0".to_vec();
    assert_eq!(wired.feed(), Ok(vec![Seen::Text { itt, text: text.clone() }]));

    let itt = wired.initiator.new_tag();
    let mut tag = NEW;
    for part in [&b"SendT"[..], b"argets"] {
        wired.initiator.text(itt, tag, CONTINUE, part);
        assert_eq!(wired.feed(), Ok(vec![]));
        let reply = wired.reply();
        let header = TextResponse::view(&reply.bhs);
        assert_eq!((header.flags, reply.data.len()), (0, 0));
        // §11.11.1: F=0 goes with a tag, by which the initiator goes on.
        tag = TargetTransferTag(header.target_transfer_tag.get());
        assert_ne!(tag, NEW);
    }
    wired.initiator.text(itt, tag, FINAL, b"=All\0");
    assert_eq!(wired.feed(), Ok(vec![Seen::Text { itt, text }]));
}

#[test]
fn a_text_response_is_not_final_before_the_request_is() {
    let mut wired = Wired::new(Parameters::default());
    let itt = wired.initiator.new_tag();
    wired.initiator.text(itt, NEW, 0, b"a=1\0");
    assert_eq!(wired.feed(), Ok(vec![]));
    let header = *TextResponse::view(&wired.reply().bhs);
    assert!(!header.is_final() && !header.continues());
    let tag = TargetTransferTag(header.target_transfer_tag.get());
    wired.initiator.text(itt, tag, FINAL, b"b=2\0");
    assert_eq!(wired.feed(), Ok(vec![Seen::Text { itt, text: b"a=1\0b=2\0".to_vec() }]));
}

#[test]
fn a_long_answer_is_fetched_in_parts() {
    let parameters =
        Parameters { initiator_max_recv_data_segment_length: 512, ..Parameters::default() };
    for length in [0, 1, 511, 512, 513, 1024, 1025, 3000] {
        let mut wired = Wired::new(parameters);
        let itt = wired.initiator.new_tag();
        wired.initiator.text(itt, NEW, FINAL, b"SendTargets=All\0");
        wired.feed().unwrap();
        wired.session.text_response(itt, pattern(length), &mut wired.tx);
        let mut received = Vec::new();
        loop {
            let reply = wired.reply();
            let header = TextResponse::view(&reply.bhs);
            assert!(reply.data.len() <= 512);
            received.extend_from_slice(&reply.data);
            assert_eq!(header.initiator_task_tag.get(), itt.0);
            let tag = TargetTransferTag(header.target_transfer_tag.get());
            assert_eq!(header.is_final(), tag == NEW);
            assert_eq!(header.is_final(), !header.continues());
            if header.is_final() {
                break;
            }
            wired.initiator.text(itt, tag, FINAL, b"");
            assert_eq!(wired.feed(), Ok(vec![]));
        }
        assert_eq!(received, pattern(length));
    }
}

#[test]
fn a_new_negotiation_forgets_the_old_one() {
    let mut wired = Wired::new(Parameters::default());
    let (old, new) = (wired.initiator.new_tag(), wired.initiator.new_tag());
    wired.initiator.text(old, NEW, CONTINUE, b"half of a k");
    wired.initiator.text(new, NEW, FINAL, b"a=1\0");
    assert_eq!(wired.feed(), Ok(vec![Seen::Text { itt: new, text: b"a=1\0".to_vec() }]));
}

#[test]
fn text_that_belongs_to_nothing_resets_the_negotiation() {
    let long = vec![b'x'; 8192];
    let mut wired = Wired::new(Parameters::default());
    let itt = wired.initiator.new_tag();
    // 64 KiB, and a byte more.
    wired.initiator.text(itt, NEW, CONTINUE, &long);
    wired.feed().unwrap();
    let tag = TargetTransferTag(TextResponse::view(&wired.reply().bhs).target_transfer_tag.get());
    for _ in 1..8 {
        wired.initiator.text(itt, tag, CONTINUE, &long);
    }
    wired.feed().unwrap();
    assert_eq!(wired.replies().len(), 7);
    wired.initiator.text(itt, tag, CONTINUE, b"x");

    // A tag that was never given, a tag of nothing, F together with C, no tag of its own.
    let other = wired.initiator.new_tag();
    wired.initiator.text(other, TargetTransferTag(77), FINAL, b"a=1\0");
    wired.initiator.text(other, tag, FINAL, b"");
    wired.initiator.text(other, NEW, FINAL | CONTINUE, b"a=1\0");
    wired.initiator.text(InitiatorTaskTag::RESERVED, NEW, FINAL, b"a=1\0");
    assert_eq!(wired.feed(), Ok(vec![]));
    let replies = wired.replies();
    assert_eq!(replies.len(), 5);
    for reply in replies {
        let reason = Reject::view(&reply.bhs).reason();
        assert_eq!(reason, Some(RejectReason::NegotiationReset));
    }
    // And then everything is as before.
    wired.initiator.text(other, NEW, FINAL, b"a=1\0");
    assert_eq!(wired.feed().unwrap().len(), 1);
}

#[test]
fn a_task_is_referenced_by_tag_unit_and_number() {
    let mut wired = Wired::new(Parameters::default());
    wired.command(read(0));
    let number = wired.initiator.cmd_sn;
    let task = wired.command(Scsi { lun: 1, ..read(0) });
    let tag = wired.session.initiator_task_tag(task).unwrap();
    for (lun, referenced, ref_cmd_sn, expected) in [
        (1, tag, number, Some(task)),
        (0, tag, number, None),
        (1, tag, number.wrapping_add(1), None),
        (1, InitiatorTaskTag(tag.0 + 1000), number, None),
        (1, InitiatorTaskTag::RESERVED, number, None),
    ] {
        let function = TaskManagementFunction::AbortTask;
        let itt = wired.initiator.task_management(function, lun, referenced, ref_cmd_sn);
        let seen = Seen::TaskManagement { itt, referenced: expected };
        assert_eq!(wired.feed(), Ok(vec![seen]));
    }
}

#[test]
fn an_immediate_task_is_referenced_with_the_number_of_the_request() {
    let mut wired = Wired::new(Parameters::default());
    let task = wired.command(Scsi { immediate: true, ..read(0) });
    let tag = wired.session.initiator_task_tag(task).unwrap();
    // Time goes on.
    wired.command(read(0));
    let now = wired.initiator.cmd_sn;
    let function = TaskManagementFunction::AbortTask;
    let itt = wired.initiator.task_management(function, 0, tag, now);
    assert_eq!(wired.feed(), Ok(vec![Seen::TaskManagement { itt, referenced: Some(task) }]));
}

#[test]
fn functions_and_logouts_are_answered_with_their_tags() {
    let parameters =
        Parameters { default_time2wait: 3, default_time2retain: 9, ..Parameters::default() };
    let mut wired = Wired::new(parameters);
    let function = TaskManagementFunction::LogicalUnitReset;
    let itt = wired.initiator.task_management(function, 0, InitiatorTaskTag::RESERVED, 0);
    assert_eq!(wired.feed(), Ok(vec![Seen::TaskManagement { itt, referenced: None }]));
    let code = TaskManagementResponseCode::LunDoesNotExist;
    wired.session.task_management_response(itt, code, &mut wired.tx);
    let reply = wired.reply();
    let header = TaskManagementResponse::view(&reply.bhs);
    assert_eq!((header.initiator_task_tag.get(), header.response()), (itt.0, Some(code)));

    let itt = wired.initiator.logout(LogoutReason::CloseConnection, 7);
    let reason = LogoutReason::CloseConnection;
    assert_eq!(wired.feed(), Ok(vec![Seen::Logout { itt, reason, cid: Cid(7) }]));
    let code = LogoutResponseCode::CidNotFound;
    wired.session.logout_response(itt, code, &mut wired.tx);
    let reply = wired.reply();
    let header = LogoutResponse::view(&reply.bhs);
    assert_eq!((header.initiator_task_tag.get(), header.response()), (itt.0, Some(code)));
    assert_eq!((header.time2wait.get(), header.time2retain.get()), (3, 9));
}

const LEVEL_2: [TaskManagementFunction; 4] = [
    TaskManagementFunction::QueryTask,
    TaskManagementFunction::QueryTaskSet,
    TaskManagementFunction::ItNexusReset,
    TaskManagementFunction::QueryAsynchronousEvent,
];

#[test]
fn functions_of_rfc_7144_are_not_supported_below_level_2() {
    for (function, protocol_level) in LEVEL_2.into_iter().zip([0, 1, 0, 1]) {
        let mut wired = Wired::new(Parameters { protocol_level, ..Parameters::default() });
        let itt = wired.initiator.task_management(function, 0, InitiatorTaskTag::RESERVED, 0);
        assert_eq!(wired.feed(), Ok(vec![]));
        let reply = wired.reply();
        let header = TaskManagementResponse::view(&reply.bhs);
        let expected = (itt.0, Some(TaskManagementResponseCode::NotSupported));
        assert_eq!((header.initiator_task_tag.get(), header.response()), expected);
    }
}

#[test]
fn functions_of_rfc_7144_are_handed_out_at_level_2() {
    for (function, code) in LEVEL_2.into_iter().zip(9..) {
        assert_eq!(function.code(), code);
        let mut wired = Wired::new(Parameters { protocol_level: 2, ..Parameters::default() });
        let itt = wired.initiator.task_management(function, 0, InitiatorTaskTag::RESERVED, 0);
        assert_eq!(wired.feed(), Ok(vec![Seen::TaskManagement { itt, referenced: None }]));
    }
}

#[test]
fn query_task_names_its_task_without_a_number() {
    let mut wired = Wired::new(Parameters { protocol_level: 2, ..Parameters::default() });
    let task = wired.command(read(0));
    let tag = wired.session.initiator_task_tag(task).unwrap();
    for (lun, expected) in [(0, Some(task)), (1, None)] {
        let function = TaskManagementFunction::QueryTask;
        let itt = wired.initiator.task_management(function, lun, tag, 0);
        assert_eq!(wired.feed(), Ok(vec![Seen::TaskManagement { itt, referenced: expected }]));
    }
}

#[test]
fn additional_response_information_stands_behind_the_lengths() {
    let mut wired = Wired::new(Parameters { protocol_level: 2, ..Parameters::default() });
    let function = TaskManagementFunction::QueryAsynchronousEvent;
    let itt = wired.initiator.task_management(function, 0, InitiatorTaskTag::RESERVED, 0);
    wired.feed().unwrap();
    let code = TaskManagementResponseCode::Succeeded;
    wired.session.query_response(itt, code, [0x16, 0x29, 0x07], &mut wired.tx);
    let reply = wired.reply();
    assert_eq!((reply.bhs[2], &reply.bhs[8..12]), (7, &[0x16, 0x29, 0x07, 0][..]));
}

#[test]
fn a_priority_is_taken_at_level_2_and_reserved_below() {
    for (protocol_level, expected) in [(1, 0), (2, 9)] {
        let mut wired = Wired::new(Parameters { protocol_level, ..Parameters::default() });
        wired.initiator.scsi(read(0));
        let mut wire = wired.initiator.take();
        // PRI: the upper half of the third byte.
        wire[2] = 0x9f;
        let Decoded::Pdu { pdu, .. } = wired.session.decoder().decode(&wire).unwrap() else {
            panic!("not a PDU");
        };
        let event = wired.session.handle(&pdu, &mut wired.tx).unwrap();
        let Some(Event::Command(command)) = event else { panic!("{event:?}") };
        assert_eq!(command.priority, expected);
    }
}
