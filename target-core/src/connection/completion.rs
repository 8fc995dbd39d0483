//! What to do when handed-off work is done.

use disk_image::ImageErrorKind;
use iscsi_proto::Lun;
use scsi::{Status, UnitAttention};

use super::Message;
use super::core::{Core, Job, Stage};
use super::in_place::Data;
use crate::fault;
use crate::io::{Completion, Output, WorkError};

/// TEST UNIT READY stands for a check that no command asked for.
const NO_COMMAND: u8 = 0x00;

impl Core {
    pub(super) fn completed(&mut self, mut completion: Completion) {
        self.working -= 1;
        self.memory -= completion.memory;
        if let Ok(Output::Copied(copied)) = completion.result {
            // Functions may have waited for it.
            self.wakes = true;
            let sense = self.copy_ended(copied);
            completion.result =
                sense.map_or(Ok(Output::Done), |sense| Err(WorkError::Check(sense)));
            if completion.task.is_none() {
                // Its command was answered when it began.
                return;
            }
        }
        let Some(task) = completion.task else { return self.checked(completion) };
        let Some(at) = self.position(task) else { return };
        let slow = self.node.config.slow_command;
        if !slow.is_zero()
            && completion.time >= slow
            && let Some(pending) = self.pending.get(at)
        {
            self.log_slow(&pending.job, completion.time);
        }
        let Some(pending) = self.pending.get_mut(at) else { return };
        pending.working -= 1;
        if pending.aborted {
            if pending.working == 0 {
                self.wakes = true;
                // Its guards go with it.
                self.pending.swap_remove(at);
            }
            return;
        }
        if pending.unit_gone {
            if pending.working == 0 {
                self.wakes = true;
                let task = self.pending.swap_remove(at).job.task;
                self.check(task, None, fault::no_unit());
            }
            return;
        }
        match &mut pending.stage {
            Stage::Write(streaming) => {
                if let Err(error) = completion.result {
                    streaming.failure.get_or_insert(error);
                }
                self.proceed(at);
            }
            Stage::Work { device_length, sent } => {
                let (device_length, sent) = (*device_length, *sent);
                let job = self.pending.swap_remove(at).job;
                if let Ok(Output::ModeSaved { before, mode }) = completion.result {
                    return self.mode_selected(job, before, mode, device_length);
                }
                self.answer(&job, completion.result, device_length, sent);
            }
            Stage::Gather(_) | Stage::Read(_) | Stage::Operation { .. } => {}
        }
    }

    fn answer(
        &mut self,
        job: &Job,
        result: Result<Output, WorkError>,
        device_length: u64,
        sent: u32,
    ) {
        match result {
            // The last three are dealt with before.
            Ok(Output::Done | Output::Copied(_) | Output::More(_) | Output::ModeSaved { .. }) => {
                self.good(job.task, device_length);
            }
            Ok(Output::Reserved(outcome)) => self.reserved(job, outcome, device_length),
            Ok(Output::Begun { immediate: true }) => self.good(job.task, device_length),
            Ok(Output::Begun { immediate: false }) => self.wait_for_operation(job, device_length),
            Ok(Output::ConditionMet) => self.condition_met(job.task),
            Ok(Output::Data(data)) => {
                let status = Some(Status::Good.code());
                let (task, tx) = (job.task, &mut self.tx);
                let data = Data::Read(data);
                self.session.data_in_owned(task, &data, sent..u32::MAX, device_length, status, tx);
            }
            Ok(Output::Reply(reply)) => {
                self.reply = reply;
                self.parameter_data(job.task);
            }
            Err(WorkError::Check(sense)) => self.check(job.task, Some(&job.unit), sense),
            Err(WorkError::Image(error)) => self.failed(job, &error),
        }
    }

    /// Work that belongs to no command: a health check, or a flush that was answered before.
    fn checked(&mut self, completion: Completion) {
        let unit = completion.unit;
        match completion.result {
            Err(WorkError::Image(error)) => {
                let sense = fault::sense(&error, None);
                // A medium that failed once is not gone: each command finds out for itself.
                let gone = error.kind() == ImageErrorKind::NotFound;
                if !gone || unit.set_health(Err(sense)) {
                    let lun = self.nexus.luns_of(&unit).first().copied();
                    let lun = lun.unwrap_or(Lun(0));
                    self.report(NO_COMMAND, lun, &unit, None, &error);
                }
            }
            Ok(_) => {
                if unit.set_health(Ok(())) {
                    let condition = UnitAttention::MediumMayHaveChanged;
                    self.nexus.attention(&unit, condition);
                    let message = || Message::Attention { unit: unit.clone(), condition };
                    self.wakes = true;
                    self.node.sessions.send_to_others(self.admission.tsih, message);
                }
            }
            Err(WorkError::Check(_)) => {}
        }
    }
}
