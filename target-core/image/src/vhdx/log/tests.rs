//! Logs as others write them: wrapped, stale, torn, dishonest.

use super::*;
use crate::error::ImageErrorKind;

const RING: usize = 1 << 20;

fn guid() -> Uuid {
    Uuid::from_u128(0xabc)
}

fn head(sequence_number: u64, tail: usize) -> EntryHead {
    EntryHead {
        tail: u32::try_from(tail).unwrap(),
        sequence_number,
        log_guid: guid(),
        flushed_file_offset: 1 << 20,
        last_file_offset: 2 << 20,
    }
}

/// Puts an entry into a ring, which may wrap; where the next one goes.
fn put(ring: &mut [u8], at: usize, head: &EntryHead, pages: &[(u64, &Page)]) -> usize {
    let bytes = emit(head, pages);
    for (place, byte) in bytes.iter().enumerate() {
        ring[(at + place) % RING] = *byte;
    }
    (at + bytes.len()) % RING
}

fn numbers(ring: &[u8]) -> Vec<u64> {
    let entries = Log::new(ring, guid()).active().unwrap();
    entries.iter().map(|entry| entry.head.sequence_number).collect()
}

fn page(fill: u8) -> Page {
    let mut page = [fill; SECTOR];
    page[..8].fill(fill ^ 0xf0);
    page[SECTOR - 4..].fill(fill ^ 0x0f);
    page
}

#[test]
fn an_entry_survives() {
    let mut ring = vec![0; RING];
    let pages: Vec<Page> = (0..130).map(page).collect();
    let offsets = (0..).map(|place| 4096 * place);
    let pages: Vec<_> = offsets.zip(&pages).collect();
    put(&mut ring, 0, &head(1 << 40 | 7, 0), &pages);
    let entries = Log::new(&ring, guid()).active().unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].head, head(1 << 40 | 7, 0));
    for ((offset, page), change) in pages.iter().zip(&entries[0].changes) {
        assert_eq!(*change, Change::Data { offset: *offset, page: Box::new(**page) });
    }
}

#[test]
fn the_run_with_the_greatest_number_counts_from_its_tail() {
    let mut ring = vec![0; RING];
    assert_eq!(numbers(&ring), []);
    // An old run that nobody needs, and one that wraps.
    let old = put(&mut ring, 400 << 10, &head(3, 400 << 10), &[(0, &page(1))]);
    put(&mut ring, old, &head(4, old), &[(0, &page(1))]);
    let start = RING - 12288;
    let mut at = put(&mut ring, start, &head(10, start), &[(0, &page(1))]);
    at = put(&mut ring, at, &head(11, start), &[(0, &page(2))]);
    assert_eq!(at, 4096);
    assert_eq!(numbers(&ring), [10, 11]);
    let second = at;
    at = put(&mut ring, at, &head(12, second), &[(0, &page(3))]);
    assert_eq!(numbers(&ring), [12]);
    // What follows does not belong to it.
    put(&mut ring, at, &head(14, at), &[(0, &page(4))]);
    assert_eq!(numbers(&ring), [14]);
}

#[test]
fn a_run_without_its_tail_and_an_entry_of_another_log_do_not_count() {
    let mut ring = vec![0; RING];
    put(&mut ring, 0, &head(5, 8192), &[(0, &page(1))]);
    assert_eq!(numbers(&ring), []);
    let other = EntryHead { log_guid: Uuid::from_u128(1), ..head(6, 0) };
    put(&mut ring, 0, &other, &[(0, &page(1))]);
    assert_eq!(numbers(&ring), []);
    put(&mut ring, 0, &head(0, 0), &[(0, &page(1))]);
    assert_eq!(numbers(&ring), [], "the number 0 is none");
}

#[test]
fn no_byte_of_an_entry_may_differ() {
    let mut ring = vec![0; RING];
    let end = put(&mut ring, 0, &head(5, 0), &[(0, &page(1)), (4096, &page(2))]);
    for at in (0..end).step_by(97) {
        let mut torn = ring.clone();
        torn[at] ^= 1;
        assert_eq!(numbers(&torn), [], "byte {at}");
    }
}

#[test]
fn zeroes_are_a_range() {
    let mut bytes = emit(&head(1, 0), &[(4096, &page(1))]);
    // The descriptor says zeroes instead.
    bytes[64..68].copy_from_slice(b"zero");
    bytes[72..80].copy_from_slice(&8192u64.to_le_bytes());
    let sum = checksum(&bytes).to_le_bytes();
    bytes[4..8].copy_from_slice(&sum);
    let mut ring = vec![0; RING];
    ring[..bytes.len()].copy_from_slice(&bytes);
    let entries = Log::new(&ring, guid()).active().unwrap();
    assert_eq!(entries[0].changes, [Change::Zero { offset: 4096, length: 8192 }]);
}

#[test]
fn a_log_made_to_waste_time_is_refused() {
    let mut ring = vec![0; RING];
    // Each sector looks like an entry that is as long as the log.
    for at in (0..RING).step_by(SECTOR) {
        let bytes = emit(&head(1, 0), &[]);
        ring[at..at + SECTOR].copy_from_slice(&bytes);
        ring[at + 8..at + 12].copy_from_slice(&u32::try_from(RING).unwrap().to_le_bytes());
    }
    let refused = Log::new(&ring, guid()).active().unwrap_err();
    assert_eq!(refused.kind(), ImageErrorKind::Corrupt);
}
