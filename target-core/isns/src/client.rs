//! What is to be sent next, and what its answer means.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::message::{Attributes, Message, MessageError, function, request, response, tag};
use crate::registration::{Portal, Registration, Target, entity, target};

/// Status codes of a server that has forgotten us (RFC 4171 §5.4).
const SOURCE_UNKNOWN: u32 = 6;
const NO_SUCH_ENTRY: u32 = 9;
/// SCN bitmap (RFC 4171 §6.4.4): initiators and ourselves; removed, added, updated; members of
/// discovery domains removed, added.
const SCN_BITMAP: u32 = 0x80 | 0x10 | 0x08 | 0x04 | 0x02 | 0x01;
/// OBJECT REMOVED.
const REMOVED: u32 = 0x10;

/// Why the connection is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The server speaks something else.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The server answers what was not asked.
    #[error("an answer that was not asked for")]
    Unexpected,
    /// The server refused a request.
    #[error("{request} was refused with status {status}")]
    Refused {
        /// The request, by its name in the RFC.
        request: &'static str,
        /// Status Code.
        status: u32,
    },
}

/// What a message of the server's own accord led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Something has changed (State Change Notification): the node, and the SCN bitmap.
    Changed {
        /// The iSCSI name.
        node: String,
        /// What has happened to it.
        bitmap: u32,
    },
}

/// A request whose answer has not come.
#[derive(Debug)]
enum Pending {
    Register(BTreeMap<String, Target>),
    DeregisterEntity,
    Deregister(Vec<String>),
    RegisterNotifications,
    Refresh,
}

impl Pending {
    fn name(&self) -> &'static str {
        match self {
            Self::Register(_) => "DevAttrReg",
            Self::DeregisterEntity | Self::Deregister(_) => "DevDereg",
            Self::RegisterNotifications => "SCNReg",
            Self::Refresh => "DevAttrQry",
        }
    }
}

/// A client. It has one request out at a time.
#[derive(Debug)]
pub struct Client {
    entity: String,
    wanted: Registration,
    /// The targets that the server has.
    registered: BTreeMap<String, Target>,
    /// The portals that the server has.
    portals: Vec<Portal>,
    /// The target in whose name we speak.
    source: Option<String>,
    /// It is not known what the server has from a process before this one.
    fresh: bool,
    scn: Option<(IpAddr, u16)>,
    scn_registered: bool,
    transaction: u16,
    pending: Option<(u16, Pending)>,
    period: Option<Duration>,
    refresh_at: Option<Instant>,
}

impl Client {
    /// For a network entity of this name, with nothing registered.
    #[must_use]
    pub fn new(entity: &str) -> Self {
        Self {
            entity: entity.to_owned(),
            wanted: Registration::default(),
            registered: BTreeMap::new(),
            portals: Vec::new(),
            source: None,
            fresh: true,
            scn: None,
            scn_registered: false,
            transaction: 0,
            pending: None,
            period: None,
            refresh_at: None,
        }
    }

    /// Says what is to be registered from now on.
    pub fn set(&mut self, wanted: Registration) {
        self.wanted = wanted;
    }

    /// There is a new connection. Notifications are taken at this address and port.
    pub fn connected(&mut self, scn: Option<(IpAddr, u16)>) {
        self.pending = None;
        if self.scn != scn {
            // The portals say where notifications go.
            self.portals.clear();
            self.scn_registered = false;
        }
        self.scn = scn;
        // The server may have been started anew.
        self.refresh_at = self.source.is_some().then(Instant::now);
    }

    /// Whether the server has what it shall have.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.pending.is_none()
            && self.registered == self.wanted.targets
            && (self.registered.is_empty() || self.portals == self.wanted.portals)
    }

    /// How many targets the server has.
    #[must_use]
    pub fn registered(&self) -> usize {
        self.registered.len()
    }

    /// When [`Client::next`] has something to send, if nothing else happens.
    #[must_use]
    pub fn wake_at(&self) -> Option<Instant> {
        self.refresh_at.filter(|_| self.pending.is_none())
    }

    /// A request is out, and its answer has not come.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.pending.is_some()
    }

    /// The next request, if there is one and none is out.
    pub fn next(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.pending.is_some() {
            return None;
        }
        let (function, attributes, pending) = self.step(now)?;
        self.transaction = self.transaction.wrapping_add(1);
        let replace = self.fresh && matches!(pending, Pending::Register(_));
        self.pending = Some((self.transaction, pending));
        Some(request(function, self.transaction, replace, &attributes))
    }

    fn step(&self, now: Instant) -> Option<(u16, Attributes, Pending)> {
        let wanted = &self.wanted.targets;
        let Some(source) = &self.source else {
            let first = wanted.keys().next()?;
            return Some(self.register(first, wanted.clone()));
        };
        if self.refresh_at.is_some_and(|at| at <= now) {
            let key = from(source).text(tag::ENTITY_IDENTIFIER, &self.entity);
            let query = key.delimiter().with(tag::REGISTRATION_PERIOD, &[]);
            return Some((function::DEV_ATTR_QRY, query, Pending::Refresh));
        }
        // The entity belongs to the node in whose name it was registered.
        if !wanted.contains_key(source) || self.portals != self.wanted.portals {
            let all = from(source).delimiter().text(tag::ENTITY_IDENTIFIER, &self.entity);
            return Some((function::DEV_DEREG, all, Pending::DeregisterEntity));
        }
        let changed: BTreeMap<_, _> = wanted
            .iter()
            .filter(|(name, target)| self.registered.get(*name) != Some(target))
            .map(|(name, target)| (name.clone(), target.clone()))
            .collect();
        if !changed.is_empty() {
            return Some(self.register(source, changed));
        }
        let gone: Vec<_> =
            self.registered.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        if !gone.is_empty() {
            let start = from(source).delimiter();
            let names = gone.iter().fold(start, |all, name| all.text(tag::ISCSI_NAME, name));
            return Some((function::DEV_DEREG, names, Pending::Deregister(gone)));
        }
        let reachable =
            |scn: &(IpAddr, u16)| self.portals.iter().any(|portal| portal.address.ip() == scn.0);
        if !self.scn_registered && self.scn.as_ref().is_some_and(reachable) {
            let attributes = from(source)
                .text(tag::ISCSI_NAME, source)
                .delimiter()
                .number(tag::ISCSI_SCN_BITMAP, SCN_BITMAP);
            return Some((function::SCN_REG, attributes, Pending::RegisterNotifications));
        }
        None
    }

    fn register(
        &self,
        source: &str,
        targets: BTreeMap<String, Target>,
    ) -> (u16, Attributes, Pending) {
        let portals = &self.wanted.portals;
        let key = from(source).text(tag::ENTITY_IDENTIFIER, &self.entity).delimiter();
        let all = key.and(entity(&self.entity, portals, self.scn));
        let all = targets.iter().fold(all, |all, (name, it)| all.and(target(name, it, portals)));
        (function::DEV_ATTR_REG, all, Pending::Register(targets))
    }

    /// Takes a message of the server; what is to be sent because of it, and what it says.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub fn receive(
        &mut self,
        message: &Message,
        now: Instant,
    ) -> Result<(Option<Vec<u8>>, Vec<Notice>), ClientError> {
        if !message.is_response {
            return self.asked(message);
        }
        let (transaction, pending) = self.pending.take().ok_or(ClientError::Unexpected)?;
        if transaction != message.transaction {
            return Err(ClientError::Unexpected);
        }
        let (status, attributes) = (message.status(), message.attributes()?);
        match (status, pending) {
            (0, pending) => self.done(pending, &attributes, now),
            // What it does not have need not be taken away.
            (SOURCE_UNKNOWN | NO_SUCH_ENTRY, Pending::DeregisterEntity | Pending::Refresh) => {
                self.forget();
            }
            // The server takes notifications for nobody, or not for us: we do without.
            (_, Pending::RegisterNotifications) => self.scn_registered = true,
            (status, pending) => {
                // A server that has forgotten us says so in many ways: begin anew.
                self.forget();
                return Err(ClientError::Refused { request: pending.name(), status });
            }
        }
        Ok((None, Vec::new()))
    }

    fn done(&mut self, pending: Pending, attributes: &[(u32, &[u8])], now: Instant) {
        match pending {
            Pending::Register(targets) => {
                if self.source.is_none() {
                    self.source = targets.keys().next().cloned();
                    self.portals.clone_from(&self.wanted.portals);
                }
                self.registered.extend(targets);
                self.fresh = false;
            }
            Pending::DeregisterEntity => self.forget(),
            Pending::Deregister(names) => {
                self.registered.retain(|name, _| !names.contains(name));
            }
            Pending::RegisterNotifications => self.scn_registered = true,
            Pending::Refresh => {}
        }
        let period = attributes.iter().find(|(tag, _)| *tag == tag::REGISTRATION_PERIOD);
        let period = period.and_then(|(_, value)| (*value).try_into().ok());
        if let Some(seconds) = period.map(u32::from_be_bytes) {
            self.period = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        }
        // Twice within each period (RFC 4171 §6.2.6).
        let due = |period: Duration| now + (period / 2).max(Duration::from_secs(1));
        self.refresh_at = self.source.as_ref().and(self.period).map(due);
    }

    fn forget(&mut self) {
        self.registered.clear();
        self.portals.clear();
        self.source = None;
        self.scn_registered = false;
        self.refresh_at = None;
    }

    /// A request of the server's.
    fn asked(&mut self, message: &Message) -> Result<(Option<Vec<u8>>, Vec<Notice>), ClientError> {
        let attributes = message.attributes()?;
        match message.function {
            function::SCN => {
                let (notices, destination) = notices(&attributes);
                let ours = |notice: &Notice| {
                    let Notice::Changed { node, bitmap } = notice;
                    bitmap & REMOVED != 0 && self.registered.contains_key(node)
                };
                if notices.iter().any(ours) {
                    // Somebody took us out there.
                    self.forget();
                }
                let attributes = destination.map_or_else(Attributes::default, |name| {
                    Attributes::default().with(tag::ISCSI_NAME, name)
                });
                let answer = response(function::SCN, message.transaction, &attributes);
                Ok((Some(answer), notices))
            }
            // Everything that it asks about comes back.
            function::ESI => {
                let all = attributes
                    .iter()
                    .fold(Attributes::default(), |all, (tag, value)| all.with(*tag, value));
                Ok((Some(response(function::ESI, message.transaction, &all)), Vec::new()))
            }
            _ => Err(ClientError::Unexpected),
        }
    }
}

/// The source attribute.
fn from(source: &str) -> Attributes {
    Attributes::default().text(tag::ISCSI_NAME, source)
}

/// What a notification says, and the node that it is for: its first attribute. A bitmap stands in
/// front of each node that it is about (RFC 4171 §5.6.5.8).
fn notices<'a>(attributes: &[(u32, &'a [u8])]) -> (Vec<Notice>, Option<&'a [u8]>) {
    let (mut notices, mut destination, mut bitmap) = (Vec::new(), None, None);
    for (tag, value) in attributes {
        match *tag {
            tag::ISCSI_SCN_BITMAP => {
                bitmap = (*value).try_into().ok().map(u32::from_be_bytes);
            }
            tag::ISCSI_NAME => match bitmap.take() {
                None => destination = destination.or(Some(*value)),
                Some(bitmap) => {
                    let node = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
                    notices.push(Notice::Changed { node, bitmap });
                }
            },
            _ => {}
        }
    }
    (notices, destination)
}

#[cfg(test)]
mod tests;
