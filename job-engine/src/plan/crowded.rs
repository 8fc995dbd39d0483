//! Another plan for files that it would take long to share the blocks of.
//!
//! Initiators wait while a file is cloned, and the file system does that extent by extent: one that is
//! written at random has many, and each of them costs some ten microseconds.

use std::time::Instant;

use disk_image::{ImageError, ImageErrorKind, NamedFile, extents};

use super::run::{FLUSHES, SHORT_FLUSH, Work};
use super::{Action, Plan, Share};
use crate::engine::{Failure, IfEnding, JobRecord};
use crate::error::Cause;
use crate::failpoint;
use crate::id::DiskId;
use crate::kinds::Step;
use crate::place::{Access, Place};

/// All files that are cloned within a pause have so many extents together: about 15 milliseconds.
const MOST_EXTENTS: usize = 1024;

/// While a long flush went on, no more commands came than these: there is little to flush behind it.
const FEW_COMMANDS: u64 = 64;

/// An action that another plan can take the place of.
struct Replaceable<'a> {
    other: &'a Plan,
    /// The files that would be cloned while initiators wait, each with its disk.
    cloned: Vec<(DiskId, &'a Place)>,
    /// Those that would be made.
    made: Vec<&'a Place>,
}

impl Action {
    fn replaceable(&self) -> Option<Replaceable<'_>> {
        if let Self::Share { files, otherwise: Some(other) } = self {
            let cloned = files.iter().map(|Share { disk, from, .. }| (*disk, from)).collect();
            let made = files.iter().map(|file| &file.to).collect();
            Some(Replaceable { other, cloned, made })
        } else if let Self::RollBack { disk, from, to, keep, otherwise: Some(other) } = self {
            let cloned = vec![(*disk, to), (*disk, from)];
            Some(Replaceable { other, cloned, made: vec![keep] })
        } else {
            None
        }
    }

    /// The plan that is carried out instead, if the blocks cannot be shared in no time.
    pub(super) fn other_plan(&self) -> Option<&Plan> {
        self.replaceable().map(|it| it.other)
    }
}

impl Plan {
    /// The same, but with another plan for files that it takes long to share the blocks of. Nobody else
    /// works on the disks, whichever it comes to be.
    pub(crate) fn or(mut self: Box<Self>, other: Box<Self>) -> Box<Self> {
        self.claims.clone_from(&other.claims);
        for action in &mut self.actions {
            if let Action::Share { otherwise, .. } | Action::RollBack { otherwise, .. } = action {
                *otherwise = Some(other);
                break;
            }
        }
        self
    }
}

impl<'a> Work<'a> {
    /// The plan with which the job goes on instead of this action, if it has to: that is recorded then,
    /// and nothing is left of the action.
    pub(super) fn turn_off(&self, action: &'a Action) -> Result<Option<&'a Plan>, Failure> {
        let Some(Replaceable { other, cloned, made }) = action.replaceable() else {
            return Ok(None);
        };
        // One that has begun its exchange ends it.
        if self.done > 0 || !self.is_crowded(&cloned)? {
            return Ok(None);
        }
        for place in made {
            place.remove(None).map_err(|error| Cause::from(&error))?;
        }
        failpoint::hit("plan.crowded");
        let plan = other.clone();
        let change = move |record: &mut JobRecord| {
            record.step = Step::Planned { index: 0, done: 0 };
            record.plan = Some(Box::new(plan.clone()));
        };
        self.context.commit(failpoint::PLAN_STEP, IfEnding::TurnBack, change, Vec::new())?;
        Ok(Some(other))
    }

    /// Whether initiators would wait for long until these files are cloned.
    fn is_crowded(&self, files: &[(DiskId, &Place)]) -> Result<bool, Failure> {
        let mut found = 0;
        for (disk, place) in files {
            if !self.context.is_mapped(*disk) {
                continue;
            }
            self.boundary()?;
            let fail = |error: ImageError| Cause::from(&error);
            let file = place.open(false, Access::Look).map_err(fail)?;
            if !self.settles(&file).map_err(fail)? {
                return Ok(true);
            }
            found += match extents(&file, MOST_EXTENTS + 1) {
                Ok(found) => found,
                // Nobody knows how long it would take.
                Err(error) if error.kind() == ImageErrorKind::Unsupported => return Ok(true),
                Err(error) => return Err(fail(error).into()),
            };
            if found > MOST_EXTENTS {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Flushes a file; whether there is little left to flush then.
    fn settles(&self, file: &NamedFile) -> Result<bool, ImageError> {
        let data_path = &self.context.shared.config.data_path;
        for _ in 0..FLUSHES {
            let (begin, before) = (Instant::now(), data_path.commands());
            file.sync()?;
            let came = data_path.commands().saturating_sub(before);
            if begin.elapsed() <= SHORT_FLUSH || came <= FEW_COMMANDS {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
