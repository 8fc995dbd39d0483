//! Headers: those of QEMU, those made here, and those that must not be believed.

use super::*;
use crate::create::{CreateOptions, Parent, Preallocation};
use crate::qcow2::create::{geometry, new_image_of};

fn new(options: &CreateOptions) -> Vec<u8> {
    new_image_of(options, geometry(options).unwrap()).unwrap()
}

fn thin(size: u64) -> CreateOptions {
    CreateOptions::new(size, Preallocation::Sparse)
}

fn refusal(bytes: &[u8]) -> (ImageErrorKind, String) {
    let problem = Header::parse(bytes).unwrap_err();
    (problem.kind, problem.reason)
}

#[test]
fn a_new_header_is_parsed_as_what_it_was_made_of() {
    let parent = Parent { path: "base.raw".into(), format: ImageFormat::Raw };
    let options = CreateOptions { parent: Some(parent), ..thin(5 << 30) };
    let header = Header::parse(&new(&options)).unwrap();
    assert_eq!((header.version, header.cluster_bits, header.size), (3, 16, 5 << 30));
    assert_eq!((header.l1_entries, header.refcount_order), (10, 4));
    let backing = Backing { name: "base.raw".to_owned(), format: "raw".to_owned() };
    assert_eq!(header.backing, Some(backing));
}

#[test]
fn what_cannot_be_handled_is_refused_by_name() {
    use ImageErrorKind::{Corrupt, InvalidFormat, Unsupported};
    let good = new(&thin(1 << 30));
    let with = |at: usize, bytes: &[u8]| {
        let mut image = good.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        refusal(&image)
    };
    for (at, bytes, kind, words) in [
        (0, &b"QFIx"[..], InvalidFormat, "mark of qcow2"),
        (7, &[4], Unsupported, "version 4"),
        (23, &[8], Unsupported, "2^8"),
        (23, &[22], Unsupported, "2^22"),
        (35, &[1], Unsupported, "encrypted"),
        (47, &[1], Corrupt, "inside of a cluster"),
        (36, &[0x7f], Unsupported, "L1 table"),
        (36, &[0, 0, 0, 1], Corrupt, "does not fit"),
        (59, &[0], Unsupported, "reference count table"),
        (60, &[1], Unsupported, "snapshots"),
        (79, &[1 << 2], Unsupported, "external data file"),
        (79, &[1 << 4], Unsupported, "extended L2"),
        (72, &[1 << 7], Unsupported, "bit 63"),
        (79, &[1 << 3], Corrupt, ""), /* zlib must not be named so */
        (99, &[7], Unsupported, "2^7 bits"),
        (103, &[96], Corrupt, "96 bytes"),
        (103, &[105], Corrupt, "105 bytes"),
        (24, &[0xff], Corrupt, "does not fit"),
        (15, &[200], Corrupt, "backing file's name"),
    ] {
        if (at, bytes) == (79, &[1 << 3][..]) {
            assert_eq!(with(at, bytes).0, Unsupported);
            continue;
        }
        let (found, reason) = with(at, bytes);
        assert_eq!(found, kind, "{at}: {reason}");
        assert!(reason.contains(words), "{at}: {reason}");
    }
}

#[test]
fn an_unknown_feature_is_called_as_the_image_calls_it() {
    let mut image = new(&thin(1 << 20));
    image[72..80].copy_from_slice(&(1_u64 << 20).to_be_bytes());
    let mut table = FEATURE_NAMES.to_be_bytes().to_vec();
    table.extend(48_u32.to_be_bytes());
    table.extend([0, 20]);
    table.extend(b"telepathy");
    table.resize(56, 0);
    image[112..168].copy_from_slice(&table);
    let (kind, reason) = refusal(&image);
    assert_eq!(kind, ImageErrorKind::Unsupported);
    assert!(reason.contains("bit 20, `telepathy`"), "{reason}");
}

#[test]
fn a_backing_file_without_its_format_is_refused() {
    let mut image = new(&thin(1 << 20));
    image[8..16].copy_from_slice(&512_u64.to_be_bytes());
    image[16..20].copy_from_slice(&5_u32.to_be_bytes());
    image[512..517].copy_from_slice(b"other");
    let (kind, reason) = refusal(&image);
    assert_eq!(kind, ImageErrorKind::Unsupported);
    assert!(reason.contains("`other`") && reason.contains("rebase"), "{reason}");
}

#[test]
fn a_header_that_is_cut_off_is_refused_wherever_that_is() {
    let good = new(&thin(1 << 30));
    for length in 0..112 {
        assert!(Header::parse(&good[..length]).is_err(), "{length}");
    }
}
