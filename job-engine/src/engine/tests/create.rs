use std::sync::atomic::Ordering;

use super::*;
use crate::catalogue::{BlockLength, Provisioning};
use crate::job::{ElementEffect, JobSettings};

#[test]
fn a_created_disk_is_in_the_catalogue_and_its_file_has_its_size() {
    let bench = Bench::new();
    for provisioning in [Provisioning::Thin, Provisioning::Full] {
        let request = CreateDisk { provisioning, ..CreateDisk::new("a", 3 * MIB + 512) };
        let id = bench.create_disk(request.clone()).unwrap();
        let job = bench.end(id);
        assert_eq!((job.state, job.percent_complete), (JobState::Completed, 100));
        assert!(job.errors.is_empty() && job.error_code() == 0, "{job:?}");
        let disk = bench.engine.disk(&job.kind.disk()).unwrap();
        assert_eq!(disk, disk_of(&job));
        assert_eq!((disk.name.as_str(), disk.size_bytes), ("a", request.size_bytes));
        assert_eq!((disk.provisioning, disk.created_by), (provisioning, id));
        let file = std::fs::metadata(&disk.path).unwrap();
        assert_eq!(file.len(), request.size_bytes);
        let allocated = std::os::unix::fs::MetadataExt::blocks(&file) * 512;
        assert_eq!(allocated >= request.size_bytes, provisioning == Provisioning::Full);
        assert_eq!(bench.files().len(), 1, "no partial file stays");
        let effects: Vec<_> = job.affected.iter().map(|affected| affected.effect).collect();
        assert_eq!(effects, [ElementEffect::Create, ElementEffect::Other]);
        let gone = bench.delete_disk(disk.id).unwrap();
        assert_eq!(bench.end(gone).state, JobState::Completed);
        assert!(bench.files().is_empty());
    }
}

#[test]
fn percent_never_falls_and_is_100_exactly_when_the_job_has_ended() {
    let bench = Bench::new();
    let (_, events) = bench.listen();
    let full = CreateDisk { provisioning: Provisioning::Full, ..CreateDisk::new("a", 512 * MIB) };
    let good = bench.create_disk(full).unwrap();
    bench.end(good);
    let bad = bench.create_disk(CreateDisk::new("b", 1 << 62)).unwrap();
    bench.end(bad);
    let (cancelled, _) = bench.waiting("c");
    bench.ask(cancelled, RequestedState::Terminate);
    for id in [good, bad, cancelled] {
        bench.end(id);
    }
    let mut highest = std::collections::BTreeMap::new();
    let mut between = false;
    for event in bench.heard(&events) {
        if let ChangeKind::JobChanged { current, previous } = &event.change {
            assert!(previous.percent_complete <= current.percent_complete);
        }
        let (ChangeKind::JobCreated(job) | ChangeKind::JobChanged { current: job, .. }) =
            event.change
        else {
            continue;
        };
        assert_eq!(job.percent_complete == 100, job.state.is_terminal(), "{job:?}");
        let before = highest.insert(job.id, job.percent_complete).unwrap_or(0);
        assert!(before <= job.percent_complete, "{job:?}");
        between |= (1..100).contains(&job.percent_complete);
    }
    assert_eq!(highest.into_values().collect::<Vec<_>>(), [100, 100, 100]);
    assert!(between, "progress of the large disk was told");
}

#[test]
fn a_disk_larger_than_the_free_space_fails_with_the_capacity_error_and_leaves_no_file() {
    let bench = Bench::new();
    for provisioning in [Provisioning::Thin, Provisioning::Full] {
        let request = CreateDisk { provisioning, ..CreateDisk::new("big", 1 << 60) };
        let id = bench.create_disk(request).unwrap();
        let job = bench.end(id);
        assert_eq!(job.state, JobState::Exception);
        assert_eq!(ids(&job), ["ISCT-STG-001"]);
        assert_eq!((job.error_code(), job.percent_complete), (101, 100));
        let error = job.error().unwrap();
        assert_eq!(error.message_arguments[0], "create disk big");
        assert_eq!(error.message_arguments[2], (1_u64 << 60).to_string());
        assert!(error.message_arguments[3].parse::<u64>().unwrap() < 1 << 60, "{error:?}");
        assert!(error.error_source.as_ref().unwrap().contains(&job.kind.disk().to_string()));
        assert!(bench.files().is_empty() && bench.disks().is_empty());
        assert_eq!(bench.errors(&id).unwrap(), job.errors);
    }
}

#[test]
fn only_thin_disks_may_be_larger_than_the_free_space_and_only_if_that_is_allowed() {
    let bench = Bench::with(|config| {
        config.default_limits.overcommit = crate::catalogue::Overcommit::Unlimited;
    });
    let free = disk_image::pool_space(&bench.config.default_pool).unwrap().free;
    let size = (free + (1 << 30)).next_multiple_of(4096);
    let thin = bench.create_disk(CreateDisk::new("thin", size)).unwrap();
    let full = CreateDisk { provisioning: Provisioning::Full, ..CreateDisk::new("full", size) };
    let full = bench.create_disk(full).unwrap();
    assert_eq!(bench.end(thin).state, JobState::Completed);
    assert_eq!(ids(&bench.end(full)), ["ISCT-STG-001"]);
}

#[test]
fn what_another_job_was_promised_is_not_given_away_twice() {
    let bench = Bench::new();
    let (first, disk) = bench.waiting("a");
    let free = disk_image::pool_space(&bench.config.default_pool).unwrap().free;
    let promised = free.saturating_sub(MIB);
    bench.shared.state.lock().jobs[&first].live.reserved.store(promised, Ordering::Relaxed);
    assert_eq!(bench.pools().remove(0).reserved_bytes, promised);
    // Half of what is free: there, but promised.
    let size = (free / 2).next_multiple_of(4096);
    let request = CreateDisk { provisioning: Provisioning::Full, ..CreateDisk::new("b", size) };
    let id = bench.create_disk(request).unwrap();
    assert_eq!(ids(&bench.end(id)), ["ISCT-STG-001"]);
    bench.ask(first, RequestedState::Terminate);
    assert_eq!(bench.pools().remove(0).reserved_bytes, 0);
    assert!(!disk.path.exists() && bench.files().is_empty());
}

#[test]
fn a_pool_whose_directory_is_gone_is_named_in_the_error() {
    let bench = Bench::new();
    std::fs::remove_dir(&bench.config.default_pool).unwrap();
    let id = bench.create_disk(CreateDisk::new("a", MIB)).unwrap();
    let job = bench.end(id);
    assert_eq!((job.state, ids(&job)), (JobState::Exception, vec!["ISCT-STG-016"]));
    let pool = bench.config.default_pool.display().to_string();
    assert!(job.error_description().contains(&pool), "{}", job.error_description());
    assert!(matches!(bench.pools().remove(0).state, crate::catalogue::PoolState::Unavailable(_)));
    assert!(bench.disks().is_empty());
}

#[test]
fn a_request_that_cannot_succeed_is_refused_before_a_job_is_made() {
    let bench = Bench::new();
    bench.disk("taken");
    let (_, _) = bench.waiting("promised");
    let before = bench.snapshot().sequence;
    let ask = |request: CreateDisk| refusal(bench.create_disk(request));
    assert_eq!(ask(CreateDisk::new("", MIB)), "ISCT-CFG-004");
    assert_eq!(ask(CreateDisk::new("taken", MIB)), "ISCT-CFG-002");
    assert_eq!(ask(CreateDisk::new("promised", MIB)), "ISCT-CFG-002");
    assert_eq!(ask(CreateDisk::new("a", 0)), "ISCT-CFG-003");
    assert_eq!(ask(CreateDisk::new("a", 513)), "ISCT-CFG-003");
    assert_eq!(ask(CreateDisk::new("a", u64::MAX - 511)), "ISCT-CFG-003");
    let pool = Some(crate::id::PoolId("other".to_owned()));
    assert_eq!(ask(CreateDisk { pool, ..CreateDisk::new("a", MIB) }), "ISCT-CFG-005");
    let block_length = BlockLength::B4096;
    let odd = CreateDisk { block_length, ..CreateDisk::new("a", MIB + 512) };
    let refused = bench.create_disk(odd).unwrap_err();
    let nearest = Some(MIB + 4096);
    assert!(matches!(refused.cause(), Cause::BadSize { nearest: n, .. } if *n == nearest));
    assert_eq!(bench.snapshot().sequence, before);
}

#[test]
fn the_nearest_size_is_always_accepted() {
    for block_length in [BlockLength::B512, BlockLength::B4096] {
        for size in [0, 1, 511, 512, 513, 4097, (1 << 63) - 1, 1 << 63, u64::MAX] {
            let nearest = CreateDisk::nearest_size(size, block_length);
            assert_eq!(CreateDisk::nearest_size(nearest, block_length), nearest, "{size}");
            assert!(nearest > 0 && i64::try_from(nearest).is_ok(), "{size}");
        }
    }
}

#[test]
fn what_cannot_be_undone_is_told_beside_the_failure_and_swept_up_at_the_next_start() {
    let mut bench = Bench::new();
    let (id, disk) = bench.waiting("a");
    // A directory in the place of the partial file can neither be opened nor unlinked.
    let partial = disk_image::partial_path(&disk.path);
    std::fs::create_dir(&partial).unwrap();
    assert_eq!(bench.ask(id, RequestedState::Start), RequestStateChangeResult::Started);
    let job = bench.end(id);
    assert_eq!((job.state, ids(&job)), (JobState::Exception, vec!["ISCT-STG-007", "ISCT-JOB-008"]));
    assert!(job.errors[1].message.contains(&partial.display().to_string()));
    // It waits for the sweeper, which has tried at once and in vain.
    bench.engine.shutdown();
    std::fs::remove_dir(&partial).unwrap();
    std::fs::write(&partial, b"left").unwrap();
    bench.restart();
    bench.until_swept();
    assert!(bench.files().is_empty());
    assert_eq!(bench.end(id), job, "the outcome stays");
}

#[test]
fn a_suspended_job_shows_after_a_restart_how_far_it_was() {
    let mut bench = Bench::new();
    let full = CreateDisk { provisioning: Provisioning::Full, ..CreateDisk::new("a", 512 * MIB) };
    let gate = bench.gates.set(|record| record.job.percent_complete > 0);
    let id = bench.create_disk(full).unwrap();
    gate.reached();
    {
        let state = bench.shared.state.lock();
        let live = &state.jobs[&id].live;
        // As if it had gone on since the database was told.
        live.percent.store(70, Ordering::Relaxed);
        live.suspend.store(true, Ordering::Release);
    }
    drop(gate);
    bench.until("suspended", |state| state.jobs[&id].record.job.state == JobState::Suspended);
    let before = bench.job(&id).unwrap().percent_complete;
    assert!(before >= 70, "{before}");
    bench.restart();
    assert_eq!(bench.job(&id).unwrap().percent_complete, before);
    let settings = JobSettings { priority: Some(1), ..JobSettings::default() };
    bench.modify_job(&id, settings).unwrap();
    assert_eq!(bench.ask(id, RequestedState::Start), RequestStateChangeResult::Started);
    let job = bench.end(id);
    assert_eq!(job.state, JobState::Completed, "{job:?}");
    assert_eq!(std::fs::metadata(disk_of(&job).path).unwrap().len(), 512 * MIB);
}
