use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::catalogue::Provisioning;
use crate::engine::{MapRequest, TargetRequest};

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
