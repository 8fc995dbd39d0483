//! Making a virtual disk.
//!
//! 1. record `CreateAllocating`; 2. the file grows under `<name>.partial` and gets its name when it
//!    is durable; 3. one transaction puts the disk into the catalogue and completes the job.

use disk_image::{
    CreateOptions, ImageFormat, Preallocation, check_create, create_image, is_whole, partial_path,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Step;
use super::space::Wanted;
use crate::catalogue::{BlockLength, Disk, PoolSettings, Provisioning, check_disk_name};
use crate::engine::{
    Change, Debris, EngineConfig, Failure, IfEnding, JobContext, State, find_pool, remove_files,
};
use crate::error::Cause;
use crate::failpoint;
use crate::id::{DiskId, JobId, Naa, PoolId};

/// A request for a new virtual disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateDisk {
    /// Its name, unique among the disks.
    pub name: String,
    /// Size in bytes: a multiple of the block length, not 0.
    pub size_bytes: u64,
    /// Logical block length.
    pub block_length: BlockLength,
    /// Thin or full.
    pub provisioning: Provisioning,
    /// The format of its file.
    #[serde(default)]
    pub format: ImageFormat,
    /// The pool; `None` is the default pool.
    pub pool: Option<PoolId>,
}

/// The largest disk in bytes: what a file offset can say, in whole physical blocks.
pub const MAX_SIZE_BYTES: u64 = (1 << 63) - 4096;

impl CreateDisk {
    /// A thin disk with 512-byte blocks in the default pool.
    #[must_use]
    pub fn new(name: impl Into<String>, size_bytes: u64) -> Self {
        Self {
            name: name.into(),
            size_bytes,
            block_length: BlockLength::default(),
            provisioning: Provisioning::default(),
            format: ImageFormat::default(),
            pool: None,
        }
    }

    /// The nearest size that a disk can have: `size_bytes` rounded up to whole blocks, within
    /// what is possible at all.
    #[must_use]
    pub fn nearest_size(size_bytes: u64, block_length: BlockLength) -> u64 {
        let block = u64::from(block_length.bytes());
        size_bytes.clamp(block, MAX_SIZE_BYTES).next_multiple_of(block)
    }
}

/// Checks a request as far as that can be done at once, and says which disk it will make.
pub(crate) fn plan_disk(
    request: &CreateDisk,
    job: JobId,
    now: Timestamp,
    config: &EngineConfig,
    state: &State,
) -> Result<Disk, Cause> {
    let CreateDisk { name, size_bytes, block_length, provisioning, format, pool } = request.clone();
    if let Err(reason) = check_disk_name(&name) {
        let reason = reason.to_string();
        return Err(Cause::BadName { what: "disk".to_owned(), name, reason });
    }
    if state.disk_name_taken(&name) {
        return Err(Cause::NameInUse { what: "disk name".to_owned(), name });
    }
    let nearest = CreateDisk::nearest_size(size_bytes, block_length);
    if nearest != size_bytes {
        let reason = if size_bytes == 0 {
            "a disk has at least one block".to_owned()
        } else if size_bytes > MAX_SIZE_BYTES {
            format!("the largest disk has {MAX_SIZE_BYTES} bytes")
        } else {
            format!("it is no multiple of the block length, {} bytes", block_length.bytes())
        };
        return Err(Cause::BadSize { size: size_bytes, reason, nearest: Some(nearest) });
    }
    let pool = pool.unwrap_or_default();
    let Some(PoolSettings { directory, .. }) = find_pool(config, state, &pool) else {
        return Err(Cause::NotFound { what: "pool".to_owned(), name: pool.to_string() });
    };
    let property = "Format".to_owned();
    check_create(format, &create_options(size_bytes, block_length, provisioning))
        .map_err(|reason| Cause::BadValue { property, reason })?;
    let id = DiskId::generate();
    let seed = Uuid::new_v4().as_u128();
    Ok(Disk {
        parent: None,
        path: directory.join(format!("{id}.{format}")),
        id,
        name,
        size_bytes,
        block_length,
        provisioning,
        format,
        serial: format!("{:016X}", seed & u128::from(u64::MAX)),
        naa: Naa::from_seed(seed),
        read_only: false,
        device: None,
        pool,
        created: now,
        created_by: job,
    })
}

pub(super) fn run(context: &JobContext, disk: &Disk, step: Step) -> Result<(), Failure> {
    if step == Step::Pending {
        wanted(disk).reserve(context)?;
        context.step(failpoint::CREATE_ALLOCATING, Step::CreateAllocating, Vec::new())?;
    } else if is_whole(&disk.path, disk.format, disk.size_bytes) {
        // Interrupted after the file got its name and before that was recorded.
        return complete(context, disk);
    }
    allocate(context, disk)?;
    failpoint::hit("create.named");
    complete(context, disk)
}

fn complete(context: &JobContext, disk: &Disk) -> Result<(), Failure> {
    let effect = vec![Change::PutDisk(Box::new(disk.clone()))];
    Ok(context.complete(failpoint::CREATE_COMPLETE, IfEnding::TurnBack, effect)?)
}

pub(crate) fn create_options(
    size_bytes: u64,
    block_length: BlockLength,
    provisioning: Provisioning,
) -> CreateOptions {
    let preallocation = match provisioning {
        Provisioning::Thin => Preallocation::Sparse,
        Provisioning::Full => Preallocation::Full,
    };
    let options = CreateOptions::new(size_bytes, preallocation);
    CreateOptions { logical_block_bytes: block_length.bytes(), ..options }
}

fn allocate(context: &JobContext, disk: &Disk) -> Result<(), Failure> {
    context.boundary()?;
    let options = create_options(disk.size_bytes, disk.block_length, disk.provisioning);
    let wanted = wanted(disk);
    let failed = |error: disk_image::ImageError| wanted.cause(&error);
    let creator = create_image(disk.path.as_path(), disk.format, options);
    let mut creator = creator.map_err(failed)?;
    wanted.take(context, &mut *creator, "create.piece")?;
    creator.finish().map_err(failed)?;
    Ok(())
}

fn wanted(disk: &Disk) -> Wanted<'_> {
    Wanted { disk, verb: "create", bytes: disk.size_bytes }
}

pub(super) fn undo(disk: &Disk, job: JobId) -> (Vec<Change>, Option<Cause>) {
    match remove_files(&disk.path) {
        Ok(()) => (Vec::new(), None),
        Err(error) => {
            let path = partial_path(&disk.path);
            let debris = Change::PutDebris(Debris::of_disk(&disk.path, job));
            (vec![debris], Some(Cause::CleanupFailed { path, reason: error.to_string() }))
        }
    }
}
