//! Jobs of another version of the program.

use serde_json::{Value, json};

use super::*;

/// Writes a job's record as another version would have written it.
fn rewrite(bench: &mut Bench, id: JobId, change: impl FnOnce(&mut Value)) {
    bench.engine.shutdown();
    let record = JobRecord::clone(&bench.shared.state.lock().jobs[&id].record);
    let mut written = serde_json::to_value(record).unwrap();
    change(&mut written);
    let mut batch = Batch::default();
    batch.put(Tree::Jobs, id.uuid().as_bytes(), &written).unwrap();
    MemStore::open(&bench.contents).commit(&batch).unwrap();
    bench.restart();
}

fn failed(bench: &Bench, id: JobId) -> Job {
    bench.ask(id, RequestedState::Start);
    let job = bench.end(id);
    assert_eq!(job.state, JobState::Exception, "{job:?}");
    assert_eq!(ids(&job)[0], "ISCT-JOB-011", "{job:?}");
    job
}

#[test]
fn a_job_of_an_unknown_kind_ends_with_an_error_and_is_kept_as_it_was_written() {
    let mut bench = Bench::new();
    let (id, disk) = bench.waiting("a");
    let kind = json!({"kind": "teleport_disk", "disk": disk.id, "where": [1, 2]});
    let written = kind.clone();
    rewrite(&mut bench, id, |record| record["job"]["kind"] = kind);
    let job = failed(&bench, id);
    assert_eq!((job.kind.word(), job.kind.disk()), ("teleport_disk", disk.id));
    assert!(job.errors[0].message.contains("teleport_disk"), "{job:?}");
    bench.restart();
    assert_eq!(bench.job(&id).unwrap().kind, JobKind::Unknown(written));
    assert_eq!(bench.disk("a").name, "a", "nothing is claimed");
}

#[test]
fn a_plan_with_an_unknown_action_is_not_begun_and_what_was_done_of_it_is_undone() {
    let mut bench = Bench::new();
    let source = bench.disk("a");
    let submission = Submission {
        scheduled_start_time: Some(start() + Duration::from_secs(3600)),
        ..Submission::default()
    };
    let request = CloneDisk {
        source: source.id,
        name: "b".to_owned(),
        provisioning: None,
        format: None,
        pool: None,
    };
    let id = bench.clone_disk(request, submission).unwrap();
    let partial = disk_image::partial_path(&disk_of(&bench.job(&id).unwrap()).path);
    std::fs::write(&partial, b"half").unwrap();
    rewrite(&mut bench, id, |record| {
        record["step"] = json!({"planned": {"index": 1, "done": 0}});
        record["plan"]["actions"][1] = json!({"weave": {"thread": 7}});
    });
    failed(&bench, id);
    assert!(!partial.exists());
    assert_eq!(bench.disks().len(), 1);
}

#[test]
fn an_unknown_step_or_undo_is_an_error_of_its_job_alone() {
    let mut bench = Bench::new();
    let (id, disk) = bench.waiting("a");
    std::fs::write(disk_image::partial_path(&disk.path), b"half").unwrap();
    rewrite(&mut bench, id, |record| record["step"] = json!({"create_dreaming": 1}));
    failed(&bench, id);
    assert!(bench.files().is_empty());
    let source = bench.disk("b");
    let submission = Submission {
        scheduled_start_time: Some(start() + Duration::from_secs(3600)),
        ..Submission::default()
    };
    let request = CloneDisk {
        source: source.id,
        name: "c".to_owned(),
        provisioning: None,
        format: None,
        pool: None,
    };
    let id = bench.clone_disk(request, submission).unwrap();
    rewrite(&mut bench, id, |record| {
        record["step"] = json!({"planned": {"index": 0, "done": 0}});
        record["plan"]["actions"][0] = json!({"weave": {}});
        record["plan"]["undo"][0]["how"] = json!({"unweave": {}});
    });
    let job = failed(&bench, id);
    assert_eq!(ids(&job), ["ISCT-JOB-011", "ISCT-JOB-008"]);
}
