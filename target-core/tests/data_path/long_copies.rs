//! Long copies are recorded as operations, which whoever keeps the records follows.

use std::io::IoSlice;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use disk_image::{Durability, Fault, FaultImage, Image as _, ImageErrorKind, Operation};
use scsi::Device;
use target_core::{
    LogicalUnit, OperationControl, OperationError, OperationRefused, OperationRequest, Operations,
    UnitConfig, is_copy, run_operation,
};

use crate::copies::{ABORTED, Segment, lid4, start};
use crate::initiator::{Data, Initiator};
use crate::third_party::{IMMED, MIB, contents, copy_in, copy_out, naa};
use crate::wire::PATIENCE;
use crate::world::{BLOCK, Random, TARGET, TEST_UNIT_READY, World, memory};

/// As much as a segment can have, one block less than 32 MiB.
const SEGMENT: Segment = (0, 0, 1, 0, u16::MAX);

/// EXTENDED COPY of 256 MiB, or one block less, in segments that all write to the same blocks.
fn copy(flags: u8, long: bool) -> ([u8; 16], Vec<u8>) {
    let (mut cdb, mut list) = lid4(3, flags, &[SEGMENT]);
    let segment = list.split_off(list.len() - 28);
    list.extend(segment.repeat(8));
    let mut last = segment;
    last[10..12].copy_from_slice(&[0, if long { 8 } else { 7 }]);
    list.extend(last);
    list[44..46].copy_from_slice(&(9 * 28u16).to_be_bytes());
    cdb[10..14].copy_from_slice(&u32::try_from(list.len()).unwrap().to_be_bytes());
    (cdb, list)
}

/// Keeps what is recorded, or refuses to.
struct Book {
    begun: Sender<OperationRequest>,
    refuses: bool,
}

impl Operations for Book {
    fn begin(&self, request: OperationRequest) -> Result<String, OperationRefused> {
        if self.refuses {
            return Err(OperationRefused::Unavailable("no space".to_owned()));
        }
        self.begun.send(request).unwrap();
        Ok("7".to_owned())
    }

    fn clear_condition(&self, _unit: &str) -> Result<(), OperationRefused> {
        Ok(())
    }
}

/// Tells each look, and lets the copy go on until it is told otherwise.
struct Watcher {
    looks: Sender<(u64, u64, bool)>,
    stop: Mutex<Receiver<()>>,
}

impl OperationControl for Watcher {
    fn progress(&self, done: u64, total: u64) -> Result<(), OperationError> {
        let stopped = self.stop.lock().unwrap().try_recv().is_ok();
        let _ = self.looks.send((done, total, stopped));
        if stopped { Err(OperationError::Stopped) } else { Ok(()) }
    }

    fn reached(&self, _position: u64) -> Result<(), OperationError> {
        Ok(())
    }
}

struct Bench {
    world: World,
    images: [Arc<FaultImage>; 2],
    destination: Arc<LogicalUnit>,
    begun: Receiver<OperationRequest>,
    initiator: Initiator,
}

struct Follower {
    looks: Receiver<(u64, u64, bool)>,
    stop: Sender<()>,
    thread: std::thread::JoinHandle<Result<(), OperationError>>,
}

impl Bench {
    fn new(refuses: bool) -> Self {
        let (world, (sender, begun)) = (World::new(), channel());
        let book = Arc::new(Book { begun: sender, refuses });
        let images = [memory(64 * MIB), memory(64 * MIB)];
        let data = Random::new(3).bytes(8 << 20);
        images[0].write(&[IoSlice::new(&data)], 0, Durability::Cached).unwrap();
        let units = [0, 1].map(|lun: u16| {
            let (name, image) = (format!("disk{lun}"), images[usize::from(lun)].clone());
            let device = Device::new(name.clone(), naa(lun), BLOCK as u32, 64 * MIB / BLOCK as u64);
            let unit = LogicalUnit::new(UnitConfig {
                operations: book.clone(),
                ..UnitConfig::new(name, device, Ok(image))
            });
            world.node.add_unit(TARGET, lun, unit.clone()).unwrap();
            unit
        });
        let [_, destination] = units;
        let mut initiator = world.initiator(&[0, 1]);
        for lun in [0, 1] {
            initiator.execute(lun, &TEST_UNIT_READY, Data::None);
        }
        Self { world, images, destination, begun, initiator }
    }

    fn follow(&self, request: &OperationRequest) -> Follower {
        let ((looks, told), (stop, stopped)) = (channel(), channel());
        let (unit, operation) = (self.destination.clone(), request.operation.clone());
        let thread = std::thread::spawn(move || {
            let watcher = Watcher { looks, stop: Mutex::new(stopped) };
            run_operation(&unit, &operation, 0, &watcher)
        });
        Follower { looks: told, stop, thread }
    }

    fn status(&mut self) -> u8 {
        self.initiator.execute(0, &copy_in(0x05, 3, true), Data::In(1024)).good()[5]
    }
}

#[test]
fn a_long_copy_is_recorded_and_its_end_is_told_to_who_comes_late() {
    let mut bench = Bench::new(false);
    // One block less is no long copy.
    let tag = start(&mut bench.initiator, 0, &copy(0, false));
    bench.initiator.finish(tag).good();
    assert!(bench.begun.try_recv().is_err(), "a short copy was recorded");
    let tag = start(&mut bench.initiator, 0, &copy(0, true));
    bench.initiator.finish(tag).good();
    let request = bench.begun.try_recv().unwrap();
    assert!(bench.begun.try_recv().is_err(), "recorded twice");
    assert_eq!((request.unit.as_str(), request.word), ("disk1", "copy-blocks"));
    assert!(request.condition.is_none() && is_copy(&request.operation));
    assert!(request.initiator.starts_with("iqn."), "{}", request.initiator);
    assert!(bench.follow(&request).thread.join().unwrap().is_ok());
    // It is told once; nor does a record of before a restart lead to another copy.
    let lost = bench.follow(&request).thread.join().unwrap();
    assert!(matches!(lost, Err(OperationError::Lost)), "{lost:?}");
    let whole = 0..16384;
    assert!(contents(&bench.images[1], whole.clone()) == contents(&bench.images[0], whole));
}

#[test]
fn who_ends_the_record_ends_the_copy_and_waits_until_it_cannot_write() {
    for immediate in [true, false] {
        let mut bench = Bench::new(false);
        let gate = bench.images[1].gate(Operation::Write);
        let flags = if immediate { IMMED } else { 0 };
        let tag = start(&mut bench.initiator, 0, &copy(flags, true));
        let request = bench.begun.recv_timeout(PATIENCE).unwrap();
        assert!(gate.wait_for_arrivals(1, PATIENCE));
        let follower = bench.follow(&request);
        let (done, total, _) = follower.looks.recv_timeout(PATIENCE).unwrap();
        assert_eq!(done, 0, "nothing is done while the first piece is held");
        assert_eq!(total, 256 * MIB);
        if immediate {
            bench.initiator.finish(tag).good();
            assert_eq!(bench.status(), 0x12);
        }
        follower.stop.send(()).unwrap();
        while !follower.looks.recv_timeout(PATIENCE).unwrap().2 {}
        for _ in 0..3 {
            bench.initiator.nop();
        }
        assert!(!follower.thread.is_finished(), "over while the copy can still write");
        gate.open();
        let ended = follower.thread.join().unwrap();
        assert!(matches!(ended, Err(OperationError::Stopped)), "{ended:?}");
        if immediate {
            crate::world::eventually(|| bench.status() == 0x60);
        } else {
            bench.initiator.finish(tag).check(ABORTED);
        }
        // All of it is written no more.
        let writes = bench.images[1].calls(Operation::Write);
        let data = bench.initiator.execute(0, &copy_in(0x05, 3, true), Data::In(1024)).good();
        let copied = u64::from_be_bytes(data[16..24].try_into().unwrap());
        assert!((MIB..256 * MIB).contains(&copied), "{copied}");
        assert_eq!(bench.images[1].calls(Operation::Write), writes);
    }
}

#[test]
fn who_follows_hears_what_ended_a_copy() {
    // The initiator, and the end of its session.
    for log_out in [false, true] {
        let mut bench = Bench::new(false);
        let gate = bench.images[1].gate(Operation::Write);
        let tag = start(&mut bench.initiator, 0, &copy(IMMED, true));
        bench.initiator.finish(tag).good();
        let request = bench.begun.recv_timeout(PATIENCE).unwrap();
        assert!(gate.wait_for_arrivals(1, PATIENCE));
        let follower = bench.follow(&request);
        if log_out {
            assert_eq!(bench.initiator.log_out(), 0);
            gate.open();
        } else {
            let abort = bench.initiator.start(0, &copy_out(0x1c, 3, 0), Data::None);
            bench.initiator.nop();
            gate.open();
            bench.initiator.finish(abort).good();
        }
        let Err(OperationError::Cancelled(by)) = follower.thread.join().unwrap() else { panic!() };
        assert_eq!(by, if log_out { "the end of its session" } else { "its initiator" });
        drop(bench.world);
    }
    // A failure of the medium, with what the image says.
    let mut bench = Bench::new(false);
    let full = Fault::kind(Operation::Write, ImageErrorKind::OutOfSpace);
    bench.images[1].inject(full.within(MIB..2 * MIB));
    let tag = start(&mut bench.initiator, 0, &copy(0, true));
    bench.initiator.finish(tag).check((0x0a, 0x0d, 0x01));
    let request = bench.begun.recv_timeout(PATIENCE).unwrap();
    let ended = bench.follow(&request).thread.join().unwrap();
    let Err(OperationError::Image(error)) = ended else { panic!("{ended:?}") };
    assert_eq!(error.kind(), ImageErrorKind::OutOfSpace);
}

#[test]
fn a_copy_that_cannot_be_recorded_is_done_all_the_same() {
    let mut bench = Bench::new(true);
    let tag = start(&mut bench.initiator, 0, &copy(0, true));
    bench.initiator.finish(tag).good();
    assert!(contents(&bench.images[1], 0..1024) == contents(&bench.images[0], 0..1024));
}
