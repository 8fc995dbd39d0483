//! All sessions of a node, by their names (RFC 7143 §4.2.7, §6.3).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use iscsi_proto::login::{LoginOutcome, LoginStatus};
use iscsi_proto::session::Counters;
use iscsi_proto::{Isid, Tsih};
use parking_lot::Mutex;
use scsi::reservation::InitiatorPort;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::connection::Message;
use crate::events::SessionEnd;

/// A session as management sees it.
#[derive(Debug, Clone)]
pub struct SessionSummary {
    /// Target Session Identifying Handle.
    pub tsih: u16,
    /// The initiator's part of the session's name, in hexadecimal.
    pub isid: String,
    /// The initiator's iSCSI name.
    pub initiator: String,
    /// The initiator's alias; may be empty.
    pub initiator_alias: String,
    /// The target's iSCSI name; none in a discovery session.
    pub target: Option<String>,
    /// Where the initiator connects from.
    pub address: SocketAddr,
    /// Since when.
    pub since: SystemTime,
    /// SCSI commands so far.
    pub commands: u64,
    /// Bytes sent to the initiator.
    pub read_bytes: u64,
    /// Bytes received from it.
    pub written_bytes: u64,
}

/// The counters of a session, written once a turn by its connection alone.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    commands: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

impl Statistics {
    pub(crate) fn store(&self, counters: &Counters) {
        self.commands.store(counters.commands, Ordering::Relaxed);
        self.read_bytes.store(counters.data_in_bytes, Ordering::Relaxed);
        self.written_bytes.store(counters.data_out_bytes, Ordering::Relaxed);
    }
}

/// What makes a session the same session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name {
    initiator: String,
    isid: Isid,
    target: Option<String>,
}

#[derive(Debug)]
struct Entry {
    name: Name,
    summary: SessionSummary,
    statistics: Arc<Statistics>,
    sender: UnboundedSender<Message>,
    ended: CancellationToken,
}

impl Entry {
    fn summary(&self) -> SessionSummary {
        let mut summary = self.summary.clone();
        summary.commands = self.statistics.commands.load(Ordering::Relaxed);
        summary.read_bytes = self.statistics.read_bytes.load(Ordering::Relaxed);
        summary.written_bytes = self.statistics.written_bytes.load(Ordering::Relaxed);
        summary
    }
}

#[derive(Debug, Default)]
struct Table {
    by_tsih: HashMap<u16, Entry>,
    last: u16,
    /// Nobody is let in any more.
    closed: bool,
}

/// The sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    table: Mutex<Table>,
    max: usize,
}

/// A session's place in the table, for its connection.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) tsih: Tsih,
    pub(crate) statistics: Arc<Statistics>,
}

impl Sessions {
    pub(crate) fn new(max: usize) -> Self {
        // TSIHs are 16 bits wide, and 0 is none.
        Self { table: Mutex::default(), max: max.min(60_000) }
    }

    /// Finds a place for a session. A session of the same name is closed first, and its commands
    /// have ended when this returns (session reinstatement, RFC 7143 §6.3.5).
    pub(crate) async fn admit(
        &self,
        outcome: &LoginOutcome,
        address: SocketAddr,
        sender: &UnboundedSender<Message>,
    ) -> Result<Admission, LoginStatus> {
        if outcome.requested_tsih != Tsih::NEW {
            // One connection is all that a session has here.
            let known = self.table.lock().by_tsih.contains_key(&outcome.requested_tsih.0);
            return Err(if known {
                LoginStatus::TooManyConnections
            } else {
                LoginStatus::SessionDoesNotExist
            });
        }
        let name = Name {
            initiator: outcome.initiator_name.as_str().to_owned(),
            isid: outcome.isid,
            target: outcome.target_name.as_ref().map(|name| name.as_str().to_owned()),
        };
        loop {
            let ended = {
                let mut table = self.table.lock();
                match table.by_tsih.values().find(|entry| entry.name == name) {
                    Some(entry) => {
                        let _ = entry.sender.send(Message::Close(SessionEnd::Reinstated));
                        entry.ended.clone()
                    }
                    None => return self.insert(&mut table, name, outcome, address, sender.clone()),
                }
            };
            ended.cancelled().await;
        }
    }

    fn insert(
        &self,
        table: &mut Table,
        name: Name,
        outcome: &LoginOutcome,
        address: SocketAddr,
        sender: UnboundedSender<Message>,
    ) -> Result<Admission, LoginStatus> {
        if table.closed {
            return Err(LoginStatus::ServiceUnavailable);
        }
        if table.by_tsih.len() >= self.max {
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
        let summary = SessionSummary {
            tsih,
            isid: name.isid.to_string(),
            initiator: name.initiator.clone(),
            initiator_alias: outcome.initiator_alias.clone().unwrap_or_default(),
            target: name.target.clone(),
            address,
            since: SystemTime::now(),
            commands: 0,
            read_bytes: 0,
            written_bytes: 0,
        };
        let statistics = Arc::new(Statistics::default());
        let ended = CancellationToken::new();
        let entry = Entry { name, summary, statistics: statistics.clone(), sender, ended };
        table.by_tsih.insert(tsih, entry);
        Ok(Admission { tsih: Tsih(tsih), statistics })
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
        let entry = self.table.lock().by_tsih.remove(&tsih.0)?;
        entry.ended.cancel();
        Some(entry.summary())
    }

    pub(crate) fn summary(&self, tsih: Tsih) -> Option<SessionSummary> {
        self.table.lock().by_tsih.get(&tsih.0).map(Entry::summary)
    }

    pub(crate) fn list(&self) -> Vec<SessionSummary> {
        let mut list: Vec<_> = self.table.lock().by_tsih.values().map(Entry::summary).collect();
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
                    |entry: &&Entry| target.is_none() || entry.name.target.as_deref() == target;
                table.by_tsih.values().find(of_target).map(|entry| entry.ended.clone())
            };
            let Some(ended) = ended else { return };
            ended.cancelled().await;
        }
    }
}
