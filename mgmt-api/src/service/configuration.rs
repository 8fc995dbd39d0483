//! The configuration as a whole: read at one generation, and made what is wanted in one
//! transaction of the engine.

use std::collections::BTreeSet;

use job_engine::catalogue::{check_iscsi_name, default_target_name};
use job_engine::{Disk, DiskId, StoredAccessState, WantedTarget};
use serde::Serialize;
use serde_json::Value;

use super::access::entry;
use super::limits::check_limit;
use super::{LimitOf, Refusal, Result, Service, ServiceError, view};
use crate::api::{
    Change, Configuration, ConfigurationChange, ConfigurationChanges, ConfigurationJob, Configure,
    DeclaredAccount, DeclaredDisk, DeclaredLimit, DeclaredLun, DeclaredState, DeclaredTarget,
    SetLimit,
};

/// Others may change it so often between a look and its end.
const ATTEMPTS: usize = 64;

/// What the data path's side keeps as records of the engine, as it is wanted.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// These limits and no others; `None`: as they are.
    pub limits: Option<Vec<(LimitOf, SetLimit)>>,
    /// These CHAP accounts and no others; `None`: as they are.
    pub accounts: Option<Vec<DeclaredAccount>>,
    /// The targets that there are then.
    pub targets: Vec<String>,
    /// Targets that no account protects any more may be open to everybody.
    pub open: bool,
}

/// Records of the engine that are to be changed.
#[derive(Debug, Clone, Default)]
pub struct KeptRecords {
    /// Their names and new texts.
    pub texts: Vec<(String, Option<String>)>,
    /// Users of CHAP accounts that get another secret.
    pub secrets: Vec<String>,
}

/// What is wanted, in the form in which it is shown, and as the engine and the data path take it.
struct Plan {
    shown: Configuration,
    changes: Vec<ConfigurationChange>,
    jobs: Vec<ConfigurationJob>,
    engine: job_engine::Configuration,
    kept: Kept,
}

fn invalid(message: impl Into<String>) -> ServiceError {
    ServiceError::new(Refusal::Invalid, message)
}

fn busy() -> ServiceError {
    let message = "the configuration is changed all the time: try again";
    ServiceError::new(Refusal::Unavailable, message)
}

impl Service {
    /// The configuration at one moment, without secrets.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`]: it changes all the time.
    pub fn configuration(&self) -> Result<Configuration> {
        for _ in 0..ATTEMPTS {
            let generation = self.engine.generation();
            let found = self.declared(generation);
            if self.engine.generation() == generation {
                return Ok(found);
            }
        }
        Err(busy())
    }

    /// Makes the configuration what is wanted, all of it or nothing, or only says what that would
    /// change. Sessions that nothing of it concerns notice nothing. `expected`: the generations
    /// that it may be for; `None`: whatever there is.
    ///
    /// # Errors
    /// [`Refusal::Changed`]: it is another generation by now; [`Refusal::Conflict`]: there are
    /// disks to be made first, jobs work on disks, or a target would be open to everybody; and
    /// everything but [`Refusal::Internal`].
    pub fn configure(
        &self,
        wanted: &Configuration,
        how: Configure,
        expected: Option<&[u64]>,
    ) -> Result<ConfigurationChanges> {
        for _ in 0..ATTEMPTS {
            let present = self.configuration()?;
            let generation = present.generation.unwrap_or_default();
            let given = expected.is_some() || wanted.generation.is_some();
            if expected.is_some_and(|list| !list.contains(&generation))
                || wanted.generation.is_some_and(|it| it != generation)
            {
                return Err(changed(generation));
            }
            let plan = self.plan(&present, wanted, how)?;
            match self.carry_out(plan, how, generation) {
                Err(error) if error.refusal == Refusal::Changed && given => {
                    return Err(changed(self.engine.generation()));
                }
                Err(error) if error.refusal == Refusal::Changed => {}
                done => return done,
            }
        }
        Err(busy())
    }

    fn carry_out(
        &self,
        plan: Plan,
        how: Configure,
        generation: u64,
    ) -> Result<ConfigurationChanges> {
        let Plan { shown, mut changes, jobs, engine: wanted, kept } = plan;
        if let Some(job) = jobs.first().filter(|_| !how.dry_run) {
            let message = format!(
                "disk `{}` has to be made or to grow before ({}): `lunctl apply` has that done",
                job.disk.name, job.kind
            );
            return Err(ServiceError::new(Refusal::Conflict, message));
        }
        let mut reached = generation;
        let mut applied = false;
        self.host.configure(&kept, &mut |KeptRecords { texts, secrets }| {
            tell_secrets(&mut changes, &secrets);
            let wanted = job_engine::Configuration { records: texts, ..wanted.clone() };
            if how.dry_run {
                self.engine.check_configuration(&wanted)?;
            } else if !changes.is_empty() {
                reached = self.engine.configure(Some(vec![generation]), wanted)?;
                applied = true;
            }
            Ok(applied)
        })?;
        if applied {
            self.host.reload_access_states();
        }
        let configuration = Configuration { generation: Some(reached), ..shown };
        Ok(ConfigurationChanges { generation: reached, applied, changes, jobs, configuration })
    }

    /// What there is, each list in the order of its keys.
    fn declared(&self, generation: u64) -> Configuration {
        let all = self.engine.disks();
        let name_of = |id: DiskId| all.iter().find(|disk| disk.id == id).map(|it| it.name.clone());
        let mut disks: Vec<_> = all.iter().map(declared_disk).collect();
        disks.sort_by(|a, b| a.name.cmp(&b.name));
        let mappings = self.engine.mappings();
        let target = |target: job_engine::Target| {
            let of_target = mappings.iter().filter(|mapping| mapping.target == target.name);
            let lun = |it: &job_engine::Mapping| {
                Some(DeclaredLun { lun: it.lun, disk: name_of(it.disk)? })
            };
            DeclaredTarget {
                luns: of_target.filter_map(lun).collect(),
                access: target.access.as_deref().map(view::access_list),
                name: target.name,
                alias: target.alias,
            }
        };
        let limits = self.limits().into_iter().map(|it| DeclaredLimit {
            disk: it.disk,
            initiator: it.initiator,
            iops: it.limit.iops,
            bytes_per_second: it.limit.bytes_per_second,
            burst_ms: it.limit.burst_ms,
        });
        let mut limits: Vec<_> = limits.collect();
        limits.sort_by_key(limit_name);
        let accounts = self.host.chap_accounts().into_iter().filter(|it| !it.configured);
        let accounts = accounts.map(|it| {
            let (targets, initiators) = (it.targets, it.initiators);
            DeclaredAccount { user: it.user, targets, initiators, secret: None }
        });
        let mut accounts: Vec<_> = accounts.collect();
        accounts.sort_by(|a, b| a.user.cmp(&b.user));
        let states = self.engine.access_states().into_iter().filter(|set| !set.explicit);
        let states = states.map(|set| {
            let StoredAccessState { group, target, state, .. } = set;
            DeclaredState { group, target, state }
        });
        Configuration {
            generation: Some(generation),
            disks: Some(disks),
            targets: Some(self.engine.targets().into_iter().map(target).collect()),
            limits: Some(limits),
            chap_accounts: Some(accounts),
            access_states: Some(states.collect()),
        }
    }

    fn plan(
        &self,
        present: &Configuration,
        wanted: &Configuration,
        how: Configure,
    ) -> Result<Plan> {
        let all = self.engine.disks();
        let mut plan = Plan {
            shown: present.clone(),
            changes: Vec::new(),
            jobs: Vec::new(),
            engine: job_engine::Configuration::default(),
            kept: Kept { open: how.open, ..Kept::default() },
        };
        if let Some(list) = &wanted.disks {
            plan.disks(&all, list)?;
        }
        if let Some(list) = &wanted.targets {
            plan.targets(&all, list)?;
        }
        let targets = plan.shown.targets.iter().flatten();
        plan.kept.targets = targets.map(|target| target.name.clone()).collect();
        if let Some(list) = &wanted.limits {
            plan.limits(&all, list)?;
        }
        if let Some(list) = &wanted.chap_accounts {
            plan.accounts(list)?;
        }
        if let Some(list) = &wanted.access_states {
            self.plan_states(&mut plan, list)?;
        }
        Ok(plan)
    }

    fn plan_states(&self, plan: &mut Plan, wanted: &[DeclaredState]) -> Result<()> {
        let groups = self.host.portal_groups();
        let mut states = wanted.to_vec();
        for state in &mut states {
            if !groups.iter().any(|group| group.tag == state.group) {
                return Err(invalid(format!("there is no portal group {}", state.group)));
            }
            state.target = state.target.as_deref().map(default_target_name);
        }
        if !states.is_empty() && !self.host.has_access_states() {
            let message = "`iscsi.alua` is \"none\" in the daemon's configuration: there are no \
                           access states";
            return Err(ServiceError::new(Refusal::Conflict, message));
        }
        states.sort_by(|a, b| (a.group, &a.target).cmp(&(b.group, &b.target)));
        let stored = states.iter().cloned().map(|DeclaredState { group, target, state }| {
            StoredAccessState { group, target, state, explicit: false }
        });
        plan.engine.access_states = Some(stored.collect());
        plan.changes.extend(differences(
            "access_state",
            plan.shown.access_states.as_deref().unwrap_or_default(),
            &states,
            |it| match &it.target {
                Some(target) => format!("portal group {} for {target}", it.group),
                None => format!("portal group {}", it.group),
            },
        )?);
        plan.shown.access_states = Some(states);
        Ok(())
    }
}

fn changed(generation: u64) -> ServiceError {
    let message = format!(
        "somebody has changed the configuration meanwhile: it is at generation {generation} now; \
         read it again, and decide anew"
    );
    ServiceError::new(Refusal::Changed, message)
}

fn declared_disk(disk: &Disk) -> DeclaredDisk {
    DeclaredDisk {
        name: disk.name.clone(),
        size_bytes: disk.size_bytes,
        block_length: disk.block_length.bytes(),
        provisioning: disk.provisioning,
        format: disk.format,
        read_only: disk.read_only,
    }
}

fn limit_name(limit: &DeclaredLimit) -> String {
    match (&limit.disk, &limit.initiator) {
        (Some(disk), _) => format!("disk {disk}"),
        (None, initiator) => format!("initiator {}", initiator.as_deref().unwrap_or_default()),
    }
}

impl Plan {
    /// Disks are never deleted, and nothing of them but their protection changes at once.
    fn disks(&mut self, all: &[Disk], wanted: &[DeclaredDisk]) -> Result<()> {
        let mut names = BTreeSet::new();
        let mut shown: Vec<_> = all.iter().map(declared_disk).collect();
        for disk in wanted {
            let DeclaredDisk { name, size_bytes, .. } = disk;
            if !names.insert(name) {
                return Err(invalid(format!("disk `{}` stands twice", name.escape_debug())));
            }
            let Some(found) = all.iter().find(|it| it.name == *name) else {
                let (kind, disk) = ("create-disk".to_owned(), disk.clone());
                shown.push(disk.clone());
                self.jobs.push(ConfigurationJob { kind, disk });
                continue;
            };
            let there = declared_disk(found);
            let differs = |what: &str, how: &str| {
                Err(invalid(format!("disk `{name}` has {what}: {how}, or correct the file")))
            };
            if disk.block_length != there.block_length {
                return differs("another block length", "it keeps the one it has");
            }
            if disk.format != there.format {
                return differs("another format", "`lunctl disk convert` changes it");
            }
            if disk.provisioning != there.provisioning {
                return differs("another provisioning", "`lunctl disk provision` changes it");
            }
            if *size_bytes < there.size_bytes {
                return differs("more bytes", "`lunctl disk shrink` makes it smaller");
            }
            if *size_bytes > there.size_bytes {
                let (kind, disk) = ("expand-disk".to_owned(), disk.clone());
                self.jobs.push(ConfigurationJob { kind, disk });
            }
            if disk.read_only != there.read_only {
                self.engine.read_only.push((found.id, disk.read_only));
                self.changes.push(ConfigurationChange {
                    change: Change::Change,
                    kind: "disk".to_owned(),
                    name: name.clone(),
                    members: vec!["read_only".to_owned()],
                });
            }
            if let Some(shown) = shown.iter_mut().find(|it| it.name == *name) {
                shown.clone_from(disk);
            }
        }
        shown.sort_by(|a, b| a.name.cmp(&b.name));
        self.shown.disks = Some(shown);
        Ok(())
    }

    /// The identifier of a disk; none for one that is to be made.
    fn disk(&self, all: &[Disk], name: &str, of: &str) -> Result<Option<DiskId>> {
        let found = all.iter().find(|disk| disk.name == name).map(|disk| disk.id);
        if found.is_none() && !self.jobs.iter().any(|job| job.disk.name == name) {
            let message = format!("{of} names disk `{}`, and there is none", name.escape_debug());
            return Err(ServiceError::new(Refusal::NotFound, message));
        }
        Ok(found)
    }

    fn targets(&mut self, all: &[Disk], wanted: &[DeclaredTarget]) -> Result<()> {
        let (mut shown, mut planned) = (Vec::new(), Vec::new());
        for target in wanted {
            let name = default_target_name(&target.name);
            let mut luns = Vec::new();
            for DeclaredLun { lun, disk } in &target.luns {
                let of = format!("LUN {lun} of target `{name}`");
                luns.extend(self.disk(all, disk, &of)?.map(|id| (*lun, id)));
            }
            let entries = target.access.clone();
            let entries = entries.map(|list| list.into_iter().map(entry).collect());
            let entries: Option<Vec<_>> = entries.transpose()?;
            let normal = |entry: &job_engine::AccessEntry| {
                entry.clone().normalized().map_err(|it| {
                    invalid(format!("target `{name}`: {}: {}", it.property, it.reason))
                })
            };
            let entries = entries.map(|list| list.iter().map(normal).collect());
            let entries: Option<Vec<_>> = entries.transpose()?;
            let mut declared = target.clone();
            declared.name.clone_from(&name);
            declared.luns.sort_by_key(|lun| lun.lun);
            declared.access = entries.as_deref().map(view::access_list);
            shown.push(declared);
            let alias = target.alias.clone();
            planned.push(WantedTarget { name, alias, access: entries, luns });
        }
        shown.sort_by(|a, b| a.name.cmp(&b.name));
        let before = self.shown.targets.as_deref().unwrap_or_default();
        self.changes.extend(differences("target", before, &shown, |it| it.name.clone())?);
        self.shown.targets = Some(shown);
        self.engine.targets = Some(planned);
        Ok(())
    }

    fn limits(&mut self, all: &[Disk], wanted: &[DeclaredLimit]) -> Result<()> {
        let (mut shown, mut kept) = (wanted.to_vec(), Vec::new());
        for limit in &mut shown {
            let set = SetLimit {
                iops: limit.iops,
                bytes_per_second: limit.bytes_per_second,
                burst_ms: limit.burst_ms,
            };
            let name = limit_name(limit);
            check_limit(&set).map_err(|why| invalid(format!("limit of {name}: {why}")))?;
            let of = match (&limit.disk, &mut limit.initiator) {
                (Some(disk), None) => {
                    let id = self.disk(all, disk, "a limit")?;
                    id.map(|id| LimitOf::Disk(id.to_string()))
                }
                (None, Some(initiator)) => {
                    *initiator = initiator.to_lowercase();
                    check_iscsi_name(initiator)
                        .map_err(|error| invalid(format!("limit of {name}: {error}")))?;
                    Some(LimitOf::Initiator(initiator.clone()))
                }
                (Some(_), Some(_)) | (None, None) => {
                    return Err(invalid("a limit names a disk or an initiator"));
                }
            };
            kept.extend(of.map(|of| (of, set)));
        }
        shown.sort_by_key(limit_name);
        let before = self.shown.limits.as_deref().unwrap_or_default();
        self.changes.extend(differences("limit", before, &shown, limit_name)?);
        self.shown.limits = Some(shown);
        self.kept.limits = Some(kept);
        Ok(())
    }

    fn accounts(&mut self, wanted: &[DeclaredAccount]) -> Result<()> {
        let mut kept = wanted.to_vec();
        for name in kept.iter_mut().filter_map(|it| it.targets.as_mut()).flatten() {
            *name = default_target_name(name);
        }
        kept.sort_by(|a, b| a.user.cmp(&b.user));
        let without = |it: &DeclaredAccount| DeclaredAccount { secret: None, ..it.clone() };
        let shown: Vec<_> = kept.iter().map(without).collect();
        let before = self.shown.chap_accounts.as_deref().unwrap_or_default();
        self.changes.extend(differences("chap_account", before, &shown, |it| it.user.clone())?);
        self.shown.chap_accounts = Some(shown);
        self.kept.accounts = Some(kept);
        Ok(())
    }
}

/// Secrets that change are named.
fn tell_secrets(changes: &mut Vec<ConfigurationChange>, users: &[String]) {
    for user in users {
        let member = "secret".to_owned();
        let known = changes.iter_mut().find(|it| it.kind == "chap_account" && it.name == *user);
        match known {
            Some(known) if known.change == Change::Change => known.members.push(member),
            Some(_) => {}
            None => changes.push(ConfigurationChange {
                change: Change::Change,
                kind: "chap_account".to_owned(),
                name: user.clone(),
                members: vec![member],
            }),
        }
    }
}

/// What leads from one list to the other. Both are in the order of their keys.
fn differences<T: Serialize>(
    kind: &str,
    before: &[T],
    after: &[T],
    key: impl Fn(&T) -> String,
) -> Result<Vec<ConfigurationChange>> {
    let mut names = BTreeSet::new();
    if let Some(twice) = after.iter().map(&key).find(|name| !names.insert(name.clone())) {
        let kind = kind.replace('_', " ");
        return Err(invalid(format!("{kind} `{}` stands twice", twice.escape_debug())));
    }
    let change = |change, name: String, members| ConfigurationChange {
        change,
        kind: kind.to_owned(),
        name,
        members,
    };
    let mut found = Vec::new();
    for gone in before.iter().map(&key).filter(|name| !names.contains(name)) {
        found.push(change(Change::Delete, gone, Vec::new()));
    }
    for wanted in after {
        let name = key(wanted);
        match before.iter().find(|it| key(it) == name) {
            None => found.push(change(Change::Create, name, Vec::new())),
            Some(there) => {
                let members = members_that_differ(there, wanted);
                if !members.is_empty() {
                    found.push(change(Change::Change, name, members));
                }
            }
        }
    }
    Ok(found)
}

fn members_that_differ(one: &impl Serialize, other: &impl Serialize) -> Vec<String> {
    let members = |it| match it {
        Ok(Value::Object(members)) => members,
        // What is declared is an object.
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let (one, other) = (members(serde_json::to_value(one)), members(serde_json::to_value(other)));
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let differ = |name: &&&String| one.get(**name) != other.get(**name);
    names.iter().filter(differ).map(|name| (*name).clone()).collect()
}
