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
use mgmt_api::service::{self, Kept, KeptRecords, Refusal, ServiceError};
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
        // Not what is about to change.
        let _one = self.changing.lock();
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
        let (targets, initiators) = (request.targets.as_deref(), request.initiators.clone());
        let account = self.account(user, secret, targets, initiators)?;
        if present.len() >= MOST && !present.contains_key(user) {
            return Err(too_many());
        }
        let mut next = present.clone();
        next.insert(user.to_owned(), account.clone());
        self.change(&present, next, user, request.open)?;
        Ok(account.shown())
    }

    /// Makes the accounts these and no others, as far as anything is said. `commit` stores them.
    pub(crate) fn replace(
        &self,
        wanted: &Kept,
        commit: &mut dyn FnMut(KeptRecords) -> service::Result<bool>,
    ) -> service::Result<()> {
        let _one = self.changing.lock();
        let Some(list) = &wanted.accounts else {
            return commit(KeptRecords::default()).map(drop);
        };
        if list.len() > MOST {
            return Err(too_many());
        }
        let present = self.managed.read().clone();
        let mut next = Accounts::new();
        let mut records = KeptRecords::default();
        for account in list {
            let user = &account.user;
            self.refuse_configured(user)?;
            let of_user = |error: ServiceError| {
                let message = format!("CHAP account `{user}`: {}", error.problem.message);
                ServiceError::new(error.refusal, message)
            };
            let before = present.get(user);
            let secret = account.secret.clone().or_else(|| Some(before?.stored.secret.clone()));
            let (targets, initiators) = (account.targets.as_deref(), account.initiators.clone());
            let made = self.account(user, secret, targets, initiators).map_err(of_user)?;
            if before.is_some_and(|it| it.stored.secret != made.stored.secret) {
                records.secrets.push(user.clone());
            }
            records.texts.push((format!("{PREFIX}{user}"), Some(text_of(&made)?)));
            next.insert(user.clone(), made);
        }
        let gone = present.keys().filter(|user| !next.contains_key(*user));
        records.texts.extend(gone.map(|user| (format!("{PREFIX}{user}"), None)));
        let mut targets = self.targets();
        if !wanted.open {
            targets.retain(|target| wanted.targets.contains(target));
            self.refuse_opening(&present, &next, &targets)?;
        }
        // What is to be protected is so before anything of it can be seen.
        let mut both = present.clone();
        both.extend(next.iter().map(|(user, account)| (user.clone(), account.clone())));
        let protected = |target: &&String| of(&both, target).next().is_some();
        let early: Vec<String> = targets.iter().filter(protected).cloned().collect();
        *self.managed.write() = both;
        early.iter().for_each(|target| self.protect(target));
        let done = commit(records);
        let made = matches!(done, Ok(true));
        *self.managed.write() = if made { next } else { present };
        self.protect_discovery();
        let now = if made { self.targets() } else { early };
        now.iter().for_each(|target| self.protect(target));
        done.map(drop)
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

    fn targets(&self) -> Vec<String> {
        self.engine.targets().into_iter().map(|target| target.name).collect()
    }

    /// An account, if it may be one.
    fn account(
        &self,
        user: &str,
        secret: Option<api::Secret>,
        targets: Option<&[String]>,
        initiators: Option<Vec<String>>,
    ) -> service::Result<Managed> {
        let secret = secret.ok_or_else(|| invalid("a new account needs a `secret`"))?;
        let targets = targets.map(targets_of).transpose()?;
        let account = Managed::new(user, Stored { secret, targets, initiators })?;
        if self.configured.is_mutual_secret(&account.account.secret) {
            let reason = "`secret` is that of the target: whoever knows it could pose as the \
                          target, so each side needs one of its own (RFC 7143 §9.2.1)";
            return Err(invalid(reason));
        }
        Ok(account)
    }

    /// Nothing is opened to everybody by the way.
    fn refuse_opening(
        &self,
        present: &Accounts,
        next: &Accounts,
        targets: &[String],
    ) -> service::Result<()> {
        if self.configured.is_required() {
            return Ok(());
        }
        let opens = |target: &&String| {
            of(present, target).next().is_some() && of(next, target).next().is_none()
        };
        let mut opened: Vec<&str> = targets.iter().filter(opens).map(String::as_str).collect();
        if !present.is_empty() && next.is_empty() {
            opened.push("discovery");
        }
        if opened.is_empty() {
            return Ok(());
        }
        let message = format!(
            "that would open to everybody: {}; say so with `open` (lunctl: --open) if it is meant",
            opened.join(", ")
        );
        Err(ServiceError::new(Refusal::Conflict, message))
    }

    /// Stores what is said of a user from now on, and puts it in force.
    fn change(
        &self,
        present: &Accounts,
        next: Accounts,
        user: &str,
        open: bool,
    ) -> service::Result<()> {
        let targets = self.targets();
        if !open {
            self.refuse_opening(present, &next, &targets)?;
        }
        let text = next.get(user).map(text_of).transpose()?;
        self.engine.save_record(format!("{PREFIX}{user}"), text)?;
        // A target that comes meanwhile looks for its accounts when it is there.
        *self.managed.write() = next;
        self.protect_discovery();
        targets.iter().for_each(|target| self.protect(target));
        Ok(())
    }
}

fn too_many() -> ServiceError {
    ServiceError::new(Refusal::Conflict, format!("there are at most {MOST} accounts"))
}

fn text_of(account: &Managed) -> service::Result<String> {
    serde_json::to_string(&account.stored).map_err(|error| {
        ServiceError::new(Refusal::Internal, format!("the account cannot be stored: {error}"))
    })
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
