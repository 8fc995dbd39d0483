//! A file system that shares blocks between files, for tests: XFS on a loop device, which needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted file system; gone when dropped.
pub(crate) struct Xfs {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Xfs {
    /// None where it cannot be made: the tests that need it have nothing to do then.
    pub(crate) fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let (device, path) = (directory.path().join("device"), directory.path().join("xfs"));
        std::fs::create_dir(&path).unwrap();
        std::fs::File::create(&device).unwrap().set_len(512 << 20).unwrap();
        let done = |command: &mut Command| command.output().is_ok_and(|out| out.status.success());
        let made = done(Command::new("mkfs.xfs").args(["-q", "-m", "reflink=1"]).arg(&device))
            && done(Command::new("mount").args(["-o", "loop"]).arg(&device).arg(&path));
        if !made {
            println!("left out: XFS cannot be mounted here");
            return None;
        }
        Some(Self { path, _directory: directory })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Xfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
