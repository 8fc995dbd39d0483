//! An open, locked file that holds an image.

use std::io::{IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use rustix::fs::{FallocateFlags, FileType, FlockOperation, Mode, OFlags, SeekFrom, Stat};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwrite, pwritev2, retry_on_intr};

use crate::ahead::ReadAhead;
use crate::block_file::BlockFile;
use crate::device;
use crate::direct::{DirectFile, DirectIo};
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::flush::GroupFlush;
use crate::folios;
use crate::hot::{HotFile, Pinned};
use crate::image::{Durability, Wait};
use crate::slices::{part, part_mut};

/// `statfs` magic numbers of the file systems whose reads never wait for a device.
pub(crate) const MEMORY_FILE_SYSTEMS: [u64; 2] =
    [0x0102_1994 /* tmpfs */, 0x8584_58f6 /* ramfs */];

/// The system reads no more than what a device reads at once for one advice (force_page_cache_ra).
const FETCHED_AT_ONCE: u64 = 128 << 10;

/// Which file it is, by whatever name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    /// That of the file with this name now, or of what it is a link to.
    ///
    /// # Errors
    /// As the system says.
    pub fn of(path: &Path) -> Result<Self, std::io::Error> {
        Ok(Self::from(&rustix::fs::stat(path)?))
    }
}

impl From<&Stat> for FileIdentity {
    /// A device is the same by whatever node; no file has its number, and 0.
    fn from(stat: &Stat) -> Self {
        if device::is_block_device(stat) {
            return Self { device: stat.st_rdev, inode: 0 };
        }
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// A regular file, or a block device, that is locked until this is dropped, against other processes and against a
/// second opener in this one: one writer, or any number of readers.
///
/// What it cannot do (holes, waits, syncs) it finds out once, and remembers.
#[derive(Debug)]
pub struct ImageFile {
    file: OwnedFd,
    path: Arc<Path>,
    identity: FileIdentity,
    granularity: u32,
    read_only: bool,
    is_device: bool,
    /// tmpfs has no `RWF_NOWAIT`, and needs none.
    in_memory: bool,
    large_folios_are_dear: bool,
    nowait: AtomicBool,
    dsync: AtomicBool,
    punch: AtomicBool,
    zero_range: AtomicBool,
    space: AtomicBool,
    flush: GroupFlush,
    hot: HotFile,
    ahead: ReadAhead,
    direct_io: DirectIo,
    /// Opened when it is used first; none if the file system cannot.
    direct: OnceLock<Option<DirectFile>>,
}

impl ImageFile {
    /// Opens and locks `path`.
    ///
    /// # Errors
    /// `InUse` if somebody else has it open, `InvalidFormat` if it is no regular file and no block
    /// device, otherwise as the system says.
    pub fn open(path: impl Into<Arc<Path>>, read_only: bool) -> Result<Self, ImageError> {
        let path = path.into();
        let access = if read_only { OFlags::RDONLY } else { OFlags::RDWR };
        // NONBLOCK: a FIFO under that name must not hang the opener.
        let mut flags = access | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        if !read_only {
            flags |= device::exclusive(&path);
        }
        let open = |flags| retry_on_intr(|| rustix::fs::open(&*path, flags, Mode::empty()));
        // Reads do not have the system look at the time of the last one. For owners alone.
        let file = open(flags | OFlags::NOATIME)
            .or_else(|errno| if errno == Errno::PERM { open(flags) } else { Err(errno) })
            .map_err(|errno| ImageError::from_io(Operation::Open, path.clone(), errno.into()))?;
        Self::lock(file, path, read_only)
    }

    /// Takes over a file that is open, without a lock: others have it open, and that is meant.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn unlocked(
        file: OwnedFd,
        path: Arc<Path>,
        read_only: bool,
    ) -> Result<Self, ImageError> {
        Self::take(file, path, read_only, |_| Ok(()))
    }

    /// Takes over a file that is open, and locks it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(crate) fn lock(
        file: OwnedFd,
        path: Arc<Path>,
        read_only: bool,
    ) -> Result<Self, ImageError> {
        Self::take(file, path, read_only, |file| lock(file, read_only))
    }

    fn take(
        file: OwnedFd,
        path: Arc<Path>,
        read_only: bool,
        lock: impl FnOnce(&OwnedFd) -> Result<(), Errno>,
    ) -> Result<Self, ImageError> {
        let fail = |operation| {
            let path = path.clone();
            move |errno: Errno| ImageError::from_io(operation, path, errno.into())
        };
        let stat = rustix::fs::fstat(&file).map_err(fail(Operation::Open))?;
        let is_device = device::is_block_device(&stat);
        if !is_device && FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(ImageError::new(ImageErrorKind::InvalidFormat, Operation::Open, path));
        }
        lock(&file).map_err(fail(Operation::Lock))?;
        // Deleted or resized between open and lock: what counts is what the lock protects.
        let stat = rustix::fs::fstat(&file).map_err(fail(Operation::Open))?;
        if stat.st_nlink == 0 {
            return Err(ImageError::new(ImageErrorKind::NotFound, Operation::Open, path));
        }
        let magic = rustix::fs::fstatfs(&file).map_err(fail(Operation::Open))?.f_type;
        let large_folios_are_dear = !is_device && folios::are_dear(magic);
        // That of a device's node says nothing of the device.
        let magic = u64::try_from(magic).ok();
        let in_memory = !is_device && magic.is_some_and(|it| MEMORY_FILE_SYSTEMS.contains(&it));
        Ok(Self {
            identity: FileIdentity::from(&stat),
            granularity: u32::try_from(stat.st_blksize).unwrap_or(4096).max(512),
            read_only,
            is_device,
            in_memory,
            large_folios_are_dear,
            nowait: AtomicBool::new(true),
            dsync: AtomicBool::new(true),
            punch: AtomicBool::new(true),
            zero_range: AtomicBool::new(true),
            space: AtomicBool::new(true),
            flush: GroupFlush::default(),
            hot: HotFile::new(is_device, magic),
            ahead: ReadAhead::default(),
            direct_io: DirectIo::default(),
            direct: OnceLock::new(),
            file,
            path,
        })
    }

    /// Goes past the page cache as long as the switch is on, where the file system can do that.
    pub(crate) fn with_direct_io(self, direct_io: DirectIo) -> Self {
        Self { direct_io, ..self }
    }

    /// What is read from and written to past the page cache, if that is on.
    fn direct(&self) -> Option<&DirectFile> {
        if !self.direct_io.is_on() {
            return None;
        }
        let open = || {
            let able = !self.in_memory;
            let direct = able.then(|| DirectFile::of(&self.file, self.read_only)).flatten();
            if direct.is_none() {
                let path = self.path.display();
                tracing::warn!(%path, "the file system has no direct I/O: the page cache is used");
            }
            direct
        };
        self.direct.get_or_init(open).as_ref()
    }

    /// Reads past the page cache; none if the system does not take it so.
    fn read_direct(
        &self,
        direct: &DirectFile,
        bufs: &mut [IoSliceMut<'_>],
        offset: u64,
        length: u64,
    ) -> Option<Result<(), ImageError>> {
        let operation = Operation::Read;
        match direct.read(bufs, offset, length) {
            Ok(true) => Some(Ok(())),
            Ok(false) => {
                Some(Err(self.fault(ImageErrorKind::ShortTransfer, operation, offset, length)))
            }
            Err(Errno::INVAL) => None,
            Err(errno) => Some(Err(self.error(errno, operation, offset, length))),
        }
    }

    /// Which file it is.
    #[must_use]
    pub fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// As on a file system that has none of the features that a file can do without.
    #[cfg(test)]
    pub(crate) fn forget_features(&self) {
        for feature in [&self.punch, &self.zero_range, &self.dsync] {
            feature.store(false, Relaxed);
        }
    }

    /// What is pinned of it.
    #[cfg(test)]
    pub(crate) fn hot(&self) -> &HotFile {
        &self.hot
    }

    /// As after a sync that failed.
    #[cfg(test)]
    pub(crate) fn fail_syncs(&self, errno: Errno) {
        self.flush.fail(errno.raw_os_error());
    }

    /// `NotFound` if the file was deleted.
    pub(crate) fn present(&self) -> Result<(), ImageError> {
        let operation = Operation::Health;
        let stat = rustix::fs::fstat(&self.file)
            .map_err(|errno| ImageError::from_io(operation, self.path.clone(), errno.into()))?;
        if stat.st_nlink == 0 {
            let kind = ImageErrorKind::NotFound;
            return Err(ImageError::new(kind, operation, self.path.clone()));
        }
        Ok(())
    }

    /// `SyncFailed` if a sync has failed.
    pub(crate) fn sync_state(&self) -> Result<(), ImageError> {
        let failed = self.flush.failed();
        failed.map_or(Ok(()), |errno| Err(self.sync_failed(errno, Operation::Health)))
    }

    pub(crate) fn error(
        &self,
        errno: Errno,
        operation: Operation,
        offset: u64,
        length: u64,
    ) -> ImageError {
        ImageError::from_io(operation, self.path.clone(), errno.into()).at(offset, length)
    }

    fn fault(
        &self,
        kind: ImageErrorKind,
        operation: Operation,
        offset: u64,
        length: u64,
    ) -> ImageError {
        ImageError::new(kind, operation, self.path.clone()).at(offset, length)
    }

    pub(crate) fn sync_failed(&self, errno: i32, operation: Operation) -> ImageError {
        let source = std::io::Error::from_raw_os_error(errno);
        ImageError::from_io(operation, self.path.clone(), source)
            .with_kind(ImageErrorKind::SyncFailed)
    }

    /// A read that did not wait has found all of it.
    fn was_read(&self, offset: u64) {
        self.hot.was_read(&self.file, || self.length().ok(), offset);
    }

    /// All of a range whose length is not 0, if it is pinned.
    pub(crate) fn pinned(&self, offset: u64, length: u64) -> Option<Pinned> {
        if self.direct_io.is_on() {
            return None;
        }
        self.hot.pinned(offset, length)
    }

    /// Goes on where a read was cut short; a cold page or a signal may do that, the end of the
    /// file must not.
    fn read_rest(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        offset: u64,
        length: u64,
    ) -> Result<(), ImageError> {
        let (mut done, mut done_bytes) = (0, 0);
        while done_bytes < length {
            let mut rest = part_mut(bufs, done, usize::MAX);
            match preadv2(&self.file, &mut rest, offset + done_bytes, ReadWriteFlags::empty()) {
                Ok(0) => {
                    let kind = ImageErrorKind::ShortTransfer;
                    return Err(self.fault(kind, Operation::Read, offset, length));
                }
                Ok(count) => {
                    done += count;
                    done_bytes = bytes(done);
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.error(errno, Operation::Read, offset, length)),
            }
        }
        Ok(())
    }

    /// Has the system read, without waiting for it.
    pub(crate) fn fetch(&self, range: Range<u64>) {
        let mut at = range.start;
        while at < range.end {
            let piece = FETCHED_AT_ONCE.min(range.end - at);
            // Advice: who reads finds out what is wrong.
            let _ = rustix::fs::fadvise(
                &self.file,
                at,
                NonZeroU64::new(piece),
                rustix::fs::Advice::WillNeed,
            );
            at += piece;
        }
    }

    fn write_all(
        &self,
        bufs: &[IoSlice<'_>],
        offset: u64,
        length: u64,
        flags: ReadWriteFlags,
    ) -> Result<(), Errno> {
        if let Some(direct) = self.direct()
            && direct.is_aligned(offset, length)
        {
            // What the page cache has of it goes.
            let _left = self.hot.leave(offset..offset.saturating_add(length));
            let written = direct.write(bufs, offset, flags);
            // Not with these flags, or not so: the system says which.
            if written != Err(Errno::INVAL) {
                return written;
            }
        }
        let mut done = 0;
        let mut rest;
        let mut now = bufs;
        while bytes(done) < length {
            let at = offset + bytes(done);
            let written = match now {
                // Without the kernel having to look at a vector.
                [one] if flags.is_empty() => pwrite(&self.file, one, at),
                _ => pwritev2(&self.file, now, at, flags),
            };
            match written {
                Ok(0) => return Err(Errno::IO),
                Ok(count) => {
                    done += count;
                    if bytes(done) < length {
                        rest = part(bufs, done, usize::MAX);
                        now = &rest;
                    }
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Write, and durable on the medium when it returns.
    fn write_durable(
        &self,
        bufs: &[IoSlice<'_>],
        offset: u64,
        length: u64,
    ) -> Result<(), ImageError> {
        let operation = Operation::Write;
        if let Some(errno) = self.flush.failed() {
            return Err(self.sync_failed(errno, operation).at(offset, length));
        }
        if self.dsync.load(Relaxed) {
            match self.write_all(bufs, offset, length, ReadWriteFlags::DSYNC) {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                    self.dsync.store(false, Relaxed);
                }
                Err(errno) => {
                    // Did the write fail or the sync? Only the second loses pages that other
                    // writes were already answered for. The plain write knows.
                    return Err(
                        match self.write_all(bufs, offset, length, ReadWriteFlags::empty()) {
                            Err(errno) => self.error(errno, operation, offset, length),
                            Ok(()) => {
                                self.flush.fail(errno.raw_os_error());
                                self.sync_failed(errno.raw_os_error(), operation).at(offset, length)
                            }
                        },
                    );
                }
            }
        }
        self.write_all(bufs, offset, length, ReadWriteFlags::empty())
            .map_err(|errno| self.error(errno, operation, offset, length))?;
        self.sync().map_err(|errno| self.sync_failed(errno, operation).at(offset, length))
    }

    fn sync(&self) -> Result<(), i32> {
        self.flush.run(|| {
            retry_on_intr(|| rustix::fs::fdatasync(&self.file)).map_err(Errno::raw_os_error)
        })
    }

    /// Writes zeroes from one static buffer, at most 1 MiB a call.
    pub(crate) fn write_zero_bytes(&self, offset: u64, length: u64) -> Result<(), Errno> {
        static ZEROES: [u8; 64 << 10] = [0; 64 << 10];
        const SLICES: u64 = 16;
        let piece = bytes(ZEROES.len());
        let mut done = 0;
        while done < length {
            let left = length - done;
            if left >= piece {
                let count = (left / piece).min(SLICES);
                let all = [IoSlice::new(&ZEROES); 16];
                let now = all.get(..usize::try_from(count).unwrap_or(1)).unwrap_or(&all);
                self.write_all(now, offset + done, count * piece, ReadWriteFlags::empty())?;
                done += count * piece;
            } else {
                let tail = usize::try_from(left).ok().and_then(|left| ZEROES.get(..left));
                let tail = [IoSlice::new(tail.unwrap_or(&ZEROES))];
                self.write_all(&tail, offset + done, left, ReadWriteFlags::empty())?;
                done = length;
            }
        }
        Ok(())
    }

    /// One `fallocate`; `Ok(false)` if the file system does not have this mode, which is then
    /// remembered in `feature`.
    fn fallocate(
        &self,
        feature: &AtomicBool,
        mode: FallocateFlags,
        offset: u64,
        length: u64,
    ) -> Result<bool, Errno> {
        if !feature.load(Relaxed) {
            return Ok(false);
        }
        let mode = mode | FallocateFlags::KEEP_SIZE;
        match retry_on_intr(|| rustix::fs::fallocate(&self.file, mode, offset, length)) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                feature.store(false, Relaxed);
                Ok(false)
            }
            // No multiple of the device's blocks.
            Err(Errno::INVAL) if self.is_device => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// `PUNCH_HOLE` over the whole range: the kernel zeroes the unaligned ends itself, and,
    /// unlike a write, does not allocate a hole's block for it.
    pub(crate) fn punch_hole(&self, offset: u64, length: u64) -> Result<bool, Errno> {
        self.fallocate(&self.punch, FallocateFlags::PUNCH_HOLE, offset, length)
    }

    /// Zeroes that have their space.
    pub(crate) fn zero(&self, offset: u64, length: u64) -> Result<(), Errno> {
        if self.fallocate(&self.zero_range, FallocateFlags::ZERO_RANGE, offset, length)? {
            return Ok(());
        }
        self.write_zero_bytes(offset, length)
    }

    /// Has the file system copy bytes of another file; how many.
    pub(crate) fn copy_from(
        &self,
        source: &Self,
        mut from: u64,
        mut to: u64,
        length: u64,
    ) -> Result<u64, Errno> {
        // From one file system to another the kernel may copy what it finds for zeroes.
        if source.identity.device != self.identity.device {
            return Err(Errno::XDEV);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length == 0 {
            return Ok(0);
        }
        let copied = retry_on_intr(|| {
            rustix::fs::copy_file_range(
                &source.file,
                Some(&mut from),
                &self.file,
                Some(&mut to),
                length,
            )
        })?;
        // The source ends early.
        if copied == 0 { Err(Errno::INVAL) } else { Ok(bytes(copied)) }
    }

    /// The first byte from `offset` on that has data, or that has none.
    pub(crate) fn seek(&self, whence: SeekFrom) -> Result<u64, Errno> {
        rustix::fs::seek(&self.file, whence)
    }
}

impl BlockFile for ImageFile {
    fn path(&self) -> &Arc<Path> {
        &self.path
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn nowait_reads(&self) -> bool {
        self.in_memory || (self.nowait.load(Relaxed) && self.direct().is_none())
    }

    fn joins_writes(&self) -> bool {
        !self.large_folios_are_dear || self.direct().is_some()
    }

    fn punches(&self) -> bool {
        !self.read_only && self.punch.load(Relaxed)
    }

    fn granularity(&self) -> u32 {
        self.granularity
    }

    fn length(&self) -> Result<u64, ImageError> {
        let length =
            rustix::fs::fstat(&self.file).and_then(|stat| device::length(&self.file, &stat));
        length.map_err(|errno| {
            ImageError::from_io(Operation::Health, self.path.clone(), errno.into())
        })
    }

    fn set_length(&self, length: u64) -> Result<(), ImageError> {
        let _left = self.hot.leave(length..u64::MAX);
        device::set_length(&self.file, length).map_err(|errno| {
            ImageError::from_io(Operation::Resize, self.path.clone(), errno.into()).at(length, 0)
        })
    }

    fn read(&self, bufs: &mut [IoSliceMut<'_>], offset: u64, wait: Wait) -> Result<(), ImageError> {
        let length = bytes(bufs.iter().map(|buf| buf.len()).sum());
        let would_block =
            || Err(self.fault(ImageErrorKind::WouldBlock, Operation::Read, offset, length));
        if length == 0 {
            return Ok(());
        }
        if let Some(direct) = self.direct() {
            if wait == Wait::Nowait {
                return would_block();
            }
            if let Some(result) = self.read_direct(direct, bufs, offset, length) {
                return result;
            }
        }
        if wait == Wait::Block {
            // With direct I/O, what comes here is tables alone.
            if self.in_memory || self.direct_io.is_on() {
                return self.read_rest(bufs, offset, length);
            }
            let read = || self.read_rest(bufs, offset, length);
            return self.ahead.read(offset, length, |range| self.fetch(range), read);
        }
        if self.hot.read(bufs, offset, length) {
            return Ok(());
        }
        if self.in_memory {
            return self.read_rest(bufs, offset, length).inspect(|()| self.was_read(offset));
        }
        if !self.nowait.load(Relaxed) {
            return would_block();
        }
        match preadv2(&self.file, bufs, offset, ReadWriteFlags::NOWAIT) {
            Ok(count) if bytes(count) == length => {
                self.was_read(offset);
                Ok(())
            }
            // The first pages were cached, the next is not. Or the file has shrunk: the
            // waiting read will say so.
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => would_block(),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.nowait.store(false, Relaxed);
                would_block()
            }
            Err(errno) => Err(self.error(errno, Operation::Read, offset, length)),
        }
    }

    fn write(
        &self,
        bufs: &[IoSlice<'_>],
        offset: u64,
        durability: Durability,
    ) -> Result<(), ImageError> {
        let length = bytes(bufs.iter().map(|buf| buf.len()).sum());
        match durability {
            Durability::Durable => self.write_durable(bufs, offset, length),
            Durability::Cached => self
                .write_all(bufs, offset, length, ReadWriteFlags::empty())
                .map_err(|errno| self.error(errno, Operation::Write, offset, length)),
        }
    }

    fn flush(&self) -> Result<(), ImageError> {
        self.sync().map_err(|errno| self.sync_failed(errno, Operation::Flush))
    }

    fn punch(&self, offset: u64, length: u64) -> Result<bool, ImageError> {
        let _left = self.hot.leave(offset..offset.saturating_add(length));
        self.punch_hole(offset, length)
            .map_err(|errno| self.error(errno, Operation::Unmap, offset, length))
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), ImageError> {
        let _left = self.hot.leave(offset..offset.saturating_add(length));
        self.zero(offset, length)
            .map_err(|errno| self.error(errno, Operation::WriteZeroes, offset, length))
    }

    fn allocate(&self, offset: u64, length: u64) -> Result<(), ImageError> {
        self.fallocate(&self.space, FallocateFlags::empty(), offset, length)
            .map(|_| ())
            .map_err(|errno| self.error(errno, Operation::Write, offset, length))
    }

    fn share(&self) -> Result<(), ImageError> {
        lock(&self.file, true)
            .map_err(|errno| ImageError::from_io(Operation::Lock, self.path.clone(), errno.into()))
    }

    fn health(&self) -> Result<(), ImageError> {
        self.present()?;
        self.sync_state()
    }
}

/// Takes the lock that keeps other openers out: shared for readers, exclusive for a writer.
/// `flock` belongs to the open file description, so it holds inside one process too.
pub(crate) fn lock(file: &OwnedFd, shared: bool) -> Result<(), Errno> {
    let operation = if shared {
        FlockOperation::NonBlockingLockShared
    } else {
        FlockOperation::NonBlockingLockExclusive
    };
    retry_on_intr(|| rustix::fs::flock(file, operation))
}

pub(crate) fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
