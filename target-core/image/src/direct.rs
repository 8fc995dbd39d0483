//! Files that are read and written past the page cache (`O_DIRECT`).
//!
//! The system wants offsets, lengths and addresses that are multiples of what the device has; so what
//! comes goes through buffers of its own, which are kept. A read of anything else reads a little
//! more; a write of anything else is left to the page cache, which the system keeps in step: it
//! writes back what it has of a range, and forgets it, before that is read or written past it.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags, pread, pwrite, pwritev2, retry_on_intr};

use crate::file::{MEMORY_FILE_SYSTEMS, bytes};
use crate::slices::{gather, part, part_mut, scatter};

/// Where a file system does not say what it needs.
const ALIGNMENT: usize = 4096;
/// Transferred with one call.
const PIECE: usize = 1 << 20;
/// Buffers that are kept for the next one.
const KEPT: usize = 16;

/// Whether files are read and written past the page cache. Clones are one switch, and what is open
/// follows it at once.
#[derive(Debug, Clone, Default)]
pub struct DirectIo(Arc<AtomicBool>);

impl DirectIo {
    /// One that is on, or off.
    #[must_use]
    pub fn new(on: bool) -> Self {
        Self(Arc::new(AtomicBool::new(on)))
    }

    /// Turns it on or off.
    pub fn set(&self, on: bool) {
        self.0.store(on, Relaxed);
    }

    /// Whether it is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Whether files in a directory can be read and written past the page cache.
///
/// # Errors
/// `Unsupported` if not; as the system says if it cannot be found out.
pub fn can_do_direct_io(directory: &Path) -> std::io::Result<()> {
    let magic = u64::try_from(rustix::fs::statfs(directory)?.f_type).ok();
    if magic.is_some_and(|it| MEMORY_FILE_SYSTEMS.contains(&it)) {
        return Err(std::io::ErrorKind::Unsupported.into());
    }
    let unsupported = || std::io::ErrorKind::Unsupported.into();
    DirectFile::of(&without_name(directory)?, false).map(|_| ()).ok_or_else(unsupported)
}

/// A file in a directory that is gone when it is closed.
fn without_name(directory: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let open = |path: &Path, more| retry_on_intr(|| rustix::fs::open(path, flags | more, mode));
    match open(directory, OFlags::TMPFILE) {
        // Not every file system has files without a name.
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => named_for_a_moment(directory, open),
        made => made,
    }
}

fn named_for_a_moment(
    directory: &Path,
    open: impl FnOnce(&Path, OFlags) -> Result<OwnedFd, Errno>,
) -> Result<OwnedFd, Errno> {
    let path = directory.join(format!(".lund-direct-io-{}", std::process::id()));
    let file = open(&path, OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW)?;
    rustix::fs::unlink(&path)?;
    Ok(file)
}

/// Of what offsets and lengths must be multiples, at least a sector; none if the file system says
/// that it cannot.
fn alignment(file: &OwnedFd) -> Option<usize> {
    let stat = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN);
    let told = stat
        .ok()
        .filter(|stat| StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::DIOALIGN));
    let Some(stat) = told else { return Some(ALIGNMENT) };
    let offset = usize::try_from(stat.stx_dio_offset_align).unwrap_or(0);
    // Buffers begin at multiples of a page.
    let memory = usize::try_from(stat.stx_dio_mem_align).unwrap_or(usize::MAX);
    (offset.is_power_of_two() && offset <= PIECE && memory <= ALIGNMENT).then_some(offset.max(512))
}

/// A second description of a file, for direct transfers.
#[derive(Debug)]
pub(crate) struct DirectFile {
    file: OwnedFd,
    alignment: usize,
}

impl DirectFile {
    /// That of a file that is open; none if its file system cannot.
    pub(crate) fn of(file: &OwnedFd, read_only: bool) -> Option<Self> {
        let access = if read_only { OFlags::RDONLY } else { OFlags::RDWR };
        let flags = access | OFlags::DIRECT | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let file = retry_on_intr(|| rustix::fs::open(&*path, flags, Mode::empty())).ok()?;
        let alignment = alignment(&file)?;
        Some(Self { file, alignment })
    }

    /// Fills all of `bufs`; false if the file ends before.
    pub(crate) fn read(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        offset: u64,
        length: u64,
    ) -> Result<bool, Errno> {
        let unit = bytes(self.alignment);
        let (mut at, end) = (offset, offset + length);
        let mut buffer = Buffer::take();
        while at < end {
            let start = at / unit * unit;
            let wanted = (end.next_multiple_of(unit) - start).min(bytes(PIECE));
            let wanted = usize::try_from(wanted).unwrap_or(PIECE);
            let piece = buffer.get(wanted);
            let count = bytes(retry_on_intr(|| pread(&self.file, &mut *piece, start))?);
            let got = (start + count).min(end);
            if got <= at {
                return Ok(false);
            }
            let skip = usize::try_from(at - start).unwrap_or(PIECE);
            let until = usize::try_from(got - start).unwrap_or(PIECE);
            let data = piece.get(skip..until).unwrap_or_default();
            let done = usize::try_from(at - offset).unwrap_or(usize::MAX);
            scatter(&mut part_mut(bufs, done, data.len()), data);
            at = got;
        }
        Ok(true)
    }

    /// Whether a range can be written.
    pub(crate) fn is_aligned(&self, offset: u64, length: u64) -> bool {
        let unit = bytes(self.alignment);
        offset.is_multiple_of(unit) && length.is_multiple_of(unit)
    }

    /// Writes all of `bufs`, a range that is aligned.
    pub(crate) fn write(
        &self,
        bufs: &[IoSlice<'_>],
        offset: u64,
        flags: ReadWriteFlags,
    ) -> Result<(), Errno> {
        if let [one] = bufs
            && one.as_ptr().addr().is_multiple_of(ALIGNMENT)
        {
            return self.write_piece(one, offset, flags);
        }
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut buffer = Buffer::take();
        for done in (0..length).step_by(PIECE) {
            let piece = buffer.get(length - done);
            gather(&part(bufs, done, piece.len()), piece);
            self.write_piece(piece, offset + bytes(done), flags)?;
        }
        Ok(())
    }

    fn write_piece(&self, piece: &[u8], offset: u64, flags: ReadWriteFlags) -> Result<(), Errno> {
        let (mut rest, mut at) = (piece, offset);
        while !rest.is_empty() {
            let count = retry_on_intr(|| match flags.is_empty() {
                true => pwrite(&self.file, rest, at),
                false => pwritev2(&self.file, &[IoSlice::new(rest)], at, flags),
            })?;
            if count == 0 {
                return Err(Errno::IO);
            }
            // Less than was asked for ends at a multiple, or the next call says what is wrong.
            rest = rest.get(count..).unwrap_or_default();
            at += bytes(count);
        }
        Ok(())
    }
}

/// [`PIECE`] bytes that begin at a multiple of [`ALIGNMENT`], of which memory has those that were used.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

static BUFFERS: Mutex<Vec<Buffer>> = Mutex::new(Vec::new());

impl Buffer {
    fn take() -> Self {
        let kept = BUFFERS.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| {
            let bytes = vec![0; PIECE + ALIGNMENT];
            let start = bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
            Self { bytes, start }
        })
    }

    fn get(&mut self, length: usize) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.start + length.min(PIECE)).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut kept = BUFFERS.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(Self { bytes: std::mem::take(&mut self.bytes), start: self.start });
        }
    }
}

#[cfg(test)]
mod tests;
