use super::*;
use crate::kinds::Step;

fn open_directory(directory: &Path) -> Arc<Engine> {
    Engine::open(EngineConfig::new(directory)).unwrap()
}

fn finished_disk(engine: &Engine, name: &str) -> Disk {
    let id = engine.create_disk(CreateDisk::new(name, MIB)).unwrap();
    let job = engine.wait(&id, PATIENCE).unwrap();
    assert_eq!(job.state, JobState::Completed, "{job:?}");
    engine.disk(&job.kind.disk()).unwrap()
}

/// Something of everything.
fn populated(directory: &Path) -> Snapshot {
    let engine = open_directory(directory);
    let target = TargetRequest { name: "t".to_owned(), alias: "alias".to_owned() };
    let target = engine.create_target(target).unwrap().name;
    let disk = finished_disk(&engine, "a");
    finished_disk(&engine, "b");
    engine.map(MapRequest { disk: disk.id, target, lun: Some(4) }).unwrap();
    let failed = engine.create_disk(CreateDisk::new("c", 1 << 60)).unwrap();
    let _ = engine.wait(&failed, PATIENCE);
    engine.shutdown();
    Snapshot { sequence: 0, ..engine.snapshot() }
}

#[test]
fn after_a_shutdown_everything_is_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let before = populated(directory.path());
    assert_eq!((before.jobs.len(), before.disks.len(), before.mappings.len()), (3, 2, 1));
    let engine = open_directory(directory.path());
    assert_eq!(engine.snapshot(), before);
    assert!(engine.alerts().is_empty());
    drop(engine);
    assert_eq!(open_directory(directory.path()).snapshot(), before, "and once more");
}

#[test]
fn jobs_in_every_unfinished_state_are_there_after_a_restart_and_come_to_an_end() {
    let mut bench = Bench::new();
    let (new, _) = bench.waiting("new");
    let (suspended, _) = bench.waiting("suspended");
    bench.ask(suspended, RequestedState::Suspend);
    let gate = bench.gates.set(|record| record.step == Step::CreateAllocating);
    let running = bench.create_disk(CreateDisk::new("running", MIB)).unwrap();
    gate.reached();
    bench.shared.stopping.store(true, Ordering::Release);
    drop(gate);
    bench.restart();
    assert_eq!(bench.state(new), JobState::New);
    assert_eq!(bench.state(suspended), JobState::Suspended);
    for id in [new, suspended] {
        assert_eq!(bench.ask(id, RequestedState::Start), RequestStateChangeResult::Started);
    }
    for id in [new, suspended, running] {
        let job = bench.end(id);
        assert_eq!(job.state, JobState::Completed, "{job:?}");
    }
    assert_eq!((bench.disks().len(), bench.files().len()), (3, 3));
}

#[test]
fn a_job_on_its_way_back_when_the_engine_stopped_goes_on_with_that() {
    let mut bench = Bench::new();
    let (id, disk) = bench.waiting("a");
    // As a crash would have left it: the intention is recorded, the file is still there.
    std::fs::write(disk_image::partial_path(&disk.path), b"part").unwrap();
    bench.engine.shutdown();
    let mut record = JobRecord::clone(&bench.shared.state.lock().jobs[&id].record);
    record.step = Step::CreateAllocating;
    record.enter(JobState::ShuttingDown, start());
    let error =
        Cause::Cancelled { by: "a test".to_owned() }.to_cim_error(None, &bench.shared.paths);
    record.ending = Some(state::Ending { state: JobState::Terminated, errors: vec![error] });
    let change = [Change::PutJob(Box::new(record))];
    MemStore::open(&bench.contents).commit(&state::batch(&change).unwrap()).unwrap();
    bench.restart();
    let job = bench.end(id);
    assert_eq!((job.state, ids(&job)), (JobState::Terminated, vec!["ISCT-JOB-001"]));
    assert!(bench.files().is_empty());
}

#[test]
fn a_directory_is_opened_once_and_the_second_opener_is_told_by_whom() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open_directory(directory.path());
    match Engine::open(EngineConfig::new(directory.path())) {
        Err(OpenError::InUse { directory: named, pid }) => {
            assert_eq!(named, directory.path());
            assert_eq!(pid, Some(std::process::id()));
        }
        other => panic!("{other:?}"),
    }
    // Nor does the attempt harm the one that has it.
    finished_disk(&engine, "a");
    drop(engine);
    assert_eq!(open_directory(directory.path()).disks().len(), 1);
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let path = file.join("data");
    match Engine::open(EngineConfig::new(&path)) {
        Err(OpenError::Io { path: named, .. }) => assert_eq!(named, path),
        other => panic!("{other:?}"),
    }
}

/// Ways to lose what the database has written.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Garbage,
    Empty,
    Half,
    LastBytes,
    OneByteInTheMiddle,
    ZeroedPage,
    Configuration,
    Removed,
}

fn damage(database: &Path, damage: Damage) {
    let log = database.join("db");
    let mut bytes = std::fs::read(&log).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    match damage {
        Damage::Garbage => bytes.fill(0xa5),
        Damage::Empty => bytes.clear(),
        Damage::Half => bytes.truncate(used / 2),
        Damage::LastBytes => bytes[used - 10..used].iter_mut().for_each(|byte| *byte ^= 0xff),
        Damage::OneByteInTheMiddle => bytes[used / 2] ^= 0xff,
        Damage::ZeroedPage => bytes[used / 4..used / 4 + 512].fill(0),
        Damage::Configuration => {
            return std::fs::write(database.join("conf"), b"no configuration").unwrap();
        }
        Damage::Removed => return std::fs::remove_dir_all(database).unwrap(),
    }
    std::fs::write(&log, bytes).unwrap();
}

#[test]
fn a_damaged_database_is_moved_aside_and_rebuilt_from_the_journal_with_an_alert() {
    for kind in [
        Damage::Garbage,
        Damage::Empty,
        Damage::Half,
        Damage::LastBytes,
        Damage::OneByteInTheMiddle,
        Damage::ZeroedPage,
        Damage::Configuration,
        Damage::Removed,
    ] {
        let directory = tempfile::tempdir().unwrap();
        let before = populated(directory.path());
        damage(&directory.path().join("db"), kind);
        let engine = open_directory(directory.path());
        let after = engine.snapshot();
        assert_eq!(after, Snapshot { sequence: after.sequence, ..before.clone() }, "{kind:?}");
        let alert = engine.alerts().remove(0);
        assert_eq!(alert.message_id, "ISCT-DB-002", "{kind:?}");
        let aside = Path::new(&alert.message_arguments[0]);
        assert!(aside.is_dir() && aside.starts_with(directory.path()), "{alert:?}");
        finished_disk(&engine, "new");
        drop(engine);
        let engine = open_directory(directory.path());
        assert_eq!(engine.disks().len(), 3);
        assert!(engine.alerts().is_empty(), "it is told once");
    }
}

#[test]
fn a_lost_or_damaged_journal_is_made_anew_from_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let before = populated(directory.path());
    let journal = directory.path().join("journal.jsonl");
    std::fs::remove_file(&journal).unwrap();
    assert_eq!(open_directory(directory.path()).snapshot().disks, before.disks);
    let mut bytes = std::fs::read(&journal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&journal, bytes).unwrap();
    assert_eq!(open_directory(directory.path()).snapshot().mappings, before.mappings);
    damage(&directory.path().join("db"), Damage::Removed);
    let after = open_directory(directory.path()).snapshot();
    assert_eq!(after.disks, before.disks);
    assert_eq!((after.targets, after.mappings), (before.targets, before.mappings));
}

#[test]
fn single_damaged_records_are_replaced_from_the_journal_or_removed_and_an_alert_counts_them() {
    let directory = tempfile::tempdir().unwrap();
    let before = populated(directory.path());
    {
        let mut store = crate::store::SledStore::open(&directory.path().join("db")).unwrap().store;
        let mut batch = Batch::default();
        let key = *before.disks[0].id.uuid().as_bytes();
        batch.put_raw(Tree::Disks, &key, b"nonsense".to_vec());
        batch.put_raw(Tree::Targets, b"a target nobody knows", b"nonsense".to_vec());
        store.commit(&batch).unwrap();
    }
    let engine = open_directory(directory.path());
    let alert = engine.alerts().remove(0);
    assert_eq!(alert.message_id, "ISCT-DB-005");
    assert_eq!(alert.message_arguments, ["2", "1"]);
    assert_eq!(engine.disks(), before.disks);
    assert_eq!(engine.targets(), before.targets);
    drop(engine);
    assert!(open_directory(directory.path()).alerts().is_empty());
}

#[test]
fn a_request_is_known_again_by_its_key_after_a_restart_as_long_as_its_job_is_there() {
    let mut bench = Bench::new();
    let request = RequestKey { key: "k".to_owned(), fingerprint: "f".to_owned() };
    let by = |owner: &str| Submission {
        owner: owner.to_owned(),
        request: Some(request.clone()),
        ..Submission::default()
    };
    let ours = bench.create_disk_with(CreateDisk::new("ours", MIB), by("we")).unwrap();
    let theirs = bench.create_disk_with(CreateDisk::new("theirs", MIB), by("they")).unwrap();
    bench.end(ours);
    bench.end(theirs);
    bench.restart();
    assert_eq!(bench.job_of_request("we", "k"), Some((ours, request.clone())));
    assert_eq!(bench.job_of_request("they", "k"), Some((theirs, request.clone())));
    assert_eq!(bench.job_of_request("we", "l"), None);
    bench.delete_job(&ours).unwrap();
    assert_eq!(bench.job_of_request("we", "k"), None);
}
