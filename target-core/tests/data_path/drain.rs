//! The end of a node: what has begun is answered, then everybody goes.

use std::time::Duration;

use disk_image::Operation;
use target_core::SessionEnd;

use crate::initiator::Data;
use crate::task_management::hanging_write;
use crate::wire::{PATIENCE, Refusal};
use crate::world::{BLOCK, World, read, write};

#[test]
fn sessions_get_their_answers_before_they_end() {
    let (world, image) = World::with_memory();
    let mut idle = world.initiator(&[0]);
    let mut busy = world.initiator(&[0]);
    let (reads, writes) = (image.gate(Operation::Read), image.gate(Operation::Write));
    let tags: Vec<_> = (0..30).map(|lba| busy.start(0, &read(lba, 1), Data::In(BLOCK))).collect();
    assert!(reads.wait_for_arrivals(2, PATIENCE));
    busy.nop();
    let node = world.node.clone();
    let drain = world.spawn(async move { node.drain(PATIENCE).await });
    idle.read_to_end();
    assert_eq!(world.refusal(&world.login()), Refusal::Status(0x0301));
    assert!(!drain.is_finished());
    reads.open();
    writes.open();
    busy.read_to_end();
    for tag in tags {
        busy.finish(tag).good();
    }
    assert!(world.wait(drain));
    for tsih in [idle.tsih, busy.tsih] {
        assert_eq!(world.events.wait_for_end(tsih), SessionEnd::Drained);
    }
    assert!(world.node.sessions().is_empty());
}

#[test]
fn a_write_that_hangs_is_not_waited_for_longer_than_allowed() {
    let (world, image) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let gate = image.gate(Operation::Write);
    let tag = hanging_write(&mut initiator, &gate, 1);
    assert!(!world.block_on(world.node.drain(Duration::from_millis(50))));
    assert_eq!(world.node.sessions().len(), 1);
    gate.open();
    initiator.read_to_end();
    initiator.finish(tag).good();
    assert!(world.block_on(world.node.drain(PATIENCE)));
}

#[test]
fn a_write_whose_data_has_not_come_is_not_waited_for() {
    let (world, _) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    initiator.hold_r2t = true;
    let tag = initiator.start(0, &write(0, 2048), Data::Out(&vec![1; 1 << 20]));
    initiator.nop();
    assert!(world.block_on(world.node.drain(PATIENCE)));
    initiator.read_to_end();
    assert!(!initiator.is_answered(tag));
}
