//! Snapshots of disks.

use std::os::unix::fs::MetadataExt as _;

use job_engine::{ChangedExtent, CreateSnapshots, DiskSnapshot, Exposing, SnapshotId, Submission};

use super::{Refusal, Result, Service, ServiceError};
use crate::api;

impl Service {
    /// All snapshots, or those of one disk.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]: the disk.
    pub fn snapshots(&self, disk: Option<&str>) -> Result<Vec<api::Snapshot>> {
        let disk = disk.map(|key| self.find_disk(key)).transpose()?.map(|disk| disk.id);
        let mut all = self.engine.snapshots();
        all.retain(|snapshot| disk.is_none_or(|disk| snapshot.disk == disk));
        let disks = self.engine.disks();
        let name = |it: &DiskSnapshot| {
            let disk = disks.iter().find(|disk| disk.id == it.disk);
            disk.map(|disk| (disk.name.clone(), disk.format)).unwrap_or_default()
        };
        let shown = |it: &DiskSnapshot| {
            let (name, format) = name(it);
            view(it, name, format, self.engine.visible_snapshot(it.parent))
        };
        Ok(all.iter().map(shown).collect())
    }

    /// A snapshot, as `DISK@NAME` or by its identifier.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn snapshot(&self, key: &str) -> Result<api::Snapshot> {
        let all = self.snapshots(None)?;
        let found = all.into_iter().find(|it| it.id == key || it.key() == key);
        found.ok_or_else(|| self.no_such_snapshot(key))
    }

    fn snapshot_id(&self, key: &str) -> Result<SnapshotId> {
        let found = self.snapshot(key)?;
        found.id.parse().map_err(|_| ServiceError::new(Refusal::Internal, "a bad identifier"))
    }

    /// Submits snapshots of disks, all at the same instant.
    ///
    /// # Errors
    /// Everything but [`Refusal::Internal`].
    pub fn create_snapshots(
        &self,
        request: api::CreateSnapshots,
        by: Submission,
    ) -> Result<api::Job> {
        let disks = request.disks.iter().map(|key| Ok(self.find_disk(key)?.id));
        let disks = disks.collect::<Result<Vec<_>>>()?;
        let request = CreateSnapshots { disks, name: request.name };
        let id = self.engine.create_snapshots(request, by)?;
        self.job_by_id(&id)
    }

    /// Submits the deletion of a snapshot.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Conflict`], [`Refusal::Unavailable`].
    pub fn delete_snapshot(&self, key: &str, by: Submission) -> Result<api::Job> {
        let id = self.engine.delete_snapshot(self.snapshot_id(key)?, by)?;
        self.job_by_id(&id)
    }

    /// Submits that a disk gets the data of one of its snapshots.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Conflict`], [`Refusal::Unavailable`].
    pub fn roll_back(&self, key: &str, by: Submission) -> Result<api::Job> {
        let id = self.engine.roll_back(self.snapshot_id(key)?, by)?;
        self.job_by_id(&id)
    }

    /// Submits a check of a snapshot.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Conflict`], [`Refusal::Unavailable`].
    pub fn check_snapshot(
        &self,
        key: &str,
        request: &api::CheckSnapshot,
        by: Submission,
    ) -> Result<api::Job> {
        let id = self.engine.check_snapshot(self.snapshot_id(key)?, request.checksums, by)?;
        self.job_by_id(&id)
    }

    /// What has changed from the snapshot `since` to the snapshot `until`: a page of it.
    ///
    /// # Errors
    /// [`Refusal::NotFound`]; [`Refusal::Invalid`] for snapshots of different disks.
    pub fn changes(&self, until: &str, since: &str, page: (u64, usize)) -> Result<api::Changes> {
        let newer = self.snapshot(until)?;
        let disk = self.find_disk(&newer.disk)?.id;
        self.changed(disk, Some(self.snapshot_id(until)?), since, page)
    }

    /// What has changed from the snapshot `since` to the disk as it is now.
    ///
    /// # Errors
    /// As [`Self::changes`].
    pub fn disk_changes(
        &self,
        disk: &str,
        since: &str,
        page: (u64, usize),
    ) -> Result<api::Changes> {
        self.changed(self.find_disk(disk)?.id, None, since, page)
    }

    fn changed(
        &self,
        disk: job_engine::DiskId,
        until: Option<SnapshotId>,
        since: &str,
        page: (u64, usize),
    ) -> Result<api::Changes> {
        let found = self.engine.changes(disk, until, self.snapshot_id(since)?, page)?;
        let extent = |it: &ChangedExtent| api::ChangedExtent {
            offset: it.offset,
            length: it.length,
            zeroes: it.zeroes,
        };
        Ok(api::Changes {
            size_bytes: found.size_bytes,
            extents: found.extents.iter().map(extent).collect(),
            next: found.next,
        })
    }

    /// Submits a disk with the data of a snapshot.
    ///
    /// # Errors
    /// Everything but [`Refusal::Internal`].
    pub fn expose_snapshot(
        &self,
        key: &str,
        request: api::ExposeSnapshot,
        by: Submission,
    ) -> Result<api::Job> {
        let api::ExposeSnapshot { name, read_only, linked } = request;
        let snapshot = self.snapshot_id(key)?;
        let how = Exposing { read_only, linked };
        let id = self.engine.expose_snapshot(snapshot, name, how, by)?;
        self.job_by_id(&id)
    }
}

fn view(
    snapshot: &DiskSnapshot,
    disk_name: String,
    format: job_engine::ImageFormat,
    parent: Option<SnapshotId>,
) -> api::Snapshot {
    let metadata = std::fs::metadata(&snapshot.path).ok();
    api::Snapshot {
        // st_blocks counts in 512 bytes, whatever the file system.
        allocated_bytes: metadata.map(|metadata| metadata.blocks() * 512),
        parent: parent.map(|parent| parent.to_string()),
        id: snapshot.id.to_string(),
        name: snapshot.name.clone(),
        disk: snapshot.disk.to_string(),
        disk_name,
        size_bytes: snapshot.size_bytes,
        path: snapshot.path.display().to_string(),
        format: snapshot.format.unwrap_or(format),
        created: snapshot.created,
        group: snapshot.created_by.to_string(),
    }
}
