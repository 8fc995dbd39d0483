//! What must hold after a death, whenever it came.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use disk_image::{ImageFormat, partial_path};
use job_engine::{
    CreateDisk, DiskId, Engine, Job, JobId, JobKind, JobState, Purpose, RequestedState, Submission,
};

use crate::{PATIENCE, scenario};

/// Opens what a death left. It must never look like a damaged database.
pub(crate) fn open(directory: &Path) -> Arc<Engine> {
    let pool = scenario::config(directory).default_pool;
    // What the scenario put there as an obstacle; an operator would have removed it too.
    for entry in std::fs::read_dir(pool).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir(path).unwrap();
        }
    }
    let engine = scenario::open(directory);
    assert!(engine.alerts().is_empty(), "{:?}", engine.alerts());
    engine
}

/// Starts what waits for somebody, and brings every job to its end.
pub(crate) fn finish_jobs(engine: &Engine) {
    for job in engine.jobs() {
        if matches!(job.state, JobState::New | JobState::Suspended) {
            let _ = engine.request_state_change(&job.id, RequestedState::Start, None, "a test");
        }
        let ended = engine.wait(&job.id, PATIENCE).unwrap();
        assert!(ended.state.is_terminal(), "stuck: {ended:?}");
        assert_eq!(ended.percent_complete, 100);
        assert_eq!(ended.errors.is_empty(), ended.state == JobState::Completed, "{ended:?}");
        assert!(ended.end_time.is_some());
    }
}

pub(crate) fn all(directory: &Path) {
    let engine = open(directory);
    promises_are_kept(directory, &engine);
    finish_jobs(&engine);
    let jobs = engine.jobs();
    engine.shutdown();
    drop(engine);
    // What the last jobs left is swept up at the next start at the latest.
    open(directory).shutdown();
    let engine = open(directory);
    assert_eq!(engine.jobs(), jobs, "ends stay as they are");
    jobs.iter().for_each(has_a_possible_outcome);
    catalogue_agrees_with_jobs(&engine, &jobs);
    files_agree_with_catalogue(directory, &engine);
    for mapping in engine.mappings() {
        assert!(engine.targets().iter().any(|target| target.name == mapping.target));
        assert!(engine.disk(&mapping.disk).is_some(), "{mapping:?}");
    }
    let of_pair =
        engine.targets().into_iter().filter(|it| scenario::PAIR.contains(&it.name.as_str()));
    let of_pair = of_pair.count();
    assert!(of_pair == 0 || of_pair == 2, "half of a configuration");
    everything_works(&engine);
}

fn promises_are_kept(directory: &Path, engine: &Engine) {
    let text = std::fs::read_to_string(directory.join("promises")).unwrap_or_default();
    let mut wanted = BTreeMap::new();
    let mut ended: BTreeMap<JobId, String> = BTreeMap::new();
    for line in text.lines() {
        match line.split_once(' ').unwrap() {
            ("there", what) => drop(wanted.insert(what, true)),
            ("gone", what) => drop(wanted.insert(what, false)),
            ("open", what) => drop(wanted.remove(what)),
            ("ended", what) => {
                let (id, state) = what.split_once(' ').unwrap();
                ended.insert(id.parse().unwrap(), state.to_owned());
            }
            other => panic!("{other:?}"),
        }
    }
    for (what, there) in wanted {
        let found = match what.split_once(' ').unwrap() {
            ("job", id) => engine.job(&id.parse().unwrap()).is_some(),
            ("target", name) => engine.targets().iter().any(|target| target.name == name),
            ("mapping", name) => engine.mappings().iter().any(|mapping| mapping.target == name),
            other => panic!("{other:?}"),
        };
        assert_eq!(found, there, "{what}");
    }
    for (id, state) in ended {
        if let Some(job) = engine.job(&id) {
            assert_eq!(job.state.name(), state, "{job:?}");
        }
    }
}

/// A death changes no outcome: what would have succeeded goes on and succeeds.
fn has_a_possible_outcome(job: &Job) {
    use JobState::{Completed, Exception, Killed, Terminated};
    let possible: &[JobState] = match &job.kind {
        JobKind::CreateDisk { disk, .. } => match disk.name.as_str() {
            "thin" | "full" | "filled" | "kept" | "suspended" | "layered" | "moving" | "cut"
            | "crowded" => &[Completed],
            "large" => &[Exception],
            // The death took the obstacle away, or came before the client's request.
            "locked" | "debris" => &[Completed, Exception],
            "killed" => &[Completed, Killed],
            "terminated while new" | "terminated while suspended" => &[Completed, Terminated],
            other => panic!("{other}"),
        },
        JobKind::DeleteDisk { disk } if disk.name == "suspended" => &[Completed, Killed],
        JobKind::DeleteDisk { .. }
        | JobKind::ExpandDisk { .. }
        | JobKind::Planned { .. }
        | JobKind::Operation(_) => &[Completed],
        JobKind::DataPathFault(_) | JobKind::Unknown(_) => &[Exception],
    };
    assert!(possible.contains(&job.state), "{job:?}");
}

/// A disk is in the catalogue exactly if its creation was completed and no deletion was.
fn catalogue_agrees_with_jobs(engine: &Engine, jobs: &[Job]) {
    let mut wanted: BTreeMap<DiskId, bool> = BTreeMap::new();
    let mut sizes = BTreeMap::new();
    for job in jobs {
        let completed = job.state == JobState::Completed;
        match &job.kind {
            JobKind::CreateDisk { disk, .. } => drop(wanted.insert(disk.id, completed)),
            JobKind::DeleteDisk { disk } if completed => drop(wanted.insert(disk.id, false)),
            JobKind::Planned { makes: Some(disk), .. } => drop(wanted.insert(disk.id, completed)),
            JobKind::Planned { purpose: Purpose::OverwriteDisk, disk, .. } if completed => {
                wanted.insert(*disk, false);
            }
            JobKind::ExpandDisk { disk, size_bytes } if completed => {
                sizes.insert(disk.id, *size_bytes);
            }
            JobKind::Planned { purpose: Purpose::ShrinkDisk, disk, .. } if completed => {
                sizes.insert(*disk, 2 << 20);
            }
            JobKind::Operation(operation) => {
                assert!(completed, "{job:?}");
                let bytes = std::fs::read(&operation.disk.path).unwrap();
                assert!(bytes.iter().all(|byte| *byte == scenario::FILL));
                assert_eq!(engine.condition(&operation.disk.id), None);
            }
            JobKind::DeleteDisk { .. }
            | JobKind::ExpandDisk { .. }
            | JobKind::Planned { .. }
            | JobKind::DataPathFault(_)
            | JobKind::Unknown(_) => {}
        }
    }
    // Whether those are there is looked at below.
    for (id, size_bytes) in sizes.into_iter().filter(|(id, _)| wanted.get(id) == Some(&true)) {
        assert_eq!(engine.disk(&id).unwrap().size_bytes, size_bytes);
    }
    for (id, there) in &wanted {
        assert_eq!(engine.disk(id).is_some(), *there, "{id}");
    }
    assert!(engine.disks().iter().all(|disk| wanted.contains_key(&disk.id)));
}

/// A disk in the catalogue has a whole file under its name, and there is no other file.
fn files_agree_with_catalogue(directory: &Path, engine: &Engine) {
    let mut wanted = Vec::new();
    for disk in engine.disks() {
        assert!(!partial_path(&disk.path).exists());
        let (path, form) = (disk.path.as_path(), disk.format);
        // Whoever writes replays its log first, if it was killed over it.
        let image = disk_image::open_image(path, form, &disk_image::OpenOptions::default());
        assert_eq!(image.unwrap().size_bytes(), disk.size_bytes, "{disk:?}");
        wanted.push(disk.path);
    }
    copies_are_whole(directory, engine);
    roll_back_is_whole(engine);
    layers_are_whole(engine);
    moved_is_whole(engine);
    wanted.extend(engine.image_files());
    wanted.sort();
    wanted.dedup();
    let entries = std::fs::read_dir(scenario::config(directory).default_pool).unwrap();
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| !path.ends_with(".lund-pool"));
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}

/// While there is a snapshot, the disk has what it had or what it was rolled back to, all of it.
fn roll_back_is_whole(engine: &Engine) {
    for snapshot in engine.snapshots().into_iter().filter(|it| it.name == "s") {
        let kept = std::fs::read(&snapshot.path).unwrap();
        assert!(kept[1 << 20..][..4096].iter().all(|byte| *byte == scenario::SNAPSHOT));
        let disk = std::fs::read(engine.disk(&snapshot.disk).unwrap().path).unwrap();
        let found = &disk[1 << 20..][..4096];
        assert!(found.iter().all(|byte| *byte == found[0]));
        let rolled_back = |job: &Job| {
            matches!(job.kind, JobKind::Planned { purpose: Purpose::RollBack, .. })
                && job.state == JobState::Completed
        };
        if engine.jobs().iter().any(rolled_back) {
            assert_eq!(found[0], scenario::SNAPSHOT);
        }
    }
}

/// Snapshots over which images are laid show what the disk had, and the disk what was written last or
/// what it was rolled back to.
fn layers_are_whole(engine: &Engine) {
    let [first, second, third] = scenario::LAYERS;
    let bytes = |path: &Path, format| -> Vec<u8> {
        let options = disk_image::OpenOptions::read_only();
        let image = disk_image::open_image(path, format, &options).unwrap();
        let mut bytes = vec![0; 3 << 20];
        let size = usize::try_from(image.size_bytes()).unwrap();
        let mut all = [std::io::IoSliceMut::new(&mut bytes[..size])];
        image.read(&mut all, 0, disk_image::Wait::Block).unwrap();
        // Each MiB has one byte.
        bytes.chunks(1 << 20).map(|mib| mib[0]).collect()
    };
    for snapshot in engine.snapshots() {
        let wanted = match snapshot.name.as_str() {
            "one" => [first, 0, 0],
            "two" => [first, second, 0],
            "three" => [first, third, 0],
            _ => continue,
        };
        let format = snapshot.format.unwrap_or_default();
        assert_eq!(bytes(&snapshot.path, format), wanted, "{snapshot:?}");
    }
    for disk in engine.disks().into_iter().filter(|disk| disk.name == "layered") {
        let found = bytes(&disk.path, disk.format);
        let states = [
            [0, 0, 0],
            [first, 0, 0],
            [first, second, 0],
            [first, second, third],
            [first, third, 0],
            [first, third, second],
        ];
        assert!(states.iter().any(|state| found == *state), "{found:?}");
    }
    for disk in engine.disks().into_iter().filter(|disk| disk.name == "exposed") {
        assert_eq!(bytes(&disk.path, disk.format), [first, second, 0], "{disk:?}");
        let stands_for = engine.exposed_snapshots().into_iter().find(|it| it.0 == disk.id);
        assert!(stands_for.is_some(), "{disk:?}");
    }
    for disk in engine.disks().into_iter().filter(|disk| disk.name == "cut") {
        let found = bytes(&disk.path, disk.format);
        // Nobody knows whether it was filled.
        assert!([0, scenario::CUT].contains(&found[0]) && found[1] == 0, "{found:?}");
    }
}

/// Every copy that has its name has the bytes that its source had, and nothing is half done.
fn copies_are_whole(directory: &Path, engine: &Engine) {
    let mut wanted = vec![7; 300_000];
    wanted.resize(2 << 20, 0);
    let exported = directory.join("files/exported.raw");
    assert!(!partial_path(&exported).exists());
    if exported.exists() {
        assert!(std::fs::read(&exported).unwrap() == wanted);
    }
    for disk in engine.disks() {
        let mut wanted = wanted.clone();
        if disk.name == "flattened" {
            wanted[1 << 20..][..4096].fill(scenario::CHILD);
        }
        if ["cloned", "imported", "flattened"].contains(&disk.name.as_str()) {
            let (path, form) = (disk.path.as_path(), disk.format);
            let open = disk_image::OpenOptions::read_only();
            let image = disk_image::open_image(path, form, &open).unwrap();
            let mut found = vec![0; 2 << 20];
            let mut all = [std::io::IoSliceMut::new(&mut found)];
            image.read(&mut all, 0, disk_image::Wait::Block).unwrap();
            assert!(found == wanted, "{disk:?}");
        }
    }
}

/// Where it is does not matter.
fn moved_is_whole(engine: &Engine) {
    let moved = |job: &Job| {
        matches!(job.kind, JobKind::Planned { purpose: Purpose::ConvertDisk, disk, .. }
            if engine.disk(&disk).is_some_and(|disk| disk.name == "moving"))
    };
    // Before that nobody knows whether it was filled.
    if !engine.jobs().iter().any(moved) {
        return;
    }
    for disk in engine.disks().into_iter().filter(|disk| disk.name == "moving") {
        let open = disk_image::OpenOptions::read_only();
        let image = disk_image::open_image(disk.path.as_path(), disk.format, &open).unwrap();
        let mut found = vec![0; usize::try_from(image.size_bytes()).unwrap()];
        let mut all = [std::io::IoSliceMut::new(&mut found)];
        image.read(&mut all, 0, disk_image::Wait::Block).unwrap();
        let right =
            |(at, byte): (usize, &u8)| *byte == if at >> 20 == 1 { scenario::MOVED } else { 0 };
        assert!(found.iter().enumerate().all(right), "{disk:?}");
    }
}

/// No name and no disk is held by something that does not exist any more.
fn everything_works(engine: &Engine) {
    for mapping in engine.mappings() {
        engine.unmap(&mapping.target, mapping.lun).unwrap();
    }
    for target in engine.targets() {
        engine.delete_target(&target.name).unwrap();
    }
    // Metadata are sound, but for what was taken and not used when the process died.
    for disk in engine.disks().into_iter().filter(|disk| disk.format != ImageFormat::Raw) {
        for repair in [true, false] {
            let id = engine.check_disk(disk.id, repair, Submission::default()).unwrap();
            let job = engine.wait(&id, PATIENCE).unwrap();
            assert!(repair || job.state == JobState::Completed, "{disk:?}: {job:?}");
        }
    }
    // What others are laid over goes after them.
    for disk in engine.disks().into_iter().filter(|disk| disk.name == "exposed") {
        let id = engine.delete_disk(disk.id).unwrap();
        let job = engine.wait(&id, PATIENCE).unwrap();
        assert_eq!(job.state, JobState::Completed, "{job:?}");
    }
    for snapshot in engine.snapshots().into_iter().rev() {
        let id = engine.delete_snapshot(snapshot.id, Submission::default()).unwrap();
        let job = engine.wait(&id, PATIENCE).unwrap();
        assert_eq!(job.state, JobState::Completed, "{job:?}");
    }
    let mut names: Vec<_> = engine.disks().into_iter().map(|disk| disk.name).collect();
    names.extend(["thin", "suspended", "debris"].map(str::to_owned));
    names.sort();
    names.dedup();
    let delete: Vec<_> =
        engine.disks().iter().map(|disk| engine.delete_disk(disk.id).unwrap()).collect();
    let end = |id: &JobId| {
        let job = engine.wait(id, PATIENCE).unwrap();
        assert_eq!(job.state, JobState::Completed, "{job:?}");
    };
    delete.iter().for_each(end);
    let create: Vec<_> = names
        .into_iter()
        .map(|name| engine.create_disk(CreateDisk::new(name, 1 << 20)).unwrap())
        .collect();
    create.iter().for_each(end);
}
