//! A block device for tests: a loop device, which needs root.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Detached when dropped.
pub(crate) struct LoopDevice {
    node: PathBuf,
    directory: tempfile::TempDir,
}

impl LoopDevice {
    /// None where there are no loop devices: the tests that need one have nothing to do then.
    pub(crate) fn attach() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let backing = directory.path().join("backing");
        File::create(&backing).unwrap().set_len(512).unwrap();
        let made = Command::new("losetup").args(["--find", "--show"]).arg(&backing).output().ok();
        let Some(made) = made.filter(|made| made.status.success()) else {
            println!("left out: there are no loop devices here");
            return None;
        };
        let node = String::from_utf8(made.stdout).unwrap().trim().into();
        Some(Self { node, directory })
    }

    pub(crate) fn node(&self) -> &Path {
        &self.node
    }

    /// The file that it is made of.
    pub(crate) fn backing(&self) -> PathBuf {
        self.directory.path().join("backing")
    }

    /// It holds these bytes, and is as long.
    pub(crate) fn holds(&self, bytes: &[u8]) {
        set_length(&self.node, &self.backing(), bytes.len() as u64);
        let node = File::options().write(true).open(&self.node).unwrap();
        node.write_all_at(bytes, 0).unwrap();
        node.sync_all().unwrap();
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = std::fs::metadata(self.backing()).unwrap().len();
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        File::open(&self.node).unwrap().read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }
}

/// Gives a loop device another length.
pub(crate) fn set_length(node: &Path, backing: &Path, bytes: u64) {
    File::options().write(true).open(backing).unwrap().set_len(bytes).unwrap();
    let done = Command::new("losetup").arg("--set-capacity").arg(node).status().unwrap();
    assert!(done.success());
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.node).status();
    }
}
