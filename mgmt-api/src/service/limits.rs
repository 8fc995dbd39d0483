//! Limits of what initiators may use.

use job_engine::catalogue::check_iscsi_name;

use super::{Refusal, Result, Service, ServiceError};
use crate::api;

/// Longest burst.
const MAX_BURST_MS: u32 = 60_000;

/// Whom a limit is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitOf {
    /// A disk, by its identifier.
    Disk(String),
    /// An initiator, by its name.
    Initiator(String),
}

impl Service {
    /// All limits.
    #[must_use]
    pub fn limits(&self) -> Vec<api::Limit> {
        let disks = self.engine.disks();
        let shown = |(of, limit)| match of {
            LimitOf::Initiator(name) => {
                Some(api::Limit { disk: None, initiator: Some(name), limit })
            }
            LimitOf::Disk(id) => {
                let disk = disks.iter().find(|disk| disk.id.to_string() == id)?;
                Some(api::Limit { disk: Some(disk.name.clone()), initiator: None, limit })
            }
        };
        self.host.limits().into_iter().filter_map(shown).collect()
    }

    /// Limits a disk, or does so no more. In force when this returns, for what comes then.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Invalid`], [`Refusal::Unavailable`].
    pub fn limit_disk(&self, key: &str, limit: Option<api::SetLimit>) -> Result<()> {
        let disk = self.find_disk(key)?;
        self.limit(&LimitOf::Disk(disk.id.to_string()), limit)
    }

    /// Limits an initiator, or does so no more; it need not be there.
    ///
    /// # Errors
    /// As [`Service::limit_disk`].
    pub fn limit_initiator(&self, name: &str, limit: Option<api::SetLimit>) -> Result<()> {
        let name = name.to_lowercase();
        check_iscsi_name(&name).map_err(|error| {
            let message = format!("initiator `{}`: {error}", name.escape_debug());
            ServiceError::new(Refusal::Invalid, message)
        })?;
        self.limit(&LimitOf::Initiator(name), limit)
    }

    fn limit(&self, of: &LimitOf, limit: Option<api::SetLimit>) -> Result<()> {
        if let Some(limit) = &limit {
            let invalid = |message: &str| ServiceError::new(Refusal::Invalid, message);
            check_limit(limit).map_err(invalid)?;
        }
        self.host.set_limit(of, limit)
    }
}

/// What is wrong with a limit.
pub(super) fn check_limit(limit: &api::SetLimit) -> std::result::Result<(), &'static str> {
    let api::SetLimit { iops, bytes_per_second, burst_ms } = limit;
    if iops.is_none() && bytes_per_second.is_none() {
        return Err("a limit has `iops`, `bytes_per_second`, or both");
    }
    if *iops == Some(0) || *bytes_per_second == Some(0) {
        return Err("a limit is at least 1 a second");
    }
    if *burst_ms > MAX_BURST_MS {
        return Err("`burst_ms` is at most 60000");
    }
    Ok(())
}
