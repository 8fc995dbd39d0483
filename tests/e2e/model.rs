//! Random sequences of everything that changes a disk, against a model in memory, for every format:
//! commands of initiators, jobs, restarts, kills. The seed is printed; `LUND_MODEL_SEED` and
//! `LUND_MODEL_STEPS` repeat and lengthen a run.

use std::collections::BTreeMap;

use super::support::{Daemon, Place, Session};

const TARGET: &str = "iqn.2026-01.io.lund:t";
/// Blocks of a run, which is written as a whole.
const RUN: u64 = 8;
const RUN_BYTES: usize = 4096;
const MIB_RUNS: usize = (1 << 20) / RUN_BYTES;

/// xorshift64*, so that a seed means the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next()).unwrap() % bound
    }
}

/// What a run may hold: the last one is what it holds while nobody dies, the others what it may hold
/// after that, since none of it was flushed.
type Held = Vec<u8>;

struct World {
    place: Place,
    daemon: Option<Daemon>,
    session: Option<Session>,
    format: &'static str,
    chance: Chance,
    disk: Vec<Held>,
    snapshots: BTreeMap<String, Vec<u8>>,
    made: usize,
    /// What has happened, for whoever has to find out why it went wrong.
    story: Vec<String>,
    counts: BTreeMap<&'static str, usize>,
}

fn now(held: &Held) -> u8 {
    *held.last().unwrap()
}

impl World {
    fn new(format: &'static str, seed: u64) -> Self {
        let place = Place::new();
        let daemon = place.start(&[]);
        let create = ["disk", "create", "d", "--size", "4MiB", "--format", format];
        daemon.lunctl(&create).ok();
        daemon.expose("t", "d", 0);
        let other = place.path().canonicalize().unwrap().join("other");
        std::fs::create_dir(&other).unwrap();
        daemon.lunctl(&["pool", "create", "other", other.to_str().unwrap()]).ok();
        let mut world = Self {
            place,
            daemon: Some(daemon),
            session: None,
            format,
            chance: Chance(seed | 1),
            disk: vec![vec![0]; 4 * MIB_RUNS],
            snapshots: BTreeMap::new(),
            made: 0,
            story: Vec::new(),
            counts: BTreeMap::new(),
        };
        world.log_in();
        world
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    fn session(&mut self) -> &mut Session {
        self.session.as_mut().unwrap()
    }

    fn log_in(&mut self) {
        let mut session = Session::login(self.daemon().portal, TARGET);
        session.settle(0);
        self.session = Some(session);
    }

    fn tell(&mut self, kind: &'static str, what: String) {
        *self.counts.entry(kind).or_default() += 1;
        self.story.push(what);
    }

    /// A command; what management has just changed is told by unit attentions.
    fn command(&mut self, cdb: &[u8], data: &[u8], reads: u32) -> Vec<u8> {
        loop {
            let session = self.session();
            let done = if data.is_empty() {
                session.run(0, cdb, reads).unwrap()
            } else {
                session.run_with(0, cdb, data).unwrap()
            };
            match done.check() {
                Some((0x6, ..)) => {}
                _ => return done.good(),
            }
        }
    }

    fn blocks(operation: u8, flags: u8, run: usize, runs: usize) -> [u8; 16] {
        let mut cdb = [0; 16];
        (cdb[0], cdb[1]) = (operation, flags);
        cdb[2..10].copy_from_slice(&(run as u64 * RUN).to_be_bytes());
        cdb[10..14].copy_from_slice(&u32::try_from(runs as u64 * RUN).unwrap().to_be_bytes());
        cdb
    }

    /// Some runs one behind the other.
    fn somewhere(&mut self) -> (usize, usize) {
        let run = self.chance.below(self.disk.len());
        let most = (self.disk.len() - run).min(64);
        (run, 1 + self.chance.below(most))
    }

    fn put(&mut self, (run, runs): (usize, usize), byte: u8, durable: bool) {
        for held in &mut self.disk[run..run + runs] {
            if durable {
                held.clear();
            }
            held.push(byte);
        }
    }

    fn flushed(&mut self) {
        for held in &mut self.disk {
            held.drain(..held.len() - 1);
        }
    }

    fn write(&mut self) {
        let (run, runs) = self.somewhere();
        let byte = u8::try_from(self.chance.below(256)).unwrap();
        let durable = self.chance.below(8) == 0;
        self.tell("write", format!("write {byte:#x} to {run}, {runs}, durable {durable}"));
        let flags = if durable { 0x08 } else { 0 };
        self.command(&Self::blocks(0x8a, flags, run, runs), &vec![byte; runs * RUN_BYTES], 0);
        self.put((run, runs), byte, durable);
    }

    fn write_same(&mut self) {
        let (run, runs) = self.somewhere();
        let byte = u8::try_from(self.chance.below(256)).unwrap();
        self.tell("write same", format!("write same {byte:#x} to {run}, {runs}"));
        self.command(&Self::blocks(0x93, 0, run, runs), &[byte; 512], 0);
        self.put((run, runs), byte, false);
    }

    fn unmap(&mut self) {
        let (run, runs) = self.somewhere();
        self.tell("unmap", format!("unmap {run}, {runs}"));
        let mut list = [0; 24];
        (list[1], list[3]) = (22, 16);
        list[8..16].copy_from_slice(&(run as u64 * RUN).to_be_bytes());
        list[16..20].copy_from_slice(&u32::try_from(runs as u64 * RUN).unwrap().to_be_bytes());
        self.command(&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list, 0);
        self.put((run, runs), 0, false);
    }

    fn flush(&mut self) {
        self.tell("flush", "flush".to_owned());
        self.command(&Self::blocks(0x91, 0, 0, 0), &[], 0);
        self.flushed();
    }

    fn read_of(&mut self, run: usize, runs: usize) -> Vec<u8> {
        let length = u32::try_from(runs * RUN_BYTES).unwrap();
        self.command(&Self::blocks(0x88, 0, run, runs), &[], length)
    }

    fn compare(&mut self, (run, runs): (usize, usize)) {
        let data = self.read_of(run, runs);
        for (number, bytes) in (run..).zip(data.chunks(RUN_BYTES)) {
            let wanted = now(&self.disk[number]);
            let wrong = bytes.iter().find(|byte| **byte != wanted);
            assert_eq!(wrong, None, "run {number} holds {wanted:#x}: {}", self.told());
        }
    }

    fn read(&mut self) {
        let place = self.somewhere();
        self.tell("read", format!("read {place:?}"));
        self.compare(place);
    }

    fn told(&self) -> String {
        let from = self.story.len().saturating_sub(60);
        format!("{}\n{}", self.format, self.story[from..].join("\n"))
    }

    /// A job that may not be possible on this file system or for this format.
    fn job(&mut self, kind: &'static str, arguments: &[&str]) -> bool {
        let run = self.daemon().lunctl(arguments);
        let not_here = [
            "ISCT-STG-014",
            "cannot share blocks",
            // More than one image is laid over a snapshot that was rolled back to.
            "images that are laid over it",
        ];
        if run.status != 0 {
            let known = not_here.iter().any(|text| run.stderr.contains(text));
            let tail =
                run.stderr.contains("behind its new end") || run.stderr.contains("data there");
            assert!(known || tail, "{arguments:?}: {}\n{}", run.stderr, self.told());
            self.tell("refused", format!("refused: {arguments:?}"));
            return false;
        }
        self.tell(kind, format!("{arguments:?}"));
        true
    }

    fn snapshot(&mut self) {
        self.made += 1;
        let name = format!("s{}", self.made);
        if self.job("snapshot", &["snapshot", "create", &name, "d"]) {
            self.snapshots.insert(name, self.disk.iter().map(now).collect());
        }
    }

    fn one_snapshot(&mut self) -> Option<String> {
        let count = self.snapshots.len();
        if count == 0 {
            return None;
        }
        let at = self.chance.below(count);
        self.snapshots.keys().nth(at).cloned()
    }

    fn roll_back(&mut self) {
        let Some(name) = self.one_snapshot() else { return };
        if self.job("roll back", &["snapshot", "rollback", &format!("d@{name}")]) {
            self.disk = self.snapshots[&name].iter().map(|byte| vec![*byte]).collect();
        }
    }

    fn delete_snapshot(&mut self) {
        let Some(name) = self.one_snapshot() else { return };
        if self.job("delete snapshot", &["snapshot", "delete", &format!("d@{name}")]) {
            self.snapshots.remove(&name);
        }
    }

    /// A disk that is made of this one or of a snapshot has its data.
    fn copy(&mut self) {
        let (made, wanted) = match self.one_snapshot() {
            Some(name) if self.chance.below(2) == 0 => {
                let of = format!("d@{name}");
                let made = self.job("expose", &["snapshot", "expose", &of, "copy"]);
                (made, self.snapshots[&name].clone())
            }
            _ => {
                let made = self.job("clone", &["disk", "clone", "d", "copy"]);
                (made, self.disk.iter().map(now).collect())
            }
        };
        if !made {
            return;
        }
        self.daemon().lunctl(&["target", "map", "t", "copy", "--lun", "1"]).ok();
        let session = self.session();
        session.settle(0);
        session.settle(1);
        for (piece, bytes) in wanted.chunks(MIB_RUNS).enumerate() {
            let lba = (piece * MIB_RUNS) as u64 * RUN;
            let read = session.read(1, lba, u32::try_from(bytes.len() as u64 * RUN).unwrap());
            for (run, (found, wanted)) in read.chunks(RUN_BYTES).zip(bytes).enumerate() {
                let right = found.iter().all(|byte| byte == wanted);
                assert!(right, "the copy has {} in run {run} of MiB {piece}", found[0]);
            }
        }
        self.daemon().lunctl(&["target", "unmap", "t", "1"]).ok();
        self.daemon().lunctl(&["disk", "delete", "copy"]).ok();
        self.session().settle(0);
    }

    fn resize(&mut self) {
        let before = self.disk.len();
        // Snapshots bind the size; a roll back brings it back.
        let runs = (1 + self.chance.below(8)) * MIB_RUNS;
        let size = format!("{}MiB", runs / MIB_RUNS);
        if runs > before {
            if self.job("expand", &["disk", "expand", "d", "--size", &size]) {
                self.disk.resize(runs, vec![0]);
            }
        } else if runs < before {
            // What goes must hold nothing.
            for start in (runs..before).step_by(64) {
                let runs = (before - start).min(64);
                let mut list = [0; 24];
                (list[1], list[3]) = (22, 16);
                list[8..16].copy_from_slice(&(start as u64 * RUN).to_be_bytes());
                list[16..20]
                    .copy_from_slice(&u32::try_from(runs as u64 * RUN).unwrap().to_be_bytes());
                self.command(&[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list, 0);
                self.put((start, runs), 0, false);
            }
            if self.job("shrink", &["disk", "shrink", "d", "--size", &size]) {
                self.disk.truncate(runs);
            }
        }
    }

    /// Into another pool, another format or no more space than it needs, while everything else happens.
    fn relocate(&mut self) {
        // Its snapshots stay where they are, and so does it.
        if !self.snapshots.is_empty() {
            return;
        }
        let pool = if self.chance.below(2) == 0 { "default" } else { "other" };
        let format = ["raw", "qcow2", "vhdx", "vhd"][self.chance.below(4)];
        let to = ["disk", "move", "d", "--pool", pool, "--format", format];
        let words: &[&str] =
            if self.chance.below(4) == 0 { &["disk", "compact", "d"] } else { &to };
        let how = ["--no-wait", "--job-bandwidth", "32MiB"];
        let run = self.daemon().lunctl(&[words, &how].concat());
        if run.status != 0 {
            assert!(run.stderr.contains("already"), "{words:?}: {}\n{}", run.stderr, self.told());
            return;
        }
        let id = run.stdout.trim().to_owned();
        self.tell("move", format!("{words:?}"));
        let ends = self.chance.below(8);
        for _ in 0..self.chance.below(40) {
            self.io();
        }
        match ends {
            0 => self.kill(),
            1 => self.restart(),
            // It may be over.
            2 => drop(self.daemon().lunctl(&["job", "cancel", &id])),
            _ => {}
        }
        for _ in 0..self.chance.below(10) {
            self.io();
        }
        let run = self.daemon().lunctl(&["job", "wait", &id]);
        assert!(run.status == 0 || ends == 2, "{}\n{}", run.stderr, self.told());
        self.tell("moved", format!("moved: {}", run.status));
    }

    fn restart(&mut self) {
        self.tell("restart", "restart".to_owned());
        self.session = None;
        self.daemon.take().unwrap().stop();
        self.daemon = Some(self.place.start(&[]));
        self.flushed();
        self.log_in();
    }

    /// SIGKILL: what was not flushed may be there or not.
    fn kill(&mut self) {
        self.tell("kill", "kill -9".to_owned());
        self.session = None;
        self.daemon.take().unwrap().kill();
        self.daemon = Some(self.place.start(&[]));
        self.log_in();
        for piece in 0..self.disk.len().div_ceil(MIB_RUNS) {
            let start = piece * MIB_RUNS;
            let runs = (self.disk.len() - start).min(MIB_RUNS);
            let data = self.read_of(start, runs);
            for (run, bytes) in (start..).zip(data.chunks(RUN_BYTES)) {
                let mut found = Vec::new();
                for block in bytes.chunks(512) {
                    assert!(block.iter().all(|byte| *byte == block[0]), "a torn block in {run}");
                    found.push(block[0]);
                }
                let may = &self.disk[run];
                let wrong = found.iter().find(|byte| !may.contains(byte));
                assert_eq!(wrong, None, "run {run} may hold {may:x?}: {}", self.told());
                // From here on it holds what was read; blocks of one run may be of different times.
                if found.iter().any(|byte| *byte != found[0]) {
                    let byte = found[0];
                    self.command(&Self::blocks(0x8a, 0x08, run, 1), &[byte; RUN_BYTES], 0);
                }
                self.disk[run] = vec![found[0]];
            }
        }
        // What was read may lie in memory only.
        self.flush();
    }

    fn check(&mut self) {
        let run = self.daemon().lunctl(&["disk", "check", "d"]);
        // Clusters that were taken when the daemon was killed are lost until a repair: no data is.
        let killed = self.counts.contains_key("kill");
        let known = run.stderr.contains("cannot share blocks")
            || (killed && run.stderr.contains("that nothing in it uses"));
        assert!(run.status == 0 || known, "{}\n{}", run.stderr, self.told());
        self.tell("check", "check".to_owned());
    }

    /// What initiators do.
    fn io(&mut self) {
        match self.chance.below(90) {
            0..36 => self.write(),
            36..46 => self.write_same(),
            46..58 => self.unmap(),
            58..82 => self.read(),
            _ => self.flush(),
        }
    }

    fn step(&mut self) {
        match self.chance.below(101) {
            0..90 => self.io(),
            100 => self.relocate(),
            90 => self.resize(),
            91 => self.snapshot(),
            92 => self.roll_back(),
            93 => self.delete_snapshot(),
            94 => self.copy(),
            95 => self.restart(),
            96 | 97 => self.kill(),
            98 => self.check(),
            _ => self.compare((0, self.disk.len().min(512))),
        }
    }
}

fn run(format: &'static str) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = number("LUND_MODEL_SEED").unwrap_or_else(|| u64::from(clock.subsec_nanos()));
    let steps = number("LUND_MODEL_STEPS").unwrap_or(400);
    eprintln!("{format}: seed {seed}, {steps} steps");
    let mut world = World::new(format, seed);
    for _ in 0..steps {
        world.step();
    }
    world.restart();
    for start in (0..world.disk.len()).step_by(512) {
        let runs = (world.disk.len() - start).min(512);
        world.compare((start, runs));
    }
    eprintln!("{format}: {:?}", world.counts);
    // A tool that was not written here finds the same.
    let path = world.daemon().file_of("d");
    world.session = None;
    world.daemon.take().unwrap().stop();
    // Of another format, perhaps, since a snapshot was taken; VHDs and raw images have no check.
    let driver = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
    if ["qcow2", "vhdx"].contains(&driver) {
        let mut check = std::process::Command::new("qemu-img");
        let Ok(output) = check.args(["check", "-f", driver]).arg(&path).output() else { return };
        // 3: clusters that nobody uses, as a kill leaves them.
        assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
    }
}

#[test]
fn raw_is_what_the_model_says() {
    run("raw");
}

#[test]
fn qcow2_is_what_the_model_says() {
    run("qcow2");
}

#[test]
fn vhdx_is_what_the_model_says() {
    run("vhdx");
}

#[test]
fn vhd_is_what_the_model_says() {
    run("vhd");
}
