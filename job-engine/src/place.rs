//! Files that jobs read and make: in a pool, or below a directory that an operator has allowed.
//!
//! Below an allowed directory no link leads out of it: the kernel resolves the path beneath it
//! (`openat2` with `RESOLVE_BENEATH`), each time anew, and the file itself is never a link.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use disk_image::{ImageError, ImageErrorKind, NamedFile, Operation, partial_path};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::{Errno, retry_on_intr};
use serde::{Deserialize, Serialize};

use crate::error::Cause;

/// Where a file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The allowed directory that it must not leave; none for a file of a pool.
    #[serde(default)]
    pub(crate) root: Option<PathBuf>,
    /// Its whole path.
    pub(crate) path: PathBuf,
}

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// For reading, with no lock: somebody has it open and writes.
    Look,
    /// For reading; writers are kept out.
    Read,
    /// For reading and writing, with no lock: the data path may have it open.
    Share,
    /// For reading and writing; everybody else is kept out.
    Write,
}

impl Place {
    /// A file of a pool.
    pub(crate) fn pool(path: impl Into<PathBuf>) -> Self {
        Self { root: None, path: path.into() }
    }

    /// A file that a client names.
    pub(crate) fn allowed(path: &Path, roots: &[PathBuf]) -> Result<Self, Cause> {
        let refuse = |reason: String| Cause::BadValue {
            property: format!("path {}", path.display()),
            reason,
        };
        let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        if !path.is_absolute() || !path.components().all(plain) || path.file_name().is_none() {
            return Err(refuse("it must be absolute, without `..`, and name a file".to_owned()));
        }
        if roots.is_empty() {
            let reason = "no directory is allowed for import and export; the configuration names \
                          them in disks.allowed_directories";
            return Err(refuse(reason.to_owned()));
        }
        let root = roots.iter().find(|root| path.starts_with(root) && path != root.as_path());
        match root {
            Some(root) => Ok(Self { root: Some(root.clone()), path: path.to_path_buf() }),
            None => {
                let roots: Vec<_> = roots.iter().map(|root| root.display().to_string()).collect();
                Err(refuse(format!(
                    "it lies in none of the allowed directories {}",
                    roots.join(", ")
                )))
            }
        }
    }

    fn error(&self, operation: Operation, errno: Errno) -> ImageError {
        ImageError::from_io(operation, self.path.as_path(), errno.into())
    }

    /// The directory that holds it.
    pub(crate) fn parent(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    fn directory(&self, operation: Operation) -> Result<OwnedFd, ImageError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fail = |errno| self.error(operation, errno);
        let Some(root) = &self.root else {
            return rustix::fs::openat(CWD, self.parent(), flags, Mode::empty()).map_err(fail);
        };
        let below = self.parent().strip_prefix(root).unwrap_or(Path::new(""));
        let root = rustix::fs::openat(CWD, root, flags, Mode::empty()).map_err(fail)?;
        if below.as_os_str().is_empty() {
            return Ok(root);
        }
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&root, below, flags, Mode::empty(), beneath).map_err(|errno| {
            let error = fail(errno);
            // A link that leads out.
            if errno == Errno::XDEV {
                error.with_kind(ImageErrorKind::PermissionDenied)
            } else {
                error
            }
        })
    }

    fn name(&self) -> OsString {
        self.path.file_name().map(OsString::from).unwrap_or_default()
    }

    fn partial_name(&self) -> OsString {
        partial_path(Path::new(&self.name())).into_os_string()
    }

    /// Opens the file, or the one that it grows under; or a block device, to which a link may lead that the
    /// daemon made in a pool, or root elsewhere.
    pub(crate) fn open(&self, partial: bool, access: Access) -> Result<NamedFile, ImageError> {
        let directory = self.directory(Operation::Open)?;
        let mode = match access {
            Access::Look | Access::Read => OFlags::RDONLY,
            Access::Share | Access::Write => OFlags::RDWR,
        };
        let flags = mode | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let name = if partial { self.partial_name() } else { self.name() };
        let open =
            |flags| retry_on_intr(|| rustix::fs::openat(&directory, &name, flags, Mode::empty()));
        let file = match open(flags) {
            Err(Errno::LOOP) if self.leads_to_device(&directory, &name) => {
                open(flags - OFlags::NOFOLLOW)
            }
            result => result,
        };
        let Ok(found) = &file else { return self.checked(file, access, FileType::RegularFile) };
        let stat = rustix::fs::fstat(found).map_err(|errno| self.error(Operation::Open, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::BlockDevice {
            return self.checked(file, access, FileType::RegularFile);
        }
        if access == Access::Write {
            // Nothing that is mounted lies on it.
            let claimed = open((flags - OFlags::NOFOLLOW) | OFlags::EXCL);
            return self.checked(claimed, access, FileType::BlockDevice);
        }
        self.checked(file, access, FileType::BlockDevice)
    }

    /// What has the name is a link to a block device, and nobody made it who could not have the device.
    fn leads_to_device(&self, directory: &OwnedFd, name: &OsString) -> bool {
        let stat = |flags| rustix::fs::statat(directory, name, flags);
        let is_trusted = self.root.is_none()
            || stat(AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|link| link.st_uid == 0);
        let is_device =
            |it: rustix::fs::Stat| FileType::from_raw_mode(it.st_mode) == FileType::BlockDevice;
        is_trusted && stat(AtFlags::empty()).is_ok_and(is_device)
    }

    /// Makes a link to a block device under the name under which it grows.
    pub(crate) fn link_partial(&self, device: &Path) -> Result<(), ImageError> {
        let directory = self.directory(Operation::Create)?;
        let fail = |errno| self.error(Operation::Create, errno);
        let name = self.partial_name();
        match rustix::fs::unlinkat(&directory, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(fail(errno)),
        }
        rustix::fs::symlinkat(device, &directory, &name).map_err(fail)
    }

    /// Makes the file under which it grows, or opens what an earlier run left of it.
    pub(crate) fn create_partial(&self) -> Result<NamedFile, ImageError> {
        let directory = self.directory(Operation::Create)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mode = Mode::RUSR | Mode::WUSR;
        let name = self.partial_name();
        let file = retry_on_intr(|| rustix::fs::openat(&directory, &name, flags, mode));
        self.checked(file, Access::Write, FileType::RegularFile)
    }

    fn checked(
        &self,
        file: Result<OwnedFd, Errno>,
        access: Access,
        wanted: FileType,
    ) -> Result<NamedFile, ImageError> {
        let file = file.map_err(|errno| {
            let error = self.error(Operation::Open, errno);
            // O_NOFOLLOW met a link.
            if errno == Errno::LOOP {
                error.with_kind(ImageErrorKind::PermissionDenied)
            } else {
                error
            }
        })?;
        let stat = rustix::fs::fstat(&file).map_err(|e| self.error(Operation::Open, e))?;
        if FileType::from_raw_mode(stat.st_mode) != wanted {
            let kind = ImageErrorKind::InvalidFormat;
            return Err(ImageError::new(kind, Operation::Open, self.path.as_path()));
        }
        let lock = match access {
            Access::Look | Access::Share => None,
            Access::Read => Some(FlockOperation::NonBlockingLockShared),
            Access::Write => Some(FlockOperation::NonBlockingLockExclusive),
        };
        if let Some(lock) = lock {
            retry_on_intr(|| rustix::fs::flock(&file, lock))
                .map_err(|errno| self.error(Operation::Lock, errno))?;
        }
        Ok(NamedFile { file, path: self.path.as_path().into() })
    }

    fn identity_of(
        &self,
        directory: &OwnedFd,
        name: &OsString,
    ) -> Result<Option<Identity>, ImageError> {
        match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Identity { device: stat.st_dev, inode: stat.st_ino })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error(Operation::Open, errno)),
        }
    }

    /// Refuses a name that is taken.
    pub(crate) fn is_free(&self) -> Result<(), ImageError> {
        let directory = self.directory(Operation::Create)?;
        if self.identity_of(&directory, &self.name())?.is_some() {
            return Err(self.error(Operation::Create, Errno::EXIST));
        }
        Ok(())
    }

    /// Which file it is that has grown; none if it is not there, or has its name already.
    pub(crate) fn partial_identity(&self) -> Result<Option<Identity>, ImageError> {
        let directory = self.directory(Operation::Create)?;
        self.identity_of(&directory, &self.partial_name())
    }

    /// Whether the file with its name is this one.
    pub(crate) fn is(&self, identity: Identity) -> Result<bool, ImageError> {
        let directory = self.directory(Operation::Open)?;
        Ok(self.identity_of(&directory, &self.name())? == Some(identity))
    }

    /// Gives the file that has grown its name, durably; once more does no harm. What has the name
    /// already is never replaced.
    pub(crate) fn publish(&self, identity: Identity) -> Result<(), ImageError> {
        let operation = Operation::Create;
        let directory = self.directory(operation)?;
        let fail = |errno| self.error(operation, errno);
        let (partial, name) = (self.partial_name(), self.name());
        let there = self.identity_of(&directory, &name)?;
        if there != Some(identity) {
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(&directory, &partial, &directory, &name, flags) {
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if there.is_none() => {
                    rustix::fs::renameat(&directory, &partial, &directory, &name).map_err(fail)?;
                }
                result => result.map_err(fail)?,
            }
        }
        rustix::fs::fsync(&directory).map_err(fail)
    }

    /// Removes the file under which it grows and, if that got its name, the file; what is not there
    /// is removed already. A file with the name and another identity is somebody else's.
    ///
    /// # Errors
    /// `NotFound` if the directory is not there: with its file system the file may come back.
    pub(crate) fn remove(&self, identity: Option<Identity>) -> Result<(), ImageError> {
        let operation = Operation::Delete;
        let fail = |errno| self.error(operation, errno);
        let directory = self.directory(operation)?;
        let named = identity.is_some() && self.identity_of(&directory, &self.name())? == identity;
        let names = [Some(self.partial_name()), named.then(|| self.name())];
        for name in names.into_iter().flatten() {
            match rustix::fs::unlinkat(&directory, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(fail(errno)),
            }
        }
        rustix::fs::fsync(&directory).map_err(fail)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn kind<T: std::fmt::Debug>(result: Result<T, ImageError>) -> ImageErrorKind {
        result.unwrap_err().kind()
    }

    #[test]
    fn only_files_below_an_allowed_directory_are_taken_and_no_link_leads_out() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("allowed");
        let outside = directory.path().join("outside");
        for path in [root.join("deep"), outside.clone()] {
            fs::create_dir_all(path).unwrap();
        }
        fs::write(outside.join("secret"), "x").unwrap();
        fs::write(root.join("deep/file"), "x").unwrap();
        symlink(&outside, root.join("out")).unwrap();
        symlink("deep", root.join("in")).unwrap();
        symlink(outside.join("secret"), root.join("link")).unwrap();
        let roots = [directory.path().join("other"), root.clone()];
        let place = |path: &str| Place::allowed(&root.join(path), &roots).unwrap();
        for path in ["deep/file", "in/file"] {
            place(path).open(false, Access::Read).unwrap();
        }
        for path in ["out/secret", "link"] {
            let denied = ImageErrorKind::PermissionDenied;
            assert_eq!(kind(place(path).open(false, Access::Read)), denied, "{path}");
        }
        assert_eq!(kind(place("out/new").create_partial()), ImageErrorKind::PermissionDenied);
        assert!(!outside.join("new.partial").exists());
        for bad in
            [outside.join("secret"), root.clone(), root.join("../outside/secret"), "a".into()]
        {
            assert!(Place::allowed(&bad, &roots).is_err(), "{bad:?}");
        }
        assert!(Place::allowed(&root.join("deep/file"), &[]).is_err());
    }

    #[test]
    fn a_file_of_somebody_else_is_neither_replaced_nor_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "theirs").unwrap();
        let place = Place::pool(&path);
        assert_eq!(kind(place.is_free()), ImageErrorKind::AlreadyExists);
        place.create_partial().unwrap();
        let identity = place.partial_identity().unwrap().unwrap();
        assert_eq!(kind(place.publish(identity)), ImageErrorKind::AlreadyExists);
        place.remove(Some(identity)).unwrap();
        place.remove(Some(identity)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        fs::remove_file(&path).unwrap();
        place.create_partial().unwrap();
        let identity = place.partial_identity().unwrap().unwrap();
        place.publish(identity).unwrap();
        place.publish(identity).unwrap();
        assert!(path.exists());
        place.remove(None).unwrap();
        assert!(path.exists());
        place.remove(Some(identity)).unwrap();
        place.remove(Some(identity)).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
