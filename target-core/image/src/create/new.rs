//! Creating images of formats that have a structure: first that, then the space of the disk if it
//! is to be taken at once.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::{CreateOptions, Creator, Preallocation, Progress, partial_path, rename_new};
use crate::block_file::BlockFile;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::file::ImageFile;
use crate::pool::{MissingFile, delete, directory_of, pool_space, sync_directory};

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
        let fail = |errno: Errno| {
            ImageError::from_io(Operation::Create, path.clone(), errno.into())
                .at(0, options.size_bytes)
        };
        if path.symlink_metadata().is_ok() {
            return Err(fail(Errno::EXIST));
        }
        let full = options.preallocation == Preallocation::Full;
        if full && pool_space(directory_of(&path))?.free < options.size_bytes {
            return Err(fail(Errno::NOSPC));
        }
        let partial = partial_path(&path);
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = retry_on_intr(|| rustix::fs::open(&partial, flags, mode)).map_err(fail)?;
        let file = ImageFile::lock(file, partial.as_path().into(), false)?;
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
        let fail =
            |errno: Errno| ImageError::from_io(Operation::Create, self.path.clone(), errno.into());
        self.file.flush().map_err(|error| self.error(error))?;
        rename_new(&self.partial, &self.path).map_err(fail)?;
        sync_directory(&self.path).map_err(fail)
    }

    fn abort(self: Box<Self>) -> Result<(), ImageError> {
        delete(&self.partial, MissingFile::Tolerate)
    }
}
