//! What changes of pools are to clients: the pool, what lies in it and the system are modified, and
//! trouble that begins is an alert.

use std::sync::{Arc, Weak};

use jiff::Timestamp;
use job_engine::{ChangeKind, PoolHealth};

use super::{Happening, Indications};
use crate::cim::health::{Health, Troubles};
use crate::cim::instances::{computer_system, pool_of, volume};

impl Indications {
    /// What follows from a change of a pool. `troubles` are those before it, and then those behind it.
    pub(super) fn health_changed(
        &self,
        change: &ChangeKind,
        troubles: &mut Vec<Arc<PoolHealth>>,
    ) -> Vec<Happening> {
        let ChangeKind::PoolHealthChanged { pool, previous, current } = change else {
            return Vec::new();
        };
        let before = troubles.clone();
        troubles.retain(|it| it.pool != *pool);
        troubles.extend(current.clone());
        // As the engine has them.
        troubles.sort_by(|one, other| one.pool.cmp(&other.pool));
        let Some(engine) = self.state.get().and_then(Weak::upgrade) else { return Vec::new() };
        let before: &Troubles = &before;
        let after: &Troubles = troubles;
        let mut all = Vec::new();
        let own = engine.own_alerts();
        let system = |troubles: &Troubles| {
            computer_system(&self.system, &Health::of_system(own.first(), troubles))
        };
        all.extend(Happening::modified(system(before), system(after)));
        let settings = engine.pool_settings().into_iter().find(|(it, _)| it.id == *pool);
        if let Some((settings, _)) = settings {
            let pool =
                |troubles: &Troubles| pool_of(&settings, &Health::of_pool(&settings.id, troubles));
            all.extend(Happening::modified(pool(before), pool(after)));
        }
        let directory = current.as_ref().or(previous.as_ref()).map(|it| it.directory.as_path());
        let (disks, snapshots) = directory.map(|it| engine.images_in(it)).unwrap_or_default();
        for disk in &disks {
            let faulty = engine.faults_of(disk.id) > 0;
            let shown = |troubles: &Troubles| {
                volume(&self.system, disk, &Health::of_disk(disk, faulty, troubles))
            };
            all.extend(Happening::modified(shown(before), shown(after)));
        }
        for snapshot in &snapshots {
            let shown = |troubles: &Troubles| self.replica(snapshot, troubles);
            all.extend(Happening::modified(shown(before), shown(after)));
        }
        all.extend(current.iter().map(|it| self.alert_of(&it.error, Timestamp::now())));
        all
    }
}
