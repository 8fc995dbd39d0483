//! Images in a file in memory, against the model that every image is held to.

#![allow(clippy::cast_possible_truncation, reason = "a test knows its numbers")]

use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;

use super::locator::ParentLocator;
use super::parents::{NoParents, Parents};
use super::*;
use crate::copy::NamedFile;
use crate::create::{CreateOptions, NewImage as _, Preallocation};
use crate::file::ImageFile;
use crate::format::{ImageFormat, OpenOptions, ParentOpener};
use crate::mem::MemImage;
use crate::mem_file::MemFile;
use crate::testing::{
    compare, compare_layers, lose_power, parent_data, read_at, run, steps, write_at,
};

mod damage;
mod faults;

/// The longest file that a test makes.
const LIMIT: usize = 128 << 20;

/// A kind of disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Variant {
    fixed: bool,
    sector: u32,
    block: u32,
    /// Size of the parent, if there is one.
    parent: Option<u64>,
}

const VARIANTS: [Variant; 5] = [
    Variant { fixed: false, sector: 512, block: 1 << 20, parent: None },
    Variant { fixed: false, sector: 4096, block: 2 << 20, parent: None },
    Variant { fixed: true, sector: 512, block: 1 << 20, parent: None },
    Variant { fixed: false, sector: 512, block: 1 << 20, parent: Some(5 * MIB / 2) },
    Variant { fixed: false, sector: 4096, block: 2 << 20, parent: Some(3 * MIB) },
];

/// A parent that a test has made.
struct Known(Arc<VhdxImage>);

impl Parents for Known {
    fn find(
        &mut self,
        _: &Path,
        locator: &ParentLocator,
        _: &OpenOptions,
    ) -> Result<Arc<VhdxImage>, ImageError> {
        assert!(locator.linkages().any(|linkage| linkage == self.0.data_write_guid()));
        Ok(self.0.clone())
    }
}

/// A disk in memory, with its parent if it has one.
struct Disk {
    file: Arc<MemFile>,
    parent: Option<Arc<VhdxImage>>,
}

fn options(variant: Variant, size: u64) -> CreateOptions {
    let preallocation = if variant.fixed { Preallocation::Full } else { Preallocation::Sparse };
    CreateOptions {
        logical_block_bytes: variant.sector,
        block_bytes: Some(variant.block),
        ..CreateOptions::new(size, preallocation)
    }
}

fn new_file(options: &CreateOptions, locator: Option<ParentLocator>) -> Arc<MemFile> {
    let file = Arc::new(MemFile::new(Vec::new(), LIMIT));
    Plan::new(options, locator).write(&*file).unwrap();
    file
}

fn open(file: Arc<MemFile>, parents: &mut dyn Parents) -> Result<VhdxImage, ImageError> {
    VhdxImage::open(file, &OpenOptions::default(), parents)
}

impl Disk {
    fn new(variant: Variant, size: u64) -> Self {
        let own = options(variant, size);
        let Some(parent_size) = variant.parent else {
            return Self { file: new_file(&own, None), parent: None };
        };
        let parent = open(new_file(&options(variant, parent_size), None), &mut NoParents).unwrap();
        write_at(&parent, 0, &parent_data(parent_size));
        parent.unmap(0, 0).unwrap();
        parent.flush().unwrap();
        let locator = ParentLocator::new(parent.data_write_guid(), "p.vhdx", "/p.vhdx");
        Self { file: new_file(&own, Some(locator)), parent: Some(Arc::new(parent)) }
    }

    fn open(&self) -> VhdxImage {
        self.try_open(self.file.clone()).unwrap()
    }

    fn try_open(&self, file: Arc<MemFile>) -> Result<VhdxImage, ImageError> {
        match &self.parent {
            Some(parent) => open(file, &mut Known(parent.clone())),
            None => open(file, &mut NoParents),
        }
    }

    /// What the disk holds at first.
    fn model(&self, size: u64) -> MemImage {
        let model = MemImage::new(size).unwrap();
        if let Some(parent) = &self.parent {
            let length = size.min(parent.size_bytes());
            write_at(&model, 0, &read_at(&**parent, 0, length as usize).unwrap());
        }
        model
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_calls_leaves_what_it_leaves_in_memory(
        variant in prop::sample::select(&VARIANTS[..]),
        steps in steps(24),
    ) {
        // The last block is not whole.
        let size = 4 * MIB + MIB / 2;
        let disk = Disk::new(variant, size);
        let model = disk.model(size);
        let mut image = Some(disk.open());
        for (at, step) in steps.iter().enumerate() {
            run(&|| disk.open(), &mut image, &model, at, step);
        }
        compare(image.as_ref().unwrap(), &model);
        drop(image);
        let image = disk.open();
        compare(&image, &model);
        let [_, _, below] = compare_layers(&image, &model);
        prop_assert!(variant.parent.is_some() || below == 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_flushed_survives_a_loss_of_power_at_any_moment(
        variant in prop::sample::select(&VARIANTS[..]),
        steps in steps(15),
        crashes in prop::collection::vec(any::<(u16, u64)>(), 12),
    ) {
        let size = 3 * MIB + MIB / 2;
        let disk = Disk::new(variant, size);
        let reopen = |file| disk.try_open(Arc::new(file));
        lose_power(&disk.file, &disk.model(size), &|| disk.open(), &reopen, &steps, &crashes);
    }
}

/// The state of the log in a file: nil if it is empty.
fn log_guid(bytes: &[u8]) -> Uuid {
    let header = |at: u64| {
        let at = index(at);
        header::Header::parse(bytes[at..at + 4096].first_chunk().unwrap())
    };
    let [first, second] = header::HEADER_OFFSETS;
    header::current(header(first), header(second)).unwrap().1.log_guid
}

#[test]
fn a_closed_image_has_no_log_and_an_open_one_has_all_in_it() {
    let disk = Disk::new(VARIANTS[0], 4 * MIB);
    let image = disk.open();
    assert!(log_guid(&disk.file.contents()).is_nil());
    write_at(&image, 3 * MIB, &[5; 4096]);
    // As a kill would leave it.
    let killed = disk.file.contents();
    assert!(!log_guid(&killed).is_nil());
    let other = Arc::new(MemFile::new(killed, LIMIT));
    assert_eq!(read_at(&disk.try_open(other).unwrap(), 3 * MIB, 4096).unwrap(), [5; 4096]);
    drop(image);
    let closed = disk.file.contents();
    assert!(log_guid(&closed).is_nil());
    let image = VhdxImage::open(
        Arc::new(MemFile::read_only(closed)),
        &OpenOptions::read_only(),
        &mut NoParents,
    );
    let image = image.unwrap();
    assert_eq!(read_at(&image, 3 * MIB, 4096).unwrap(), [5; 4096]);
    assert_eq!(
        image.write(&[], 0, Durability::Cached).unwrap_err().kind(),
        ImageErrorKind::ReadOnly
    );
}

#[test]
fn guids_change_as_children_and_others_rely_on() {
    let disk = Disk::new(VARIANTS[0], 4 * MIB);
    let first = disk.open();
    let (data, id) = (first.data_write_guid(), first.virtual_disk_id());
    drop(first);
    let second = disk.open();
    assert_eq!(second.data_write_guid(), data, "nothing was written");
    write_at(&second, 0, &[1]);
    assert_ne!(second.data_write_guid(), data);
    let data = second.data_write_guid();
    write_at(&second, 0, &[2]);
    drop(second);
    let third = disk.open();
    assert_eq!((third.data_write_guid(), third.virtual_disk_id()), (data, id));
}

#[test]
fn the_log_starts_anew_when_it_is_full() {
    let disk = Disk::new(VARIANTS[0], 4 * MIB);
    let image = disk.open();
    // Two entries a round, of which the log has room for 128.
    for round in 0..150u8 {
        image.unmap(MIB, MIB).unwrap();
        write_at(&image, MIB, &[round; 512]);
    }
    let killed = Arc::new(MemFile::new(disk.file.contents(), LIMIT));
    let other = disk.try_open(killed).unwrap();
    assert_eq!(read_at(&other, MIB, 1024).unwrap(), [[149; 512], [0; 512]].concat());
    // The block has kept its place all the time.
    assert_eq!(disk.file.length().unwrap(), image.end.load(Ordering::Relaxed));
    assert_eq!(image.journal().end, 5 * MIB);
}

#[test]
fn metadata_of_a_large_disk_are_neither_read_at_once_nor_kept() {
    let options = CreateOptions {
        block_bytes: Some(1 << 20),
        ..CreateOptions::new(64 << 40, Preallocation::Sparse)
    };
    let geometry = Plan::new(&options, None);
    assert_eq!(geometry.space().start, 3 * MIB + 513 * MIB);
    let options = CreateOptions { block_bytes: Some(256 << 20), ..options };
    let disk = Disk { file: new_file(&options, None), parent: None };
    let image = disk.open();
    assert_eq!(image.size_bytes(), 64 << 40);
    assert_eq!(read_at(&image, (64 << 40) - 4096, 4096).unwrap(), [0; 4096]);
    let extent = image.block_status(0, 64 << 40).unwrap();
    assert_eq!(extent.state, BlockState::Deallocated);
}

#[test]
fn a_disk_outgrows_its_table() {
    // Room for a table of 1 MiB: 131072 entries, 32 of which are for bitmaps.
    let variant = VARIANTS[0];
    let disk = Disk::new(variant, 4 * MIB);
    let image = disk.open();
    write_at(&image, 3 * MIB, &[3; 4096]);
    let before = image.bat_offset.load(Ordering::Relaxed);
    image.grow(200 << 30).unwrap();
    assert_ne!(image.bat_offset.load(Ordering::Relaxed), before);
    write_at(&image, 2 * MIB, &[2; 4096]);
    write_at(&image, (200 << 30) - 4096, &[9; 4096]);
    let check = |image: &VhdxImage| {
        assert_eq!(image.size_bytes(), 200 << 30);
        assert_eq!(read_at(image, 3 * MIB, 4096).unwrap(), [3; 4096]);
        assert_eq!(read_at(image, 2 * MIB, 4096).unwrap(), [2; 4096]);
        assert_eq!(read_at(image, (200 << 30) - 4096, 4096).unwrap(), [9; 4096]);
        assert_eq!(read_at(image, 100 << 30, 4096).unwrap(), [0; 4096]);
    };
    check(&image);
    let killed = Arc::new(MemFile::new(disk.file.contents(), LIMIT));
    check(&disk.try_open(killed).unwrap());
    drop(image);
    check(&disk.open());
    let image = disk.open();
    let kind = |size| image.grow(size).unwrap_err().kind();
    assert_eq!(kind((64 << 40) + 512), ImageErrorKind::OutOfRange);
    assert_eq!(kind((300 << 30) + 1), ImageErrorKind::OutOfRange);
}

#[test]
fn a_differencing_image_says_what_it_has_and_who_its_parent_is() {
    let size = 6 * MIB;
    let disk = Disk::new(VARIANTS[4], size);
    let image = disk.open();
    let parent = image.parent().unwrap();
    assert_eq!(parent.path(), Image::path(&**disk.parent.as_ref().unwrap()));
    assert_eq!(
        image.own_extent(0, size).unwrap(),
        (Own::Nothing, 3 * MIB),
        "as long as the parent"
    );
    assert_eq!(image.own_extent(3 * MIB, 1).unwrap(), (Own::Zeroes, 1));
    write_at(&image, 65536, &[7; 65536]);
    assert_eq!(image.own_extent(0, size).unwrap(), (Own::Nothing, 65536));
    assert_eq!(image.own_extent(65536, size - 65536).unwrap(), (Own::Data, 65536));
    assert_eq!(image.own_extent(131072, 4096).unwrap(), (Own::Nothing, 4096));
    assert_eq!(parent.parent().map(|parent| parent.path()), None);
}

/// Says where parents are.
#[derive(Debug)]
struct Opener(PathBuf);

impl ParentOpener for Opener {
    fn open(&self, child: &Path, name: &Path) -> Result<NamedFile, ImageError> {
        let kind = match name.to_str() {
            Some("/d/p.vhdx") => {
                let file = std::fs::File::open(&self.0).unwrap();
                return Ok(NamedFile { file: file.into(), path: self.0.as_path().into() });
            }
            Some("./gone.vhdx") => ImageErrorKind::NotFound,
            _ => ImageErrorKind::PermissionDenied,
        };
        Err(ImageError::new(kind, Operation::Open, child))
    }
}

#[test]
fn whoever_opens_parents_says_where_each_of_the_paths_leads() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let make = |name: &str, locator| {
        std::fs::write(at(name), "").unwrap();
        let file = ImageFile::open(at(name), false).unwrap();
        Plan::new(&options(VARIANTS[3], 4 * MIB), locator).write(&file).unwrap();
        file
    };
    let parent = open_bytes(make("there", None));
    write_at(&parent, 0, &[7; 4096]);
    parent.flush().unwrap();
    parent.close().unwrap();
    let id = parent.data_write_guid();
    drop(parent);
    let opened = |relative: &str, linkage| {
        drop(make("child", Some(ParentLocator::new(linkage, relative, "/d/p.vhdx"))));
        let file = std::fs::File::open(at("child")).unwrap();
        let file = NamedFile { file: file.into(), path: at("child").into() };
        let parent_opener: Option<Arc<dyn ParentOpener>> = Some(Arc::new(Opener(at("there"))));
        let options = OpenOptions { parent_opener, ..OpenOptions::read_only() };
        crate::open_named(file, ImageFormat::Vhdx, &options)
    };
    let image = opened("./gone.vhdx", id).unwrap();
    assert_eq!(read_at(&*image, 0, 4096).unwrap(), [7; 4096]);
    drop(image);
    let kind = |opened: Result<Arc<dyn Image>, ImageError>| opened.unwrap_err().kind();
    assert_eq!(kind(opened("./forbidden", id)), ImageErrorKind::PermissionDenied);
    assert_eq!(kind(opened("./gone.vhdx", Uuid::nil())), ImageErrorKind::ParentMismatch);
}

fn open_bytes(file: ImageFile) -> VhdxImage {
    VhdxImage::open_bytes(Arc::new(file), &OpenOptions::default()).unwrap()
}
