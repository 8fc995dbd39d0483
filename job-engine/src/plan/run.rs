//! Carrying a plan out, and undoing it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use disk_image::{ImageErrorKind, MissingFile, NamedFile, reflink};

use super::{Action, How, Plan, Share};
use crate::checksums;
use crate::engine::{Change, Debris, Expose, Failure, IfEnding, Interrupt, JobContext, JobRecord};
use crate::error::Cause;
use crate::failpoint;
use crate::id::{DiskId, JobId};
use crate::kinds::Step;
use crate::place::{Access, Identity, Place};

/// How long the data path may take to let go of a disk that has just been unmapped.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(3);
pub(super) const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// Flushes in front of a pause, so that there is little left to flush within it.
pub(super) const FLUSHES: usize = 3;
/// A flush that takes no longer than this had little to do.
pub(super) const SHORT_FLUSH: Duration = Duration::from_millis(10);

/// One action of a plan that is being carried out.
pub(super) struct Work<'a> {
    pub(super) context: &'a JobContext,
    pub(super) plan: &'a Plan,
    pub(super) index: u32,
    /// How far an earlier run came with it.
    pub(super) done: u64,
}

/// Carries a plan out from the action that was begun last.
pub(crate) fn run(context: &JobContext, plan: &Plan, step: Step) -> Result<(), Failure> {
    let (first, mut done) = match step {
        Step::Planned { index, done } => (index, done),
        Step::Pending
        | Step::CreateAllocating
        | Step::DeleteUnlinking
        | Step::ExpandAllocating
        | Step::Operating { .. }
        | Step::InForce
        | Step::Unknown => (0, 0),
    };
    for (index, action) in (0_u32..).zip(&plan.actions).skip(usize::try_from(first).unwrap_or(0)) {
        let work = Work { context, plan, index, done };
        if step != (Step::Planned { index, done }) {
            work.begin()?;
        }
        if let Some(other) = work.turn_off(action)? {
            return run(context, other, Step::Planned { index: 0, done: 0 });
        }
        if matches!(action, Action::Apply { .. } | Action::Complete { .. }) {
            // What earlier actions found out stands in the store.
            let record = context.record()?;
            let at = usize::try_from(index).unwrap_or(usize::MAX);
            if let Some(action) = record.plan.as_ref().and_then(|plan| plan.actions.get(at)) {
                work.carry_out(action)?;
            }
        } else {
            work.carry_out(action)?;
        }
        failpoint::hit("plan.done");
        done = 0;
    }
    Ok(())
}

impl Work<'_> {
    pub(super) fn if_ending(&self) -> IfEnding {
        if self.plan.cannot_return(self.index) { IfEnding::GoOn } else { IfEnding::TurnBack }
    }

    /// Records that the action begins.
    fn begin(&self) -> Result<(), Failure> {
        let step = Step::Planned { index: self.index, done: self.done };
        let change = move |record: &mut JobRecord| record.step = step;
        Ok(self.context.commit(failpoint::PLAN_STEP, self.if_ending(), change, Vec::new())?)
    }

    /// Between two pieces of an action: may the job go on?
    pub(super) fn boundary(&self) -> Result<(), Failure> {
        Ok(self.context.boundary()?)
    }

    fn carry_out(&self, action: &Action) -> Result<(), Failure> {
        let id = self.context.id;
        let (trace, action_name) = (id.trace(), action.word());
        let _span =
            tracing::info_span!("step", trace, job = %id, action = action_name, index = self.index)
                .entered();
        match action {
            Action::Await { place } => self.held(place).map(drop),
            Action::Copy { from, to, bytes, full } => self.copy(from, to, *bytes, *full),
            Action::Convert(conversion) => self.convert(conversion),
            Action::Move(moving) => self.move_disk(moving),
            Action::Compare { from, of, bytes } => self.compare(from.as_ref(), of, *bytes),
            Action::Check { of, bytes, block_bytes, repair, sums } => {
                self.check(of, (*bytes, *block_bytes), *repair, sums.as_ref())
            }
            Action::Share { files, .. } => self.share(files),
            Action::Verify { from, of, bytes } => self.verify(from.as_ref(), of, *bytes),
            Action::Link { device, to } => {
                let _alone = self.held_for(device, Access::Write)?;
                Ok(to.link_partial(&device.path).map_err(|error| Cause::from(&error))?)
            }
            Action::Publish { place, identity } => {
                let identity = match identity {
                    Some(identity) => *identity,
                    None => self.note_identity(place)?,
                };
                Ok(place.publish(identity).map_err(|error| Cause::from(&error))?)
            }
            Action::Overwrite { place } => self.overwrite(place),
            Action::Remove { place } => {
                let removed = disk_image::delete(&place.path, MissingFile::Tolerate);
                Ok(removed.map_err(|error| Cause::from(&error))?)
            }
            Action::Discard { place } => {
                Ok(place.remove(None).map_err(|error| Cause::from(&error))?)
            }
            Action::Apply { changes } => self.apply(changes.clone()),
            Action::Shrink { disk, to_bytes } => self.shrink(disk, *to_bytes),
            Action::TakeSpace { place, bytes } => self.take_space(place, *bytes),
            Action::Truncate { place, bytes } => self.truncate(place, *bytes),
            Action::Cut { disk, of, bytes } => self.cut(*disk, of, *bytes),
            Action::RollBack { disk, from, to, keep, .. } => self.roll_back(*disk, from, to, keep),
            Action::Overlay { to, parent, bytes } => self.overlay(to, parent, *bytes),
            Action::Switch { disks, changes, back } => self.switch(disks, changes, back),
            Action::Merge { from, into, bytes } => self.merge(from, into, *bytes),
            Action::Rebase { children, from, to } => self.rebase(children, from, to),
            Action::Complete { changes } => {
                let (point, effect) = (failpoint::PLAN_COMPLETE, changes.clone());
                Ok(self.context.complete(point, self.if_ending(), effect)?)
            }
            Action::CompleteExposed { disk, changes, to } => {
                self.context.complete_exposed(*disk, changes.clone(), Expose::clone(to))
            }
            Action::Unknown(_) => Err(Cause::UnknownJob { what: "an action".to_owned() }.into()),
        }
    }

    /// A place's file under its name, held so that nobody writes it.
    pub(super) fn held(&self, place: &Place) -> Result<NamedFile, Failure> {
        self.held_for(place, Access::Read)
    }

    fn held_for(&self, place: &Place, access: Access) -> Result<NamedFile, Failure> {
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            self.boundary()?;
            match place.open(false, access) {
                Ok(file) => return Ok(file),
                Err(error)
                    if error.kind() != ImageErrorKind::InUse || Instant::now() >= deadline =>
                {
                    return Err(Cause::from(&error).into());
                }
                Err(_) => std::thread::sleep(LOCK_INTERVAL),
            }
        }
    }

    /// Notes which file is about to get its name: nobody else's with that name is ever touched.
    pub(super) fn note_identity(&self, place: &Place) -> Result<Identity, Failure> {
        let found = place.partial_identity().map_err(|error| Cause::from(&error))?;
        let Some(found) = found else {
            let context =
                crate::error::ImageContext::new(disk_image::Operation::Create, &place.path);
            return Err(Cause::Missing { context }.into());
        };
        let at = usize::try_from(self.index).unwrap_or(usize::MAX);
        let change = move |record: &mut JobRecord| match record
            .plan
            .as_mut()
            .and_then(|plan| plan.actions.get_mut(at))
        {
            Some(Action::Publish { identity, .. }) => *identity = Some(found),
            Some(Action::Move(moving)) => moving.identity = Some(found),
            _ => {}
        };
        self.context.commit(failpoint::PLAN_STEP, IfEnding::TurnBack, change, Vec::new())?;
        Ok(found)
    }

    /// Puts changes into the catalogue; the next action begins in the same transaction.
    pub(super) fn apply(&self, changes: Vec<Change>) -> Result<(), Failure> {
        let next = Step::Planned { index: self.index + 1, done: 0 };
        let change = move |record: &mut JobRecord| record.step = next;
        Ok(self.context.commit(failpoint::PLAN_STEP, self.if_ending(), change, changes)?)
    }

    /// Runs `work` at one instant of these disks.
    pub(super) fn pause(&self, disks: &[DiskId], mut work: impl FnMut()) -> Result<(), Failure> {
        let paused = self.context.shared.config.data_path.pause(disks, &mut work);
        paused.map_err(|reason| {
            tracing::debug!(reason, "the data path stops");
            Interrupt::Stop.into()
        })
    }

    /// Makes copies of files at one instant. From there on that is what the job has copied, so a
    /// snapshot has this time.
    fn share(&self, files: &[Share]) -> Result<(), Failure> {
        self.boundary()?;
        let fail = |error: disk_image::ImageError| unshared(&error);
        let mut pairs = Vec::new();
        let mut locks = Vec::new();
        for file in files {
            let target = file.to.create_partial().map_err(fail)?;
            target.set_length(0).map_err(fail)?;
            if !self.context.is_mapped(file.disk) {
                locks.push(self.held(&file.from)?);
            }
            pairs.push((file.from.open(false, Access::Look).map_err(fail)?, target));
        }
        for (source, _) in &pairs {
            settle(source).map_err(fail)?;
        }
        let disks: Vec<DiskId> = files.iter().map(|file| file.disk).collect();
        let mut shared = Ok(());
        let mut instant = None;
        self.pause(&disks, || {
            instant = Some(self.context.shared.now());
            shared = pairs.iter().try_for_each(|(source, target)| reflink(source, target));
        })?;
        shared.map_err(fail)?;
        drop(locks);
        failpoint::hit("plan.shared");
        for (_, target) in &pairs {
            target.sync().map_err(fail)?;
        }
        let next = Step::Planned { index: self.index + 1, done: 0 };
        let change = move |record: &mut JobRecord| {
            record.step = next;
            if let (Some(plan), Some(instant)) = (&mut record.plan, instant) {
                plan.taken_at(instant);
            }
        };
        Ok(self.context.commit(failpoint::PLAN_STEP, IfEnding::TurnBack, change, Vec::new())?)
    }

    /// Exchanges a disk's data at one instant. What it had is kept until the exchange is recorded.
    fn roll_back(
        &self,
        disk: DiskId,
        from: &Place,
        to: &Place,
        keep: &Place,
    ) -> Result<(), Failure> {
        let fail = |error: disk_image::ImageError| unshared(&error);
        let mapped = self.context.is_mapped(disk);
        checksums::void(&self.context.shared.config.directory, disk.uuid());
        let source = from.open(false, Access::Look).map_err(fail)?;
        let _lock = if mapped { None } else { Some(self.held(to)?) };
        let target = to.open(false, Access::Share).map_err(fail)?;
        settle(&target).map_err(fail)?;
        // The file may be longer: one that could not be cut when its disk became smaller.
        let size_bytes = match self.snapshot_size(from) {
            Some(size_bytes) => size_bytes,
            None => source.length().map_err(fail)?,
        };
        let kept = keep.create_partial().map_err(fail)?;
        // If the process dies in the exchange, the start makes it again before anybody sees the disk:
        // no client may turn it back from here on.
        self.begun_exchange()?;
        failpoint::hit("plan.exchanging");
        let data_path = &self.context.shared.config.data_path;
        let mut result = Ok(());
        let exchange = || {
            // For an exchange that fails in the midst of it, not for a crash.
            kept.set_length(0).and_then(|()| reflink(&target, &kept)).map_err(fail)?;
            if let Err(error) = exchange_file(&source, &target) {
                exchange_file(&kept, &target).map_err(fail)?;
                return Err(fail(error));
            }
            failpoint::hit("plan.exchanged");
            if mapped {
                let resized = data_path.resize(disk, size_bytes);
                resized.map_err(|reason| Cause::CouldNotStart { reason })?;
            }
            Ok(())
        };
        self.pause(&[disk], || result = exchange())?;
        result?;
        data_path.medium_changed(disk);
        Ok(())
    }

    /// Bytes of the disk whose snapshot has this file.
    fn snapshot_size(&self, file: &Place) -> Option<u64> {
        let state = self.context.shared.state.lock();
        let found = state.snapshots.values().find(|it| it.path == file.path);
        found.map(|it| it.size_bytes)
    }

    /// Records that from now on the disk's file may be anything: it is exchanged again at the start,
    /// before anybody sees it.
    fn begun_exchange(&self) -> Result<(), Failure> {
        let step = Step::Planned { index: self.index, done: 1 };
        let change = move |record: &mut JobRecord| record.step = step;
        Ok(self.context.commit(failpoint::PLAN_STEP, IfEnding::TurnBack, change, Vec::new())?)
    }
}

fn exchange_file(from: &NamedFile, to: &NamedFile) -> Result<(), disk_image::ImageError> {
    reflink(from, to)?;
    to.sync()
}

/// Flushes until there is little left to flush.
pub(super) fn settle(file: &NamedFile) -> Result<(), disk_image::ImageError> {
    for _ in 0..FLUSHES {
        let begin = Instant::now();
        file.sync()?;
        if begin.elapsed() <= SHORT_FLUSH {
            break;
        }
    }
    Ok(())
}

/// The cause behind a copy at one instant that failed.
fn unshared(error: &disk_image::ImageError) -> Cause {
    if error.kind() == ImageErrorKind::Unsupported {
        Cause::NoReflinks { path: error.path().to_path_buf() }
    } else {
        Cause::from(error)
    }
}

/// Undoes what a plan did: what belongs into the transaction that ends the job, and what could not
/// be undone now.
pub(crate) fn undo(plan: &Plan, step: Step, job: JobId) -> (Vec<Change>, Option<Cause>) {
    let Step::Planned { index, .. } = step else { return (Vec::new(), None) };
    let (mut changes, mut failed) = (Vec::new(), None);
    for how in plan.undone_at(index) {
        let (place, removed, file) = match how {
            How::Remove { place } => {
                let identity = plan.identity(place);
                (place, place.remove(identity), Some((place.clone(), identity)))
            }
            How::Delete { place } => {
                (place, disk_image::delete(&place.path, MissingFile::Tolerate), None)
            }
            How::Unknown(what) => {
                let (path, reason) = (PathBuf::new(), format!("this version does not know {what}"));
                tracing::warn!(%job, %what, "this version does not know how to undo that");
                failed.get_or_insert(Cause::CleanupFailed { path, reason });
                continue;
            }
        };
        if let Err(error) = removed {
            changes.push(Change::PutDebris(Debris { path: place.path.clone(), job, file }));
            // What is gone with its directory is removed if that comes back.
            if error.kind() == ImageErrorKind::NotFound {
                continue;
            }
            failed.get_or_insert(Cause::CleanupFailed {
                path: place.path.clone(),
                reason: error.to_string(),
            });
        }
    }
    (changes, failed)
}

/// Finishes, before anybody opens the disk, an exchange of data in which the process died.
pub(crate) fn recover(record: &JobRecord) -> Result<(), disk_image::ImageError> {
    let (Some(plan), Step::Planned { index, done: 1 }) = (&record.plan, record.step) else {
        return Ok(());
    };
    if record.ending.is_some() || record.job.state.is_terminal() {
        // It failed, and the disk has what it had.
        return Ok(());
    }
    let action = plan.actions.get(usize::try_from(index).unwrap_or(usize::MAX));
    let Some(Action::RollBack { from, to, .. }) = action else { return Ok(()) };
    exchange_file(&from.open(false, Access::Look)?, &to.open(false, Access::Share)?)
}
