//! Who changes the tables: reference counts, and taking and giving up host clusters.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::gates::L1;
use super::{Kind, Problem, Qcow2Image};
use crate::cache::Table;
use crate::error::{ImageError, ImageErrorKind, Operation};

/// The file becomes longer by at least so much at a time.
const EXTEND_BYTES: u64 = 1 << 20;
/// Reference count blocks that one allocation may need on its way.
const MARGIN_CLUSTERS: u64 = 4096;

/// Everything that only one thread may change at a time.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) l1: Arc<L1>,
    pub(super) l1_offset: u64,
    /// Entries that the file does not have yet.
    pub(super) l1_dirty: BTreeSet<u64>,
    /// Offsets of the reference count blocks.
    pub(super) counts: Vec<u64>,
    pub(super) counts_offset: u64,
    pub(super) counts_dirty: BTreeSet<usize>,
    /// The first cluster that was never used: reads zeroes.
    pub(super) end: u64,
    /// Bytes that the file has.
    pub(super) length: u64,
    /// Runs of clusters that are known to be free: first, how many.
    pub(super) free: BTreeMap<u64, u64>,
    /// Clusters that free ones are still looked for in.
    pub(super) unscanned: Range<u64>,
    /// Clusters that have lost a reference, which the file still has.
    pub(super) released: Vec<u64>,
    /// Guest clusters that somebody is giving a new place.
    pub(super) busy: Vec<Range<u64>>,
}

/// A piece of a reference count block, and the first bit of a count in it.
type Counted = (Arc<Table<Kind>>, usize);

/// Host clusters that were taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    /// Offset of the first.
    pub(super) host: u64,
    /// How many, one behind the other.
    pub(super) count: u64,
    /// They were never used, and read zeroes.
    pub(super) fresh: bool,
}

impl Qcow2Image {
    pub(super) fn owner(&self) -> MutexGuard<'_, Owner> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner's place, when nobody gives these guest clusters a new one.
    pub(super) fn owner_of(&self, clusters: &Range<u64>) -> MutexGuard<'_, Owner> {
        let overlaps = |busy: &Range<u64>| busy.start < clusters.end && clusters.start < busy.end;
        let mut owner = self.owner();
        while owner.busy.iter().any(overlaps) {
            owner = self.idle.wait(owner).unwrap_or_else(PoisonError::into_inner);
        }
        owner
    }

    /// Nobody has to wait for these guest clusters any more.
    pub(super) fn done_with(&self, owner: &mut Owner, clusters: &Range<u64>) {
        if let Some(at) = owner.busy.iter().position(|busy| busy == clusters) {
            owner.busy.swap_remove(at);
        }
        self.idle.notify_all();
    }

    pub(super) fn note_change(&self) {
        self.changed.fetch_add(1, Ordering::AcqRel);
    }

    fn metadata_error(&self, problem: Problem) -> ImageError {
        ImageError::new(problem.kind, Operation::Write, self.file.path().clone())
            .because(problem.reason)
    }

    fn corrupt(&self, reason: String) -> ImageError {
        self.metadata_error(Problem::new(ImageErrorKind::Corrupt, reason))
    }

    /// The piece of a reference count block that counts `cluster`, and the first bit of the count
    /// in it. `None`: there is no block, so the count is 0.
    fn count_table(&self, owner: &Owner, cluster: u64) -> Result<Option<Counted>, ImageError> {
        let per_block = self.geometry.counts_per_block();
        let block = usize::try_from(cluster / per_block).ok();
        let block = block.and_then(|block| owner.counts.get(block)).copied().unwrap_or(0);
        if block == 0 {
            return Ok(None);
        }
        let bit = (cluster % per_block) << self.geometry.refcount_order;
        let piece = u64::try_from(self.tables.block_bytes()).unwrap_or(u64::MAX);
        let offset = block + bit / 8 / piece * piece;
        let table = self.tables.get(&*self.file, offset, Kind::Count, |_| Ok(()))?;
        Ok(Some((table, usize::try_from(bit % (piece * 8)).unwrap_or(0))))
    }

    /// How often a host cluster is referred to.
    pub(super) fn count(&self, owner: &Owner, cluster: u64) -> Result<u64, ImageError> {
        let Some((table, bit)) = self.count_table(owner, cluster)? else { return Ok(0) };
        Ok(read_count(|at| table.byte(at), bit, self.geometry.refcount_order))
    }

    pub(super) fn set_count(
        &self,
        owner: &Owner,
        cluster: u64,
        count: u64,
    ) -> Result<(), ImageError> {
        let Some((table, bit)) = self.count_table(owner, cluster)? else {
            return Err(self.corrupt(format!("cluster {cluster} has no reference count block")));
        };
        let order = self.geometry.refcount_order;
        if order < 3 {
            let mask = ((1_u8 << (1 << order)) - 1) << (bit % 8);
            let value = u8::try_from(count & 0xff).unwrap_or(0) << (bit % 8);
            table.set_byte(bit / 8, table.byte(bit / 8) & !mask | value & mask);
        } else {
            let bytes = 1_usize << (order - 3);
            let all = count.to_be_bytes();
            let value = all.get(8 - bytes..).unwrap_or_default();
            for (n, byte) in value.iter().enumerate() {
                table.set_byte(bit / 8 + n, *byte);
            }
        }
        self.tables.mark_dirty(&table);
        self.note_change();
        Ok(())
    }

    /// Whether the reference count table has room for what an allocation may need.
    fn has_room(&self, owner: &Owner) -> bool {
        let per_block = self.geometry.counts_per_block();
        let last = (owner.end + MARGIN_CLUSTERS.max(per_block)) / per_block;
        usize::try_from(last).is_ok_and(|last| last < owner.counts.len())
    }

    /// Sees to it that the reference count table does not end in the middle of an allocation. Call it
    /// without any lock.
    pub(super) fn make_room(&self) -> Result<(), ImageError> {
        let outgrown = {
            let owner = self.owner();
            !self.has_room(&owner)
        };
        if outgrown { self.grow_count_table() } else { Ok(()) }
    }

    /// Takes 1 to `wanted` clusters that lie side by side; their count is 1.
    pub(super) fn take(&self, owner: &mut Owner, wanted: u64) -> Result<Taken, ImageError> {
        if owner.free.is_empty() {
            self.look_for_free(owner)?;
        }
        if let Some((start, length)) = owner.free.pop_first() {
            let count = length.min(wanted);
            if length > count {
                owner.free.insert(start + count, length - count);
            }
            self.use_clusters(owner, start, count)?;
            return Ok(Taken { host: start << self.geometry.cluster_bits, count, fresh: false });
        }
        self.take_behind(owner, wanted)
    }

    /// Takes exactly `count` clusters side by side that were never used.
    pub(super) fn take_behind(&self, owner: &mut Owner, count: u64) -> Result<Taken, ImageError> {
        let per_block = self.geometry.counts_per_block();
        // A block that has to be made takes a cluster itself.
        loop {
            self.skip_lost(owner, count)?;
            let (first, last) = (owner.end / per_block, (owner.end + count - 1) / per_block);
            let mut missing = (first..=last).filter(|block| !has_block(owner, *block));
            let Some(block) = missing.next() else { break };
            drop(missing);
            self.make_block(owner, block)?;
        }
        let start = owner.end;
        self.extend(owner, start + count)?;
        owner.end = start + count;
        self.use_clusters(owner, start, count)?;
        Ok(Taken { host: start << self.geometry.cluster_bits, count, fresh: true })
    }

    fn use_clusters(&self, owner: &mut Owner, start: u64, count: u64) -> Result<(), ImageError> {
        for cluster in start..start + count {
            if self.count(owner, cluster)? != 0 || self.is_metadata(cluster) {
                return Err(self.corrupt(format!("cluster {cluster} is in use, and was not to be")));
            }
            self.set_count(owner, cluster, 1)?;
        }
        Ok(())
    }

    /// After a crash, clusters behind the end may be counted although the file never got so long:
    /// the next `count` clusters must not be such.
    fn skip_lost(&self, owner: &mut Owner, count: u64) -> Result<(), ImageError> {
        let mut at = owner.end;
        while at < owner.end + count {
            if self.count(owner, at)? != 0 {
                owner.end = at + 1;
            }
            at += 1;
        }
        Ok(())
    }

    /// Makes a reference count block behind the end, where it may count itself.
    fn make_block(&self, owner: &mut Owner, block: u64) -> Result<(), ImageError> {
        self.skip_lost(owner, 1)?;
        let place = owner.end;
        let own = place / self.geometry.counts_per_block();
        if own != block && !has_block(owner, own) {
            return self.make_block(owner, own);
        }
        let index = usize::try_from(block).unwrap_or(usize::MAX);
        if index >= owner.counts.len() {
            let reason = "the reference count table is full".to_owned();
            return Err(self.metadata_error(Problem::new(ImageErrorKind::Unsupported, reason)));
        }
        self.extend(owner, place + 1)?;
        owner.end = place + 1;
        if let Some(entry) = owner.counts.get_mut(index) {
            *entry = place << self.geometry.cluster_bits;
        }
        owner.counts_dirty.insert(index);
        self.add_metadata(place, 1);
        self.set_count(owner, place, 1)
    }

    /// Makes the file long enough for clusters up to `end`.
    fn extend(&self, owner: &mut Owner, end: u64) -> Result<(), ImageError> {
        let wanted = end << self.geometry.cluster_bits;
        if wanted > owner.length {
            let length = wanted.next_multiple_of(EXTEND_BYTES);
            self.file.set_length(length)?;
            owner.length = length;
            self.file_end.store(length, Ordering::Release);
        }
        Ok(())
    }

    /// Looks at one more piece of the counts that the file had when it was opened.
    fn look_for_free(&self, owner: &mut Owner) -> Result<(), ImageError> {
        let piece = u64::try_from(self.tables.block_bytes()).unwrap_or(u64::MAX) * 8;
        let span = piece >> self.geometry.refcount_order;
        let Range { start, end } = owner.unscanned.clone();
        let stop = (start / span + 1).saturating_mul(span).min(end);
        if start >= stop {
            return Ok(());
        }
        owner.unscanned.start = stop;
        if !has_block(owner, start / self.geometry.counts_per_block()) {
            return Ok(());
        }
        for cluster in start..stop {
            if self.count(owner, cluster)? == 0 && !self.is_metadata(cluster) {
                add_free(owner, cluster);
            }
        }
        Ok(())
    }

    /// Takes back clusters that were taken and never referred to.
    pub(super) fn give_back(&self, owner: &mut Owner, taken: Taken) {
        let start = self.geometry.index(taken.host);
        for cluster in start..start + taken.count {
            match self.set_count(owner, cluster, 0) {
                Ok(()) => add_free(owner, cluster),
                Err(error) => tracing::warn!(cluster, %error, "a cluster is lost"),
            }
        }
    }

    /// Says that a reference to clusters is gone; they are free when the file says so too.
    pub(super) fn release(&self, owner: &mut Owner, offset: u64, length: u64) {
        let geometry = self.geometry;
        let last = geometry.index(offset + length.max(1) - 1);
        owner.released.extend(geometry.index(offset)..=last);
        self.note_change();
    }

    /// Frees clusters whose references are gone from the file. The commit lock is held.
    pub(super) fn reclaim(&self, mut released: Vec<u64>) {
        if released.is_empty() {
            return;
        }
        // Whoever found them in a table before that was changed has come out after this.
        self.gates.quiesce();
        released.sort_unstable();
        let mut gone = Vec::new();
        {
            let owner = self.owner();
            for same in released.chunk_by(|one, other| one == other) {
                let (Some(cluster), times) = (same.first(), same.len() as u64) else { continue };
                if self.count(&owner, *cluster).is_ok_and(|count| count == times) {
                    gone.push(*cluster);
                }
            }
        }
        self.punch(&gone);
        let mut owner = self.owner();
        for same in released.chunk_by(|one, other| one == other) {
            let (Some(cluster), times) = (same.first(), same.len() as u64) else { continue };
            let left = self.count(&owner, *cluster).map(|count| count.checked_sub(times));
            let done = match left {
                Ok(Some(left)) => self.set_count(&owner, *cluster, left).map(|()| left),
                Ok(None) => Err(self.corrupt("its reference count is too small".to_owned())),
                Err(error) => Err(error),
            };
            match done {
                Ok(0) => {
                    self.remove_metadata(*cluster);
                    add_free(&mut owner, *cluster);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(cluster, %error, "a cluster cannot be freed"),
            }
        }
    }

    /// Gives the space of clusters back that nobody uses and nobody can take yet.
    fn punch(&self, clusters: &[u64]) {
        for run in clusters.chunk_by(|one, other| one + 1 == *other) {
            let Some(first) = run.first() else { continue };
            let offset = first << self.geometry.cluster_bits;
            let length = (run.len() as u64) << self.geometry.cluster_bits;
            if let Err(error) = self.file.punch(offset, length) {
                tracing::debug!(%error, "space is not given back");
            }
        }
    }
}

/// A count among the bytes of a block, from its first bit on.
pub(super) fn read_count(byte: impl Fn(usize) -> u8, bit: usize, order: u32) -> u64 {
    if order < 3 {
        let mask = (1_u8 << (1 << order)) - 1;
        return u64::from(byte(bit / 8) >> (bit % 8) & mask);
    }
    let bytes = 1_usize << (order - 3);
    (0..bytes).fold(0, |count, n| count << 8 | u64::from(byte(bit / 8 + n)))
}

fn has_block(owner: &Owner, block: u64) -> bool {
    let index = usize::try_from(block).ok();
    index.and_then(|index| owner.counts.get(index)).is_some_and(|offset| *offset != 0)
}

/// A cluster is free. One that will be looked at later is found then.
fn add_free(owner: &mut Owner, cluster: u64) {
    if owner.unscanned.contains(&cluster) {
        return;
    }
    let before = owner.free.range(..cluster).next_back().map(|(start, length)| (*start, *length));
    if let Some((start, length)) = before
        && start + length == cluster
    {
        owner.free.insert(start, length + 1);
    } else {
        owner.free.insert(cluster, 1);
    }
}
