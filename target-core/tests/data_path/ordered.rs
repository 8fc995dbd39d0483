//! Task attributes (SAM-5 §8.6): what an ORDERED command waits for, and what waits for it.

use disk_image::{FaultImage, Gate, Operation};
use iscsi_proto::Lun;

use crate::initiator::{Data, Initiator};
use crate::task_management::{ABORT_TASK, ABORT_TASK_SET, LOGICAL_UNIT_RESET};
use crate::wire::PATIENCE;
use crate::world::{
    BLOCK, Random, TEST_UNIT_READY, World, durable_write, eventually, memory, read, write,
};

const SIMPLE: u8 = 1;
const ORDERED: u8 = 2;
const HEAD_OF_QUEUE: u8 = 3;
const ACA: u8 = 4;

const OLD: [u8; BLOCK] = [0; BLOCK];
const NEW: [u8; BLOCK] = [0x22; BLOCK];

/// Starts a command of LUN 0 with a task attribute.
fn start(initiator: &mut Initiator, attribute: u8, cdb: &[u8], data: Data<'_>) -> u32 {
    let (tag, mut bytes) = initiator.command(Lun::from_number(0).0, cdb, data);
    bytes[1] = bytes[1] & !0x07 | attribute;
    initiator.wire.send_bytes(&bytes);
    tag
}

/// A SIMPLE write to block 100 that the medium holds on to.
fn hanging_write(initiator: &mut Initiator, image: &FaultImage) -> (Gate, u32) {
    let gate = image.gate_within(Operation::Write, 100 * BLOCK as u64..101 * BLOCK as u64);
    let tag = start(initiator, SIMPLE, &durable_write(100, 1), Data::Out(&NEW));
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    (gate, tag)
}

#[test]
fn an_ordered_command_waits_for_all_before_it_and_all_behind_wait_for_it() {
    let (world, image) = World::with_memory();
    // The older command comes from the same session, and from another one.
    for from_another in [false, true] {
        let (mut one, mut two) = (world.initiator(&[0]), world.initiator(&[0]));
        one.execute(0, &write(8, 1), Data::Out(&OLD)).good();
        let older = if from_another { &mut two } else { &mut one };
        let (gate, first) = hanging_write(older, &image);
        let ordered = start(&mut one, ORDERED, &write(8, 1), Data::Out(&NEW));
        one.nop();
        let behind = start(&mut one, SIMPLE, &read(8, 1), Data::In(BLOCK));
        let elsewhere = start(&mut two, SIMPLE, &read(8, 1), Data::In(BLOCK));
        for session in [&mut one, &mut two] {
            session.nop();
            // That goes in front of everything.
            let head = start(session, HEAD_OF_QUEUE, &read(8, 1), Data::In(BLOCK));
            assert_eq!(session.finish(head).good(), OLD);
        }
        assert!(!one.is_answered(ordered) && !one.is_answered(behind));
        assert!(!two.is_answered(elsewhere));
        gate.open();
        one.finish(ordered).good();
        assert_eq!(one.finish(behind).good(), NEW);
        assert_eq!(two.finish(elsewhere).good(), NEW);
        if from_another { two.finish(first) } else { one.finish(first) }.good();
    }
}

#[test]
fn other_units_are_not_held_up() {
    let (world, image) = World::with_memory();
    world.unit(1, memory(1 << 20));
    let mut initiator = world.initiator(&[0, 1]);
    let (gate, first) = hanging_write(&mut initiator, &image);
    let ordered = start(&mut initiator, ORDERED, &TEST_UNIT_READY, Data::None);
    initiator.execute(1, &read(0, 1), Data::In(BLOCK)).good();
    assert!(!initiator.is_answered(ordered));
    gate.open();
    initiator.finish(first).good();
    initiator.finish(ordered).good();
}

#[test]
fn what_is_sent_with_a_dormant_write_is_kept_and_the_rest_is_asked_for() {
    let (world, image) = World::with_memory();
    let data = Random::new(5).bytes(1 << 20);
    // What comes unasked comes with the command, or behind it; then there are R2Ts.
    for (attribute, immediate) in [(ORDERED, "Yes"), (SIMPLE, "Yes"), (ORDERED, "No")] {
        let mut login = world.login();
        login.keys.push(("ImmediateData", immediate.to_owned()));
        let mut initiator = world.log_in(&login);
        initiator.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 0));
        let (gate, first) = hanging_write(&mut initiator, &image);
        let barrier = start(&mut initiator, ORDERED, &TEST_UNIT_READY, Data::None);
        let cdb = write(256, data.len() / BLOCK);
        let dormant = start(&mut initiator, attribute, &cdb, Data::Out(&data));
        initiator.nop();
        assert!(!initiator.is_answered(barrier));
        gate.open();
        for tag in [first, barrier, dormant] {
            initiator.finish(tag).good();
        }
        let blocks = data.len() / BLOCK;
        let found = initiator.execute(0, &read(256, blocks), Data::In(data.len())).good();
        assert!(found == data);
        initiator.execute(0, &write(256, blocks), Data::Out(&vec![0; data.len()])).good();
    }
}

#[test]
fn sessions_that_send_nothing_else_take_turns() {
    const SESSIONS: u32 = 4;
    const ROUNDS: u8 = 40;
    let (world, _) = World::with_memory();
    let world = &world;
    std::thread::scope(|scope| {
        for session in 0..SESSIONS {
            scope.spawn(move || {
                let mut initiator = world.initiator(&[0]);
                let mut random = Random::new(session.into());
                // All at once: each read is behind the write in front of it, before the next one.
                let mut sent = Vec::new();
                for round in 1..=ROUNDS {
                    let block = [round; BLOCK];
                    let cdb = if random.below(2) == 0 {
                        durable_write(session, 1)
                    } else {
                        write(session, 1)
                    };
                    let written = start(&mut initiator, ORDERED, &cdb, Data::Out(&block));
                    let attribute = if random.below(2) == 0 { ORDERED } else { SIMPLE };
                    let found =
                        start(&mut initiator, attribute, &read(session, 1), Data::In(BLOCK));
                    sent.push((round, written, found));
                }
                for (round, written, found) in sent {
                    initiator.finish(written).good();
                    let found = initiator.finish(found).good();
                    assert_eq!(found, [round; BLOCK], "session {session}");
                }
            });
        }
    });
}

#[test]
fn whoever_ends_dormant_commands_lets_the_others_go_on() {
    let (world, image) = World::with_memory();
    for function in [ABORT_TASK, ABORT_TASK_SET, LOGICAL_UNIT_RESET] {
        let (mut one, mut two) = (world.initiator(&[0]), world.initiator(&[0]));
        let (gate, older) = hanging_write(&mut two, &image);
        let ordered = start(&mut one, ORDERED, &write(8, 1), Data::Out(&NEW));
        one.nop();
        let behind = start(&mut two, SIMPLE, &TEST_UNIT_READY, Data::None);
        two.nop();
        assert!(!two.is_answered(behind));
        let referenced = (function == ABORT_TASK).then_some(ordered);
        let tag = one.start_function(function, Lun::from_number(0).0, referenced);
        if function == LOGICAL_UNIT_RESET {
            // The one that is dormant behind it ends as well, and nothing is left to wait for. What
            // comes behind the reset is answered, so it has ended them.
            one.nop();
            gate.open();
            assert_eq!(one.finish_function(tag), 0);
            two.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 3));
        } else {
            assert_eq!(one.finish_function(tag), 0);
            two.finish(behind).good();
            gate.open();
            two.finish(older).good();
        }
        one.execute(0, &TEST_UNIT_READY, Data::None);
        assert_eq!(one.execute(0, &read(8, 1), Data::In(BLOCK)).good(), OLD);
        let last = start(&mut two, ORDERED, &TEST_UNIT_READY, Data::None);
        two.finish(last).good();
    }
}

#[test]
fn a_session_that_ends_lets_the_others_go_on() {
    let (world, image) = World::with_memory();
    let (mut one, mut two) = (world.initiator(&[0]), world.initiator(&[0]));
    let (gate, older) = hanging_write(&mut two, &image);
    start(&mut one, ORDERED, &write(8, 1), Data::Out(&NEW));
    one.nop();
    let behind = start(&mut two, SIMPLE, &read(8, 1), Data::In(BLOCK));
    two.nop();
    assert!(!two.is_answered(behind));
    let tsih = one.tsih;
    drop(one);
    assert_eq!(two.finish(behind).good(), OLD);
    eventually(|| world.events.ended(tsih));
    gate.open();
    two.finish(older).good();
}

#[test]
fn an_attribute_that_there_is_not_is_a_message_error() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    for attribute in [ACA, 5, 7] {
        let tag = start(&mut initiator, attribute, &TEST_UNIT_READY, Data::None);
        initiator.finish(tag).check((5, 0x49, 0));
    }
    // No attribute is SIMPLE.
    let tag = start(&mut initiator, 0, &TEST_UNIT_READY, Data::None);
    initiator.finish(tag).good();
}

#[test]
fn what_dormant_commands_keep_is_bounded() {
    let (world, image) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let (gate, first) = hanging_write(&mut initiator, &image);
    let barrier = start(&mut initiator, ORDERED, &TEST_UNIT_READY, Data::None);
    // 64 of these have 16 MiB of data that comes unasked.
    let data = vec![1; 256 << 10];
    let cdb = write(1024, data.len() / BLOCK);
    let tags: Vec<_> =
        (0..70).map(|_| start(&mut initiator, SIMPLE, &cdb, Data::Out(&data))).collect();
    initiator.nop();
    gate.open();
    for tag in [first, barrier] {
        initiator.finish(tag).good();
    }
    let statuses: Vec<_> = tags.iter().map(|tag| initiator.finish(*tag).status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 0x28).count(), 6);
    assert!(statuses.iter().all(|status| matches!(status, 0 | 0x28)));
}
