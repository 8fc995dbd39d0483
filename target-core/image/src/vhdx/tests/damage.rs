//! Files that lie.

use super::*;

/// A dynamic disk with two blocks, closed.
fn bytes_of_disk() -> Vec<u8> {
    let disk = Disk::new(VARIANTS[0], 4 * MIB);
    let image = disk.open();
    write_at(&image, 0, &[1; 4096]);
    write_at(&image, 2 * MIB, &[2; 4096]);
    drop(image);
    disk.file.contents()
}

fn refused(change: impl FnOnce(&mut Vec<u8>)) -> (ImageErrorKind, String) {
    let mut bytes = bytes_of_disk();
    change(&mut bytes);
    let opened = open(Arc::new(MemFile::new(bytes, LIMIT)), &mut NoParents).map(|_| "it opens");
    let error = opened.unwrap_err();
    (error.kind(), error.reason().unwrap_or_default().to_owned())
}

const BAT: usize = 3 << 20;

fn entry(bytes: &mut [u8], index: usize, entry: u64) {
    let at = BAT + index * 8;
    bytes[at..at + 8].copy_from_slice(&entry.to_le_bytes());
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let corrupt = |change: &dyn Fn(&mut Vec<u8>), reason: &str| {
        let (kind, found) = refused(|bytes| change(bytes));
        assert_eq!(kind, ImageErrorKind::Corrupt, "{found}");
        assert!(found.contains(reason), "{found:?} has no {reason:?}");
    };
    let end = 6 * MIB;
    corrupt(&|bytes| entry(bytes, 1, (4 * MIB) | 6), "two blocks claim the space");
    corrupt(&|bytes| entry(bytes, 1, (3 * MIB) | 6), "two blocks claim the space");
    corrupt(&|bytes| entry(bytes, 1, (MIB) | 6), "two blocks claim the space");
    corrupt(&|bytes| entry(bytes, 1, 6), "into the headers");
    corrupt(&|bytes| entry(bytes, 1, end | 6), "the file at");
    corrupt(&|bytes| entry(bytes, 1, u64::MAX - 1), "points nowhere");
    corrupt(&|bytes| entry(bytes, 1, 5), "reserved");
    corrupt(&|bytes| entry(bytes, 1, (5 * MIB) | 7), "needs a parent");
    corrupt(&|bytes| bytes.truncate(5 << 20), "a block ends at");
    corrupt(&|bytes| bytes.truncate(3 << 20), "a region ends at");
    let headers = |bytes: &mut Vec<u8>| {
        bytes[(64 << 10) + 100] ^= 1;
        bytes[(128 << 10) + 100] ^= 1;
    };
    corrupt(&headers, "both headers");
    corrupt(&|bytes| bytes[2 << 20] ^= 1, "metadata table");
    let (kind, _) = refused(|bytes| bytes[0] = b'V');
    assert_eq!(kind, ImageErrorKind::InvalidFormat);
    let (kind, _) = refused(Vec::clear);
    assert_eq!(kind, ImageErrorKind::InvalidFormat);
    let (kind, _) = refused(|bytes| bytes.truncate(4096));
    assert_eq!(kind, ImageErrorKind::Corrupt);
}

#[test]
fn reserved_entries_that_mean_nothing_do_no_harm() {
    let mut bytes = bytes_of_disk();
    entry(&mut bytes, 1, (77 * MIB) | 2);
    entry(&mut bytes, 3, (4 * MIB) | 1);
    let image = open(Arc::new(MemFile::new(bytes, LIMIT)), &mut NoParents).unwrap();
    for block in [1, 3] {
        assert_eq!(read_at(&image, block * MIB, 4096).unwrap(), [0; 4096]);
        write_at(&image, block * MIB + 512, &[block as u8; 512]);
    }
    assert_eq!(read_at(&image, 0, 4096).unwrap(), [1; 4096]);
    assert_eq!(read_at(&image, 3 * MIB, 1024).unwrap(), [[0; 512], [3; 512]].concat());
}

/// A log with changes in it, as a kill leaves it.
fn killed() -> Vec<u8> {
    let disk = Disk::new(VARIANTS[0], 4 * MIB);
    let image = disk.open();
    for block in 0..3 {
        write_at(&image, block * MIB, &[block as u8 + 1; 4096]);
    }
    disk.file.contents()
}

#[test]
fn a_log_is_replayed_up_to_what_is_whole() {
    let whole = killed();
    let blocks = |bytes: Vec<u8>| {
        let image = open(Arc::new(MemFile::new(bytes, LIMIT)), &mut NoParents).unwrap();
        [0, 1, 2].map(|block| read_at(&image, block * MIB, 1).unwrap()[0])
    };
    assert_eq!(blocks(whole.clone()), [1, 2, 3]);
    let log = 1 << 20;
    for (at, expected) in [(2, [1, 2, 0]), (1, [1, 0, 0]), (0, [0, 0, 0])] {
        // Torn in its data, in its descriptor, in its head.
        for within in [8000, 100, 20] {
            let mut torn = whole.clone();
            torn[log + at * 8192 + within] ^= 0xff;
            assert_eq!(blocks(torn), expected, "entry {at} byte {within}");
        }
    }
}

#[test]
fn a_log_that_must_not_be_replayed_is_not() {
    let whole = killed();
    let error = VhdxImage::open(
        Arc::new(MemFile::read_only(whole.clone())),
        &OpenOptions::read_only(),
        &mut NoParents,
    );
    assert_eq!(error.map(|_| ()).unwrap_err().kind(), ImageErrorKind::ReadOnly);
    // An entry of somebody who changes the headers.
    let mut bytes = whole;
    let guid = log_guid(&bytes);
    let head = log::EntryHead {
        tail: 0,
        sequence_number: 500,
        log_guid: guid,
        flushed_file_offset: 0,
        last_file_offset: 7 * MIB,
    };
    for (offset, flushed, reason) in [
        (64 << 10, 0, "changes 4096 bytes at 65536"),
        (1 << 20, 0, "changes 4096 bytes at 1048576"),
        (7 << 20, 0, "changes 4096 bytes at"),
        (3 << 20, 900 * MIB, "was truncated"),
    ] {
        let head = log::EntryHead { flushed_file_offset: flushed, ..head };
        let entry = log::emit(&head, &[(offset, &[0; 4096])]);
        bytes[1 << 20..(1 << 20) + entry.len()].copy_from_slice(&entry);
        let opened = open(Arc::new(MemFile::new(bytes.clone(), LIMIT)), &mut NoParents);
        let error = opened.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ImageErrorKind::Corrupt);
        assert!(error.reason().unwrap().contains(reason), "{error}");
    }
}
