//! Finding the parents of differencing disks.

use std::path::Path;
use std::sync::Arc;

use super::VhdxImage;
use super::locator::ParentLocator;
use crate::block_file::BlockFile as _;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::format::OpenOptions;
use crate::parents::Ancestors;

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

fn mismatch(path: &Path, reason: &str) -> ImageError {
    ImageError::new(ImageErrorKind::ParentMismatch, Operation::Open, path).because(reason)
}

impl Parents for Ancestors {
    fn find(
        &mut self,
        child: &Path,
        locator: &ParentLocator,
        options: &OpenOptions,
    ) -> Result<Arc<VhdxImage>, ImageError> {
        let (file, options) = self.open_parent(child, locator.paths(), options)?;
        let path = file.path().clone();
        let parent = VhdxImage::open(Arc::new(file), &options, self)?;
        let id = parent.data_write_guid();
        if !locator.linkages().any(|linkage| linkage == id) {
            return Err(mismatch(&path, "its contents have changed since the child was made"));
        }
        Ok(Arc::new(parent))
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
        Err(mismatch(child, "a parent cannot be found from here"))
    }
}
