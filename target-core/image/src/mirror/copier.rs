//! Makes the other image of a mirror the same, and compares the two, while they are written.

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;

use super::{Held, MirrorImage, overlap};
use crate::create::Progress;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::image::{BlockState, Durability, Wait};

/// Read at once.
const PIECE: u64 = 1 << 20;
/// Held at once where there is nothing.
const HOLE: u64 = 1 << 30;
/// Zeroes are left out in units of so many bytes.
const CHUNK: usize = 64 << 10;

/// A copy under way: first everything is copied, then all of it is compared.
#[derive(Debug)]
pub struct MirrorCopier {
    mirror: Arc<MirrorImage>,
    size: u64,
    /// Where the source has nothing, the target keeps its space.
    full: bool,
    /// The target is told to take space.
    fills: bool,
    /// Up to here the target has been written before: what is the same stays.
    compares_to: u64,
    compared: u64,
    buffers: (Vec<u8>, Vec<u8>),
}

impl MirrorCopier {
    /// Copies `size` bytes. The target has got data before up to `written`, of an earlier run.
    #[must_use]
    pub fn begin(
        mirror: Arc<MirrorImage>,
        size: u64,
        (full, fills): (bool, bool),
        written: u64,
    ) -> Self {
        let buffers = (Vec::new(), Vec::new());
        Self { mirror, size, full, fills, compares_to: written, compared: 0, buffers }
    }

    /// How far it is: bytes of both passes.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let state = self.mirror.lock();
        let dirty = state.dirty.iter().map(|it| it.end - it.start).fold(0, u64::saturating_add);
        let done = state.copied.saturating_add(self.compared).saturating_sub(dirty);
        Progress { done, total: self.size.saturating_mul(2) }
    }

    /// Does the next part: about `max_bytes` of data, or a hole that may be much longer.
    ///
    /// # Errors
    /// As reading the source and writing the target, also by others meanwhile. `Corrupt` at the first
    /// byte that differs.
    pub fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError> {
        let chunk = CHUNK as u64;
        let piece = max_bytes.clamp(chunk, PIECE) / chunk * chunk;
        let (copied, dirty) = {
            let state = self.mirror.lock();
            if let Some(error) = &state.broken {
                return Err(error.again());
            }
            (state.copied, state.dirty.first().cloned())
        };
        let mirror = self.mirror.clone();
        if let Some(dirty) = dirty {
            let length = (dirty.end - dirty.start).min(piece);
            self.clean(&mirror.hold(dirty.start..dirty.start + length))?;
        } else if copied < self.size {
            let held = mirror.hold(copied..copied + self.reach(copied, piece)?);
            let length = self.copy(copied, (held.range.end - copied).min(HOLE), piece)?;
            mirror.lock().copied = copied + length;
        } else if self.compared < self.size {
            let at = self.compared;
            let held = mirror.hold(at..at + self.reach(at, piece)?);
            self.compared += self.compare(&held, piece)?;
        }
        Ok(self.progress())
    }

    /// Makes what was copied durable.
    ///
    /// # Errors
    /// `SyncFailed`.
    pub fn sync(&self) -> Result<(), ImageError> {
        self.mirror.target.flush()
    }

    /// How much to hold.
    fn reach(&self, at: u64, piece: u64) -> Result<u64, ImageError> {
        let left = self.size.saturating_sub(at);
        let extent = self.mirror.source.block_status(at, left)?;
        let longest = if extent.state == BlockState::Deallocated { HOLE } else { piece };
        Ok(extent.length.min(left).min(longest))
    }

    /// Copies again what a write has left undone that failed.
    fn clean(&mut self, held: &Held<'_>) -> Result<(), ImageError> {
        let range = held.range.clone();
        let mut at = range.start;
        while at < range.end {
            at += self.copy(at, range.end - at, PIECE)?;
        }
        let mut state = self.mirror.lock();
        // Nobody has written there meanwhile; it may stand there twice.
        let mut left = Vec::with_capacity(state.dirty.len());
        for it in state.dirty.drain(..) {
            if overlap(&it, &range) {
                let around = [it.start..range.start.max(it.start), range.end.min(it.end)..it.end];
                left.extend(around.into_iter().filter(|it| !it.is_empty()));
            } else {
                left.push(it);
            }
        }
        state.dirty = left;
        Ok(())
    }

    /// Copies from `at` on, within what is held; how much.
    fn copy(&mut self, at: u64, length: u64, piece: u64) -> Result<u64, ImageError> {
        let mirror = self.mirror.clone();
        let extent = mirror.source.block_status(at, length)?;
        if extent.state == BlockState::Deallocated {
            let length = extent.length.min(length);
            self.zero(at, length)?;
            return Ok(length);
        }
        let length = extent.length.min(length).min(piece);
        let (buffer, there) = &mut self.buffers;
        buffer.resize(usize::try_from(length).unwrap_or(0), 0);
        mirror.source.read(&mut [IoSliceMut::new(buffer)], at, Wait::Block)?;
        let compares = at < self.compares_to;
        if compares {
            there.resize(buffer.len(), 0);
            mirror.target.read(&mut [IoSliceMut::new(there)], at, Wait::Block)?;
        }
        let (mut from, buffers) = (at, std::mem::take(&mut self.buffers));
        for (n, run) in buffers.0.chunks(CHUNK).enumerate() {
            let length = u64::try_from(run.len()).unwrap_or(0);
            let same = compares && buffers.1.chunks(CHUNK).nth(n) == Some(run);
            if run.iter().all(|byte| *byte == 0) {
                self.zero(from, length)?;
            } else if !same {
                mirror.target.write(&[IoSlice::new(run)], from, Durability::Cached)?;
            }
            from += length;
        }
        self.buffers = buffers;
        Ok(length)
    }

    /// Makes the target read zeroes.
    fn zero(&self, at: u64, length: u64) -> Result<(), ImageError> {
        let target = &self.mirror.target;
        let (mut at, end) = (at, at.saturating_add(length));
        while at < end {
            let extent = target.block_status(at, end - at)?;
            let length = extent.length.clamp(1, end - at);
            if extent.state == BlockState::Mapped {
                target.write_zeroes(at, length, !self.full)?;
            } else if self.fills {
                target.write_zeroes(at, length, false)?;
            }
            at += length;
        }
        Ok(())
    }

    /// Compares what is held, or part of it; how much.
    fn compare(&mut self, held: &Held<'_>, piece: u64) -> Result<u64, ImageError> {
        let MirrorImage { source, target, .. } = &*self.mirror;
        let (at, length) = (held.range.start, held.range.end - held.range.start);
        let mut hole = u64::MAX;
        for image in [source, target] {
            let extent = image.block_status(at, length)?;
            let free = extent.state == BlockState::Deallocated;
            hole = hole.min(if free { extent.length } else { 0 });
        }
        if hole > 0 {
            return Ok(hole.min(length));
        }
        let length = length.min(piece);
        let count = usize::try_from(length).unwrap_or(0);
        let (wanted, copy) = &mut self.buffers;
        for (image, buffer) in [(source, &mut *wanted), (target, &mut *copy)] {
            buffer.resize(count, 0);
            image.read(&mut [IoSliceMut::new(buffer)], at, Wait::Block)?;
        }
        if copy == wanted {
            return Ok(length);
        }
        let state = self.mirror.lock();
        if let Some(error) = &state.broken {
            return Err(error.again());
        }
        // What a write has left that failed is copied again first.
        if state.dirty.iter().any(|it| overlap(it, &held.range)) {
            return Ok(0);
        }
        let differs = copy.iter().zip(&*wanted).position(|(one, other)| one != other);
        let first = at + u64::try_from(differs.unwrap_or(0)).unwrap_or(0);
        let error = ImageError::new(ImageErrorKind::Corrupt, Operation::Verify, target.path());
        Err(error.at(first, 1).because("the copy differs from its source"))
    }
}
