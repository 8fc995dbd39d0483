//! Comparing what an image shows with the checksums that an earlier check has left, or leaving some.

use std::path::{Path, PathBuf};
use std::time::Duration;

use disk_image::{Image, ImageError, Operation};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::check::MAX_UNREADABLE;
use super::run::Work;
use crate::checksums::{self, Checksums, FileState, Summer, Unknown};
use crate::engine::{Failure, IfEnding, Interrupt, JobRecord};
use crate::error::{Cause, ImageContext};
use crate::failpoint;
use crate::job::{ChecksumState, ChecksumsUsed};

/// So often a job that waits looks whether it may go on.
const SLICE: Duration = Duration::from_millis(100);

/// What a check does with checksums.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sums {
    /// Nothing: initiators use the disk.
    InUse,
    /// Compares with those of the disk or the snapshot, if there are some that hold.
    Compare(Uuid),
    /// The same, and makes some if there are none that hold.
    Make(Uuid),
}

/// A comparison that has begun.
pub(super) struct Comparison {
    of: Uuid,
    make: bool,
    /// The files as they were before anything of them was read.
    files: Vec<FileState>,
    known: Option<Checksums>,
    /// How it comes out if nothing differs, or why nothing is known.
    state: ChecksumState,
    /// Takes in what the image shows.
    pub(super) summer: Summer,
}

impl Work<'_> {
    /// Before anything is read.
    pub(super) fn begin_comparison(
        &self,
        sums: Option<&Sums>,
        image: &dyn Image,
        bytes: u64,
    ) -> Result<Option<Comparison>, Failure> {
        let (of, make) = match sums {
            None | Some(Sums::InUse) => return Ok(None),
            Some(Sums::Compare(of)) => (*of, false),
            Some(Sums::Make(of)) => (*of, true),
        };
        for path in checksums::files_of(image) {
            checksums::forget(&path).map_err(|error| failed(&path, error))?;
        }
        let files = states(image)?;
        let path = checksums::path_of(&self.context.shared.config.directory, of);
        let (known, state) = match Checksums::load(&path) {
            Ok(found) if found.are_of(bytes, &files) => (Some(found), ChecksumState::Matched),
            Ok(_) | Err(Unknown::Void) => (None, ChecksumState::Void),
            Err(Unknown::Absent) => (None, ChecksumState::Absent),
            Err(Unknown::Damaged(reason)) => {
                tracing::warn!(path = %path.display(), reason, "checksums are not used");
                (None, ChecksumState::Damaged)
            }
        };
        if make && known.is_none() {
            // From then on every change shows in the time of the last one.
            self.settle_times(&files)?;
        }
        Ok(Some(Comparison { of, make, files, known, state, summer: Summer::new(bytes) }))
    }

    fn settle_times(&self, files: &[FileState]) -> Result<(), Failure> {
        loop {
            self.boundary()?;
            let left = checksums::settles_in(files, Timestamp::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(SLICE));
        }
    }

    /// Once everything was read: tells of what is not what it was, or keeps what it is now, and
    /// records which.
    pub(super) fn end_comparison(
        &self,
        sums: Option<&Sums>,
        comparison: Option<Comparison>,
        (image, block_bytes): (&dyn Image, u32),
        causes: &mut Vec<Cause>,
    ) -> Result<(), Failure> {
        let used = match (sums, comparison) {
            (None, _) => return Ok(()),
            (Some(_), None) => ChecksumsUsed { state: ChecksumState::InUse, made: None },
            (Some(_), Some(comparison)) => {
                // Somebody may write a file meanwhile, whatever locks it has, or take it away: the images
                // under a linked disk can become others.
                if states(image).is_ok_and(|now| now == comparison.files) {
                    self.compare_sums(comparison, (image, block_bytes), causes)?
                } else {
                    ChecksumsUsed { state: ChecksumState::Void, made: None }
                }
            }
        };
        let change = move |record: &mut JobRecord| record.job.checksums = Some(used);
        let done =
            self.context.commit(failpoint::PLAN_STEP, IfEnding::TurnBack, change, Vec::new());
        Ok(done?)
    }

    fn compare_sums(
        &self,
        comparison: Comparison,
        (image, block_bytes): (&dyn Image, u32),
        causes: &mut Vec<Cause>,
    ) -> Result<ChecksumsUsed, Failure> {
        let Comparison { of, make, files, known, state, summer } = comparison;
        let Some(known) = known else {
            let sums = make.then(|| summer.finish(self.context.shared.now(), files)).flatten();
            let Some(sums) = sums else { return Ok(ChecksumsUsed { state, made: None }) };
            let kept = self.keep(of, &sums)?;
            let state = if kept { ChecksumState::Made } else { ChecksumState::InUse };
            return Ok(ChecksumsUsed { state, made: kept.then(|| sums.made()) });
        };
        let made = Some(known.made());
        let differ = summer.differences(&known);
        let block = u64::from(block_bytes.max(1));
        causes.extend(differ.iter().take(MAX_UNREADABLE).map(|part| Cause::DataDiffer {
            path: image.path().to_path_buf(),
            first: part.offset / block,
            last: (part.offset + part.length).div_ceil(block).saturating_sub(1),
            made: known.made(),
        }));
        let more = differ.len().saturating_sub(MAX_UNREADABLE);
        if more > 0 {
            let reason = format!("{more} more parts do not hold what they did");
            let context = ImageContext {
                reason: Some(reason.into()),
                ..ImageContext::new(Operation::Verify, &*image.path())
            };
            causes.push(Cause::Corrupt { context });
        }
        let state = if differ.is_empty() { state } else { ChecksumState::Differed };
        Ok(ChecksumsUsed { state, made })
    }

    /// Whether they are kept: not those of a disk that initiators may write by now.
    fn keep(&self, of: Uuid, sums: &Checksums) -> Result<bool, Failure> {
        let path = checksums::path_of(&self.context.shared.config.directory, of);
        let written = path.with_extension(self.context.id.uuid().simple().to_string());
        failpoint::hit("plan.summed");
        let done = match sums.write(&written) {
            Err(error) => Err(error),
            Ok(()) => {
                let (from, to): (PathBuf, PathBuf) = (written.clone(), path.clone());
                let kept =
                    self.context.shared.call(move |core| core.keep_checksums(of, &from, &to));
                kept.ok_or(Interrupt::Stop)?
            }
        };
        if !matches!(done, Ok(true)) {
            let _ = std::fs::remove_file(&written);
        }
        done.map_err(|error| {
            Cause::from(&ImageError::from_io(Operation::Create, path.as_path(), error)).into()
        })
    }
}

fn states(image: &dyn Image) -> Result<Vec<FileState>, Failure> {
    let state = |path: PathBuf| checksums::state_of(&path).map_err(|error| failed(&path, error));
    checksums::files_of(image).into_iter().map(state).collect()
}

fn failed(path: &Path, error: std::io::Error) -> Failure {
    Cause::from(&ImageError::from_io(Operation::Open, path, error)).into()
}
