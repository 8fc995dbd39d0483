use super::copying::{bench_with, filled};
use super::*;
use crate::kinds::Step;

fn later() -> Submission {
    Submission {
        scheduled_start_time: Some(start() + Duration::from_secs(3600)),
        ..Submission::default()
    }
}

fn after(job: JobId) -> Submission {
    Submission { after: vec![job], ..Submission::default() }
}

#[test]
fn a_job_waits_for_another_and_ends_if_that_does_not_end_well() {
    let bench = Bench::new();
    let one = bench.create_disk_with(CreateDisk::new("one", MIB), later()).unwrap();
    let two = bench.create_disk_with(CreateDisk::new("two", MIB), after(one)).unwrap();
    let three = bench.create_disk_with(CreateDisk::new("three", MIB), after(two)).unwrap();
    assert_eq!((bench.state(two), bench.state(three)), (JobState::New, JobState::New));
    bench.ask(one, RequestedState::Start);
    for id in [one, two, three] {
        assert_eq!(bench.end(id).state, JobState::Completed);
    }
    let one = bench.create_disk_with(CreateDisk::new("1", MIB), later()).unwrap();
    let two = bench.create_disk_with(CreateDisk::new("2", MIB), after(one)).unwrap();
    let three = bench.create_disk_with(CreateDisk::new("3", MIB), after(two)).unwrap();
    bench.ask(one, RequestedState::Terminate);
    for id in [two, three] {
        let job = bench.end(id);
        assert_eq!((job.state, ids(&job)), (JobState::Exception, vec!["ISCT-JOB-010"]));
    }
    let refused = bench.create_disk_with(CreateDisk::new("4", MIB), after(three));
    assert_eq!(refusal(refused), "ISCT-JOB-010");
    let refused = bench.create_disk_with(CreateDisk::new("4", MIB), after(JobId::generate()));
    assert_eq!(refusal(refused), "ISCT-CFG-005");
    assert_eq!(bench.files().len(), 3);
}

#[test]
fn a_job_that_takes_too_long_fails_and_is_undone() {
    let (bench, files) = bench_with(|_| {});
    let disk = filled(&bench, "a");
    let gate =
        bench.gates.set(|record| matches!(record.step, Step::Planned { done, .. } if done > 0));
    let limit = Submission { time_limit: Some(Duration::from_secs(60)), ..Submission::default() };
    let id =
        bench.export_disk(disk.id, files.join("a"), disk_image::ImageFormat::Raw, limit).unwrap();
    gate.reached();
    bench.clock.advance(Duration::from_secs(61));
    drop(gate);
    let job = bench.end(id);
    assert_eq!((job.state, ids(&job)), (JobState::Exception, vec!["ISCT-JOB-006"]));
    assert_eq!(files.read_dir().unwrap().count(), 0);
}

#[test]
fn a_limit_of_the_bandwidth_can_be_lifted_while_a_job_runs() {
    let (bench, files) = bench_with(|config| config.bandwidth = Some(1));
    let disk = filled(&bench, "a");
    let slow = Submission { bandwidth: Some(1), ..Submission::default() };
    let id =
        bench.export_disk(disk.id, files.join("a"), disk_image::ImageFormat::Raw, slow).unwrap();
    // The first piece is copied; the next would be so in 18 hours.
    bench.until("a first piece", |state| {
        let step = state.jobs.get(&id).map(|entry| entry.record.step);
        matches!(step, Some(Step::Planned { done, .. }) if done > 0)
    });
    let settings = JobSettings { bandwidth: Some(None), ..JobSettings::default() };
    bench.modify_job(&id, settings).unwrap();
    assert_eq!(bench.state(id), JobState::Running);
    bench.set_bandwidth(None);
    assert_eq!(bench.end(id).state, JobState::Completed);
    // One that waits for its turn can be ended at once.
    bench.set_bandwidth(Some(1));
    let id = bench
        .export_disk(disk.id, files.join("b"), disk_image::ImageFormat::Raw, Submission::default())
        .unwrap();
    bench.until("a first piece", |state| {
        let step = state.jobs.get(&id).map(|entry| entry.record.step);
        matches!(step, Some(Step::Planned { done, .. }) if done > 0)
    });
    bench.ask(id, RequestedState::Terminate);
    assert_eq!(bench.end(id).state, JobState::Terminated);
}

#[test]
fn a_pool_has_only_so_many_jobs_at_work() {
    let bench = Bench::with(|config| config.max_workers_per_pool = 1);
    let gate = bench.gates.set(|record| record.step == Step::CreateAllocating);
    let one = bench.create_disk(CreateDisk::new("one", MIB)).unwrap();
    gate.reached();
    let two = bench.post(|core| {
        core.submit_create(CreateDisk::new("two", MIB), Submission::default()).unwrap()
    });
    drop(gate);
    let two = two.recv_timeout(PATIENCE).unwrap();
    for id in [one, two] {
        assert_eq!(bench.end(id).state, JobState::Completed);
    }
}
