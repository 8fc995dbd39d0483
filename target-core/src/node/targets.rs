//! The targets of a node, who may use them, and what each session sees.

use std::net::IpAddr;
use std::sync::Arc;

use iscsi_proto::login::{AuthPolicy, Redirect};
use iscsi_proto::names::IscsiName;
use scsi::Port;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Node, NodeError};
use crate::access::{Access, AccessEntry};
use crate::connection::Message;
use crate::events::SessionEnd;
use crate::nexus::{Ports, UnitMap, View};
use crate::tokens::End;
use crate::unit::LogicalUnit;

/// A target to be added.
#[derive(Debug, Clone)]
pub struct TargetConfig {
    /// Its iSCSI name.
    pub name: IscsiName,
    /// TargetAlias; may be empty.
    pub alias: String,
    /// How initiators must prove themselves.
    pub auth: AuthPolicy,
    /// Who may use it; everybody may where there is no list.
    pub access: Option<Vec<AccessEntry>>,
    /// Tags of the portal groups through which it is reached; all of them where there is no list.
    pub portal_groups: Option<Vec<u16>>,
}

#[derive(Debug)]
pub(super) struct Target {
    pub(super) alias: String,
    pub(super) auth: AuthPolicy,
    pub(super) access: Access,
    pub(super) units: UnitMap,
    /// `units` without any mask.
    pub(super) whole: Arc<View>,
    pub(super) redirect: Option<Redirect>,
    portal_groups: Option<Vec<u16>>,
}

impl Target {
    /// Whether it is reached through a portal group.
    pub(super) fn is_in(&self, group: u16) -> bool {
        self.portal_groups.as_ref().is_none_or(|groups| groups.contains(&group))
    }

    /// What an initiator sees; none if it is not let in.
    pub(super) fn view(&self, initiator: &str, address: IpAddr) -> Option<Arc<View>> {
        self.access.view(initiator, address, &self.units, &self.whole)
    }
}

impl Node {
    /// Adds a target without units.
    ///
    /// # Errors
    /// [`NodeError::TargetExists`].
    pub fn add_target(&self, config: TargetConfig) -> Result<(), NodeError> {
        let name = config.name.as_str().to_owned();
        let mut targets = self.targets.write();
        if targets.contains_key(&name) {
            return Err(NodeError::TargetExists(name));
        }
        let target = Target {
            alias: config.alias,
            auth: config.auth,
            access: Access::new(config.access),
            units: UnitMap::new(),
            whole: Arc::default(),
            redirect: None,
            portal_groups: config.portal_groups,
        };
        targets.insert(name, target);
        Ok(())
    }

    /// How initiators must prove themselves to a target from now on. Sessions that are there go on.
    ///
    /// # Errors
    /// [`NodeError::NoSuchTarget`].
    pub fn set_target_auth(&self, name: &str, auth: AuthPolicy) -> Result<(), NodeError> {
        let mut targets = self.targets.write();
        let found = targets.get_mut(name);
        found.ok_or_else(|| NodeError::NoSuchTarget(name.to_owned()))?.auth = auth;
        Ok(())
    }

    /// Gives a target another `TargetAlias`, for logins from now on.
    ///
    /// # Errors
    /// [`NodeError::NoSuchTarget`].
    pub fn set_target_alias(&self, name: &str, alias: &str) -> Result<(), NodeError> {
        let mut targets = self.targets.write();
        let found = targets.get_mut(name);
        let found = found.ok_or_else(|| NodeError::NoSuchTarget(name.to_owned()))?;
        alias.clone_into(&mut found.alias);
        Ok(())
    }

    /// Names of all targets.
    pub(crate) fn target_names(&self) -> Vec<String> {
        self.targets.read().keys().map(ToString::to_string).collect()
    }

    /// Sends logins of a target elsewhere, or no more. Sessions that are there go on.
    ///
    /// # Errors
    /// [`NodeError::NoSuchTarget`].
    pub fn redirect_target(&self, name: &str, to: Option<Redirect>) -> Result<(), NodeError> {
        let mut targets = self.targets.write();
        let found = targets.get_mut(name);
        found.ok_or_else(|| NodeError::NoSuchTarget(name.to_owned()))?.redirect = to;
        Ok(())
    }

    /// Removes a target and closes its sessions; none of their commands can write any more when
    /// this returns.
    ///
    /// # Errors
    /// [`NodeError::NoSuchTarget`].
    pub async fn remove_target(&self, name: &str) -> Result<(), NodeError> {
        let removed = self.targets.write().remove(name);
        let removed = removed.ok_or_else(|| NodeError::NoSuchTarget(name.to_owned()))?;
        removed.units.values().for_each(|unit| unit.tokens().end_all(End::Cancelled));
        self.sessions.send(Some(name), || Message::Close(SessionEnd::TargetGone));
        self.sessions.wait_for_none(Some(name)).await;
        self.access_states.forget(name);
        Ok(())
    }

    /// Puts other entries in force. Sessions that they do not let in are closed, the others see
    /// what they see from now on. When this returns, nothing can write any more that may not.
    ///
    /// # Errors
    /// [`NodeError::NoSuchTarget`].
    pub async fn set_access(
        &self,
        target: &str,
        entries: Option<Vec<AccessEntry>>,
    ) -> Result<(), NodeError> {
        let (sender, receiver) = oneshot::channel::<()>();
        let closed = {
            let mut targets = self.targets.write();
            let found = targets.get_mut(target);
            let found = found.ok_or_else(|| NodeError::NoSuchTarget(target.to_owned()))?;
            found.access = Access::new(entries);
            self.show(target, found, Some(&Arc::new(sender)))
        };
        // Ends when the last session has let go of it.
        let _ = receiver.await;
        for session in closed {
            session.cancelled().await;
        }
        Ok(())
    }

    /// Tells every session of a target what it sees, under the lock of the targets, so that they
    /// hear of changes in their order. The ends of those that may see nothing any more.
    pub(super) fn show(
        &self,
        name: &str,
        target: &Target,
        held: Option<&Arc<oneshot::Sender<()>>>,
    ) -> Vec<CancellationToken> {
        self.sessions.send_each(name, |initiator, address| {
            match target.view(initiator, address.ip()) {
                Some(view) => Message::View(view, held.cloned()),
                None => Message::Close(SessionEnd::AccessRevoked),
            }
        })
    }

    pub(crate) fn has_target(&self, name: &str) -> bool {
        self.targets.read().contains_key(name)
    }

    /// Names of the targets that an initiator may use.
    pub(crate) fn targets_for(&self, initiator: &str, address: IpAddr) -> Vec<String> {
        let targets = self.targets.read();
        let open = targets.iter().filter(|(_, target)| target.access.admits(initiator, address));
        open.map(|(name, _)| name.clone()).collect()
    }

    /// Whether an initiator sees a unit through any of its sessions.
    pub(crate) fn is_seen_by(&self, initiator: &str, unit: &Arc<LogicalUnit>) -> bool {
        let sessions = self.sessions.targets_of(initiator);
        let targets = self.targets.read();
        sessions.iter().any(|(target, address)| {
            let view = targets.get(target).and_then(|it| it.view(initiator, *address));
            view.is_some_and(|view| view.values().any(|seen| Arc::ptr_eq(&seen.unit, unit)))
        })
    }

    /// The port through which a session of `target` comes, all ports that the target has, and what
    /// the session sees; none if the initiator may not use it.
    pub(crate) fn ports(
        &self,
        target: &str,
        group: u16,
        initiator: &str,
        address: IpAddr,
    ) -> Option<(Ports, Arc<View>)> {
        let targets = self.targets.read();
        let found = targets.get(target)?;
        let view = found.view(initiator, address)?;
        // Each target is a SCSI device of its own; a portal group is a port of it.
        let port = |tag: u16| Port {
            target_name: target.to_owned(),
            target_portal_group_tag: tag,
            relative_target_port_id: tag,
        };
        let groups = self.portal_groups.read();
        let mut tags: Vec<u16> = groups.iter().map(|group| group.tag).collect();
        tags.retain(|tag| found.is_in(*tag));
        if !tags.contains(&group) {
            tags.push(group);
        }
        tags.sort_unstable();
        let of = |tag: &u16| {
            let configured = groups.iter().find(|group| group.tag == *tag);
            self.access_states.group(*tag, configured, target)
        };
        let ports = Ports {
            own: port(group),
            groups: tags.iter().map(of).collect(),
            all: tags.into_iter().map(port).collect(),
        };
        Some((ports, view))
    }
}
