//! Parents of images that clients bring: read with them, if they lie below the allowed directories too.
//!
//! A name counts from the directory of the image that has it, as QEMU takes it. What it means is looked up
//! first, with links; what that comes to is opened as any file of a client is, so no link leads out however
//! the directories change meanwhile.

use std::path::{Component, Path, PathBuf};

use disk_image::{ImageError, ImageErrorKind, NamedFile, Operation, ParentOpener};

use crate::place::{Access, Place};

/// Opens parents below these directories, each of them locked against writers.
#[derive(Debug)]
pub(crate) struct AllowedParents {
    pub(crate) directories: Vec<PathBuf>,
}

impl AllowedParents {
    fn place(&self, child: &Path, name: &Path) -> Result<Place, ImageError> {
        let wanted = plain(&child.parent().unwrap_or(Path::new("/")).join(name));
        let outside = |path: &Path| {
            let directories: Vec<_> =
                self.directories.iter().map(|it| it.display().to_string()).collect();
            let reason = format!(
                "its parent {} lies in none of the allowed directories {}",
                path.display(),
                directories.join(", ")
            );
            ImageError::new(ImageErrorKind::ParentMismatch, Operation::Open, child).because(reason)
        };
        let root = |path: &Path| {
            self.directories.iter().find(|root| path.starts_with(root) && path != root.as_path())
        };
        // Nobody learns what there is elsewhere.
        if root(&wanted).is_none() {
            return Err(outside(&wanted));
        }
        let found = wanted.canonicalize().map_err(|error| {
            ImageError::from_io(Operation::Open, wanted.as_path(), error)
                .because(format!("it is the parent of {}", child.display()))
        })?;
        match root(&found) {
            Some(root) => Ok(Place { root: Some(root.clone()), path: found }),
            None => Err(outside(&wanted)),
        }
    }
}

impl ParentOpener for AllowedParents {
    fn open(&self, child: &Path, name: &Path) -> Result<NamedFile, ImageError> {
        let place = self.place(child, name)?;
        place.open(false, Access::Read).map_err(|error| {
            let reason = format!("it is the parent of {}", child.display());
            if error.reason().is_none() { error.because(reason) } else { error }
        })
    }
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn parents_lie_below_the_allowed_directories_whatever_they_are_called() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        let (files, other) = (base.join("files"), base.join("other"));
        for path in [files.join("deep"), other.clone(), base.join("secret")] {
            fs::create_dir_all(path).unwrap();
        }
        for path in ["files/a", "files/deep/b", "other/c", "secret/d"] {
            fs::write(base.join(path), path).unwrap();
        }
        symlink(base.join("secret"), files.join("out")).unwrap();
        symlink("deep", files.join("in")).unwrap();
        symlink(base.join("secret/d"), files.join("link")).unwrap();
        let parents = AllowedParents { directories: vec![files.clone(), other.clone()] };
        let child = files.join("deep/child");
        let open = |name: &str| parents.open(&child, Path::new(name));
        let absolute = other.join("c");
        for (name, found) in [
            ("b", files.join("deep/b")),
            ("./../a", files.join("a")),
            ("../in/b", files.join("deep/b")),
            ("../../other/c", absolute.clone()),
            (absolute.to_str().unwrap(), absolute.clone()),
        ] {
            assert_eq!(&*open(name).unwrap().path, found, "{name}");
        }
        let secret = base.join("secret/d");
        for name in ["../../secret/d", secret.to_str().unwrap(), "../out/d", "../link"] {
            let error = open(name).unwrap_err();
            assert_eq!(error.kind(), ImageErrorKind::ParentMismatch, "{name}: {error}");
            assert!(error.to_string().contains("none of the allowed directories"), "{error}");
        }
        // The same, whether it is there or not.
        assert_eq!(open("../../secret/none").unwrap_err().kind(), ImageErrorKind::ParentMismatch);
        let error = open("none").unwrap_err();
        assert_eq!(error.kind(), ImageErrorKind::NotFound);
        assert!(error.to_string().contains("deep/child"), "{error}");
        assert_eq!(open("../deep").unwrap_err().kind(), ImageErrorKind::InvalidFormat);
        assert_eq!(open("..").unwrap_err().kind(), ImageErrorKind::ParentMismatch);
    }
}
