//! An image whose writes go to another one too, which becomes the same while it is used.
//!
//! The one is the disk's until the other takes its place: reads come from it, its errors are the
//! disk's, and nothing has to be durable elsewhere. So the other may fail at any time; that ends the
//! copying, and no command. Writes reach the two in the same order: whoever writes holds the range,
//! and who came first goes first. Below `copied` a write goes to both; what is above, the copier
//! still comes to.
//!
//! Before the other one becomes the disk's, there is a moment in which nobody knows yet which one
//! will be ([`MirrorImage::seal`]). From there on both are flushed, and a write that the other one
//! refuses waits until that is decided.

use std::io::{IoSlice, IoSliceMut};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::cache::CacheBudget;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::format::ImageFormat;
use crate::image::{AtomicWrites, Durability, Extent, Features, Image, Wait};
use crate::layers::Own;

mod copier;

pub use copier::MirrorCopier;

/// More ranges than this become one that has all of them.
const MAX_DIRTY: usize = 1024;

/// Which of the two images is the disk's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Still the first. The other gets nothing any more.
    Kept,
    /// The other one. Both are written until nobody uses the first any more.
    Moved,
    /// That is not known: nothing is answered that one of them lacks.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Copying,
    /// What began before has not ended yet.
    Sealing,
    Sealed,
    Decided(Outcome),
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// What is being written or copied, in the order in which they came.
    held: Vec<(u64, Range<u64>)>,
    next: u64,
    /// Bytes from the start that are the same in both, but for `dirty`.
    copied: u64,
    /// Where the first image failed in the midst of a write.
    dirty: Vec<Range<u64>>,
    /// Why the other is not to be used.
    broken: Option<ImageError>,
}

/// Two images that are written together.
#[derive(Debug)]
pub struct MirrorImage {
    source: Arc<dyn Image>,
    target: Arc<dyn Image>,
    state: Mutex<State>,
    changed: Condvar,
}

/// Whether all of a write or nothing of it has to survive a crash: of nothing that a crash throws away.
struct Whole(bool);

/// A range that its holder alone writes.
struct Held<'a> {
    mirror: &'a MirrorImage,
    ticket: u64,
    range: Range<u64>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.mirror.lock().held.retain(|(ticket, _)| *ticket != self.ticket);
        self.mirror.changed.notify_all();
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

impl MirrorImage {
    /// Begins to write `target` as `source` is written. No write is under way that goes past it.
    #[must_use]
    pub fn new(source: Arc<dyn Image>, target: Arc<dyn Image>) -> Self {
        let state = State {
            phase: Phase::Copying,
            held: Vec::new(),
            next: 0,
            copied: 0,
            dirty: Vec::new(),
            broken: None,
        };
        Self { source, target, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The disk's image, until it is decided.
    #[must_use]
    pub fn source(&self) -> &Arc<dyn Image> {
        &self.source
    }

    /// The other one.
    #[must_use]
    pub fn target(&self) -> &Arc<dyn Image> {
        &self.target
    }

    /// From now on nothing is answered that only one of the two has. True if their first `size` bytes
    /// are the same now, durably; false if there is more to copy, as before.
    ///
    /// # Errors
    /// The other one failed.
    pub fn seal(&self, size: u64) -> Result<bool, ImageError> {
        {
            let mut state = self.lock();
            if state.phase == Phase::Copying {
                state.phase = Phase::Sealing;
            }
        }
        // Those that began before have ended then.
        drop(self.hold(0..u64::MAX));
        {
            let mut state = self.lock();
            if let Some(error) = &state.broken {
                return Err(error.again());
            }
            let whole = state.copied >= size && state.dirty.is_empty();
            if state.phase == Phase::Sealing {
                state.phase = if whole { Phase::Sealed } else { Phase::Copying };
            }
            if !whole {
                return Ok(false);
            }
        }
        // What was flushed before this is not yet durable there.
        self.target.flush()?;
        Ok(true)
    }

    /// Says which one is the disk's. The first word counts.
    pub fn decide(&self, outcome: Outcome) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Decided(_)) {
            state.phase = Phase::Decided(outcome);
        }
        self.changed.notify_all();
    }

    /// What was decided.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match self.lock().phase {
            Phase::Decided(outcome) => Some(outcome),
            Phase::Copying | Phase::Sealing | Phase::Sealed => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody who came before holds any of it.
    fn hold(&self, range: Range<u64>) -> Held<'_> {
        let mut state = self.lock();
        let ticket = state.next;
        state.next += 1;
        state.held.push((ticket, range.clone()));
        let held = |state: &State| {
            state.held.iter().any(|(other, it)| *other < ticket && overlap(it, &range))
        };
        while held(&state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        Held { mirror: self, ticket, range }
    }

    /// Writes to the first, and to the other where that has been copied.
    fn write_both(
        &self,
        (offset, length): (u64, u64),
        write: impl Fn(&dyn Image, Durability, Whole) -> Result<(), ImageError>,
        durability: Durability,
    ) -> Result<(), ImageError> {
        let held = self.hold(offset..offset.saturating_add(length));
        let (phase, copied) = {
            let state = self.lock();
            (state.phase, state.copied)
        };
        if let Err(error) = write(&*self.source, durability, Whole(true)) {
            if error.kind() != ImageErrorKind::OutOfRange {
                self.lock().soil(&held.range);
            }
            return Err(error);
        }
        // One that reaches beyond what is copied may go there: the copier sees what there is.
        if offset >= copied || length == 0 {
            return Ok(());
        }
        match phase {
            Phase::Decided(Outcome::Kept) => Ok(()),
            Phase::Copying => {
                if let Err(error) = write(&*self.target, Durability::Cached, Whole(false)) {
                    self.break_off(error);
                }
                Ok(())
            }
            Phase::Sealing | Phase::Sealed | Phase::Decided(_) => {
                self.must(|target| write(target, durability, Whole(true)))
            }
        }
    }

    /// The other one cannot be used.
    fn break_off(&self, error: ImageError) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Copying | Phase::Sealing) {
            state.phase = Phase::Decided(Outcome::Kept);
        }
        state.broken.get_or_insert(error);
        self.changed.notify_all();
    }

    /// What the other one must do as well, if it becomes the disk's.
    fn must(&self, work: impl Fn(&dyn Image) -> Result<(), ImageError>) -> Result<(), ImageError> {
        let Err(error) = work(&*self.target) else { return Ok(()) };
        let mut state = self.lock();
        loop {
            match state.phase {
                Phase::Decided(Outcome::Kept) => return Ok(()),
                Phase::Decided(Outcome::Moved) => break,
                Phase::Decided(Outcome::Unknown) => return Err(error),
                // Nobody relies on it yet.
                Phase::Copying | Phase::Sealing => {
                    drop(state);
                    self.break_off(error);
                    return Ok(());
                }
                Phase::Sealed => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        drop(state);
        work(&*self.target)
    }

    fn flush_both(
        &self,
        flush: impl Fn(&dyn Image) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        flush(&*self.source)?;
        match self.lock().phase {
            Phase::Copying | Phase::Decided(Outcome::Kept) => return Ok(()),
            Phase::Sealing | Phase::Sealed | Phase::Decided(_) => {}
        }
        self.must(flush)
    }

    /// Not while it is copied.
    fn refuse(&self, operation: Operation) -> ImageError {
        ImageError::new(ImageErrorKind::InUse, operation, self.path())
            .because("it is being copied into another file")
    }
}

impl State {
    /// The first image may have anything there now.
    fn soil(&mut self, range: &Range<u64>) {
        let range = range.start..range.end.min(self.copied);
        if range.is_empty() {
            return;
        }
        self.dirty.push(range);
        if self.dirty.len() > MAX_DIRTY {
            let start = self.dirty.iter().map(|it| it.start).min().unwrap_or(0);
            let end = self.dirty.iter().map(|it| it.end).max().unwrap_or(0);
            self.dirty.clear();
            self.dirty.push(start..end);
        }
    }
}

fn length_of(bufs: &[IoSlice<'_>]) -> u64 {
    bufs.iter().map(|buf| u64::try_from(buf.len()).unwrap_or(u64::MAX)).fold(0, u64::saturating_add)
}

impl Image for MirrorImage {
    fn size_bytes(&self) -> u64 {
        self.source.size_bytes()
    }

    fn features(&self) -> Features {
        self.source.features()
    }

    fn path(&self) -> Arc<Path> {
        self.source.path()
    }

    fn read(&self, bufs: &mut [IoSliceMut<'_>], offset: u64, wait: Wait) -> Result<(), ImageError> {
        self.source.read(bufs, offset, wait)
    }

    fn write(
        &self,
        bufs: &[IoSlice<'_>],
        offset: u64,
        durability: Durability,
    ) -> Result<(), ImageError> {
        let write = |image: &dyn Image, durability, _| image.write(bufs, offset, durability);
        self.write_both((offset, length_of(bufs)), write, durability)
    }

    fn flush(&self) -> Result<(), ImageError> {
        self.flush_both(|image| image.flush())
    }

    fn unmap(&self, offset: u64, length: u64) -> Result<(), ImageError> {
        let unmap = |image: &dyn Image, _, _| image.unmap(offset, length);
        self.write_both((offset, length), unmap, Durability::Cached)
    }

    fn write_zeroes(&self, offset: u64, length: u64, may_unmap: bool) -> Result<(), ImageError> {
        let zero = |image: &dyn Image, _, _| image.write_zeroes(offset, length, may_unmap);
        self.write_both((offset, length), zero, Durability::Cached)
    }

    fn block_status(&self, offset: u64, length: u64) -> Result<Extent, ImageError> {
        self.source.block_status(offset, length)
    }

    fn cache_budget(&self) -> Option<CacheBudget> {
        self.source.cache_budget()
    }

    fn trim_caches(&self) {
        self.source.trim_caches();
    }

    fn parent(&self) -> Option<Arc<dyn Image>> {
        self.source.parent()
    }

    fn own_extent(&self, offset: u64, length: u64) -> Result<(Own, u64), ImageError> {
        self.source.own_extent(offset, length)
    }

    fn set_parent(&self, parent: Arc<dyn Image>) -> Result<(), ImageError> {
        self.source.set_parent(parent)
    }

    fn rebase(
        &self,
        name: &str,
        format: ImageFormat,
        parent: Arc<dyn Image>,
    ) -> Result<(), ImageError> {
        self.source.rebase(name, format, parent)
    }

    fn grow(&self, size_bytes: u64) -> Result<(), ImageError> {
        if size_bytes <= self.size_bytes() { Ok(()) } else { Err(self.refuse(Operation::Resize)) }
    }

    fn shrink(&self, _size_bytes: u64) -> Result<(), ImageError> {
        Err(self.refuse(Operation::Resize))
    }

    fn close(&self) -> Result<(), ImageError> {
        self.flush_both(|image| image.close())
    }

    fn atomic_writes(&self) -> AtomicWrites {
        self.source.atomic_writes()
    }

    fn write_atomic(
        &self,
        data: &[u8],
        offset: u64,
        durability: Durability,
    ) -> Result<(), ImageError> {
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        let write = |image: &dyn Image, durability, Whole(whole)| {
            if whole && takes(image.atomic_writes(), offset, length) {
                image.write_atomic(data, offset, durability)
            } else {
                image.write(&[IoSlice::new(data)], offset, durability)
            }
        };
        self.write_both((offset, length), write, durability)
    }

    fn health(&self) -> Result<(), ImageError> {
        self.source.health()
    }
}

fn takes(atomic: AtomicWrites, offset: u64, length: u64) -> bool {
    length <= u64::from(atomic.max_length)
        && offset.is_multiple_of(u64::from(atomic.alignment).max(1))
}

#[cfg(test)]
mod tests;
