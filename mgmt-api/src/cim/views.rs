//! Masking views: a target is one, and so is each part of its access list that sees LUNs under
//! numbers of its own, since a view has one number for each unit.

use std::collections::{HashMap, HashSet};

use job_engine::{AccessEntry, DiskId, SnapshotId, Target};

use super::instances::{View, controller_of, link};
use super::masking::hardware_id;
use super::path::ObjectPath;
use super::value::Instance;

pub(crate) const FOR_UNIT: &str = "MSISCSITARGET_ProtocolControllerForUnit";

/// Between the names of a target and of whoever sees it differently, as in names of ports.
const SEPARATOR: char = ',';

/// Whether an entry of an access list shows LUNs under numbers of its own.
pub(crate) fn is_own(entry: &AccessEntry) -> bool {
    entry.luns.iter().flatten().any(|view| view.seen != view.lun)
}

/// The entries that are views of their own.
fn own(target: &Target) -> impl Iterator<Item = &AccessEntry> {
    target.access.iter().flatten().filter(|entry| is_own(entry))
}

/// A controller: a target, or what some initiators see of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Controller {
    /// The target's name.
    pub(crate) target: String,
    /// Whose view it is, if not that of all others.
    pub(crate) own: Option<AccessEntry>,
}

/// `DeviceID` of the view of those whom an entry concerns.
fn own_id(target: &str, entry: &AccessEntry) -> String {
    format!("{target}{SEPARATOR}{}", hardware_id(entry))
}

/// The controller through which those see a target whom an entry concerns.
pub(crate) fn path_for(view: &View<'_>, target: &str, entry: Option<&AccessEntry>) -> ObjectPath {
    match entry.filter(|entry| is_own(entry)) {
        Some(entry) => view.controller_path(&own_id(target, entry)),
        None => view.controller_path(target),
    }
}

/// All controllers of a target.
pub(crate) fn paths<'v>(
    view: &'v View<'_>,
    target: &'v Target,
) -> impl Iterator<Item = ObjectPath> {
    let own = own(target).map(|entry| view.controller_path(&own_id(&target.name, entry)));
    std::iter::once(view.controller_path(&target.name)).chain(own)
}

/// The one with a `DeviceID`.
pub(crate) fn find(view: &View<'_>, id: &str) -> Option<Controller> {
    let name = id.split(SEPARATOR).next().unwrap_or(id);
    let target = view.snapshot().targets.iter().find(|target| target.name == name)?;
    if name == id {
        return Some(Controller { target: name.to_owned(), own: None });
    }
    let entry = own(target).find(|entry| own_id(name, entry) == id)?;
    Some(Controller { target: name.to_owned(), own: Some(entry.clone()) })
}

/// The instance of one.
pub(crate) fn instance(view: &View<'_>, id: &str) -> Option<Instance> {
    let found = find(view, id)?;
    let target = view.snapshot().targets.iter().find(|target| target.name == found.target)?;
    Some(match &found.own {
        None => controller(view.system, target),
        Some(entry) => of_entry(view, target, entry),
    })
}

/// All of them.
pub(crate) fn instances(view: &View<'_>) -> Vec<Instance> {
    let of = |target: &Target| {
        let own = own(target).map(|entry| of_entry(view, target, entry));
        std::iter::once(controller(view.system, target)).chain(own).collect::<Vec<_>>()
    };
    view.snapshot().targets.iter().flat_map(of).collect()
}

fn title(target: &Target) -> &str {
    if target.alias.is_empty() { &target.name } else { &target.alias }
}

/// A target as all see it who have no view of their own.
pub(crate) fn controller(system: &str, target: &Target) -> Instance {
    controller_of(system, target, &target.name, title(target))
}

/// It is the same iSCSI node: `Name` is that of the target.
fn of_entry(view: &View<'_>, target: &Target, entry: &AccessEntry) -> Instance {
    let title = format!("{} for {}", title(target), hardware_id(entry));
    controller_of(view.system, target, &own_id(&target.name, entry), &title)
}

/// Under which number each view has each unit.
pub(crate) fn units(view: &View<'_>) -> Vec<Instance> {
    units_where(view, &view.engine.exposed_snapshots().into_iter().collect())
}

/// The same where these disks stand for snapshots: one that clients have exposed is the unit.
pub(crate) fn units_where(
    view: &View<'_>,
    stands_for: &HashMap<DiskId, SnapshotId>,
) -> Vec<Instance> {
    let state = view.snapshot();
    let known = |id: &&SnapshotId| state.snapshots.iter().any(|snapshot| snapshot.id == **id);
    let targets: HashMap<_, _> = state.targets.iter().map(|it| (it.name.as_str(), it)).collect();
    let only_read = state.disks.iter().filter(|disk| disk.read_only).map(|disk| disk.id);
    let only_read: HashSet<_> = only_read.collect();
    let mut found = Vec::new();
    for mapping in &state.mappings {
        let Some(target) = targets.get(mapping.target.as_str()) else { continue };
        let fixed = only_read.contains(&mapping.disk);
        let unit = |controller, number: u16, read_only: bool| {
            let path = match stands_for.get(&mapping.disk).filter(known) {
                Some(snapshot) => view.snapshot_path(*snapshot),
                None => view.volume_path(mapping.disk),
            };
            link(FOR_UNIT, ("Antecedent", controller), ("Dependent", path))
                .with("DeviceNumber", format!("{number:X}"))
                .with("DeviceAccess", if read_only || fixed { 3_u16 } else { 2_u16 })
        };
        // What each entry shows of it: under which number, and whether it is read-only.
        let shown = |entry: &AccessEntry| match &entry.luns {
            None => Some((mapping.lun, entry.read_only)),
            Some(list) => {
                let shown = list.iter().find(|view| view.lun == mapping.lun)?;
                Some((shown.seen, shown.read_only || entry.read_only))
            }
        };
        let own: Vec<_> = own(target).filter_map(|entry| Some((entry, shown(entry)?))).collect();
        let others = target.access.iter().flatten().filter(|entry| !is_own(entry));
        let others: Vec<bool> = others.filter_map(shown).map(|(_, read_only)| read_only).collect();
        // What nobody sees is the target's; what some see under other numbers is theirs.
        if own.is_empty() || !others.is_empty() || target.access.is_none() {
            let read_only = !others.is_empty() && others.iter().all(|read_only| *read_only);
            found.push(unit(view.controller_path(&target.name), mapping.lun, read_only));
        }
        found.extend(own.into_iter().map(|(entry, (number, read_only))| {
            unit(path_for(view, &target.name, Some(entry)), number, read_only)
        }));
    }
    found
}
