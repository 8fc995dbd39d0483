//! Chains of images: each shows its parent's data where it has none of its own.

use std::path::{Path, PathBuf};

use crate::block_file::BlockFile as _;
use crate::chain::{Found, find};
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::file::{FileIdentity, ImageFile};
use crate::format::OpenOptions;
use crate::pool::directory_of;

/// The longest chain of images.
const DEEPEST: usize = 64;

/// The files that have been opened on the way down.
#[derive(Debug)]
pub(crate) struct Ancestors {
    files: Vec<FileIdentity>,
}

impl Ancestors {
    /// The chain that begins with the image in `file`.
    pub(crate) fn of(file: &ImageFile) -> Self {
        Self { files: vec![file.identity()] }
    }

    /// Opens and locks the parent of the image in `child`, for reading: the first of `paths` that is
    /// there and lies in the child's directory or in one that the options allow. Also the options
    /// with which it is to be opened.
    ///
    /// # Errors
    /// `ParentMismatch` with a reason if there is none, or if the chain comes back to itself or is
    /// too long; as [`ImageFile::open`].
    pub(crate) fn open_parent(
        &mut self,
        child: &Path,
        paths: impl Iterator<Item = String>,
        options: &OpenOptions,
    ) -> Result<(ImageFile, OpenOptions), ImageError> {
        if options.no_parents {
            let kind = ImageErrorKind::Unsupported;
            return Err(ImageError::new(kind, Operation::Open, child)
                .because("it has a parent, and is wanted without any"));
        }
        let mut reasons = Vec::new();
        for path in paths {
            let file = match &options.parent_opener {
                Some(opener) => match opener.open(child, Path::new(&path)) {
                    Ok(file) => ImageFile::lock(file.file, file.path, true)?,
                    // It may lie at the next of the paths.
                    Err(error)
                        if matches!(
                            error.kind(),
                            ImageErrorKind::NotFound | ImageErrorKind::ParentMismatch
                        ) =>
                    {
                        reasons.push(error.to_string());
                        continue;
                    }
                    Err(error) => return Err(error),
                },
                None => match allowed(child, &path, options) {
                    Ok(path) => ImageFile::open(path.as_path(), true)?,
                    Err(reason) => {
                        reasons.push(reason);
                        continue;
                    }
                },
            };
            let path = file.path().clone();
            if self.files.contains(&file.identity()) {
                return Err(mismatch(&path, "the chain of parents comes back to this file"));
            }
            if self.files.len() >= DEEPEST {
                return Err(mismatch(&path, format!("the chain has more than {DEEPEST} images")));
            }
            self.files.push(file.identity());
            let options = OpenOptions { read_only: true, size_bytes: None, ..options.clone() };
            return Ok((file, options));
        }
        Err(mismatch(child, format!("its parent is not there: {}", reasons.join("; "))))
    }
}

fn mismatch(path: &Path, reason: impl Into<String>) -> ImageError {
    ImageError::new(ImageErrorKind::ParentMismatch, Operation::Open, path).because(reason)
}

/// The file that an image means by the path of its parent, if it lies where parents may lie.
fn allowed(child: &Path, path: &str, options: &OpenOptions) -> Result<PathBuf, String> {
    match find(child, path, options) {
        Ok(Found { path, is_allowed: true }) => Ok(path),
        Ok(Found { path, .. }) => {
            Err(format!("{} is in no directory where parents may be", path.display()))
        }
        Err(error) => Err(format!("{}: {error}", directory_of(child).join(path).display())),
    }
}
