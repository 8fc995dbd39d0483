//! Giving disks other images while they are used.
//!
//! The catalogue names the new files before the data path uses them. Until then commands still go to
//! the old ones, over which the new ones are laid: whoever opens the disks after a crash sees all of
//! it. So nothing has to be recorded while commands wait.

use super::run::{Work, settle};
use crate::datapath::{SwitchError, Switched};
use crate::engine::{Change, Failure, IfEnding, Interrupt, JobRecord};
use crate::error::Cause;
use crate::failpoint;
use crate::kinds::Step;
use crate::place::{Access, Place};

impl Work<'_> {
    /// Records other images of disks, and has the data path use them.
    pub(super) fn switch(
        &self,
        disks: &[Switched],
        changes: &[Change],
        back: &[Change],
    ) -> Result<(), Failure> {
        if self.done == 0 {
            self.boundary()?;
            self.settle(disks)?;
            self.record_switch(changes)?;
            failpoint::hit("plan.switching");
        }
        // Whoever opens one of the disks from here on opens the new file.
        let sequence = self.context.shared.state.lock().sequence;
        self.context.shared.wait_delivered(sequence);
        match self.context.shared.config.data_path.switch(disks) {
            Ok(()) => {
                failpoint::hit("plan.switched");
                Ok(())
            }
            Err(SwitchError::Stopping(reason)) => {
                tracing::debug!(reason, "the data path stops");
                Err(Interrupt::Stop.into())
            }
            Err(SwitchError::Image(error)) => {
                self.turn_back(back)?;
                Err(Cause::from(&error).into())
            }
        }
    }

    /// Flushes the files that the disks have, so that there is little left to flush behind.
    fn settle(&self, disks: &[Switched]) -> Result<(), Failure> {
        for Switched { disk, .. } in disks {
            let before = {
                let state = self.context.shared.state.lock();
                state.disks.get(&disk.id).map(|disk| Place::pool(&disk.path))
            };
            let Some(place) = before else { continue };
            let file = place.open(false, Access::Look).map_err(|error| Cause::from(&error))?;
            settle(&file).map_err(|error| Cause::from(&error))?;
        }
        Ok(())
    }

    /// From here on a crash makes it happen, and no client turns it back: what was to be undone before
    /// is in use.
    fn record_switch(&self, changes: &[Change]) -> Result<(), Failure> {
        let now = self.context.shared.now();
        let mut changes = changes.to_vec();
        for change in &mut changes {
            if let Change::PutSnapshot(snapshot) = change
                && snapshot.created_by == self.context.id
            {
                snapshot.created = now;
            }
        }
        let index = self.index;
        let change = move |record: &mut JobRecord| {
            record.step = Step::Planned { index, done: 1 };
            if let Some(plan) = &mut record.plan {
                plan.undo.retain(|undo| undo.from > index);
            }
        };
        let commit = failpoint::PLAN_STEP;
        Ok(self.context.commit(commit, IfEnding::TurnBack, change, changes)?)
    }

    /// The data path uses the old images: so the catalogue names them again.
    fn turn_back(&self, back: &[Change]) -> Result<(), Failure> {
        let (index, undo) = (self.index, self.plan.undo.clone());
        let change = move |record: &mut JobRecord| {
            record.step = Step::Planned { index, done: 0 };
            if let Some(plan) = &mut record.plan {
                plan.undo.clone_from(&undo);
            }
        };
        Ok(self.context.commit(failpoint::PLAN_STEP, IfEnding::GoOn, change, back.to_vec())?)
    }
}
