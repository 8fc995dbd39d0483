//! Parts of the catalogue, for whoever says what a change does to them: it waits for the engine's
//! thread, and must not cost more where there is much else.

use std::collections::{BTreeSet, HashMap};

use super::snapshots::exposed_record;
use super::{Engine, Snapshot};
use crate::catalogue::{Disk, DiskSnapshot, Mapping, Target};
use crate::id::{DiskId, SnapshotId};

/// What initiators see of some targets.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// The targets, their LUNs, the disks of these, and the snapshots that those stand for. Jobs are not
    /// in it.
    pub snapshot: Snapshot,
    /// Disks that stand for snapshots, also those that jobs are about to make.
    pub stand_for: HashMap<DiskId, SnapshotId>,
}

impl Engine {
    /// What initiators see of these targets, and of all that have LUNs that are one of `seen`. What is
    /// to be known of the disks `more` is in it too: they are to become LUNs.
    #[must_use]
    pub fn shown_by(
        &self,
        mut targets: BTreeSet<String>,
        seen: &[DiskId],
        more: impl IntoIterator<Item = DiskId>,
    ) -> Shown {
        let state = self.shared.state.lock();
        if !seen.is_empty() {
            let with = state.mappings.values().filter(|mapping| seen.contains(&mapping.disk));
            targets.extend(with.map(|mapping| mapping.target.clone()));
        }
        let mut shown = Shown::default();
        shown.snapshot.sequence = state.sequence;
        let mut disks: BTreeSet<DiskId> = more.into_iter().collect();
        for name in targets {
            shown.snapshot.targets.extend(state.targets.get(&name).map(|it| Target::clone(it)));
            let luns = state.mappings.range((name.clone(), 0)..=(name, u16::MAX));
            for (_, mapping) in luns {
                disks.insert(mapping.disk);
                shown.snapshot.mappings.push(Mapping::clone(mapping));
            }
        }
        let to_expose: HashMap<_, _> = state.to_expose().map(|(disk, of, _)| (disk, of)).collect();
        for id in disks {
            shown.snapshot.disks.extend(state.disks.get(&id).map(|it| Disk::clone(it)));
            let exposed = || state.records.get(&exposed_record(id))?.parse().ok();
            let Some(of) = to_expose.get(&id).copied().or_else(exposed) else { continue };
            shown.stand_for.insert(id, of);
            let of = state.snapshots.get(&of).filter(|snapshot| !snapshot.hidden);
            shown.snapshot.snapshots.extend(of.map(|it| DiskSnapshot::clone(it)));
        }
        shown
    }

    /// How many records of errors of a disk there are.
    #[must_use]
    pub fn faults_of(&self, disk: DiskId) -> usize {
        let state = self.shared.state.lock();
        let from_here = state.faults.range((disk, String::new())..);
        from_here.take_while(|((of, _), _)| *of == disk).count()
    }
}
