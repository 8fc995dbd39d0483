//! Reads that are longer than what is read and sent at once.

use std::sync::Arc;
use std::time::Duration;

use disk_image::{Fault, FaultImage, ImageErrorKind, Operation};
use target_core::{NodeConfig, NodeState};

use crate::initiator::{Data, Initiator};
use crate::task_management::LOGICAL_UNIT_RESET;
use crate::wire::PATIENCE;
use crate::world::{BLOCK, Random, World, eventually, memory, read, write};

const LENGTH: usize = 1 << 20;
const BLOCKS: usize = LENGTH / BLOCK;
/// The longest read, and of these more than the sockets of both ends hold.
const LONGEST: usize = 4 << 20;
const READS: usize = 8;

fn written() -> (World, Arc<FaultImage>, Initiator, Vec<u8>) {
    let (world, image) = World::with_memory();
    let mut initiator = world.initiator(&[0]);
    let data = Random::new(77).bytes(LENGTH);
    initiator.execute(0, &write(0, BLOCKS), Data::Out(&data)).good();
    (world, image, initiator, data)
}

#[test]
fn it_goes_on_elsewhere_from_wherever_the_page_cache_ends() {
    let (world, image, mut initiator, data) = written();
    for cold in (0..BLOCKS).step_by(128) {
        let at = (cold * BLOCK) as u64;
        let fault = Fault::kind(Operation::Read, ImageErrorKind::WouldBlock);
        image.inject(fault.within(at..at + 1).times(1));
        assert!(initiator.execute(0, &read(0, BLOCKS), Data::In(LENGTH)).good() == data);
    }
    // With a residual either way, behind the first part.
    let at = (BLOCKS / 2 * BLOCK) as u64;
    let cold = || Fault::kind(Operation::Read, ImageErrorKind::WouldBlock).within(at..at + 1);
    image.inject(cold().times(1));
    let less = initiator.execute(0, &read(0, BLOCKS), Data::In(LENGTH + BLOCK));
    assert!(less.residual == BLOCK as i64 && less.data == data);
    image.inject(cold().times(1));
    let more = initiator.execute(0, &read(0, BLOCKS), Data::In(LENGTH - BLOCK));
    assert!(more.residual == -(BLOCK as i64) && more.data == data[..LENGTH - BLOCK]);
    assert_eq!(world.events.faults(), 0);
}

#[test]
fn what_fails_behind_its_first_part_fails_with_the_block() {
    for handed_off in [false, true] {
        let (world, image, mut initiator, data) = written();
        let bad = (1500 * BLOCK) as u64;
        if handed_off {
            let fault = Fault::kind(Operation::Read, ImageErrorKind::WouldBlock);
            image.inject(fault.within(bad..bad + 1).times(1));
        }
        image.inject(Fault::errno(Operation::Read, 5).within(bad..bad + 1).times(1));
        let outcome = initiator.execute(0, &read(0, BLOCKS), Data::In(LENGTH));
        outcome.check((3, 0x11, 0));
        // Of a failed read the first block is told that was to be read with it.
        assert!((1024..=1500).contains(&outcome.information().unwrap()));
        assert_eq!(world.events.wait_for_fault().errno, Some(5));
        assert!(initiator.execute(0, &read(0, BLOCKS), Data::In(LENGTH)).good() == data);
    }
}

/// An initiator that has not taken the data of its reads, of which some was read.
fn stuck(world: &World) -> (Arc<FaultImage>, Initiator, Vec<u32>) {
    let image = memory(LONGEST as u64);
    world.unit(0, image.clone());
    let mut initiator = world.initiator(&[0]);
    let cdb = read(0, LONGEST / BLOCK);
    let (mut tags, mut bytes) = (Vec::new(), Vec::new());
    for _ in 0..READS {
        let (tag, command) = initiator.command(0, &cdb, Data::In(LONGEST));
        tags.push(tag);
        bytes.extend(command);
    }
    // At once: what is left in a socket that is closed would take the answers with it.
    initiator.wire.send_bytes(&bytes);
    // Until the sockets are full.
    let mut before = 0;
    eventually(|| {
        let now = image.calls(Operation::Read);
        std::mem::replace(&mut before, now) == now && now > 0
    });
    (image, initiator, tags)
}

#[test]
fn memory_is_not_filled_for_an_initiator_that_does_not_take_its_data() {
    let world = World::new();
    let (image, mut initiator, tags) = stuck(&world);
    let all = (READS * LONGEST / (128 << 10)) as u64;
    assert!(image.calls(Operation::Read) < all, "all of it was read");
    for tag in tags {
        assert_eq!(initiator.finish(tag).good().len(), LONGEST);
    }
    assert_eq!(image.calls(Operation::Read), all);
}

#[test]
fn it_is_aborted_between_its_parts() {
    let world = World::new();
    let (_image, mut initiator, tags) = stuck(&world);
    let mut other = world.initiator(&[0]);
    let function = other.start_function(LOGICAL_UNIT_RESET, 0, None);
    assert_eq!(other.finish_function(function), 0);
    initiator.nop();
    // The one that had begun; what came behind it is no part of it, and is told of it once.
    let (answered, aborted): (Vec<_>, Vec<_>) =
        tags.into_iter().partition(|tag| initiator.is_answered(*tag));
    assert!(aborted.len() <= 1, "{aborted:?}");
    let outcomes: Vec<_> = answered.into_iter().map(|tag| initiator.finish(tag)).collect();
    let told = outcomes.iter().filter(|outcome| outcome.sense() == (6, 0x29, 3)).count();
    let good = outcomes.iter().filter(|outcome| outcome.status == 0).count();
    assert_eq!((told, told + good), (1, outcomes.len()));
    initiator.execute(0, &read(0, 1), Data::In(BLOCK)).good();
}

#[test]
fn it_is_finished_when_the_node_drains() {
    let world = World::with(NodeConfig { logout_time: Duration::ZERO, ..NodeConfig::default() });
    let (_image, mut initiator, tags) = stuck(&world);
    let node = world.node.clone();
    let drain = world.spawn(async move { node.drain(PATIENCE).await });
    eventually(|| world.node.state() == NodeState::Draining);
    initiator.read_to_end();
    assert!(initiator.is_answered(tags[0]));
    for tag in tags {
        if initiator.is_answered(tag) {
            assert_eq!(initiator.finish(tag).good().len(), LONGEST);
        } else {
            assert_eq!(initiator.data_in_count(tag), 0, "begun, and not finished");
        }
    }
    assert!(world.wait(drain));
}

#[test]
fn what_came_behind_it_and_fills_the_buffer_is_done_in_its_turn() {
    let (world, _image, mut initiator, data) = written();
    let (first, mut bytes) = initiator.command(0, &read(0, 4096), Data::In(2 * LENGTH));
    let mut tags = Vec::new();
    for number in 0..100 {
        let (tag, command) = initiator.command(0, &write(number * 8, 8), Data::Out(&data[..4096]));
        tags.push(tag);
        bytes.extend(command);
    }
    initiator.wire.send_bytes(&bytes);
    assert!(initiator.finish(first).good()[..LENGTH] == data);
    for tag in tags {
        initiator.finish(tag).good();
    }
    assert!(initiator.execute(0, &read(792, 8), Data::In(4096)).good() == data[..4096]);
    assert_eq!(world.events.faults(), 0);
}
