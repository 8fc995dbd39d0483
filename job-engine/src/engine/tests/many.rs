//! Very many jobs that have ended.

use super::*;
use crate::store::SledStore;

const MANY: usize = 100_000;

/// Put there in one transaction.
const AT_ONCE: usize = 10_000;

/// Counts what is asked of the store.
struct Counting {
    inner: Box<dyn Store>,
    counts: Arc<Mutex<(usize, usize)>>,
}

impl Store for Counting {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(tree, key)
    }

    fn scan(&self, tree: Tree) -> Result<Vec<KeyValue>, StoreError> {
        self.counts.lock().0 += 1;
        self.inner.scan(tree)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.counts.lock().1 += batch.operations().len();
        self.inner.commit(batch)
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.inner.reopen()
    }
}

/// Where the jobs lie.
#[derive(Clone, Copy, PartialEq)]
enum Medium {
    Memory,
    /// With the cache that a daemon has, so nearly all of them are on the disk alone.
    Disk,
}

/// What some work asks of the store when so many jobs have ended before it.
fn asked(ended: usize, medium: Medium) -> (usize, usize) {
    let directory = tempfile::tempdir().unwrap();
    let mut config = EngineConfig::new(directory.path());
    config.max_ended_jobs = MANY + 100;
    config.clock = ManualClock::new(start());
    let contents = MemContents::default();
    let open_store = || -> Box<dyn Store> {
        match medium {
            Medium::Memory => Box::new(MemStore::open(&contents)),
            Medium::Disk => {
                Box::new(SledStore::open(&directory.path().join("store")).unwrap().store)
            }
        }
    };
    let model = {
        let engine = Engine::open_with_store(config.clone(), open_store()).unwrap();
        let id = engine.create_disk(CreateDisk::new("model", MIB)).unwrap();
        assert_eq!(engine.wait(&id, PATIENCE).unwrap().state, JobState::Completed);
        let record = engine.shared.state.lock().jobs[&id].record.clone();
        engine.shutdown();
        JobRecord::clone(&record)
    };
    let mut inner = open_store();
    for count in (0..ended).step_by(AT_ONCE).map(|done| AT_ONCE.min(ended - done)) {
        let mut batch = Batch::default();
        for _ in 0..count {
            let mut record = model.clone();
            record.job.id = JobId::generate();
            batch.put(Tree::Jobs, record.job.id.uuid().as_bytes(), &record).unwrap();
        }
        inner.commit(&batch).unwrap();
    }
    let counts = Arc::new(Mutex::new((0, 0)));
    let store = Counting { inner, counts: counts.clone() };
    let engine = Engine::open_with_store(config, Box::new(store)).unwrap();
    assert_eq!(engine.jobs().len(), ended + 1);
    *counts.lock() = (0, 0);
    for n in 0..10 {
        let id = engine.create_disk(CreateDisk::new(format!("d{n}"), MIB)).unwrap();
        assert_eq!(engine.wait(&id, PATIENCE).unwrap().state, JobState::Completed);
        let disk = engine.job(&id).unwrap().kind.disk();
        let id = engine.delete_disk(disk).unwrap();
        assert_eq!(engine.wait(&id, PATIENCE).unwrap().state, JobState::Completed);
        engine.delete_job(&id).unwrap();
    }
    engine.shutdown();
    let asked = counts.lock();
    *asked
}

#[test]
fn a_hundred_thousand_jobs_that_have_ended_cost_later_ones_nothing_in_the_store() {
    let few = asked(0, Medium::Memory);
    assert_eq!(few.0, 0, "nothing is read again");
    assert_eq!(asked(MANY, Medium::Disk), few);
}

#[test]
fn a_fault_finds_its_record_among_all_jobs_without_looking_at_them() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    let report = || FaultReport {
        disk: disk.id,
        target: "t".to_owned(),
        lun: 0,
        lba: None,
        opcode: 0x28,
        initiator: "i".to_owned(),
        kind: disk_image::ImageErrorKind::Io,
        operation: disk_image::Operation::Read,
        errno: None,
        path: disk.path.clone(),
        text: String::new(),
    };
    bench.record_fault(report());
    bench.until("the fault", |state| state.faults.len() == 1);
    let id = *bench.shared.state.lock().faults.values().next().unwrap();
    bench.delete_job(&id).unwrap();
    assert!(bench.shared.state.lock().faults.is_empty());
    bench.clock.advance(Duration::from_secs(2));
    bench.record_fault(report());
    bench.until("a new one", |state| state.faults.values().any(|new| *new != id));
}
