//! Taking space of a pool: what jobs that make files longer have in common.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use disk_image::{Creator, Extender, ImageError, ImageErrorKind, Progress, pool_space};

use crate::catalogue::{Disk, Provisioning};
use crate::engine::{Failure, JobContext, Wish};
use crate::error::Cause;
use crate::failpoint;

/// Allocated between two looks at what clients want.
pub(super) const PIECE_BYTES: u64 = 256 << 20;

/// Something that grows in steps.
pub(super) trait Growth {
    fn progress(&self) -> Progress;
    fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError>;
}

impl Growth for dyn Creator {
    fn progress(&self) -> Progress {
        Creator::progress(self)
    }

    fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError> {
        Creator::step(self, max_bytes)
    }
}

impl Growth for dyn Extender {
    fn progress(&self) -> Progress {
        Extender::progress(self)
    }

    fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError> {
        Extender::step(self, max_bytes)
    }
}

/// Space that a job wants for a disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) disk: &'a Disk,
    /// What it is for, as in `cannot create disk …`.
    pub(super) verb: &'static str,
    pub(super) bytes: u64,
}

impl Wanted<'_> {
    fn what(&self) -> String {
        format!("{} disk {}", self.verb, self.disk.name)
    }

    fn directory(&self) -> PathBuf {
        self.disk.path.parent().map(PathBuf::from).unwrap_or_default()
    }

    /// Compares it with what the pool has left beside what other jobs were promised.
    pub(super) fn reserve(&self, context: &JobContext) -> Result<(), Failure> {
        let takes = match self.disk.provisioning {
            Provisioning::Thin => 0,
            Provisioning::Full => self.bytes,
        };
        let wish = Wish { takes, fits: self.bytes, grows: self.bytes };
        context.admit(&self.directory(), wish, &self.what())
    }

    /// Grows to the end; `piece` is passed after each step.
    pub(super) fn take(
        &self,
        context: &JobContext,
        growth: &mut (impl Growth + ?Sized),
        piece: &'static str,
    ) -> Result<(), Failure> {
        loop {
            let progress = growth.progress();
            if self.disk.provisioning == Provisioning::Full {
                let left = progress.total.saturating_sub(progress.done);
                context.live.reserved.store(left, Ordering::Relaxed);
            }
            context.progress(progress.done, progress.total)?;
            if progress.is_complete() {
                return Ok(());
            }
            context.boundary()?;
            growth.step(PIECE_BYTES).map_err(|error| self.cause(&error))?;
            failpoint::hit(piece);
        }
    }

    /// The cause behind a failure; names what is free where space ran out.
    pub(super) fn cause(&self, error: &ImageError) -> Cause {
        if error.kind() != ImageErrorKind::OutOfSpace {
            return Cause::from(error);
        }
        let place = self.directory();
        Cause::OutOfSpace {
            what: self.what(),
            needed: self.bytes,
            available: pool_space(&place).ok().map(|space| space.free),
            place,
        }
    }
}
