//! Several sessions, lost connections, aborts and resets in random order, against a reference of
//! the task set: which commands must be answered, which must not, what the unit may hold after
//! that, and what each session must be told.

use std::panic::{AssertUnwindSafe, catch_unwind};

use disk_image::{FaultImage, Gate, Operation};
use target_core::NodeConfig;

use crate::initiator::{Data, Initiator};
use crate::task_management::{
    ABORT_TASK, ABORT_TASK_SET, CLEAR_TASK_SET, LOGICAL_UNIT_RESET, TARGET_COLD_RESET,
    TARGET_WARM_RESET,
};
use crate::wire::{Login, PATIENCE, Wire};
use crate::world::{BLOCK, Random, TEST_UNIT_READY, World, durable_write, memory, read};

const SESSIONS: usize = 3;
const BLOCKS: usize = 6;
const ROUNDS: usize = 60;
const COMPLETE: u8 = 0;
const NO_SUCH_TASK: u8 = 1;

/// Additional sense codes of unit attentions.
const POWER_ON_OR_RESET: u8 = 0x29;
const COMMANDS_CLEARED: u8 = 0x2f;

/// What happens while writes are under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Nothing,
    /// Of the write with this index.
    AbortTask(usize),
    /// From this session.
    Function(u8, usize),
    /// Its connection is cut; it logs in again.
    Lost(usize),
    /// It logs in again while its connection is there.
    Replaced(usize),
}

/// A write that is under way.
#[derive(Debug, Clone, Copy)]
struct Write {
    session: usize,
    tag: u32,
    block: usize,
    value: u64,
}

impl Event {
    fn any(random: &mut Random, writes: usize) -> Self {
        let session = random.below(SESSIONS);
        match random.below(9) {
            0 => Self::Nothing,
            1 => Self::AbortTask(random.below(writes)),
            2 => Self::Lost(session),
            3 => Self::Replaced(session),
            4 => Self::Function(TARGET_COLD_RESET, session),
            5 => Self::Function(TARGET_WARM_RESET, session),
            6 => Self::Function(LOGICAL_UNIT_RESET, session),
            7 => Self::Function(CLEAR_TASK_SET, session),
            _ => Self::Function(ABORT_TASK_SET, session),
        }
    }

    /// Whether it ends a write (SAM-5 §7).
    fn ends(self, index: usize, write: &Write) -> bool {
        match self {
            Self::Nothing => false,
            Self::AbortTask(aborted) => aborted == index,
            Self::Function(ABORT_TASK_SET, session)
            | Self::Lost(session)
            | Self::Replaced(session) => write.session == session,
            Self::Function(..) => true,
        }
    }

    /// Whether a session has a new nexus after it.
    fn begins_anew(self, session: usize) -> bool {
        match self {
            Self::Lost(other) | Self::Replaced(other) => session == other,
            Self::Function(function, _) => function == TARGET_COLD_RESET,
            Self::Nothing | Self::AbortTask(_) => false,
        }
    }

    /// The additional sense code that a session must be told, if any.
    fn tells(self, session: usize, lost_a_command: bool) -> Option<u8> {
        match self {
            Self::Function(LOGICAL_UNIT_RESET | TARGET_WARM_RESET, _) => Some(POWER_ON_OR_RESET),
            Self::Function(CLEAR_TASK_SET, from) if from != session && lost_a_command => {
                Some(COMMANDS_CLEARED)
            }
            _ if self.begins_anew(session) => Some(POWER_ON_OR_RESET),
            _ => None,
        }
    }
}

struct Model {
    world: World,
    image: std::sync::Arc<FaultImage>,
    logins: Vec<Login>,
    sessions: Vec<Initiator>,
    /// What each block holds.
    blocks: [u64; BLOCKS],
    /// Commands that must never be answered.
    ended: Vec<(usize, u32)>,
    next: u64,
}

fn pattern(value: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block.chunks_mut(8).for_each(|part| part.copy_from_slice(&value.to_le_bytes()));
    block
}

/// Everything that a session has to tell of its unit.
fn told(initiator: &mut Initiator) -> Vec<u8> {
    let mut told = Vec::new();
    loop {
        let (key, code, _) = initiator.execute(0, &TEST_UNIT_READY, Data::None).sense();
        if key == 0 {
            return told;
        }
        assert_eq!(key, 6, "only unit attentions");
        told.push(code);
    }
}

impl Model {
    fn new() -> Self {
        let world = World::with(NodeConfig::default());
        let image = memory(1 << 20);
        world.unit(0, image.clone());
        let logins: Vec<_> = (0..SESSIONS).map(|_| world.login()).collect();
        let mut sessions: Vec<_> = logins.iter().map(|login| world.log_in(login)).collect();
        for session in &mut sessions {
            assert_eq!(told(session), [POWER_ON_OR_RESET]);
        }
        Self { world, image, logins, sessions, blocks: [0; BLOCKS], ended: Vec::new(), next: 1 }
    }

    fn start_writes(&mut self, random: &mut Random) -> Vec<Write> {
        (0..1 + random.below(8))
            .map(|_| {
                let (session, block) = (random.below(SESSIONS), random.below(BLOCKS));
                let value = self.next;
                self.next += 1;
                let cdb = durable_write(u32::try_from(block).unwrap(), 1);
                let tag = self.sessions[session].start(0, &cdb, Data::Out(&pattern(value)));
                Write { session, tag, block, value }
            })
            .collect()
    }

    /// Makes it happen; the gate is opened in the midst of it.
    fn happen(&mut self, event: Event, writes: &[Write], gate: Option<&Gate>) {
        let ends_some = writes.iter().enumerate().any(|(index, write)| event.ends(index, write));
        let open = || {
            if let Some(gate) = gate {
                gate.open();
            }
        };
        let (function, from, referenced) = match event {
            Event::Nothing => return open(),
            Event::AbortTask(index) => (ABORT_TASK, writes[index].session, Some(writes[index].tag)),
            Event::Function(function, from) => (function, from, None),
            Event::Lost(session) => {
                self.sessions[session].wire.shut_down_sending();
                open();
                self.sessions[session] = self.world.log_in(&self.logins[session]);
                return;
            }
            Event::Replaced(session) => {
                let mut wire = Wire::connect(self.world.address);
                self.logins[session].begin(&mut wire);
                open();
                self.sessions[session] = Initiator::logged_in(wire).unwrap();
                return;
            }
        };
        let tag = self.sessions[from].start_function(function, 0, referenced);
        if gate.is_some() && ends_some && function != TARGET_COLD_RESET {
            self.sessions[from].nop();
            assert!(!self.sessions[from].is_answered(tag), "they can still write");
        }
        open();
        let response = self.sessions[from].finish_function(tag);
        // Without a gate the one task may have been done (RFC 7143 §11.6.1).
        let was_done = function == ABORT_TASK && gate.is_none() && response == NO_SUCH_TASK;
        assert!(response == COMPLETE || was_done, "response {response}");
        if function == TARGET_COLD_RESET {
            for (session, login) in self.sessions.iter_mut().zip(&self.logins) {
                session.read_to_end();
                *session = self.world.log_in(login);
            }
        }
    }

    fn round(&mut self, random: &mut Random) -> Event {
        let gate = (random.below(3) > 0).then(|| self.image.gate(Operation::Write));
        let writes = self.start_writes(random);
        // All of them have come before anything else does.
        self.sessions.iter_mut().for_each(Initiator::nop);
        if let Some(gate) = &gate {
            assert!(gate.wait_for_arrivals(writes.len(), PATIENCE));
        }
        let event = Event::any(random, writes.len());
        self.happen(event, &writes, gate.as_ref());

        let mut possible: [Vec<u64>; BLOCKS] = Default::default();
        let mut done = [false; BLOCKS];
        let mut lost = [false; SESSIONS];
        for (index, write) in writes.iter().enumerate() {
            possible[write.block].push(write.value);
            if !event.ends(index, write) {
                self.sessions[write.session].finish(write.tag).good();
                done[write.block] = true;
                continue;
            }
            if event.begins_anew(write.session) {
                continue;
            }
            self.sessions[write.session].nop();
            // Without a gate it may have been done before it could be ended.
            if self.sessions[write.session].is_answered(write.tag) {
                assert!(gate.is_none(), "an ended command was answered");
                self.sessions[write.session].finish(write.tag).good();
                done[write.block] = true;
            } else {
                self.ended.push((write.session, write.tag));
                lost[write.session] = true;
            }
        }
        for (session, lost) in lost.into_iter().enumerate() {
            let expected: Vec<u8> = event.tells(session, lost).into_iter().collect();
            assert_eq!(told(&mut self.sessions[session]), expected, "session {session}");
            if event.begins_anew(session) {
                self.ended.retain(|(other, _)| *other != session);
            }
        }
        for (session, tag) in &self.ended {
            assert!(!self.sessions[*session].is_answered(*tag), "answered after its end");
        }
        for (block, mut possible) in possible.into_iter().enumerate() {
            if !done[block] {
                possible.push(self.blocks[block]);
            }
            let session = &mut self.sessions[random.below(SESSIONS)];
            let cdb = read(u32::try_from(block).unwrap(), 1);
            let data = session.execute(0, &cdb, Data::In(BLOCK)).good();
            let value = u64::from_le_bytes(data[..8].try_into().unwrap());
            assert_eq!(data, pattern(value), "half a write");
            assert!(possible.contains(&value), "block {block} holds {value}, not of {possible:?}");
            self.blocks[block] = value;
        }
        event
    }
}

fn run(seed: u64) {
    let (mut random, mut model) = (Random::new(seed), Model::new());
    let mut happened = Vec::new();
    for _ in 0..ROUNDS {
        let round = AssertUnwindSafe(|| model.round(&mut random));
        happened.push(catch_unwind(round).unwrap_or_else(|panic| {
            let message = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            panic!("seed {seed}, in the round after {happened:?}: {message}")
        }));
    }
}

#[test]
fn sessions_in_any_order_agree_with_the_reference_of_the_task_set() {
    (1..=24).for_each(run);
}
