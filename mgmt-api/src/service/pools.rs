//! Pools.

use std::path::PathBuf;

use job_engine::{Pool, PoolId, PoolLimits, PoolSettings, PoolState, Threshold};

use super::{Refusal, Result, Service, ServiceError};
use crate::{api, space};

impl Service {
    /// All pools, the default pool first.
    #[must_use]
    pub fn pools(&self) -> Vec<api::Pool> {
        self.engine.pools().iter().map(view).collect()
    }

    /// A pool.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn pool(&self, key: &str) -> Result<api::Pool> {
        let id = PoolId::parse(key);
        let missing = || ServiceError::new(Refusal::NotFound, format!("there is no pool `{key}`"));
        self.engine
            .pools()
            .iter()
            .find(|pool| pool.id == id)
            .map(view)
            .ok_or_else(|| self.near_pool(missing(), key))
    }

    /// Makes a pool of a directory.
    ///
    /// # Errors
    /// Everything but [`Refusal::Internal`].
    pub fn create_pool(&self, request: api::CreatePool) -> Result<api::Pool> {
        let api::CreatePool { name, directory, .. } = request;
        let api::CreatePool { overcommit, reserve, soft_thresholds, hard_threshold, .. } = request;
        let direct_io = request.direct_io;
        let limits =
            api::ChangePool { overcommit, reserve, soft_thresholds, hard_threshold, direct_io };
        let limits = changed(PoolLimits::default(), &limits)?;
        let directory = PathBuf::from(directory);
        let settings = PoolSettings { id: PoolId(name), directory, limits };
        Ok(view(&self.engine.create_pool(settings)?))
    }

    /// Changes what the space of a pool may be used for.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Invalid`], [`Refusal::Unavailable`].
    pub fn change_pool(&self, key: &str, request: &api::ChangePool) -> Result<api::Pool> {
        let id = PoolId::parse(key);
        let found = self.engine.pool_settings().into_iter().find(|(pool, _)| pool.id == id);
        let limits = found.map(|(pool, _)| pool.limits).unwrap_or_default();
        let pool = self.engine.change_pool(&id, changed(limits, request)?);
        Ok(view(&pool.map_err(|error| self.near_pool(error, key))?))
    }

    /// Uses a pool no more; its directory stays.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Conflict`], [`Refusal::Invalid`],
    /// [`Refusal::Unavailable`].
    pub fn delete_pool(&self, key: &str) -> Result<()> {
        let deleted = self.engine.delete_pool(&PoolId::parse(key));
        deleted.map_err(|error| self.near_pool(error, key))
    }
}

fn changed(mut limits: PoolLimits, request: &api::ChangePool) -> Result<PoolLimits> {
    let api::ChangePool { overcommit, reserve, soft_thresholds, hard_threshold, direct_io } =
        request;
    let invalid = |name: &'static str| {
        move |reason: String| ServiceError::new(Refusal::Invalid, format!("`{name}` {reason}"))
    };
    let one = |name, text: &str| match text {
        "none" => Ok(None),
        text => space::threshold(text).map(Some).map_err(invalid(name)),
    };
    if let Some(text) = overcommit {
        limits.overcommit = space::overcommit(text).map_err(invalid("overcommit"))?;
    }
    if let Some(text) = reserve {
        limits.reserve = one("reserve", text)?;
    }
    if let Some(text) = hard_threshold {
        limits.hard_threshold = one("hard_threshold", text)?;
    }
    if let Some(texts) = soft_thresholds {
        let read = |text: &String| space::threshold(text).map_err(invalid("soft_thresholds"));
        limits.soft_thresholds = texts.iter().map(read).collect::<Result<_>>()?;
    }
    limits.direct_io = direct_io.unwrap_or(limits.direct_io);
    Ok(limits)
}

fn view(pool: &Pool) -> api::Pool {
    let show = |threshold: &Threshold| threshold.to_string();
    let PoolLimits { overcommit, reserve, soft_thresholds, hard_threshold, direct_io } =
        &pool.limits;
    api::Pool {
        id: pool.id.to_string(),
        directory: pool.directory.display().to_string(),
        configured: pool.configured,
        total_bytes: pool.total_bytes,
        free_bytes: pool.free_bytes,
        reserved_bytes: pool.reserved_bytes,
        provisioned_bytes: pool.provisioned_bytes,
        disks: pool.disks,
        unavailable: match &pool.state {
            PoolState::Ready => None,
            PoolState::Unavailable(reason) => Some(reason.clone()),
        },
        exhausted: pool.is_exhausted(),
        overcommit: space::show(*overcommit),
        reserve: reserve.as_ref().map(show),
        soft_thresholds: soft_thresholds.iter().map(show).collect(),
        hard_threshold: hard_threshold.as_ref().map(show),
        direct_io: *direct_io,
    }
}
