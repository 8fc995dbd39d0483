//! `[iscsi.chap]`: who may log in where.

use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use job_engine::catalogue::{check_iscsi_name, default_target_name};
use mgmt_api::api;
use serde::Deserialize;
use target_core::{
    AuthPolicy, ChapAccount, ChapAlgorithm, ChapAlgorithms, ChapPolicy, InitiatorPattern, Secret,
};
use toml::Spanned;
use zeroize::Zeroizing;

use super::Source;

/// Bytes of a secret: RFC 7143 §9.2.1 asks for 96 bits at least.
pub(crate) const SECRET_LENGTHS: RangeInclusive<usize> = 12..=255;

/// How initiators prove themselves, if they have to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Access(Option<Chap>);

#[derive(Debug, Clone)]
struct Chap {
    accounts: Vec<Account>,
    mutual: Option<ChapAccount>,
    algorithms: ChapAlgorithms,
    discovery: Discovery,
}

/// Who may discover.
#[derive(Debug, Clone)]
enum Discovery {
    /// Everybody.
    Open,
    /// Whoever may log in somewhere.
    AnyAccount,
    /// These alone.
    Own(Vec<ChapAccount>),
}

#[derive(Debug, Clone)]
struct Account {
    account: ChapAccount,
    /// Whole names of the only targets it is for; without them it is for all.
    targets: Option<Vec<String>>,
}

impl Access {
    /// Whether every target needs proof.
    pub(crate) const fn is_required(&self) -> bool {
        self.0.is_some()
    }

    /// For a target of this name, for which there are `more` accounts. With the table in the file
    /// nobody gets in where no account applies.
    pub(crate) fn target(&self, name: &str, more: Vec<ChapAccount>) -> AuthPolicy {
        let Some(chap) = &self.0 else { return without_table(more) };
        let applies = |account: &&Account| {
            account.targets.as_ref().is_none_or(|targets| targets.iter().any(|it| it == name))
        };
        chap.policy(chap.accounts.iter().filter(applies), more)
    }

    /// For discovery sessions, when there are `more` accounts for some target or other.
    pub(crate) fn discovery(&self, more: Vec<ChapAccount>) -> AuthPolicy {
        let Some(chap) = &self.0 else { return without_table(more) };
        match &chap.discovery {
            Discovery::Open => AuthPolicy::None,
            Discovery::AnyAccount => chap.policy(chap.accounts.iter(), more),
            Discovery::Own(accounts) => chap.policy([].iter(), accounts.clone()),
        }
    }

    /// The users of all accounts that are good for targets.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let accounts = self.0.iter().flat_map(|chap| &chap.accounts);
        accounts.map(|account| account.account.name.as_str())
    }

    /// Whether the target proves itself with that.
    pub(crate) fn is_mutual_secret(&self, secret: &Secret) -> bool {
        let mutual = self.0.as_ref().and_then(|chap| chap.mutual.as_ref());
        mutual.is_some_and(|own| own.secret.same_as(secret))
    }

    /// As the management shows them.
    pub(crate) fn list(&self) -> Vec<api::ChapAccount> {
        let Some(chap) = &self.0 else { return Vec::new() };
        let shown = |account: &ChapAccount, targets: Option<Vec<String>>, discovery_only| {
            let initiators = account.initiators.as_ref();
            let initiators = initiators.map(|list| list.iter().map(ToString::to_string).collect());
            let user = account.name.clone();
            api::ChapAccount { user, targets, initiators, discovery_only, configured: true }
        };
        let accounts = chap.accounts.iter().map(|it| shown(&it.account, it.targets.clone(), false));
        let mut list: Vec<_> = accounts.collect();
        if let Discovery::Own(own) = &chap.discovery {
            list.extend(own.iter().map(|account| shown(account, None, true)));
        }
        list
    }
}

/// Accounts that were made at run time, and none in the file.
fn without_table(accounts: Vec<ChapAccount>) -> AuthPolicy {
    if accounts.is_empty() {
        return AuthPolicy::None;
    }
    let algorithms = ChapAlgorithms::default();
    AuthPolicy::Chap(ChapPolicy { accounts, mutual: None, algorithms })
}

impl Chap {
    fn policy<'a>(
        &self,
        accounts: impl Iterator<Item = &'a Account>,
        more: Vec<ChapAccount>,
    ) -> AuthPolicy {
        let accounts = accounts.map(|account| account.account.clone()).chain(more).collect();
        let (mutual, algorithms) = (self.mutual.clone(), self.algorithms);
        AuthPolicy::Chap(ChapPolicy { accounts, mutual, algorithms })
    }
}

/// The table in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    user: Option<Spanned<String>>,
    secret_file: Option<Spanned<PathBuf>>,
    mutual_user: Option<Spanned<String>>,
    mutual_secret_file: Option<Spanned<PathBuf>>,
    algorithms: Option<Spanned<Vec<Spanned<String>>>>,
    discovery: Option<Spanned<bool>>,
    #[serde(default)]
    accounts: Vec<Entry>,
    #[serde(default)]
    discovery_accounts: Vec<DiscoveryEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    user: Spanned<String>,
    secret_file: Spanned<PathBuf>,
    targets: Option<Spanned<Vec<Spanned<String>>>>,
    initiators: Option<Vec<Spanned<String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DiscoveryEntry {
    user: Spanned<String>,
    secret_file: Spanned<PathBuf>,
    initiators: Option<Vec<Spanned<String>>>,
}

/// Reads the table and the secrets it names.
pub(super) fn access(
    source: &Source<'_>,
    table: Option<&Spanned<Table>>,
) -> anyhow::Result<Access> {
    let Some(spanned) = table else { return Ok(Access::default()) };
    let table = spanned.get_ref();
    let single = pair(source, ["user", "secret_file"], &table.user, &table.secret_file)?;
    let keys = ["mutual_user", "mutual_secret_file"];
    let mutual = pair(source, keys, &table.mutual_user, &table.mutual_secret_file)?;
    let single = single.map(|account| Account { account, targets: None });
    let mut accounts: Vec<Account> = single.into_iter().collect();
    for entry in &table.accounts {
        let (user, file) = (&entry.user, &entry.secret_file);
        let account = entry_of(source, "accounts", user, file, entry.initiators.as_ref())?;
        // Discovery could not tell whose secret is meant.
        unique(source, "accounts", user, accounts.iter().map(|other| &other.account))?;
        let targets = entry.targets.as_ref().map(|list| targets(source, list)).transpose()?;
        accounts.push(Account { account, targets });
    }
    if accounts.is_empty() {
        let reason = "has no account: name `user` and `secret_file`, or [[iscsi.chap.accounts]]";
        return Err(source.error("iscsi.chap", spanned, reason));
    }
    let discovery = discovery(source, table)?;
    if let (Some(own), Some(file)) = (&mutual, &table.mutual_secret_file) {
        let discoverers = match &discovery {
            Discovery::Own(accounts) => &accounts[..],
            Discovery::Open | Discovery::AnyAccount => &[],
        };
        let mut all = accounts.iter().map(|other| &other.account).chain(discoverers);
        if let Some(other) = all.find(|other| other.secret.same_as(&own.secret)) {
            let reason = format!(
                "holds the same secret as the account of `{}`: whoever knows the one could pose \
                 as the other, so the target needs a secret of its own (RFC 7143 §9.2.1)",
                other.name
            );
            return Err(source.error("iscsi.chap.mutual_secret_file", file, &reason));
        }
    }
    let algorithms = match &table.algorithms {
        Some(list) => algorithms(source, list)?,
        None => ChapAlgorithms::default(),
    };
    Ok(Access(Some(Chap { accounts, mutual, algorithms, discovery })))
}

fn discovery(source: &Source<'_>, table: &Table) -> anyhow::Result<Discovery> {
    let entries = &table.discovery_accounts;
    match &table.discovery {
        Some(wanted) if !wanted.get_ref() && !entries.is_empty() => {
            let reason = "leaves discovery open to everybody, but there are discovery_accounts";
            return Err(source.error("iscsi.chap.discovery", wanted, reason));
        }
        Some(wanted) if !wanted.get_ref() => return Ok(Discovery::Open),
        _ if entries.is_empty() => return Ok(Discovery::AnyAccount),
        _ => {}
    }
    let table = "discovery_accounts";
    let mut accounts = Vec::new();
    for entry in entries {
        let (user, file) = (&entry.user, &entry.secret_file);
        let account = entry_of(source, table, user, file, entry.initiators.as_ref())?;
        unique(source, table, user, accounts.iter())?;
        accounts.push(account);
    }
    Ok(Discovery::Own(accounts))
}

/// An account of one of the tables that have many.
fn entry_of(
    source: &Source<'_>,
    table: &str,
    user: &Spanned<String>,
    file: &Spanned<PathBuf>,
    initiators: Option<&Vec<Spanned<String>>>,
) -> anyhow::Result<ChapAccount> {
    let keys = [&*format!("{table}.user"), &*format!("{table}.secret_file")];
    let mut account = account(source, keys, user, file)?;
    let key = format!("iscsi.chap.{table}.initiators");
    account.initiators = initiators.map(|list| initiators_of(source, &key, list)).transpose()?;
    Ok(account)
}

fn unique<'a>(
    source: &Source<'_>,
    table: &str,
    user: &Spanned<String>,
    mut others: impl Iterator<Item = &'a ChapAccount>,
) -> anyhow::Result<()> {
    if others.any(|other| other.name == *user.get_ref()) {
        let reason = "is the user of another account; each has its own name";
        return Err(source.error(&format!("iscsi.chap.{table}.user"), user, reason));
    }
    Ok(())
}

/// An account of two keys, which may both be missing.
fn pair(
    source: &Source<'_>,
    keys: [&str; 2],
    user: &Option<Spanned<String>>,
    file: &Option<Spanned<PathBuf>>,
) -> anyhow::Result<Option<ChapAccount>> {
    let [user_key, file_key] = keys;
    match (user, file) {
        (Some(user), Some(file)) => account(source, keys, user, file).map(Some),
        (None, None) => Ok(None),
        (Some(user), None) => {
            let key = format!("iscsi.chap.{user_key}");
            Err(source.error(&key, user, &format!("needs {file_key}")))
        }
        (None, Some(file)) => {
            let key = format!("iscsi.chap.{file_key}");
            Err(source.error(&key, file, &format!("needs {user_key}")))
        }
    }
}

fn account(
    source: &Source<'_>,
    [user_key, file_key]: [&str; 2],
    user: &Spanned<String>,
    file: &Spanned<PathBuf>,
) -> anyhow::Result<ChapAccount> {
    let name = user.get_ref();
    // CHAP_N is a text value (RFC 7143 §6.1, §12.1.3).
    if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
        let key = format!("iscsi.chap.{user_key}");
        return Err(source.error(&key, user, "must have 1 to 255 printable characters"));
    }
    let secret = read_secret(file.get_ref()).map_err(|error| {
        source.error(&format!("iscsi.chap.{file_key}"), file, &format!("{error:#}"))
    })?;
    Ok(ChapAccount::new(name, secret))
}

fn initiators_of(
    source: &Source<'_>,
    key: &str,
    list: &[Spanned<String>],
) -> anyhow::Result<Vec<InitiatorPattern>> {
    let pattern = |given: &Spanned<String>| {
        InitiatorPattern::new(given.get_ref()).map_err(|error| {
            let reason = format!("has no initiator: {error}");
            source.error(key, given, &reason)
        })
    };
    list.iter().map(pattern).collect()
}

/// The whole names of targets, which need not be there yet.
fn targets(
    source: &Source<'_>,
    list: &Spanned<Vec<Spanned<String>>>,
) -> anyhow::Result<Vec<String>> {
    const KEY: &str = "iscsi.chap.accounts.targets";
    if list.get_ref().is_empty() {
        let reason = "names no target; without this key the account is for all of them";
        return Err(source.error(KEY, list, reason));
    }
    let names = list.get_ref().iter().map(|target| {
        let name = default_target_name(target.get_ref());
        let reason =
            |error| format!("names `{}`, which no target can be: {error}", target.get_ref());
        check_iscsi_name(&name).map_err(|error| source.error(KEY, target, &reason(error)))?;
        Ok(name)
    });
    names.collect()
}

fn algorithms(
    source: &Source<'_>,
    list: &Spanned<Vec<Spanned<String>>>,
) -> anyhow::Result<ChapAlgorithms> {
    const KEY: &str = "iscsi.chap.algorithms";
    let known = || ChapAlgorithm::STRONGEST_FIRST.map(ChapAlgorithm::name).join(", ");
    if list.get_ref().is_empty() {
        return Err(source.error(KEY, list, &format!("is empty; choose among {}", known())));
    }
    let algorithms = list.get_ref().iter().map(|name| {
        ChapAlgorithm::from_name(name.get_ref()).ok_or_else(|| {
            let reason = format!("names `{}`; known are {}", name.get_ref(), known());
            source.error(KEY, name, &reason)
        })
    });
    algorithms.collect()
}

/// A secret from a file of its own, which nobody else can read.
fn read_secret(path: &Path) -> anyhow::Result<Secret> {
    let mode = std::fs::metadata(path)
        .with_context(|| format!("names {}, which cannot be read", path.display()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        bail!("names {}, which others can read: give it mode 0600", path.display());
    }
    let text = Zeroizing::new(std::fs::read(path).with_context(|| format!("{}", path.display()))?);
    let secret = text.strip_suffix(b"\n").unwrap_or(&text);
    if !SECRET_LENGTHS.contains(&secret.len()) {
        bail!("names a secret of {} bytes; it must have 12 to 255", secret.len());
    }
    Ok(Secret::new(secret))
}

#[cfg(test)]
mod tests;
