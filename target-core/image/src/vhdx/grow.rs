//! Making a disk larger while it is in use.

use std::sync::atomic::Ordering;

use super::bat::{ENTRY_LENGTH, Geometry, LARGEST_DISK, Slot};
use super::journal::{Change, Journal, place};
use super::region::{Region, TABLE_OFFSETS};
use super::{MIB, VhdxImage, index};
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::image::Wait;

/// Entries of the BAT that one entry of the log clears.
const MOST_CHANGES: usize = 4096;

impl VhdxImage {
    /// Makes the disk larger, if it is not so large already. Nothing is half done after a crash: the
    /// size is the last thing that changes.
    pub(super) fn resize(&self, size: u64) -> Result<(), ImageError> {
        if size <= self.size() {
            return Ok(());
        }
        let refuse = |kind, reason: String| {
            Err(self.error(kind, Operation::Resize).at(0, size).because(reason))
        };
        let sector = self.geometry.sector_size;
        if size > LARGEST_DISK || !size.is_multiple_of(sector) {
            let reason = format!("a VHDX has at most 64 TiB, in sectors of {sector} bytes");
            return refuse(ImageErrorKind::OutOfRange, reason);
        }
        if size > self.virtual_disk_size.load(Ordering::Acquire) {
            if self.file.is_read_only() {
                return refuse(ImageErrorKind::ReadOnly, "it is open for reading".to_owned());
            }
            self.begin_writing()?;
            let mut journal = self.journal();
            if size > journal.virtual_disk_size {
                self.enlarge(&mut journal, size)?;
            }
        }
        self.size.fetch_max(size, Ordering::AcqRel);
        Ok(())
    }

    fn enlarge(&self, journal: &mut Journal, size: u64) -> Result<(), ImageError> {
        let old = Geometry { size: journal.virtual_disk_size, ..self.geometry };
        let new = Geometry { size, ..old };
        if !journal.size_offset.is_multiple_of(ENTRY_LENGTH) {
            return Err(self
                .error(ImageErrorKind::Unsupported, Operation::Resize)
                .because("the size in the metadata is not aligned"));
        }
        if self.parent.as_ref().is_some_and(|parent| parent.size() > old.size) {
            return Err(self
                .error(ImageErrorKind::Unsupported, Operation::Resize)
                .because("the parent is larger, and its data would come to light"));
        }
        self.clear_slack(old)?;
        if new.entries() * ENTRY_LENGTH > journal.regions.bat.length.into() {
            self.move_bat(journal, old, new)?;
        }
        // Nobody looked at them; they become those of new blocks.
        self.clear_entries(journal, old, new)?;
        journal.sync(&*self.file)?;
        self.set_size(journal, size)
    }

    /// Writes the size of the disk; it counts once the log is durable.
    pub(super) fn set_size(&self, journal: &mut Journal, size: u64) -> Result<(), ImageError> {
        let (offset, word) = place(journal.size_offset);
        let table = self.table(offset)?;
        self.change(journal, &[Change { table, word, value: size }])?;
        journal.virtual_disk_size = size;
        self.virtual_disk_size.store(size, Ordering::Release);
        Ok(())
    }

    /// What lies in the last block behind the end of the disk becomes part of it, as zeroes.
    fn clear_slack(&self, old: Geometry) -> Result<(), ImageError> {
        let used = old.size % old.block_size;
        if used == 0 {
            return Ok(());
        }
        let entry = self.payload(old.size / old.block_size, Wait::Block)?;
        match old.claim(old.payload_index(old.size / old.block_size), entry) {
            Ok(Some(claim)) => self.clear(claim.start + used, old.block_size - used),
            _ => Ok(()),
        }
    }

    /// Entries of blocks that `new` has and `old` has not say nothing.
    pub(super) fn clear_entries(
        &self,
        journal: &mut Journal,
        old: Geometry,
        new: Geometry,
    ) -> Result<(), ImageError> {
        let mut changes = Vec::new();
        let bitmaps = if old.has_parent { old.bitmaps() } else { 0 };
        for entry in old.payload_index(old.blocks())..new.entries() {
            let keep = match new.slot(entry) {
                Slot::Bitmap(bitmap) => bitmap < bitmaps,
                Slot::Payload(block) => block < old.blocks(),
            };
            let (table, word) = self.entry_table(entry)?;
            if !keep && table.le(word) != 0 {
                changes.push(Change { table, word, value: 0 });
            }
            if changes.len() >= MOST_CHANGES {
                self.change(journal, &changes)?;
                changes.clear();
            }
        }
        if changes.is_empty() { Ok(()) } else { self.change(journal, &changes) }
    }

    /// Copies the BAT to the end of the file, with room for as much again. The region tables are
    /// changed one after the other, so that one is whole at any time; where the old one was stays
    /// unused.
    fn move_bat(
        &self,
        journal: &mut Journal,
        old: Geometry,
        new: Geometry,
    ) -> Result<(), ImageError> {
        self.checkpoint(journal)?;
        let largest = Geometry { size: LARGEST_DISK, ..new }.table_length();
        let length = (new.table_length() * 2).min(largest);
        let Ok(region_length) = u32::try_from(length) else {
            return Err(self.error(ImageErrorKind::OutOfRange, Operation::Resize));
        };
        let from = journal.regions.bat.offset;
        let to = self.extend(journal, length)?;
        let used = (old.entries() * ENTRY_LENGTH).min(journal.regions.bat.length.into());
        let mut buffer = vec![0; index(MIB)];
        let mut done = 0;
        while done < used {
            let count = MIB.min(used - done);
            let Some(piece) = buffer.get_mut(..index(count)) else { break };
            self.file.read_at(piece, from + done)?;
            if piece.iter().any(|byte| *byte != 0) {
                self.file.write_at(piece, to + done)?;
            }
            done += count;
        }
        self.take(journal, to + length);
        journal.sync(&*self.file)?;
        let mut regions = journal.regions.clone();
        regions.bat = Region { offset: to, length: region_length };
        let table = regions.emit();
        for offset in TABLE_OFFSETS.into_iter().rev() {
            self.file.write_at(&table, offset)?;
            self.file.flush()?;
        }
        journal.regions = regions;
        self.bat_offset.store(to, Ordering::Release);
        Ok(())
    }
}
