use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

use super::*;

const MIB: u64 = 1 << 20;

pub(crate) fn named(path: &Path) -> NamedFile {
    let file = fs::File::options().read(true).write(true).create(true).truncate(false).open(path);
    NamedFile { file: file.unwrap().into(), path: path.into() }
}

/// Data at the beginning and at the end, and 30 MiB of hole between them.
fn source(directory: &Path) -> std::path::PathBuf {
    let path = directory.join("source");
    let file = fs::File::create(&path).unwrap();
    file.set_len(32 * MIB).unwrap();
    file.write_all_at(&vec![7; 1 << 20], 0).unwrap();
    file.write_all_at(&vec![9; 1 << 20], 31 * MIB).unwrap();
    path
}

fn options(done: u64, preallocation: Preallocation) -> CopyOptions {
    CopyOptions { size_bytes: 33 * MIB, done, preallocation }
}

fn finish(mut copier: FileCopier) -> Result<(), ImageError> {
    while !copier.step(MIB / 2)?.is_complete() {}
    copier.sync()
}

#[test]
fn a_copy_has_the_bytes_of_its_source_and_its_holes_and_zeroes_behind_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let from = source(directory.path());
    let mut wanted = fs::read(&from).unwrap();
    wanted.resize(33 << 20, 0);
    for preallocation in [Preallocation::Sparse, Preallocation::Full] {
        for in_kernel in [true, false] {
            let to = directory.path().join("target");
            let mut copier =
                FileCopier::begin(named(&from), named(&to), options(0, preallocation)).unwrap();
            copier.in_kernel = in_kernel;
            finish(copier).unwrap();
            assert!(fs::read(&to).unwrap() == wanted);
            let space = fs::metadata(&to).unwrap().blocks() * 512;
            assert_eq!(space >= 33 * MIB, preallocation == Preallocation::Full, "{space}");
            assert!(preallocation == Preallocation::Full || space < 8 * MIB, "{space}");
            fs::remove_file(&to).unwrap();
        }
    }
}

#[test]
fn a_copy_goes_on_after_what_was_made_durable_and_forgets_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (source(directory.path()), directory.path().join("target"));
    let sparse = |done| options(done, Preallocation::Sparse);
    let mut copier = FileCopier::begin(named(&from), named(&to), sparse(0)).unwrap();
    copier.step(MIB / 2).unwrap();
    drop(copier);
    // What lies behind the checkpoint is anything.
    let file = fs::File::options().write(true).open(&to).unwrap();
    file.write_all_at(&vec![1; 3 << 20], MIB / 2).unwrap();
    file.write_all_at(&[8], 0).unwrap();
    let copier = FileCopier::begin(named(&from), named(&to), sparse(MIB / 2)).unwrap();
    assert_eq!(copier.progress(), Progress { done: MIB / 2, total: 33 * MIB });
    finish(copier).unwrap();
    let (got, mut wanted) = (fs::read(&to).unwrap(), fs::read(&from).unwrap());
    wanted.resize(33 << 20, 0);
    assert_eq!(got[0], 8, "what was done is not done again");
    assert!(got[1..] == wanted[1..]);
    // A target that has lost what the checkpoint tells of is copied from where it ends.
    file.set_len(MIB / 4).unwrap();
    let copier = FileCopier::begin(named(&from), named(&to), sparse(9 * MIB)).unwrap();
    assert_eq!(copier.progress().done, MIB / 4);
    finish(copier).unwrap();
    assert!(fs::read(&to).unwrap()[1..] == wanted[1..]);
}

#[test]
fn a_source_that_becomes_shorter_is_an_error_that_says_where() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (source(directory.path()), directory.path().join("target"));
    for in_kernel in [true, false] {
        let sparse = options(0, Preallocation::Sparse);
        let mut copier = FileCopier::begin(named(&from), named(&to), sparse).unwrap();
        copier.in_kernel = in_kernel;
        copier.done = 32 * MIB - 512;
        fs::File::options().write(true).open(&from).unwrap().set_len(31 * MIB).unwrap();
        let error = copier.copy(512).unwrap_err();
        assert_eq!(error.kind(), ImageErrorKind::ShortTransfer);
        assert_eq!((error.offset(), &**error.path()), (Some(32 * MIB - 512), &*from));
        fs::File::options().write(true).open(&from).unwrap().set_len(32 * MIB).unwrap();
    }
}
