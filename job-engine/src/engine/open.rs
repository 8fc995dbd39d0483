//! Opening the data directory: lock, database, journal, and what a crash left.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::configuration::{begin_epoch, generation_of};
use super::state::{Change, JobRecord, State, batch};
use super::{EngineConfig, OpenError};
use crate::catalogue::{
    Disk, Mapping, StoredAccessState, StoredCondition, StoredModePages, StoredRecord,
    StoredReservations, Target, Token, User,
};
use crate::error::{Cause, ObjectPaths};
use crate::store::{
    BadRecord, Batch, DirectoryLock, Journal, JournalEntry, LockError, MIGRATIONS, SledStore,
    Store, StoreError, Tree, current_schema, load, mark, migrate, put_mark, put_schema,
};

/// Name of the database in the data directory.
pub(super) const DATABASE: &str = "db";

/// What an engine starts from.
pub(super) struct Foundation {
    pub(super) state: State,
    pub(super) store: Box<dyn Store>,
    pub(super) journal: Option<Journal>,
    pub(super) lock: Option<DirectoryLock>,
}

/// Opens everything in the data directory.
pub(super) fn open_directory(config: &EngineConfig) -> Result<Foundation, OpenError> {
    let directory = &config.directory;
    make_directory(directory)?;
    let lock = DirectoryLock::take(directory).map_err(|error| match error {
        LockError::Held(pid) => OpenError::InUse { directory: directory.clone(), pid },
        LockError::Io(path, source) => OpenError::Io { operation: "lock", path, source },
    })?;
    make_directory(&config.default_pool)?;
    let database = directory.join(DATABASE);
    let refused =
        |error: StoreError| OpenError::Store { path: database.clone(), reason: error.to_string() };
    let (mut journal, entries) = Journal::open(directory).map_err(|source| OpenError::Io {
        operation: "open the journal in",
        path: directory.clone(),
        source,
    })?;
    let mut opened = SledStore::open(&database).map_err(refused)?;
    migrate(&mut opened.store, MIGRATIONS).map_err(refused)?;
    let known = mark(&opened.store).map_err(refused)?.unwrap_or(journal.number());
    if opened.moved_to.is_none() && known < journal.number() {
        let reason = format!("{} transactions are missing", journal.number() - known);
        opened = opened.store.give_up(&reason).map_err(refused)?;
    }
    journal.raise_to(known);
    let mut store: Box<dyn Store> = Box::new(opened.store);
    let now = config.clock.now();
    let mut state = State::default();
    let paths = ObjectPaths::new(config.system_name.clone());
    let replayed = replay(entries, now);
    if let Some(moved_to) = opened.moved_to {
        let mut everything = replayed.everything();
        let restored = everything.len();
        // The journal may know less than clients have seen.
        begin_epoch(&mut everything, 0, now);
        let mut all = batch(&everything).map_err(refused)?;
        put_mark(&mut all, journal.number()).map_err(refused)?;
        put_schema(&mut all, current_schema()).map_err(refused)?;
        store.commit(&all).map_err(refused)?;
        let cause = Cause::StoreReplaced { moved_to, restored };
        state.alerts.push(cause.to_cim_error(None, &paths));
    }
    let bad = read(&*store, &mut state, now).map_err(refused)?;
    for entry in state.unfinished.iter().filter_map(|id| state.jobs.get(id)) {
        if let Err(error) = crate::plan::recover(&entry.record) {
            tracing::error!(job = %entry.record.job.id, %error, "a roll back is not complete yet");
        }
    }
    if !bad.is_empty() {
        let restored = repair(&mut *store, &bad, &replayed, now).map_err(refused)?;
        let cause = Cause::RecordsDamaged { damaged: bad.len(), restored };
        tracing::error!(damaged = bad.len(), restored, "records of the database are damaged");
        let mut alerts = std::mem::take(&mut state.alerts);
        alerts.push(cause.to_cim_error(None, &paths));
        state = State { alerts, ..State::default() };
        // Nothing bad is left: it was replaced or removed.
        read(&*store, &mut state, now).map_err(refused)?;
    }
    // A crash between database and journal leaves the journal behind.
    if state.catalogue() != replayed.catalogue() {
        let number = journal.number();
        let entry = JournalEntry::new(now, number, true, state.catalogue());
        if let Err(error) = journal.append(&entry) {
            tracing::warn!(%error, "the journal cannot be written");
        }
    }
    Ok(Foundation { state, store, journal: Some(journal), lock: Some(lock) })
}

/// The foundation on a store alone: no lock, no journal.
pub(super) fn open_store(
    config: &EngineConfig,
    mut store: Box<dyn Store>,
) -> Result<Foundation, OpenError> {
    make_directory(&config.default_pool)?;
    let mut state = State::default();
    let refused =
        |error: StoreError| OpenError::Store { path: PathBuf::new(), reason: error.to_string() };
    migrate(&mut *store, MIGRATIONS).map_err(refused)?;
    let bad = read(&*store, &mut state, config.clock.now()).map_err(refused)?;
    if let Some(record) = bad.first() {
        return Err(refused(StoreError::Damaged(record.reason.clone())));
    }
    Ok(Foundation { state, store, journal: None, lock: None })
}

pub(super) fn make_directory(path: &Path) -> Result<(), OpenError> {
    std::fs::create_dir_all(path).map_err(|source| OpenError::Io {
        operation: "make the directory",
        path: path.to_path_buf(),
        source,
    })
}

/// Fills the state from the database.
fn read(
    store: &dyn Store,
    state: &mut State,
    now: jiff::Timestamp,
) -> Result<Vec<BadRecord>, StoreError> {
    let mut bad = Vec::new();
    let mut changes = Vec::new();
    let (disks, damaged) = load::<Disk>(store, Tree::Disks)?;
    changes.extend(disks.into_iter().map(|disk| Change::PutDisk(Box::new(disk))));
    bad.extend(damaged);
    let (targets, damaged) = load::<Target>(store, Tree::Targets)?;
    changes.extend(targets.into_iter().map(Change::PutTarget));
    bad.extend(damaged);
    let (mappings, damaged) = load::<Mapping>(store, Tree::Mappings)?;
    changes.extend(mappings.into_iter().map(Change::PutMapping));
    bad.extend(damaged);
    let (reservations, damaged) = load::<StoredReservations>(store, Tree::Reservations)?;
    changes.extend(reservations.into_iter().map(Change::PutReservations));
    bad.extend(damaged);
    let (users, damaged) = load::<User>(store, Tree::Users)?;
    changes.extend(users.into_iter().map(Change::PutUser));
    bad.extend(damaged);
    let (tokens, damaged) = load::<Token>(store, Tree::Tokens)?;
    changes.extend(tokens.into_iter().map(Change::PutToken));
    bad.extend(damaged);
    let (states, damaged) = load::<StoredAccessState>(store, Tree::AccessStates)?;
    changes.extend(states.into_iter().map(Change::PutAccessState));
    bad.extend(damaged);
    let (pages, damaged) = load::<StoredModePages>(store, Tree::ModePages)?;
    changes.extend(pages.into_iter().map(Change::PutModePages));
    bad.extend(damaged);
    let (records, damaged) = load::<StoredRecord>(store, Tree::Records)?;
    changes.extend(records.into_iter().map(Change::PutRecord));
    bad.extend(damaged);
    let (conditions, damaged) = load::<StoredCondition>(store, Tree::Conditions)?;
    changes.extend(conditions.into_iter().map(Change::PutCondition));
    bad.extend(damaged);
    let (jobs, damaged) = load::<JobRecord>(store, Tree::Jobs)?;
    changes.extend(jobs.into_iter().map(|job| Change::PutJob(Box::new(job))));
    bad.extend(damaged);
    let (snapshots, damaged) = load(store, Tree::Snapshots)?;
    changes.extend(snapshots.into_iter().map(Change::PutSnapshot));
    bad.extend(damaged);
    let (messages, damaged) = load(store, Tree::Messages)?;
    changes.extend(messages.into_iter().map(Change::PutMessage));
    bad.extend(damaged);
    let (pools, damaged) = load(store, Tree::Pools)?;
    changes.extend(pools.into_iter().map(Change::PutPool));
    bad.extend(damaged);
    let (health, damaged) = load(store, Tree::PoolHealth)?;
    changes.extend(health.into_iter().map(|it| Change::PutPoolHealth(Box::new(it))));
    bad.extend(damaged);
    let (debris, damaged) = load(store, Tree::Debris)?;
    changes.extend(debris.into_iter().map(Change::PutDebris));
    bad.extend(damaged);
    for change in changes {
        state.apply(change, now);
    }
    state.sequence = 0;
    Ok(bad)
}

/// What the journal says.
pub(super) fn replay(entries: Vec<JournalEntry>, now: jiff::Timestamp) -> State {
    let mut state = State::default();
    for entry in entries {
        if entry.reset {
            state.disks.clear();
            state.targets.clear();
            state.mappings.clear();
            state.reservations.clear();
            state.snapshots.clear();
            state.pools.clear();
            state.users.clear();
            state.tokens.clear();
            state.access_states.clear();
            state.mode_pages.clear();
            state.records.clear();
            state.conditions.clear();
        }
        for change in entry.changes {
            state.apply(change, now);
        }
    }
    state
}

/// Replaces damaged records by what the journal says of them, and removes the others. Says how
/// many could be replaced.
fn repair(
    store: &mut dyn Store,
    bad: &[BadRecord],
    journal: &State,
    now: jiff::Timestamp,
) -> Result<usize, StoreError> {
    let known = batch(&journal.everything())?;
    let known: BTreeMap<_, _> = known
        .operations()
        .iter()
        .map(|operation| ((operation.tree, &operation.key), &operation.value))
        .collect();
    let mut repair = Batch::default();
    let mut restored = 0;
    for record in bad {
        match known.get(&(record.tree, &record.key)) {
            Some(Some(value)) => {
                repair.put_raw(record.tree, &record.key, value.clone());
                restored += 1;
            }
            Some(None) | None => repair.delete(record.tree, &record.key),
        }
    }
    let (records, _) = load::<StoredRecord>(store, Tree::Records)?;
    let mut epoch = Vec::new();
    begin_epoch(&mut epoch, generation_of(&records).max(journal.generation()), now);
    for operation in batch(&epoch)?.operations() {
        if let Some(value) = &operation.value {
            repair.put_raw(operation.tree, &operation.key, value.clone());
        }
    }
    store.commit(&repair)?;
    Ok(restored)
}
