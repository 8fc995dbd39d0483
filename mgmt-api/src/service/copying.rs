//! Copies of disks and files, and smaller disks.

use std::path::PathBuf;

use job_engine::{BlockLength, Checks, CloneDisk, ImportDisk, MoveDisk, PoolId, Submission};

use super::{Refusal, Result, Service, ServiceError};
use crate::api;

impl Service {
    /// Submits a full copy of a disk.
    ///
    /// # Errors
    /// Everything but [`Refusal::Internal`].
    pub fn clone_disk(
        &self,
        key: &str,
        request: api::CloneDisk,
        by: Submission,
    ) -> Result<api::Job> {
        let source = self.find_disk(key)?.id;
        let api::CloneDisk { name, provisioning, format, pool } = request;
        let pool = pool.as_deref().map(PoolId::parse);
        let request = CloneDisk { source, name, provisioning, format, pool };
        let id = self.engine.clone_disk(request, by)?;
        self.job_by_id(&id)
    }

    /// Submits the import of an image.
    ///
    /// # Errors
    /// Everything but [`Refusal::Internal`].
    pub fn import_disk(&self, request: api::ImportDisk, by: Submission) -> Result<api::Job> {
        let block_length = request.block_length.map(BlockLength::try_from).transpose();
        let block_length =
            block_length.map_err(|reason| ServiceError::new(Refusal::Invalid, reason))?;
        let request = ImportDisk {
            path: PathBuf::from(request.path),
            name: request.name,
            in_place: request.in_place,
            block_length: block_length.unwrap_or_default(),
            provisioning: request.provisioning.unwrap_or_default(),
            verify: request.verify,
            format: request.format,
            to_format: request.to_format,
            pool: request.pool.as_deref().map(PoolId::parse),
        };
        let id = self.engine.import_disk(request, by)?;
        self.job_by_id(&id)
    }

    /// Submits a copy of a disk as an image in a file.
    ///
    /// # Errors
    /// Everything but [`Refusal::Internal`].
    pub fn export_disk(
        &self,
        key: &str,
        request: api::ExportDisk,
        by: Submission,
    ) -> Result<api::Job> {
        let disk = self.find_disk(key)?.id;
        let path = PathBuf::from(request.path);
        let id = self.engine.export_disk(disk, path, request.format, by)?;
        self.job_by_id(&id)
    }

    /// Submits that a disk gets another format.
    ///
    /// # Errors
    /// Everything but [`Refusal::Internal`].
    pub fn convert_disk(
        &self,
        key: &str,
        request: &api::ConvertDisk,
        by: Submission,
    ) -> Result<api::Job> {
        let disk = self.find_disk(key)?.id;
        let id = self.engine.convert_disk(disk, request.format, request.provisioning, by)?;
        self.job_by_id(&id)
    }

    /// Submits that a disk comes into another pool.
    ///
    /// # Errors
    /// Everything but [`Refusal::Internal`].
    pub fn move_disk(
        &self,
        key: &str,
        request: &api::MoveDisk,
        by: Submission,
    ) -> Result<api::Job> {
        let disk = self.find_disk(key)?.id;
        let api::MoveDisk { pool, format, provisioning } = request;
        let (pool, format) = (Some(PoolId::parse(pool)), *format);
        let request = MoveDisk { disk, pool, format, provisioning: *provisioning };
        let id = self.engine.move_disk(request, by)?;
        self.job_by_id(&id)
    }

    /// Submits that a disk gives back the space that it does not need.
    ///
    /// # Errors
    /// Everything but [`Refusal::Internal`].
    pub fn compact_disk(&self, key: &str, by: Submission) -> Result<api::Job> {
        let disk = self.find_disk(key)?.id;
        let id = self.engine.compact_disk(disk, by)?;
        self.job_by_id(&id)
    }

    /// Submits a check of a disk.
    ///
    /// # Errors
    /// Everything but [`Refusal::Internal`].
    pub fn check_disk(
        &self,
        key: &str,
        request: &api::CheckDisk,
        by: Submission,
    ) -> Result<api::Job> {
        let disk = self.find_disk(key)?.id;
        let api::CheckDisk { repair, checksums } = *request;
        let id = self.engine.check_disk_with(disk, Checks { repair, checksums }, by)?;
        self.job_by_id(&id)
    }

    /// Submits that a disk becomes smaller.
    ///
    /// # Errors
    /// Everything but [`Refusal::Internal`].
    pub fn shrink_disk(
        &self,
        key: &str,
        request: &api::ExpandDisk,
        by: Submission,
    ) -> Result<api::Job> {
        let disk = self.find_disk(key)?.id;
        let id = self.engine.shrink_disk(disk, request.size_bytes, by)?;
        self.job_by_id(&id)
    }

    /// Submits that a disk takes all its space, or no more than it needs.
    ///
    /// # Errors
    /// Everything but [`Refusal::Internal`].
    pub fn provision_disk(
        &self,
        key: &str,
        request: &api::ProvisionDisk,
        by: Submission,
    ) -> Result<api::Job> {
        let disk = self.find_disk(key)?.id;
        let id = self.engine.provision_disk(disk, request.provisioning, by)?;
        self.job_by_id(&id)
    }

    /// Submits the deletion of a disk whose data are overwritten before.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Conflict`], [`Refusal::Unavailable`].
    pub fn overwrite_disk(&self, key: &str, by: Submission) -> Result<api::Job> {
        let disk = self.find_disk(key)?.id;
        let id = self.engine.overwrite_disk(disk, by)?;
        self.job_by_id(&id)
    }
}
