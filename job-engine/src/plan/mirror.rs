//! Bringing a disk into another file while it is used.
//!
//! Everything that is written goes to both files, and what was there before is copied and compared
//! behind it ([`disk_image::MirrorImage`]). Then the new file gets its name, both are made the same
//! durably, the catalogue names the new one, and the data path uses it alone. The old one stays until the
//! job is complete. Of a disk that nobody has open the file is held meanwhile.
//!
//! What was written behind a crash, an earlier run knows nothing of: what it had copied is compared
//! with the disk and set right, which writes nothing that is there already.

use std::sync::Arc;

use disk_image::{
    CreateOptions, Image, ImageError, ImageErrorKind, ImageFormat, MirrorCopier, MirrorImage,
    NamedFile, OpenOptions, Operation, Outcome, Preallocation, make_image, open_named,
};
use serde::{Deserialize, Serialize};

use super::Form;
use super::convert::Conversion;
use super::run::Work;
use crate::catalogue::Disk;
use crate::datapath::SwitchError;
use crate::engine::{Change, Failure, IfEnding, Interrupt, JobRecord};
use crate::error::Cause;
use crate::failpoint;
use crate::kinds::Step;
use crate::place::{Access, Identity, Place};

/// A disk that gets another file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moving {
    /// As it is then.
    pub(crate) disk: Disk,
    pub(crate) conversion: Conversion,
    /// Which file got its name.
    pub(crate) identity: Option<Identity>,
}

impl Work<'_> {
    /// Copies a disk into another file, and has it used from there.
    pub(super) fn move_disk(&self, moving: &Moving) -> Result<(), Failure> {
        let Moving { disk, conversion, .. } = moving;
        let Conversion { from, to, bytes, full, .. } = conversion;
        let fail = |error: &ImageError| self.cause(error, &to.place, *bytes);
        let needed = if *full { *bytes } else { self.taken(disk, from)?.min(*bytes) };
        self.reserve(&to.place, *bytes, needed)?;
        let (target, written) = self.target(moving)?;
        let data_path = &self.context.shared.config.data_path;
        let live = data_path.mirror(disk.id, target.clone()).map_err(|error| match error {
            SwitchError::Stopping(reason) => {
                tracing::debug!(reason, "the data path stops");
                Failure::from(Interrupt::Stop)
            }
            SwitchError::Image(error) => Cause::from(&error).into(),
        })?;
        let mirror = match &live {
            Some(live) => live.image().clone(),
            None => Arc::new(MirrorImage::new(self.image(from, *bytes)?, target)),
        };
        let fills = *full && to.format == ImageFormat::Qcow2;
        let mut copier = MirrorCopier::begin(mirror.clone(), *bytes, (*full, fills), written);
        self.pass(&mut copier, "plan.mirrored", fail)?;
        self.name(moving)?;
        loop {
            self.boundary()?;
            if mirror.seal(*bytes).map_err(|error| fail(&error))? {
                break;
            }
            self.pass(&mut copier, "plan.mirrored", fail)?;
        }
        failpoint::hit("plan.moving");
        if live.as_ref().is_some_and(|live| !live.is_current()) {
            let error = ImageError::new(ImageErrorKind::NotFound, Operation::Copy, mirror.path());
            return Err(Cause::from(&error.because("another file has taken its place")).into());
        }
        self.record_move(moving, &mirror)?;
        failpoint::hit("plan.moved");
        let sequence = self.context.shared.state.lock().sequence;
        self.context.shared.wait_delivered(sequence);
        if let Some(live) = &live {
            live.switch();
        }
        Ok(())
    }

    /// Space that a disk has now, with what lies under it.
    fn taken(&self, disk: &Disk, from: &Form) -> Result<u64, Failure> {
        let below = {
            let state = self.context.shared.state.lock();
            let parent = state.disks.get(&disk.id).and_then(|disk| disk.parent);
            state.line(parent)
        };
        let places = below.iter().map(|it| Place::pool(&it.path));
        let mut taken = 0_u64;
        for place in std::iter::once(from.place.clone()).chain(places) {
            let file = place.open(false, Access::Look).map_err(|error| Cause::from(&error))?;
            let bytes = file.allocated().map_err(|error| Cause::from(&error))?;
            taken = taken.saturating_add(bytes);
        }
        Ok(taken)
    }

    /// The new image, and up to where it may have been written before.
    fn target(&self, moving: &Moving) -> Result<(Arc<dyn Image>, u64), Failure> {
        let Conversion { to, bytes, block_bytes, full, .. } = &moving.conversion;
        let fail = |error: &ImageError| self.cause(error, &to.place, *bytes);
        let named = match moving.identity {
            Some(identity) => to.place.is(identity).map_err(|error| fail(&error))?,
            None => false,
        };
        let file = || -> Result<NamedFile, ImageError> {
            if named { to.place.open(false, Access::Write) } else { to.place.create_partial() }
        };
        if named || self.done > 0 {
            let options = OpenOptions { size_bytes: Some(*bytes), ..OpenOptions::default() };
            match file().and_then(|file| open_named(file, to.format, &options)) {
                Ok(image) if image.size_bytes() >= *bytes => {
                    return Ok((image, if named { *bytes } else { self.done.min(*bytes) }));
                }
                // What an earlier run has made is not to be used: it begins anew.
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        ImageErrorKind::InvalidFormat | ImageErrorKind::Corrupt
                    ) => {}
                Err(error) => return Err(fail(&error).into()),
            }
        }
        let preallocation = if *full { Preallocation::Full } else { Preallocation::Sparse };
        let options = CreateOptions {
            logical_block_bytes: *block_bytes,
            ..CreateOptions::new(*bytes, preallocation)
        };
        let made = file().and_then(|file| make_image(file, to.format, &options));
        Ok((made.map_err(|error| fail(&error))?, 0))
    }

    /// The new file is whole, and gets its name.
    fn name(&self, moving: &Moving) -> Result<(), Failure> {
        let place = &moving.conversion.to.place;
        let identity = match moving.identity {
            Some(identity) if place.is(identity).map_err(|error| Cause::from(&error))? => identity,
            _ => self.note_identity(place)?,
        };
        Ok(place.publish(identity).map_err(|error| Cause::from(&error))?)
    }

    /// Has the catalogue name the new file: from here on whoever opens the disk opens that. What was to
    /// be undone before is in use; the old file goes, however the job ends.
    fn record_move(&self, moving: &Moving, mirror: &MirrorImage) -> Result<(), Failure> {
        let index = self.index;
        let next = Step::Planned { index: index + 1, done: 0 };
        let change = move |record: &mut JobRecord| {
            record.step = next;
            if let Some(plan) = &mut record.plan {
                plan.undo.retain(|undo| undo.from > index);
            }
        };
        let changes = vec![Change::PutDisk(Box::new(moving.disk.clone()))];
        let commit = failpoint::PLAN_STEP;
        let recorded = self.context.commit(commit, IfEnding::TurnBack, change, changes);
        mirror.decide(match &recorded {
            Ok(()) => Outcome::Moved,
            // It may stand in the database all the same.
            Err(Interrupt::Stop) => Outcome::Unknown,
            Err(Interrupt::Suspend | Interrupt::End | Interrupt::Gone | Interrupt::Late(_)) => {
                Outcome::Kept
            }
        });
        Ok(recorded?)
    }
}
