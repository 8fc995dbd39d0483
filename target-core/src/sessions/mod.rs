//! All sessions of a node, by their names (RFC 7143 §4.2.7, §6.3).

mod summary;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use crate::connection::Sender;
use iscsi_proto::login::{Authentication, ExistingSession, LoginOutcome, LoginStatus, SessionName};
use iscsi_proto::names::IscsiName;
use iscsi_proto::session::Counters;
use iscsi_proto::{Cid, Isid, Tsih};
use parking_lot::Mutex;
use scsi::reservation::InitiatorPort;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub(crate) use self::summary::Published;
pub use self::summary::{SessionDetail, SessionSummary};

use crate::config::NodeConfig;
use crate::connection::{Handover, Message};
use crate::events::SessionEnd;

/// What makes a session the same session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name {
    initiator: String,
    isid: Isid,
    target: Option<String>,
    /// Target Portal Group Tag: with the target's name, it names the target port.
    group: u16,
}

impl Name {
    fn of(outcome: &LoginOutcome) -> Self {
        Self {
            initiator: outcome.initiator_name.as_str().to_owned(),
            isid: outcome.isid,
            target: outcome.target_name.as_ref().map(|name| name.as_str().to_owned()),
            group: outcome.target_portal_group_tag,
        }
    }
}

#[derive(Debug)]
struct Entry {
    tsih: u16,
    name: Name,
    initiator_alias: Box<str>,
    /// Where its connection comes from, and to.
    ends: Ends,
    since: SystemTime,
    published: Arc<Published>,
    sender: Sender,
    ended: CancellationToken,
    authentication: Authentication,
    /// Of its one connection.
    cid: Cid,
}

/// Both ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
}

impl Entry {
    fn summary(&self) -> SessionSummary {
        let counters = self.published.get().counters;
        SessionSummary {
            tsih: self.tsih,
            isid: self.name.isid.to_string(),
            initiator: self.name.initiator.clone(),
            initiator_alias: self.initiator_alias.to_string(),
            target: self.name.target.clone(),
            address: self.ends.peer,
            since: self.since,
            commands: counters.commands,
            read_bytes: counters.data_in_bytes,
            written_bytes: counters.data_out_bytes,
        }
    }

    fn detail(&self) -> SessionDetail {
        let state = self.published.get();
        SessionDetail {
            summary: self.summary(),
            authentication: self.authentication.clone(),
            cid: self.cid.0,
            portal: self.ends.local,
            target_portal_group_tag: self.name.group,
            parameters: state.parameters,
            counters: state.counters,
            exp_cmd_sn: state.exp_cmd_sn.0,
            max_cmd_sn: state.max_cmd_sn.0,
            outstanding: state.outstanding,
            times: self.published.times.get(),
        }
    }
}

#[derive(Debug, Default)]
struct Table {
    /// Boxed: a table has room for more than it holds.
    by_tsih: HashMap<u16, Box<Entry>>,
    last: u16,
    /// Nobody is let in any more.
    closed: bool,
    /// Counts of sessions that are over.
    over: Counters,
}

/// The sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    table: Mutex<Table>,
    max: usize,
    max_per_target: usize,
    max_per_initiator: usize,
}

/// A session's place in the table, for its connection.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) tsih: Tsih,
    pub(crate) published: Arc<Published>,
}

impl Sessions {
    pub(crate) fn new(config: &NodeConfig) -> Self {
        Self {
            table: Mutex::default(),
            // TSIHs are 16 bits wide, and 0 is none.
            max: config.max_sessions.min(60_000),
            max_per_target: config.max_sessions_per_target,
            max_per_initiator: config.max_sessions_per_initiator,
        }
    }

    /// Whether a session of that name may be added.
    fn has_room(&self, table: &Table, name: &Name) -> bool {
        let discovery = name.target.is_none();
        let (mut of_target, mut of_initiator) = (0, 0);
        for other in table.by_tsih.values().map(|entry| &entry.name) {
            of_target += usize::from(!discovery && other.target == name.target);
            let like_it = other.target.is_none() == discovery;
            of_initiator += usize::from(like_it && other.initiator == name.initiator);
        }
        table.by_tsih.len() < self.max
            && (discovery || of_target < self.max_per_target)
            && of_initiator < self.max_per_initiator
    }

    /// Finds a place for a session. A session of the same name is closed first, and its commands
    /// have ended when this returns (session reinstatement, RFC 7143 §6.3.5).
    pub(crate) async fn admit(
        &self,
        outcome: &LoginOutcome,
        ends: Ends,
        sender: &Sender,
    ) -> Result<Admission, LoginStatus> {
        let name = Name::of(outcome);
        loop {
            let ended = {
                let mut table = self.table.lock();
                match table.by_tsih.values().find(|entry| entry.name == name) {
                    Some(entry) => {
                        let _ = entry.sender.send(Message::Close(SessionEnd::Reinstated));
                        entry.ended.clone()
                    }
                    None => return self.insert(&mut table, name, outcome, ends, sender.clone()),
                }
            };
            ended.cancelled().await;
        }
    }

    /// The session that a login names, if it is there.
    pub(crate) fn existing(&self, name: SessionName<'_>, group: u16) -> Option<ExistingSession> {
        let table = self.table.lock();
        let entry = table.by_tsih.get(&name.tsih.0)?;
        let same = entry.name.group == group
            && entry.name.isid == name.isid
            && entry.name.initiator == name.initiator.as_str()
            && entry.name.target.as_deref() == name.target.map(IscsiName::as_str);
        let state = entry.published.get();
        let (parameters, exp_cmd_sn) = (state.parameters, state.exp_cmd_sn);
        same.then_some(ExistingSession { parameters, exp_cmd_sn })
    }

    /// Makes a login the connection of a session that is there. Its old connection is closed, and
    /// its commands have ended when this returns (connection reinstatement, RFC 7143 §6.3.4).
    pub(crate) async fn take_over(&self, outcome: &LoginOutcome) -> Result<Handover, LoginStatus> {
        let receiver = {
            let table = self.table.lock();
            if table.closed {
                return Err(LoginStatus::ServiceUnavailable);
            }
            let entry = table.by_tsih.get(&outcome.requested_tsih.0);
            let entry = entry.filter(|entry| entry.name == Name::of(outcome));
            let entry = entry.ok_or(LoginStatus::SessionDoesNotExist)?;
            if entry.cid != outcome.cid {
                // One connection is all that a session has here.
                return Err(LoginStatus::TooManyConnections);
            }
            let (sender, receiver) = oneshot::channel();
            let _ = entry.sender.send(Message::TakeOver(sender));
            receiver
        };
        // Nobody answers for a session that is over.
        receiver.await.map_err(|_| LoginStatus::SessionDoesNotExist)
    }

    /// A session goes on over another connection.
    pub(crate) fn moved(&self, tsih: Tsih, outcome: &LoginOutcome, ends: Ends) {
        if let Some(entry) = self.table.lock().by_tsih.get_mut(&tsih.0) {
            entry.ends = ends;
            entry.authentication = outcome.authentication.clone();
        }
    }

    fn insert(
        &self,
        table: &mut Table,
        name: Name,
        outcome: &LoginOutcome,
        ends: Ends,
        sender: Sender,
    ) -> Result<Admission, LoginStatus> {
        if table.closed {
            return Err(LoginStatus::ServiceUnavailable);
        }
        if !self.has_room(table, &name) {
            return Err(LoginStatus::OutOfResources);
        }
        let mut tsih = table.last;
        loop {
            tsih = tsih.checked_add(1).unwrap_or(1);
            if !table.by_tsih.contains_key(&tsih) {
                break;
            }
        }
        table.last = tsih;
        let published = Arc::new(Published::new(outcome));
        let entry = Entry {
            tsih,
            name,
            initiator_alias: outcome.initiator_alias.as_deref().unwrap_or_default().into(),
            ends,
            since: SystemTime::now(),
            published: published.clone(),
            sender,
            ended: CancellationToken::new(),
            authentication: outcome.authentication.clone(),
            cid: outcome.cid,
        };
        table.by_tsih.insert(tsih, Box::new(entry));
        Ok(Admission { tsih: Tsih(tsih), published })
    }

    /// Lets nobody in any more.
    pub(crate) fn close(&self) {
        self.table.lock().closed = true;
    }

    /// Lets everybody in again.
    pub(crate) fn open(&self) {
        self.table.lock().closed = false;
    }

    /// Takes a session out, once none of its commands can write any more.
    pub(crate) fn remove(&self, tsih: Tsih) -> Option<SessionSummary> {
        let mut table = self.table.lock();
        let entry = table.by_tsih.remove(&tsih.0)?;
        table.over += entry.published.get().counters;
        drop(table);
        entry.ended.cancel();
        Some(entry.summary())
    }

    pub(crate) fn summary(&self, tsih: Tsih) -> Option<SessionSummary> {
        self.table.lock().by_tsih.get(&tsih.0).map(|entry| entry.summary())
    }

    /// Counts over all sessions that there are and were.
    pub(crate) fn totals(&self) -> Counters {
        let table = self.table.lock();
        let mut all = table.over;
        table.by_tsih.values().for_each(|entry| all += entry.published.get().counters);
        all
    }

    pub(crate) fn detail(&self, tsih: u16) -> Option<SessionDetail> {
        self.table.lock().by_tsih.get(&tsih).map(|entry| entry.detail())
    }

    /// Sends one session a message; false if it is not there.
    pub(crate) fn send_to(&self, tsih: u16, message: Message) -> bool {
        let table = self.table.lock();
        table.by_tsih.get(&tsih).is_some_and(|entry| entry.sender.send(message).is_ok())
    }

    pub(crate) fn list(&self) -> Vec<SessionSummary> {
        let mut list: Vec<_> =
            self.table.lock().by_tsih.values().map(|entry| entry.summary()).collect();
        list.sort_by_key(|session| session.tsih);
        list
    }

    /// Sends a message to all sessions, or to those of a target.
    pub(crate) fn send(&self, target: Option<&str>, mut message: impl FnMut() -> Message) {
        for entry in self.table.lock().by_tsih.values() {
            if target.is_none() || entry.name.target.as_deref() == target {
                let _ = entry.sender.send(message());
            }
        }
    }

    /// Sends every session of a target a message of its own, by its initiator and where that
    /// connects from; the ends of those that are to close.
    pub(crate) fn send_each(
        &self,
        target: &str,
        message: impl Fn(&str, SocketAddr) -> Message,
    ) -> Vec<CancellationToken> {
        let mut closed = Vec::new();
        for entry in self.table.lock().by_tsih.values() {
            if entry.name.target.as_deref() == Some(target) {
                let message = message(&entry.name.initiator, entry.ends.peer);
                if matches!(message, Message::Close(_)) {
                    closed.push(entry.ended.clone());
                }
                let _ = entry.sender.send(message);
            }
        }
        closed
    }

    /// The targets to which an initiator is logged in, and from where.
    pub(crate) fn targets_of(&self, initiator: &str) -> Vec<(String, IpAddr)> {
        let table = self.table.lock();
        let own = table.by_tsih.values().filter(|entry| entry.name.initiator == initiator);
        own.filter_map(|entry| Some((entry.name.target.clone()?, entry.ends.peer.ip()))).collect()
    }

    /// The initiator ports of all normal sessions.
    pub(crate) fn initiator_ports(&self) -> Vec<InitiatorPort> {
        let table = self.table.lock();
        let normal = table.by_tsih.values().filter(|entry| entry.name.target.is_some());
        normal.map(|entry| InitiatorPort::new(&entry.name.initiator, entry.name.isid.0)).collect()
    }

    /// Sends a message to all sessions but one.
    pub(crate) fn send_to_others(&self, tsih: Tsih, mut message: impl FnMut() -> Message) {
        for (other, entry) in &self.table.lock().by_tsih {
            if *other != tsih.0 {
                let _ = entry.sender.send(message());
            }
        }
    }

    /// Sends a message to all sessions of a target but one.
    pub(crate) fn send_to_others_of(
        &self,
        target: &str,
        tsih: Tsih,
        mut message: impl FnMut() -> Message,
    ) {
        for (other, entry) in &self.table.lock().by_tsih {
            if *other != tsih.0 && entry.name.target.as_deref() == Some(target) {
                let _ = entry.sender.send(message());
            }
        }
    }

    /// Waits until no session of the target, or none at all, is left.
    pub(crate) async fn wait_for_none(&self, target: Option<&str>) {
        loop {
            let ended = {
                let table = self.table.lock();
                let of_target =
                    |entry: &Entry| target.is_none() || entry.name.target.as_deref() == target;
                let mut entries = table.by_tsih.values();
                entries.find(|entry| of_target(entry)).map(|entry| entry.ended.clone())
            };
            let Some(ended) = ended else { return };
            ended.cancelled().await;
        }
    }
}
