//! SANITIZE and FORMAT UNIT: a unit that an operation has for itself.

use std::io::IoSliceMut;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use disk_image::{Fault, FaultImage, Image as _, Operation, Wait};
use scsi::Device;
use target_core::{
    LogicalUnit, OperationControl, OperationError, OperationRefused, OperationRequest, Operations,
    UnitConfig, run_operation,
};

use crate::initiator::{Data, Initiator};
use crate::task_management::{ABORT_TASK, LOGICAL_UNIT_RESET};
use crate::wire::PATIENCE;
use crate::world::{BLOCK, TARGET, TEST_UNIT_READY, World, memory, read, write};

const SIZE: u64 = 8 << 20;
const SANITIZING: (u8, u8, u8) = (2, 4, 0x1b);
const FORMATTING: (u8, u8, u8) = (2, 4, 0x04);
const SANITIZE_FAILED: (u8, u8, u8) = (3, 0x31, 3);
const BLOCK_ERASE: [u8; 10] = [0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0];
const IMMEDIATE_ERASE: [u8; 10] = [0x48, 0x82, 0, 0, 0, 0, 0, 0, 0, 0];
const UNRESTRICTED_ERASE: [u8; 10] = [0x48, 0x22, 0, 0, 0, 0, 0, 0, 0, 0];
const EXIT_FAILURE_MODE: [u8; 10] = [0x48, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0];
const REQUEST_SENSE: [u8; 6] = [0x03, 0, 0, 0, 252, 0];

/// What was recorded, as whoever keeps records would have it.
#[derive(Default)]
struct Book {
    begun: Mutex<Vec<OperationRequest>>,
    cleared: Mutex<usize>,
    refuses: Mutex<Option<OperationRefused>>,
}

impl Operations for Book {
    fn begin(&self, request: OperationRequest) -> Result<String, OperationRefused> {
        if let Some(refused) = self.refuses.lock().unwrap().clone() {
            return Err(refused);
        }
        self.begun.lock().unwrap().push(request);
        Ok("1".to_owned())
    }

    fn clear_condition(&self, _unit: &str) -> Result<(), OperationRefused> {
        *self.cleared.lock().unwrap() += 1;
        Ok(())
    }
}

impl Book {
    fn last(&self) -> OperationRequest {
        self.begun.lock().unwrap().last().cloned().unwrap()
    }
}

struct Bench {
    world: World,
    image: Arc<FaultImage>,
    unit: Arc<LogicalUnit>,
    book: Arc<Book>,
}

impl Bench {
    fn new() -> Self {
        Self::with(None)
    }

    fn with(condition: Option<&[u8]>) -> Self {
        let (world, image, book) = (World::new(), memory(SIZE), Arc::new(Book::default()));
        let blocks = SIZE / BLOCK as u64;
        let device = Device::new("disk0", *b"\x60\0\0\x01data-path-ts", BLOCK as u32, blocks);
        let unit = LogicalUnit::new(UnitConfig {
            condition: condition.map(<[u8]>::to_vec),
            operations: book.clone(),
            ..UnitConfig::new("disk0", device, Ok(image.clone()))
        });
        world.node.add_unit(TARGET, 0, unit.clone()).unwrap();
        Self { world, image, unit, book }
    }

    /// So many operations are recorded: each is a little after its unit says so.
    fn has_begun(&self, count: usize) {
        while self.book.begun.lock().unwrap().len() < count {
            std::thread::yield_now();
        }
    }

    /// Carries out what was recorded last, in steps.
    fn run(&self) -> Run {
        let (go, steps) = channel();
        let (tell, told) = channel();
        let (unit, operation) = (self.unit.clone(), self.book.last().operation);
        let thread = std::thread::spawn(move || {
            let control = Steps { steps: Mutex::new(steps), tell };
            run_operation(&unit, &operation, 0, &control)
        });
        Run { go, told, thread }
    }

    /// Carries it out, and has the end recorded.
    fn complete(&self) {
        let Run { go, told, thread } = self.run();
        drop(told);
        go.send(usize::MAX).unwrap();
        thread.join().unwrap().unwrap();
        self.unit.set_condition(None);
    }

    fn contents(&self) -> Vec<u8> {
        let mut bytes = vec![0; SIZE as usize];
        self.image.read(&mut [IoSliceMut::new(&mut bytes)], 0, Wait::Block).unwrap();
        bytes
    }
}

struct Run {
    /// Pieces that may be done.
    go: Sender<usize>,
    told: Receiver<u64>,
    thread: JoinHandle<Result<(), OperationError>>,
}

impl Run {
    /// Lets some pieces be done, and waits until the next one would be.
    fn pieces(&self, count: usize) {
        self.go.send(count).unwrap();
        for _ in 0..count {
            self.told.recv_timeout(PATIENCE).unwrap();
        }
    }
}

struct Steps {
    steps: Mutex<Receiver<usize>>,
    tell: Sender<u64>,
}

impl Steps {
    fn take(&self) -> Result<(), OperationError> {
        thread_local!(static LEFT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });
        if LEFT.get() == 0 {
            LEFT.set(self.steps.lock().unwrap().recv().map_err(|_| OperationError::Stopped)?);
        }
        LEFT.set(LEFT.get() - 1);
        Ok(())
    }
}

impl OperationControl for Steps {
    fn progress(&self, done: u64, _total: u64) -> Result<(), OperationError> {
        let _ = self.tell.send(done);
        self.take()
    }

    fn reached(&self, _position: u64) -> Result<(), OperationError> {
        Ok(())
    }
}

/// SANITIZE, OVERWRITE and its parameter list.
fn overwrite(flags: u8, pattern: &[u8]) -> ([u8; 10], Vec<u8>) {
    let length = u8::try_from(pattern.len()).unwrap();
    let cdb = [0x48, 0x01, 0, 0, 0, 0, 0, 0, length + 4, 0];
    (cdb, [&[flags, 0, 0, length], pattern].concat())
}

fn fill(initiator: &mut Initiator) {
    let data = vec![0xaa; SIZE as usize / 4];
    for part in 0..4 {
        let blocks = data.len() / BLOCK;
        let lba = u32::try_from(part * blocks).unwrap();
        initiator.execute(0, &write(lba, blocks), Data::Out(&data)).good();
    }
}

#[test]
fn an_overwrite_ends_with_its_command_and_the_pattern_is_in_every_block() {
    let bench = Bench::new();
    let (mut one, mut other) = (bench.world.initiator(&[0]), bench.world.initiator(&[0]));
    let (cdb, list) = overwrite(0x82, &[1, 2, 3]);
    let tag = one.start(0, &cdb, Data::Out(&list));
    // The other one waits until it has begun.
    while other.execute(0, &TEST_UNIT_READY, Data::None).status == 0 {}
    bench.has_begun(1);
    let request = bench.book.last();
    assert_eq!((request.unit.as_str(), request.word), ("disk0", "sanitize-disk"));
    assert_eq!(request.initiator, "iqn.2026-01.org.example:host");
    assert!(!one.is_answered(tag));
    bench.complete();
    one.finish(tag).good();
    other.execute(0, &TEST_UNIT_READY, Data::None).good();
    let block: Vec<u8> = [1, 2, 3].into_iter().cycle().take(BLOCK).collect();
    assert!(bench.contents().chunks(BLOCK).all(|found| found == block));
}

#[test]
fn while_it_is_sanitized_a_unit_shows_its_progress_and_nothing_else() {
    let bench = Bench::new();
    let mut initiator = bench.world.initiator(&[0]);
    fill(&mut initiator);
    initiator.execute(0, &IMMEDIATE_ERASE, Data::None).good();
    let run = bench.run();
    assert_eq!(run.told.recv_timeout(PATIENCE).unwrap(), 0);
    for (pieces, progress) in [(0, 0x0000), (1, 0x4000), (2, 0xc000)] {
        if pieces > 0 {
            run.pieces(pieces);
        }
        for (cdb, data) in [
            (&TEST_UNIT_READY[..], Data::None),
            (&[0x1b, 0, 0, 0, 1, 0][..], Data::None),
            (&read(0, 1)[..], Data::In(BLOCK)),
            (&write(0, 1)[..], Data::Out(&[7; BLOCK])),
            (&BLOCK_ERASE[..], Data::None),
            (&EXIT_FAILURE_MODE[..], Data::None),
        ] {
            let outcome = initiator.execute(0, cdb, data);
            outcome.check(SANITIZING);
            let [_, high, low] = outcome.sense[15..18] else { panic!() };
            assert_eq!(u16::from_be_bytes([high, low]), progress);
        }
        let sense = initiator.execute(0, &REQUEST_SENSE, Data::In(252)).data;
        assert_eq!((sense[2], sense[12], sense[13], sense[15]), (2, 4, 0x1b, 0x80));
        assert_eq!(u16::from_be_bytes([sense[16], sense[17]]), progress);
        initiator.execute(0, &[0x12, 0, 0, 0, 96, 0], Data::In(96)).good();
    }
    run.go.send(usize::MAX).unwrap();
    run.thread.join().unwrap().unwrap();
    bench.unit.set_condition(None);
    let data = initiator.execute(0, &read(0, 2048), Data::In(2048 * BLOCK)).good();
    assert!(data.iter().all(|byte| *byte == 0));
    assert!(bench.contents().iter().all(|byte| *byte == 0));
    assert_eq!(bench.book.begun.lock().unwrap().len(), 1);
}

#[test]
fn a_write_whose_data_comes_while_the_unit_is_sanitized_writes_nothing() {
    let bench = Bench::new();
    let mut slow = bench.world.initiator(&[0]);
    let mut quick = bench.world.initiator(&[0]);
    // More than comes without being asked for: the rest is sent when the R2T is answered.
    let data = vec![0x77; 2 << 20];
    slow.hold_r2t = true;
    let tag = slow.start(0, &write(0, 4096), Data::Out(&data));
    while slow.held_r2t.is_empty() {
        slow.nop();
    }
    quick.execute(0, &IMMEDIATE_ERASE, Data::None).good();
    slow.hold_r2t = false;
    while let Some(r2t) = slow.held_r2t.pop_front() {
        slow.answer_r2t(&r2t);
    }
    slow.finish(tag).check(SANITIZING);
    bench.complete();
    assert!(bench.contents().iter().all(|byte| *byte == 0));
}

#[test]
fn neither_an_abort_nor_a_reset_nor_the_end_of_the_session_ends_a_sanitize() {
    let bench = Bench::new();
    let (mut one, mut other) = (bench.world.initiator(&[0]), bench.world.initiator(&[0]));
    let tag = one.start(0, &BLOCK_ERASE, Data::None);
    while other.execute(0, &TEST_UNIT_READY, Data::None).status == 0 {}
    let abort = one.start_function(ABORT_TASK, 0, Some(tag));
    assert_eq!(one.finish_function(abort), 0);
    let reset = other.start_function(LOGICAL_UNIT_RESET, 0, None);
    assert_eq!(other.finish_function(reset), 0);
    other.execute(0, &TEST_UNIT_READY, Data::None).check((6, 0x29, 3));
    other.execute(0, &TEST_UNIT_READY, Data::None).check(SANITIZING);
    drop(one);
    let mut late = bench.world.initiator(&[0]);
    late.execute(0, &TEST_UNIT_READY, Data::None).check(SANITIZING);
    bench.complete();
    late.execute(0, &TEST_UNIT_READY, Data::None).good();
}

#[test]
fn a_unit_that_was_being_sanitized_before_a_start_is_so_from_the_first_moment() {
    let before = Bench::new();
    before.world.initiator(&[0]).execute(0, &IMMEDIATE_ERASE, Data::None).good();
    let (during, otherwise) = before.book.last().condition.unwrap();
    let bench = Bench::with(Some(&during));
    let mut initiator = bench.world.initiator(&[0]);
    initiator.execute(0, &read(0, 1), Data::In(BLOCK)).check(SANITIZING);
    // A command that waits hears of the failure.
    bench.unit.set_condition(Some(&otherwise));
    initiator.execute(0, &read(0, 1), Data::In(BLOCK)).check(SANITIZE_FAILED);
    initiator.execute(0, &EXIT_FAILURE_MODE, Data::None).check((5, 0x24, 0));
    initiator.execute(0, &UNRESTRICTED_ERASE, Data::None).check((5, 0x24, 0));
    initiator.execute(0, &IMMEDIATE_ERASE, Data::None).good();
    initiator.execute(0, &read(0, 1), Data::In(BLOCK)).check(SANITIZING);
    bench.complete();
    initiator.execute(0, &read(0, 1), Data::In(BLOCK)).good();
    assert_eq!(*bench.book.cleared.lock().unwrap(), 0);
}

#[test]
fn a_sanitize_that_fails_keeps_the_unit_shut_until_it_may_be_given_up() {
    let bench = Bench::new();
    let (mut one, mut other) = (bench.world.initiator(&[0]), bench.world.initiator(&[0]));
    let tag = one.start(0, &UNRESTRICTED_ERASE, Data::None);
    while other.execute(0, &TEST_UNIT_READY, Data::None).status == 0 {}
    bench.image.inject(Fault::errno(Operation::Unmap, 5));
    let run = bench.run();
    run.go.send(usize::MAX).unwrap();
    let Err(OperationError::Image(error)) = run.thread.join().unwrap() else { panic!() };
    assert_eq!(error.errno(), Some(5));
    bench.unit.set_condition(bench.book.last().condition.map(|it| it.1).as_deref());
    one.finish(tag).check(SANITIZE_FAILED);
    other.execute(0, &read(0, 1), Data::In(BLOCK)).check(SANITIZE_FAILED);
    other.execute(0, &EXIT_FAILURE_MODE, Data::None).good();
    assert_eq!(*bench.book.cleared.lock().unwrap(), 1);
    other.execute(0, &read(0, 1), Data::In(BLOCK)).good();
    other.execute(0, &write(0, 1), Data::Out(&[1; BLOCK])).good();
}

#[test]
fn what_cannot_be_recorded_does_not_begin() {
    let bench = Bench::new();
    let mut initiator = bench.world.initiator(&[0]);
    fill(&mut initiator);
    for (refused, sense) in [
        (OperationRefused::Busy("an expansion".to_owned()), (2, 4, 7)),
        (OperationRefused::Unavailable("no database".to_owned()), (5, 0x55, 4)),
    ] {
        *bench.book.refuses.lock().unwrap() = Some(refused);
        initiator.execute(0, &BLOCK_ERASE, Data::None).check(sense);
        let data = initiator.execute(0, &read(0, 1), Data::In(BLOCK)).good();
        assert_eq!(data, [0xaa; BLOCK]);
    }
}

#[test]
fn a_format_leaves_zeroes_or_its_pattern() {
    let bench = Bench::new();
    let mut initiator = bench.world.initiator(&[0]);
    fill(&mut initiator);
    // FMTDATA; FOV, IP, IMMED; a pattern of two bytes.
    let list = [0, 0x8a, 0, 0, 0, 1, 0, 2, 0xbe, 0xef];
    initiator.execute(0, &[0x04, 0x10, 0, 0, 0, 0], Data::Out(&list)).good();
    let outcome = initiator.execute(0, &TEST_UNIT_READY, Data::None);
    outcome.check(FORMATTING);
    assert_eq!(outcome.sense[15], 0x80, "PROGRESS INDICATION");
    assert_eq!(bench.book.last().word, "format-disk");
    bench.complete();
    assert!(bench.contents().chunks(2).all(|found| found == [0xbe, 0xef]));
    let mut other = bench.world.initiator(&[0]);
    let tag = initiator.start(0, &[0x04, 0, 0, 0, 0, 0], Data::None);
    while other.execute(0, &TEST_UNIT_READY, Data::None).status == 0 {}
    bench.has_begun(2);
    bench.complete();
    initiator.finish(tag).good();
    assert!(bench.contents().iter().all(|byte| *byte == 0));
}
