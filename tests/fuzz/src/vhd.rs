//! A VHD of which some bytes lie, with checksums that are right: opened, used, opened again.
#![no_main]

mod image;

use std::sync::{Arc, OnceLock};

use disk_image::{ImageFormat, MemFile, OpenOptions, VhdImage};
use image::{Input, LIMIT, exercise, new_image, patch};

/// Both footers and the header.
fn mend(bytes: &mut [u8]) {
    let last = bytes.len().saturating_sub(512);
    for (start, length, at) in [(0, 512, 64), (last, 512, 64), (512, 1024, 36)] {
        let Some(piece) = bytes.get_mut(start..start + length) else { continue };
        piece[at..at + 4].fill(0);
        let sum = piece.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        piece[at..at + 4].copy_from_slice(&(!sum).to_be_bytes());
    }
}

fn run(input: &[u8]) {
    static BASE: OnceLock<Vec<u8>> = OnceLock::new();
    let base = BASE.get_or_init(|| {
        let bytes = new_image(ImageFormat::Vhd, 3 << 20, 1 << 19, "fuzz-vhd");
        let file = Arc::new(MemFile::new(bytes, LIMIT));
        let image = VhdImage::open_bytes(file.clone(), &OpenOptions::default()).expect("it is whole");
        for at in [0, 2 << 20] {
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
    let open = |file: Arc<MemFile>| VhdImage::open_bytes(file, &OpenOptions::default()).ok();
    exercise(&file, open, &mut input);
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| run(input));
