use super::*;

fn target(name: &str) -> TargetRequest {
    TargetRequest { name: name.to_owned(), ..Default::default() }
}

fn up(bench: &Bench) {
    bench.until("the database is back", |state| state.store_down.is_none());
}

#[test]
fn while_the_database_is_down_requests_are_refused_and_an_alert_tells() {
    let bench = Bench::new();
    bench.create_target(target("before")).unwrap();
    assert!(bench.alerts().is_empty());
    bench.contents.fail_after(Some(0), false);
    assert_eq!(refusal(bench.create_target(target("a"))), "ISCT-DB-001");
    assert_eq!(refusal(bench.create_disk(CreateDisk::new("a", MIB))), "ISCT-DB-001");
    let alerts: Vec<_> = bench.alerts().into_iter().map(|alert| alert.message_id).collect();
    assert_eq!(alerts, ["ISCT-DB-001"]);
    assert_eq!(bench.targets().len(), 1, "reading goes on");
    bench.contents.fail_after(None, false);
    up(&bench);
    assert!(bench.alerts().is_empty());
    bench.create_target(target("a")).unwrap();
}

#[test]
fn a_commit_that_failed_after_its_effect_is_taken_back_because_its_requester_was_told_no() {
    let mut bench = Bench::new();
    bench.contents.fail_after(Some(0), true);
    assert_eq!(refusal(bench.create_target(target("ghost"))), "ISCT-DB-001");
    bench.contents.fail_after(None, false);
    up(&bench);
    bench.create_target(target("real")).unwrap();
    bench.restart();
    let names: Vec<_> = bench.targets().into_iter().map(|target| target.name).collect();
    assert_eq!(names, ["iqn.2026-01.io.lund:real"]);
}

#[test]
fn a_running_job_waits_for_the_database_and_then_goes_on() {
    let bench = Bench::new();
    for done_before_error in [false, true] {
        let gate = bench.gates.set(|record| record.job.state == JobState::Running);
        let id = bench.create_disk(CreateDisk::new("a", MIB)).unwrap();
        gate.reached();
        bench.contents.fail_after(Some(0), done_before_error);
        drop(gate);
        bench.until("down", |state| state.store_down.is_some());
        assert!(!bench.state(id).is_terminal());
        bench.contents.fail_after(None, false);
        let job = bench.end(id);
        assert_eq!(job.state, JobState::Completed, "{job:?}");
        let gone = bench.delete_disk(job.kind.disk()).unwrap();
        assert_eq!(bench.end(gone).state, JobState::Completed);
    }
}

#[test]
fn what_became_due_while_the_database_was_down_is_done_when_it_is_back() {
    let bench = Bench::new();
    let id = bench.create_disk(CreateDisk::new("a", MIB)).unwrap();
    bench.end(id);
    bench.contents.fail_after(Some(0), false);
    bench.clock.advance(Duration::from_secs(300));
    bench.until("down", |state| state.store_down.is_some());
    assert!(bench.job(&id).is_some(), "what is not recorded has not happened");
    bench.contents.fail_after(None, false);
    bench.until("removed", |state| state.jobs.is_empty());
    assert!(bench.alerts().is_empty());
}

#[test]
fn an_engine_stops_even_while_its_database_is_down_and_goes_on_at_the_next_start() {
    let mut bench = Bench::new();
    let gate = bench.gates.set(|record| record.job.percent_complete == 99);
    let id = bench.create_disk(CreateDisk::new("a", MIB)).unwrap();
    gate.reached();
    bench.contents.fail_after(Some(0), false);
    drop(gate);
    bench.until("down", |state| state.store_down.is_some());
    bench.engine.shutdown();
    bench.contents.fail_after(None, false);
    bench.restart();
    let job = bench.end(id);
    assert_eq!(job.state, JobState::Completed);
    assert!(disk_of(&job).path.exists());
}

#[test]
fn a_stopped_engine_refuses_requests_and_still_answers_questions() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    let (id, _) = bench.waiting("b");
    bench.engine.shutdown();
    assert_eq!(refusal(bench.create_disk(CreateDisk::new("c", MIB))), "ISCT-DB-004");
    assert_eq!(refusal(bench.delete_disk(disk.id)), "ISCT-DB-004");
    assert_eq!(bench.ask(id, RequestedState::Start), RequestStateChangeResult::Failed);
    assert_eq!(bench.kill(&id, true, "a test"), KillJobResult::Failed);
    assert_eq!(bench.disks(), [disk]);
    assert_eq!(bench.wait(&id, PATIENCE).unwrap().state, JobState::New, "it does not wait");
    bench.engine.shutdown();
}
