//! What an initiator is told of once: power on, and changes of the target's units.

use crate::initiator::{Data, Initiator};
use crate::world::{BLOCK, TARGET, TEST_UNIT_READY, World, memory, read, write};

const POWER_ON: (u8, u8, u8) = (6, 0x29, 0);
const LUNS_CHANGED: (u8, u8, u8) = (6, 0x3f, 0x0e);
const NO_UNIT: (u8, u8, u8) = (5, 0x25, 0);

fn test_unit_ready(initiator: &mut Initiator, lun: u16) -> (u8, u8, u8) {
    initiator.execute(lun, &TEST_UNIT_READY, Data::None).sense()
}

fn report_luns(initiator: &mut Initiator) -> Vec<u16> {
    let cdb = [0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    let data = initiator.execute(0, &cdb, Data::In(256)).good();
    data[8..].chunks(8).map(|lun| u16::from_be_bytes([lun[0], lun[1]])).collect()
}

#[test]
fn power_on_is_told_once_for_each_unit_and_session() {
    let (world, _) = World::with_memory();
    world.unit(1, memory(1 << 20));
    for _ in 0..2 {
        let mut initiator = world.log_in(&world.login());
        // These say nothing of it and leave it there.
        initiator.execute(0, &[0x12, 0, 0, 0, 36, 0], Data::In(36)).good();
        assert_eq!(report_luns(&mut initiator), [0, 1]);
        for lun in [0, 1] {
            let data = initiator.execute(lun, &read(0, 1), Data::In(BLOCK));
            data.check(POWER_ON);
            initiator.execute(lun, &read(0, 1), Data::In(BLOCK)).good();
            assert_eq!(test_unit_ready(&mut initiator, lun), (0, 0, 0));
        }
        assert_eq!(test_unit_ready(&mut initiator, 2), NO_UNIT);
    }
}

#[test]
fn a_write_that_is_told_of_an_attention_writes_nothing() {
    let (world, _) = World::with_memory();
    let mut initiator = world.log_in(&world.login());
    // With immediate data, and with unsolicited data behind it.
    for length in [BLOCK, 300 << 10] {
        world.unit(1, memory(1 << 20));
        initiator.nop();
        let data = vec![1; length];
        let cdb = write(0, length / BLOCK);
        initiator.execute(1, &cdb, Data::Out(&data)).check(POWER_ON);
        let read = initiator.execute(1, &read(0, length / BLOCK), Data::In(length)).good();
        assert!(read.iter().all(|byte| *byte == 0));
        initiator.execute(1, &cdb, Data::Out(&data)).good();
        world.block_on(world.node.remove_unit(TARGET, 1)).unwrap();
    }
}

#[test]
fn a_unit_that_is_added_can_be_used_without_a_new_login() {
    let (world, _) = World::with_memory();
    let mut sessions = [world.initiator(&[0]), world.initiator(&[0])];
    assert_eq!(test_unit_ready(&mut sessions[0], 300), NO_UNIT);
    world.unit(300, memory(1 << 20));
    for (initiator, byte) in sessions.iter_mut().zip([1, 2]) {
        // What was sent to a session stands before what comes from its initiator.
        initiator.nop();
        assert_eq!(test_unit_ready(initiator, 0), LUNS_CHANGED);
        assert_eq!(test_unit_ready(initiator, 0), (0, 0, 0));
        assert_eq!(report_luns(initiator), [0, 0x4000 | 300]);
        assert_eq!(test_unit_ready(initiator, 300), POWER_ON);
        let data = [byte; BLOCK];
        initiator.execute(300, &write(5, 1), Data::Out(&data)).good();
        assert_eq!(initiator.execute(300, &read(5, 1), Data::In(BLOCK)).good(), data);
    }
}

#[test]
fn a_unit_that_is_removed_is_told_of_through_those_that_stay() {
    let (world, _) = World::with_memory();
    world.unit(1, memory(1 << 20));
    let mut initiator = world.initiator(&[0, 1]);
    world.block_on(world.node.remove_unit(TARGET, 1)).unwrap();
    assert_eq!(test_unit_ready(&mut initiator, 1), NO_UNIT);
    assert_eq!(test_unit_ready(&mut initiator, 0), LUNS_CHANGED);
    assert_eq!(test_unit_ready(&mut initiator, 0), (0, 0, 0));
    assert_eq!(report_luns(&mut initiator), [0]);
    // Another unit of the same LUN is a new one.
    world.unit(1, memory(2 << 20));
    initiator.nop();
    assert_eq!(test_unit_ready(&mut initiator, 1), POWER_ON);
    assert_eq!(test_unit_ready(&mut initiator, 0), LUNS_CHANGED);
}

#[test]
fn changes_from_many_threads_leave_every_session_with_all_units() {
    let world = World::new();
    let mut initiator = world.log_in(&world.login());
    std::thread::scope(|scope| {
        for thread in 0..4_u16 {
            let world = &world;
            scope.spawn(move || {
                for number in 0..50 {
                    world.unit(thread * 50 + number, memory(BLOCK as u64));
                }
            });
        }
    });
    initiator.nop();
    let cdb = [0xa0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0];
    let data = initiator.execute(0, &cdb, Data::In(4096)).good();
    assert_eq!(data.len(), 8 + 200 * 8);
}

#[test]
fn a_unit_that_grows_is_larger_at_once_and_every_session_is_told() {
    let (world, image) = World::with_memory();
    let unit = world.node.clone();
    let other = world.unit(1, image.clone());
    let mut sessions = [world.initiator(&[0, 1]), world.initiator(&[0, 1])];
    let beyond = u32::try_from((8 << 20) / BLOCK).unwrap();
    let outside = sessions[0].execute(1, &read(beyond, 1), Data::In(BLOCK));
    outside.check((5, 0x21, 0));
    unit.grow_unit(&other, 9 << 20).unwrap();
    for session in &mut sessions {
        // Only where it happened.
        session.execute(0, &read(0, 1), Data::In(BLOCK)).good();
        session.execute(1, &read(beyond, 1), Data::In(BLOCK)).check((6, 0x2a, 9));
        assert_eq!(session.execute(1, &read(beyond, 1), Data::In(BLOCK)).good(), [0; BLOCK]);
    }
    // As large as it is already, or less: nothing to tell.
    unit.grow_unit(&other, 9 << 20).unwrap();
    unit.grow_unit(&other, 1 << 20).unwrap();
    sessions[0].execute(1, &read(beyond, 1), Data::In(BLOCK)).good();
}

#[test]
fn a_unit_answers_in_every_addressing_method_and_where_there_is_none_inquiry_says_so() {
    let world = World::new();
    world.unit(0, memory(1 << 20));
    world.unit(5, memory(2 << 20));
    let mut initiator = world.initiator(&[0, 5]);
    let mut ask = |lun: u64, cdb: &[u8], length: usize| {
        let tag = initiator.start_at(lun, cdb, Data::In(length));
        initiator.finish(tag)
    };
    let capacity = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // Peripheral device, flat space and extended flat space addressing.
    for lun in [0x0005_0000_0000_0000, 0x4005_0000_0000_0000, 0xd200_0005_0000_0000] {
        assert_eq!(ask(lun, &capacity, 8).good()[..4], 4095u32.to_be_bytes(), "{lun:016x}");
    }
    for lun in [0x0006_0000_0000_0000, 0xc101_0000_0000_0000, 0x0005_0001_0000_0000] {
        assert_eq!(ask(lun, &[0x12, 0, 0, 0, 36, 0], 36).good()[0], 0x7f, "{lun:016x}");
        ask(lun, &capacity, 8).check((5, 0x25, 0));
    }
}
