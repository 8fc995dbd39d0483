//! From a SCSI command to its answer, or to what the answer waits for.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use iscsi_proto::pdu::TaskAttribute;
use iscsi_proto::session::{Command, TaskId};
use scsi::{
    Cdb, Context, MediumState, ModeParameters, Plan, Status, UnitAttention, WriteSameSource,
};

use super::Message;
use super::core::{Core, Job, MAX_HANDED_OFF, Pending, Stage};
use crate::fault;
use crate::io::Work;
use crate::statistics::Kind;
use crate::task_set::Boundary;

/// The most that PRE-FETCH brings into the page cache at once.
const MAX_PREFETCH: u64 = 64 << 20;

impl Core {
    /// Handles a command.
    pub(super) fn command(&mut self, command: &Command<'_>) {
        let place = self.nexus.place(command.lun);
        if let Some(seen) = self.nexus.at(place) {
            let simple =
                matches!(command.attribute, TaskAttribute::Simple | TaskAttribute::Untagged);
            if !simple || seen.unit.task_set().is_blocked() {
                let unit = Arc::clone(&seen.unit);
                if self.is_not_enabled(command, &unit) {
                    return;
                }
            }
        }
        self.enable(command, place, None);
    }

    /// Carries a command out that nothing in its task set holds up; `place` is that of its unit among
    /// those of the nexus, `boundary` that of an ORDERED one.
    pub(super) fn enable(
        &mut self,
        command: &Command<'_>,
        place: Option<usize>,
        boundary: Option<Arc<Boundary>>,
    ) {
        self.ordered |= boundary.is_some();
        if !self.flights.is_empty()
            && let Some(unit) = self.nexus.at(place).map(|seen| seen.unit.clone())
            && self.waits_for_flights(command, &unit, boundary.clone())
        {
            return;
        }
        let found = self.nexus.at(place);
        let data_out_length =
            if command.writes { command.expected_data_transfer_length } else { 0 };
        let (mode, saved_mode) =
            found.map_or_else(Default::default, |seen| seen.unit.modes().get());
        let context = Context {
            statistics: &|| found.map(|seen| seen.unit.statistics().get()).unwrap_or_default(),
            device: found.map(|seen| seen.unit.device()),
            port: &self.nexus.port,
            ports: &self.nexus.ports,
            groups: &self.nexus.groups,
            access: self.nexus.access,
            luns: self.nexus.luns(),
            mode,
            saved_mode,
            lun: command.lun.0,
            read_only: found.is_some_and(|seen| seen.read_only),
            state: found.map_or(MediumState::Ready, |seen| seen.unit.state()),
            unit_attention: found
                .and_then(|seen| seen.attentions.first())
                .map(UnitAttention::sense),
            data_out_length,
            protocol_level: self.session.parameters().protocol_level,
            clock: SystemTime::now,
        };
        let (cdb, plan) = if command.extended_cdb.is_empty() {
            let cdb = Cdb::new(command.cdb);
            (cdb, scsi::plan(cdb, &context, &mut self.reply))
        } else {
            scsi::plan_long(command.cdb, command.extended_cdb, &context, &mut self.reply)
        };
        let told = scsi::clears_unit_attention(cdb, &context);
        let unit = found.map(|seen| seen.unit.clone());
        if told && let Some(seen) = self.nexus.find_mut(command.lun) {
            seen.attentions.pop();
        }
        let Some(unit) = unit else {
            // INQUIRY, REPORT LUNS and REQUEST SENSE answer without a unit; all else is refused.
            return if let Plan::Check(sense) = plan {
                self.check(command.task, None, sense);
            } else {
                self.parameter_data(command.task);
            };
        };
        if unit.claim_health_check(self.now) {
            self.submit(&unit, None, Work::Health);
        }
        let job = Job { task: command.task, cdb, lun: command.lun, unit, boundary };
        // A unit attention that was told goes before a conflict.
        if !told && let Some(refusal) = job.unit.reservations().refusal(&self.nexus.identity, cdb) {
            return self.refuse(&job, refusal);
        }
        self.carry_out(plan, job, command.immediate_data);
    }

    fn carry_out(&mut self, plan: Plan, job: Job, immediate_data: &[u8]) {
        let block_length = u64::from(job.unit.device().logical_block_length);
        self.time_other(&job, &plan);
        match plan {
            Plan::Read { lba, blocks, fua } => {
                self.time_if(job.unit.counters().read(u64::from(blocks)), &job, Kind::Read);
                let (offset, length) = (lba * block_length, u64::from(blocks) * block_length);
                if self.limits.is_empty() {
                    self.read(&job, offset, length, fua);
                } else {
                    self.limited_read(job, offset, length, fua);
                }
            }
            Plan::Write { lba, blocks, fua } => {
                self.time_if(job.unit.counters().write(u64::from(blocks)), &job, Kind::Write);
                let length = u64::from(blocks) * block_length;
                if !self.limits.is_empty() {
                    self.limit_write(&job, length);
                }
                self.write(job, lba * block_length, length, fua, immediate_data);
            }
            Plan::Good => self.good(job.task, 0),
            Plan::DataIn => self.parameter_data(job.task),
            Plan::Check(sense) => self.check(job.task, Some(&job.unit), sense),
            Plan::NeedData { length } => self.gather(job, length, immediate_data),
            Plan::Verify { lba, blocks } => {
                let length = u64::from(blocks) * block_length;
                let work = Work::Verify { offset: lba * block_length, length };
                self.hand_off(job, work, 0);
            }
            Plan::Flush { immediate: true, .. } => {
                // GOOD now; a failure is found by the next flush, which fails for ever.
                self.submit(&job.unit, None, Work::Flush);
                self.good(job.task, 0);
            }
            Plan::Flush { .. } => self.hand_off(job, Work::Flush, 0),
            Plan::PreFetch { lba, blocks, immediate } => {
                let length = (blocks * block_length).min(MAX_PREFETCH);
                let work = Work::Verify { offset: lba * block_length, length };
                if immediate {
                    self.submit(&job.unit, None, work);
                    self.condition_met(job.task);
                } else {
                    self.hand_off(job, Work::PreFetch(Box::new(work)), 0);
                }
            }
            Plan::LbaStatus { lba, blocks, allocation_length } => {
                let work = Work::LbaStatus { lba, blocks, block_length, allocation_length };
                self.hand_off(job, work, 0);
            }
            Plan::StartStop { start, flush, .. } => {
                self.hand_off(job, Work::StartStop { start, flush }, 0);
            }
            Plan::WriteSame { lba, blocks, unmap, source, durable, .. } => {
                job.unit.counters().write(0);
                self.write_same(job, (lba, blocks), (unmap, durable), source, Bytes::new(), 0);
            }
            Plan::ModeSelect { mode, save } => self.mode_select(job, mode, save, 0),
            Plan::CopyReport { report, list_identifier, allocation_length } => {
                self.copy_report(&job, report, list_identifier, allocation_length);
            }
            Plan::CopyAbort { list_identifier } => self.copy_abort(&job, list_identifier),
            Plan::RodTokens { allocation_length } => self.rod_tokens(&job, allocation_length),
            Plan::MediumOperation => self.medium_operation(job, &[]),
            Plan::ExitFailureMode => self.hand_off(job, Work::ExitFailureMode, 0),
            Plan::ReserveIn => self.reserve_in(&job),
            Plan::ReserveUnit { release } => self.reserve_unit(job, release),
            // These come only when data has been gathered.
            Plan::VerifyCompare { .. }
            | Plan::WriteAndVerify { .. }
            | Plan::CompareAndWrite { .. }
            | Plan::WriteAtomic { .. }
            | Plan::OrWrite { .. }
            | Plan::ReserveOut
            | Plan::SetTargetPortGroups
            | Plan::ThirdPartyCopy
            | Plan::Unmap => {
                self.check(job.task, Some(&job.unit), fault::internal());
            }
        }
    }

    /// Carries out a command whose data has been gathered.
    pub(super) fn with_data(&mut self, job: Job, data: Bytes) {
        let (mode, saved_mode) = job.unit.modes().get();
        let context = Context {
            statistics: &|| job.unit.statistics().get(),
            device: Some(job.unit.device()),
            port: &self.nexus.port,
            ports: &self.nexus.ports,
            groups: &self.nexus.groups,
            access: self.nexus.access,
            luns: self.nexus.luns(),
            mode,
            saved_mode,
            lun: job.lun.0,
            read_only: self.nexus.find(job.lun).is_some_and(|seen| seen.read_only),
            state: job.unit.state(),
            unit_attention: None,
            data_out_length: u32::try_from(data.len()).unwrap_or(u32::MAX),
            protocol_level: self.session.parameters().protocol_level,
            clock: SystemTime::now,
        };
        let plan = scsi::plan_with_data(job.cdb, &context, &data, &mut self.ranges);
        let block_length = u64::from(job.unit.device().logical_block_length);
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        count_write(&job, plan, length / block_length.max(1));
        match plan {
            Plan::VerifyCompare { lba, blocks, single_block } => {
                let (offset, times) = (lba * block_length, if single_block { blocks } else { 1 });
                self.hand_off(job, Work::Compare { offset, data, times }, length);
            }
            Plan::WriteAndVerify { lba, blocks, compare } => {
                let length = u64::from(blocks) * block_length;
                if data.is_empty() {
                    return self.good(job.task, length);
                }
                let work = Work::WriteAndVerify { offset: lba * block_length, data, compare };
                self.hand_off(job, work, length);
            }
            Plan::WriteSame { lba, blocks, unmap, source, durable, .. } => {
                self.write_same(job, (lba, blocks), (unmap, durable), source, data, length);
            }
            Plan::CompareAndWrite { lba, fua, .. } => {
                let work = Work::CompareAndWrite { offset: lba * block_length, data, durable: fua };
                self.hand_off(job, work, length);
            }
            Plan::WriteAtomic { lba, fua, .. } => {
                let work = Work::WriteAtomic { offset: lba * block_length, data, durable: fua };
                self.hand_off(job, work, length);
            }
            Plan::OrWrite { lba, fua, .. } => {
                let work = Work::OrWrite { offset: lba * block_length, data, durable: fua };
                self.hand_off(job, work, length);
            }
            Plan::Unmap => {
                let work = Work::Unmap { ranges: std::mem::take(&mut self.ranges), block_length };
                self.hand_off(job, work, length);
            }
            Plan::MediumOperation => self.medium_operation(job, &data),
            Plan::ThirdPartyCopy => self.third_party_copy(job, &data),
            Plan::ReserveOut => self.reserve_out(job, data),
            Plan::SetTargetPortGroups => self.set_target_port_groups(job, &data, length),
            Plan::ModeSelect { mode, save } => self.mode_select(job, mode, save, length),
            Plan::Good => self.good(job.task, length),
            Plan::Check(sense) => self.check(job.task, Some(&job.unit), sense),
            Plan::DataIn
            | Plan::Read { .. }
            | Plan::Write { .. }
            | Plan::NeedData { .. }
            | Plan::Verify { .. }
            | Plan::Flush { .. }
            | Plan::LbaStatus { .. }
            | Plan::PreFetch { .. }
            | Plan::CopyReport { .. }
            | Plan::CopyAbort { .. }
            | Plan::RodTokens { .. }
            | Plan::ExitFailureMode
            | Plan::ReserveIn
            | Plan::ReserveUnit { .. }
            | Plan::StartStop { .. } => {
                self.check(job.task, Some(&job.unit), fault::internal());
            }
        }
    }

    fn set_target_port_groups(&mut self, job: Job, list: &[u8], device_length: u64) {
        let work = Work::SetTargetPortGroups {
            node: self.node.clone(),
            target: self.nexus.port.target_name.clone(),
            by: self.admission.tsih,
            changes: scsi::set_target_port_groups_list(list).collect(),
        };
        self.hand_off(job, work, device_length);
    }

    fn mode_select(&mut self, job: Job, mode: ModeParameters, save: bool, device_length: u64) {
        if save {
            self.hand_off(job, Work::SaveMode { mode }, device_length);
        } else {
            let before = job.unit.modes().set(mode);
            self.mode_selected(job, before, mode, device_length);
        }
    }

    /// These are in force now, instead of those before.
    pub(super) fn mode_selected(
        &mut self,
        job: Job,
        before: ModeParameters,
        mode: ModeParameters,
        device_length: u64,
    ) {
        if before != mode {
            let condition = UnitAttention::ModeParametersChanged;
            let unit = Arc::clone(&job.unit);
            let message = || Message::Attention { unit: unit.clone(), condition };
            self.node.sessions.send_to_others(self.admission.tsih, message);
        }
        if before.write_cache_enabled && !mode.write_cache_enabled {
            // What was answered from the cache must not be less durable than what comes.
            self.hand_off(job, Work::Flush, device_length);
        } else {
            self.good(job.task, device_length);
        }
    }

    fn write_same(
        &mut self,
        job: Job,
        (lba, blocks): (u64, u64),
        (unmap, durable): (bool, bool),
        source: WriteSameSource,
        block: Bytes,
        device_length: u64,
    ) {
        let block_length = u64::from(job.unit.device().logical_block_length);
        let (offset, length) = (lba * block_length, blocks * block_length);
        let work = match source {
            WriteSameSource::Zeroes => Work::Zeroes { offset, length, unmap, durable },
            WriteSameSource::Data => Work::WriteSame { offset, length, block, durable },
        };
        self.hand_off(job, work, device_length);
    }

    /// Sends what stands in `reply`.
    pub(super) fn parameter_data(&mut self, task: TaskId) {
        let length = u64::try_from(self.reply.len()).unwrap_or(u64::MAX);
        let Some(layout) = self.session.begin_data_in(task, length, &mut self.tx) else {
            return self.good(task, length);
        };
        let mut rest = self.reply.as_slice();
        for mut slice in self.tx.payload_slices(&layout) {
            let (now, behind) = rest.split_at(slice.len().min(rest.len()));
            slice.copy_from_slice(now);
            rest = behind;
        }
        self.session.finish_data_in(layout, length, Some(Status::Good.code()), &mut self.tx);
    }

    /// Gathers data that a command needs as a whole. What all of a session gather is bounded; who
    /// goes beyond it is told to come again (SAM-5 §5.3.1, TASK SET FULL).
    fn gather(&mut self, job: Job, length: u32, immediate_data: &[u8]) {
        let task = job.task;
        let gathered: usize = self.pending.iter().map(Pending::gathers).sum();
        if gathered > 0 && gathered + length as usize > MAX_HANDED_OFF {
            let status = Status::TaskSetFull.code();
            return self.session.respond(task, status, &[], u64::from(length), &mut self.tx);
        }
        let wanted = self.session.accept_write(task, u64::from(length), &mut self.tx);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let mut data = Vec::with_capacity(wanted);
        data.extend(immediate_data.iter().take(wanted));
        if self.session.write_is_complete(task) {
            return self.with_data(job, data.into());
        }
        let stage = Stage::Gather(data);
        self.pending.push(Pending::new(job, stage));
    }
}

/// Counts a command that has gathered blocks to write.
fn count_write(job: &Job, plan: Plan, blocks: u64) {
    if let Plan::WriteAndVerify { .. }
    | Plan::WriteSame { .. }
    | Plan::CompareAndWrite { .. }
    | Plan::WriteAtomic { .. }
    | Plan::OrWrite { .. } = plan
    {
        job.unit.counters().write(blocks);
    }
}
