//! Zeroes without data: clusters are given back, flagged, or zeroed where they are.

use std::io::IoSlice;

use super::entry::Mapping;
use super::owner::Taken;
use super::{Problem, Qcow2Image};
use crate::error::{ImageError, ImageErrorKind};
use crate::image::{Durability, Wait};

/// Clusters that wait for a commit, at most.
const MAX_RELEASED: usize = 1 << 16;
/// The most that is allocated at once, in bytes.
const MAX_ALLOCATION: u64 = 64 << 20;

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Qcow2Image {
    /// Makes a range read zeroes.
    pub(super) fn zero(&self, offset: u64, length: u64, may_unmap: bool) -> Result<(), ImageError> {
        let geometry = self.geometry;
        let end = offset + length;
        // Nobody sees what is behind the end of the disk.
        let capacity = self.capacity.load(std::sync::atomic::Ordering::Acquire);
        let limit = if end == capacity { end.next_multiple_of(geometry.cluster()) } else { end };
        let mut at = offset;
        while at < end {
            let within = geometry.within(at);
            if within != 0 || limit - at < geometry.cluster() {
                let count = (geometry.cluster() - within).min(end - at);
                self.zero_part(at, count, may_unmap)?;
                at += count;
                continue;
            }
            let first = geometry.index(at);
            let clusters = geometry.index(limit) - first;
            let done = if may_unmap {
                self.unmap_clusters(first, clusters)?
            } else {
                self.zero_clusters(first, clusters)?
            };
            at += done << geometry.cluster_bits;
        }
        if self.tables.is_pressed() || self.owner().released.len() > MAX_RELEASED {
            self.commit()?;
        }
        Ok(())
    }

    /// Zeroes a part of one cluster.
    fn zero_part(&self, at: u64, count: u64, may_unmap: bool) -> Result<(), ImageError> {
        {
            let Some(l1) = self.gates.enter(Wait::Block) else { return Ok(()) };
            match self.mapping(&l1, self.geometry.index(at), Wait::Block)? {
                Mapping::Data { copied: true, .. } => {
                    if let Some((place, count)) = self.in_place(&l1, at, count)? {
                        return self.zero_file(place, count, may_unmap);
                    }
                }
                Mapping::Zero { host, .. } if may_unmap || host != 0 => return Ok(()),
                Mapping::Unallocated if may_unmap && at >= self.parent_end() => return Ok(()),
                Mapping::Unallocated
                | Mapping::Data { .. }
                | Mapping::Zero { .. }
                | Mapping::Compressed { .. } => {}
            }
        }
        let zeroes = vec![0; index(count)];
        self.write_clusters(&[IoSlice::new(&zeroes)], at, count, Durability::Cached)
    }

    fn zero_file(&self, place: u64, count: u64, may_unmap: bool) -> Result<(), ImageError> {
        if may_unmap && self.file.punch(place, count)? {
            return Ok(());
        }
        self.file.write_zeroes(place, count)
    }

    /// Gives up whole clusters, as far as one piece of a table goes; how many.
    fn unmap_clusters(&self, first: u64, clusters: u64) -> Result<u64, ImageError> {
        self.make_room()?;
        let geometry = self.geometry;
        let at = first << geometry.cluster_bits;
        let span = self.same_piece(first).min(clusters);
        let range = first..first + span;
        let mut owner = self.owner_of(&range);
        if owner.l1.get(first >> geometry.l2_bits()) == 0 && at >= self.parent_end() {
            // There is no table: nothing is mapped as far as it would go.
            let rest = (geometry.l1_span() - at % geometry.l1_span()) >> geometry.cluster_bits;
            return Ok(rest.min(clusters));
        }
        let (table, word) = self.table_for_change(&mut owner, first)?;
        let mut changed = false;
        for n in 0..span {
            let cluster = first + n;
            let shows_parent = cluster << geometry.cluster_bits < self.parent_end();
            let before = self.parse_for_change(table.be(word + index(n)), cluster)?;
            let after = match (shows_parent, geometry.version) {
                (false, _) => Mapping::Unallocated,
                (true, 3..) => Mapping::Zero { host: 0, copied: false },
                // Version 2 cannot say that a cluster is zeroes.
                (true, _) => {
                    drop(owner);
                    if n > 0 {
                        return Ok(n);
                    }
                    let zeroes = vec![0; index(geometry.cluster())];
                    let capacity = self.capacity.load(std::sync::atomic::Ordering::Acquire);
                    let count = geometry.cluster().min(capacity - at);
                    let zeroes = zeroes.get(..index(count)).unwrap_or(&zeroes);
                    let bufs = [IoSlice::new(zeroes)];
                    self.write_clusters(&bufs, at, count, Durability::Cached)?;
                    return Ok(1);
                }
            };
            if before != after {
                self.release_mapping(&mut owner, before);
                table.set_be(word + index(n), after.entry());
                if !changed {
                    self.tables.mark_dirty(&table);
                    changed = true;
                }
                self.note_change();
            }
        }
        Ok(span)
    }

    /// Zeroes whole clusters and sees to it that they have a place; how many.
    fn zero_clusters(&self, first: u64, clusters: u64) -> Result<u64, ImageError> {
        let geometry = self.geometry;
        let at = first << geometry.cluster_bits;
        {
            let Some(l1) = self.gates.enter(Wait::Block) else { return Ok(0) };
            let most = clusters.min(self.same_piece(first)) << geometry.cluster_bits;
            if let Some((place, count)) = self.in_place(&l1, at, most)? {
                self.file.write_zeroes(place, count)?;
                return Ok(count >> geometry.cluster_bits);
            }
        }
        self.make_room()?;
        let most = (MAX_ALLOCATION >> geometry.cluster_bits).max(1).min(self.same_piece(first));
        let end = first + clusters.min(most);
        let mut owner = self.owner_of(&(first..end));
        let (table, word) = self.table_for_change(&mut owner, first)?;
        let mut run = 0;
        let mut has_place = None;
        while first + run < end {
            let mapping = self.parse_for_change(table.be(word + index(run)), first + run)?;
            let placed = match mapping {
                Mapping::Data { copied: true, .. } => break,
                Mapping::Zero { host, copied } => host != 0 && copied,
                Mapping::Unallocated | Mapping::Data { .. } | Mapping::Compressed { .. } => false,
            };
            if *has_place.get_or_insert(placed) != placed {
                break;
            }
            run += 1;
        }
        if has_place == Some(true) || run == 0 {
            return Ok(run);
        }
        let taken = self.take(&mut owner, run)?;
        let range = first..first + taken.count;
        owner.busy.push(range.clone());
        drop(owner);
        let prepared = self.prepare(taken);
        let mut owner = self.owner();
        if prepared.is_ok() {
            for n in 0..taken.count {
                let word = word + index(n);
                let before = self.parse(table.be(word), first + n);
                self.release_mapping(&mut owner, before.unwrap_or(Mapping::Unallocated));
                let host = taken.host + (n << geometry.cluster_bits);
                let mapping = if geometry.version >= 3 {
                    Mapping::Zero { host, copied: true }
                } else {
                    Mapping::Data { host, copied: true }
                };
                table.set_be(word, mapping.entry());
            }
            self.tables.mark_dirty(&table);
            self.note_change();
        } else {
            self.give_back(&mut owner, taken);
        }
        self.done_with(&mut owner, &range);
        prepared.map(|()| taken.count)
    }

    /// Takes the space of new clusters that will read zeroes.
    fn prepare(&self, taken: Taken) -> Result<(), ImageError> {
        let length = taken.count << self.geometry.cluster_bits;
        if self.geometry.version >= 3 || taken.fresh {
            return self.file.allocate(taken.host, length);
        }
        self.file.write_zeroes(taken.host, length)
    }

    /// A refusal that names the place.
    pub(super) fn refuse(&self, kind: ImageErrorKind, reason: &str) -> ImageError {
        Problem::new(kind, reason).on(self.file.path())
    }
}
