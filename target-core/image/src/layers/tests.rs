//! Chains of images that grow, shrink and change while the disk is written, against a model.

#![allow(clippy::cast_possible_truncation, reason = "a disk here fits into memory")]

use std::io::{IoSlice, IoSliceMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::block_file::BlockFile as _;
use crate::copy::NamedFile;
use crate::create::{CreateOptions, Parent, Preallocation};
use crate::file::ImageFile;
use crate::format::{ImageFormat, OpenOptions, open_image, open_over};
use crate::switch::SwitchImage;
use crate::{make_named, open_shared, rebase_named};

const SIZE: u64 = 3 << 20;
/// Sizes are multiples of it.
const UNIT: u64 = 96 << 10;

fn named(path: &Path, create: bool) -> NamedFile {
    let file = std::fs::File::options().read(true).write(true).create(create).open(path).unwrap();
    NamedFile { file: file.into(), path: path.into() }
}

/// A disk whose file is laid over others, and what each of them shows.
struct Stack {
    directory: tempfile::TempDir,
    front: SwitchImage,
    /// From the lowest to the disk's own.
    files: Vec<(PathBuf, ImageFormat)>,
    /// What the lower ones show.
    frozen: Vec<Vec<u8>>,
    now: Vec<u8>,
    made: usize,
}

fn read(image: &dyn Image) -> Vec<u8> {
    let mut bytes = vec![0; image.size_bytes() as usize];
    image.read(&mut [IoSliceMut::new(&mut bytes)], 0, Wait::Block).unwrap();
    bytes
}

impl Stack {
    fn new(format: ImageFormat) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0");
        let options = CreateOptions::new(SIZE, Preallocation::Sparse);
        make_named(named(&path, true), format, &options).unwrap();
        let image = open_image(path.as_path(), format, &OpenOptions::default()).unwrap();
        let front = SwitchImage::new(image);
        let now = vec![0; SIZE as usize];
        Self { directory, front, files: vec![(path, format)], frozen: Vec::new(), now, made: 1 }
    }

    fn size(&self) -> u64 {
        self.now.len() as u64
    }

    fn within(&self, at: u64, length: u64) -> (usize, usize) {
        let start = at % self.size();
        (start as usize, (start + length).min(self.size()) as usize)
    }

    /// As an expansion, or as the shrinking of a disk does it: where the image cannot become smaller it
    /// has zeroes behind the new end.
    fn resize(&mut self, size: u64) {
        if size < self.size() {
            self.front.unmap(size, self.size() - size).unwrap();
            self.front.shrink(size).unwrap();
            match self.front.cut(size) {
                Err(error) if error.kind() == ImageErrorKind::Unsupported => {}
                result => result.unwrap(),
            }
        } else {
            let current = self.front.current();
            let (path, format) = self.files.last().unwrap();
            if *format == ImageFormat::Raw {
                let file = named(path, false);
                if file.length().unwrap() < size {
                    file.set_length(size).unwrap();
                }
            }
            current.grow(size).unwrap();
        }
        self.now.resize(size as usize, 0);
    }

    fn write(&mut self, at: u64, length: u64, byte: u8) {
        let (start, end) = self.within(at, length);
        let bytes = vec![byte; end - start];
        self.front.write(&[IoSlice::new(&bytes)], start as u64, Durability::Cached).unwrap();
        self.now[start..end].fill(byte);
    }

    fn zero(&mut self, at: u64, length: u64) {
        let (start, end) = self.within(at, length);
        self.front.unmap(start as u64, (end - start) as u64).unwrap();
        self.now[start..end].fill(0);
    }

    fn lay(&mut self) {
        let (below, format) = self.files.last().unwrap().clone();
        let path = self.directory.path().join(self.made.to_string());
        self.made += 1;
        let options = CreateOptions {
            parent: Some(Parent { path: below.file_name().unwrap().into(), format }),
            ..CreateOptions::new(self.size(), Preallocation::Sparse)
        };
        make_named(named(&path, true), ImageFormat::Qcow2, &options).unwrap();
        let before = self.front.current();
        let over =
            open_over(path.as_path(), ImageFormat::Qcow2, &OpenOptions::default(), before).unwrap();
        let before = self.front.set(over);
        before.retire().unwrap();
        self.files.push((path, ImageFormat::Qcow2));
        self.frozen.push(self.now.clone());
    }

    /// Brings the images `from` to `to` into the lowest of them, and lets whoever is above know.
    fn merge(&mut self, lowest: usize, top: usize) {
        let (into, format) = self.files[lowest].clone();
        let base = open_shared(named(&into, false), format, &OpenOptions::default()).unwrap();
        let (path, _) = self.files[top].clone();
        let size = self.frozen[top].len() as u64;
        if format == ImageFormat::Raw {
            let file = named(&into, false);
            if file.length().unwrap() < size {
                file.set_length(size).unwrap();
            }
        }
        let image = open_image(path.as_path(), ImageFormat::Qcow2, &OpenOptions::read_only());
        let mut copier = LayerCopier::begin(image.unwrap(), base, size, 0).unwrap();
        while !copier.step(1 << 20).unwrap().is_complete() {
            // Nobody above notices.
            assert!(read(&self.front) == self.now);
        }
        copier.sync().unwrap();
        drop(copier);
        let new = open_image(into.as_path(), format, &OpenOptions::read_only()).unwrap();
        let name = into.file_name().unwrap().to_str().unwrap();
        let child = top + 1;
        if child + 1 == self.files.len() {
            self.front.rebase(name, format, new).unwrap();
        } else {
            rebase_named(named(&self.files[child].0, false), name, format).unwrap();
            let mut image = self.front.current();
            while *image.path() != *self.files[child].0 {
                image = image.parent().unwrap();
            }
            image.set_parent(new).unwrap();
        }
        for (path, _) in self.files.drain(lowest + 1..=top) {
            std::fs::remove_file(path).unwrap();
        }
        self.frozen.drain(lowest..top);
        self.check();
    }

    fn check(&self) {
        assert!(read(&self.front) == self.now);
        for ((path, format), wanted) in self.files.iter().zip(&self.frozen) {
            let image = open_image(path.as_path(), *format, &OpenOptions::read_only()).unwrap();
            assert!(read(&*image) == *wanted, "{}", path.display());
        }
    }

    /// As the next start finds it.
    fn reopen(&mut self) {
        self.front.flush().unwrap();
        self.front.close().unwrap();
        let (path, format) = self.files.last().unwrap().clone();
        // A raw image in its place has no locks of the others.
        let nothing = Arc::new(crate::mem::MemImage::new(SIZE).unwrap());
        drop(self.front.set(nothing));
        let image = open_image(path.as_path(), format, &OpenOptions::default()).unwrap();
        self.front.set(image);
        self.check();
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(u64, u64, u8),
    Zero(u64, u64),
    Resize(u64),
    Lay,
    Merge(usize, usize),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = (0..SIZE / 512).prop_map(|block| block * 512);
    let length = prop_oneof![Just(512_u64), 1..300_000_u64];
    let step = prop_oneof![
        6 => (place.clone(), length.clone(), 1..=255_u8).prop_map(|(at, n, b)| Step::Write(at, n, b)),
        2 => (place, length).prop_map(|(at, n)| Step::Zero(at, n)),
        2 => (1..=SIZE / UNIT).prop_map(|units| Step::Resize(units * UNIT)),
        3 => Just(Step::Lay),
        1 => (0..5_usize, 1..3_usize).prop_map(|(at, n)| Step::Merge(at, n)),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..30)
}

fn run(format: ImageFormat, steps: &[Step]) {
    let mut stack = Stack::new(format);
    for step in steps {
        match *step {
            Step::Write(at, length, byte) => stack.write(at, length, byte),
            Step::Zero(at, length) => stack.zero(at, length),
            Step::Resize(size) => stack.resize(size),
            Step::Lay => stack.lay(),
            // The disk's own image takes part in none.
            Step::Merge(at, count) if at + count + 1 < stack.files.len() => {
                stack.merge(at, at + count);
            }
            Step::Merge(..) => {}
            Step::Reopen => stack.reopen(),
        }
    }
    stack.check();
    changes_make_the_newer_of_the_older(&stack);
}

/// What is listed between two of the images, taken from the newer, makes it of the older.
fn changes_make_the_newer_of_the_older(stack: &Stack) {
    for older in 0..stack.frozen.len() {
        let layers = Layers::above(stack.front.current(), &stack.files[older].0).unwrap();
        let mut found = stack.frozen[older].clone();
        found.resize(stack.now.len(), 0);
        let mut at = 0;
        while at < stack.size() {
            let layer = layers.at(at, stack.size() - at).unwrap();
            let range = at as usize..(at + layer.length) as usize;
            match layer.own {
                Own::Data => found[range.clone()].copy_from_slice(&stack.now[range]),
                Own::Zeroes => found[range].fill(0),
                Own::Nothing => {}
            }
            at += layer.length;
        }
        assert!(found == stack.now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_chain_over_any_format_shows_what_was_written(
        format in prop::sample::select(ImageFormat::ALL.to_vec()),
        steps in steps(),
    ) {
        run(format, &steps);
    }
}

#[test]
fn an_image_that_others_are_laid_over_lets_readers_in_and_keeps_writers_out() {
    let mut stack = Stack::new(ImageFormat::Raw);
    stack.write(0, 4096, 7);
    let path = stack.files[0].0.clone();
    let open = |read_only| ImageFile::open(path.as_path(), read_only).map(|file| file.length());
    assert_eq!(open(true).unwrap_err().kind(), ImageErrorKind::InUse);
    stack.lay();
    assert_eq!(open(true).unwrap().unwrap(), SIZE);
    assert_eq!(open(false).unwrap_err().kind(), ImageErrorKind::InUse);
}

#[test]
fn an_image_is_laid_only_over_the_one_that_it_names() {
    let stack = Stack::new(ImageFormat::Raw);
    let other = stack.directory.path().join("other");
    let options = CreateOptions {
        parent: Some(Parent { path: "another".into(), format: ImageFormat::Raw }),
        ..CreateOptions::new(SIZE, Preallocation::Sparse)
    };
    make_named(named(&other, true), ImageFormat::Qcow2, &options).unwrap();
    let options = OpenOptions::default();
    let error = open_over(other.as_path(), ImageFormat::Qcow2, &options, stack.front.current());
    assert_eq!(error.unwrap_err().kind(), ImageErrorKind::ParentMismatch);
    let stop = Path::new("/nowhere");
    let error = Layers::above(stack.front.current(), stop).unwrap_err();
    assert_eq!(error.kind(), ImageErrorKind::ParentMismatch);
}

#[test]
fn an_atomic_write_to_a_qcow2_image_that_was_interrupted_is_done_by_the_next_opener() {
    let mut stack = Stack::new(ImageFormat::Raw);
    stack.lay();
    let limit = stack.front.atomic_writes();
    assert_eq!((limit.max_length, limit.alignment), (1 << 20, 0));
    let data = vec![9; 300_000];
    stack.front.write_atomic(&data, 1000, Durability::Cached).unwrap();
    stack.now[1000..301_000].fill(9);
    let (path, _) = stack.files[1].clone();
    let journal = crate::redo::journal_path(&path);
    assert!(journal.exists());
    stack.reopen();
    assert!(!journal.exists());
    // What a crash has left: the record, and nothing of it in its place.
    crate::redo::tests_leave(&journal, 4096, &[5; 8192]);
    stack.now[4096..12_288].fill(5);
    drop(stack.front.set(Arc::new(crate::mem::MemImage::new(SIZE).unwrap())));
    stack.front.set(open_image(path, ImageFormat::Qcow2, &OpenOptions::read_only()).unwrap());
    stack.check();
}
