//! One set belongs to all of the program, and who is not root may lock little memory: one test at a
//! time.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::*;
use crate::block_file::BlockFile as _;
use crate::file::ImageFile;
use crate::image::{Durability, Wait};

/// Chunks of a test's file, and a piece of another one.
const CHUNKS: u64 = 3;
const PIECE: u64 = 8192;

struct Place {
    file: ImageFile,
    outside: File,
    _directory: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Place {
    /// Each byte says in which page it stands.
    fn new() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        set_hot_budget(256 << 20);
        // Of a file system that is known, wherever the others are.
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = directory.path().join("image");
        let length = usize::try_from(CHUNKS * CHUNK + PIECE).unwrap();
        let bytes: Vec<u8> = (0..length).map(page_of).collect();
        std::fs::write(&path, bytes).unwrap();
        let outside = File::options().read(true).write(true).open(&path).unwrap();
        let file = ImageFile::open(Path::new(&path), false).unwrap();
        Self { file, outside, _directory: directory, _alone: alone }
    }

    fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let (mut one, mut two) = (vec![0xee; length / 3], vec![0xee; length - length / 3]);
        let bufs = &mut [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
        self.file.read(bufs, offset, Wait::Nowait).unwrap();
        [one, two].concat()
    }

    fn is_pinned(&self, number: u64) -> bool {
        let Some(Some(chunks)) = self.hot().chunks.get() else { return false };
        chunks.state(number).unwrap().load(Ordering::SeqCst) & PINNED != 0
    }

    fn hot(&self) -> &HotFile {
        self.file.hot()
    }

    /// Reads all chunks until they are pinned.
    fn heat(&self) {
        let end = Instant::now() + Duration::from_secs(60);
        while !(0..CHUNKS).all(|number| self.is_pinned(number)) {
            assert!(Instant::now() < end, "nothing is pinned");
            for number in 0..CHUNKS {
                self.read(number * CHUNK, 4096);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn page_of(at: usize) -> u8 {
    u8::try_from(at / 4096 % 256).unwrap()
}

fn expected(offset: u64, length: usize) -> Vec<u8> {
    let start = usize::try_from(offset).unwrap();
    (start..start + length).map(page_of).collect()
}

#[test]
fn what_is_read_again_and_again_is_copied_and_is_what_the_file_has() {
    let place = Place::new();
    place.heat();
    assert!(hot_bytes() >= CHUNKS * CHUNK);
    // Across two chunks, and where the file has another piece that is no whole chunk.
    for (offset, length) in [(0, 1), (CHUNK - 5, 12), (1000, 70_000), (CHUNKS * CHUNK - 6, 12)] {
        assert_eq!(place.read(offset, length), expected(offset, length), "{offset}");
    }
    let copies = |offset: u64, length: u64| {
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        place.hot().read(&mut [IoSliceMut::new(&mut bytes)], offset, length)
    };
    assert!(copies(CHUNK - 5, 12) && !copies(CHUNKS * CHUNK - 6, 12));
    // What is written, by whomever, is read.
    place.file.write(&[IoSlice::new(b"one")], CHUNK - 1, Durability::Cached).unwrap();
    place.outside.write_all_at(b"two", 7).unwrap();
    assert_eq!((place.read(CHUNK - 1, 3), place.read(7, 3)), (b"one".into(), b"two".into()));
}

#[test]
fn what_is_taken_from_a_file_is_not_copied_from_any_more() {
    let place = Place::new();
    place.heat();
    place.file.punch(CHUNK, 4096).unwrap();
    assert!(place.is_pinned(0) && !place.is_pinned(1) && place.is_pinned(2));
    assert_eq!(place.read(CHUNK, 4096), vec![0; 4096]);
    place.file.write_zeroes(0, 4096).unwrap();
    assert!(!place.is_pinned(0) && place.is_pinned(2));
    place.file.set_length(2 * CHUNK + 4096).unwrap();
    assert!(!place.is_pinned(2));
    let mut bytes = [0; 4096];
    let read = place.file.read(&mut [IoSliceMut::new(&mut bytes)], 2 * CHUNK + 4096, Wait::Nowait);
    assert!(read.is_err());
}

#[test]
fn nothing_is_pinned_where_something_is_being_taken() {
    let place = Place::new();
    place.heat();
    let chunks = place.hot().chunks.get().unwrap().clone().unwrap();
    let left = place.hot().leave(0..1).unwrap();
    assert!(chunks.pin(0).is_ok() && !place.is_pinned(0));
    drop(left);
    assert!(chunks.pin(0).is_ok() && place.is_pinned(0));
    // Where the file ends in the midst of a chunk.
    let error = chunks.pin(CHUNKS).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::FAULT.raw_os_error()));
}

/// On tmpfs a look at a hole through a mapping would fill it.
#[test]
fn a_hole_stays_a_hole() {
    use std::os::unix::fs::MetadataExt as _;

    let place = Place::new();
    place.heat();
    place.file.punch(CHUNK, CHUNK).unwrap();
    let blocks = place.outside.metadata().unwrap().blocks();
    let chunks = place.hot().chunks.get().unwrap().clone().unwrap();
    assert!(chunks.has_hole(1) && !chunks.has_hole(0));
    // As often as pinned another one, twice.
    for number in [2, 2] {
        place.hot().leave(number * CHUNK..number * CHUNK + 1);
        let end = Instant::now() + Duration::from_secs(60);
        while !place.is_pinned(number) {
            assert!(Instant::now() < end, "nothing is pinned");
            for at in [CHUNK, number * CHUNK] {
                place.read(at, 4096);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    assert!(!place.is_pinned(1));
    assert_eq!(place.read(CHUNK, 9000), vec![0; 9000]);
    assert_eq!(place.outside.metadata().unwrap().blocks(), blocks);
}

#[test]
fn a_file_that_others_have_cut_is_read_as_it_is() {
    let place = Place::new();
    place.heat();
    place.outside.set_len(CHUNK).unwrap();
    let mut bytes = [0; 4096];
    let bufs = &mut [IoSliceMut::new(&mut bytes)];
    assert!(!place.hot().read(bufs, CHUNK, 4096));
    assert!(!place.is_pinned(1) && place.is_pinned(0) && place.is_pinned(2));
    assert!(place.file.read(bufs, CHUNK, Wait::Nowait).is_err());
    assert!(place.file.read(bufs, CHUNK, Wait::Block).is_err());
    assert_eq!(place.read(CHUNK - 4096, 4096), expected(CHUNK - 4096, 4096));
}

#[test]
fn a_file_is_free_for_others_once_it_is_closed() {
    let place = Place::new();
    place.heat();
    let Place { file, outside, _directory, _alone } = place;
    drop(file);
    // Whether its memory has been given back or not.
    crate::file::lock(&OwnedFd::from(outside), false).unwrap();
}

#[test]
fn once_is_not_again_and_again() {
    let chunks = {
        let file = tempfile::tempfile().unwrap();
        file.set_len(CHUNK).unwrap();
        Arc::new(Chunks::of(&file.into(), CHUNK, false).unwrap())
    };
    // In one moment, or in two one behind the other.
    for _ in 0..1000 {
        Chunks::was_read(&chunks, 0);
    }
    let state = chunks.state(0).unwrap().load(Ordering::SeqCst);
    assert!(state & (WANTED | PINNED) == 0 && (1..=2).contains(&((state & HEAT) >> HEAT_SHIFT)));
}

#[test]
fn what_somebody_sends_from_stays_pinned_and_is_what_the_file_has() {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    let place = Place::new();
    assert!(place.file.pinned(0, 1).is_none());
    place.heat();
    // It ends where the file has another piece that is no whole chunk.
    assert!(place.file.pinned(CHUNKS * CHUNK - 6, 12).is_none());
    let pinned = place.file.pinned(CHUNK - 5000, 9000).unwrap();
    let chunks = place.hot().chunks.get().unwrap().clone().unwrap();
    let copy = pinned.clone();
    drop(pinned);
    // Nobody else begins, and what was begun goes on.
    assert!(!chunks.unpin(0) && !chunks.unpin(1) && chunks.unpin(2));
    assert!(!place.is_pinned(0) && place.file.pinned(0, 1).is_none());
    let (one, mut other) = UnixStream::pair().unwrap();
    place.file.write(&[IoSlice::new(b"new")], CHUNK, Durability::Cached).unwrap();
    let mut expected = expected(CHUNK - 5000, 9000);
    expected[5000..5003].copy_from_slice(b"new");
    assert_eq!(copy.send_to(&one, &(10..8000)).unwrap(), 7990);
    let mut bytes = vec![0; 7990];
    other.read_exact(&mut bytes).unwrap();
    assert!(bytes == expected[10..8000]);
    // As much as the socket takes, and no error is hidden.
    one.set_nonblocking(true).unwrap();
    let full = loop {
        if let Err(error) = copy.send_to(&one, &(0..9000)) {
            break error;
        }
    };
    assert_eq!(full.kind(), std::io::ErrorKind::WouldBlock);
    place.outside.set_len(CHUNK).unwrap();
    let (one, _other) = UnixStream::pair().unwrap();
    assert_eq!(copy.send_to(&one, &(0..9000)).unwrap(), 5000);
    let gone = copy.send_to(&one, &(5000..9000)).unwrap_err();
    assert_eq!(gone.kind(), std::io::ErrorKind::UnexpectedEof);
    drop(copy);
    assert!(chunks.unpin(0) && chunks.unpin(1));
}
