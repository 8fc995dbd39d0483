//! What jobs need of the data path: a moment of quiet, other sizes, and how busy it is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk_image::{Image, ImageError, ImageFormat, MirrorImage};
use serde::{Deserialize, Serialize};

use crate::catalogue::Disk;
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

    /// Has the units of disks use other images from one instant on: those in the files that the disks
    /// have now. Disks that nobody has open, and those that are in these files already, are passed
    /// over. Sessions are told of other data and another size.
    ///
    /// # Errors
    /// An image could not be opened: all units are as they were. Or it stops.
    fn switch(&self, disks: &[Switched]) -> Result<(), SwitchError>;

    /// Has every image that is open and laid over the one in `from` show the one in `to` instead,
    /// which has the same data. Those that are written name `to` in their files from now on. Says
    /// which files of these show `to` now.
    ///
    /// # Errors
    /// `to` cannot be opened. It stops.
    fn change_parent(
        &self,
        from: &Path,
        to: &Path,
        format: ImageFormat,
    ) -> Result<Vec<PathBuf>, SwitchError>;

    /// Has everything that is written to a disk go to `target` as well, from one instant on. None if
    /// nobody has the disk open.
    ///
    /// # Errors
    /// The disk is a LUN whose image cannot be opened. It stops.
    fn mirror(
        &self,
        _disk: DiskId,
        _target: Arc<dyn Image>,
    ) -> Result<Option<Box<dyn Mirrored>>, SwitchError> {
        Ok(None)
    }

    /// Tells sessions that a disk has other data than before.
    fn medium_changed(&self, disk: DiskId);

    /// Commands that initiators have sent since the start.
    fn commands(&self) -> u64;
}

/// A disk in use whose writes go to another image as well. When this is dropped they do no more, but
/// for those of a disk of which nobody knows whether it has moved ([`disk_image::Outcome`]).
pub trait Mirrored: fmt::Debug {
    /// The two images.
    fn image(&self) -> &Arc<MirrorImage>;

    /// Whether the disk is still used through them.
    fn is_current(&self) -> bool;

    /// Has the disk use the other image alone, from one instant on. It has moved there.
    fn switch(&self);
}

/// A disk that gets another image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Switched {
    /// As it is from now on.
    pub disk: Disk,
    /// The image is laid over the one that the disk had, so it has the same data; else it has others.
    pub over: bool,
}

/// Why images were not exchanged.
#[derive(Debug)]
pub enum SwitchError {
    /// The data path stops.
    Stopping(String),
    /// An image could not be opened.
    Image(ImageError),
}

impl From<ImageError> for SwitchError {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
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

    fn switch(&self, _disks: &[Switched]) -> Result<(), SwitchError> {
        Ok(())
    }

    fn change_parent(
        &self,
        _from: &Path,
        _to: &Path,
        _format: ImageFormat,
    ) -> Result<Vec<PathBuf>, SwitchError> {
        Ok(Vec::new())
    }

    fn medium_changed(&self, _disk: DiskId) {}

    fn commands(&self) -> u64 {
        0
    }
}
