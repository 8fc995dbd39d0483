use super::*;
use crate::job::JobSettings;

/// Names of the jobs in the order in which they were started.
fn started(events: Vec<ChangeEvent>) -> Vec<String> {
    let names = events.into_iter().filter_map(|event| {
        let ChangeKind::JobChanged { previous, current } = event.change else { return None };
        let started = previous.state == JobState::New && current.state == JobState::Starting;
        started.then(|| disk_of(&current).name)
    });
    names.collect()
}

#[test]
fn lower_priority_numbers_go_first_and_equal_ones_in_the_order_of_submission() {
    let bench = Bench::with(|config| config.max_workers = 1);
    let (_, events) = bench.listen();
    let mut all = Vec::new();
    for (name, priority) in [("c", 100), ("e", 200), ("a", 1), ("d", 100), ("later", 0)] {
        all.push(bench.waiting_at(name, priority).0);
    }
    let settings = JobSettings { priority: Some(50), ..JobSettings::default() };
    bench.modify_job(&all[4], settings).unwrap();
    bench.clock.advance(Duration::from_secs(3600));
    for id in all {
        assert_eq!(bench.end(id).state, JobState::Completed);
    }
    assert_eq!(started(bench.heard(&events)), ["a", "later", "c", "d", "e"]);
}

#[test]
fn no_more_jobs_run_at_once_than_there_are_workers() {
    let bench = Bench::with(|config| config.max_workers = 2);
    let disks = ["a", "b", "c"].map(|name| bench.disk(name));
    let images = disks.each_ref().map(hold);
    let jobs = disks.each_ref().map(|disk| bench.delete_disk(disk.id).unwrap());
    bench.until("two at work", |state| {
        state.jobs.values().filter(|e| e.record.job.state == JobState::Running).count() == 2
    });
    assert_eq!(bench.state(jobs[2]), JobState::New);
    drop(images);
    for id in jobs {
        assert_eq!(bench.end(id).state, JobState::Completed);
    }
}

#[test]
fn a_scheduled_job_starts_when_its_time_has_come_and_not_before() {
    let bench = Bench::new();
    let (id, _) = bench.waiting("a");
    bench.clock.advance(Duration::from_secs(3599));
    bench.disk("something else to do");
    assert_eq!(bench.state(id), JobState::New);
    bench.clock.advance(Duration::from_secs(1));
    let job = bench.end(id);
    assert_eq!(job.start_time, Some(start() + Duration::from_secs(3600)));
    let later = JobSettings { scheduled_start_time: Some(start()), ..JobSettings::default() };
    assert_eq!(refusal(bench.modify_job(&id, later)), "ISCT-CFG-007");
}

#[test]
fn the_schedule_can_be_changed_until_the_job_has_started() {
    let bench = Bench::new();
    let (id, _) = bench.waiting("a");
    let now = JobSettings { scheduled_start_time: Some(start()), ..JobSettings::default() };
    bench.modify_job(&id, now).unwrap();
    assert_eq!(bench.end(id).state, JobState::Completed);
}

#[test]
fn beyond_the_limit_of_unfinished_jobs_none_is_accepted_until_one_has_ended() {
    let bench = Bench::with(|config| config.max_unfinished_jobs = 2);
    let (first, _) = bench.waiting("a");
    bench.waiting("b");
    let refused = bench.create_disk(CreateDisk::new("c", MIB));
    assert_eq!(refusal(refused), "ISCT-JOB-004");
    assert_eq!(bench.jobs().len(), 2);
    bench.ask(first, RequestedState::Terminate);
    bench.disk("c");
}

#[test]
fn no_job_is_accepted_that_could_not_be_recorded_to_its_end() {
    let bench = Bench::with(|config| config.min_free_bytes = u64::MAX);
    assert_eq!(refusal(bench.create_disk(CreateDisk::new("a", MIB))), "ISCT-DB-003");
}

#[test]
fn elapsed_time_grows_while_a_job_runs_and_is_final_at_its_end() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    let image = hold(&disk);
    let id = bench.delete_disk(disk.id).unwrap();
    bench.until("running", |state| state.jobs[&id].record.job.state == JobState::Running);
    bench.clock.advance(Duration::from_secs(10));
    assert_eq!(bench.job(&id).unwrap().elapsed, Duration::from_secs(10));
    drop(image);
    let ended = bench.end(id);
    bench.clock.advance(Duration::from_secs(10));
    assert_eq!(bench.job(&id).unwrap().elapsed, ended.elapsed);
    assert_eq!(ended.elapsed, Duration::from_secs(10));
}

#[test]
fn the_submitter_is_kept_and_only_given_settings_change() {
    let bench = Bench::new();
    let submission = Submission {
        owner: "somebody".to_owned(),
        time_before_removal: Duration::from_secs(7),
        delete_on_completion: false,
        ..Submission::default()
    };
    let id = bench.create_disk_with(CreateDisk::new("a", MIB), submission).unwrap();
    let before = bench.end(id);
    assert_eq!(before.owner, "somebody");
    bench.clock.advance(Duration::from_secs(60));
    let settings = JobSettings { notify: Some("me".to_owned()), ..JobSettings::default() };
    bench.modify_job(&id, settings).unwrap();
    assert_eq!(bench.job(&id).unwrap(), Job { notify: "me".to_owned(), ..before });
    let unknown = bench.modify_job(&JobId::generate(), JobSettings::default());
    assert_eq!(refusal(unknown), "ISCT-CFG-005");
}
