//! A file in memory that records what was done to it: for tests of formats, up to what is left of
//! it after a loss of power at any moment.

use std::io::{IoSlice, IoSliceMut};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::block_file::BlockFile;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::fault::Fault;
use crate::image::{Durability, Wait};

/// Bytes that a loss of power keeps or loses as a whole.
const SECTOR: usize = 512;

/// Something that was done to a [`MemFile`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileEvent {
    /// Bytes were written.
    Write {
        /// First byte.
        offset: usize,
        /// What was written.
        data: Vec<u8>,
    },
    /// The file was cut off or made longer.
    SetLength(usize),
    /// Everything before this is durable.
    Flush,
}

/// A file of bytes in memory.
#[derive(Debug)]
pub struct MemFile {
    path: Arc<Path>,
    limit: usize,
    read_only: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    events: Option<Vec<FileEvent>>,
    faults: Vec<Fault>,
}

impl State {
    fn apply(bytes: &mut Vec<u8>, event: &FileEvent) {
        match event {
            FileEvent::Write { offset, data } => {
                let end = offset.saturating_add(data.len());
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                if let Some(place) = bytes.get_mut(*offset..end) {
                    place.copy_from_slice(data);
                }
            }
            FileEvent::SetLength(length) => bytes.resize(*length, 0),
            FileEvent::Flush => {}
        }
    }

    fn run(&mut self, event: FileEvent) {
        Self::apply(&mut self.bytes, &event);
        if let Some(events) = &mut self.events {
            events.push(event);
        }
    }
}

impl MemFile {
    /// A file with this content, which may become `limit` bytes long: beyond it, there is no space.
    #[must_use]
    pub fn new(bytes: Vec<u8>, limit: usize) -> Self {
        let state = State { bytes, ..State::default() };
        let path = Path::new("memory").into();
        Self { path, limit, read_only: false, state: Mutex::new(state) }
    }

    /// The same, and nothing can be written.
    #[must_use]
    pub fn read_only(bytes: Vec<u8>) -> Self {
        Self { read_only: true, ..Self::new(bytes, 0) }
    }

    /// A copy of what is in it now.
    #[must_use]
    pub fn contents(&self) -> Vec<u8> {
        self.lock().bytes.clone()
    }

    /// From now on, records what is done. The content at this moment counts as durable.
    pub fn record(&self) {
        self.lock().events = Some(Vec::new());
    }

    /// What has been done since [`Self::record`].
    #[must_use]
    pub fn events(&self) -> Vec<FileEvent> {
        self.lock().events.clone().unwrap_or_default()
    }

    /// Adds a fault; the first that matches a call hits it. Offsets are those in the file.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// What a loss of power after the first `count` of `events` may leave of a file that held
    /// `base`: all that was flushed, and of the rest what `keep` says. It is asked once for each
    /// sector of a write and for each change of the length, in their order.
    #[must_use]
    pub fn after_crash(
        base: &[u8],
        events: &[FileEvent],
        count: usize,
        mut keep: impl FnMut() -> bool,
    ) -> Vec<u8> {
        let events = events.get(..count).unwrap_or(events);
        let flushed = events.iter().rposition(|event| *event == FileEvent::Flush).unwrap_or(0);
        let mut bytes = base.to_vec();
        for (at, event) in events.iter().enumerate() {
            match event {
                FileEvent::Write { offset, data } if at >= flushed => {
                    // Cut where the sectors of the file are, not where the write begins.
                    let mut done = 0;
                    while done < data.len() {
                        let start = offset + done;
                        let length = (SECTOR - start % SECTOR).min(data.len() - done);
                        if keep() {
                            let data = data.get(done..done + length).unwrap_or_default().to_vec();
                            State::apply(&mut bytes, &FileEvent::Write { offset: start, data });
                        }
                        done += length;
                    }
                }
                FileEvent::SetLength(_) if at >= flushed => {
                    if keep() {
                        State::apply(&mut bytes, event);
                    }
                }
                FileEvent::Write { .. } | FileEvent::SetLength(_) | FileEvent::Flush => {
                    State::apply(&mut bytes, event);
                }
            }
        }
        bytes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(
        &self,
        kind: ImageErrorKind,
        operation: Operation,
        offset: u64,
        length: u64,
    ) -> ImageError {
        ImageError::new(kind, operation, self.path.clone()).at(offset, length)
    }

    /// The locked state, if no fault hits the call.
    fn arrive(
        &self,
        operation: Operation,
        offset: u64,
        length: u64,
    ) -> Result<MutexGuard<'_, State>, ImageError> {
        if self.read_only && operation != Operation::Read && operation != Operation::Flush {
            return Err(self.error(ImageErrorKind::ReadOnly, operation, offset, length));
        }
        let mut state = self.lock();
        let hit = state.faults.iter_mut().find(|fault| fault.matches(operation, offset, length));
        if let Some(error) = hit.and_then(|fault| fault.hit(&self.path, offset, length)) {
            return Err(error);
        }
        Ok(state)
    }

    /// A range as indices, if the file may be so long.
    fn range(
        &self,
        operation: Operation,
        offset: u64,
        length: usize,
    ) -> Result<std::ops::Range<usize>, ImageError> {
        let end = usize::try_from(offset).ok().and_then(|start| start.checked_add(length));
        match end {
            Some(end) if end <= self.limit => Ok(end - length..end),
            _ => {
                let length = u64::try_from(length).unwrap_or(u64::MAX);
                Err(self.error(ImageErrorKind::OutOfSpace, operation, offset, length))
            }
        }
    }

    fn zero(&self, operation: Operation, offset: u64, length: u64) -> Result<(), ImageError> {
        let mut state = self.arrive(operation, offset, length)?;
        let end = offset.saturating_add(length).min(state.bytes.len() as u64);
        let length = usize::try_from(end.saturating_sub(offset)).unwrap_or(0);
        let range = self.range(operation, offset, length)?;
        state.run(FileEvent::Write { offset: range.start, data: vec![0; length] });
        Ok(())
    }
}

impl BlockFile for MemFile {
    fn path(&self) -> &Arc<Path> {
        &self.path
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn joins_writes(&self) -> bool {
        true
    }

    fn nowait_reads(&self) -> bool {
        true
    }

    fn punches(&self) -> bool {
        !self.read_only
    }

    fn granularity(&self) -> u32 {
        4096
    }

    fn length(&self) -> Result<u64, ImageError> {
        Ok(self.lock().bytes.len() as u64)
    }

    fn set_length(&self, length: u64) -> Result<(), ImageError> {
        let mut state = self.arrive(Operation::Resize, length, 0)?;
        let end = self.range(Operation::Resize, length, 0)?.end;
        state.run(FileEvent::SetLength(end));
        Ok(())
    }

    fn read(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        offset: u64,
        _wait: Wait,
    ) -> Result<(), ImageError> {
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        let state = self.arrive(Operation::Read, offset, length as u64)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let Some(mut bytes) = state.bytes.get(start..start.saturating_add(length)) else {
            let kind = ImageErrorKind::ShortTransfer;
            return Err(self.error(kind, Operation::Read, offset, length as u64));
        };
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
        durability: Durability,
    ) -> Result<(), ImageError> {
        let data: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
        let mut state = self.arrive(Operation::Write, offset, data.len() as u64)?;
        let range = self.range(Operation::Write, offset, data.len())?;
        state.run(FileEvent::Write { offset: range.start, data });
        if durability == Durability::Durable {
            state.run(FileEvent::Flush);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), ImageError> {
        self.arrive(Operation::Flush, 0, 0)?.run(FileEvent::Flush);
        Ok(())
    }

    fn punch(&self, offset: u64, length: u64) -> Result<bool, ImageError> {
        self.zero(Operation::Unmap, offset, length).map(|()| true)
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), ImageError> {
        self.zero(Operation::WriteZeroes, offset, length)
    }

    fn allocate(&self, _offset: u64, _length: u64) -> Result<(), ImageError> {
        Ok(())
    }

    fn health(&self) -> Result<(), ImageError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_what_was_flushed_and_any_part_of_the_rest() {
        let file = MemFile::new(vec![0; 2048], 1 << 20);
        file.record();
        file.write_at(&[1; 600], 100).unwrap();
        file.flush().unwrap();
        file.write_at(&[2; 1024], 512).unwrap();
        file.set_length(4096).unwrap();
        let events = file.events();
        assert_eq!(events.len(), 4);
        let after = |count, keep: bool| MemFile::after_crash(&[0; 2048], &events, count, || keep);
        assert_eq!(after(0, true), [0; 2048]);
        assert_eq!(after(1, false), [0; 2048]);
        assert_eq!(after(2, false)[100..700], [1; 600]);
        assert_eq!(after(4, false).len(), 2048);
        assert_eq!(after(4, true), file.contents());
        // A write is lost by sectors.
        let mut first = true;
        let torn = MemFile::after_crash(&[0; 2048], &events, 4, || std::mem::take(&mut first));
        assert_eq!((torn[511], torn[512], torn[1023], torn[1024]), (1, 2, 2, 0));
    }

    #[test]
    fn faults_and_limits_hit() {
        let file = MemFile::new(Vec::new(), 4096);
        let kind = |result: Result<(), ImageError>| result.unwrap_err().kind();
        assert_eq!(kind(file.write_at(&[1], 4096)), ImageErrorKind::OutOfSpace);
        assert_eq!(kind(file.set_length(u64::MAX)), ImageErrorKind::OutOfSpace);
        assert_eq!(kind(file.read_at(&mut [0], 0)), ImageErrorKind::ShortTransfer);
        file.inject(Fault::errno(Operation::Write, 5).within(10..20).after(1));
        file.write_at(&[1; 5], 12).unwrap();
        assert_eq!(kind(file.write_at(&[1; 5], 12)), ImageErrorKind::Io);
        file.write_at(&[1; 5], 20).unwrap();
        file.heal();
        file.write_at(&[1; 5], 12).unwrap();
        let file = MemFile::read_only(vec![7; 10]);
        assert_eq!(kind(file.write_at(&[1], 0)), ImageErrorKind::ReadOnly);
        assert_eq!(file.contents(), [7; 10]);
    }
}
