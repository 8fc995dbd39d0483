//! EIO in the midst of jobs: of each kind of job, one read, write or flush after the other fails, once
//! or from then on, on a file system that loses what a failed flush should have kept. The job ends with
//! an error that says so, disks and snapshots are whole, nothing is left, and work goes on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "all of this file is a test"
)]

#[path = "support/faulty.rs"]
mod faulty;

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use disk_image::{
    CreateOptions, Durability, OpenOptions, Parent, Preallocation, Wait, create_image, open_image,
};
use faulty::{Access, Faulty};
use job_engine::{
    BlockLength, CloneDisk, CreateDisk, CreateSnapshots, Disk, DiskSnapshot, Engine, EngineConfig,
    Expose, ExposeTo, Exposing, ImageFormat, ImportDisk, Job, JobId, JobState, MapRequest,
    MoveDisk, PoolId, PoolLimits, PoolSettings, Provisioning, RequestError, Submission,
    TargetRequest,
};

const MIB: u64 = 1 << 20;
const SIZE: u64 = MIB;
const PATIENCE: Duration = Duration::from_secs(60);
/// Of how many accesses one after the other each fails; of those behind them some do.
const EACH: u64 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// With all its space.
    Create(ImageFormat),
    Clone,
    Import,
    Export,
    Convert,
    /// While it is a LUN.
    Move,
    Compact,
    Check,
    Expand(ImageFormat),
    Shrink(ImageFormat),
    Provision,
    Overwrite,
    Delete,
    Snapshot,
    RollBack,
    Expose,
    /// The same as a LUN.
    MapSnapshot,
    /// Of an image that is laid over another, and that over a third.
    ImportChain(ImageFormat),
    /// The deletion of a snapshot over which another one lies.
    Merge,
    /// Of the one that the disk lies over.
    MergeLast,
}

const KINDS: [Kind; 29] = [
    Kind::Create(ImageFormat::Raw),
    Kind::Create(ImageFormat::Qcow2),
    Kind::Create(ImageFormat::Vhdx),
    Kind::Clone,
    Kind::Import,
    Kind::Export,
    Kind::Convert,
    Kind::Move,
    Kind::Compact,
    Kind::Check,
    Kind::Expand(ImageFormat::Raw),
    Kind::Expand(ImageFormat::Qcow2),
    Kind::Expand(ImageFormat::Vhdx),
    Kind::Shrink(ImageFormat::Raw),
    Kind::Shrink(ImageFormat::Qcow2),
    Kind::Shrink(ImageFormat::Vhdx),
    Kind::Shrink(ImageFormat::Vhd),
    Kind::Provision,
    Kind::Overwrite,
    Kind::Delete,
    Kind::Snapshot,
    Kind::RollBack,
    Kind::Expose,
    Kind::MapSnapshot,
    Kind::ImportChain(ImageFormat::Qcow2),
    Kind::ImportChain(ImageFormat::Vhd),
    Kind::ImportChain(ImageFormat::Vhdx),
    Kind::Merge,
    Kind::MergeLast,
];

fn pool_id() -> PoolId {
    PoolId("p".to_owned())
}

/// Full of bytes that say where they belong. Made once: without optimization that takes a while.
fn pattern(version: u64) -> Arc<[u8]> {
    static PATTERNS: Mutex<BTreeMap<u64, Arc<[u8]>>> = Mutex::new(BTreeMap::new());
    let make = || (0..SIZE / 8).flat_map(|number| (number | version << 56).to_le_bytes()).collect();
    PATTERNS.lock().unwrap().entry(version).or_insert_with(make).clone()
}

fn read(path: &Path, format: ImageFormat) -> Vec<u8> {
    // A log that is left is replayed by whoever may write.
    let image = open_image(path, format, &OpenOptions::default()).unwrap();
    let mut bytes = vec![0; usize::try_from(image.size_bytes()).unwrap()];
    image.read(&mut [std::io::IoSliceMut::new(&mut bytes)], 0, Wait::Block).unwrap();
    image.close().unwrap();
    bytes
}

/// Three images, each with a part of the pattern, over something else of the one below.
fn make_chain(directory: &Path, format: ImageFormat) {
    let (mut parent, third) = (None, SIZE / 3 / 512 * 512);
    for (number, name) in (0..).zip(["base", "middle", "top"]) {
        let name = chain_name(name, format);
        let path = directory.join(&name);
        let options = CreateOptions { parent, ..CreateOptions::new(SIZE, Preallocation::Sparse) };
        let mut creator = create_image(path.as_path(), format, options).unwrap();
        while !creator.step(SIZE).unwrap().is_complete() {}
        creator.finish().unwrap();
        let image = open_image(path.as_path(), format, &OpenOptions::default()).unwrap();
        let at = number * third;
        let version = if number == 2 { 1 } else { 2 };
        // What the next one writes over it.
        let (from, here) = (usize::try_from(at).unwrap(), usize::try_from(third).unwrap());
        let rest = &pattern(version)[from + here..];
        image.write(&[IoSlice::new(&pattern(1)[from..from + here])], at, DURABLE).unwrap();
        image.write(&[IoSlice::new(rest)], at + third, DURABLE).unwrap();
        image.close().unwrap();
        parent = Some(Parent { path: name.into(), format });
    }
}

fn chain_name(name: &str, format: ImageFormat) -> String {
    format!("{name}.{format}")
}

/// Whose images can have parents.
const CHAINS: [ImageFormat; 3] = [ImageFormat::Qcow2, ImageFormat::Vhd, ImageFormat::Vhdx];

const DURABLE: Durability = Durability::Durable;

struct Bench {
    faulty: Faulty,
    data: tempfile::TempDir,
    engine: Option<Arc<Engine>>,
}

/// What a disk and its snapshots hold before the job begins.
struct Before {
    disk: Disk,
    snapshots: Vec<(DiskSnapshot, u64)>,
    now: u64,
}

impl Bench {
    fn new() -> Option<Self> {
        let faulty = Faulty::mount()?;
        let data = faulty::in_memory();
        std::fs::write(data.path().join("image"), pattern(1)).unwrap();
        let mut bench = Self { faulty, data, engine: None };
        for path in [bench.pool(), bench.files(), bench.chain()] {
            std::fs::create_dir(path).unwrap();
        }
        for format in CHAINS {
            make_chain(&bench.chain(), format);
        }
        bench.open();
        Some(bench)
    }

    fn pool(&self) -> PathBuf {
        self.faulty.path().join("pool")
    }

    fn files(&self) -> PathBuf {
        self.faulty.path().join("files")
    }

    /// Images that are imported, with their parents.
    fn chain(&self) -> PathBuf {
        self.faulty.path().join("chain")
    }

    /// Opens it, or ends it first; the database is elsewhere.
    fn open(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.shutdown();
        }
        let mut config = EngineConfig::new(self.data.path().join("data"));
        config.allowed_directories =
            vec![self.files(), self.chain(), self.data.path().to_path_buf()];
        let limits = PoolLimits::default();
        config.pools = vec![PoolSettings { id: pool_id(), directory: self.pool(), limits }];
        self.engine = Some(Engine::open(config).unwrap());
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().unwrap()
    }

    fn done(&self, id: Result<JobId, RequestError>) -> Job {
        let job = self.engine().wait(&id.unwrap(), PATIENCE).unwrap();
        assert_eq!(job.state, JobState::Completed, "{job:?}");
        job
    }

    fn write(&self, disk: &Disk, version: u64) {
        let disk = self.engine().disk(&disk.id).unwrap();
        let image = open_image(disk.path, disk.format, &OpenOptions::default()).unwrap();
        image.write(&[IoSlice::new(&pattern(version))], 0, Durability::Durable).unwrap();
        image.close().unwrap();
    }

    fn make(&self, name: &str, format: ImageFormat) -> Disk {
        let pool = Some(pool_id());
        let job = self.done(self.engine().create_disk(CreateDisk {
            pool,
            format,
            ..CreateDisk::new(name, SIZE)
        }));
        self.engine().disk(&job.kind.disk()).unwrap()
    }

    fn take(&self, disk: &Disk, name: &str) -> Result<JobId, RequestError> {
        let request = CreateSnapshots { disks: vec![disk.id], name: name.to_owned() };
        self.engine().create_snapshots(request, Submission::default())
    }

    fn prepare(&self, kind: Kind) -> Before {
        let format = match kind {
            Kind::Expand(format) | Kind::Shrink(format) => format,
            Kind::Compact => ImageFormat::Qcow2,
            _ => ImageFormat::Raw,
        };
        let disk = self.make("disk", format);
        self.write(&disk, 1);
        if matches!(kind, Kind::Shrink(_)) {
            // What goes must hold nothing.
            self.done(self.engine().expand_disk(disk.id, 2 * SIZE));
        }
        let mut before = Before { disk, snapshots: Vec::new(), now: 1 };
        let takes = match kind {
            Kind::RollBack | Kind::Expose | Kind::MapSnapshot => 1,
            Kind::Merge | Kind::MergeLast => 2,
            _ => 0,
        };
        for version in 1..=takes {
            let name = format!("s{version}");
            self.done(self.take(&before.disk, &name));
            let snapshots = self.engine().snapshots();
            let taken = snapshots.into_iter().find(|it| it.name == name).unwrap();
            before.snapshots.push((taken, version));
            before.now = version + 1;
            self.write(&before.disk, before.now);
        }
        if kind == Kind::Move {
            let target = TargetRequest { name: "t".to_owned(), ..TargetRequest::default() };
            let target = self.engine().create_target(target).unwrap().name;
            let disk = before.disk.id;
            self.engine().map(MapRequest { disk, target, lun: None }).unwrap();
        }
        if kind == Kind::MapSnapshot {
            let target = TargetRequest { name: "t".to_owned(), ..TargetRequest::default() };
            self.engine().create_target(target).unwrap();
        }
        before.disk = self.engine().disk(&before.disk.id).unwrap();
        before
    }

    fn start(&self, kind: Kind, before: &Before) -> Result<JobId, RequestError> {
        let (engine, disk, how) = (self.engine(), before.disk.id, Submission::default());
        let (pool, name) = (Some(pool_id()), "made".to_owned());
        match kind {
            Kind::Create(format) => engine.create_disk(CreateDisk {
                pool,
                format,
                provisioning: Provisioning::Full,
                ..CreateDisk::new(name, SIZE)
            }),
            Kind::Clone => {
                let provisioning = Some(Provisioning::Full);
                let request = CloneDisk { source: disk, name, provisioning, format: None, pool };
                engine.clone_disk(request, how)
            }
            Kind::Import | Kind::ImportChain(_) => {
                let path = match kind {
                    Kind::ImportChain(format) => self.chain().join(chain_name("top", format)),
                    _ => self.data.path().join("image"),
                };
                let request = ImportDisk {
                    path,
                    name,
                    in_place: false,
                    block_length: BlockLength::B512,
                    provisioning: Provisioning::Thin,
                    verify: true,
                    format: None,
                    to_format: Some(ImageFormat::Qcow2),
                    pool,
                };
                engine.import_disk(request, how)
            }
            Kind::Export => {
                let path = self.files().join("made.qcow2");
                engine.export_disk(disk, path, ImageFormat::Qcow2, how)
            }
            Kind::Convert => engine.convert_disk(disk, ImageFormat::Vhdx, None, how),
            Kind::Move => {
                let format = Some(ImageFormat::Qcow2);
                engine.move_disk(MoveDisk { disk, pool, format, provisioning: None }, how)
            }
            Kind::Compact => engine.compact_disk(disk, how),
            Kind::Check => engine.check_disk(disk, false, how),
            Kind::Expand(_) => engine.expand_disk(disk, 4 * SIZE),
            Kind::Shrink(_) => engine.shrink_disk(disk, SIZE, how),
            Kind::Provision => engine.provision_disk(disk, Provisioning::Full, how),
            Kind::Overwrite => engine.overwrite_disk(disk, how),
            Kind::Delete => engine.delete_disk(disk),
            Kind::Snapshot => self.take(&before.disk, "s"),
            Kind::RollBack => engine.roll_back(before.snapshots[0].0.id, how),
            Kind::Expose => {
                let snapshot = before.snapshots[0].0.id;
                engine.expose_snapshot(snapshot, name, Exposing::default(), how)
            }
            Kind::MapSnapshot => {
                let snapshot = before.snapshots[0].0.id;
                let target = engine.targets()[0].name.clone();
                let (units, initiators, to) = (Vec::new(), Vec::new(), ExposeTo::Everybody);
                let to = Expose { target, create: None, units, initiators, to };
                engine.expose_snapshot_to(snapshot, name, Exposing::default(), (to, None), how)
            }
            Kind::Merge => engine.delete_snapshot(before.snapshots[0].0.id, how),
            Kind::MergeLast => engine.delete_snapshot(before.snapshots[1].0.id, how),
        }
    }

    /// Everything that there is has all its data, and the job's outcome is what it says.
    fn judge(&self, kind: Kind, before: &Before, job: &Job, told: &str) {
        let completed = job.state == JobState::Completed;
        let whole = |path: &Path, format, versions: &[u64]| {
            let bytes = read(path, format);
            let size = usize::try_from(SIZE).unwrap();
            let right = versions.iter().any(|version| bytes[..size] == *pattern(*version));
            assert!(right, "{told}: {} holds something else, {job:?}", path.display());
            assert!(bytes[size..].iter().all(|byte| *byte == 0), "{told}: {job:?}");
        };
        for disk in self.engine().disks() {
            let versions: &[u64] = match (disk.name.as_str(), kind) {
                ("made", Kind::Create(_)) => {
                    assert!(read(&disk.path, disk.format).iter().all(|byte| *byte == 0), "{told}");
                    continue;
                }
                ("made", _) | ("disk", Kind::RollBack) if completed => &[1],
                ("disk", Kind::RollBack) => &[1, 2],
                _ => &[before.now],
            };
            whole(&disk.path, disk.format, versions);
            if matches!(kind, Kind::Shrink(_)) && completed {
                assert_eq!(read(&disk.path, disk.format).len() as u64, SIZE, "{told}");
            }
        }
        for snapshot in self.engine().snapshots() {
            let known = before.snapshots.iter().find(|(it, _)| it.id == snapshot.id);
            let version = known.map_or(before.now, |(_, version)| *version);
            whole(&snapshot.path, snapshot.format.unwrap_or_default(), &[version]);
        }
        let exported = self.files().join("made.qcow2");
        if exported.exists() {
            whole(&exported, ImageFormat::Qcow2, &[1]);
        }
        let made = self.engine().disks().iter().any(|disk| disk.name == "made");
        let exposes = matches!(kind, Kind::Expose | Kind::MapSnapshot);
        let imports = matches!(kind, Kind::Import | Kind::ImportChain(_));
        let makes = exposes || imports || matches!(kind, Kind::Create(_) | Kind::Clone);
        assert_eq!(made, makes && completed, "{told}: {job:?}");
        let maps = kind == Kind::Move || (kind == Kind::MapSnapshot && completed);
        assert_eq!(self.engine().mappings().len(), usize::from(maps), "{told}: {job:?}");
        assert_eq!(exported.exists(), kind == Kind::Export && completed, "{told}: {job:?}");
    }

    /// No file but those of disks and snapshots.
    fn nothing_is_left(&self, told: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let mut wanted: Vec<_> = self.engine().image_files();
            wanted.retain(|path| path.starts_with(self.pool()));
            let mut found = Vec::new();
            for directory in [self.pool(), self.files()] {
                let entries = std::fs::read_dir(directory).unwrap();
                found.extend(entries.map(|entry| entry.unwrap().path()));
            }
            found.retain(|path| !path.ends_with(".lund-pool") && !path.ends_with("made.qcow2"));
            found.sort();
            wanted.sort();
            wanted.dedup();
            if found == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{told}: {found:?}, not {wanted:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn clear(&self) {
        for mapping in self.engine().mappings() {
            self.engine().unmap(&mapping.target, mapping.lun).unwrap();
        }
        for target in self.engine().targets() {
            self.engine().delete_target(&target.name).unwrap();
        }
        let disks = self.engine().disks();
        for disk in disks.iter().filter(|disk| disk.name != "disk") {
            self.done(self.engine().delete_disk(disk.id));
        }
        for snapshot in self.engine().snapshots().iter().rev() {
            self.done(self.engine().delete_snapshot(snapshot.id, Submission::default()));
        }
        for disk in self.engine().disks() {
            self.done(self.engine().delete_disk(disk.id));
        }
        let _ = std::fs::remove_file(self.files().join("made.qcow2"));
    }

    /// Whether the access was made, and failed.
    fn met(&mut self, kind: Kind, access: Access, after: u64, count: u64) -> bool {
        let told = format!("{kind:?}, {access:?} {after}, {count} times");
        let before = self.prepare(kind);
        let failed = self.faulty.failed();
        self.faulty.fail(access, after, count);
        let started = self.start(kind, &before);
        let job = started.as_ref().ok().map(|id| self.engine().wait(id, PATIENCE).expect(&told));
        let hit = self.faulty.failed() > failed;
        self.faulty.heal();
        let Some(job) = job else {
            // It was looked at before there was a job.
            assert!(hit, "{told}: {started:?}");
            self.clear();
            return true;
        };
        if job.state == JobState::Completed {
            assert!(job.errors.is_empty(), "{told}: {job:?}");
        } else {
            assert!(hit && job.state == JobState::Exception, "{told}: {job:?}");
            let id = job.errors[0].message_id.as_str();
            // 016: the file that says whose the pool is.
            let known = ["ISCT-STG-003", "ISCT-STG-011", "ISCT-STG-016"].contains(&id);
            assert!(known, "{told}: {job:?}");
            // What could not be removed is removed by the next start at the latest.
            self.open();
        }
        self.judge(kind, &before, &job, &told);
        self.nothing_is_left(&told);
        if job.state == JobState::Exception && self.engine().disk(&before.disk.id).is_some() {
            // And now it can be done.
            if let Ok(id) = self.start(kind, &before) {
                let job = self.engine().wait(&id, PATIENCE).unwrap();
                assert_eq!(job.state, JobState::Completed, "{told}, again: {job:?}");
                self.judge(kind, &before, &job, &told);
            }
        }
        self.clear();
        self.nothing_is_left(&told);
        hit
    }
}

/// One of two halves of the kinds, so that none takes as long as a test that hangs.
fn half(number: usize, access: Access) {
    let Some(mut bench) = Bench::new() else { return };
    for kind in KINDS.into_iter().skip(number).step_by(2) {
        let mut after = 0;
        while bench.met(kind, access, after, 1) {
            after += if after < EACH { 1 } else { after };
        }
        println!("{kind:?}: {after} accesses");
        for after in [0, 2] {
            bench.met(kind, access, after, u64::MAX);
        }
    }
}

#[test]
fn reads_that_fail_1() {
    half(0, Access::Read);
}

#[test]
fn reads_that_fail_2() {
    half(1, Access::Read);
}

#[test]
fn writes_that_fail_1() {
    half(0, Access::Write);
}

#[test]
fn writes_that_fail_2() {
    half(1, Access::Write);
}

#[test]
fn flushes_that_fail_1() {
    half(0, Access::Flush);
}

#[test]
fn flushes_that_fail_2() {
    half(1, Access::Flush);
}
