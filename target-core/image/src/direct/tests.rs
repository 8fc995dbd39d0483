//! Against a model in memory, and what the page cache has afterwards.

use std::fs::File;
use std::path::PathBuf;

use proptest::prelude::*;
use rustix::io::preadv2;

use super::*;
use crate::error::ImageErrorKind;
use crate::format::OpenOptions;
use crate::image::{Durability, Image as _, Wait};
use crate::raw::RawImage;

const SIZE: usize = (5 << 20) + 4096;

struct Place {
    path: PathBuf,
    switch: DirectIo,
    image: RawImage,
    _directory: tempfile::TempDir,
}

impl Place {
    fn new(on: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.img");
        File::create_new(&path).unwrap().set_len(SIZE as u64).unwrap();
        let switch = DirectIo::new(on);
        let options = OpenOptions { direct_io: switch.clone(), ..OpenOptions::default() };
        let image = RawImage::open(path.as_path(), options).unwrap();
        Self { path, switch, image, _directory: directory }
    }

    /// False where the temporary directory is on a file system of which it is not known that it does not
    /// go through the page cache all the same.
    fn is_able(&self) -> bool {
        const EXT4: u64 = 0xef53;
        const XFS: u64 = 0x5846_5342;
        let magic = u64::try_from(rustix::fs::statfs(&self.path).unwrap().f_type).unwrap();
        let able =
            [EXT4, XFS].contains(&magic) && can_do_direct_io(self.path.parent().unwrap()).is_ok();
        if !able {
            eprintln!("skipped: it is neither ext4 nor XFS, or without direct I/O");
        }
        able
    }

    fn write(&self, data: &[u8], offset: usize, durability: Durability) {
        // Cut where nothing is a multiple of anything.
        let (one, two) = data.split_at(data.len() / 3);
        let slices = [IoSlice::new(one), IoSlice::new(two)];
        self.image.write(&slices, offset as u64, durability).unwrap();
    }

    fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        let (mut one, mut two) = (vec![0xee; length / 3], vec![0xee; length - length / 3]);
        let bufs = &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
        self.image.read(bufs, offset as u64, Wait::Block).unwrap();
        [one, two].concat()
    }

    /// Whether the page cache has all of a range. Asking has the system read ahead.
    fn is_cached(&self, offset: u64, length: usize) -> bool {
        let file = File::open(&self.path).unwrap();
        let mut bytes = vec![0; length];
        let bufs = &mut [IoSliceMut::new(&mut bytes)];
        match preadv2(&file, bufs, offset, ReadWriteFlags::NOWAIT) {
            Ok(count) => count == length,
            Err(Errno::AGAIN) => false,
            Err(errno) => panic!("{errno}"),
        }
    }
}

#[test]
fn the_page_cache_has_nothing_of_what_goes_past_it() {
    let place = Place::new(true);
    if !place.is_able() {
        return;
    }
    place.write(&[7; 3 << 20], 0, Durability::Cached);
    place.write(&[8; 4096], 4 << 20, Durability::Durable);
    for (offset, length, byte) in [(0, 3 << 20, 7), (4 << 20, 4096, 8)] {
        assert_eq!(place.read(offset, length), vec![byte; length]);
        assert!(!place.is_cached(offset as u64, 4096), "{offset}");
    }
    assert!(!place.image.features().nowait_reads);
    let mut bytes = [0; 4096];
    let now = place.image.read(&mut [IoSliceMut::new(&mut bytes)], 0, Wait::Nowait);
    assert_eq!(now.unwrap_err().kind(), ImageErrorKind::WouldBlock);
    // What is open follows the switch.
    place.switch.set(false);
    assert_eq!(place.read(0, 8192), vec![7; 8192]);
    assert!(place.is_cached(0, 8192));
    place.write(&[9; 4096], 0, Durability::Cached);
    place.switch.set(true);
    assert_eq!(place.read(0, 4096), vec![9; 4096], "what was not written back yet");
    place.write(&[10; 8192], 0, Durability::Cached);
    assert!(!place.is_cached(0, 8192));
    place.switch.set(false);
    assert_eq!(place.read(0, 8192), vec![10; 8192]);
}

#[test]
fn a_file_that_has_become_shorter_is_no_read_of_less() {
    let place = Place::new(true);
    place.write(&[7; SIZE], 0, Durability::Cached);
    File::options().write(true).open(&place.path).unwrap().set_len(10_000).unwrap();
    let mut bytes = vec![0; 8192];
    for (offset, fits) in [(0, true), (1808, true), (1809, false), (8192, false), (65536, false)] {
        let read = place.image.read(&mut [IoSliceMut::new(&mut bytes)], offset, Wait::Block);
        let kind = read.map_err(|error| error.kind());
        let expected = if fits { Ok(()) } else { Err(ImageErrorKind::ShortTransfer) };
        assert_eq!(kind, expected, "{offset}");
    }
}

#[test]
fn file_systems_that_are_memory_cannot() {
    let error = can_do_direct_io(Path::new("/dev/shm")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    let error = can_do_direct_io(Path::new("/nowhere/at/all")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_probe_leaves_nothing_in_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let make = |path: &Path, more| {
        rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC | more, Mode::RUSR | Mode::WUSR)
    };
    let _file = named_for_a_moment(directory.path(), make).unwrap();
    let _ = can_do_direct_io(directory.path());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Write { offset: usize, length: usize, durability: Durability },
    Read { offset: usize, length: usize },
    Zero { offset: usize, length: usize },
    Switch(bool),
    Flush,
}

/// Sectors, pages, anything; short and longer than a piece.
fn range() -> impl Strategy<Value = (usize, usize)> {
    let unit = prop_oneof![Just(4096_usize), Just(512), Just(1)];
    (unit, 0..SIZE, prop_oneof![4 => 1..20_000_usize, 1 => 1..(3_usize << 20)]).prop_map(
        |(unit, offset, length)| {
            let offset = offset / unit * unit;
            (offset, length.next_multiple_of(unit).min(SIZE - offset))
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let durability = prop_oneof![3 => Just(Durability::Cached), 1 => Just(Durability::Durable)];
    prop_oneof![
        6 => (range(), durability).prop_map(|((offset, length), durability)| Step::Write {
            offset, length, durability
        }),
        6 => range().prop_map(|(offset, length)| Step::Read { offset, length }),
        1 => range().prop_map(|(offset, length)| Step::Zero { offset, length }),
        2 => any::<bool>().prop_map(Step::Switch),
        1 => Just(Step::Flush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The system answers a sync with an error, from then on, if it could not keep the page cache
    /// in step.
    #[test]
    fn both_ways_see_the_same_bytes(steps in prop::collection::vec(step(), 1..60)) {
        let place = Place::new(true);
        let mut model = vec![0; SIZE];
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Write { offset, length, durability } => {
                    let mut next = u8::try_from(number % 256).unwrap();
                    let bytes = model.get_mut(offset..offset + length).unwrap();
                    for byte in &mut *bytes {
                        (*byte, next) = (next, next.wrapping_mul(5).wrapping_add(1));
                    }
                    place.write(bytes, offset, durability);
                }
                Step::Read { offset, length } => {
                    prop_assert!(place.read(offset, length) == model[offset..offset + length]);
                }
                Step::Zero { offset, length } => {
                    model[offset..offset + length].fill(0);
                    place.image.write_zeroes(offset as u64, length as u64, true).unwrap();
                }
                Step::Switch(on) => place.switch.set(on),
                Step::Flush => place.image.flush().unwrap(),
            }
        }
        place.image.flush().unwrap();
        prop_assert!(std::fs::read(&place.path).unwrap() == model);
    }
}
