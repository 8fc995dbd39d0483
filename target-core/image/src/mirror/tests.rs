#![allow(clippy::cast_possible_truncation, reason = "a test knows its numbers")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::create::{CreateOptions, Preallocation};
use crate::fault::{Fault, FaultImage};
use crate::mem::MemImage;
use crate::testing::{read_at, write_at};
use crate::{NamedFile, make_image};

const SIZE: u64 = 8 << 20;
const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

fn memory() -> Arc<FaultImage> {
    Arc::new(FaultImage::new(Arc::new(MemImage::new(SIZE).unwrap())))
}

fn all(image: &dyn Image) -> Vec<u8> {
    read_at(image, 0, SIZE as usize).unwrap()
}

fn copier(mirror: &Arc<MirrorImage>) -> MirrorCopier {
    MirrorCopier::begin(mirror.clone(), SIZE, (false, false), 0)
}

/// Copies until the two are the same.
fn copy(mirror: &Arc<MirrorImage>, copier: &mut MirrorCopier) -> Result<(), ImageError> {
    loop {
        while !copier.step(256 << 10)?.is_complete() {}
        if mirror.seal(SIZE)? {
            return Ok(());
        }
    }
}

/// A new image in a file that nobody else sees.
fn image(directory: &Path, format: ImageFormat, space: Preallocation) -> Arc<dyn Image> {
    let path = directory.join(format!("{format}-{space:?}"));
    let mut options = std::fs::File::options();
    let file = options.create(true).truncate(true).read(true).write(true).open(&path).unwrap();
    let file = NamedFile { file: file.into(), path: path.into() };
    make_image(file, format, &CreateOptions::new(SIZE, space)).unwrap()
}

struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What any command may do, where any other does.
fn change(image: &dyn Image, chance: &mut Chance) {
    let offset = chance.below(SIZE / 512) * 512;
    let length = (1 + chance.below(600)) * 512;
    let length = length.min(SIZE - offset);
    let fill = chance.below(256) as u8;
    match chance.below(8) {
        0 => image.unmap(offset, length).unwrap(),
        1 => image.write_zeroes(offset, length, fill.is_multiple_of(2)).unwrap(),
        2 => {
            let data = vec![fill; 4096.min(length as usize)];
            image.write_atomic(&data, offset / 4096 * 4096, Durability::Durable).unwrap();
        }
        3 => image.flush().unwrap(),
        _ => write_at(image, offset, &vec![fill; length as usize]),
    }
}

#[test]
fn both_are_the_same_whatever_many_threads_write_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let targets = ImageFormat::ALL.map(|format| (format, Preallocation::Sparse));
    let full = [ImageFormat::Raw, ImageFormat::Qcow2].map(|it| (it, Preallocation::Full));
    for (seed, (format, space)) in (1..).zip(targets.into_iter().chain(full)) {
        let source = memory();
        let mut chance = Chance(seed);
        for _ in 0..64 {
            change(&*source, &mut chance);
        }
        let target = image(directory.path(), format, space);
        let mirror = Arc::new(MirrorImage::new(source.clone(), target.clone()));
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (mirror, over) = (&mirror, &over);
                scope.spawn(move || {
                    let mut chance = Chance((seed << 8) + thread + 1);
                    while !over.load(Ordering::Relaxed) {
                        change(&**mirror, &mut chance);
                    }
                });
            }
            let is_full = space == Preallocation::Full;
            let fills = is_full && format == ImageFormat::Qcow2;
            let mut copier = MirrorCopier::begin(mirror.clone(), SIZE, (is_full, fills), 0);
            let copied = copy(&mirror, &mut copier);
            over.store(true, Ordering::Relaxed);
            copied.unwrap();
        });
        assert!(all(&*source) == all(&*target), "{format} {space:?}");
        mirror.decide(Outcome::Moved);
        assert!(all(&*mirror) == all(&*target), "{format} {space:?}");
    }
}

#[test]
fn a_target_that_has_been_written_before_becomes_the_same_too() {
    let (source, target) = (memory(), memory());
    write_at(&*source, 0, &[1; 1 << 20]);
    write_at(&*source, 3 * MIB, &[2; 1 << 20]);
    // The same, something else, and something where the source has nothing.
    write_at(&*target, 0, &[1; 1 << 20]);
    write_at(&*target, 2 * MIB, &[9; 2 << 20]);
    write_at(&*target, 6 * MIB, &[9; 1 << 20]);
    let written = target.calls(Operation::Write);
    let mirror = Arc::new(MirrorImage::new(source.clone(), target.clone()));
    let mut copier = MirrorCopier::begin(mirror.clone(), SIZE, (false, false), 4 * MIB);
    copy(&mirror, &mut copier).unwrap();
    assert!(all(&*source) == all(&*target));
    assert_eq!(target.calls(Operation::Write) - written, 16, "a mebibyte in pieces of 64 KiB");
}

#[test]
fn a_target_that_fails_ends_the_copy_and_no_command() {
    for operation in [Operation::Write, Operation::Unmap, Operation::WriteZeroes] {
        let (source, target) = (memory(), memory());
        let mirror = Arc::new(MirrorImage::new(source.clone(), target.clone()));
        let mut copier = copier(&mirror);
        while copier.step(u64::MAX).unwrap().done < SIZE {}
        target.inject(Fault::errno(operation, 28 /* ENOSPC */));
        write_at(&*mirror, MIB, &[1; 512]);
        mirror.unmap(2 * MIB, 4096).unwrap();
        mirror.write_zeroes(3 * MIB, 4096, true).unwrap();
        mirror.flush().unwrap();
        let error = copier.step(u64::MAX).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ImageErrorKind::OutOfSpace, operation));
        assert_eq!(mirror.outcome(), Some(Outcome::Kept));
        assert_eq!(mirror.seal(SIZE).unwrap_err().kind(), ImageErrorKind::OutOfSpace);
        let calls = target.calls(Operation::Write);
        write_at(&*mirror, MIB, &[2; 512]);
        assert_eq!(target.calls(Operation::Write), calls, "it gets nothing any more");
        assert_eq!(read_at(&*source, MIB, 512).unwrap(), [2; 512]);
    }
}

#[test]
fn what_the_source_leaves_half_written_is_copied_again() {
    let (source, target) = (memory(), memory());
    let mirror = Arc::new(MirrorImage::new(source.clone(), target.clone()));
    let mut copier = copier(&mirror);
    while copier.step(u64::MAX).unwrap().done < SIZE {}
    source.inject(Fault::errno(Operation::Write, 5 /* EIO */).times(1));
    let write = |byte, at| mirror.write(&[IoSlice::new(&[byte; 8192])], at, Durability::Cached);
    assert_eq!(write(1, MIB).unwrap_err().kind(), ImageErrorKind::Io);
    // As if a part of it had come to the medium.
    write_at(&*source, MIB, &[1; 4096]);
    assert!(!mirror.seal(SIZE).unwrap());
    write(2, 2 * MIB).unwrap();
    copy(&mirror, &mut copier).unwrap();
    assert_eq!(read_at(&*target, MIB, 8192).unwrap(), [[1; 4096], [0; 4096]].concat());
    assert_eq!(read_at(&*target, 2 * MIB, 8192).unwrap(), [2; 8192]);
}

#[test]
fn more_failures_than_are_kept_one_by_one_cost_time_alone() {
    let (source, target) = (memory(), memory());
    let mirror = Arc::new(MirrorImage::new(source.clone(), target.clone()));
    let mut copier = copier(&mirror);
    while copier.step(u64::MAX).unwrap().done < SIZE {}
    source.inject(Fault::errno(Operation::Write, 28));
    for at in (0..SIZE).step_by(2048) {
        mirror.write(&[IoSlice::new(&[3; 512])], at, Durability::Cached).unwrap_err();
        assert!(mirror.lock().dirty.len() <= MAX_DIRTY);
    }
    source.heal();
    // As if all of it had come to the medium.
    for at in (0..SIZE).step_by(2048) {
        write_at(&*source, at, &[7; 512]);
    }
    copy(&mirror, &mut copier).unwrap();
    assert!(all(&*target) == all(&*source));
    assert_eq!(read_at(&*target, SIZE - 2048, 513).unwrap(), [&[7; 512][..], &[0]].concat());
}

#[test]
fn copies_are_compared_before_anybody_relies_on_them() {
    let (source, target) = (memory(), memory());
    write_at(&*source, 5 * MIB, &[1; 4096]);
    let mirror = Arc::new(MirrorImage::new(source, target.clone()));
    let mut copier = copier(&mirror);
    while copier.step(u64::MAX).unwrap().done < SIZE {}
    write_at(&*target, 5 * MIB + 700, &[2]);
    let error = copy(&mirror, &mut copier).unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ImageErrorKind::Corrupt, Some(5 * MIB + 700)));
}

/// Nobody may be told that it is written as long as the one without it could become the disk's.
#[test]
fn a_write_that_the_target_refuses_at_the_last_moment_waits_until_it_is_decided() {
    let outcomes = [Outcome::Kept, Outcome::Moved, Outcome::Unknown];
    for (outcome, times) in outcomes.into_iter().zip([u32::MAX, 1, u32::MAX]) {
        for flushes in [false, true] {
            let (source, target) = (memory(), memory());
            let mirror = Arc::new(MirrorImage::new(source, target.clone()));
            let mut copier = copier(&mirror);
            copy(&mirror, &mut copier).unwrap();
            let operation = if flushes { Operation::Flush } else { Operation::Write };
            target.inject(Fault::errno(operation, 28).times(times));
            let gate = target.gate(operation);
            let (sender, receiver) = std::sync::mpsc::channel();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let done = if flushes {
                        mirror.flush()
                    } else {
                        mirror.write(&[IoSlice::new(&[1; 512])], 0, Durability::Durable)
                    };
                    sender.send(done).unwrap();
                });
                assert!(gate.wait_for_arrivals(1, PATIENCE));
                gate.open();
                if outcome == Outcome::Moved {
                    // Reads never wait.
                    read_at(&*mirror, 0, 512).unwrap();
                }
                assert!(receiver.try_recv().is_err(), "nobody knows yet");
                mirror.decide(outcome);
                let done = receiver.recv_timeout(PATIENCE).unwrap();
                assert_eq!(done.is_ok(), outcome != Outcome::Unknown, "{outcome:?}");
            });
            if outcome == Outcome::Moved && !flushes {
                assert_eq!(read_at(&*target, 0, 512).unwrap(), [1; 512]);
            }
        }
    }
}

#[test]
fn until_it_is_sealed_only_the_source_is_flushed_and_then_both_are() {
    let (source, target) = (memory(), memory());
    let mirror = Arc::new(MirrorImage::new(source.clone(), target.clone()));
    let mut copier = copier(&mirror);
    while !copier.step(u64::MAX).unwrap().is_complete() {}
    write_at(&*mirror, 0, &[1; 4096]);
    mirror.flush().unwrap();
    assert!(target.is_dirty() && !source.is_dirty());
    assert!(mirror.seal(SIZE).unwrap());
    assert!(!target.is_dirty(), "what was flushed before is durable in both");
    write_at(&*mirror, 0, &[2; 4096]);
    mirror.flush().unwrap();
    assert!(!target.is_dirty() && !source.is_dirty());
    mirror.write(&[IoSlice::new(&[3; 4096])], 0, Durability::Durable).unwrap();
    assert!(!target.is_dirty() && !source.is_dirty());
}

#[test]
fn its_size_stays_what_it_is() {
    let mirror = MirrorImage::new(memory(), memory());
    mirror.grow(SIZE).unwrap();
    assert_eq!(mirror.grow(SIZE + 512).unwrap_err().kind(), ImageErrorKind::InUse);
    assert_eq!(mirror.shrink(512).unwrap_err().kind(), ImageErrorKind::InUse);
    assert!(mirror.switch().is_none() && !mirror.is_plain());
}
