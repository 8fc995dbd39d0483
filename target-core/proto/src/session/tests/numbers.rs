//! CmdSN, ExpCmdSN, MaxCmdSN and StatSN (RFC 7143 §4.2.2).

use super::*;
use crate::ids::TargetTransferTag;
use crate::pdu::{NopIn, ScsiResponse};

fn numbers(reply: &Reply) -> (u32, u32) {
    let header = ScsiResponse::view(&reply.bhs);
    (header.exp_cmd_sn.get(), header.max_cmd_sn.get())
}

fn nth(n: u32) -> u32 {
    FIRST_CMD_SN.wrapping_add(n)
}

#[test]
fn the_window_closes_with_every_command_and_opens_with_every_answer() {
    let mut wired = Wired::new(Parameters::default());
    let tasks: Vec<_> = (0..8).map(|_| wired.command(read(0))).collect();
    // The window is full: ExpCmdSN is past MaxCmdSN until somebody is answered.
    wired.initiator.scsi(read(0));
    assert_eq!(wired.feed(), Ok(vec![]), "a ninth of eight commands was taken");
    wired.initiator.cmd_sn = nth(8);
    for (n, task) in (1..).zip(&tasks) {
        let reply = wired.good(*task);
        assert_eq!(numbers(&reply), (nth(8), nth(7 + n)), "answer {n}");
    }
    assert_eq!(wired.session.outstanding(), 0);
    wired.command(read(0));
}

#[test]
fn phase_collapse_opens_the_window_with_the_very_same_pdu() {
    let mut wired = Wired::new(Parameters::default());
    let task = wired.command(read(4));
    let layout = wired.session.begin_data_in(task, 4, &mut wired.tx).unwrap();
    wired.session.finish_data_in(layout, 4, Some(0), &mut wired.tx);
    assert_eq!(numbers(&wired.reply()), (nth(1), nth(8)));
}

#[test]
fn the_last_number_of_the_window_is_taken_and_none_beyond() {
    for (distance, taken) in [(7, true), (8, false), (100, false)] {
        let mut wired = Wired::new(Parameters::default());
        // Everything before it, without a task that would close the window.
        for _ in 0..distance.min(7) {
            let itt = wired.initiator.new_tag();
            wired.initiator.nop_out(itt, TargetTransferTag::RESERVED, false, b"");
        }
        wired.initiator.take();
        let first = Wired::new(Parameters::default()).session.max_cmd_sn;
        assert_eq!(first, CmdSn(nth(7)));
        wired.initiator.cmd_sn = nth(distance);
        wired.initiator.scsi(read(0));
        let result = wired.feed();
        match taken {
            // Within the window, but what is before it never came: on one connection it is lost.
            true => assert_eq!(result, Err(SessionError::Protocol("a gap in CmdSN"))),
            false => assert_eq!(result, Ok(vec![]), "{distance}"),
        }
    }
}

#[test]
fn a_number_that_was_used_is_dropped_silently() {
    let mut wired = Wired::new(Parameters::default());
    let task = wired.command(read(0));
    wired.good(task);
    for back in [1, 2, 1000] {
        wired.initiator.cmd_sn = nth(1).wrapping_sub(back);
        wired.initiator.scsi(read(0));
        assert_eq!(wired.feed(), Ok(vec![]));
        assert!(wired.replies().is_empty());
    }
    wired.initiator.cmd_sn = nth(1);
    wired.command(read(0));
}

#[test]
fn immediate_commands_neither_use_a_number_nor_a_place_in_the_window() {
    let mut wired = Wired::new(Parameters::default());
    let immediate = Scsi { immediate: true, ..read(0) };
    let first = wired.command(immediate);
    assert_eq!(numbers(&wired.good(first)), (nth(0), nth(7)));
    let tasks: Vec<_> = (0..8).map(|_| wired.command(read(0))).collect();
    // Into the closed window; the number it carries does not matter.
    let task = wired.command(immediate);
    assert_eq!(numbers(&wired.good(task)), (nth(8), nth(7)));
    assert_eq!(numbers(&wired.good(tasks[0])), (nth(8), nth(8)));
}

#[test]
fn immediate_commands_have_a_bound_too() {
    let mut wired = Wired::new(Parameters::default());
    let immediate = Scsi { immediate: true, ..read(0) };
    for _ in 0..IMMEDIATE_TASKS {
        wired.command(immediate);
    }
    wired.initiator.scsi(immediate);
    assert_eq!(wired.feed(), Ok(vec![]));
    let reject = wired.reply();
    let reason = crate::pdu::Reject::view(&reject.bhs).reason();
    assert_eq!(reason, Some(RejectReason::ImmediateCommandReject));
    // The places of the window are still there, and no immediate command takes one of them.
    for _ in 0..8 {
        wired.command(read(0));
    }
    wired.initiator.scsi(immediate);
    assert_eq!(wired.feed(), Ok(vec![]));
}

#[test]
fn requests_without_tasks_move_the_window_on() {
    let mut wired = Wired::new(Parameters::default());
    for n in 1..20 {
        let itt = wired.initiator.new_tag();
        wired.initiator.nop_out(itt, TargetTransferTag::RESERVED, false, b"");
        assert_eq!(wired.feed(), Ok(vec![]));
        assert_eq!(numbers(&wired.reply()), (nth(n), nth(n + 7)));
    }
}

#[test]
fn an_aborted_task_gives_its_place_back_without_an_answer() {
    let mut wired = Wired::new(Parameters::default());
    let tasks: Vec<_> = (0..8).map(|_| wired.command(read(0))).collect();
    wired.session.abort(tasks[3], None);
    wired.session.abort(tasks[3], None);
    assert!(wired.tx.is_empty());
    assert_eq!(wired.session.outstanding(), 7);
    assert_eq!(numbers(&wired.good(tasks[0])), (nth(8), nth(9)));
    // Its name is of no use any more, even when its slot is taken again.
    wired.command(read(0));
    wired.session.respond(tasks[3], 0, &[], 0, &mut wired.tx);
    assert!(wired.session.begin_data_in(tasks[3], 10, &mut wired.tx).is_none());
    assert_eq!(wired.session.accept_write(tasks[3], 10, &mut wired.tx), 0);
    assert!(wired.tx.is_empty());
}

#[test]
fn a_ping_of_the_target_uses_no_number_up() {
    let mut wired = Wired::new(Parameters::default());
    wired.session.ping(TargetTransferTag(5), &mut wired.tx);
    wired.session.ping(TargetTransferTag(6), &mut wired.tx);
    wired
        .session
        .async_message(crate::pdu::AsyncEvent::LogoutRequest { seconds: 3 }, &mut wired.tx);
    // `replies` has checked every StatSN.
    let replies = wired.replies();
    let ping = NopIn::view(&replies[1].bhs);
    assert_eq!(ping.stat_sn.get(), FIRST_STAT_SN);
    assert_eq!(ping.initiator_task_tag.get(), InitiatorTaskTag::RESERVED.0);
    assert_eq!(ping.target_transfer_tag.get(), 6);
    assert_eq!(wired.initiator.exp_stat_sn, FIRST_STAT_SN.wrapping_add(1));
}

#[test]
fn on_a_new_connection_cmd_sn_goes_on_and_stat_sn_begins_anew() {
    let mut wired = Wired::new(Parameters::default());
    let task = wired.command(read(0));
    wired.good(task);
    let lost = wired.command(write(4096));
    wired.session.accept_write(lost, 4096, &mut wired.tx);
    wired.replies();
    let next = wired.initiator.cmd_sn;
    assert_eq!(wired.session.exp_cmd_sn(), CmdSn(next));
    let parameters = Parameters { data_digest: true, ..Parameters::default() };
    let outcome = LoginOutcome { stat_sn: StatSn(7), ..outcome(SessionType::Normal, parameters) };
    let widest = wired.session.widest_max_cmd_sn();
    wired.session.reinstate(&outcome);
    assert_eq!((wired.session.outstanding(), wired.session.counters().commands), (0, 2));
    assert_eq!(widest, CmdSn(next).add(7));
    wired.initiator = Initiator::new(wired.session.decoder(), next, 7);
    let task = wired.command(read(0));
    assert_ne!(task, lost, "a name that could be mixed up");
    wired.session.respond(lost, 0, &[], 0, &mut wired.tx);
    assert!(wired.replies().is_empty(), "an answer to a task of the old connection");
    wired.good(task);
    assert_eq!(wired.initiator.max_cmd_sn, widest.add(1).0);
}
