//! Requests that expose and hide disks: who sees what through a target, in one transaction each.

use serde::{Deserialize, Serialize};

use super::Engine;
use super::core::Core;
use super::exposure::{MAX_ENTRIES, MAX_MAPPINGS, check_target, normalized};
use super::state::{Change, JobRecord, State};
use super::worker::{IfEnding, Reply};
use crate::catalogue::{AccessEntry, LunView, MAX_LUN, Mapping, Target, lowest_free_lun};
use crate::error::{Cause, RequestError};
use crate::failpoint;
use crate::id::{DiskId, JobId};
use crate::job::Element;

/// A disk that is to be exposed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExposeUnit {
    /// The disk. It may be a LUN of the target already.
    pub disk: DiskId,
    /// The LUN; `None` is the one that it has, or the lowest free one. To [`ExposeTo::These`], it is
    /// the number under which they see it; the target's own stays, or is another one if it is taken.
    pub lun: Option<u16>,
    /// Writes of those to whom it is exposed are refused.
    pub read_only: bool,
}

/// To whom disks are exposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExposeTo {
    /// To everybody whom the target lets in.
    Everybody,
    /// To the initiators of the request; the others see what they saw before.
    These,
}

/// A request to expose disks through a target, and to let initiators in: all of it or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expose {
    /// The target's iSCSI name.
    pub target: String,
    /// It is made, with this `TargetAlias`, and lets in nobody else; without it, it must be there.
    pub create: Option<String>,
    /// The disks.
    pub units: Vec<ExposeUnit>,
    /// Names of initiators that are let in.
    pub initiators: Vec<String>,
    /// Who sees the disks.
    pub to: ExposeTo,
}

/// A request to hide disks: all of it or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hide {
    /// The target's iSCSI name.
    pub target: String,
    /// Disks that are taken away: from the initiators that are named, or from everybody.
    pub disks: Vec<DiskId>,
    /// Initiators; without disks they are let in no more.
    pub initiators: Vec<String>,
    /// Everything is hidden, and the target removed.
    pub remove: bool,
}

impl Engine {
    /// Exposes disks and lets initiators in; the target as it is then.
    ///
    /// # Errors
    /// `NotFound` (target or disk), `BadName`, `BadValue` (an initiator, the alias, the LUN),
    /// `NameInUse` (the target that is to be made, a LUN, or a disk that has another LUN),
    /// `DiskInUse` while a job works on a disk, `LimitReached`, `StoreUnavailable`, `ShuttingDown`.
    pub fn expose(&self, request: Expose) -> Result<Target, RequestError> {
        self.shared.request(move |core| core.expose(&request))
    }

    /// Hides disks, shuts initiators out, or removes a target with all of its LUNs. A disk that
    /// nobody sees any more is no LUN any more.
    ///
    /// # Errors
    /// `NotFound` (the target, a disk that is no LUN of it, an initiator that it does not let in),
    /// `StoreUnavailable`, `ShuttingDown`.
    pub fn hide(&self, request: Hide) -> Result<(), RequestError> {
        self.shared.request(move |core| core.hide(&request))
    }
}

fn missing(what: &str, name: impl Into<String>) -> Cause {
    Cause::NotFound { what: what.to_owned(), name: name.into() }
}

fn concerns(entry: &AccessEntry, initiator: &str) -> bool {
    entry.address.is_none() && entry.initiator.as_deref() == Some(initiator)
}

/// What an entry without a list shows, as a list.
fn explicit<'e>(entry: &'e mut AccessEntry, luns: &[u16]) -> &'e mut Vec<LunView> {
    let read_only = entry.read_only;
    entry.luns.get_or_insert_with(|| {
        luns.iter().map(|&lun| LunView { seen: lun, lun, read_only }).collect()
    })
}

/// A LUN that is to be shown.
#[derive(Debug, Clone, Copy)]
struct Shown {
    /// The target's LUN.
    lun: u16,
    number: Number,
    read_only: bool,
}

/// Under which number.
#[derive(Debug, Clone, Copy)]
enum Number {
    /// That of the target.
    Own,
    /// That of the target, or the lowest free one.
    Free,
    This(u16),
}

/// Shows a LUN, if it is not shown already.
fn show(list: &mut Vec<LunView>, shown: Shown) -> Result<(), Cause> {
    let Shown { lun, number, read_only } = shown;
    let taken = |seen: u16| list.iter().any(|view| view.seen == seen);
    let seen = match number {
        Number::Own => lun,
        Number::Free if taken(lun) => {
            lowest_free_lun(list.iter().map(|view| view.seen)).unwrap_or(MAX_LUN)
        }
        Number::Free => lun,
        Number::This(seen) => seen,
    };
    let is_taken = taken(seen);
    let in_use = |what: &str, name| Err(Cause::NameInUse { what: what.to_owned(), name });
    if let Some(view) = list.iter_mut().find(|view| view.lun == lun) {
        if let Number::This(seen) = number
            && seen != view.seen
        {
            let name = format!("of LUN {lun}, which an initiator sees as LUN {}", view.seen);
            return in_use("mapping", name);
        }
        view.read_only = read_only;
        return Ok(());
    }
    if is_taken {
        return in_use("LUN", format!("{seen}, which an initiator sees as another disk"));
    }
    list.push(LunView { seen, lun, read_only });
    Ok(())
}

impl Core {
    fn expose(&mut self, request: &Expose) -> Result<Target, RequestError> {
        let element = Element::Target(request.target.clone());
        let planned = self.plan_exposure(request, None);
        let (target, changes) = planned.map_err(|cause| self.refuse(cause, Some(&element)))?;
        if !changes.is_empty() {
            self.commit_request(failpoint::CATALOGUE, changes)?;
        }
        Ok(target)
    }

    /// What a job has made is there, and exposed: one transaction, behind which its end alone is missing.
    pub(super) fn put_exposed(
        &mut self,
        id: JobId,
        (made, effect): (DiskId, &[Change]),
        request: &Expose,
    ) -> Result<Reply, Cause> {
        let (_, exposed) = self.plan_exposure(request, Some(made))?;
        let now = self.now();
        let enter = |record: &mut JobRecord| record.put_in_force(now);
        let changes: Vec<Change> = effect.iter().cloned().chain(exposed).collect();
        Ok(self.worker_commit(id, failpoint::IN_FORCE, IfEnding::TurnBack, &changes, &enter))
    }

    /// The target as it is then, and what changes. `coming` is a disk that a job is about to make.
    pub(super) fn plan_exposure(
        &self,
        request: &Expose,
        coming: Option<DiskId>,
    ) -> Result<(Target, Vec<Change>), Cause> {
        let state = self.shared.state.lock();
        let mut target = match (&request.create, state.targets.get(&request.target)) {
            (None, Some(found)) => Target::clone(found),
            (None, None) => return Err(missing("target", &request.target)),
            (Some(alias), _) => {
                check_target(&state, &request.target, alias)?;
                let (name, alias) = (request.target.clone(), alias.clone());
                Target { name, alias, created: self.now(), access: Some(Vec::new()) }
            }
        };
        let of_target = || state.mappings.values().filter(|mapping| mapping.target == target.name);
        let before: Vec<u16> = of_target().map(|mapping| mapping.lun).collect();
        let mut taken = before.clone();
        let (mut shown, mut mappings) = (Vec::new(), Vec::new());
        let of_theirs = request.to == ExposeTo::These;
        for unit in &request.units {
            let known = of_target().find(|mapping| mapping.disk == unit.disk);
            check_number(unit)?;
            let lun = match known {
                Some(known) if of_theirs || unit.lun.is_none_or(|lun| lun == known.lun) => {
                    known.lun
                }
                Some(known) => {
                    let name = format!("of disk {} as LUN {}", unit.disk, known.lun);
                    return Err(Cause::NameInUse { what: "mapping".to_owned(), name });
                }
                None => {
                    if coming != Some(unit.disk) {
                        check_disk(&state, unit.disk)?;
                    }
                    free_lun(unit, &taken, of_theirs)?
                }
            };
            if known.is_none() {
                taken.push(lun);
                mappings.push(Mapping { disk: unit.disk, target: target.name.clone(), lun });
            }
            let number = match unit.lun {
                _ if !of_theirs => Number::Own,
                Some(seen) => Number::This(seen),
                None => Number::Free,
            };
            shown.push(Shown { lun, number, read_only: unit.read_only });
        }
        if taken.len() > MAX_MAPPINGS {
            let what = format!("LUNs of target {}", target.name);
            return Err(Cause::LimitReached { what, limit: 256 });
        }
        target.access = access(&target, request, &before, &shown)?;
        if target.access.as_ref().is_some_and(|entries| entries.len() > MAX_ENTRIES) {
            let what = format!("access entries of target {}", target.name);
            return Err(Cause::LimitReached { what, limit: 1024 });
        }
        // The list of who sees what first: nobody shall see a LUN for a moment.
        let mut changes = Vec::new();
        if state.targets.get(&target.name).is_none_or(|old| **old != target) {
            changes.push(Change::PutTarget(target.clone()));
        }
        changes.extend(mappings.into_iter().map(Change::PutMapping));
        Ok((target, changes))
    }

    fn hide(&mut self, request: &Hide) -> Result<(), RequestError> {
        let element = Element::Target(request.target.clone());
        let planned = self.plan_hiding(request);
        let changes = planned.map_err(|cause| self.refuse(cause, Some(&element)))?;
        if changes.is_empty() {
            return Ok(());
        }
        self.commit_request(failpoint::CATALOGUE, changes)
    }

    fn plan_hiding(&self, request: &Hide) -> Result<Vec<Change>, Cause> {
        let state = self.shared.state.lock();
        let name = &request.target;
        let found = state.targets.get(name).ok_or_else(|| missing("target", name))?;
        let of_target: Vec<_> = state.mappings.values().filter(|it| it.target == *name).collect();
        let unmapped = |lun: u16| Change::DeleteMapping { target: name.clone(), lun };
        if request.remove {
            let mut changes: Vec<_> = of_target.iter().map(|it| unmapped(it.lun)).collect();
            changes.push(Change::DeleteTarget(name.clone()));
            let states = state.access_states.keys();
            let own = states.filter(|(_, target)| target.as_deref() == Some(name.as_str()));
            changes.extend(own.map(|(group, target)| Change::DeleteAccessState {
                group: *group,
                target: target.clone(),
            }));
            return Ok(changes);
        }
        let luns = request.disks.iter().map(|disk| {
            let mapping = of_target.iter().find(|mapping| mapping.disk == *disk);
            mapping
                .map(|mapping| mapping.lun)
                .ok_or_else(|| missing("mapping", format!("of disk {disk} in target {name}")))
        });
        let luns = luns.collect::<Result<Vec<u16>, Cause>>()?;
        let all: Vec<u16> = of_target.iter().map(|mapping| mapping.lun).collect();
        let mut target = Target::clone(found);
        let entries = target.access.get_or_insert_default();
        for initiator in &request.initiators {
            let initiator = initiator.to_lowercase();
            let entry = entries.iter_mut().find(|entry| concerns(entry, &initiator));
            let entry = entry.ok_or_else(|| missing("access entry", &initiator))?;
            let list = explicit(entry, &all);
            list.retain(|view| !luns.contains(&view.lun));
            if luns.is_empty() || list.is_empty() {
                entries.retain(|entry| !concerns(entry, &initiator));
            }
        }
        let seen = |lun: &u16| {
            let shows = |entry: &AccessEntry| match &entry.luns {
                None => true,
                Some(list) => list.iter().any(|view| view.lun == *lun),
            };
            entries.iter().any(shows)
        };
        let everybody = request.initiators.is_empty();
        let gone: Vec<u16> = luns.into_iter().filter(|lun| everybody || !seen(lun)).collect();
        for list in entries.iter_mut().filter_map(|entry| entry.luns.as_mut()) {
            list.retain(|view| !gone.contains(&view.lun));
        }
        if found.access.is_none() {
            target.access = None;
        }
        let mut changes: Vec<_> = gone.into_iter().map(unmapped).collect();
        if target != **found {
            changes.push(Change::PutTarget(target));
        }
        Ok(changes)
    }
}

fn check_number(unit: &ExposeUnit) -> Result<(), Cause> {
    match unit.lun.filter(|lun| *lun > MAX_LUN) {
        Some(lun) => Err(Cause::BadValue {
            property: format!("LUN {lun}"),
            reason: format!("the highest LUN is {MAX_LUN}"),
        }),
        None => Ok(()),
    }
}

/// It is there, and no job works on it.
fn check_disk(state: &State, id: DiskId) -> Result<(), Cause> {
    let disk = state.disks.get(&id).ok_or_else(|| missing("disk", id.to_string()))?;
    match state.claim(id) {
        None => Ok(()),
        Some(job) => {
            Err(Cause::DiskInUse { disk: disk.name.clone(), holder: format!("job {job}") })
        }
    }
}

/// The LUN of a disk that has none in the target. If the number is only what some see, the target's
/// own may be another one.
fn free_lun(unit: &ExposeUnit, taken: &[u16], of_theirs: bool) -> Result<u16, Cause> {
    match unit.lun {
        Some(lun) if !taken.contains(&lun) => Ok(lun),
        Some(lun) if !of_theirs => {
            Err(Cause::NameInUse { what: "LUN".to_owned(), name: lun.to_string() })
        }
        Some(_) | None => Ok(lowest_free_lun(taken.iter().copied()).unwrap_or(MAX_LUN)),
    }
}

/// Who sees what from then on. `before` are the LUNs that there were, `shown` those of the request.
fn access(
    target: &Target,
    request: &Expose,
    before: &[u16],
    shown: &[Shown],
) -> Result<Option<Vec<AccessEntry>>, Cause> {
    let new = |initiator: &String, luns| {
        normalized(AccessEntry { initiator: Some(initiator.clone()), luns, ..Default::default() })
    };
    let anybody = || AccessEntry { initiator: Some("*".to_owned()), ..Default::default() };
    let mut initiators = Vec::new();
    for initiator in &request.initiators {
        initiators.push(new(initiator, None)?.initiator.unwrap_or_default());
    }
    if request.to == ExposeTo::Everybody {
        let read_only = shown.iter().any(|shown| shown.read_only);
        let mut entries = match &target.access {
            Some(entries) => entries.clone(),
            None if read_only => vec![anybody()],
            None if initiators.is_empty() => return Ok(None),
            None => Vec::new(),
        };
        // Who comes to a view sees it as it is: as somebody does who sees all of it.
        let view = target.access.iter().flatten().filter_map(|entry| entry.luns.as_ref());
        let view = view.max_by_key(|list| list.len()).cloned();
        for initiator in initiators {
            if !entries.iter().any(|entry| concerns(entry, &initiator)) {
                entries.push(new(&initiator, view.clone())?);
            }
        }
        for entry in &mut entries {
            if entry.luns.is_none() && !read_only {
                continue;
            }
            for shown in shown {
                let read_only = shown.read_only || entry.read_only;
                show(explicit(entry, before), Shown { read_only, ..*shown })?;
            }
        }
        return Ok(Some(entries));
    }
    let mut entries = target.access.clone().unwrap_or_else(|| vec![anybody()]);
    for entry in &mut entries {
        explicit(entry, before);
    }
    for initiator in initiators {
        if !entries.iter().any(|entry| concerns(entry, &initiator)) {
            entries.push(new(&initiator, Some(Vec::new()))?);
        }
        for entry in entries.iter_mut().filter(|entry| concerns(entry, &initiator)) {
            for shown in shown {
                let read_only = shown.read_only || entry.read_only;
                show(explicit(entry, before), Shown { read_only, ..*shown })?;
            }
        }
    }
    Ok(Some(entries))
}
