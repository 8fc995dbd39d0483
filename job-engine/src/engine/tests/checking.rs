//! Checks of disks.

use std::os::unix::fs::FileExt as _;

use disk_image::ImageFormat;

use super::*;

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
