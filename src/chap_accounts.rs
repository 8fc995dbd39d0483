//! CHAP accounts: those of the configuration, and those that are made at run time.
//!
//! What is made at run time is kept as records of the engine, whose directory its owner alone may
//! read. A target needs proof if the configuration says so for all, or if an account is good for
//! it; discovery, if there is any account.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use job_engine::Engine;
use job_engine::catalogue::{StoredRecord, check_iscsi_name, default_target_name};
use mgmt_api::api;
use mgmt_api::service::{self, Refusal, ServiceError};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use target_core::{ChapAccount, InitiatorPattern, Node, Secret};

use crate::config::{Access, SECRET_LENGTHS};

/// Of the names of records.
const PREFIX: &str = "chap-account/";

/// More than anybody needs; each login looks through them.
const MOST: usize = 1024;

/// As it is stored.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    secret: api::Secret,
    targets: Option<Vec<String>>,
    initiators: Option<Vec<String>>,
}

/// An account that was made at run time.
#[derive(Clone)]
struct Managed {
    account: ChapAccount,
    stored: Stored,
}

type Accounts = BTreeMap<String, Managed>;

/// All accounts, and where they are in force.
pub(crate) struct ChapAccounts {
    configured: Access,
    managed: RwLock<Accounts>,
    /// One change at a time.
    changing: Mutex<()>,
    engine: Arc<Engine>,
    node: Arc<Node>,
}

impl std::fmt::Debug for ChapAccounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChapAccounts").finish_non_exhaustive()
    }
}

fn invalid(message: impl Into<String>) -> ServiceError {
    ServiceError::new(Refusal::Invalid, message)
}

impl Managed {
    fn new(user: &str, stored: Stored) -> service::Result<Self> {
        // CHAP_N is a text value (RFC 7143 §6.1, §12.1.3).
        if user.is_empty() || user.len() > 255 || user.chars().any(char::is_control) {
            return Err(invalid("a user of CHAP has 1 to 255 printable characters"));
        }
        let secret = stored.secret.0.as_bytes();
        if !SECRET_LENGTHS.contains(&secret.len()) {
            let reason = format!("`secret` has {} bytes; it must have 12 to 255", secret.len());
            return Err(invalid(reason));
        }
        let pattern = |text: &String| {
            let wrong = |error| invalid(format!("`initiators` names {error}"));
            InitiatorPattern::new(text).map_err(wrong)
        };
        let mut account = ChapAccount::new(user, Secret::new(secret));
        let initiators = stored.initiators.as_ref();
        account.initiators =
            initiators.map(|list| list.iter().map(pattern).collect()).transpose()?;
        Ok(Self { account, stored })
    }

    fn is_for(&self, target: &str) -> bool {
        self.stored.targets.as_ref().is_none_or(|targets| targets.iter().any(|it| it == target))
    }

    fn shown(&self) -> api::ChapAccount {
        let Stored { targets, initiators, .. } = self.stored.clone();
        let user = self.account.name.clone();
        api::ChapAccount { user, targets, initiators, discovery_only: false, configured: false }
    }
}

fn of<'a>(managed: &'a Accounts, target: &str) -> impl Iterator<Item = &'a Managed> {
    managed.values().filter(move |account| account.is_for(target))
}

impl ChapAccounts {
    /// With what was stored.
    ///
    /// # Errors
    /// A record cannot be read: whom it lets in is not known, so nobody is let in.
    pub(crate) fn load(
        configured: Access,
        engine: Arc<Engine>,
        node: Arc<Node>,
    ) -> anyhow::Result<Arc<Self>> {
        let mut managed = Accounts::new();
        for StoredRecord { name, text } in engine.records() {
            let Some(user) = name.strip_prefix(PREFIX) else { continue };
            let stored = serde_json::from_str(&text).map_err(anyhow::Error::from);
            let account = stored.and_then(|stored| {
                Managed::new(user, stored).map_err(|error| anyhow::anyhow!(error.problem.message))
            });
            let account = account.with_context(|| format!("the CHAP account `{user}`"))?;
            if configured.names().any(|name| name == user) {
                tracing::warn!(user, "a CHAP account of the configuration hides another one");
                continue;
            }
            managed.insert(user.to_owned(), account);
        }
        let (managed, changing) = (RwLock::new(managed), Mutex::default());
        let accounts = Arc::new(Self { configured, managed, changing, engine, node });
        accounts.protect_discovery();
        Ok(accounts)
    }

    /// Puts in force what is said of a target.
    pub(crate) fn protect(&self, target: &str) {
        let managed = self.managed.read();
        let more = of(&managed, target).map(|it| it.account.clone()).collect();
        let policy = self.configured.target(target, more);
        // One that is gone needs no protection.
        let _ = self.node.set_target_auth(target, policy);
    }

    fn protect_discovery(&self) {
        let managed = self.managed.read();
        let more = managed.values().map(|it| it.account.clone()).collect();
        self.node.set_discovery_auth(self.configured.discovery(more));
    }

    /// As the management shows them.
    pub(crate) fn list(&self) -> Vec<api::ChapAccount> {
        let mut list = self.configured.list();
        list.extend(self.managed.read().values().map(Managed::shown));
        list
    }

    /// Makes an account, or gives one another form.
    pub(crate) fn set(
        &self,
        user: &str,
        request: &api::SetChapAccount,
    ) -> service::Result<api::ChapAccount> {
        let _one = self.changing.lock();
        self.refuse_configured(user)?;
        let present = self.managed.read().clone();
        let secret = request.secret.clone();
        let secret = secret.or_else(|| Some(present.get(user)?.stored.secret.clone()));
        let secret = secret.ok_or_else(|| invalid("a new account needs a `secret`"))?;
        let targets = request.targets.as_deref().map(targets_of).transpose()?;
        let stored = Stored { secret, targets, initiators: request.initiators.clone() };
        let account = Managed::new(user, stored)?;
        if self.configured.is_mutual_secret(&account.account.secret) {
            let reason = "`secret` is that of the target: whoever knows it could pose as the \
                          target, so each side needs one of its own (RFC 7143 §9.2.1)";
            return Err(invalid(reason));
        }
        if present.len() >= MOST && !present.contains_key(user) {
            let message = format!("there are {MOST} accounts already");
            return Err(ServiceError::new(Refusal::Conflict, message));
        }
        let mut next = present.clone();
        next.insert(user.to_owned(), account.clone());
        self.change(&present, next, user, request.open)?;
        Ok(account.shown())
    }

    /// Takes an account away.
    pub(crate) fn delete(&self, user: &str, open: bool) -> service::Result<()> {
        let _one = self.changing.lock();
        self.refuse_configured(user)?;
        let present = self.managed.read().clone();
        let mut next = present.clone();
        if next.remove(user).is_none() {
            let message = format!("there is no CHAP account `{user}`");
            return Err(ServiceError::new(Refusal::NotFound, message));
        }
        self.change(&present, next, user, open)
    }

    fn refuse_configured(&self, user: &str) -> service::Result<()> {
        if self.configured.names().any(|name| name == user) {
            let message =
                format!("the account `{user}` stands in the configuration: change it there");
            return Err(ServiceError::new(Refusal::Conflict, message));
        }
        Ok(())
    }

    /// Stores what is said of a user from now on, and puts it in force.
    fn change(
        &self,
        present: &Accounts,
        next: Accounts,
        user: &str,
        open: bool,
    ) -> service::Result<()> {
        let targets: Vec<String> =
            self.engine.targets().into_iter().map(|target| target.name.clone()).collect();
        if !open && !self.configured.is_required() {
            let opens = |target: &&String| {
                of(present, target).next().is_some() && of(&next, target).next().is_none()
            };
            let mut opened: Vec<&str> = targets.iter().filter(opens).map(String::as_str).collect();
            if !present.is_empty() && next.is_empty() {
                opened.push("discovery");
            }
            if !opened.is_empty() {
                let message = format!(
                    "that would open to everybody: {}; say so with `open` (lunctl: --open) if it \
                     is meant",
                    opened.join(", ")
                );
                return Err(ServiceError::new(Refusal::Conflict, message));
            }
        }
        let text = next.get(user).map(|account| serde_json::to_string(&account.stored));
        let text = text.transpose().map_err(|error| {
            ServiceError::new(Refusal::Internal, format!("the account cannot be stored: {error}"))
        })?;
        self.engine.save_record(format!("{PREFIX}{user}"), text)?;
        // A target that comes meanwhile looks for its accounts when it is there.
        *self.managed.write() = next;
        self.protect_discovery();
        targets.iter().for_each(|target| self.protect(target));
        Ok(())
    }
}

fn targets_of(names: &[String]) -> service::Result<Vec<String>> {
    let name_of = |name: &String| {
        let name = default_target_name(name);
        let wrong = |error| invalid(format!("`targets` names `{name}`, no target's name: {error}"));
        check_iscsi_name(&name).map_err(wrong)?;
        Ok(name)
    };
    names.iter().map(name_of).collect()
}
