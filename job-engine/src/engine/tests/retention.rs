use super::*;
use crate::job::JobSettings;

fn settings(delete_on_completion: bool, seconds: u64) -> JobSettings {
    JobSettings {
        delete_on_completion: Some(delete_on_completion),
        time_before_removal: Some(Duration::from_secs(seconds)),
        ..JobSettings::default()
    }
}

#[test]
fn an_ended_job_stays_for_its_time_before_removal_and_then_goes_by_itself() {
    let bench = Bench::new();
    let (_, events) = bench.listen();
    let id = bench.create_disk(CreateDisk::new("a", MIB)).unwrap();
    bench.end(id);
    bench.clock.advance(Duration::from_secs(299));
    // A request is answered after everything that was due before it.
    assert_eq!(refusal(bench.unmap("none", 0)), "ISCT-CFG-005");
    assert!(bench.job(&id).is_some());
    bench.clock.advance(Duration::from_secs(1));
    bench.until("removed", |state| state.jobs.is_empty());
    assert!(bench.wait(&id, PATIENCE).is_none());
    let last = bench.heard(&events).pop().unwrap();
    assert!(matches!(last.change, ChangeKind::JobDeleted(job) if job.id == id));
    assert_eq!(bench.disks().len(), 1, "its disk stays");
}

#[test]
fn a_job_without_delete_on_completion_stays_until_somebody_deletes_it() {
    let bench = Bench::new();
    let submission = Submission { delete_on_completion: false, ..Submission::default() };
    let kept = bench.create_disk_with(CreateDisk::new("a", MIB), submission).unwrap();
    let other = bench.create_disk(CreateDisk::new("b", MIB)).unwrap();
    bench.end(kept);
    bench.end(other);
    bench.clock.advance(Duration::from_secs(1_000_000));
    bench.until("the other one removed", |state| !state.jobs.contains_key(&other));
    assert!(bench.job(&kept).is_some());
    bench.delete_job(&kept).unwrap();
    assert!(bench.job(&kept).is_none());
    assert_eq!(refusal(bench.delete_job(&kept)), "ISCT-CFG-005");
}

#[test]
fn retention_can_be_changed_after_the_end_in_both_directions() {
    let bench = Bench::new();
    let id = bench.create_disk(CreateDisk::new("a", MIB)).unwrap();
    bench.end(id);
    bench.modify_job(&id, settings(true, 1000)).unwrap();
    bench.clock.advance(Duration::from_secs(999));
    assert_eq!(refusal(bench.unmap("none", 0)), "ISCT-CFG-005");
    assert!(bench.job(&id).is_some(), "longer");
    bench.modify_job(&id, settings(false, 1)).unwrap();
    bench.clock.advance(Duration::from_secs(1000));
    assert_eq!(refusal(bench.unmap("none", 0)), "ISCT-CFG-005");
    assert!(bench.job(&id).is_some(), "for ever");
    bench.modify_job(&id, settings(true, 1)).unwrap();
    bench.until("removed", |state| state.jobs.is_empty());
}

#[test]
fn a_job_that_has_not_ended_is_not_removed_whatever_its_settings() {
    let bench = Bench::new();
    let (id, _) = bench.waiting("a");
    bench.modify_job(&id, settings(true, 0)).unwrap();
    assert_eq!(bench.ask(id, RequestedState::Suspend), RequestStateChangeResult::Completed);
    bench.clock.advance(Duration::from_secs(100_000));
    let refused = bench.delete_job(&id).unwrap_err();
    assert_eq!(refused.cim_error().message_id, "ISCT-JOB-009");
    assert!(refused.to_string().contains("Suspended"), "{refused}");
    assert!(bench.job(&id).is_some());
    bench.ask(id, RequestedState::Terminate);
    bench.until("removed at its end", |state| state.jobs.is_empty());
}

#[test]
fn a_time_before_removal_beyond_the_end_of_time_means_for_ever() {
    let bench = Bench::new();
    let id = bench.create_disk(CreateDisk::new("a", MIB)).unwrap();
    bench.modify_job(&id, settings(true, u64::MAX)).unwrap();
    bench.end(id);
    bench.clock.advance(Duration::from_secs(1 << 30));
    assert_eq!(refusal(bench.unmap("none", 0)), "ISCT-CFG-005");
    assert!(bench.job(&id).is_some());
}

#[test]
fn beyond_the_limit_of_ended_jobs_the_oldest_go_and_unfinished_ones_do_not_count() {
    let bench = Bench::with(|config| config.max_ended_jobs = 2);
    let (waiting, _) = bench.waiting("first of all");
    let jobs = ["a", "b", "c"].map(|name| bench.create_disk(CreateDisk::new(name, MIB)).unwrap());
    bench.until("three ended", |state| !jobs.iter().any(|id| state.unfinished.contains(id)));
    bench.until("the oldest removed", |state| state.jobs.len() == 3);
    let left: Vec<_> = bench.jobs().into_iter().map(|job| job.id).collect();
    assert_eq!(left[0], waiting);
    assert_eq!(bench.disks().len(), 3);
}

#[test]
fn what_became_due_while_nobody_was_there_goes_at_the_next_start() {
    let mut bench = Bench::new();
    let id = bench.create_disk(CreateDisk::new("a", MIB)).unwrap();
    bench.end(id);
    bench.engine.shutdown();
    bench.clock.advance(Duration::from_secs(300));
    bench.restart();
    bench.until("removed", |state| state.jobs.is_empty());
    assert_eq!(bench.disks().len(), 1);
}
