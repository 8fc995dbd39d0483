//! Task management functions (RFC 7143 §11.5; SAM-5 §7). They are answered when nothing of what
//! they end can write any more.

use std::sync::Arc;
use std::time::Duration;

use super::mailbox::Sender;
use iscsi_proto::pdu::{TaskManagementFunction, TaskManagementResponseCode};
use iscsi_proto::session::{Session, TaskId};
use iscsi_proto::{InitiatorTaskTag, Lun};
use scsi::{AdditionalSense, UnitAttention};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Message;
use super::core::{Core, Job, Pending};
use crate::events::SessionEnd;
use crate::fault;
use crate::io::Stop;
use crate::nexus::View;
use crate::unit::LogicalUnit;

/// An initiator that does not send data which was asked for, though it should (RFC 7143 §4.2.3.3),
/// is not waited for any longer: Linux sends none after it has sent a function.
const DATA_TIME: Duration = Duration::from_secs(2);

/// Held by everything that a function waits for; when the last one lets go, the function is
/// answered.
#[derive(Debug)]
pub(crate) struct Guard {
    requester: Sender,
    then: Then,
}

/// What is answered then.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Then {
    /// A task management function, with FUNCTION COMPLETE.
    Function {
        /// Of [`Function`].
        number: u64,
        /// Names the request.
        itt: InitiatorTaskTag,
    },
    /// Nothing: an ORDERED command is enabled.
    Enabled {
        /// The command.
        task: TaskId,
    },
    /// A command, with GOOD.
    Command {
        /// The command.
        task: TaskId,
        /// Bytes that the device wanted.
        device_length: u64,
    },
}

/// A function that waits for what it ends.
#[derive(Debug)]
pub(super) struct Function {
    /// Never given twice in a session.
    number: u64,
    itt: InitiatorTaskTag,
    /// Then it is answered, whatever is under way.
    deadline: Instant,
    /// Until then the initiator may send the data that was asked for.
    data_until: Option<Instant>,
    /// Nothing that it ends can write any more.
    ended: bool,
    /// The session is closed behind it.
    pub(super) closes: Option<SessionEnd>,
}

impl Function {
    fn new(number: u64, itt: InitiatorTaskTag, abort_time: Duration) -> Self {
        let deadline = Instant::now() + abort_time;
        Self { number, itt, deadline, data_until: None, ended: false, closes: None }
    }

    /// What it waits for has a bound.
    fn bound(&self) -> Instant {
        self.data_until.filter(|_| self.ended).unwrap_or(self.deadline)
    }
}

impl Guard {
    pub(super) const fn new(requester: Sender, then: Then) -> Self {
        Self { requester, then }
    }

    /// The function, if it is one of that session.
    fn function_of(&self, session: &Sender) -> Option<InitiatorTaskTag> {
        match self.then {
            Then::Function { itt, .. } => self.requester.same_channel(session).then_some(itt),
            Then::Command { .. } | Then::Enabled { .. } => None,
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A requester that is gone needs no answer.
        let _ = self.requester.send(Message::Ended(self.then));
    }
}

impl Core {
    pub(super) fn task_management(
        &mut self,
        itt: InitiatorTaskTag,
        function: TaskManagementFunction,
        lun: Lun,
        (referenced_tag, referenced): (InitiatorTaskTag, Option<TaskId>),
    ) {
        use TaskManagementFunction as Function;
        use TaskManagementResponseCode as Response;
        let unit = self.nexus.find(lun).map(|seen| Arc::clone(&seen.unit));
        let refuse = |core: &mut Self, response| {
            core.session.task_management_response(itt, response, &mut core.tx);
        };
        self.wakes = true;
        match (function, unit) {
            // A function is no task (RFC 7143 §11.5.1, RFC 7144 §6.3).
            (Function::AbortTask | Function::QueryTask, _)
                if self.functions.iter().any(|function| function.itt == referenced_tag) =>
            {
                refuse(self, Response::Rejected);
            }
            (
                Function::AbortTask
                | Function::AbortTaskSet
                | Function::ClearTaskSet
                | Function::LogicalUnitReset
                | Function::QueryTask
                | Function::QueryTaskSet
                | Function::QueryAsynchronousEvent,
                None,
            ) => refuse(self, Response::LunDoesNotExist),
            (Function::AbortTask, Some(_)) => match referenced {
                Some(task) => {
                    let guard = self.begin_function(itt, None);
                    self.abort_task(task, &guard);
                }
                None => refuse(self, Response::TaskDoesNotExist),
            },
            (Function::AbortTaskSet, Some(unit)) => {
                let guard = self.begin_multi_task_function(itt, None);
                self.abort_tasks_of(&unit, None, &guard);
            }
            (Function::ClearTaskSet, Some(unit)) => {
                let guard = self.begin_multi_task_function(itt, None);
                self.abort_tasks_of(&unit, None, &guard);
                self.abort_elsewhere(&unit, UnitAttention::CommandsCleared, &guard);
            }
            (Function::LogicalUnitReset, Some(unit)) => {
                let guard = self.begin_multi_task_function(itt, None);
                self.reset(&unit, &guard);
            }
            (Function::TargetWarmReset, _) => {
                let guard = self.begin_multi_task_function(itt, None);
                self.reset_target(&guard);
            }
            (Function::TargetColdReset, _) => {
                // §11.5.1: it is answered, then the target's connections are closed.
                let end = SessionEnd::TargetGone;
                let guard = self.begin_multi_task_function(itt, Some(end));
                self.reset_target(&guard);
                let target = self.nexus.port.target_name.clone();
                self.node.sessions.send_to_others_of(&target, self.admission.tsih, || {
                    Message::Close(SessionEnd::TargetGone)
                });
            }
            (Function::QueryTask, Some(_)) => self.found(itt, referenced.is_some()),
            (Function::QueryTaskSet, Some(unit)) => {
                let luns = self.nexus.luns_of(&unit);
                let mut tasks = self.session.tasks();
                let any = tasks.any(|(_, lun)| one_form(lun).is_some_and(|it| luns.contains(&it)));
                drop(tasks);
                self.found(itt, any);
            }
            (Function::QueryAsynchronousEvent, Some(_)) => self.query_event(itt, lun),
            (Function::ItNexusReset, _) => {
                let guard = self.begin_function(itt, Some(SessionEnd::NexusReset));
                self.reset_nexus(&guard);
            }
            (Function::TaskReassign, _) => refuse(self, Response::ReassignmentNotSupported),
            (Function::ClearAca | Function::Other(_), _) => {
                refuse(self, Response::NotSupported);
            }
        }
    }

    /// Begins a function that waits for what it ends.
    fn begin_function(&mut self, itt: InitiatorTaskTag, closes: Option<SessionEnd>) -> Arc<Guard> {
        self.function_count += 1;
        let number = self.function_count;
        let function = Function::new(number, itt, self.node.config.abort_time);
        self.functions.push(Function { closes, ..function });
        Arc::new(Guard::new(self.sender.clone(), Then::Function { number, itt }))
    }

    /// The same for one that also lets the initiator send what it was asked for (RFC 7143
    /// §4.2.3.3), unless it has agreed not to (§4.2.3.4).
    fn begin_multi_task_function(
        &mut self,
        itt: InitiatorTaskTag,
        closes: Option<SessionEnd>,
    ) -> Arc<Guard> {
        let guard = self.begin_function(itt, closes);
        if !self.session.parameters().fast_abort {
            let time = DATA_TIME.min(self.node.config.abort_time);
            let until = Instant::now() + time;
            if let Some(function) = self.functions.last_mut() {
                function.data_until = Some(until);
            }
        }
        guard
    }

    /// Everything that a function waited for has ended.
    pub(super) fn function_ended(&mut self, number: u64) {
        let mut functions = self.functions.iter_mut();
        if let Some(function) = functions.find(|function| function.number == number) {
            function.ended = true;
            self.answer_functions();
        }
    }

    /// Answers the functions that wait for nothing any more.
    pub(super) fn answer_functions(&mut self) {
        let over = |session: &Session, function: &Function| {
            let data = function.data_until.is_some() && session.awaits_data_of(function.itt);
            function.ended && !data
        };
        while let Some(at) = self.functions.iter().position(|it| over(&self.session, it)) {
            let function = self.functions.remove(at);
            self.answer_function(&function, TaskManagementResponseCode::Complete);
        }
    }

    /// When the next function must be answered.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let functions = self.functions.iter().filter(|_| self.takes_more());
        functions.map(Function::bound).min()
    }

    /// Answers the functions that have waited for so long. Data that has not come is dropped when it
    /// does; but what a device holds on to may still write.
    pub(super) fn give_up_functions(&mut self, now: Instant) {
        while let Some(at) = self.functions.iter().position(|function| function.bound() <= now) {
            let function = self.functions.remove(at);
            let response = if function.ended {
                TaskManagementResponseCode::Complete
            } else {
                tracing::warn!(
                    initiator = self.nexus.initiator,
                    "a task management function is rejected: a device holds on to what it was to end"
                );
                TaskManagementResponseCode::Rejected
            };
            self.answer_function(&function, response);
        }
    }

    /// Another session has aborted the tasks of a unit here: an initiator that has agreed to
    /// TaskReporting=FastAbort is told to send no more data for them (RFC 7143 §4.2.3.4).
    pub(super) fn tasks_terminated(&mut self, unit: &Arc<LogicalUnit>) {
        if self.session.parameters().fast_abort {
            for lun in self.nexus.luns_of(unit) {
                self.session.task_termination(lun, &mut self.tx);
            }
        }
    }

    fn answer_function(&mut self, function: &Function, response: TaskManagementResponseCode) {
        self.session.task_management_response(function.itt, response, &mut self.tx);
        if let Some(end) = function.closes {
            self.close_after_sending(end);
        }
    }

    /// FUNCTION SUCCEEDED if what was asked for is there, else FUNCTION COMPLETE (SAM-5 §7.7).
    fn found(&mut self, itt: InitiatorTaskTag, found: bool) {
        use TaskManagementResponseCode as Response;
        let response = if found { Response::Succeeded } else { Response::Complete };
        self.session.task_management_response(itt, response, &mut self.tx);
    }

    /// The next unit attention of a unit, which stays pending (SAM-5 §7.6).
    fn query_event(&mut self, itt: InitiatorTaskTag, lun: Lun) {
        let attentions = self.nexus.find(lun).map(|seen| seen.attentions).unwrap_or_default();
        let Some(first) = attentions.first() else { return self.found(itt, false) };
        let sense = first.sense();
        // UADE DEPTH: one, or more.
        let depth = if attentions.len() == 1 { 0x10 } else { 0x20 };
        let AdditionalSense(code, qualifier) = sense.asc;
        let information = [depth | sense.key as u8, code, qualifier];
        let response = TaskManagementResponseCode::Succeeded;
        self.session.query_response(itt, response, information, &mut self.tx);
    }

    /// I_T NEXUS RESET: for every unit it is as if the nexus were lost (SAM-5 §6.3.4, §7.4), and the
    /// session ends (RFC 7144 §6.3).
    fn reset_nexus(&mut self, guard: &Arc<Guard>) {
        let by = guard.function_of(&self.sender);
        self.stop_copies(Stop::Aborted, |_| true, Some(guard), None);
        self.abort_where(by, |_, _| true, |_| true, |pending| pending.guards.push(guard.clone()));
        let units: Vec<_> = self.nexus.units().iter().map(|seen| Arc::clone(&seen.unit)).collect();
        for unit in &units {
            unit.reservations().nexus_lost(unit.name(), &self.nexus.identity);
            self.nexus.attention(unit, UnitAttention::NexusLoss);
        }
    }

    /// Has every session abort the tasks of a unit: this one now, so that commands behind the
    /// request are left alone.
    fn reset(&mut self, unit: &Arc<LogicalUnit>, guard: &Arc<Guard>) {
        unit.reset();
        self.abort_tasks_of(unit, None, guard);
        self.nexus.attention(unit, UnitAttention::BusDeviceReset);
        self.abort_elsewhere(unit, UnitAttention::BusDeviceReset, guard);
    }

    fn reset_target(&mut self, guard: &Arc<Guard>) {
        let units: Vec<_> = self.nexus.units().iter().map(|seen| Arc::clone(&seen.unit)).collect();
        for unit in &units {
            self.reset(unit, guard);
        }
    }

    fn abort_elsewhere(
        &mut self,
        unit: &Arc<LogicalUnit>,
        attention: UnitAttention,
        guard: &Arc<Guard>,
    ) {
        self.node.sessions.send_to_others(self.admission.tsih, || Message::Abort {
            unit: unit.clone(),
            attention,
            guard: guard.clone(),
        });
    }

    /// Aborts all tasks of a unit but one. True if there were any.
    pub(super) fn abort_tasks_of(
        &mut self,
        unit: &Arc<LogicalUnit>,
        except: Option<TaskId>,
        guard: &Arc<Guard>,
    ) -> bool {
        let luns = self.nexus.luns_of(unit);
        // Those too whose command came to another unit.
        self.stop_copies(Stop::Aborted, |it| it.concerns(unit), Some(guard), None);
        self.abort_where(
            guard.function_of(&self.sender),
            |task, lun| Some(task) != except && luns.contains(&lun),
            |job| Some(job.task) != except && Arc::ptr_eq(&job.unit, unit),
            |pending| pending.guards.push(guard.clone()),
        )
    }

    /// Aborts the tasks of some LUNs, because of `function` of this session. `keep` is called for all work that may still be under way,
    /// that of tasks which were aborted before included.
    fn abort_where(
        &mut self,
        function: Option<InitiatorTaskTag>,
        concerns: impl Fn(TaskId, Lun) -> bool,
        works: impl Fn(&Job) -> bool,
        mut keep: impl FnMut(&mut Pending),
    ) -> bool {
        let tasks: Vec<TaskId> = self
            .session
            .tasks()
            .filter(|(task, lun)| one_form(*lun).is_some_and(|lun| concerns(*task, lun)))
            .map(|(id, _)| id)
            .collect();
        for task in &tasks {
            self.session.abort(*task, function);
        }
        self.forget_dormant(|task| tasks.contains(&task));
        self.pending.retain_mut(|pending| {
            if !works(&pending.job) {
                return true;
            }
            pending.abort();
            keep(pending);
            pending.working > 0
        });
        !tasks.is_empty()
    }

    fn abort_task(&mut self, task: TaskId, guard: &Arc<Guard>) {
        self.session.abort(task, guard.function_of(&self.sender));
        self.forget_dormant(|it| it == task);
        let Some(at) = self.position(task) else { return };
        let Some(pending) = self.pending.get_mut(at) else { return };
        if pending.working == 0 {
            self.pending.swap_remove(at);
        } else {
            pending.abort();
            pending.guards.push(guard.clone());
        }
    }

    /// Takes over a change of what the session sees. Commands for LUNs that went away are aborted,
    /// writes to those that have become read-only stop; `held` is kept as long as one of them can
    /// still write.
    pub(super) fn view_changed(&mut self, view: &View, held: Option<&Arc<oneshot::Sender<()>>>) {
        let mut gone = Vec::new();
        let mut protected = Vec::new();
        for old in self.nexus.units() {
            let place = (Lun::from_number(old.lun), Arc::clone(&old.unit));
            match view.get(&old.lun).filter(|seen| old.is(old.lun, seen)) {
                None => gone.push(place),
                Some(seen) if seen.read_only && !old.read_only => protected.push(place.0),
                Some(_) => {}
            }
        }
        for (lun, unit) in gone {
            self.end_with_unit(lun, &unit, held);
            if !view.values().any(|seen| Arc::ptr_eq(&seen.unit, &unit)) {
                // It cannot release a reservation that it does not reach.
                unit.reservations().nexus_lost(unit.name(), &self.nexus.identity);
            }
        }
        self.nexus.update(view);
        self.look_for_limits();
        self.stop_unreachable_copies(held);
        for lun in protected {
            self.stop_writes(lun, held);
        }
    }

    /// Takes no more data for writes to a LUN: WRITE PROTECTED, when nothing of them can write any
    /// more.
    fn stop_writes(&mut self, lun: Lun, held: Option<&Arc<oneshot::Sender<()>>>) {
        let mut stopped = Vec::new();
        for pending in &mut self.pending {
            if one_form(pending.job.lun) == Some(lun) {
                if pending.working > 0 {
                    pending.held.extend(held.cloned());
                }
                if pending.stop_write(fault::write_protected()) {
                    stopped.push(pending.job.task);
                }
            }
        }
        for task in stopped {
            if let Some(at) = self.position(task) {
                self.proceed(at);
            }
        }
    }

    /// Ends the commands for a LUN that was taken away: LOGICAL UNIT NOT SUPPORTED, at once or
    /// when nothing of them can write any more.
    fn end_with_unit(
        &mut self,
        lun: Lun,
        unit: &Arc<LogicalUnit>,
        held: Option<&Arc<oneshot::Sender<()>>>,
    ) {
        self.pending.retain_mut(|pending| {
            let job = &pending.job;
            if one_form(job.lun) != Some(lun) || !Arc::ptr_eq(&job.unit, unit) {
                return true;
            }
            pending.unit_gone = true;
            pending.stop_copy(Stop::Unreachable);
            pending.held.extend(held.cloned());
            pending.working > 0
        });
        let tasks: Vec<TaskId> = self
            .session
            .tasks()
            .filter(|(task, other)| one_form(*other) == Some(lun) && self.position(*task).is_none())
            .map(|(task, _)| task)
            .collect();
        self.forget_dormant(|task| tasks.contains(&task));
        for task in tasks {
            self.check(task, None, fault::no_unit());
        }
    }
}

/// Initiators may write a LUN in several forms; units are known by one of them.
fn one_form(lun: Lun) -> Option<Lun> {
    lun.number().map(Lun::from_number)
}
