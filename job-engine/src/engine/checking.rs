//! Requests to check disks: each becomes a job with a plan.

use super::copying::{Builder, affected, instant_of, shared_disk, unmapped, whole_disk};
use super::core::Core;
use super::overlays::Frozen;
use super::{Engine, State};
use crate::catalogue::Disk;
use crate::error::{Cause, RequestError};
use crate::id::{DiskId, JobId};
use crate::job::{Element, ElementEffect, JobKind, Purpose, Submission};
use crate::place::Place;
use crate::plan::{Action, Form, Share};

impl Engine {
    /// Submits a check of a disk: its tables, and whether all of its data can be read. The job ends
    /// as Exception if something is wrong, with an error for each finding. A disk that is a LUN is
    /// checked as it is at one instant; `repair`, which
    /// frees what a crash has lost in a qcow2 image, is for one that is not.
    ///
    /// # Errors
    /// `NotFound`, `DiskInUse` while a job changes the disk, or for a repair of one that is mapped,
    /// `CouldNotStart`, `StoreNearlyFull`, `StoreUnavailable`, `ShuttingDown`.
    pub fn check_disk(
        &self,
        disk: DiskId,
        repair: bool,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared.request(move |core| core.submit_check(disk, repair, submission))
    }
}

fn checkable(
    state: &State,
    disk: DiskId,
    repair: bool,
    (job, now): (JobId, jiff::Timestamp),
) -> Result<(bool, Disk, Option<Frozen>), Cause> {
    if repair {
        let disk = whole_disk(state, disk)?;
        unmapped(state, &disk)?;
        return Ok((false, disk, None));
    }
    let disk = shared_disk(state, disk)?;
    let frozen = Frozen::of(state, &disk, job, now)?;
    Ok((state.is_mapped(disk.id), disk, frozen))
}

impl Core {
    fn submit_check(
        &mut self,
        disk: DiskId,
        repair: bool,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let id = JobId::generate();
        let element = Element::Disk(disk);
        let by = (id, self.now());
        let found = checkable(&self.shared.state.lock(), disk, repair, by);
        let (mapped, disk, frozen) = found.map_err(|cause| self.refuse(cause, Some(&element)))?;
        let block_bytes = disk.block_length.bytes();
        let check = |place: Place| Action::Check {
            of: Form { place, format: disk.format },
            bytes: disk.size_bytes,
            block_bytes,
            repair,
        };
        let from = Place::pool(&disk.path);
        // A log may have to be replayed, and only one job at a time may do that.
        let builder = Builder::default().claim(disk.id, repair || !mapped || frozen.is_some());
        let (plan, changes) = if let Some(frozen) = &frozen {
            builder.freeze(frozen).then(check(from)).thaw(frozen, id)
        } else if mapped {
            let instant = instant_of(&disk, id);
            let share = Share { disk: disk.id, from, to: instant.clone() };
            let plan = builder
                .making(&instant)
                .then(Action::Share { files: vec![share] })
                .then(Action::Publish { place: instant.clone(), identity: None })
                .then(check(instant.clone()))
                .then(Action::Remove { place: instant });
            (plan, Vec::new())
        } else {
            (builder.then(check(from)), Vec::new())
        };
        let name = format!("Check disk {}", disk.name);
        let affected = vec![affected(element, ElementEffect::Other)];
        let kind = JobKind::Planned { purpose: Purpose::CheckDisk, disk: disk.id, makes: None };
        self.submit_planned(id, (name, kind, affected), Some(plan.finish(changes)), submission)
    }
}
