//! What every format is held to: a random sequence of calls leaves what it leaves in memory, and a
//! loss of power leaves what was flushed.
#![allow(clippy::cast_possible_truncation, reason = "a test knows its numbers")]

use std::io::{IoSlice, IoSliceMut};

use proptest::prelude::*;

use crate::error::{ImageError, ImageErrorKind};
use crate::image::{BlockState, Durability, Image, Wait};
use crate::layers::Own;
use crate::mem::MemImage;
use crate::mem_file::{FileEvent, MemFile};

/// The most that a disk grows to.
const LARGEST: u64 = 8 << 20;
/// The least that it becomes.
const SMALLEST: u64 = 2 << 20;

pub(crate) fn read_at(
    image: &dyn Image,
    offset: u64,
    length: usize,
) -> Result<Vec<u8>, ImageErrorKind> {
    let mut bytes = vec![0xee; length];
    image
        .read(&mut [IoSliceMut::new(&mut bytes)], offset, Wait::Block)
        .map_err(|error| error.kind())?;
    Ok(bytes)
}

pub(crate) fn write_at(image: &dyn Image, offset: u64, bytes: &[u8]) {
    image.write(&[IoSlice::new(bytes)], offset, Durability::Cached).unwrap();
}

/// What a parent holds: something everywhere, and a hole.
pub(crate) fn parent_data(size: u64) -> Vec<u8> {
    let mut data: Vec<u8> = (0..size).map(|at| (at / 512 % 251) as u8 | 1).collect();
    let hole = data.len() / 2;
    data[hole..hole + 100_000].fill(0);
    data
}

/// One call.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Write { durability: Durability, fill: u8, pieces: usize },
    Unmap,
    WriteZeroes { may_unmap: bool },
    Read { wait: Wait },
    Status,
    Flush,
    Grow,
    Cut,
    Reopen,
}

/// Calls with their ranges: whole blocks, sectors, and neither.
pub(crate) fn steps(length: usize) -> impl Strategy<Value = Vec<(Step, u64, u64)>> {
    let durability = prop_oneof![9 => Just(Durability::Cached), 1 => Just(Durability::Durable)];
    let wait = prop_oneof![Just(Wait::Nowait), Just(Wait::Block)];
    let step = prop_oneof![
        10 => (durability, any::<u8>(), 1usize..4)
            .prop_map(|(durability, fill, pieces)| Step::Write { durability, fill, pieces }),
        5 => Just(Step::Unmap),
        3 => any::<bool>().prop_map(|may_unmap| Step::WriteZeroes { may_unmap }),
        5 => wait.prop_map(|wait| Step::Read { wait }),
        2 => Just(Step::Status),
        1 => Just(Step::Flush),
        1 => Just(Step::Grow),
        1 => Just(Step::Cut),
        1 => Just(Step::Reopen),
    ];
    let place = prop_oneof![
        0u64..6 << 20,
        (0u64..1536).prop_map(|place| place * 4096),
        (0u64..6).prop_map(|place| place << 20),
    ];
    let size = prop_oneof![
        0u64..9000,
        (0u64..40).prop_map(|blocks| blocks * 4096),
        (0u64..4).prop_map(|blocks| blocks << 20),
    ];
    prop::collection::vec((step, place, size), 1..length)
}

fn pattern(fill: u8, at: usize, length: u64) -> Vec<u8> {
    (0..length).map(|n| fill ^ ((n / 64 + at as u64) % 255) as u8).collect()
}

/// The same step on the image and on the model; both must say the same.
pub(crate) fn run<I: Image>(
    open: &dyn Fn() -> I,
    image: &mut Option<I>,
    model: &MemImage,
    at: usize,
    step: &(Step, u64, u64),
) {
    let (step, offset, length) = step;
    let (offset, length) = (*offset, *length);
    let file = image.as_ref().unwrap();
    let both = |f: &dyn Fn(&dyn Image) -> Result<(), ImageError>| {
        let answer = |result: Result<(), ImageError>| result.map_err(|error| error.kind());
        assert_eq!(answer(f(file)), answer(f(model)), "{step:?} {offset} {length}");
    };
    match step {
        Step::Write { durability, fill, pieces } => {
            let data = pattern(*fill, at, length);
            let size = (data.len() / pieces).max(1);
            let slices: Vec<_> = data.chunks(size).map(IoSlice::new).collect();
            both(&|image| image.write(&slices, offset, *durability));
        }
        Step::Unmap => both(&|image| image.unmap(offset, length)),
        Step::WriteZeroes { may_unmap } => {
            both(&|image| image.write_zeroes(offset, length, *may_unmap));
        }
        Step::Read { wait } => {
            let mut bytes = vec![0xee; length as usize];
            let (head, tail) = bytes.split_at_mut(length as usize / 3);
            let mut slices = [IoSliceMut::new(head), IoSliceMut::new(tail)];
            match file.read(&mut slices, offset, *wait).map_err(|error| error.kind()) {
                Err(ImageErrorKind::WouldBlock) => assert_eq!(*wait, Wait::Nowait),
                result => assert_eq!(
                    result.map(|()| bytes),
                    read_at(model, offset, length as usize),
                    "{step:?} {offset} {length}"
                ),
            }
        }
        Step::Status => status(file, model, offset, length),
        Step::Flush => both(&|image| image.flush()),
        Step::Grow => {
            let size = (model.size_bytes() + length).next_multiple_of(4096).min(LARGEST);
            both(&|image| image.grow(size));
            assert_eq!(file.size_bytes(), model.size_bytes());
        }
        Step::Cut => {
            let size = (model.size_bytes().saturating_sub(length) / 4096 * 4096).max(SMALLEST);
            match file.cut(size) {
                // What the parent has there would come back when it grows.
                Err(error) if error.kind() == ImageErrorKind::Unsupported => {}
                result => {
                    result.unwrap();
                    model.cut(size).unwrap();
                }
            }
            assert_eq!(file.size_bytes(), model.size_bytes());
        }
        Step::Reopen => {
            drop(image.take());
            *image = Some(open());
        }
    }
}

/// What counts as deallocated reads zeroes.
fn status(image: &dyn Image, model: &MemImage, offset: u64, length: u64) {
    match image.block_status(offset, length) {
        Err(error) => {
            assert_eq!(error.kind(), ImageErrorKind::OutOfRange);
            assert!(length == 0 || offset + length > model.size_bytes());
        }
        Ok(extent) => {
            assert!(extent.offset == offset && (1..=length).contains(&extent.length));
            if extent.state == BlockState::Deallocated {
                let bytes = read_at(model, offset, extent.length as usize).unwrap();
                assert!(bytes.iter().all(|byte| *byte == 0), "{offset} {extent:?}");
            }
        }
    }
}

/// The image holds what the model holds.
pub(crate) fn compare(image: &dyn Image, model: &MemImage) {
    let bytes = read_at(image, 0, model.size_bytes() as usize).unwrap();
    let expected = model.contents();
    if let Some(at) = (0..bytes.len()).find(|at| bytes[*at] != expected[*at]) {
        panic!("byte {at} is {:#x}, not {:#x}", bytes[at], expected[at]);
    }
}

/// What an image has of its own, and its parent below, is what it shows; how much each has of it.
pub(crate) fn compare_layers(image: &dyn Image, model: &MemImage) -> [u64; 3] {
    let (expected, parent) = (model.contents(), image.parent());
    let (mut at, mut found) = (0, [0; 3]);
    while at < image.size_bytes() {
        let (own, length) = image.own_extent(at, image.size_bytes() - at).unwrap();
        assert!(length > 0);
        let shown = &expected[at as usize..][..length as usize];
        match own {
            Own::Data => found[0] += length,
            Own::Zeroes => {
                assert!(shown.iter().all(|byte| *byte == 0), "zeroes at {at}");
                found[1] += length;
            }
            Own::Nothing => {
                let below = read_at(parent.as_deref().unwrap(), at, length as usize).unwrap();
                assert!(shown == below, "the parent shows at {at}");
                found[2] += length;
            }
        }
        at += length;
    }
    found
}

/// What a disk held after a step, how many events there were then, and whether all of it was
/// durable.
struct Moment {
    events: usize,
    contents: Vec<u8>,
    flushed: bool,
}

/// Runs steps on the image in `file` and then loses power at the given places (parts of all events),
/// each with a seed that says what survives. `reopen` opens what is left.
pub(crate) fn lose_power<I: Image>(
    file: &MemFile,
    model: &MemImage,
    open: &dyn Fn() -> I,
    reopen: &dyn Fn(MemFile) -> Result<I, ImageError>,
    steps: &[(Step, u64, u64)],
    crashes: &[(u16, u64)],
) {
    // An initiator writes whole sectors. A sector of which one step wrote a part would be a mixture
    // of three, were the step before it lost.
    let whole = |at: u64| at / 512 * 512;
    let steps: Vec<(Step, u64, u64)> = steps
        .iter()
        .map(|(step, offset, length)| (step.clone(), whole(*offset), whole(*length)))
        .collect();
    let mut image = Some(open());
    let (prelude, steps) = steps.split_at(steps.len() / 3);
    for (at, step) in prelude.iter().enumerate() {
        run(open, &mut image, model, at, step);
    }
    image.as_ref().unwrap().flush().unwrap();
    let base = file.contents();
    file.record();
    let moment =
        |flushed| Moment { events: file.events().len(), contents: model.contents(), flushed };
    let mut moments = vec![moment(true)];
    for (at, step) in steps.iter().enumerate() {
        run(open, &mut image, model, at + 100, step);
        moments.push(moment(matches!(step.0, Step::Flush)));
    }
    let events: Vec<FileEvent> = file.events();
    for (place, seed) in crashes {
        let count = events.len() * usize::from(*place) / usize::from(u16::MAX);
        let mut state = *seed | 1;
        let keep = || {
            // xorshift64: which half of what was not flushed is lost.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            seed % 4 == 0 || (seed % 4 != 1 && state % 2 == 0)
        };
        let left = MemFile::after_crash(&base, &events, count, keep);
        let opened = reopen(MemFile::new(left, 128 << 20));
        let opened = opened.unwrap_or_else(|error| panic!("after {count} events: {error}"));
        let found = read_at(&opened, 0, opened.size_bytes() as usize).unwrap();
        check(&moments, count, &found);
        // It can go on.
        write_at(&opened, 1 << 20, &[0x77; 4096]);
        assert_eq!(read_at(&opened, 1 << 20, 4096).unwrap(), [0x77; 4096]);
    }
}

/// Every sector holds what it held at the last flush that had ended, or what a later step wrote.
fn check(moments: &[Moment], count: usize, found: &[u8]) {
    let last = moments.iter().rposition(|moment| moment.flushed && moment.events <= count).unwrap();
    // The step that was under way counts too.
    let next = moments.iter().position(|moment| moment.events > count).unwrap_or(moments.len());
    let possible = &moments[last..(next + 1).min(moments.len())];
    for (sector, bytes) in found.chunks(512).enumerate() {
        let at = sector * 512;
        let same = |moment: &Moment| {
            moment.contents.get(at..at + bytes.len()).unwrap_or(&[0; 512][..bytes.len()]) == bytes
        };
        assert!(
            possible.iter().any(same),
            "after {count} events sector {sector} holds what nobody wrote: {:x?}",
            &bytes[..8]
        );
    }
}
