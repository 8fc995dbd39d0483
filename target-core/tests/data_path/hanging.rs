//! Cached writes run on the thread of their connection. One that hangs holds up nothing but itself,
//! and whoever waits for its end is answered within a bound.

use std::future::poll_fn;
use std::time::Duration;

use disk_image::{Fault, Operation};
use iscsi_proto::Lun;
use target_core::{Kind, NodeConfig, SessionEnd};

use crate::initiator::{Data, Initiator};
use crate::task_management::{
    ABORT_TASK, ABORT_TASK_SET, CLEAR_TASK_SET, LOGICAL_UNIT_RESET, TARGET_COLD_RESET,
    TARGET_WARM_RESET,
};
use crate::wire::{PATIENCE, Refusal};
use crate::world::{
    BLOCK, Random, SYNCHRONIZE_CACHE, TEST_UNIT_READY, World, eventually, memory, read, write,
};

const COMPLETE: u8 = 0;
const REJECTED: u8 = 255;
const RESET: (u8, u8, u8) = (0x06, 0x29, 0x03);

fn lun(number: u16) -> u64 {
    Lun::from_number(number).0
}

/// Does not wait for long.
fn impatient() -> World {
    let abort_time = Duration::from_millis(50);
    World::with(NodeConfig { abort_time, ..NodeConfig::default() })
}

#[test]
fn the_session_of_a_write_that_hangs_goes_on() {
    let (world, hung) = World::with_memory();
    world.unit(1, memory(1 << 20));
    let mut initiator = world.initiator(&[0, 1]);
    let block = Random::new(1).bytes(BLOCK);
    let gate = hung.gate(Operation::Write);
    let tag = initiator.start(0, &write(50, 1), Data::Out(&block));
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    initiator.nop();
    initiator.execute(1, &write(3, 1), Data::Out(&block)).good();
    assert!(initiator.execute(1, &read(3, 1), Data::In(BLOCK)).good() == block);
    // The unit itself, but for its writes.
    assert_eq!(initiator.execute(0, &read(60, 1), Data::In(BLOCK)).good(), [0; BLOCK]);
    let more = initiator.start(0, &write(51, 1), Data::Out(&block));
    let function = initiator.start_function(LOGICAL_UNIT_RESET, lun(1), None);
    assert_eq!(initiator.finish_function(function), COMPLETE);
    initiator.execute(1, &TEST_UNIT_READY, Data::None).check(RESET);
    assert!(!initiator.is_answered(tag) && !initiator.is_answered(more));
    gate.open();
    initiator.finish(tag).good();
    initiator.finish(more).good();
    let written = initiator.execute(0, &read(50, 2), Data::In(2 * BLOCK)).good();
    assert!(written == block.repeat(2));
    assert_eq!(initiator.log_out(), 0);
}

#[test]
fn writes_of_a_unit_whose_writes_sleep_are_handed_off() {
    let world = World::new();
    let unit = world.unit(0, memory(1 << 20));
    let mut initiator = world.initiator(&[0]);
    let handed_off = || -> u64 {
        let counters = unit.counters();
        counters.handed_off[Kind::Write as usize].classes.iter().sum()
    };
    let block = Random::new(5).bytes(BLOCK);
    let mut write_some = |count: u32| {
        let before = handed_off();
        for lba in 0..count {
            initiator.execute(0, &write(lba, 1), Data::Out(&block)).good();
            assert!(initiator.execute(0, &read(lba, 1), Data::In(BLOCK)).good() == block);
        }
        handed_off() - before
    };
    unit.set_writes_sleep(true);
    assert_eq!(write_some(20), 20);
    unit.set_writes_sleep(false);
    // Some may be: a thread that waits for a processor looks like a slow disk.
    eventually(|| write_some(20) < 20);
}

#[test]
fn what_came_in_one_piece_with_a_write_that_hangs_is_answered() {
    let (world, hung) = World::with_memory();
    world.unit(1, memory(1 << 20));
    let mut initiator = world.initiator(&[0, 1]);
    let gate = hung.gate(Operation::Write);
    let mut random = Random::new(2);
    let (data, first) = (random.bytes(4 * BLOCK), random.bytes(BLOCK));
    let mut bytes = Vec::new();
    let mut add = |(tag, pdu): (u32, Vec<u8>)| {
        bytes.extend(pdu);
        tag
    };
    let before = add(initiator.command(lun(1), &write(0, 1), Data::Out(&first)));
    let hangs = add(initiator.command(lun(0), &write(0, 4), Data::Out(&data)));
    // None overlaps another: SIMPLE commands may be done in any order (SAM-5 §8.6.2).
    let written: Vec<_> = (1..20).map(|number| (number * 4, random.bytes(4 * BLOCK))).collect();
    let behind: Vec<_> = written
        .iter()
        .map(|(lba, data)| add(initiator.command(lun(1), &write(*lba, 4), Data::Out(data))))
        .collect();
    // The last one comes in two pieces.
    let (head, tail) = bytes.split_at(bytes.len() - 700);
    initiator.wire.send_bytes(head);
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    initiator.finish(before).good();
    initiator.wire.send_bytes(tail);
    for tag in behind {
        initiator.finish(tag).good();
    }
    assert!(!initiator.is_answered(hangs));
    gate.open();
    initiator.finish(hangs).good();
    assert!(initiator.execute(0, &read(0, 4), Data::In(4 * BLOCK)).good() == data);
    assert!(initiator.execute(1, &read(0, 1), Data::In(BLOCK)).good() == first);
    for (lba, data) in written {
        assert!(initiator.execute(1, &read(lba, 4), Data::In(4 * BLOCK)).good() == data);
    }
}

#[test]
fn what_a_thread_waited_for_is_counted_by_unit_and_kind() {
    let (world, hung) = World::with_memory();
    world.unit(1, memory(1 << 20));
    let mut initiator = world.initiator(&[0, 1]);
    let block = Random::new(3).bytes(BLOCK);
    let gate = hung.gate(Operation::Write);
    let tag = initiator.start(0, &write(0, 1), Data::Out(&block));
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    // The watch has taken it away.
    initiator.execute(1, &write(0, 1), Data::Out(&block)).good();
    initiator.nop();
    gate.open();
    initiator.finish(tag).good();
    initiator.execute(1, &SYNCHRONIZE_CACHE, Data::None).good();
    let mut counters: Vec<_> = world.node.units().iter().map(|unit| unit.counters()).collect();
    assert_eq!(counters.len(), 2);
    counters.sort_by_key(|of| of.handed_off[Kind::Flush as usize].classes.iter().sum::<u64>());
    let count = |unit: usize, kind: Kind| -> u64 {
        counters[unit].handed_off[kind as usize].classes.iter().sum()
    };
    assert_eq!((count(0, Kind::Write), count(0, Kind::Flush)), (1, 0));
    // Its write may have been handed off as well, while there was no thread to spare.
    assert_eq!(count(1, Kind::Flush), 1);
    assert!(counters.iter().all(|of| of.written_bytes == BLOCK as u64 && of.write_commands == 1));
    let invalid = initiator.execute(0, &[0xff, 0, 0, 0, 0, 0], Data::None);
    invalid.check((0x05, 0x20, 0x00));
    assert_eq!(world.node.senses()[5], 1);
}

/// Writes of one block each, in one piece: their tags.
pub fn at_once(initiator: &mut Initiator, writes: &[(u32, u8)]) -> Vec<u32> {
    let mut bytes = Vec::new();
    let tags = writes.iter().map(|(lba, fill)| {
        let (tag, pdu) = initiator.command(lun(0), &write(*lba, 1), Data::Out(&[*fill; BLOCK]));
        bytes.extend(pdu);
        tag
    });
    let tags = tags.collect();
    initiator.wire.send_bytes(&bytes);
    tags
}

#[test]
fn of_writes_that_came_together_only_the_one_that_hangs_is_waited_for() {
    let (world, hung) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let block = BLOCK as u64;
    let gate = hung.gate_within(Operation::Write, 6 * block..7 * block);
    // None adjoins another.
    let writes: Vec<_> = (0..20).map(|number| (2 * number, number as u8 + 1)).collect();
    let tags = at_once(&mut initiator, &writes);
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    for (number, tag) in tags.iter().enumerate().filter(|(number, _)| *number != 3) {
        initiator.finish(*tag).good();
        let data = initiator.execute(0, &read(2 * number as u32, 1), Data::In(BLOCK)).good();
        assert_eq!(data, [number as u8 + 1; BLOCK]);
    }
    assert!(!initiator.is_answered(tags[3]));
    // It is known to everybody who waits for writes.
    let function = initiator.start_function(ABORT_TASK_SET, lun(0), None);
    initiator.nop();
    assert!(!initiator.is_answered(function));
    gate.open();
    assert_eq!(initiator.finish_function(function), COMPLETE);
    assert!(!initiator.is_answered(tags[3]));
}

#[test]
fn writes_that_came_together_are_made_in_their_order_and_fail_each_for_itself() {
    let (world, image) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let bad = 7 * BLOCK as u64;
    image.inject(Fault::errno(Operation::Write, 5).within(bad..bad + 1));
    let writes: Vec<_> = [3, 7, 3, 7, 8, 3].into_iter().zip(1..).collect();
    let tags = at_once(&mut initiator, &writes);
    for ((lba, _), tag) in writes.iter().zip(tags) {
        match lba {
            7 => initiator.finish(tag).check((3, 0x0c, 0)),
            _ => drop(initiator.finish(tag).good()),
        }
    }
    assert_eq!(initiator.execute(0, &read(3, 1), Data::In(BLOCK)).good(), [6; BLOCK]);
    assert_eq!(initiator.execute(0, &read(8, 1), Data::In(BLOCK)).good(), [5; BLOCK]);
    // A read that comes with writes finds what those in front of it have written, and no more.
    let mut bytes = Vec::new();
    let mut send = |cdb: [u8; 10], data| {
        let (tag, pdu) = initiator.command(lun(0), &cdb, data);
        bytes.extend(pdu);
        tag
    };
    send(write(3, 1), Data::Out(&[8; BLOCK]));
    let found = send(read(3, 1), Data::In(BLOCK));
    let last = send(write(3, 1), Data::Out(&[9; BLOCK]));
    initiator.wire.send_bytes(&bytes);
    assert_eq!(initiator.finish(found).good(), [8; BLOCK]);
    initiator.finish(last).good();
    assert_eq!(initiator.execute(0, &read(3, 1), Data::In(BLOCK)).good(), [9; BLOCK]);
}

#[test]
fn a_long_write_whose_first_piece_hangs_arrives_whole() {
    let (world, hung) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let gate = hung.gate(Operation::Write);
    let data = Random::new(3).bytes(3 << 20);
    let tag = initiator.start(0, &write(0, 6144), Data::Out(&data));
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    initiator.nop();
    gate.open();
    initiator.finish(tag).good();
    assert!(initiator.execute(0, &read(0, 6144), Data::In(3 << 20)).good() == data);
}

#[test]
fn functions_wait_for_the_write_that_they_end_and_for_no_other() {
    for function in
        [ABORT_TASK, ABORT_TASK_SET, CLEAR_TASK_SET, LOGICAL_UNIT_RESET, TARGET_WARM_RESET]
    {
        let (world, hung) = World::with_memory();
        world.unit(1, memory(1 << 20));
        let mut initiator = world.initiator(&[0, 1]);
        let mut other = world.initiator(&[0, 1]);
        let gate = hung.gate(Operation::Write);
        let tag = initiator.start(0, &write(50, 1), Data::Out(&[7; BLOCK]));
        assert!(gate.wait_for_arrivals(1, PATIENCE));
        // From another session, of a unit that does not hang.
        let quick = other.start_function(LOGICAL_UNIT_RESET, lun(1), None);
        assert_eq!(other.finish_function(quick), COMPLETE);
        let own = function == ABORT_TASK || function == ABORT_TASK_SET;
        let by = if own { &mut initiator } else { &mut other };
        let slow = by.start_function(function, lun(0), (function == ABORT_TASK).then_some(tag));
        by.nop();
        by.execute(1, &read(0, 1), Data::In(BLOCK)).check(RESET);
        by.execute(1, &read(0, 1), Data::In(BLOCK)).good();
        assert!(!by.is_answered(slow), "{function}: the task can still write");
        gate.open();
        assert_eq!(by.finish_function(slow), COMPLETE);
        initiator.nop();
        assert!(!initiator.is_answered(tag));
    }
}

#[test]
fn a_function_that_waits_for_too_long_is_rejected_once() {
    let world = impatient();
    let hung = memory(1 << 20);
    world.unit(0, hung.clone());
    let mut initiator = world.initiator(&[0]);
    let mut other = world.initiator(&[0]);
    let gate = hung.gate(Operation::Write);
    let tag = initiator.start(0, &write(50, 1), Data::Out(&[7; BLOCK]));
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    let abort = initiator.start_function(ABORT_TASK, lun(0), Some(tag));
    assert_eq!(initiator.finish_function(abort), REJECTED);
    let mut rejected = Vec::new();
    for function in [CLEAR_TASK_SET, LOGICAL_UNIT_RESET, TARGET_WARM_RESET] {
        let reset = other.start_function(function, lun(0), None);
        assert_eq!(other.finish_function(reset), REJECTED, "{function}");
        rejected.push(reset);
    }
    gate.open();
    let reset = other.start_function(LOGICAL_UNIT_RESET, lun(0), None);
    assert_eq!(other.finish_function(reset), COMPLETE);
    for initiator in [&mut initiator, &mut other] {
        initiator.nop();
    }
    assert!(!initiator.is_answered(tag), "it was aborted");
    assert!(!initiator.is_answered(abort), "a second answer");
    assert!(rejected.iter().all(|tag| !other.is_answered(*tag)), "a second answer");
}

#[test]
fn a_cold_reset_that_waits_for_too_long_closes_the_sessions_all_the_same() {
    let world = impatient();
    let hung = memory(1 << 20);
    world.unit(0, hung.clone());
    let mut initiator = world.initiator(&[0]);
    let mut other = world.initiator(&[0]);
    let gate = hung.gate(Operation::Write);
    initiator.start(0, &write(50, 1), Data::Out(&[7; BLOCK]));
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    let reset = other.start_function(TARGET_COLD_RESET, lun(0), None);
    assert_eq!(other.finish_function(reset), REJECTED);
    other.read_to_end();
    assert_eq!(world.events.wait_for_end(other.tsih), SessionEnd::TargetGone);
    gate.open();
    initiator.read_to_end();
    assert_eq!(world.events.wait_for_end(initiator.tsih), SessionEnd::TargetGone);
}

#[test]
fn a_login_that_would_end_a_session_whose_write_hangs_is_told_to_come_again() {
    let world = impatient();
    let hung = memory(1 << 20);
    world.unit(0, hung.clone());
    let login = world.login();
    let mut initiator = world.log_in(&login);
    initiator.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
    let gate = hung.gate(Operation::Write);
    initiator.start(0, &write(50, 1), Data::Out(&[7; BLOCK]));
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    assert_eq!(world.refusal(&login), Refusal::Status(0x0301));
    // The old session takes nothing any more.
    world.initiator(&[0]).nop();
    gate.open();
    eventually(|| Initiator::log_in(world.address, &login).is_ok());
}

#[test]
fn an_atomic_command_waits_for_a_write_that_hangs_though_its_session_goes_on() {
    let (world, hung) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let mut other = world.initiator(&[0]);
    let gate = hung.gate(Operation::Write);
    let tag = initiator.start(0, &write(8, 1), Data::Out(&[7; BLOCK]));
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    // The session enters the unit again, and leaves it.
    initiator.execute(0, &read(9, 1), Data::In(BLOCK)).good();
    let mut compare = [0; 16];
    (compare[0], compare[9], compare[13]) = (0x89, 8, 1);
    let reads = hung.calls(Operation::Read);
    let data = [[0; BLOCK], [9; BLOCK]].concat();
    let swap = other.start(0, &compare, Data::Out(&data));
    other.nop();
    assert_eq!((hung.calls(Operation::Read), other.is_answered(swap)), (reads, false));
    gate.open();
    initiator.finish(tag).good();
    other.finish(swap).check((0x0e, 0x1d, 0));
}

/// It comes while the connection waits for its turn to write, behind one that hangs, or before or after
/// that: so at several moments. Can miss a fault, and cannot invent one.
#[test]
fn a_message_that_comes_while_a_connection_waits_for_its_turn_is_heard() {
    let block = Random::new(4).bytes(BLOCK);
    for moment in 0..16 {
        let (world, hung) = World::with_memory();
        let (mut one, mut other) = (world.initiator(&[0]), world.initiator(&[0]));
        let gate = hung.gate(Operation::Write);
        one.start(0, &write(50, 1), Data::Out(&block));
        assert!(gate.wait_for_arrivals(1, PATIENCE));
        other.start(0, &write(60, 1), Data::Out(&block));
        std::thread::sleep(Duration::from_micros(500 * moment));
        let mut trace = world.node.trace(other.tsih).unwrap();
        assert!(world.block_on(poll_fn(|cx| trace.poll_next(cx))).is_some());
        gate.open();
    }
}
