//! Any bytes as a qcow2 file: opened, read, written, checked.
#![no_main]

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;

use disk_image::{CacheBudget, Durability, Image as _, MemFile, OpenOptions, Qcow2Image, Wait};

/// The file may become so long.
const LIMIT: usize = 4 << 20;
/// So much of the disk is looked at.
const SEEN: u64 = 1 << 20;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // What is done to it is in the last bytes.
    let (bytes, calls) = input.split_at(input.len() - input.len().min(24));
    let file = Arc::new(MemFile::new(bytes.to_vec(), LIMIT));
    let options = OpenOptions { cache: CacheBudget::of(1 << 16), ..OpenOptions::default() };
    let reader = Arc::new(MemFile::read_only(bytes.to_vec()));
    if let Ok(image) = Qcow2Image::open_file(reader.clone(), &options) {
        let length = usize::try_from(image.size_bytes().min(SEEN)).unwrap_or(0);
        let mut data = vec![0; length];
        let _ = image.read(&mut [IoSliceMut::new(&mut data)], 0, Wait::Block);
    }
    assert!(file.contents() == bytes);
    let _ = disk_image::check_qcow2_file(&*reader, false);
    let Ok(image) = Qcow2Image::open_file(file.clone(), &options) else { return };
    let size = image.size_bytes();
    for call in calls.chunks_exact(4) {
        let &[kind, place, length, fill] = call else { continue };
        let offset = (u64::from(place) << 12 | u64::from(fill)).min(size);
        let length = (u64::from(length) * 97).min(size - offset);
        let mut data = vec![fill; usize::try_from(length).unwrap_or(0)];
        let _ = match kind % 6 {
            0 => image.write(&[IoSlice::new(&data)], offset, Durability::Cached),
            1 => image.read(&mut [IoSliceMut::new(&mut data)], offset, Wait::Block),
            2 => image.unmap(offset, length),
            3 => image.write_zeroes(offset, length, false),
            4 => image.flush(),
            _ => image.grow(size + length),
        };
        if length > 0 {
            let _ = image.block_status(offset, length);
        }
    }
    drop(image);
    assert!(file.contents().starts_with(b"QFI\xfb"), "the header was written over");
});
