//! Real files: creating, parents, loops.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::create::{Parent, create_image, is_whole, partial_path};
use crate::extend::{ExtendOptions, extend_image};
use crate::file::ImageFile;
use crate::format::{ImageFormat, open_image};

const MIB: u64 = 1 << 20;

fn create(path: &Path, options: CreateOptions) -> Result<(), ImageError> {
    let mut creator = create_image(path, ImageFormat::Qcow2, options)?;
    while !creator.step(MIB)?.is_complete() {}
    creator.finish()
}

fn thin(size: u64) -> CreateOptions {
    CreateOptions::new(size, Preallocation::Sparse)
}

fn overlay(path: &Path, parent: &str, format: ImageFormat) {
    let parent = Some(Parent { path: parent.into(), format });
    create(path, CreateOptions { parent, ..thin(4 * MIB) }).unwrap();
}

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.qcow2");
    (directory, path)
}

fn open_file(path: &Path) -> Result<Arc<dyn Image>, ImageError> {
    open_image(path, ImageFormat::Qcow2, &OpenOptions::default())
}

#[test]
fn an_image_is_made_in_steps_and_has_its_name_when_it_is_whole() {
    let (_directory, path) = place();
    assert!(!is_whole(&path, ImageFormat::Qcow2, 3 * MIB));
    create(&path, thin(3 * MIB)).unwrap();
    assert!(!partial_path(&path).exists() && is_whole(&path, ImageFormat::Qcow2, 3 * MIB));
    let image = open_file(&path).unwrap();
    assert_eq!(image.size_bytes(), 3 * MIB);
    assert_eq!(open_file(&path).unwrap_err().kind(), ImageErrorKind::InUse);
    drop(image);
    let again = create(&path, thin(MIB)).unwrap_err();
    assert_eq!(again.kind(), ImageErrorKind::AlreadyExists);
    assert_eq!(check(&*path, false).unwrap().error_count, 0);
}

#[test]
fn a_full_image_has_its_space_and_goes_on_where_it_stopped() {
    let (_directory, path) = place();
    let full = CreateOptions::new(5 * MIB + 512, Preallocation::Full);
    let mut creator = create_image(&*path, ImageFormat::Qcow2, full.clone()).unwrap();
    assert_eq!(creator.step(2 * MIB).unwrap().done, 2 * MIB);
    drop(creator);
    let mut creator = create_image(&*path, ImageFormat::Qcow2, full.clone()).unwrap();
    assert_eq!(creator.progress().done, 2 * MIB);
    while !creator.step(2 * MIB).unwrap().is_complete() {}
    creator.finish().unwrap();
    let image = open_file(&path).unwrap();
    let extent = image.block_status(0, 5 * MIB + 512).unwrap();
    assert_eq!((extent.state, extent.length), (BlockState::Mapped, 5 * MIB + 512));
    drop(image);
    let report = check(&*path, false).unwrap();
    assert_eq!((report.error_count, report.leaked_clusters), (0, 0));
    use std::os::unix::fs::MetadataExt as _;
    assert!(fs::metadata(&path).unwrap().blocks() * 512 >= 5 * MIB);
    // One that shall have a parent cannot be full.
    let parent = Some(Parent { path: "x".into(), format: ImageFormat::Raw });
    let error = create(&path.with_extension("2"), CreateOptions { parent, ..full }).unwrap_err();
    assert_eq!(error.kind(), ImageErrorKind::Unsupported);
}

#[test]
fn a_disk_grows_while_it_is_in_use_and_shows_nothing_of_its_parent_there() {
    let (directory, path) = place();
    fs::write(directory.path().join("base.raw"), vec![9; 6 << 20]).unwrap();
    overlay(&path, "base.raw", ImageFormat::Raw);
    let image = open_file(&path).unwrap();
    let options = ExtendOptions {
        from_bytes: 4 * MIB,
        to_bytes: 2 << 40,
        preallocation: Preallocation::Sparse,
        resume: false,
    };
    let live = Some(image.clone());
    let mut extender = extend_image(&*path, ImageFormat::Qcow2, options, live).unwrap();
    assert!(extender.step(1).unwrap().is_complete());
    extender.finish().unwrap();
    image.grow(2 << 40).unwrap();
    assert_eq!(image.size_bytes(), 2 << 40);
    assert_eq!(read(&*image, 4 * MIB - 1, 2).unwrap(), [9, 0]);
    write(&*image, (2 << 40) - 10, &[3; 10]).unwrap();
    drop(image);
    let image = open_file(&path).unwrap();
    assert_eq!(read(&*image, (2 << 40) - 11, 11).unwrap()[..3], [0, 3, 3]);
    assert_eq!(read(&*image, 5 * MIB, 10).unwrap(), [0; 10]);
    drop(image);
    let report = check(&*path, false).unwrap();
    assert_eq!((report.error_count, report.leaked_clusters), (0, 0), "{report:?}");
}

#[test]
fn parents_are_read_through_a_chain_and_stay_as_they_are() {
    let (directory, path) = place();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("base.raw"), vec![1; 3 << 20]).unwrap();
    overlay(&at("middle.qcow2"), "base.raw", ImageFormat::Raw);
    let middle = open_file(&at("middle.qcow2")).unwrap();
    write(&*middle, 100_000, &[2; 10]).unwrap();
    drop(middle);
    overlay(&path, "middle.qcow2", ImageFormat::Qcow2);
    let before = fs::read(at("middle.qcow2")).unwrap();
    let image = open_file(&path).unwrap();
    assert_eq!(read(&*image, 99_999, 3).unwrap(), [1, 2, 2]);
    write(&*image, 100_001, &[3]).unwrap();
    assert_eq!(read(&*image, 99_999, 4).unwrap(), [1, 2, 3, 2]);
    assert_eq!(read(&*image, 3 * MIB - 1, 2).unwrap(), [1, 0]);
    image.unmap(0, MIB).unwrap();
    assert_eq!(read(&*image, 0, 1 << 20).unwrap(), vec![0; 1 << 20]);
    // A parent that is in use for writing is not touched, nor the other way round.
    assert_eq!(open_file(&at("middle.qcow2")).unwrap_err().kind(), ImageErrorKind::InUse);
    drop(image);
    assert_eq!(fs::read(at("middle.qcow2")).unwrap(), before);
}

#[test]
fn parents_elsewhere_loops_and_strange_names_are_refused() {
    let (directory, path) = place();
    let refusal = |name: &str, format| {
        let _ = fs::remove_file(&path);
        overlay(&path, name, format);
        let error = open_file(&path).unwrap_err();
        (error.kind(), error.to_string())
    };
    use ImageErrorKind::{NotFound, ParentMismatch, Unsupported};
    let other = tempfile::tempdir().unwrap();
    let outside = other.path().join("secret");
    fs::write(&outside, [1; 512]).unwrap();
    let outside = outside.to_str().unwrap();
    assert_eq!(refusal(outside, ImageFormat::Raw).0, ParentMismatch);
    std::os::unix::fs::symlink(outside, directory.path().join("link")).unwrap();
    assert_eq!(refusal("link", ImageFormat::Raw).0, ParentMismatch);
    let far = "../".repeat(32) + "etc/passwd";
    assert_eq!(refusal(&far, ImageFormat::Raw).0, ParentMismatch);
    assert_eq!(refusal("gone", ImageFormat::Raw).0, NotFound);
    for name in ["nbd://host/disk", "json:{\"driver\":\"file\"}", "nbd:host:1"] {
        assert_eq!(refusal(name, ImageFormat::Raw).0, Unsupported, "{name}");
    }
    let (kind, message) = refusal("disk.qcow2", ImageFormat::Qcow2);
    assert_eq!(kind, ParentMismatch, "{message}");
    assert!(message.contains("its own chain"), "{message}");
    // Somebody may say where else parents are.
    overlay(&directory.path().join("allowed"), outside, ImageFormat::Raw);
    let options =
        OpenOptions { parent_directories: vec![other.path().into()], ..OpenOptions::default() };
    let image = open_image(directory.path().join("allowed"), ImageFormat::Qcow2, &options).unwrap();
    assert_eq!(read(&*image, 0, 2).unwrap(), [1, 1]);
}

#[test]
fn a_large_disk_is_opened_with_few_tables_in_memory() {
    let (_directory, path) = place();
    create(&path, thin(16 << 40)).unwrap();
    let image = open_file(&path).unwrap();
    assert_eq!(image.size_bytes(), 16 << 40);
    for n in 0..64 {
        write(&*image, n << 38, &[5; 4096]).unwrap();
    }
    image.flush().unwrap();
    assert_eq!(read(&*image, 63 << 38, 2).unwrap(), [5, 5]);
    drop(image);
    let report = check(&*path, false).unwrap();
    assert_eq!((report.error_count, report.leaked_clusters), (0, 0));
}

/// As many images under a disk as it may have snapshots.
#[test]
fn five_hundred_images_lie_over_each_other_and_share_one_budget() {
    const PARENTS: u8 = 255;
    let (directory, _) = place();
    let at = |number: u16| directory.path().join(format!("{number}.qcow2"));
    let all = 2 * u16::from(PARENTS) + 3;
    create(&at(0), thin(4 * MIB)).unwrap();
    for number in 0..all {
        if number > 0 {
            overlay(&at(number), &format!("{}.qcow2", number - 1), ImageFormat::Qcow2);
        }
        if number % 2 == 0 {
            let options = OpenOptions { no_parents: false, ..OpenOptions::default() };
            // Written without a look at its parents: whole clusters.
            let file = ImageFile::open(at(number), false).unwrap();
            let image =
                Qcow2Image::open(Arc::new(file), &options, &Chain::without_parents()).unwrap();
            let byte = u8::try_from(number / 2 % 256).unwrap();
            write(&image, u64::from(number / 2 % 64) << 16, &[byte; 65536]).unwrap();
            image.flush().unwrap();
        }
    }
    // No more stack than the smallest that a thread of a daemon has.
    let small = std::thread::Builder::new().stack_size(1 << 20);
    let top = at(all - 1);
    let run = move || {
        let image = open_file(&top).unwrap();
        let budget = image.cache().unwrap().limit_bytes;
        let mut next = image.parent();
        let mut shares = 0;
        while let Some(parent) = next {
            shares += parent.cache().unwrap().limit_bytes;
            next = parent.parent();
        }
        let found = read(&*image, 0, 4 << 20).unwrap();
        let status = image.block_status(0, 4 * MIB).unwrap();
        image.flush().unwrap();
        image.health().unwrap();
        (budget, shares, found, status.length)
    };
    let (budget, shares, found, mapped) = small.spawn(run).unwrap().join().unwrap();
    assert_eq!(budget, 16 << 20);
    assert!((1 << 20..=32 << 20).contains(&shares), "{shares}");
    for cluster in 0..64_u16 {
        let last = (0..=all / 2).rev().find(|half| half % 64 == cluster).unwrap();
        let byte = u8::try_from(last % 256).unwrap();
        let place = usize::from(cluster) << 16;
        assert!(found[place..place + 65536].iter().all(|it| *it == byte), "cluster {cluster}");
    }
    assert_eq!(mapped, 4 * MIB);
}
