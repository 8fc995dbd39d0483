use std::sync::Weak;

use super::*;
use crate::catalogue::{PoolHealth, PoolLimits, PoolState, StoredRecord, Threshold};
use crate::id::PoolId;

fn words(change: &ChangeKind) -> String {
    match change {
        ChangeKind::JobCreated(job) => format!("new {}", job.name),
        ChangeKind::JobChanged { previous, current } => {
            format!("{} > {}", previous.state.name(), current.state.name())
        }
        ChangeKind::JobDeleted(_) => "job gone".to_owned(),
        ChangeKind::DiskCreated(disk) => format!("disk {}", disk.name),
        ChangeKind::DiskDeleted(disk) => format!("no disk {}", disk.name),
        ChangeKind::TargetCreated(target) => format!("target {}", target.alias),
        ChangeKind::TargetDeleted(target) => format!("no target {}", target.alias),
        ChangeKind::DiskChanged(disk) => format!("disk {} {}", disk.name, disk.size_bytes),
        ChangeKind::TargetChanged(target) => format!("target {} changed", target.alias),
        ChangeKind::MappingCreated(it) => format!("LUN {}", it.lun),
        ChangeKind::MappingDeleted(it) => format!("no LUN {}", it.lun),
        ChangeKind::PoolCreated(pool) => format!("pool {}", pool.id),
        ChangeKind::PoolChanged(pool) => format!("pool {} {:?}", pool.id, pool.limits.reserve),
        ChangeKind::PoolDeleted(pool) => format!("no pool {}", pool.id),
        ChangeKind::PoolHealthChanged { pool, previous, current } => {
            let name =
                |it: &Option<Arc<PoolHealth>>| it.as_ref().map_or("well", |it| it.trouble.name());
            format!("pool {pool}: {} > {}", name(previous), name(current))
        }
        ChangeKind::ConditionChanged(_)
        | ChangeKind::ConditionOver(_)
        | ChangeKind::SnapshotCreated(_)
        | ChangeKind::SnapshotDeleted(_) => panic!("{change:?}"),
    }
}

/// Tells of every change by its number, and of nothing that has to be forgotten.
#[derive(Debug, Default)]
struct Teller {
    opened: Mutex<Vec<String>>,
    engines: Mutex<Vec<Weak<Engine>>>,
    told: Mutex<u64>,
    outcomes: Mutex<Vec<bool>>,
}

impl Outbox for Teller {
    fn open(&self, _: Vec<StoredRecord>, messages: Vec<StoredRecord>) {
        *self.opened.lock() = messages.into_iter().map(|message| message.text).collect();
    }

    fn engine(&self, engine: Weak<Engine>) {
        assert!(engine.upgrade().is_some());
        self.engines.lock().push(engine);
    }

    fn tell(&self, changes: &[ChangeKind]) -> Vec<(String, Option<String>)> {
        let engine = self.engines.lock().last().and_then(Weak::upgrade);
        // Jobs of an earlier run may be the first to tell of.
        let before = engine.expect("there is one before anything changes").snapshot();
        for change in changes {
            if let ChangeKind::DiskCreated(disk) = change {
                assert!(before.disks.iter().all(|it| it.id != disk.id), "not yet");
            }
        }
        let mut told = self.told.lock();
        let mut entry = |change: &ChangeKind| {
            *told += 1;
            (format!("{told:06}"), Some(words(change)))
        };
        changes.iter().map(&mut entry).collect()
    }

    fn done(&self, durable: bool) {
        self.outcomes.lock().push(durable);
    }
}

fn bench() -> (Bench, Arc<Teller>) {
    let teller = Arc::new(Teller::default());
    let outbox = teller.clone();
    (Bench::with(|config| config.outbox = Some(outbox)), teller)
}

fn target(alias: &str) -> TargetRequest {
    TargetRequest { name: alias.to_owned(), alias: alias.to_owned() }
}

#[test]
fn messages_are_stored_with_their_changes_and_found_again_until_they_are_removed() {
    let (mut bench, teller) = bench();
    assert!(teller.opened.lock().is_empty());
    let commits = bench.contents.commits();
    let made = bench.create_target(target("t")).unwrap();
    assert_eq!(bench.contents.commits(), commits + 1, "one transaction for both");
    assert_eq!(bench.message("000001").as_deref(), Some("target t"));
    bench.delete_target(&made.name).unwrap();
    let disk = bench.disk("d");
    assert_eq!(bench.end(bench.delete_disk(disk.id).unwrap()).state, JobState::Completed);
    bench.restart();
    let opened = teller.opened.lock().clone();
    assert_eq!(opened[..2], ["target t", "no target t"]);
    assert_eq!(opened.iter().filter(|it| it.starts_with("new")).count(), 2);
    assert_eq!(opened.iter().filter(|it| it.ends_with("> Completed")).count(), 2, "{opened:?}");
    assert!(opened.contains(&"disk d".to_owned()) && opened.contains(&"no disk d".to_owned()));
    assert!(teller.outcomes.lock().iter().all(|durable| *durable));

    bench.remove_messages(vec!["000001".to_owned(), "never there".to_owned()]).unwrap();
    assert_eq!(bench.message("000001"), None);
    bench.restart();
    assert_eq!(teller.opened.lock().as_slice(), &opened[1..]);
}

#[test]
fn what_does_not_become_durable_is_told_to_nobody() {
    for done_before_error in [false, true] {
        let (mut bench, teller) = bench();
        bench.contents.fail_after(Some(0), done_before_error);
        assert_eq!(refusal(bench.create_target(target("ghost"))), "ISCT-DB-001");
        bench.contents.fail_after(None, false);
        bench.until("the database is back", |state| state.store_down.is_none());
        bench.create_target(target("real")).unwrap();
        assert_eq!(teller.outcomes.lock().as_slice(), [false, true]);
        bench.restart();
        assert_eq!(teller.opened.lock().as_slice(), ["target real"]);
    }
}

#[test]
fn changes_of_disks_pools_targets_and_luns_are_told_as_they_will_be_seen() {
    let (bench, teller) = bench();
    let (sender, seen) = channel();
    let follow = move |event: &ChangeEvent| drop(sender.send(words(&event.change)));
    bench.subscribe(Box::new(follow)).unwrap();

    let disk = bench.disk("d");
    let grown = bench.end(bench.expand_disk(disk.id, 2 * MIB).unwrap());
    assert_eq!(grown.state, JobState::Completed);
    let name = bench.create_target(target("t")).unwrap().name;
    bench.change_access(&name, AccessChange::Replace(Vec::new())).unwrap();
    bench.map(MapRequest { disk: disk.id, target: name.clone(), lun: Some(5) }).unwrap();
    bench.unmap(&name, 5).unwrap();
    bench.delete_target(&name).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let id = PoolId("p".to_owned());
    let settings = PoolSettings {
        id: id.clone(),
        directory: directory.path().canonicalize().unwrap(),
        limits: PoolLimits::default(),
    };
    bench.create_pool(settings).unwrap();
    let reserve = Some(Threshold::Bytes(MIB));
    bench.change_pool(&id, PoolLimits { reserve, ..Default::default() }).unwrap();
    bench.delete_pool(&id).unwrap();

    let told: Vec<String> = (1..=*teller.told.lock())
        .map(|number| bench.message(&format!("{number:06}")).unwrap())
        .collect();
    let heard: Vec<String> = told.iter().map(|_| seen.recv_timeout(PATIENCE).unwrap()).collect();
    assert_eq!(told, heard, "the same, once, in the same order");
    assert!(seen.try_recv().is_err());
    let of_jobs = |it: &&String| it.contains('>') || it.starts_with("new ");
    let rest: Vec<&str> = told.iter().filter(|it| !of_jobs(it)).map(String::as_str).collect();
    assert_eq!(
        rest,
        [
            "disk d",
            "disk d 2097152",
            "target t",
            "target t changed",
            "LUN 5",
            "no LUN 5",
            "no target t",
            "pool p",
            "pool p Some(Bytes(1048576))",
            "no pool p",
        ]
    );
}

#[test]
fn what_is_wrong_with_a_pool_is_told_once_and_that_it_is_over_too() {
    let (mut bench, teller) = bench();
    let mut pools = bench.pools();
    bench.pools_seen(&pools);
    pools[0].state = PoolState::Unavailable("no disk".to_owned());
    bench.contents.fail_after(Some(0), false);
    bench.pools_seen(&pools);
    assert!(bench.pool_health().is_empty(), "it was not durable");
    bench.contents.fail_after(None, false);
    bench.until("the database is back", |state| state.store_down.is_none());
    for _ in 0..2 {
        bench.pools_seen(&pools);
        let [health] = &*bench.pool_health() else { panic!("one is gone") };
        assert_eq!(health.reason, "no disk");
        assert!(health.error.message.contains("no disk"), "{}", health.error.message);
        bench.restart();
        assert_eq!(teller.opened.lock().as_slice(), ["pool default: well > unavailable"]);
    }
    pools[0].state = PoolState::Ready;
    bench.pools_seen(&pools);
    bench.pools_seen(&pools);
    assert!(bench.pool_health().is_empty());
    bench.restart();
    let told = ["pool default: well > unavailable", "pool default: unavailable > well"];
    assert_eq!(*teller.told.lock(), 3, "one was not durable");
    assert_eq!(teller.opened.lock().len(), 2);
    for text in told {
        assert!(teller.opened.lock().iter().any(|it| it == text), "{text}");
    }
    // A pool that is deleted in its trouble takes that along.
    let directory = tempfile::tempdir().unwrap();
    let id = PoolId("p".to_owned());
    let directory = directory.path().canonicalize().unwrap();
    let settings = PoolSettings { id: id.clone(), directory, limits: PoolLimits::default() };
    let mut made = bench.create_pool(settings).unwrap();
    made.state = PoolState::Unavailable("no disk".to_owned());
    pools.push(made);
    bench.pools_seen(&pools);
    assert_eq!(bench.pool_health().len(), 1);
    bench.delete_pool(&id).unwrap();
    assert!(bench.pool_health().is_empty());
    bench.pools_seen(&pools);
    assert!(bench.pool_health().is_empty(), "what was looked at before it went");
}
