//! Snapshots of disks.

use job_engine::{CreateSnapshots, DiskSnapshot, Submission};

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
            disk.map(|disk| disk.name.clone()).unwrap_or_default()
        };
        Ok(all.iter().map(|it| view(it, name(it))).collect())
    }

    /// A snapshot, as `DISK@NAME` or by its identifier.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn snapshot(&self, key: &str) -> Result<api::Snapshot> {
        let all = self.snapshots(None)?;
        let found = all.into_iter().find(|it| it.id == key || it.key() == key);
        found.ok_or_else(|| {
            let message = format!("there is no snapshot `{key}`: DISK@NAME is wanted");
            ServiceError::new(Refusal::NotFound, message)
        })
    }

    fn snapshot_id(&self, key: &str) -> Result<job_engine::SnapshotId> {
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
        let api::ExposeSnapshot { name, read_only } = request;
        let snapshot = self.snapshot_id(key)?;
        let id = self.engine.expose_snapshot(snapshot, name, read_only, by)?;
        self.job_by_id(&id)
    }
}

fn view(snapshot: &DiskSnapshot, disk_name: String) -> api::Snapshot {
    api::Snapshot {
        id: snapshot.id.to_string(),
        name: snapshot.name.clone(),
        disk: snapshot.disk.to_string(),
        disk_name,
        size_bytes: snapshot.size_bytes,
        path: snapshot.path.display().to_string(),
        created: snapshot.created,
        group: snapshot.created_by.to_string(),
    }
}
