use super::*;
use crate::catalogue::StoredRecord;

/// Tells of every change by its number, and of nothing that has to be forgotten.
#[derive(Debug, Default)]
struct Teller {
    opened: Mutex<Vec<String>>,
    told: Mutex<u64>,
    outcomes: Mutex<Vec<bool>>,
}

impl Outbox for Teller {
    fn open(&self, _: Vec<StoredRecord>, messages: Vec<StoredRecord>) {
        *self.opened.lock() = messages.into_iter().map(|message| message.text).collect();
    }

    fn tell(&self, changes: &[ChangeKind]) -> Vec<(String, Option<String>)> {
        let mut told = self.told.lock();
        let mut entry = |change: &ChangeKind| {
            *told += 1;
            let what = match change {
                ChangeKind::JobCreated(job) => format!("new {}", job.name),
                ChangeKind::JobChanged { previous, current } => {
                    format!("{} > {}", previous.state.name(), current.state.name())
                }
                ChangeKind::JobDeleted(_) => "job gone".to_owned(),
                ChangeKind::DiskCreated(disk) => format!("disk {}", disk.name),
                ChangeKind::DiskDeleted(disk) => format!("no disk {}", disk.name),
                ChangeKind::TargetCreated(target) => format!("target {}", target.alias),
                ChangeKind::TargetDeleted(target) => format!("no target {}", target.alias),
                ChangeKind::DiskChanged(_)
                | ChangeKind::ConditionChanged(_)
                | ChangeKind::ConditionOver(_)
                | ChangeKind::SnapshotCreated(_)
                | ChangeKind::SnapshotDeleted(_)
                | ChangeKind::PoolCreated(_)
                | ChangeKind::PoolChanged(_)
                | ChangeKind::PoolDeleted(_)
                | ChangeKind::TargetChanged(_)
                | ChangeKind::MappingCreated(_)
                | ChangeKind::MappingDeleted(_) => panic!("{change:?}"),
            };
            (format!("{told:06}"), Some(what))
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
