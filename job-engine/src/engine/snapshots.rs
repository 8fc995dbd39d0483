//! Requests about snapshots: each becomes a job with a plan.

use std::path::{Path, PathBuf};

use disk_image::{ImageFormat, is_device, shares_blocks};

use super::Engine;
use super::copying::{Builder, affected, shared_disk, whole_disk};
use super::core::Core;
use super::masking::{Expose, ExposeUnit};
use super::overlays::{Layering, Over, can_share, directory, form, overlay_path, swept};
use super::pools::pool_at;
use super::state::{Change, Debris, State};
use crate::catalogue::{
    Disk, DiskSnapshot, MAX_SNAPSHOTS, Provisioning, StoredRecord, check_disk_name,
};
use crate::datapath::Switched;
use crate::error::{Cause, RequestError};
use crate::id::{DiskId, JobId, PoolId, SnapshotId};
use crate::job::{Element, ElementEffect, JobKind, Purpose, Submission};
use crate::kinds::{self, CreateDisk};
use crate::place::Place;
use crate::plan::{Action, Conversion, Form, How, Plan, Share};

/// A request for snapshots of disks, all at the same instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSnapshots {
    /// The disks.
    pub disks: Vec<DiskId>,
    /// Name of each snapshot, unique among those of its disk.
    pub name: String,
}

/// How a snapshot becomes a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exposing {
    /// Writes to the disk are refused.
    pub read_only: bool,
    /// The disk's image is laid over the snapshot, even where the file system could share blocks.
    pub linked: bool,
}

impl Engine {
    /// Submits snapshots of disks at one instant, while initiators use them. Where the pool's file
    /// system shares blocks between files, a snapshot is a copy of its own. Elsewhere, and if initiators
    /// would wait too long for that, the disk's file becomes the snapshot's, and the disk gets a qcow2
    /// image that is laid over it; so for all of a group, if for one of them.
    ///
    /// # Errors
    /// `NotFound`, `BadValue` (no disk, or one twice), `DiskInUse` while a job changes a disk,
    /// `BadName`, `NameInUse`, `LimitReached`, `CouldNotStart`, `StoreNearlyFull`,
    /// `StoreUnavailable`, `ShuttingDown`.
    pub fn create_snapshots(
        &self,
        request: CreateSnapshots,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared.request(move |core| core.submit_snapshots(&request, submission))
    }

    /// Submits the deletion of a snapshot. If an image is laid over it, the two are brought together,
    /// while the disk is used; a job that is ended on the way leaves the snapshot's file, and the
    /// next deletion goes on with it.
    ///
    /// # Errors
    /// `NotFound`, `DiskInUse` while a job works with it, or if another disk or more than one image is
    /// laid over it, `LimitReached`, `CouldNotStart`, `StoreNearlyFull`,
    /// `StoreUnavailable`, `ShuttingDown`.
    pub fn delete_snapshot(
        &self,
        snapshot: SnapshotId,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared.request(move |core| core.submit_snapshot_deletion(snapshot, submission))
    }

    /// Submits that a disk gets the data and the size of one of its snapshots. Initiators that use
    /// it are told that its medium may have changed.
    ///
    /// # Errors
    /// `NotFound`, `DiskInUse` while a job works on the disk, `CouldNotStart`, `StoreNearlyFull`,
    /// `StoreUnavailable`, `ShuttingDown`.
    pub fn roll_back(
        &self,
        snapshot: SnapshotId,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared.request(move |core| core.submit_roll_back(snapshot, submission))
    }

    /// Submits a disk with the data of a snapshot, which stays what it is. It shares the snapshot's
    /// blocks where the file system can do that; elsewhere, if the snapshot lies over another, and if it is
    /// to be `linked`, it is an image that is laid over the snapshot, which cannot be deleted as long as that is so.
    ///
    /// # Errors
    /// `NotFound`, `DiskInUse` while a job changes the snapshot's disk, `BadName`, `NameInUse`,
    /// `CouldNotStart`, `StoreNearlyFull`, `StoreUnavailable`, `ShuttingDown`.
    pub fn expose_snapshot(
        &self,
        snapshot: SnapshotId,
        name: String,
        kind: Exposing,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared
            .request(move |core| core.submit_exposure(snapshot, name, (kind, None), submission))
    }

    /// The same, and the job exposes the disk, in the transaction that puts it into the catalogue, behind
    /// which its end alone is missing: as the one unit of `to`, whose number is `lun`. A target that `to` is to make is made then.
    /// [`Engine::exposed_snapshots`] knows which disks were made so.
    ///
    /// There is one such disk for a snapshot at most.
    ///
    /// # Errors
    /// Those of [`Engine::expose_snapshot`] and of [`Engine::expose`]; `DiskInUse` if a disk stands for
    /// the snapshot already, or a job is about to make one.
    pub fn expose_snapshot_to(
        &self,
        snapshot: SnapshotId,
        name: String,
        kind: Exposing,
        (to, lun): (Expose, Option<u16>),
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared.request(move |core| {
            core.submit_exposure(snapshot, name, (kind, Some((to, lun))), submission)
        })
    }

    /// Disks that stand for snapshots, which were exposed themselves.
    #[must_use]
    pub fn exposed_snapshots(&self) -> Vec<(DiskId, SnapshotId)> {
        let state = self.shared.state.lock();
        let from_here = state.records.range(EXPOSED.to_owned()..);
        let records = from_here.map_while(|(name, text)| Some((name.strip_prefix(EXPOSED)?, text)));
        records.filter_map(|(disk, text)| Some((disk.parse().ok()?, text.parse().ok()?))).collect()
    }

    /// Submits that those of these disks are deleted that stand for snapshots, if nobody sees them any
    /// more. If that cannot begin, such a disk stays, and is the one that its snapshot is exposed with
    /// the next time.
    pub fn delete_unseen(&self, disks: &[DiskId], submission: &Submission) -> Vec<JobId> {
        let unseen: Vec<DiskId> = {
            let state = self.shared.state.lock();
            let seen = |disk: DiskId| state.mappings.values().any(|it| it.disk == disk);
            let stands = |disk: DiskId| state.records.contains_key(&exposed_record(disk));
            disks.iter().copied().filter(|disk| stands(*disk) && !seen(*disk)).collect()
        };
        let delete = |disk: DiskId| match self.delete_disk_with(disk, submission.clone()) {
            Ok(id) => Some(id),
            Err(error) => {
                tracing::warn!(%disk, %error, "a disk that stands for a snapshot is not deleted");
                None
            }
        };
        unseen.into_iter().filter_map(delete).collect()
    }

    /// Submits that a snapshot becomes a disk, with the identifier and the name that it has, and is a
    /// snapshot no more.
    ///
    /// # Errors
    /// `NotFound`, `DiskInUse` while a job works with the snapshot or changes its disk, or if an image
    /// is laid over it, `NameInUse`, `CouldNotStart`, `StoreNearlyFull`, `StoreUnavailable`,
    /// `ShuttingDown`.
    pub fn detach_snapshot(
        &self,
        snapshot: SnapshotId,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared.request(move |core| core.submit_detachment(snapshot, submission))
    }

    /// Every file that belongs to a disk or a snapshot, or that one of their images is laid over.
    #[must_use]
    pub fn image_files(&self) -> Vec<PathBuf> {
        let state = self.shared.state.lock();
        let disks = state.disks.values().map(|disk| disk.path.clone());
        disks.chain(state.snapshots.values().map(|snapshot| snapshot.path.clone())).collect()
    }

    /// All snapshots in the order of their creation.
    #[must_use]
    pub fn snapshots(&self) -> Vec<DiskSnapshot> {
        let state = self.shared.state.lock();
        state.visible_snapshots().map(|snapshot| DiskSnapshot::clone(snapshot)).collect()
    }

    /// The snapshot that clients know of those that an image lies over, the nearest first.
    #[must_use]
    pub fn visible_snapshot(&self, parent: Option<SnapshotId>) -> Option<SnapshotId> {
        let state = self.shared.state.lock();
        let mut next = parent;
        // They lie over each other in one direction; a damaged catalogue must not hold up anybody.
        for _ in 0..=state.snapshots.len() {
            let found = state.snapshots.get(&next?)?;
            if !found.hidden {
                return Some(found.id);
            }
            next = found.parent;
        }
        None
    }
}

/// What the names of records begin with that say of which snapshot a disk was made to expose it.
const EXPOSED: &str = "exposed-snapshot/";

/// Name of that record.
pub(super) fn exposed_record(disk: DiskId) -> String {
    format!("{EXPOSED}{disk}")
}

/// Refuses to expose a snapshot for which there is a disk, or soon will be.
fn not_exposed(state: &State, source: &Disk, snapshot: &DiskSnapshot) -> Result<(), Cause> {
    let stands = |(name, text): (&String, &String)| {
        let disk: DiskId = name.strip_prefix(EXPOSED)?.parse().ok()?;
        let disk = state.disks.get(&disk).filter(|_| *text == snapshot.id.to_string())?;
        Some(format!("disk {}, which stands for it", disk.name))
    };
    let from_here = state.records.range(EXPOSED.to_owned()..);
    let mut records = from_here.take_while(|(name, _)| name.starts_with(EXPOSED));
    if let Some(holder) = records.find_map(stands) {
        return in_use(source, snapshot, holder);
    }
    match state.to_expose().find(|(_, of, _)| *of == snapshot.id) {
        Some((_, _, job)) => in_use(source, snapshot, format!("job {job}")),
        None => Ok(()),
    }
}

impl State {
    /// Disks that unfinished jobs make to stand for snapshots: the disk, the snapshot and the job.
    pub(super) fn to_expose(&self) -> impl Iterator<Item = (DiskId, SnapshotId, JobId)> {
        let unfinished = self.unfinished.iter().filter_map(|id| self.jobs.get(id));
        unfinished.filter_map(|entry| {
            let record = &entry.record;
            let Action::CompleteExposed { disk, changes, .. } =
                record.plan.as_ref()?.actions.last()?
            else {
                return None;
            };
            let name = exposed_record(*disk);
            let of = changes.iter().find_map(|change| {
                let Change::PutRecord(record) = change else { return None };
                record.text.parse().ok().filter(|_| record.name == name)
            });
            Some((*disk, of?, record.job.id))
        })
    }
}

/// Refuses to take a disk away that has snapshots.
pub(super) fn without_snapshots(state: &State, disk: &Disk) -> Result<(), Cause> {
    match state.snapshots_of(disk.id).count() {
        0 => Ok(()),
        1 => Err(Cause::DiskInUse { disk: disk.name.clone(), holder: "a snapshot".to_owned() }),
        n => Err(Cause::DiskInUse { disk: disk.name.clone(), holder: format!("{n} snapshots") }),
    }
}

pub(super) fn find(state: &State, id: SnapshotId) -> Result<DiskSnapshot, Cause> {
    let found = state.snapshots.get(&id).filter(|snapshot| !snapshot.hidden);
    let found = found.map(|snapshot| DiskSnapshot::clone(snapshot));
    found.ok_or_else(|| Cause::NotFound { what: "snapshot".to_owned(), name: id.to_string() })
}

fn in_use<T>(disk: &Disk, snapshot: &DiskSnapshot, holder: String) -> Result<T, Cause> {
    let disk = format!("{}@{}", disk.name, snapshot.name);
    Err(Cause::DiskInUse { disk, holder })
}

/// A snapshot that no job reads, with its disk.
fn unread(state: &State, id: SnapshotId) -> Result<(Disk, DiskSnapshot), Cause> {
    let snapshot = find(state, id)?;
    let disk = shared_disk(state, snapshot.disk)?;
    match state.reader(&snapshot.path) {
        Some(job) => in_use(&disk, &snapshot, format!("job {job}")),
        None => Ok((disk, snapshot)),
    }
}

/// A disk with the data of a snapshot.
fn like(
    source: &Disk,
    snapshot: &DiskSnapshot,
    name: String,
    (format, pool): (ImageFormat, PoolId),
) -> CreateDisk {
    CreateDisk {
        name,
        size_bytes: snapshot.size_bytes,
        block_length: source.block_length,
        provisioning: Provisioning::Thin,
        format,
        pool: Some(pool),
    }
}

/// The disk has been moved since; the snapshot is where it was taken.
fn is_elsewhere(disk: &Disk, snapshot: &DiskSnapshot) -> bool {
    snapshot.path.parent() != disk.path.parent()
}

/// A snapshot that is to be made, or why it cannot.
fn plan_one(
    state: &State,
    disk: &Disk,
    name: &str,
    (job, now): (JobId, jiff::Timestamp),
) -> Result<DiskSnapshot, Cause> {
    if state.snapshots_of(disk.id).any(|snapshot| snapshot.name == name) {
        let name = format!("{}@{name}", disk.name);
        return Err(Cause::NameInUse { what: "snapshot".to_owned(), name });
    }
    if state.snapshots_of(disk.id).count() >= MAX_SNAPSHOTS {
        let what = format!("snapshots of disk {}", disk.name);
        return Err(Cause::LimitReached { what, limit: 512 });
    }
    let id = SnapshotId::generate();
    Ok(DiskSnapshot {
        id,
        name: name.to_owned(),
        disk: disk.id,
        size_bytes: disk.size_bytes,
        path: directory(disk).join(format!("{id}.snapshot.{}", disk.format)),
        format: Some(disk.format),
        parent: disk.parent,
        hidden: false,
        created: now,
        created_by: job,
    })
}

/// Disks and the snapshots that are made of them: copies that share blocks, or images that are laid
/// over them.
struct Planned {
    snapshots: Vec<(Disk, DiskSnapshot)>,
    /// The blocks of all of them can be shared.
    can_share: bool,
    /// Unless that is all there is to it: one of them is in use, and it may take long.
    layered: Vec<Layering>,
}

impl Core {
    fn plan_snapshots(&self, request: &CreateSnapshots, id: JobId) -> Result<Planned, Cause> {
        let CreateSnapshots { disks, name } = request;
        if let Err(reason) = check_disk_name(name) {
            let (what, reason) = ("snapshot".to_owned(), reason.to_string());
            return Err(Cause::BadName { what, name: name.clone(), reason });
        }
        let mut sorted = disks.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if disks.is_empty() || sorted.len() != disks.len() {
            let reason = "each disk is named once, and one at least".to_owned();
            return Err(Cause::BadValue { property: "list of disks".to_owned(), reason });
        }
        let state = self.shared.state.lock();
        let mut snapshots = Vec::new();
        for disk in disks {
            let disk = shared_disk(&state, *disk)?;
            let snapshot = plan_one(&state, &disk, name, (id, self.now()))?;
            snapshots.push((disk, snapshot));
        }
        // Each of the two ways has its own instant.
        let can_share = snapshots.iter().all(|(disk, _)| can_share(disk));
        let is_used = disks.iter().any(|disk| state.is_mapped(*disk));
        let mut layered = Vec::new();
        if is_used || !can_share {
            for (disk, snapshot) in &snapshots {
                let disk = whole_disk(&state, disk.id)?;
                layered.push(Layering::of(&state, disk, snapshot.clone(), id)?);
            }
        }
        Ok(Planned { snapshots, can_share, layered })
    }

    fn submit_snapshots(
        &mut self,
        request: &CreateSnapshots,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let id = JobId::generate();
        let element = request.disks.first().copied().map(Element::Disk);
        let planned = self.plan_snapshots(request, id);
        let Planned { snapshots, can_share, layered } =
            planned.map_err(|cause| self.refuse(cause, element.as_ref()))?;
        let disks: Vec<_> = snapshots.iter().map(|(disk, _)| disk.clone()).collect();
        let claimed = |exclusive| {
            disks.iter().fold(Builder::default(), |builder, it| builder.claim(it.id, exclusive))
        };
        let layer = || {
            let builder = claimed(true).layer(&layered, Vec::new(), Vec::new());
            builder.no_return().finish(Vec::new())
        };
        let plan = match (can_share, layered.is_empty()) {
            (true, true) => copy(claimed(false), snapshots),
            (true, false) => copy(claimed(true), snapshots).or(layer()),
            (false, _) => layer(),
        };
        let names: Vec<_> = disks.iter().map(|disk| disk.name.as_str()).collect();
        let name = format!("Take snapshot {} of {}", request.name, names.join(", "));
        let elements = disks.iter().map(|disk| Element::Disk(disk.id));
        let affected = elements.map(|it| affected(it, ElementEffect::Other)).collect();
        let disk = request.disks.first().copied().unwrap_or_else(DiskId::generate);
        let kind = JobKind::Planned { purpose: Purpose::CreateSnapshot, disk, makes: None };
        self.submit_planned(id, (name, kind, affected), Some(plan), submission)
    }

    fn submit_snapshot_deletion(
        &mut self,
        id: SnapshotId,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let job = JobId::generate();
        let planned = {
            let state = self.shared.state.lock();
            unread(&state, id).and_then(|found| self.plan_deletion(&state, found, job))
        };
        let (disk, snapshot, plan) = planned.map_err(|cause| self.refuse(cause, None))?;
        let name = format!("Delete snapshot {}@{}", disk.name, snapshot.name);
        let kind =
            JobKind::Planned { purpose: Purpose::DeleteSnapshot, disk: disk.id, makes: None };
        let affected = vec![affected(Element::Disk(disk.id), ElementEffect::Other)];
        self.submit_planned(job, (name, kind, affected), Some(plan), submission)
    }

    fn plan_deletion(
        &self,
        state: &State,
        (disk, snapshot): (Disk, DiskSnapshot),
        job: JobId,
    ) -> Result<(Disk, DiskSnapshot, Box<Plan>), Cause> {
        let over = state.over(snapshot.id);
        let hidden = DiskSnapshot { hidden: true, ..snapshot.clone() };
        let builder = Builder::default();
        let plan = match over.as_slice() {
            [] => {
                let mut all = vec![snapshot.clone()];
                all.extend(state.needless(snapshot.parent));
                delete_files(builder.claim(disk.id, false), &all)
            }
            [one] if one.disk() == disk.id => {
                let disk = whole_disk(state, disk.id)?;
                let builder = builder.claim(disk.id, true);
                let (builder, line, over) = match one {
                    Over::Snapshot(top) => {
                        let hide =
                            Action::Apply { changes: vec![Change::PutSnapshot(hidden.clone())] };
                        let line = state.collapsible(top, std::slice::from_ref(&hidden));
                        (builder.then(hide), line, state.over(top.id))
                    }
                    Over::Disk(_) => {
                        let layering = Layering::hidden(state, disk.clone(), job, self.now())?;
                        let line =
                            state.collapsible(&layering.snapshot, std::slice::from_ref(&hidden));
                        let over = vec![Over::Disk(layering.after.clone())];
                        let (changes, back) = (
                            vec![Change::PutSnapshot(hidden)],
                            vec![Change::PutSnapshot(snapshot.clone())],
                        );
                        (builder.layer(&[layering], changes, back), line, over)
                    }
                };
                let (builder, changes) = builder.collapse(&line, &over, job);
                builder.finish(changes)
            }
            [one] => {
                let other = state.disks.get(&one.disk()).map(|disk| disk.name.clone());
                let holder = format!("disk {}, which is linked to it", other.unwrap_or_default());
                return in_use(&disk, &snapshot, holder);
            }
            many => {
                let holder = format!("{} images that are laid over it", many.len());
                return in_use(&disk, &snapshot, holder);
            }
        };
        Ok((disk, snapshot, plan))
    }

    fn submit_roll_back(
        &mut self,
        id: SnapshotId,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let job = JobId::generate();
        let planned = {
            let state = self.shared.state.lock();
            find(&state, id).and_then(|snapshot| {
                let disk = whole_disk(&state, snapshot.disk)?;
                let plan = if is_elsewhere(&disk, &snapshot) {
                    bring_back(&state, &disk, &snapshot, job)
                } else if disk.format == ImageFormat::Raw
                    && snapshot.format.is_none_or(|format| format == ImageFormat::Raw)
                    && can_share(&disk)
                {
                    let exchange = exchange(&disk, &snapshot, job);
                    if state.is_mapped(disk.id) {
                        exchange.or(replace(&state, &disk, &snapshot, job))
                    } else {
                        exchange
                    }
                } else {
                    replace(&state, &disk, &snapshot, job)
                };
                Ok((disk, snapshot, plan))
            })
        };
        let (disk, snapshot, plan) = planned.map_err(|cause| self.refuse(cause, None))?;
        let name = format!("Roll disk {} back to snapshot {}", disk.name, snapshot.name);
        let kind = JobKind::Planned { purpose: Purpose::RollBack, disk: disk.id, makes: None };
        let affected = vec![affected(Element::Disk(disk.id), ElementEffect::ElementIntegrity)];
        self.submit_planned(job, (name, kind, affected), Some(plan), submission)
    }

    /// Where a snapshot is, and the pool to which that belongs.
    fn place_of(&self, state: &State, source: &Disk, snapshot: &DiskSnapshot) -> (PathBuf, PoolId) {
        let near = snapshot.path.parent().unwrap_or(Path::new("/")).to_path_buf();
        let found = pool_at(&self.shared.config, state, &near).map(|pool| pool.id);
        (near, found.unwrap_or_else(|| source.pool.clone()))
    }

    fn submit_exposure(
        &mut self,
        id: SnapshotId,
        name: String,
        (exposing, to): (Exposing, Option<(Expose, Option<u16>)>),
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let job = JobId::generate();
        let planned = {
            let state = self.shared.state.lock();
            find(&state, id).and_then(|snapshot| {
                let source = shared_disk(&state, snapshot.disk)?;
                if to.is_some() {
                    not_exposed(&state, &source, &snapshot)?;
                }
                // The disk comes where the snapshot is, wherever its own disk has gone.
                let (near, pool) = self.place_of(&state, &source, &snapshot);
                let can_share =
                    snapshot.parent.is_none() && !is_device(&snapshot.path) && shares_blocks(&near);
                let linked = exposing.linked || !can_share;
                let from = form(&snapshot, source.format);
                let format = if linked { ImageFormat::Qcow2 } else { from.format };
                let create = like(&source, &snapshot, name, (format, pool));
                let disk = kinds::plan_disk(&create, job, self.now(), &self.shared.config, &state)?;
                // A parent is named by its file's name alone.
                let path = disk.path.file_name().map(|name| near.join(name));
                let disk = Disk {
                    read_only: exposing.read_only,
                    parent: linked.then_some(snapshot.id),
                    path: path.unwrap_or_else(|| disk.path.clone()),
                    ..disk
                };
                Ok((source, snapshot, disk, (from, linked)))
            })
        };
        let (source, snapshot, disk, (from, linked)) =
            planned.map_err(|cause| self.refuse(cause, None))?;
        let exposed = to.map(|(to, lun)| {
            let unit = ExposeUnit { disk: disk.id, lun, read_only: exposing.read_only };
            Expose { units: vec![unit], ..to }
        });
        if let Some(to) = &exposed {
            let element = Element::Target(to.target.clone());
            let planned = self.plan_exposure(to, Some(disk.id));
            planned.map_err(|cause| self.refuse(cause, Some(&element)))?;
        }
        let to = Place::pool(&disk.path);
        let builder = Builder::default().claim(source.id, false).claim(disk.id, true);
        let builder = if linked {
            builder.overlay(&to, from, snapshot.size_bytes)
        } else {
            let bytes = (disk.format == ImageFormat::Raw).then_some(snapshot.size_bytes);
            builder
                .making(&to)
                .then(Action::Copy { from: from.place, to: to.clone(), bytes, full: false })
                .then(Action::Publish { place: to, identity: None })
        };
        let put = Change::PutDisk(Box::new(disk.clone()));
        let name =
            format!("Expose snapshot {}@{} as disk {}", source.name, snapshot.name, disk.name);
        let mut affected = vec![
            affected(Element::Disk(disk.id), ElementEffect::Create),
            affected(Element::Disk(source.id), ElementEffect::Other),
        ];
        let (purpose, plan) = match exposed {
            None => (Purpose::ExposeSnapshot, builder.finish(vec![put])),
            Some(to) => {
                let target = Element::Target(to.target.clone());
                affected.push(super::copying::affected(target, ElementEffect::Other));
                let text = snapshot.id.to_string();
                let record = StoredRecord { name: exposed_record(disk.id), text };
                let changes = vec![put, Change::PutRecord(record)];
                let to = Box::new(to);
                (Purpose::MapSnapshot, builder.finish_exposed(disk.id, changes, to))
            }
        };
        let kind = JobKind::Planned { purpose, disk: disk.id, makes: Some(Box::new(disk)) };
        self.submit_planned(job, (name, kind, affected), Some(plan), submission)
    }

    fn submit_detachment(
        &mut self,
        id: SnapshotId,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let job = JobId::generate();
        let planned = {
            let state = self.shared.state.lock();
            unread(&state, id).and_then(|(source, snapshot)| {
                if !state.over(id).is_empty() {
                    let holder = "an image that is laid over it".to_owned();
                    return in_use(&source, &snapshot, holder);
                }
                let from = form(&snapshot, source.format);
                let (near, pool) = self.place_of(&state, &source, &snapshot);
                let name = snapshot.name.clone();
                let create = like(&source, &snapshot, name, (from.format, pool));
                let disk = kinds::plan_disk(&create, job, self.now(), &self.shared.config, &state)?;
                // Clients find it where the snapshot was.
                let id = DiskId::from(id.uuid());
                let path = near.join(format!("{id}.{}", disk.format));
                let parent = snapshot.parent;
                Ok((source, snapshot, Disk { id, path, parent, ..disk }))
            })
        };
        let (source, snapshot, disk) = planned.map_err(|cause| self.refuse(cause, None))?;
        let (from, to) = (Place::pool(&snapshot.path), Place::pool(&disk.path));
        let bytes = (disk.format == ImageFormat::Raw).then_some(snapshot.size_bytes);
        let changes = vec![Change::PutDisk(Box::new(disk.clone())), Change::DeleteSnapshot(id)];
        let plan = Builder::default()
            .claim(source.id, false)
            .claim(disk.id, true)
            .making(&to)
            .then(Action::Copy { from: from.clone(), to: to.clone(), bytes, full: false })
            .then(Action::Publish { place: to, identity: None })
            .no_return()
            .then(Action::Apply { changes })
            .then(Action::Remove { place: from })
            .finish(Vec::new());
        let name = format!("Detach snapshot {} from disk {}", snapshot.name, source.name);
        let affected = vec![
            affected(Element::Disk(disk.id), ElementEffect::Create),
            affected(Element::Disk(source.id), ElementEffect::Other),
        ];
        let kind = JobKind::Planned {
            purpose: Purpose::DetachSnapshot,
            disk: disk.id,
            makes: Some(Box::new(disk)),
        };
        self.submit_planned(job, (name, kind, affected), Some(plan), submission)
    }
}

/// Snapshots that are copies which share blocks.
fn copy(mut builder: Builder, copied: Vec<(Disk, DiskSnapshot)>) -> Box<Plan> {
    let mut files = Vec::new();
    for (disk, snapshot) in &copied {
        let to = Place::pool(&snapshot.path);
        builder = builder.making(&to);
        files.push(Share { disk: disk.id, from: Place::pool(&disk.path), to });
    }
    let places: Vec<_> = files.iter().map(|share| share.to.clone()).collect();
    builder = builder.then(Action::Share { files, otherwise: None });
    for place in places {
        builder = builder.then(Action::Publish { place, identity: None });
    }
    let made = copied.into_iter().map(|(_, snapshot)| Change::PutSnapshot(snapshot));
    builder.finish(made.collect())
}

/// Snapshots over which nothing is laid go, with their files.
fn delete_files(mut builder: Builder, snapshots: &[DiskSnapshot]) -> Box<Plan> {
    let changes = snapshots.iter().map(|it| Change::DeleteSnapshot(it.id)).collect();
    builder = builder.then(Action::Apply { changes });
    let places: Vec<_> = snapshots.iter().map(|it| Place::pool(&it.path)).collect();
    for place in &places {
        builder = builder.undo(How::Delete { place: place.clone() });
    }
    builder = builder.no_return();
    for place in places {
        builder = builder.then(Action::Remove { place });
    }
    builder.finish(Vec::new())
}

/// The disk's file gets the blocks of the snapshot's, which are those that were written: one that owns all
/// its space takes the rest again, and is thin until it has it.
fn exchange(disk: &Disk, snapshot: &DiskSnapshot, job: JobId) -> Box<Plan> {
    let keep = Place::pool(directory(disk).join(format!("{job}.kept.raw")));
    let bytes = snapshot.size_bytes;
    let after = Disk { size_bytes: bytes, ..disk.clone() };
    let back = Disk { provisioning: Provisioning::Thin, ..after.clone() };
    let exchange = Action::RollBack {
        disk: disk.id,
        from: Place::pool(&snapshot.path),
        to: Place::pool(&disk.path),
        keep: keep.clone(),
        otherwise: None,
    };
    let builder = Builder::default()
        .claim(disk.id, true)
        .making(&keep)
        .then(exchange)
        .no_return()
        .then(Action::Apply { changes: vec![Change::PutDisk(Box::new(back))] })
        .then(Action::Discard { place: keep });
    if disk.provisioning == Provisioning::Thin {
        return builder.finish(Vec::new());
    }
    builder
        .then(Action::TakeSpace { place: Place::pool(&disk.path), bytes })
        .finish(vec![Change::PutDisk(Box::new(after))])
}

/// The disk gets another file, where it is now, with what an image holds that is not there.
fn bring_back(state: &State, disk: &Disk, snapshot: &DiskSnapshot, job: JobId) -> Box<Plan> {
    let file = format!("{}.{}.{}", disk.id, job.uuid().simple(), disk.format);
    let place = Place::pool(directory(disk).join(file));
    let bytes = snapshot.size_bytes;
    let after = Disk {
        size_bytes: bytes,
        path: place.path.clone(),
        parent: None,
        device: None,
        ..disk.clone()
    };
    let (from, to) = (form(snapshot, disk.format), Form { place, format: disk.format });
    let conversion = Conversion {
        from: from.clone(),
        to: to.clone(),
        bytes,
        block_bytes: disk.block_length.bytes(),
        full: disk.provisioning == Provisioning::Full,
    };
    let mut gone = swept(&state.needless(disk.parent), job);
    gone.push(Change::PutDebris(Debris::of_disk(&disk.path, job)));
    let put = |disk: &Disk| vec![Change::PutDisk(Box::new(disk.clone()))];
    let (changes, back) = (put(&after), put(disk));
    Builder::default()
        .claim(disk.id, true)
        .in_pool(&disk.pool)
        .making(&to.place)
        .then(Action::Convert(Box::new(conversion)))
        .then(Action::Compare { from: Some(from), of: to.clone(), bytes })
        .then(Action::Publish { place: to.place, identity: None })
        .then(Action::Switch { disks: vec![Switched { disk: after, over: false }], changes, back })
        .no_return()
        .finish(gone)
}

/// The disk gets another file: a copy of the snapshot's that shares its blocks, or an image that is
/// laid over it.
fn replace(state: &State, disk: &Disk, snapshot: &DiskSnapshot, job: JobId) -> Box<Plan> {
    let shares = disk.device.is_none() && shares_blocks(&directory(disk));
    if shares && disk.provisioning == Provisioning::Full {
        // What shares its blocks owns none of them.
        return bring_back(state, disk, snapshot, job);
    }
    let from = form(snapshot, disk.format);
    let builder = Builder::default().claim(disk.id, true);
    let size_bytes = snapshot.size_bytes;
    // One that lies over another itself would have a second image need that.
    let (builder, after) = if shares && snapshot.parent.is_none() {
        let file = format!("{}.{}.{}", disk.id, job.uuid().simple(), from.format);
        let to = Place::pool(directory(disk).join(file));
        let bytes = (from.format == ImageFormat::Raw).then_some(size_bytes);
        let after = Disk {
            size_bytes,
            path: to.path.clone(),
            format: from.format,
            parent: None,
            device: None,
            ..disk.clone()
        };
        let copy = Action::Copy { from: from.place, to: to.clone(), bytes, full: false };
        let builder = builder.making(&to).then(copy);
        (builder.then(Action::Publish { place: to, identity: None }), after)
    } else {
        let to = Place::pool(overlay_path(disk, job));
        let after = Disk {
            size_bytes,
            path: to.path.clone(),
            format: ImageFormat::Qcow2,
            parent: Some(snapshot.id),
            ..disk.clone()
        };
        (builder.overlay(&to, from, size_bytes), after)
    };
    // What the disk had goes, and what was there for that alone.
    let mut gone = match disk.parent {
        parent if parent == after.parent => Vec::new(),
        parent => swept(&state.needless(parent), job),
    };
    gone.push(Change::PutDebris(Debris::of_disk(&disk.path, job)));
    let put = |disk: &Disk| vec![Change::PutDisk(Box::new(disk.clone()))];
    let (changes, back) = (put(&after), put(disk));
    builder
        .then(Action::Switch { disks: vec![Switched { disk: after, over: false }], changes, back })
        .no_return()
        .finish(gone)
}
