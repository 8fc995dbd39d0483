//! The tree that snapshots and disks are whose images lie over each other.
//!
//! An image's parent is always a snapshot's file. A snapshot that clients have deleted stays, hidden,
//! as long as an image is laid over it; one image alone is brought together with it.

use std::path::{Path, PathBuf};

use disk_image::{ImageFormat, is_device, shares_blocks};

use super::copying::{Builder, whole_disk};
use super::state::{Change, Debris, State};
use super::worker::JobContext;
use crate::catalogue::{Disk, DiskSnapshot, MAX_OVERLAYS};
use crate::datapath::Switched;
use crate::error::Cause;
use crate::id::{DiskId, JobId, SnapshotId};
use crate::place::Place;
use crate::plan::{Action, Child, Form, Plan};

/// Who is laid over a snapshot.
#[derive(Debug, Clone)]
pub(super) enum Over {
    Snapshot(DiskSnapshot),
    Disk(Disk),
}

impl Over {
    /// The disk that it belongs to.
    pub(super) fn disk(&self) -> DiskId {
        match self {
            Self::Snapshot(snapshot) => snapshot.disk,
            Self::Disk(disk) => disk.id,
        }
    }

    pub(super) fn child(&self) -> Child {
        let (path, is_disk) = match self {
            Self::Snapshot(snapshot) => (&snapshot.path, false),
            Self::Disk(disk) => (&disk.path, true),
        };
        Child { place: Place::pool(path), is_disk }
    }
}

impl State {
    /// Who is laid over a snapshot.
    pub(super) fn over(&self, snapshot: SnapshotId) -> Vec<Over> {
        let snapshots = self.snapshots.values().filter(|it| it.parent == Some(snapshot));
        let disks = self.disks.values().filter(|it| it.parent == Some(snapshot));
        let snapshots = snapshots.map(|it| Over::Snapshot(DiskSnapshot::clone(it)));
        snapshots.chain(disks.map(|it| Over::Disk(Disk::clone(it)))).collect()
    }

    /// A snapshot and those below it, the nearest first.
    pub(crate) fn line(&self, from: Option<SnapshotId>) -> Vec<DiskSnapshot> {
        let mut line = Vec::new();
        let mut next = from;
        // A line that bites its tail is damage, and must not hang anybody.
        while let Some(found) = next.and_then(|id| self.snapshots.get(&id))
            && line.len() <= self.snapshots.len()
        {
            next = found.parent;
            line.push(DiskSnapshot::clone(found));
        }
        line
    }

    /// The block device that a disk is on, or that images of others lie over which its own lies over: the link to
    /// it, which may lead nowhere at the moment.
    pub(super) fn device_below(&self, disk: &Disk) -> Option<PathBuf> {
        let lowest = self.line(disk.parent).pop().map_or_else(|| disk.path.clone(), |it| it.path);
        let is_lost = |path: &Path| path.is_symlink() && !path.exists();
        (is_device(&lowest) || is_lost(&lowest)).then_some(lowest)
    }

    /// Hidden snapshots that nobody needs once `parent` has lost the one image that is laid over it.
    pub(super) fn needless(&self, parent: Option<SnapshotId>) -> Vec<DiskSnapshot> {
        let line = self.line(parent);
        line.into_iter().take_while(|it| it.hidden && self.over(it.id).len() == 1).collect()
    }

    /// Hidden snapshots of a disk: they go with it.
    pub(crate) fn remains(&self, disk: DiskId) -> Vec<DiskSnapshot> {
        let all = self.snapshots.values().filter(|it| it.disk == disk && it.hidden);
        all.map(|it| DiskSnapshot::clone(it)).collect()
    }
}

impl JobContext {
    /// The block device that images lie over, one of which is the disk's, and the end of what may be theirs
    /// there: only what is behind all of them is nobody's.
    pub(crate) fn device_under(&self, disk: &Disk) -> Option<(PathBuf, u64)> {
        let state = self.shared.state.lock();
        disk.parent?;
        let sizes = state.line(disk.parent).into_iter().map(|it| it.size_bytes);
        let end = sizes.fold(disk.size_bytes, u64::max);
        Some((state.device_below(disk)?, end))
    }
}

/// What takes snapshots that nobody needs out of the catalogue, and their files away behind it.
pub(crate) fn swept(snapshots: &[DiskSnapshot], job: JobId) -> Vec<Change> {
    let changes = snapshots.iter().flat_map(|it| {
        [Change::DeleteSnapshot(it.id), Change::PutDebris(Debris::of_disk(&it.path, job))]
    });
    changes.collect()
}

pub(super) fn directory(disk: &Disk) -> PathBuf {
    disk.path.parent().map(PathBuf::from).unwrap_or_default()
}

/// Whether copies of a disk at one instant can share its blocks; else images are laid over it. So they
/// are where its own image is laid over another: a copy would be one more that needs that.
pub(super) fn can_share(disk: &Disk) -> bool {
    disk.parent.is_none() && disk.device.is_none() && shares_blocks(&directory(disk))
}

pub(super) fn form(snapshot: &DiskSnapshot, format: ImageFormat) -> Form {
    Form { place: Place::pool(&snapshot.path), format: snapshot.format.unwrap_or(format) }
}

/// A disk whose own file becomes a snapshot, and the new one that is laid over it.
pub(super) struct Layering {
    /// As it was.
    pub(super) before: Disk,
    /// As it is then.
    pub(super) after: Disk,
    pub(super) snapshot: DiskSnapshot,
}

impl Layering {
    /// # Errors
    /// `LimitReached`: too many images lie over each other.
    pub(super) fn of(
        state: &State,
        disk: Disk,
        snapshot: DiskSnapshot,
        job: JobId,
    ) -> Result<Self, Cause> {
        if state.line(disk.parent).len() >= MAX_OVERLAYS {
            let what = format!("images under disk {}, one over the other", disk.name);
            return Err(Cause::LimitReached { what, limit: MAX_OVERLAYS as u64 });
        }
        let snapshot = DiskSnapshot {
            path: disk.path.clone(),
            format: Some(disk.format),
            parent: disk.parent,
            ..snapshot
        };
        let after = Disk {
            path: overlay_path(&disk, job),
            format: ImageFormat::Qcow2,
            parent: Some(snapshot.id),
            ..disk.clone()
        };
        Ok(Self { before: disk, after, snapshot })
    }

    /// The same with a snapshot that no client sees.
    pub(super) fn hidden(
        state: &State,
        disk: Disk,
        job: JobId,
        now: jiff::Timestamp,
    ) -> Result<Self, Cause> {
        let snapshot = DiskSnapshot {
            id: SnapshotId::generate(),
            name: String::new(),
            disk: disk.id,
            size_bytes: disk.size_bytes,
            path: PathBuf::new(),
            format: None,
            parent: None,
            hidden: true,
            created: now,
            created_by: job,
        };
        Self::of(state, disk, snapshot, job)
    }
}

/// A disk that is used, held at one instant while it is read: where the file system shares no blocks, or
/// would take long to do that.
pub(super) struct Frozen {
    /// Its blocks are shared if that is done in no time.
    can_share: bool,
    layering: Layering,
    line: Vec<DiskSnapshot>,
}

impl Frozen {
    /// None for a disk that nobody uses.
    ///
    /// # Errors
    /// `DiskInUse` while another job works on it; `LimitReached`.
    pub(super) fn of(
        state: &State,
        disk: &Disk,
        job: JobId,
        now: jiff::Timestamp,
    ) -> Result<Option<Self>, Cause> {
        if !state.is_mapped(disk.id) {
            return Ok(None);
        }
        let can_share = can_share(disk);
        let disk = whole_disk(state, disk.id)?;
        let layering = Layering::hidden(state, disk, job, now)?;
        let line = state.collapsible(&layering.snapshot, &[]);
        Ok(Some(Self { can_share, layering, line }))
    }
}

/// The plan that `build` makes for a disk that is frozen or not: for one in use both, if its blocks can
/// be shared.
pub(super) fn frozen_or_shared(
    frozen: Option<&Frozen>,
    build: impl Fn(Option<&Frozen>) -> Box<Plan>,
) -> Box<Plan> {
    match frozen {
        Some(Frozen { can_share: true, .. }) => build(None).or(build(frozen)),
        _ => build(frozen),
    }
}

impl Builder {
    /// From here on the disk's own file stays as it is.
    pub(super) fn freeze(self, frozen: &Frozen) -> Self {
        self.layer(std::slice::from_ref(&frozen.layering), Vec::new(), Vec::new())
    }

    /// Nobody reads that file any more: what earlier ones have left is brought together with it.
    pub(super) fn thaw(self, frozen: &Frozen, job: JobId) -> (Self, Vec<Change>) {
        let over = [Over::Disk(frozen.layering.after.clone())];
        self.collapse(&frozen.line, &over, job)
    }
}

/// The file of an image that is laid over something for a disk: never one that there is.
pub(super) fn overlay_path(disk: &Disk, job: JobId) -> PathBuf {
    directory(disk).join(format!("{}.{}.qcow2", disk.id, job.uuid().simple()))
}

impl Builder {
    /// An image under its name that is laid over another one.
    pub(super) fn overlay(self, to: &Place, parent: Form, bytes: u64) -> Self {
        self.making(to)
            .then(Action::Overlay { to: to.clone(), parent, bytes })
            .then(Action::Publish { place: to.clone(), identity: None })
    }

    /// Disks get images over their own at one instant; with it come changes of the catalogue, and how
    /// it was before those.
    pub(super) fn layer(
        mut self,
        layerings: &[Layering],
        mut changes: Vec<Change>,
        mut back: Vec<Change>,
    ) -> Self {
        let mut disks = Vec::new();
        for Layering { before, after, snapshot } in layerings {
            let parent = form(snapshot, before.format);
            self = self.overlay(&Place::pool(&after.path), parent, after.size_bytes);
            disks.push(Switched { disk: after.clone(), over: true });
            changes.push(Change::PutDisk(Box::new(after.clone())));
            changes.push(Change::PutSnapshot(snapshot.clone()));
            back.push(Change::PutDisk(Box::new(before.clone())));
            back.push(Change::DeleteSnapshot(snapshot.id));
        }
        self.then(Action::Switch { disks, changes, back })
    }

    /// Brings a snapshot, and the hidden ones right below it over which nothing else is laid, into the
    /// lowest of them: `line`, from the top. Says what belongs into the catalogue then: the topmost
    /// has the file of the lowest.
    pub(super) fn collapse(
        self,
        line: &[DiskSnapshot],
        over: &[Over],
        job: JobId,
    ) -> (Self, Vec<Change>) {
        let (Some(top), Some(base)) = (line.first(), line.last()) else {
            return (self, Vec::new());
        };
        if top.id == base.id {
            return (self, Vec::new());
        }
        let (from, into) = (form(top, ImageFormat::Qcow2), form(base, ImageFormat::Qcow2));
        let merged = DiskSnapshot {
            path: base.path.clone(),
            format: base.format,
            parent: base.parent,
            ..top.clone()
        };
        let gone = line.iter().skip(1).map(|it| Change::DeleteSnapshot(it.id));
        let files = line.iter().rev().skip(1);
        let files = files.map(|it| Change::PutDebris(Debris::of_disk(&it.path, job)));
        let changes = std::iter::once(Change::PutSnapshot(merged)).chain(gone).chain(files);
        let changes = changes.collect();
        let children = over.iter().map(Over::child).collect();
        let builder = self
            .then(Action::Merge { from: from.clone(), into: into.clone(), bytes: top.size_bytes })
            .no_return()
            .then(Action::Rebase { children, from: from.place, to: into });
        (builder, changes)
    }
}

impl State {
    /// The line that [`Builder::collapse`] takes: `top`, `below` of which it is known that nothing else
    /// is laid over them, and what is hidden further down.
    pub(super) fn collapsible(
        &self,
        top: &DiskSnapshot,
        below: &[DiskSnapshot],
    ) -> Vec<DiskSnapshot> {
        let mut line = vec![top.clone()];
        line.extend_from_slice(below);
        let next = line.last().and_then(|last| last.parent);
        line.extend(self.needless(next));
        line
    }
}
