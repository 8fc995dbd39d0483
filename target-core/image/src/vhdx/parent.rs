//! Finding the parents of differencing disks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::VhdxImage;
use super::locator::ParentLocator;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::file::{FileIdentity, ImageFile};
use crate::format::OpenOptions;

/// The longest chain of images.
const DEEPEST: usize = 64;

/// Where parents come from.
pub(super) trait Parents {
    /// The parent of the image in `child`.
    ///
    /// # Errors
    /// `ParentMismatch` with a reason if there is none that fits.
    fn find(
        &mut self,
        child: &Path,
        locator: &ParentLocator,
        options: &OpenOptions,
    ) -> Result<Arc<VhdxImage>, ImageError>;
}

/// Parents that are files in the child's directory or in one that the options allow.
#[derive(Debug, Default)]
pub(super) struct Files {
    chain: Vec<FileIdentity>,
}

impl Files {
    /// Parents of the image in `file`.
    pub(super) fn of(file: &ImageFile) -> Self {
        Self { chain: vec![file.identity()] }
    }

    fn open(&mut self, path: &Path, options: &OpenOptions) -> Result<VhdxImage, ImageError> {
        let file = ImageFile::open(path, true)?;
        if self.chain.contains(&file.identity()) {
            return Err(mismatch(path, "the chain of parents comes back to this file".to_owned()));
        }
        if self.chain.len() >= DEEPEST {
            return Err(mismatch(path, format!("the chain has more than {DEEPEST} images")));
        }
        self.chain.push(file.identity());
        let options = OpenOptions { read_only: true, size_bytes: None, ..options.clone() };
        VhdxImage::open(Arc::new(file), &options, self)
    }
}

fn mismatch(path: &Path, reason: String) -> ImageError {
    ImageError::new(ImageErrorKind::ParentMismatch, Operation::Open, path).because(reason)
}

/// The file that a path in a locator means, if it lies where parents may lie.
fn allowed(child: &Path, path: &str, options: &OpenOptions) -> Result<PathBuf, String> {
    let directory = match child.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    // Joining keeps an absolute path as it is.
    let wanted = directory.join(path);
    let found = wanted.canonicalize().map_err(|error| format!("{}: {error}", wanted.display()))?;
    let directories = std::iter::once(directory)
        .chain(options.parent_directories.iter().map(PathBuf::as_path))
        .filter_map(|directory| directory.canonicalize().ok());
    for directory in directories {
        if found.starts_with(&directory) {
            return Ok(found);
        }
    }
    Err(format!("{} is in no directory where parents may be", found.display()))
}

impl Parents for Files {
    fn find(
        &mut self,
        child: &Path,
        locator: &ParentLocator,
        options: &OpenOptions,
    ) -> Result<Arc<VhdxImage>, ImageError> {
        let mut reasons = Vec::new();
        for path in locator.paths() {
            let path = match allowed(child, &path, options) {
                Ok(path) => path,
                Err(reason) => {
                    reasons.push(reason);
                    continue;
                }
            };
            let parent = self.open(&path, options)?;
            let id = parent.data_write_guid();
            if !locator.linkages().any(|linkage| linkage == id) {
                let reason = "its contents have changed since the child was made".to_owned();
                return Err(mismatch(&path, reason));
            }
            return Ok(Arc::new(parent));
        }
        let reason = format!("its parent is not there: {}", reasons.join("; "));
        Err(mismatch(child, reason))
    }
}

/// No parents at all: for bytes that are no file.
#[derive(Debug)]
pub(super) struct NoParents;

impl Parents for NoParents {
    fn find(
        &mut self,
        child: &Path,
        _: &ParentLocator,
        _: &OpenOptions,
    ) -> Result<Arc<VhdxImage>, ImageError> {
        Err(mismatch(child, "a parent cannot be found from here".to_owned()))
    }
}
