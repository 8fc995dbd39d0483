//! Task management functions end commands, and are answered when nothing can write any more.

use std::time::Duration;

use disk_image::{Gate, Operation};
use iscsi_proto::Lun;
use iscsi_proto::pdu::TaskManagementRequest;
use target_core::{AuthPolicy, NodeConfig, SessionEnd};

use crate::initiator::{Data, Initiator};
use crate::wire::{Login, PATIENCE};
use crate::world::{
    BLOCK, OTHER_TARGET, TEST_UNIT_READY, World, durable_write, keys, memory, read, unit, write,
};

pub const ABORT_TASK: u8 = 1;
pub const ABORT_TASK_SET: u8 = 2;
const CLEAR_ACA: u8 = 3;
pub const CLEAR_TASK_SET: u8 = 4;
pub const LOGICAL_UNIT_RESET: u8 = 5;
pub const TARGET_WARM_RESET: u8 = 6;
pub const TARGET_COLD_RESET: u8 = 7;
const TASK_REASSIGN: u8 = 8;
pub const QUERY_TASK: u8 = 9;
pub const QUERY_TASK_SET: u8 = 10;
pub const IT_NEXUS_RESET: u8 = 11;
pub const QUERY_ASYNCHRONOUS_EVENT: u8 = 12;

const COMPLETE: u8 = 0;
const DATA: [u8; BLOCK] = [0xee; BLOCK];

/// A write that hangs at a gate; its tag.
pub fn hanging_write(initiator: &mut Initiator, gate: &Gate, arrivals: usize) -> u32 {
    let tag = initiator.start(0, &durable_write(7, 1), Data::Out(&DATA));
    assert!(gate.wait_for_arrivals(arrivals, PATIENCE));
    tag
}

/// A function over a hanging write of the same session is answered when that write has ended,
/// and the write never.
fn waits_for_the_write(function: u8, lun: u64) {
    let (world, image) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let gate = image.gate(Operation::Write);
    let tag = hanging_write(&mut initiator, &gate, 1);
    let referenced = (function == ABORT_TASK).then_some(tag);
    let function = initiator.start_function(function, lun, referenced);
    for _ in 0..3 {
        initiator.nop();
    }
    assert!(!initiator.is_answered(function), "answered while the write can still write");
    gate.open();
    assert_eq!(initiator.finish_function(function), COMPLETE);
    initiator.nop();
    assert!(!initiator.is_answered(tag), "an aborted command was answered");
    // Resets leave a unit attention.
    initiator.execute(0, &TEST_UNIT_READY, Data::None);
    let data = initiator.execute(0, &read(7, 1), Data::In(BLOCK)).good();
    assert_eq!(data, DATA, "it had begun, so it was done");
}

#[test]
fn abort_task_waits_for_its_task() {
    waits_for_the_write(ABORT_TASK, 0);
}

#[test]
fn abort_task_set_waits_for_its_tasks() {
    waits_for_the_write(ABORT_TASK_SET, 0);
}

#[test]
fn abort_task_set_finds_the_unit_under_any_form_of_its_lun() {
    // LUN 0 in flat space addressing (SAM-5 §4.7.7.3).
    waits_for_the_write(ABORT_TASK_SET, 0x4000 << 48);
}

#[test]
fn clear_task_set_waits_for_its_tasks() {
    waits_for_the_write(CLEAR_TASK_SET, 0);
}

#[test]
fn logical_unit_reset_waits_for_its_tasks() {
    waits_for_the_write(LOGICAL_UNIT_RESET, 0);
}

#[test]
fn target_warm_reset_waits_for_its_tasks() {
    waits_for_the_write(TARGET_WARM_RESET, 0);
}

#[test]
fn a_command_under_another_form_of_the_lun_is_aborted_too() {
    let (world, image) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let gate = image.gate(Operation::Write);
    let tag = initiator.start_at(0x4000 << 48, &durable_write(7, 1), Data::Out(&DATA));
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    let function = initiator.start_function(LOGICAL_UNIT_RESET, 0, None);
    for _ in 0..3 {
        initiator.nop();
    }
    assert!(!initiator.is_answered(function));
    gate.open();
    assert_eq!(initiator.finish_function(function), COMPLETE);
    initiator.nop();
    assert!(!initiator.is_answered(tag));
}

#[test]
fn a_function_waits_for_what_an_earlier_one_has_aborted() {
    let (world, image) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let gate = image.gate(Operation::Write);
    let tag = hanging_write(&mut initiator, &gate, 1);
    let abort = initiator.start_function(ABORT_TASK, 0, Some(tag));
    let reset = initiator.start_function(LOGICAL_UNIT_RESET, 0, None);
    for _ in 0..3 {
        initiator.nop();
    }
    assert!(!initiator.is_answered(abort) && !initiator.is_answered(reset));
    gate.open();
    assert_eq!(initiator.finish_function(abort), COMPLETE);
    assert_eq!(initiator.finish_function(reset), COMPLETE);
}

#[test]
fn a_function_leaves_commands_alone_that_come_behind_it() {
    let (world, _) = World::with_memory();
    let login = Login { keys: keys(&[("ImmediateData", "No")]), ..world.login() };
    let mut initiator = world.log_in(&login);
    initiator.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
    for function in [ABORT_TASK_SET, CLEAR_TASK_SET, LOGICAL_UNIT_RESET, TARGET_WARM_RESET] {
        // In one piece, so that the target has all of it before it does anything.
        let header = TaskManagementRequest {
            opcode: 0x42,
            flags: 0x80 | function,
            initiator_task_tag: 0x7000_0000.into(),
            referenced_task_tag: 0xffff_ffff.into(),
            cmd_sn: initiator.cmd_sn.into(),
            ..TaskManagementRequest::zeroed()
        };
        initiator.hold_r2t = true;
        let mut bytes = header.bytes().to_vec();
        // It waits for data, so that it is still there when the function is carried out.
        let data = vec![1; 2 * BLOCK];
        let (tag, command) = initiator.command(0, &write(0, 2), Data::Out(&data));
        bytes.extend(command);
        assert!(initiator.wire.send_bytes(&bytes));
        assert_eq!(initiator.finish_function(0x7000_0000), COMPLETE);
        initiator.hold_r2t = false;
        initiator.nop();
        while let Some(r2t) = initiator.held_r2t.pop_front() {
            initiator.answer_r2t(&r2t);
        }
        let outcome = initiator.finish(tag);
        if matches!(function, LOGICAL_UNIT_RESET | TARGET_WARM_RESET) {
            outcome.check((6, 0x29, 3));
        } else {
            outcome.good();
        }
    }
}

#[test]
fn a_reset_is_told_to_every_session_of_the_unit() {
    for function in [LOGICAL_UNIT_RESET, TARGET_WARM_RESET] {
        let (world, image) = World::with_memory();
        let shared = world.unit(1, memory(1 << 20));
        world.target(OTHER_TARGET, AuthPolicy::None);
        world.node.add_unit(OTHER_TARGET, 5, shared).unwrap();
        world.node.add_unit(OTHER_TARGET, 6, unit("its own", memory(1 << 20))).unwrap();
        let mut requester = world.initiator(&[0, 1]);
        let mut same_target = world.initiator(&[0, 1]);
        let login = Login { target: Some(OTHER_TARGET.to_owned()), ..world.login() };
        let mut other_target = world.log_in(&login);
        for lun in [5, 6] {
            other_target.execute(lun, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
        }
        // A write of another session has to end too.
        let gate = image.gate(Operation::Write);
        let hanging = hanging_write(&mut same_target, &gate, 1);
        let waits = function == TARGET_WARM_RESET;
        let lun = Lun::from_number(1).0;
        let function = requester.start_function(function, lun, None);
        if waits {
            for _ in 0..3 {
                same_target.nop();
                requester.nop();
            }
            assert!(!requester.is_answered(function));
            gate.open();
        }
        assert_eq!(requester.finish_function(function), COMPLETE);
        for initiator in [&mut requester, &mut same_target] {
            initiator.execute(1, &TEST_UNIT_READY, Data::None).check((6, 0x29, 3));
            initiator.execute(1, &TEST_UNIT_READY, Data::None).good();
            let zero = initiator.execute(0, &TEST_UNIT_READY, Data::None);
            if waits {
                zero.check((6, 0x29, 3));
            } else {
                zero.good();
            }
        }
        other_target.execute(5, &TEST_UNIT_READY, Data::None).check((6, 0x29, 3));
        other_target.execute(6, &TEST_UNIT_READY, Data::None).good();
        gate.open();
        if !waits {
            same_target.finish(hanging).good();
        }
    }
}

#[test]
fn clear_task_set_is_told_to_sessions_that_lost_commands() {
    let (world, image) = World::with_memory();
    let mut requester = world.initiator(&[0]);
    let mut loser = world.initiator(&[0]);
    let mut idle = world.initiator(&[0]);
    let gate = image.gate(Operation::Write);
    let own = hanging_write(&mut requester, &gate, 1);
    let lost = hanging_write(&mut loser, &gate, 2);
    let function = requester.start_function(CLEAR_TASK_SET, 0, None);
    for _ in 0..3 {
        loser.nop();
        requester.nop();
    }
    assert!(!requester.is_answered(function));
    gate.open();
    assert_eq!(requester.finish_function(function), COMPLETE);
    loser.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x2f, 0));
    loser.execute(0, &TEST_UNIT_READY, Data::None).good();
    requester.execute(0, &TEST_UNIT_READY, Data::None).good();
    idle.execute(0, &TEST_UNIT_READY, Data::None).good();
    assert!(!requester.is_answered(own) && !loser.is_answered(lost));
}

#[test]
fn abort_task_set_concerns_its_own_session_only() {
    let (world, image) = World::with_memory();
    let mut requester = world.initiator(&[0]);
    let mut other = world.initiator(&[0]);
    let gate = image.gate(Operation::Write);
    let kept = hanging_write(&mut other, &gate, 1);
    let function = requester.start_function(ABORT_TASK_SET, 0, None);
    assert_eq!(requester.finish_function(function), COMPLETE);
    gate.open();
    other.finish(kept).good();
}

#[test]
fn a_command_that_waits_for_data_is_aborted_at_once() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    initiator.hold_r2t = true;
    let data = vec![1; 1 << 20];
    // WRITE gets its data in pieces, WRITE AND VERIFY as a whole.
    let mut write_and_verify = write(0, 2048);
    write_and_verify[0] = 0x2e;
    for cdb in [write(0, 2048), write_and_verify] {
        let tag = initiator.start(0, &cdb, Data::Out(&data));
        while initiator.held_r2t.pop_front().is_none() {
            assert!(initiator.pump());
        }
        let function = initiator.start_function(ABORT_TASK, 0, Some(tag));
        assert_eq!(initiator.finish_function(function), COMPLETE);
        initiator.nop();
        assert!(!initiator.is_answered(tag));
    }
}

#[test]
fn target_cold_reset_closes_the_connections_of_the_target() {
    let (world, image) = World::with_memory();
    world.target(OTHER_TARGET, AuthPolicy::None);
    let mut requester = world.initiator(&[0]);
    let mut same_target = world.initiator(&[0]);
    let login = Login { target: Some(OTHER_TARGET.to_owned()), ..world.login() };
    let mut other_target = world.log_in(&login);
    let gate = image.gate(Operation::Write);
    hanging_write(&mut same_target, &gate, 1);
    let tag = requester.start_function(TARGET_COLD_RESET, 0, None);
    requester.nop();
    assert!(!requester.is_answered(tag), "answered while a write of the target can still write");
    same_target.wire.assert_silent();
    assert!(world.node.sessions().iter().any(|session| session.tsih == same_target.tsih));
    gate.open();
    assert_eq!(requester.finish_function(tag), 0);
    requester.read_to_end();
    same_target.read_to_end();
    for tsih in [requester.tsih, same_target.tsih] {
        assert_eq!(world.events.wait_for_end(tsih), SessionEnd::TargetGone);
    }
    other_target.nop();
    world.initiator(&[0]);
}

#[test]
fn functions_for_what_is_not_there_answer_their_codes() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let no_unit = Lun::from_number(9).0;
    // Of several levels: no unit here has such a LUN.
    let deep = 0x0001_0001_0000_0000;
    for (function, lun, expected) in [
        (ABORT_TASK, 0, 1),
        (ABORT_TASK, no_unit, 2),
        (ABORT_TASK_SET, no_unit, 2),
        (CLEAR_TASK_SET, no_unit, 2),
        (LOGICAL_UNIT_RESET, no_unit, 2),
        (LOGICAL_UNIT_RESET, deep, 2),
        (TASK_REASSIGN, 0, 4),
        (CLEAR_ACA, 0, 5),
        // Those of RFC 7144, which was not negotiated, and one that does not exist.
        (QUERY_TASK, 0, 5),
        (QUERY_TASK_SET, 0, 5),
        (IT_NEXUS_RESET, 0, 5),
        (QUERY_ASYNCHRONOUS_EVENT, 0, 5),
        (0x7f, 0, 5),
        (ABORT_TASK_SET, 0, COMPLETE),
        (TARGET_WARM_RESET, no_unit, COMPLETE),
    ] {
        let tag = initiator.start_function(function, lun, None);
        assert_eq!(initiator.finish_function(tag), expected, "function {function}");
    }
    // A task that has ended.
    let tag = initiator.start(0, &TEST_UNIT_READY, Data::None);
    initiator.finish(tag).check((6, 0x29, 3));
    let function = initiator.start_function(ABORT_TASK, 0, Some(tag));
    assert_eq!(initiator.finish_function(function), 1);
}

/// A write of 1 MiB whose data was asked for and not sent; its tag.
fn unanswered_write(initiator: &mut Initiator) -> u32 {
    initiator.hold_r2t = true;
    let tag = initiator.start(0, &write(0, 2048), Data::Out(&[0xee; 1 << 20]));
    while initiator.held_r2t.is_empty() {
        assert!(initiator.pump());
    }
    tag
}

#[test]
fn functions_over_many_tasks_wait_for_data_that_was_asked_for() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    for function in [ABORT_TASK_SET, CLEAR_TASK_SET, LOGICAL_UNIT_RESET, TARGET_WARM_RESET] {
        let tag = unanswered_write(&mut initiator);
        let function = initiator.start_function(function, 0, None);
        for _ in 0..3 {
            initiator.nop();
        }
        assert!(!initiator.is_answered(function), "answered while data is still to come");
        while let Some(r2t) = initiator.held_r2t.pop_front() {
            initiator.answer_r2t(&r2t);
        }
        assert_eq!(initiator.finish_function(function), COMPLETE);
        assert!(!initiator.is_answered(tag));
        assert_eq!(initiator.rejects, []);
        // Resets leave a unit attention.
        initiator.execute(0, &TEST_UNIT_READY, Data::None);
        // What was asked for came too late to be written.
        let data = initiator.execute(0, &read(2047, 1), Data::In(BLOCK)).good();
        assert_eq!(data, [0; BLOCK]);
    }
}

#[test]
fn data_that_does_not_come_is_not_waited_for_longer_than_allowed() {
    let abort_time = Duration::from_millis(50);
    let world = World::with(NodeConfig { abort_time, ..NodeConfig::default() });
    world.unit(0, memory(8 << 20));
    let mut initiator = world.initiator(&[0]);
    let tag = unanswered_write(&mut initiator);
    let function = initiator.start_function(ABORT_TASK_SET, 0, None);
    assert_eq!(initiator.finish_function(function), COMPLETE);
    initiator.nop();
    assert!(!initiator.is_answered(tag));
}

#[test]
fn with_fast_abort_no_data_is_waited_for() {
    let (world, _) = World::with_memory();
    let mut login = world.login();
    login.keys.extend(keys(&[("TaskReporting", "FastAbort,ResponseFence,RFC3720")]));
    let mut initiator = world.log_in(&login);
    assert_eq!(initiator.answers.get("TaskReporting").map(String::as_str), Some("FastAbort"));
    initiator.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
    let tag = unanswered_write(&mut initiator);
    let function = initiator.start_function(ABORT_TASK_SET, 0, None);
    // Some round trips at most, and nothing that takes time.
    for _ in 0..20 {
        initiator.nop();
    }
    assert!(initiator.is_answered(function));
    assert_eq!(initiator.finish_function(function), COMPLETE);
    assert!(!initiator.is_answered(tag));
    assert_eq!(initiator.async_events, [], "it knows");
}

#[test]
fn with_fast_abort_others_are_told_whose_tasks_have_ended() {
    let (world, _) = World::with_memory();
    world.unit(1, memory(8 << 20));
    let fast = || {
        let mut login = world.login();
        login.keys.extend(keys(&[("TaskReporting", "FastAbort,ResponseFence,RFC3720")]));
        let mut initiator = world.log_in(&login);
        for lun in [0, 1] {
            initiator.execute(lun, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
        }
        initiator
    };
    let (mut concerned, mut idle) = (fast(), fast());
    let mut slow = world.initiator(&[0, 1]);
    let mut requester = world.initiator(&[0, 1]);
    unanswered_write(&mut concerned);
    unanswered_write(&mut slow);
    let function = requester.start_function(CLEAR_TASK_SET, 0, None);
    assert_eq!(requester.finish_function(function), COMPLETE);
    for (initiator, told) in [(&mut concerned, &[0][..]), (&mut idle, &[]), (&mut slow, &[])] {
        initiator.nop();
        assert_eq!(initiator.terminated, told);
    }
    // The message is acknowledged: data that comes now has no excuse. Elsewhere nobody knows.
    for initiator in [&mut concerned, &mut slow] {
        initiator.nop();
        let r2t = initiator.held_r2t.pop_front().unwrap();
        initiator.answer_r2t(&r2t);
        initiator.nop();
    }
    assert!(!concerned.rejects.is_empty());
    assert_eq!(slow.rejects, []);
}

#[test]
fn data_that_was_sent_before_an_abort_was_known_is_dropped_in_silence() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    initiator.hold_r2t = true;
    let data = vec![1; 1 << 20];
    for function in [ABORT_TASK, ABORT_TASK_SET, LOGICAL_UNIT_RESET] {
        let tag = initiator.start(0, &write(0, 2048), Data::Out(&data));
        while initiator.held_r2t.is_empty() {
            assert!(initiator.pump());
        }
        let referenced = (function == ABORT_TASK).then_some(tag);
        let function = initiator.start_function(function, 0, referenced);
        // The initiator has not heard of the end yet.
        let r2t = initiator.held_r2t.pop_front().unwrap();
        initiator.answer_r2t(&r2t);
        assert_eq!(initiator.finish_function(function), COMPLETE);
        initiator.nop();
        assert_eq!(initiator.rejects, []);
        assert!(!initiator.is_answered(tag));
        // What it sends later it has no excuse for.
        initiator.answer_r2t(&r2t);
        initiator.nop();
        assert!(!initiator.rejects.is_empty());
        initiator.rejects.clear();
        initiator.held_r2t.clear();
        // A unit attention, after the reset.
        initiator.execute(0, &TEST_UNIT_READY, Data::None);
    }
}
