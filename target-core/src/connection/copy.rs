//! EXTENDED COPY: copies between the units that this session sees.

use std::sync::Arc;

use scsi::copy::{
    CopyLength, CopyList, CopySegment, CopyState, CopyStatus, CopyTarget, MAX_SEGMENT_LENGTH,
    copy_aborted, copy_status_reply,
};
use scsi::{AdditionalSense, Cdb, Sense};

use super::core::{Core, Job};
use crate::io::{Copied, Run, Work};
use crate::nexus::UnitRef;
use crate::unit::LogicalUnit;

/// Copies whose outcome a session can ask for.
const KEPT: usize = 16;
/// READ(16) and WRITE(16) stand for a copy where reservations are looked at.
const READ: u8 = 0x88;
const WRITE: u8 = 0x8a;

impl Core {
    /// EXTENDED COPY, with its parameter list.
    pub(super) fn extended_copy(&mut self, job: Job, data: &[u8]) {
        let planned = CopyList::parse(data).and_then(|list| {
            let runs = list.segments.iter().map(|segment| self.run(&list.targets, segment));
            Ok((list.list_identifier, runs.collect::<Result<Vec<_>, Sense>>()?))
        });
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        match planned {
            Ok((list_identifier, runs)) => {
                self.hand_off(job, Work::Copy { runs, list_identifier }, length);
            }
            Err(sense) => self.check(job.task, Some(&job.unit), sense),
        }
    }

    /// A segment as bytes of units.
    fn run(&self, targets: &[CopyTarget], segment: &CopySegment) -> Result<Run, Sense> {
        let (source, source_block) = self.copy_target(targets, segment.source, READ)?;
        let (destination, destination_block) =
            self.copy_target(targets, segment.destination, WRITE)?;
        let length = match segment.length {
            CopyLength::SourceBlocks(blocks) => u64::from(blocks) * source_block,
            CopyLength::DestinationBlocks(blocks) => u64::from(blocks) * destination_block,
            CopyLength::Bytes(bytes) => u64::from(bytes),
        };
        if length > u64::from(MAX_SEGMENT_LENGTH) {
            return Err(Sense::illegal(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST));
        }
        let place = |unit: &LogicalUnit, lba: u64, block: u64, offset: u16| {
            let start = lba.checked_mul(block)?.checked_add(u64::from(offset))?;
            let end = unit.device().block_count().checked_mul(block)?;
            (start.checked_add(length)? <= end).then_some(start)
        };
        let beyond = || copy_aborted(AdditionalSense::NO_ADDITIONAL_SENSE_INFORMATION);
        let from = place(&source, segment.source_lba, source_block, segment.source_offset);
        let to = place(
            &destination,
            segment.destination_lba,
            destination_block,
            segment.destination_offset,
        );
        Ok(Run {
            source_offset: from.ok_or_else(beyond)?,
            destination_offset: to.ok_or_else(beyond)?,
            source: Arc::clone(&source),
            destination: Arc::clone(&destination),
            length,
        })
    }

    /// A unit that the list names, and that this session may use in that way.
    fn copy_target(
        &self,
        targets: &[CopyTarget],
        index: u16,
        access: u8,
    ) -> Result<(UnitRef, u64), Sense> {
        let unreachable = || copy_aborted(AdditionalSense::UNREACHABLE_COPY_TARGET);
        let target = targets.get(usize::from(index)).ok_or_else(unreachable)?;
        let naa = target.naa.ok_or_else(unreachable)?;
        let seen = self.nexus.units().iter().find(|seen| seen.unit.device().naa == naa);
        let seen = seen.ok_or_else(unreachable)?;
        let unit = &seen.unit;
        let block_length = unit.device().logical_block_length;
        let refused = unit.reservations().refusal(&self.nexus.identity, Cdb::new(&[access; 1]));
        let read_only = seen.read_only || unit.device().read_only;
        let protected = access == WRITE && (read_only || unit.mode().software_write_protect);
        if target.block_length != block_length || refused.is_some() || protected {
            return Err(copy_aborted(AdditionalSense::COPY_TARGET_DEVICE_NOT_REACHABLE));
        }
        Ok((unit.clone(), u64::from(block_length)))
    }

    /// Answers EXTENDED COPY.
    pub(super) fn copy_done(&mut self, job: &Job, copied: &Copied, device_length: u64) {
        let failed = copied.failure.is_some();
        if let Some(list_identifier) = copied.list_identifier {
            self.keep(CopyStatus {
                list_identifier,
                state: if failed { CopyState::Failed } else { CopyState::Completed },
                segments: u16::try_from(copied.runs).unwrap_or(u16::MAX),
                bytes: copied.bytes,
            });
        }
        match &copied.failure {
            None => self.good(job.task, device_length),
            Some(error) => {
                self.report(job.cdb.operation_code(), job.lun, &job.unit, None, error);
                let sense = copy_aborted(AdditionalSense::THIRD_PARTY_DEVICE_FAILURE);
                self.check(job.task, Some(&job.unit), sense);
            }
        }
    }

    /// Keeps the outcome of a copy, for who asks for it.
    fn keep(&mut self, status: CopyStatus) {
        self.copies.retain(|other| other.list_identifier != status.list_identifier);
        if self.copies.len() >= KEPT {
            self.copies.remove(0);
        }
        self.copies.push(status);
    }

    /// RECEIVE COPY RESULTS, COPY STATUS: an outcome is told once (SPC-4 §6.18.2).
    pub(super) fn copy_status(&mut self, job: &Job, list_identifier: u8, allocation_length: u32) {
        let known = self.copies.iter().position(|copy| copy.list_identifier == list_identifier);
        let Some(at) = known else {
            let sense = Sense::invalid_field_in_cdb(2, None);
            return self.check(job.task, Some(&job.unit), sense);
        };
        let status = self.copies.remove(at);
        copy_status_reply(&status, allocation_length, &mut self.reply);
        self.parameter_data(job.task);
    }
}
