//! An iSCSI node: its targets, their units, and who is logged in.

mod portal_groups;
mod targets;
mod units;
mod visit;

pub use portal_groups::PortalGroup;
pub use targets::TargetConfig;
pub(crate) use visit::Visit;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use iscsi_proto::login::AuthPolicy;
use iscsi_proto::pdu::AsyncEvent;
use iscsi_proto::session::Counters;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;

use crate::access_states::AccessStates;
use crate::backlog::Backlog;
use crate::config::NodeConfig;
use crate::connection::Message;
use crate::events::{Events, SessionEnd};
use crate::limits::Limits;
use crate::lobby::Lobby;
use crate::sessions::{SessionDetail, SessionSummary, Sessions};
use crate::tidy::Tidy;
use crate::tokens::Tokens;
use crate::trace::{MAX_TRACES, Trace, TraceError, trace};
use crate::watch::Watch;
use targets::Target;

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

/// An iSCSI node.
pub struct Node {
    pub(crate) config: NodeConfig,
    pub(crate) events: Arc<dyn Events>,
    pub(crate) sessions: Sessions,
    pub(crate) lobby: Arc<Lobby>,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) watch: Watch,
    pub(crate) tidy: Tidy,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) limits: Limits,
    /// CHECK CONDITIONs by sense key.
    pub(crate) senses: [AtomicU64; 16],
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
            tidy: Tidy::default(),
            tokens: Arc::default(),
            limits: Limits::default(),
            senses: std::array::from_fn(|_| AtomicU64::new(0)),
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

    fn is_serving(&self) -> bool {
        self.state() == NodeState::Serving
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

    /// CHECK CONDITIONs since the start, by sense key (SPC-4 table 43).
    #[must_use]
    pub fn senses(&self) -> [u64; 16] {
        std::array::from_fn(|key| {
            self.senses.get(key).map_or(0, |count| count.load(Ordering::Relaxed))
        })
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
}
