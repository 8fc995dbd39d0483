//! Copies between images of any formats, and comparing them, in steps as [`crate::FileCopier`] has
//! them. What reads as zeroes takes no space in a thin copy.

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;

use crate::block_file::BlockFile as _;
use crate::chain::Chain;
use crate::copy::NamedFile;
use crate::create::{CreateOptions, NewImage, Preallocation, Progress};
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::file::ImageFile;
use crate::format::{ImageFormat, OpenOptions, open_in_chain, probe};
use crate::image::{BlockState, Durability, Image, Wait};

/// Read at once.
const PIECE: u64 = 1 << 20;

/// Zeroes are left out in units of so many bytes.
const CHUNK: usize = 64 << 10;

/// Opens the image in a file that is open and whose name may not be trusted any more; takes its
/// lock.
///
/// # Errors
/// As [`crate::open_image`].
pub fn open_named(
    file: NamedFile,
    format: ImageFormat,
    options: &OpenOptions,
) -> Result<Arc<dyn Image>, ImageError> {
    let file = ImageFile::lock(file.file, file.path, options.read_only)?;
    let chain = Chain::of(file.identity());
    open_in_chain(file, format, options, &chain)
}

/// The same without a lock, for who writes where the others that have it open do not look: they have
/// it as a parent below images that have something themselves there.
///
/// # Errors
/// As [`crate::open_image`].
pub fn open_shared(
    file: NamedFile,
    format: ImageFormat,
    options: &OpenOptions,
) -> Result<Arc<dyn Image>, ImageError> {
    let file = ImageFile::unlocked(file.file, file.path, options.read_only)?;
    let chain = Chain::of(file.identity());
    open_in_chain(file, format, options, &chain)
}

/// Makes a new image in an open file that was somebody's partial one, durably: what it holds goes.
/// Its parent is not opened.
///
/// # Errors
/// `Unsupported` with a reason for what the format cannot do, otherwise as the system says.
pub fn make_named(
    file: NamedFile,
    format: ImageFormat,
    options: &CreateOptions,
) -> Result<(), ImageError> {
    write_image(file, format, options)?.flush()
}

/// Names another parent in an image that has one, durably and in one piece. The image is not
/// open for writing.
///
/// # Errors
/// `Unsupported` by any format but qcow2, and as the system says.
pub fn rebase_named(file: NamedFile, name: &str, format: ImageFormat) -> Result<(), ImageError> {
    let file = ImageFile::unlocked(file.file, file.path, false)?;
    crate::qcow2::write_backing(&file, name, format)
}

/// The format of a file that somebody brings: raw, if it has the mark of no other.
///
/// # Errors
/// As [`probe`].
pub fn probe_named(file: NamedFile) -> Result<ImageFormat, ImageError> {
    let file = ImageFile::lock(file.file, file.path, true)?;
    Ok(probe(&file)?.unwrap_or(ImageFormat::Raw))
}

/// A new image in an open file that was somebody's partial one: what it holds goes. It is locked, and
/// opened for writing.
///
/// # Errors
/// As [`make_named`].
pub fn make_image(
    file: NamedFile,
    format: ImageFormat,
    options: &CreateOptions,
) -> Result<Arc<dyn Image>, ImageError> {
    let file = write_image(file, format, options)?;
    let chain = Chain::of(file.identity());
    let size_bytes = Some(options.size_bytes);
    open_in_chain(file, format, &OpenOptions { size_bytes, ..OpenOptions::default() }, &chain)
}

fn write_image(
    file: NamedFile,
    format: ImageFormat,
    options: &CreateOptions,
) -> Result<ImageFile, ImageError> {
    let path = file.path.clone();
    let file = ImageFile::lock(file.file, file.path, false)?;
    file.set_length(0)?;
    let write = |image: &dyn NewImage| {
        image.write(&file)?;
        let space = image.space();
        let length = space.end.saturating_sub(space.start);
        if length > 0 { file.allocate(space.start, length) } else { Ok(()) }
    };
    match format {
        ImageFormat::Raw => {
            file.set_length(options.size_bytes)?;
            if options.preallocation == Preallocation::Full {
                file.allocate(0, options.size_bytes)?;
            }
        }
        ImageFormat::Qcow2 => crate::qcow2::write_new(&file, options)?,
        ImageFormat::Vhdx => write(&crate::vhdx::Plan::of(&path, options)?)?,
        ImageFormat::Vhd => write(&crate::vhd::Plan::of(&path, options)?)?,
        ImageFormat::Vmdk => return Err(crate::create::read_only_format(path)),
    }
    Ok(file)
}

/// What becomes of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvertOptions {
    /// The format of the copy.
    pub format: ImageFormat,
    /// What the copy is like. Its size is that of the source or less.
    pub image: CreateOptions,
    /// Bytes of the disk that an earlier run has copied and made durable.
    pub done: u64,
}

/// A copy from image to image under way.
#[derive(Debug)]
pub struct ImageCopier {
    source: Arc<dyn Image>,
    target: Arc<dyn Image>,
    size: u64,
    /// Where the source has nothing, the target is told to take space.
    fills: bool,
    done: u64,
    buffer: Vec<u8>,
}

impl ImageCopier {
    /// Starts to copy `source` into `target`, or goes on after `options.done` bytes.
    ///
    /// # Errors
    /// `Unsupported` with a reason for what the format cannot do, otherwise as the system says.
    pub fn begin(
        source: Arc<dyn Image>,
        target: NamedFile,
        options: &ConvertOptions,
    ) -> Result<Self, ImageError> {
        let ConvertOptions { format, image, done } = options;
        let (target, done) = if *done > 0 {
            let size_bytes = Some(image.size_bytes);
            let open = OpenOptions { size_bytes, ..OpenOptions::default() };
            (open_named(target, *format, &open)?, (*done).min(image.size_bytes))
        } else {
            (make_image(target, *format, image)?, 0)
        };
        let size = image.size_bytes;
        if source.size_bytes() < size || target.size_bytes() < size {
            let kind = ImageErrorKind::ShortTransfer;
            return Err(ImageError::new(kind, Operation::Copy, source.path()).at(0, size));
        }
        // The others have taken their space already.
        let fills = *format == ImageFormat::Qcow2 && image.preallocation == Preallocation::Full;
        Ok(Self { source, target, size, fills, done, buffer: Vec::new() })
    }

    /// How far it is, in bytes of the disk.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress { done: self.done, total: self.size }
    }

    /// Does the next part: about `max_bytes` of data, or a hole of any length.
    ///
    /// # Errors
    /// As reading the source and writing the copy. The step can be repeated.
    pub fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError> {
        let left = self.size.saturating_sub(self.done);
        if left == 0 {
            return Ok(self.progress());
        }
        let extent = self.source.block_status(self.done, left)?;
        let piece = extent.length.min(left).min(piece(max_bytes));
        if extent.state == BlockState::Deallocated {
            let length = if self.fills { piece } else { extent.length.min(left) };
            self.zero(self.done, length)?;
            self.done += length;
            return Ok(self.progress());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(usize::try_from(piece).unwrap_or(0), 0);
        self.source.read(&mut [IoSliceMut::new(&mut buffer)], self.done, Wait::Block)?;
        let mut at = self.done;
        for run in buffer.chunks(CHUNK) {
            let length = u64::try_from(run.len()).unwrap_or(0);
            if run.iter().all(|byte| *byte == 0) {
                self.zero(at, length)?;
            } else {
                self.target.write(&[IoSlice::new(run)], at, Durability::Cached)?;
            }
            at += length;
        }
        self.buffer = buffer;
        self.done = at;
        Ok(self.progress())
    }

    /// A new image reads zeroes.
    fn zero(&self, at: u64, length: u64) -> Result<(), ImageError> {
        if self.fills { self.target.write_zeroes(at, length, false) } else { Ok(()) }
    }

    /// Makes what was copied durable, before a checkpoint says that it is there.
    ///
    /// # Errors
    /// `SyncFailed`.
    pub fn sync(&self) -> Result<(), ImageError> {
        self.target.flush()?;
        if self.done >= self.size { self.target.close() } else { Ok(()) }
    }
}

fn piece(max_bytes: u64) -> u64 {
    let chunk = CHUNK as u64;
    max_bytes.clamp(chunk, PIECE) / chunk * chunk
}

/// A comparison of two images under way.
#[derive(Debug)]
pub struct ImageVerifier {
    source: Option<Arc<dyn Image>>,
    copy: Arc<dyn Image>,
    size: u64,
    done: u64,
    buffers: (Vec<u8>, Vec<u8>),
}

impl ImageVerifier {
    /// Compares `copy` with `source` from byte `done` on; without a source it only reads all of it.
    #[must_use]
    pub fn begin(
        source: Option<Arc<dyn Image>>,
        copy: Arc<dyn Image>,
        size: u64,
        done: u64,
    ) -> Self {
        Self { source, copy, size, done: done.min(size), buffers: (Vec::new(), Vec::new()) }
    }

    /// How far it is, in bytes of the disk.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress { done: self.done, total: self.size }
    }

    /// Compares the next part, or leaves out what neither has.
    ///
    /// # Errors
    /// `Corrupt` at the first byte that differs, otherwise as reading them.
    pub fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError> {
        let left = self.size.saturating_sub(self.done);
        if left == 0 {
            return Ok(self.progress());
        }
        let mut hole = u64::MAX;
        for image in self.source.iter().chain([&self.copy]) {
            let extent = image.block_status(self.done, left)?;
            let free = extent.state == BlockState::Deallocated;
            hole = hole.min(if free { extent.length } else { 0 });
        }
        if hole > 0 {
            self.done = self.done.saturating_add(hole).min(self.size);
            return Ok(self.progress());
        }
        let length = left.min(piece(max_bytes));
        let count = usize::try_from(length).unwrap_or(0);
        let (copy, wanted) = &mut self.buffers;
        copy.resize(count, 0);
        self.copy.read(&mut [IoSliceMut::new(copy)], self.done, Wait::Block)?;
        if let Some(source) = &self.source {
            wanted.resize(count, 0);
            source.read(&mut [IoSliceMut::new(wanted)], self.done, Wait::Block)?;
            if copy != wanted
                && let Some(at) = copy.iter().zip(&*wanted).position(|(one, other)| one != other)
            {
                let at = self.done + u64::try_from(at).unwrap_or(0);
                let kind = ImageErrorKind::Corrupt;
                let error = ImageError::new(kind, Operation::Verify, self.copy.path());
                return Err(error.at(at, 1).because("the copy differs from its source"));
            }
        }
        self.done += length;
        Ok(self.progress())
    }
}

#[cfg(test)]
mod tests;
