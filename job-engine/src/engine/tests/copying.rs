use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::atomic::AtomicUsize;

use disk_image::ImageFormat;

use super::*;
use crate::catalogue::Provisioning;
use crate::datapath::DataPath;
use crate::engine::{CloneDisk, CreateSnapshots, ImportDisk, MapRequest, TargetRequest};
use crate::kinds::Step;

/// A bench whose files may come from and go to `files` in its directory.
fn bench() -> (Bench, PathBuf) {
    bench_with(|_| {})
}

pub(super) fn bench_with(change: impl FnOnce(&mut EngineConfig)) -> (Bench, PathBuf) {
    let bench = Bench::with(|config| {
        config.allowed_directories = vec![config.directory.join("files")];
        change(config);
    });
    let files = bench.directory.path().join("files");
    std::fs::create_dir(&files).unwrap();
    (bench, files)
}

fn clone(bench: &Bench, source: &Disk, name: &str) -> Result<JobId, RequestError> {
    let request = CloneDisk {
        source: source.id,
        name: name.to_owned(),
        provisioning: None,
        format: None,
        pool: None,
    };
    bench.clone_disk(request, Submission::default())
}

fn import(path: &Path, name: &str, in_place: bool) -> ImportDisk {
    ImportDisk {
        path: path.to_path_buf(),
        name: name.to_owned(),
        in_place,
        block_length: crate::catalogue::BlockLength::B512,
        provisioning: Provisioning::Thin,
        verify: true,
        format: None,
        to_format: None,
        pool: None,
    }
}

fn completed(bench: &Bench, id: JobId) -> Job {
    let job = bench.end(id);
    assert_eq!(job.state, JobState::Completed, "{job:?}");
    job
}

/// A disk of 32 MiB with data in its first and its last MiB.
pub(super) fn filled(bench: &Bench, name: &str) -> Disk {
    let id = bench.create_disk(CreateDisk::new(name, 32 * MIB)).unwrap();
    let disk = disk_of(&completed(bench, id));
    let file = std::fs::File::options().write(true).open(&disk.path).unwrap();
    file.write_all_at(&vec![7; 1 << 20], 0).unwrap();
    file.write_all_at(&vec![9; 1 << 20], 31 * MIB).unwrap();
    disk
}

fn map(bench: &Bench, disk: &Disk) {
    let target = TargetRequest { name: disk.name.clone(), ..TargetRequest::default() };
    let target = bench.create_target(target).unwrap().name;
    bench.map(MapRequest { disk: disk.id, target, lun: None }).unwrap();
}

#[test]
fn a_clone_has_the_data_of_its_source_and_an_identity_of_its_own() {
    let (bench, _) = bench();
    let source = filled(&bench, "a");
    for (name, provisioning) in [("thin", None), ("full", Some(Provisioning::Full))] {
        let request = CloneDisk {
            source: source.id,
            name: name.to_owned(),
            provisioning,
            format: None,
            pool: None,
        };
        let job = bench.clone_disk(request, Submission::default()).unwrap();
        let job = completed(&bench, job);
        assert_eq!(job.kind.word(), "clone-disk");
        let made = bench.engine.disk(&job.kind.disk()).unwrap();
        assert_eq!((made.name.as_str(), made.size_bytes), (name, source.size_bytes));
        assert_eq!(made.provisioning, provisioning.unwrap_or(Provisioning::Thin));
        assert!(made.id != source.id && made.naa != source.naa && made.serial != source.serial);
        assert!(std::fs::read(&made.path).unwrap() == std::fs::read(&source.path).unwrap());
        let space = std::fs::metadata(&made.path).unwrap().blocks() * 512;
        assert_eq!(space >= 32 * MIB, provisioning.is_some(), "{space}");
    }
    assert_eq!(bench.files().len(), 3);
}

#[test]
fn a_disk_in_use_is_copied_at_one_instant_and_copies_do_not_add_up() {
    let (bench, files) = bench();
    let disk = filled(&bench, "a");
    let wanted = std::fs::read(&disk.path).unwrap();
    map(&bench, &disk);
    let shares = disk_image::shares_blocks(&files);
    let made = completed(&bench, clone(&bench, &disk, "b").unwrap());
    let made = bench.engine.disk(&made.kind.disk()).unwrap();
    assert!(std::fs::read(&made.path).unwrap() == wanted);
    // Once more, of an image that is laid over the one that the disk had.
    for name in ["a.raw", "b.raw"] {
        let (path, later) = (files.join(name), Submission::default());
        let raw = ImageFormat::Raw;
        completed(&bench, bench.export_disk(disk.id, path.clone(), raw, later).unwrap());
        assert!(std::fs::read(&path).unwrap() == wanted);
    }
    let now = bench.engine.disk(&disk.id).unwrap();
    assert_eq!(now.parent.is_some(), !shares);
    assert_eq!((now.naa, now.serial, now.size_bytes), (disk.naa, disk.serial, disk.size_bytes));
    bench.until_swept();
    // The clone; the disk's own, and at most one that it is laid over.
    assert_eq!(bench.files().len(), if shares { 2 } else { 3 });
    assert_eq!(bench.engine.snapshots(), []);
}

#[test]
fn an_export_and_an_import_bring_a_disk_back() {
    let (bench, files) = bench();
    let disk = filled(&bench, "a");
    let path = files.join("a.raw");
    let id =
        bench.export_disk(disk.id, path.clone(), ImageFormat::Raw, Submission::default()).unwrap();
    assert_eq!(completed(&bench, id).kind.word(), "export-disk");
    assert!(std::fs::read(&path).unwrap() == std::fs::read(&disk.path).unwrap());
    // A file that is there is nobody's to replace.
    let again = bench.export_disk(disk.id, path.clone(), ImageFormat::Raw, Submission::default());
    assert_eq!(refusal(again), "ISCT-STG-012");
    // Of an odd length: the last block is filled with zeroes.
    std::fs::File::options().append(true).open(&path).unwrap().write_at(b"odd", 32 * MIB).unwrap();
    let id = bench.import_disk(import(&path, "b", false), Submission::default()).unwrap();
    let made = bench.engine.disk(&completed(&bench, id).kind.disk()).unwrap();
    assert_eq!((made.size_bytes, made.path.parent()), (32 * MIB + 512, disk.path.parent()));
    let mut wanted = std::fs::read(&path).unwrap();
    wanted.resize((32 << 20) + 512, 0);
    assert!(std::fs::read(&made.path).unwrap() == wanted);
    // In place it must be whole blocks.
    let refused = bench.import_disk(import(&path, "c", true), Submission::default());
    assert_eq!(refusal(refused), "ISCT-CFG-003");
    std::fs::File::options().write(true).open(&path).unwrap().set_len(32 * MIB).unwrap();
    // Who deleted one of two disks would take the other's file.
    let scheduled_start_time = Some(bench.clock.now() + Duration::from_secs(3600));
    let later = Submission { scheduled_start_time, ..Submission::default() };
    let id = bench.import_disk(import(&path, "c", true), later).unwrap();
    let refused = bench.import_disk(import(&path, "d", true), Submission::default());
    assert_eq!(refusal(refused), "ISCT-CFG-001");
    bench.clock.advance(Duration::from_secs(3600));
    let made = bench.engine.disk(&completed(&bench, id).kind.disk()).unwrap();
    assert_eq!(made.path, std::fs::canonicalize(&path).unwrap());
    let refused = bench.import_disk(import(&path, "d", true), Submission::default());
    assert_eq!(refusal(refused), "ISCT-CFG-001");
    let missing = bench.import_disk(import(&files.join("x"), "e", false), Submission::default());
    assert_eq!(refusal(missing), "ISCT-STG-004");
    let outside = bench.import_disk(import(&disk.path, "e", false), Submission::default());
    assert_eq!(refusal(outside), "ISCT-CFG-007");
}

#[test]
fn a_copy_goes_on_after_its_checkpoint_when_the_engine_is_opened_again() {
    let (mut bench, _) = bench();
    let source = filled(&bench, "a");
    let gate = bench
        .gates
        .set(|record| matches!(record.step, Step::Planned { index: 0, done } if done > 0));
    let request = CloneDisk {
        source: source.id,
        name: "b".to_owned(),
        provisioning: Some(Provisioning::Full),
        format: None,
        pool: None,
    };
    let id = bench.clone_disk(request, Submission::default()).unwrap();
    gate.reached();
    bench.shared.stopping.store(true, Ordering::Release);
    drop(gate);
    bench.engine.shutdown();
    let disk = disk_of(&bench.job(&id).unwrap());
    let partial = disk_image::partial_path(&disk.path);
    // What was done is not done again.
    let file = std::fs::File::options().write(true).open(&partial).unwrap();
    file.write_all_at(&[1], 0).unwrap();
    bench.restart();
    completed(&bench, id);
    let (got, wanted) = (std::fs::read(&disk.path).unwrap(), std::fs::read(&source.path).unwrap());
    assert_eq!((got[0], wanted[0]), (1, 7));
    assert!(got[1..] == wanted[1..]);
}

#[test]
fn a_copy_that_is_ended_leaves_no_file_and_says_who_ended_it() {
    for request in [RequestedState::Terminate, RequestedState::Kill] {
        let (bench, files) = bench();
        let disk = filled(&bench, "a");
        let path = files.join("a.raw");
        // Once in the copy, once when the file has its name.
        for index in [0, 2] {
            let gate = bench.gates.set(move |record| {
                matches!(record.step, Step::Planned { index: at, done }
                    if at == index && (index > 0 || done > 0))
                    && !record.job.state.is_terminal()
            });
            let id = bench
                .export_disk(disk.id, path.clone(), ImageFormat::Raw, Submission::default())
                .unwrap();
            gate.reached();
            let answer = bench.post_request(id, request);
            drop(gate);
            let answer = answer.recv_timeout(PATIENCE).unwrap();
            let job = bench.end(id);
            if job.state == JobState::Completed {
                panic!("{answer:?} {job:?}");
            }
            assert!(job.error_description().contains("a test"), "{job:?}");
            assert_eq!(job.percent_complete, 100);
            bench.until_swept();
            assert_eq!(files.read_dir().unwrap().count(), 0, "{request:?} {index}");
            assert!(bench.engine.disk(&disk.id).is_some());
        }
    }
}

#[test]
fn readers_share_a_disk_and_nobody_else_gets_it() {
    let (bench, files) = bench();
    let disk = filled(&bench, "a");
    let later = Submission {
        scheduled_start_time: Some(start() + Duration::from_secs(3600)),
        ..Submission::default()
    };
    let one = bench.export_disk(disk.id, files.join("one"), ImageFormat::Raw, later).unwrap();
    let two = bench
        .export_disk(disk.id, files.join("two"), ImageFormat::Raw, Submission::default())
        .unwrap();
    completed(&bench, two);
    assert_eq!(refusal(bench.delete_disk(disk.id)), "ISCT-CFG-001");
    assert_eq!(refusal(bench.expand_disk(disk.id, 64 * MIB)), "ISCT-CFG-001");
    assert_eq!(refusal(bench.shrink_disk(disk.id, MIB, Submission::default())), "ISCT-CFG-001");
    // The name of a disk that is being made is taken.
    let request = CloneDisk {
        source: disk.id,
        name: "b".to_owned(),
        provisioning: None,
        format: None,
        pool: None,
    };
    let later = Submission {
        scheduled_start_time: Some(start() + Duration::from_secs(3600)),
        ..Submission::default()
    };
    let clone = bench.clone_disk(request, later).unwrap();
    assert_eq!(refusal(bench.create_disk(CreateDisk::new("b", MIB))), "ISCT-CFG-002");
    for id in [one, clone] {
        bench.ask(id, RequestedState::Terminate);
    }
    completed(&bench, bench.delete_disk(disk.id).unwrap());
}

#[test]
fn a_disk_becomes_smaller_down_to_its_last_data_and_not_below() {
    let (bench, _) = bench();
    let disk = filled(&bench, "a");
    let file = std::fs::File::options().write(true).open(&disk.path).unwrap();
    let shrink = |size| bench.shrink_disk(disk.id, size, Submission::default());
    let job = bench.end(shrink(31 * MIB).unwrap());
    assert_eq!((job.state, ids(&job)), (JobState::Exception, vec!["ISCT-CFG-008"]));
    assert_eq!(job.error().unwrap().message_arguments[2], (31 * MIB).to_string());
    assert_eq!(file.metadata().unwrap().len(), 32 * MIB);
    file.set_len(16 * MIB).unwrap();
    file.set_len(32 * MIB).unwrap();
    for size in [0, 512 + 1, 32 * MIB, 33 * MIB] {
        assert_eq!(refusal(shrink(size)), "ISCT-CFG-003", "{size}");
    }
    assert_eq!(completed(&bench, shrink(2 * MIB).unwrap()).kind.word(), "shrink-disk");
    assert_eq!(bench.engine.disk(&disk.id).unwrap().size_bytes, 2 * MIB);
    assert_eq!(file.metadata().unwrap().len(), 2 * MIB);
}

fn opened(disk: &Disk) -> Arc<dyn Image> {
    let options = disk_image::OpenOptions::default();
    disk_image::open_image(disk.path.as_path(), disk.format, &options).unwrap()
}

/// What a disk has at the beginning of each of its MiB.
fn marks(disk: &Disk) -> Vec<u8> {
    let image = opened(disk);
    let mark = |mib: u64| {
        let mut byte = [0xee];
        let mut bufs = [std::io::IoSliceMut::new(&mut byte)];
        image.read(&mut bufs, mib * MIB, disk_image::Wait::Block).unwrap();
        byte[0]
    };
    assert_eq!(image.size_bytes(), disk.size_bytes);
    (0..image.size_bytes() / MIB).map(mark).collect()
}

/// Whole MiB of a disk.
fn fill(disk: &Disk, mib: std::ops::Range<u64>, byte: u8) {
    let image = opened(disk);
    for at in mib {
        let data = vec![byte; 1 << 20];
        let data = [std::io::IoSlice::new(&data)];
        image.write(&data, at * MIB, disk_image::Durability::Cached).unwrap();
    }
    image.close().unwrap();
}

#[test]
fn a_disk_of_any_format_becomes_smaller_and_what_it_had_behind_its_end_does_not_come_back() {
    let (bench, _) = bench();
    for format in [ImageFormat::Qcow2, ImageFormat::Vhdx, ImageFormat::Vhd] {
        let request = CreateDisk { format, ..CreateDisk::new(format.name(), 8 * MIB) };
        let disk = disk_of(&bench.end(bench.create_disk(request).unwrap()));
        let shrink = |size| bench.shrink_disk(disk.id, size, Submission::default()).unwrap();
        let now = || bench.engine.disk(&disk.id).unwrap();
        fill(&disk, 0..8, 7);
        let job = bench.end(shrink(3 * MIB));
        assert_eq!((job.state, ids(&job)), (JobState::Exception, vec!["ISCT-CFG-008"]));
        assert_eq!(marks(&now()), [7; 8]);
        // Zeroes with space, and without.
        fill(&disk, 3..6, 0);
        opened(&disk).unmap(6 * MIB, 2 * MIB).unwrap();
        completed(&bench, shrink(3 * MIB));
        assert_eq!(marks(&now()), [7; 3]);
        completed(&bench, bench.expand_disk(disk.id, 8 * MIB).unwrap());
        assert_eq!(marks(&now()), [7, 7, 7, 0, 0, 0, 0, 0]);
    }
}

#[test]
fn a_snapshot_stays_as_large_as_it_is_and_what_it_had_goes_with_it() {
    let (bench, _) = bench();
    let request = CreateDisk { format: ImageFormat::Qcow2, ..CreateDisk::new("a", 8 * MIB) };
    let disk = disk_of(&bench.end(bench.create_disk(request).unwrap()));
    let now = || bench.engine.disk(&disk.id).unwrap();
    let take = |name: &str| {
        let request = CreateSnapshots { disks: vec![disk.id], name: name.to_owned() };
        completed(&bench, bench.create_snapshots(request, Submission::default()).unwrap());
        bench.engine.snapshots().pop().unwrap()
    };
    let delete = |snapshot: DiskSnapshot| {
        completed(&bench, bench.delete_snapshot(snapshot.id, Submission::default()).unwrap());
    };
    fill(&disk, 0..8, 1);
    let first = take("first");
    fill(&now(), 0..1, 2);
    opened(&now()).unmap(4 * MIB, 4 * MIB).unwrap();
    completed(&bench, bench.shrink_disk(disk.id, 4 * MIB, Submission::default()).unwrap());
    assert_eq!(marks(&now()), [2, 1, 1, 1]);
    let shown = Disk { path: first.path.clone(), size_bytes: 8 * MIB, ..disk.clone() };
    assert_eq!(marks(&shown), [1; 8]);
    let second = take("second");
    // Both are brought together, while the one below is larger.
    delete(first);
    assert_eq!(marks(&now()), [2, 1, 1, 1]);
    completed(&bench, bench.expand_disk(disk.id, 8 * MIB).unwrap());
    assert_eq!(marks(&now()), [2, 1, 1, 1, 0, 0, 0, 0]);
    delete(second);
    assert_eq!(marks(&now()), [2, 1, 1, 1, 0, 0, 0, 0]);
}

/// Counts what it is asked for.
#[derive(Debug, Default)]
struct Exposed {
    pauses: AtomicUsize,
    sizes: Mutex<Vec<u64>>,
}

impl DataPath for Exposed {
    fn pause(&self, _disks: &[DiskId], work: &mut dyn FnMut()) -> Result<(), String> {
        self.pauses.fetch_add(1, Ordering::Relaxed);
        work();
        Ok(())
    }

    fn resize(&self, _disk: DiskId, size_bytes: u64) -> Result<(), String> {
        self.sizes.lock().push(size_bytes);
        Ok(())
    }

    fn switch(
        &self,
        _disks: &[crate::datapath::Switched],
    ) -> Result<(), crate::datapath::SwitchError> {
        Ok(())
    }

    fn change_parent(
        &self,
        _from: &Path,
        _to: &Path,
        _format: ImageFormat,
    ) -> Result<Vec<PathBuf>, crate::datapath::SwitchError> {
        Ok(Vec::new())
    }

    fn medium_changed(&self, _disk: DiskId) {}

    fn commands(&self) -> u64 {
        0
    }
}

#[test]
fn a_lun_becomes_smaller_before_the_catalogue_says_so_and_gets_its_size_back_if_that_fails() {
    let exposed = Arc::new(Exposed::default());
    let (bench, _) = bench_with(|config| config.data_path = exposed.clone());
    let disk = bench.disk("a");
    map(&bench, &disk);
    let _image = hold(&disk);
    completed(&bench, bench.shrink_disk(disk.id, MIB / 2, Submission::default()).unwrap());
    assert_eq!(*exposed.sizes.lock(), [MIB / 2]);
    let gate = bench.gates.set(|record| record.step == Step::Planned { index: 0, done: 0 });
    let id = bench.shrink_disk(disk.id, MIB / 4, Submission::default()).unwrap();
    gate.reached();
    // It comes to the end of its first action, and is told there that it must turn back.
    let asked = bench.post_request(id, RequestedState::Terminate);
    drop(gate);
    asked.recv_timeout(PATIENCE).unwrap();
    assert_eq!(bench.end(id).state, JobState::Terminated);
    let sizes = exposed.sizes.lock().clone();
    assert!(sizes == [MIB / 2] || sizes[1..] == [MIB / 4, MIB / 2], "{sizes:?}");
    assert_eq!(bench.engine.disk(&disk.id).unwrap().size_bytes, MIB / 2);
    assert_eq!(std::fs::metadata(&disk.path).unwrap().len(), MIB / 2);
}

#[test]
fn a_deleted_disk_is_overwritten_first_and_gone_whatever_happens() {
    let (bench, _) = bench();
    for request in [None, Some(RequestedState::Terminate), Some(RequestedState::Kill)] {
        let disk = filled(&bench, "a");
        // Its bytes stay readable through this.
        let file = std::fs::File::open(&disk.path).unwrap();
        let gate = bench
            .gates
            .set(|record| matches!(record.step, Step::Planned { index: 2, done } if done > 0));
        let id = bench.overwrite_disk(disk.id, Submission::default()).unwrap();
        gate.reached();
        assert!(bench.engine.disk(&disk.id).is_none());
        let asked = request.map(|request| bench.post_request(id, request));
        drop(gate);
        if let Some(asked) = asked {
            asked.recv_timeout(PATIENCE).unwrap();
        }
        let job = bench.end(id);
        assert_eq!(job.state == JobState::Completed, request.is_none(), "{job:?}");
        bench.until_swept();
        assert!(bench.files().is_empty());
        if request.is_none() {
            let mut bytes = vec![1; 32 << 20];
            file.read_exact_at(&mut bytes, 0).unwrap();
            assert!(bytes.iter().all(|byte| *byte == 0));
        }
    }
}

#[test]
fn a_disk_becomes_full_and_thin_again_and_keeps_its_data() {
    let (bench, _) = bench();
    let disk = filled(&bench, "a");
    map(&bench, &disk);
    let provision = |to| bench.provision_disk(disk.id, to, Submission::default());
    let refused = provision(Provisioning::Thin).unwrap_err();
    assert!(refused.to_string().contains("thin already"), "{refused}");
    let before = std::fs::read(&disk.path).unwrap();
    for to in [Provisioning::Full, Provisioning::Thin] {
        let job = completed(&bench, provision(to).unwrap());
        assert_eq!(job.kind.word(), "provision-disk");
        assert_eq!(bench.engine.disk(&disk.id).unwrap().provisioning, to);
        assert!(std::fs::read(&disk.path).unwrap() == before);
        let space = std::fs::metadata(&disk.path).unwrap().blocks() * 512;
        assert!(space >= 32 * MIB, "what it has it keeps: {space}");
    }
}
