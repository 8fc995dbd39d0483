//! A block device is taken in place, grows below images that lie over it, and is given back; the process dies on
//! the way. Its data are untouched, but for what was merged into it.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Write as _};
use std::path::{Path, PathBuf};

use disk_image::{Durability, OpenOptions, Wait, open_image};
use jiff::Timestamp;
use job_engine::{
    BlockLength, CreateSnapshots, Disk, Engine, ImportDisk, JobId, JobKind, JobState, Provisioning,
    Purpose, RequestedState, Submission,
};

use crate::loop_device::{LoopDevice, set_length};
use crate::{DIRECTORY, PATIENCE, check, scenario};

const MIB: usize = 1 << 20;
/// Bytes of the device when it is taken in, and those that it and then the disk have later.
const SIZES: [usize; 3] = [2 * MIB, 4 * MIB, 3 * MIB];
const SIZE: usize = SIZES[0];
const LATER: usize = SIZES[1];
const GROWN: usize = SIZES[2];
/// What it has behind the disk's end.
const BEHIND: u8 = 0xee;
/// What is written over the snapshot: at 1 MiB, and in the new part.
const OVER: [u8; 4096] = [0xf1; 4096];
const NEW: [u8; 4096] = [0xf2; 4096];
const NEW_AT: usize = GROWN - MIB / 2;

/// Steps that this passes, and how often at most the process is to die there.
pub(crate) const STEPS: &[(&str, u32)] = &[
    // Each action of each of its jobs.
    ("plan.step.before", 14),
    ("plan.step.after", 4),
    ("plan.done", 14),
    ("plan.verified", 2),
    ("plan.complete.before", 3),
    ("plan.complete.after", 3),
    ("submit.after", 2),
    ("running.before", 2),
    ("running.after", 2),
    ("ending.before", 1),
    ("ending.after", 1),
    ("undo.files", 1),
    ("ended.before", 1),
    ("ended.after", 1),
    ("plan.laid", 2),
    ("expand.allocating.after", 1),
    ("expand.piece", 2),
    ("expand.extended", 1),
    ("expand.complete.after", 1),
    ("plan.merged", 2),
    ("plan.rebased", 1),
    ("delete.unlinking.before", 1),
    ("delete.unlinking.after", 1),
    ("delete.unlinked", 1),
    ("delete.complete.before", 1),
    ("delete.complete.after", 1),
];

/// Each part of it says where it belongs.
pub(crate) fn pattern() -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in (1..=250).cycle().take(SIZE / 4096) {
        bytes.extend_from_slice(&[number; 4096]);
    }
    bytes
}

fn link(directory: &Path) -> PathBuf {
    directory.join("files/device")
}

/// What the child gets: an empty directory with a link to the device, as udev makes them.
pub(crate) fn prepare(directory: &Path, device: &LoopDevice, pattern: &[u8]) {
    device.holds(pattern);
    std::fs::create_dir(directory.join("files")).unwrap();
    std::os::unix::fs::symlink(device.node(), link(directory)).unwrap();
    std::fs::write(directory.join("backing"), device.backing().to_str().unwrap()).unwrap();
}

/// Notes that the clients know it.
fn promise(directory: &Path, what: &str) {
    let path = directory.join("promises");
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    file.write_all(format!("{what}\n").as_bytes()).unwrap();
}

fn import(directory: &Path, name: &str) -> ImportDisk {
    ImportDisk {
        path: link(directory),
        name: name.to_owned(),
        in_place: true,
        block_length: BlockLength::B512,
        provisioning: Provisioning::Thin,
        verify: true,
        format: None,
        to_format: None,
        pool: None,
    }
}

fn end(engine: &Engine, id: JobId, wanted: JobState) -> Option<Disk> {
    let job = engine.wait(&id, PATIENCE).unwrap();
    assert_eq!(job.state, wanted, "{job:?}");
    engine.disk(&job.kind.disk())
}

pub(crate) fn run(directory: &Path) {
    let engine = scenario::open(directory);
    // Somebody has its name when the link is to get that: it is undone.
    let later = Some(Timestamp::now() + std::time::Duration::from_secs(1_000_000));
    let how = Submission { scheduled_start_time: later, ..Submission::default() };
    let id = engine.import_disk(import(directory, "obstructed"), how).unwrap();
    let JobKind::Planned { makes: Some(disk), .. } = engine.job(&id).unwrap().kind else {
        panic!("{id} makes a disk");
    };
    std::fs::write(&disk.path, "somebody's").unwrap();
    let _ = engine.request_state_change(&id, RequestedState::Start, None, "a test");
    end(&engine, id, JobState::Exception);
    promise(directory, "failed");

    let id = engine.import_disk(import(directory, "device"), Submission::default()).unwrap();
    let disk = end(&engine, id, JobState::Completed).unwrap();
    promise(directory, "there");
    let request = CreateSnapshots { disks: vec![disk.id], name: "s".to_owned() };
    let id = engine.create_snapshots(request, Submission::default()).unwrap();
    end(&engine, id, JobState::Completed);
    write(&engine.disk(&disk.id).unwrap(), &OVER, MIB);
    promise(directory, "over");
    lengthen(directory);
    let id = engine.expand_disk(disk.id, GROWN as u64).unwrap();
    end(&engine, id, JobState::Completed);
    write(&engine.disk(&disk.id).unwrap(), &NEW, NEW_AT);
    promise(directory, "new");
    let id = engine.delete_snapshot(engine.snapshots()[0].id, Submission::default()).unwrap();
    end(&engine, id, JobState::Completed);
    promise(directory, "merged");
    promise(directory, "open");
    let id = engine.delete_disk(disk.id).unwrap();
    end(&engine, id, JobState::Completed);
    promise(directory, "gone");
    engine.shutdown();
}

/// Its owner makes the device longer, and has had something there.
fn lengthen(directory: &Path) {
    let backing = std::fs::read_to_string(directory.join("backing")).unwrap();
    let node = std::fs::read_link(link(directory)).unwrap();
    set_length(&node, Path::new(&backing), LATER as u64);
    let node = File::options().write(true).open(node).unwrap();
    let behind = vec![BEHIND; LATER - SIZE];
    std::os::unix::fs::FileExt::write_all_at(&node, &behind, SIZE as u64).unwrap();
    node.sync_all().unwrap();
}

fn write(disk: &Disk, bytes: &[u8], at: usize) {
    let image = open_image(disk.path.as_path(), disk.format, &OpenOptions::default()).unwrap();
    image.write(&[IoSlice::new(bytes)], at as u64, Durability::Durable).unwrap();
    image.close().unwrap();
}

fn read(path: &Path, format: disk_image::ImageFormat) -> Vec<u8> {
    let image = open_image(path, format, &OpenOptions::default()).unwrap();
    let mut bytes = vec![0; usize::try_from(image.size_bytes()).unwrap()];
    image.read(&mut [IoSliceMut::new(&mut bytes)], 0, Wait::Block).unwrap();
    image.close().unwrap();
    bytes
}

/// Jobs are done or undone, and the catalogue says the same as the links that there are.
pub(crate) fn judge(directory: &Path) {
    let engine = check::open(directory);
    check::finish_jobs(&engine);
    engine.shutdown();
    drop(engine);
    // What the last jobs left is swept up at the next start at the latest.
    check::open(directory).shutdown();
    let engine = check::open(directory);
    let promises = std::fs::read_to_string(directory.join("promises")).unwrap_or_default();
    let promised = |what: &str| promises.lines().any(|line| line == what);
    let (mut there, mut deleted, mut obstructed) = (false, false, false);
    for job in engine.jobs() {
        let completed = job.state == JobState::Completed;
        let is_obstructed = matches!(&job.kind,
            JobKind::Planned { makes: Some(disk), .. } if disk.name == "obstructed");
        if is_obstructed {
            // A death that came before the obstacle lets it succeed.
            assert!(!(completed && promised("failed")), "{job:?}");
            obstructed = completed;
            continue;
        }
        // Who dies loses nothing of what would have been done.
        assert!(completed, "{job:?}");
        there |= matches!(job.kind, JobKind::Planned { purpose: Purpose::ImportDisk, .. });
        deleted |= matches!(job.kind, JobKind::DeleteDisk { .. });
    }
    assert!(there || !promised("there"));
    assert!(deleted || !promised("gone"));
    let names: Vec<_> = engine.disks().iter().map(|disk| disk.name.clone()).collect();
    let wanted: Vec<_> = [("obstructed", obstructed), ("device", there && !deleted)]
        .into_iter()
        .filter_map(|(name, there)| there.then_some(name))
        .collect();
    assert_eq!(names, wanted);
    links_agree_with_catalogue(directory, &engine);
    for disk in engine.disks() {
        data_are_whole(&disk, &promised);
    }
    for snapshot in engine.snapshots() {
        let bytes = read(&snapshot.path, snapshot.format.unwrap_or_default());
        assert!(bytes[..SIZE] == pattern(), "{snapshot:?}");
    }
    everything_works(directory, &engine);
    engine.shutdown();
}

/// There is a link for each disk, or for what it lies over, and no other: none that a job has left.
fn links_agree_with_catalogue(directory: &Path, engine: &Engine) {
    let node = std::fs::read_link(link(directory)).unwrap();
    let pool = scenario::config(directory).default_pool;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(pool).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            assert_eq!(path.canonicalize().unwrap(), node);
        } else if std::fs::read(&path).unwrap() == b"somebody's" {
            continue;
        }
        found.push(path);
    }
    found.retain(|path| !path.ends_with(".lund-pool"));
    let mut wanted = engine.image_files();
    wanted.sort();
    wanted.dedup();
    found.sort();
    assert_eq!(found, wanted);
    let links = found.iter().filter(|path| path.is_symlink()).count();
    assert_eq!(links, engine.disks().len(), "{found:?}");
    for disk in engine.disks() {
        assert_eq!(disk.device, Some(link(directory)), "{disk:?}");
    }
}

fn data_are_whole(disk: &Disk, promised: &dyn Fn(&str) -> bool) {
    let found = read(&disk.path, disk.format);
    let size = usize::try_from(disk.size_bytes).unwrap();
    assert!([SIZE, GROWN].contains(&size), "{disk:?}");
    let mut wanted = pattern();
    wanted.resize(size, 0);
    for (name, at, bytes) in [("over", MIB, OVER), ("new", NEW_AT, NEW)] {
        // It may have been written before the death, or not.
        let is_there = found.get(at..at + bytes.len()) == Some(&bytes[..]);
        assert!(is_there || !promised(name), "{name}: {disk:?}");
        if is_there {
            wanted[at..at + bytes.len()].copy_from_slice(&bytes);
        }
    }
    assert!(found[..size] == wanted, "{disk:?}");
}

/// It can be taken in again, and be given back.
fn everything_works(directory: &Path, engine: &Engine) {
    for snapshot in engine.snapshots() {
        let id = engine.delete_snapshot(snapshot.id, Submission::default()).unwrap();
        end(engine, id, JobState::Completed);
    }
    for disk in engine.disks() {
        end(engine, engine.delete_disk(disk.id).unwrap(), JobState::Completed);
    }
    for name in ["obstructed", "device"] {
        let id = engine.import_disk(import(directory, name), Submission::default()).unwrap();
        let disk = end(engine, id, JobState::Completed).unwrap();
        end(engine, engine.delete_disk(disk.id).unwrap(), JobState::Completed);
    }
}

/// What the device has is what it had, but for what was merged into it and zeroed for it.
pub(crate) fn is_untouched(directory: &Path, device: &LoopDevice, pattern: &[u8]) {
    let mut found = device.bytes();
    if found[MIB..][..OVER.len()] == OVER {
        found[MIB..][..OVER.len()].copy_from_slice(&pattern[MIB..][..OVER.len()]);
    }
    assert!(found[..SIZE] == *pattern, "what was on the device");
    if found.len() == LATER {
        let promises = std::fs::read_to_string(directory.join("promises")).unwrap();
        let right = found[GROWN..] == vec![BEHIND; LATER - GROWN];
        // Else the death may have come before all of that was there.
        assert!(right || !promises.contains("new"), "what is nobody's");
    }
}

/// The child's directory.
pub(crate) fn directory() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).map(PathBuf::from)
}
