//! Who is it, and what may they do: users, tokens, sessions, limits and the audit log.
//!
//! Until there is an administrator, whoever reaches a loopback address may do everything, as
//! `docs/security.md` says. From then on nobody comes in without proof.

mod audit;
mod guard;
mod limit;
mod password;
mod peer;
mod rest;
mod session;
#[cfg(test)]
pub(crate) mod tests;

use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use job_engine::{Engine, Role, User};
use tokio::sync::{Notify, Semaphore};

pub use self::peer::Peer;
pub use self::rest::routes;
pub(crate) use self::rest::{Limit, token, user};

pub(crate) use self::guard::{Act, Acts, Guard, guard};

use self::audit::Audit;
use self::limit::{Key, Limits};
use self::password::Passwords;
use self::session::{Sessions, recognize};

/// What tokens begin with, so that programs which look for leaked secrets find them.
const TOKEN_PREFIX: &str = "lund_";

/// Requests that may change something and are carried out at once; the others wait.
const MAX_BEGUN: usize = 64;

/// How somebody has shown who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Not at all: there is no administrator yet, and they are on this machine.
    Open,
    /// By the user whose process is at the other end of the UNIX socket.
    Socket,
    /// By a password.
    Password,
    /// By the cookie of a session.
    Session,
    /// By a token.
    Token,
    /// By a certificate.
    Certificate,
}

impl Via {
    /// As logs name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Socket => "socket",
            Self::Password => "password",
            Self::Session => "session",
            Self::Token => "token",
            Self::Certificate => "certificate",
        }
    }
}

/// Somebody who may do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name of the user, or of the token; nobody's while the daemon is open.
    pub name: Option<String>,
    /// What they may do.
    pub role: Role,
    /// How they have shown who they are.
    pub via: Via,
}

impl Identity {
    fn user(user: &User, via: Via) -> Self {
        Self { name: Some(user.name.clone()), role: user.role, via }
    }
}

/// Why nobody was recognized.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Unknown {
    /// Nothing was shown.
    Nothing,
    /// What was shown is wrong; the user it named.
    Wrong(Option<String>),
    /// Too many wrong ones; after so long another one is looked at.
    Limited(Duration),
    /// Too many are being checked.
    Busy,
}

/// Knows who may do what.
pub struct Access {
    engine: Arc<Engine>,
    passwords: Passwords,
    sessions: Sessions,
    limits: Limits,
    audit: Arc<Audit>,
    administrator: Notify,
    /// Places of requests that are carried out whether or not their clients wait for it.
    places: Arc<Semaphore>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

/// The audit log in the data directory.
const AUDIT_LOG: &str = "audit.jsonl";

impl Access {
    /// With the users of an engine and the audit log in its data directory.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn new(engine: Arc<Engine>) -> Result<Self, String> {
        let path: PathBuf = engine.config().directory.join(AUDIT_LOG);
        Ok(Self {
            engine,
            passwords: Passwords::new().map_err(|error| error.to_string())?,
            sessions: Sessions::default(),
            limits: Limits::default(),
            audit: Arc::new(Audit::new(path)),
            administrator: Notify::new(),
            places: Arc::new(Semaphore::new(MAX_BEGUN)),
        })
    }

    /// Waits until every request that was begun is done and written down, also those whose clients
    /// are gone. No other one is begun.
    pub async fn finished(&self) {
        let all = u32::try_from(MAX_BEGUN).unwrap_or(u32::MAX);
        let _ended = self.places.acquire_many(all).await;
        self.places.close();
    }

    /// There is no administrator yet: whoever is on this machine may do everything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.engine.has_administrator()
    }

    /// Waits until there is an administrator.
    pub async fn closed(&self) {
        loop {
            let mut made = pin!(self.administrator.notified());
            made.as_mut().enable();
            if !self.is_open() {
                return;
            }
            made.await;
        }
    }

    fn now(&self) -> Timestamp {
        self.engine.config().clock.now()
    }

    /// Who sends a request.
    async fn identify(&self, peer: &Peer, headers: &HeaderMap) -> Result<Identity, Unknown> {
        if peer.is_loopback() && self.is_open() {
            return Ok(Identity { name: None, role: Role::Administrator, via: Via::Open });
        }
        if let Some(given) = headers.get(header::AUTHORIZATION) {
            let given = given.to_str().map_err(|_| Unknown::Wrong(None))?;
            return self.credentials(peer, given).await;
        }
        if let Some(secret) = cookie(headers) {
            let find = |name: &str| self.engine.user(name);
            if let Some(user) = self.sessions.user(secret, Instant::now(), find) {
                return Ok(Identity::user(&user, Via::Session));
            }
        }
        match peer {
            Peer::Local { uid, name, role: Some(role) } => {
                let name = name.clone().unwrap_or_else(|| format!("uid {uid}"));
                Ok(Identity { name: Some(name), role: *role, via: Via::Socket })
            }
            Peer::Tcp { certificate: Some(name), .. } => {
                let user = self.engine.user(name);
                let user = user.ok_or(Unknown::Nothing)?;
                Ok(Identity::user(&user, Via::Certificate))
            }
            Peer::Local { .. } | Peer::Tcp { .. } => Err(Unknown::Nothing),
        }
    }

    /// What the header `Authorization` shows.
    async fn credentials(&self, peer: &Peer, given: &str) -> Result<Identity, Unknown> {
        let (scheme, value) = given.split_once(' ').unwrap_or((given, ""));
        let value = value.trim();
        if !peer.is_private() {
            return Err(Unknown::Wrong(None));
        }
        if scheme.eq_ignore_ascii_case("Bearer") {
            return self.token(peer, value);
        }
        if !scheme.eq_ignore_ascii_case("Basic") {
            return Err(Unknown::Wrong(None));
        }
        let pair = BASE64_STANDARD.decode(value).ok().and_then(|it| String::from_utf8(it).ok());
        let pair = pair.ok_or(Unknown::Wrong(None))?;
        let (name, password) = pair.split_once(':').ok_or(Unknown::Wrong(None))?;
        let user = self.password(peer.ip(), name, password).await?;
        Ok(Identity::user(&user, Via::Password))
    }

    fn token(&self, peer: &Peer, secret: &str) -> Result<Identity, Unknown> {
        let key = peer.ip().map(Key::address);
        let now = Instant::now();
        if let Some(key) = &key {
            self.limits.check(key, now).map_err(Unknown::Limited)?;
        }
        let recognized = recognize(secret);
        // The hash of a guess says nothing about how near it was.
        let found = self.engine.tokens().into_iter().find(|it| it.secret.0 == recognized);
        match found.filter(|token| !token.is_expired(self.now())) {
            Some(token) => {
                Ok(Identity { name: Some(token.name.clone()), role: token.role, via: Via::Token })
            }
            None => {
                if let Some(key) = key {
                    self.limits.failed(key, now);
                }
                Err(Unknown::Wrong(None))
            }
        }
    }

    /// The user whose password it is.
    async fn password(
        &self,
        address: Option<IpAddr>,
        name: &str,
        password: &str,
    ) -> Result<Arc<User>, Unknown> {
        let user = self.engine.user(name);
        // Whoever was let in a moment ago is not shut out by others who guess.
        if let Some(user) = &user
            && self.passwords.remembers(user, password)
        {
            return Ok(user.clone());
        }
        // Names that nobody can have are one.
        let known: String = name.chars().take(64).collect();
        let keys = address.map(Key::address).into_iter().chain([Key::User(known.clone())]);
        let keys: Vec<Key> = keys.collect();
        for key in &keys {
            self.limits.check(key, Instant::now()).map_err(Unknown::Limited)?;
        }
        let right = self.passwords.check(user.clone(), password).await;
        match (right.map_err(|_| Unknown::Busy)?, user) {
            (true, Some(user)) => Ok(user),
            (true, None) | (false, _) => {
                for key in keys {
                    self.limits.failed(key, Instant::now());
                }
                Err(Unknown::Wrong(Some(known)))
            }
        }
    }
}

/// Cookies are the page's alone; over TLS, the browser guarantees that this host has set it.
const COOKIE: &str = "lund-session";
const SECURE_COOKIE: &str = "__Host-lund-session";

/// The secret of a session.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|it| it.to_str().ok());
    let mut pairs = all.flat_map(|it| it.split(';')).filter_map(|it| it.trim().split_once('='));
    pairs.find(|(name, _)| [COOKIE, SECURE_COOKIE].contains(name)).map(|(_, value)| value)
}

/// Where `Set-Cookie` puts a secret, or removes it.
fn set_cookie(peer: &Peer, secret: &str, life: Duration) -> String {
    let (name, secure) = if peer.is_tls() { (SECURE_COOKIE, "; Secure") } else { (COOKIE, "") };
    let seconds = life.as_secs();
    format!("{name}={secret}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}
