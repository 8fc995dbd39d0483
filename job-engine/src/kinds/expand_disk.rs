//! Making a virtual disk larger, while it is in use.
//!
//! 1. record `ExpandAllocating`; 2. the file grows, and nobody sees it, nor that what a device below holds there is
//!    zeroed; 3. the disk has its new size in the
//!    catalogue, and then on the data path; 4. the job ends.

use std::time::Instant;

use disk_image::{
    ExtendOptions, Extender, ImageError, ImageErrorKind, ImageFormat, Preallocation, extend_image,
    undo_extension,
};

use super::Step;
use super::create_disk::MAX_SIZE_BYTES;
use super::delete_disk::{LOCK_INTERVAL, LOCK_PATIENCE};
use super::space::{PIECE_BYTES, Wanted};
use crate::catalogue::{Disk, Provisioning};
use crate::engine::{Change, Failure, IfEnding, JobContext};
use crate::error::Cause;
use crate::failpoint;

/// Checks a new size as far as that can be done at once.
pub(crate) fn check_growth(disk: &Disk, size_bytes: u64) -> Result<(), Cause> {
    let block = u64::from(disk.block_length.bytes());
    let nearest = size_bytes.min(MAX_SIZE_BYTES).next_multiple_of(block);
    if size_bytes <= disk.size_bytes {
        let reason = format!("the disk has {} bytes, and can only grow", disk.size_bytes);
        let nearest = disk.size_bytes.checked_add(block).filter(|size| *size <= MAX_SIZE_BYTES);
        return Err(Cause::BadSize { size: size_bytes, reason, nearest });
    }
    if nearest != size_bytes {
        let reason = if size_bytes > MAX_SIZE_BYTES {
            format!("the largest disk has {MAX_SIZE_BYTES} bytes")
        } else {
            format!("it is no multiple of the block length, {block} bytes")
        };
        return Err(Cause::BadSize { size: size_bytes, reason, nearest: Some(nearest) });
    }
    Ok(())
}

pub(super) fn run(
    context: &JobContext,
    disk: &Disk,
    size_bytes: u64,
    step: Step,
) -> Result<(), Failure> {
    if step == Step::Pending {
        if disk.takes_pool_space() {
            wanted(disk, size_bytes).reserve(context)?;
        }
        context.step(failpoint::EXPAND_ALLOCATING, Step::ExpandAllocating, Vec::new())?;
    }
    clear_device(context, disk, size_bytes)?;
    extend(context, disk, size_bytes, step != Step::Pending)?;
    failpoint::hit("expand.extended");
    let larger = Disk { size_bytes, ..disk.clone() };
    let effect = vec![Change::PutDisk(Box::new(larger))];
    Ok(context.complete(failpoint::EXPAND_COMPLETE, IfEnding::TurnBack, effect)?)
}

fn wanted(disk: &Disk, size_bytes: u64) -> Wanted<'_> {
    Wanted { disk, verb: "expand", bytes: size_bytes - disk.size_bytes }
}

/// What a device below the disk's image holds behind the disk was never its data, and would come to light:
/// an image shows its parent where nothing was written, as far as that goes when it is opened. It is zeroed,
/// not hidden in the image, since an unmapped block shows the parent again.
fn clear_device(context: &JobContext, disk: &Disk, size_bytes: u64) -> Result<(), Failure> {
    let Some((device, end)) = context.device_under(disk) else { return Ok(()) };
    if end >= size_bytes {
        return Ok(());
    }
    let options = ExtendOptions {
        from_bytes: end,
        to_bytes: size_bytes,
        preallocation: Preallocation::Sparse,
        resume: false,
    };
    let failed = |error: ImageError| Cause::from(&error);
    let mut extender = extend_image(device, ImageFormat::Raw, options, None).map_err(failed)?;
    loop {
        let progress = extender.progress();
        context.progress(progress.done, progress.total)?;
        if progress.is_complete() {
            break;
        }
        context.boundary()?;
        extender.step(PIECE_BYTES).map_err(failed)?;
        failpoint::hit("expand.piece");
    }
    Ok(extender.finish().map_err(failed)?)
}

fn extend(context: &JobContext, disk: &Disk, size_bytes: u64, resume: bool) -> Result<(), Failure> {
    context.boundary()?;
    let preallocation = match disk.provisioning {
        Provisioning::Thin => Preallocation::Sparse,
        Provisioning::Full => Preallocation::Full,
    };
    let options =
        ExtendOptions { from_bytes: disk.size_bytes, to_bytes: size_bytes, preallocation, resume };
    let wanted = wanted(disk, size_bytes);
    let failed = |error: ImageError| wanted.cause(&error);
    let mut extender = begin(context, disk, options)?.map_err(failed)?;
    wanted.take(context, &mut *extender, "expand.piece")?;
    extender.finish().map_err(failed)?;
    Ok(())
}

/// Nobody maps the disk while this job works on it, but the data path may just be letting go of it.
fn begin(
    context: &JobContext,
    disk: &Disk,
    options: ExtendOptions,
) -> Result<Result<Box<dyn Extender>, ImageError>, Failure> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        context.boundary()?;
        let live = context.shared.live_image(&disk.id);
        match extend_image(disk.path.as_path(), disk.format, options, live) {
            Err(error) if error.kind() == ImageErrorKind::InUse && Instant::now() < deadline => {
                std::thread::sleep(LOCK_INTERVAL);
            }
            result => return Ok(result),
        }
    }
}

/// What cannot be taken back now does no harm: it is not the disk's, and the next expansion begins
/// by taking it away.
pub(super) fn undo(disk: &Disk) -> (Vec<Change>, Option<Cause>) {
    let failed = match undo_extension(&disk.path, disk.format, disk.size_bytes) {
        Err(error) if error.kind() != ImageErrorKind::NotFound => {
            let path = disk.path.clone();
            Some(Cause::CleanupFailed { path, reason: error.to_string() })
        }
        Ok(()) | Err(_) => None,
    };
    (Vec::new(), failed)
}
