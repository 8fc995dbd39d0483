use super::*;
use crate::job::JobState;

#[test]
fn smoke() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(EngineConfig::new(directory.path())).unwrap();
    let id = engine.create_disk(CreateDisk::new("a", 1 << 20)).unwrap();
    let job = engine.wait(&id, Duration::from_secs(10)).unwrap();
    assert_eq!(job.state, JobState::Completed, "{job:?}");
    let disk = engine.disks().remove(0);
    let id = engine.delete_disk(disk.id).unwrap();
    let job = engine.wait(&id, Duration::from_secs(10)).unwrap();
    assert_eq!(job.state, JobState::Completed, "{job:?}");
    assert!(engine.disks().is_empty());
    drop(engine);
    let engine = Engine::open(EngineConfig::new(directory.path())).unwrap();
    assert_eq!(engine.jobs().len(), 2);
}
