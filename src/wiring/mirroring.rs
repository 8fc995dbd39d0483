//! Units whose writes go to two images, while their disk is brought into another file.

use std::sync::Arc;

use disk_image::{
    AtomicWrites, Image, ImageError, ImageErrorKind, MirrorImage, Operation, Outcome, SwitchImage,
};
use job_engine::{DiskId, Mirrored};
use target_core::LogicalUnit;

use super::Exposure;

/// A unit that writes to two images.
struct Mirroring {
    exposure: Arc<Exposure>,
    disk: DiskId,
    /// It stays open meanwhile, whatever happens to its LUNs.
    unit: Arc<LogicalUnit>,
    front: Arc<dyn Image>,
    mirror: Arc<MirrorImage>,
}

impl std::fmt::Debug for Mirroring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirroring").field("disk", &self.disk).finish_non_exhaustive()
    }
}

impl Exposure {
    /// Has everything that is written to a disk go to `target` as well.
    pub(super) fn mirror(
        self: &Arc<Self>,
        disk: DiskId,
        target: Arc<dyn Image>,
    ) -> Result<Option<Box<dyn Mirrored>>, ImageError> {
        let _opening = self.opening.lock();
        let Some(unit) = self.open_unit(disk) else { return Ok(None) };
        let Some(front) = unit.image().cloned() else {
            let path = self.disk(disk).map(|disk| disk.path.clone()).unwrap_or_default();
            let error = ImageError::new(ImageErrorKind::NotFound, Operation::Open, path);
            return Err(error.because("the disk is not ready"));
        };
        let before = current(&front).ok_or_else(|| {
            ImageError::new(ImageErrorKind::Unsupported, Operation::Open, front.path())
        })?;
        let mirror = Arc::new(MirrorImage::new(before, target));
        let both: Arc<dyn Image> = mirror.clone();
        put(&unit, &front, &both);
        let exposure = self.clone();
        Ok(Some(Box::new(Mirroring { exposure, disk, unit, front, mirror })))
    }
}

fn current(front: &Arc<dyn Image>) -> Option<Arc<dyn Image>> {
    front.switch().map(SwitchImage::current)
}

/// Puts an image into its place while no command is inside of the unit.
fn put(unit: &Arc<LogicalUnit>, front: &Arc<dyn Image>, image: &Arc<dyn Image>) {
    let begin = std::time::Instant::now();
    let mut before = None;
    target_core::pause(std::slice::from_ref(unit), &mut || {
        before = front.switch().map(|front| front.set(image.clone()));
    });
    // What it has to close, it closes while commands go on.
    drop(before);
    let microseconds = begin.elapsed().as_micros();
    tracing::info!(microseconds, "initiators waited for another image");
}

impl Mirroring {
    /// Uses one of the two alone, unless that is done.
    fn end(&self, image: &Arc<dyn Image>) {
        let _opening = self.exposure.opening.lock();
        if !self.is_in_place() {
            return;
        }
        let (node, now) = (&self.exposure.node, image.atomic_writes());
        let AtomicWrites { max_length, .. } = self.mirror.atomic_writes();
        // What is promised is always kept: it becomes less before, and more behind.
        if now.max_length < max_length {
            node.set_atomic_writes(&self.unit, now);
        }
        put(&self.unit, &self.front, image);
        node.set_atomic_writes(&self.unit, now);
    }

    fn is_in_place(&self) -> bool {
        let current = current(&self.front);
        current.is_some_and(|it| std::ptr::addr_eq(Arc::as_ptr(&it), Arc::as_ptr(&self.mirror)))
    }
}

impl Mirrored for Mirroring {
    fn image(&self) -> &Arc<MirrorImage> {
        &self.mirror
    }

    fn is_current(&self) -> bool {
        let unit = self.exposure.open_unit(self.disk);
        self.is_in_place() && unit.is_some_and(|unit| Arc::ptr_eq(&unit, &self.unit))
    }

    fn switch(&self) {
        self.end(self.mirror.target());
    }
}

impl Drop for Mirroring {
    fn drop(&mut self) {
        // Whoever waits for the word goes on.
        self.mirror.decide(Outcome::Kept);
        match self.mirror.outcome() {
            Some(Outcome::Moved) => self.end(self.mirror.target()),
            Some(Outcome::Kept) => self.end(self.mirror.source()),
            Some(Outcome::Unknown) | None => {}
        }
    }
}
