//! Task management functions (RFC 7143 §11.5; SAM-5 §7). They are answered when nothing of what
//! they end can write any more.

use std::sync::Arc;

use iscsi_proto::pdu::{TaskManagementFunction, TaskManagementResponseCode};
use iscsi_proto::session::TaskId;
use iscsi_proto::{InitiatorTaskTag, Lun};
use scsi::UnitAttention;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::Message;
use super::core::Core;
use crate::events::SessionEnd;
use crate::nexus::UnitMap;
use crate::unit::LogicalUnit;

/// Held by everything that a function waits for; when the last one lets go, the function is
/// answered.
#[derive(Debug)]
pub(crate) struct Guard {
    requester: UnboundedSender<Message>,
    itt: InitiatorTaskTag,
    response: TaskManagementResponseCode,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let message = Message::TaskManagementDone { itt: self.itt, response: self.response };
        // A requester that is gone needs no answer.
        let _ = self.requester.send(message);
    }
}

impl Core {
    pub(super) fn task_management(
        &mut self,
        itt: InitiatorTaskTag,
        function: TaskManagementFunction,
        lun: Lun,
        referenced: Option<TaskId>,
    ) {
        use TaskManagementFunction as Function;
        use TaskManagementResponseCode as Response;
        let unit = self.nexus.find(lun).map(|seen| Arc::clone(&seen.unit));
        let refuse = |core: &mut Self, response| {
            core.session.task_management_response(itt, response, &mut core.tx);
        };
        let guard = || {
            let requester = self.sender.clone();
            Arc::new(Guard { requester, itt, response: Response::Complete })
        };
        match (function, unit) {
            (
                Function::AbortTask
                | Function::AbortTaskSet
                | Function::ClearTaskSet
                | Function::LogicalUnitReset,
                None,
            ) => refuse(self, Response::LunDoesNotExist),
            (Function::AbortTask, Some(_)) => match referenced {
                Some(task) => {
                    let guard = guard();
                    self.abort_task(task, &guard);
                }
                None => refuse(self, Response::TaskDoesNotExist),
            },
            (Function::AbortTaskSet, Some(unit)) => {
                let guard = guard();
                self.abort_tasks_of(&unit, &guard);
            }
            (Function::ClearTaskSet, Some(unit)) => {
                let guard = guard();
                self.abort_tasks_of(&unit, &guard);
                self.abort_everywhere(&unit, UnitAttention::CommandsCleared, &guard);
            }
            (Function::LogicalUnitReset, Some(unit)) => {
                let guard = guard();
                self.abort_everywhere(&unit, UnitAttention::BusDeviceReset, &guard);
            }
            (Function::TargetWarmReset | Function::TargetColdReset, _) => {
                let guard = guard();
                let units: Vec<_> =
                    self.nexus.units().iter().map(|seen| Arc::clone(&seen.unit)).collect();
                for unit in &units {
                    self.abort_everywhere(unit, UnitAttention::BusDeviceReset, &guard);
                }
                if function == Function::TargetColdReset {
                    // §11.5.1: the target's connections are closed.
                    let target = self.nexus.port.target_name.clone();
                    let close = || Message::Close(SessionEnd::TargetGone);
                    self.node.sessions.send(Some(&target), close);
                }
            }
            (Function::TaskReassign, _) => refuse(self, Response::ReassignmentNotSupported),
            (Function::ClearAca | Function::Other(_), _) => {
                refuse(self, Response::NotSupported);
            }
        }
    }

    /// Has every session, this one included, abort the tasks of a unit.
    fn abort_everywhere(
        &mut self,
        unit: &Arc<LogicalUnit>,
        attention: UnitAttention,
        guard: &Arc<Guard>,
    ) {
        self.node.sessions.send(None, || Message::Abort {
            unit: unit.clone(),
            attention,
            guard: guard.clone(),
        });
    }

    /// Aborts all tasks of a unit. True if there were any.
    pub(super) fn abort_tasks_of(&mut self, unit: &Arc<LogicalUnit>, guard: &Arc<Guard>) -> bool {
        let luns = self.nexus.luns_of(unit);
        let tasks: Vec<TaskId> =
            self.session.tasks().filter(|(_, lun)| luns.contains(lun)).map(|(id, _)| id).collect();
        for task in &tasks {
            self.abort_task(*task, guard);
        }
        !tasks.is_empty()
    }

    fn abort_task(&mut self, task: TaskId, guard: &Arc<Guard>) {
        self.session.abort(task);
        let Some(at) = self.position(task) else { return };
        let Some(pending) = self.pending.get_mut(at) else { return };
        if pending.working == 0 {
            self.pending.swap_remove(at);
        } else {
            pending.aborted = true;
            pending.guards.push(guard.clone());
        }
    }

    /// Takes over a change of the target's units. Commands for units that went away are aborted;
    /// `held` is kept as long as one of them can still write.
    pub(super) fn units_changed(
        &mut self,
        units: &Arc<UnitMap>,
        held: Option<&Arc<oneshot::Sender<()>>>,
    ) {
        let stays = |unit: &Arc<LogicalUnit>| units.values().any(|other| Arc::ptr_eq(other, unit));
        let gone: Vec<_> = self
            .nexus
            .units()
            .iter()
            .map(|seen| Arc::clone(&seen.unit))
            .filter(|unit| !stays(unit))
            .collect();
        for unit in gone {
            let luns = self.nexus.luns_of(&unit);
            let tasks: Vec<TaskId> = self
                .session
                .tasks()
                .filter(|(_, lun)| luns.contains(lun))
                .map(|(id, _)| id)
                .collect();
            for task in tasks {
                self.session.abort(task);
                let Some(at) = self.position(task) else { continue };
                let Some(pending) = self.pending.get_mut(at) else { continue };
                if pending.working == 0 {
                    self.pending.swap_remove(at);
                } else {
                    pending.aborted = true;
                    pending.held.extend(held.cloned());
                }
            }
        }
        self.nexus.update(units);
    }
}
