//! Changes of headers and tables, in the order that keeps the file whole.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use uuid::Uuid;

use super::header::{HEADER_OFFSETS, Header};
use super::log::{self, EntryHead, Page, SECTOR};
use super::region::RegionTable;
use super::{MIB, VhdxImage, bytes, index};
use crate::block_file::BlockFile;
use crate::cache::Table;
use crate::error::{ImageError, ImageErrorKind, Operation};

/// What whoever changes the file's structure holds.
#[derive(Debug)]
pub(super) struct Journal {
    /// The current header.
    pub(super) header: Header,
    /// Which of the two places it is in.
    pub(super) place: usize,
    /// Where everything is.
    pub(super) regions: RegionTable,
    /// Where in the file the size of the disk stands.
    pub(super) size_offset: u64,
    /// The next entry goes there in the log.
    pub(super) head: u64,
    /// Number of the next entry.
    pub(super) sequence_number: u64,
    /// The next block goes there.
    pub(super) end: u64,
    /// The file is known to be at least so long on the medium.
    pub(super) stable: u64,
    /// Size of the disk in the metadata.
    pub(super) virtual_disk_size: u64,
}

/// A word of a table and what it shall be.
#[derive(Debug, Clone)]
pub(super) struct Change {
    /// The table that holds it.
    pub(super) table: Arc<Table<()>>,
    /// Which word.
    pub(super) word: usize,
    /// Its new value.
    pub(super) value: u64,
}

impl Journal {
    /// Writes the header with the next number into the other place, durably, then into this one:
    /// a header that goes bad later does not bring back an old one.
    pub(super) fn write_header(
        &mut self,
        file: &dyn BlockFile,
        change: impl FnOnce(&mut Header),
    ) -> Result<(), ImageError> {
        let mut header = self.header;
        change(&mut header);
        for _ in HEADER_OFFSETS {
            header.sequence_number =
                header.sequence_number.checked_add(1).ok_or_else(|| exhausted(file))?;
            let place = 1 - self.place.min(1);
            let offset = HEADER_OFFSETS.get(place).copied().unwrap_or_default();
            file.write_at(&header.emit(), offset)?;
            file.flush()?;
            (self.header, self.place) = (header, place);
        }
        Ok(())
    }

    /// Makes everything durable that was written.
    pub(super) fn sync(&mut self, file: &dyn BlockFile) -> Result<(), ImageError> {
        let end = self.end;
        file.flush()?;
        self.stable = end;
        Ok(())
    }
}

fn exhausted(file: &dyn BlockFile) -> ImageError {
    ImageError::new(ImageErrorKind::Corrupt, Operation::Write, file.path().clone())
        .because("the sequence numbers are used up")
}

impl VhdxImage {
    /// Before the first change after the image was opened: the file gets a new identity, and so do
    /// its contents.
    pub(super) fn begin_writing(&self) -> Result<(), ImageError> {
        if self.started.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut journal = self.journal();
        if self.started.load(Ordering::Acquire) {
            return Ok(());
        }
        journal.write_header(&*self.file, |header| {
            header.file_write_guid = Uuid::new_v4();
            header.data_write_guid = Uuid::new_v4();
        })?;
        journal.stable = journal.end;
        self.started.store(true, Ordering::Release);
        Ok(())
    }

    /// Logs changes as one, and makes them. They are durable after the next flush, all or none.
    ///
    /// Whatever they point at has been written; if it must not be lost while they are kept, it is
    /// durable.
    pub(super) fn change(
        &self,
        journal: &mut Journal,
        changes: &[Change],
    ) -> Result<(), ImageError> {
        let mut pages: Vec<(u64, Box<Page>)> = Vec::new();
        for change in changes {
            let offset = change.table.offset();
            let known = pages.iter().position(|(other, _)| *other == offset);
            let place = known.unwrap_or_else(|| {
                pages.push((offset, page_of(&change.table.bytes())));
                pages.len() - 1
            });
            let word = pages
                .get_mut(place)
                .and_then(|(_, page)| page.get_mut(change.word * 8..)?.first_chunk_mut::<8>());
            if let Some(word) = word {
                *word = change.value.to_le_bytes();
            }
        }
        let pages: Vec<_> = pages.iter().map(|(offset, page)| (*offset, &**page)).collect();
        self.log(journal, &pages)?;
        for change in changes {
            change.table.set_le(change.word, change.value);
            self.cache.mark_dirty(&change.table);
        }
        Ok(())
    }

    /// Appends one entry.
    pub(super) fn log(
        &self,
        journal: &mut Journal,
        pages: &[(u64, &Page)],
    ) -> Result<(), ImageError> {
        let length = bytes(log::entry_length(pages.len()));
        let room = u64::from(journal.header.log_length);
        if journal.header.log_guid.is_nil() || journal.head + length > room {
            self.checkpoint(journal)?;
            journal.write_header(&*self.file, |header| header.log_guid = Uuid::new_v4())?;
            journal.head = 0;
        }
        let floor = |length: u64| length / MIB * MIB;
        let head = EntryHead {
            tail: 0,
            sequence_number: journal.sequence_number,
            log_guid: journal.header.log_guid,
            flushed_file_offset: floor(journal.stable.min(journal.end)),
            last_file_offset: journal.end.next_multiple_of(MIB),
        };
        let entry = log::emit(&head, pages);
        self.file.write_at(&entry, journal.header.log_offset + journal.head)?;
        journal.head += length;
        journal.sequence_number =
            journal.sequence_number.checked_add(1).ok_or_else(|| exhausted(&*self.file))?;
        self.logged.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Brings what is in the log to its place; the log is not needed any more then.
    pub(super) fn checkpoint(&self, journal: &mut Journal) -> Result<(), ImageError> {
        if self.cache.is_dirty() {
            let logged = self.logged.load(Ordering::Acquire);
            journal.sync(&*self.file)?;
            self.synced.fetch_max(logged, Ordering::AcqRel);
            let taken = self.cache.take_dirty(());
            if let Err(error) = taken.write(&*self.file).and_then(|()| self.file.flush()) {
                taken.put_back(&self.cache);
                return Err(error);
            }
        }
        // The next entry begins a new log.
        journal.head = journal.header.log_length.into();
        Ok(())
    }

    /// Leaves the file without a log.
    pub(super) fn settle(&self) -> Result<(), ImageError> {
        if !self.started.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut journal = self.journal();
        if !journal.header.log_guid.is_nil() {
            self.checkpoint(&mut journal)?;
            journal.write_header(&*self.file, |header| header.log_guid = Uuid::nil())?;
        }
        self.file.flush()
    }

    /// Takes `length` bytes at the end of what is used, all zeroes. They are taken for good only
    /// when [`Journal::end`] is moved.
    pub(super) fn extend(&self, journal: &Journal, length: u64) -> Result<u64, ImageError> {
        let start = journal.end.next_multiple_of(MIB);
        let end = start.checked_add(length).ok_or_else(|| {
            self.error(ImageErrorKind::OutOfSpace, Operation::Write)
                .because("the file cannot be so long")
        })?;
        if self.file.length()? > start {
            // What a crash or a failed write left there is nobody's, and not zeroes.
            self.file.set_length(start)?;
        }
        self.file.set_length(end)?;
        Ok(start)
    }

    /// Space up to `end` is taken.
    pub(super) fn take(&self, journal: &mut Journal, end: u64) {
        journal.end = end;
        self.end.fetch_max(end, Ordering::AcqRel);
    }
}

/// A table's bytes as a sector.
pub(super) fn page_of(bytes: &[u8]) -> Box<Page> {
    let mut page = Box::new([0; SECTOR]);
    for (to, from) in page.iter_mut().zip(bytes) {
        *to = *from;
    }
    page
}

/// Where a table is, of which a word is byte `at`, and which word that is.
pub(super) fn place(at: u64) -> (u64, usize) {
    let start = at / log::SECTOR_BYTES * log::SECTOR_BYTES;
    (start, index((at - start) / 8))
}
