//! Actions that go through all of a file: copying, comparing, overwriting.

use std::time::Instant;

use disk_image::{
    CopyOptions, FileCopier, ImageCopier, ImageError, ImageErrorKind, ImageVerifier, LayerCopier,
    MirrorCopier, Overwriter, Preallocation, Progress, SpaceTaker, Verifier, pool_space, reflink,
};

use super::run::Work;
use super::{Action, Plan};
use crate::engine::{Failure, Wish};
use crate::error::Cause;
use crate::failpoint;
use crate::kinds::Step;
use crate::place::{Access, Place};

/// Something that goes through a file in pieces.
pub(super) trait Pass {
    fn progress(&self) -> Progress;
    fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError>;
    fn sync(&self) -> Result<(), ImageError>;
}

/// Hands the trait's calls on to the methods of that name; what only reads has nothing to sync.
macro_rules! passes {
    ($($name:ty $(, $reads:ident)?;)*) => { $(
        impl Pass for $name {
            fn progress(&self) -> Progress {
                Self::progress(self)
            }

            fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError> {
                Self::step(self, max_bytes)
            }

            fn sync(&self) -> Result<(), ImageError> {
                passes!(@sync self $(, $reads)?)
            }
        }
    )* };
    (@sync $pass:ident) => { Self::sync($pass) };
    (@sync $pass:ident, reads) => { Ok(()) };
}

passes! {
    FileCopier;
    ImageCopier;
    LayerCopier;
    Overwriter;
    SpaceTaker;
    Verifier, reads;
    ImageVerifier, reads;
}

impl Pass for &mut MirrorCopier {
    fn progress(&self) -> Progress {
        MirrorCopier::progress(self)
    }

    fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError> {
        MirrorCopier::step(self, max_bytes)
    }

    fn sync(&self) -> Result<(), ImageError> {
        MirrorCopier::sync(self)
    }
}

impl Plan {
    /// Bytes that an action goes through.
    fn weight(action: &Action) -> u64 {
        match action {
            Action::Copy { bytes, .. } => bytes.unwrap_or(0),
            Action::Convert(conversion) => conversion.bytes,
            // It is copied and compared.
            Action::Move(moving) => moving.conversion.bytes.saturating_mul(2),
            Action::Merge { bytes, .. } => *bytes,
            Action::Verify { bytes, .. } | Action::Compare { bytes, .. } => *bytes,
            Action::Await { .. }
            | Action::Check { .. }
            | Action::Share { .. }
            | Action::Link { .. }
            | Action::Publish { .. }
            | Action::Overwrite { .. }
            | Action::Remove { .. }
            | Action::Discard { .. }
            | Action::Apply { .. }
            | Action::Shrink { .. }
            | Action::TakeSpace { .. }
            | Action::Truncate { .. }
            | Action::Cut { .. }
            | Action::RollBack { .. }
            | Action::Overlay { .. }
            | Action::Switch { .. }
            | Action::Rebase { .. }
            | Action::Complete { .. }
            | Action::CompleteExposed { .. }
            | Action::Unknown(_) => 0,
        }
    }
}

impl Work<'_> {
    /// Copies a file that nobody writes meanwhile.
    pub(super) fn copy(
        &self,
        from: &Place,
        to: &Place,
        bytes: Option<u64>,
        full: bool,
    ) -> Result<(), Failure> {
        let source = self.held(from)?;
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => source.length().map_err(|error| Cause::from(&error))?,
        };
        let fail = |error: &ImageError| self.cause(error, to, bytes);
        let target = to.create_partial().map_err(|error| fail(&error))?;
        if self.done == 0 {
            target.set_length(0).map_err(|error| fail(&error))?;
            // Where blocks can be shared, it is done in no time and takes no space.
            if !full && reflink(&source, &target).is_ok() {
                target.set_length(bytes).map_err(|error| fail(&error))?;
                return Ok(target.sync().map_err(|error| fail(&error))?);
            }
        }
        let needed = if full { bytes } else { source.allocated().map_err(|e| fail(&e))? };
        self.reserve(to, bytes, needed)?;
        let preallocation = if full { Preallocation::Full } else { Preallocation::Sparse };
        let options = CopyOptions { size_bytes: bytes, done: self.done, preallocation };
        let copier = FileCopier::begin(source, target, options).map_err(|error| fail(&error))?;
        self.pass(copier, "plan.piece", fail)
    }

    /// Refuses a copy for which there is no space, beside what other jobs were promised.
    pub(super) fn reserve(&self, to: &Place, bytes: u64, needed: u64) -> Result<(), Failure> {
        let record = self.context.record()?;
        let makes = record.job.kind.makes().is_some_and(|disk| disk.path == to.path);
        let grows = if makes { bytes } else { self.plan.grows };
        let wish = Wish { takes: needed.saturating_sub(self.done), fits: 0, grows };
        self.context.admit(to.parent(), wish, &format!("write {}", to.path.display()))
    }

    fn no_space(&self, to: &Place, bytes: u64, available: Option<u64>) -> Cause {
        let what = format!("write {}", to.path.display());
        Cause::OutOfSpace { what, place: to.parent().to_path_buf(), needed: bytes, available }
    }

    /// The cause behind a failure; names what is free where space ran out.
    pub(super) fn cause(&self, error: &ImageError, to: &Place, bytes: u64) -> Cause {
        if error.kind() == ImageErrorKind::OutOfSpace {
            let available = pool_space(to.parent()).ok().map(|space| space.free);
            return self.no_space(to, bytes, available);
        }
        Cause::from(error)
    }

    /// Takes what a file lacks, if there is so much beside what other jobs were promised.
    pub(super) fn take_space(&self, place: &Place, bytes: u64) -> Result<(), Failure> {
        let fail = |error: &ImageError| self.cause(error, place, bytes);
        let file = place.open(false, Access::Share).map_err(|error| fail(&error))?;
        let allocated = file.allocated().map_err(|error| fail(&error))?;
        let needed = bytes.saturating_sub(allocated).saturating_add(self.done);
        self.reserve(place, bytes, needed)?;
        self.pass(SpaceTaker::begin(file, bytes, self.done), "plan.space", fail)
    }

    pub(super) fn verify(
        &self,
        from: Option<&Place>,
        of: &Place,
        bytes: u64,
    ) -> Result<(), Failure> {
        let fail = |error: &ImageError| Cause::from(error);
        let source = from.map(|from| self.held(from)).transpose()?;
        // A copy has not got its name yet; a file that is used where it is has one.
        let copy = of.open(from.is_some(), Access::Read).map_err(|error| fail(&error))?;
        self.pass(Verifier::begin(source, copy, bytes, self.done), "plan.verified", fail)
    }

    pub(super) fn overwrite(&self, place: &Place) -> Result<(), Failure> {
        let fail = |error: &ImageError| Cause::from(error);
        let file = match place.open(false, Access::Write) {
            Err(error) if error.kind() == ImageErrorKind::NotFound => return Ok(()),
            other => other.map_err(|error| fail(&error))?,
        };
        let overwriter = Overwriter::begin(file, self.done).map_err(|error| fail(&error))?;
        self.pass(overwriter, "plan.overwritten", fail)
    }

    /// Goes through to the end, with checkpoints.
    pub(super) fn pass(
        &self,
        mut pass: impl Pass,
        piece: &'static str,
        fail: impl Fn(&ImageError) -> Cause,
    ) -> Result<(), Failure> {
        let at = usize::try_from(self.index).unwrap_or(usize::MAX);
        let weight = |actions: &[Action]| actions.iter().map(Plan::weight).sum::<u64>();
        let before = weight(self.plan.actions.get(..at).unwrap_or_default());
        let all = weight(&self.plan.actions);
        loop {
            let Progress { done, total } = pass.progress();
            // An action that weighs nothing is all that there is.
            let (so_far, of) = if all == 0 { (done, total) } else { (before + done, all) };
            self.context.went(so_far, of);
            if done >= total {
                break;
            }
            self.boundary()?;
            let begin = Instant::now();
            let progress = pass.step(self.context.piece()?).map_err(|error| fail(&error))?;
            failpoint::hit(piece);
            if self.context.checkpoint_due() && !progress.is_complete() {
                pass.sync().map_err(|error| fail(&error))?;
                let step = Step::Planned { index: self.index, done: progress.done };
                self.context.checkpoint(step)?;
            }
            self.context.pace(progress.done.saturating_sub(done), begin)?;
        }
        Ok(pass.sync().map_err(|error| fail(&error))?)
    }
}
