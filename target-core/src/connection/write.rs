//! Writes: each piece goes to the image as it comes, straight from the receive buffer.

use bytes::Bytes;
use disk_image::ImageError;
use iscsi_proto::session::TaskId;

use super::core::{Core, Job, Pending, Stage};
use super::inline::Step;
use crate::fault;
use crate::io::{Work, WorkError};

/// A write whose data is coming.
#[derive(Debug)]
pub(super) struct Streaming {
    /// First byte on the image.
    offset: u64,
    /// Bytes that the device wants.
    length: u64,
    /// Durable before GOOD.
    durable: bool,
    /// All of the data has come.
    complete: bool,
    /// The begin of a logical block whose rest is to come: a block is written whole.
    begun: Vec<u8>,
    /// The first thing that went wrong.
    pub(super) failure: Option<WorkError>,
}

impl Streaming {
    /// All of the data is there, and is being written.
    pub(super) fn whole(offset: u64, length: u64) -> Self {
        let (durable, begun, failure) = (false, Vec::new(), None);
        Self { offset, length, durable, complete: true, begun, failure }
    }

    /// All of the data has come.
    pub(super) const fn is_complete(&self) -> bool {
        self.complete
    }
}

impl Core {
    pub(super) fn write(
        &mut self,
        job: Job,
        offset: u64,
        length: u64,
        durable: bool,
        immediate_data: &[u8],
    ) {
        if job.unit.image().is_none() {
            return self.check(job.task, Some(&job.unit), fault::not_ready());
        }
        let task = job.task;
        let wanted = self.session.accept_write(task, length, &mut self.tx);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let data = immediate_data.get(..wanted).unwrap_or(immediate_data);
        if self.session.write_is_complete(task) {
            return self.write_at_once(job, offset, length, durable, data);
        }
        let (complete, begun, failure) = (false, Vec::new(), None);
        let streaming = Streaming { offset, length, durable, complete, begun, failure };
        let stage = Stage::Write(streaming);
        let at = self.pending.len();
        self.pending.push(Pending::new(job, stage));
        if !data.is_empty() {
            self.blocks(at, 0, data);
            self.proceed(at);
        }
    }

    /// All of the data has come with the command.
    fn write_at_once(&mut self, job: Job, offset: u64, length: u64, durable: bool, data: &[u8]) {
        if data.is_empty() {
            return self.good(job.task, length);
        }
        let job = if durable {
            job
        } else {
            match self.order(offset, data, Step::Whole { job, device_length: length }) {
                Err(Step::Whole { job, .. }) => job,
                Err(Step::Piece { .. }) | Ok(()) => return,
            }
        };
        let work = Work::Write { offset, data: Bytes::copy_from_slice(data), durable };
        self.hand_off(job, work, length);
    }

    /// Takes data that has come for a command.
    pub(super) fn write_data(&mut self, task: TaskId, offset: u32, data: &[u8], complete: bool) {
        let Some(at) = self.position(task) else { return self.keep_data(task, data) };
        let Some(pending) = self.pending.get_mut(at) else { return };
        match &mut pending.stage {
            Stage::Gather(gathered) => {
                gathered.extend_from_slice(data);
                if complete {
                    let pending = self.pending.swap_remove(at);
                    if let Stage::Gather(data) = pending.stage {
                        self.with_data(pending.job, data.into());
                    }
                }
            }
            Stage::Write(streaming) => {
                streaming.complete |= complete;
                self.blocks(at, u64::from(offset), data);
                self.proceed(at);
            }
            // Nothing is accepted for it.
            Stage::Read(_) | Stage::Work { .. } | Stage::Operation { .. } => {}
        }
    }

    /// Data of a write was lost on its way: the command fails, and may be tried again.
    pub(super) fn data_lost(&mut self, task: TaskId) {
        let sense = fault::data_lost();
        let Some(at) = self.position(task) else {
            self.forget_dormant(|it| it == task);
            return self.check(task, None, sense);
        };
        let Some(pending) = self.pending.get_mut(at) else { return };
        if let Stage::Write(streaming) = &mut pending.stage {
            streaming.failure.get_or_insert(WorkError::Check(sense));
            return self.proceed(at);
        }
        let job = self.pending.swap_remove(at).job;
        self.check(task, Some(&job.unit), sense);
    }

    /// Writes what has come of whole blocks, and the rest when nothing more is to come.
    fn blocks(&mut self, at: usize, offset: u64, data: &[u8]) {
        let Some(pending) = self.pending.get_mut(at) else { return };
        let Stage::Write(streaming) = &mut pending.stage else { return };
        let block = u64::from(pending.job.unit.device().logical_block_length).max(1);
        let end = offset + data.len() as u64;
        if streaming.begun.is_empty() && (end.is_multiple_of(block) || streaming.complete) {
            if !data.is_empty() {
                self.piece(at, offset, data);
            }
            return;
        }
        self.partial_blocks(at, offset, data, usize::try_from(block).unwrap_or(usize::MAX));
    }

    /// The same where segments end within blocks, which hardly any initiator does.
    #[cold]
    fn partial_blocks(&mut self, at: usize, offset: u64, data: &[u8], block: usize) {
        let Some(pending) = self.pending.get_mut(at) else { return };
        let Stage::Write(streaming) = &mut pending.stage else { return };
        let begun = streaming.begun.len();
        let missing = if begun == 0 { 0 } else { block - begun };
        let (first, rest) = data.split_at(missing.min(data.len()));
        streaming.begun.extend_from_slice(first);
        let whole = if streaming.complete { rest.len() } else { rest.len() / block * block };
        let (middle, tail) = rest.split_at(whole);
        let joined = begun > 0 && (first.len() == missing || streaming.complete);
        let front = if joined { std::mem::take(&mut streaming.begun) } else { Vec::new() };
        if begun == 0 || joined {
            streaming.begun.extend_from_slice(tail);
        }
        if !front.is_empty() {
            self.piece_elsewhere(at, offset - begun as u64, front);
        }
        if !middle.is_empty() {
            self.piece(at, offset + first.len() as u64, middle);
        }
    }

    /// Writes one piece that does not stand in the receive buffer.
    fn piece_elsewhere(&mut self, at: usize, offset: u64, data: Vec<u8>) {
        let Some(pending) = self.pending.get_mut(at) else { return };
        let Stage::Write(streaming) = &mut pending.stage else { return };
        if streaming.failure.is_some() {
            return;
        }
        pending.working += 1;
        let (unit, task) = (pending.job.unit.clone(), pending.job.task);
        let work =
            Work::Write { offset: streaming.offset + offset, data: data.into(), durable: false };
        self.submit(&unit, Some(task), work);
    }

    /// Writes one piece, here or elsewhere.
    fn piece(&mut self, at: usize, offset: u64, data: &[u8]) {
        let Some(pending) = self.pending.get_mut(at) else { return };
        let Stage::Write(streaming) = &mut pending.stage else { return };
        if streaming.failure.is_some() {
            return;
        }
        let place = streaming.offset + offset;
        // It is under way until it is done, here too.
        pending.working += 1;
        let (unit, task) = (pending.job.unit.clone(), pending.job.task);
        let step = Step::Piece { task, unit };
        if let Err(step) = self.order(place, data, step) {
            // It counts as under way already.
            let work =
                Work::Write { offset: place, data: Bytes::copy_from_slice(data), durable: false };
            self.submit(step.unit(), Some(task), work);
        }
    }

    /// A piece was written on this thread.
    pub(super) fn piece_written(&mut self, task: TaskId, result: Result<(), ImageError>) {
        let Some(at) = self.position(task) else { return };
        let Some(pending) = self.pending.get_mut(at) else { return };
        pending.working -= 1;
        if pending.aborted {
            // The session was closed for what came behind it.
            if pending.working == 0 {
                self.pending.swap_remove(at);
            }
            return;
        }
        if let (Stage::Write(streaming), Err(error)) = (&mut pending.stage, result) {
            streaming.failure.get_or_insert(error.into());
        }
        self.proceed(at);
    }

    /// Answers a write, if it has failed or everything of it is done.
    pub(super) fn proceed(&mut self, at: usize) {
        let Some(pending) = self.pending.get_mut(at) else { return };
        let Stage::Write(streaming) = &mut pending.stage else { return };
        if pending.working > 0 || !(streaming.complete || streaming.failure.is_some()) {
            return;
        }
        let pending = self.pending.swap_remove(at);
        let Stage::Write(streaming) = pending.stage else { return };
        match streaming.failure {
            // The rest of the data is dropped as it comes, then the response goes out.
            Some(WorkError::Image(error)) => self.failed(&pending.job, &error),
            Some(WorkError::Check(sense)) => {
                self.check(pending.job.task, Some(&pending.job.unit), sense);
            }
            None if streaming.durable || !pending.job.unit.mode().write_cache_enabled => {
                self.hand_off(pending.job, Work::Flush, streaming.length);
            }
            None => self.good(pending.job.task, streaming.length),
        }
    }
}
