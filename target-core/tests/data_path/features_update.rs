//! RFC 7144: what sessions of iSCSIProtocolLevel 2 have.

use disk_image::Operation;
use iscsi_proto::Lun;
use target_core::SessionEnd;

use crate::initiator::{Data, Initiator};
use crate::task_management::{
    ABORT_TASK, IT_NEXUS_RESET, LOGICAL_UNIT_RESET, QUERY_ASYNCHRONOUS_EVENT, QUERY_TASK,
    QUERY_TASK_SET, hanging_write,
};
use crate::wire::Login;
use crate::world::{TEST_UNIT_READY, World, memory};

const COMPLETE: u8 = 0;
const NO_SUCH_UNIT: u8 = 2;
const REJECTED: u8 = 255;
const SUCCEEDED: u8 = 7;
const RESERVE: [u8; 6] = [0x16, 0, 0, 0, 0, 0];
const RESERVATION_CONFLICT: u8 = 0x18;

/// A login that asks for a protocol level.
fn at_level(world: &World, level: &str) -> Login {
    let mut login = world.login();
    login.keys.push(("iSCSIProtocolLevel", level.to_owned()));
    login
}

/// An initiator of level 2 that has heard of POWER ON of LUN 0.
fn initiator(world: &World) -> Initiator {
    let mut initiator = world.log_in(&at_level(world, "2"));
    assert_eq!(initiator.answers["iSCSIProtocolLevel"], "2");
    initiator.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
    initiator
}

fn ask(initiator: &mut Initiator, function: u8, lun: u64, referenced: Option<u32>) -> u8 {
    let tag = initiator.start_function(function, lun, referenced);
    initiator.finish_function(tag)
}

#[test]
fn the_level_is_the_lower_one_of_both() {
    let (world, _) = World::with_memory();
    for (asked, answered) in [("0", "0"), ("1", "1"), ("2", "2"), ("31", "2")] {
        let initiator = world.log_in(&at_level(&world, asked));
        assert_eq!(initiator.answers["iSCSIProtocolLevel"], answered);
    }
}

#[test]
fn tasks_can_be_asked_for_as_long_as_they_are_there() {
    let (world, image) = World::with_memory();
    world.unit(1, memory(1 << 20));
    let mut initiator = initiator(&world);
    let mut other = self::initiator(&world);
    assert_eq!(ask(&mut initiator, QUERY_TASK_SET, 0, None), COMPLETE);
    let gate = image.gate(Operation::Write);
    let tag = hanging_write(&mut initiator, &gate, 1);
    let second = Lun::from_number(1).0;
    for (function, lun, expected) in [
        (QUERY_TASK, 0, SUCCEEDED),
        (QUERY_TASK, second, COMPLETE),
        (QUERY_TASK_SET, 0, SUCCEEDED),
        (QUERY_TASK_SET, second, COMPLETE),
        (QUERY_TASK, Lun::from_number(9).0, NO_SUCH_UNIT),
        (QUERY_TASK_SET, Lun::from_number(9).0, NO_SUCH_UNIT),
        (QUERY_ASYNCHRONOUS_EVENT, Lun::from_number(9).0, NO_SUCH_UNIT),
    ] {
        assert_eq!(ask(&mut initiator, function, lun, Some(tag)), expected, "{function} {lun:x}");
    }
    // Of another nexus: it is not asked for.
    assert_eq!(ask(&mut other, QUERY_TASK_SET, 0, None), COMPLETE);
    gate.open();
    initiator.finish(tag).good();
    assert_eq!(ask(&mut initiator, QUERY_TASK, 0, Some(tag)), COMPLETE);
    assert_eq!(ask(&mut initiator, QUERY_TASK_SET, 0, None), COMPLETE);
}

#[test]
fn the_next_unit_attention_can_be_looked_at() {
    let (world, _) = World::with_memory();
    let mut initiator = world.log_in(&at_level(&world, "2"));
    let look = |initiator: &mut Initiator| {
        let tag = initiator.start_function(QUERY_ASYNCHRONOUS_EVENT, 0, None);
        initiator.finish_query(tag)
    };
    // Twice: looking at it changes nothing.
    for _ in 0..2 {
        assert_eq!(look(&mut initiator), (SUCCEEDED, [0x16, 0x29, 0x00]), "one: POWER ON");
    }
    world.unit(1, memory(1 << 20));
    while look(&mut initiator).1 != [0x26, 0x29, 0x00] {}
    initiator.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
    assert_eq!(look(&mut initiator), (SUCCEEDED, [0x16, 0x3f, 0x0e]));
    initiator.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x3f, 0x0e));
    assert_eq!(look(&mut initiator), (COMPLETE, [0; 3]));
}

#[test]
fn a_nexus_reset_ends_the_tasks_of_its_nexus_and_of_no_other() {
    let (world, image) = World::with_memory();
    world.unit(1, memory(1 << 20));
    let mut requester = initiator(&world);
    let mut other = initiator(&world);
    requester.execute(1, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
    let gate = image.gate(Operation::Write);
    let own = hanging_write(&mut requester, &gate, 1);
    let kept = hanging_write(&mut other, &gate, 2);
    // The LUN is reserved, whatever it says.
    let function = requester.start_function(IT_NEXUS_RESET, Lun::from_number(9).0, None);
    for _ in 0..3 {
        requester.nop();
    }
    assert!(!requester.is_answered(function), "answered while its write can still write");
    gate.open();
    assert_eq!(requester.finish_function(function), COMPLETE);
    // All connections of the session are dropped.
    requester.read_to_end();
    assert!(!requester.is_answered(own));
    assert_eq!(world.events.wait_for_end(requester.tsih), SessionEnd::NexusReset);
    other.finish(kept).good();
    other.execute(0, &TEST_UNIT_READY, Data::None).good();
}

#[test]
fn a_nexus_reset_gives_a_reserved_unit_back() {
    let (world, _) = World::with_memory();
    let mut holder = initiator(&world);
    let mut other = initiator(&world);
    holder.execute(0, &RESERVE, Data::None).good();
    let refused = other.execute(0, &RESERVE, Data::None);
    assert_eq!(refused.status, RESERVATION_CONFLICT);
    assert_eq!(ask(&mut holder, IT_NEXUS_RESET, 0, None), COMPLETE);
    holder.read_to_end();
    other.execute(0, &RESERVE, Data::None).good();
}

#[test]
fn a_function_is_no_task_that_can_be_aborted_or_asked_for() {
    let (world, image) = World::with_memory();
    let mut initiator = initiator(&world);
    let gate = image.gate(Operation::Write);
    hanging_write(&mut initiator, &gate, 1);
    let reset = initiator.start_function(LOGICAL_UNIT_RESET, 0, None);
    for function in [ABORT_TASK, QUERY_TASK] {
        assert_eq!(ask(&mut initiator, function, 0, Some(reset)), REJECTED, "{function}");
    }
    gate.open();
    assert_eq!(initiator.finish_function(reset), COMPLETE);
}

#[test]
fn inquiry_names_the_level_of_the_session() {
    let (world, _) = World::with_memory();
    for (level, descriptor) in [("0", 0x60), ("1", 0x61), ("2", 0x62)] {
        let mut initiator = world.log_in(&at_level(&world, level));
        let inquiry = initiator.execute(0, &[0x12, 0, 0, 0, 96, 0], Data::In(96)).good();
        assert_eq!(inquiry[60..62], [0x09, descriptor]);
    }
}

#[test]
fn the_functions_are_reported_where_they_are_there() {
    let (world, _) = World::with_memory();
    let cdb = [0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0];
    for (level, expected) in [("1", [0xda, 0, 0, 0]), ("2", [0xde, 0x07, 0, 0])] {
        let mut initiator = world.log_in(&at_level(&world, level));
        initiator.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
        assert_eq!(initiator.execute(0, &cdb, Data::In(4)).good(), expected);
    }
}
