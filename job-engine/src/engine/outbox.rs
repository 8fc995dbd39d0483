//! Messages about changes, stored in the transaction that makes the change: whoever sends them on
//! finds them again after a crash, and none without its change.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use jiff::Timestamp;

use super::Engine;
use super::core::Core;
use super::state::{Change, JobEntry, JobRecord, State};
use crate::catalogue::{Disk, PoolHealth, StoredRecord};
use crate::error::{Cause, RequestError};
use crate::event::ChangeKind;
use crate::failpoint;

/// Whoever makes messages of changes.
pub trait Outbox: fmt::Debug + Send + Sync {
    /// What the store holds, before the engine changes anything: what [`Engine::records`] tells,
    /// and the messages by key.
    fn open(&self, records: Vec<StoredRecord>, messages: Vec<StoredRecord>);

    /// The engine whose state may be looked at, before it changes anything: jobs of an earlier run go on
    /// before [`Engine::open`] returns.
    fn engine(&self, engine: Weak<Engine>);

    /// Messages about changes that are about to become durable, and those that give way to them
    /// (without a text). On the engine's thread: it may look at the state, which is that before the
    /// changes, and must not ask the engine for anything else.
    fn tell(&self, changes: &[ChangeKind]) -> Vec<(String, Option<String>)>;

    /// The changes of the last [`Outbox::tell`] are durable, or nobody will hear of them.
    fn done(&self, durable: bool);
}

impl Engine {
    /// The text of a message that is in the store.
    #[must_use]
    pub fn message(&self, key: &str) -> Option<String> {
        self.shared.state.lock().messages.get(key).cloned()
    }

    /// Removes messages; durable when it returns. Keys that are not there are no matter.
    ///
    /// # Errors
    /// `StoreUnavailable`, `ShuttingDown`.
    pub fn remove_messages(&self, keys: Vec<String>) -> Result<(), RequestError> {
        let remove = move |core: &mut Core| {
            let mut keys = keys;
            {
                let state = core.shared.state.lock();
                keys.retain(|key| state.messages.contains_key(key));
            }
            if keys.is_empty() {
                return Ok(());
            }
            let changes = keys.into_iter().map(Change::DeleteMessage).collect();
            core.commit_request(failpoint::CATALOGUE, changes)
        };
        let done = self.shared.call(remove);
        done.unwrap_or_else(|| Err(self.shared.refuse(Cause::ShuttingDown, None)))
    }
}

impl Core {
    /// Adds what is told of the changes to their transaction; whether [`Outbox::done`] is due.
    pub(super) fn tell(&self, changes: &mut Vec<Change>) -> bool {
        let Some(outbox) = &self.shared.config.outbox else { return false };
        let now = self.now();
        let foretold: Vec<ChangeKind> = {
            let state = self.shared.state.lock();
            changes.iter().filter_map(|change| state.foretell(change, now)).collect()
        };
        if foretold.is_empty() {
            return false;
        }
        let messages = outbox.tell(&foretold).into_iter();
        changes.extend(messages.map(|(name, text)| match text {
            Some(text) => Change::PutMessage(StoredRecord { name, text }),
            None => Change::DeleteMessage(name),
        }));
        true
    }

    pub(super) fn told(&self, durable: bool) {
        if let Some(outbox) = &self.shared.config.outbox {
            outbox.done(durable);
        }
    }
}

fn texts(by_name: &BTreeMap<String, String>) -> Vec<StoredRecord> {
    let record =
        |(name, text): (&String, &String)| StoredRecord { name: name.clone(), text: text.clone() };
    by_name.iter().map(record).collect()
}

impl State {
    /// What subscribers will be told of a change of jobs, disks, pools, snapshots, targets and LUNs that
    /// is about to be made: what [`State::apply`] will say of it, save of conditions.
    #[allow(clippy::too_many_lines, reason = "a table")]
    fn foretell(&self, change: &Change, now: Timestamp) -> Option<ChangeKind> {
        match change {
            Change::PutJob(record) => {
                let before = self.jobs.get(&record.job.id);
                let live = before.map_or_else(Arc::default, |entry| entry.live.clone());
                let entry = JobEntry {
                    record: Arc::new(JobRecord::clone(record)),
                    live,
                    text: Arc::default(),
                };
                let current = Arc::new(entry.view(now));
                Some(match before {
                    Some(before) => {
                        let previous = Arc::new(before.record.job.clone());
                        ChangeKind::JobChanged { previous, current }
                    }
                    None => ChangeKind::JobCreated(current),
                })
            }
            Change::DeleteJob(id) => {
                let entry = self.jobs.get(id)?;
                Some(ChangeKind::JobDeleted(Arc::new(entry.view(now))))
            }
            Change::PutDisk(disk) => {
                let known = self.disks.contains_key(&disk.id);
                let kind = if known { ChangeKind::DiskChanged } else { ChangeKind::DiskCreated };
                Some(kind(Arc::new(Disk::clone(disk))))
            }
            Change::DeleteDisk(id) => self.disks.get(id).cloned().map(ChangeKind::DiskDeleted),
            Change::PutSnapshot(snapshot) => {
                let before = self.snapshots.get(&snapshot.id).filter(|it| !it.hidden).cloned();
                match (before, snapshot.hidden) {
                    (None, false) => Some(ChangeKind::SnapshotCreated(Arc::new(snapshot.clone()))),
                    (Some(before), true) => Some(ChangeKind::SnapshotDeleted(before)),
                    (None, true) | (Some(_), false) => None,
                }
            }
            Change::DeleteSnapshot(id) => {
                let gone = self.snapshots.get(id).filter(|it| !it.hidden).cloned();
                gone.map(ChangeKind::SnapshotDeleted)
            }
            Change::PutTarget(target) => {
                let known = self.targets.contains_key(&target.name);
                let kind =
                    if known { ChangeKind::TargetChanged } else { ChangeKind::TargetCreated };
                Some(kind(Arc::new(target.clone())))
            }
            Change::DeleteTarget(name) => {
                self.targets.get(name).cloned().map(ChangeKind::TargetDeleted)
            }
            Change::PutMapping(mapping) => {
                Some(ChangeKind::MappingCreated(Arc::new(mapping.clone())))
            }
            Change::DeleteMapping { target, lun } => {
                let gone = self.mappings.get(&(target.clone(), *lun)).cloned();
                gone.map(ChangeKind::MappingDeleted)
            }
            Change::PutPool(pool) => {
                let known = self.pools.contains_key(&pool.id);
                let kind = if known { ChangeKind::PoolChanged } else { ChangeKind::PoolCreated };
                Some(kind(Arc::new(pool.clone())))
            }
            Change::DeletePool(id) => self.pools.get(id).cloned().map(ChangeKind::PoolDeleted),
            Change::PutPoolHealth(health) => Some(ChangeKind::PoolHealthChanged {
                pool: health.pool.clone(),
                previous: self.pool_health.get(&health.pool).cloned(),
                current: Some(Arc::new(PoolHealth::clone(health))),
            }),
            Change::DeletePoolHealth(pool) => {
                let previous = Some(self.pool_health.get(pool)?.clone());
                let pool = pool.clone();
                Some(ChangeKind::PoolHealthChanged { pool, previous, current: None })
            }
            Change::PutReservations(_)
            | Change::DeleteReservations(_)
            | Change::PutUser(_)
            | Change::DeleteUser(_)
            | Change::PutToken(_)
            | Change::DeleteToken(_)
            | Change::PutAccessState(_)
            | Change::DeleteAccessState { .. }
            | Change::PutModePages(_)
            | Change::PutRecord(_)
            | Change::DeleteRecord(_)
            | Change::PutCondition(_)
            | Change::DeleteCondition(_)
            | Change::PutDebris(_)
            | Change::DeleteDebris(_)
            | Change::PutMessage(_)
            | Change::DeleteMessage(_) => None,
        }
    }

    /// The messages, for whoever sends them.
    pub(super) fn stored_messages(&self) -> Vec<StoredRecord> {
        texts(&self.messages)
    }

    /// What others keep here.
    pub(super) fn stored_records(&self) -> Vec<StoredRecord> {
        texts(&self.records)
    }
}
