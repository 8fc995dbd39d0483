//! Commands that wait for an ORDERED one, ORDERED ones that wait for those before them
//! (`task_set.rs`), and those that wait for what is on its way (`flights.rs`). Of a dormant command
//! nothing is under way: no data is asked for, and whatever ends tasks ends it at once. What its
//! initiator sends with it unasked is kept.

use std::sync::Arc;

use iscsi_proto::pdu::TaskAttribute;
use iscsi_proto::session::{Command, TaskId};
use iscsi_proto::{InitiatorTaskTag, Lun, StatSn};
use scsi::{AdditionalSense, Sense, Status};

use super::Message;
use super::core::{Core, MAX_HANDED_OFF};
use super::task_management::{Guard, Then};
use crate::nexus::UnitRef;
use crate::task_set::{Boundary, TaskSet};
use crate::unit::LogicalUnit;

/// A dormant command.
#[derive(Debug)]
pub(super) struct Dormant {
    unit: Arc<LogicalUnit>,
    /// It is ORDERED, and waits for nothing but what came before it.
    boundary: Option<Arc<Boundary>>,
    /// Nothing but the acknowledgement of this response is missing.
    lands_with: Option<StatSn>,
    task: TaskId,
    initiator_task_tag: InitiatorTaskTag,
    lun: Lun,
    cdb: [u8; 16],
    extended_cdb: Vec<u8>,
    attribute: TaskAttribute,
    priority: u8,
    immediate: bool,
    reads: bool,
    writes: bool,
    expected_data_transfer_length: u32,
    /// What has come of its data.
    data: Vec<u8>,
    /// What may come without being asked for.
    most: usize,
}

/// Commands that an ORDERED one waits for; the guard is dropped when they have ended.
#[derive(Debug)]
pub(super) struct Older {
    tasks: Vec<TaskId>,
    _guard: Arc<Guard>,
}

impl Dormant {
    fn waits_for_its_turn(&self) -> bool {
        self.boundary.is_none() && self.lands_with.is_none()
    }
}

impl Core {
    /// Whether a command is dealt with here, instead of being enabled now: it becomes dormant, or
    /// its task attribute is one that there is not.
    #[cold]
    pub(super) fn is_not_enabled(
        &mut self,
        command: &Command<'_>,
        unit: &Arc<LogicalUnit>,
    ) -> bool {
        match command.attribute {
            TaskAttribute::HeadOfQueue => return false,
            // There is no ACA condition (SAM-5 §8.6.5).
            TaskAttribute::Aca | TaskAttribute::Reserved(_) => {
                let sense = Sense::illegal(AdditionalSense::INVALID_MESSAGE_ERROR);
                self.check(command.task, Some(unit), sense);
                return true;
            }
            TaskAttribute::Untagged | TaskAttribute::Simple | TaskAttribute::Ordered => {}
        }
        let ordered = matches!(command.attribute, TaskAttribute::Ordered);
        let boundary = ordered.then(|| TaskSet::block(unit)).flatten().map(Arc::new);
        let waits = boundary.is_none();
        if !self.keep(command, unit, boundary, None) {
            return true;
        }
        if waits {
            TaskSet::wait(unit, &self.sender);
        } else {
            self.wait_for_older(unit, command.task);
        }
        true
    }

    /// Whether a command waits for what is on its way.
    pub(super) fn waits_for_flights(
        &mut self,
        command: &Command<'_>,
        unit: &UnitRef,
        boundary: Option<Arc<Boundary>>,
    ) -> bool {
        let Some(stat_sn) = self.must_wait_for(command, unit) else { return false };
        let asked = self.dormant.iter().any(|it| it.lands_with.is_some());
        if self.keep(command, unit, boundary, Some(stat_sn)) && !asked {
            // The initiator may have nothing else to say until the command is done.
            self.ping();
        }
        true
    }

    /// Makes a command dormant; false if there is no room for its data, and it is answered so.
    fn keep(
        &mut self,
        command: &Command<'_>,
        unit: &Arc<LogicalUnit>,
        boundary: Option<Arc<Boundary>>,
        lands_with: Option<StatSn>,
    ) -> bool {
        let first = self.session.parameters().first_burst_length;
        let offered = if command.writes { command.expected_data_transfer_length } else { 0 };
        let most = usize::try_from(offered.min(first)).unwrap_or(usize::MAX);
        let kept = self.dormant_bytes() + most;
        if most > 0 && (kept > MAX_HANDED_OFF || !self.share_has_room(kept)) {
            let (task, status) = (command.task, Status::TaskSetFull.code());
            self.session.respond(task, status, &[], u64::from(offered), &mut self.tx);
            return false;
        }
        self.session.keep_data(command.task);
        self.wakes = true;
        self.dormant.push(Dormant {
            unit: unit.clone(),
            boundary,
            lands_with,
            task: command.task,
            initiator_task_tag: command.initiator_task_tag,
            lun: command.lun,
            cdb: *command.cdb,
            extended_cdb: command.extended_cdb.to_vec(),
            attribute: command.attribute,
            priority: command.priority,
            immediate: command.immediate,
            reads: command.reads,
            writes: command.writes,
            expected_data_transfer_length: command.expected_data_transfer_length,
            data: command.immediate_data.to_vec(),
            most,
        });
        true
    }

    /// Bytes that dormant commands keep, or may have to keep.
    pub(super) fn dormant_bytes(&self) -> usize {
        self.dormant.iter().map(|dormant| dormant.most).sum()
    }

    /// Keeps data that has come for a dormant command.
    pub(super) fn keep_data(&mut self, task: TaskId, data: &[u8]) {
        if let Some(dormant) = self.dormant.iter_mut().find(|it| it.task == task) {
            dormant.data.extend_from_slice(data);
        }
    }

    /// Forgets dormant commands. What waits for one of them goes on.
    pub(super) fn forget_dormant(&mut self, is_over: impl Fn(TaskId) -> bool) {
        self.dormant.retain(|dormant| !is_over(dormant.task));
    }

    /// It is this session's turn: its dormant commands are enabled, up to an ORDERED one.
    pub(super) fn boundary_given(&mut self, boundary: Boundary) {
        let unit = boundary.unit().clone();
        let next = |it: &Dormant| it.waits_for_its_turn() && Arc::ptr_eq(&it.unit, &unit);
        while let Some(at) = self.dormant.iter().position(next) {
            let Some(dormant) = self.dormant.get_mut(at) else { return };
            if matches!(dormant.attribute, TaskAttribute::Ordered) {
                dormant.boundary = Some(Arc::new(boundary));
                let task = dormant.task;
                if self.dormant.iter().any(next) {
                    TaskSet::wait(&unit, &self.sender);
                }
                return self.wait_for_older(&unit, task);
            }
            let dormant = self.dormant.remove(at);
            self.enable_dormant(dormant);
        }
    }

    /// Has an ORDERED command wait for what came before it, in all sessions.
    fn wait_for_older(&mut self, unit: &Arc<LogicalUnit>, task: TaskId) {
        let guard = Arc::new(Guard::new(self.sender.clone(), Then::Enabled { task }));
        self.note_older(unit, &guard);
        self.node.sessions.send_to_others(self.admission.tsih, || Message::Older {
            unit: unit.clone(),
            guard: guard.clone(),
        });
    }

    /// Keeps the guard until the commands that are enabled now have ended.
    pub(super) fn note_older(&mut self, unit: &Arc<LogicalUnit>, guard: &Arc<Guard>) {
        let luns = self.nexus.luns_of(unit);
        let dormant =
            |task| self.dormant.iter().any(|it| it.task == task && it.lands_with.is_none());
        let enabled = self.session.tasks().filter(|(task, lun)| {
            lun.number().is_some_and(|lun| luns.contains(&Lun::from_number(lun))) && !dormant(*task)
        });
        // Those too that were aborted and still write.
        let working = self.pending.iter().filter(|it| Arc::ptr_eq(&it.job.unit, unit));
        let tasks: Vec<_> =
            enabled.map(|(task, _)| task).chain(working.map(|it| it.job.task)).collect();
        if !tasks.is_empty() {
            self.older.push(Older { tasks, _guard: guard.clone() });
        }
    }

    /// Looks which of them have ended.
    #[cold]
    pub(super) fn look_at_older(&mut self) {
        // Whoever waits for them is woken.
        self.wakes = true;
        let mut older = std::mem::take(&mut self.older);
        older.retain_mut(|older| {
            older.tasks.retain(|task| {
                self.session.initiator_task_tag(*task).is_some() || self.position(*task).is_some()
            });
            !older.tasks.is_empty()
        });
        self.older = older;
    }

    /// What came before an ORDERED command has ended.
    pub(super) fn enable_ordered(&mut self, task: TaskId) {
        if let Some(at) = self.dormant.iter().position(|dormant| dormant.task == task) {
            let dormant = self.dormant.remove(at);
            self.enable_dormant(dormant);
        }
    }

    /// Enables what has waited for responses that are acknowledged; whether something still waits so.
    pub(super) fn enable_landed(&mut self, is_acknowledged: impl Fn(StatSn) -> bool) -> bool {
        let landed = |it: &Dormant| it.lands_with.is_some_and(&is_acknowledged);
        while let Some(at) = self.dormant.iter().position(landed) {
            let dormant = self.dormant.remove(at);
            self.enable_dormant(dormant);
        }
        self.dormant.iter().any(|it| it.lands_with.is_some())
    }

    fn enable_dormant(&mut self, dormant: Dormant) {
        // Its data does not stand in the receive buffer, from which this thread would write.
        self.wakes = true;
        let command = Command {
            task: dormant.task,
            initiator_task_tag: dormant.initiator_task_tag,
            lun: dormant.lun,
            cdb: &dormant.cdb,
            extended_cdb: &dormant.extended_cdb,
            attribute: dormant.attribute,
            priority: dormant.priority,
            immediate: dormant.immediate,
            reads: dormant.reads,
            writes: dormant.writes,
            expected_data_transfer_length: dormant.expected_data_transfer_length,
            immediate_data: &dormant.data,
        };
        let place = self.nexus.place(command.lun);
        self.enable(&command, place, dormant.boundary);
    }
}
