use super::*;

#[test]
fn events_follow_each_other_and_a_snapshot_without_a_gap() {
    let bench = Bench::new();
    bench.disk("before");
    let (snapshot, events) = bench.listen();
    bench.disk("after");
    let (id, _) = bench.waiting("never");
    bench.ask(id, RequestedState::Terminate);
    bench.delete_job(&id).unwrap();
    bench.create_target(TargetRequest { name: "t".to_owned(), ..Default::default() }).unwrap();
    let heard = bench.heard(&events);
    let numbers: Vec<_> = heard.iter().map(|event| event.sequence).collect();
    let last = bench.snapshot().sequence;
    assert_eq!(numbers, (snapshot.sequence + 1..=last).collect::<Vec<_>>());
    assert_eq!(replay(snapshot, heard), comparable(bench.snapshot()));
}

/// A snapshot carried on by events.
fn replay(mut snapshot: Snapshot, events: Vec<ChangeEvent>) -> Snapshot {
    for event in events {
        assert_eq!(event.sequence, snapshot.sequence + 1);
        snapshot.sequence = event.sequence;
        match event.change {
            ChangeKind::JobCreated(job) => snapshot.jobs.push(Job::clone(&job)),
            ChangeKind::JobChanged { previous, current } => {
                let job = snapshot.jobs.iter_mut().find(|job| job.id == current.id).unwrap();
                assert_eq!(job.state, previous.state);
                *job = Job::clone(&current);
            }
            ChangeKind::JobDeleted(gone) => snapshot.jobs.retain(|job| job.id != gone.id),
            ChangeKind::DiskCreated(disk) => snapshot.disks.push(Disk::clone(&disk)),
            ChangeKind::DiskChanged(changed) => {
                let there = snapshot.disks.iter_mut().find(|disk| disk.id == changed.id);
                *there.unwrap() = Disk::clone(&changed);
            }
            ChangeKind::DiskDeleted(gone) => snapshot.disks.retain(|disk| disk.id != gone.id),
            ChangeKind::PoolCreated(_)
            | ChangeKind::PoolChanged(_)
            | ChangeKind::PoolDeleted(_)
            | ChangeKind::PoolHealthChanged { .. } => {}
            ChangeKind::SnapshotCreated(new) => snapshot.snapshots.push(DiskSnapshot::clone(&new)),
            ChangeKind::SnapshotDeleted(gone) => snapshot.snapshots.retain(|it| it.id != gone.id),
            ChangeKind::TargetCreated(target) => snapshot.targets.push(Target::clone(&target)),
            ChangeKind::TargetChanged(target) => {
                let before = snapshot.targets.iter_mut().find(|t| t.name == target.name).unwrap();
                *before = Target::clone(&target);
            }
            ChangeKind::TargetDeleted(gone) => snapshot.targets.retain(|t| t.name != gone.name),
            ChangeKind::MappingCreated(new) => snapshot.mappings.push(Mapping::clone(&new)),
            ChangeKind::MappingDeleted(gone) => snapshot.mappings.retain(|m| *m != *gone),
            ChangeKind::ConditionChanged(_) | ChangeKind::ConditionOver(_) => {}
        }
    }
    comparable(snapshot)
}

impl PartialEq for Snapshot {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
            && self.jobs == other.jobs
            && self.disks == other.disks
            && self.targets == other.targets
            && self.mappings == other.mappings
    }
}

fn comparable(mut snapshot: Snapshot) -> Snapshot {
    snapshot.jobs.sort_by_key(|job| job.id);
    snapshot.disks.sort_by_key(|disk| disk.id);
    snapshot
}

#[test]
fn one_transaction_tells_of_the_disk_and_of_the_completed_job_and_both_are_there_when_it_does() {
    let bench = Bench::new();
    let (sender, seen) = channel();
    let engine = Arc::downgrade(&bench.engine);
    let look = move |event: &ChangeEvent| {
        if let (ChangeKind::DiskCreated(disk), Some(engine)) = (&event.change, engine.upgrade()) {
            let job = engine.job(&disk.created_by).unwrap();
            let _ = sender.send((engine.disk(&disk.id).is_some(), job.state));
        }
    };
    bench.subscribe(Box::new(look)).unwrap();
    bench.disk("a");
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), (true, JobState::Completed));
}

#[test]
fn states_of_a_job_are_told_in_the_order_in_which_it_had_them() {
    let bench = Bench::new();
    let (_, events) = bench.listen();
    let id = bench.create_disk(CreateDisk::new("a", 1 << 60)).unwrap();
    bench.end(id);
    let mut states = Vec::new();
    for event in bench.heard(&events) {
        let (ChangeKind::JobCreated(job) | ChangeKind::JobChanged { current: job, .. }) =
            event.change
        else {
            continue;
        };
        if states.last() != Some(&job.state) {
            states.push(job.state);
        }
    }
    let wanted = [
        JobState::New,
        JobState::Starting,
        JobState::Running,
        JobState::ShuttingDown,
        JobState::Exception,
    ];
    assert_eq!(states, wanted);
}

#[test]
fn a_request_returns_only_when_every_subscriber_has_seen_its_change() {
    let bench = Bench::new();
    let (_, early) = bench.listen();
    let (_, late) = bench.listen();
    for number in 0..100 {
        let name = format!("t{number}");
        let name = bench.create_target(TargetRequest { name, ..Default::default() }).unwrap().name;
        for events in [&early, &late] {
            let event = events.try_recv().unwrap();
            assert!(matches!(event.change, ChangeKind::TargetCreated(t) if t.name == name));
        }
    }
}

#[test]
fn a_subscriber_may_ask_the_engine_and_one_that_panics_harms_nobody() {
    let bench = Bench::new();
    bench.subscribe(Box::new(|_| panic!("on purpose"))).unwrap();
    let engine = Arc::downgrade(&bench.engine);
    let follow = move |event: &ChangeEvent| {
        if let (ChangeKind::TargetCreated(target), Some(engine)) = (&event.change, engine.upgrade())
            && !target.name.ends_with("-copy")
        {
            let name = format!("{}-copy", target.name);
            engine.create_target(TargetRequest { name, ..Default::default() }).unwrap();
        }
    };
    bench.subscribe(Box::new(follow)).unwrap();
    bench.create_target(TargetRequest { name: "t".to_owned(), ..Default::default() }).unwrap();
    assert_eq!(bench.targets().len(), 2);
}

#[test]
fn a_refused_request_is_not_told() {
    let bench = Bench::new();
    let (_, events) = bench.listen();
    assert_eq!(refusal(bench.delete_target("none")), "ISCT-CFG-005");
    assert_eq!(refusal(bench.create_disk(CreateDisk::new("a", 1))), "ISCT-CFG-003");
    assert!(bench.heard(&events).is_empty());
}
