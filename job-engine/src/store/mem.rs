//! A store in memory, for tests: what was committed outlives the store, as on a medium.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Batch, KeyValue, Store, StoreError, Tree};

/// The "medium" under a [`MemStore`]; cheap to clone, all clones are one.
#[derive(Debug, Clone, Default)]
pub struct MemContents(Arc<Mutex<Contents>>);

#[derive(Debug, Default)]
struct Contents {
    values: BTreeMap<(Tree, Vec<u8>), Vec<u8>>,
    commits: u64,
    /// Commits that still succeed; `None` is no limit.
    left: Option<u64>,
    /// The commit that fails is done all the same: the error came after the effect.
    done_before_error: bool,
}

impl MemContents {
    /// Lets `count` more commits succeed. The one after them fails, and so do all others until
    /// this is called again; with `done_before_error` the first failing one is done all the same.
    pub fn fail_after(&self, count: Option<u64>, done_before_error: bool) {
        let mut contents = self.0.lock();
        contents.left = count;
        contents.done_before_error = done_before_error;
    }

    /// Commits done so far.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.0.lock().commits
    }
}

/// A store in memory.
#[derive(Debug)]
pub struct MemStore {
    contents: MemContents,
    failed: bool,
}

impl MemStore {
    /// Opens the medium.
    #[must_use]
    pub fn open(contents: &MemContents) -> Self {
        Self { contents: contents.clone(), failed: false }
    }
}

fn refused() -> StoreError {
    StoreError::Unavailable("told to fail".to_owned())
}

impl Store for MemStore {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.contents.0.lock().values.get(&(tree, key.to_vec())).cloned())
    }

    fn scan(&self, tree: Tree) -> Result<Vec<KeyValue>, StoreError> {
        let contents = self.contents.0.lock();
        let values = contents.values.iter().filter(|((of, _), _)| *of == tree);
        Ok(values.map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if self.failed {
            return Err(refused());
        }
        let mut contents = self.contents.0.lock();
        let fails = match &mut contents.left {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        if fails {
            self.failed = true;
            if !std::mem::take(&mut contents.done_before_error) {
                return Err(refused());
            }
        }
        for operation in batch.operations() {
            let key = (operation.tree, operation.key.clone());
            match &operation.value {
                Some(value) => contents.values.insert(key, value.clone()),
                None => contents.values.remove(&key),
            };
        }
        contents.commits += 1;
        if fails { Err(refused()) } else { Ok(()) }
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        if self.contents.0.lock().left == Some(0) {
            return Err(refused());
        }
        self.failed = false;
        Ok(())
    }
}
