//! The node as a login sees it.

use std::net::IpAddr;

use iscsi_proto::login::{
    AuthPolicy, ExistingSession, LoginPolicy, LoginStatus, Redirect, SessionName, TargetLogin,
};
use iscsi_proto::names::IscsiName;

use super::Node;

/// A login, from where it comes.
pub(crate) struct Visit<'a> {
    pub(crate) node: &'a Node,
    pub(crate) address: IpAddr,
    /// Tag of the portal group.
    pub(crate) group: u16,
}

impl LoginPolicy for Visit<'_> {
    fn target(
        &self,
        _initiator: &IscsiName,
        target: &IscsiName,
    ) -> Result<TargetLogin, LoginStatus> {
        // Never "not found" now: Linux would not try again.
        if !self.node.is_serving() {
            return Err(LoginStatus::ServiceUnavailable);
        }
        let targets = self.node.targets.read();
        // It does not exist at this address.
        let found = targets.get(target.as_str()).filter(|target| target.is_in(self.group));
        let found = found.ok_or(LoginStatus::NotFound)?;
        Ok(TargetLogin { auth: found.auth.clone(), alias: found.alias.clone() })
    }

    fn discovery(&self, _initiator: &IscsiName) -> Result<AuthPolicy, LoginStatus> {
        if !self.node.is_serving() {
            return Err(LoginStatus::ServiceUnavailable);
        }
        Ok(self.node.discovery_auth.read().clone())
    }

    fn authorize(&self, initiator: &IscsiName, target: &IscsiName) -> Result<(), LoginStatus> {
        let targets = self.node.targets.read();
        let found = targets.get(target.as_str()).ok_or(LoginStatus::NotFound)?;
        let admits = found.access.admits(initiator.as_str(), self.address);
        admits.then_some(()).ok_or(LoginStatus::AuthorizationFailure)
    }

    fn redirect(&self, _initiator: &IscsiName, target: &IscsiName) -> Option<Redirect> {
        self.node.targets.read().get(target.as_str())?.redirect.clone()
    }

    fn session(&self, name: SessionName<'_>) -> Option<ExistingSession> {
        self.node.sessions.existing(name, self.group)
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), LoginStatus> {
        getrandom::fill(bytes).map_err(|_| LoginStatus::TargetError)
    }
}
