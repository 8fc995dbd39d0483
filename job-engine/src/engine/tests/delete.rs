use super::*;
use crate::job::ElementEffect;
use crate::kinds::Step;

#[test]
fn deleting_an_unmapped_disk_removes_its_file_and_frees_its_name() {
    let bench = Bench::new();
    let (disk, other) = (bench.disk("a"), bench.disk("b"));
    let id = bench.delete_disk(disk.id).unwrap();
    let job = bench.end(id);
    assert_eq!((job.state, job.percent_complete), (JobState::Completed, 100));
    assert_eq!(job.affected[0].effect, ElementEffect::ExclusiveUse);
    assert_eq!(bench.disks(), std::slice::from_ref(&other));
    assert!(!disk.path.exists() && other.path.exists());
    let again = bench.disk("a");
    assert_ne!((again.id, again.naa, again.serial), (disk.id, disk.naa, disk.serial));
    assert_eq!(refusal(bench.delete_disk(disk.id)), "ISCT-CFG-005");
}

#[test]
fn a_mapped_disk_cannot_be_deleted_and_a_disk_being_deleted_cannot_be_mapped() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    let target = TargetRequest { name: "t".to_owned(), ..TargetRequest::default() };
    let target = bench.create_target(target).unwrap().name;
    let map = MapRequest { disk: disk.id, target: target.clone(), lun: Some(7) };
    bench.map(map.clone()).unwrap();
    let refused = bench.delete_disk(disk.id).unwrap_err();
    assert_eq!(refused.cim_error().message_id, "ISCT-CFG-001");
    assert!(refused.to_string().contains("LUN 7"), "{refused}");
    bench.unmap(&target, 7).unwrap();
    let image = hold(&disk);
    let id = bench.delete_disk(disk.id).unwrap();
    assert_eq!(refusal(bench.map(map.clone())), "ISCT-CFG-001");
    assert_eq!(refusal(bench.delete_disk(disk.id)), "ISCT-CFG-001");
    drop(image);
    assert_eq!(bench.end(id).state, JobState::Completed, "it waited for the image");
    assert_eq!(refusal(bench.map(map)), "ISCT-CFG-005");
}

#[test]
fn a_disk_whose_image_stays_in_use_is_not_deleted_and_stays_in_the_catalogue() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    let image = hold(&disk);
    let id = bench.delete_disk(disk.id).unwrap();
    let job = bench.end(id);
    assert_eq!((job.state, ids(&job)), (JobState::Exception, vec!["ISCT-STG-005"]));
    assert_eq!(bench.disks(), std::slice::from_ref(&disk));
    assert!(disk.path.exists());
    drop(image);
    let id = bench.delete_disk(disk.id).unwrap();
    assert_eq!(bench.end(id).state, JobState::Completed);
}

#[test]
fn a_running_deletion_that_is_terminated_or_killed_leaves_the_disk_as_it_was() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    let _image = hold(&disk);
    let running = |id: JobId| {
        bench.until("running", move |state| state.jobs[&id].record.job.state == JobState::Running);
    };
    let id = bench.delete_disk(disk.id).unwrap();
    running(id);
    assert_eq!(bench.ask(id, RequestedState::Terminate), RequestStateChangeResult::Started);
    let job = bench.end(id);
    assert_eq!((job.state, ids(&job)), (JobState::Terminated, vec!["ISCT-JOB-001"]));
    let id = bench.delete_disk(disk.id).unwrap();
    running(id);
    assert_eq!(bench.kill(&id, true, "a test"), KillJobResult::Success);
    assert_eq!(bench.state(id), JobState::Killed);
    assert_eq!(bench.disks(), std::slice::from_ref(&disk));
    assert!(disk.path.exists());
}

#[test]
fn a_disk_whose_file_was_removed_by_hand_can_be_deleted() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    std::fs::remove_file(&disk.path).unwrap();
    let id = bench.delete_disk(disk.id).unwrap();
    assert_eq!(bench.end(id).state, JobState::Completed);
    assert!(bench.disks().is_empty());
}

#[test]
fn a_disk_in_a_directory_that_is_gone_is_kept_because_it_may_come_back() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    let aside = bench.directory.path().join("aside");
    std::fs::rename(&bench.config.default_pool, &aside).unwrap();
    let id = bench.delete_disk(disk.id).unwrap();
    let job = bench.end(id);
    assert_eq!((job.state, ids(&job)), (JobState::Exception, vec!["ISCT-STG-004"]));
    std::fs::rename(&aside, &bench.config.default_pool).unwrap();
    assert_eq!(bench.disks(), std::slice::from_ref(&disk));
    let id = bench.delete_disk(disk.id).unwrap();
    assert_eq!(bench.end(id).state, JobState::Completed);
    assert!(bench.files().is_empty());
}

#[test]
fn a_deletion_killed_after_the_disk_left_the_catalogue_still_removes_the_file() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    let gate = bench.gates.set(|record| record.step == Step::DeleteUnlinking);
    let id = bench.delete_disk(disk.id).unwrap();
    gate.reached();
    let killed = bench.post(move |core| core.kill_job(id, false, "a test"));
    drop(gate);
    assert_eq!(killed.recv().unwrap(), KillJobResult::Success);
    bench.until_swept();
    assert!(bench.disks().is_empty() && bench.files().is_empty());
    assert_eq!(bench.state(id), JobState::Killed);
}

#[test]
fn a_deletion_terminated_after_the_disk_left_the_catalogue_ends_in_one_of_two_whole_states() {
    let bench = Bench::new();
    let disk = bench.disk("a");
    let gate = bench.gates.set(|record| record.step == Step::DeleteUnlinking);
    let id = bench.delete_disk(disk.id).unwrap();
    gate.reached();
    let answer = bench.post_request(id, RequestedState::Terminate);
    drop(gate);
    assert_eq!(answer.recv().unwrap(), RequestStateChangeResult::Started);
    let job = bench.end(id);
    // Who was first, the request or the removal, is open; half a disk is not.
    let kept = job.state == JobState::Terminated;
    assert!(kept || job.state == JobState::Completed, "{job:?}");
    assert_eq!(bench.engine.disk(&disk.id).is_some(), kept);
    assert_eq!(disk.path.exists(), kept);
}
