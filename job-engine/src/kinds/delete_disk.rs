//! Deleting a virtual disk.
//!
//! 1. look whether it can be done; 2. one transaction takes the disk out of the catalogue and
//!    records `DeleteUnlinking`; 3. the file is removed; 4. record that the job is done.

use std::path::Path;
use std::time::{Duration, Instant};

use disk_image::{ImageErrorKind, ImageFile, MissingFile, delete, pool_space};

use super::Step;
use crate::catalogue::Disk;
use crate::engine::{Change, Failure, IfEnding, JobContext, swept};
use crate::error::Cause;
use crate::failpoint;

/// How long the data path may take to let go of a disk that has just been unmapped.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(3);
pub(super) const LOCK_INTERVAL: Duration = Duration::from_millis(50);

pub(super) fn run(context: &JobContext, disk: &Disk, step: Step) -> Result<(), Failure> {
    // The lock is held as long as there is a name: nobody opens a disk that is being deleted.
    let image = lock(context, disk)?;
    if step == Step::Pending {
        let out = vec![Change::DeleteDisk(disk.id)];
        context.step(failpoint::DELETE_UNLINKING, Step::DeleteUnlinking, out)?;
    }
    context.boundary()?;
    delete(&disk.path, MissingFile::Tolerate).map_err(|error| Cause::from(&error))?;
    failpoint::hit("delete.unlinked");
    // Whoever sees the job completed may take a device in again.
    drop(image);
    // The images that its own was laid over go with it.
    let remains = context.shared.state.lock().remains(disk.id);
    let gone = swept(&remains, context.id);
    Ok(context.complete(failpoint::DELETE_COMPLETE, IfEnding::GoOn, gone)?)
}

/// Opens the image for itself alone; `None` if its file is gone from a directory that is there.
fn lock(context: &JobContext, disk: &Disk) -> Result<Option<ImageFile>, Failure> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        context.boundary()?;
        let directory = disk.path.parent().unwrap_or(Path::new("."));
        // A file system that is not mounted would bring the file back one day.
        pool_space(directory).map_err(|error| Cause::from(&error))?;
        context.find_pool_at(directory)?;
        let error = match ImageFile::open(disk.path.as_path(), false) {
            Ok(image) => return Ok(Some(image)),
            Err(error) => error,
        };
        if error.kind() == ImageErrorKind::NotFound {
            return Ok(None);
        }
        if error.kind() != ImageErrorKind::InUse || Instant::now() >= deadline {
            return Err(Cause::from(&error).into());
        }
        std::thread::sleep(LOCK_INTERVAL);
    }
}

/// The disk comes back if its file is still there; else there is nothing to bring back.
pub(super) fn undo(disk: &Disk) -> (Vec<Change>, Option<Cause>) {
    let gone = std::fs::symlink_metadata(&disk.path)
        .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    if gone { (Vec::new(), None) } else { (vec![Change::PutDisk(Box::new(disk.clone()))], None) }
}
