//! Disks and files change their format on the way.

use std::io::{IoSlice, IoSliceMut};

use disk_image::{Durability, Image, ImageFormat, OpenOptions, Wait, open_image};

use super::copying::bench_with;
use super::*;
use crate::catalogue::{BlockLength, Provisioning};
use crate::kinds::Step;

const SIZE: u64 = 12 * MIB;

fn image(path: &Path, format: ImageFormat, read_only: bool) -> Arc<dyn Image> {
    open_image(path, format, &OpenOptions { read_only, ..OpenOptions::default() }).unwrap()
}

/// Bytes of the disk in a file.
fn bytes(path: &Path, format: ImageFormat) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(SIZE).unwrap()];
    let image = image(path, format, true);
    assert_eq!(image.size_bytes(), SIZE);
    image.read(&mut [IoSliceMut::new(&mut all)], 0, Wait::Block).unwrap();
    all
}

fn completed(bench: &Bench, id: JobId) -> Job {
    let job = bench.end(id);
    assert_eq!(job.state, JobState::Completed, "{job:?}");
    job
}

/// A disk with data here and there.
fn filled(bench: &Bench, name: &str, format: ImageFormat) -> Disk {
    let id = bench.create_disk(CreateDisk { format, ..CreateDisk::new(name, SIZE) }).unwrap();
    let disk = disk_of(&completed(bench, id));
    let image = image(&disk.path, format, false);
    for (at, byte) in [(0, 1), (5 * MIB, 2), (SIZE - MIB, 3)] {
        image.write(&[IoSlice::new(&vec![byte; 1 << 20])], at, Durability::Cached).unwrap();
    }
    image.flush().unwrap();
    image.close().unwrap();
    disk
}

#[test]
fn a_disk_gets_every_other_format_and_stays_the_same_disk() {
    let (bench, _) = bench_with(|_| {});
    let mut disk = filled(&bench, "a", ImageFormat::Raw);
    let before = bytes(&disk.path, ImageFormat::Raw);
    let formats = [ImageFormat::Vhdx, ImageFormat::Qcow2, ImageFormat::Vhd, ImageFormat::Raw];
    for (n, format) in formats.into_iter().enumerate() {
        let full = n % 2 == 0;
        let space = if full { Provisioning::Full } else { Provisioning::Thin };
        let id = bench.convert_disk(disk.id, format, Some(space), Submission::default()).unwrap();
        let job = completed(&bench, id);
        assert_eq!((job.kind.word(), job.kind.disk()), ("convert-disk", disk.id));
        let now = bench.engine.disk(&disk.id).unwrap();
        let path = now.path.clone();
        assert_eq!(now, Disk { path, format, provisioning: space, ..disk });
        assert!(bytes(&now.path, format) == before, "{format}");
        let space = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&now.path).unwrap());
        assert_eq!(space * 512 >= SIZE, full, "{format}");
        bench.until_swept();
        assert_eq!(bench.files().len(), 1, "the old file is gone: {:?}", bench.files());
        disk = now;
    }
    let again = bench.convert_disk(disk.id, disk.format, None, Submission::default());
    assert_eq!(refusal(again), "ISCT-CFG-007");
}

#[test]
fn a_conversion_that_ends_early_leaves_the_disk_as_it_was() {
    let (mut bench, _) = bench_with(|_| {});
    let disk = filled(&bench, "a", ImageFormat::Qcow2);
    let gate = bench.gates.set(|record| matches!(record.step, Step::Planned { index: 2, .. }));
    let convert = |bench: &Bench| {
        bench.convert_disk(disk.id, ImageFormat::Vhdx, None, Submission::default()).unwrap()
    };
    let id = convert(&bench);
    gate.reached();
    // The engine's thread stands in front of the gate, and hears of this next.
    let answer = bench.post_request(id, RequestedState::Terminate);
    drop(gate);
    assert_eq!(answer.recv().unwrap(), RequestStateChangeResult::Started);
    let job = bench.end(id);
    assert_eq!((job.state, ids(&job)), (JobState::Terminated, vec!["ISCT-JOB-001"]));
    assert_eq!(bench.engine.disk(&disk.id).unwrap(), disk);
    assert_eq!(bench.files().len(), 1);
    // Interrupted by the end of the engine, it goes on.
    let gate = bench.gates.set(|record| matches!(record.step, Step::Planned { index: 2, .. }));
    let id = convert(&bench);
    gate.reached();
    bench.shared.stopping.store(true, Ordering::Release);
    drop(gate);
    bench.restart();
    completed(&bench, id);
    assert_eq!(bench.engine.disk(&disk.id).unwrap().format, ImageFormat::Vhdx);
}

#[test]
fn a_clone_an_export_and_an_import_have_the_format_that_was_asked_for() {
    let (bench, files) = bench_with(|_| {});
    let disk = filled(&bench, "a", ImageFormat::Vhdx);
    let before = bytes(&disk.path, ImageFormat::Vhdx);
    for format in ImageFormat::ALL {
        let request = CloneDisk {
            source: disk.id,
            name: format!("clone-{format}"),
            provisioning: None,
            format: Some(format),
            pool: None,
        };
        let id = bench.clone_disk(request, Submission::default()).unwrap();
        let made = disk_of(&completed(&bench, id));
        assert_eq!(made.format, format);
        assert!(bytes(&made.path, format) == before, "{format}");
        let path = files.join(format!("exported.{format}"));
        let id = bench.export_disk(disk.id, path.clone(), format, Submission::default()).unwrap();
        completed(&bench, id);
        assert!(bytes(&path, format) == before, "{format}");
        // By its content: raw has no mark. Then once more into another format, and where it is.
        let others = [None, Some(ImageFormat::Qcow2), Some(ImageFormat::Raw)];
        for (n, to_format) in others.into_iter().enumerate() {
            let import = ImportDisk {
                path: path.clone(),
                name: format!("import-{format}-{n}"),
                in_place: false,
                block_length: BlockLength::B512,
                provisioning: Provisioning::Thin,
                verify: true,
                format: None,
                to_format,
                pool: None,
            };
            let id = bench.import_disk(import, Submission::default()).unwrap();
            let made = disk_of(&completed(&bench, id));
            assert_eq!(made.format, to_format.unwrap_or(format));
            assert!(bytes(&made.path, made.format) == before, "{format} {to_format:?}");
        }
        let import = ImportDisk {
            path: path.clone(),
            name: format!("taken-{format}"),
            in_place: true,
            block_length: BlockLength::B512,
            provisioning: Provisioning::Thin,
            verify: true,
            format: Some(format),
            to_format: None,
            pool: None,
        };
        let id = bench.import_disk(import, Submission::default()).unwrap();
        let taken = disk_of(&completed(&bench, id));
        assert_eq!((taken.path, taken.format), (std::fs::canonicalize(path).unwrap(), format));
    }
}

/// A qcow2 image that is laid over another one.
fn child_of(path: &Path, parent: &str, format: ImageFormat) {
    let options = disk_image::CreateOptions {
        parent: Some(disk_image::Parent { path: parent.into(), format }),
        ..disk_image::CreateOptions::new(SIZE, disk_image::Preallocation::Sparse)
    };
    let mut creator = disk_image::create_image(path, ImageFormat::Qcow2, options).unwrap();
    while !creator.step(u64::MAX).unwrap().is_complete() {}
    creator.finish().unwrap();
}

fn import_of(path: &Path) -> ImportDisk {
    ImportDisk {
        path: path.to_path_buf(),
        name: "b".to_owned(),
        in_place: false,
        block_length: BlockLength::B512,
        provisioning: Provisioning::Thin,
        verify: true,
        format: None,
        to_format: None,
        pool: None,
    }
}

#[test]
fn an_image_is_imported_with_the_data_of_its_parents() {
    let (bench, files) = bench_with(|_| {});
    let base = filled(&bench, "a", ImageFormat::Vhdx);
    let before = bytes(&base.path, ImageFormat::Vhdx);
    let deep = files.join("deep");
    std::fs::create_dir(&deep).unwrap();
    std::fs::copy(&base.path, files.join("base.vhdx")).unwrap();
    child_of(&deep.join("middle"), "../base.vhdx", ImageFormat::Vhdx);
    let child = files.join("child");
    child_of(&child, "./deep/middle", ImageFormat::Qcow2);
    let options = OpenOptions { parent_directories: vec![files.clone()], ..OpenOptions::default() };
    let image = open_image(child.as_path(), ImageFormat::Qcow2, &options).unwrap();
    image.write(&[IoSlice::new(&[7; 512])], MIB, Durability::Cached).unwrap();
    image.flush().unwrap();
    drop(image);
    for (n, to_format) in [None, Some(ImageFormat::Raw)].into_iter().enumerate() {
        let import = ImportDisk { name: format!("b{n}"), to_format, ..import_of(&child) };
        let id = bench.import_disk(import, Submission::default()).unwrap();
        let made = disk_of(&completed(&bench, id));
        // It stands alone.
        std::fs::rename(&deep, files.join("aside")).unwrap();
        let found = bytes(&made.path, made.format);
        std::fs::rename(files.join("aside"), &deep).unwrap();
        let at = usize::try_from(MIB).unwrap();
        assert!(found[at..at + 512] == [7; 512]);
        assert!(found[..at] == before[..at] && found[at + 512..] == before[at + 512..]);
    }
    let in_place = ImportDisk { in_place: true, ..import_of(&child) };
    assert_eq!(refusal(bench.import_disk(in_place, Submission::default())), "ISCT-STG-013");
}

#[test]
fn parents_that_are_elsewhere_missing_or_go_round_are_refused_as_is_another_format() {
    let (bench, files) = bench_with(|_| {});
    let outside = bench.directory.path().canonicalize().unwrap().join("secret");
    std::fs::write(&outside, vec![7; 1 << 20]).unwrap();
    std::os::unix::fs::symlink(&outside, files.join("link")).unwrap();
    let path = files.join("child");
    let refused = |parent: &str, format| {
        let _ = std::fs::remove_file(&path);
        child_of(&path, parent, format);
        refusal(bench.import_disk(import_of(&path), Submission::default()))
    };
    for parent in [outside.to_str().unwrap(), "../secret", "link"] {
        assert_eq!(refused(parent, ImageFormat::Raw), "ISCT-STG-008", "{parent}");
    }
    assert_eq!(refused("none", ImageFormat::Raw), "ISCT-STG-004");
    assert_eq!(refused("nbd://host/disk", ImageFormat::Raw), "ISCT-STG-013");
    assert_eq!(refused("child", ImageFormat::Qcow2), "ISCT-STG-008");
    child_of(&files.join("other"), "child", ImageFormat::Qcow2);
    assert_eq!(refused("other", ImageFormat::Qcow2), "ISCT-STG-008");
    let as_vhdx = ImportDisk { format: Some(ImageFormat::Vhdx), ..import_of(&path) };
    assert_eq!(refusal(bench.import_disk(as_vhdx, Submission::default())), "ISCT-STG-007");
    assert!(bench.files().is_empty());
}

#[test]
fn what_a_format_cannot_hold_is_refused_and_a_disk_that_is_a_lun_is_converted() {
    let (bench, _) = bench_with(|config| {
        config.default_limits.overcommit = crate::catalogue::Overcommit::Unlimited;
    });
    let disk = filled(&bench, "a", ImageFormat::Qcow2);
    let request = CreateDisk::new("b", 3 << 40);
    let id = bench.create_disk(request).unwrap();
    let large = disk_of(&completed(&bench, id));
    let convert =
        |disk: &Disk, format| bench.convert_disk(disk.id, format, None, Submission::default());
    assert_eq!(refusal(convert(&large, ImageFormat::Vhd)), "ISCT-CFG-007");
    let target = TargetRequest { name: "t".to_owned(), ..TargetRequest::default() };
    let target = bench.create_target(target).unwrap().name;
    bench.map(MapRequest { disk: disk.id, target, lun: None }).unwrap();
    // It is no obstacle that a disk is a LUN.
    let before = bytes(&disk.path, ImageFormat::Qcow2);
    completed(&bench, convert(&disk, ImageFormat::Raw).unwrap());
    let now = bench.engine.disk(&disk.id).unwrap();
    assert_eq!(now.format, ImageFormat::Raw);
    assert!(bytes(&now.path, ImageFormat::Raw) == before);
}
