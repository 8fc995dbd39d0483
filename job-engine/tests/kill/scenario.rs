//! What the child does: it passes every step, and writes down what it was promised.

use std::fs::File;
use std::io::{IoSlice, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use disk_image::{
    CreateOptions, Durability, Image as _, ImageErrorKind, ImageFormat, OpenOptions, Operation,
    Parent, Preallocation, RawImage, create_image, open_image, partial_path,
};
use jiff::Timestamp;
use job_engine::{
    ChangeKind, Checks, CloneDisk, Configuration, CreateDisk, CreateSnapshots, Disk, Engine,
    EngineConfig, Expose, ExposeTo, Exposing, FaultReport, ImportDisk, Job, JobId, JobKind,
    JobSettings, JobState, KillJobResult, MapRequest, OperationControl, OperationError,
    OperationRequest, OperationRunner, Provisioning, RequestError, RequestStateChangeResult,
    RequestedState, Submission, TargetRequest, WantedTarget,
};

use crate::PATIENCE;

const MIB: u64 = 1 << 20;

/// Promises, one per line, as [`crate::check`] reads them. A kill takes nothing from the file:
/// what was written is the kernel's.
pub(crate) struct Promises(File);

impl Promises {
    fn open(directory: &Path) -> Self {
        let path = directory.join("promises");
        Self(File::options().create(true).append(true).open(path).unwrap())
    }

    fn write(&mut self, line: &str) {
        self.0.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// It exists.
    fn there(&mut self, what: &str) {
        self.write(&format!("there {what}"));
    }

    /// It may vanish from now on.
    fn open_end(&mut self, what: &str) {
        self.write(&format!("open {what}"));
    }

    /// It is gone.
    fn gone(&mut self, what: &str) {
        self.write(&format!("gone {what}"));
    }

    /// The job has ended like this, and will never be otherwise.
    fn ended(&mut self, job: &Job) {
        assert!(job.state.is_terminal(), "{job:?}");
        self.write(&format!("ended {} {}", job.id, job.state.name()));
    }
}

pub(crate) fn config(directory: &Path) -> EngineConfig {
    let mut config = EngineConfig::new(directory.join("data"));
    config.allowed_directories = vec![directory.join("files")];
    config
}

/// Targets of one configuration.
pub(crate) const PAIR: [&str; 2] = ["iqn.2026-01.io.lund:one", "iqn.2026-01.io.lund:two"];

/// What the operation of the scenario writes.
pub(crate) const FILL: u8 = 0x5a;

/// Fills a disk, 1 MiB at a time.
struct Filler;

impl OperationRunner for Filler {
    fn run(
        &self,
        disk: &Disk,
        operation: &[u8],
        from: u64,
        control: &dyn OperationControl,
    ) -> Result<(), OperationError> {
        let image = RawImage::open(disk.path.as_path(), OpenOptions::default())?;
        let piece = vec![operation[0]; 1 << 20];
        let mut at = from;
        while at < disk.size_bytes {
            control.progress(at, disk.size_bytes)?;
            image.write(&[IoSlice::new(&piece)], at, Durability::Durable)?;
            at += MIB;
            control.reached(at)?;
        }
        Ok(())
    }
}

/// An engine that can carry out operations.
pub(crate) fn open(directory: &Path) -> Arc<Engine> {
    let engine = Engine::open(config(directory)).unwrap();
    engine.set_operation_runner(Arc::new(Filler));
    engine
}

/// What a disk has in a place of its own when its snapshot is taken.
pub(crate) const SNAPSHOT: u8 = 0xa0;

/// What the disks have in their first MiB that become smaller.
pub(crate) const CUT: u8 = 0xd1;

/// What an image that is imported has over its parents, from its second MiB on.
pub(crate) const CHILD: u8 = 0xe1;

/// What the disk has in its second MiB that is brought into other files.
pub(crate) const MOVED: u8 = 0xc1;

/// What is written to the disk whose images are laid over each other.
pub(crate) const LAYERS: [u8; 3] = [0xb1, 0xb2, 0xb3];

/// The test runs where files share blocks.
fn shares_blocks(directory: &Path) -> bool {
    let named = |name: &str| {
        let path = directory.join(name);
        std::fs::write(&path, [1; 4096]).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        disk_image::NamedFile { file: file.into(), path: path.as_path().into() }
    };
    let shares = disk_image::reflink(&named("probe"), &named("probe2")).is_ok();
    for name in ["probe", "probe2"] {
        std::fs::remove_file(directory.join(name)).unwrap();
    }
    shares
}

/// An image that is laid over a file, and another one over that.
fn chain(base: &Path) -> PathBuf {
    let (middle, top) = (base.with_file_name("middle.qcow2"), base.with_file_name("top.qcow2"));
    for (path, parent, format) in
        [(&middle, base, ImageFormat::Raw), (&top, &*middle, ImageFormat::Qcow2)]
    {
        let parent = Some(Parent { path: parent.file_name().unwrap().into(), format });
        let options =
            CreateOptions { parent, ..CreateOptions::new(2 * MIB, Preallocation::Sparse) };
        let mut creator = create_image(path.as_path(), ImageFormat::Qcow2, options).unwrap();
        while !creator.step(MIB).unwrap().is_complete() {}
        creator.finish().unwrap();
    }
    let image = open_image(middle.as_path(), ImageFormat::Qcow2, &OpenOptions::default()).unwrap();
    image.write(&[IoSlice::new(&[CHILD; 4096])], MIB, Durability::Durable).unwrap();
    image.close().unwrap();
    top
}

struct Child {
    engine: Arc<Engine>,
    promises: Promises,
}

pub(crate) fn run(directory: &Path) {
    let engine = open(directory);
    let mut child = Child { engine, promises: Promises::open(directory) };
    std::fs::create_dir_all(directory.join("files")).unwrap();
    let disk = child.disks();
    if shares_blocks(directory) {
        child.snapshots(&disk);
        child.crowded();
    }
    child.layers();
    child.moves();
    child.cuts();
    child.copies(&disk, &directory.join("files/exported.raw"));
    child.transitions();
    child.failures();
    child.exposure(&disk);
    child.configuration(&disk);
    child.fault(&disk);
    let rest = child.debris();
    child.engine.shutdown();
    drop(child);
    std::fs::remove_dir(rest).unwrap();
    // At the next start it can be swept up; the end waits for that.
    open(directory).shutdown();
}

impl Child {
    fn submit(&mut self, request: CreateDisk, waits: bool) -> (JobId, Disk) {
        let later = Timestamp::now() + Duration::from_secs(1_000_000);
        let scheduled_start_time = waits.then_some(later);
        let submission = Submission { scheduled_start_time, ..Submission::default() };
        let id = self.engine.create_disk_with(request, submission).unwrap();
        self.promises.there(&format!("job {id}"));
        let JobKind::CreateDisk { disk, .. } = self.engine.job(&id).unwrap().kind else {
            panic!("{id} makes a disk");
        };
        (id, *disk)
    }

    fn waiting(&mut self, name: &str) -> (JobId, Disk) {
        self.submit(CreateDisk::new(name, MIB), true)
    }

    fn delete(&mut self, disk: &Disk) -> JobId {
        let id = self.engine.delete_disk(disk.id).unwrap();
        self.promises.there(&format!("job {id}"));
        id
    }

    fn expand(&mut self, disk: &Disk, size_bytes: u64) -> JobId {
        let id = self.engine.expand_disk(disk.id, size_bytes).unwrap();
        self.promises.there(&format!("job {id}"));
        id
    }

    fn end(&mut self, id: JobId, wanted: JobState) -> Job {
        let job = self.engine.wait(&id, PATIENCE).unwrap();
        assert_eq!(job.state, wanted, "{job:?}");
        self.promises.ended(&job);
        job
    }

    fn ask(&self, id: JobId, state: RequestedState) -> RequestStateChangeResult {
        self.engine.request_state_change(&id, state, None, "a test")
    }

    /// Thin and full disks come and go; one stays.
    fn disks(&mut self) -> Disk {
        let (thin, thin_disk) = self.submit(CreateDisk::new("thin", MIB), false);
        self.end(thin, JobState::Completed);
        let full =
            CreateDisk { provisioning: Provisioning::Full, ..CreateDisk::new("full", 3 * MIB) };
        let (full, full_disk) = self.submit(full, false);
        self.end(full, JobState::Completed);
        for disk in [&thin_disk, &full_disk] {
            let id = self.delete(disk);
            self.end(id, JobState::Completed);
        }
        let (kept, disk) = self.submit(CreateDisk::new("kept", MIB), false);
        self.end(kept, JobState::Completed);
        let id = self.expand(&disk, 3 * MIB);
        self.end(id, JobState::Completed);
        let (filled, filled_disk) = self.submit(CreateDisk::new("filled", 3 * MIB), false);
        self.end(filled, JobState::Completed);
        let request = OperationRequest {
            word: "fill-disk".to_owned(),
            verb: "Fill".to_owned(),
            owner: String::new(),
            operation: vec![FILL],
            condition: Some((b"being filled".to_vec(), b"half filled".to_vec())),
        };
        let id = self.engine.begin_operation(filled_disk.id, request).unwrap();
        self.promises.there(&format!("job {id}"));
        self.end(id, JobState::Completed);
        disk
    }

    fn planned(&mut self, id: Result<JobId, RequestError>) -> JobId {
        let id = id.unwrap();
        self.promises.there(&format!("job {id}"));
        id
    }

    /// Disks and files are copied, a disk becomes smaller, one is overwritten.
    fn copies(&mut self, disk: &Disk, file: &Path) {
        let later = Submission::default;
        let written = File::options().write(true).open(&disk.path).unwrap();
        written.write_all_at(&[7; 300_000], 0).unwrap();
        let request = |name: &str| CloneDisk {
            source: disk.id,
            name: name.to_owned(),
            provisioning: Some(Provisioning::Full),
            format: None,
            pool: None,
        };
        let id = self.engine.clone_disk(request("cloned"), later());
        let id = self.planned(id);
        let job = self.end(id, JobState::Completed);
        let cloned = self.engine.disk(&job.kind.disk()).unwrap();
        let id = self.engine.shrink_disk(disk.id, 2 * MIB, later());
        let id = self.planned(id);
        self.end(id, JobState::Completed);
        let id = self.engine.export_disk(disk.id, file.to_path_buf(), ImageFormat::Raw, later());
        let id = self.planned(id);
        self.end(id, JobState::Completed);
        let import = ImportDisk {
            path: file.to_path_buf(),
            name: "imported".to_owned(),
            in_place: false,
            block_length: job_engine::BlockLength::B512,
            provisioning: Provisioning::Thin,
            verify: true,
            format: None,
            to_format: None,
            pool: None,
        };
        let chain = ImportDisk {
            path: chain(file),
            name: "flattened".to_owned(),
            to_format: Some(ImageFormat::Vhdx),
            ..import.clone()
        };
        for import in [import, chain] {
            let id = self.engine.import_disk(import, later());
            let id = self.planned(id);
            self.end(id, JobState::Completed);
        }
        for space in [Provisioning::Thin, Provisioning::Full] {
            let id = self.engine.provision_disk(cloned.id, space, later());
            let id = self.planned(id);
            self.end(id, JobState::Completed);
        }
        let id = self.engine.convert_disk(cloned.id, ImageFormat::Vhdx, None, later());
        let id = self.planned(id);
        self.end(id, JobState::Completed);
        let checks = Checks { checksums: true, ..Checks::default() };
        let id = self.engine.check_disk_with(cloned.id, checks, later());
        let id = self.planned(id);
        self.end(id, JobState::Completed);
        let id = self.engine.overwrite_disk(cloned.id, later());
        let id = self.planned(id);
        self.end(id, JobState::Completed);
    }

    /// Disks of each format with tables become smaller.
    fn cuts(&mut self) {
        for format in [ImageFormat::Vhd, ImageFormat::Vhdx, ImageFormat::Qcow2] {
            let request = CreateDisk { format, ..CreateDisk::new("cut", 3 * MIB) };
            let (made, disk) = self.submit(request, false);
            self.end(made, JobState::Completed);
            self.fill(&disk, 0, CUT);
            // What goes has had data.
            self.fill(&disk, 2, CUT);
            self.unmap(&disk, 2);
            let id = self.engine.shrink_disk(disk.id, 2 * MIB, Submission::default());
            let id = self.planned(id);
            self.end(id, JobState::Completed);
            let id = self.delete(&disk);
            self.end(id, JobState::Completed);
        }
    }

    /// Snapshots of a disk are taken, and it gets back what it had.
    fn snapshots(&mut self, disk: &Disk) {
        let write = |byte| {
            let file = File::options().write(true).open(&disk.path).unwrap();
            file.write_all_at(&[byte; 4096], 1 << 20).unwrap();
        };
        write(SNAPSHOT);
        let request = CreateSnapshots { disks: vec![disk.id], name: "s".to_owned() };
        let id = self.engine.create_snapshots(request, Submission::default());
        let id = self.planned(id);
        self.end(id, JobState::Completed);
        let snapshot = self.engine.snapshots()[0].clone();
        write(SNAPSHOT + 1);
        let id = self.engine.roll_back(snapshot.id, Submission::default());
        let id = self.planned(id);
        self.end(id, JobState::Completed);
        let id = self.engine.delete_snapshot(snapshot.id, Submission::default());
        let id = self.planned(id);
        self.end(id, JobState::Completed);
        write(0);
    }

    /// A snapshot of a disk in use that nobody is to wait for.
    fn crowded(&mut self) {
        let (made, disk) = self.submit(CreateDisk::new("crowded", 12 * MIB), false);
        self.end(made, JobState::Completed);
        let file = File::options().write(true).open(&disk.path).unwrap();
        for piece in 0..1100 {
            file.write_all_at(&[1; 4096], piece << 13).unwrap();
        }
        file.sync_all().unwrap();
        let target = TargetRequest { name: "crowded".to_owned(), ..TargetRequest::default() };
        let target = self.engine.create_target(target).unwrap().name;
        self.engine.map(MapRequest { disk: disk.id, target: target.clone(), lun: None }).unwrap();
        let snapshot = self.take(&disk, "crowded");
        assert!(self.engine.disk(&disk.id).unwrap().parent == Some(snapshot));
        self.engine.unmap(&target, 0).unwrap();
        self.engine.delete_target(&target).unwrap();
        let id = self.engine.delete_snapshot(snapshot, Submission::default());
        let id = self.planned(id);
        self.end(id, JobState::Completed);
    }

    /// Snapshots of a disk over which others are laid come and go, and it is rolled back; then it goes
    /// itself.
    fn layers(&mut self) {
        let (made, disk) = self.submit(CreateDisk::new("layered", 3 * MIB), false);
        self.end(made, JobState::Completed);
        let [first, second, third] = LAYERS;
        self.fill(&disk, 0, first);
        let one = self.take(&disk, "one");
        self.fill(&disk, 1, second);
        let two = self.take(&disk, "two");
        self.fill(&disk, 2, third);
        let id = self.engine.roll_back(one, Submission::default());
        let id = self.planned(id);
        self.end(id, JobState::Completed);
        self.fill(&disk, 1, third);
        let three = self.take(&disk, "three");
        self.map_snapshot(two);
        self.fill(&disk, 2, second);
        // The last of a branch; one that another snapshot is laid over; one that the disk is.
        for snapshot in [two, one, three] {
            if snapshot == three {
                // What it is laid over is larger than it then.
                self.unmap(&disk, 2);
                let id = self.engine.shrink_disk(disk.id, 2 * MIB, Submission::default());
                let id = self.planned(id);
                self.end(id, JobState::Completed);
            }
            let id = self.engine.delete_snapshot(snapshot, Submission::default());
            let id = self.planned(id);
            self.end(id, JobState::Completed);
        }
        let id = self.delete(&disk);
        self.end(id, JobState::Completed);
    }

    /// A snapshot is exposed as a LUN, and hidden again.
    fn map_snapshot(&mut self, snapshot: job_engine::SnapshotId) {
        let target = TargetRequest { name: "exposed".to_owned(), ..TargetRequest::default() };
        let target = self.engine.create_target(target).unwrap().name;
        let (units, initiators, to) = (Vec::new(), Vec::new(), ExposeTo::Everybody);
        let to = Expose { target: target.clone(), create: None, units, initiators, to };
        let how = (Exposing { linked: true, ..Exposing::default() }, (to, Some(3)));
        let name = "exposed".to_owned();
        let id =
            self.engine.expose_snapshot_to(snapshot, name, how.0, how.1, Submission::default());
        let id = self.planned(id);
        let job = self.end(id, JobState::Completed);
        let disk = self.engine.disk(&job.kind.disk()).unwrap();
        let mappings = self.engine.mappings();
        assert!(mappings.iter().any(|it| it.disk == disk.id && it.lun == 3), "{mappings:?}");
        self.engine.unmap(&target, 3).unwrap();
        self.engine.delete_target(&target).unwrap();
        let id = self.delete(&disk);
        self.end(id, JobState::Completed);
    }

    /// A disk that is a LUN gets another format, and gives back what it does not need.
    fn moves(&mut self) {
        let (made, disk) = self.submit(CreateDisk::new("moving", 3 * MIB), false);
        self.end(made, JobState::Completed);
        self.fill(&disk, 1, MOVED);
        let target = TargetRequest { name: "moving".to_owned(), ..TargetRequest::default() };
        let target = self.engine.create_target(target).unwrap().name;
        self.engine.map(MapRequest { disk: disk.id, target: target.clone(), lun: None }).unwrap();
        let id = self.engine.convert_disk(disk.id, ImageFormat::Vhdx, None, Submission::default());
        let id = self.planned(id);
        self.end(id, JobState::Completed);
        let id = self.engine.compact_disk(disk.id, Submission::default());
        let id = self.planned(id);
        self.end(id, JobState::Completed);
        let id = self.engine.shrink_disk(disk.id, 2 * MIB, Submission::default());
        let id = self.planned(id);
        self.end(id, JobState::Completed);
        self.engine.unmap(&target, 0).unwrap();
        self.engine.delete_target(&target).unwrap();
    }

    /// A MiB of a disk, as the data path writes it.
    fn fill(&self, disk: &Disk, mib: u64, byte: u8) {
        let disk = self.engine.disk(&disk.id).unwrap();
        let options = OpenOptions::default();
        let image = open_image(disk.path, disk.format, &options).unwrap();
        image.write(&[IoSlice::new(&[byte; 1 << 20])], mib << 20, Durability::Durable).unwrap();
        image.close().unwrap();
    }

    fn unmap(&self, disk: &Disk, mib: u64) {
        let disk = self.engine.disk(&disk.id).unwrap();
        let options = OpenOptions::default();
        let image = open_image(disk.path, disk.format, &options).unwrap();
        image.unmap(mib << 20, 1 << 20).unwrap();
        image.close().unwrap();
    }

    fn take(&mut self, disk: &Disk, name: &str) -> job_engine::SnapshotId {
        let request = CreateSnapshots { disks: vec![disk.id], name: name.to_owned() };
        let id = self.engine.create_snapshots(request, Submission::default());
        let id = self.planned(id);
        self.end(id, JobState::Completed);
        let mut snapshots = self.engine.snapshots().into_iter();
        snapshots.find(|it| it.disk == disk.id && it.name == name).unwrap().id
    }

    fn transitions(&mut self) {
        let (id, _) = self.waiting("suspended");
        assert_eq!(self.ask(id, RequestedState::Suspend), RequestStateChangeResult::Completed);
        assert_eq!(self.ask(id, RequestedState::Start), RequestStateChangeResult::Started);
        let job = self.end(id, JobState::Completed);
        let (id, _) = self.waiting("terminated while new");
        let settings = JobSettings { priority: Some(7), ..JobSettings::default() };
        self.engine.modify_job(&id, settings).unwrap();
        assert_eq!(self.ask(id, RequestedState::Terminate), RequestStateChangeResult::Completed);
        self.end(id, JobState::Terminated);
        self.promises.open_end(&format!("job {id}"));
        self.engine.delete_job(&id).unwrap();
        self.promises.gone(&format!("job {id}"));
        let (id, _) = self.waiting("terminated while suspended");
        self.ask(id, RequestedState::Suspend);
        assert_eq!(self.ask(id, RequestedState::Terminate), RequestStateChangeResult::Started);
        self.end(id, JobState::Terminated);
        let (id, _) = self.waiting("killed");
        assert_eq!(self.engine.kill(&id, false, "a test"), KillJobResult::Success);
        self.end(id, JobState::Killed);
        // A deletion has to wait as long as somebody has the image.
        let disk = self.engine.disk(&job.kind.disk()).unwrap();
        let image = RawImage::open(disk.path.as_path(), OpenOptions::default()).unwrap();
        let id = self.delete(&disk);
        assert_eq!(self.engine.kill(&id, false, "a test"), KillJobResult::Success);
        self.end(id, JobState::Killed);
        drop(image);
    }

    fn failures(&mut self) {
        let large =
            CreateDisk { provisioning: Provisioning::Full, ..CreateDisk::new("large", 1 << 60) };
        let (id, _) = self.submit(large, false);
        self.end(id, JobState::Exception);
        // With a file that has to be removed on the way back.
        let (id, disk) = self.waiting("locked");
        let partial = File::create(partial_path(&disk.path)).unwrap();
        partial.lock().unwrap();
        self.ask(id, RequestedState::Start);
        self.end(id, JobState::Exception);
        assert!(!partial_path(&disk.path).exists());
    }

    fn exposure(&mut self, disk: &Disk) {
        let request = TargetRequest { name: "t".to_owned(), ..TargetRequest::default() };
        for _ in 0..2 {
            let target = self.engine.create_target(request.clone()).unwrap().name;
            self.promises.there(&format!("target {target}"));
            let map = MapRequest { disk: disk.id, target: target.clone(), lun: Some(1) };
            self.engine.map(map).unwrap();
            self.promises.there(&format!("mapping {target}"));
            self.promises.open_end(&format!("mapping {target}"));
            self.engine.unmap(&target, 1).unwrap();
            self.promises.gone(&format!("mapping {target}"));
            self.promises.open_end(&format!("target {target}"));
            self.engine.delete_target(&target).unwrap();
            self.promises.gone(&format!("target {target}"));
            self.promises.open_end(&format!("target {target}"));
            self.promises.open_end(&format!("mapping {target}"));
        }
    }

    /// Two targets come together, and go together.
    fn configuration(&mut self, disk: &Disk) {
        let pair = PAIR.map(|name| WantedTarget {
            name: name.to_owned(),
            luns: vec![(0, disk.id)],
            ..WantedTarget::default()
        });
        for wanted in [pair.to_vec(), Vec::new()] {
            let there = !wanted.is_empty();
            let targets = Some(wanted);
            PAIR.iter().for_each(|name| self.promises.open_end(&format!("mapping {name}")));
            self.engine.configure(None, Configuration { targets, ..Default::default() }).unwrap();
            for name in PAIR {
                let what = format!("mapping {name}");
                if there { self.promises.there(&what) } else { self.promises.gone(&what) }
            }
        }
    }

    fn fault(&mut self, disk: &Disk) {
        let (sender, told) = channel();
        let tell = move |event: &job_engine::ChangeEvent| {
            if let ChangeKind::JobCreated(job) = &event.change {
                let _ = sender.send(job.id);
            }
        };
        self.engine.subscribe(Box::new(tell)).unwrap();
        self.engine.record_fault(FaultReport {
            disk: disk.id,
            target: "iqn.2026-01.io.lund:t".to_owned(),
            lun: 1,
            lba: Some(8),
            opcode: 0x28,
            initiator: "iqn.2026-01.io.lund:host".to_owned(),
            kind: ImageErrorKind::Io,
            operation: Operation::Read,
            errno: Some(5),
            path: disk.path.clone(),
            text: "input/output error".to_owned(),
        });
        let id = told.recv_timeout(PATIENCE).unwrap();
        self.promises.there(&format!("job {id}"));
        self.end(id, JobState::Exception);
    }

    /// A creation that can be undone only when the directory is gone that is returned.
    fn debris(&mut self) -> PathBuf {
        let (id, disk) = self.waiting("debris");
        let partial = partial_path(&disk.path);
        std::fs::create_dir(&partial).unwrap();
        self.ask(id, RequestedState::Start);
        let job = self.end(id, JobState::Exception);
        assert_eq!(job.errors.len(), 2, "{job:?}");
        partial
    }
}
