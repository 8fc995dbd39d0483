//! Making images larger in steps, while they are in use.
//!
//! Nobody sees the new bytes before the catalogue says that they belong to the disk, so what an
//! interrupted extension leaves does no harm: the next one begins with the old size.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::allocate::Allocator;
use crate::create::{Preallocation, Progress};
use crate::device;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::format::{ImageFormat, OpenOptions, open_image};
use crate::image::Image;
use crate::pool::pool_space;

/// What to make of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtendOptions {
    /// Size of the disk until now, in bytes.
    pub from_bytes: u64,
    /// Size that it shall have.
    pub to_bytes: u64,
    /// Whether the new space is taken now.
    pub preallocation: Preallocation,
    /// Go on where an earlier run of the same extension stopped, instead of beginning anew.
    pub resume: bool,
}

/// An extension under way.
#[derive(Debug)]
pub struct RawExtender {
    file: OwnedFd,
    path: Arc<Path>,
    options: ExtendOptions,
    /// Bytes that the image has.
    done: u64,
    allocator: Allocator,
    is_device: bool,
}

/// An image that is being made larger, in steps.
pub trait Extender: Send {
    /// How far it is, in bytes of growth.
    fn progress(&self) -> Progress;

    /// Does about the next `max_bytes` bytes; without preallocation it is done in one step.
    ///
    /// # Errors
    /// `OutOfSpace`, or as the system says. The step can be repeated.
    fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError>;

    /// Makes the new size durable.
    ///
    /// # Errors
    /// `SyncFailed`; `Cancelled` if steps are missing.
    fn finish(self: Box<Self>) -> Result<(), ImageError>;
}

/// Starts to extend an image. `live` is the image as the data path has it open, if it does: the
/// tables of a format have one owner. Nobody sees the new bytes until the data path is told
/// ([`Image::grow`] on what it was opened as, or the catalogue's size).
///
/// # Errors
/// `InUse` if it is open and not given, `ShortTransfer` if it is smaller than it should be,
/// `OutOfSpace` if all space is to be taken and the file system has less, otherwise as the system
/// says.
pub fn extend_image(
    path: impl Into<Arc<Path>>,
    format: ImageFormat,
    options: ExtendOptions,
    live: Option<Arc<dyn Image>>,
) -> Result<Box<dyn Extender>, ImageError> {
    let path = path.into();
    if format == ImageFormat::Raw {
        return Ok(Box::new(RawExtender::begin(path, options)?));
    }
    let image = match live {
        Some(image) => image,
        None => open_image(path, format, &OpenOptions::default())?,
    };
    Ok(Box::new(FormatExtender::begin(image, options)?))
}

/// Extends an image through its format.
#[derive(Debug)]
struct FormatExtender {
    image: Arc<dyn Image>,
    options: ExtendOptions,
    done: u64,
}

impl FormatExtender {
    fn begin(image: Arc<dyn Image>, options: ExtendOptions) -> Result<Self, ImageError> {
        let path: Arc<Path> = image.path();
        let extender = Self { image, options, done: options.from_bytes };
        if options.preallocation == Preallocation::Full {
            let space = pool_space(crate::pool::directory_of(&path))?;
            let missing = options.to_bytes.saturating_sub(options.from_bytes);
            if space.free < missing && !options.resume {
                return Err(ImageError::from_io(Operation::Resize, path, Errno::NOSPC.into())
                    .at(options.from_bytes, missing));
            }
        }
        Ok(extender)
    }
}

impl Extender for FormatExtender {
    fn progress(&self) -> Progress {
        let of = |size: u64| size.saturating_sub(self.options.from_bytes);
        Progress { done: of(self.done), total: of(self.options.to_bytes) }
    }

    fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError> {
        let ExtendOptions { to_bytes, preallocation, .. } = self.options;
        if self.image.size_bytes() < to_bytes {
            self.image.grow(to_bytes)?;
        }
        match preallocation {
            Preallocation::Sparse => self.done = to_bytes,
            Preallocation::Full => {
                let count = to_bytes.saturating_sub(self.done).min(max_bytes.max(1));
                self.image.write_zeroes(self.done, count, false)?;
                self.done += count;
            }
        }
        Ok(self.progress())
    }

    fn finish(self: Box<Self>) -> Result<(), ImageError> {
        if !self.progress().is_complete() {
            let path: Arc<Path> = self.image.path();
            return Err(ImageError::new(ImageErrorKind::Cancelled, Operation::Resize, path));
        }
        self.image.flush()
    }
}

/// The file is not locked: the data path has it open, and keeps to the old size. Its length, and whether
/// it is a device, to which alone a link leads.
fn open(path: &Arc<Path>) -> Result<(OwnedFd, u64, bool), ImageError> {
    let fail = |errno: Errno| ImageError::from_io(Operation::Open, path.clone(), errno.into());
    let mut flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let is_device = device::is_device(path);
    if !is_device {
        flags |= OFlags::NOFOLLOW;
    }
    let file = retry_on_intr(|| rustix::fs::open(&**path, flags, Mode::empty())).map_err(fail)?;
    let stat = rustix::fs::fstat(&file).map_err(fail)?;
    let wanted = if is_device { FileType::BlockDevice } else { FileType::RegularFile };
    if FileType::from_raw_mode(stat.st_mode) != wanted {
        let kind = ImageErrorKind::InvalidFormat;
        return Err(ImageError::new(kind, Operation::Open, path.clone()));
    }
    let length = device::length(&file, &stat).map_err(fail)?;
    Ok((file, length, is_device))
}

impl RawExtender {
    /// Starts to extend `path`. Bytes behind the old size are zeroes from then on.
    ///
    /// # Errors
    /// `ShortTransfer` if the file is shorter than the disk was, `OutOfSpace` if all space is to
    /// be taken and the file system has less, otherwise as the system says.
    pub fn begin(path: impl Into<Arc<Path>>, options: ExtendOptions) -> Result<Self, ImageError> {
        let path: Arc<Path> = path.into();
        let (file, length, is_device) = open(&path)?;
        let ExtendOptions { from_bytes, to_bytes, preallocation, resume } = options;
        let mut extender = Self {
            file,
            path,
            options,
            done: from_bytes,
            allocator: Allocator::default(),
            is_device,
        };
        if length < from_bytes {
            let kind = ImageErrorKind::ShortTransfer;
            let error = ImageError::new(kind, Operation::Resize, extender.path.clone());
            return Err(error.at(length, from_bytes - length));
        }
        if i64::try_from(to_bytes).is_err() {
            return Err(extender.error(Errno::FBIG));
        }
        if is_device {
            // It is as long as it is; whoever manages it makes it longer.
            return if length < to_bytes {
                Err(extender.error(Errno::NOSPC))
            } else {
                Ok(extender)
            };
        }
        if resume && preallocation == Preallocation::Full && length <= to_bytes {
            extender.done = length;
        } else if length > from_bytes {
            // What somebody left there is not the disk's.
            rustix::fs::ftruncate(&extender.file, from_bytes)
                .map_err(|errno| extender.error(errno))?;
        }
        extender.check_space()?;
        Ok(extender)
    }

    fn check_space(&self) -> Result<(), ImageError> {
        if self.options.preallocation == Preallocation::Full {
            let space = pool_space(crate::pool::directory_of(&self.path))?;
            if space.free < self.options.to_bytes.saturating_sub(self.done) {
                return Err(self.error(Errno::NOSPC));
            }
        }
        Ok(())
    }

    /// How far it is, in bytes of growth.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let of = |size: u64| size.saturating_sub(self.options.from_bytes);
        Progress { done: of(self.done), total: of(self.options.to_bytes) }
    }

    /// Does the next at most `max_bytes` bytes; without preallocation it is done in one step.
    ///
    /// # Errors
    /// `OutOfSpace`, or as the system says. The step can be repeated.
    pub fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError> {
        let (size, kind) = (self.options.to_bytes, self.options.preallocation);
        if self.is_device {
            // What lies there was never the disk's.
            let count = size.saturating_sub(self.done).min(max_bytes.max(1));
            let zeroed = device::zero(&self.file, self.done, count);
            zeroed.map_err(|errno| self.error(errno))?;
            self.done += count;
            return Ok(self.progress());
        }
        let done = self.allocator.lengthen(&self.file, kind, self.done, size, max_bytes);
        self.done = done.map_err(|errno| self.error(errno))?;
        Ok(self.progress())
    }

    /// Makes the new size durable.
    ///
    /// # Errors
    /// `SyncFailed`; `Cancelled` if steps are missing.
    pub fn finish(self) -> Result<(), ImageError> {
        if !self.progress().is_complete() {
            let kind = ImageErrorKind::Cancelled;
            return Err(ImageError::new(kind, Operation::Resize, self.path.clone()));
        }
        rustix::fs::fsync(&self.file)
            .map_err(|errno| self.error(errno).with_kind(ImageErrorKind::SyncFailed))
    }

    fn error(&self, errno: Errno) -> ImageError {
        ImageError::from_io(Operation::Resize, self.path.clone(), errno.into())
            .at(self.done, self.options.to_bytes.saturating_sub(self.done))
    }
}

impl Extender for RawExtender {
    fn progress(&self) -> Progress {
        Self::progress(self)
    }

    fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError> {
        Self::step(self, max_bytes)
    }

    fn finish(self: Box<Self>) -> Result<(), ImageError> {
        Self::finish(*self)
    }
}

/// Takes back what an extension did that will not be finished. An image that is not raw stays
/// larger than its disk, which does no harm.
///
/// # Errors
/// As the system says. Nothing is lost if it fails: the bytes are nobody's.
pub fn undo_extension(path: &Path, format: ImageFormat, from_bytes: u64) -> Result<(), ImageError> {
    if format != ImageFormat::Raw {
        return Ok(());
    }
    let path: Arc<Path> = path.into();
    let (file, length, is_device) = open(&path)?;
    if length > from_bytes && !is_device {
        rustix::fs::ftruncate(&file, from_bytes)
            .map_err(|errno| ImageError::from_io(Operation::Resize, path, errno.into()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn image(length: u64) -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.raw");
        fs::File::create(&path).unwrap().set_len(length).unwrap();
        (directory, path)
    }

    fn options(preallocation: Preallocation) -> ExtendOptions {
        ExtendOptions { from_bytes: MIB, to_bytes: 4 * MIB, preallocation, resume: false }
    }

    fn extend(path: &Path, options: ExtendOptions) -> Result<(), ImageError> {
        let mut extender = RawExtender::begin(path, options)?;
        while !extender.step(MIB)?.is_complete() {}
        extender.finish()
    }

    #[test]
    fn an_image_grows_by_zeroes_whatever_lay_behind_its_end() {
        for preallocation in [Preallocation::Sparse, Preallocation::Full] {
            let (_directory, path) = image(0);
            fs::write(&path, vec![7; 2 << 20]).unwrap();
            extend(&path, options(preallocation)).unwrap();
            let bytes = fs::read(&path).unwrap();
            assert_eq!(bytes.len(), 4 << 20);
            assert!(bytes[..1 << 20].iter().all(|byte| *byte == 7));
            assert!(bytes[1 << 20..].iter().all(|byte| *byte == 0));
            let space = fs::metadata(&path).unwrap().blocks() * 512;
            assert_eq!(space >= 4 * MIB, preallocation == Preallocation::Full, "{space}");
        }
    }

    #[test]
    fn an_extension_goes_on_where_it_stopped_and_can_be_taken_back() {
        let (_directory, path) = image(MIB);
        let full = options(Preallocation::Full);
        let mut extender = RawExtender::begin(&*path, full).unwrap();
        extender.step(MIB).unwrap();
        drop(extender);
        let extender = RawExtender::begin(&*path, ExtendOptions { resume: true, ..full }).unwrap();
        assert_eq!(extender.progress(), Progress { done: MIB, total: 3 * MIB });
        assert_eq!(extender.finish().unwrap_err().kind(), ImageErrorKind::Cancelled);
        undo_extension(&path, ImageFormat::Raw, MIB).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), MIB);
        undo_extension(&path, ImageFormat::Raw, MIB).unwrap();
        extend(&path, ExtendOptions { resume: true, ..full }).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 4 * MIB);
    }

    #[test]
    fn what_cannot_be_extended_is_left_alone() {
        let (directory, path) = image(MIB / 2);
        let kind = |result: Result<(), ImageError>| result.unwrap_err().kind();
        let sparse = options(Preallocation::Sparse);
        assert_eq!(kind(extend(&path, sparse)), ImageErrorKind::ShortTransfer);
        assert_eq!(fs::metadata(&path).unwrap().len(), MIB / 2);
        assert_eq!(kind(extend(directory.path(), sparse)), ImageErrorKind::InvalidFormat);
        assert_eq!(kind(extend(&directory.path().join("gone"), sparse)), ImageErrorKind::NotFound);
        let (_directory, path) = image(MIB);
        let huge = ExtendOptions { to_bytes: 1 << 60, ..options(Preallocation::Full) };
        assert_eq!(kind(extend(&path, huge)), ImageErrorKind::OutOfSpace);
        assert_eq!(fs::metadata(&path).unwrap().len(), MIB);
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(extend(&link, sparse).is_err(), "a link is not followed");
    }
}
