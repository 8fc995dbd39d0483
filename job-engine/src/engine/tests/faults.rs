use disk_image::{ImageErrorKind, Operation};

use super::*;
use crate::faults::FaultDetail;

const EIO: i32 = 5;

fn report(disk: &Disk, lba: u64) -> FaultReport {
    FaultReport {
        disk: disk.id,
        target: "iqn.2026-01.io.lund:t".to_owned(),
        lun: 3,
        lba: Some(lba),
        opcode: 0x28,
        initiator: "iqn.1994-05.com.example:host".to_owned(),
        kind: ImageErrorKind::Io,
        operation: Operation::Read,
        errno: Some(EIO),
        path: disk.path.clone(),
        text: "input/output error".to_owned(),
    }
}

fn faults(engine: &Engine) -> Vec<(Job, FaultDetail)> {
    let details = engine.jobs().into_iter().filter_map(|job| match job.kind.clone() {
        JobKind::DataPathFault(detail) => Some((job, *detail)),
        JobKind::CreateDisk { .. }
        | JobKind::DeleteDisk { .. }
        | JobKind::ExpandDisk { .. }
        | JobKind::Planned { .. }
        | JobKind::Operation(_)
        | JobKind::Unknown(_) => None,
    });
    details.collect()
}

/// Reported so often, over all records.
fn counted(state: &State) -> u64 {
    let counts = state.jobs.values().map(|entry| match &entry.record.job.kind {
        JobKind::DataPathFault(detail) => detail.count,
        JobKind::CreateDisk { .. }
        | JobKind::DeleteDisk { .. }
        | JobKind::ExpandDisk { .. }
        | JobKind::Planned { .. }
        | JobKind::Operation(_)
        | JobKind::Unknown(_) => 0,
    });
    counts.sum()
}

#[test]
fn a_fault_is_a_failed_job_with_the_error_of_its_cause() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    let (_, events) = bench.listen();
    bench.record_fault(report(&disk, 77));
    bench.until("recorded", |state| counted(state) == 1);
    let (job, detail) = faults(&bench).remove(0);
    assert_eq!((job.state, job.percent_complete), (JobState::Exception, 100));
    assert_eq!(ids(&job), ["ISCT-STG-003"]);
    assert_eq!((job.kind.word(), job.name.as_str()), ("data-path-fault", "Errors of disk a"));
    assert!(!job.delete_on_completion);
    let message = job.error_description();
    for part in ["1 times", "28h", "LBA 77", "LUN 3 of iqn.2026-01.io.lund:t", "com.example:host"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert!(job.error().unwrap().error_source.as_ref().unwrap().contains(&disk.id.to_string()));
    assert_eq!((detail.count, detail.lba, detail.errno), (1, Some(77), Some(EIO)));
    let told = bench.heard(&events);
    assert!(matches!(&told[..], [event] if matches!(event.change, ChangeKind::JobCreated(_))));
}

#[test]
fn faults_of_one_cause_on_one_disk_are_one_record_that_counts() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    bench.record_fault(report(&disk, 1));
    bench.until("the first", |state| counted(state) == 1);
    let id = faults(&bench)[0].0.id;
    for lba in 2..=100 {
        bench.clock.advance(Duration::from_secs(1));
        bench.record_fault(report(&disk, lba));
    }
    bench.until("all of them", |state| counted(state) == 100);
    let all = faults(&bench);
    assert_eq!(all.len(), 1);
    let (job, detail) = &all[0];
    assert_eq!(job.id, id);
    assert_eq!(detail.first, start());
    assert_eq!(detail.last, start() + Duration::from_secs(99));
    assert_eq!(job.end_time, Some(detail.last));
    assert_eq!(detail.lba, Some(100), "the latest one is described");
    let message = job.error_description();
    assert!(message.contains("all of them: read at LBA 1 to 100 (100 times)"), "{message}");
    assert_eq!(bench.faults_dropped(), 0);
}

#[test]
fn other_causes_and_other_disks_have_records_of_their_own() {
    let bench = Bench::new();
    let (a, b) = (bench.disk("a"), bench.disk("b"));
    let full = FaultReport {
        kind: ImageErrorKind::OutOfSpace,
        operation: Operation::Write,
        errno: Some(28),
        ..report(&a, 5)
    };
    for fault in [report(&a, 1), report(&b, 2), full, report(&a, 3)] {
        bench.record_fault(fault);
    }
    bench.until("all of them", |state| counted(state) == 4);
    let mut found: Vec<_> = faults(&bench)
        .into_iter()
        .map(|(_, detail)| (detail.disk, detail.message_id, detail.count))
        .collect();
    found.sort();
    let wanted = [
        (a.id, "ISCT-STG-001".to_owned(), 1),
        (a.id, "ISCT-STG-003".to_owned(), 2),
        (b.id, "ISCT-STG-003".to_owned(), 1),
    ];
    assert_eq!(found, wanted);
}

#[test]
fn a_thousand_errors_are_few_short_records_that_hide_none_of_them() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    bench.record_fault(report(&disk, 1 << 40));
    bench.until("the first", |state| counted(state) == 1);
    for lba in 0..1000 {
        bench.record_fault(report(&disk, lba * 1_000_000));
    }
    let operation = Operation::Write;
    bench.record_fault(FaultReport { operation, ..report(&disk, 7) });
    bench.until("all of them", |state| counted(state) == 1002);
    let all = faults(&bench);
    assert_eq!(all.len(), 1, "one of each disk and cause");
    let message = all[0].0.error_description();
    for part in ["write at LBA 7 (once)", "1099511627776 (once)", "latest: operation code 28h"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert!(message.len() < 1500, "{message}");
    assert_eq!(bench.faults_dropped(), 0);
}

#[test]
fn a_fault_stays_until_it_is_cleared_and_comes_back_as_a_new_record() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    bench.record_fault(report(&disk, 1));
    bench.until("recorded", |state| counted(state) == 1);
    let first = faults(&bench)[0].0.id;
    bench.clock.advance(Duration::from_secs(1_000_000));
    bench.until("only the fault is left", |state| state.jobs.len() == 1);
    bench.delete_job(&first).unwrap();
    assert!(faults(&bench).is_empty());
    bench.record_fault(report(&disk, 2));
    bench.until("recorded again", |state| counted(state) == 1);
    assert_ne!(faults(&bench)[0].0.id, first);
}

#[test]
fn a_fault_does_not_keep_its_disk_from_being_deleted() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    bench.record_fault(report(&disk, 1));
    bench.until("recorded", |state| counted(state) == 1);
    let id = bench.delete_disk(disk.id).unwrap();
    assert_eq!(bench.end(id).state, JobState::Completed);
    assert_eq!(faults(&bench).len(), 1);
}

#[test]
fn faults_that_were_reported_just_before_the_end_are_there_after_a_restart() {
    let mut bench = Bench::new();
    let disk = bench.disk("a");
    bench.record_fault(report(&disk, 1));
    bench.until("recorded", |state| counted(state) == 1);
    // The database hears of faults once a second: these two have to wait, but not for ever.
    bench.record_fault(report(&disk, 2));
    bench.record_fault(report(&disk, 3));
    bench.restart();
    assert_eq!(faults(&bench)[0].1.count, 3);
    bench.record_fault(report(&disk, 4));
    bench.until("counted on", |state| counted(state) == 4);
    assert_eq!(faults(&bench).len(), 1);
}

#[test]
fn faults_that_could_not_be_written_are_not_forgotten() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    bench.contents.fail_after(Some(0), false);
    bench.record_fault(report(&disk, 1));
    bench.until("the database is down", |state| state.store_down.is_some());
    bench.record_fault(report(&disk, 2));
    bench.contents.fail_after(None, false);
    bench.until("both of them", |state| counted(state) == 2);
    let (_, detail) = faults(&bench).remove(0);
    assert_eq!((detail.count, detail.lba), (2, Some(2)));
}

#[test]
fn too_many_different_faults_at_once_are_counted_instead_of_kept() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    let gate = bench.gates.set(|record| matches!(record.job.kind, JobKind::DataPathFault(_)));
    bench.record_fault(report(&disk, 1));
    gate.reached();
    for _ in 0..1100 {
        bench.record_fault(FaultReport { disk: DiskId::generate(), ..report(&disk, 1) });
    }
    assert_eq!(bench.faults_dropped(), 1100 - 1024);
    drop(gate);
}
