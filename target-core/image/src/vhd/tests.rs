//! Images in a file in memory, against the model that every image is held to.
#![allow(clippy::cast_possible_truncation, reason = "a test knows its numbers")]

use std::sync::Arc;

use proptest::prelude::*;

use super::create::ParentOf;
use super::open::{NoParents, Parents};
use super::*;
use crate::create::{CreateOptions, NewImage as _, Preallocation};
use crate::format::OpenOptions;
use crate::mem::MemImage;
use crate::mem_file::MemFile;
use crate::testing::{
    Step, compare, compare_layers, lose_power, parent_data, read_at, run, steps, write_at,
};

/// The longest file that a test makes.
const LIMIT: usize = 128 << 20;
const MIB: u64 = 1 << 20;

/// A kind of disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Variant {
    fixed: bool,
    block: u32,
    /// Size of the parent, if there is one.
    parent: Option<u64>,
}

const VARIANTS: [Variant; 4] = [
    Variant { fixed: false, block: 2 << 20, parent: None },
    Variant { fixed: true, block: 2 << 20, parent: None },
    Variant { fixed: false, block: 1 << 19, parent: Some(5 * MIB / 2) },
    Variant { fixed: false, block: 2 << 20, parent: Some(3 * MIB) },
];

/// A parent that a test has made.
struct Known(Arc<VhdImage>);

impl Parents for Known {
    fn find(
        &mut self,
        _: &Path,
        paths: &[String],
        header: &DynamicHeader,
        _: &OpenOptions,
    ) -> Result<Arc<VhdImage>, ImageError> {
        assert_eq!(paths, ["./p.vhd", "/d/p.vhd"]);
        assert_eq!(header.parent_unique_id, self.0.structure().footer.unique_id);
        Ok(self.0.clone())
    }
}

/// A disk in memory, with its parent if it has one.
struct Disk {
    file: Arc<MemFile>,
    parent: Option<Arc<VhdImage>>,
}

fn new_file(variant: Variant, size: u64, parent: Option<ParentOf>) -> Arc<MemFile> {
    let preallocation = if variant.fixed { Preallocation::Full } else { Preallocation::Sparse };
    let options = CreateOptions {
        block_bytes: Some(variant.block),
        ..CreateOptions::new(size, preallocation)
    };
    let file = Arc::new(MemFile::new(Vec::new(), LIMIT));
    Plan::new(&options, parent).write(&*file).unwrap();
    file
}

fn open(file: Arc<MemFile>, parents: &mut dyn Parents) -> Result<VhdImage, ImageError> {
    VhdImage::open(file, &OpenOptions::default(), parents)
}

impl Disk {
    fn new(variant: Variant, size: u64) -> Self {
        let Some(parent_size) = variant.parent else {
            return Self { file: new_file(variant, size, None), parent: None };
        };
        let parent = open(new_file(variant, parent_size, None), &mut NoParents).unwrap();
        write_at(&parent, 0, &parent_data(parent_size));
        let of = ParentOf {
            unique_id: parent.structure().footer.unique_id,
            time_stamp: 7,
            relative: r".\p.vhd".to_owned(),
            absolute: "/d/p.vhd".to_owned(),
        };
        Self { file: new_file(variant, size, Some(of)), parent: Some(Arc::new(parent)) }
    }

    fn open(&self) -> VhdImage {
        self.try_open(self.file.clone()).unwrap()
    }

    fn try_open(&self, file: Arc<MemFile>) -> Result<VhdImage, ImageError> {
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
        // The new end of a fixed one lies where the disk was until its old footer is gone: who cuts it has
        // said before that nothing there is the disk's.
        let cuts = |step: &Step| matches!(step, Step::Cut);
        let steps: Vec<_> =
            steps.into_iter().filter(|(step, ..)| !variant.fixed || !cuts(step)).collect();
        let disk = Disk::new(variant, size);
        // The catalogue knows how large the disk was.
        let options = OpenOptions { size_bytes: Some(size), ..OpenOptions::default() };
        let reopen = |file| match &disk.parent {
            Some(parent) => VhdImage::open(Arc::new(file), &options, &mut Known(parent.clone())),
            None => VhdImage::open(Arc::new(file), &options, &mut NoParents),
        };
        lose_power(&disk.file, &disk.model(size), &|| disk.open(), &reopen, &steps, &crashes);
    }
}

#[test]
fn a_disk_that_was_cut_grows_when_it_is_opened_again() {
    let disk = Disk::new(VARIANTS[0], 8 * MIB);
    let image = disk.open();
    write_at(&image, 0, &vec![9; 8 << 20]);
    image.cut(3 * MIB).unwrap();
    drop(image);
    let image = disk.open();
    assert_eq!(image.size_bytes(), 3 * MIB);
    image.grow(8 * MIB).unwrap();
    drop(image);
    let image = disk.open();
    let bytes = read_at(&image, 0, 8 << 20).unwrap();
    assert!(bytes.iter().zip(0..).all(|(byte, at)| *byte == if at < 3 << 20 { 9 } else { 0 }));
}

#[test]
fn data_of_new_blocks_are_aligned_and_the_footer_is_last() {
    let disk = Disk::new(VARIANTS[0], 8 * MIB);
    let image = disk.open();
    for block in [3, 0, 1] {
        write_at(&image, block * 2 * MIB, &[9; 512]);
        let (place, full) = image.blocks.as_ref().unwrap().find(block).unwrap();
        assert!((place + 512).is_multiple_of(4096) && full);
        let bytes = disk.file.contents();
        assert_eq!(Footer::parse(bytes.last_chunk().unwrap()).unwrap(), {
            Footer::parse(bytes.first_chunk().unwrap()).unwrap()
        });
    }
}

#[test]
fn a_footer_that_is_missing_comes_back() {
    let disk = Disk::new(VARIANTS[0], 8 * MIB);
    let image = disk.open();
    write_at(&image, 0, &[9; 512]);
    drop(image);
    let mut bytes = disk.file.contents();
    bytes.truncate(bytes.len() - 512);
    let file = Arc::new(MemFile::new(bytes, LIMIT));
    let image = open(file.clone(), &mut NoParents).unwrap();
    assert_eq!(read_at(&image, 0, 512).unwrap(), [9; 512]);
    write_at(&image, 0, &[8; 512]);
    assert!(Footer::parse(file.contents().last_chunk().unwrap()).unwrap().is_some());
}

#[test]
fn a_user_of_a_fixed_disk_cannot_make_it_another() {
    let disk = Disk::new(VARIANTS[1], 4 * MIB);
    let image = disk.open();
    write_at(&image, 0, &Footer::new(footer::DiskType::Dynamic, 1 << 30).emit());
    drop(image);
    assert_eq!(disk.open().size_bytes(), 4 * MIB);
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let disk = Disk::new(VARIANTS[0], 8 * MIB);
    let image = disk.open();
    write_at(&image, 0, &[9; 512]);
    write_at(&image, 4 * MIB, &[9; 512]);
    drop(image);
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = disk.file.contents();
        change(&mut bytes);
        let error = open(Arc::new(MemFile::new(bytes, LIMIT)), &mut NoParents).map(|_| ());
        let error = error.unwrap_err();
        (error.kind(), error.reason().unwrap_or_default().to_owned())
    };
    let corrupt = |change: &dyn Fn(&mut Vec<u8>), reason: &str| {
        let (kind, found) = refused(change);
        assert_eq!(kind, ImageErrorKind::Corrupt, "{found}");
        assert!(found.contains(reason), "{found:?} has no {reason:?}");
    };
    let entry = |bytes: &mut Vec<u8>, block: usize, sector: u32| {
        bytes[1536 + block * 4..][..4].copy_from_slice(&sector.to_be_bytes());
    };
    corrupt(&|bytes| bytes[512] = 0, "header is damaged");
    corrupt(&|bytes| entry(bytes, 1, 0), "overlaps");
    corrupt(&|bytes| entry(bytes, 1, 3), "overlaps");
    corrupt(&|bytes| entry(bytes, 1, 100), "overlaps");
    corrupt(&|bytes| entry(bytes, 1, 1 << 30), "a block ends at");
    corrupt(&|bytes| bytes.truncate(3 << 20), "a block ends at");
    let header = |change: &dyn Fn(&mut DynamicHeader)| {
        let mut bytes = disk.file.contents();
        let mut header = DynamicHeader::parse(bytes[512..].first_chunk().unwrap()).unwrap();
        change(&mut header);
        bytes[512..1536].copy_from_slice(&header.emit());
        let error = open(Arc::new(MemFile::new(bytes, LIMIT)), &mut NoParents).map(|_| ());
        error.unwrap_err().kind()
    };
    assert_eq!(header(&|it| it.table_offset = 1 << 40), ImageErrorKind::Corrupt);
    assert_eq!(header(&|it| it.table_offset = 1000), ImageErrorKind::Corrupt);
    assert_eq!(header(&|it| it.max_table_entries = 1), ImageErrorKind::Corrupt);
    assert_eq!(header(&|it| it.max_table_entries = u32::MAX), ImageErrorKind::Unsupported);
    assert_eq!(header(&|it| it.block_size = 3 << 20), ImageErrorKind::Unsupported);
    assert_eq!(refused(&|bytes| bytes.clear()).0, ImageErrorKind::InvalidFormat);
    let no_footer = |bytes: &mut Vec<u8>| {
        let end = bytes.len() - 512;
        (bytes[0], bytes[end]) = (0, 0);
    };
    assert_eq!(refused(&no_footer).0, ImageErrorKind::InvalidFormat);
}

#[test]
fn a_differencing_image_says_what_it_has_and_who_its_parent_is() {
    let size = 6 * MIB;
    let disk = Disk::new(VARIANTS[3], size);
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
