//! An iSCSI node: its targets, their units, and who is logged in.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use disk_image::{Image, ImageError};
use iscsi_proto::login::{
    AuthPolicy, ExistingSession, LoginPolicy, LoginStatus, Redirect, SessionName, TargetLogin,
};
use iscsi_proto::names::IscsiName;
use iscsi_proto::pdu::AsyncEvent;
use iscsi_proto::session::Counters;
use parking_lot::{Mutex, RwLock};
use scsi::{AccessState, Port, Provisioning, UnitAttention};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::access::{Access, AccessEntry};
use crate::access_states::AccessStates;
use crate::backlog::Backlog;
use crate::config::NodeConfig;
use crate::connection::Message;
use crate::events::{Events, SessionEnd};
use crate::limits::{Limit, Limited, Limits};
use crate::lobby::Lobby;
use crate::nexus::{Ports, UnitMap, View, whole};
use crate::sessions::{SessionDetail, SessionSummary, Sessions};
use crate::tokens::{End, Tokens};
use crate::trace::{MAX_TRACES, Trace, TraceError, trace};
use crate::unit::LogicalUnit;
use crate::watch::Watch;

/// Whether initiators are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum NodeState {
    /// Not yet: logins are answered "service unavailable", which makes initiators try again.
    Starting = 0,
    /// They are.
    Serving = 1,
    /// No more: answered like [`NodeState::Starting`].
    Draining = 2,
    /// No more, and never again.
    Stopping = 3,
}

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

/// Portals through which the same ports of the targets are reached (RFC 7143 §4.1, "Portal
/// Groups").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortalGroup {
    /// Target Portal Group Tag.
    pub tag: u16,
    /// Where it is served; an unspecified address stands for all of the host's.
    pub portals: Vec<SocketAddr>,
    /// The access state of its ports where none was set ([`Node::set_access_state`]).
    pub state: AccessState,
    /// PREF: hosts should use it, other things being equal.
    pub preferred: bool,
}

impl PortalGroup {
    /// A group in the state active/optimized.
    #[must_use]
    pub fn new(tag: u16, portals: Vec<SocketAddr>) -> Self {
        Self { tag, portals, state: AccessState::ActiveOptimized, preferred: false }
    }

    /// Where its portals are for whoever has reached the address `local` of this host: an
    /// unspecified address stands for that one, if it listens there, and loopback addresses are
    /// reached from loopback addresses only.
    pub fn reached_from(&self, local: IpAddr) -> impl Iterator<Item = SocketAddr> {
        self.portals.iter().filter_map(move |portal| match portal.ip() {
            ip if ip.is_unspecified() => {
                let listens = ip.is_ipv6() || local.is_ipv4();
                listens.then(|| SocketAddr::new(local, portal.port()))
            }
            ip => (ip.is_loopback() == local.is_loopback()).then_some(*portal),
        })
    }
}

/// What a node refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// There is no such target.
    #[error("there is no target {0}")]
    NoSuchTarget(String),
    /// There is one already.
    #[error("there is a target {0} already")]
    TargetExists(String),
    /// The LUN is taken.
    #[error("LUN {lun} of target {target} is taken")]
    LunInUse {
        /// The target.
        target: String,
        /// The LUN.
        lun: u16,
    },
    /// The LUN is not there.
    #[error("target {target} has no LUN {lun}")]
    NoSuchLun {
        /// The target.
        target: String,
        /// The LUN.
        lun: u16,
    },
    /// It stops, and lets nobody in any more.
    #[error("the node is stopping")]
    Stopping,
}

#[derive(Debug)]
struct Target {
    alias: String,
    auth: AuthPolicy,
    access: Access,
    units: UnitMap,
    /// `units` without any mask.
    whole: Arc<View>,
    redirect: Option<Redirect>,
    portal_groups: Option<Vec<u16>>,
}

impl Target {
    /// Whether it is reached through a portal group.
    fn is_in(&self, group: u16) -> bool {
        self.portal_groups.as_ref().is_none_or(|groups| groups.contains(&group))
    }

    /// What an initiator sees; none if it is not let in.
    fn view(&self, initiator: &str, address: IpAddr) -> Option<Arc<View>> {
        self.access.view(initiator, address, &self.units, &self.whole)
    }
}

/// An iSCSI node.
pub struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) events: Arc<dyn Events>,
    pub(crate) sessions: Sessions,
    pub(crate) lobby: Arc<Lobby>,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) watch: Watch,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) limits: Limits,
    traces: Arc<Semaphore>,
    state: AtomicU8,
    /// How often it was resumed: a drain ends no session that came after it.
    resumed: Mutex<u64>,
    discovery_auth: RwLock<AuthPolicy>,
    pub(crate) portal_groups: RwLock<Vec<PortalGroup>>,
    pub(crate) access_states: AccessStates,
    targets: RwLock<BTreeMap<String, Target>>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("targets", &self.targets.read().len()).finish_non_exhaustive()
    }
}

impl Node {
    /// A node without targets, that is starting.
    #[must_use]
    pub fn new(config: NodeConfig, events: Arc<dyn Events>) -> Arc<Self> {
        Arc::new(Self {
            sessions: Sessions::new(&config),
            lobby: Lobby::new(config.max_logins),
            backlog: Backlog::new(config.max_backlog),
            watch: Watch::new(),
            tokens: Arc::default(),
            limits: Limits::default(),
            traces: Arc::new(Semaphore::new(MAX_TRACES)),
            config,
            events,
            state: AtomicU8::new(NodeState::Starting as u8),
            resumed: Mutex::default(),
            discovery_auth: RwLock::default(),
            portal_groups: RwLock::default(),
            access_states: AccessStates::default(),
            targets: RwLock::default(),
        })
    }

    /// Lets initiators in, or no more of them.
    pub fn set_state(&self, state: NodeState) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// Whether initiators are let in.
    #[must_use]
    pub fn state(&self) -> NodeState {
        match self.state.load(Ordering::Acquire) {
            0 => NodeState::Starting,
            1 => NodeState::Serving,
            2 => NodeState::Draining,
            _ => NodeState::Stopping,
        }
    }

    /// How initiators must prove themselves in discovery sessions.
    pub fn set_discovery_auth(&self, auth: AuthPolicy) {
        *self.discovery_auth.write() = auth;
    }

    /// Where the node is served, for SendTargets and the ports of its targets.
    pub fn set_portal_groups(&self, groups: Vec<PortalGroup>) {
        *self.portal_groups.write() = groups;
    }

    /// Where an initiator that came to the given portal can reach a target: there first, then at
    /// every other portal that it can reach too, as far as that can be known. With the tags of the
    /// portals' groups.
    pub(crate) fn addresses(
        &self,
        target: &str,
        came_to: (u16, SocketAddr),
    ) -> Vec<(u16, SocketAddr)> {
        let targets = self.targets.read();
        let Some(target) = targets.get(target) else { return Vec::new() };
        let local = came_to.1.ip();
        let mut found = Vec::new();
        if target.is_in(came_to.0) {
            found.push(came_to);
        }
        for group in self.portal_groups.read().iter().filter(|group| target.is_in(group.tag)) {
            for portal in group.reached_from(local) {
                if !found.contains(&(group.tag, portal)) {
                    found.push((group.tag, portal));
                }
            }
        }
        found
    }

    fn is_serving(&self) -> bool {
        self.state() == NodeState::Serving
    }

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

    /// Makes a unit a LUN of a target, for the sessions that are there too.
    ///
    /// # Errors
    /// [`NodeError::NoSuchTarget`], [`NodeError::LunInUse`].
    pub fn add_unit(
        &self,
        target: &str,
        lun: u16,
        unit: Arc<LogicalUnit>,
    ) -> Result<(), NodeError> {
        self.change_units(target, None, |units| match units.entry(lun) {
            std::collections::btree_map::Entry::Occupied(_) => {
                Err(NodeError::LunInUse { target: target.to_owned(), lun })
            }
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(unit);
                Ok(())
            }
        })
    }

    /// The LUNs that a unit is, with their targets.
    #[must_use]
    pub fn luns_of(&self, unit: &Arc<LogicalUnit>) -> Vec<(String, u16)> {
        let targets = self.targets.read();
        let luns = targets.iter().flat_map(|(name, target)| {
            let own = target.units.iter().filter(|(_, other)| Arc::ptr_eq(other, unit));
            own.map(|(lun, _)| (name.to_string(), *lun))
        });
        luns.collect()
    }

    /// Takes a LUN away; no command can reach its unit through it when this returns.
    ///
    /// # Errors
    /// [`NodeError::NoSuchTarget`], [`NodeError::NoSuchLun`].
    pub async fn remove_unit(&self, target: &str, lun: u16) -> Result<(), NodeError> {
        let (sender, receiver) = oneshot::channel::<()>();
        self.change_units(target, Some(&Arc::new(sender)), |units| match units.remove(&lun) {
            Some(unit) => {
                unit.tokens().end_all(End::Cancelled);
                Ok(())
            }
            None => Err(NodeError::NoSuchLun { target: target.to_owned(), lun }),
        })?;
        // Ends when the last session has let go of it.
        let _ = receiver.await;
        Ok(())
    }

    fn change_units(
        &self,
        target: &str,
        held: Option<&Arc<oneshot::Sender<()>>>,
        change: impl FnOnce(&mut UnitMap) -> Result<(), NodeError>,
    ) -> Result<(), NodeError> {
        let mut targets = self.targets.write();
        let found = targets.get_mut(target);
        let found = found.ok_or_else(|| NodeError::NoSuchTarget(target.to_owned()))?;
        change(&mut found.units)?;
        found.whole = Arc::new(whole(&found.units));
        self.show(target, found, held);
        Ok(())
    }

    /// Makes a unit larger, as its image has been made, and tells all sessions that see it
    /// (CAPACITY DATA HAS CHANGED, SBC-3 §4.6).
    ///
    /// # Errors
    /// The image is not that large.
    pub fn grow_unit(&self, unit: &Arc<LogicalUnit>, size_bytes: u64) -> Result<(), ImageError> {
        if unit.grow(size_bytes)? {
            self.tell(unit, UnitAttention::CapacityDataHasChanged);
        }
        Ok(())
    }

    /// Makes a unit larger or smaller. Sessions that see it are told if it is not that already.
    /// Commands that go beyond a smaller size fail from now on; nothing may be inside the unit
    /// ([`crate::pause`]).
    ///
    /// # Errors
    /// The image is not that large, or cannot become smaller.
    pub fn resize_unit(&self, unit: &Arc<LogicalUnit>, size_bytes: u64) -> Result<(), ImageError> {
        if unit.resize(size_bytes)? {
            self.tell(unit, UnitAttention::CapacityDataHasChanged);
        }
        Ok(())
    }

    /// Tells sessions that a unit has other data than before.
    pub fn medium_changed(&self, unit: &Arc<LogicalUnit>) {
        self.tell(unit, UnitAttention::MediumMayHaveChanged);
    }

    /// Changes the provisioning of a unit, and tells all sessions that see it (INQUIRY DATA HAS
    /// CHANGED: the Logical Block Provisioning VPD page has it).
    pub fn set_provisioning(&self, unit: &Arc<LogicalUnit>, provisioning: Provisioning) {
        if unit.set_provisioning(provisioning) {
            self.tell(unit, UnitAttention::InquiryDataHasChanged);
        }
    }

    /// Limits what a unit or an initiator may use from now on, or does so no more. Commands that wait
    /// go on at once; it may be set before the unit or a session is there.
    pub fn set_limit(&self, limited: Limited, limit: Option<&Limit>) {
        self.limits.set(limited, limit);
        self.sessions.send(None, || Message::Limits);
    }

    /// Gives a unit the image that could not be opened before, and tells all sessions that see it:
    /// NOT READY TO READY CHANGE, and INQUIRY DATA HAS CHANGED if the image makes a difference
    /// there. Nothing happens to a unit that has one.
    pub fn open_unit(&self, unit: &Arc<LogicalUnit>, image: Arc<dyn Image>) {
        let Some(differs) = unit.open(image) else { return };
        if differs {
            self.tell(unit, UnitAttention::InquiryDataHasChanged);
        }
        self.tell(unit, UnitAttention::MediumMayHaveChanged);
    }

    /// Tells all sessions that see a unit that it may hold something else (SPC-4 §5.14).
    pub fn medium_may_have_changed(&self, unit: &Arc<LogicalUnit>) {
        self.tell(unit, UnitAttention::MediumMayHaveChanged);
    }

    /// Tells all sessions that see a unit that its pool's space has fallen below a threshold
    /// (THIN PROVISIONING SOFT THRESHOLD REACHED, SBC-3 §4.7.3.7).
    pub fn soft_threshold_reached(&self, unit: &Arc<LogicalUnit>) {
        self.tell(unit, UnitAttention::ThinProvisioningSoftThresholdReached);
    }

    fn tell(&self, unit: &Arc<LogicalUnit>, condition: UnitAttention) {
        self.sessions.send(None, || Message::Attention { unit: unit.clone(), condition });
    }

    /// Whether writes to a unit are refused from now on, whatever an initiator may do elsewhere. When
    /// this returns, nothing can write any more that may not.
    pub async fn set_read_only(&self, unit: &Arc<LogicalUnit>, read_only: bool) {
        let (sender, receiver) = oneshot::channel::<()>();
        {
            let held = Arc::new(sender);
            let mut targets = self.targets.write();
            unit.set_read_only(read_only);
            for (name, target) in targets.iter_mut() {
                if target.units.values().any(|other| Arc::ptr_eq(other, unit)) {
                    target.whole = Arc::new(whole(&target.units));
                    self.show(name, target, Some(&held));
                }
            }
        }
        // Ends when the last session has let go of it.
        let _ = receiver.await;
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
    fn show(
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

    /// The sessions that are there now.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionSummary> {
        self.sessions.list()
    }

    /// Counts over all sessions that there are and were since the start.
    #[must_use]
    pub fn totals(&self) -> Counters {
        self.sessions.totals()
    }

    /// A session with everything that is known of it.
    #[must_use]
    pub fn session(&self, tsih: u16) -> Option<SessionDetail> {
        self.sessions.detail(tsih)
    }

    /// Asks an initiator to log out within so many seconds (RFC 7143 §11.9). It is served until it
    /// does. False if there is no such session.
    pub fn ask_logout(&self, tsih: u16, seconds: u16) -> bool {
        self.sessions.send_to(tsih, Message::Ask(AsyncEvent::LogoutRequest { seconds }))
    }

    /// Asks an initiator to negotiate its parameters anew within so many seconds. False if there
    /// is no such session.
    pub fn ask_renegotiation(&self, tsih: u16, seconds: u16) -> bool {
        self.sessions.send_to(tsih, Message::Ask(AsyncEvent::Renegotiate { seconds }))
    }

    /// Ends a session: what it has begun is finished and answered, then its initiator is told.
    /// False if there is no such session.
    pub fn end_session(&self, tsih: u16) -> bool {
        self.sessions.send_to(tsih, Message::Close(SessionEnd::Ended))
    }

    /// Takes a trace of a session's connection, from now on.
    ///
    /// # Errors
    /// [`TraceError::NoSuchSession`], [`TraceError::TooMany`].
    pub fn trace(&self, tsih: u16) -> Result<Trace, TraceError> {
        let (trace, tap) = trace(&self.traces)?;
        let there = self.sessions.send_to(tsih, Message::Trace(Box::new(tap)));
        there.then_some(trace).ok_or(TraceError::NoSuchSession(tsih))
    }

    /// Lets nobody in any more and asks all initiators to log out (RFC 7143 §11.9). Sessions that
    /// are still there after [`NodeConfig::logout_time`] end as soon as what they have begun is
    /// done. False if some of them were still there `timeout` later, or the node was resumed.
    pub async fn drain(&self, timeout: Duration) -> bool {
        self.leave(NodeState::Draining, timeout).await
    }

    /// [`Node::drain`] for good: the node cannot be resumed.
    pub async fn stop(&self, timeout: Duration) -> bool {
        self.leave(NodeState::Stopping, timeout).await
    }

    async fn leave(&self, state: NodeState, timeout: Duration) -> bool {
        let begun = {
            let resumed = self.resumed.lock();
            // A node that stops does not go back to draining.
            self.state.fetch_max(state as u8, Ordering::AcqRel);
            self.sessions.close();
            *resumed
        };
        let logout_time = self.config.logout_time;
        if !logout_time.is_zero() {
            // Never less than there is, and in whole seconds.
            let seconds = logout_time.as_millis().div_ceil(1000);
            let seconds = u16::try_from(seconds).unwrap_or(u16::MAX);
            self.sessions.send(None, || Message::Ask(AsyncEvent::LogoutRequest { seconds }));
            let gone = self.sessions.wait_for_none(None);
            if tokio::time::timeout(logout_time, gone).await.is_ok() {
                return true;
            }
        }
        {
            let resumed = self.resumed.lock();
            if *resumed != begun {
                return false;
            }
            self.sessions.send(None, || Message::Close(SessionEnd::Drained));
        }
        tokio::time::timeout(timeout, self.sessions.wait_for_none(None)).await.is_ok()
    }

    /// Lets initiators in again after [`Node::drain`].
    ///
    /// # Errors
    /// [`NodeError::Stopping`].
    pub fn resume(&self) -> Result<(), NodeError> {
        let mut resumed = self.resumed.lock();
        match self.state() {
            NodeState::Stopping => return Err(NodeError::Stopping),
            NodeState::Starting | NodeState::Serving => return Ok(()),
            NodeState::Draining => {}
        }
        *resumed += 1;
        self.sessions.open();
        self.set_state(NodeState::Serving);
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::NoEvents;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Group 1 for both targets, group 2 for `disks` alone.
    fn node() -> Arc<Node> {
        let node = Node::new(NodeConfig::default(), Arc::new(NoEvents));
        let group = |tag, portals: &[&str]| {
            PortalGroup::new(tag, portals.iter().map(|portal| address(portal)).collect())
        };
        node.set_portal_groups(vec![
            group(1, &["127.0.0.1:1", "127.0.0.1:2", "0.0.0.0:3", "192.0.2.1:4"]),
            group(2, &["[2001:db8::1]:5", "[::]:6"]),
        ]);
        for (name, portal_groups) in
            [("iqn.2026-01.org.example:disks", None), (TAPES, Some(vec![1]))]
        {
            let (name, alias) = (IscsiName::new(name).unwrap(), String::new());
            let (auth, access) = (AuthPolicy::None, None);
            node.add_target(TargetConfig { name, alias, auth, access, portal_groups }).unwrap();
        }
        node
    }

    const DISKS: &str = "iqn.2026-01.org.example:disks";
    const TAPES: &str = "iqn.2026-01.org.example:tapes";

    #[test]
    fn every_portal_that_an_initiator_can_reach_is_listed_behind_its_own() {
        let node = node();
        let seen = |target, group, local| {
            let found = node.addresses(target, (group, address(local)));
            found.iter().map(|(group, portal)| format!("{portal},{group}")).collect::<Vec<_>>()
        };
        assert_eq!(
            seen(DISKS, 1, "127.0.0.1:2"),
            ["127.0.0.1:2,1", "127.0.0.1:1,1", "127.0.0.1:3,1", "127.0.0.1:6,2"]
        );
        // Through the wildcard, to an address that is no portal by itself.
        assert_eq!(
            seen(DISKS, 1, "192.0.2.9:3"),
            ["192.0.2.9:3,1", "192.0.2.1:4,1", "[2001:db8::1]:5,2", "192.0.2.9:6,2"]
        );
        let v6 = "[2001:db8::9]:6";
        assert_eq!(seen(DISKS, 2, v6), ["[2001:db8::9]:6,2", "192.0.2.1:4,1", "[2001:db8::1]:5,2"]);
        // Where it is not reached, it is not said to be.
        assert_eq!(seen(TAPES, 2, v6), ["192.0.2.1:4,1"]);
    }

    #[test]
    fn a_target_has_a_port_for_each_of_its_portal_groups() {
        let node = node();
        let address = address("192.0.2.9:1").ip();
        let tags = |target, group| {
            let (ports, _) = node.ports(target, group, "iqn.2026-01.org.example:a", address)?;
            assert_eq!(ports.own.relative_target_port_id, group);
            Some(ports.all.iter().map(|port| port.target_portal_group_tag).collect::<Vec<_>>())
        };
        assert_eq!(tags(DISKS, 2), Some(vec![1, 2]));
        assert_eq!(tags(TAPES, 1), Some(vec![1]));
        let visit = Visit { node: &node, address, group: 2 };
        node.set_state(NodeState::Serving);
        let initiator = IscsiName::new("iqn.2026-01.org.example:a").unwrap();
        let ask = |name| visit.target(&initiator, &IscsiName::new(name).unwrap()).map(|_| ());
        assert_eq!((ask(DISKS), ask(TAPES)), (Ok(()), Err(LoginStatus::NotFound)));
    }
}
