//! An image that fails on command: for the tests of everything above this crate.

use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::cache::{CacheBudget, CacheCounters};
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::image::{AtomicWrites, Durability, Extent, Features, Image, Wait};

/// One scripted failure: which calls it hits, and with what.
#[derive(Debug, Clone)]
pub struct Fault {
    operation: Operation,
    range: Range<u64>,
    cause: Cause,
    skip: u32,
    times: u32,
}

#[derive(Debug, Clone, Copy)]
enum Cause {
    Errno(i32),
    Kind(ImageErrorKind),
}

impl Fault {
    /// Fails `operation` everywhere and always with the system's error number `errno`.
    #[must_use]
    pub fn errno(operation: Operation, errno: i32) -> Self {
        let cause = Cause::Errno(errno);
        Self { operation, range: 0..u64::MAX, cause, skip: 0, times: u32::MAX }
    }

    /// Fails `operation` everywhere and always with `kind`, without an errno.
    #[must_use]
    pub fn kind(operation: Operation, kind: ImageErrorKind) -> Self {
        Self { cause: Cause::Kind(kind), ..Self::errno(operation, 0) }
    }

    /// Only calls that touch these bytes.
    #[must_use]
    pub fn within(mut self, range: Range<u64>) -> Self {
        self.range = range;
        self
    }

    /// Lets the first `count` matching calls pass.
    #[must_use]
    pub fn after(mut self, count: u32) -> Self {
        self.skip = count;
        self
    }

    /// Fails only `count` times.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.times = count;
        self
    }

    /// Whether it is meant for a call.
    pub(crate) fn matches(&self, operation: Operation, offset: u64, length: u64) -> bool {
        let end = offset.saturating_add(length.max(1));
        self.operation == operation
            && self.times > 0
            && self.range.start < end
            && offset < self.range.end
    }

    /// The error for a call that it is meant for; none while it still lets calls pass.
    pub(crate) fn hit(&mut self, path: &Arc<Path>, offset: u64, length: u64) -> Option<ImageError> {
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        if self.times != u32::MAX {
            self.times -= 1;
        }
        let error = match self.cause {
            Cause::Kind(kind) => ImageError::new(kind, self.operation, path.clone()),
            Cause::Errno(errno) => {
                let source = io::Error::from_raw_os_error(errno);
                ImageError::from_io(self.operation, path.clone(), source)
            }
        };
        Some(error.at(offset, length))
    }
}

/// Holds calls of one operation until it is opened. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(Arc<GateState>);

#[derive(Debug)]
struct GateState {
    operation: Operation,
    range: Range<u64>,
    state: Mutex<(usize /* arrived */, bool /* open */)>,
    changed: Condvar,
}

impl Gate {
    /// Waits until `count` calls have arrived at the gate in all; false after `timeout`.
    #[must_use]
    pub fn wait_for_arrivals(&self, count: usize, timeout: Duration) -> bool {
        let state = lock(&self.0.state);
        let (_state, result) = self
            .0
            .changed
            .wait_timeout_while(state, timeout, |(arrived, _)| *arrived < count)
            .unwrap_or_else(PoisonError::into_inner);
        !result.timed_out()
    }

    /// Lets everything pass, now and later.
    pub fn open(&self) {
        lock(&self.0.state).1 = true;
        self.0.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = lock(&self.0.state);
        state.0 += 1;
        self.0.changed.notify_all();
        while !state.1 {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Wraps an image and injects [`Fault`]s and [`Gate`]s. With a gate on an operation, reads with
/// [`Wait::Nowait`] answer `WouldBlock` instead of waiting at it.
#[derive(Debug)]
pub struct FaultImage {
    inner: Arc<dyn Image>,
    path: Arc<Path>,
    script: Mutex<Script>,
}

#[derive(Debug, Default)]
struct Script {
    faults: Vec<Fault>,
    gates: Vec<Gate>,
    calls: Vec<(Operation, u64)>,
    /// Something was changed that a loss of power would undo.
    dirty: bool,
}

impl FaultImage {
    /// A wrapper without faults.
    #[must_use]
    pub fn new(inner: Arc<dyn Image>) -> Self {
        let path = inner.path();
        Self { inner, path, script: Mutex::default() }
    }

    /// Adds a fault; the first that matches a call hits it.
    pub fn inject(&self, fault: Fault) {
        lock(&self.script).faults.push(fault);
    }

    /// Removes all faults. Gates stay.
    pub fn heal(&self) {
        lock(&self.script).faults.clear();
    }

    /// Adds a closed gate in front of `operation`.
    #[must_use]
    pub fn gate(&self, operation: Operation) -> Gate {
        self.gate_within(operation, 0..u64::MAX)
    }

    /// The same, for calls that touch one of these bytes.
    #[must_use]
    pub fn gate_within(&self, operation: Operation, range: Range<u64>) -> Gate {
        let (state, changed) = (Mutex::default(), Condvar::new());
        let gate = Gate(Arc::new(GateState { operation, range, state, changed }));
        lock(&self.script).gates.push(gate.clone());
        gate
    }

    /// How many calls of `operation` have arrived, failed ones included.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> u64 {
        let script = lock(&self.script);
        script.calls.iter().find(|(o, _)| *o == operation).map_or(0, |(_, count)| *count)
    }

    /// Whether a loss of power would undo a change that was made through this wrapper.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        lock(&self.script).dirty
    }

    fn changed(&self) {
        lock(&self.script).dirty = true;
    }

    fn arrive(
        &self,
        operation: Operation,
        offset: u64,
        length: u64,
        wait: Wait,
    ) -> Result<(), ImageError> {
        let gates: Vec<Gate> = {
            let mut script = lock(&self.script);
            match script.calls.iter_mut().find(|(o, _)| *o == operation) {
                Some((_, count)) => *count += 1,
                None => script.calls.push((operation, 1)),
            }
            let end = offset.saturating_add(length.max(1));
            let holds = |gate: &&Gate| {
                let GateState { operation: of, range, .. } = &*gate.0;
                *of == operation && range.start < end && offset < range.end
            };
            script.gates.iter().filter(holds).cloned().collect()
        };
        let error = |kind| ImageError::new(kind, operation, self.path.clone()).at(offset, length);
        for gate in gates {
            if wait == Wait::Nowait && !lock(&gate.0.state).1 {
                return Err(error(ImageErrorKind::WouldBlock));
            }
            gate.pass();
        }
        let mut script = lock(&self.script);
        let hit = script.faults.iter_mut().find(|fault| fault.matches(operation, offset, length));
        let error = hit.and_then(|fault| fault.hit(&self.path, offset, length));
        error.map_or(Ok(()), Err)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bytes(lengths: impl Iterator<Item = usize>) -> u64 {
    u64::try_from(lengths.sum::<usize>()).unwrap_or(u64::MAX)
}

impl Image for FaultImage {
    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn features(&self) -> Features {
        self.inner.features()
    }

    fn path(&self) -> Arc<Path> {
        self.inner.path()
    }

    fn cache_budget(&self) -> Option<CacheBudget> {
        self.inner.cache_budget()
    }

    fn trim_caches(&self) {
        self.inner.trim_caches();
    }

    fn cache(&self) -> Option<CacheCounters> {
        self.inner.cache()
    }

    fn read(&self, bufs: &mut [IoSliceMut<'_>], offset: u64, wait: Wait) -> Result<(), ImageError> {
        let length = bytes(bufs.iter().map(|buf| buf.len()));
        self.arrive(Operation::Read, offset, length, wait)?;
        self.inner.read(bufs, offset, wait)
    }

    fn write(
        &self,
        bufs: &[IoSlice<'_>],
        offset: u64,
        durability: Durability,
    ) -> Result<(), ImageError> {
        let length = bytes(bufs.iter().map(|buf| buf.len()));
        self.arrive(Operation::Write, offset, length, Wait::Block)?;
        if durability == Durability::Cached {
            self.changed();
        }
        self.inner.write(bufs, offset, durability)
    }

    fn atomic_writes(&self) -> AtomicWrites {
        self.inner.atomic_writes()
    }

    fn write_atomic(
        &self,
        data: &[u8],
        offset: u64,
        durability: Durability,
    ) -> Result<(), ImageError> {
        let length = bytes(std::iter::once(data.len()));
        self.arrive(Operation::Write, offset, length, Wait::Block)?;
        self.inner.write_atomic(data, offset, durability)
    }

    fn flush(&self) -> Result<(), ImageError> {
        self.arrive(Operation::Flush, 0, 0, Wait::Block)?;
        self.inner.flush()?;
        lock(&self.script).dirty = false;
        Ok(())
    }

    fn unmap(&self, offset: u64, length: u64) -> Result<(), ImageError> {
        self.arrive(Operation::Unmap, offset, length, Wait::Block)?;
        self.changed();
        self.inner.unmap(offset, length)
    }

    fn write_zeroes(&self, offset: u64, length: u64, may_unmap: bool) -> Result<(), ImageError> {
        self.arrive(Operation::WriteZeroes, offset, length, Wait::Block)?;
        self.changed();
        self.inner.write_zeroes(offset, length, may_unmap)
    }

    fn block_status(&self, offset: u64, length: u64) -> Result<Extent, ImageError> {
        self.arrive(Operation::BlockStatus, offset, length, Wait::Block)?;
        self.inner.block_status(offset, length)
    }

    fn grow(&self, size_bytes: u64) -> Result<(), ImageError> {
        self.arrive(Operation::Resize, 0, 0, Wait::Block)?;
        self.inner.grow(size_bytes)
    }

    fn shrink(&self, size_bytes: u64) -> Result<(), ImageError> {
        self.inner.shrink(size_bytes)
    }

    fn cut(&self, size_bytes: u64) -> Result<(), ImageError> {
        self.arrive(Operation::Resize, 0, 0, Wait::Block)?;
        self.inner.cut(size_bytes)
    }

    fn close(&self) -> Result<(), ImageError> {
        self.inner.close()
    }

    fn health(&self) -> Result<(), ImageError> {
        self.arrive(Operation::Health, 0, 0, Wait::Block)?;
        self.inner.health()
    }
}
