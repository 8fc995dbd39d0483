//! Disks as clients ask for them: what it costs goes by how many are wanted.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::Engine;
use crate::catalogue::{Disk, Mapping};
use crate::id::DiskId;

impl Engine {
    /// All disks in the order of their creation.
    #[must_use]
    pub fn disks(&self) -> Vec<Disk> {
        self.shared.state.lock().disks.values().map(|disk| Disk::clone(disk)).collect()
    }

    /// A disk.
    #[must_use]
    pub fn disk(&self, id: &DiskId) -> Option<Disk> {
        self.shared.state.lock().disks.get(id).map(|disk| Disk::clone(disk))
    }

    /// A disk by name, or by identifier if none has that name.
    #[must_use]
    pub fn find_disk(&self, key: &str) -> Option<Arc<Disk>> {
        let state = self.shared.state.lock();
        let with_id = || state.disks.get(&key.parse().ok()?).filter(|it| it.id.to_string() == key);
        let named = state.disks.values().find(|disk| disk.name == key);
        named.or_else(with_id).cloned()
    }

    /// Disks that are wanted, so many at most: those behind `after` in the order of their creation.
    /// `wanted` is told whether a disk is a LUN. Each comes with where it is one.
    #[must_use]
    pub fn disks_where(
        &self,
        after: Option<DiskId>,
        limit: usize,
        wanted: impl Fn(&Disk, bool) -> bool,
    ) -> Vec<(Arc<Disk>, Vec<Arc<Mapping>>)> {
        let first = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.shared.state.lock();
        let mut mapped: BTreeMap<DiskId, Vec<&Arc<Mapping>>> = BTreeMap::new();
        for mapping in state.mappings.values() {
            mapped.entry(mapping.disk).or_default().push(mapping);
        }
        let behind = state.disks.range((first, Bound::Unbounded)).map(|(_, disk)| disk);
        let found = behind.filter(|disk| wanted(disk, mapped.contains_key(&disk.id))).take(limit);
        let own = |disk: &Arc<Disk>| mapped.get(&disk.id).into_iter().flatten();
        found.map(|disk| (disk.clone(), own(disk).map(|&it| it.clone()).collect())).collect()
    }

    /// Where a disk is a LUN, by target and LUN.
    #[must_use]
    pub fn mappings_of(&self, disk: DiskId) -> Vec<Arc<Mapping>> {
        let state = self.shared.state.lock();
        state.mappings.values().filter(|mapping| mapping.disk == disk).cloned().collect()
    }

    /// All mappings by target and LUN.
    #[must_use]
    pub fn mappings(&self) -> Vec<Mapping> {
        self.shared.state.lock().mappings.values().map(|mapping| Mapping::clone(mapping)).collect()
    }
}
