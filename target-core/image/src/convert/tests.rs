use std::fs;
use std::path::Path;

use super::*;
use crate::copy::tests::named;
use crate::create::create_image;

const SIZE: u64 = 24 << 20;

/// An image with data here and there, and the bytes of its disk.
fn filled(path: &Path, format: ImageFormat) -> Vec<u8> {
    let options = CreateOptions::new(SIZE, Preallocation::Sparse);
    let mut creator = create_image(path, format, options).unwrap();
    while !creator.step(u64::MAX).unwrap().is_complete() {}
    creator.finish().unwrap();
    let image = crate::open_image(path, format, &OpenOptions::default()).unwrap();
    let mut disk = vec![0; usize::try_from(SIZE).unwrap()];
    for (at, length, byte) in [(0, 512, 1), (3 << 20, 70_000, 2), ((24 << 20) - 1024, 1024, 3)] {
        let data = vec![byte; length];
        image.write(&[IoSlice::new(&data)], at, Durability::Cached).unwrap();
        let at = usize::try_from(at).unwrap();
        disk[at..at + length].copy_from_slice(&data);
    }
    // Zeroes that have space.
    image.write(&[IoSlice::new(&[0; 4096])], 9 << 20, Durability::Cached).unwrap();
    image.flush().unwrap();
    image.close().unwrap();
    disk
}

fn source(path: &Path, format: ImageFormat) -> Arc<dyn Image> {
    let options = OpenOptions { size_bytes: Some(SIZE), ..OpenOptions::read_only() };
    open_named(named(path), format, &options).unwrap()
}

fn bytes(path: &Path, format: ImageFormat) -> Vec<u8> {
    let mut disk = vec![0; usize::try_from(SIZE).unwrap()];
    source(path, format).read(&mut [IoSliceMut::new(&mut disk)], 0, Wait::Block).unwrap();
    disk
}

fn options(format: ImageFormat, preallocation: Preallocation, done: u64) -> ConvertOptions {
    ConvertOptions { format, image: CreateOptions::new(SIZE, preallocation), done }
}

fn allocated(path: &Path) -> u64 {
    named(path).allocated().unwrap()
}

#[test]
fn every_format_becomes_every_other_thin_and_full() {
    let directory = tempfile::tempdir().unwrap();
    for from in ImageFormat::ALL {
        let path = directory.path().join(format!("from.{from}"));
        let disk = filled(&path, from);
        for to in ImageFormat::ALL {
            for preallocation in [Preallocation::Sparse, Preallocation::Full] {
                let target = directory.path().join("to");
                // What is there of an earlier run goes.
                fs::write(&target, vec![0xee; 100_000]).unwrap();
                let options = options(to, preallocation, 0);
                let mut copier =
                    ImageCopier::begin(source(&path, from), named(&target), &options).unwrap();
                while !copier.step(u64::MAX).unwrap().is_complete() {}
                copier.sync().unwrap();
                drop(copier);
                assert!(bytes(&target, to) == disk, "{from} {to}");
                let space = allocated(&target);
                let full = preallocation == Preallocation::Full;
                assert_eq!(space >= SIZE, full, "{from} {to} {preallocation:?} {space}");
                let copy = source(&target, to);
                let mut verifier = ImageVerifier::begin(Some(source(&path, from)), copy, SIZE, 0);
                while !verifier.step(u64::MAX).unwrap().is_complete() {}
                fs::remove_file(&target).unwrap();
            }
        }
    }
}

#[test]
fn a_copy_that_was_interrupted_goes_on_from_its_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("from");
    let disk = filled(&path, ImageFormat::Qcow2);
    for to in ImageFormat::ALL {
        let target = directory.path().join(to.name());
        fs::write(&target, b"").unwrap();
        let mut done = 0;
        let mut runs = 0;
        while done < SIZE {
            let options = options(to, Preallocation::Sparse, done);
            let from = source(&path, ImageFormat::Qcow2);
            let mut copier = ImageCopier::begin(from, named(&target), &options).unwrap();
            assert_eq!(copier.progress().done, done);
            done = copier.step(1 << 20).unwrap().done;
            copier.sync().unwrap();
            // Beyond the checkpoint, and lost sight of.
            if done < SIZE {
                copier.step(1 << 20).unwrap();
            }
            runs += 1;
        }
        assert!(runs > 3);
        assert!(bytes(&target, to) == disk, "{to}");
    }
}

#[test]
fn the_first_byte_that_differs_is_named_whatever_the_formats() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (directory.path().join("a"), directory.path().join("b"));
    filled(&one, ImageFormat::Vhdx);
    filled(&other, ImageFormat::Raw);
    let compare = |with: bool| {
        let from = with.then(|| source(&one, ImageFormat::Vhdx));
        let copy = source(&other, ImageFormat::Raw);
        let mut verifier = ImageVerifier::begin(from, copy, SIZE, 0);
        loop {
            match verifier.step(u64::MAX) {
                Ok(progress) if progress.is_complete() => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
    };
    compare(true).unwrap();
    let at = (3 << 20) + 69_999;
    let file = fs::File::options().write(true).open(&other).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[9], at).unwrap();
    let error = compare(true).unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ImageErrorKind::Corrupt, Some(at)));
    compare(false).unwrap();
}

#[test]
fn a_parent_is_not_followed_where_that_is_forbidden() {
    let directory = tempfile::tempdir().unwrap();
    for format in [ImageFormat::Qcow2, ImageFormat::Vhdx, ImageFormat::Vhd] {
        let name = format!("parent.{format}");
        filled(&directory.path().join(&name), format);
        let child = directory.path().join(format!("child.{format}"));
        let parent = Some(crate::Parent { path: name.into(), format });
        let options = CreateOptions { parent, ..CreateOptions::new(SIZE, Preallocation::Sparse) };
        let mut creator = create_image(child.as_path(), format, options).unwrap();
        while !creator.step(u64::MAX).unwrap().is_complete() {}
        creator.finish().unwrap();
        assert_eq!(bytes(&child, format)[0], 1);
        let options = OpenOptions { no_parents: true, ..OpenOptions::read_only() };
        let error = open_named(named(&child), format, &options).unwrap_err();
        assert_eq!(error.kind(), ImageErrorKind::Unsupported, "{error}");
    }
}
