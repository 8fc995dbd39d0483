//! What changes of targets, LUNs and access lists are to clients: views and their links to units come,
//! go and are changed. What that is follows from all of a target, so it is looked at before and after.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Weak;

use job_engine::error::NAMESPACE;
use job_engine::{ChangeKind, DiskId, Engine, Shown, Snapshot};

use super::{CREATION, DELETION, Happening, Indications};
use crate::cim::encode::path_of;
use crate::cim::instances::{CONTROLLER, View};
use crate::cim::value::Instance;
use crate::cim::views::{self, FOR_UNIT};

/// Classes whose instances are told of here.
pub(super) const CLASSES: [&str; 2] = [CONTROLLER, FOR_UNIT];

/// The target that a change is about.
fn target_of(change: &ChangeKind) -> Option<&str> {
    match change {
        ChangeKind::TargetCreated(target)
        | ChangeKind::TargetChanged(target)
        | ChangeKind::TargetDeleted(target) => Some(&target.name),
        ChangeKind::MappingCreated(mapping) | ChangeKind::MappingDeleted(mapping) => {
            Some(&mapping.target)
        }
        ChangeKind::JobCreated(_)
        | ChangeKind::JobChanged { .. }
        | ChangeKind::JobDeleted(_)
        | ChangeKind::DiskCreated(_)
        | ChangeKind::DiskChanged(_)
        | ChangeKind::DiskDeleted(_)
        | ChangeKind::ConditionChanged(_)
        | ChangeKind::ConditionOver(_)
        | ChangeKind::PoolCreated(_)
        | ChangeKind::PoolChanged(_)
        | ChangeKind::PoolDeleted(_)
        | ChangeKind::PoolHealthChanged { .. }
        | ChangeKind::SnapshotCreated(_)
        | ChangeKind::SnapshotDeleted(_) => None,
    }
}

/// The disk that may be written from then on and not before, or the other way: a link says that.
fn turned(engine: &Engine, change: &ChangeKind) -> Option<DiskId> {
    let ChangeKind::DiskChanged(disk) = change else { return None };
    let before = engine.disk(&disk.id)?;
    (before.read_only != disk.read_only).then_some(disk.id)
}

/// The catalogue behind the changes, as far as views show it.
#[allow(clippy::wildcard_enum_match_arm, reason = "views show nothing else")]
fn after(mut state: Snapshot, changes: &[ChangeKind]) -> Snapshot {
    for change in changes {
        match change {
            ChangeKind::TargetCreated(target) | ChangeKind::TargetChanged(target) => {
                state.targets.retain(|it| it.name != target.name);
                state.targets.push((**target).clone());
            }
            ChangeKind::TargetDeleted(gone) => state.targets.retain(|it| it.name != gone.name),
            ChangeKind::MappingCreated(mapping) => {
                let same =
                    |it: &job_engine::Mapping| it.target == mapping.target && it.lun == mapping.lun;
                state.mappings.retain(|it| !same(it));
                state.mappings.push((**mapping).clone());
            }
            ChangeKind::MappingDeleted(gone) => state.mappings.retain(|it| *it != **gone),
            ChangeKind::DiskCreated(disk) | ChangeKind::DiskChanged(disk) => {
                state.disks.retain(|it| it.id != disk.id);
                state.disks.push((**disk).clone());
            }
            _ => {}
        }
    }
    state
}

type ByPath = BTreeMap<String, Instance>;

impl Indications {
    /// What is different: what goes, a link before its view, and what comes or is changed, a view
    /// before its links.
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "only new LUNs are of disks that are none yet"
    )]
    pub(super) fn differences(&self, changes: &[ChangeKind]) -> (Vec<Happening>, Vec<Happening>) {
        let Some(engine) = self.state.get().and_then(Weak::upgrade) else {
            return Default::default();
        };
        let concerned: BTreeSet<String> =
            changes.iter().filter_map(target_of).map(str::to_owned).collect();
        let turned: Vec<DiskId> =
            changes.iter().filter_map(|change| turned(&engine, change)).collect();
        if concerned.is_empty() && turned.is_empty() {
            return Default::default();
        }
        let mapped = changes.iter().filter_map(|change| match change {
            ChangeKind::MappingCreated(mapping) => Some(mapping.disk),
            _ => None,
        });
        let Shown { snapshot: before, stand_for } = engine.shown_by(concerned, &turned, mapped);
        let after = after(before.clone(), changes);
        let shown = |state: Snapshot| -> [ByPath; 2] {
            let view = View::new(&engine, &self.schema, &self.system, self).showing(state);
            let units = views::units_where(&view, &stand_for);
            [self.by_path(views::instances(&view)), self.by_path(units)]
        };
        let ([views_before, links_before], [views_after, links_after]) =
            (shown(before), shown(after));
        let mut gone = deleted(links_before.clone(), &links_after);
        gone.extend(deleted(views_before.clone(), &views_after));
        let mut here = made(&views_before, views_after);
        here.extend(made(&links_before, links_after));
        (gone, here)
    }

    fn by_path(&self, instances: Vec<Instance>) -> ByPath {
        let with_path = |instance: Instance| {
            let path = path_of(self.schema.class(&instance.class)?, &instance, NAMESPACE);
            Some((path.to_uri(), instance))
        };
        instances.into_iter().filter_map(with_path).collect()
    }
}

fn deleted(before: ByPath, after: &ByPath) -> Vec<Happening> {
    let gone = before.into_iter().filter(|(path, _)| !after.contains_key(path));
    gone.map(|(_, instance)| Happening::of(DELETION, instance, None)).collect()
}

fn made(before: &ByPath, after: ByPath) -> Vec<Happening> {
    let told = |(path, instance): (String, Instance)| match before.get(&path) {
        None => Some(Happening::of(CREATION, instance, None)),
        Some(previous) => Happening::modified(previous.clone(), instance),
    };
    after.into_iter().filter_map(told).collect()
}
