//! A saved state: the catalogue and the jobs that have ended, as one line of the journal. Jobs that
//! have not ended are not in it: what they would do again may have been done long ago.

use std::path::{Path, PathBuf};

use super::configuration::{begin_epoch, generation_of};
use super::open::{self, replay};
use super::state::{Change, State, batch};
use super::{Engine, EngineConfig, OpenError};
use crate::catalogue::StoredRecord;
use crate::store::{
    DirectoryLock, Journal, JournalEntry, LockError, SledStore, Store as _, StoreError, Tree,
    journal_line, load, parse_journal, put_mark, put_schema, schema,
};

/// Why a saved state was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// There is no line in the file that is whole.
    #[error("{} holds no saved state", path.display())]
    NoState {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a newer version.
    #[error("the saved state has schema {found}, this version knows those up to {known}")]
    TooNew {
        /// Its schema.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// There is a state already.
    #[error(
        "{} holds {records} records already; they are kept aside only if they are to be replaced",
        directory.display()
    )]
    NotEmpty {
        /// The data directory.
        directory: PathBuf,
        /// Records in its database.
        records: usize,
    },
}

/// What [`import_state`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Records that the database holds now.
    pub records: usize,
    /// Where the database is that was there before.
    pub moved_to: Option<PathBuf>,
}

impl State {
    /// What a saved state has.
    fn to_save(&self) -> Vec<Change> {
        let ended = self.jobs.values().filter(|entry| entry.record.job.state.is_terminal());
        let ended = ended.map(|entry| Change::PutJob(Box::new((*entry.record).clone())));
        self.catalogue().into_iter().chain(ended).collect()
    }
}

impl Engine {
    /// Everything that [`import_state`] brings back: one line of JSON with a checksum. It has the
    /// hashes of passwords and the secrets of CHAP in it.
    ///
    /// # Errors
    /// If it has no JSON form.
    pub fn export_state(&self) -> std::io::Result<String> {
        let changes = self.shared.state.lock().to_save();
        let (time, number) = (self.shared.now(), 0);
        journal_line(&JournalEntry::new(time, number, true, changes))
    }
}

/// Puts a saved state, or a journal, into a data directory that nobody uses.
///
/// With `replace`, a database that is there is moved aside first.
///
/// # Errors
/// See [`ImportError`]; nothing has been changed then, unless the database could not be written.
pub fn import_state(
    config: &EngineConfig,
    path: &Path,
    replace: bool,
) -> Result<Imported, ImportError> {
    let text = std::fs::read(path)
        .map_err(|source| ImportError::Unreadable { path: path.to_path_buf(), source })?;
    let entries = parse_journal(&text);
    if entries.is_empty() {
        return Err(ImportError::NoState { path: path.to_path_buf() });
    }
    let known = crate::store::current_schema();
    if let Some(found) = entries.iter().map(|entry| entry.schema).filter(|it| *it > known).max() {
        return Err(ImportError::TooNew { found, known });
    }
    let now = config.clock.now();
    let mut changes = replay(entries, now).to_save();
    let directory = &config.directory;
    open::make_directory(directory)?;
    let _lock = DirectoryLock::take(directory).map_err(|error| match error {
        LockError::Held(pid) => OpenError::InUse { directory: directory.clone(), pid },
        LockError::Io(path, source) => OpenError::Io { operation: "lock", path, source },
    })?;
    let database = directory.join(open::DATABASE);
    let refused =
        |error: StoreError| OpenError::Store { path: database.clone(), reason: error.to_string() };
    let mut opened = SledStore::open(&database).map_err(refused)?;
    if let Some(found) = schema(&opened.store).map_err(refused)?.filter(|it| *it > known) {
        return Err(ImportError::TooNew { found, known });
    }
    let mut records = 0;
    for tree in Tree::ALL.into_iter().filter(|tree| *tree != Tree::Meta) {
        records += opened.store.scan(tree).map_err(refused)?.len();
    }
    if records > 0 && !replace {
        return Err(ImportError::NotEmpty { directory: directory.clone(), records });
    }
    let (there, _) = load::<StoredRecord>(&opened.store, Tree::Records).map_err(refused)?;
    begin_epoch(&mut changes, generation_of(&there), now);
    if records > 0 {
        opened = opened.store.give_up("another state is imported").map_err(refused)?;
    }
    let io = |source| OpenError::Io {
        operation: "write the journal in",
        path: directory.clone(),
        source,
    };
    let (mut journal, _) = Journal::open(directory).map_err(io)?;
    // Higher than that of any journal, or the next start would believe that instead.
    let number = journal.number().saturating_add(1);
    let mut all = batch(&changes).map_err(refused)?;
    put_mark(&mut all, number).map_err(refused)?;
    put_schema(&mut all, known).map_err(refused)?;
    opened.store.commit(&all).map_err(refused)?;
    let records = changes.len();
    journal.append(&JournalEntry::new(now, number, true, changes)).map_err(io)?;
    Ok(Imported { records, moved_to: opened.moved_to })
}
