use super::*;
use crate::catalogue::StoredRecord;
use crate::engine::import_state;
use crate::store::{SledStore, put_schema};

/// A directory with a state, and what is in it.
fn populated(directory: &Path) -> (Snapshot, String) {
    let engine = Engine::open(EngineConfig::new(directory)).unwrap();
    let id = engine.create_disk(CreateDisk::new("a", MIB)).unwrap();
    let job = engine.wait(&id, PATIENCE).unwrap();
    let target = TargetRequest { name: "t".to_owned(), alias: "x".to_owned() };
    let target = engine.create_target(target).unwrap().name;
    engine.map(MapRequest { disk: job.kind.disk(), target, lun: Some(3) }).unwrap();
    engine.save_record("name".to_owned(), Some("text".to_owned())).unwrap();
    let saved = engine.export_state().unwrap();
    engine.shutdown();
    (Snapshot { sequence: 0, ..engine.snapshot() }, saved)
}

fn state_of(directory: &Path) -> (Snapshot, Vec<StoredRecord>) {
    let engine = Engine::open(EngineConfig::new(directory)).unwrap();
    assert!(engine.alerts().is_empty(), "{:?}", engine.alerts());
    engine.shutdown();
    (Snapshot { sequence: 0, ..engine.snapshot() }, engine.records())
}

#[test]
fn a_saved_state_brings_everything_back_where_database_and_journal_are_gone() {
    let directory = tempfile::tempdir().unwrap();
    let (before, saved) = populated(directory.path());
    let file = directory.path().join("saved");
    std::fs::write(&file, &saved).unwrap();
    // One that was copied without the end of its line.
    let bare = directory.path().join("bare");
    std::fs::write(&bare, saved.trim_end()).unwrap();
    for (n, from) in [file, bare].into_iter().enumerate() {
        std::fs::remove_dir_all(directory.path().join("db")).unwrap();
        std::fs::remove_file(directory.path().join("journal.jsonl")).unwrap();
        let config = EngineConfig::new(directory.path());
        let imported = import_state(&config, &from, false).unwrap();
        assert_eq!((imported.records, imported.moved_to), (6, None), "{n}");
        for _ in 0..2 {
            let (state, records) = state_of(directory.path());
            assert_eq!(state, before);
            assert_eq!(records.len(), 2, "the generation, too");
        }
    }
}

/// What a client read before an import must not be taken for what is there since.
#[test]
fn an_imported_state_has_a_generation_that_there_never_was() {
    let directory = tempfile::tempdir().unwrap();
    let (_, saved) = populated(directory.path());
    let file = directory.path().join("saved");
    std::fs::write(&file, saved).unwrap();
    let config = EngineConfig::new(directory.path());
    let engine = Engine::open(config.clone()).unwrap();
    let at_export = engine.generation();
    for name in ["u", "v", "w"] {
        let name = name.to_owned();
        engine.create_target(TargetRequest { name, alias: String::new() }).unwrap();
    }
    let seen = engine.generation();
    assert_eq!(seen, at_export + 3);
    engine.shutdown();
    drop(engine);
    let wanted = Configuration { targets: Some(Vec::new()), ..Configuration::default() };
    let import = |keep: bool| {
        if !keep {
            std::fs::remove_dir_all(directory.path().join("db")).unwrap();
            std::fs::remove_file(directory.path().join("journal.jsonl")).unwrap();
        }
        import_state(&config, &file, true).unwrap();
        let engine = Engine::open(config.clone()).unwrap();
        let since = engine.generation();
        for old in at_export..=seen {
            let late = engine.configure(Some(vec![old]), wanted.clone()).unwrap_err();
            assert!(matches!(late.cause(), Cause::ChangedMeanwhile), "{late:?}");
        }
        engine.shutdown();
        since
    };
    // Beside the state that it replaces, where nothing is left of that, and from before the clock.
    let first = import(true);
    assert!(first > seen);
    assert!(import(false) > seen);
    let mut config = config.clone();
    config.clock = ManualClock::new(Timestamp::UNIX_EPOCH);
    import_state(&config, &file, true).unwrap();
    let engine = Engine::open(config).unwrap();
    assert!(engine.generation() > first);
}

#[test]
fn a_state_that_is_there_is_replaced_only_if_that_is_wanted_and_kept_aside_then() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_, saved) = populated(directory.path());
    let (there, _) = populated(other.path());
    let file = directory.path().join("saved");
    std::fs::write(&file, saved).unwrap();
    let config = EngineConfig::new(other.path());
    match import_state(&config, &file, false) {
        Err(ImportError::NotEmpty { records: 6, .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(state_of(other.path()).0, there);
    let imported = import_state(&config, &file, true).unwrap();
    assert!(imported.moved_to.unwrap().exists());
    let (state, records) = state_of(other.path());
    let (wanted, saved) = state_of(directory.path());
    assert_eq!(state, wanted);
    let but_generation = |all: Vec<StoredRecord>| {
        all.into_iter().filter(|it| it.name != "configuration/generation").collect::<Vec<_>>()
    };
    assert_eq!(but_generation(records), but_generation(saved));
}

#[test]
fn what_is_no_saved_state_or_from_the_future_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (before, saved) = populated(directory.path());
    let file = directory.path().join("saved");
    let config = EngineConfig::new(directory.path());
    let mut damaged = saved.clone().into_bytes();
    damaged[saved.len() / 2] ^= 1;
    std::fs::write(&file, damaged).unwrap();
    let import = || import_state(&config, &file, true);
    assert!(matches!(import(), Err(ImportError::NoState { .. })));
    let entry: serde_json::Value = serde_json::from_str(&saved).unwrap();
    let text = entry["entry"].to_string().replace("\"schema\":2", "\"schema\":99");
    let crc = crc32c::crc32c(text.as_bytes());
    std::fs::write(&file, format!("{{\"crc\":\"{crc:08x}\",\"entry\":{text}}}\n")).unwrap();
    assert!(matches!(import(), Err(ImportError::TooNew { found: 99, known: 2 })));
    std::fs::write(&file, saved).unwrap();
    let engine = Engine::open(config.clone()).unwrap();
    assert!(matches!(import(), Err(ImportError::Open(OpenError::InUse { .. }))));
    drop(engine);
    assert_eq!(state_of(directory.path()).0, before);
}

#[test]
fn jobs_that_have_not_ended_are_not_saved() {
    let bench = Bench::new();
    bench.disk("a");
    bench.waiting("b");
    let saved = bench.export_state().unwrap();
    assert!(saved.contains("\"a\"") && !saved.contains("Create disk b"), "{saved}");
    assert_eq!(saved.lines().count(), 1);
}

#[test]
fn a_database_of_a_newer_version_is_refused_by_name_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (before, _) = populated(directory.path());
    let set = |number| {
        let mut store = SledStore::open(&directory.path().join("db")).unwrap().store;
        let mut batch = Batch::default();
        put_schema(&mut batch, number).unwrap();
        store.commit(&batch).unwrap();
    };
    set(7);
    match Engine::open(EngineConfig::new(directory.path())) {
        Err(error @ OpenError::Store { .. }) => {
            assert!(error.to_string().contains("schema 7"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    set(1);
    assert_eq!(state_of(directory.path()).0, before);
}
