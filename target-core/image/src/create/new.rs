//! Creating images of formats that have a structure: first that, then the space of the disk if it
//! is to be taken at once.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{
    CreateOptions, Creator, Preallocation, Progress, check_space, give_name, open_partial,
    partial_path,
};
use crate::block_file::BlockFile;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::file::ImageFile;
use crate::pool::{MissingFile, delete};

/// What a format makes of an empty file.
pub(crate) trait NewImage: Send {
    /// Writes everything but the disk's own space.
    ///
    /// # Errors
    /// As the system says.
    fn write(&self, file: &dyn BlockFile) -> Result<(), ImageError>;

    /// The part of the file that is the disk's own space, which is taken after [`Self::write`].
    fn space(&self) -> Range<u64>;
}

/// An image being made.
#[derive(Debug)]
pub(crate) struct FormatCreator<N> {
    file: ImageFile,
    path: Arc<Path>,
    partial: PathBuf,
    image: N,
    written: bool,
    done: u64,
}

impl<N: NewImage> FormatCreator<N> {
    /// Starts to create `path`. What an earlier run left begins anew: taking space that is taken
    /// already costs nothing.
    ///
    /// # Errors
    /// As [`super::create_image`].
    pub(crate) fn begin(
        path: Arc<Path>,
        options: &CreateOptions,
        image: N,
    ) -> Result<Self, ImageError> {
        let partial = partial_path(&path);
        let file = open_partial(&path)?;
        if options.preallocation == Preallocation::Full {
            check_space(&path, options.size_bytes, 0, &partial)?;
        }
        Ok(Self { file, path, partial, image, written: false, done: 0 })
    }

    fn error(&self, error: ImageError) -> ImageError {
        error.during(Operation::Create)
    }
}

impl<N: NewImage> Creator for FormatCreator<N> {
    fn progress(&self) -> Progress {
        let space = self.image.space();
        // The structure counts as one byte.
        let total = (space.end - space.start).saturating_add(1);
        Progress { done: self.done.saturating_add(self.written.into()), total }
    }

    fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError> {
        if !self.written {
            self.file.set_length(0).map_err(|error| self.error(error))?;
            self.image.write(&self.file).map_err(|error| self.error(error))?;
            self.written = true;
        }
        let space = self.image.space();
        let start = space.start.saturating_add(self.done);
        let count = (space.end - start).min(max_bytes.max(1));
        if count > 0 {
            self.file.allocate(start, count).map_err(|error| self.error(error))?;
            self.done += count;
        }
        Ok(self.progress())
    }

    fn finish(self: Box<Self>) -> Result<(), ImageError> {
        if !self.progress().is_complete() {
            let kind = ImageErrorKind::Cancelled;
            return Err(ImageError::new(kind, Operation::Create, self.path.clone()));
        }
        self.file.flush().map_err(|error| self.error(error))?;
        give_name(&self.partial, &self.path)
    }

    fn abort(self: Box<Self>) -> Result<(), ImageError> {
        delete(&self.partial, MissingFile::Tolerate)
    }
}
