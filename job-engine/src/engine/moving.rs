//! Requests for disks in other files: another pool, another format, no more space than they need. A
//! disk stays the same disk, and one that is a LUN stays in use.
//!
//! Snapshots stay where they are: no image of another directory is ever a parent, so the new one is
//! laid over nothing, and a roll back to a snapshot that is elsewhere makes an image of its own of it.

use disk_image::ImageFormat;

use super::copying::{Builder, affected, check_format, whole_disk};
use super::core::Core;
use super::overlays::swept;
use super::state::{Change, Debris};
use super::{Engine, State};
use crate::catalogue::{Disk, DiskSnapshot, Provisioning};
use crate::error::{Cause, RequestError};
use crate::id::{DiskId, JobId, PoolId};
use crate::job::{Element, ElementEffect, JobKind, Purpose, Submission};
use crate::place::Place;
use crate::plan::{Action, Conversion, Form, How, Moving};

/// A request for a disk in another file. What it says nothing of stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveDisk {
    /// The disk.
    pub disk: DiskId,
    /// The pool that it comes into.
    pub pool: Option<PoolId>,
    /// The format that it gets.
    pub format: Option<ImageFormat>,
    /// Thin or full.
    pub provisioning: Option<Provisioning>,
}

impl Engine {
    /// Submits that a disk, which may be a LUN, gets another format, or owns its space or not; its
    /// identity and its data stay. Its snapshots stay what and where they are.
    ///
    /// # Errors
    /// `NotFound`, `DiskInUse` for a disk that a job works on, `BadValue` for what it is already or the
    /// format cannot do, `CouldNotStart`, `StoreNearlyFull`, `StoreUnavailable`, `ShuttingDown`.
    pub fn convert_disk(
        &self,
        disk: DiskId,
        format: ImageFormat,
        provisioning: Option<Provisioning>,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let request = MoveDisk { disk, pool: None, format: Some(format), provisioning };
        self.shared
            .request(move |core| core.submit_move(Purpose::ConvertDisk, &request, submission))
    }

    /// Submits that a disk, which may be a LUN, comes into another pool, and gets another format with
    /// it if that is wanted; its identity and its data stay.
    ///
    /// # Errors
    /// As [`Engine::convert_disk`]; `NotFound` also for the pool.
    pub fn move_disk(
        &self,
        request: MoveDisk,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared.request(move |core| core.submit_move(Purpose::MoveDisk, &request, submission))
    }

    /// Submits that a thin disk, which may be a LUN, takes no more space than its data need.
    ///
    /// # Errors
    /// As [`Engine::convert_disk`]; `BadValue` for a disk that owns all its space, `DiskInUse` for one
    /// that has snapshots.
    pub fn compact_disk(
        &self,
        disk: DiskId,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let request = MoveDisk { disk, pool: None, format: None, provisioning: None };
        self.shared
            .request(move |core| core.submit_move(Purpose::CompactDisk, &request, submission))
    }
}

/// What a request makes of a disk.
struct Planned {
    before: Disk,
    after: Disk,
    is_used: bool,
    /// Takes what nobody needs then out of the catalogue.
    remains: Vec<Change>,
    /// What old records of its snapshots do not say: the format that the disk has had up to now.
    formats: Vec<Change>,
}

impl Core {
    fn submit_move(
        &mut self,
        purpose: Purpose,
        request: &MoveDisk,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let id = JobId::generate();
        let element = Element::Disk(request.disk);
        let planned = {
            let state = self.shared.state.lock();
            self.plan_move(&state, purpose, request, id)
        };
        let planned = planned.map_err(|cause| self.refuse(cause, Some(&element)))?;
        let Planned { before, after, is_used, remains, formats } = planned;
        let form = |disk: &Disk| Form { place: Place::pool(&disk.path), format: disk.format };
        let (from, to, bytes) = (form(&before), form(&after), before.size_bytes);
        let conversion = Conversion {
            from: from.clone(),
            to: to.clone(),
            bytes,
            block_bytes: before.block_length.bytes(),
            full: after.provisioning == Provisioning::Full,
        };
        let other_pool = before.pool != after.pool;
        let mut builder = Builder::default().claim(before.id, true).in_pool(&after.pool);
        if other_pool {
            builder = builder.growing(bytes);
        }
        if !formats.is_empty() {
            builder = builder.then(Action::Apply { changes: formats });
        }
        // The old file goes once nothing needs it any more.
        let mut last = vec![Change::PutDebris(Debris::of_disk(&before.path, id))];
        last.extend(remains);
        let builder = if is_used {
            let moving = Moving { disk: after.clone(), conversion, identity: None };
            let old = from.place;
            builder
                .making(&to.place)
                .then(Action::Move(Box::new(moving)))
                .no_return()
                .undo(How::Delete { place: old })
        } else {
            last.push(Change::PutDisk(Box::new(after.clone())));
            builder
                .then(Action::Await { place: from.place.clone() })
                .making(&to.place)
                .then(Action::Convert(Box::new(conversion)))
                .then(Action::Compare { from: Some(from), of: to.clone(), bytes })
                .then(Action::Publish { place: to.place, identity: None })
        };
        let name = if purpose == Purpose::CompactDisk {
            format!("Compact disk {}", before.name)
        } else if other_pool {
            format!("Move disk {} to pool {}", before.name, after.pool)
        } else {
            format!("Convert disk {} to {}", before.name, after.format)
        };
        let effect = if is_used { ElementEffect::Other } else { ElementEffect::ExclusiveUse };
        let mut elements = vec![affected(element, effect)];
        elements.push(affected(Element::Pool(after.pool.clone()), ElementEffect::Other));
        if other_pool {
            elements.push(affected(Element::Pool(before.pool), ElementEffect::Other));
        }
        let kind = JobKind::Planned { purpose, disk: before.id, makes: None };
        self.submit_planned(id, (name, kind, elements), Some(builder.finish(last)), submission)
    }

    fn plan_move(
        &self,
        state: &State,
        purpose: Purpose,
        request: &MoveDisk,
        job: JobId,
    ) -> Result<Planned, Cause> {
        let before = whole_disk(state, request.disk)?;
        if purpose == Purpose::CompactDisk {
            // What it shares with them it would have twice.
            super::snapshots::without_snapshots(state, &before)?;
        }
        let format = request.format.unwrap_or(before.format);
        let provisioning = request.provisioning.unwrap_or(before.provisioning);
        let pool = request.pool.clone().unwrap_or_else(|| before.pool.clone());
        let found = super::find_pool(&self.shared.config, state, &pool);
        let missing = || Cause::NotFound { what: "pool".to_owned(), name: pool.to_string() };
        let directory = found.ok_or_else(missing)?.directory;
        let refuse = |reason: String| {
            let property = format!("disk {}", before.name);
            Err(Cause::BadValue { property, reason })
        };
        if purpose == Purpose::CompactDisk {
            if provisioning == Provisioning::Full {
                return refuse("it owns all its space, and gives none back".to_owned());
            }
        } else if (format, provisioning, &pool)
            == (before.format, before.provisioning, &before.pool)
        {
            let place = if purpose == Purpose::MoveDisk { " in that pool" } else { "" };
            return refuse(format!("it is such a {format} image{place} already"));
        }
        check_format(&before, format, provisioning)?;
        // Never the name of the file that there is.
        let path = directory.join(format!("{}.{}.{format}", before.id, job.uuid().simple()));
        let after =
            Disk { path, format, provisioning, pool, parent: None, device: None, ..before.clone() };
        let remains = match state.snapshots_of(before.id).count() {
            0 => state.remains(before.id),
            // Those that were there for the disk's image alone.
            _ => state.needless(before.parent),
        };
        let snapshots = state.snapshots.values();
        let silent = snapshots.filter(|it| it.disk == before.id && it.format.is_none());
        let said = silent.map(|it| {
            let format = Some(before.format);
            Change::PutSnapshot(DiskSnapshot { format, ..DiskSnapshot::clone(it) })
        });
        Ok(Planned {
            formats: said.collect(),
            is_used: state.is_mapped(before.id),
            remains: swept(&remains, job),
            before,
            after,
        })
    }
}
