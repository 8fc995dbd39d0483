//! Who may use a target.

use job_engine::catalogue::{default_target_name, parse_network};
use job_engine::{AccessChange, AccessEntry};

use super::{Refusal, Result, Service, ServiceError};
use crate::api;

impl Service {
    /// Lets exactly these initiators use a target, or everybody; the target as it is then. When
    /// this returns, sessions that may not be there any more are closed.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Invalid`], [`Refusal::Conflict`],
    /// [`Refusal::Unavailable`].
    pub fn replace_access(&self, key: &str, request: api::ReplaceAccess) -> Result<api::Target> {
        let change = match request.access {
            None => AccessChange::Open,
            Some(list) => {
                let entries: Result<_> = list.into_iter().map(entry).collect();
                AccessChange::Replace(entries?)
            }
        };
        self.change_access(key, change)
    }

    /// Lets initiators use a target, or changes how they do.
    ///
    /// # Errors
    /// As [`Service::replace_access`].
    pub fn allow(&self, key: &str, request: api::Access) -> Result<api::Target> {
        self.change_access(key, AccessChange::Allow(entry(request)?))
    }

    /// Takes an entry away. With the last one, nobody may use the target.
    ///
    /// # Errors
    /// As [`Service::replace_access`].
    pub fn disallow(&self, key: &str, request: api::Disallow) -> Result<api::Target> {
        let api::Disallow { initiator, address } = request;
        let request = api::Access { initiator, address, ..Default::default() };
        let AccessEntry { initiator, address, .. } = entry(request)?;
        self.change_access(key, AccessChange::Disallow { initiator, address })
    }

    fn change_access(&self, key: &str, change: AccessChange) -> Result<api::Target> {
        let target = self.engine.change_access(&default_target_name(key), change);
        let target = target.map_err(|error| self.near_target(error, key))?;
        self.target(&target.name)
    }
}

pub(super) fn entry(request: api::Access) -> Result<AccessEntry> {
    let api::Access { initiator, address, luns, read_only } = request;
    let network = |text: String| {
        parse_network(&text).map_err(|error| {
            let message = format!("address `{}`: {error}", text.escape_debug());
            ServiceError::new(Refusal::Invalid, message)
        })
    };
    Ok(AccessEntry { initiator, address: address.map(network).transpose()?, luns, read_only })
}
