//! Creating images in steps, so that a job can show progress, stop between two steps and go
//! on after a crash.
//!
//! The file grows under `<name>.partial` and gets its name only when it is whole and durable:
//! whoever finds `<name>` finds all of it.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::allocate::Allocator;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::file::{ImageFile, lock};
use crate::format::{ImageFormat, OpenOptions, open_image};
use crate::pool::{MissingFile, delete, pool_space, sync_directory};
use crate::qcow2::Qcow2Creator;

mod new;

pub(crate) use new::{FormatCreator, NewImage};

/// Whether a new image owns its space from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preallocation {
    /// Space is taken when it is written.
    #[default]
    Sparse,
    /// All space is taken now.
    Full,
}

/// The image that a new one shows where it has nothing of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its file. Written into the new image as it is: relative to that one's directory, or absolute.
    pub path: PathBuf,
    /// Its format.
    pub format: ImageFormat,
}

/// What to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateOptions {
    /// Size of the disk in bytes.
    pub size_bytes: u64,
    /// Whether its space is taken now.
    pub preallocation: Preallocation,
    /// Bytes in a logical block, for formats that write it down.
    pub logical_block_bytes: u32,
    /// The unit in which the format takes space (cluster, block), in bytes; `None` is its default.
    pub block_bytes: Option<u32>,
    /// What it is based upon; not for raw images.
    pub parent: Option<Parent>,
}

impl CreateOptions {
    /// A disk of its own, with logical blocks of 512 bytes.
    #[must_use]
    pub fn new(size_bytes: u64, preallocation: Preallocation) -> Self {
        let (logical_block_bytes, block_bytes, parent) = (512, None, None);
        Self { size_bytes, preallocation, logical_block_bytes, block_bytes, parent }
    }
}

/// An image that is being made under the name of [`partial_path`]. Dropping it leaves the partial
/// file for a later [`create_image`].
pub trait Creator: Send {
    /// How far it is.
    fn progress(&self) -> Progress;

    /// Does about the next `max_bytes` bytes.
    ///
    /// # Errors
    /// `OutOfSpace`, or as the system says. The step can be repeated.
    fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError>;

    /// Makes the image durable and gives it its name.
    ///
    /// # Errors
    /// `AlreadyExists` if something took the name meanwhile; `Cancelled` if steps are missing.
    fn finish(self: Box<Self>) -> Result<(), ImageError>;

    /// Gives up and removes the partial file.
    ///
    /// # Errors
    /// As the system says; a file that is gone already is none.
    fn abort(self: Box<Self>) -> Result<(), ImageError>;
}

/// Starts to create an image, or goes on with the partial file that an earlier run left.
///
/// # Errors
/// `AlreadyExists` if `path` is there, `InUse` while another creator works on it, `OutOfSpace` if
/// all space is to be taken and the file system has less, `Unsupported` with a reason for options
/// that the format does not have, otherwise as the system says.
pub fn create_image(
    path: impl Into<Arc<Path>>,
    format: ImageFormat,
    options: CreateOptions,
) -> Result<Box<dyn Creator>, ImageError> {
    let path = path.into();
    match format {
        ImageFormat::Raw => Ok(Box::new(RawCreator::begin(path, options)?)),
        ImageFormat::Qcow2 => Ok(Box::new(Qcow2Creator::begin(path, options)?)),
        ImageFormat::Vhdx => {
            let plan = crate::vhdx::Plan::of(&path, &options)?;
            Ok(Box::new(FormatCreator::begin(path, &options, plan)?))
        }
        ImageFormat::Vhd => {
            let plan = crate::vhd::Plan::of(&path, &options)?;
            Ok(Box::new(FormatCreator::begin(path, &options, plan)?))
        }
        ImageFormat::Vmdk => Err(read_only_format(path)),
    }
}

/// There are images of this format that others made, and no new ones.
pub(crate) fn read_only_format(path: Arc<Path>) -> ImageError {
    ImageError::new(ImageErrorKind::Unsupported, Operation::Create, path).because(VMDK_IS_READ)
}

const VMDK_IS_READ: &str = "VMDK images are imported, as disks of another format, and not made";

/// Checks what can be said of a new image before there is a file.
///
/// # Errors
/// What the format cannot do, as one clause.
pub fn check_create(format: ImageFormat, options: &CreateOptions) -> Result<(), String> {
    match format {
        ImageFormat::Raw if options.parent.is_some() => Err("a raw image has no parent".to_owned()),
        ImageFormat::Raw => Ok(()),
        ImageFormat::Qcow2 => crate::qcow2::check_create(options),
        ImageFormat::Vhdx => crate::vhdx::check_create(options),
        ImageFormat::Vhd => crate::vhd::check_create(options),
        ImageFormat::Vmdk => Err(VMDK_IS_READ.to_owned()),
    }
}

/// Whether the image that [`create_image`] makes is there: it has its name only when it is whole.
#[must_use]
pub fn is_whole(path: &Path, format: ImageFormat, size_bytes: u64) -> bool {
    match format {
        ImageFormat::Raw => std::fs::metadata(path).is_ok_and(|file| file.len() == size_bytes),
        ImageFormat::Qcow2 | ImageFormat::Vhdx | ImageFormat::Vhd | ImageFormat::Vmdk => {
            let options = OpenOptions::read_only();
            open_image(path, format, &options).is_ok_and(|image| image.size_bytes() >= size_bytes)
        }
    }
}

/// How far a creation is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes done.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

impl Progress {
    /// Nothing is left but [`RawCreator::finish`].
    #[must_use]
    pub fn is_complete(self) -> bool {
        self.done >= self.total
    }
}

/// A raw image being made. Dropping it leaves the partial file for a later [`RawCreator::begin`];
/// [`RawCreator::abort`] removes it.
#[derive(Debug)]
pub struct RawCreator {
    file: OwnedFd,
    path: Arc<Path>,
    partial: PathBuf,
    options: CreateOptions,
    done: u64,
    allocator: Allocator,
}

/// The name under which the image `path` grows.
#[must_use]
pub fn partial_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".partial");
    name.into()
}

impl RawCreator {
    /// Starts to create `path`, or goes on with the partial file that an earlier run left.
    ///
    /// # Errors
    /// `AlreadyExists` if `path` is there, `InUse` while another creator works on it,
    /// `OutOfSpace` if all space is to be taken and the file system has less, otherwise as the
    /// system says.
    pub fn begin(path: impl Into<Arc<Path>>, options: CreateOptions) -> Result<Self, ImageError> {
        let path: Arc<Path> = path.into();
        let fail = |errno: Errno| {
            ImageError::from_io(Operation::Create, path.clone(), errno.into())
                .at(0, options.size_bytes)
        };
        if options.parent.is_some() {
            return Err(fail(Errno::OPNOTSUPP).because("a raw image has no parent"));
        }
        if i64::try_from(options.size_bytes).is_err() {
            return Err(fail(Errno::FBIG));
        }
        let partial = partial_path(&path);
        let file = open_partial_file(&path)?;
        let stat = rustix::fs::fstat(&file).map_err(fail)?;
        // The file's length is the checkpoint: a full image grows only by allocated space. What a
        // sparse one left has the length without the space.
        let mut done = u64::try_from(stat.st_size).unwrap_or(0);
        let allocated = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
        let goes_on = options.preallocation == Preallocation::Full
            && done <= options.size_bytes
            && done <= allocated;
        if !goes_on {
            rustix::fs::ftruncate(&file, 0).map_err(fail)?;
            done = 0;
        }
        let creator = Self { file, path, partial, options, done, allocator: Allocator::default() };
        creator.check_space()?;
        Ok(creator)
    }

    fn check_space(&self) -> Result<(), ImageError> {
        if self.options.preallocation == Preallocation::Sparse {
            return Ok(());
        }
        check_space(&self.path, self.options.size_bytes, self.done, &self.partial)
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress { done: self.done, total: self.options.size_bytes }
    }

    /// Does the next at most `max_bytes` bytes; a sparse image is done in one step.
    ///
    /// # Errors
    /// `OutOfSpace`, or as the system says. The step can be repeated.
    pub fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError> {
        let (size, kind) = (self.options.size_bytes, self.options.preallocation);
        let done = self.allocator.lengthen(&self.file, kind, self.done, size, max_bytes);
        self.done = done.map_err(|errno| self.error(errno))?;
        Ok(self.progress())
    }

    /// Makes the image durable and gives it its name.
    ///
    /// # Errors
    /// `AlreadyExists` if something took the name meanwhile; `Cancelled` if steps are missing.
    pub fn finish(self) -> Result<(), ImageError> {
        if !self.progress().is_complete() {
            let kind = ImageErrorKind::Cancelled;
            return Err(ImageError::new(kind, Operation::Create, self.path.clone()));
        }
        let fail = |errno| self.error(errno);
        rustix::fs::fsync(&self.file)
            .map_err(|errno| fail(errno).with_kind(ImageErrorKind::SyncFailed))?;
        give_name(&self.partial, &self.path)
    }

    /// Gives up and removes the partial file.
    ///
    /// # Errors
    /// As the system says; a file that is gone already is none.
    pub fn abort(self) -> Result<(), ImageError> {
        delete(&self.partial, MissingFile::Tolerate)
    }

    fn error(&self, errno: Errno) -> ImageError {
        ImageError::from_io(Operation::Create, self.path.clone(), errno.into())
            .at(self.done, self.options.size_bytes - self.done)
    }
}

impl Creator for RawCreator {
    fn progress(&self) -> Progress {
        Self::progress(self)
    }

    fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError> {
        Self::step(self, max_bytes)
    }

    fn finish(self: Box<Self>) -> Result<(), ImageError> {
        Self::finish(*self)
    }

    fn abort(self: Box<Self>) -> Result<(), ImageError> {
        Self::abort(*self)
    }
}

/// Opens and locks the file under whose name the image `path` grows.
fn open_partial_file(path: &Arc<Path>) -> Result<OwnedFd, ImageError> {
    let fail = |errno: Errno| ImageError::from_io(Operation::Create, path.clone(), errno.into());
    if path.symlink_metadata().is_ok() {
        return Err(fail(Errno::EXIST));
    }
    let flags =
        OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = retry_on_intr(|| rustix::fs::open(partial_path(path), flags, mode)).map_err(fail)?;
    lock(&file, false)
        .map_err(|errno| ImageError::from_io(Operation::Lock, path.clone(), errno.into()))?;
    let stat = rustix::fs::fstat(&file).map_err(fail)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(fail(Errno::EXIST));
    }
    Ok(file)
}

/// The same for formats; messages have the name that the image will have.
pub(crate) fn open_partial(path: &Arc<Path>) -> Result<ImageFile, ImageError> {
    ImageFile::lock(open_partial_file(path)?, path.clone(), false)
}

/// Filling a file system to the brim only to find that the image does not fit would hurt everybody
/// else on it. A partial file in which nothing is done is removed then.
pub(crate) fn check_space(
    path: &Arc<Path>,
    size_bytes: u64,
    done: u64,
    partial: &Path,
) -> Result<(), ImageError> {
    let space = pool_space(crate::pool::directory_of(path))?;
    let left = size_bytes.saturating_sub(done);
    if space.free >= left {
        return Ok(());
    }
    if done == 0 {
        delete(partial, MissingFile::Tolerate)?;
    }
    let source = Errno::NOSPC.into();
    Err(ImageError::from_io(Operation::Create, path.clone(), source).at(done, left))
}

/// Gives an image that is whole and durable its name, durably.
pub(crate) fn give_name(partial: &Path, path: &Arc<Path>) -> Result<(), ImageError> {
    let fail = |errno: Errno| ImageError::from_io(Operation::Create, path.clone(), errno.into());
    rename_new(partial, path).map_err(fail)?;
    sync_directory(path).map_err(fail)
}

/// Renames without ever replacing: an image that is there is somebody's data.
fn rename_new(from: &Path, to: &Path) -> Result<(), Errno> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if to.symlink_metadata().is_ok() {
                return Err(Errno::EXIST);
            }
            rustix::fs::rename(from, to)
        }
        result => result,
    }
}

#[cfg(test)]
mod tests;
