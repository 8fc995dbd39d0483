//! Pools: which there are, whether they are there, and how much may be taken of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use disk_image::{ImageError, Operation, PoolSpace, pool_space};

use super::core::Core;
use super::health::trouble;
use super::shared::Shared;
use super::state::{Change, State};
use super::worker::{Failure, JobContext};
use super::{Engine, EngineConfig};
use crate::catalogue::{
    MAX_POOLS, MAX_SOFT_THRESHOLDS, Overcommit, Pool, PoolLimits, PoolSettings, PoolState,
    Threshold, check_pool_name,
};
use crate::error::{Cause, RequestError};
use crate::failpoint;
use crate::id::{JobId, PoolId};
use crate::job::{Element, JobKind};

/// Says whose a directory is. A mount point whose file system is not mounted has none.
const MARKER: &str = ".lund-pool";

impl Engine {
    /// Pools with their space now, the default pool first; asks the file systems.
    #[must_use]
    pub fn pools(&self) -> Vec<Pool> {
        let pools = self.pool_settings();
        pools.into_iter().map(|(settings, configured)| self.pool(settings, configured)).collect()
    }

    /// All pools as they were made, the default pool first, and whether they are configured. Asks
    /// nobody.
    #[must_use]
    pub fn pool_settings(&self) -> Vec<(PoolSettings, bool)> {
        let state = self.shared.state.lock();
        settings(&self.shared.config, &state)
    }

    fn pool(&self, settings: PoolSettings, configured: bool) -> Pool {
        let found = self.shared.look(&settings);
        let state = self.shared.state.lock();
        let reserved_bytes = state.reserved(&settings.id, None);
        let disks = state.disks.values().filter(|disk| disk.pool == settings.id).count();
        let provisioned_bytes = provisioned(&state, &settings.id, None);
        drop(state);
        let (total_bytes, free_bytes, state) = match found {
            Ok(space) => (space.total, space.free.saturating_sub(reserved_bytes), PoolState::Ready),
            Err(reason) => (0, 0, PoolState::Unavailable(reason)),
        };
        let PoolSettings { id, directory, limits } = settings;
        Pool {
            id,
            directory,
            configured,
            limits,
            total_bytes,
            free_bytes,
            reserved_bytes,
            provisioned_bytes,
            disks,
            state,
        }
    }

    /// What is wrong with pools: one that is not there, one below a threshold.
    #[must_use]
    pub fn pool_causes(&self) -> Vec<(PoolId, Cause)> {
        let cause = |pool: &Pool| Some((pool.id.clone(), trouble(pool, None)?.1));
        self.pools().iter().filter_map(cause).collect()
    }

    /// Makes a pool of a directory that is there. Disks can be made in it when this returns.
    ///
    /// # Errors
    /// `BadName`, `NameInUse`, `BadValue` (directory, limits), `LimitReached`, what the file system
    /// says, `StoreUnavailable`, `ShuttingDown`.
    pub fn create_pool(&self, request: PoolSettings) -> Result<Pool, RequestError> {
        let made = self.shared.request(move |core| core.create_pool(request))?;
        Ok(self.pool(made, false))
    }

    /// Changes what the space of a pool may be used for.
    ///
    /// # Errors
    /// `NotFound`, `BadValue` (a pool that stands in the configuration; limits),
    /// `StoreUnavailable`, `ShuttingDown`.
    pub fn change_pool(&self, id: &PoolId, limits: PoolLimits) -> Result<Pool, RequestError> {
        let id = id.clone();
        let changed = self.shared.request(move |core| core.change_pool(&id, limits))?;
        Ok(self.pool(changed, false))
    }

    /// Uses a pool no more. Its directory stays.
    ///
    /// # Errors
    /// `NotFound`, `BadValue` (a pool that stands in the configuration), `PoolInUse` while there are
    /// disks in it or jobs work there, `StoreUnavailable`, `ShuttingDown`.
    pub fn delete_pool(&self, id: &PoolId) -> Result<(), RequestError> {
        let id = id.clone();
        self.shared.request(move |core| core.delete_pool(&id))
    }
}

impl EngineConfig {
    /// The pools that stand in the configuration, the default pool first.
    fn configured_pools(&self) -> impl Iterator<Item = PoolSettings> {
        let first = PoolSettings {
            id: PoolId::default(),
            directory: self.default_pool.clone(),
            limits: self.default_limits.clone(),
        };
        std::iter::once(first).chain(self.pools.iter().cloned())
    }
}

fn settings(config: &EngineConfig, state: &State) -> Vec<(PoolSettings, bool)> {
    let mut all: Vec<_> = config.configured_pools().map(|pool| (pool, true)).collect();
    for pool in state.pools.values() {
        // What the configuration says goes first.
        if !all.iter().any(|(other, _)| other.id == pool.id) {
            all.push((PoolSettings::clone(pool), false));
        }
    }
    all
}

/// A pool by its name.
pub(crate) fn find_pool(config: &EngineConfig, state: &State, id: &PoolId) -> Option<PoolSettings> {
    settings(config, state).into_iter().map(|(pool, _)| pool).find(|pool| pool.id == *id)
}

/// A pool by its directory.
pub(super) fn pool_at(
    config: &EngineConfig,
    state: &State,
    directory: &Path,
) -> Option<PoolSettings> {
    let mut all = settings(config, state).into_iter().map(|(pool, _)| pool);
    all.find(|pool| pool.directory == directory)
}

/// Sizes of the disks of a pool, and of those that jobs other than `except` make there.
fn provisioned(state: &State, pool: &PoolId, except: Option<JobId>) -> u64 {
    let disks = state.disks.values().filter(|disk| disk.pool == *pool && disk.takes_pool_space());
    let of_jobs = state.unfinished_jobs().filter(|job| Some(job.id) != except).map(|job| {
        match (job.kind.makes(), &job.kind) {
            (Some(disk), _) if disk.pool == *pool && disk.takes_pool_space() => disk.size_bytes,
            (None, JobKind::ExpandDisk { disk, size_bytes })
                if disk.pool == *pool && disk.takes_pool_space() =>
            {
                size_bytes.saturating_sub(disk.size_bytes)
            }
            _ => 0,
        }
    });
    let moved = state.moved_into(pool, except);
    let bytes = disks.map(|disk| disk.size_bytes).chain(of_jobs).chain([moved]);
    bytes.fold(0, u64::saturating_add)
}

impl Shared {
    /// Whether a pool is there, and its space.
    pub(crate) fn look(&self, pool: &PoolSettings) -> Result<PoolSpace, String> {
        let space = pool_space(&pool.directory).map_err(|error| error.to_string())?;
        match owner(&pool.directory) {
            Ok(Some(owner)) if owner == pool.id.0 => return Ok(space),
            Ok(Some(owner)) => return Err(format!("the directory belongs to pool {owner}")),
            Ok(None) => {}
            Err(error) => return Err(format!("{MARKER} cannot be read: {error}")),
        }
        // From before there were markers, or used for the first time.
        let (made, images) = {
            let state = self.state.lock();
            let inside = |path: &&PathBuf| path.parent() == Some(pool.directory.as_path());
            let images = state.disks.values().map(|disk| &disk.path).filter(inside);
            (!state.pools.contains_key(&pool.id), images.cloned().collect::<Vec<_>>())
        };
        let known = images.iter().any(|path| path.symlink_metadata().is_ok());
        if known || (made && images.is_empty()) {
            if let Err(error) = mark(&pool.directory, &pool.id) {
                tracing::debug!(pool = %pool.id, %error, "the pool cannot be marked");
            }
            return Ok(space);
        }
        let missing = "the directory has no file .lund-pool, as if its file system was not mounted";
        Err(missing.to_owned())
    }
}

/// Whose a directory is.
fn owner(directory: &Path) -> std::io::Result<Option<String>> {
    let mut text = String::new();
    match File::open(directory.join(MARKER)) {
        Ok(file) => file.take(1024).read_to_string(&mut text)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(text.trim().to_owned()))
}

/// Writes down whose a directory is, durably.
fn mark(directory: &Path, id: &PoolId) -> std::io::Result<()> {
    let temporary = directory.join(format!("{MARKER}.partial"));
    let mut file = File::create(&temporary)?;
    file.write_all(format!("{id}\n").as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, directory.join(MARKER))?;
    File::open(directory)?.sync_all()
}

fn unavailable(pool: &PoolSettings, reason: String) -> Cause {
    let (directory, pool) = (pool.directory.clone(), pool.id.to_string());
    Cause::PoolUnavailable { pool, directory, reason }
}

/// What a job wants of the file system that holds a directory.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wish {
    /// Bytes that it takes.
    pub(crate) takes: u64,
    /// Bytes for which there must be room, though they are not taken now.
    pub(crate) fits: u64,
    /// Bytes by which the disks of the pool become larger.
    pub(crate) grows: u64,
}

impl JobContext {
    /// Refuses a pool that is not there.
    pub(crate) fn find_pool_at(&self, directory: &Path) -> Result<(), Cause> {
        let found = pool_at(&self.shared.config, &self.shared.state.lock(), directory);
        let Some(pool) = found else { return Ok(()) };
        self.shared.look(&pool).map(drop).map_err(|reason| unavailable(&pool, reason))
    }

    /// Promises space to the job, if there is so much beside what others were promised. `what`
    /// says what it is for.
    pub(crate) fn admit(&self, directory: &Path, wish: Wish, what: &str) -> Result<(), Failure> {
        let config = &self.shared.config;
        let found = pool_at(config, &self.shared.state.lock(), directory);
        let space = match &found {
            Some(pool) => self.shared.look(pool).map_err(|reason| unavailable(pool, reason))?,
            None => pool_space(directory).map_err(|error| Cause::from(&error))?,
        };
        let refuse = |needed, available| {
            let (what, place) = (what.to_owned(), directory.to_path_buf());
            Err(Cause::OutOfSpace { what, place, needed, available: Some(available) }.into())
        };
        // Under the lock until it is promised: two jobs must not get the same bytes.
        let state = self.shared.state.lock();
        let Wish { takes, fits, grows } = wish;
        let Some(pool) = found else {
            if takes.max(fits) > space.free {
                return refuse(takes.max(fits), space.free);
            }
            return Ok(());
        };
        let reserve = pool.limits.reserve.map_or(0, |reserve| reserve.bytes(space.total));
        let promised = state.reserved(&pool.id, Some(self.id));
        let available = space.free.saturating_sub(promised).saturating_sub(reserve);
        let needed = match pool.limits.overcommit {
            Overcommit::None => takes.max(fits),
            Overcommit::Percent(_) | Overcommit::Unlimited => takes,
        };
        if needed > available {
            return refuse(needed, available);
        }
        if let Overcommit::Percent(percent) = pool.limits.overcommit {
            let limit = u128::from(space.total) * u128::from(percent) / 100;
            let limit = u64::try_from(limit).unwrap_or(u64::MAX);
            let left = limit.saturating_sub(provisioned(&state, &pool.id, Some(self.id)));
            if grows > left {
                return refuse(grows, left);
            }
        }
        self.live.reserved.store(takes, Ordering::Relaxed);
        Ok(())
    }
}

impl Core {
    fn create_pool(&mut self, request: PoolSettings) -> Result<PoolSettings, RequestError> {
        let planned = self.plan_pool(request);
        let pool = planned.map_err(|cause| self.refuse(cause, None))?;
        // Before it is known: a marker without a pool is taken over, or does no harm.
        if let Err(error) = mark(&pool.directory, &pool.id) {
            let error = ImageError::from_io(Operation::Create, pool.directory.as_path(), error);
            return Err(self.refuse(Cause::from(&error), Some(&Element::Pool(pool.id))));
        }
        self.commit_request(failpoint::CATALOGUE, vec![Change::PutPool(pool.clone())])?;
        Ok(pool)
    }

    fn plan_pool(&self, request: PoolSettings) -> Result<PoolSettings, Cause> {
        let PoolSettings { id, directory, limits } = request;
        let name = id.0.clone();
        if let Err(reason) = check_pool_name(&name) {
            let (what, reason) = ("pool".to_owned(), reason.to_string());
            return Err(Cause::BadName { what, name, reason });
        }
        check_limits(&limits)?;
        let refuse = |reason: String| {
            Err(Cause::BadValue { property: format!("directory {}", directory.display()), reason })
        };
        let failed =
            |error| Cause::from(&ImageError::from_io(Operation::Open, directory.as_path(), error));
        let real = std::fs::canonicalize(&directory).map_err(failed)?;
        if real != directory {
            return refuse(format!("without links and relative parts it is {}", real.display()));
        }
        if !real.is_dir() {
            return refuse("it is no directory".to_owned());
        }
        let config = &self.shared.config;
        let state = self.shared.state.lock();
        let all = settings(config, &state);
        if all.iter().any(|(pool, _)| pool.id == id) {
            return Err(Cause::NameInUse { what: "pool".to_owned(), name });
        }
        if state.pools.len() >= MAX_POOLS {
            let limit = u64::try_from(MAX_POOLS).unwrap_or(u64::MAX);
            return Err(Cause::LimitReached { what: "pools".to_owned(), limit });
        }
        let nested = |other: &Path| {
            let other = std::fs::canonicalize(other).unwrap_or_else(|_| other.to_path_buf());
            other.starts_with(&real) || real.starts_with(&other)
        };
        if let Some((pool, _)) = all.iter().find(|(pool, _)| nested(&pool.directory)) {
            return refuse(format!(
                "it is, holds or lies in that of pool {}: {}",
                pool.id,
                pool.directory.display()
            ));
        }
        drop(state);
        check_direct_io(&limits, &real)?;
        match owner(&real).map_err(failed)? {
            Some(owner) if owner != name => refuse(format!("it belongs to pool {owner}")),
            _ => Ok(PoolSettings { id, directory, limits }),
        }
    }

    fn change_pool(
        &mut self,
        id: &PoolId,
        limits: PoolLimits,
    ) -> Result<PoolSettings, RequestError> {
        let planned = self.own_pool(id).and_then(|pool| {
            check_limits(&limits)?;
            check_direct_io(&limits, &pool.directory)?;
            Ok(PoolSettings { limits, ..PoolSettings::clone(&pool) })
        });
        let element = Element::Pool(id.clone());
        let pool = planned.map_err(|cause| self.refuse(cause, Some(&element)))?;
        self.commit_request(failpoint::CATALOGUE, vec![Change::PutPool(pool.clone())])?;
        Ok(pool)
    }

    fn delete_pool(&mut self, id: &PoolId) -> Result<(), RequestError> {
        let planned = self.own_pool(id).and_then(|pool| {
            let state = self.shared.state.lock();
            let disks = state.disks.values().filter(|disk| disk.pool == *id).count();
            let snapshots = state.snapshots.values();
            let inside = |path: &Path| path.parent() == Some(pool.directory.as_path());
            let snapshots = snapshots.filter(|snapshot| inside(&snapshot.path)).count();
            let records = state.unfinished.iter().filter_map(|id| state.jobs.get(id));
            let jobs = records.filter(|entry| entry.record.pool().as_ref() == Some(id)).count();
            if disks + snapshots + jobs > 0 {
                return Err(Cause::PoolInUse {
                    pool: id.to_string(),
                    disks: disks + snapshots,
                    jobs,
                });
            }
            let in_trouble = state.pool_health.contains_key(id);
            let healthy = in_trouble.then(|| Change::DeletePoolHealth(id.clone()));
            Ok((pool.directory.clone(), healthy))
        });
        let element = Element::Pool(id.clone());
        let (directory, healthy) = planned.map_err(|cause| self.refuse(cause, Some(&element)))?;
        let changes = healthy.into_iter().chain([Change::DeletePool(id.clone())]).collect();
        self.commit_request(failpoint::CATALOGUE, changes)?;
        if let Err(error) = std::fs::remove_file(directory.join(MARKER)) {
            tracing::debug!(pool = %id, %error, "the pool's mark stays");
        }
        Ok(())
    }

    /// A pool that can be changed.
    fn own_pool(&self, id: &PoolId) -> Result<Arc<PoolSettings>, Cause> {
        let state = self.shared.state.lock();
        let all: BTreeMap<_, _> = settings(&self.shared.config, &state)
            .into_iter()
            .map(|(pool, configured)| (pool.id, configured))
            .collect();
        match (all.get(id), state.pools.get(id)) {
            (Some(false), Some(pool)) => Ok(pool.clone()),
            (Some(_), _) => Err(Cause::BadValue {
                property: format!("pool {id}"),
                reason: "it stands in the configuration, and is changed there".to_owned(),
            }),
            (None, _) => Err(Cause::NotFound { what: "pool".to_owned(), name: id.to_string() }),
        }
    }
}

/// Refuses direct I/O where there is none.
fn check_direct_io(limits: &PoolLimits, directory: &Path) -> Result<(), Cause> {
    if !limits.direct_io {
        return Ok(());
    }
    match disk_image::can_do_direct_io(directory) {
        Err(error) if error.kind() == ErrorKind::Unsupported => Err(Cause::BadValue {
            property: "direct_io".to_owned(),
            reason: format!("the file system of {} has no direct I/O", directory.display()),
        }),
        Err(error) => Err(Cause::from(&ImageError::from_io(Operation::Open, directory, error))),
        Ok(()) => Ok(()),
    }
}

/// Refuses limits that mean nothing.
fn check_limits(limits: &PoolLimits) -> Result<(), Cause> {
    let refuse = |property: &str, reason: &str| {
        Err(Cause::BadValue { property: property.to_owned(), reason: reason.to_owned() })
    };
    let sound = |threshold: &Threshold| !matches!(threshold, Threshold::Percent(0 | 100..));
    let all = limits.soft_thresholds.iter().chain(&limits.reserve).chain(&limits.hard_threshold);
    if !all.into_iter().all(sound) {
        return refuse("threshold", "a part of the size lies between 1% and 99%");
    }
    if limits.soft_thresholds.len() > MAX_SOFT_THRESHOLDS {
        return refuse("soft_thresholds", "there are 8 at most");
    }
    if limits.overcommit == Overcommit::Percent(0) {
        return refuse("overcommit", "it is at least 1%");
    }
    Ok(())
}
