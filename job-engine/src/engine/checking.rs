//! Requests to check disks and snapshots: each becomes a job with a plan. And whose checksums are kept.

use std::path::Path;

use disk_image::ImageFormat;
use uuid::Uuid;

use super::copying::{Builder, affected, instant_of, shared_disk, unmapped, whole_disk};
use super::core::Core;
use super::overlays::{Frozen, form, frozen_or_shared};
use super::snapshots::find;
use super::state::Change;
use super::{Engine, State};
use crate::catalogue::Disk;
use crate::checksums;
use crate::error::{Cause, RequestError};
use crate::id::{DiskId, JobId, SnapshotId};
use crate::job::{Element, ElementEffect, JobKind, Purpose, Submission};
use crate::place::Place;
use crate::plan::{Action, Form, Sums};

/// What a check does beside looking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checks {
    /// Frees what a crash has lost in a qcow2 image; of a disk that is no LUN.
    pub repair: bool,
    /// Makes checksums of the data if there are none that hold, for later checks to compare them
    /// with; of a disk that is no LUN.
    pub checksums: bool,
}

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
        let checks = Checks { repair, checksums: false };
        self.check_disk_with(disk, checks, submission)
    }

    /// [`Engine::check_disk`], saying what else it does. The data of a disk that is no LUN are compared
    /// with checksums that hold, wanted or not.
    ///
    /// # Errors
    /// As [`Engine::check_disk`]; `DiskInUse` for checksums of a disk that is mapped.
    pub fn check_disk_with(
        &self,
        disk: DiskId,
        checks: Checks,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared.request(move |core| core.submit_check(disk, checks, submission))
    }

    /// Submits a check of a snapshot, as of a disk that is no LUN. `checksums` are made if there are none
    /// that hold.
    ///
    /// # Errors
    /// `NotFound`, `DiskInUse` while a job changes the disk, `CouldNotStart`, `StoreNearlyFull`,
    /// `StoreUnavailable`, `ShuttingDown`.
    pub fn check_snapshot(
        &self,
        snapshot: SnapshotId,
        checksums: bool,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared.request(move |core| core.submit_snapshot_check(snapshot, checksums, submission))
    }
}

fn checkable(
    state: &State,
    disk: DiskId,
    Checks { repair, checksums }: Checks,
    (job, now): (JobId, jiff::Timestamp),
) -> Result<(bool, Disk, Option<Frozen>), Cause> {
    if repair {
        let disk = whole_disk(state, disk)?;
        unmapped(state, &disk)?;
        return Ok((false, disk, None));
    }
    let disk = shared_disk(state, disk)?;
    if checksums {
        // They would hold until the next write.
        unmapped(state, &disk)?;
    }
    let frozen = Frozen::of(state, &disk, job, now)?;
    Ok((state.is_mapped(disk.id), disk, frozen))
}

impl Core {
    fn submit_check(
        &mut self,
        disk: DiskId,
        checks: Checks,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let Checks { repair, checksums } = checks;
        let id = JobId::generate();
        let element = Element::Disk(disk);
        let by = (id, self.now());
        let found = checkable(&self.shared.state.lock(), disk, checks, by);
        let (mapped, disk, frozen) = found.map_err(|cause| self.refuse(cause, Some(&element)))?;
        let block_bytes = disk.block_length.bytes();
        let check = |place: Place| Action::Check {
            of: Form { place, format: disk.format },
            bytes: disk.size_bytes,
            block_bytes,
            repair,
            sums: Some(match (mapped, checksums) {
                (true, _) => Sums::InUse,
                (false, true) => Sums::Make(disk.id.uuid()),
                (false, false) => Sums::Compare(disk.id.uuid()),
            }),
        };
        let from = Place::pool(&disk.path);
        let plan = frozen_or_shared(frozen.as_ref(), |frozen| {
            // A log may have to be replayed, and only one job at a time may do that.
            let alone = repair || !mapped || frozen.is_some();
            let builder = Builder::default().claim(disk.id, alone);
            let (plan, changes) = if let Some(frozen) = frozen {
                builder.freeze(frozen).then(check(from.clone())).thaw(frozen, id)
            } else if mapped {
                let instant = instant_of(&disk, id);
                let plan = builder
                    .making(&instant)
                    .then(Action::share(disk.id, &from, &instant))
                    .then(Action::Publish { place: instant.clone(), identity: None })
                    .then(check(instant.clone()))
                    .then(Action::Remove { place: instant });
                (plan, Vec::new())
            } else {
                (builder.then(check(from.clone())), Vec::new())
            };
            plan.finish(changes)
        });
        let name = format!("Check disk {}", disk.name);
        let affected = vec![affected(element, ElementEffect::Other)];
        let kind = JobKind::Planned { purpose: Purpose::CheckDisk, disk: disk.id, makes: None };
        self.submit_planned(id, (name, kind, affected), Some(plan), submission)
    }

    fn submit_snapshot_check(
        &mut self,
        snapshot: SnapshotId,
        checksums: bool,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let found = {
            let state = self.shared.state.lock();
            find(&state, snapshot).and_then(|snapshot| {
                // As for a disk: a log may have to be replayed.
                let alone = snapshot.format == Some(ImageFormat::Vhdx);
                let disk = if alone {
                    whole_disk(&state, snapshot.disk)?
                } else {
                    shared_disk(&state, snapshot.disk)?
                };
                Ok((alone, disk, snapshot))
            })
        };
        let (alone, disk, snapshot) = found.map_err(|cause| self.refuse(cause, None))?;
        let of = snapshot.id.uuid();
        let check = Action::Check {
            of: form(&snapshot, disk.format),
            bytes: snapshot.size_bytes,
            block_bytes: disk.block_length.bytes(),
            repair: false,
            sums: Some(if checksums { Sums::Make(of) } else { Sums::Compare(of) }),
        };
        let plan = Builder::default().claim(disk.id, alone).then(check).finish(Vec::new());
        let name = format!("Check snapshot {}@{}", disk.name, snapshot.name);
        let affected = vec![affected(Element::Disk(disk.id), ElementEffect::Other)];
        let kind = JobKind::Planned { purpose: Purpose::CheckDisk, disk: disk.id, makes: None };
        self.submit_planned(JobId::generate(), (name, kind, affected), Some(plan), submission)
    }

    /// Checksums of disks that initiators may write from now on, and of what goes: none of them hold
    /// once that is so.
    pub(super) fn void_checksums(&self, changes: &[Change]) {
        let directory = &self.shared.config.directory;
        for change in changes {
            if let Change::PutMapping(mapping) = change {
                checksums::void(directory, mapping.disk.uuid());
            } else if let Change::DeleteDisk(id) = change {
                checksums::remove(directory, id.uuid());
            } else if let Change::DeleteSnapshot(id) = change {
                checksums::remove(directory, id.uuid());
            }
        }
    }

    /// Gives new checksums their name, unless nobody may compare with them by now.
    pub(crate) fn keep_checksums(
        &mut self,
        of: Uuid,
        written: &Path,
        path: &Path,
    ) -> std::io::Result<bool> {
        if !self.shared.state.lock().may_have_checksums(of) {
            return Ok(false);
        }
        checksums::keep(written, path).map(|()| true)
    }
}

impl State {
    /// A disk or a snapshot that is there.
    pub(super) fn is_image(&self, id: Uuid) -> bool {
        self.disks.contains_key(&DiskId::from(id))
            || self.snapshots.contains_key(&SnapshotId::from(id))
    }

    /// A snapshot, or a disk that is no LUN.
    fn may_have_checksums(&self, id: Uuid) -> bool {
        self.is_image(id) && !self.is_mapped(DiskId::from(id))
    }
}
