//! What the targets of disk images have in common: a whole image, patches that lie, calls.

use std::io::{IoSlice, IoSliceMut};
use std::path::PathBuf;
use std::sync::Arc;

use disk_image::{
    CreateOptions, Durability, Image, ImageFormat, MemFile, Preallocation, Wait, create_image,
};

/// The longest that a file becomes.
pub const LIMIT: usize = 24 << 20;

/// The bytes of a new image of `size` bytes with blocks of `block` bytes.
pub fn new_image(format: ImageFormat, size: u64, block: u32, name: &str) -> Vec<u8> {
    let path: PathBuf = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let options = CreateOptions {
        block_bytes: Some(block),
        ..CreateOptions::new(size, Preallocation::Sparse)
    };
    let mut creator = create_image(path.as_path(), format, options).expect("it can be created");
    while !creator.step(1 << 20).expect("there is space").is_complete() {}
    creator.finish().expect("it has its name");
    let bytes = std::fs::read(&path).expect("it is there");
    std::fs::remove_file(&path).expect("it was there");
    bytes
}

/// Takes bytes off the input.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub fn number(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*first))
    }

    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (first, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        first
    }
}

/// Changes some bytes, up to a byte 0: a length, an offset, the bytes.
pub fn patch(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    while let Some(length) = input.byte().filter(|length| *length > 0) {
        let Some(offset) = input.number() else { return };
        if length == 255 {
            bytes.truncate(offset as usize % (LIMIT / 2));
            continue;
        }
        let data = input.bytes(length.into());
        let offset = offset as usize % (8 << 20);
        if bytes.len() < offset + data.len() {
            bytes.resize(offset + data.len(), 0);
        }
        bytes[offset..offset + data.len()].copy_from_slice(data);
    }
}

/// Calls what a session could, and checks that the image is what it was when it is opened again.
pub fn exercise<I: Image>(
    file: &Arc<MemFile>,
    open: impl Fn(Arc<MemFile>) -> Option<I>,
    input: &mut Input<'_>,
) {
    let Some(image) = open(file.clone()) else { return };
    let size = image.size_bytes();
    let mut buffer = vec![0; 70_000];
    while let Some(operation) = input.byte() {
        let Some(offset) = input.number() else { break };
        let offset = (u64::from(offset) << (operation >> 4)) % size;
        let length = (u64::from(input.byte().unwrap_or(9)) << (operation & 8)).min(size - offset);
        let length = length.min(buffer.len() as u64);
        let data = &mut buffer[..length as usize];
        let _ = match operation & 7 {
            0 => image.read(&mut [IoSliceMut::new(data)], offset, Wait::Block),
            1 => image.read(&mut [IoSliceMut::new(data)], offset, Wait::Nowait),
            2 | 3 => {
                data.fill(operation);
                image.write(&[IoSlice::new(data)], offset, Durability::Cached)
            }
            4 => image.unmap(offset, (length << 8).min(size - offset)),
            5 => image.write_zeroes(offset, length, false),
            6 => image.flush(),
            _ => image.grow(size + (length << 12)),
        };
        let _ = image.block_status(offset, size - offset);
    }
    let length = 4096.min(size as usize);
    let mut before = vec![0; length];
    let read = image.read(&mut [IoSliceMut::new(&mut before)], 0, Wait::Block).is_ok();
    drop(image);
    let again = open(file.clone()).expect("what could be opened can be opened again");
    let mut after = vec![1; length];
    let read_again = again.read(&mut [IoSliceMut::new(&mut after)], 0, Wait::Block).is_ok();
    assert!(!read || (read_again && before == after), "it reads otherwise");
}
