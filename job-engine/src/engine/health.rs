//! What is wrong with pools is written down when it begins, becomes something else and is over, and
//! told of then: once, whatever happens to the daemon.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::Engine;
use super::core::Core;
use super::pools::find_pool;
use super::state::{Change, State};
use crate::catalogue::{Disk, DiskSnapshot, Pool, PoolHealth, PoolState, Threshold, Trouble};
use crate::error::{Cause, CimError, ObjectPaths};
use crate::failpoint;
use crate::id::PoolId;
use crate::job::Element;

impl Engine {
    /// Takes note of pools that somebody has looked at. If the database cannot be written, the next
    /// call does what this one could not.
    pub fn pools_seen(&self, pools: &[Pool]) {
        let changes = {
            let state = self.shared.state.lock();
            changes(&state, pools, &self.shared.paths)
        };
        if changes.is_empty() {
            return;
        }
        let done = self.shared.call(move |core| core.note_health(changes));
        if let Some(Err(error)) = done {
            tracing::debug!(%error, "the state of pools is not written down yet");
        }
    }

    /// What was wrong with pools when they were looked at last. Asks nobody.
    #[must_use]
    pub fn pool_health(&self) -> Vec<Arc<PoolHealth>> {
        self.shared.state.lock().pool_health.values().cloned().collect()
    }

    /// Disks and snapshots in a directory.
    #[must_use]
    pub fn images_in(&self, directory: &Path) -> (Vec<Arc<Disk>>, Vec<Arc<DiskSnapshot>>) {
        let state = self.shared.state.lock();
        let inside = |path: &Path| path.parent() == Some(directory);
        let disks = state.disks.values().filter(|disk| inside(&disk.path)).cloned();
        let snapshots = state.visible_snapshots().filter(|it| inside(&it.path)).cloned();
        (disks.collect(), snapshots.collect())
    }

    /// What [`Engine::alerts`] says but of pools. Asks nobody.
    #[must_use]
    pub fn own_alerts(&self) -> Vec<CimError> {
        let state = self.shared.state.lock();
        let down = state.store_down.clone().map(|reason| {
            Cause::StoreUnavailable { reason }.to_cim_error(None, &self.shared.paths)
        });
        state.alerts.iter().cloned().chain(down).collect()
    }
}

impl Core {
    fn note_health(&mut self, mut changes: Vec<Change>) -> Result<(), crate::store::StoreError> {
        {
            let state = self.shared.state.lock();
            let config = &self.shared.config;
            changes.retain(|change| {
                if let Change::PutPoolHealth(health) = change {
                    // It may have gone since it was looked at.
                    return find_pool(config, &state, &health.pool).is_some();
                }
                matches!(change, Change::DeletePoolHealth(pool) if state.pool_health.contains_key(pool))
            });
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.commit(failpoint::CATALOGUE, changes)
    }
}

fn changes(state: &State, pools: &[Pool], paths: &ObjectPaths) -> Vec<Change> {
    let mut changes = Vec::new();
    for pool in pools {
        let before = state.pool_health.get(&pool.id);
        match trouble(pool, before.map(|it| it.trouble)) {
            Some((trouble, _)) if before.is_some_and(|it| it.trouble == trouble) => {}
            Some((trouble, cause)) => {
                let element = Element::Pool(pool.id.clone());
                let reason = match &pool.state {
                    PoolState::Unavailable(reason) => reason.clone(),
                    PoolState::Ready if trouble == Trouble::Exhausted => {
                        Trouble::EXHAUSTED.to_owned()
                    }
                    PoolState::Ready => "the pool is below a soft threshold".to_owned(),
                };
                changes.push(Change::PutPoolHealth(Box::new(PoolHealth {
                    pool: pool.id.clone(),
                    directory: pool.directory.clone(),
                    trouble,
                    reason,
                    error: cause.to_cim_error(Some(&element), paths),
                })));
            }
            None if before.is_some() => changes.push(Change::DeletePoolHealth(pool.id.clone())),
            None => {}
        }
    }
    // Pools that the configuration names no more.
    let there: BTreeSet<&PoolId> = pools.iter().map(|pool| &pool.id).collect();
    let gone = state.pool_health.keys().filter(|id| !there.contains(id)).cloned();
    changes.extend(gone.map(Change::DeletePoolHealth));
    changes
}

/// A threshold that the space was below is one until the space is a sixteenth above it.
pub(super) fn trouble(pool: &Pool, before: Option<Trouble>) -> Option<(Trouble, Cause)> {
    let name = pool.id.to_string();
    if let PoolState::Unavailable(reason) = &pool.state {
        let (directory, reason) = (pool.directory.clone(), reason.clone());
        let cause = Cause::PoolUnavailable { pool: name, directory, reason };
        return Some((Trouble::Unavailable, cause));
    }
    let free = pool.free_bytes.saturating_add(pool.reserved_bytes);
    let below = |threshold: u64, was: bool| {
        let margin = if was { threshold / 16 } else { 0 };
        free < threshold.saturating_add(margin)
    };
    let bytes = |threshold: &Threshold| threshold.bytes(pool.total_bytes);
    if let Some(threshold) = pool.limits.hard_threshold.as_ref().map(bytes)
        && below(threshold, before == Some(Trouble::Exhausted))
    {
        let cause = Cause::PoolExhausted { pool: name, free, threshold };
        return Some((Trouble::Exhausted, cause));
    }
    let was = before == Some(Trouble::NearlyFull);
    let soft = pool.limits.soft_thresholds.iter().map(bytes);
    let threshold = soft.filter(|it| below(*it, was)).min()?;
    Some((Trouble::NearlyFull, Cause::PoolNearlyFull { pool: name, free, threshold }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::PoolLimits;

    #[test]
    fn space_that_goes_up_and_down_at_a_threshold_is_one_trouble() {
        let mut pool = Pool {
            id: PoolId("p".to_owned()),
            directory: "/p".into(),
            configured: false,
            limits: PoolLimits {
                soft_thresholds: vec![Threshold::Bytes(320)],
                hard_threshold: Some(Threshold::Bytes(160)),
                ..PoolLimits::default()
            },
            total_bytes: 1000,
            free_bytes: 0,
            reserved_bytes: 0,
            provisioned_bytes: 0,
            disks: 0,
            state: PoolState::Ready,
        };
        let mut before = None;
        let mut look = |free, reserved, state| {
            (pool.free_bytes, pool.reserved_bytes, pool.state) = (free, reserved, state);
            before = trouble(&pool, before).map(|(trouble, _)| trouble);
            before
        };
        let gone = PoolState::Unavailable("gone".to_owned());
        for (free, expected) in [
            (320, None),
            (319, Some(Trouble::NearlyFull)),
            (339, Some(Trouble::NearlyFull)),
            (340, None),
            (330, None),
            (159, Some(Trouble::Exhausted)),
            (169, Some(Trouble::Exhausted)),
            (170, Some(Trouble::NearlyFull)),
            (165, Some(Trouble::NearlyFull)),
        ] {
            assert_eq!(look(free, 0, PoolState::Ready), expected, "{free} free");
        }
        assert_eq!(look(0, 0, gone), Some(Trouble::Unavailable));
        assert_eq!(look(100, 250, PoolState::Ready), None, "what is reserved is not used");
    }
}
