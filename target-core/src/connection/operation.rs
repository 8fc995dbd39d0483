//! SANITIZE and FORMAT UNIT (SBC-4 §5.4, §5.30).

use iscsi_proto::session::TaskId;
use scsi::Sense;
use scsi::operation::MediumOperation;

use super::core::{Core, Job, Pending, Stage};
use crate::io::Work;

impl Core {
    /// Has the operation recorded; `data` is the parameter list, if there is one.
    pub(super) fn medium_operation(&mut self, job: Job, data: &[u8]) {
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        match MediumOperation::of(job.cdb, data, job.unit.device()) {
            Ok(operation) => {
                let initiator = self.nexus.initiator.clone();
                let operation = Box::new(operation);
                self.hand_off(job, Work::BeginOperation { operation, initiator }, length);
            }
            Err(sense) => self.check(job.task, Some(&job.unit), sense),
        }
    }

    /// The command ends with its operation. Nothing of it is under way meanwhile, so it can be
    /// aborted at any time; the operation cannot.
    pub(super) fn wait_for_operation(&mut self, job: &Job, device_length: u64) {
        let stage = Stage::Operation { device_length };
        self.pending.push(Pending::new(job.clone(), stage));
        job.unit.claim().wait(job.task, self.sender.clone());
    }

    pub(super) fn operation_ended(&mut self, task: TaskId, result: Result<(), Sense>) {
        let Some(at) = self.position(task) else { return };
        let Some(Pending { stage: Stage::Operation { device_length }, .. }) = self.pending.get(at)
        else {
            return;
        };
        let device_length = *device_length;
        let job = self.pending.swap_remove(at).job;
        match result {
            Ok(()) => self.good(task, device_length),
            Err(sense) => self.check(task, Some(&job.unit), sense),
        }
    }
}
