//! VMDK images (Virtual Disk Format 5.0), for reading: sparse files, also compressed ones
//! (streamOptimized), and descriptors that name files which lie beside them.

mod descriptor;
mod sparse;

use std::io::{IoSlice, IoSliceMut};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::retry_on_intr;

use crate::block_file::BlockFile;
use crate::defect::Defect;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::file::ImageFile;
use crate::image::{BlockState, Durability, Extent, Features, Image, Wait, check_range};
use crate::pool::directory_of;
use crate::slices::part_mut;

use descriptor::{Descriptor, Kind, MAX_DESCRIPTOR_BYTES};
use sparse::Sparse;

/// Bytes of a sector.
const SECTOR: u64 = 512;
/// Files of one image.
const MAX_EXTENTS: usize = 4096;

/// The mark of a sparse file.
pub(crate) const SPARSE_MARK: &[u8] = b"KDMV";
/// How a descriptor begins.
pub(crate) const DESCRIPTOR_MARK: &[u8] = b"# Disk DescriptorFile";

/// Opens a file that an image names.
type Beside<'a> = dyn Fn(&str) -> Result<Arc<dyn BlockFile>, ImageError> + 'a;

/// Where a part of the disk is.
#[derive(Debug)]
enum Content {
    /// In a file, from this byte on.
    Flat(Arc<dyn BlockFile>, u64),
    Sparse(Box<Sparse>),
    Zeroes,
}

/// A part of the disk, in bytes.
#[derive(Debug)]
struct Part {
    start: u64,
    length: u64,
    content: Content,
}

/// An open VMDK image. It can be read only.
#[derive(Debug)]
pub(crate) struct VmdkImage {
    file: Arc<dyn BlockFile>,
    size: u64,
    /// One behind the other.
    parts: Vec<Part>,
}

impl VmdkImage {
    /// The image in a file that is open. Files that its descriptor names must lie beside it, and be
    /// no links.
    ///
    /// # Errors
    /// `InvalidFormat` if it is none, `Corrupt` if it contradicts itself, `Unsupported` for one that
    /// has a parent or is of a kind that is not known, as the system says.
    pub(crate) fn open_file(file: ImageFile, size: Option<u64>) -> Result<Self, ImageError> {
        let path = file.path().clone();
        let beside = |name: &str| -> Result<Arc<dyn BlockFile>, ImageError> {
            Ok(Arc::new(open_beside(&path, name)?))
        };
        Self::open(Arc::new(file), size, &beside)
    }

    fn open(
        file: Arc<dyn BlockFile>,
        size: Option<u64>,
        beside: &Beside<'_>,
    ) -> Result<Self, ImageError> {
        let fail = |defect: Defect| defect.into_error(Operation::Open, file.path().clone());
        let mut mark = [0; 4];
        let length = file.length()?;
        if length >= SECTOR {
            file.read_at(&mut mark, 0)?;
        }
        let parts = if mark == SPARSE_MARK {
            let sparse = Sparse::open(file.clone())?;
            if let Some(text) = sparse.descriptor()? {
                Descriptor::parse(&text).and_then(|it| it.stands_alone()).map_err(fail)?;
            }
            let (start, length) = (0, sparse.size());
            vec![Part { start, length, content: Content::Sparse(Box::new(sparse)) }]
        } else {
            if length > MAX_DESCRIPTOR_BYTES {
                return Err(fail(Defect::invalid_format(
                    "it is neither a sparse file nor a descriptor",
                )));
            }
            let mut text = vec![0; usize::try_from(length).unwrap_or(0)];
            file.read_at(&mut text, 0)?;
            if !text.starts_with(DESCRIPTOR_MARK) {
                return Err(fail(Defect::invalid_format(
                    "it is neither a sparse file nor a descriptor",
                )));
            }
            let descriptor = Descriptor::parse(&text).map_err(fail)?;
            Self::parts(&file, &descriptor, beside)?
        };
        let whole = parts.last().map_or(0, |part| part.start + part.length);
        if whole == 0 {
            return Err(fail(Defect::corrupt("the disk has no sectors")));
        }
        Ok(Self { size: size.unwrap_or(whole).min(whole), file, parts })
    }

    fn parts(
        file: &Arc<dyn BlockFile>,
        descriptor: &Descriptor,
        beside: &Beside<'_>,
    ) -> Result<Vec<Part>, ImageError> {
        let fail = |defect: Defect| defect.into_error(Operation::Open, file.path().clone());
        if descriptor.extents.len() > MAX_EXTENTS {
            let what = format!("it has {} extents, more than 4096", descriptor.extents.len());
            return Err(fail(Defect::unsupported(what)));
        }
        let (mut parts, mut start) = (Vec::new(), 0_u64);
        for extent in &descriptor.extents {
            let too_large = || fail(Defect::corrupt("the extents are larger than any disk"));
            let length = extent.sectors.checked_mul(SECTOR).ok_or_else(too_large)?;
            let content = match &extent.kind {
                Kind::Zeroes => Content::Zeroes,
                Kind::Flat { name, offset } => {
                    let flat = beside(name)?;
                    let at = offset.checked_mul(SECTOR).ok_or_else(too_large)?;
                    let end = at.checked_add(length).ok_or_else(too_large)?;
                    let there = flat.length()?;
                    if there < end {
                        let what =
                            format!("{name} has {there} bytes, and the extent ends at {end}");
                        return Err(fail(Defect::corrupt(what)));
                    }
                    Content::Flat(flat, at)
                }
                Kind::Sparse { name } => {
                    let sparse = Sparse::open(beside(name)?)?;
                    if sparse.size() < length {
                        let what = format!(
                            "{name} has {} bytes of the disk, and the extent {length}",
                            sparse.size()
                        );
                        return Err(fail(Defect::corrupt(what)));
                    }
                    Content::Sparse(Box::new(sparse))
                }
            };
            parts.push(Part { start, length, content });
            start = start.checked_add(length).filter(|end| *end < 1 << 63).ok_or_else(too_large)?;
        }
        Ok(parts)
    }

    fn error(&self, kind: ImageErrorKind, operation: Operation) -> ImageError {
        ImageError::new(kind, operation, self.file.path().clone())
    }

    /// The part that holds the byte at `offset`.
    fn part(&self, offset: u64) -> Option<&Part> {
        let after = self.parts.partition_point(|part| part.start <= offset);
        self.parts.get(after.checked_sub(1)?)
    }

    fn refuse(&self, operation: Operation, offset: u64, length: u64) -> Result<(), ImageError> {
        Err(self.error(ImageErrorKind::ReadOnly, operation).at(offset, length))
    }
}

impl Image for VmdkImage {
    fn size_bytes(&self) -> u64 {
        self.size
    }

    fn features(&self) -> Features {
        Features {
            read_only: true,
            unmap: false,
            unmap_granularity: self.file.granularity(),
            reads_zero_after_unmap: true,
            nowait_reads: false,
            joins_writes: false,
        }
    }

    fn path(&self) -> Arc<Path> {
        self.file.path().clone()
    }

    fn read(&self, bufs: &mut [IoSliceMut<'_>], offset: u64, wait: Wait) -> Result<(), ImageError> {
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        check_range(self.file.path(), Operation::Read, offset, bytes(length), self.size)?;
        if wait == Wait::Nowait {
            return Err(self.error(ImageErrorKind::WouldBlock, Operation::Read));
        }
        let mut done = 0;
        while done < length {
            let at = offset + bytes(done);
            let Some(part) = self.part(at) else {
                return Err(self.error(ImageErrorKind::OutOfRange, Operation::Read));
            };
            let within = at - part.start;
            let count = index(part.length - within).min(length - done).max(1);
            let mut bufs = part_mut(bufs, done, count);
            match &part.content {
                Content::Zeroes => bufs.iter_mut().for_each(|buf| buf.fill(0)),
                Content::Flat(file, start) => file.read(&mut bufs, start + within, wait)?,
                Content::Sparse(sparse) => sparse.read(&mut bufs, within)?,
            }
            done += count;
        }
        Ok(())
    }

    fn write(
        &self,
        bufs: &[IoSlice<'_>],
        offset: u64,
        _durability: Durability,
    ) -> Result<(), ImageError> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        self.refuse(Operation::Write, offset, bytes(length))
    }

    fn flush(&self) -> Result<(), ImageError> {
        Ok(())
    }

    fn unmap(&self, offset: u64, length: u64) -> Result<(), ImageError> {
        self.refuse(Operation::Unmap, offset, length)
    }

    fn write_zeroes(&self, offset: u64, length: u64, _may_unmap: bool) -> Result<(), ImageError> {
        self.refuse(Operation::WriteZeroes, offset, length)
    }

    fn block_status(&self, offset: u64, length: u64) -> Result<Extent, ImageError> {
        let operation = Operation::BlockStatus;
        let beyond = || self.error(ImageErrorKind::OutOfRange, operation).at(offset, length);
        if length == 0 {
            return Err(beyond());
        }
        check_range(self.file.path(), operation, offset, length, self.size)?;
        let part = self.part(offset).ok_or_else(beyond)?;
        let within = offset - part.start;
        let length = length.min(part.length - within);
        let (state, length) = match &part.content {
            Content::Zeroes => (BlockState::Deallocated, length),
            Content::Flat(..) => (BlockState::Mapped, length),
            Content::Sparse(sparse) => sparse.status(within, length)?,
        };
        Ok(Extent { offset, length, state })
    }

    fn grow(&self, size_bytes: u64) -> Result<(), ImageError> {
        self.refuse(Operation::Resize, self.size, size_bytes.saturating_sub(self.size))
    }

    fn health(&self) -> Result<(), ImageError> {
        self.file.health()
    }
}

/// A file that an image names: in the image's own directory, which is reached through no link.
fn open_beside(image: &Path, name: &str) -> Result<ImageFile, ImageError> {
    let path: Arc<Path> = directory_of(image).join(name).into();
    let fail = |errno: rustix::io::Errno| {
        let error = ImageError::from_io(Operation::Open, path.clone(), errno.into());
        if errno == rustix::io::Errno::LOOP {
            return error
                .with_kind(ImageErrorKind::PermissionDenied)
                .because("files of an image are reached through no links");
        }
        error
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let open = || rustix::fs::openat2(CWD, &*path, flags, Mode::empty(), resolve);
    ImageFile::lock(retry_on_intr(open).map_err(fail)?, path.clone(), true)
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn index(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
