//! Making the disk larger, and smaller.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::gates::L1;
use super::owner::Owner;
use super::{Kind, Qcow2Image, header};
use crate::error::{ImageError, ImageErrorKind};
use crate::layers::Own;

/// How often a moment is looked for in which the L1 table does not change.
const MAX_TRIES: u32 = 100;

impl Qcow2Image {
    /// Makes the disk as large as `size`, durably; a disk that is larger stays so.
    pub(super) fn grow_to(&self, size: u64) -> Result<(), ImageError> {
        if size <= self.size.load(Ordering::Acquire) {
            return Ok(());
        }
        let capacity = self.capacity.load(Ordering::Acquire);
        if size > capacity {
            if self.read_only {
                return Err(self.refuse(ImageErrorKind::ReadOnly, "it is open for reading only"));
            }
            self.enlarge(capacity, size)?;
        }
        self.size.fetch_max(size, Ordering::AcqRel);
        Ok(())
    }

    fn enlarge(&self, before: u64, size: u64) -> Result<(), ImageError> {
        let entries = self.geometry.l1_entries(size);
        if entries * 8 > header::MAX_L1_BYTES || i64::try_from(size).is_err() {
            let reason = "a disk of this size does not fit clusters of this size";
            return Err(self.refuse(ImageErrorKind::OutOfRange, reason));
        }
        let _alone = self.resizing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.capacity.load(Ordering::Acquire) != before {
            let reason = "somebody else makes it larger at the same time";
            return Err(self.refuse(ImageErrorKind::InUse, reason));
        }
        self.make_room()?;
        if (self.owner().l1.len() as u64) < entries {
            self.grow_l1(entries)?;
        }
        self.capacity.store(size, Ordering::Release);
        let done = self.hide_parent(before, size).and_then(|()| {
            self.file.write_at(&size.to_be_bytes(), header::SIZE_AT)?;
            self.file.flush()
        });
        if done.is_err() {
            self.capacity.store(before, Ordering::Release);
        }
        done
    }

    /// Makes the disk as small as `size`, durably. The tables stay as long as they are; what they have
    /// behind the new end is given back before it is behind that, so a crash leaves zeroes there.
    pub(super) fn cut_to(&self, size: u64) -> Result<(), ImageError> {
        self.size.fetch_min(size, Ordering::AcqRel);
        let _alone = self.resizing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.capacity.load(Ordering::Acquire);
        if size >= before {
            return Ok(());
        }
        if self.read_only {
            return Err(self.refuse(ImageErrorKind::ReadOnly, "it is open for reading only"));
        }
        let mut at = size.next_multiple_of(self.geometry.cluster());
        while at < before {
            let (own, length) = self.own(at, before - at)?;
            // What is the parent's is hidden if the disk grows again.
            if own == Own::Data || (own == Own::Zeroes && self.parent_end() <= at) {
                self.zero(at, length, true)?;
            }
            at += length;
        }
        self.commit()?;
        self.file.write_at(&size.to_be_bytes(), header::SIZE_AT)?;
        self.file.flush()?;
        self.capacity.store(size, Ordering::Release);
        Ok(())
    }

    /// Zeroes behind the old end of the disk, before anybody can look there: the rest of its last
    /// cluster, and what a parent that is larger has.
    fn hide_parent(&self, before: u64, size: u64) -> Result<(), ImageError> {
        let cluster_end = before.next_multiple_of(self.geometry.cluster());
        let end = self.parent_end().max(cluster_end).min(size);
        if before < end {
            self.zero(before, end - before, true)?;
        }
        self.commit()
    }

    /// The owner's place when the file has the L1 table as it is in memory. The commit lock is held.
    fn owner_of_settled_l1(&self) -> Result<MutexGuard<'_, Owner>, ImageError> {
        for _ in 0..MAX_TRIES {
            self.commit_alone()?;
            let owner = self.owner();
            if owner.l1_dirty.is_empty() {
                return Ok(owner);
            }
        }
        Err(self.refuse(ImageErrorKind::InUse, "tables are made too fast; try again later"))
    }

    /// Moves the L1 table to a place where it can have so many entries.
    fn grow_l1(&self, entries: u64) -> Result<(), ImageError> {
        let _alone = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut owner = self.owner_of_settled_l1()?;
        let clusters = self.geometry.clusters(entries * 8);
        let taken = self.take_behind(&mut owner, clusters)?;
        let missing = usize::try_from(entries).unwrap_or(0).saturating_sub(owner.l1.len());
        let l1 = Arc::new(L1::new(owner.l1.iter().chain(std::iter::repeat_n(0, missing))));
        let file = &*self.file;
        self.add_metadata(self.geometry.index(taken.host), clusters);
        // Counts first, then the table that they are for, then who refers to it.
        let counts = self.tables.take_dirty(Kind::Count);
        let count_table: Vec<_> = owner.counts_dirty.iter().copied().collect();
        let write = || -> Result<(), ImageError> {
            counts.write(file)?;
            file.flush()?;
            for index in &count_table {
                let value = owner.counts.get(*index).copied().unwrap_or(0);
                let at = owner.counts_offset + 8 * (*index as u64);
                file.write_at(&value.to_be_bytes(), at)?;
            }
            let table: Vec<u8> = l1.iter().flat_map(u64::to_be_bytes).collect();
            file.write_at(&table, taken.host)?;
            file.flush()?;
            let mut fields = u32::try_from(entries).unwrap_or(0).to_be_bytes().to_vec();
            fields.extend(taken.host.to_be_bytes());
            file.write_at(&fields, header::L1_AT)?;
            file.flush()
        };
        if let Err(error) = write() {
            // Which of the two tables a reader of the file finds is not known now.
            self.broken.store(true, Ordering::Release);
            return Err(error);
        }
        owner.counts_dirty.clear();
        let before = std::mem::replace(&mut owner.l1_offset, taken.host);
        let length = owner.l1.len() as u64 * 8;
        owner.l1 = l1.clone();
        self.gates.replace(&l1);
        if length > 0 {
            self.release(&mut owner, before, length);
        }
        Ok(())
    }
}
