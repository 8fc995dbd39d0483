//! The store on sled 0.34.
//!
//! sled's `flush` uses `sync_file_range`, which makes nothing durable: after it, the file is synced
//! through a handle of our own before anybody is told. Its errors are sticky: after one, the
//! database is closed and opened anew. A crash inside of its open can leave a snapshot
//! `*.generating` that makes every later open fail; it is only an index and is removed first.

use std::fs::{File, Permissions};
use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sled::Transactional as _;
use sled::transaction::TransactionError;

use super::{Batch, KeyValue, Store, StoreError, Tree};
use crate::failpoint;

/// The database is small; the default cache is a gigabyte.
const CACHE_BYTES: u64 = 4 << 20;

/// How long a handle of our own that is still being dropped may hold sled's lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// The file that everything of sled's lies in.
const LOG_FILE: &str = "db";

/// An open database.
struct Open {
    db: sled::Db,
    trees: Vec<sled::Tree>,
    file: File,
}

/// The store.
pub struct SledStore {
    directory: PathBuf,
    open: Option<Open>,
    reason: String,
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SledStore({})", self.directory.display())
    }
}

/// How an open went.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: SledStore,
    /// The damaged database was moved here, and the store is empty.
    pub moved_to: Option<PathBuf>,
}

impl SledStore {
    /// Opens or makes the database in `directory`. A damaged one is moved aside.
    ///
    /// # Errors
    /// `Unavailable` if the reason is not in the database: no space, no permission, in use.
    pub fn open(directory: &Path) -> Result<Opened, StoreError> {
        match try_open(directory) {
            Ok(open) => Ok(Opened { store: Self::with(directory, open), moved_to: None }),
            Err(StoreError::Damaged(reason)) => Self::replace(directory, &reason),
            Err(error) => Err(error),
        }
    }

    /// Moves this database aside: sled takes a damaged log for one that ends there, so only
    /// somebody with a second source can say that something is missing.
    pub(crate) fn give_up(self, reason: &str) -> Result<Opened, StoreError> {
        let directory = self.directory.clone();
        drop(self);
        Self::replace(&directory, reason)
    }

    fn replace(directory: &Path, reason: &str) -> Result<Opened, StoreError> {
        let moved_to = move_aside(directory)?;
        tracing::error!(
            database = %directory.display(), moved_to = %moved_to.display(), reason,
            "the database is damaged and was moved aside"
        );
        let open = try_open(directory)?;
        Ok(Opened { store: Self::with(directory, open), moved_to: Some(moved_to) })
    }

    fn with(directory: &Path, open: Open) -> Self {
        Self { directory: directory.to_path_buf(), open: Some(open), reason: String::new() }
    }

    fn opened(&self) -> Result<&Open, StoreError> {
        self.open.as_ref().ok_or_else(|| StoreError::Unavailable(self.reason.clone()))
    }

    fn tree(&self, tree: Tree) -> Result<&sled::Tree, StoreError> {
        let index = Tree::ALL.iter().position(|candidate| *candidate == tree);
        let found = index.and_then(|index| self.open.as_ref()?.trees.get(index));
        found.ok_or_else(|| StoreError::Unavailable(self.reason.clone()))
    }
}

impl Open {
    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let result = self.trees.as_slice().transaction(|trees| {
            for operation in batch.operations() {
                let index = Tree::ALL.iter().position(|tree| *tree == operation.tree);
                if let Some(tree) = index.and_then(|index| trees.get(index)) {
                    match &operation.value {
                        Some(value) => tree.insert(operation.key.as_slice(), value.as_slice())?,
                        None => tree.remove(operation.key.as_slice())?,
                    };
                }
            }
            Ok(())
        });
        match result {
            Ok(()) => {}
            Err(TransactionError::Abort(())) => {
                return Err(StoreError::Unavailable("the transaction was aborted".to_owned()));
            }
            Err(TransactionError::Storage(error)) => return Err(classify(&error)),
        }
        self.db.flush().map_err(|error| classify(&error))?;
        failpoint::hit("store.flushed");
        rustix::io::retry_on_intr(|| rustix::fs::fdatasync(&self.file)).map_err(|errno| {
            StoreError::Unavailable(format!(
                "cannot sync the database: {}",
                describe(&errno.into())
            ))
        })
    }
}

impl Store for SledStore {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.tree(tree)?.get(key).map_err(|error| classify(&error))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(&self, tree: Tree) -> Result<Vec<KeyValue>, StoreError> {
        let items = self.tree(tree)?.iter();
        items
            .map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())))
            .collect::<Result<_, _>>()
            .map_err(|error| classify(&error))
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let open = self.opened()?;
        // sled panics where it finds its own invariants broken; the daemon must outlive that.
        let result = catch_unwind(AssertUnwindSafe(|| open.commit(batch)))
            .unwrap_or_else(|_| Err(StoreError::Unavailable("the database panicked".to_owned())));
        if let Err(error) = &result {
            self.reason = error.to_string();
            self.open = None;
        }
        result
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        if self.open.is_none() {
            match try_open(&self.directory) {
                Ok(open) => self.open = Some(open),
                Err(error) => {
                    self.reason = error.to_string();
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

fn describe(error: &std::io::Error) -> String {
    error.to_string()
}

/// Whose fault it is: the database's or the system's.
fn classify(error: &sled::Error) -> StoreError {
    match error {
        sled::Error::Io(io)
            if matches!(io.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData) =>
        {
            StoreError::Damaged(describe(io))
        }
        sled::Error::Io(io) => StoreError::Unavailable(describe(io)),
        sled::Error::Corruption { .. }
        | sled::Error::ReportableBug(_)
        | sled::Error::Unsupported(_)
        | sled::Error::CollectionNotFound(_) => StoreError::Damaged(error.to_string()),
    }
}

/// sled keeps seven threads that look up once a second whether there is work; they inherit how
/// late a timer may be from the thread that starts them. With an hour they sleep until they are
/// woken, and a daemon that has nothing to do does nothing. `open` itself must not sleep: that
/// sleep, too, would end an hour late.
fn with_lazy_timers<T>(open: impl FnOnce() -> T) -> std::thread::Result<T> {
    let hour = NonZeroU64::new(3_600_000_000_000);
    let before = rustix::thread::current_timer_slack().ok().and_then(NonZeroU64::new);
    let lazy = before.is_some() && rustix::thread::set_current_timer_slack(hour).is_ok();
    let result = catch_unwind(AssertUnwindSafe(open));
    if lazy {
        let _ = rustix::thread::set_current_timer_slack(before);
    }
    result
}

fn try_open(directory: &Path) -> Result<Open, StoreError> {
    open_and_check(directory, || std::thread::sleep(Duration::from_millis(10)))
}

/// Calls `wait` before it tries a database again that is locked.
fn open_and_check(directory: &Path, mut wait: impl FnMut()) -> Result<Open, StoreError> {
    let unavailable = |error: std::io::Error| StoreError::Unavailable(describe(&error));
    std::fs::create_dir_all(directory).map_err(unavailable)?;
    // Hashes of passwords are in it.
    std::fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(unavailable)?;
    remove_unfinished_snapshots(directory).map_err(unavailable)?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        let config = sled::Config::new()
            .path(directory)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .mode(sled::Mode::LowSpace);
        let result = with_lazy_timers(|| config.open());
        match result {
            Ok(Ok(db)) => return finish_open(directory, db),
            // Our own lock keeps other daemons out: this is a handle of ours on its way out.
            Ok(Err(sled::Error::Io(io))) if is_locked(&io) && Instant::now() < deadline => wait(),
            Ok(Err(error)) => return Err(classify(&error)),
            Err(_) => {
                return Err(StoreError::Damaged("it panicked while it was opened".to_owned()));
            }
        }
    }
}

/// sled hides the kind of this error; only its text tells.
fn is_locked(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::Other && error.to_string().starts_with("could not acquire lock")
}

fn finish_open(directory: &Path, db: sled::Db) -> Result<Open, StoreError> {
    let trees = catch_unwind(AssertUnwindSafe(|| {
        Tree::ALL.iter().map(|tree| db.open_tree(tree.name())).collect::<Result<Vec<_>, _>>()
    }));
    let trees = match trees {
        Ok(result) => result.map_err(|error| classify(&error))?,
        Err(_) => return Err(StoreError::Damaged("it panicked while it was read".to_owned())),
    };
    let file = File::open(directory.join(LOG_FILE))
        .map_err(|error| StoreError::Unavailable(describe(&error)))?;
    db.flush().map_err(|error| classify(&error))?;
    file.sync_all().map_err(|error| StoreError::Unavailable(describe(&error)))?;
    sync_directory(directory)?;
    Ok(Open { db, trees, file })
}

fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    let synced = File::open(directory).and_then(|file| file.sync_all());
    synced.map_err(|error| StoreError::Unavailable(describe(&error)))
}

/// Removes what a crash inside of sled's open left.
fn remove_unfinished_snapshots(directory: &Path) -> std::io::Result<()> {
    let mut removed = false;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(entry.path())?;
            removed = true;
        }
    }
    if removed { File::open(directory)?.sync_all() } else { Ok(()) }
}

/// Renames the database to `<name>.corrupt-<seconds since 1970>`.
fn move_aside(directory: &Path) -> Result<PathBuf, StoreError> {
    let seconds = jiff::Timestamp::now().as_second();
    let mut target = directory.as_os_str().to_owned();
    target.push(format!(".corrupt-{seconds}"));
    let mut target = PathBuf::from(target);
    let mut number = 0_u32;
    while target.exists() {
        number += 1;
        target.set_extension(format!("corrupt-{seconds}-{number}"));
    }
    std::fs::rename(directory, &target)
        .map_err(|error| StoreError::Unavailable(describe(&error)))?;
    if let Some(parent) = directory.parent() {
        sync_directory(parent)?;
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_somebody_has_is_told_from_other_errors() {
        let directory = tempfile::tempdir().unwrap();
        let open = || sled::Config::new().path(directory.path()).open();
        let held = open().unwrap();
        match open() {
            Err(sled::Error::Io(error)) => assert!(is_locked(&error), "{error:?}"),
            other => panic!("{other:?}"),
        }
        drop(held);
        assert!(!is_locked(&std::io::Error::from(ErrorKind::PermissionDenied)));
    }

    #[test]
    fn a_locked_database_is_waited_for_with_timers_that_are_on_time() {
        let directory = tempfile::tempdir().unwrap();
        let before = rustix::thread::current_timer_slack().unwrap();
        let mut held = Some(sled::Config::new().path(directory.path()).open().unwrap());
        let mut waits = 0;
        let opened = open_and_check(directory.path(), || {
            assert_eq!(rustix::thread::current_timer_slack().unwrap(), before);
            held = None;
            waits += 1;
        });
        assert!(opened.is_ok() && waits > 0, "{waits}");
        assert_eq!(rustix::thread::current_timer_slack().unwrap(), before);
    }
}
