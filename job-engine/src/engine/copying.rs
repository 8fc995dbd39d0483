//! Requests for copies of disks and files, and for smaller disks: each becomes a job with a plan.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk_image::{FileIdentity, ImageFormat, OpenOptions, check_create, is_device};

use super::core::Core;
use super::masking::Expose;
use super::overlays::{Frozen, frozen_or_shared};
use super::state::Change;
use super::{Engine, State};
use crate::catalogue::{BlockLength, Disk, DiskSnapshot, Provisioning};
use crate::error::{Cause, RequestError};
use crate::id::{DiskId, JobId, PoolId};
use crate::job::{AffectedElement, Element, ElementEffect, JobKind, Purpose, Submission};
use crate::kinds::{self, CreateDisk};
use crate::place::{Access, Place};
use crate::plan::{Action, Claim, Conversion, Form, How, Plan, Undo};

/// A request for a disk with the data of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneDisk {
    /// The disk.
    pub source: DiskId,
    /// Name of the new one.
    pub name: String,
    /// Thin or full; as the source without it.
    pub provisioning: Option<Provisioning>,
    /// The format; as the source without it.
    pub format: Option<ImageFormat>,
    /// The pool; as the source without it.
    pub pool: Option<PoolId>,
}

/// A request for a disk that is made of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportDisk {
    /// The file, below an allowed directory.
    pub path: PathBuf,
    /// Name of the disk.
    pub name: String,
    /// The file becomes the disk's, where it is; otherwise it is copied into the pool.
    pub in_place: bool,
    /// Logical block length.
    pub block_length: BlockLength,
    /// Thin or full.
    pub provisioning: Provisioning,
    /// Whether the copy is compared with the file, or a file that stays where it is read as a whole.
    pub verify: bool,
    /// The format of the file. Without it the file's content says: raw is what has no mark of
    /// another.
    pub format: Option<ImageFormat>,
    /// The format of the copy; as the file without it.
    pub to_format: Option<ImageFormat>,
    /// The pool; the default pool without it. A file that stays where it is has none to choose.
    pub pool: Option<PoolId>,
}

impl Engine {
    /// Submits a full copy of a disk. One that is a LUN is copied as it is at one instant: where the
    /// file system shares no blocks, or would have initiators wait for that, the disk gets an image that is
    /// laid over its own.
    ///
    /// # Errors
    /// `NotFound`, `DiskInUse` while a job changes the disk, `BadName`, `NameInUse`,
    /// `CouldNotStart`, `StoreNearlyFull`, `StoreUnavailable`, `ShuttingDown`.
    pub fn clone_disk(
        &self,
        request: CloneDisk,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared.request(move |core| core.submit_clone(&request, submission))
    }

    /// Submits the import of an image. A copy has the data of its parents too, which must lie below the
    /// allowed directories as well; a file that stays where it is has none.
    ///
    /// # Errors
    /// `BadValue` (the path), `Missing` and the like for a file that cannot be opened, `BadFormat`,
    /// `Corrupt`, `UnsupportedOperation` for one that is no sound image of its format, `ParentMismatch`,
    /// `BadSize`,
    /// `BadName`, `NameInUse`, `CouldNotStart`, `StoreNearlyFull`, `StoreUnavailable`,
    /// `ShuttingDown`.
    pub fn import_disk(
        &self,
        request: ImportDisk,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared.request(move |core| core.submit_import(&request, submission))
    }

    /// Submits a copy of a disk as an image of any format below an allowed directory. Of one that is
    /// a LUN as [`Engine::clone_disk`].
    ///
    /// # Errors
    /// `NotFound`, `DiskInUse` while a job changes the disk, `BadValue` (the path), `FileExists`,
    /// `CouldNotStart`, `StoreNearlyFull`, `StoreUnavailable`, `ShuttingDown`.
    pub fn export_disk(
        &self,
        disk: DiskId,
        path: PathBuf,
        format: ImageFormat,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared.request(move |core| core.submit_export(disk, (&path, format), submission))
    }

    /// Submits that a disk, which may be a LUN, becomes smaller. The job fails with `TailInUse` if
    /// there are data behind its new end: in a raw file what has space, in other images what is not
    /// zeroes. Its snapshots stay as large as they are.
    ///
    /// # Errors
    /// `NotFound`, `DiskInUse` while another job works on it, `BadSize`, `CouldNotStart`,
    /// `StoreNearlyFull`, `StoreUnavailable`, `ShuttingDown`.
    pub fn shrink_disk(
        &self,
        disk: DiskId,
        size_bytes: u64,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared.request(move |core| core.submit_shrink(disk, size_bytes, submission))
    }

    /// Submits the deletion of a disk whose data are overwritten with zeroes before its file is
    /// removed. From the first byte on there is no way back: a job that is ended then removes the
    /// file all the same.
    ///
    /// # Errors
    /// As [`Engine::delete_disk`].
    pub fn overwrite_disk(
        &self,
        disk: DiskId,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        self.shared.request(move |core| core.submit_overwrite(disk, submission))
    }
}

/// A disk that a job may use beside others that do not change it.
pub(super) fn shared_disk(state: &State, id: DiskId) -> Result<Disk, Cause> {
    match (state.disks.get(&id), state.exclusive_claim(id)) {
        (None, _) => Err(not_found(id)),
        (Some(disk), Some(job)) => {
            Err(Cause::DiskInUse { disk: disk.name.clone(), holder: format!("job {job}") })
        }
        (Some(disk), None) => Ok(Disk::clone(disk)),
    }
}

/// A disk that a job may have for itself.
pub(super) fn whole_disk(state: &State, id: DiskId) -> Result<Disk, Cause> {
    match (state.disks.get(&id), state.claim(id)) {
        (None, _) => Err(not_found(id)),
        (Some(disk), Some(job)) => {
            Err(Cause::DiskInUse { disk: disk.name.clone(), holder: format!("job {job}") })
        }
        (Some(disk), None) => Ok(Disk::clone(disk)),
    }
}

fn not_found(id: DiskId) -> Cause {
    Cause::NotFound { what: "disk".to_owned(), name: id.to_string() }
}

/// A disk as a LUN: not for jobs that take it away.
pub(super) fn unmapped(state: &State, disk: &Disk) -> Result<(), Cause> {
    match state.mappings.values().find(|mapping| mapping.disk == disk.id) {
        Some(mapping) => Err(Cause::DiskInUse {
            disk: disk.name.clone(),
            holder: format!("LUN {} of target {}", mapping.lun, mapping.target),
        }),
        None => Ok(()),
    }
}

/// The file of a disk as it is at one instant, while it is copied.
pub(super) fn instant_of(disk: &Disk, job: JobId) -> Place {
    let directory = disk.path.parent().map(PathBuf::from).unwrap_or_default();
    Place::pool(directory.join(format!("{job}.instant.raw")))
}

pub(super) fn affected(element: Element, effect: ElementEffect) -> AffectedElement {
    AffectedElement { element, effect }
}

/// Builds a plan, with undo beside what is to be undone.
#[derive(Default)]
pub(super) struct Builder {
    plan: Plan,
}

impl Builder {
    pub(super) fn claim(mut self, disk: DiskId, exclusive: bool) -> Self {
        self.plan.claims.push(Claim { disk, exclusive });
        self
    }

    /// What it takes space of, if it makes no disk.
    pub(super) fn in_pool(mut self, pool: &PoolId) -> Self {
        self.plan.pool = Some(pool.clone());
        self
    }

    pub(super) fn then(mut self, action: Action) -> Self {
        self.plan.actions.push(action);
        self
    }

    /// It brings a disk of so many bytes into that pool.
    pub(super) fn growing(mut self, bytes: u64) -> Self {
        self.plan.grows = bytes;
        self
    }

    /// From the next action on, the file that it makes is removed if the job fails.
    pub(super) fn making(self, place: &Place) -> Self {
        self.undo(How::Remove { place: place.clone() })
    }

    pub(super) fn undo(mut self, how: How) -> Self {
        let from = self.next();
        self.plan.undo.push(Undo { from, how });
        self
    }

    /// From the next action on there is no way back.
    pub(super) fn no_return(mut self) -> Self {
        self.plan.no_return = Some(self.next());
        self
    }

    fn next(&self) -> u32 {
        u32::try_from(self.plan.actions.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn finish(self, changes: Vec<Change>) -> Box<Plan> {
        Box::new(self.then(Action::Complete { changes }).plan)
    }

    /// The same, and exposes the disk that it makes.
    pub(super) fn finish_exposed(
        self,
        disk: DiskId,
        changes: Vec<Change>,
        to: Box<Expose>,
    ) -> Box<Plan> {
        Box::new(self.then(Action::CompleteExposed { disk, changes, to }).plan)
    }

    /// A copy of a disk under its name; also what belongs into the catalogue at the end.
    fn copy_out(
        self,
        disk: &Disk,
        (mapped, frozen): (bool, Option<&Frozen>),
        job: JobId,
        to: Form,
        full: bool,
    ) -> (Self, Vec<Change>) {
        let place = to.place.clone();
        let builder = match frozen {
            None => self.copy_of(disk, mapped, job, to, full),
            Some(frozen) => self.freeze(frozen).copy_of(disk, false, job, to, full),
        };
        let builder = builder.then(Action::Publish { place, identity: None });
        match frozen {
            None => (builder, Vec::new()),
            Some(frozen) => builder.thaw(frozen, job),
        }
    }

    /// A copy of a disk; of one that is in use, as it is at one instant.
    fn copy_of(self, disk: &Disk, mapped: bool, job: JobId, to: Form, full: bool) -> Self {
        let from = Place::pool(&disk.path);
        let same = disk.format == to.format;
        // The file as it is, or what is in it.
        let raw = same && disk.format == ImageFormat::Raw;
        // A copy of the file alone would lack what is in those that it is laid over.
        let alike =
            same && full == (disk.provisioning == Provisioning::Full) && disk.parent.is_none();
        // A log that has to be replayed is for the pool alone.
        let whole = raw || (alike && to.place.root.is_none());
        let share = |to: &Place| Action::share(disk.id, &from, to);
        let publish = |place: &Place| Action::Publish { place: place.clone(), identity: None };
        let copy = |from: Place, to: Form| {
            if whole {
                // What a raw file has behind the disk's end is not the disk's.
                let bytes = raw.then_some(disk.size_bytes);
                return Action::Copy { from, to: to.place, bytes, full };
            }
            let (bytes, block_bytes) = (disk.size_bytes, disk.block_length.bytes());
            let from = Form { place: from, format: disk.format };
            Action::Convert(Box::new(Conversion { from, to, bytes, block_bytes, full }))
        };
        if !mapped {
            return self.making(&to.place).then(copy(from, to));
        }
        let near = to.place.root.is_none() && to.place.parent() == from.parent();
        if whole && near && !full {
            return self.making(&to.place).then(share(&to.place));
        }
        let instant = instant_of(disk, job);
        self.making(&instant)
            .then(share(&instant))
            .then(publish(&instant))
            .making(&to.place)
            .then(copy(instant.clone(), to))
            .then(Action::Remove { place: instant })
    }
}

impl Core {
    fn submit_clone(
        &mut self,
        request: &CloneDisk,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let id = JobId::generate();
        let planned = {
            let state = self.shared.state.lock();
            shared_disk(&state, request.source).and_then(|source| {
                let create = CreateDisk {
                    name: request.name.clone(),
                    size_bytes: source.size_bytes,
                    block_length: source.block_length,
                    provisioning: request.provisioning.unwrap_or(source.provisioning),
                    format: request.format.unwrap_or(source.format),
                    pool: Some(request.pool.clone().unwrap_or_else(|| source.pool.clone())),
                };
                let disk = kinds::plan_disk(&create, id, self.now(), &self.shared.config, &state)?;
                let frozen = Frozen::of(&state, &source, id, self.now())?;
                Ok((state.is_mapped(source.id), source, disk, frozen))
            })
        };
        let element = Element::Disk(request.source);
        let (mapped, source, disk, frozen) =
            planned.map_err(|cause| self.refuse(cause, Some(&element)))?;
        let to = Place::pool(&disk.path);
        let full = disk.provisioning == Provisioning::Full;
        let form = Form { place: to, format: disk.format };
        let plan = frozen_or_shared(frozen.as_ref(), |frozen| {
            let (builder, mut changes) = Builder::default()
                .claim(source.id, frozen.is_some())
                .claim(disk.id, true)
                .copy_out(&source, (mapped, frozen), id, form.clone(), full);
            changes.push(Change::PutDisk(Box::new(disk.clone())));
            builder.finish(changes)
        });
        let name = format!("Clone disk {} as {}", source.name, disk.name);
        let affected = vec![
            affected(Element::Disk(disk.id), ElementEffect::Create),
            affected(element, ElementEffect::Other),
            affected(Element::Pool(disk.pool.clone()), ElementEffect::Other),
        ];
        let kind = JobKind::Planned {
            purpose: Purpose::CloneDisk,
            disk: disk.id,
            makes: Some(Box::new(disk)),
        };
        self.submit_planned(id, (name, kind, affected), Some(plan), submission)
    }

    fn submit_import(
        &mut self,
        request: &ImportDisk,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let id = JobId::generate();
        let planned = self.plan_import(request, id);
        let (from, disk) = planned.map_err(|cause| self.refuse(cause, None))?;
        let builder = Builder::default().claim(disk.id, true);
        let builder = if request.in_place {
            take_in(builder, from, &disk, request.verify)
        } else {
            copy_in(builder, from, &disk, request.verify)
        };
        let plan = builder.finish(vec![Change::PutDisk(Box::new(disk.clone()))]);
        let name = format!("Import {} as disk {}", request.path.display(), disk.name);
        let affected = vec![
            affected(Element::Disk(disk.id), ElementEffect::Create),
            affected(Element::Pool(disk.pool.clone()), ElementEffect::Other),
        ];
        let kind = JobKind::Planned {
            purpose: Purpose::ImportDisk,
            disk: disk.id,
            makes: Some(Box::new(disk)),
        };
        self.submit_planned(id, (name, kind, affected), Some(plan), submission)
    }

    fn plan_import(&self, request: &ImportDisk, id: JobId) -> Result<(Form, Disk), Cause> {
        let config = &self.shared.config;
        let place = Place::allowed(&request.path, &config.allowed_directories)?;
        let failed = |error: disk_image::ImageError| Cause::from(&error);
        let format = match request.format {
            Some(format) => format,
            None => {
                let file = place.open(false, Access::Read).map_err(failed)?;
                disk_image::probe_named(file).map_err(failed)?
            }
        };
        let file = place.open(false, Access::Read).map_err(failed)?;
        let length = if format == ImageFormat::Raw {
            file.length().map_err(failed)?
        } else {
            // A disk's file stays what it is; what it would be laid over is somebody's.
            let options = OpenOptions {
                no_parents: request.in_place,
                parent_opener: Some(self.shared.config.parents_of_clients()),
                ..OpenOptions::read_only()
            };
            disk_image::open_named(file, format, &options).map_err(failed)?.size_bytes()
        };
        // Of this format there are no disks.
        let usual = if format == ImageFormat::Vmdk { ImageFormat::Raw } else { format };
        let made = request.to_format.unwrap_or(usual);
        if request.in_place && made != format {
            let property = "Format".to_owned();
            let reason = format!("a file that stays where it is stays a {format} image");
            return Err(Cause::BadValue { property, reason });
        }
        let device = (request.in_place && is_device(&request.path)).then(|| request.path.clone());
        if device.is_some() && format != ImageFormat::Raw {
            let (property, reason) = ("Format".to_owned(), "a device holds a raw disk".to_owned());
            return Err(Cause::BadValue { property, reason });
        }
        if request.in_place && device.is_none() && request.pool.is_some() {
            let reason = "a file that stays where it is comes into no other pool".to_owned();
            return Err(Cause::BadValue { property: "Pool".to_owned(), reason });
        }
        let block = u64::from(request.block_length.bytes());
        // A copy of a raw file is filled with zeroes up to the next block; somebody's file is left
        // as it is.
        let fills = !request.in_place && format == ImageFormat::Raw && made == format;
        let size_bytes = if fills { length.next_multiple_of(block) } else { length };
        let create = CreateDisk {
            name: request.name.clone(),
            size_bytes,
            block_length: request.block_length,
            provisioning: request.provisioning,
            format: made,
            pool: request.pool.clone(),
        };
        let state = self.shared.state.lock();
        let mut disk = kinds::plan_disk(&create, id, self.now(), config, &state)?;
        if device.is_some() {
            let is_its = |other: &&Disk| same_device(other, device.as_deref());
            if let Some(other) = state.disks_and_coming().find(is_its) {
                let holder = "the catalogue, as its device".to_owned();
                return Err(Cause::DiskInUse { disk: other.name.clone(), holder });
            }
            // A disk that was moved has left its snapshots there.
            let lies_there = |it: &&Arc<DiskSnapshot>| same_file(&it.path, &request.path);
            if let Some(snapshot) = state.snapshots.values().find(lies_there) {
                let disk = state.disks.get(&snapshot.disk).map(|disk| disk.name.clone());
                let holder = "a snapshot of it, which lies on the device".to_owned();
                return Err(Cause::DiskInUse { disk: disk.unwrap_or_default(), holder });
            }
            disk.device = device;
        } else if request.in_place {
            // Where it is without links, now that nobody can have changed them on the way here.
            disk.path = std::fs::canonicalize(&request.path).map_err(|error| {
                let operation = disk_image::Operation::Open;
                failed(disk_image::ImageError::from_io(operation, request.path.as_path(), error))
            })?;
            Place::allowed(&disk.path, &config.allowed_directories)?;
            if let Some(other) = state.disks_and_coming().find(|other| other.path == disk.path) {
                let holder = "the catalogue, as its file".to_owned();
                return Err(Cause::DiskInUse { disk: other.name.clone(), holder });
            }
        }
        Ok((Form { place, format }, disk))
    }

    fn submit_export(
        &mut self,
        disk: DiskId,
        (path, format): (&Path, ImageFormat),
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let id = JobId::generate();
        let element = Element::Disk(disk);
        let planned = {
            let state = self.shared.state.lock();
            shared_disk(&state, disk).and_then(|disk| {
                check_format(&disk, format, disk.provisioning)?;
                let to = Place::allowed(path, &self.shared.config.allowed_directories)?;
                to.is_free().map_err(|error| Cause::from(&error))?;
                let frozen = Frozen::of(&state, &disk, id, self.now())?;
                Ok((state.is_mapped(disk.id), disk, to, frozen))
            })
        };
        let (mapped, disk, to, frozen) =
            planned.map_err(|cause| self.refuse(cause, Some(&element)))?;
        let form = Form { place: to, format };
        let plan = frozen_or_shared(frozen.as_ref(), |frozen| {
            let builder = Builder::default().claim(disk.id, frozen.is_some());
            let how = (mapped, frozen);
            let (builder, changes) = builder.copy_out(&disk, how, id, form.clone(), false);
            builder.finish(changes)
        });
        let name = format!("Export disk {} to {}", disk.name, path.display());
        let affected = vec![affected(element, ElementEffect::Other)];
        let kind = JobKind::Planned { purpose: Purpose::ExportDisk, disk: disk.id, makes: None };
        self.submit_planned(id, (name, kind, affected), Some(plan), submission)
    }

    fn submit_shrink(
        &mut self,
        disk: DiskId,
        to_bytes: u64,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let element = Element::Disk(disk);
        let planned = {
            let state = self.shared.state.lock();
            whole_disk(&state, disk).and_then(|disk| {
                check_shrinkage(&disk, to_bytes)?;
                if state.device_below(&disk).is_some() {
                    // What is behind its end could be neither cut off nor forgotten.
                    let reason = "its data are on a device, which becomes no smaller: move it into \
                                  a file first";
                    let (property, reason) = ("size".to_owned(), reason.to_owned());
                    return Err(Cause::BadValue { property, reason });
                }
                Ok(disk)
            })
        };
        let disk = planned.map_err(|cause| self.refuse(cause, Some(&element)))?;
        let place = Place::pool(&disk.path);
        let cut = if disk.format == ImageFormat::Raw {
            Action::Truncate { place, bytes: to_bytes }
        } else {
            let of = Form { place, format: disk.format };
            Action::Cut { disk: disk.id, of, bytes: to_bytes }
        };
        let plan = Builder::default()
            .claim(disk.id, true)
            .then(Action::Shrink { disk: Box::new(disk.clone()), to_bytes })
            .no_return()
            .then(cut)
            .finish(Vec::new());
        let name = format!("Shrink disk {}", disk.name);
        let affected = vec![
            affected(element, ElementEffect::Other),
            affected(Element::Pool(disk.pool.clone()), ElementEffect::Other),
        ];
        let kind = JobKind::Planned { purpose: Purpose::ShrinkDisk, disk: disk.id, makes: None };
        self.submit_planned(JobId::generate(), (name, kind, affected), Some(plan), submission)
    }

    fn submit_overwrite(
        &mut self,
        disk: DiskId,
        submission: Submission,
    ) -> Result<JobId, RequestError> {
        let element = Element::Disk(disk);
        let planned = {
            let state = self.shared.state.lock();
            whole_disk(&state, disk).and_then(|disk| {
                unmapped(&state, &disk)?;
                super::snapshots::without_snapshots(&state, &disk)?;
                let remains = state.remains(disk.id);
                Ok((disk, remains))
            })
        };
        let (disk, remains) = planned.map_err(|cause| self.refuse(cause, Some(&element)))?;
        let place = Place::pool(&disk.path);
        // The images that its own is laid over go with it.
        let below: Vec<_> = remains.iter().map(|it| Place::pool(&it.path)).collect();
        let mut changes = vec![Change::DeleteDisk(disk.id)];
        changes.extend(remains.iter().map(|it| Change::DeleteSnapshot(it.id)));
        let mut builder = Builder::default()
            .claim(disk.id, true)
            .then(Action::Await { place: place.clone() })
            .then(Action::Apply { changes });
        let places: Vec<_> = std::iter::once(place).chain(below).collect();
        for place in &places {
            builder = builder.undo(How::Delete { place: place.clone() });
        }
        for place in places {
            builder = builder.then(Action::Overwrite { place: place.clone() });
            builder = builder.then(Action::Remove { place });
        }
        let plan = builder.finish(Vec::new());
        let name = format!("Overwrite and delete disk {}", disk.name);
        let affected = vec![affected(element, ElementEffect::ExclusiveUse)];
        let kind = JobKind::Planned { purpose: Purpose::OverwriteDisk, disk: disk.id, makes: None };
        self.submit_planned(JobId::generate(), (name, kind, affected), Some(plan), submission)
    }
}

/// A file that stays where it is and becomes a disk's.
fn take_in(builder: Builder, from: Form, disk: &Disk, verify: bool) -> Builder {
    let bytes = disk.size_bytes;
    if disk.device.is_some() {
        let (device, to) = (from.place, Place::pool(&disk.path));
        let mut builder = builder.making(&to);
        if verify {
            builder = builder.then(Action::Verify { from: None, of: device.clone(), bytes });
        }
        let link = Action::Link { device, to: to.clone() };
        return builder.then(link).then(Action::Publish { place: to, identity: None });
    }
    if !verify {
        builder
    } else if from.format == ImageFormat::Raw {
        builder.then(Action::Verify { from: None, of: from.place, bytes })
    } else {
        builder.then(Action::Compare { from: None, of: from, bytes })
    }
}

/// Whether a disk's data are on this device, by whatever name.
fn same_device(disk: &Disk, device: Option<&Path>) -> bool {
    let (Some(one), Some(other)) = (disk.device.as_deref(), device) else { return false };
    one == other || same_file(one, other)
}

fn same_file(one: &Path, other: &Path) -> bool {
    matches!((FileIdentity::of(one), FileIdentity::of(other)), (Ok(one), Ok(other)) if one == other)
}

/// A file that is copied into a disk's.
fn copy_in(builder: Builder, from: Form, disk: &Disk, verify: bool) -> Builder {
    let (to, bytes) = (Place::pool(&disk.path), disk.size_bytes);
    let full = disk.provisioning == Provisioning::Full;
    let mut builder = builder.making(&to);
    if (from.format, disk.format) == (ImageFormat::Raw, ImageFormat::Raw) {
        let (from, to) = (from.place, to.clone());
        let copy = Action::Copy { from: from.clone(), to: to.clone(), bytes: Some(bytes), full };
        builder = builder.then(copy);
        if verify {
            builder = builder.then(Action::Verify { from: Some(from), of: to, bytes });
        }
    } else {
        let made = Form { place: to.clone(), format: disk.format };
        let block_bytes = disk.block_length.bytes();
        let (source, to) = (from.clone(), made.clone());
        let conversion = Conversion { from: source, to, bytes, block_bytes, full };
        builder = builder.then(Action::Convert(Box::new(conversion)));
        if verify {
            builder = builder.then(Action::Compare { from: Some(from), of: made, bytes });
        }
    }
    builder.then(Action::Publish { place: to, identity: None })
}

/// Refuses a format that cannot hold a disk.
pub(super) fn check_format(
    disk: &Disk,
    format: ImageFormat,
    space: Provisioning,
) -> Result<(), Cause> {
    let property = "Format".to_owned();
    let options = kinds::create_options(disk.size_bytes, disk.block_length, space);
    check_create(format, &options).map_err(|reason| Cause::BadValue { property, reason })
}

/// Checks a smaller size as far as that can be done at once.
fn check_shrinkage(disk: &Disk, to_bytes: u64) -> Result<(), Cause> {
    let block = u64::from(disk.block_length.bytes());
    let reason = if to_bytes >= disk.size_bytes {
        format!("the disk has {} bytes, and is to become smaller", disk.size_bytes)
    } else if to_bytes == 0 || !to_bytes.is_multiple_of(block) {
        format!("it is no multiple of the block length, {block} bytes, or 0")
    } else {
        return Ok(());
    };
    let largest = disk.size_bytes.saturating_sub(block);
    let nearest = to_bytes.next_multiple_of(block).clamp(block, largest.max(block));
    Err(Cause::BadSize {
        size: to_bytes,
        reason,
        nearest: (nearest < disk.size_bytes).then_some(nearest),
    })
}
