//! The configuration as a whole: targets, LUNs, who may use them, what protects disks, and the
//! records that belong to it, changed in one transaction. Its generation rises with every change of
//! any of them, in the same transaction, whoever makes it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::Engine;
use super::core::Core;
use super::exposure::{
    MAX_ENTRIES, MAX_MAPPINGS, MAX_TARGETS, check_alias, check_name, distinct_entries,
};
use super::state::{Change, State};
use crate::catalogue::{
    AccessEntry, CONFIGURATION_RECORDS, Disk, MAX_LUN, Mapping, StoredAccessState, StoredRecord,
    Target,
};
use crate::error::{Cause, RequestError};
use crate::failpoint;
use crate::id::DiskId;

/// The record that holds the generation.
const GENERATION: &str = "configuration/generation";

/// What is wanted. What is `None`, and what is not named, stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Whether writes to these disks are refused.
    pub read_only: Vec<(DiskId, bool)>,
    /// The targets: these and no others.
    pub targets: Option<Vec<WantedTarget>>,
    /// The access states that operators have set: these and no others. What initiators have set
    /// stays, unless one of these takes its place.
    pub access_states: Option<Vec<StoredAccessState>>,
    /// Records of the configuration: their new texts, or none any more.
    pub records: Vec<(String, Option<String>)>,
}

/// A target as it is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedTarget {
    /// Its iSCSI name.
    pub name: String,
    /// `TargetAlias`.
    pub alias: String,
    /// Who may use it; `None` lets everybody in.
    pub access: Option<Vec<AccessEntry>>,
    /// Its LUNs, and the disks that they are.
    pub luns: Vec<(u16, DiskId)>,
}

impl Engine {
    /// Number of the configuration's generation: it rises with every change of targets, LUNs,
    /// access, access states, the configuration's records, and disks, but for what they hold. When
    /// a saved state is imported, or the database is rebuilt, it leaps above all that there were.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.shared.state.lock().generation()
    }

    /// Whether [`Engine::configure`] would be refused now, and nothing else.
    ///
    /// # Errors
    /// As [`Engine::configure`].
    pub fn check_configuration(&self, wanted: &Configuration) -> Result<(), RequestError> {
        let planned = plan(&self.shared.state.lock(), wanted, self.shared.now());
        planned.map(drop).map_err(|cause| self.shared.refuse(cause, None))
    }

    /// Makes the configuration what is wanted, in one transaction; the generation that it has then.
    /// Nothing is written if it is so already. `generations`: it must be one of these until then.
    ///
    /// # Errors
    /// `ChangedMeanwhile`; `NotFound` (a disk), `BadName`, `BadValue`, `NameInUse`, `LimitReached`,
    /// `DiskInUse` while a job works on a disk that is to be exposed, or protected,
    /// `StoreUnavailable`, `ShuttingDown`.
    pub fn configure(
        &self,
        generations: Option<Vec<u64>>,
        wanted: Configuration,
    ) -> Result<u64, RequestError> {
        self.shared.request(move |core| core.configure(generations.as_deref(), &wanted))
    }
}

impl Core {
    fn configure(
        &mut self,
        generations: Option<&[u64]>,
        wanted: &Configuration,
    ) -> Result<u64, RequestError> {
        let planned = {
            let state = self.shared.state.lock();
            let found = state.generation();
            if generations.is_some_and(|expected| !expected.contains(&found)) {
                Err(Cause::ChangedMeanwhile)
            } else {
                plan(&state, wanted, self.now())
            }
        };
        let changes = planned.map_err(|cause| self.refuse(cause, None))?;
        if !changes.is_empty() {
            self.commit_request(failpoint::CONFIGURATION, changes)?;
        }
        Ok(self.shared.state.lock().generation())
    }
}

/// Whether a change is that of the generation.
pub(super) fn is_generation(change: &Change) -> bool {
    matches!(change, Change::PutRecord(record) if record.name == GENERATION)
}

/// Gives changes that bring a whole state a generation that no client has seen: what was read
/// before is not to be mistaken for what is there now. `before`: the state that they replace, as far
/// as it is known. Not every generation that there was is, so the clock takes part: there is less
/// than one change a millisecond.
pub(super) fn begin_epoch(changes: &mut Vec<Change>, before: u64, now: Timestamp) {
    let saved = changes.iter().find_map(|change| {
        let Change::PutRecord(record) = change else { return None };
        if record.name == GENERATION { record.text.parse().ok() } else { None }
    });
    let clock = u64::try_from(now.as_millisecond()).unwrap_or(0);
    let next = before.max(saved.unwrap_or(0)).saturating_add(1).max(clock);
    changes.retain(|change| !is_generation(change));
    changes.push(Change::PutRecord(generation_record(next)));
}

/// The generation among stored records.
pub(super) fn generation_of(records: &[StoredRecord]) -> u64 {
    let own = records.iter().find(|record| record.name == GENERATION);
    own.and_then(|record| record.text.parse().ok()).unwrap_or(0)
}

fn generation_record(number: u64) -> StoredRecord {
    StoredRecord { name: GENERATION.to_owned(), text: number.to_string() }
}

impl State {
    pub(super) fn generation(&self) -> u64 {
        self.records.get(GENERATION).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Adds the next generation to changes that concern the configuration.
    pub(super) fn raise_generation(&self, changes: &mut Vec<Change>) {
        if changes.iter().any(|change| self.concerns_configuration(change)) {
            let next = self.generation().saturating_add(1);
            changes.push(Change::PutRecord(generation_record(next)));
        }
    }

    fn concerns_configuration(&self, change: &Change) -> bool {
        let of_configuration =
            |name: &str| CONFIGURATION_RECORDS.iter().any(|prefix| name.starts_with(prefix));
        match change {
            Change::PutTarget(_)
            | Change::DeleteTarget(_)
            | Change::PutMapping(_)
            | Change::DeleteMapping { .. }
            | Change::PutAccessState(_)
            | Change::DeleteAccessState { .. }
            | Change::DeleteDisk(_) => true,
            Change::PutDisk(disk) => {
                self.disks.get(&disk.id).is_none_or(|before| declared(before) != declared(disk))
            }
            Change::PutRecord(record) => of_configuration(&record.name),
            Change::DeleteRecord(name) => of_configuration(name),
            Change::PutJob(_)
            | Change::DeleteJob(_)
            | Change::PutReservations(_)
            | Change::DeleteReservations(_)
            | Change::PutUser(_)
            | Change::DeleteUser(_)
            | Change::PutToken(_)
            | Change::DeleteToken(_)
            | Change::PutModePages(_)
            | Change::PutCondition(_)
            | Change::DeleteCondition(_)
            | Change::PutSnapshot(_)
            | Change::DeleteSnapshot(_)
            | Change::PutPool(_)
            | Change::DeletePool(_)
            | Change::PutPoolHealth(_)
            | Change::DeletePoolHealth(_)
            | Change::PutDebris(_)
            | Change::DeleteDebris(_)
            | Change::PutMessage(_)
            | Change::DeleteMessage(_) => false,
        }
    }
}

/// What the configuration says of a disk.
fn declared(disk: &Disk) -> impl PartialEq + use<'_> {
    let Disk { name, size_bytes, block_length, provisioning, format, read_only, .. } = disk;
    (name, *size_bytes, *block_length, *provisioning, *format, *read_only)
}

/// The changes that lead to what is wanted. What takes something away comes first, then who sees
/// what, and LUNs last: nobody shall see one for a moment.
fn plan(state: &State, wanted: &Configuration, now: Timestamp) -> Result<Vec<Change>, Cause> {
    let mut gone = Vec::new();
    let mut there = Vec::new();
    let mut luns = Vec::new();
    let mut names: BTreeSet<&str> = state.targets.keys().map(String::as_str).collect();
    if let Some(targets) = &wanted.targets {
        names = BTreeSet::new();
        for target in targets {
            if !names.insert(&target.name) {
                return Err(twice("target", &target.name));
            }
            plan_target(state, target, now, (&mut gone, &mut there, &mut luns))?;
        }
        if names.len() > MAX_TARGETS {
            let limit = u64::try_from(MAX_TARGETS).unwrap_or(u64::MAX);
            return Err(Cause::LimitReached { what: "targets".to_owned(), limit });
        }
        let surplus = state.targets.keys().filter(|name| !names.contains(name.as_str()));
        for name in surplus {
            let of_target = state.mappings.values().filter(|mapping| mapping.target == *name);
            gone.extend(of_target.map(|mapping| unmapped(mapping)));
            gone.push(Change::DeleteTarget(name.clone()));
        }
    }
    plan_access_states(state, wanted, &names, (&mut gone, &mut there))?;
    for (disk, read_only) in &wanted.read_only {
        let found = disk_of(state, *disk)?;
        if found.read_only != *read_only {
            // A job brings its disk back as it was when the job was planned.
            unclaimed(state, found)?;
            let changed = Disk { read_only: *read_only, ..found.clone() };
            there.push(Change::PutDisk(Box::new(changed)));
        }
    }
    for (name, text) in &wanted.records {
        match (text, state.records.get(name)) {
            (Some(text), before) if before != Some(text) => {
                let (name, text) = (name.clone(), text.clone());
                there.push(Change::PutRecord(StoredRecord { name, text }));
            }
            (None, Some(_)) => gone.push(Change::DeleteRecord(name.clone())),
            (Some(_), _) | (None, None) => {}
        }
    }
    gone.append(&mut there);
    gone.append(&mut luns);
    Ok(gone)
}

fn twice(what: &str, name: &str) -> Cause {
    let property = format!("{what} {name}");
    Cause::BadValue { property, reason: "it stands twice".to_owned() }
}

fn unmapped(mapping: &Mapping) -> Change {
    Change::DeleteMapping { target: mapping.target.clone(), lun: mapping.lun }
}

fn disk_of(state: &State, id: DiskId) -> Result<&Disk, Cause> {
    let found = state.disks.get(&id).map(AsRef::as_ref);
    found.ok_or_else(|| Cause::NotFound { what: "disk".to_owned(), name: id.to_string() })
}

fn unclaimed(state: &State, disk: &Disk) -> Result<(), Cause> {
    let Some(job) = state.claim(disk.id) else { return Ok(()) };
    Err(Cause::DiskInUse { disk: disk.name.clone(), holder: format!("job {job}") })
}

fn plan_target(
    state: &State,
    wanted: &WantedTarget,
    now: Timestamp,
    (gone, there, luns): (&mut Vec<Change>, &mut Vec<Change>, &mut Vec<Change>),
) -> Result<(), Cause> {
    let WantedTarget { name, alias, access, luns: wanted_luns } = wanted;
    check_name(name)?;
    check_alias(alias)?;
    let access = access.clone().map(distinct_entries).transpose()?;
    if access.as_ref().is_some_and(|entries| entries.len() > MAX_ENTRIES) {
        let what = format!("access entries of target {name}");
        return Err(Cause::LimitReached { what, limit: 1024 });
    }
    if wanted_luns.len() > MAX_MAPPINGS {
        return Err(Cause::LimitReached { what: format!("LUNs of target {name}"), limit: 256 });
    }
    let found = state.targets.get(name);
    let created = found.map_or(now, |target| target.created);
    // Their order means nothing.
    let access = match found.map(|target| &target.access) {
        Some(before) if same_entries(before.as_deref(), access.as_deref()) => before.clone(),
        Some(_) | None => access,
    };
    let target = Target { name: name.clone(), alias: alias.clone(), created, access };
    if found.is_none_or(|before| **before != target) {
        there.push(Change::PutTarget(target));
    }
    let of_target = || state.mappings.values().filter(|mapping| mapping.target == *name);
    let mut numbers = BTreeMap::new();
    let mut disks = BTreeSet::new();
    for (lun, disk) in wanted_luns {
        if *lun > MAX_LUN {
            let (property, reason) =
                (format!("LUN {lun}"), format!("the highest LUN is {MAX_LUN}"));
            return Err(Cause::BadValue { property, reason });
        }
        let found = disk_of(state, *disk)?;
        if numbers.insert(*lun, *disk).is_some() {
            return Err(twice("LUN", &format!("{lun} of target {name}")));
        }
        if !disks.insert(*disk) {
            return Err(twice("disk", &format!("{} in target {name}", found.name)));
        }
        if !of_target().any(|mapping| (mapping.lun, mapping.disk) == (*lun, *disk)) {
            unclaimed(state, found)?;
            let target = name.clone();
            luns.push(Change::PutMapping(Mapping { disk: *disk, target, lun: *lun }));
        }
    }
    let stays = |mapping: &Mapping| numbers.get(&mapping.lun) == Some(&mapping.disk);
    gone.extend(of_target().filter(|mapping| !stays(mapping)).map(|mapping| unmapped(mapping)));
    Ok(())
}

fn same_entries(one: Option<&[AccessEntry]>, other: Option<&[AccessEntry]>) -> bool {
    match (one, other) {
        (None, None) => true,
        // No two entries of a list are equal.
        (Some(one), Some(other)) => {
            one.len() == other.len() && one.iter().all(|entry| other.contains(entry))
        }
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn plan_access_states(
    state: &State,
    wanted: &Configuration,
    targets: &BTreeSet<&str>,
    (gone, there): (&mut Vec<Change>, &mut Vec<Change>),
) -> Result<(), Cause> {
    let mut kept = BTreeSet::new();
    for set in wanted.access_states.iter().flatten() {
        let StoredAccessState { group, target, .. } = set;
        let of = target.as_deref().map_or(String::new(), |target| format!(" of target {target}"));
        if !kept.insert((*group, target.clone())) {
            return Err(twice("access state of portal group", &format!("{group}{of}")));
        }
        if let Some(target) = target
            && !targets.contains(target.as_str())
        {
            return Err(Cause::NotFound { what: "target".to_owned(), name: target.clone() });
        }
        if state.access_states.get(&(*group, target.clone())) != Some(set) {
            there.push(Change::PutAccessState(set.clone()));
        }
    }
    for (key, set) in &state.access_states {
        let surplus = wanted.access_states.is_some() && !set.explicit && !kept.contains(key);
        let lost = set.target.as_deref().is_some_and(|target| !targets.contains(target));
        if surplus || lost {
            let (group, target) = (set.group, set.target.clone());
            gone.push(Change::DeleteAccessState { group, target });
        }
    }
    Ok(())
}
