//! Files that are cut off, contradict themselves or mean harm.

use proptest::prelude::*;

use super::*;

/// An image with data in it, and where its tables are.
fn image() -> (Vec<u8>, usize, usize) {
    let file = Shape::new(12, 8 << 20).file();
    let image = open(&file);
    write(&image, 0, &[7; 100_000]).unwrap();
    write(&image, 5 << 20, &[8; 100_000]).unwrap();
    drop(image);
    let bytes = file.contents();
    let number =
        |at: usize| usize::try_from(u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()));
    let l1 = number(40).unwrap();
    let l2 = number(l1).unwrap() & 0x00ff_ffff_ffff_fe00;
    (bytes, l1, l2)
}

fn refusal(bytes: Vec<u8>) -> String {
    let error = try_open(&Arc::new(MemFile::new(bytes, FILE_LIMIT)), None).unwrap_err();
    assert_eq!(error.kind(), ImageErrorKind::Corrupt, "{error}");
    assert_eq!(error.operation(), Operation::Open);
    error.to_string()
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

#[test]
fn tables_that_overlap_or_lie_outside_of_the_file_are_refused_when_it_is_opened() {
    let (good, l1, l2) = image();
    let l2 = l2 as u64;
    let with = |at: usize, value: u64| {
        let mut bytes = good.clone();
        put(&mut bytes, at, value);
        refusal(bytes)
    };
    for (at, value, words) in [
        (l1, l2 + 512, "entry 0 of the L1 table is not valid"),
        (l1, l2 | 1, "not valid"),
        (l1, 1 << 56 | l2, "not valid"),
        (l1, 1 << 40, "beyond the end"),
        (l1, 1 << 63, "refers to the header"),
        // One table twice, a table that is another one.
        (l1 + 8, l2, "overlaps"),
        (l1, l1 as u64, "overlaps"),
        (l1, 4096, "overlaps"),
        // The L1 table in the header, behind the end, or another table.
        (40, 0, "not inside of the file"),
        (40, 1 << 50, "not inside of the file"),
        (40, 4096, "overlaps"),
        (48, 1 << 40, "not inside of the file"),
        (48, l1 as u64, ""),
        (4096, 4096, "overlaps"),
        (4096, 1 << 40, "beyond the end"),
        (4096, 7, "not valid"),
    ] {
        let message = with(at, value);
        assert!(message.contains(words), "{at} {value:#x}: {message}");
    }
}

#[test]
fn entries_that_lie_are_met_and_not_followed() {
    let (good, l1, l2) = image();
    for (value, words) in [
        (1_u64 << 40 | 1 << 63, "beyond the end"),
        (0x2200, "middle of a cluster"),
        (1 << 63, "header"),
        (1 << 57 | 0x2000, "reserved"),
        (1 << 62 | 1 << 40, "beyond the end"),
    ] {
        let mut bytes = good.clone();
        put(&mut bytes, l2 + 8, value);
        let file = Arc::new(MemFile::new(bytes.clone(), FILE_LIMIT));
        let image = open(&file);
        assert_eq!(read(&image, 0, 4096).unwrap(), [7; 4096]);
        let error = read(&image, 4000, 200).unwrap_err();
        assert_eq!((error.kind(), error.offset()), (ImageErrorKind::Corrupt, Some(4000)));
        assert!(error.to_string().contains(words), "{error}");
        for result in [write(&image, 5000, &[1]), image.unmap(0, 8 << 20)] {
            assert_eq!(result.unwrap_err().kind(), ImageErrorKind::Corrupt);
        }
        assert!(check_file(&*file, true).unwrap().error_count > 0);
    }
    // Data where a table is: reading it harms nobody, writing would.
    for place in [l1, l2, 4096] {
        let mut bytes = good.clone();
        put(&mut bytes, l2, place as u64 | 1 << 63);
        let file = Arc::new(MemFile::new(bytes.clone(), FILE_LIMIT));
        let image = open(&file);
        let error = write(&image, 0, &[1]).unwrap_err();
        assert!(error.to_string().contains("holds metadata"), "{error}");
        assert_eq!(file.contents()[..bytes.len()], bytes);
    }
}

#[test]
fn what_an_entry_gives_up_is_never_a_table_or_the_header() {
    let (good, l1, l2) = image();
    // Compressed data in the header; a table as data that a snapshot has too, or as kept space.
    for value in [1 << 62, l1 as u64, l2 as u64 | 1, 1 << 63 | l1 as u64 | 1, 4096] {
        let mut bytes = good.clone();
        put(&mut bytes, l2, value);
        let file = Arc::new(MemFile::new(bytes.clone(), FILE_LIMIT));
        let image = open(&file);
        let results = [
            write(&image, 0, &[1; 4096]),
            write(&image, 10, &[1]),
            image.unmap(0, 8192),
            image.write_zeroes(0, 4096, false),
        ];
        for (n, result) in results.into_iter().enumerate() {
            // Zeroes that have their space are as they should be.
            if let Err(error) = result {
                assert!(error.to_string().contains("metadata"), "{value:#x}, {n}: {error}");
            } else {
                assert_eq!(n, 3, "{value:#x}");
            }
        }
        image.flush().unwrap();
        drop(image);
        assert_eq!(file.contents()[..4096], bytes[..4096]);
        assert_eq!(file.contents()[l1..l1 + 4096], bytes[l1..l1 + 4096]);
    }
}

#[test]
fn a_count_of_0_for_what_is_in_use_does_not_have_it_given_away() {
    let (mut bytes, l1, _) = image();
    // No counts at all: everything looks free.
    let block = usize::try_from(u64::from_be_bytes(bytes[4096..4104].try_into().unwrap())).unwrap();
    bytes[block..block + 4096].fill(0);
    let file = Arc::new(MemFile::new(bytes, FILE_LIMIT));
    assert!(check_file(&*file, true).unwrap().error_count > 0);
    let image = open(&file);
    let tables = file.contents()[l1..l1 + 4096].to_vec();
    for n in 0..200 {
        let _ = write(&image, n * 40_000, &[n.to_le_bytes()[0]; 3000]);
    }
    drop(image);
    let after = &file.contents()[l1..l1 + 8];
    assert_eq!(after, &tables[..8], "a table was given away");
}

#[test]
fn an_image_that_is_cut_off_is_refused_or_fails_where_it_ends() {
    let (good, ..) = image();
    for length in (0..good.len()).step_by(1000) {
        let file = Arc::new(MemFile::new(good[..length].to_vec(), FILE_LIMIT));
        let Ok(image) = try_open(&file, None) else { continue };
        match read(&image, 0, 8 << 20) {
            // A cluster that is cut short is filled up with zeroes, as QEMU does it.
            Ok(bytes) => assert!(bytes[..40_000] == [7; 40_000], "{length}"),
            Err(error) => assert!(
                matches!(error.kind(), ImageErrorKind::Corrupt | ImageErrorKind::ShortTransfer),
                "{error}"
            ),
        }
    }
}

#[test]
fn a_failed_write_of_tables_is_told_and_tried_again() {
    let file = Shape::new(12, 1 << 20).file();
    let image = open(&file);
    write(&image, 0, &[7; 100_000]).unwrap();
    file.inject(crate::fault::Fault::errno(Operation::Write, 5));
    assert_eq!(image.flush().unwrap_err().kind(), ImageErrorKind::Io);
    assert_eq!(read(&image, 0, 100_000).unwrap(), [7; 100_000]);
    file.heal();
    image.flush().unwrap();
    assert_eq!(sound(&file), 0);
    assert_eq!(read(&open(&file), 0, 100_000).unwrap(), [7; 100_000]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_it_panic_or_write_over_the_header(
        changes in prop::collection::vec((0_usize..20_000, any::<u8>()), 1..6),
        cut in prop::option::of(0_usize..300_000),
    ) {
        let (mut bytes, ..) = image();
        for (at, value) in changes {
            bytes[at] = value;
        }
        bytes.truncate(cut.unwrap_or(bytes.len()));
        let file = Arc::new(MemFile::new(bytes, FILE_LIMIT));
        let _ = check_file(&*file, true);
        if let Ok(image) = try_open(&file, None) {
            let size = image.size_bytes().min(8 << 20);
            let _ = read(&image, 0, usize::try_from(size).unwrap());
            let _ = write(&image, 3000, &[1; 5000]);
            let _ = write(&image, 6 << 20, &[1; 50_000]);
            let _ = image.unmap(0, size / 2);
            let _ = image.write_zeroes(size / 2, size / 4, false);
            let _ = image.block_status(0, size.max(1));
            let _ = image.flush();
            let _ = image.grow(size + (1 << 20));
            drop(image);
            prop_assert_eq!(&file.contents()[..4], b"QFI\xfb");
        }
    }
}
