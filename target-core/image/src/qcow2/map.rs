//! From a guest cluster to what it maps to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::entry::{COPIED, Mapping, OFFSET};
use super::gates::L1;
use super::open::is_private;
use super::owner::Owner;
use super::{Kind, Problem, Qcow2Image};
use crate::cache::Table;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::image::{BlockState, Extent, Wait};

/// Pieces of L2 tables that one question about an extent may read.
const MAX_EXTENT_CLUSTERS: u64 = 1 << 16;

impl Qcow2Image {
    pub(super) fn problem(&self, problem: Problem, guest: u64) -> ImageError {
        let Problem { kind, reason } = problem;
        ImageError::new(kind, Operation::Read, self.file.path().clone())
            .because(format!("at byte {guest} of the disk: {reason}"))
    }

    /// Where the L2 entry of a guest cluster is: the piece of its table, and the word in it.
    fn entry_place(&self, l2_table: u64, cluster: u64) -> (u64, usize) {
        let index = cluster & ((1 << self.geometry.l2_bits()) - 1);
        let piece = self.tables.block_bytes() as u64;
        let offset = l2_table + index * 8 / piece * piece;
        (offset, usize::try_from(index * 8 % piece / 8).unwrap_or(0))
    }

    /// Guest clusters from this one on whose L2 entries are in the same piece.
    pub(super) fn same_piece(&self, cluster: u64) -> u64 {
        let entries = self.tables.block_bytes() as u64 / 8;
        entries - cluster % entries
    }

    /// The L2 entry of a guest cluster.
    fn entry(&self, l1: &L1, cluster: u64, wait: Wait) -> Result<u64, ImageError> {
        let l2_table = l1.get(cluster >> self.geometry.l2_bits()) & OFFSET;
        if l2_table == 0 {
            return Ok(0);
        }
        let (offset, word) = self.entry_place(l2_table, cluster);
        if let Some(entry) = self.tables.peek(offset, |table| table.be(word)) {
            return Ok(entry);
        }
        if wait == Wait::Nowait {
            let kind = ImageErrorKind::WouldBlock;
            return Err(ImageError::new(kind, Operation::Read, self.file.path().clone()));
        }
        Ok(self.tables.get(&*self.file, offset, Kind::Map, |_| Ok(()))?.be(word))
    }

    pub(super) fn parse(&self, entry: u64, cluster: u64) -> Result<Mapping, ImageError> {
        let file_end = self.file_end.load(Ordering::Acquire);
        Mapping::parse(entry, self.geometry, file_end)
            .map_err(|problem| self.problem(problem, cluster << self.geometry.cluster_bits))
    }

    /// The same for an entry that is going to be changed: what it gives up is freed one day, and must
    /// not be a table or the header.
    pub(super) fn parse_for_change(&self, entry: u64, cluster: u64) -> Result<Mapping, ImageError> {
        let mapping = self.parse(entry, cluster)?;
        let (at, length) = match mapping {
            Mapping::Unallocated | Mapping::Zero { host: 0, .. } => return Ok(mapping),
            Mapping::Data { host, .. } | Mapping::Zero { host, .. } => {
                (host, self.geometry.cluster())
            }
            Mapping::Compressed { at, length } => (at, length),
        };
        let clusters = self.geometry.index(at)..=self.geometry.index(at + length - 1);
        if let Some(host) = clusters.into_iter().find(|host| self.is_metadata(*host)) {
            let reason = format!("L2 entry {entry:#018x}: host cluster {host} holds metadata");
            let problem = Problem::new(ImageErrorKind::Corrupt, reason);
            return Err(self.problem(problem, cluster << self.geometry.cluster_bits));
        }
        Ok(mapping)
    }

    /// What a guest cluster maps to.
    pub(super) fn mapping(&self, l1: &L1, cluster: u64, wait: Wait) -> Result<Mapping, ImageError> {
        self.parse(self.entry(l1, cluster, wait)?, cluster)
    }

    /// The place in the file where `at` can be written at once, and how many of `left` bytes go
    /// there one behind the other. `None` if the first cluster needs another place first.
    pub(super) fn in_place(
        &self,
        l1: &L1,
        at: u64,
        left: u64,
    ) -> Result<Option<(u64, u64)>, ImageError> {
        let geometry = self.geometry;
        let mut found: Option<(u64, u64)> = None;
        let mut done = 0;
        while done < left {
            let cluster = geometry.index(at + done);
            let Mapping::Data { host, copied: true } = self.mapping(l1, cluster, Wait::Block)?
            else {
                break;
            };
            if self.is_metadata(geometry.index(host)) {
                let reason = format!("its cluster {host:#x} holds metadata");
                let problem = Problem::new(ImageErrorKind::Corrupt, reason);
                return Err(self.problem(problem, at + done));
            }
            let within = geometry.within(at + done);
            match found {
                None => found = Some((host + within, 0)),
                Some((start, _)) if start + done == host => {}
                Some(_) => break,
            }
            done += (geometry.cluster() - within).min(left - done);
        }
        Ok(found.map(|(start, _)| (start, done)))
    }

    /// The piece of an L2 table that a guest cluster's entry is in, and the word, for a change: the
    /// table is made, or made the disk's own, if need be.
    pub(super) fn table_for_change(
        &self,
        owner: &mut Owner,
        cluster: u64,
    ) -> Result<(Arc<Table<Kind>>, usize), ImageError> {
        let index = cluster >> self.geometry.l2_bits();
        let entry = owner.l1.get(index);
        let l2_table = if is_private(entry) {
            entry & OFFSET
        } else {
            self.new_table(owner, index, entry & OFFSET)?
        };
        let (offset, word) = self.entry_place(l2_table, cluster);
        let table = self.tables.get(&*self.file, offset, Kind::Map, |_| Ok(()))?;
        Ok((table, word))
    }

    /// A new L2 table: empty, or a copy of one that a snapshot has too.
    fn new_table(&self, owner: &mut Owner, index: u64, shared: u64) -> Result<u64, ImageError> {
        let taken = self.take(owner, 1)?;
        let place = taken.host;
        let filled = if shared != 0 {
            self.copy_table(shared, place)
        } else if taken.fresh {
            Ok(())
        } else {
            self.file.write_zeroes(place, self.geometry.cluster())
        };
        if let Err(error) = filled {
            self.give_back(owner, taken);
            return Err(error);
        }
        // What the place was before may still be cached.
        let piece = self.tables.block_bytes() as u64;
        (0..self.geometry.cluster() / piece).for_each(|n| self.tables.forget(place + n * piece));
        self.add_metadata(self.geometry.index(place), 1);
        owner.l1.set(index, place | COPIED);
        owner.l1_dirty.insert(index);
        self.note_change();
        if shared != 0 {
            self.release(owner, shared, self.geometry.cluster());
        }
        Ok(place)
    }

    /// A shared table is never changed, so the file has it as it is.
    fn copy_table(&self, from: u64, to: u64) -> Result<(), ImageError> {
        let mut table = vec![0; usize::try_from(self.geometry.cluster()).unwrap_or(0)];
        self.file.read_at(&mut table, from)?;
        self.file.write_at(&table, to)
    }

    /// A reference of the disk to what a guest cluster mapped to is gone.
    pub(super) fn release_mapping(&self, owner: &mut Owner, mapping: Mapping) {
        match mapping {
            Mapping::Unallocated | Mapping::Zero { host: 0, .. } => {}
            Mapping::Data { host, .. } | Mapping::Zero { host, .. } => {
                self.release(owner, host, self.geometry.cluster());
            }
            Mapping::Compressed { at, length } => self.release(owner, at, length),
        }
    }

    /// The extent that begins at `offset`.
    pub(super) fn extent(&self, offset: u64, length: u64) -> Result<Extent, ImageError> {
        let geometry = self.geometry;
        let Some(l1) = self.gates.enter(Wait::Block) else {
            return Err(self.error(ImageErrorKind::Io, Operation::BlockStatus, offset, length));
        };
        let mut state = None;
        let mut done = 0;
        let mut looked_at = 0;
        while done < length && looked_at < MAX_EXTENT_CLUSTERS {
            let at = offset + done;
            let cluster = geometry.index(at);
            let (here, span) = if l1.get(cluster >> geometry.l2_bits()) == 0 {
                // A whole L2 table that is not there.
                (Mapping::Unallocated, geometry.l1_span() - at % geometry.l1_span())
            } else {
                looked_at += 1;
                let span = geometry.cluster() - geometry.within(at);
                (self.mapping(&l1, cluster, Wait::Block)?, span)
            };
            let span = span.min(length - done);
            let (here, span) = match here {
                Mapping::Unallocated => self.parent_extent(at, span)?,
                Mapping::Zero { host: 0, .. } => (BlockState::Deallocated, span),
                Mapping::Data { .. } | Mapping::Zero { .. } | Mapping::Compressed { .. } => {
                    (BlockState::Mapped, span)
                }
            };
            if *state.get_or_insert(here) != here {
                break;
            }
            done += span;
        }
        let state = state.unwrap_or(BlockState::Mapped);
        Ok(Extent { offset, length: done.clamp(1, length), state })
    }

    /// The same for what the disk has not got itself.
    fn parent_extent(&self, at: u64, span: u64) -> Result<(BlockState, u64), ImageError> {
        match &*self.parent.load() {
            Some(parent) if at < parent.size => {
                let extent = parent.image.block_status(at, span.min(parent.size - at))?;
                Ok((extent.state, extent.length))
            }
            Some(_) | None => Ok((BlockState::Deallocated, span)),
        }
    }
}
