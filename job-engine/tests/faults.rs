//! File systems that fail in the midst of jobs: full, read-only, gone, immutable, shut down (EIO). The
//! job ends with the error that says so, disks are whole, nothing is left, and work goes on.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "all of this file is a test"
)]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use job_engine::{
    BlockLength, CloneDisk, CreateDisk, CreateSnapshots, Disk, Engine, EngineConfig, Exposing,
    ImageFormat, ImportDisk, Job, JobId, JobState, MapRequest, MoveDisk, PoolId, PoolLimits,
    PoolSettings, Provisioning, RequestError, Submission, TargetRequest,
};
use rustix::fs::{FallocateFlags, fallocate};

const MIB: u64 = 1 << 20;
/// Of the file systems.
const BLOCK: u64 = 4096;
const SIZE: u64 = 16 * MIB;
/// Slow enough to be met in its midst.
const BANDWIDTH: u64 = 16 * MIB;
const PATIENCE: Duration = Duration::from_secs(60);

/// What happens to the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Full,
    /// ext4 found something wrong (errors=remount-ro).
    ReadOnly,
    /// The pool's directory has another name.
    Gone,
    /// Nobody may make, rename or remove files in the directories.
    Immutable,
    /// Every access fails with EIO.
    ShutDown,
}

/// Jobs that copy, and so have a midst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Clone,
    Import,
    Export,
    Convert,
    /// While it is a LUN.
    Move,
    Check,
    Provision,
    Overwrite,
}

const KINDS: [Kind; 8] = [
    Kind::Clone,
    Kind::Import,
    Kind::Export,
    Kind::Convert,
    Kind::Move,
    Kind::Check,
    Kind::Provision,
    Kind::Overwrite,
];

/// A file system on a loop device, which needs root; gone when dropped.
struct FileSystem {
    path: PathBuf,
    device: PathBuf,
    options: &'static str,
    _directory: tempfile::TempDir,
}

impl FileSystem {
    /// None where it cannot be made: there is nothing to test then.
    fn make(command: &str, options: &'static str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let (device, path) = (directory.path().join("device"), directory.path().join("mounted"));
        std::fs::create_dir(&path).unwrap();
        File::create(&device).unwrap().set_len(512 * MIB).unwrap();
        let mut words = command.split(' ');
        let made = Command::new(words.next().unwrap()).args(words).arg(&device).output();
        let made = made.is_ok_and(|output| output.status.success());
        let made = Self { path, device, options, _directory: directory }.mount(made);
        if made.is_none() {
            println!("left out: {command}, mounted, is not possible here");
        }
        made
    }

    fn mount(self, made: bool) -> Option<Self> {
        let mut mount = Command::new("mount");
        let mount = mount.args(["-o", self.options]).arg(&self.device).arg(&self.path);
        (made && mount.output().is_ok_and(|output| output.status.success())).then_some(self)
    }

    fn mount_again(&self) {
        run("umount", &[&self.path]);
        run(&format!("mount -o {}", self.options), &[&self.device, &self.path]);
    }

    /// Has ext4 find something wrong.
    fn trigger_error(&self) {
        let found = Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(&self.path).output();
        let device = String::from_utf8(found.unwrap().stdout).unwrap();
        let name = device.trim().strip_prefix("/dev/").unwrap();
        std::fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "a test").unwrap();
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).output();
    }
}

struct Bench {
    disk: FileSystem,
    data: tempfile::TempDir,
}

fn run(command: &str, arguments: &[&Path]) {
    let mut words = command.split(' ');
    let mut command = Command::new(words.next().unwrap());
    let output = command.args(words).args(arguments).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Bench {
    fn new(trouble: Trouble) -> Option<Self> {
        let disk = match trouble {
            Trouble::ReadOnly => FileSystem::make("mkfs.ext4 -q -F", "loop,errors=remount-ro"),
            // Without space that XFS takes beforehand.
            Trouble::Full | Trouble::Gone | Trouble::Immutable | Trouble::ShutDown => {
                FileSystem::make("mkfs.xfs -q -m reflink=1", "loop,allocsize=64k")
            }
        };
        let bench = Self { disk: disk?, data: tempfile::tempdir().unwrap() };
        for path in [bench.pool(), bench.files()] {
            std::fs::create_dir(path).unwrap();
        }
        std::fs::write(bench.data.path().join("image"), pattern()).unwrap();
        Some(bench)
    }

    fn pool(&self) -> PathBuf {
        self.disk.path.as_path().join("pool")
    }

    fn files(&self) -> PathBuf {
        self.disk.path.as_path().join("files")
    }

    /// The database is elsewhere.
    fn open(&self) -> Arc<Engine> {
        let mut config = EngineConfig::new(self.data.path().join("data"));
        config.allowed_directories = vec![self.files(), self.data.path().to_path_buf()];
        let limits = PoolLimits::default();
        config.pools = vec![PoolSettings { id: pool_id(), directory: self.pool(), limits }];
        Engine::open(config).unwrap()
    }

    fn strike(&self, trouble: Trouble) {
        let root = self.disk.path.as_path();
        match trouble {
            Trouble::Full => {
                // At once, before the job is done, and to the last block.
                let filler = File::create(root.join("filler")).unwrap();
                let (mut end, mut piece) = (0, 1 << 30);
                while piece >= BLOCK {
                    match fallocate(&filler, FallocateFlags::empty(), end, piece) {
                        Ok(()) => end += piece,
                        Err(_) => piece /= 2,
                    }
                }
            }
            Trouble::ReadOnly => self.disk.trigger_error(),
            Trouble::Gone => std::fs::rename(self.pool(), root.join("aside")).unwrap(),
            Trouble::Immutable => run("chattr +i", &[&self.pool(), &self.files()]),
            Trouble::ShutDown => run("xfs_io -x -c shutdown", &[root]),
        }
    }

    fn heal(&self, trouble: Trouble) {
        let root = self.disk.path.as_path();
        match trouble {
            Trouble::Full => std::fs::remove_file(root.join("filler")).unwrap(),
            Trouble::Gone => std::fs::rename(root.join("aside"), self.pool()).unwrap(),
            Trouble::Immutable => run("chattr -i", &[&self.pool(), &self.files()]),
            Trouble::ReadOnly | Trouble::ShutDown => self.disk.mount_again(),
        }
    }
}

fn pool_id() -> PoolId {
    PoolId("p".to_owned())
}

/// Made once: without optimization that takes a while.
fn pattern() -> &'static [u8] {
    static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
        (0..SIZE / 8).flat_map(|number| (number | 1 << 63).to_le_bytes()).collect()
    });
    &PATTERN
}

fn done(engine: &Engine, id: Result<JobId, RequestError>) -> Job {
    let job = engine.wait(&id.unwrap(), PATIENCE).unwrap();
    assert_eq!(job.state, JobState::Completed, "{job:?}");
    job
}

/// A disk in the pool that is full of data.
fn filled(engine: &Engine, name: &str) -> Disk {
    let request = CreateDisk { pool: Some(pool_id()), ..CreateDisk::new(name, SIZE) };
    let job = done(engine, engine.create_disk(request));
    let disk = engine.disk(&job.kind.disk()).unwrap();
    let file = File::options().write(true).open(&disk.path).unwrap();
    file.write_all_at(pattern(), 0).unwrap();
    file.sync_all().unwrap();
    disk
}

fn clone_of(disk: &Disk, name: &str) -> CloneDisk {
    // A thin one would share its blocks, in no time.
    let provisioning = Some(Provisioning::Full);
    CloneDisk { source: disk.id, name: name.to_owned(), provisioning, format: None, pool: None }
}

fn start(bench: &Bench, engine: &Engine, kind: Kind, disk: &Disk) -> JobId {
    let slowly = Submission { bandwidth: Some(BANDWIDTH), ..Submission::default() };
    let started = match kind {
        Kind::Clone => engine.clone_disk(clone_of(disk, "made"), slowly),
        Kind::Import => {
            let request = ImportDisk {
                path: bench.data.path().join("image"),
                name: "made".to_owned(),
                in_place: false,
                block_length: BlockLength::B512,
                provisioning: Provisioning::Thin,
                verify: true,
                format: None,
                to_format: Some(ImageFormat::Qcow2),
                pool: Some(pool_id()),
            };
            engine.import_disk(request, slowly)
        }
        Kind::Export => {
            let path = bench.files().join("made.qcow2");
            engine.export_disk(disk.id, path, ImageFormat::Qcow2, slowly)
        }
        Kind::Convert => engine.convert_disk(disk.id, ImageFormat::Vhdx, None, slowly),
        Kind::Move => {
            let target = TargetRequest { name: "t".to_owned(), ..TargetRequest::default() };
            let target = engine.create_target(target).unwrap().name;
            engine.map(MapRequest { disk: disk.id, target, lun: None }).unwrap();
            let format = Some(ImageFormat::Qcow2);
            let (pool, provisioning) = (Some(pool_id()), None);
            engine.move_disk(MoveDisk { disk: disk.id, pool, format, provisioning }, slowly)
        }
        Kind::Check => engine.check_disk(disk.id, false, slowly),
        Kind::Provision => engine.provision_disk(disk.id, Provisioning::Full, slowly),
        Kind::Overwrite => engine.overwrite_disk(disk.id, slowly),
    };
    started.unwrap()
}

/// Waits until it is at work.
fn midst(engine: &Engine, id: JobId) {
    let begin = Instant::now();
    loop {
        let job = engine.job(&id).unwrap();
        if job.state.is_terminal() || job.percent_complete >= 10 {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{job:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Errors that say what has happened, and whether it must have ended the job.
fn expected(trouble: Trouble, kind: Kind) -> (&'static [&'static str], bool) {
    let copies = matches!(kind, Kind::Clone | Kind::Import | Kind::Export | Kind::Convert);
    let writes_files = copies || kind == Kind::Move;
    match trouble {
        // Space that was taken beforehand is there.
        Trouble::Full => {
            (&["ISCT-STG-001"], matches!(kind, Kind::Import | Kind::Export | Kind::Move))
        }
        // Writes or a flush may be the first that meet it.
        Trouble::ReadOnly => {
            (&["ISCT-STG-009", "ISCT-STG-011"], writes_files || kind == Kind::Overwrite)
        }
        // What is open goes on; names are missing. Exported files lie elsewhere.
        Trouble::Gone => {
            let moves = matches!(kind, Kind::Convert | Kind::Move);
            let names = moves || matches!(kind, Kind::Clone | Kind::Import);
            (&["ISCT-STG-004", "ISCT-STG-016"], names)
        }
        Trouble::Immutable => (&["ISCT-STG-009"], writes_files || kind == Kind::Overwrite),
        Trouble::ShutDown => {
            // An import from elsewhere is read, its copy is not written.
            (&["ISCT-STG-003", "ISCT-STG-011"], kind != Kind::Provision)
        }
    }
}

fn read(disk: &Disk) -> Vec<u8> {
    let options = disk_image::OpenOptions::read_only();
    let image = disk_image::open_image(disk.path.as_path(), disk.format, &options).unwrap();
    let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
    let mut all = [std::io::IoSliceMut::new(&mut bytes)];
    image.read(&mut all, 0, disk_image::Wait::Block).unwrap();
    bytes
}

fn names(directory: &Path) -> Vec<String> {
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    names.filter(|name| !name.starts_with('.')).collect()
}

fn met(bench: &Bench, trouble: Trouble, kind: Kind) {
    let engine = bench.open();
    let (disk, other) = (filled(&engine, "disk"), filled(&engine, "other"));
    let id = start(bench, &engine, kind, &disk);
    midst(&engine, id);
    bench.strike(trouble);
    let job = engine.wait(&id, PATIENCE).unwrap();
    let (wanted, must) = expected(trouble, kind);
    if job.state == JobState::Completed {
        assert!(!must, "{trouble:?} {kind:?}: {job:?}");
    } else {
        assert_eq!(job.state, JobState::Exception, "{trouble:?} {kind:?}: {job:?}");
        let id = job.errors[0].message_id.as_str();
        assert!(wanted.contains(&id), "{trouble:?} {kind:?}: {job:?}");
    }
    // The daemon goes on, elsewhere at once.
    done(&engine, engine.create_disk(CreateDisk::new("elsewhere", MIB)));
    engine.shutdown();
    drop(engine);
    bench.heal(trouble);
    // What could not be removed is removed by the next start.
    let engine = bench.open();
    let deadline = Instant::now() + PATIENCE;
    let mut wanted: Vec<String> = Vec::new();
    while Instant::now() < deadline {
        wanted = engine
            .disks()
            .iter()
            .filter(|disk| disk.pool == pool_id())
            .map(|disk| disk.path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        let mut found = names(&bench.pool());
        found.sort();
        wanted.sort();
        let partial = |name: &String| name.ends_with("partial");
        if found == wanted && !names(&bench.files()).iter().any(partial) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut found = names(&bench.pool());
    found.sort();
    assert_eq!(found, wanted, "{trouble:?} {kind:?}: nothing else is left");
    assert!(names(&bench.files()).iter().all(|name| !name.ends_with("partial")));
    let whole = |disk: &Disk| assert!(read(disk) == pattern(), "{trouble:?} {kind:?}: {disk:?}");
    for disk in engine.disks().iter().filter(|disk| disk.pool == pool_id()) {
        whole(disk);
    }
    if kind != Kind::Overwrite {
        assert!(engine.disk(&disk.id).is_some());
    }
    done(&engine, engine.clone_disk(clone_of(&other, "again"), Submission::default()));
    for mapping in engine.mappings() {
        engine.unmap(&mapping.target, mapping.lun).unwrap();
        engine.delete_target(&mapping.target).unwrap();
    }
    for disk in engine.disks() {
        done(&engine, engine.delete_disk(disk.id));
    }
    engine.shutdown();
    for name in names(&bench.files()) {
        std::fs::remove_file(bench.files().join(name)).unwrap();
    }
}

fn all(trouble: Trouble) {
    let Some(bench) = Bench::new(trouble) else { return };
    for kind in KINDS {
        met(&bench, trouble, kind);
    }
    at_once(&bench, trouble);
}

/// Jobs that have no midst: they begin when it has happened already.
fn at_once(bench: &Bench, trouble: Trouble) {
    let engine = bench.open();
    let disk = filled(&engine, "disk");
    let name = "s".to_owned();
    let request = CreateSnapshots { disks: vec![disk.id], name };
    // ext4 has none.
    let taken = engine.create_snapshots(request, Submission::default()).unwrap();
    engine.wait(&taken, PATIENCE).unwrap();
    let snapshots = engine.snapshots();
    bench.strike(trouble);
    let create = CreateDisk {
        pool: Some(pool_id()),
        provisioning: Provisioning::Full,
        ..CreateDisk::new("made", SIZE)
    };
    let mut ends = vec![engine.create_disk(create), engine.expand_disk(disk.id, 2 * SIZE)];
    for snapshot in snapshots {
        let (id, name) = (snapshot.id, "shown".to_owned());
        ends.push(engine.roll_back(id, Submission::default()));
        ends.push(engine.expose_snapshot(id, name, Exposing::default(), Submission::default()));
    }
    let ids = ["001", "003", "004", "009", "011", "013", "016"];
    for id in ends {
        // The claims of one keep the others away.
        let Ok(id) = id else { continue };
        let job = engine.wait(&id, PATIENCE).unwrap();
        if job.state == JobState::Exception {
            let id = job.errors[0].message_id.strip_prefix("ISCT-STG-").unwrap();
            assert!(ids.contains(&id), "{trouble:?}: {job:?}");
        } else {
            assert_eq!(job.state, JobState::Completed, "{trouble:?}: {job:?}");
        }
    }
    engine.shutdown();
    drop(engine);
    bench.heal(trouble);
    let engine = bench.open();
    let disk = engine.disk(&disk.id).unwrap();
    assert!(read(&disk) == pattern());
    done(&engine, engine.check_disk(disk.id, false, Submission::default()));
}

#[test]
fn a_full_file_system() {
    all(Trouble::Full);
}

#[test]
fn a_file_system_that_becomes_read_only() {
    all(Trouble::ReadOnly);
}

#[test]
fn a_directory_that_is_gone() {
    all(Trouble::Gone);
}

#[test]
fn permissions_that_change() {
    all(Trouble::Immutable);
}

#[test]
fn a_device_that_fails() {
    all(Trouble::ShutDown);
}
