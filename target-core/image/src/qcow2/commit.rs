//! Writing changed tables so that a crash at any moment costs space at most.
//!
//! ```text
//!   data of new clusters, their counts        nobody refers to them: lost space
//!   ── flush ──
//!   L2 entries that refer to them             whole, or not there
//!   ── flush ──
//!   L1 entries that refer to new L2 tables    whole, or not there
//!   ── flush ──
//!   counts of what lost its last reference    written the next time: lost space until then
//! ```

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::{Kind, Qcow2Image, header};
use crate::cache::Taken;
use crate::error::{ImageError, Operation};

/// Changes of one moment.
struct Changes {
    generation: u64,
    counts: Taken<Kind>,
    maps: Taken<Kind>,
    /// Entry, its place, its value.
    count_table: Vec<(usize, u64, u64)>,
    l1: Vec<(u64, u64, u64)>,
    released: Vec<u64>,
}

impl Qcow2Image {
    /// The file has everything that the tables in memory have, or did before the last flush.
    pub(super) fn is_settled(&self) -> bool {
        self.changed.load(Ordering::Acquire) == self.settled.load(Ordering::Acquire)
    }

    /// Makes everything durable.
    pub(super) fn commit(&self) -> Result<(), ImageError> {
        if self.is_settled() {
            return self.file.flush();
        }
        // Whoever waited while another one began after him has been served by that one.
        let wanted = self.commits_begun.load(Ordering::Acquire) + 1;
        let _alone = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.commits_done.load(Ordering::Acquire) >= wanted {
            return Ok(());
        }
        self.commit_alone()
    }

    /// The same; the commit lock is held.
    pub(super) fn commit_alone(&self) -> Result<(), ImageError> {
        let number = self.commits_begun.fetch_add(1, Ordering::AcqRel) + 1;
        let changes = self.take_changes();
        match self.write_changes(&changes) {
            Ok(()) => {
                self.settled.store(changes.generation, Ordering::Release);
                self.commits_done.store(number, Ordering::Release);
                let released = changes.released;
                drop((changes.counts, changes.maps));
                self.reclaim(released);
                Ok(())
            }
            Err(error) => {
                self.put_back(changes);
                Err(error)
            }
        }
    }

    fn take_changes(&self) -> Changes {
        let mut owner = self.owner();
        let count_table = std::mem::take(&mut owner.counts_dirty);
        let count_table = count_table.into_iter().filter_map(|index| {
            let place = owner.counts_offset + 8 * u64::try_from(index).ok()?;
            Some((index, place, *owner.counts.get(index)?))
        });
        let count_table = count_table.collect();
        let l1 = std::mem::take(&mut owner.l1_dirty);
        let entry = |index: u64| (index, owner.l1_offset + 8 * index, owner.l1.get(index));
        Changes {
            generation: self.changed.load(Ordering::Acquire),
            counts: self.tables.take_dirty(Kind::Count),
            maps: self.tables.take_dirty(Kind::Map),
            count_table,
            l1: l1.into_iter().map(entry).collect(),
            released: std::mem::take(&mut owner.released),
        }
    }

    fn put_back(&self, changes: Changes) {
        let mut owner = self.owner();
        changes.counts.put_back(&self.tables);
        changes.maps.put_back(&self.tables);
        owner.counts_dirty.extend(changes.count_table.iter().map(|(index, ..)| *index));
        owner.l1_dirty.extend(changes.l1.iter().map(|(index, ..)| *index));
        owner.released.extend(changes.released);
    }

    fn write_changes(&self, changes: &Changes) -> Result<(), ImageError> {
        let file = &*self.file;
        changes.counts.write(file)?;
        if !changes.count_table.is_empty() {
            file.flush()?;
            self.write_entries(changes.count_table.iter().map(|(_, at, value)| (*at, *value)))?;
        }
        file.flush()?;
        if !changes.maps.is_empty() {
            changes.maps.write(file)?;
            file.flush()?;
        }
        if !changes.l1.is_empty() {
            self.write_entries(changes.l1.iter().map(|(_, at, value)| (*at, *value)))?;
            file.flush()?;
        }
        Ok(())
    }

    fn write_entries(&self, entries: impl Iterator<Item = (u64, u64)>) -> Result<(), ImageError> {
        for (at, value) in entries {
            self.file.write_at(&value.to_be_bytes(), at)?;
        }
        Ok(())
    }

    /// Moves the reference count table to a place where it can be longer.
    pub(super) fn grow_count_table(&self) -> Result<(), ImageError> {
        let _alone = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        self.commit_alone()?;
        let mut owner = self.owner();
        let geometry = self.geometry;
        let per_cluster = geometry.cluster() / 8;
        let old = owner.counts.len() as u64;
        let new = (old + old / 2 + per_cluster).next_multiple_of(per_cluster);
        if new * 8 > header::MAX_REFCOUNT_TABLE_BYTES.max(geometry.cluster()) {
            let kind = crate::error::ImageErrorKind::Unsupported;
            return Err(ImageError::new(kind, Operation::Write, self.file.path().clone())
                .because("the file cannot become larger with clusters of this size"));
        }
        let count = new / per_cluster;
        let entries = usize::try_from(new).unwrap_or(usize::MAX);
        owner.counts.resize(entries, 0);
        let place = match self.take_behind(&mut owner, count) {
            Ok(taken) => taken.host,
            Err(error) => {
                // Blocks that only the longer table would have are lost, and not referred to.
                let keep = usize::try_from(old).unwrap_or(0);
                if owner.counts.get(keep..).is_none_or(|new| new.iter().all(|entry| *entry == 0)) {
                    owner.counts.truncate(keep);
                } else {
                    self.broken.store(true, Ordering::Release);
                }
                return Err(error);
            }
        };
        self.add_metadata(geometry.index(place), count);
        let done = self.write_count_table(&owner, place, count);
        if done.is_err() {
            // Which of the two tables a reader of the file finds is not known now.
            self.broken.store(true, Ordering::Release);
            return done;
        }
        let before = std::mem::replace(&mut owner.counts_offset, place);
        owner.counts_dirty.clear();
        self.release(&mut owner, before, old * 8);
        Ok(())
    }

    fn write_count_table(
        &self,
        owner: &super::owner::Owner,
        place: u64,
        count: u64,
    ) -> Result<(), ImageError> {
        let file = &*self.file;
        self.tables.take_dirty(Kind::Count).write(file)?;
        let table: Vec<u8> = owner.counts.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        file.write_at(&table, place)?;
        file.flush()?;
        let mut fields = place.to_be_bytes().to_vec();
        fields.extend(u32::try_from(count).unwrap_or(0).to_be_bytes());
        file.write_at(&fields, header::REFCOUNT_TABLE_AT)?;
        file.flush()
    }
}
