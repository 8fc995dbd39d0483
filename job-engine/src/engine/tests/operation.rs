use std::sync::atomic::AtomicU64;

use super::*;
use crate::kinds::{OperationControl, OperationError, OperationRequest, OperationRunner};

const DURING: &[u8] = b"being wiped";
const OTHERWISE: &[u8] = b"half wiped";

fn request() -> OperationRequest {
    OperationRequest {
        word: "wipe-disk".to_owned(),
        verb: "Wipe".to_owned(),
        owner: "iqn.2026-01.org.example:host".to_owned(),
        operation: b"with zeroes".to_vec(),
        condition: Some((DURING.to_vec(), OTHERWISE.to_vec())),
    }
}

/// Four pieces, each when it is told to.
struct Runner {
    go: Mutex<Receiver<Result<(), OperationError>>>,
    began_at: AtomicU64,
}

impl Runner {
    fn new() -> (Arc<Self>, Sender<Result<(), OperationError>>) {
        let (sender, go) = channel();
        (Arc::new(Self { go: Mutex::new(go), began_at: AtomicU64::new(u64::MAX) }), sender)
    }

    fn began_at(&self) -> u64 {
        self.began_at.load(Ordering::Acquire)
    }
}

impl OperationRunner for Runner {
    fn run(
        &self,
        _disk: &Disk,
        operation: &[u8],
        from: u64,
        control: &dyn OperationControl,
    ) -> Result<(), OperationError> {
        assert_eq!(operation, b"with zeroes");
        self.began_at.store(from, Ordering::Release);
        for piece in from..4 {
            control.progress(piece, 4)?;
            self.go.lock().recv().map_err(|_| OperationError::Stopped)??;
            control.reached(piece + 1)?;
        }
        Ok(())
    }
}

#[test]
fn a_condition_stands_from_the_request_to_the_end_and_goes_with_success() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    let (_, events) = bench.listen();
    let id = bench.begin_operation(disk.id, request()).unwrap();
    // Nobody is there yet to do it; it waits, and so does the disk.
    assert_eq!(bench.condition(&disk.id).as_deref(), Some(DURING));
    assert_eq!(bench.state(id), JobState::New);
    assert_eq!(refusal(bench.begin_operation(disk.id, request())), "ISCT-CFG-001");
    assert_eq!(refusal(bench.clear_condition(disk.id)), "ISCT-CFG-001");
    let (runner, go) = Runner::new();
    bench.set_operation_runner(runner);
    (0..4).for_each(|_| go.send(Ok(())).unwrap());
    let job = bench.end(id);
    assert_eq!((job.state, job.kind.word()), (JobState::Completed, "wipe-disk"));
    assert_eq!((job.name.as_str(), job.owner.as_str()), ("Wipe disk a", request().owner.as_str()));
    assert_eq!(bench.condition(&disk.id), None);
    let told = bench.heard(&events);
    let conditions = told.iter().filter_map(|event| {
        if let ChangeKind::ConditionChanged(stored) = &event.change {
            return Some(Some(stored.condition.clone()));
        }
        let ChangeKind::ConditionOver(over) = &event.change else { return None };
        Some((*over != disk.id).then(Vec::new))
    });
    assert_eq!(conditions.collect::<Vec<_>>(), [Some(DURING.to_vec()), None]);
}

#[test]
fn every_other_end_leaves_the_other_condition_until_it_is_cleared() {
    let bench = Bench::new();
    let (runner, go) = Runner::new();
    let ends: [(JobState, &dyn Fn(JobId)); 3] = [
        (JobState::Exception, &|_| {
            go.send(Err(OperationError::Refused("no".to_owned()))).unwrap();
        }),
        (JobState::Killed, &|id| {
            assert_eq!(bench.kill(&id, true, "a test"), KillJobResult::Success);
            go.send(Ok(())).unwrap();
        }),
        (JobState::Terminated, &|id| {
            assert_eq!(bench.ask(id, RequestedState::Terminate), RequestStateChangeResult::Started);
            go.send(Ok(())).unwrap();
        }),
    ];
    for (number, (state, cause)) in ends.into_iter().enumerate() {
        let disk = bench.disk(&number.to_string());
        let id = bench.begin_operation(disk.id, request()).unwrap();
        bench.set_operation_runner(runner.clone());
        bench.until("it runs", |state| {
            state.jobs.get(&id).is_some_and(|entry| entry.record.job.state == JobState::Running)
        });
        cause(id);
        assert_eq!(bench.end(id).state, state);
        assert_eq!(bench.condition(&disk.id).as_deref(), Some(OTHERWISE), "{state:?}");
        bench.until("the worker has left", |state| state.claim(disk.id).is_none());
        bench.clear_condition(disk.id).unwrap();
        assert_eq!(bench.condition(&disk.id), None);
    }
}

#[test]
fn one_that_never_began_leaves_the_other_condition_too() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    let id = bench.begin_operation(disk.id, request()).unwrap();
    assert_eq!(bench.ask(id, RequestedState::Terminate), RequestStateChangeResult::Completed);
    assert_eq!(bench.condition(&disk.id).as_deref(), Some(OTHERWISE));
    let deleted = bench.delete_disk(disk.id).unwrap();
    assert_eq!(bench.end(deleted).state, JobState::Completed);
    assert_eq!(bench.condition(&disk.id), None, "it goes with its disk");
}

#[test]
fn after_a_restart_it_goes_on_from_what_was_durable_and_the_condition_was_there_all_the_time() {
    let mut bench = Bench::new();
    let disk = bench.disk("a");
    let (runner, go) = Runner::new();
    bench.set_operation_runner(runner);
    let id = bench.begin_operation(disk.id, request()).unwrap();
    (0..2).for_each(|_| go.send(Ok(())).unwrap());
    let at = |position| {
        move |state: &State| {
            let step = state.jobs.get(&id).map(|entry| entry.record.step);
            step == Some(crate::kinds::Step::Operating { position })
        }
    };
    bench.until("two pieces", at(2));
    // The worker leaves at the next boundary.
    bench.shared.stopping.store(true, Ordering::Release);
    go.send(Ok(())).unwrap();
    bench.restart();
    assert_eq!(bench.condition(&disk.id).as_deref(), Some(DURING));
    let (runner, go) = Runner::new();
    bench.set_operation_runner(runner.clone());
    (0..4).for_each(|_| go.send(Ok(())).unwrap());
    assert_eq!(bench.end(id).state, JobState::Completed);
    // The worker may have left in front of the third.
    assert!((2..=3).contains(&runner.began_at()), "{}", runner.began_at());
    assert_eq!(bench.condition(&disk.id), None);
}

/// Follows what initiators do, as a long copy.
fn follows() -> OperationRequest {
    OperationRequest { condition: None, ..request() }
}

#[test]
fn one_that_follows_keeps_nobody_away_and_takes_no_workers_place() {
    let bench = Bench::with(|config| config.max_workers = 1);
    let disk = bench.disk("a");
    let (runner, go) = Runner::new();
    bench.set_operation_runner(runner);
    let first = bench.begin_operation(disk.id, follows()).unwrap();
    let second = bench.begin_operation(disk.id, follows()).unwrap();
    for id in [first, second] {
        bench.until("it runs", |state| {
            state.jobs.get(&id).is_some_and(|entry| entry.record.job.state == JobState::Running)
        });
    }
    assert_eq!(bench.condition(&disk.id), None);
    // The only worker is free for others, and so is the disk.
    let created = bench.disk("b");
    let expansion = bench.expand_disk(disk.id, disk.size_bytes * 2).unwrap();
    assert_eq!(bench.end(expansion).state, JobState::Completed);
    let deletion = bench.delete_disk(created.id).unwrap();
    assert_eq!(bench.end(deletion).state, JobState::Completed);
    // What it follows does not rest.
    let answer = bench.ask(first, RequestedState::Suspend);
    assert_eq!(answer, RequestStateChangeResult::NotSupported);
    (0..8).for_each(|_| go.send(Ok(())).unwrap());
    for id in [first, second] {
        assert_eq!(bench.end(id).state, JobState::Completed);
    }
    assert_eq!(bench.condition(&disk.id), None);
}

#[test]
fn what_ended_one_that_follows_is_told() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    let (runner, go) = Runner::new();
    bench.set_operation_runner(runner);
    for (error, id, text) in [
        (OperationError::Cancelled("its initiator".to_owned()), "ISCT-JOB-001", "its initiator"),
        (OperationError::Lost, "ISCT-JOB-003", "wipe-disk"),
    ] {
        let job = bench.begin_operation(disk.id, follows()).unwrap();
        go.send(Err(error)).unwrap();
        let job = bench.end(job);
        assert_eq!(job.state, JobState::Exception);
        let error = job.errors.first().unwrap();
        assert_eq!(error.message_id, id);
        assert!(error.message.contains(text), "{}", error.message);
        assert_eq!(bench.condition(&disk.id), None);
    }
}
