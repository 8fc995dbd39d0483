//! Disks that become smaller while they are used.
//!
//! First the catalogue says so: from the look at what goes on, no command gets there. Then the image
//! follows; one that could not has zeroes there.

use std::sync::Arc;
use std::time::Instant;

use disk_image::{
    Image, ImageErrorKind, ImageFormat, NamedFile, OpenOptions, first_data, first_used,
};

use super::Form;
use super::run::{LOCK_INTERVAL, LOCK_PATIENCE, Work};
use crate::catalogue::Disk;
use crate::engine::{Change, Failure};
use crate::error::Cause;
use crate::failpoint;
use crate::id::DiskId;
use crate::place::{Access, Place};

/// So much of what has space and may be zeroes is read while initiators wait.
const MOST_READ: u64 = 256 << 20;

/// Where the part that goes is looked at.
enum Tail {
    File(NamedFile),
    /// The image as the data path has it open, or as nobody has.
    Image(Arc<dyn Image>),
}

impl Tail {
    fn first_used(&self, from: u64) -> Result<Option<u64>, Cause> {
        let found = match self {
            Self::File(file) => first_data(file, from),
            Self::Image(image) => first_used(&**image, from, MOST_READ),
        };
        found.map_err(|error| Cause::from(&error))
    }
}

impl Work<'_> {
    /// Nothing may lie in the part that goes. From the look at it on no command gets there.
    pub(super) fn shrink(&self, disk: &Disk, to_bytes: u64) -> Result<(), Failure> {
        self.boundary()?;
        let mapped = self.context.is_mapped(disk.id);
        let tail = self.tail(disk, mapped)?;
        let look = || match tail.first_used(to_bytes)? {
            Some(at) if at < disk.size_bytes => {
                Err(Cause::TailInUse { disk: disk.name.clone(), first: at, size: to_bytes })
            }
            _ => Ok(()),
        };
        // Mostly nothing changes any more, and what was read once is in memory.
        look()?;
        let data_path = &self.context.shared.config.data_path;
        let mut result = Ok(());
        self.pause(&[disk.id], || {
            result = look().and_then(|()| {
                if !mapped {
                    return Ok(());
                }
                let resized = data_path.resize(disk.id, to_bytes);
                resized.map_err(|reason| Cause::CouldNotStart { reason })
            });
        })?;
        result?;
        drop(tail);
        failpoint::hit("plan.shrunk");
        let smaller = Disk { size_bytes: to_bytes, ..disk.clone() };
        let applied = self.apply(vec![Change::PutDisk(Box::new(smaller))]);
        if applied.is_err() && mapped {
            let back = data_path.resize(disk.id, disk.size_bytes);
            if let Err(reason) = back {
                tracing::error!(disk = disk.name, reason, "the disk's size is not what it was");
            }
        }
        applied
    }

    fn tail(&self, disk: &Disk, mapped: bool) -> Result<Tail, Failure> {
        let place = Place::pool(&disk.path);
        if disk.format != ImageFormat::Raw {
            let form = Form { place, format: disk.format };
            return Ok(Tail::Image(self.only_image(disk.id, &form, Some(disk.size_bytes))?));
        }
        let looked = || place.open(false, Access::Look).map_err(|error| Cause::from(&error));
        Ok(Tail::File(if mapped { looked()? } else { self.held(&place)? }))
    }

    /// The image of a disk whose tables have one owner: as the data path has it open, or opened for that.
    fn only_image(
        &self,
        disk: DiskId,
        of: &Form,
        size_bytes: Option<u64>,
    ) -> Result<Arc<dyn Image>, Failure> {
        let deadline = Instant::now() + LOCK_PATIENCE;
        let options = OpenOptions { size_bytes, ..OpenOptions::default() };
        loop {
            if let Some(image) = self.context.shared.live_image(&disk) {
                return Ok(image);
            }
            match disk_image::open_image(of.place.path.as_path(), of.format, &options) {
                Ok(image) => return Ok(image),
                Err(error)
                    if error.kind() == ImageErrorKind::InUse && Instant::now() < deadline =>
                {
                    std::thread::sleep(LOCK_INTERVAL);
                }
                Err(error) => return Err(Cause::from(&error).into()),
            }
        }
    }

    /// Has a disk's image end where the disk does.
    pub(super) fn cut(&self, disk: DiskId, of: &Form, bytes: u64) -> Result<(), Failure> {
        let image = self.only_image(disk, of, None)?;
        image.cut(bytes).and_then(|()| image.close()).map_err(|error| Cause::from(&error))?;
        failpoint::hit("plan.cut");
        Ok(())
    }

    pub(super) fn truncate(&self, place: &Place, bytes: u64) -> Result<(), Failure> {
        let file = place.open(false, Access::Share).map_err(|error| Cause::from(&error))?;
        if file.length().map_err(|error| Cause::from(&error))? > bytes {
            file.set_length(bytes).map_err(|error| Cause::from(&error))?;
            file.sync().map_err(|error| Cause::from(&error))?;
        }
        Ok(())
    }
}
