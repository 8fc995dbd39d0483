//! The cache keeps its bound, and never loses or resurrects a change.

use super::*;
use crate::error::Operation;
use crate::fault::Fault;
use crate::mem_file::MemFile;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    First,
    Second,
}

const BLOCK: usize = 64;

fn file(blocks: u8) -> MemFile {
    let bytes = (0..blocks).flat_map(|n| [n; BLOCK]).collect();
    MemFile::new(bytes, 1 << 20)
}

fn get(cache: &TableCache<Kind>, file: &MemFile, block: u64) -> Arc<Table<Kind>> {
    cache.get(file, block * BLOCK as u64, Kind::First, |_| Ok(())).unwrap()
}

fn cached(cache: &TableCache<Kind>) -> usize {
    cache.shards.iter().map(|shard| shard.read().unwrap().len()).sum()
}

#[test]
fn words_and_bytes_are_where_the_file_has_them() {
    let file = MemFile::new((0..64).collect(), 64);
    let cache = TableCache::new(BLOCK, &CacheBudget::of(1 << 20));
    let table = get(&cache, &file, 0);
    assert_eq!((table.len(), table.kind(), table.offset()), (8, Kind::First, 0));
    assert_eq!(table.be(1), 0x0809_0a0b_0c0d_0e0f);
    assert_eq!(table.le(1), 0x0f0e_0d0c_0b0a_0908);
    assert_eq!((table.byte(0), table.byte(13), table.byte(64)), (0, 13, 0));
    table.set_be(0, 1);
    table.set_le(1, 2);
    table.set_byte(63, 3);
    let bytes = table.bytes();
    assert_eq!(bytes[..16], [0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[62..], [62, 3]);
}

#[test]
fn clean_tables_are_given_up_and_held_or_dirty_ones_are_not() {
    let file = file(255);
    let cache = TableCache::new(BLOCK, &CacheBudget::of(64 * BLOCK));
    let held = get(&cache, &file, 3);
    let changed = get(&cache, &file, 19);
    changed.set_be(0, 7);
    cache.mark_dirty(&changed);
    drop(changed);
    for block in 0..255 {
        let table = get(&cache, &file, block);
        assert_eq!(table.byte(9), u8::try_from(block).unwrap());
    }
    assert!(cached(&cache) <= 64, "{}", cached(&cache));
    assert!(Arc::ptr_eq(&held, &get(&cache, &file, 3)));
    assert_eq!(get(&cache, &file, 19).be(0), 7, "a change is lost");
    assert!(cache.peek(254 * 64, |_| ()).is_some() && cache.peek(1 << 40, |_| ()).is_none());
}

#[test]
fn what_is_used_stays() {
    let file = file(255);
    let cache = TableCache::new(BLOCK, &CacheBudget::of(64 * BLOCK));
    for block in (0..255).step_by(16) {
        get(&cache, &file, block);
        assert!(cache.peek(0, |_| ()).is_some(), "{block}");
    }
}

#[test]
fn kinds_are_written_apart_and_a_failed_write_leaves_them_dirty() {
    let file = file(8);
    let cache = TableCache::new(BLOCK, &CacheBudget::of(1 << 20));
    for (block, kind) in [(1, Kind::First), (2, Kind::First), (5, Kind::First), (3, Kind::Second)] {
        let table = cache.get(&file, block * BLOCK as u64, kind, |_| Ok(())).unwrap();
        table.set_be(0, 0xaa);
        cache.mark_dirty(&table);
        cache.mark_dirty(&table);
    }
    file.record();
    file.inject(Fault::errno(Operation::Write, 28).within(320..384).times(1));
    let taken = cache.take_dirty(Kind::First);
    assert_eq!(taken.iter().map(|(offset, _)| offset).collect::<Vec<_>>(), [64, 128, 320]);
    assert!(taken.write(&file).is_err());
    taken.put_back(&cache);
    let taken = cache.take_dirty(Kind::First);
    // Changed while it is being written: it is dirty again, with the later content.
    let again = get(&cache, &file, 1);
    again.set_be(1, 0xbb);
    cache.mark_dirty(&again);
    taken.write(&file).unwrap();
    drop(taken);
    assert_eq!(file.events().len(), 3, "neighbours are written at once");
    assert_eq!(file.contents()[64 + 7], 0xaa);
    assert_eq!(file.contents()[64 + 15], 1);
    assert_eq!(file.contents()[192 + 7], 3, "the other kind waits");
    assert!(cache.is_dirty());
    cache.take_dirty(Kind::First).write(&file).unwrap();
    assert_eq!(file.contents()[64 + 15], 0xbb);
    assert!(!cache.take_dirty(Kind::Second).is_empty());
    assert!(!cache.is_dirty());
}

#[test]
fn a_table_that_is_refused_is_not_cached_and_a_new_one_replaces_the_old() {
    let file = file(8);
    let cache = TableCache::new(BLOCK, &CacheBudget::of(1 << 20));
    let refuse = |_: &Table<Kind>| {
        let path = std::path::Path::new("x");
        Err(ImageError::new(crate::error::ImageErrorKind::Corrupt, Operation::Read, path))
    };
    assert!(cache.get(&file, 64, Kind::First, refuse).is_err());
    assert!(cache.peek(64, |_| ()).is_none());
    get(&cache, &file, 1);
    let new = cache.create(64, Kind::Second);
    assert_eq!((new.be(0), new.kind(), cache.is_dirty()), (0, Kind::Second, true));
    assert!(cache.get(&file, 10_000, Kind::First, |_| Ok(())).is_err());
    cache.forget(64);
    assert!(!cache.is_dirty());
    assert_eq!(get(&cache, &file, 1).byte(0), 1);
}

#[test]
fn what_is_held_read_and_given_up_is_counted() {
    let file = file(255);
    let cache = TableCache::new(BLOCK, &CacheBudget::of(64 * BLOCK));
    let limit_bytes = 64 * BLOCK as u64;
    assert_eq!(cache.counters(), CacheCounters { limit_bytes, ..CacheCounters::default() });
    for block in 0..200 {
        get(&cache, &file, block);
        get(&cache, &file, block);
    }
    cache.mark_dirty(&get(&cache, &file, 199));
    let found = cache.counters();
    assert_eq!((found.loads, found.dirty_bytes), (200, BLOCK as u64));
    assert_eq!(found.bytes, (200 - found.evictions) * BLOCK as u64);
    assert!(found.bytes <= limit_bytes);
}

#[test]
fn writing_is_due_before_the_cache_is_full() {
    let file = file(255);
    let cache = TableCache::new(BLOCK, &CacheBudget::of(64 * BLOCK));
    let mut dirty = 0;
    while !cache.is_pressed() {
        cache.mark_dirty(&get(&cache, &file, dirty));
        dirty += 1;
    }
    assert_eq!(dirty, 16);
}

#[test]
fn shares_of_a_budget_get_smaller_and_what_is_beyond_them_is_given_up() {
    let (budget, file) = (CacheBudget::of(128 * BLOCK), file(255));
    let first = TableCache::new(BLOCK, &budget);
    for block in 0..128 {
        get(&first, &file, block);
    }
    assert!(cached(&first) > 96, "{}", cached(&first));
    let second = TableCache::new(BLOCK, &budget);
    let third = TableCache::new(BLOCK, &budget);
    first.trim();
    assert!(cached(&first) <= 32, "{}", cached(&first));
    let limits = [&first, &second, &third].map(|cache| cache.counters().limit_bytes / BLOCK as u64);
    assert_eq!(limits, [32, 32, 64]);
    drop((second, third));
    assert_eq!(first.counters().limit_bytes, 128 * BLOCK as u64);
}
