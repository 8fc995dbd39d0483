//! The reservation commands (SPC-4 §6.15, §6.16; SPC-2 §7.21 to §7.24).

use std::sync::Arc;

use bytes::Bytes;
use iscsi_proto::session::TaskId;
use scsi::Status;
use scsi::reservation::{Nexus, Outcome, Verdict};

use super::Message;
use super::core::{Core, Job};
use super::task_management::{Guard, Then};
use crate::io::Work;
use crate::reservations::KnownPorts;

impl Core {
    /// PERSISTENT RESERVE IN.
    pub(super) fn reserve_in(&mut self, job: &Job) {
        let current = job.unit.reservations().current();
        match current.persistent_reserve_in(job.cdb, &mut self.reply) {
            Verdict::Good => self.parameter_data(job.task),
            refused @ (Verdict::ReservationConflict | Verdict::Check(_)) => {
                self.refuse(job, refused);
            }
        }
    }

    /// PERSISTENT RESERVE OUT, with its parameter list.
    pub(super) fn reserve_out(&mut self, job: Job, list: Bytes) {
        let device_length = u64::try_from(list.len()).unwrap_or(u64::MAX);
        let ports = KnownPorts {
            initiators: self.node.sessions.initiator_ports(),
            targets: self.nexus.ports.clone(),
        };
        let nexus = self.nexus.identity.clone();
        let work = Work::ReserveOut { cdb: job.cdb, list, nexus, ports: Box::new(ports) };
        self.hand_off(job, work, device_length);
    }

    /// RESERVE and RELEASE.
    pub(super) fn reserve_unit(&mut self, job: Job, release: bool) {
        let nexus = self.nexus.identity.clone();
        let work = Work::ReserveUnit { cdb: job.cdb, nexus, release };
        self.hand_off(job, work, 0);
    }

    /// Answers, once others know and nothing that was preempted can write any more.
    pub(super) fn reserved(&mut self, job: &Job, outcome: Outcome, device_length: u64) {
        if outcome.verdict != Verdict::Good {
            return self.refuse(job, outcome.verdict);
        }
        let unit = Arc::clone(&job.unit);
        for (nexus, condition) in outcome.attentions {
            let nexus = Arc::new(nexus);
            let message =
                || Message::AttentionOf { unit: unit.clone(), nexus: nexus.clone(), condition };
            self.wakes = true;
            self.node.sessions.send_to_others(self.admission.tsih, message);
        }
        let then = Then::Command { task: job.task, device_length };
        let guard = Arc::new(Guard::new(self.sender.clone(), then));
        for nexus in outcome.abort {
            if nexus == self.nexus.identity {
                self.abort_tasks_of(&unit, Some(job.task), &guard);
                continue;
            }
            let nexus = Arc::new(nexus);
            let message = || Message::AbortOf {
                unit: unit.clone(),
                nexus: nexus.clone(),
                guard: guard.clone(),
            };
            self.wakes = true;
            self.node.sessions.send_to_others(self.admission.tsih, message);
        }
    }

    /// RESERVATION CONFLICT or CHECK CONDITION.
    pub(super) fn refuse(&mut self, job: &Job, verdict: Verdict) {
        match verdict {
            Verdict::Check(sense) => self.check(job.task, Some(&job.unit), sense),
            Verdict::ReservationConflict => self.conflict(job.task),
            Verdict::Good => self.good(job.task, 0),
        }
    }

    fn conflict(&mut self, task: TaskId) {
        let status = Status::ReservationConflict.code();
        self.session.respond(task, status, &[], 0, &mut self.tx);
    }

    /// Whether a message about a nexus is meant for this session.
    pub(super) fn is(&self, nexus: &Nexus) -> bool {
        self.nexus.identity == *nexus
    }
}
