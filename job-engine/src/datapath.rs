//! What jobs need of the data path: a moment of quiet, other sizes, and how busy it is.

use std::fmt;

use crate::id::DiskId;

/// The data path as jobs see it. Who opens an engine gives it one that does not answer before the
/// disks that are LUNs are open, or knows that none is.
pub trait DataPath: fmt::Debug + Send + Sync {
    /// Runs `work` once, while no command of any of these disks is being carried out: everything
    /// that was answered before is in their files, and nothing of what comes later. Disks that
    /// nobody has open are passed over.
    ///
    /// # Errors
    /// It stops, and `work` was not run: the job goes on at the next start.
    fn pause(&self, disks: &[DiskId], work: &mut dyn FnMut()) -> Result<(), String>;

    /// Gives a disk's unit another size, and tells sessions. Commands that were checked against the
    /// old one fail if they go beyond the new one. May be called inside of [`DataPath::pause`].
    ///
    /// # Errors
    /// Says why it could not.
    fn resize(&self, disk: DiskId, size_bytes: u64) -> Result<(), String>;

    /// Tells sessions that a disk has other data than before.
    fn medium_changed(&self, disk: DiskId);

    /// Commands that initiators have sent since the start.
    fn commands(&self) -> u64;
}

/// No data path: no disk is open.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoDataPath;

impl DataPath for NoDataPath {
    fn pause(&self, _disks: &[DiskId], work: &mut dyn FnMut()) -> Result<(), String> {
        work();
        Ok(())
    }

    fn resize(&self, _disk: DiskId, _size_bytes: u64) -> Result<(), String> {
        Ok(())
    }

    fn medium_changed(&self, _disk: DiskId) {}

    fn commands(&self) -> u64 {
        0
    }
}
