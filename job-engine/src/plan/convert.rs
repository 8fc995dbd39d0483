//! Actions that go through images of any format: converting and comparing.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

use disk_image::{
    ConvertOptions, CreateOptions, Image, ImageCopier, ImageError, ImageErrorKind, ImageFormat,
    ImageVerifier, OpenOptions, Preallocation, open_named,
};
use serde::{Deserialize, Serialize};

use super::run::Work;
use crate::checksums::files_of;
use crate::engine::Failure;
use crate::error::Cause;
use crate::place::{Access, Place};

/// An image in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Form {
    pub(crate) place: Place,
    pub(crate) format: ImageFormat,
}

/// An image that becomes another, whatever the formats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Conversion {
    pub(crate) from: Form,
    /// Made under its partial name.
    pub(crate) to: Form,
    /// Bytes of the disk.
    pub(crate) bytes: u64,
    /// Bytes in a logical block, for formats that write it down.
    pub(crate) block_bytes: u32,
    /// The copy owns all its space.
    pub(crate) full: bool,
}

/// Bytes that a file takes of its file system; a device is taken by the source's size.
fn allocated(path: &Path, bytes: u64) -> u64 {
    match std::fs::metadata(path) {
        Ok(file) if file.file_type().is_block_device() => bytes,
        Ok(file) => file.blocks().saturating_mul(512),
        Err(_) => 0,
    }
}

impl Work<'_> {
    /// The image in a file that nobody writes meanwhile. The parents of what a client brought lie where
    /// its files may.
    pub(super) fn image(&self, form: &Form, bytes: u64) -> Result<Arc<dyn Image>, Failure> {
        self.open(form, bytes, false)
    }

    /// The same of a client's file that stays where it is: it has none.
    fn alone(&self, form: &Form, bytes: u64) -> Result<Arc<dyn Image>, Failure> {
        self.open(form, bytes, form.place.root.is_some())
    }

    fn open(&self, form: &Form, bytes: u64, no_parents: bool) -> Result<Arc<dyn Image>, Failure> {
        let Form { place, format } = form;
        let config = &self.context.shared.config;
        let options = |read_only| OpenOptions {
            read_only,
            size_bytes: Some(bytes),
            no_parents,
            parent_opener: place.root.is_some().then(|| config.parents_of_clients()),
            ..OpenOptions::default()
        };
        let fail = |error: &ImageError| Cause::from(error);
        match open_named(self.held(place)?, *format, &options(true)) {
            // A log that a crash has left, or an instant: in a file of the pool it may be replayed.
            Err(error) if error.kind() == ImageErrorKind::ReadOnly && place.root.is_none() => {
                let file = place.open(false, Access::Write).map_err(|error| fail(&error))?;
                Ok(open_named(file, *format, &options(false)).map_err(|error| fail(&error))?)
            }
            opened => Ok(opened.map_err(|error| fail(&error))?),
        }
    }

    /// Copies an image into one of another format, or of the same.
    pub(super) fn convert(&self, conversion: &Conversion) -> Result<(), Failure> {
        let Conversion { from, to, bytes, block_bytes, full } = conversion;
        let fail = |error: &ImageError| self.cause(error, &to.place, *bytes);
        let source = self.image(from, *bytes)?;
        // Its parents' data become its own.
        let allocated: u64 = files_of(&*source).iter().map(|path| allocated(path, *bytes)).sum();
        self.reserve(&to.place, *bytes, if *full { *bytes } else { allocated.min(*bytes) })?;
        let preallocation = if *full { Preallocation::Full } else { Preallocation::Sparse };
        let image = CreateOptions {
            logical_block_bytes: *block_bytes,
            ..CreateOptions::new(*bytes, preallocation)
        };
        let begin = |done| {
            let target = to.place.create_partial()?;
            let options = ConvertOptions { format: to.format, image: image.clone(), done };
            ImageCopier::begin(source.clone(), target, &options)
        };
        let copier = match begin(self.done) {
            // What an earlier run has made is not to be used: it begins anew.
            Err(error)
                if self.done > 0
                    && matches!(
                        error.kind(),
                        ImageErrorKind::InvalidFormat | ImageErrorKind::Corrupt
                    ) =>
            {
                begin(0)
            }
            begun => begun,
        };
        let copier = copier.map_err(|error| fail(&error))?;
        self.pass(copier, "plan.converted", fail)
    }

    /// Compares a copy that has not got its name yet with its source, or reads all of an image.
    pub(super) fn compare(
        &self,
        from: Option<&Form>,
        of: &Form,
        bytes: u64,
    ) -> Result<(), Failure> {
        let fail = |error: &ImageError| Cause::from(error);
        let (source, copy) = match from {
            None => (None, self.alone(of, bytes)?),
            Some(from) => {
                let file = of.place.open(true, Access::Read).map_err(|error| fail(&error))?;
                let options = OpenOptions { size_bytes: Some(bytes), ..OpenOptions::read_only() };
                let copy = open_named(file, of.format, &options).map_err(|error| fail(&error))?;
                (Some(self.image(from, bytes)?), copy)
            }
        };
        self.pass(ImageVerifier::begin(source, copy, bytes, self.done), "plan.compared", fail)
    }
}
