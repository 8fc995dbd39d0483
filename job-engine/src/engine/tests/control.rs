use RequestStateChangeResult as Answer;

use super::*;
use crate::kinds::Step;

/// A job as far as a refused request must leave it alone.
fn untouched(bench: &Bench, id: JobId, request: impl FnOnce()) {
    let before = (bench.job(&id), bench.snapshot().sequence);
    bench.clock.advance(Duration::from_secs(1));
    request();
    let after = (bench.job(&id), bench.snapshot().sequence);
    assert_eq!(before.0.map(|job| job.time_of_last_state_change), {
        after.0.map(|job| job.time_of_last_state_change)
    });
    assert_eq!(before.1, after.1, "nothing was recorded");
}

#[test]
fn a_new_job_that_is_terminated_ends_at_once_and_says_by_whom() {
    let bench = Bench::new();
    let (id, disk) = bench.waiting("a");
    bench.clock.advance(Duration::from_secs(5));
    assert_eq!(bench.ask(id, RequestedState::Terminate), Answer::Completed);
    let job = bench.job(&id).unwrap();
    assert_eq!((job.state, ids(&job)), (JobState::Terminated, vec!["ISCT-JOB-001"]));
    assert_eq!(job.error_description(), "The job was cancelled by a test");
    assert_eq!(job.end_time, Some(start() + Duration::from_secs(5)));
    assert_eq!((job.start_time, job.elapsed), (None, Duration::ZERO));
    assert!(bench.files().is_empty() && bench.engine.disk(&disk.id).is_none());
}

#[test]
fn a_running_job_that_is_terminated_undoes_even_a_file_that_has_its_name_already() {
    let bench = Bench::new();
    // With 99 percent recorded all that is left is the name and the last commit.
    let gate = bench.gates.set(|record| record.job.percent_complete == 99);
    let id = bench.create_disk(CreateDisk::new("a", MIB)).unwrap();
    gate.reached();
    assert_eq!(bench.files().len(), 1);
    let answer = bench.post_request(id, RequestedState::Terminate);
    // Busy with the way back, whatever else is asked for.
    let (again, suspend, go) = (
        bench.post_request(id, RequestedState::Terminate),
        bench.post_request(id, RequestedState::Suspend),
        bench.post_request(id, RequestedState::Start),
    );
    let between = bench.post(move |core| core.job(id).unwrap().record.job.clone());
    drop(gate);
    assert_eq!(answer.recv().unwrap(), Answer::Started);
    for refused in [again, suspend, go] {
        assert_eq!(refused.recv().unwrap(), Answer::InvalidStateTransition);
    }
    let between = between.recv().unwrap();
    assert_eq!((between.state, ids(&between)), (JobState::ShuttingDown, vec![]));
    let job = bench.end(id);
    assert_eq!((job.state, ids(&job)), (JobState::Terminated, vec!["ISCT-JOB-001"]));
    assert!(job.error_description().contains("a test"));
    assert!(bench.files().is_empty() && bench.disks().is_empty());
}

#[test]
fn a_suspended_job_that_is_terminated_leaves_nothing() {
    let bench = Bench::new();
    let id = suspended_while_allocating(&bench);
    assert_eq!(bench.ask(id, RequestedState::Terminate), Answer::Started);
    let job = bench.end(id);
    assert_eq!((job.state, ids(&job)), (JobState::Terminated, vec!["ISCT-JOB-001"]));
    assert!(bench.files().is_empty() && bench.disks().is_empty());
    assert!(bench.shared.state.lock().debris.is_empty());
}

/// A job that was suspended after it had recorded that its file is being made.
fn suspended_while_allocating(bench: &Bench) -> JobId {
    let gate = bench.gates.set(|record| record.job.state == JobState::Running);
    let id = bench.create_disk(CreateDisk::new("a", MIB)).unwrap();
    gate.reached();
    // The engine sees it before the worker can record its next step, at whose end is a boundary.
    let answer = bench.post_request(id, RequestedState::Suspend);
    let busy = bench.post_request(id, RequestedState::Suspend);
    let busy_too = bench.post_request(id, RequestedState::Start);
    drop(gate);
    assert_eq!(answer.recv().unwrap(), Answer::Started);
    assert_eq!(busy.recv().unwrap(), Answer::Busy);
    assert_eq!(busy_too.recv().unwrap(), Answer::Busy);
    bench.until("suspended", |state| state.jobs[&id].record.job.state == JobState::Suspended);
    assert_eq!(bench.shared.state.lock().jobs[&id].record.step, Step::CreateAllocating);
    id
}

#[test]
fn a_suspended_job_stays_so_until_it_is_started_and_then_completes() {
    let bench = Bench::new();
    let id = suspended_while_allocating(&bench);
    let job = bench.job(&id).unwrap();
    assert!(job.start_time.is_some() && job.end_time.is_none());
    bench.disk("another one does not wait");
    untouched(&bench, id, || {
        assert_eq!(bench.ask(id, RequestedState::Suspend), Answer::InvalidStateTransition);
    });
    assert_eq!(bench.ask(id, RequestedState::Start), Answer::Started);
    let done = bench.end(id);
    assert_eq!(done.state, JobState::Completed);
    assert_eq!(done.start_time, job.start_time, "the first start counts");
    assert!(disk_of(&done).path.exists());
}

#[test]
fn a_killed_job_is_over_at_once_and_its_file_goes_when_its_worker_has_left() {
    let bench = Bench::new();
    let gate = bench.gates.set(|record| record.job.percent_complete == 99);
    let id = bench.create_disk(CreateDisk::new("a", MIB)).unwrap();
    gate.reached();
    let answer = bench.post(move |core| core.kill_job(id, true, "a test"));
    // What it made is no longer in the way of another disk of that name.
    let next = bench
        .post(move |core| core.submit_create(CreateDisk::new("a", MIB), Submission::default()));
    drop(gate);
    assert_eq!(answer.recv().unwrap(), KillJobResult::Success);
    let next = bench.end(next.recv().unwrap().unwrap());
    let job = bench.job(&id).unwrap();
    assert_eq!((job.state, ids(&job)), (JobState::Killed, vec!["ISCT-JOB-002"]));
    assert_eq!(job.error_description(), "The job was killed by a test");
    assert!(job.delete_on_completion);
    bench.until_swept();
    assert_eq!(bench.disks(), [disk_of(&next)]);
    assert_eq!(bench.files(), [format!("{}.raw", next.kind.disk())]);
}

#[test]
fn a_suspended_job_can_be_killed_and_says_whether_it_goes_by_itself() {
    let bench = Bench::new();
    let id = suspended_while_allocating(&bench);
    assert_eq!(bench.kill(&id, false, "a test"), KillJobResult::Success);
    bench.until_swept();
    assert!(bench.files().is_empty());
    let job = bench.job(&id).unwrap();
    assert_eq!((job.state, job.delete_on_completion), (JobState::Killed, false));
    untouched(&bench, id, || {
        assert_eq!(bench.kill(&id, true, "a test"), KillJobResult::Failed);
    });
    assert_eq!(bench.kill(&JobId::generate(), true, "a test"), KillJobResult::NotFound);
}

#[test]
fn a_kill_by_state_change_is_done_when_it_is_answered() {
    let bench = Bench::new();
    let (id, _) = bench.waiting("a");
    assert_eq!(bench.ask(id, RequestedState::Kill), Answer::Completed);
    let job = bench.job(&id).unwrap();
    assert_eq!((job.state, ids(&job)), (JobState::Killed, vec!["ISCT-JOB-002"]));
    let id = suspended_while_allocating(&bench);
    let ending = bench.post_request(id, RequestedState::Terminate);
    let killed = bench.post_request(id, RequestedState::Kill);
    assert_eq!(ending.recv().unwrap(), Answer::Started);
    assert_eq!(killed.recv().unwrap(), Answer::Completed, "even on the way back");
    bench.until_swept();
    assert_eq!(ids(&bench.job(&id).unwrap()), ["ISCT-JOB-002"]);
    assert!(bench.files().is_empty());
}

#[test]
fn a_job_that_has_ended_takes_no_request_and_keeps_its_time_of_last_state_change() {
    let bench = Bench::new();
    let completed = bench.create_disk(CreateDisk::new("a", MIB)).unwrap();
    let failed = bench.create_disk(CreateDisk::new("b", 1 << 60)).unwrap();
    let (terminated, _) = bench.waiting("c");
    bench.ask(terminated, RequestedState::Terminate);
    let (killed, _) = bench.waiting("d");
    bench.ask(killed, RequestedState::Kill);
    let all = [completed, failed, terminated, killed];
    for id in all {
        bench.end(id);
    }
    for id in all {
        for request in RequestedState::ALL {
            untouched(&bench, id, || {
                let wanted = if request == RequestedState::Service {
                    Answer::NotSupported
                } else {
                    Answer::InvalidStateTransition
                };
                assert_eq!(bench.ask(id, request), wanted, "{request:?}");
            });
        }
    }
}

#[test]
fn parameters_that_mean_nothing_are_refused_with_their_own_codes() {
    let bench = Bench::new();
    let (id, _) = bench.waiting("a");
    untouched(&bench, id, || {
        let change =
            |timeout| bench.request_state_change(&id, RequestedState::Suspend, timeout, "a test");
        let second = Some(Duration::from_secs(1));
        assert_eq!(change(second), Answer::TimeoutNotSupported);
        assert_eq!(bench.ask(id, RequestedState::Service), Answer::NotSupported);
        let unknown = JobId::generate();
        assert_eq!(bench.ask(unknown, RequestedState::Terminate), Answer::InvalidParameter);
        assert_eq!(refusal(bench.errors(&unknown)), "ISCT-CFG-005");
        assert!(bench.wait(&unknown, PATIENCE).is_none());
    });
    let none = Some(Duration::ZERO);
    let answer = bench.request_state_change(&id, RequestedState::Suspend, none, "a test");
    assert_eq!((answer, bench.state(id)), (Answer::Completed, JobState::Suspended));
}

#[test]
fn a_new_job_can_be_suspended_and_a_start_does_not_wait_for_the_schedule() {
    let bench = Bench::new();
    let (id, _) = bench.waiting("a");
    assert_eq!(bench.ask(id, RequestedState::Suspend), Answer::Completed);
    bench.clock.advance(Duration::from_secs(7200));
    bench.disk("b");
    assert_eq!(bench.state(id), JobState::Suspended, "its time has come, but nobody started it");
    assert_eq!(bench.ask(id, RequestedState::Start), Answer::Started);
    let job = bench.end(id);
    assert_eq!((job.state, job.scheduled_start_time), (JobState::Completed, None));
    assert_eq!(job.start_time, Some(start() + Duration::from_secs(7200)));
}

#[test]
fn a_failure_is_the_better_answer_when_a_client_terminates_at_the_same_time() {
    let bench = Bench::new();
    let gate = bench.gates.set(|record| record.ending.is_some());
    let id = bench.create_disk(CreateDisk::new("a", 1 << 60)).unwrap();
    gate.reached();
    let answer = bench.post_request(id, RequestedState::Terminate);
    drop(gate);
    assert_eq!(answer.recv().unwrap(), Answer::InvalidStateTransition);
    let job = bench.end(id);
    assert_eq!((job.state, ids(&job)), (JobState::Exception, vec!["ISCT-STG-001"]));
}
