//! Creating images: in steps, after a crash, and against everything in the way.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, symlink};

use tempfile::TempDir;

use super::*;

const MIB: u64 = 1 << 20;

fn sparse(size_bytes: u64) -> CreateOptions {
    CreateOptions::new(size_bytes, Preallocation::Sparse)
}

fn full(size_bytes: u64) -> CreateOptions {
    CreateOptions::new(size_bytes, Preallocation::Full)
}

/// A directory and the name of an image in it.
fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.img");
    (directory, path)
}

fn begin(path: &Path, options: CreateOptions) -> RawCreator {
    RawCreator::begin(path, options).unwrap()
}

fn refusal(path: &Path, options: CreateOptions) -> ImageErrorKind {
    RawCreator::begin(path, options).unwrap_err().kind()
}

#[test]
fn a_sparse_image_is_there_at_once_and_takes_no_space() {
    let (_directory, path) = place();
    let mut creator = begin(&path, sparse(1 << 40));
    assert_eq!(creator.progress(), Progress { done: 0, total: 1 << 40 });
    assert!(creator.step(1).unwrap().is_complete());
    assert!(!path.exists() && partial_path(&path).exists());
    creator.finish().unwrap();
    assert!(!partial_path(&path).exists());
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), 1 << 40);
    assert!(metadata.blocks() * 512 < MIB);
    assert_eq!(metadata.mode() & 0o777, 0o600, "others can read the disk");
}

#[test]
fn a_full_image_grows_in_steps_of_allocated_space() {
    let (_directory, path) = place();
    let mut creator = begin(&path, full(5 * MIB + 300));
    let mut seen = Vec::new();
    while !creator.progress().is_complete() {
        let progress = creator.step(2 * MIB).unwrap();
        assert_eq!(progress, creator.progress());
        seen.push(progress.done);
        assert!(!path.exists());
        assert_eq!(fs::metadata(partial_path(&path)).unwrap().len(), progress.done);
    }
    assert_eq!(seen, [2 * MIB, 4 * MIB, 5 * MIB + 300]);
    // One more changes nothing.
    assert!(creator.step(MIB).unwrap().is_complete());
    creator.finish().unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), 5 * MIB + 300);
    assert!(metadata.blocks() * 512 >= 5 * MIB);
    assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn without_fallocate_zeroes_are_written() {
    let (_directory, path) = place();
    let mut creator = begin(&path, full(200_001));
    creator.allocator = Allocator::by_writing();
    assert_eq!(creator.step(70_000).unwrap().done, 70_000);
    assert!(creator.step(u64::MAX).unwrap().is_complete());
    creator.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), vec![0; 200_001]);
    assert!(fs::metadata(&path).unwrap().blocks() * 512 >= 200_001);
}

#[test]
fn an_image_of_nothing_is_done_before_the_first_step() {
    for options in [sparse(0), full(0)] {
        let (_directory, path) = place();
        begin(&path, options).finish().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    }
}

#[test]
fn an_unfinished_image_gets_no_name() {
    let (_directory, path) = place();
    let mut creator = begin(&path, full(2 * MIB));
    creator.step(MIB).unwrap();
    assert_eq!(creator.finish().unwrap_err().kind(), ImageErrorKind::Cancelled);
    assert!(!path.exists());
    assert!(partial_path(&path).exists(), "a later run can go on with it");
}

#[test]
fn a_later_run_goes_on_where_the_first_one_stopped() {
    let (_directory, path) = place();
    let mut creator = begin(&path, full(4 * MIB));
    creator.step(3 * MIB).unwrap();
    drop(creator);
    let mut creator = begin(&path, full(4 * MIB));
    assert_eq!(creator.progress().done, 3 * MIB);
    assert_eq!(creator.step(10 * MIB).unwrap().done, 4 * MIB);
    creator.finish().unwrap();
    assert!(fs::metadata(&path).unwrap().blocks() * 512 >= 4 * MIB);
}

#[test]
fn what_a_later_run_cannot_use_is_begun_anew() {
    // Too long.
    let (_directory, path) = place();
    let mut creator = begin(&path, full(4 * MIB));
    creator.step(3 * MIB).unwrap();
    drop(creator);
    let creator = begin(&path, full(2 * MIB));
    assert_eq!(creator.progress().done, 0);
    drop(creator);

    // All of the length and none of the space.
    let (_directory, path) = place();
    begin(&path, sparse(4 * MIB)).step(1).unwrap();
    let mut creator = begin(&path, full(4 * MIB));
    assert_eq!(creator.progress().done, 0);
    creator.step(u64::MAX).unwrap();
    creator.finish().unwrap();
    assert!(fs::metadata(&path).unwrap().blocks() * 512 >= 4 * MIB);

    // Somebody's bytes.
    let (_directory, path) = place();
    fs::write(partial_path(&path), [7; 5000]).unwrap();
    let mut creator = begin(&path, sparse(8192));
    creator.step(1).unwrap();
    creator.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), [0; 8192]);
}

#[test]
fn abort_leaves_nothing() {
    let (directory, path) = place();
    let mut creator = begin(&path, full(2 * MIB));
    creator.step(MIB).unwrap();
    creator.abort().unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    // Even if somebody was faster.
    let creator = begin(&path, full(MIB));
    fs::remove_file(partial_path(&path)).unwrap();
    creator.abort().unwrap();
}

#[test]
fn two_do_not_create_the_same_image() {
    let (_directory, path) = place();
    let first = begin(&path, full(MIB));
    assert_eq!(refusal(&path, full(MIB)), ImageErrorKind::InUse);
    drop(first);
    begin(&path, full(MIB));
}

#[test]
fn an_image_that_does_not_fit_is_refused_before_the_first_byte() {
    let (directory, path) = place();
    let free = pool_space(directory.path()).unwrap().free;
    let error = RawCreator::begin(&*path, full(free + (1 << 40))).unwrap_err();
    assert_eq!(error.kind(), ImageErrorKind::OutOfSpace);
    assert_eq!(error.length(), Some(free + (1 << 40)));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    // What no file can hold.
    for options in [sparse(u64::MAX), full(u64::MAX), sparse(1 << 63)] {
        assert_eq!(refusal(&path, options), ImageErrorKind::OutOfRange);
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_name_that_is_taken_is_left_alone() {
    let (directory, path) = place();
    fs::write(&path, b"precious").unwrap();
    assert_eq!(refusal(&path, sparse(MIB)), ImageErrorKind::AlreadyExists);
    fs::remove_file(&path).unwrap();

    // Taken while the image grew.
    let mut creator = begin(&path, sparse(MIB));
    creator.step(1).unwrap();
    fs::write(&path, b"precious").unwrap();
    assert_eq!(creator.finish().unwrap_err().kind(), ImageErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    fs::remove_file(&path).unwrap();

    // A link to nowhere is a name too, and a directory.
    symlink(directory.path().join("nowhere"), &path).unwrap();
    assert_eq!(refusal(&path, sparse(MIB)), ImageErrorKind::AlreadyExists);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(refusal(&path, sparse(MIB)), ImageErrorKind::AlreadyExists);
}

#[test]
fn a_link_under_the_partial_name_is_not_followed() {
    let (directory, path) = place();
    let victim = directory.path().join("victim");
    fs::write(&victim, b"precious").unwrap();
    symlink(&victim, partial_path(&path)).unwrap();
    RawCreator::begin(&*path, sparse(MIB)).unwrap_err();
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
}

#[test]
fn a_directory_that_is_gone_is_reported() {
    let (directory, path) = place();
    drop(directory);
    assert_eq!(refusal(&path, sparse(MIB)), ImageErrorKind::NotFound);
}

#[test]
fn an_image_that_was_created_can_be_opened() {
    let (_directory, path) = place();
    let mut creator = begin(&path, sparse(MIB));
    // Not under its partial name: somebody works on it.
    let open = |path: &Path| crate::RawImage::open(path, OpenOptions::default());
    assert_eq!(open(&partial_path(&path)).unwrap_err().kind(), ImageErrorKind::InUse);
    creator.step(MIB).unwrap();
    creator.finish().unwrap();
    use crate::Image as _;
    assert_eq!(open(&path).unwrap().size_bytes(), MIB);
    File::open(&path).unwrap();
}
