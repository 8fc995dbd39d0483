//! A long job as it is seen from outside: how far it is, and that it can be ended anywhere.

use std::os::unix::fs::FileExt as _;

use super::*;
use crate::engine::CloneDisk;

const GIB: u64 = 1 << 30;

/// A sparse disk of 4 GiB with something everywhere.
fn large(bench: &Bench) -> Disk {
    let id = bench.create_disk(CreateDisk::new("large", 4 * GIB)).unwrap();
    let disk = disk_of(&bench.end(id));
    let file = std::fs::File::options().write(true).open(&disk.path).unwrap();
    for piece in 0..128 {
        file.write_all_at(&[7; 4096], piece * 32 * MIB).unwrap();
    }
    disk
}

/// A clone that takes two seconds.
fn clone(bench: &Bench, disk: &Disk, name: &str) -> JobId {
    let request = CloneDisk {
        source: disk.id,
        name: name.to_owned(),
        provisioning: None,
        // Not raw: a file system that shares blocks would have it done at once.
        format: Some(disk_image::ImageFormat::Qcow2),
        pool: None,
    };
    let submission = Submission { bandwidth: Some(2 * GIB), ..Submission::default() };
    bench.clone_disk(request, submission).unwrap()
}

#[test]
fn percent_and_remaining_time_of_a_clone_of_4_gib_go_on_steadily() {
    let bench = Bench::new();
    let disk = large(&bench);
    let id = clone(&bench, &disk, "copy");
    let mut seen: Vec<(u16, Option<Duration>)> = Vec::new();
    loop {
        let job = bench.job(&id).unwrap();
        if job.state.is_terminal() {
            assert_eq!(job.state, JobState::Completed, "{job:?}");
            break;
        }
        if seen.last().is_none_or(|(percent, _)| *percent != job.percent_complete) {
            seen.push((job.percent_complete, job.remaining));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(seen.is_sorted_by_key(|(percent, _)| *percent), "{seen:?}");
    assert!(seen.len() > 40, "{seen:?}");
    let largest = seen.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap();
    assert!(largest <= 10, "{seen:?}");
    let known: Vec<_> = seen.iter().filter_map(|(_, remaining)| *remaining).collect();
    assert!(known.len() * 2 > seen.len(), "{seen:?}");
    assert!(known.last() < known.first(), "{seen:?}");
}

#[test]
fn a_clone_that_is_cancelled_anywhere_leaves_its_job_alone_and_says_by_whom() {
    let bench = Bench::new();
    let disk = large(&bench);
    let before = bench.files();
    for percent in [0, 1, 10, 33, 50, 80, 95] {
        let id = clone(&bench, &disk, "copy");
        bench.until("it is so far", |state| {
            let entry = &state.jobs[&id];
            let job = entry.view(start());
            job.state.is_terminal() || job.percent_complete >= percent
        });
        let _ = bench.ask(id, RequestedState::Terminate);
        let job = bench.end(id);
        assert_eq!((job.state, ids(&job)), (JobState::Terminated, vec!["ISCT-JOB-001"]));
        assert!(job.error_description().contains("a test"));
        assert_eq!(bench.files(), before, "at {percent} percent");
        assert_eq!(bench.disks().len(), 1);
        let state = bench.shared.state.lock();
        assert!(state.debris.is_empty() && state.unfinished.is_empty(), "at {percent} percent");
    }
}
