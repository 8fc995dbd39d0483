//! Checking a disk: first what its tables say, then whether all of its data can be read, and are what
//! they were when checksums of them were made.

use disk_image::{
    BlockState, Finding, Image, ImageError, ImageErrorKind, OpenOptions, Operation, check_named,
};

use super::run::Work;
use super::{Form, Sums};
use crate::checksums::Summer;
use crate::engine::Failure;
use crate::error::{Cause, ImageContext};
use crate::failpoint;
use crate::place::Access;

/// Places that cannot be read, and parts that hold other data, of which one check tells.
pub(super) const MAX_UNREADABLE: usize = 32;

impl Work<'_> {
    /// Finds what is wrong with an image, all of it in one answer.
    pub(super) fn check(
        &self,
        of: &Form,
        (bytes, block_bytes): (u64, u32),
        repair: bool,
        sums: Option<&Sums>,
    ) -> Result<(), Failure> {
        let Form { place, format } = of;
        drop(self.held(place)?);
        let options = |read_only| OpenOptions {
            read_only,
            size_bytes: Some(bytes),
            ..OpenOptions::default()
        };
        let look = |write: bool| -> Result<_, ImageError> {
            let access = if write { Access::Write } else { Access::Read };
            let file = place.open(false, access)?;
            check_named(file, *format, &options(!write), write && repair)
        };
        let mut writes = repair;
        let found = match look(repair) {
            // A log that a crash has left is part of the image, and is replayed.
            Err(error) if error.kind() == ImageErrorKind::ReadOnly && !repair => {
                writes = true;
                look(true)
            }
            found => found,
        };
        let (report, mut image) = found.map_err(|error| Cause::from(&error))?;
        failpoint::hit("plan.checked");
        if writes
            && sums.is_some()
            && let Some(written) = image.take()
        {
            // What is still put off would be a change behind the checksums.
            written.close().map_err(|error| Cause::from(&error))?;
            drop(written);
            image = look(false).map_err(|error| Cause::from(&error))?.1;
        }
        let context = |offset: Option<u64>, reason: String| ImageContext {
            offset,
            reason: Some(with_lba(offset, block_bytes, reason).into()),
            ..ImageContext::new(Operation::Verify, &place.path)
        };
        let mut causes: Vec<Cause> = report
            .errors
            .into_iter()
            .map(|Finding { offset, text }| Cause::Corrupt { context: context(offset, text) })
            .collect();
        let told = u64::try_from(causes.len()).unwrap_or(u64::MAX);
        if report.error_count > told {
            let more = format!("{} more contradictions", report.error_count - told);
            causes.push(Cause::Corrupt { context: context(None, more) });
        }
        if report.leaked_clusters > 0 && !report.repaired {
            let bytes = report.leaked_clusters.saturating_mul(report.cluster_bytes);
            causes.push(Cause::LostSpace { path: place.path.clone(), bytes });
        }
        if let Some(image) = image {
            let mut comparison = self.begin_comparison(sums, &*image, bytes)?;
            let summer = comparison.as_mut().map(|it| &mut it.summer);
            self.read_all(&*image, (bytes, block_bytes), summer, &mut causes)?;
            self.end_comparison(sums, comparison, (&*image, block_bytes), &mut causes)?;
        }
        if causes.is_empty() { Ok(()) } else { Err(Failure::Causes(causes)) }
    }

    /// Reads all data; what cannot be read becomes a cause.
    fn read_all(
        &self,
        image: &dyn Image,
        (bytes, block_bytes): (u64, u32),
        mut summer: Option<&mut Summer>,
        causes: &mut Vec<Cause>,
    ) -> Result<(), Failure> {
        let size = bytes.min(image.size_bytes());
        let mut buffer = Vec::new();
        let (mut at, mut unreadable) = (0, 0);
        while at < size && unreadable < MAX_UNREADABLE {
            self.boundary()?;
            self.context.went(at, size);
            let begin = std::time::Instant::now();
            let extent = image.block_status(at, size - at).map_err(|error| Cause::from(&error))?;
            if extent.state == BlockState::Deallocated {
                if let Some(summer) = &mut summer {
                    summer.zeroes(extent.length);
                }
                at += extent.length;
                continue;
            }
            let length = extent.length.min(self.context.piece()?).clamp(1, 1 << 20);
            buffer.resize(usize::try_from(length).unwrap_or(0), 0);
            let mut all = [std::io::IoSliceMut::new(&mut buffer)];
            if let Err(error) = image.read(&mut all, at, disk_image::Wait::Block) {
                let mut cause = Cause::from(&error);
                if let Cause::MediumError { context } | Cause::Corrupt { context } = &mut cause {
                    let reason = context.reason.take().map_or_else(String::new, String::from);
                    context.offset = Some(at);
                    context.length = Some(length);
                    context.reason = Some(with_lba(Some(at), block_bytes, reason).into());
                }
                causes.push(cause);
                unreadable += 1;
                if let Some(summer) = &mut summer {
                    summer.unknown(length);
                }
            } else if let Some(summer) = &mut summer {
                summer.data(&buffer);
            }
            at += length;
            self.context.pace(length, begin)?;
        }
        Ok(())
    }
}

/// What is wrong, and at which logical block.
fn with_lba(offset: Option<u64>, block_bytes: u32, text: String) -> String {
    let Some(offset) = offset else { return text };
    let lba = offset / u64::from(block_bytes.max(1));
    if text.is_empty() { format!("LBA {lba}") } else { format!("{text}, LBA {lba}") }
}
