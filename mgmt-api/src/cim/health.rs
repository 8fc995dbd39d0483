//! How elements are (the Health profile): `OperationalStatus`, `HealthState` and why. What pools are
//! like is what was seen and told last, so that no list waits for a file system.

use std::sync::Arc;

use job_engine::{CimError, Disk, DiskSnapshot, Pool, PoolHealth, PoolId, PoolState, Trouble};

use super::instances::state;
use super::value::Instance;

/// How something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    operational: u16,
    text: String,
    health: u16,
}

/// What is wrong with pools.
pub(crate) type Troubles = [Arc<PoolHealth>];

impl Health {
    pub(crate) fn good() -> Self {
        Self { operational: 2, text: "OK".to_owned(), health: 5 }
    }

    fn degraded(text: &str) -> Self {
        Self { operational: 3, text: text.to_owned(), health: 10 }
    }

    fn error(text: &str) -> Self {
        Self { operational: 6, text: text.to_owned(), health: 25 }
    }

    /// Of what lies in a pool in trouble, and of the pool.
    fn under(trouble: &PoolHealth) -> Self {
        match trouble.trouble {
            Trouble::NearlyFull => Self::good(),
            Trouble::Exhausted => Self::degraded(&trouble.reason),
            Trouble::Unavailable => Self::error(&trouble.reason),
        }
    }

    /// Of a pool whose file system was asked just now, which may not be told yet.
    pub(crate) fn seen(pool: &Pool, told: &Troubles) -> Self {
        let now = Self::unavailable(pool);
        now.or_else(|| pool.is_exhausted().then(|| Self::degraded(Trouble::EXHAUSTED)))
            .unwrap_or_else(|| Self::of_pool(&pool.id, told))
    }

    pub(crate) fn unavailable(pool: &Pool) -> Option<Self> {
        match &pool.state {
            PoolState::Ready => None,
            PoolState::Unavailable(reason) => Some(Self::error(reason)),
        }
    }

    pub(crate) fn of_pool(id: &PoolId, troubles: &Troubles) -> Self {
        troubles.iter().find(|it| it.pool == *id).map_or_else(Self::good, |it| Self::under(it))
    }

    /// A faulty disk had errors that nobody has cleared.
    pub(crate) fn of_disk(disk: &Disk, faulty: bool, troubles: &Troubles) -> Self {
        match troubles.iter().find(|it| it.concerns(disk)) {
            Some(it) if !faulty || it.trouble == Trouble::Unavailable => Self::under(it),
            _ if faulty => Self::degraded("Errors on the data path"),
            _ => Self::good(),
        }
    }

    pub(crate) fn of_snapshot(snapshot: &DiskSnapshot, troubles: &Troubles) -> Self {
        let found = troubles.iter().find(|it| it.concerns_snapshot(snapshot));
        found.map_or_else(Self::good, |it| Self::under(it))
    }

    /// Whatever else the engine has to say goes first.
    pub(crate) fn of_system(own: Option<&CimError>, troubles: &Troubles) -> Self {
        let first = own.or_else(|| troubles.first().map(|it| &it.error));
        first.map_or_else(Self::good, |error| Self::degraded(&error.message))
    }

    pub(crate) fn show(&self, instance: Instance) -> Instance {
        state(instance, self.operational, &self.text, self.health)
    }
}
