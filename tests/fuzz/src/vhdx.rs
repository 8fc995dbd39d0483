//! A VHDX of which some bytes lie, with checksums that are right: opened, used, opened again.
#![no_main]

mod image;

use std::sync::{Arc, OnceLock};

use disk_image::{ImageFormat, MemFile, OpenOptions, VhdxImage};
use image::{Input, LIMIT, exercise, new_image, patch};

/// Headers, region tables, and what looks like an entry of the log.
fn mend(bytes: &mut [u8]) {
    let mut sum = |start: usize, length: usize| {
        if let Some(piece) = bytes.get_mut(start..start + length) {
            piece[4..8].fill(0);
            let sum = crc32c::crc32c(piece).to_le_bytes();
            piece[4..8].copy_from_slice(&sum);
        }
    };
    for at in [64 << 10, 128 << 10] {
        sum(at, 4096);
    }
    for at in [192 << 10, 256 << 10] {
        sum(at, 64 << 10);
    }
    for at in ((1 << 20)..(1 << 20) + (64 << 10)).step_by(4096) {
        if bytes.get(at..at + 4) == Some(b"loge") {
            let length = bytes.get(at + 8..at + 12).and_then(|it| it.first_chunk());
            let length = length.map(|it| u32::from_le_bytes(*it));
            let length = (length.unwrap_or(0) as usize).clamp(4096, 64 << 10);
            if let Some(piece) = bytes.get_mut(at..at + length) {
                piece[4..8].fill(0);
                let sum = crc32c::crc32c(piece).to_le_bytes();
                piece[4..8].copy_from_slice(&sum);
            }
        }
    }
}

fn run(input: &[u8]) {
    static BASE: OnceLock<Vec<u8>> = OnceLock::new();
    let base = BASE.get_or_init(|| {
        let bytes = new_image(ImageFormat::Vhdx, 6 << 20, 1 << 20, "fuzz-vhdx");
        // With some blocks, and a log that was not replayed.
        let file = Arc::new(MemFile::new(bytes, LIMIT));
        let image = VhdxImage::open_bytes(file.clone(), &OpenOptions::default()).expect("it is whole");
        for at in [0, 3 << 20, 5 << 20] {
            use disk_image::Image as _;
            let data = [std::io::IoSlice::new(&[7; 512])];
            image.write(&data, at, disk_image::Durability::Cached).expect("it can be written");
        }
        file.contents()
    });
    let mut bytes = base.clone();
    let mut input = Input(input);
    patch(&mut bytes, &mut input);
    mend(&mut bytes);
    let file = Arc::new(MemFile::new(bytes, LIMIT));
    let open = |file: Arc<MemFile>| VhdxImage::open_bytes(file, &OpenOptions::default()).ok();
    exercise(&file, open, &mut input);
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| run(input));
