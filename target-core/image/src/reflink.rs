//! Copies that share their blocks with their source until one of the two is written (FICLONE): at
//! one instant, in milliseconds, where the file system has them (XFS, Btrfs, bcachefs, NFS 4.2 and
//! others).

use std::path::Path;

use fiemap::Fiemap;
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::copy::NamedFile;
use crate::error::{ImageError, ImageErrorKind, Operation};

/// Makes `target` what `source` is, sharing its blocks. A target that was longer is cut.
///
/// # Errors
/// `Unsupported` if the file system cannot, or the two are on different ones; otherwise as the
/// system says. Then the target may be anything.
pub fn reflink(source: &NamedFile, target: &NamedFile) -> Result<(), ImageError> {
    let length = source.length()?;
    if target.length()? > length {
        target.set_length(length)?;
    }
    retry_on_intr(|| rustix::fs::ioctl_ficlone(&target.file, &source.file)).map_err(|errno| {
        let error = source.error(Operation::Reflink, errno, 0, length);
        let cannot = [Errno::OPNOTSUPP, Errno::XDEV, Errno::INVAL, Errno::NOTTY, Errno::NOSYS];
        if cannot.contains(&errno) { error.with_kind(ImageErrorKind::Unsupported) } else { error }
    })
}

/// The extents of a file, `most` at most, as far as it is flushed: [`reflink`] takes its time for each of
/// them, and nobody writes the file meanwhile.
///
/// # Errors
/// `Unsupported` if the file system does not say; otherwise as the system says.
pub fn extents(file: &NamedFile, most: usize) -> Result<usize, ImageError> {
    let mut found = 0;
    for extent in Fiemap::new(&file.file).take(most) {
        let failed = |error| ImageError::from_io(Operation::BlockStatus, file.path.clone(), error);
        extent.map_err(failed)?;
        found += 1;
    }
    Ok(found)
}

/// Whether two files can share blocks: asked of the kernel with a `probe`, which is empty afterwards.
///
/// # Errors
/// As [`reflink`], but for `Unsupported`.
pub fn reflinks(source: &NamedFile, probe: &NamedFile) -> Result<bool, ImageError> {
    match reflink(source, probe) {
        Ok(()) => probe.set_length(0).map(|()| true),
        Err(error) if error.kind() == ImageErrorKind::Unsupported => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether files of a directory can share blocks, asked of the kernel with two that have no names.
#[must_use]
pub fn shares_blocks(directory: &Path) -> bool {
    let made = || -> Result<(), Errno> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let make = || rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR);
        let (source, target) = (make()?, make()?);
        rustix::io::pwrite(&source, &[1; 4096], 0)?;
        retry_on_intr(|| rustix::fs::ioctl_ficlone(&target, &source))
    };
    made().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::tests::named;

    #[test]
    fn a_file_system_without_shared_blocks_says_so() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a"), vec![7; 8192]).unwrap();
        let (source, target) =
            (named(&directory.path().join("a")), named(&directory.path().join("b")));
        match reflink(&source, &target) {
            // The tests run on XFS or Btrfs.
            Ok(()) => assert!(reflinks(&source, &target).unwrap()),
            Err(error) => {
                assert_eq!(error.kind(), ImageErrorKind::Unsupported, "{error}");
                assert!(!reflinks(&source, &target).unwrap());
            }
        }
        assert!(target.length().unwrap() == 0);
    }

    #[test]
    fn each_piece_of_a_file_is_an_extent_and_no_more_are_looked_at_than_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let file = named(&directory.path().join("a"));
        let count = |most| match extents(&file, most) {
            Err(error) if error.kind() == ImageErrorKind::Unsupported => None,
            other => Some(other.unwrap()),
        };
        let Some(none) = count(9) else { return };
        assert_eq!(none, 0);
        for piece in 0..200 {
            rustix::io::pwrite(&file.file, &[7; 4096], piece << 17).unwrap();
        }
        file.sync().unwrap();
        assert_eq!((count(9), count(1000)), (Some(9), Some(200)));
    }
}
