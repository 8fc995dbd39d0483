//! Snapshots on a file system that shares blocks between files.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "all of this file is a test"
)]

#[path = "support/xfs.rs"]
mod xfs;

use std::io::{IoSlice, IoSliceMut};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use disk_image::{Durability, ImageFormat, OpenOptions, Wait};
use job_engine::{
    CloneDisk, CreateDisk, CreateSnapshots, DataPath, Disk, DiskId, DiskSnapshot, Engine,
    EngineConfig, Expose, ExposeTo, Exposing, Job, JobId, JobState, MapRequest, MoveDisk, PoolId,
    PoolLimits, PoolSettings, RequestError, RequestedState, Submission, TargetRequest,
};

const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// Commands are readers of `inside`.
#[derive(Debug, Default)]
struct Host {
    inside: RwLock<()>,
    sizes: Mutex<Vec<u64>>,
    changed: AtomicUsize,
}

impl DataPath for Host {
    fn pause(&self, _disks: &[DiskId], work: &mut dyn FnMut()) -> Result<(), String> {
        let _alone = self.inside.write().unwrap();
        work();
        Ok(())
    }

    fn resize(&self, _disk: DiskId, size_bytes: u64) -> Result<(), String> {
        self.sizes.lock().unwrap().push(size_bytes);
        Ok(())
    }

    fn switch(&self, _disks: &[job_engine::Switched]) -> Result<(), job_engine::SwitchError> {
        Ok(())
    }

    fn change_parent(
        &self,
        _from: &Path,
        _to: &Path,
        _format: ImageFormat,
    ) -> Result<Vec<std::path::PathBuf>, job_engine::SwitchError> {
        Ok(Vec::new())
    }

    fn medium_changed(&self, _disk: DiskId) {
        self.changed.fetch_add(1, Ordering::Relaxed);
    }

    fn commands(&self) -> u64 {
        0
    }
}

struct Bench {
    engine: Arc<Engine>,
    host: Arc<Host>,
}

impl Bench {
    fn new(directory: &Path) -> Self {
        let host = Arc::new(Host::default());
        let mut config = EngineConfig::new(directory.join("data"));
        config.data_path = host.clone();
        config.allowed_directories = vec![directory.to_path_buf()];
        Self { engine: Engine::open(config).unwrap(), host }
    }

    fn end(&self, id: Result<JobId, RequestError>) -> Job {
        self.engine.wait(&id.unwrap(), PATIENCE).unwrap()
    }

    fn done(&self, id: Result<JobId, RequestError>) -> Job {
        let job = self.end(id);
        assert_eq!(job.state, JobState::Completed, "{job:?}");
        job
    }

    /// A disk that is a LUN.
    fn lun(&self, name: &str) -> Disk {
        self.large_lun(name, 4 * MIB)
    }

    fn large_lun(&self, name: &str, bytes: u64) -> Disk {
        let job = self.done(self.engine.create_disk(CreateDisk::new(name, bytes)));
        let disk = self.engine.disk(&job.kind.disk()).unwrap();
        let target = TargetRequest { name: name.to_owned(), ..TargetRequest::default() };
        let target = self.engine.create_target(target).unwrap().name;
        self.engine.map(MapRequest { disk: disk.id, target, lun: None }).unwrap();
        disk
    }

    /// As the catalogue has it now.
    fn now(&self, disk: &Disk) -> Disk {
        self.engine.disk(&disk.id).unwrap()
    }

    /// A new snapshot of a disk.
    fn taken(&self, name: &str, disk: &Disk) -> DiskSnapshot {
        self.done(self.snapshot(name, &[disk]));
        self.engine.snapshots().pop().unwrap()
    }

    fn roll_back(&self, to: &DiskSnapshot) -> Disk {
        self.done(self.engine.roll_back(to.id, Submission::default()));
        self.engine.disk(&to.disk).unwrap()
    }

    fn snapshot(&self, name: &str, disks: &[&Disk]) -> Result<JobId, RequestError> {
        let disks = disks.iter().map(|disk| disk.id).collect();
        let request = CreateSnapshots { disks, name: name.to_owned() };
        self.engine.create_snapshots(request, Submission::default())
    }
}

/// Files in a pool, without its mark.
fn images(pool: &Path) -> usize {
    let names = std::fs::read_dir(pool).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name != ".lund-pool").count()
}

fn refusal(result: Result<JobId, RequestError>) -> String {
    result.unwrap_err().cim_error().message_id.clone()
}

fn number(path: &Path) -> u64 {
    let mut bytes = [0; 8];
    std::fs::File::open(path).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    u64::from_le_bytes(bytes)
}

fn write(disk: &Disk, at: u64, byte: u8) {
    let file = std::fs::File::options().write(true).open(&disk.path).unwrap();
    file.write_all_at(&vec![byte; 1 << 20], at).unwrap();
}

#[test]
fn snapshots_of_a_group_are_of_one_instant_while_their_disks_are_written() {
    let Some(xfs) = xfs::Xfs::mount() else { return };
    let bench = Bench::new(xfs.path());
    let (one, other) = (bench.lun("one"), bench.lun("other"));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let open = |disk: &Disk| std::fs::File::options().write(true).open(&disk.path).unwrap();
            let files = [open(&one), open(&other)];
            let mut count = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                count += 1;
                for file in &files {
                    let _inside = bench.host.inside.read().unwrap();
                    file.write_all_at(&count.to_le_bytes(), 0).unwrap();
                }
            }
        });
        for round in 0..20 {
            bench.done(bench.snapshot(&round.to_string(), &[&one, &other]));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let snapshots = bench.engine.snapshots();
    assert_eq!(snapshots.len(), 40);
    for pair in snapshots.chunks(2) {
        assert_eq!((pair[0].created_by, pair[0].created), (pair[1].created_by, pair[1].created));
        let (first, second) = (number(&pair[0].path), number(&pair[1].path));
        // The one is written before the other.
        assert!(first == second || first == second + 1, "{first} {second}");
    }
    assert_eq!(refusal(bench.snapshot("0", &[&one])), "ISCT-CFG-002");
    assert_eq!(refusal(bench.snapshot("x", &[])), "ISCT-CFG-007");
    assert_eq!(refusal(bench.snapshot("x", &[&one, &one])), "ISCT-CFG-007");
}

#[test]
fn a_disk_is_rolled_back_while_it_is_a_lun_and_its_snapshots_stay_what_they_are() {
    let Some(xfs) = xfs::Xfs::mount() else { return };
    let bench = Bench::new(xfs.path());
    let disk = bench.lun("a");
    write(&disk, 0, 1);
    bench.done(bench.snapshot("s", &[&disk]));
    let snapshot = bench.engine.snapshots()[0].clone();
    let before = std::fs::read(&snapshot.path).unwrap();
    bench.done(bench.engine.expand_disk(disk.id, 8 * MIB));
    write(&disk, 0, 2);
    write(&disk, 7 * MIB, 3);
    bench.done(bench.engine.roll_back(snapshot.id, Submission::default()));
    assert!(std::fs::read(&disk.path).unwrap() == before);
    assert_eq!(bench.engine.disk(&disk.id).unwrap().size_bytes, 4 * MIB);
    assert_eq!(*bench.host.sizes.lock().unwrap(), [4 * MIB]);
    assert_eq!(bench.host.changed.load(Ordering::Relaxed), 1);
    // What is written to the disk, or to a disk of the snapshot, is not the snapshot's.
    write(&disk, 0, 4);
    let expose = |name: &str, read_only| {
        let id = snapshot.id;
        let how = Exposing { read_only, linked: false };
        bench.engine.expose_snapshot(id, name.to_owned(), how, Submission::default())
    };
    let exposed = bench.done(expose("b", false)).kind.disk();
    let exposed = bench.engine.disk(&exposed).unwrap();
    write(&exposed, 0, 5);
    let read_only = bench.done(expose("c", true)).kind.disk();
    let read_only = bench.engine.disk(&read_only).unwrap();
    assert!(read_only.read_only && !exposed.read_only);
    assert!(std::fs::read(&read_only.path).unwrap() == before);
    assert!(std::fs::read(&snapshot.path).unwrap() == before);
    // A disk stays as long as its snapshots do.
    let mapping = bench.engine.mappings()[0].clone();
    bench.engine.unmap(&mapping.target, mapping.lun).unwrap();
    assert_eq!(refusal(bench.engine.delete_disk(disk.id)), "ISCT-CFG-001");
    let overwrite = bench.engine.overwrite_disk(disk.id, Submission::default());
    assert_eq!(refusal(overwrite), "ISCT-CFG-001");
    // Offline.
    bench.done(bench.engine.roll_back(snapshot.id, Submission::default()));
    assert!(std::fs::read(&disk.path).unwrap() == before);
    bench.done(bench.engine.delete_snapshot(snapshot.id, Submission::default()));
    assert!(!snapshot.path.exists() && bench.engine.snapshots().is_empty());
    let again = bench.engine.delete_snapshot(snapshot.id, Submission::default());
    assert_eq!(refusal(again), "ISCT-CFG-005");
    bench.done(bench.engine.delete_disk(disk.id));
    let left = images(&bench.engine.config().default_pool);
    assert_eq!(left, 2, "the two disks that were made of the snapshot");
}

#[test]
fn a_disk_that_was_moved_is_rolled_back_to_what_it_left_behind() {
    let Some(xfs) = xfs::Xfs::mount() else { return };
    let bench = Bench::new(xfs.path());
    let job = bench.done(bench.engine.create_disk(CreateDisk::new("a", 4 * MIB)));
    let disk = bench.engine.disk(&job.kind.disk()).unwrap();
    write(&disk, MIB, 1);
    bench.done(bench.snapshot("s", &[&disk]));
    let snapshot = bench.engine.snapshots()[0].clone();
    let before = std::fs::read(&snapshot.path).unwrap();
    let other = xfs.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let pool = PoolId::parse("other");
    let limits = PoolLimits::default();
    let settings = PoolSettings { id: pool.clone(), directory: other.clone(), limits };
    bench.engine.create_pool(settings).unwrap();
    let request =
        MoveDisk { disk: disk.id, pool: Some(pool.clone()), format: None, provisioning: None };
    bench.done(bench.engine.move_disk(request, Submission::default()));
    let moved = bench.engine.disk(&disk.id).unwrap();
    assert_eq!((moved.path.parent().unwrap(), &moved.pool), (other.as_path(), &pool));
    assert!(std::fs::read(&moved.path).unwrap() == before);
    write(&moved, MIB, 2);
    bench.done(bench.engine.roll_back(snapshot.id, Submission::default()));
    let back = bench.engine.disk(&disk.id).unwrap();
    assert_eq!((back.path.parent().unwrap(), &back.pool), (other.as_path(), &pool));
    assert!(std::fs::read(&back.path).unwrap() == before);
    // What is made of the snapshot is where that is.
    let (id, how) = (snapshot.id, Exposing::default());
    let exposed =
        bench.done(bench.engine.expose_snapshot(id, "b".to_owned(), how, Submission::default()));
    let exposed = bench.engine.disk(&exposed.kind.disk()).unwrap();
    assert_eq!((exposed.path.parent(), &exposed.pool), (disk.path.parent(), &disk.pool));
    let detached = bench.done(bench.engine.detach_snapshot(snapshot.id, Submission::default()));
    let detached = bench.engine.disk(&detached.kind.disk()).unwrap();
    assert_eq!((detached.path.parent(), &detached.pool), (disk.path.parent(), &disk.pool));
    assert!(std::fs::read(&detached.path).unwrap() == before);
}

#[test]
fn a_detached_snapshot_is_a_disk_of_its_own_with_the_identifier_that_it_had() {
    let Some(xfs) = xfs::Xfs::mount() else { return };
    let bench = Bench::new(xfs.path());
    let disk = bench.lun("a");
    write(&disk, 0, 1);
    bench.done(bench.snapshot("s", &[&disk]));
    let snapshot = bench.engine.snapshots().pop().unwrap();
    write(&disk, 0, 2);
    let job = bench.done(bench.engine.detach_snapshot(snapshot.id, Submission::default()));
    assert!(bench.engine.snapshots().is_empty());
    let detached = bench.engine.disk(&job.kind.disk()).unwrap();
    assert_eq!((detached.id.uuid(), detached.name.as_str()), (snapshot.id.uuid(), "s"));
    assert!(!snapshot.path.exists());
    let first = |disk: &Disk| std::fs::read(&disk.path).unwrap()[0];
    assert_eq!((first(&disk), first(&detached)), (2, 1));
    // Its name is that of a disk now.
    bench.done(bench.snapshot("s", &[&disk]));
    let again = bench.engine.snapshots().pop().unwrap();
    let refused = bench.engine.detach_snapshot(again.id, Submission::default());
    assert_eq!(refusal(refused), "ISCT-CFG-002");
    bench.done(bench.engine.delete_disk(detached.id));
}

#[test]
fn a_roll_back_gives_a_disk_the_size_that_its_snapshot_had_whatever_the_file_has() {
    let Some(xfs) = xfs::Xfs::mount() else { return };
    let bench = Bench::new(xfs.path());
    let disk = bench.lun("a");
    let snapshot = bench.taken("s", &disk);
    // As a disk is that became smaller, and could not be cut.
    let file = std::fs::File::options().write(true).open(&snapshot.path).unwrap();
    file.set_len(8 * MIB).unwrap();
    drop(file);
    assert_eq!(bench.roll_back(&snapshot).size_bytes, 4 * MIB);
    assert_eq!(*bench.host.sizes.lock().unwrap(), [4 * MIB]);
}

#[test]
fn a_snapshot_is_exposed_in_the_transaction_that_completes_its_job_or_not_at_all() {
    let Some(xfs) = xfs::Xfs::mount() else { return };
    let bench = Bench::new(xfs.path());
    let (disk, other) = (bench.lun("a"), bench.lun("other"));
    bench.done(bench.snapshot("s", &[&disk]));
    let snapshot = bench.engine.snapshots().pop().unwrap();
    let target = bench.engine.mappings()[0].target.clone();
    let expose = |target: &str, lun: Option<u16>, submission| {
        let (target, units, initiators) = (target.to_owned(), Vec::new(), Vec::new());
        let to = Expose { target, create: None, units, initiators, to: ExposeTo::Everybody };
        let name = format!("b{}", lun.unwrap_or(0));
        let kind = Exposing::default();
        bench.engine.expose_snapshot_to(snapshot.id, name, kind, (to, lun), submission)
    };
    let now = Submission::default;
    assert_eq!(refusal(expose("iqn.2026-01.org:none", None, now())), "ISCT-CFG-005");
    assert_eq!(refusal(expose(&target, Some(0), now())), "ISCT-CFG-002");
    let made = bench.done(expose(&target, Some(7), now())).kind.disk();
    let seen = |lun| {
        let mut mappings = bench.engine.mappings().into_iter();
        mappings.find(|it| it.target == target && it.lun == lun).map(|it| it.disk)
    };
    assert_eq!(seen(7), Some(made));
    assert_eq!(bench.engine.exposed_snapshots(), [(made, snapshot.id)]);
    // There is one disk for it, which goes when nobody sees it, as no other one does.
    assert_eq!(refusal(expose(&target, Some(9), now())), "ISCT-CFG-001");
    assert_eq!(bench.engine.delete_unseen(&[made], &now()), []);
    bench.engine.unmap(&target, 7).unwrap();
    bench.engine.unmap(&target, 0).unwrap();
    let gone = bench.engine.delete_unseen(&[made, disk.id], &now());
    assert_eq!(gone.len(), 1);
    assert_eq!(bench.done(Ok(gone[0])).kind.disk(), made);
    assert_eq!(bench.engine.exposed_snapshots(), []);
    assert!(bench.engine.disk(&disk.id).is_some());
    // The number was free when the job began.
    let before = images(&bench.engine.config().default_pool);
    let later = Some(jiff::Timestamp::now() + Duration::from_secs(3600));
    let id = expose(&target, Some(9), Submission { scheduled_start_time: later, ..now() }).unwrap();
    assert_eq!(refusal(expose(&target, Some(8), now())), "ISCT-CFG-001", "a job is about to");
    let request = MapRequest { disk: other.id, target: target.clone(), lun: Some(9) };
    bench.engine.map(request).unwrap();
    let _ = bench.engine.request_state_change(&id, RequestedState::Start, None, "test");
    let job = bench.end(Ok(id));
    assert_eq!((job.state, job.errors.len()), (JobState::Exception, 1), "{job:?}");
    assert_eq!(job.errors[0].message_id, "ISCT-CFG-002");
    assert_eq!(seen(9), Some(other.id));
    assert_eq!(images(&bench.engine.config().default_pool), before);
    assert_eq!(bench.engine.exposed_snapshots(), []);
    // The job that failed holds nobody up. What stands for a snapshot is told until it is gone.
    let made = bench.done(expose(&target, Some(8), now())).kind.disk();
    bench.engine.unmap(&target, 8).unwrap();
    bench.done(bench.engine.delete_disk(made));
    assert_eq!(bench.engine.exposed_snapshots(), []);
}

#[test]
fn disks_in_use_are_cloned_and_exported_as_they_are_at_one_instant() {
    let Some(xfs) = xfs::Xfs::mount() else { return };
    let bench = Bench::new(xfs.path());
    let disk = bench.lun("a");
    write(&disk, MIB, 1);
    for (name, provisioning) in [("thin", None), ("full", Some(job_engine::Provisioning::Full))] {
        let request = CloneDisk {
            source: disk.id,
            name: name.to_owned(),
            provisioning,
            format: None,
            pool: None,
        };
        let job = bench.done(bench.engine.clone_disk(request, Submission::default()));
        let made = bench.engine.disk(&job.kind.disk()).unwrap();
        assert!(std::fs::read(&made.path).unwrap() == std::fs::read(&disk.path).unwrap());
    }
    let path = xfs.path().join("a.raw");
    bench.done(bench.engine.export_disk(
        disk.id,
        path.clone(),
        ImageFormat::Raw,
        Submission::default(),
    ));
    assert!(std::fs::read(&path).unwrap() == std::fs::read(&disk.path).unwrap());
    let left = images(&bench.engine.config().default_pool);
    assert_eq!(left, 3, "nothing is left of the instant");
}

fn bytes(path: &Path, format: ImageFormat) -> Vec<u8> {
    let image = disk_image::open_image(path, format, &OpenOptions::read_only()).unwrap();
    let mut all = vec![0; usize::try_from(image.size_bytes()).unwrap()];
    image.read(&mut [IoSliceMut::new(&mut all)], 0, Wait::Block).unwrap();
    all
}

#[test]
fn disks_in_use_are_brought_into_other_formats_and_checked_as_they_are_at_one_instant() {
    let Some(xfs) = xfs::Xfs::mount() else { return };
    let bench = Bench::new(xfs.path());
    for from in [ImageFormat::Raw, ImageFormat::Vhdx, ImageFormat::Qcow2, ImageFormat::Vhd] {
        let request = CreateDisk { format: from, ..CreateDisk::new(from.name(), 4 * MIB) };
        let job = bench.done(bench.engine.create_disk(request));
        let disk = bench.engine.disk(&job.kind.disk()).unwrap();
        let target = TargetRequest { name: from.name().to_owned(), ..TargetRequest::default() };
        let target = bench.engine.create_target(target).unwrap().name;
        bench.engine.map(MapRequest { disk: disk.id, target, lun: None }).unwrap();
        // As the data path has it: what was flushed may lie in a log alone.
        let path = disk.path.as_path();
        let live = disk_image::open_image(path, from, &OpenOptions::default()).unwrap();
        let data = vec![7; 1 << 20];
        live.write(&[IoSlice::new(&data)], MIB, Durability::Cached).unwrap();
        live.flush().unwrap();
        let mut wanted = vec![0; 4 << 20];
        wanted[1 << 20..2 << 20].copy_from_slice(&data);
        for to in ImageFormat::ALL {
            let request = CloneDisk {
                source: disk.id,
                name: format!("{from}-{to}"),
                provisioning: Some(job_engine::Provisioning::Full),
                format: Some(to),
                pool: None,
            };
            let job = bench.done(bench.engine.clone_disk(request, Submission::default()));
            let made = bench.engine.disk(&job.kind.disk()).unwrap();
            assert!(bytes(&made.path, to) == wanted, "{from} {to}");
            let path = xfs.path().join(format!("{from}.{to}"));
            let later = Submission::default();
            bench.done(bench.engine.export_disk(disk.id, path.clone(), to, later));
            assert!(bytes(&path, to) == wanted, "{from} {to}");
        }
        bench.done(bench.engine.check_disk(disk.id, false, Submission::default()));
    }
    let left = images(&bench.engine.config().default_pool);
    assert_eq!(left, 4 * 5, "nothing is left of the instants");
}

/// Larger than what `crowd` writes.
const LARGE: u64 = 12 * MIB;

/// Has a raw disk's file lie in more pieces than are cloned while initiators wait.
fn crowd(disk: &Disk) {
    let file = std::fs::File::options().write(true).open(&disk.path).unwrap();
    for piece in 0..1100 {
        file.write_all_at(&[9; 4096], piece << 13).unwrap();
    }
    file.sync_all().unwrap();
}

/// A MiB behind that, as the data path writes it.
fn fill(disk: &Disk, byte: u8) {
    let (path, options) = (disk.path.as_path(), OpenOptions::default());
    let image = disk_image::open_image(path, disk.format, &options).unwrap();
    image.write(&[IoSlice::new(&[byte; 1 << 20])], 10 * MIB, Durability::Durable).unwrap();
    image.close().unwrap();
}

fn content(disk: &Disk) -> Vec<u8> {
    bytes(&disk.path, disk.format)
}

#[test]
fn initiators_do_not_wait_until_a_file_in_many_pieces_is_cloned() {
    let Some(xfs) = xfs::Xfs::mount() else { return };
    let bench = Bench::new(xfs.path());
    let (disk, other) = (bench.large_lun("a", LARGE), bench.lun("b"));
    fill(&disk, 1);
    let apart = bench.taken("apart", &disk);
    assert_ne!(apart.path, disk.path, "a file in few pieces is cloned");
    let first = content(&disk);
    crowd(&disk);
    let before = content(&disk);
    // All of a group have one instant.
    bench.done(bench.snapshot("under", &[&disk, &other]));
    for disk in [&disk, &other] {
        let now = bench.now(disk);
        let snapshots = bench.engine.snapshots();
        let under = snapshots.iter().find(|it| it.disk == disk.id && it.name == "under").unwrap();
        assert_eq!((now.format, now.parent), (ImageFormat::Qcow2, Some(under.id)));
        assert_eq!(under.path, disk.path);
        assert!(content(&now) == bytes(&under.path, ImageFormat::Raw));
    }
    fill(&bench.now(&disk), 2);
    assert!(content(&bench.now(&disk)) != before);
    // What lies over something stays so: nothing comes to lie under two images.
    let third = bench.taken("third", &disk);
    assert_eq!(third.format, Some(ImageFormat::Qcow2));
    fill(&bench.now(&disk), 3);
    let under = bench.engine.snapshots().into_iter().find(|it| it.path == disk.path).unwrap();
    let back = bench.roll_back(&third);
    assert_eq!(back.parent, Some(third.id));
    bench.done(bench.engine.delete_snapshot(third.id, Submission::default()));
    assert_eq!(content(&bench.now(&disk))[10 << 20], 2);
    // Nobody waits until the blocks of a snapshot are shared, which nobody writes.
    let back = bench.roll_back(&under);
    assert_eq!((back.format, back.parent), (ImageFormat::Raw, None));
    assert!(content(&back) == before);
    // A raw disk whose blocks would be exchanged.
    let again = bench.roll_back(&apart);
    assert!(again.path != back.path && content(&again) == first && !back.path.exists());
    assert_eq!(bench.roll_back(&apart).path, again.path, "few pieces are exchanged");
    let snapshots = bench.engine.snapshots();
    for snapshot in snapshots.iter().filter(|it| it.disk == disk.id).rev() {
        bench.done(bench.engine.delete_snapshot(snapshot.id, Submission::default()));
    }
    assert!(content(&bench.now(&disk)) == first);
    let left = images(&bench.engine.config().default_pool);
    assert_eq!(left, 3, "the disk, the other one, and its snapshot");
}

#[test]
fn a_disk_in_use_that_lies_in_many_pieces_is_cloned_and_checked_and_one_that_is_not_stays_raw() {
    let Some(xfs) = xfs::Xfs::mount() else { return };
    let bench = Bench::new(xfs.path());
    let disk = bench.large_lun("a", LARGE);
    crowd(&disk);
    fill(&disk, 1);
    let before = content(&disk);
    let request = |name: &str| CloneDisk {
        source: disk.id,
        name: name.to_owned(),
        provisioning: None,
        format: Some(ImageFormat::Raw),
        pool: None,
    };
    let job = bench.done(bench.engine.clone_disk(request("b"), Submission::default()));
    let made = bench.engine.disk(&job.kind.disk()).unwrap();
    assert!(made.format == ImageFormat::Raw && content(&made) == before);
    assert_eq!(bench.now(&disk).format, ImageFormat::Qcow2);
    fill(&bench.now(&disk), 2);
    bench.done(bench.engine.check_disk(disk.id, false, Submission::default()));
    let path = xfs.path().join("a.raw");
    let export = bench.engine.export_disk(disk.id, path.clone(), ImageFormat::Raw, <_>::default());
    bench.done(export);
    assert!(std::fs::read(&path).unwrap() == content(&bench.now(&disk)));
    // The clone is no LUN.
    let snapshot = bench.taken("s", &made);
    let now = bench.now(&made);
    assert!(now.path == made.path && now.parent.is_none() && snapshot.path != made.path);
}

/// What a disk's file takes of its file system.
fn allocated(disk: &Disk) -> u64 {
    std::fs::metadata(&disk.path).unwrap().blocks() * 512
}

#[test]
fn a_disk_that_owns_its_space_does_so_when_it_is_rolled_back() {
    let Some(xfs) = xfs::Xfs::mount() else { return };
    let bench = Bench::new(xfs.path());
    for format in ImageFormat::ALL {
        let full = job_engine::Provisioning::Full;
        let request = CreateDisk::new(format.name(), 4 * MIB);
        let request = CreateDisk { format, provisioning: full, ..request };
        let job = bench.done(bench.engine.create_disk(request));
        let disk = bench.engine.disk(&job.kind.disk()).unwrap();
        assert!(allocated(&disk) >= 4 * MIB, "{format}");
        let before = content(&disk);
        let snapshot = bench.taken("s", &disk);
        let back = bench.roll_back(&snapshot);
        assert!(content(&back) == before);
        assert_eq!((back.provisioning, back.format), (full, format));
        assert!(allocated(&back) >= 4 * MIB, "{format}: {}", allocated(&back));
    }
}
