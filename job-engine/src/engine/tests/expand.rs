use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::catalogue::Provisioning;
use crate::engine::{MapRequest, TargetRequest};
use crate::kinds::Step;

fn length(disk: &Disk) -> u64 {
    std::fs::metadata(&disk.path).unwrap().len()
}

#[test]
fn a_disk_grows_while_it_is_mapped_and_subscribers_are_told() {
    let bench = Bench::new();
    let (_, events) = bench.listen();
    for provisioning in [Provisioning::Thin, Provisioning::Full] {
        let name = format!("{provisioning:?}");
        let request = CreateDisk { provisioning, ..CreateDisk::new(&name, MIB) };
        let created = bench.create_disk(request).unwrap();
        let disk = disk_of(&bench.end(created));
        let target = TargetRequest { name, ..TargetRequest::default() };
        let target = bench.create_target(target).unwrap().name;
        bench.map(MapRequest { disk: disk.id, target, lun: None }).unwrap();
        let _image = hold(&disk);
        let id = bench.expand_disk(disk.id, 5 * MIB).unwrap();
        let job = bench.end(id);
        assert_eq!((job.state, job.kind.word()), (JobState::Completed, "expand-disk"), "{job:?}");
        let larger = bench.engine.disk(&disk.id).unwrap();
        assert_eq!(larger, Disk { size_bytes: 5 * MIB, ..disk.clone() });
        assert_eq!(length(&disk), 5 * MIB);
        let allocated = std::fs::metadata(&disk.path).unwrap().blocks() * 512;
        assert_eq!(allocated >= 5 * MIB, provisioning == Provisioning::Full);
        let told = bench.heard(&events);
        let changed = told.iter().filter_map(|event| {
            let ChangeKind::DiskChanged(disk) = &event.change else { return None };
            Some(disk.size_bytes)
        });
        assert_eq!(changed.collect::<Vec<_>>(), [5 * MIB]);
    }
}

#[test]
fn sizes_that_a_disk_cannot_grow_to_are_refused_with_one_that_it_can() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    let nearest = |size| {
        let refused = bench.expand_disk(disk.id, size).unwrap_err();
        let Cause::BadSize { nearest, .. } = refused.cause() else { panic!("{refused:?}") };
        *nearest
    };
    for size in [0, 512, MIB - 512, MIB] {
        assert_eq!(nearest(size), Some(MIB + 512), "{size}");
    }
    assert_eq!(nearest(MIB + 1), Some(MIB + 512));
    assert_eq!(nearest(u64::MAX), Some((1 << 63) - 4096));
    assert_eq!(refusal(bench.expand_disk(DiskId::generate(), 2 * MIB)), "ISCT-CFG-005");
    assert_eq!(length(&disk), MIB);
}

#[test]
fn a_disk_is_one_jobs_at_a_time() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    let later = Submission {
        scheduled_start_time: Some(start() + Duration::from_secs(3600)),
        ..Submission::default()
    };
    let id = bench.expand_disk_with(disk.id, 2 * MIB, later).unwrap();
    let in_use = refusal(bench.expand_disk(disk.id, 3 * MIB));
    assert_eq!(in_use, refusal(bench.delete_disk(disk.id)));
    bench.ask(id, RequestedState::Terminate);
    let id = bench.expand_disk(disk.id, 3 * MIB).unwrap();
    assert_eq!(bench.end(id).state, JobState::Completed);
    assert_eq!(length(&disk), 3 * MIB);
}

#[test]
fn an_expansion_beyond_the_free_space_fails_and_leaves_the_disk_as_it_was() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    let id = bench.expand_disk(disk.id, 1 << 60).unwrap();
    let job = bench.end(id);
    assert_eq!((job.state, ids(&job)), (JobState::Exception, vec!["ISCT-STG-001"]));
    assert_eq!(job.error().unwrap().message_arguments[0], "expand disk a");
    assert_eq!((bench.engine.disk(&disk.id), length(&disk)), (Some(disk.clone()), MIB));
    // The file is not what it was.
    std::fs::File::options().write(true).open(&disk.path).unwrap().set_len(MIB / 2).unwrap();
    let id = bench.expand_disk(disk.id, 2 * MIB).unwrap();
    assert_eq!(bench.end(id).state, JobState::Exception);
    assert_eq!(length(&disk), MIB / 2);
}

#[test]
fn an_expansion_that_is_ended_before_it_is_complete_is_taken_back() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    let gate = bench.gates.set(|record| record.job.percent_complete > 0);
    let id = bench.expand_disk(disk.id, 9 * MIB).unwrap();
    gate.reached();
    assert_eq!(length(&disk), 9 * MIB, "the file has grown, the disk has not");
    assert_eq!(bench.engine.disk(&disk.id).unwrap().size_bytes, MIB);
    let answer = bench.post_request(id, RequestedState::Terminate);
    drop(gate);
    assert_eq!(answer.recv_timeout(PATIENCE).unwrap(), RequestStateChangeResult::Started);
    let job = bench.end(id);
    assert_eq!(job.state, JobState::Terminated, "{job:?}");
    assert_eq!((bench.engine.disk(&disk.id), length(&disk)), (Some(disk.clone()), MIB));
}

#[test]
fn what_a_killed_expansion_leaves_does_not_reach_the_disk() {
    let mut bench = Bench::new();
    let disk = bench.disk("a");
    let gate = bench.gates.set(|record| record.job.percent_complete > 0);
    let id = bench.expand_disk(disk.id, 9 * MIB).unwrap();
    gate.reached();
    let killed = bench.post(move |core| core.kill_job(id, false, "a test"));
    // While its worker is there, nobody else works on the disk.
    drop(gate);
    assert_eq!(killed.recv_timeout(PATIENCE).unwrap(), KillJobResult::Success);
    assert_eq!(bench.engine.disk(&disk.id), Some(disk.clone()));
    // Somebody's bytes behind the end of the disk.
    std::fs::write(&disk.path, vec![7; 4 << 20]).unwrap();
    bench.restart();
    let id = bench.expand_disk(disk.id, 2 * MIB).unwrap();
    assert_eq!(bench.end(id).state, JobState::Completed);
    let bytes = std::fs::read(&disk.path).unwrap();
    assert_eq!(bytes.len(), 2 << 20);
    assert!(bytes[1 << 20..].iter().all(|byte| *byte == 0), "they are not the disk's");
}

#[test]
fn nobody_sees_the_end_of_a_job_before_subscribers_know_what_it_has_changed() {
    let bench = Bench::new();
    let (sender, seen) = channel();
    let engine = Arc::downgrade(&bench.engine);
    let look = move |event: &ChangeEvent| {
        if let (ChangeKind::DiskChanged(disk), Some(engine)) = (&event.change, engine.upgrade()) {
            let states: Vec<_> = engine.jobs().into_iter().map(|job| job.state).collect();
            let _ = sender.send((disk.size_bytes, disk.provisioning, states));
        }
    };
    bench.subscribe(Box::new(look)).unwrap();
    let disk = bench.disk("a");
    let id = bench.expand_disk(disk.id, 5 * MIB).unwrap();
    assert_eq!(bench.end(id).state, JobState::Completed);
    let ended = JobState::Completed;
    let told = seen.try_recv().unwrap();
    assert_eq!(told, (5 * MIB, Provisioning::Thin, vec![ended, JobState::Running]));
    let id = bench.provision_disk(disk.id, Provisioning::Full, Submission::default()).unwrap();
    assert_eq!(bench.end(id).state, ended);
    let told = seen.try_recv().unwrap();
    assert_eq!(told, (5 * MIB, Provisioning::Full, vec![ended, ended, JobState::Running]));
}

#[test]
fn a_job_whose_effect_is_in_force_is_ended_by_no_client_and_no_time_limit() {
    let mut bench = Bench::new();
    let disk = bench.disk("a");
    let time_limit = Some(Duration::from_secs(60));
    let submission = Submission { time_limit, ..Submission::default() };
    let gate = bench
        .gates
        .set(|record| record.step == Step::InForce && record.job.state == JobState::Completed);
    let id = bench.expand_disk_with(disk.id, 2 * MIB, submission).unwrap();
    gate.reached();
    assert_eq!(bench.engine.disk(&disk.id).unwrap().size_bytes, 2 * MIB);
    assert_eq!(bench.state(id), JobState::Running);
    bench.contents.fail_after(Some(0), false);
    drop(gate);
    assert_eq!(bench.ask(id, RequestedState::Terminate), RequestStateChangeResult::Busy);
    // It goes down here, and comes back behind the limit.
    bench.engine.shutdown();
    bench.contents.fail_after(None, false);
    bench.clock.advance(Duration::from_secs(3600));
    bench.restart();
    let job = bench.end(id);
    assert_eq!((job.state, job.errors.len()), (JobState::Completed, 0), "{job:?}");
    assert_eq!(bench.engine.disk(&disk.id).unwrap().size_bytes, 2 * MIB);
}
