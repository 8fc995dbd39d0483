//! The tasks of a session: what each still has to receive and to answer.

use smallvec::SmallVec;

use crate::ids::{InitiatorTaskTag, Lun, TargetTransferTag};
use crate::serial::CmdSn;

/// Names a task in its session. A name is never used for another task as long as both could be
/// mixed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TaskId {
    pub(super) slot: u16,
    pub(super) generation: u32,
}

/// A response that waits for data that is still under way.
#[derive(Debug)]
pub(super) struct HeldResponse {
    pub(super) status: u8,
    pub(super) sense: SmallVec<[u8; 32]>,
    pub(super) device_length: u64,
}

/// A SCSI command between its request and its response.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) generation: u32,
    pub(super) itt: InitiatorTaskTag,
    pub(super) lun: Lun,
    pub(super) cmd_sn: CmdSn,
    /// It takes a place in the window.
    pub(super) in_window: bool,
    /// Expected Data Transfer Length.
    pub(super) expected: u32,
    pub(super) reads: bool,
    pub(super) writes: bool,
    /// Unsolicited Data-Out PDUs follow: F has not come yet.
    pub(super) unsolicited: bool,
    /// Bytes that have come, without a gap.
    pub(super) received: u32,
    /// Some of the data was lost: what still comes is dropped.
    pub(super) lost: bool,
    /// What comes unasked is handed out, although nothing has been accepted yet.
    pub(super) keeps: bool,
    /// Bytes that the device wants, at most `expected`.
    pub(super) wanted: Option<u32>,
    /// Bytes up to which R2Ts are out.
    pub(super) solicited: u32,
    /// Where the sequence ends that is coming in.
    pub(super) sequence_end: u32,
    /// DataSN of the next Data-Out.
    pub(super) data_sn: u32,
    /// R2Ts that are out and not fulfilled.
    pub(super) outstanding_r2t: u16,
    /// Number of the next R2T; the oldest that is out has this less `outstanding_r2t`.
    pub(super) r2t_sn: u32,
    /// Data-In PDUs that were sent.
    pub(super) data_in_sn: u32,
    pub(super) held: Option<HeldResponse>,
}

impl Task {
    /// Data that will still come, whatever is decided.
    pub(super) const fn data_is_under_way(&self) -> bool {
        self.unsolicited || self.outstanding_r2t > 0
    }

    /// All that the device wants has come.
    pub(super) fn has_all(&self) -> bool {
        self.wanted.is_some_and(|wanted| self.received >= wanted)
    }
}

/// So many tags are looked at together.
const SEARCHED: usize = 16;

/// All tasks of a session.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    slots: Vec<Option<Task>>,
    /// The tag of each, so that a search does not go through all of what tasks are; the reserved one
    /// where there is none.
    tags: Vec<u32>,
    free: Vec<u16>,
    generation: u32,
}

impl Tasks {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, mut task: Task) -> TaskId {
        self.generation = self.generation.wrapping_add(1);
        task.generation = self.generation;
        let generation = self.generation;
        let slot = self.free.pop().unwrap_or_else(|| {
            if self.slots.is_empty() {
                // Most sessions rest most of the time, with one command now and then.
                self.slots.reserve_exact(1);
            }
            self.slots.push(None);
            self.tags.push(InitiatorTaskTag::RESERVED.0);
            // The session bounds the number of tasks far below.
            u16::try_from(self.slots.len() - 1).unwrap_or(u16::MAX)
        });
        if let Some(tag) = self.tags.get_mut(usize::from(slot)) {
            *tag = task.itt.0;
        }
        if let Some(place) = self.slots.get_mut(usize::from(slot)) {
            *place = Some(task);
        }
        TaskId { slot, generation }
    }

    pub(super) fn get_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        let task = self.slots.get_mut(usize::from(id.slot))?.as_mut()?;
        (task.generation == id.generation).then_some(task)
    }

    pub(super) fn get(&self, id: TaskId) -> Option<&Task> {
        let task = self.slots.get(usize::from(id.slot))?.as_ref()?;
        (task.generation == id.generation).then_some(task)
    }

    pub(super) fn remove(&mut self, id: TaskId) -> Option<Task> {
        self.get(id)?;
        let task = self.slots.get_mut(usize::from(id.slot))?.take()?;
        *self.tags.get_mut(usize::from(id.slot))? = InitiatorTaskTag::RESERVED.0;
        self.free.push(id.slot);
        Some(task)
    }

    /// Takes a task out; whether it took a place in the window.
    pub(super) fn end(&mut self, id: TaskId) -> bool {
        let Some(place) = self.slots.get_mut(usize::from(id.slot)) else { return false };
        let Some(task) = place.as_ref().filter(|it| it.generation == id.generation) else {
            return false;
        };
        let in_window = task.in_window;
        *place = None;
        if let Some(tag) = self.tags.get_mut(usize::from(id.slot)) {
            *tag = InitiatorTaskTag::RESERVED.0;
        }
        self.free.push(id.slot);
        in_window
    }

    pub(super) fn find(&self, itt: InitiatorTaskTag) -> Option<TaskId> {
        if self.len() == 0 || itt == InitiatorTaskTag::RESERVED {
            return None;
        }
        let mut first = 0;
        for tags in self.tags.chunks(SEARCHED) {
            // Without an end in the middle, so that many are compared at once.
            if tags.iter().fold(false, |found, tag| found | (*tag == itt.0)) {
                let slot = first + tags.iter().position(|tag| *tag == itt.0)?;
                let generation = self.slots.get(slot)?.as_ref()?.generation;
                return Some(TaskId { slot: u16::try_from(slot).ok()?, generation });
            }
            first += SEARCHED;
        }
        None
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TaskId, &Task)> {
        self.slots.iter().zip(0u16..).filter_map(|(task, slot)| {
            let task = task.as_ref()?;
            Some((TaskId { slot, generation: task.generation }, task))
        })
    }
}

/// The tag of a task's R2T: which slot, which number. Never the reserved value, as slots end
/// far below 4095.
pub(super) const fn transfer_tag(id: TaskId, r2t_sn: u32) -> TargetTransferTag {
    TargetTransferTag(r2t_sn << 12 | (id.slot as u32 & 0xfff))
}
