//! Requests about snapshots: each becomes a job with a plan.

use std::path::PathBuf;

use super::Engine;
use super::copying::{Builder, affected, shared_disk, unmapped, whole_disk};
use super::core::Core;
use super::state::{Change, State};
use disk_image::ImageFormat;

use crate::catalogue::{Disk, DiskSnapshot, MAX_SNAPSHOTS, Provisioning, check_disk_name};
use crate::error::{Cause, RequestError};
use crate::id::{DiskId, JobId, SnapshotId};
use crate::job::{Element, ElementEffect, JobKind, Purpose, Submission};
use crate::kinds::{self, CreateDisk};
use crate::place::Place;
use crate::plan::{Action, How, Share};

/// A request for snapshots of disks, all at the same instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateSnapshots {
    /// The disks.
    pub disks: Vec<DiskId>,
    /// Name of each snapshot, unique among those of its disk.
    pub name: String,
}

impl Engine {
    /// Submits snapshots of disks at one instant, while initiators use them. The pools' file systems
    /// must share blocks between files; else the job fails with `NoReflinks`.
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

    /// Submits the deletion of a snapshot. Nothing else depends on it.
    ///
    /// # Errors
    /// `NotFound`, `DiskInUse` while a job works with it, `CouldNotStart`, `StoreNearlyFull`,
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

    /// Submits a disk with the data of a snapshot, which shares its blocks; the snapshot stays what it
    /// is.
    ///
    /// # Errors
    /// `NotFound`, `DiskInUse` while a job changes the snapshot's disk, `BadName`, `NameInUse`,
    /// `CouldNotStart`, `StoreNearlyFull`, `StoreUnavailable`, `ShuttingDown`.
    pub fn expose_snapshot(
        &self,
        snapshot: SnapshotId,
        name: String,
        read_only: bool,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared.request(move |core| core.submit_exposure(snapshot, name, read_only, submission))
    }

    /// Submits that a snapshot becomes a disk, with the identifier and the name that it has, and is a
    /// snapshot no more.
    ///
    /// # Errors
    /// `NotFound`, `DiskInUse` while a job works with the snapshot or changes its disk, `NameInUse`,
    /// `CouldNotStart`, `StoreNearlyFull`, `StoreUnavailable`, `ShuttingDown`.
    pub fn detach_snapshot(
        &self,
        snapshot: SnapshotId,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared.request(move |core| core.submit_detachment(snapshot, submission))
    }

    /// All snapshots in the order of their creation.
    #[must_use]
    pub fn snapshots(&self) -> Vec<DiskSnapshot> {
        let state = self.shared.state.lock();
        state.snapshots.values().map(|snapshot| DiskSnapshot::clone(snapshot)).collect()
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

fn find(state: &State, id: SnapshotId) -> Result<DiskSnapshot, Cause> {
    let found = state.snapshots.get(&id).map(|snapshot| DiskSnapshot::clone(snapshot));
    found.ok_or_else(|| Cause::NotFound { what: "snapshot".to_owned(), name: id.to_string() })
}

/// A snapshot that no job reads, with its disk.
fn unread(state: &State, id: SnapshotId) -> Result<(Disk, DiskSnapshot), Cause> {
    let snapshot = find(state, id)?;
    let disk = shared_disk(state, snapshot.disk)?;
    match state.reader(&snapshot.path) {
        Some(job) => Err(Cause::DiskInUse {
            disk: format!("{}@{}", disk.name, snapshot.name),
            holder: format!("job {job}"),
        }),
        None => Ok((disk, snapshot)),
    }
}

/// A disk with the data of a snapshot.
fn like(source: &Disk, snapshot: &DiskSnapshot, name: String) -> CreateDisk {
    CreateDisk {
        name,
        size_bytes: snapshot.size_bytes,
        block_length: source.block_length,
        provisioning: Provisioning::Thin,
        format: source.format,
        pool: Some(source.pool.clone()),
    }
}

fn directory(disk: &Disk) -> PathBuf {
    disk.path.parent().map(PathBuf::from).unwrap_or_default()
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
        let made = |disk: &Disk| {
            if state.snapshots_of(disk.id).any(|snapshot| snapshot.name == *name) {
                let name = format!("{}@{name}", disk.name);
                return Err(Cause::NameInUse { what: "snapshot".to_owned(), name });
            }
            if state.snapshots_of(disk.id).count() >= MAX_SNAPSHOTS {
                let what = format!("snapshots of disk {}", disk.name);
                return Err(Cause::LimitReached { what, limit: 512 });
            }
            let snapshot = SnapshotId::generate();
            Ok(DiskSnapshot {
                id: snapshot,
                name: name.clone(),
                disk: disk.id,
                size_bytes: disk.size_bytes,
                path: directory(disk).join(format!("{snapshot}.snapshot.raw")),
                created: self.now(),
                created_by: id,
            })
        };
        let mut planned = Vec::new();
        for disk in disks {
            let disk = shared_disk(&state, *disk)?;
            let snapshot = made(&disk)?;
            planned.push((disk, snapshot));
        }
        Ok(planned)
    }

    fn submit_snapshots(
        &mut self,
        request: &CreateSnapshots,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let id = JobId::generate();
        let element = request.disks.first().copied().map(Element::Disk);
        let planned = self.plan_snapshots(request, id);
        let planned = planned.map_err(|cause| self.refuse(cause, element.as_ref()))?;
        let mut builder = Builder::default();
        let mut files = Vec::new();
        for (disk, snapshot) in &planned {
            let to = Place::pool(&snapshot.path);
            builder = builder.claim(disk.id, false).making(&to);
            files.push(Share { disk: disk.id, from: Place::pool(&disk.path), to });
        }
        let places: Vec<_> = files.iter().map(|share| share.to.clone()).collect();
        builder = builder.then(Action::Share { files });
        for place in places {
            builder = builder.then(Action::Publish { place, identity: None });
        }
        let names: Vec<_> = planned.iter().map(|(disk, _)| disk.name.as_str()).collect();
        let name = format!("Take snapshot {} of {}", request.name, names.join(", "));
        let elements = planned.iter().map(|(disk, _)| Element::Disk(disk.id));
        let affected = elements.map(|it| affected(it, ElementEffect::Other)).collect();
        let disk = request.disks.first().copied().unwrap_or_else(DiskId::generate);
        let kind = JobKind::Planned { purpose: Purpose::CreateSnapshot, disk, makes: None };
        let made = planned.into_iter().map(|(_, snapshot)| Change::PutSnapshot(snapshot));
        let plan = builder.finish(made.collect());
        self.submit_planned(id, (name, kind, affected), Some(plan), submission)
    }

    fn submit_snapshot_deletion(
        &mut self,
        id: SnapshotId,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let planned = unread(&self.shared.state.lock(), id);
        let (disk, snapshot) = planned.map_err(|cause| self.refuse(cause, None))?;
        let place = Place::pool(&snapshot.path);
        let plan = Builder::default()
            .claim(disk.id, false)
            .then(Action::Apply { changes: vec![Change::DeleteSnapshot(id)] })
            .undo(How::Delete { place: place.clone() })
            .no_return()
            .then(Action::Remove { place })
            .finish(Vec::new());
        let name = format!("Delete snapshot {}@{}", disk.name, snapshot.name);
        let kind =
            JobKind::Planned { purpose: Purpose::DeleteSnapshot, disk: disk.id, makes: None };
        let affected = vec![affected(Element::Disk(disk.id), ElementEffect::Other)];
        self.submit_planned(JobId::generate(), (name, kind, affected), Some(plan), submission)
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
                if disk.format != ImageFormat::Raw {
                    // Tables of the disk as it was are in memory while it is open.
                    unmapped(&state, &disk)?;
                }
                Ok((disk, snapshot))
            })
        };
        let (disk, snapshot) = planned.map_err(|cause| self.refuse(cause, None))?;
        let keep = Place::pool(directory(&disk).join(format!("{job}.kept.raw")));
        let back = Disk { size_bytes: snapshot.size_bytes, ..disk.clone() };
        let exchange = Action::RollBack {
            disk: disk.id,
            from: Place::pool(&snapshot.path),
            to: Place::pool(&disk.path),
            keep: keep.clone(),
        };
        let plan = Builder::default()
            .claim(disk.id, true)
            .making(&keep)
            .then(exchange)
            .no_return()
            .then(Action::Apply { changes: vec![Change::PutDisk(Box::new(back))] })
            .then(Action::Discard { place: keep })
            .finish(Vec::new());
        let name = format!("Roll disk {} back to snapshot {}", disk.name, snapshot.name);
        let kind = JobKind::Planned { purpose: Purpose::RollBack, disk: disk.id, makes: None };
        let affected = vec![affected(Element::Disk(disk.id), ElementEffect::ElementIntegrity)];
        self.submit_planned(job, (name, kind, affected), Some(plan), submission)
    }

    fn submit_exposure(
        &mut self,
        id: SnapshotId,
        name: String,
        read_only: bool,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let job = JobId::generate();
        let planned = {
            let state = self.shared.state.lock();
            find(&state, id).and_then(|snapshot| {
                let source = shared_disk(&state, snapshot.disk)?;
                let create = like(&source, &snapshot, name);
                let disk = kinds::plan_disk(&create, job, self.now(), &self.shared.config, &state)?;
                Ok((source, snapshot, Disk { read_only, ..disk }))
            })
        };
        let (source, snapshot, disk) = planned.map_err(|cause| self.refuse(cause, None))?;
        let (from, to) = (Place::pool(&snapshot.path), Place::pool(&disk.path));
        let bytes = (disk.format == ImageFormat::Raw).then_some(snapshot.size_bytes);
        let plan = Builder::default()
            .claim(source.id, false)
            .claim(disk.id, true)
            .making(&to)
            .then(Action::Copy { from, to: to.clone(), bytes, full: false })
            .then(Action::Publish { place: to, identity: None })
            .finish(vec![Change::PutDisk(Box::new(disk.clone()))]);
        let name =
            format!("Expose snapshot {}@{} as disk {}", source.name, snapshot.name, disk.name);
        let affected = vec![
            affected(Element::Disk(disk.id), ElementEffect::Create),
            affected(Element::Disk(source.id), ElementEffect::Other),
        ];
        let kind = JobKind::Planned {
            purpose: Purpose::ExposeSnapshot,
            disk: disk.id,
            makes: Some(Box::new(disk)),
        };
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
                let create = like(&source, &snapshot, snapshot.name.clone());
                let disk = kinds::plan_disk(&create, job, self.now(), &self.shared.config, &state)?;
                // Clients find it where the snapshot was.
                let id = DiskId::from(id.uuid());
                let path = disk.path.with_file_name(format!("{id}.{}", disk.format));
                Ok((source, snapshot, Disk { id, path, ..disk }))
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

/// Disks and the snapshots that are made of them.
type Planned = Vec<(Disk, DiskSnapshot)>;
