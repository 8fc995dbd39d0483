//! Writes to a unit that has just been slow run elsewhere, piece by piece.

use std::io::{IoSlice, IoSliceMut};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use disk_image::{
    Durability, Extent, Fault, FaultImage, Features, Gate, Image, ImageError, MemImage, Operation,
    Wait,
};
use target_core::SessionEnd;

use crate::initiator::{Data, Initiator};
use crate::task_management::{ABORT_TASK, ABORT_TASK_SET};
use crate::wire::{PATIENCE, Refusal};
use crate::world::{BLOCK, Random, World, eventually, read, write};

/// Its first write is so slow that those behind it run elsewhere.
#[derive(Debug)]
struct SlowAtFirst {
    image: Arc<FaultImage>,
    plain: Arc<MemImage>,
    began: AtomicBool,
}

impl SlowAtFirst {
    fn new() -> Self {
        let plain = Arc::new(MemImage::new(4 << 20).unwrap());
        let image = Arc::new(FaultImage::new(plain.clone()));
        Self { image, plain, began: AtomicBool::new(false) }
    }
}

impl Image for SlowAtFirst {
    fn size_bytes(&self) -> u64 {
        self.image.size_bytes()
    }

    fn features(&self) -> Features {
        self.image.features()
    }

    fn path(&self) -> Arc<Path> {
        self.image.path()
    }

    fn read(&self, bufs: &mut [IoSliceMut<'_>], offset: u64, wait: Wait) -> Result<(), ImageError> {
        self.image.read(bufs, offset, wait)
    }

    fn write(
        &self,
        bufs: &[IoSlice<'_>],
        offset: u64,
        durability: Durability,
    ) -> Result<(), ImageError> {
        if self.began.swap(true, Ordering::Relaxed) {
            return self.image.write(bufs, offset, durability);
        }
        std::thread::sleep(Duration::from_millis(20));
        self.plain.write(bufs, offset, durability)
    }

    fn flush(&self) -> Result<(), ImageError> {
        self.image.flush()
    }

    fn unmap(&self, offset: u64, length: u64) -> Result<(), ImageError> {
        self.image.unmap(offset, length)
    }

    fn write_zeroes(&self, offset: u64, length: u64, may_unmap: bool) -> Result<(), ImageError> {
        self.image.write_zeroes(offset, length, may_unmap)
    }

    fn block_status(&self, offset: u64, length: u64) -> Result<Extent, ImageError> {
        self.image.block_status(offset, length)
    }

    fn grow(&self, size_bytes: u64) -> Result<(), ImageError> {
        self.image.grow(size_bytes)
    }

    fn health(&self) -> Result<(), ImageError> {
        self.image.health()
    }
}

/// A session, and its write of a mebibyte of which the first piece hangs at a gate elsewhere and
/// the rest has not been sent.
fn half_a_write(world: &World, image: &Arc<SlowAtFirst>) -> (Initiator, u32, Gate) {
    world.unit(0, image.clone());
    let gate = image.image.gate(Operation::Write);
    let mut initiator = world.initiator(&[0]);
    initiator.hold_r2t = true;
    // Two commands that come at once: the first makes the unit slow, the second has immediate
    // data that are then written elsewhere, and wants more.
    let (first, mut bytes) = initiator.command(0, &write(4096, 1), Data::Out(&[1; BLOCK]));
    let data = vec![2; 1 << 20];
    initiator.answers.insert("FirstBurstLength".to_owned(), "512".to_owned());
    let (tag, second) = initiator.command(0, &write(8, 2048), Data::Out(&data));
    bytes.extend(second);
    initiator.wire.send_bytes(&bytes);
    assert!(gate.wait_for_arrivals(1, PATIENCE));
    initiator.finish(first).good();
    while initiator.held_r2t.is_empty() {
        assert!(initiator.pump());
    }
    (initiator, tag, gate)
}

#[test]
fn a_write_is_answered_when_all_of_its_pieces_are_done() {
    let world = World::new();
    let image = Arc::new(SlowAtFirst::new());
    let (mut initiator, tag, gate) = half_a_write(&world, &image);
    let r2t = initiator.held_r2t.pop_front().unwrap();
    initiator.answer_r2t(&r2t);
    // All of the data has come when this is answered, unless it is being written here.
    initiator.nop();
    assert!(!initiator.is_answered(tag));
    gate.open();
    initiator.finish(tag).good();
    assert!(image.plain.contents()[8 * BLOCK..][..1 << 20].iter().all(|byte| *byte == 2));
}

#[test]
fn a_piece_that_fails_elsewhere_fails_its_write() {
    let world = World::new();
    let image = Arc::new(SlowAtFirst::new());
    let (mut initiator, tag, gate) = half_a_write(&world, &image);
    let first_piece = 8 * BLOCK as u64..9 * BLOCK as u64;
    image.image.inject(Fault::errno(Operation::Write, 5).within(first_piece));
    gate.open();
    let r2t = initiator.held_r2t.pop_front().unwrap();
    initiator.answer_r2t(&r2t);
    let outcome = initiator.finish(tag);
    outcome.check((3, 0x0c, 0));
    assert_eq!(outcome.information(), Some(8));
    assert_eq!(world.events.faults(), 1);
    initiator.execute(0, &read(8, 1), Data::In(BLOCK)).good();
}

#[test]
fn an_abort_waits_for_the_pieces_that_are_under_way() {
    for function in [ABORT_TASK, ABORT_TASK_SET] {
        let world = World::new();
        let image = Arc::new(SlowAtFirst::new());
        let (mut initiator, tag, gate) = half_a_write(&world, &image);
        let function = initiator.start_function(function, 0, Some(tag));
        for _ in 0..3 {
            initiator.nop();
        }
        assert!(!initiator.is_answered(function));
        gate.open();
        assert_eq!(initiator.finish_function(function), 0);
        initiator.nop();
        assert!(!initiator.is_answered(tag));
        let written = initiator.execute(0, &read(8, 2), Data::In(2 * BLOCK)).good();
        assert!(written[..BLOCK] == [2; BLOCK] && written[BLOCK..] == [0; BLOCK]);
    }
}

#[test]
fn a_write_with_a_piece_under_way_and_more_to_come_does_not_hold_up_the_end_of_the_node() {
    let world = World::new();
    let image = Arc::new(SlowAtFirst::new());
    let (mut initiator, tag, gate) = half_a_write(&world, &image);
    let node = world.node.clone();
    let drain = world.spawn(async move { node.drain(PATIENCE).await });
    let draining = Some(Refusal::Status(0x0301));
    eventually(|| Initiator::log_in(world.address, &world.login()).err() == draining);
    gate.open();
    let begin = Instant::now();
    assert!(world.wait(drain), "waited for data that cannot come any more");
    assert!(begin.elapsed() < PATIENCE / 2);
    initiator.read_to_end();
    assert!(!initiator.is_answered(tag));
    assert_eq!(world.events.wait_for_end(initiator.tsih), SessionEnd::Drained);
}

#[test]
fn writes_that_run_elsewhere_piece_by_piece_arrive_whole() {
    let world = World::new();
    let image = Arc::new(SlowAtFirst::new());
    world.unit(0, image.clone());
    let mut initiator = world.initiator(&[0]);
    let data = Random::new(5).bytes(3 << 20);
    initiator.execute(0, &write(0, 1), Data::Out(&[9; BLOCK])).good();
    initiator.execute(0, &write(0, 6144), Data::Out(&data)).good();
    assert!(image.plain.contents()[..3 << 20] == data);
}
