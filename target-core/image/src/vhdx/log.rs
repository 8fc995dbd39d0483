//! The log ([MS-VHDX] 2.3): its entries, and which of them count.

use std::collections::HashMap;

use uuid::Uuid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::header::checksum;
use crate::defect::Defect;

/// Bytes of a sector of the log, and of what one descriptor replaces.
pub(super) const SECTOR: usize = 4096;
/// The same, as an offset.
pub(super) const SECTOR_BYTES: u64 = 4096;
const HEADER: usize = 64;
const DESCRIPTOR: usize = 32;

/// A sector of the file as the log replaces it.
pub(super) type Page = [u8; SECTOR];

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    signature: [u8; 4],
    checksum: U32,
    entry_length: U32,
    tail: U32,
    sequence_number: U64,
    descriptor_count: U32,
    reserved: U32,
    log_guid: [u8; 16],
    flushed_file_offset: U64,
    last_file_offset: U64,
}

/// A descriptor of either kind: `zero` uses `middle` as its length, `desc` `trailing` and `middle`
/// as the last 4 and the first 8 bytes of its sector.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawDescriptor {
    signature: [u8; 4],
    trailing: [u8; 4],
    middle: [u8; 8],
    file_offset: U64,
    sequence_number: U64,
}

#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawSector {
    signature: [u8; 4],
    sequence_high: U32,
    data: [u8; 4084],
    sequence_low: U32,
}

/// What an entry says besides its changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryHead {
    /// Where in the log the first entry that is needed stands.
    pub(super) tail: u32,
    /// Grows by one from entry to entry.
    pub(super) sequence_number: u64,
    /// The log that the entry belongs to.
    pub(super) log_guid: Uuid,
    /// The file has been at least so long on the medium: less means that it was truncated.
    pub(super) flushed_file_offset: u64,
    /// The file must be at least so long once the entry counts.
    pub(super) last_file_offset: u64,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// Zeroes.
    Zero {
        /// First byte in the file.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// New contents of a sector.
    Data {
        /// First byte in the file.
        offset: u64,
        /// The contents.
        page: Box<Page>,
    },
}

/// An entry that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// What it says besides its changes.
    pub(super) head: EntryHead,
    /// Bytes of the log.
    pub(super) length: u32,
    /// Its changes, in order.
    pub(super) changes: Vec<Change>,
}

fn descriptor_sectors(descriptors: usize) -> usize {
    (HEADER + descriptors * DESCRIPTOR).div_ceil(SECTOR)
}

/// Bytes of an entry that replaces so many sectors.
pub(super) fn entry_length(pages: usize) -> usize {
    (descriptor_sectors(pages) + pages) * SECTOR
}

/// The bytes of an entry that replaces sectors of the file.
pub(super) fn emit(head: &EntryHead, pages: &[(u64, &Page)]) -> Vec<u8> {
    let length = entry_length(pages.len());
    let narrow = |value: usize| U32::new(u32::try_from(value).unwrap_or(0));
    let header = RawHeader {
        signature: *b"loge",
        checksum: U32::new(0),
        entry_length: narrow(length),
        tail: U32::new(head.tail),
        sequence_number: U64::new(head.sequence_number),
        descriptor_count: narrow(pages.len()),
        reserved: U32::new(0),
        log_guid: head.log_guid.to_bytes_le(),
        flushed_file_offset: U64::new(head.flushed_file_offset),
        last_file_offset: U64::new(head.last_file_offset),
    };
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(header.as_bytes());
    for (offset, page) in pages {
        let (leading, _) = page.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        let (_, trailing) = page.split_last_chunk::<4>().unwrap_or((&[], &[0; 4]));
        let descriptor = RawDescriptor {
            signature: *b"desc",
            trailing: *trailing,
            middle: *leading,
            file_offset: U64::new(*offset),
            sequence_number: U64::new(head.sequence_number),
        };
        bytes.extend_from_slice(descriptor.as_bytes());
    }
    bytes.resize(descriptor_sectors(pages.len()) * SECTOR, 0);
    let [a, b, c, d, low @ ..] = head.sequence_number.to_be_bytes();
    for (_, page) in pages {
        bytes.extend_from_slice(b"data");
        bytes.extend_from_slice(U32::new(u32::from_be_bytes([a, b, c, d])).as_bytes());
        bytes.extend_from_slice(page.get(8..SECTOR - 4).unwrap_or_default());
        bytes.extend_from_slice(U32::new(u32::from_be_bytes(low)).as_bytes());
    }
    let sum = checksum(&bytes).to_le_bytes();
    for (byte, sum) in bytes.iter_mut().skip(4).zip(sum) {
        *byte = sum;
    }
    bytes
}

/// A log as it stands in the file, all of it.
#[derive(Debug)]
pub(super) struct Log<'a> {
    ring: &'a [u8],
    guid: Uuid,
}

impl<'a> Log<'a> {
    /// The log in `ring`, whose length is a multiple of 1 MiB.
    pub(super) fn new(ring: &'a [u8], guid: Uuid) -> Self {
        Self { ring, guid }
    }

    fn piece(&self, at: usize, length: usize) -> Option<Vec<u8>> {
        if length > self.ring.len() {
            return None;
        }
        let first = self.ring.get(at..)?;
        let first = first.get(..length).unwrap_or(first);
        let mut bytes = first.to_vec();
        bytes.extend_from_slice(self.ring.get(..length - first.len())?);
        Some(bytes)
    }

    /// The length that an entry at this place would have, if there may be one.
    fn candidate(&self, at: usize) -> Option<usize> {
        let (header, _) = RawHeader::read_from_prefix(self.ring.get(at..)?).ok()?;
        let length = usize::try_from(header.entry_length.get()).ok()?;
        let descriptors = usize::try_from(header.descriptor_count.get()).ok()?;
        let plausible = header.signature == *b"loge"
            && header.log_guid == self.guid.to_bytes_le()
            && header.sequence_number.get() > 0
            && length > 0
            && length <= self.ring.len()
            && length.is_multiple_of(SECTOR)
            && descriptors <= self.ring.len() / DESCRIPTOR
            && descriptor_sectors(descriptors) * SECTOR <= length
            && header.tail.get().is_multiple_of(4096)
            && usize::try_from(header.tail.get()).is_ok_and(|tail| tail < self.ring.len());
        plausible.then_some(length)
    }

    /// The entry at this place, or `None` if there is no whole one.
    fn entry(&self, at: usize) -> Option<Entry> {
        let bytes = self.piece(at, self.candidate(at)?)?;
        let (header, rest) = RawHeader::ref_from_prefix(&bytes).ok()?;
        if header.checksum.get() != checksum(&bytes) {
            return None;
        }
        let sequence = header.sequence_number.get();
        let count = usize::try_from(header.descriptor_count.get()).ok()?;
        let (descriptors, _) = <[RawDescriptor]>::ref_from_prefix_with_elems(rest, count).ok()?;
        let mut sectors = bytes.get(descriptor_sectors(count) * SECTOR..)?;
        let mut changes = Vec::with_capacity(count);
        for descriptor in descriptors {
            let offset = descriptor.file_offset.get();
            if descriptor.sequence_number.get() != sequence || !offset.is_multiple_of(SECTOR_BYTES)
            {
                return None;
            }
            changes.push(match &descriptor.signature {
                b"zero" => {
                    let length = u64::from_le_bytes(descriptor.middle);
                    if !length.is_multiple_of(SECTOR_BYTES) {
                        return None;
                    }
                    Change::Zero { offset, length }
                }
                b"desc" => {
                    let (sector, rest) = RawSector::ref_from_prefix(sectors).ok()?;
                    sectors = rest;
                    let number = u64::from(sector.sequence_high.get()) << 32
                        | u64::from(sector.sequence_low.get());
                    if sector.signature != *b"data" || number != sequence {
                        return None;
                    }
                    Change::Data { offset, page: page(descriptor, sector) }
                }
                _ => return None,
            });
        }
        Some(Entry {
            head: EntryHead {
                tail: header.tail.get(),
                sequence_number: sequence,
                log_guid: self.guid,
                flushed_file_offset: header.flushed_file_offset.get(),
                last_file_offset: header.last_file_offset.get(),
            },
            length: header.entry_length.get(),
            changes,
        })
    }

    /// The entries of the active sequence from its tail to its head, in order (2.3.3). Empty if no
    /// entry counts.
    pub(super) fn active(&self) -> Result<Vec<Entry>, Defect> {
        // Whole entries do not overlap in an honest log: each byte is summed once, plus what looks
        // like the start of an entry and is none.
        let mut budget = self.ring.len().saturating_mul(16);
        let mut entries: HashMap<usize, Entry> = HashMap::new();
        for at in (0..self.ring.len()).step_by(SECTOR) {
            let Some(length) = self.candidate(at) else { continue };
            budget = budget.checked_sub(length).ok_or_else(|| {
                Defect::corrupt("the log has more overlapping entries than can be honest")
            })?;
            if let Some(entry) = self.entry(at) {
                entries.insert(at, entry);
            }
        }
        let best = self.sequences(&entries).max_by_key(|run| {
            let head = run.last().and_then(|at| entries.get(at));
            head.map_or(0, |head| head.head.sequence_number)
        });
        let Some(mut run) = best else { return Ok(Vec::new()) };
        // What lies before the tail is done already.
        let tail = run.last().and_then(|head| entries.get(head)).map(|head| head.head.tail);
        let tail = tail.and_then(|tail| usize::try_from(tail).ok());
        if let Some(first) = run.iter().position(|at| Some(*at) == tail) {
            run.drain(..first);
        }
        Ok(run.iter().filter_map(|at| entries.remove(at)).collect())
    }

    /// Runs of entries whose numbers follow each other, as long as they can be, whose last one has
    /// its tail within the run. Each is the places of its entries.
    fn sequences<'e>(
        &'e self,
        entries: &'e HashMap<usize, Entry>,
    ) -> impl Iterator<Item = Vec<usize>> + 'e {
        let next = |at: usize| {
            let entry = entries.get(&at)?;
            let length = usize::try_from(entry.length).ok()?;
            let next = (at + length) % self.ring.len();
            let number = entry.head.sequence_number.checked_add(1)?;
            let follows = entries.get(&next)?.head.sequence_number == number;
            follows.then_some(next)
        };
        let followers: std::collections::HashSet<usize> =
            entries.keys().filter_map(|at| next(*at)).collect();
        // A run that begins in the middle of another ends where that does, and has less to offer.
        let starts = entries.keys().copied().filter(move |at| !followers.contains(at));
        starts.filter_map(move |start| {
            let mut run = vec![start];
            let mut last = start;
            while let Some(at) = next(last) {
                run.push(at);
                last = at;
            }
            let tail = usize::try_from(entries.get(&last)?.head.tail).ok()?;
            run.contains(&tail).then_some(run)
        })
    }
}

fn page(descriptor: &RawDescriptor, sector: &RawSector) -> Box<Page> {
    let mut page = Box::new([0; SECTOR]);
    let parts = descriptor.middle.iter().chain(&sector.data).chain(&descriptor.trailing);
    for (to, from) in page.iter_mut().zip(parts) {
        *to = *from;
    }
    page
}

#[cfg(test)]
mod tests;
