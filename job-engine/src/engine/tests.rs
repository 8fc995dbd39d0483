//! What the tests of the engine share: an engine on a store in memory, a clock that stands still,
//! and gates that hold the engine in front of a commit.

mod accounts;
mod catalogue;
mod checking;
mod configuration;
mod control;
mod convert;
mod copying;
mod create;
mod delete;
mod events;
mod expand;
mod faults;
mod limits;
mod many;
mod masking;
mod operation;
mod outage;
mod outbox;
mod progress;
mod restart;
mod retention;
mod saved;
mod schedule;
mod stream;
mod unknown;

use std::ops::Deref;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender};

use jiff::Timestamp;
use tempfile::TempDir;

use super::*;
use crate::clock::ManualClock;
use crate::event::ChangeKind;
use crate::job::{JobKind, JobState};
use crate::store::{Batch, KeyValue, MemContents, MemStore, StoreError, Tree};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

const MIB: u64 = 1 << 20;

/// An engine on a store in memory.
struct Bench {
    engine: Arc<Engine>,
    clock: Arc<ManualClock>,
    contents: MemContents,
    gates: Gates,
    config: EngineConfig,
    directory: TempDir,
}

impl Deref for Bench {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut EngineConfig)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(start());
        let mut config = EngineConfig::new(directory.path());
        config.clock = clock.clone();
        change(&mut config);
        let (contents, gates) = (MemContents::default(), Gates::default());
        let engine = open(&config, &contents, &gates);
        Self { engine, clock, contents, gates, config, directory }
    }

    /// Stops the engine and opens another one on the same medium.
    fn restart(&mut self) {
        self.engine.shutdown();
        self.engine = open(&self.config, &self.contents, &self.gates);
    }

    /// The job at its end.
    fn end(&self, id: JobId) -> Job {
        let job = self.wait(&id, PATIENCE).unwrap();
        assert!(job.state.is_terminal(), "{job:?}");
        job
    }

    /// A disk of 1 MiB.
    fn disk(&self, name: &str) -> Disk {
        let id = self.create_disk(CreateDisk::new(name, MIB)).unwrap();
        let job = self.end(id);
        assert_eq!(job.state, JobState::Completed, "{job:?}");
        self.engine.disk(&job.kind.disk()).unwrap()
    }

    /// A job that stays `New` until somebody starts it.
    fn waiting(&self, name: &str) -> (JobId, Disk) {
        self.waiting_at(name, 100)
    }

    fn waiting_at(&self, name: &str, priority: u32) -> (JobId, Disk) {
        let submission = Submission {
            scheduled_start_time: Some(start() + Duration::from_secs(3600)),
            priority,
            ..Submission::default()
        };
        let id = self.create_disk_with(CreateDisk::new(name, MIB), submission).unwrap();
        let job = self.job(&id).unwrap();
        assert_eq!(job.state, JobState::New);
        (id, disk_of(&job))
    }

    fn ask(&self, id: JobId, state: RequestedState) -> RequestStateChangeResult {
        self.request_state_change(&id, state, None, "a test")
    }

    fn state(&self, id: JobId) -> JobState {
        self.job(&id).unwrap().state
    }

    /// Waits until the engine's state is as wanted.
    fn until(&self, what: &str, mut ready: impl FnMut(&State) -> bool) {
        let seen =
            self.shared.wait_until(Some(PATIENCE), |state| ready(state).then_some(())).is_some();
        assert!(seen, "in vain: {what}");
    }

    /// Waits until nothing is left to sweep up.
    fn until_swept(&self) {
        self.until("nothing to sweep up", |state| state.debris.is_empty());
    }

    /// Names of the files in the pool.
    fn files(&self) -> Vec<String> {
        files(&self.config.default_pool)
    }

    /// Sends work to the engine's thread without waiting for it: it is done before anything that
    /// a job asks for later.
    fn post<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Core) -> R + Send + 'static,
    ) -> Receiver<R> {
        let (sender, receiver) = channel();
        let work = move |core: &mut Core| {
            let _ = sender.send(work(core));
        };
        self.shared.sender.send(Message::Call(Box::new(work))).unwrap();
        receiver
    }

    fn post_request(&self, id: JobId, state: RequestedState) -> Receiver<RequestStateChangeResult> {
        self.post(move |core| core.request_state(id, state, "a test"))
    }

    /// All events from now on, and the snapshot before them.
    fn listen(&self) -> (Snapshot, Receiver<ChangeEvent>) {
        let (sender, receiver) = channel();
        let tell = move |event: &ChangeEvent| {
            let _ = sender.send(event.clone());
        };
        (self.subscribe(Box::new(tell)).unwrap(), receiver)
    }

    /// Everything that has been told up to now.
    fn heard(&self, receiver: &Receiver<ChangeEvent>) -> Vec<ChangeEvent> {
        self.shared.wait_delivered(self.snapshot().sequence);
        receiver.try_iter().collect()
    }
}

fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn open(config: &EngineConfig, contents: &MemContents, gates: &Gates) -> Arc<Engine> {
    let store = GateStore { inner: MemStore::open(contents), gates: gates.clone() };
    Engine::open_with_store(config.clone(), Box::new(store)).unwrap()
}

fn files(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    // The mark of a pool.
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    names
}

fn disk_of(job: &Job) -> Disk {
    match &job.kind {
        JobKind::CreateDisk { disk, .. }
        | JobKind::DeleteDisk { disk }
        | JobKind::ExpandDisk { disk, .. } => Disk::clone(disk),
        JobKind::Planned { makes, .. } => Disk::clone(makes.as_ref().unwrap()),
        JobKind::Operation(operation) => operation.disk.clone(),
        JobKind::DataPathFault(_) | JobKind::Unknown(_) => panic!("{job:?}"),
    }
}

/// `MessageID`s of a job's errors.
fn ids(job: &Job) -> Vec<&str> {
    job.errors.iter().map(|error| error.message_id.as_str()).collect()
}

/// `MessageID` of a refusal.
fn refusal<R: std::fmt::Debug>(result: Result<R, RequestError>) -> String {
    result.unwrap_err().cim_error().message_id.clone()
}

/// Opens an image for itself alone, as the data path does.
fn hold(disk: &Disk) -> disk_image::RawImage {
    disk_image::RawImage::open(disk.path.as_path(), disk_image::OpenOptions::default()).unwrap()
}

/// A store that can be held in front of a commit.
struct GateStore {
    inner: MemStore,
    gates: Gates,
}

type Matcher = Box<dyn Fn(&JobRecord) -> bool + Send>;

/// Gates that were set, each for one commit.
#[derive(Clone, Default)]
struct Gates(Arc<Mutex<Vec<Post>>>);

/// The engine's side of a gate.
type Post = (Matcher, Sender<()>, Receiver<()>);

/// A closed gate; opens when dropped.
struct Gate {
    arrived: Receiver<()>,
    _open: Sender<()>,
}

impl Gates {
    /// Sets a gate in front of the first commit that writes such a job.
    fn set(&self, matches: impl Fn(&JobRecord) -> bool + Send + 'static) -> Gate {
        let (arrive, arrived) = channel();
        let (open, opened) = channel();
        self.0.lock().push((Box::new(matches), arrive, opened));
        Gate { arrived, _open: open }
    }
}

impl Gate {
    /// Waits until the engine's thread stands in front of it.
    fn reached(&self) {
        self.arrived.recv_timeout(PATIENCE).unwrap();
    }
}

impl Store for GateStore {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(tree, key)
    }

    fn scan(&self, tree: Tree) -> Result<Vec<KeyValue>, StoreError> {
        self.inner.scan(tree)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let jobs = batch.operations().iter().filter(|operation| operation.tree == Tree::Jobs);
        for value in jobs.filter_map(|operation| operation.value.as_ref()) {
            // Version and checksum stand before the JSON.
            let record: JobRecord = serde_json::from_slice(&value[5..]).unwrap();
            let mut gates = self.gates.0.lock();
            let found = gates.iter().position(|(matches, _, _)| matches(&record));
            if let Some((_, arrive, opened)) = found.map(|index| gates.remove(index)) {
                drop(gates);
                let _ = arrive.send(());
                let _ = opened.recv();
            }
        }
        self.inner.commit(batch)
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.inner.reopen()
    }
}
