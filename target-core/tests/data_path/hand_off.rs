//! I/O that may sleep runs elsewhere, and a unit that hangs holds nobody else up.

use std::sync::Arc;

use disk_image::{Fault, FaultImage, ImageErrorKind, Operation};
use iscsi_proto::Lun;

use crate::initiator::{Data, Initiator};
use crate::task_management::ABORT_TASK_SET;
use crate::wire::PATIENCE;
use crate::world::{
    BLOCK, Random, SYNCHRONIZE_CACHE, TEST_UNIT_READY, World, durable_write, memory, read, write,
};

/// Reads that are not in the page cache.
fn uncached(image: &FaultImage) {
    image.inject(Fault::kind(Operation::Read, ImageErrorKind::WouldBlock).times(1));
}

#[test]
fn a_read_that_would_block_is_answered_all_the_same() {
    let (world, image) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let data = Random::new(1).bytes(256 * BLOCK);
    initiator.execute(0, &write(16, 256), Data::Out(&data)).good();
    for _ in 0..20 {
        uncached(&image);
        let calls = image.calls(Operation::Read);
        let outcome = initiator.execute(0, &read(16, 256), Data::In(256 * BLOCK));
        assert!(outcome.good() == data);
        assert_eq!(image.calls(Operation::Read), calls + 2);
    }
    // With a residual either way.
    uncached(&image);
    let less = initiator.execute(0, &read(16, 2), Data::In(4 * BLOCK));
    assert_eq!((less.residual, less.data == data[..2 * BLOCK]), (2 * BLOCK as i64, true));
    uncached(&image);
    let more = initiator.execute(0, &read(16, 4), Data::In(3 * BLOCK));
    assert_eq!((more.residual, more.data == data[..3 * BLOCK]), (-(BLOCK as i64), true));
    assert_eq!(world.events.faults(), 0);
}

#[test]
fn reads_that_are_handed_off_overtake_nothing_of_each_others_data() {
    let (world, image) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let data = Random::new(2).bytes(100 * BLOCK);
    initiator.execute(0, &write(0, 100), Data::Out(&data)).good();
    let gate = image.gate(Operation::Read);
    let tags: Vec<_> =
        (0..100).map(|lba| initiator.start(0, &read(lba, 1), Data::In(BLOCK))).collect();
    assert!(gate.wait_for_arrivals(2, PATIENCE));
    gate.open();
    for (tag, block) in tags.into_iter().zip(data.chunks(BLOCK)) {
        assert!(initiator.finish(tag).good() == block);
    }
}

#[test]
fn a_unit_that_hangs_holds_up_only_its_own_commands() {
    let (world, hung) = World::with_memory();
    world.unit(1, memory(1 << 20));
    let mut initiator = world.initiator(&[0, 1]);
    let mut other = world.initiator(&[0, 1]);
    let gates = [
        hung.gate(Operation::Read),
        hung.gate(Operation::Write),
        hung.gate(Operation::Flush),
        hung.gate(Operation::Health),
    ];
    let block = Random::new(3).bytes(BLOCK);
    let mut tags: Vec<_> =
        (0..40).map(|lba| initiator.start(0, &read(lba, 1), Data::In(BLOCK))).collect();
    tags.push(initiator.start(0, &durable_write(50, 1), Data::Out(&block)));
    tags.push(initiator.start(0, &SYNCHRONIZE_CACHE, Data::None));
    // A unit has sixteen threads, of which a health check may have taken some.
    assert!(gates[0].wait_for_arrivals(8, PATIENCE));
    for initiator in [&mut initiator, &mut other] {
        initiator.nop();
        initiator.execute(1, &TEST_UNIT_READY, Data::None).good();
        initiator.execute(1, &write(0, 1), Data::Out(&block)).good();
        assert!(initiator.execute(1, &read(0, 1), Data::In(BLOCK)).good() == block);
        // What needs no medium, of the unit that hangs.
        initiator.execute(0, &[0x12, 0, 0, 0, 36, 0], Data::In(36)).good();
        initiator.execute(0, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], Data::In(8)).good();
        let function = initiator.start_function(2, 1 << 48, None);
        assert_eq!(initiator.finish_function(function), 0);
    }
    let mut late = world.initiator(&[0, 1]);
    late.execute(1, &TEST_UNIT_READY, Data::None).good();
    assert_eq!(late.log_out(), 0);
    assert!(tags.iter().all(|tag| !initiator.is_answered(*tag)));
    for gate in gates {
        gate.open();
    }
    for tag in tags {
        initiator.finish(tag).good();
    }
}

#[test]
fn a_cached_write_that_hangs_holds_up_only_its_own_session() {
    let (world, hung) = World::with_memory();
    world.unit(1, memory(1 << 20));
    let mut initiator = world.initiator(&[0, 1]);
    let mut other = world.initiator(&[0, 1]);
    let gate = hung.gate(Operation::Write);
    let block = Random::new(4).bytes(BLOCK);
    let tag = initiator.start(0, &write(50, 1), Data::Out(&block));
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    other.nop();
    other.execute(1, &write(0, 1), Data::Out(&block)).good();
    other.execute(0, &TEST_UNIT_READY, Data::None).good();
    world.initiator(&[0, 1]).nop();
    gate.open();
    initiator.finish(tag).good();
    assert!(other.execute(0, &read(50, 1), Data::In(BLOCK)).good() == block);
}

#[test]
fn cached_writes_that_hang_in_many_sessions_at_once_hold_up_no_other() {
    let (world, hung) = World::with_memory();
    world.unit(1, memory(1 << 20));
    let mut writers: Vec<_> = (0..12).map(|_| world.initiator(&[0])).collect();
    let mut other = world.initiator(&[1]);
    let gate = hung.gate(Operation::Write);
    let start = |(lba, writer): (u32, &mut Initiator)| {
        writer.start(0, &write(lba, 1), Data::Out(&[7; BLOCK]))
    };
    let tags: Vec<_> = (0..).zip(&mut writers).map(start).collect();
    // As many as the runtime has threads.
    assert!(gate.wait_for_arrivals(3, PATIENCE));
    other.nop();
    other.execute(1, &write(0, 1), Data::Out(&[8; BLOCK])).good();
    let mut late = world.initiator(&[1]);
    let tag = late.start_function(ABORT_TASK_SET, Lun::from_number(1).0, None);
    assert_eq!(late.finish_function(tag), 0);
    gate.open();
    for (writer, tag) in writers.iter_mut().zip(tags) {
        writer.finish(tag).good();
    }
    let data = writers[0].execute(0, &read(0, 12), Data::In(12 * BLOCK)).good();
    assert!(data.iter().all(|byte| *byte == 7));
}

#[test]
fn many_units_that_hang_leave_one_that_does_not() {
    let world = World::new();
    let hung: Vec<Arc<FaultImage>> = (0..20).map(|_| memory(1 << 20)).collect();
    for (lun, image) in (1..).zip(&hung) {
        world.unit(lun, image.clone());
    }
    let healthy = memory(1 << 20);
    world.unit(0, healthy.clone());
    let luns: Vec<u16> = (0..=20).collect();
    let mut initiator = world.initiator(&luns);
    let gates: Vec<_> = hung.iter().map(|image| image.gate(Operation::Read)).collect();
    for lun in 1..=20 {
        for lba in 0..6 {
            initiator.start(lun, &read(lba, 1), Data::In(BLOCK));
        }
    }
    for gate in &gates {
        assert!(gate.wait_for_arrivals(6, PATIENCE));
    }
    uncached(&healthy);
    initiator.execute(0, &read(0, 1), Data::In(BLOCK)).good();
    for gate in gates {
        gate.open();
    }
}

#[test]
fn an_atomic_write_lets_no_reader_in_until_it_is_whole() {
    let (world, image) = World::with_memory();
    let (mut initiator, mut other) = (world.initiator(&[0]), world.initiator(&[0]));
    let data = Random::new(4).bytes(8 * BLOCK);
    let mut atomic = [0; 16];
    atomic[0] = 0x9c;
    (atomic[9], atomic[13]) = (16, 8);
    let gate = image.gate(Operation::Write);
    let tag = initiator.start(0, &atomic, Data::Out(&data));
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    let reads = image.calls(Operation::Read);
    let read = other.start(0, &read(16, 8), Data::In(8 * BLOCK));
    // The round trip comes after the read, which would have been answered by now.
    other.nop();
    assert!(!other.is_answered(read));
    assert_eq!(image.calls(Operation::Read), reads);
    gate.open();
    initiator.finish(tag).good();
    assert!(other.finish(read).good() == data);
    // All of the data or none of it: nothing is written of a command that sends less.
    let short = initiator.execute(0, &atomic, Data::Out(&data[..BLOCK]));
    short.check((5, 0x24, 0));
    assert_eq!(image.calls(Operation::Write), 1);
}

#[test]
fn what_commands_gather_is_bounded_and_who_goes_beyond_it_may_come_again() {
    let (world, _image) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let data = vec![0x0f; 4 << 20];
    // ORWRITE(16) needs all of its data at once.
    let mut cdb = [0; 16];
    (cdb[0], cdb[12]) = (0x8b, 0x20);
    initiator.hold_r2t = true;
    let tags: Vec<_> = (0..5).map(|_| initiator.start(0, &cdb, Data::Out(&data))).collect();
    let outcome = initiator.finish(tags[4]);
    // TASK SET FULL.
    assert_eq!((outcome.status, outcome.sense.len()), (0x28, 0));
    initiator.hold_r2t = false;
    while let Some(r2t) = initiator.held_r2t.pop_front() {
        initiator.answer_r2t(&r2t);
    }
    for tag in &tags[..4] {
        initiator.finish(*tag).good();
    }
    initiator.execute(0, &cdb, Data::Out(&data)).good();
    assert_eq!(initiator.execute(0, &read(0, 1), Data::In(BLOCK)).good(), [0x0f; BLOCK]);
}
