//! Many sessions with COMPARE AND WRITE, WRITE ATOMIC, WRITE SAME, WRITE, READ and resets on the
//! same blocks: some serial order explains every result, and what a reset ended writes nothing
//! after the reset was answered.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use disk_image::{Image, OpenOptions, RawImage};
use target_core::NodeConfig;

use crate::initiator::{Data, Initiator, Outcome};
use crate::serial_order::{Effect, Operation, contradiction};
use crate::task_management::LOGICAL_UNIT_RESET;
use crate::world::{BLOCK, Random, World, memory, read};

const SESSIONS: usize = 64;
/// Commands of each session.
const COMMANDS: usize = 48;
/// Between two resets.
const COMMANDS_PER_RESET: u64 = 150;
/// Places of a physical block each, for commands that are atomic as a whole; behind them places
/// of one logical block, of which WRITE SAME and READ take several.
const WHOLE: usize = 4;
const SINGLE: usize = 4;
const PLACES: usize = WHOLE + SINGLE;
const PHYSICAL: usize = 8;
const MISCOMPARE: (u8, u8, u8) = (0x0e, 0x1d, 0x00);
const RESET: (u8, u8, u8) = (0x06, 0x29, 0x03);

/// What all sessions share.
#[derive(Default)]
struct Shared {
    /// Instants, and values that are written once.
    clock: AtomicU64,
    next: AtomicU64,
    commands: AtomicU64,
    /// When each reset was answered.
    resets: Mutex<Vec<u64>>,
    resetting: AtomicBool,
    over: AtomicBool,
    history: Mutex<Vec<(usize, Operation)>>,
}

impl Shared {
    fn instant(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn resets(&self) -> usize {
        self.resets.lock().unwrap().len()
    }

    /// Resets now and then, until the others are done.
    fn reset(&self, initiator: &mut Initiator) {
        let mut due = COMMANDS_PER_RESET;
        while !self.over.load(Ordering::SeqCst) {
            if self.commands.load(Ordering::SeqCst) < due {
                thread::yield_now();
                continue;
            }
            due += COMMANDS_PER_RESET;
            self.resetting.store(true, Ordering::SeqCst);
            let tag = initiator.start_function(LOGICAL_UNIT_RESET, 0, None);
            assert_eq!(initiator.finish_function(tag), 0, "FUNCTION COMPLETE");
            let answered = self.instant();
            self.resets.lock().unwrap().push(answered);
            self.resetting.store(false, Ordering::SeqCst);
        }
    }
}

struct Session<'a> {
    shared: &'a Shared,
    initiator: Initiator,
    random: Random,
    /// What each place held when this session last knew.
    known: [u64; PLACES],
}

fn lba(place: usize) -> usize {
    if place < WHOLE { place * PHYSICAL } else { WHOLE * PHYSICAL + place - WHOLE }
}

fn blocks(place: usize) -> usize {
    if place < WHOLE { PHYSICAL } else { 1 }
}

fn filled(value: u64, blocks: usize) -> Vec<u8> {
    value.to_be_bytes().repeat(blocks * BLOCK / 8)
}

/// The one value of blocks that were written together.
fn value(place: usize, data: &[u8]) -> u64 {
    let parts = data.chunks(8).map(|part| u64::from_be_bytes(part.try_into().unwrap()));
    let mut parts: Vec<_> = parts.collect();
    parts.dedup();
    assert_eq!(parts.len(), 1, "place {place}: half of a write was seen: {parts:?}");
    parts[0]
}

fn sixteen(operation: u8, place: usize, length_at: usize, blocks: usize) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = operation;
    cdb[2..10].copy_from_slice(&(lba(place) as u64).to_be_bytes());
    cdb[length_at] = u8::try_from(blocks).unwrap();
    cdb
}

impl Session<'_> {
    /// Carries out a command; `None` if a reset ended it. With the instants around it.
    fn carry_out(&mut self, cdb: &[u8], data: Data<'_>) -> (Option<Outcome>, u64, u64) {
        loop {
            let resets = self.shared.resets();
            let start = self.shared.instant();
            let tag = self.initiator.start(0, cdb, data);
            while !self.initiator.is_answered(tag) {
                let reset = self.shared.resets.lock().unwrap().get(resets).copied();
                self.initiator.nop();
                // A command that came behind the reset has been told of it before the ping came.
                if let (Some(end), false) = (reset, self.initiator.is_answered(tag)) {
                    return (None, start, end);
                }
            }
            let outcome = self.initiator.finish(tag);
            if outcome.sense() != RESET {
                return (Some(outcome), start, self.shared.instant());
            }
            // It is told before it is answered: what is sent now must not be taken for ended.
            while self.shared.resetting.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        }
    }

    fn remember(&mut self, place: usize, start: u64, end: u64, effect: Effect, ended: bool) {
        if let Effect::Read(value) | Effect::Write(value) | Effect::Swap(_, value) = effect
            && !ended
        {
            self.known[place] = value;
        }
        let operation = Operation { start, end, effect, ended };
        self.shared.history.lock().unwrap().push((place, operation));
    }

    /// A command that writes `effect` to each of the places.
    fn writes(&mut self, places: &[usize], cdb: &[u8], data: &[u8], effect: Effect) {
        let (outcome, start, end) = self.carry_out(cdb, Data::Out(data));
        let (effect, ended) = match (outcome, effect) {
            (None, effect) => (effect, true),
            (Some(outcome), Effect::Swap(before, _)) if outcome.sense() == MISCOMPARE => {
                (Effect::Differs(before), false)
            }
            (Some(outcome), effect) => {
                outcome.good();
                (effect, false)
            }
        };
        for place in places {
            self.remember(*place, start, end, effect, ended);
        }
    }

    fn reads(&mut self, first: usize, places: usize) {
        let each = blocks(first) * BLOCK;
        let cdb = read(u32::try_from(lba(first)).unwrap(), places * blocks(first));
        let (outcome, start, end) = self.carry_out(&cdb, Data::In(places * each));
        let Some(outcome) = outcome else { return };
        for (place, data) in (first..).zip(outcome.good().chunks(each)) {
            self.remember(place, start, end, Effect::Read(value(place, data)), false);
        }
    }

    fn any_command(&mut self) {
        let place = self.random.below(PLACES);
        let new = self.shared.next.fetch_add(1, Ordering::SeqCst) + 1;
        match self.random.below(5) {
            swap @ (0 | 1) => {
                if swap == 0 {
                    self.reads(place, 1);
                }
                let before = self.known[place];
                let data = [filled(before, blocks(place)), filled(new, blocks(place))].concat();
                let cdb = sixteen(0x89, place, 13, blocks(place));
                self.writes(&[place], &cdb, &data, Effect::Swap(before, new));
            }
            // WRITE(16) of one logical block: of a longer one a READ may see a part.
            4 => {
                let place = WHOLE + self.random.below(SINGLE);
                let cdb = sixteen(0x8a, place, 13, 1);
                self.writes(&[place], &cdb, &filled(new, 1), Effect::Write(new));
            }
            2 if place < WHOLE => {
                let cdb = sixteen(0x9c, place, 13, PHYSICAL);
                self.writes(&[place], &cdb, &filled(new, PHYSICAL), Effect::Write(new));
            }
            2 => {
                let places: Vec<_> = (place..PLACES).collect();
                let cdb = sixteen(0x93, place, 13, places.len());
                self.writes(&places, &cdb, &filled(new, 1), Effect::Write(new));
            }
            _ if place < WHOLE => self.reads(place, 1),
            _ => self.reads(place, PLACES - place),
        }
        self.shared.commands.fetch_add(1, Ordering::SeqCst);
    }
}

fn run(image: Arc<dyn Image>, seed: u64) {
    let world = World::with(NodeConfig::default());
    world.unit(0, image);
    let shared = Shared::default();
    let session = |number: usize| Session {
        shared: &shared,
        initiator: world.initiator(&[0]),
        random: Random::new(seed * 1000 + number as u64),
        known: [0; PLACES],
    };
    let sessions: Vec<_> = (1..=SESSIONS).map(session).collect();
    let (mut last, mut operator) = (session(0), world.initiator(&[0]));
    thread::scope(|scope| {
        scope.spawn(|| shared.reset(&mut operator));
        let sessions: Vec<_> = sessions
            .into_iter()
            .map(|mut session| {
                scope.spawn(move || (0..COMMANDS).for_each(|_| session.any_command()))
            })
            .collect();
        let ends: Vec<_> = sessions.into_iter().map(thread::ScopedJoinHandle::join).collect();
        shared.over.store(true, Ordering::SeqCst);
        assert!(ends.iter().all(Result::is_ok), "seed {seed}: a session failed");
    });
    (0..PLACES).for_each(|place| last.reads(place, 1));

    let history = shared.history.into_inner().unwrap();
    let swapped = |(_, it): &&(usize, Operation)| matches!(it.effect, Effect::Swap(..));
    assert!(history.iter().filter(swapped).count() > 20, "hardly anything was swapped");
    assert!(shared.resets.into_inner().unwrap().len() > 5, "hardly anything was reset");
    for place in 0..PLACES {
        let of_place = history.iter().filter(|(other, _)| *other == place);
        let of_place: Vec<_> = of_place.map(|(_, operation)| *operation).collect();
        let wrong = contradiction(0, &of_place);
        assert!(wrong.is_none(), "seed {seed}, place {place}: {wrong:?}");
    }
}

#[test]
fn a_serial_order_explains_every_result_of_a_disk_in_memory() {
    (1..=4).for_each(|seed| run(memory(1 << 20), seed));
}

#[test]
fn a_serial_order_explains_every_result_of_a_disk_in_a_file() {
    let directory = tempfile::tempdir().unwrap();
    for seed in 5..=8 {
        let path: PathBuf = directory.path().join(format!("{seed}.img"));
        std::fs::File::create_new(&path).unwrap().set_len(1 << 20).unwrap();
        run(Arc::new(RawImage::open(path, OpenOptions::default()).unwrap()), seed);
    }
}
