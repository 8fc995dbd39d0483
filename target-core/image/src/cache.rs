//! A bounded cache of a format's tables: pieces of the file that say where the disk's blocks are.
//!
//! A table is looked up and read without an exclusive lock. It is changed by one owner at a time,
//! who holds the format's own lock for that, and is dirty from then on; only clean tables that
//! nobody holds are given up. The cache never writes on its own: the format takes what is dirty
//! ([`TableCache::take_dirty`], a copy of one moment), writes it in the order that keeps the file
//! whole ([`Taken::write`]), and puts back what could not be written.

mod budget;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

pub use self::budget::CacheBudget;
use self::budget::CacheShare;
use crate::block_file::BlockFile;
use crate::error::ImageError;

/// Cached bytes of the tables of a disk and its parents, unless somebody says otherwise.
pub const DEFAULT_CACHE_BYTES: usize = 32 << 20;

const SHARDS: usize = 16;
const WORD: usize = 8;
/// The longest write of tables that lie side by side.
const MAX_RUN: usize = 1 << 20;

/// What a cache of tables holds and has done. How often a table was there is not counted: that
/// would be a write to memory for every read of the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheCounters {
    /// Bytes of tables that are held.
    pub bytes: u64,
    /// Bytes that may be held.
    pub limit_bytes: u64,
    /// Bytes that are not written yet.
    pub dirty_bytes: u64,
    /// Tables read from the file since the image is open.
    pub loads: u64,
    /// Tables given up for others.
    pub evictions: u64,
}

/// A piece of a table, of the cache's block size. Words are kept as the file has them, so the
/// accessors name the byte order.
#[derive(Debug)]
pub(crate) struct Table<K> {
    offset: u64,
    kind: K,
    words: Box<[AtomicU64]>,
    used: AtomicBool,
    dirty: AtomicBool,
}

impl<K: Copy> Table<K> {
    fn new(offset: u64, kind: K, bytes: &[u8]) -> Self {
        let word = |bytes: &[u8]| AtomicU64::new(u64::from_ne_bytes(to_array(bytes)));
        let words = bytes.chunks(WORD).map(word).collect();
        Self { offset, kind, words, used: AtomicBool::new(false), dirty: AtomicBool::new(false) }
    }

    /// Where it lies in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// What kind it is.
    pub(crate) fn kind(&self) -> K {
        self.kind
    }

    /// How many words it has.
    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    fn load(&self, index: usize) -> u64 {
        self.words.get(index).map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn store(&self, index: usize, word: u64) {
        if let Some(place) = self.words.get(index) {
            place.store(word, Ordering::Release);
        }
    }

    /// Word `index`, big-endian in the file.
    pub(crate) fn be(&self, index: usize) -> u64 {
        u64::from_be(self.load(index))
    }

    /// Word `index`, little-endian in the file.
    pub(crate) fn le(&self, index: usize) -> u64 {
        u64::from_le(self.load(index))
    }

    /// Changes a word. For its owner alone, who marks it dirty.
    pub(crate) fn set_be(&self, index: usize, value: u64) {
        self.store(index, value.to_be());
    }

    /// Changes a word. For its owner alone, who marks it dirty.
    pub(crate) fn set_le(&self, index: usize, value: u64) {
        self.store(index, value.to_le());
    }

    /// Byte `index` of it.
    pub(crate) fn byte(&self, index: usize) -> u8 {
        let bytes = self.load(index / WORD).to_ne_bytes();
        bytes.get(index % WORD).copied().unwrap_or(0)
    }

    /// Changes a byte. For its owner alone, who marks it dirty.
    pub(crate) fn set_byte(&self, index: usize, value: u8) {
        let mut bytes = self.load(index / WORD).to_ne_bytes();
        if let Some(byte) = bytes.get_mut(index % WORD) {
            *byte = value;
        }
        self.store(index / WORD, u64::from_ne_bytes(bytes));
    }

    /// A copy of it, as it belongs into the file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let words = self.words.iter().map(|word| word.load(Ordering::Acquire));
        words.flat_map(u64::to_ne_bytes).collect()
    }
}

fn to_array(bytes: &[u8]) -> [u8; WORD] {
    let mut array = [0; WORD];
    for (to, from) in array.iter_mut().zip(bytes) {
        *to = *from;
    }
    array
}

type Shard<K> = HashMap<u64, Arc<Table<K>>>;

/// The cache. `K` tells tables apart that are written at different times.
#[derive(Debug)]
pub(crate) struct TableCache<K> {
    block_bytes: usize,
    share: CacheShare,
    shards: [RwLock<Shard<K>>; SHARDS],
    /// Held while a table is read from the file, so that what was written in between and given up
    /// again cannot come back as it was before.
    loading: [Mutex<()>; SHARDS],
    dirty: Mutex<BTreeMap<u64, Arc<Table<K>>>>,
    dirty_count: AtomicUsize,
    loads: AtomicU64,
    evictions: AtomicU64,
}

impl<K: Copy + PartialEq> TableCache<K> {
    /// A cache that takes a share of a budget, in pieces of `block_bytes`, a multiple of 8; it has
    /// some of them in any case.
    pub(crate) fn new(block_bytes: usize, budget: &CacheBudget) -> Self {
        Self {
            block_bytes,
            share: budget.join(),
            shards: Default::default(),
            loading: Default::default(),
            dirty: Mutex::default(),
            dirty_count: AtomicUsize::new(0),
            loads: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    /// The budget that it has a share of.
    pub(crate) fn budget(&self) -> &CacheBudget {
        self.share.budget()
    }

    /// Pieces that a shard may hold now.
    fn blocks_per_shard(&self) -> usize {
        (self.share.bytes() / self.block_bytes.max(WORD) / SHARDS).max(1)
    }

    /// Gives up what is beyond its share, which got smaller.
    pub(crate) fn trim(&self) {
        let limit = self.blocks_per_shard();
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            if shard.len() > limit {
                self.make_room(&mut shard, limit);
            }
        }
    }

    /// What it holds and has done.
    pub(crate) fn counters(&self) -> CacheCounters {
        let held =
            |shard: &RwLock<Shard<K>>| shard.read().unwrap_or_else(PoisonError::into_inner).len();
        let bytes = |tables: usize| {
            u64::try_from(tables.saturating_mul(self.block_bytes)).unwrap_or(u64::MAX)
        };
        CacheCounters {
            bytes: bytes(self.shards.iter().map(held).sum()),
            limit_bytes: bytes(self.blocks_per_shard() * SHARDS),
            dirty_bytes: bytes(self.dirty_count.load(Ordering::Relaxed)),
            loads: self.loads.load(Ordering::Relaxed),
            evictions: self.evictions.load(Ordering::Relaxed),
        }
    }

    /// Bytes in a piece.
    pub(crate) fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    fn shard(&self, offset: u64) -> usize {
        let block = offset / u64::try_from(self.block_bytes.max(1)).unwrap_or(1);
        usize::try_from(block % SHARDS as u64).unwrap_or(0)
    }

    fn find(&self, offset: u64) -> Option<Arc<Table<K>>> {
        self.peek(offset, Arc::clone)
    }

    /// Looks into the table at `offset` if it is cached; never waits for the file.
    pub(crate) fn peek<R>(&self, offset: u64, look: impl FnOnce(&Arc<Table<K>>) -> R) -> Option<R> {
        let shard = self.shards.get(self.shard(offset))?.read();
        let shard = shard.unwrap_or_else(PoisonError::into_inner);
        let table = shard.get(&offset)?;
        // Written only when it changes: readers share the line.
        if !table.used.load(Ordering::Relaxed) {
            table.used.store(true, Ordering::Relaxed);
        }
        Some(look(table))
    }

    /// The table at `offset`, read from `file` if need be; `check` sees it before it is cached. It
    /// stays cached while somebody holds it.
    pub(crate) fn get(
        &self,
        file: &dyn BlockFile,
        offset: u64,
        kind: K,
        check: impl FnOnce(&Table<K>) -> Result<(), ImageError>,
    ) -> Result<Arc<Table<K>>, ImageError> {
        if let Some(table) = self.find(offset) {
            return Ok(table);
        }
        let _loading = self.loading(offset);
        if let Some(table) = self.find(offset) {
            return Ok(table);
        }
        let mut bytes = vec![0; self.block_bytes];
        file.read_at(&mut bytes, offset)?;
        self.loads.fetch_add(1, Ordering::Relaxed);
        let table = Table::new(offset, kind, &bytes);
        check(&table)?;
        Ok(self.insert(table))
    }

    /// A new table of zeroes at `offset`, dirty; what was cached of that place is forgotten.
    pub(crate) fn create(&self, offset: u64, kind: K) -> Arc<Table<K>> {
        let loading = self.loading(offset);
        self.forget_loaded(offset);
        let table = self.insert(Table::new(offset, kind, &vec![0; self.block_bytes]));
        drop(loading);
        self.mark_dirty(&table);
        table
    }

    /// Forgets the table at `offset`, dirty or not: the place is no table any more.
    pub(crate) fn forget(&self, offset: u64) {
        let _loading = self.loading(offset);
        self.forget_loaded(offset);
    }

    fn forget_loaded(&self, offset: u64) {
        let mut dirty = self.dirty();
        if dirty.remove(&offset).is_some() {
            self.dirty_count.store(dirty.len(), Ordering::Relaxed);
        }
        drop(dirty);
        if let Some(shard) = self.shards.get(self.shard(offset)) {
            shard.write().unwrap_or_else(PoisonError::into_inner).remove(&offset);
        }
    }

    fn loading(&self, offset: u64) -> Option<MutexGuard<'_, ()>> {
        let lock = self.loading.get(self.shard(offset))?;
        Some(lock.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn insert(&self, table: Table<K>) -> Arc<Table<K>> {
        let table = Arc::new(table);
        if let Some(shard) = self.shards.get(self.shard(table.offset)) {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            let limit = self.blocks_per_shard();
            if shard.len() >= limit {
                self.make_room(&mut shard, limit);
            }
            shard.insert(table.offset, table.clone());
        }
        table
    }

    /// Gives up an eighth of a shard, and what is beyond its limit: what has not been used since the
    /// last time, then anything.
    fn make_room(&self, shard: &mut Shard<K>, limit: usize) {
        let mut wanted = (limit / 8).max(1) + shard.len().saturating_sub(limit);
        let before = shard.len();
        for _ in 0..2 {
            shard.retain(|_, table| {
                // Nobody can take hold of it now: that needs the shard's lock.
                let free = wanted > 0
                    && Arc::strong_count(table) == 1
                    && !table.dirty.load(Ordering::Acquire)
                    && !table.used.swap(false, Ordering::Relaxed);
                wanted -= usize::from(free);
                !free
            });
        }
        let gone = u64::try_from(before - shard.len()).unwrap_or(0);
        self.evictions.fetch_add(gone, Ordering::Relaxed);
    }

    fn dirty(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Table<K>>>> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a table that the caller holds was changed.
    pub(crate) fn mark_dirty(&self, table: &Arc<Table<K>>) {
        if !table.dirty.swap(true, Ordering::AcqRel) {
            let mut dirty = self.dirty();
            dirty.insert(table.offset, table.clone());
            self.dirty_count.store(dirty.len(), Ordering::Relaxed);
        }
    }

    /// Whether so much is dirty that it is time to write.
    pub(crate) fn is_pressed(&self) -> bool {
        let dirty = self.dirty_count.load(Ordering::Relaxed);
        // Each write asks: nearly always nothing is dirty.
        dirty > 0 && dirty * 4 >= self.blocks_per_shard() * SHARDS
    }

    /// Whether anything has to be written.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty_count.load(Ordering::Relaxed) != 0
    }

    /// What is dirty of a kind, as it is now, ascending by offset; it counts as clean from then on.
    /// The caller holds the lock under which tables are changed.
    pub(crate) fn take_dirty(&self, kind: K) -> Taken<K> {
        let mut dirty = self.dirty();
        let mut tables = Vec::new();
        dirty.retain(|_, table| {
            let take = table.kind == kind;
            if take {
                tables.push(table.clone());
            }
            !take
        });
        self.dirty_count.store(dirty.len(), Ordering::Relaxed);
        drop(dirty);
        let take = |table: Arc<Table<K>>| {
            table.dirty.store(false, Ordering::Release);
            let bytes = table.bytes();
            (table, bytes)
        };
        Taken { tables: tables.into_iter().map(take).collect() }
    }
}

/// Tables that are being written. While this lives they stay cached, so nobody reads them from the
/// file as they were before.
#[derive(Debug)]
pub(crate) struct Taken<K> {
    tables: Vec<(Arc<Table<K>>, Vec<u8>)>,
}

impl<K: Copy + PartialEq> Taken<K> {
    /// There is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Each table's place and content.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.tables.iter().map(|(table, bytes)| (table.offset, bytes.as_slice()))
    }

    /// Writes them to their places, neighbours at once. Nothing is durable after this.
    pub(crate) fn write(&self, file: &dyn BlockFile) -> Result<(), ImageError> {
        let mut run: Vec<u8> = Vec::new();
        let mut start = 0;
        for (table, bytes) in &self.tables {
            let end = start + u64::try_from(run.len()).unwrap_or(0);
            if !run.is_empty() && (end != table.offset || run.len() >= MAX_RUN) {
                file.write_at(&run, start)?;
                run.clear();
            }
            if run.is_empty() {
                start = table.offset;
            }
            run.extend_from_slice(bytes);
        }
        if run.is_empty() { Ok(()) } else { file.write_at(&run, start) }
    }

    /// They could not be written: they are dirty as before.
    pub(crate) fn put_back(self, cache: &TableCache<K>) {
        for (table, _) in self.tables {
            cache.mark_dirty(&table);
        }
    }
}

#[cfg(test)]
mod tests;
