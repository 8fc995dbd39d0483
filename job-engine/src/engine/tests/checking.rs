//! Checks of disks.

use std::os::unix::fs::FileExt as _;

use disk_image::ImageFormat;

use super::*;
use crate::job::ChecksumState;

fn disk(bench: &Bench, format: ImageFormat) -> Disk {
    let request = CreateDisk { format, ..CreateDisk::new(format.name(), 12 * MIB) };
    let job = bench.end(bench.create_disk(request).unwrap());
    let disk = disk_of(&job);
    let image = disk_image::open_image(disk.path.as_path(), format, &Default::default()).unwrap();
    for at in [0, 5 * MIB] {
        let data = [std::io::IoSlice::new(&[7; 4096])];
        image.write(&data, at, disk_image::Durability::Cached).unwrap();
    }
    image.flush().unwrap();
    image.close().unwrap();
    disk
}

fn check(bench: &Bench, disk: &Disk, repair: bool) -> Job {
    let job = bench.end(bench.check_disk(disk.id, repair, Submission::default()).unwrap());
    assert_eq!(job.kind.word(), "check-disk");
    job
}

fn word(path: &Path, at: u64) -> u64 {
    let mut bytes = [0; 8];
    std::fs::File::open(path).unwrap().read_exact_at(&mut bytes, at).unwrap();
    u64::from_be_bytes(bytes)
}

fn set(path: &Path, at: u64, bytes: &[u8]) {
    std::fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

#[test]
fn a_sound_disk_of_every_format_passes_its_check() {
    let bench = Bench::new();
    for format in ImageFormat::ALL {
        let disk = disk(&bench, format);
        let before = std::fs::read(&disk.path).unwrap();
        for repair in [false, true] {
            let job = check(&bench, &disk, repair);
            assert_eq!(job.state, JobState::Completed, "{job:?}");
        }
        if format != ImageFormat::Vhdx {
            assert!(std::fs::read(&disk.path).unwrap() == before, "{format}");
        }
    }
}

#[test]
fn space_that_is_lost_is_told_of_and_freed_by_a_repair() {
    let bench = Bench::new();
    let disk = disk(&bench, ImageFormat::Qcow2);
    // A cluster behind the last one, that is counted and that nothing refers to.
    let table = word(&disk.path, 48);
    let block = word(&disk.path, table);
    let end = std::fs::metadata(&disk.path).unwrap().len().div_ceil(1 << 16);
    std::fs::File::options()
        .write(true)
        .open(&disk.path)
        .unwrap()
        .set_len((end + 1) << 16)
        .unwrap();
    set(&disk.path, block + end * 2, &[0, 1]);
    let job = check(&bench, &disk, false);
    assert_eq!((job.state, ids(&job)), (JobState::Exception, vec!["ISCT-STG-015"]));
    assert!(job.errors[0].message.contains("65536 bytes"), "{job:?}");
    for _ in 0..2 {
        assert_eq!(check(&bench, &disk, true).state, JobState::Completed);
    }
    assert_eq!(check(&bench, &disk, false).state, JobState::Completed);
}

#[test]
fn each_contradiction_is_an_error_with_its_block_and_nothing_is_changed() {
    let bench = Bench::new();
    let disk = disk(&bench, ImageFormat::Qcow2);
    let l2 = word(&disk.path, word(&disk.path, 40)) & 0x00ff_ffff_ffff_fe00;
    // The clusters at 1 MiB and 2 MiB: one beyond the file, one within another.
    for (entry, host) in [(16, 1_u64 << 40), (32, l2 + 512)] {
        set(&disk.path, l2 + entry * 8, &(host | 1 << 63).to_be_bytes());
    }
    let before = std::fs::read(&disk.path).unwrap();
    for repair in [false, true] {
        let job = check(&bench, &disk, repair);
        assert_eq!(job.state, JobState::Exception);
        assert!(job.errors.len() >= 2, "{job:?}");
        for lba in [2048, 4096] {
            let named = format!("LBA {lba}");
            assert!(job.errors.iter().any(|error| error.message.contains(&named)), "{job:?}");
        }
        assert!(std::fs::read(&disk.path).unwrap() == before);
    }
}

#[test]
fn tables_of_a_vhdx_and_a_vhd_that_contradict_themselves_are_found() {
    let bench = Bench::new();
    let vhd = disk(&bench, ImageFormat::Vhd);
    // Two entries of its BAT that name one block.
    let table = word(&vhd.path, 512 + 16);
    let mut entry = [0; 4];
    std::fs::File::open(&vhd.path).unwrap().read_exact_at(&mut entry, table).unwrap();
    set(&vhd.path, table + 4, &entry);
    let vhdx = disk(&bench, ImageFormat::Vhdx);
    set(&vhdx.path, 192 << 10, &[0xee; 64]);
    set(&vhdx.path, 256 << 10, &[0xee; 64]);
    for disk in [&vhd, &vhdx] {
        let job = check(&bench, disk, false);
        assert_eq!((job.state, ids(&job)), (JobState::Exception, vec!["ISCT-STG-006"]), "{job:?}");
    }
}

#[test]
fn a_disk_that_is_a_lun_is_not_repaired() {
    let bench = Bench::new();
    let disk = disk(&bench, ImageFormat::Qcow2);
    let target = TargetRequest { name: "t".to_owned(), ..TargetRequest::default() };
    let target = bench.create_target(target).unwrap().name;
    bench.map(MapRequest { disk: disk.id, target, lun: None }).unwrap();
    let refused = bench.check_disk(disk.id, true, Submission::default());
    assert_eq!(refusal(refused), "ISCT-CFG-001");
}

/// Changes bytes as a medium does that loses them: nobody has written.
fn lose(path: &Path, at: u64) {
    let before = std::fs::metadata(path).unwrap().modified().unwrap();
    let mut byte = [0];
    std::fs::File::open(path).unwrap().read_exact_at(&mut byte, at).unwrap();
    set(path, at, &[!byte[0]]);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
}

/// How the checksums of a check came out, and which blocks its errors name.
fn summed(job: &Job) -> (ChecksumState, Vec<(String, String)>) {
    let ended = if job.errors.is_empty() { JobState::Completed } else { JobState::Exception };
    assert_eq!(job.state, ended, "{job:?}");
    let blocks = job.errors.iter().map(|error| {
        assert_eq!(error.message_id, "ISCT-STG-019", "{error:?}");
        (error.message_arguments[1].clone(), error.message_arguments[2].clone())
    });
    (job.checksums.unwrap().state, blocks.collect())
}

fn range(first: u64, last: u64) -> (String, String) {
    (first.to_string(), last.to_string())
}

fn make(bench: &Bench, disk: &Disk) -> Job {
    let checks = Checks { checksums: true, ..Checks::default() };
    bench.end(bench.check_disk_with(disk.id, checks, Submission::default()).unwrap())
}

fn sums_of(bench: &Bench, id: impl std::fmt::Display) -> PathBuf {
    let id: uuid::Uuid = id.to_string().parse().unwrap();
    crate::checksums::path_of(&bench.config.directory, id)
}

#[test]
fn data_that_a_medium_has_lost_are_found_and_who_writes_raises_no_alarm() {
    let bench = Bench::new();
    for format in ImageFormat::ALL {
        let disk = disk(&bench, format);
        let state = |job: Job| summed(&job).0;
        assert_eq!(state(check(&bench, &disk, false)), ChecksumState::Absent, "{format}");
        assert_eq!(state(make(&bench, &disk)), ChecksumState::Made, "{format}");
        let job = check(&bench, &disk, false);
        assert_eq!(summed(&job), (ChecksumState::Matched, Vec::new()), "{format}");
        assert!(job.checksums.unwrap().made.is_some());
        // Where the data at 0 and at 5 MiB lie.
        let bytes = std::fs::read(&disk.path).unwrap();
        let mut found =
            (0..bytes.len()).step_by(512).filter(|at| bytes[*at..].starts_with(&[7; 4096]));
        let (first, second) = (found.next().unwrap() as u64, found.next().unwrap() as u64);
        lose(&disk.path, second + 100);
        let lost = (ChecksumState::Differed, vec![range(10_240, 12_287)]);
        assert_eq!(summed(&check(&bench, &disk, false)), lost, "{format}");
        // What is wrong does not become right because somebody asks again.
        assert_eq!(summed(&make(&bench, &disk)), lost, "{format}");
        lose(&disk.path, first);
        let lost = vec![range(0, 2047), range(10_240, 12_287)];
        assert_eq!(summed(&check(&bench, &disk, false)).1, lost, "{format}");
        let image = disk_image::open_image(disk.path.as_path(), format, &Default::default());
        let image = image.unwrap();
        let data = [std::io::IoSlice::new(&[8; 4096])];
        image.write(&data, MIB, disk_image::Durability::Durable).unwrap();
        image.close().unwrap();
        drop(image);
        assert_eq!(state(check(&bench, &disk, false)), ChecksumState::Void, "{format}");
        assert_eq!(state(make(&bench, &disk)), ChecksumState::Made, "{format}");
        lose(&disk.path, second + 100);
        assert_eq!(state(check(&bench, &disk, false)), ChecksumState::Differed, "{format}");
        assert!(sums_of(&bench, disk.id).exists());
        bench.end(bench.delete_disk(disk.id).unwrap());
        assert!(!sums_of(&bench, disk.id).exists());
    }
}

#[test]
fn checksums_that_are_damaged_are_told_of_and_ignored() {
    let mut bench = Bench::new();
    let disk = disk(&bench, ImageFormat::Raw);
    make(&bench, &disk);
    set(&sums_of(&bench, disk.id), 300, &[0, 1, 2, 3]);
    assert_eq!(summed(&check(&bench, &disk, false)), (ChecksumState::Damaged, Vec::new()));
    assert_eq!(summed(&make(&bench, &disk)).0, ChecksumState::Made);
    assert_eq!(summed(&check(&bench, &disk, false)).0, ChecksumState::Matched);
    // A start leaves those that hold, and nothing else.
    let stray = sums_of(&bench, uuid::Uuid::from_u128(9));
    std::fs::write(&stray, b"x").unwrap();
    bench.restart();
    assert!(!stray.exists());
    assert_eq!(summed(&check(&bench, &disk, false)).0, ChecksumState::Matched);
}

#[test]
fn a_disk_that_initiators_may_write_has_no_checksums() {
    let bench = Bench::new();
    let disk = disk(&bench, ImageFormat::Raw);
    make(&bench, &disk);
    let target = TargetRequest { name: "t".to_owned(), ..TargetRequest::default() };
    let target = bench.create_target(target).unwrap().name;
    let mapping = MapRequest { disk: disk.id, target: target.clone(), lun: None };
    let lun = bench.map(mapping).unwrap().lun;
    assert_eq!(std::fs::metadata(sums_of(&bench, disk.id)).unwrap().len(), 0);
    let checks = Checks { checksums: true, ..Checks::default() };
    let refused = bench.check_disk_with(disk.id, checks, Submission::default());
    assert_eq!(refusal(refused), "ISCT-CFG-001");
    bench.unmap(&target, lun).unwrap();
    // The write whose time was lost with the power.
    lose(&disk.path, 0);
    assert_eq!(summed(&check(&bench, &disk, false)), (ChecksumState::Void, Vec::new()));
    assert_eq!(summed(&make(&bench, &disk)).0, ChecksumState::Made);
}

#[test]
fn checksums_of_a_snapshot_hold_while_its_disk_is_written() {
    let bench = Bench::new();
    let disk = disk(&bench, ImageFormat::Raw);
    let request = CreateSnapshots { disks: vec![disk.id], name: "s".to_owned() };
    bench.end(bench.create_snapshots(request, Submission::default()).unwrap());
    let snapshot = bench.engine.snapshots().pop().unwrap();
    let look = |make| {
        let id = bench.check_snapshot(snapshot.id, make, Submission::default()).unwrap();
        summed(&bench.end(id))
    };
    assert_eq!(look(true).0, ChecksumState::Made);
    let now = bench.engine.disk(&disk.id).unwrap();
    let image = disk_image::open_image(now.path.as_path(), now.format, &Default::default());
    let image = image.unwrap();
    let data = [std::io::IoSlice::new(&[8; 4096])];
    image.write(&data, 0, disk_image::Durability::Durable).unwrap();
    image.close().unwrap();
    drop(image);
    assert_eq!(look(false), (ChecksumState::Matched, Vec::new()));
    lose(&snapshot.path, 5 * MIB);
    assert_eq!(look(false), (ChecksumState::Differed, vec![range(10_240, 12_287)]));
    let kept = sums_of(&bench, snapshot.id);
    assert!(kept.exists());
    bench.end(bench.delete_snapshot(snapshot.id, Submission::default()).unwrap());
    assert!(!kept.exists());
}
