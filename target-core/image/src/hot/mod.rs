//! Parts of image files that are read again and again are kept in memory, and read without a system
//! call: of a read of 4 KiB from the page cache more than half is the call, and the look for the
//! page.
//!
//! A file has chunks of 2 MiB. One that is read in several moments one behind the other is pinned by
//! a thread of its own ([`set`]), within a budget that belongs to all files together; from then on
//! it is copied from. What is pinned is never evicted, so a copy waits for no device: that is what
//! [`Wait::Nowait`](crate::Wait) promises. What is taken from a file (holes, shorter files) is not
//! copied from any more before it goes.

mod pinned;
mod set;
mod system;

use std::io::IoSliceMut;
use std::ops::{Range, RangeInclusive};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use memory::PinnedFile;
use rustix::fs::{Mode, OFlags, SeekFrom};

pub use self::pinned::Pinned;
use self::set::SET;
pub use self::system::default_hot_bytes;

/// Bytes that are pinned as one.
const CHUNK: u64 = 2 << 20;
/// The same as an address.
const CHUNK_LENGTH: usize = 2 << 20;
/// So many reads before a file is mapped.
const READS_BEFORE: u32 = 64;
/// A file may grow by so much, or to twice its length, without being opened again.
const ROOM_TO_GROW: u64 = 1 << 30;
/// In so many moments a chunk must have been read.
const MOMENTS: u16 = 3;
/// See [`system::moment`].
const MOMENTS_OF_A_SECOND: u16 = 4;

/// `statfs` magic numbers of file systems that have the bytes of a file in the page cache, and nowhere
/// else, and take them from there only if they are asked to: ext4, XFS, Btrfs, F2FS, tmpfs, ramfs.
const LOCAL: [u64; 6] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, TMPFS, 0x8584_58f6];
/// Where a hole that is looked at through a mapping takes space, and is no hole any more.
const TMPFS: u64 = 0x0102_1994;

/// The state of a chunk: it may be copied from.
const PINNED: u16 = 0x8000;
/// It was, since somebody has looked.
const USED: u16 = 0x4000;
/// It shall be pinned.
const WANTED: u16 = 0x2000;
/// The thread has pinned it, whether it may be copied from or not.
const HELD: u16 = 0x1000;
/// In how many moments it was read.
const HEAT: u16 = 0x0f00;
const HEAT_SHIFT: u32 = 8;
/// The last moment in which it was read.
const MOMENT: u16 = 0x00ff;

/// How many bytes may be pinned altogether; with 0, at the start, there is nothing of the kind.
pub fn set_hot_budget(bytes: u64) {
    SET.set_budget(bytes);
}

/// How many bytes are pinned.
#[must_use]
pub fn hot_bytes() -> u64 {
    SET.bytes()
}

/// What is pinned of one file.
#[derive(Debug, Default)]
pub(crate) struct HotFile {
    reads: AtomicU32,
    on_tmpfs: bool,
    /// None if it cannot be.
    chunks: OnceLock<Option<Arc<Chunks>>>,
}

impl Drop for HotFile {
    fn drop(&mut self) {
        if let Some(Some(chunks)) = self.chunks.take() {
            SET.retire(chunks);
        }
    }
}

impl HotFile {
    /// That of a file on a file system with this number; of a device, whose system is where its node is, too.
    pub(crate) fn new(is_device: bool, magic: Option<u64>) -> Self {
        let able = is_device || magic.is_some_and(|it| LOCAL.contains(&it));
        let chunks = if able { OnceLock::new() } else { OnceLock::from(None) };
        Self { reads: AtomicU32::new(0), on_tmpfs: !is_device && magic == Some(TMPFS), chunks }
    }

    /// Fills all of `bufs`, whose length is not 0, from what is pinned. False if it cannot: then there
    /// is anything in them.
    #[inline]
    pub(crate) fn read(&self, bufs: &mut [IoSliceMut<'_>], offset: u64, length: u64) -> bool {
        let Some(Some(chunks)) = self.chunks.get() else { return false };
        chunks.read(bufs, offset, length)
    }

    /// All of a range whose length is not 0, if it is pinned.
    pub(crate) fn pinned(&self, offset: u64, length: u64) -> Option<Pinned> {
        Pinned::of(self.chunks.get()?.as_ref()?, offset, length)
    }

    /// Counts a read of what was in the page cache.
    pub(crate) fn was_read(
        &self,
        file: &OwnedFd,
        length: impl FnOnce() -> Option<u64>,
        offset: u64,
    ) {
        if !SET.takes_more() {
            return;
        }
        if let Some(chunks) = self.chunks.get() {
            if let Some(chunks) = chunks {
                Chunks::was_read(chunks, offset);
            }
        } else if self.reads.fetch_add(1, Ordering::Relaxed) == READS_BEFORE {
            let of = || Chunks::of(file, length()?, self.on_tmpfs).map(Arc::new);
            self.chunks.get_or_init(of);
        }
    }

    /// Has nobody copy from this range any more, until what comes back is dropped: something is
    /// taken from it.
    pub(crate) fn leave(&self, range: Range<u64>) -> Option<Left<'_>> {
        let chunks = self.chunks.get()?.as_deref()?;
        chunks.leaving.fetch_add(1, Ordering::SeqCst);
        chunks.forget(range);
        Some(Left(chunks))
    }
}

/// While it is held, nothing of the file is newly copied from.
#[derive(Debug)]
pub(crate) struct Left<'a>(&'a Chunks);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.leaving.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The chunks of a file.
#[derive(Debug)]
struct Chunks {
    map: PinnedFile,
    states: Box<[AtomicU16]>,
    /// Of each chunk, how many send from it.
    senders: Box<[AtomicU32]>,
    /// So many take something from the file.
    leaving: AtomicU32,
    file: OwnedFd,
    /// Holes must not be pinned.
    without_holes: bool,
}

impl Chunks {
    fn of(file: &OwnedFd, length: u64, without_holes: bool) -> Option<Self> {
        use std::os::fd::AsRawFd as _;

        // A description of its own: the lock of the other one ends when the image is closed.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let own = rustix::fs::open(path, flags, Mode::empty()).ok()?;
        let whole = length.checked_add(ROOM_TO_GROW.max(length))? / CHUNK;
        let count = usize::try_from(whole).ok()?;
        let map = PinnedFile::map(&own, count.checked_mul(CHUNK_LENGTH)?);
        let map =
            map.inspect_err(|error| tracing::debug!(%error, "an image cannot be mapped")).ok()?;
        // Zeroed pages, of which memory has those that are used.
        let states = std::iter::repeat_with(|| AtomicU16::new(0)).take(count).collect();
        let senders = std::iter::repeat_with(|| AtomicU32::new(0)).take(count).collect();
        let (leaving, file) = (AtomicU32::new(0), own);
        Some(Self { map, states, senders, leaving, file, without_holes })
    }

    /// Whether a chunk must not be pinned, as a hole in it would be none any more.
    fn has_hole(&self, number: u64) -> bool {
        if !self.without_holes {
            return false;
        }
        let (start, end) = (number.saturating_mul(CHUNK), (number + 1).saturating_mul(CHUNK));
        !rustix::fs::seek(&self.file, SeekFrom::Hole(start)).is_ok_and(|hole| hole >= end)
    }

    fn state(&self, number: u64) -> Option<&AtomicU16> {
        self.states.get(usize::try_from(number).ok()?)
    }

    #[inline]
    fn read(&self, bufs: &mut [IoSliceMut<'_>], offset: u64, length: u64) -> bool {
        if !self.uses(offset, length) {
            return false;
        }
        let Ok(mut at) = usize::try_from(offset) else { return false };
        for buf in bufs {
            if self.map.read(at, buf).is_err() {
                // A read that asks the system says what is wrong.
                self.forget(offset..offset.saturating_add(length));
                return false;
            }
            at += buf.len();
        }
        true
    }

    /// Whether a range may be copied from, and shall be kept.
    #[inline]
    fn uses(&self, offset: u64, length: u64) -> bool {
        chunks_of(offset, length).all(|number| self.use_of(number))
    }

    /// Whether a chunk may be copied from, and shall be kept.
    #[inline]
    fn use_of(&self, number: u64) -> bool {
        let Some(state) = self.state(number) else { return false };
        let now = state.load(Ordering::Acquire);
        // Who finds the mark there leaves the cache line to others.
        if now & (PINNED | USED) == PINNED {
            state.fetch_or(USED, Ordering::Relaxed);
        }
        now & PINNED != 0
    }

    fn was_read(this: &Arc<Self>, offset: u64) {
        let number = offset / CHUNK;
        let Some(state) = this.state(number) else { return };
        let (before, moment) = (state.load(Ordering::Relaxed), system::moment());
        if before & MOMENT == moment || before & (PINNED | WANTED) != 0 {
            return;
        }
        // A little is forgotten for each second in which nobody came.
        let missed = (moment.wrapping_sub(before) & MOMENT) / MOMENTS_OF_A_SECOND;
        let heat = ((before & HEAT) >> HEAT_SHIFT).saturating_sub(missed) + 1;
        let wanted = if heat >= MOMENTS { WANTED } else { 0 };
        let after = before & HELD | wanted | heat.min(HEAT >> HEAT_SHIFT) << HEAT_SHIFT | moment;
        // Another one that came first has done the same.
        let order = Ordering::Relaxed;
        if state.compare_exchange(before, after, order, order).is_ok()
            && wanted != 0
            && !SET.want(this, number)
        {
            state.fetch_and(!WANTED, order);
        }
    }

    fn forget(&self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = usize::try_from(range.start / CHUNK).unwrap_or(usize::MAX);
        let last = usize::try_from((range.end - 1) / CHUNK).unwrap_or(usize::MAX);
        for state in self.states.iter().take(last.saturating_add(1)).skip(first) {
            state.fetch_and(!PINNED, Ordering::SeqCst);
        }
    }

    /// Pins a chunk, on the thread that may sleep.
    ///
    /// # Errors
    /// As [`PinnedFile::pin`]; then it is not held.
    fn pin(&self, number: u64) -> std::io::Result<()> {
        let (Some(state), Some(place)) = (self.state(number), place(number)) else {
            return Err(std::io::ErrorKind::InvalidInput.into());
        };
        self.map.pin(&place).inspect_err(|error| {
            tracing::debug!(%error, "a part of an image cannot be pinned");
            state.fetch_and(!(WANTED | PINNED | HELD), Ordering::SeqCst);
        })?;
        state.fetch_or(HELD | USED | PINNED, Ordering::SeqCst);
        state.fetch_and(!WANTED, Ordering::SeqCst);
        // Who takes something away has counted itself in before it looks for what is pinned.
        if self.leaving.load(Ordering::SeqCst) > 0 {
            state.fetch_and(!PINNED, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Leaves a chunk to the system, unless somebody sends from it: then nobody else begins to.
    fn unpin(&self, number: u64) -> bool {
        let (Some(state), Some(place)) = (self.state(number), place(number)) else { return true };
        let before = state.fetch_and(!PINNED, Ordering::SeqCst);
        // Who sends has counted itself in before it looks whether the chunk is pinned.
        let is_sent = self.senders(number).is_some_and(|it| it.load(Ordering::SeqCst) > 0);
        if before & HELD != 0 && is_sent {
            state.fetch_and(!WANTED, Ordering::SeqCst);
            return false;
        }
        state.store(0, Ordering::SeqCst);
        self.map.unpin(&place);
        true
    }

    fn senders(&self, number: u64) -> Option<&AtomicU32> {
        self.senders.get(usize::try_from(number).ok()?)
    }
}

/// The chunks that a range touches, whose length is not 0.
fn chunks_of(offset: u64, length: u64) -> RangeInclusive<u64> {
    offset / CHUNK..=offset.saturating_add(length - 1) / CHUNK
}

/// Where a chunk is mapped.
fn place(number: u64) -> Option<Range<usize>> {
    let start = usize::try_from(number).ok()?.checked_mul(CHUNK_LENGTH)?;
    Some(start..start.checked_add(CHUNK_LENGTH)?)
}

#[cfg(test)]
mod tests;
