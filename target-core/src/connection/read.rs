//! Reads: straight into what is to be sent, if the blocks are in the page cache. Of a long one a part
//! is read when most of the one before it is sent: what is copied from the page cache is copied to the
//! socket before it has left the processor's cache.

use std::io::IoSliceMut;
use std::sync::Arc;

use disk_image::{Image, ImageError, ImageErrorKind, Wait};
use iscsi_proto::session::MAX_DATA_IN;
use scsi::Status;

use super::core::{Core, Job, Pending, Stage};
use crate::fault;
use crate::io::Work;

/// Slices of one vectored read (`IOV_MAX`).
const MAX_SLICES: usize = 1024;

/// A read that has begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// First byte on the image.
    pub(super) offset: u64,
    /// Bytes that the command asks for.
    pub(super) length: u64,
    /// Bytes that are sent, or to be sent.
    pub(super) done: u32,
}

impl Core {
    /// Reads.
    pub(super) fn read(&mut self, job: &Job, offset: u64, length: u64, flush: bool) {
        let reading = Reading { offset, length, done: 0 };
        if flush {
            return self.read_elsewhere(job.clone(), reading, flush);
        }
        if let Some(reading) = self.read_part(job, reading) {
            self.reading.push(job.task);
            self.pending.push(Pending::new(job.clone(), Stage::Read(reading)));
        }
    }

    /// Goes on with a long read. False if there is none.
    pub(super) fn read_on(&mut self) -> bool {
        let Some(task) = self.reading.first().copied() else { return false };
        let at = self.position(task);
        let Some(&Pending { stage: Stage::Read(reading), .. }) =
            at.and_then(|at| self.pending.get(at))
        else {
            // It was aborted.
            self.reading.remove(0);
            return true;
        };
        let mut pending = self.pending.swap_remove(at.unwrap_or_default());
        match self.read_part(&pending.job, reading) {
            Some(reading) => {
                pending.stage = Stage::Read(reading);
                self.pending.push(pending);
            }
            None => drop(self.reading.remove(0)),
        }
        true
    }

    /// Has long reads go on without the connection, which takes nothing more in.
    pub(super) fn hand_off_reads(&mut self) {
        for task in std::mem::take(&mut self.reading) {
            let Some(at) = self.position(task) else { continue };
            let Pending { job, stage, .. } = self.pending.swap_remove(at);
            if let Stage::Read(reading) = stage {
                self.read_elsewhere(job, reading, false);
            }
        }
    }

    /// Reads the next part; how far it is then, if that is not the end.
    fn read_part(&mut self, job: &Job, reading: Reading) -> Option<Reading> {
        let Reading { offset, length, done } = reading;
        let Some(image) = job.unit.image() else {
            self.check(job.task, Some(&job.unit), fault::not_ready());
            return None;
        };
        let Some(inside) = job.unit.enter() else {
            self.read_elsewhere(job.clone(), reading, false);
            return None;
        };
        if let Some(done) = self.read_in_place(job, reading) {
            let total = self.session.data_in_length(job.task, length);
            return total.is_some_and(|total| done < total).then_some(Reading { done, ..reading });
        }
        let (task, tx) = (job.task, &mut self.tx);
        let Some(layout) = self.session.begin_data_in_part(task, length, done, MAX_DATA_IN, tx)
        else {
            drop(inside);
            self.good(task, length);
            return None;
        };
        let from = offset + u64::from(done);
        let place = from..from + u64::from(layout.length());
        let mut read = || fill(image, &mut self.tx.payload_slices(&layout), from);
        let regions = job.unit.regions();
        // Once more if another session has just written there.
        let result = regions.read(&place, &mut read).or_else(|| regions.read(&place, read));
        drop(inside);
        match result {
            Some(Ok(())) => {
                let status = Some(Status::Good.code());
                self.session.finish_data_in(layout, length, status, &mut self.tx);
                return (!layout.is_last()).then_some(Reading { done: layout.end(), ..reading });
            }
            Some(Err(error)) if error.kind() != ImageErrorKind::WouldBlock => {
                self.session.cancel_data_in(layout, &mut self.tx);
                self.failed(job, &error);
            }
            Some(Err(_)) | None => {
                self.session.cancel_data_in(layout, &mut self.tx);
                self.read_elsewhere(job.clone(), reading, false);
            }
        }
        None
    }

    /// Reads what is left on a thread that may sleep.
    fn read_elsewhere(&mut self, job: Job, reading: Reading, flush: bool) {
        let Reading { offset, length: device_length, done } = reading;
        let total = self.session.data_in_length(job.task, device_length);
        let Some(left) = total.and_then(|total| total.checked_sub(done)) else {
            return self.good(job.task, device_length);
        };
        let (offset, length) = (offset + u64::from(done), usize::try_from(left));
        let work = Work::Read { offset, length: length.unwrap_or(usize::MAX), flush };
        self.hand_off_rest(job, work, device_length, done);
    }
}

/// Reads into slices of any number.
fn fill(
    image: &Arc<dyn Image>,
    slices: &mut [IoSliceMut<'_>],
    mut offset: u64,
) -> Result<(), ImageError> {
    if slices.len() <= MAX_SLICES {
        return image.read(slices, offset, Wait::Nowait);
    }
    for part in slices.chunks_mut(MAX_SLICES) {
        image.read(part, offset, Wait::Nowait)?;
        let length: usize = part.iter().map(|slice| slice.len()).sum();
        offset += u64::try_from(length).unwrap_or(0);
    }
    Ok(())
}
