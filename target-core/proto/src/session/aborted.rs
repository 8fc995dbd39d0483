//! Data that is still under way for tasks which were aborted: the initiator sent it before it could
//! know, so it is dropped without a word.

use crate::ids::{InitiatorTaskTag, Lun};
use crate::serial::StatSn;

/// A task that was aborted while data was to come.
#[derive(Debug)]
struct Aborted {
    itt: InitiatorTaskTag,
    lun: Lun,
    /// Sequences of Data-Out PDUs that were asked for, or are allowed without.
    sequences: u32,
    /// The function of this session that aborted it.
    function: Option<InitiatorTaskTag>,
    /// StatSN of that function's response, or of the message that says it to another session.
    told: Option<StatSn>,
}

/// These tasks, until their data has come or the initiator knows of the abort.
#[derive(Debug, Default)]
pub(super) struct AbortedTasks(Vec<Aborted>);

impl AbortedTasks {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a task; the oldest make room for more than `most`.
    pub(super) fn add(
        &mut self,
        (itt, lun): (InitiatorTaskTag, Lun),
        sequences: u32,
        function: Option<InitiatorTaskTag>,
        most: usize,
    ) {
        if self.0.len() >= most {
            self.0.remove(0);
        }
        self.0.push(Aborted { itt, lun, sequences, function, told: None });
    }

    /// A function is answered.
    pub(super) fn told(&mut self, function: InitiatorTaskTag, stat_sn: StatSn) {
        for task in self.0.iter_mut().filter(|task| task.function == Some(function)) {
            task.told = Some(stat_sn);
        }
    }

    /// The initiator is told that a function of somebody else has ended the tasks of a unit.
    pub(super) fn told_of_unit(&mut self, lun: Lun, stat_sn: StatSn) {
        let by_others = |task: &&mut Aborted| task.lun == lun && task.function.is_none();
        for task in self.0.iter_mut().filter(by_others) {
            task.told.get_or_insert(stat_sn);
        }
    }

    /// Data is still to come for tasks that the function has aborted.
    pub(super) fn are_awaited_by(&self, function: InitiatorTaskTag) -> bool {
        self.0.iter().any(|task| task.function == Some(function) && task.told.is_none())
    }

    /// The initiator has seen everything before ExpStatSN.
    pub(super) fn acknowledged(&mut self, exp_stat_sn: StatSn) {
        self.0.retain(|task| task.told.is_none_or(|told| !told.lt(exp_stat_sn)));
    }

    /// The tag names another task now.
    pub(super) fn forget(&mut self, itt: InitiatorTaskTag) {
        self.0.retain(|task| task.itt != itt);
    }

    /// Whether a Data-Out PDU belongs to one of them.
    pub(super) fn takes(&mut self, itt: InitiatorTaskTag, is_final: bool) -> bool {
        let Some(at) = self.0.iter().position(|task| task.itt == itt) else { return false };
        if let Some(task) = self.0.get_mut(at) {
            task.sequences = task.sequences.saturating_sub(u32::from(is_final));
            if task.sequences == 0 {
                self.0.remove(at);
            }
        }
        true
    }
}
