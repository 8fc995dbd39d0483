//! An image in memory: for tests of everything above, and as the model the others are held to.

use std::io::{IoSlice, IoSliceMut};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::image::{
    AtomicWrites, BlockState, Durability, Extent, Features, Image, Wait, check_range,
};

const GRANULARITY: usize = 4096;

/// A disk in memory, all zeroes and unmapped at first. Space is tracked in pieces of 4096 bytes.
#[derive(Debug)]
pub struct MemImage {
    path: Arc<Path>,
    size: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bytes: Vec<u8>,
    mapped: Vec<bool>,
}

impl MemImage {
    /// A disk of `size_bytes` zeroes.
    ///
    /// # Errors
    /// `OutOfMemory` if the size does not fit this machine's address space.
    pub fn new(size_bytes: u64) -> Result<Self, ImageError> {
        let path: Arc<Path> = Path::new("memory").into();
        let Ok(length) = usize::try_from(size_bytes) else {
            return Err(ImageError::new(ImageErrorKind::OutOfMemory, Operation::Create, path));
        };
        let state =
            State { bytes: vec![0; length], mapped: vec![false; length.div_ceil(GRANULARITY)] };
        Ok(Self { path, size: AtomicU64::new(size_bytes), state: Mutex::new(state) })
    }

    /// A copy of everything on the disk.
    #[must_use]
    pub fn contents(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn range(
        &self,
        operation: Operation,
        offset: u64,
        length: usize,
    ) -> Result<std::ops::Range<usize>, ImageError> {
        let bytes = u64::try_from(length).unwrap_or(u64::MAX);
        check_range(&self.path, operation, offset, bytes, self.size_bytes())?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(start..start.saturating_add(length))
    }

    fn zero(
        &self,
        operation: Operation,
        offset: u64,
        length: u64,
        unmap: bool,
    ) -> Result<(), ImageError> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let range = self.range(operation, offset, length)?;
        let mut state = self.lock();
        if let Some(bytes) = state.bytes.get_mut(range.clone()) {
            bytes.fill(0);
        }
        // Only pieces that lie wholly in the range lose their space; any touched one gains it.
        let pieces = if unmap {
            let end = if range.end == state.bytes.len() {
                range.end.div_ceil(GRANULARITY)
            } else {
                range.end / GRANULARITY
            };
            range.start.div_ceil(GRANULARITY)..end
        } else {
            range.start / GRANULARITY..range.end.div_ceil(GRANULARITY)
        };
        if let Some(mapped) = state.mapped.get_mut(pieces) {
            mapped.fill(!unmap);
        }
        Ok(())
    }
}

impl Image for MemImage {
    fn size_bytes(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn features(&self) -> Features {
        Features {
            read_only: false,
            unmap: true,
            unmap_granularity: 4096,
            reads_zero_after_unmap: true,
            nowait_reads: true,
            joins_writes: true,
        }
    }

    fn path(&self) -> Arc<Path> {
        self.path.clone()
    }

    fn read(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        offset: u64,
        _wait: Wait,
    ) -> Result<(), ImageError> {
        let range = self.range(Operation::Read, offset, bufs.iter().map(|b| b.len()).sum())?;
        let state = self.lock();
        let mut bytes = state.bytes.get(range).unwrap_or_default();
        for buf in bufs {
            let (head, tail) = bytes.split_at(buf.len().min(bytes.len()));
            buf.copy_from_slice(head);
            bytes = tail;
        }
        Ok(())
    }

    fn write(
        &self,
        bufs: &[IoSlice<'_>],
        offset: u64,
        _durability: Durability,
    ) -> Result<(), ImageError> {
        let range = self.range(Operation::Write, offset, bufs.iter().map(|b| b.len()).sum())?;
        let mut state = self.lock();
        let pieces = range.start / GRANULARITY..range.end.div_ceil(GRANULARITY);
        let mut bytes = state.bytes.get_mut(range).unwrap_or_default();
        for buf in bufs {
            let (head, tail) = bytes.split_at_mut(buf.len().min(bytes.len()));
            head.copy_from_slice(buf);
            bytes = tail;
        }
        if let Some(mapped) = state.mapped.get_mut(pieces) {
            mapped.fill(true);
        }
        Ok(())
    }

    /// Whatever fits: there is no crash that leaves anything.
    fn atomic_writes(&self) -> AtomicWrites {
        AtomicWrites { max_length: 1 << 20, alignment: 0 }
    }

    fn flush(&self) -> Result<(), ImageError> {
        Ok(())
    }

    fn unmap(&self, offset: u64, length: u64) -> Result<(), ImageError> {
        self.zero(Operation::Unmap, offset, length, true)
    }

    fn write_zeroes(&self, offset: u64, length: u64, may_unmap: bool) -> Result<(), ImageError> {
        self.zero(Operation::WriteZeroes, offset, length, may_unmap)
    }

    fn block_status(&self, offset: u64, length: u64) -> Result<Extent, ImageError> {
        let wanted = usize::try_from(length).unwrap_or(usize::MAX);
        let range = self.range(Operation::BlockStatus, offset, wanted)?;
        let state = self.lock();
        let pieces = range.start / GRANULARITY..range.end.div_ceil(GRANULARITY);
        let Some((first, rest)) = state.mapped.get(pieces).and_then(<[bool]>::split_first) else {
            return Err(ImageError::new(
                ImageErrorKind::OutOfRange,
                Operation::BlockStatus,
                self.path.clone(),
            )
            .at(offset, length));
        };
        let same = 1 + rest.iter().take_while(|mapped| *mapped == first).count();
        let end = ((range.start / GRANULARITY + same) * GRANULARITY).min(range.end);
        Ok(Extent {
            offset,
            length: u64::try_from(end - range.start).unwrap_or(length),
            state: if *first { BlockState::Mapped } else { BlockState::Deallocated },
        })
    }

    fn grow(&self, size_bytes: u64) -> Result<(), ImageError> {
        let Ok(length) = usize::try_from(size_bytes) else {
            let kind = ImageErrorKind::OutOfMemory;
            return Err(ImageError::new(kind, Operation::Resize, self.path.clone()));
        };
        let mut state = self.lock();
        if length > state.bytes.len() {
            state.bytes.resize(length, 0);
            state.mapped.resize(length.div_ceil(GRANULARITY), false);
            self.size.store(size_bytes, Ordering::Release);
        }
        Ok(())
    }

    fn cut(&self, size_bytes: u64) -> Result<(), ImageError> {
        let mut state = self.lock();
        let length = usize::try_from(size_bytes).unwrap_or(usize::MAX).min(state.bytes.len());
        state.bytes.truncate(length);
        state.mapped.truncate(length.div_ceil(GRANULARITY));
        self.size.fetch_min(size_bytes, Ordering::AcqRel);
        Ok(())
    }

    fn health(&self) -> Result<(), ImageError> {
        Ok(())
    }
}
