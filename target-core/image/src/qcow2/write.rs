//! Writing: in place where the disk has a cluster for itself, else to a new one.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::entry::Mapping;
use super::owner::Taken;
use super::{Kind, Qcow2Image};
use crate::cache::Table;
use crate::error::ImageError;
use crate::image::{Durability, Wait};
use crate::slices::part;

/// The most that gets a new place at once, in bytes.
const MAX_RUN_BYTES: u64 = 2 << 20;

/// Guest clusters that are getting a new place.
struct Move {
    first: u64,
    taken: Taken,
    /// The place is new, and not one that was kept for them.
    is_new: bool,
    table: Arc<Table<Kind>>,
    word: usize,
    /// What the first and the last map to until then.
    before: (Mapping, Mapping),
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Qcow2Image {
    pub(super) fn write_clusters(
        &self,
        bufs: &[IoSlice<'_>],
        offset: u64,
        length: u64,
        durability: Durability,
    ) -> Result<(), ImageError> {
        let mut done = 0;
        let mut settled = true;
        while done < length {
            let (at, left) = (offset + done, length - done);
            let count = self.write_in_place(bufs, done, at, left, durability)?;
            if count > 0 {
                done += count;
            } else {
                settled = false;
                done += self.write_elsewhere(bufs, done, at, left)?;
            }
        }
        if self.tables.is_pressed() {
            self.commit()?;
        }
        // What was written in place may be found only through tables that the file has not got yet.
        if durability == Durability::Durable && !(settled && self.is_settled()) {
            self.commit()?;
        }
        Ok(())
    }

    /// Writes what can be written at once; 0 if the first cluster needs a new place.
    fn write_in_place(
        &self,
        bufs: &[IoSlice<'_>],
        skip: u64,
        at: u64,
        left: u64,
        durability: Durability,
    ) -> Result<u64, ImageError> {
        let Some(l1) = self.gates.enter(Wait::Block) else { return Ok(0) };
        let Some((place, count)) = self.in_place(&l1, at, left)? else { return Ok(0) };
        if skip == 0 && count == left {
            self.file.write(bufs, place, durability)?;
        } else {
            self.file.write(&part(bufs, index(skip), index(count)), place, durability)?;
        }
        Ok(count)
    }

    /// Writes the first clusters to a new place; 0 if they have got one meanwhile.
    fn write_elsewhere(
        &self,
        bufs: &[IoSlice<'_>],
        skip: u64,
        at: u64,
        left: u64,
    ) -> Result<u64, ImageError> {
        self.make_room()?;
        let geometry = self.geometry;
        let first = geometry.index(at);
        let most = (MAX_RUN_BYTES >> geometry.cluster_bits).max(1).min(self.same_piece(first));
        let end = (geometry.index(at + left - 1) + 1).min(first + most);
        let Some(moved) = self.begin_move(first, end)? else { return Ok(0) };
        let clusters = first..first + moved.taken.count;
        let stop = (clusters.end << geometry.cluster_bits).min(at + left);
        let data = part(bufs, index(skip), index(stop - at));
        let filled = self.fill(&moved, &data, at, stop);
        let mut owner = self.owner();
        match filled {
            Ok(()) => {
                for n in 0..moved.taken.count {
                    let word = moved.word + index(n);
                    if moved.is_new {
                        let before = self.parse(moved.table.be(word), first + n);
                        self.release_mapping(&mut owner, before.unwrap_or(Mapping::Unallocated));
                    }
                    let host = moved.taken.host + (n << geometry.cluster_bits);
                    moved.table.set_be(word, Mapping::Data { host, copied: true }.entry());
                }
                self.tables.mark_dirty(&moved.table);
                self.note_change();
            }
            Err(_) if moved.is_new => self.give_back(&mut owner, moved.taken),
            Err(_) => {}
        }
        self.done_with(&mut owner, &clusters);
        filled.map(|()| stop - at)
    }

    /// Takes host clusters for the first of these guest clusters. `None` if it has one.
    fn begin_move(&self, first: u64, end: u64) -> Result<Option<Move>, ImageError> {
        let mut owner = self.owner_of(&(first..end));
        let (table, word) = self.table_for_change(&mut owner, first)?;
        let mapping = |n: u64| self.parse_for_change(table.be(word + index(n)), first + n);
        let before = mapping(0)?;
        let kept = match before {
            Mapping::Data { copied: true, .. } => return Ok(None),
            Mapping::Zero { host, copied: true } if host != 0 => Some(host),
            Mapping::Unallocated
            | Mapping::Data { .. }
            | Mapping::Zero { .. }
            | Mapping::Compressed { .. } => None,
        };
        let taken = if let Some(host) = kept {
            Taken { host, count: 1, fresh: false }
        } else {
            let mut wanted = 1;
            while first + wanted < end && needs_new_place(mapping(wanted)?) {
                wanted += 1;
            }
            self.take(&mut owner, wanted)?
        };
        let last = if taken.count == 1 { before } else { mapping(taken.count - 1)? };
        owner.busy.push(first..first + taken.count);
        Ok(Some(Move { first, taken, is_new: kept.is_none(), table, word, before: (before, last) }))
    }

    /// Fills the new place: the data, and around it what was there before.
    fn fill(
        &self,
        moved: &Move,
        data: &[IoSlice<'_>],
        at: u64,
        stop: u64,
    ) -> Result<(), ImageError> {
        let bits = self.geometry.cluster_bits;
        let start = moved.first << bits;
        let end = (moved.first + moved.taken.count) << bits;
        let head = self.padding(moved, moved.before.0, start, at)?;
        let tail = self.padding(moved, moved.before.1, stop, end)?;
        let mut all = Vec::with_capacity(data.len() + 2);
        let mut place = moved.taken.host + (at - start);
        if let Some(head) = &head {
            place = moved.taken.host;
            all.push(IoSlice::new(head));
        }
        all.extend(data.iter().map(|buf| IoSlice::new(buf)));
        if let Some(tail) = &tail {
            all.push(IoSlice::new(tail));
        }
        self.file.write(&all, place, Durability::Cached)
    }

    /// What the disk shows from `from` to `to`; `None` if there is nothing to write there.
    fn padding(
        &self,
        moved: &Move,
        before: Mapping,
        from: u64,
        to: u64,
    ) -> Result<Option<Vec<u8>>, ImageError> {
        if from >= to {
            return Ok(None);
        }
        let zeroes = match before {
            Mapping::Unallocated => from >= self.parent_end(),
            Mapping::Zero { .. } => true,
            Mapping::Data { .. } | Mapping::Compressed { .. } => false,
        };
        if zeroes && moved.taken.fresh {
            return Ok(None);
        }
        let mut bytes = vec![0; index(to - from)];
        if !zeroes {
            // Behind the end of the disk there is nothing.
            let capacity = self.capacity.load(Ordering::Acquire);
            let there = index(capacity.saturating_sub(from).min(to - from));
            if let Some(bytes) = bytes.get_mut(..there) {
                self.old_content(before, from, bytes)?;
            }
        }
        Ok(Some(bytes))
    }
}

fn needs_new_place(mapping: Mapping) -> bool {
    match mapping {
        Mapping::Unallocated | Mapping::Compressed { .. } => true,
        Mapping::Data { copied, .. } => !copied,
        Mapping::Zero { host, copied } => host == 0 || !copied,
    }
}
