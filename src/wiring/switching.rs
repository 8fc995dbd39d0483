//! Other images for units that are used: snapshots and roll backs of disks whose files lie over each
//! other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk_image::{
    Image, ImageError, ImageErrorKind, ImageFormat, OpenOptions, Operation, SwitchImage,
    open_image, open_over,
};
use job_engine::Switched;
use target_core::LogicalUnit;

use super::Exposure;

/// A unit that gets another image.
struct Next {
    unit: Arc<LogicalUnit>,
    front: Arc<dyn Image>,
    image: Arc<dyn Image>,
    size_bytes: u64,
    /// It has the same data as the one before.
    over: bool,
}

impl Exposure {
    /// Has units use the files that their disks have now, from one instant on.
    pub(super) fn switch(&self, disks: &[Switched]) -> Result<(), ImageError> {
        // A unit that is being opened now could get the file that its disk had.
        let _opening = self.opening.lock();
        let mut all = Vec::new();
        for Switched { disk, over } in disks {
            let Some(unit) = self.open_unit(disk.id) else { continue };
            let Some(front) = unit.image().cloned() else { continue };
            let before = front.switch().ok_or_else(|| {
                ImageError::new(ImageErrorKind::Unsupported, Operation::Open, front.path())
            })?;
            let before = before.current();
            if *before.path() == *disk.path {
                continue;
            }
            let size_bytes = disk.size_bytes;
            let options = OpenOptions {
                size_bytes: Some(size_bytes),
                direct_io: self.direct_io(&disk.pool),
                ..OpenOptions::default()
            };
            let image = if *over {
                open_over(disk.path.as_path(), disk.format, &options, before)?
            } else {
                open_image(disk.path.as_path(), disk.format, &options)?
            };
            all.push(Next { unit, front, image, size_bytes, over: *over });
        }
        let units: Vec<_> = all.iter().map(|next| next.unit.clone()).collect();
        let mut before = Vec::with_capacity(all.len());
        let begin = std::time::Instant::now();
        target_core::pause(&units, &mut || {
            for next in &all {
                before.extend(next.front.switch().map(|front| front.set(next.image.clone())));
                if !next.over
                    && let Err(error) = self.node.resize_unit(&next.unit, next.size_bytes)
                {
                    tracing::error!(%error, "the disk's size is not that of its image");
                }
            }
        });
        let microseconds = begin.elapsed().as_micros();
        tracing::info!(microseconds, disks = units.len(), "initiators waited for other images");
        for (next, before) in all.iter().zip(before) {
            if !next.over {
                self.node.medium_changed(&next.unit);
            } else if let Err(error) = before.retire() {
                // The disk's own flush says so too.
                tracing::error!(%error, "the file of a snapshot is not durable yet");
            }
        }
        Ok(())
    }

    /// Has open images that show the one in `from` show that in `to`.
    pub(super) fn change_parent(
        &self,
        from: &Path,
        to: &Path,
        format: ImageFormat,
    ) -> Result<Vec<PathBuf>, ImageError> {
        let _opening = self.opening.lock();
        let name = to.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let mut fresh: Option<Arc<dyn Image>> = None;
        let mut changed = Vec::new();
        for front in self.live_units().iter().filter_map(|(_, unit)| unit.image()) {
            let Some(top) = front.switch().map(SwitchImage::current) else { continue };
            let mut child = top.clone();
            while let Some(parent) = child.parent() {
                let is_top = Arc::ptr_eq(&child, &top);
                if is_same(&parent.path(), to) {
                    // An earlier run did it, or the disk was opened since.
                    changed.push(child.path().to_path_buf());
                    break;
                }
                if is_same(&parent.path(), from) {
                    if fresh.is_none() {
                        fresh = Some(open_image(to, format, &OpenOptions::read_only())?);
                    }
                    let Some(new) = fresh.clone() else { break };
                    if is_top {
                        child.rebase(name, format, new)?;
                    } else {
                        child.set_parent(new)?;
                    }
                    changed.push(child.path().to_path_buf());
                    break;
                }
                child = parent;
            }
        }
        Ok(changed)
    }
}

/// Files of one pool: their names alone differ.
fn is_same(one: &Path, other: &Path) -> bool {
    one == other
        || (one.file_name() == other.file_name()
            && matches!(
                (one.canonicalize(), other.canonicalize()),
                (Ok(one), Ok(other)) if one == other
            ))
}
