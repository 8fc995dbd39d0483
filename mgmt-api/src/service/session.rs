//! Sessions and their traces.

use std::collections::BTreeMap;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;

use super::{Refusal, Result, Service, ServiceError};
use crate::api;
use crate::otlp;

/// A trace that is being taken, as the bytes of a pcapng file. It ends with its connection, or when
/// it is dropped.
pub type Trace = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// Counts over all sessions that there are and were since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "as those of one session")]
pub struct TotalCounters {
    pub commands: u64,
    pub read_commands: u64,
    pub write_commands: u64,
    pub task_management_functions: u64,
    pub read_bytes: u64,
    pub written_bytes: u64,
    /// Those of `read_bytes` that were sent without being copied.
    pub zero_copy_bytes: u64,
    pub pdus_received: u64,
    pub pdus_sent: u64,
    pub rejects: u64,
    pub data_digest_errors: u64,
}

/// How often what took how long.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Times {
    /// Upper bounds in microseconds, ascending; none for what took longer. With how often.
    pub classes: Vec<(Option<u64>, u64)>,
    /// All of it together.
    pub nanoseconds: u64,
}

/// What a disk that is exposed has done since it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitCounters {
    /// The disk's identifier; [`Service::units`] says its name.
    pub disk: String,
    /// Commands that read blocks.
    pub read_commands: u64,
    /// Commands that write blocks.
    pub write_commands: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Commands that a thread had to wait for, by what they do.
    pub handed_off: Vec<(&'static str, Times)>,
    /// Commands whose time was taken, by what they do.
    pub timed: Vec<(&'static str, Times)>,
    /// Commands that wait for a thread now.
    pub waiting: usize,
    /// Threads that work for the disk now.
    pub threads: usize,
    /// The cache of tables of its image.
    pub cache: Option<CacheCounters>,
}

/// A cache of tables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheCounters {
    /// Bytes that are held.
    pub bytes: u64,
    /// Bytes that may be held.
    pub limit_bytes: u64,
    /// Bytes that are not written yet.
    pub dirty_bytes: u64,
    /// Tables read from the file.
    pub loads: u64,
    /// Tables given up for others.
    pub evictions: u64,
}

/// The most sessions that metrics tell of one by one: those that have been there for the longest.
pub(crate) const NAMED_SESSIONS: usize = 128;

/// What metrics tell of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionFigures {
    pub(crate) tsih: u16,
    pub(crate) initiator: String,
    pub(crate) target: String,
    pub(crate) counters: api::SessionCounters,
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) outstanding: u64,
    pub(crate) timed: Vec<(&'static str, Times)>,
}

/// What metrics tell of initiators.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Normal sessions by target; targets without one too.
    pub sessions: BTreeMap<String, u64>,
    /// Commands that are not answered yet, by target.
    pub outstanding: BTreeMap<String, u64>,
    /// Since the start.
    pub counters: TotalCounters,
    /// CHECK CONDITIONs since the start, by sense key.
    pub senses: [u64; 16],
    /// Bytes of images that are pinned in memory.
    pub pinned_bytes: u64,
    /// The sessions that have been there for the longest, at most 128.
    pub(crate) named: Vec<SessionFigures>,
}

/// What an operator wants of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionRequest {
    /// The initiator shall log out.
    Logout {
        /// Within so many seconds.
        seconds: u16,
    },
    /// The initiator shall negotiate parameters anew.
    Renegotiate {
        /// Within so many seconds.
        seconds: u16,
    },
    /// It ends, once what it has begun is answered.
    End,
}

/// Why no trace is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceRefusal {
    /// There is no such session.
    NoSuchSession,
    /// So many are taken already.
    TooMany,
}

impl Service {
    /// What became of traces; none if nobody collects them.
    #[must_use]
    pub fn traces(&self) -> Option<otlp::Figures> {
        self.host.traces()
    }

    /// What metrics tell of initiators.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let targets = self.engine.targets();
        let mut sessions: BTreeMap<String, u64> =
            targets.into_iter().map(|target| (target.name, 0)).collect();
        let mut outstanding = sessions.clone();
        let mut named = Vec::new();
        let mut all = self.host.sessions();
        all.sort_by_key(|session| (session.since, session.tsih));
        for session in all {
            let Some(target) = session.target else { continue };
            if let Some(detail) = self.host.session(session.tsih) {
                let count = u64::try_from(detail.outstanding_commands).unwrap_or(u64::MAX);
                *outstanding.entry(target.clone()).or_default() += count;
                if named.len() < NAMED_SESSIONS {
                    named.push(SessionFigures {
                        tsih: session.tsih,
                        initiator: session.initiator,
                        target: target.clone(),
                        counters: detail.counters,
                        read_bytes: session.read_bytes,
                        written_bytes: session.written_bytes,
                        outstanding: count,
                        timed: self.host.session_times(session.tsih),
                    });
                }
            }
            *sessions.entry(target).or_default() += 1;
        }
        let (counters, senses) = (self.host.totals(), self.host.senses());
        let pinned_bytes = self.host.pinned_bytes();
        Totals { sessions, outstanding, counters, senses, pinned_bytes, named }
    }

    /// What the disks that are exposed have done, by their names.
    #[must_use]
    pub fn units(&self) -> Vec<UnitCounters> {
        let disks = self.engine.disks();
        let names: BTreeMap<String, &str> =
            disks.iter().map(|disk| (disk.id.to_string(), disk.name.as_str())).collect();
        let named = |unit: UnitCounters| {
            let disk = (*names.get(&unit.disk)?).to_owned();
            Some(UnitCounters { disk, ..unit })
        };
        self.host.units().into_iter().filter_map(named).collect()
    }

    /// All sessions.
    #[must_use]
    pub fn sessions(&self) -> Vec<api::Session> {
        self.host.sessions()
    }

    /// A session by its TSIH.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], [`Refusal::NotFound`].
    pub fn session(&self, key: &str) -> Result<api::SessionDetail> {
        self.host.session(tsih(key)?).ok_or_else(|| missing(key))
    }

    /// Asks the initiator of a session for something, or ends it.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], [`Refusal::NotFound`].
    pub fn ask_session(&self, key: &str, request: SessionRequest) -> Result<()> {
        self.host.ask(tsih(key)?, request).then_some(()).ok_or_else(|| missing(key))
    }

    /// Takes a trace of a session, from now on.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], [`Refusal::NotFound`], [`Refusal::Unavailable`].
    pub fn trace(&self, key: &str) -> Result<Trace> {
        self.host.trace(tsih(key)?).map_err(|refusal| match refusal {
            TraceRefusal::NoSuchSession => missing(key),
            TraceRefusal::TooMany => ServiceError::new(
                Refusal::Unavailable,
                "as many traces as can be are taken already; end one of them",
            ),
        })
    }
}

fn tsih(key: &str) -> Result<u16> {
    key.parse().map_err(|_| {
        ServiceError::new(Refusal::Invalid, format!("`{key}` is no TSIH: a number is wanted"))
    })
}

fn missing(key: &str) -> ServiceError {
    ServiceError::new(Refusal::NotFound, format!("there is no session {key}"))
}
