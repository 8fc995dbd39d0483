//! An image against a model in memory: any calls, any loss of power, any damage.

mod chain;
mod crash;
mod damage;
mod model;
mod threads;

use std::sync::Arc;

use super::check::check_file;
use super::create::{geometry, new_image_of};
use super::entry::Geometry;
use super::*;
use crate::cache::CacheBudget;
use crate::chain::Chain;
use crate::create::{CreateOptions, Preallocation};
use crate::format::OpenOptions;
use crate::image::BlockState;
use crate::mem_file::MemFile;

const FILE_LIMIT: usize = 64 << 20;

/// What an image is like.
#[derive(Debug, Clone, Copy)]
struct Shape {
    cluster_bits: u32,
    refcount_order: u32,
    version: u32,
    size: u64,
}

impl Shape {
    const fn new(cluster_bits: u32, size: u64) -> Self {
        Self { cluster_bits, refcount_order: 4, version: 3, size }
    }

    /// An empty image of this shape.
    fn bytes(self) -> Vec<u8> {
        let mut options = CreateOptions::new(self.size, Preallocation::Sparse);
        options.block_bytes = Some(1 << self.cluster_bits);
        let geometry =
            Geometry { refcount_order: self.refcount_order, ..geometry(&options).unwrap() };
        let mut bytes = new_image_of(&options, geometry).unwrap();
        if self.version == 2 {
            // Nothing but zeroes follows what version 2 has.
            bytes[7] = 2;
            bytes[72..112].fill(0);
        }
        bytes
    }

    fn file(self) -> Arc<MemFile> {
        Arc::new(MemFile::new(self.bytes(), FILE_LIMIT))
    }
}

fn options() -> OpenOptions {
    OpenOptions { cache: CacheBudget::of(0), ..OpenOptions::default() }
}

fn try_open(
    file: &Arc<MemFile>,
    parent: Option<&Arc<dyn Image>>,
) -> Result<Qcow2Image, ImageError> {
    let image = Qcow2Image::open(file.clone(), &options(), &Chain::without_parents())?;
    image.parent.store(parent.map(|image| Arc::new(Parent::of(image.clone()))));
    Ok(image)
}

fn open(file: &Arc<MemFile>) -> Qcow2Image {
    try_open(file, None).unwrap()
}

fn read(image: &dyn Image, offset: u64, length: usize) -> Result<Vec<u8>, ImageError> {
    let mut bytes = vec![0xee; length];
    image.read(&mut [IoSliceMut::new(&mut bytes)], offset, Wait::Block)?;
    Ok(bytes)
}

fn write(image: &dyn Image, offset: u64, bytes: &[u8]) -> Result<(), ImageError> {
    image.write(&[IoSlice::new(bytes)], offset, Durability::Cached)
}

/// Nothing is wrong with the image; how many clusters are lost.
#[track_caller]
fn sound(file: &MemFile) -> u64 {
    let report = check_file(file, false).unwrap();
    assert_eq!(report.errors, Vec::new());
    report.leaked_clusters
}

#[test]
fn a_cluster_is_taken_by_the_first_write_and_given_back_by_unmap() {
    let file = Shape::new(16, 10 << 20).file();
    let image = open(&file);
    let empty = file.contents().len();
    write(&image, 100_000, &[7; 10]).unwrap();
    assert_eq!(read(&image, 99_999, 12).unwrap(), [0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0]);
    let extent = |offset| image.block_status(offset, (10 << 20) - offset).unwrap();
    assert_eq!((extent(0).state, extent(0).length), (BlockState::Deallocated, 65_536));
    assert_eq!((extent(65_536).state, extent(65_536).length), (BlockState::Mapped, 65_536));
    image.flush().unwrap();
    assert_eq!(sound(&file), 0);
    image.unmap(0, 10 << 20).unwrap();
    assert_eq!(read(&image, 99_999, 12).unwrap(), [0; 12]);
    assert_eq!(extent(0).length, 10 << 20);
    drop(image);
    assert_eq!(sound(&file), 0);
    // What was freed is used again, and does not show what was in it.
    let image = open(&file);
    for n in 0..8 {
        write(&image, n * 65_536 + 5, &[9; 10]).unwrap();
        image.unmap(n * 65_536, 65_536).unwrap();
        image.flush().unwrap();
    }
    write(&image, 5, &[8; 10]).unwrap();
    assert_eq!(read(&image, 0, 5).unwrap(), [0; 5]);
    drop(image);
    assert_eq!(sound(&file), 0);
    assert!(file.contents().len() <= empty + (2 << 20), "{}", file.contents().len());
}

#[test]
fn reads_do_not_wait_when_the_table_is_cached() {
    let file = Shape::new(12, 1 << 20).file();
    write(&open(&file), 5000, &[7; 10]).unwrap();
    let image = open(&file);
    let mut bytes = [0; 10];
    let mut nowait = |offset| image.read(&mut [IoSliceMut::new(&mut bytes)], offset, Wait::Nowait);
    assert_eq!(nowait(5000).unwrap_err().kind(), ImageErrorKind::WouldBlock);
    read(&image, 5000, 1).unwrap();
    nowait(5000).unwrap();
    assert_eq!(bytes, [7; 10]);
}

#[test]
fn a_durable_write_is_durable_with_its_tables() {
    let file = Shape::new(16, 10 << 20).file();
    let image = open(&file);
    file.record();
    let base = file.contents();
    for n in 0..3 {
        image.write(&[IoSlice::new(&[7; 512])], n * 70_000, Durability::Durable).unwrap();
    }
    image.write(&[IoSlice::new(&[8; 512])], 0, Durability::Durable).unwrap();
    let events = file.events();
    let left = MemFile::after_crash(&base, &events, events.len(), || false);
    let left = Arc::new(MemFile::new(left, FILE_LIMIT));
    let image = open(&left);
    assert_eq!(read(&image, 0, 512).unwrap(), [8; 512]);
    assert_eq!(read(&image, 140_000, 512).unwrap(), [7; 512]);
}

#[test]
fn zeroes_that_keep_their_space_have_space() {
    for version in [2, 3] {
        let file = Shape { version, ..Shape::new(12, 1 << 20) }.file();
        let image = open(&file);
        write(&image, 8192, &[7; 4096]).unwrap();
        image.write_zeroes(100, (1 << 20) - 100, false).unwrap();
        let extent = image.block_status(0, 1 << 20).unwrap();
        assert_eq!((extent.state, extent.length), (BlockState::Mapped, 1 << 20));
        assert_eq!(read(&image, 0, 1 << 20).unwrap(), vec![0; 1 << 20]);
        write(&image, 5000, &[5]).unwrap();
        assert_eq!(read(&image, 4999, 3).unwrap(), [0, 5, 0]);
        drop(image);
        assert_eq!(sound(&file), 0);
    }
}

#[test]
fn autoclear_bits_are_cleared_before_writing_and_left_alone_by_readers() {
    let mut bytes = Shape::new(16, 1 << 20).bytes();
    bytes[95] = 1;
    let reader = Arc::new(MemFile::read_only(bytes.clone()));
    open(&reader);
    assert_eq!(reader.contents(), bytes);
    let writer = Arc::new(MemFile::new(bytes, FILE_LIMIT));
    open(&writer);
    assert_eq!(writer.contents()[88..96], [0; 8]);
}

#[test]
fn an_image_that_is_marked_dirty_or_corrupt_is_only_read() {
    for (bit, word) in [(1, "dirty"), (2, "corrupt")] {
        let mut bytes = Shape::new(16, 1 << 20).bytes();
        bytes[79] = bit;
        let error = try_open(&Arc::new(MemFile::new(bytes.clone(), FILE_LIMIT)), None).unwrap_err();
        assert_eq!(error.kind(), ImageErrorKind::Corrupt);
        assert!(error.to_string().contains(word), "{error}");
        let image = open(&Arc::new(MemFile::read_only(bytes)));
        assert_eq!(read(&image, 0, 10).unwrap(), [0; 10]);
        assert_eq!(write(&image, 0, &[1]).unwrap_err().kind(), ImageErrorKind::ReadOnly);
    }
}

#[test]
fn the_count_table_moves_when_the_file_outgrows_it() {
    // 64 counts in a block of 512 bytes with counts of 64 bits, 64 blocks in a cluster of the table.
    let shape = Shape { refcount_order: 6, ..Shape::new(9, 4 << 20) };
    let mut bytes = shape.bytes();
    // As small as it can be: it covers what the image has, and little more.
    bytes[56..60].copy_from_slice(&1_u32.to_be_bytes());
    let file = Arc::new(MemFile::new(bytes, FILE_LIMIT));
    let image = open(&file);
    let before = file.contents()[48..60].to_vec();
    let data: Vec<u8> = (0..4 << 20).map(|n: u32| (n / 700).to_le_bytes()[0]).collect();
    for (n, piece) in data.chunks(100_000).enumerate() {
        write(&image, n as u64 * 100_000, piece).unwrap();
    }
    assert_eq!(read(&image, 0, 4 << 20).unwrap(), data);
    drop(image);
    assert_ne!(file.contents()[48..60], before[..], "the test tests nothing");
    // The clusters of the table that was cut short are lost from the start.
    sound(&file);
    assert_eq!(read(&open(&file), 0, 4 << 20).unwrap(), data);
}

#[test]
fn leaked_clusters_are_found_and_freed() {
    for refcount_order in 0..=6 {
        let shape = Shape { refcount_order, ..Shape::new(12, 1 << 20) };
        let file = shape.file();
        let image = open(&file);
        write(&image, 0, &[7; 100_000]).unwrap();
        {
            let mut owner = image.owner();
            image.take_behind(&mut owner, 3).unwrap();
        }
        drop(image);
        let report = check_file(&*file, true).unwrap();
        assert_eq!((report.leaked_clusters, report.repaired, report.error_count), (3, true, 0));
        assert_eq!(sound(&file), 0);
        assert_eq!(read(&open(&file), 0, 100_000).unwrap(), [7; 100_000]);
    }
}

#[test]
fn a_full_disk_below_is_no_harm() {
    let bytes = Shape::new(12, 8 << 20).bytes();
    let file = Arc::new(MemFile::new(bytes, 2 << 20));
    let image = open(&file);
    let mut written = 0;
    let error = loop {
        match write(&image, written, &[7; 50_000]) {
            Ok(()) => written += 50_000,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ImageErrorKind::OutOfSpace);
    assert_eq!((error.offset(), error.length()), (Some(written), Some(50_000)));
    assert!(written > 1 << 20);
    image.flush().unwrap();
    image.unmap(0, 100_000).unwrap();
    image.flush().unwrap();
    // What was given back can be written again.
    write(&image, written, &[8; 50_000]).unwrap();
    assert_eq!(read(&image, written, 50_000).unwrap(), [8; 50_000]);
    drop(image);
    assert_eq!(sound(&file), 0);
}
