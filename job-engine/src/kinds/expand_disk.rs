//! Making a virtual disk larger, while it is in use.
//!
//! 1. record `ExpandAllocating`; 2. the file grows, and nobody sees it; 3. one transaction gives the
//!    disk its new size and completes the job. The data path is told after that.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use disk_image::{
    ExtendOptions, ImageErrorKind, Preallocation, RawExtender, pool_space, undo_extension,
};

use super::Step;
use super::create_disk::{MAX_SIZE_BYTES, PIECE_BYTES};
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
        reserve(context, disk, size_bytes)?;
        context.step(failpoint::EXPAND_ALLOCATING, Step::ExpandAllocating, Vec::new())?;
    }
    extend(context, disk, size_bytes, step != Step::Pending)?;
    failpoint::hit("expand.extended");
    let larger = Disk { size_bytes, ..disk.clone() };
    let effect = vec![Change::PutDisk(Box::new(larger))];
    Ok(context.complete(failpoint::EXPAND_COMPLETE, IfEnding::TurnBack, effect)?)
}

fn directory(disk: &Disk) -> PathBuf {
    disk.path.parent().map(PathBuf::from).unwrap_or_default()
}

/// Compares the growth with what the pool has left beside what other jobs were promised.
fn reserve(context: &JobContext, disk: &Disk, size_bytes: u64) -> Result<(), Failure> {
    let place = directory(disk);
    let needed = size_bytes - disk.size_bytes;
    let space = pool_space(&place).map_err(|error| Cause::from(&error))?;
    let overcommit = context.shared.config.overcommit && disk.provisioning == Provisioning::Thin;
    // Under the lock until it is promised: two jobs must not get the same bytes.
    let state = context.shared.state.lock();
    let promised = state.reserved(&disk.pool, Some(context.id));
    let available = space.free.saturating_sub(promised);
    if needed > available && !overcommit {
        let what = format!("expand disk {}", disk.name);
        return Err(Cause::OutOfSpace { what, place, needed, available: Some(available) }.into());
    }
    if disk.provisioning == Provisioning::Full {
        context.live.reserved.store(needed, Ordering::Relaxed);
    }
    Ok(())
}

fn extend(context: &JobContext, disk: &Disk, size_bytes: u64, resume: bool) -> Result<(), Failure> {
    context.boundary()?;
    let preallocation = match disk.provisioning {
        Provisioning::Thin => Preallocation::Sparse,
        Provisioning::Full => Preallocation::Full,
    };
    let options =
        ExtendOptions { from_bytes: disk.size_bytes, to_bytes: size_bytes, preallocation, resume };
    let failed = |error: disk_image::ImageError| cause(disk, size_bytes, &error);
    let mut extender = RawExtender::begin(disk.path.as_path(), options).map_err(failed)?;
    loop {
        let progress = extender.progress();
        if disk.provisioning == Provisioning::Full {
            let left = progress.total.saturating_sub(progress.done);
            context.live.reserved.store(left, Ordering::Relaxed);
        }
        context.progress(progress.done, progress.total)?;
        if progress.is_complete() {
            break;
        }
        context.boundary()?;
        extender.step(PIECE_BYTES).map_err(failed)?;
        failpoint::hit("expand.piece");
    }
    extender.finish().map_err(failed)?;
    Ok(())
}

/// The cause behind a failed expansion; names what is free where space ran out.
fn cause(disk: &Disk, size_bytes: u64, error: &disk_image::ImageError) -> Cause {
    if error.kind() != ImageErrorKind::OutOfSpace {
        return Cause::from(error);
    }
    let place = directory(disk);
    Cause::OutOfSpace {
        what: format!("expand disk {}", disk.name),
        needed: size_bytes - disk.size_bytes,
        available: pool_space(&place).ok().map(|space| space.free),
        place,
    }
}

/// What cannot be taken back now does no harm: it is not the disk's, and the next expansion begins
/// by taking it away.
pub(super) fn undo(disk: &Disk) -> (Vec<Change>, Option<Cause>) {
    let failed = match undo_extension(&disk.path, disk.size_bytes) {
        Err(error) if error.kind() != ImageErrorKind::NotFound => {
            let path = disk.path.clone();
            Some(Cause::CleanupFailed { path, reason: error.to_string() })
        }
        Ok(()) | Err(_) => None,
    };
    (Vec::new(), failed)
}
