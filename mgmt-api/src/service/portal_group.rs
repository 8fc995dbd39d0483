//! Portal groups and the access states of their ports.

use job_engine::AccessState;
use job_engine::catalogue::default_target_name;

use super::{Refusal, Result, Service, ServiceError};
use crate::api;

/// Why a state was not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessStateRefusal {
    /// The configuration has no access states.
    Disabled,
    /// There is no such group.
    NoSuchGroup,
    /// There is no such target.
    NoSuchTarget,
    /// It cannot be stored; the text says why.
    NotStored(String),
    /// The condition of the request ([`job_engine::condition_holds`]) does not hold.
    Changed,
}

impl Service {
    /// All portal groups.
    #[must_use]
    pub fn portal_groups(&self) -> Vec<api::PortalGroup> {
        self.host.portal_groups()
    }

    /// One portal group, by its tag.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn portal_group(&self, key: &str) -> Result<api::PortalGroup> {
        let groups = self.portal_groups();
        let found = groups.into_iter().find(|group| group.tag.to_string() == key);
        found.ok_or_else(|| self.no_such_portal_group(key))
    }

    /// Brings a group into a state, for one target or for all, whatever was set for single ones;
    /// the group as it is then. Sessions have been told when this returns.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], [`Refusal::NotFound`], [`Refusal::Conflict`],
    /// [`Refusal::Unavailable`].
    pub fn set_access_state(
        &self,
        key: &str,
        request: &api::SetAccessState,
    ) -> Result<api::PortalGroup> {
        self.change_access_state(key, request.target.as_deref(), Some(request.state))
    }

    /// Brings a group back into the state that is configured.
    ///
    /// # Errors
    /// As [`Service::set_access_state`].
    pub fn reset_access_state(
        &self,
        key: &str,
        request: &api::ResetAccessState,
    ) -> Result<api::PortalGroup> {
        self.change_access_state(key, request.target.as_deref(), None)
    }

    fn change_access_state(
        &self,
        key: &str,
        target: Option<&str>,
        state: Option<AccessState>,
    ) -> Result<api::PortalGroup> {
        let tag = key.parse().map_err(|_| {
            let message = format!("`{key}` is no tag of a portal group: a number is wanted");
            ServiceError::new(Refusal::Invalid, message)
        })?;
        let target = target.map(default_target_name);
        let no_such_group = || self.no_such_portal_group(key);
        let changed = self.host.set_access_state(tag, target.as_deref(), state);
        changed.map_err(|refusal| match refusal {
            AccessStateRefusal::Disabled => ServiceError::new(
                Refusal::Conflict,
                "`iscsi.alua` is \"none\" in the configuration: there are no access states",
            ),
            AccessStateRefusal::NoSuchGroup => no_such_group(),
            AccessStateRefusal::NoSuchTarget => {
                let name = target.as_deref().unwrap_or_default();
                let message = format!("there is no target `{name}`");
                self.near_target(ServiceError::new(Refusal::NotFound, message), name)
            }
            AccessStateRefusal::Changed => {
                ServiceError::new(Refusal::Changed, "something else has changed it meanwhile")
            }
            AccessStateRefusal::NotStored(reason) => {
                let message = format!("the access state cannot be stored: {reason}");
                ServiceError::new(Refusal::Unavailable, message)
            }
        })?;
        let groups = self.portal_groups();
        groups.into_iter().find(|group| group.tag == tag).ok_or_else(no_such_group)
    }
}
