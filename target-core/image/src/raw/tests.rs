//! A file against the model in memory, and everything that can happen to a file.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::mem::MemImage;

const MIB: u64 = 1 << 20;

/// An empty image and what keeps it there.
struct Disk {
    _directory: TempDir,
    path: PathBuf,
}

impl Disk {
    fn new(size: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk.img");
        File::create_new(&path).unwrap().set_len(size).unwrap();
        Self { _directory: directory, path }
    }

    fn open(&self) -> RawImage {
        RawImage::open(&*self.path, OpenOptions::default()).unwrap()
    }

    fn try_open(&self, read_only: bool) -> Result<RawImage, ImageErrorKind> {
        RawImage::open(&*self.path, OpenOptions { read_only, ..OpenOptions::default() })
            .map_err(|error| error.kind())
    }

    /// Bytes of space that the file takes, written back or not.
    fn space(&self) -> u64 {
        File::open(&self.path).unwrap().sync_all().unwrap();
        fs::metadata(&self.path).unwrap().blocks() * 512
    }

    fn resize(&self, size: u64) {
        File::options().write(true).open(&self.path).unwrap().set_len(size).unwrap();
    }
}

/// As an index.
fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

fn read_at(image: &dyn Image, offset: u64, length: usize) -> Result<Vec<u8>, ImageErrorKind> {
    let mut bytes = vec![0xee; length];
    image
        .read(&mut [IoSliceMut::new(&mut bytes)], offset, Wait::Block)
        .map_err(|error| error.kind())?;
    Ok(bytes)
}

fn write_at(image: &dyn Image, offset: u64, bytes: &[u8]) -> Result<(), ImageErrorKind> {
    image.write(&[IoSlice::new(bytes)], offset, Durability::Cached).map_err(|error| error.kind())
}

fn kind<T: std::fmt::Debug>(result: Result<T, ImageError>) -> ImageErrorKind {
    result.unwrap_err().kind()
}

#[derive(Debug, Clone)]
enum Step {
    Write { durability: Durability, fill: u8, pieces: usize },
    Unmap,
    WriteZeroes { may_unmap: bool },
    Read { wait: Wait },
    Flush,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<(Step, u64, u64)>> {
    let durability = prop_oneof![9 => Just(Durability::Cached), 1 => Just(Durability::Durable)];
    let wait = prop_oneof![Just(Wait::Nowait), Just(Wait::Block)];
    let step = prop_oneof![
        8 => (durability, any::<u8>(), 1usize..6)
            .prop_map(|(durability, fill, pieces)| Step::Write { durability, fill, pieces }),
        3 => Just(Step::Unmap),
        3 => any::<bool>().prop_map(|may_unmap| Step::WriteZeroes { may_unmap }),
        4 => wait.prop_map(|wait| Step::Read { wait }),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ];
    // Aligned and not, short and long; the size is no multiple of anything.
    let place = prop_oneof![0u64..100_000, (0u64..24).prop_map(|block| block * 4096)];
    let length = prop_oneof![0u64..9000, (0u64..16).prop_map(|blocks| blocks * 4096)];
    prop::collection::vec((step, place, length), 1..25)
}

/// The same step on the file and on the model; both must say the same.
fn run(
    disk: &Disk,
    image: &mut Option<RawImage>,
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
            let data: Vec<u8> =
                (0..length).map(|n| fill ^ (n ^ at as u64).to_le_bytes()[0]).collect();
            let size = (data.len() / pieces).max(1);
            let slices: Vec<_> = data.chunks(size).map(IoSlice::new).collect();
            both(&|image| image.write(&slices, offset, *durability));
        }
        Step::Unmap => both(&|image| image.unmap(offset, length)),
        Step::WriteZeroes { may_unmap } => {
            both(&|image| image.write_zeroes(offset, length, *may_unmap));
        }
        Step::Read { wait } => {
            let mut bytes = vec![0xee; place(length)];
            let (head, tail) = bytes.split_at_mut(place(length) / 3);
            let mut slices = [IoSliceMut::new(head), IoSliceMut::new(tail)];
            match file.read(&mut slices, offset, *wait).map_err(|error| error.kind()) {
                Err(ImageErrorKind::WouldBlock) => assert_eq!(*wait, Wait::Nowait),
                result => assert_eq!(
                    result.map(|()| bytes),
                    read_at(model, offset, place(length)),
                    "{step:?} {offset} {length}"
                ),
            }
        }
        Step::Flush => both(&|image| image.flush()),
        Step::Reopen => {
            drop(image.take());
            *image = Some(disk.open());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_calls_leaves_what_it_leaves_in_memory(steps in steps()) {
        const SIZE: u64 = 100_000;
        let disk = Disk::new(SIZE);
        let model = MemImage::new(SIZE).unwrap();
        let mut image = Some(disk.open());
        for (at, step) in steps.iter().enumerate() {
            run(&disk, &mut image, &model, at, step);
        }
        let image = image.unwrap();
        let contents = model.contents();
        prop_assert_eq!(&read_at(&image, 0, contents.len()).unwrap(), &contents);
        prop_assert_eq!(&fs::read(&disk.path).unwrap(), &contents, "the file is not the disk");
        // The extents cover the disk, and what is a hole reads zeroes.
        let mut at = 0;
        while at < SIZE {
            let extent = image.block_status(at, SIZE - at).unwrap();
            prop_assert_eq!(extent.offset, at);
            prop_assert!(extent.length >= 1 && extent.length <= SIZE - at);
            let end = at + extent.length;
            if extent.state == BlockState::Deallocated {
                prop_assert!(contents[place(at)..place(end)].iter().all(|byte| *byte == 0));
            }
            at = end;
        }
    }
}

#[test]
fn more_slices_than_the_system_takes_at_once_are_no_matter() {
    let disk = Disk::new(MIB);
    let image = disk.open();
    let data: Vec<u8> = (0..300_000u32).map(|n| (n / 7).to_le_bytes()[0]).collect();
    let slices: Vec<_> = data.chunks(100).map(IoSlice::new).collect();
    assert!(slices.len() > 2 * 1024, "UIO_MAXIOV");
    for durability in [Durability::Cached, Durability::Durable] {
        image.write(&slices, 5, durability).unwrap();
    }
    let mut read = vec![0; data.len()];
    let mut slices: Vec<_> = read.chunks_mut(100).map(IoSliceMut::new).collect();
    // Not at once, but it says nothing of what the file system can do.
    assert_eq!(kind(image.read(&mut slices, 5, Wait::Nowait)), ImageErrorKind::WouldBlock);
    let nowait = image.features().nowait_reads;
    assert!(nowait, "one odd reader spoils it for everybody");
    image.read(&mut slices, 5, Wait::Block).unwrap();
    assert_eq!(read, data);
}

#[test]
fn ranges_outside_of_the_image_are_refused_and_change_nothing() {
    let disk = Disk::new(10_000);
    let image = disk.open();
    write_at(&image, 0, &[7; 10_000]).unwrap();
    for (offset, length) in [(0, 10_001), (9_999, 2), (10_001, 0), (u64::MAX, 1), (u64::MAX, 0)] {
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        let refused = ImageErrorKind::OutOfRange;
        assert_eq!(write_at(&image, offset, &bytes), Err(refused));
        assert_eq!(read_at(&image, offset, bytes.len()), Err(refused));
        let nowait = image.read(&mut [IoSliceMut::new(&mut bytes)], offset, Wait::Nowait);
        assert_eq!(kind(nowait), refused);
        assert_eq!(kind(image.unmap(offset, length)), refused);
        assert_eq!(kind(image.write_zeroes(offset, length, true)), refused);
        assert_eq!(kind(image.block_status(offset, length)), refused);
    }
    let error = image.unmap(9_999, 2).unwrap_err();
    assert_eq!((error.offset(), error.length()), (Some(9_999), Some(2)));
    assert_eq!(fs::read(&disk.path).unwrap(), [7; 10_000]);
    // Nothing is always possible, but for the status of it.
    image.unmap(10_000, 0).unwrap();
    image.write_zeroes(10_000, 0, false).unwrap();
    write_at(&image, 10_000, &[]).unwrap();
    assert_eq!(read_at(&image, 10_000, 0), Ok(vec![]));
    assert_eq!(kind(image.block_status(0, 0)), ImageErrorKind::OutOfRange);
}

#[test]
fn one_writer_or_many_readers_have_an_image_open() {
    let disk = Disk::new(4096);
    let writer = disk.open();
    for read_only in [false, true] {
        assert_eq!(disk.try_open(read_only).unwrap_err(), ImageErrorKind::InUse);
    }
    drop(writer);
    let readers = [disk.try_open(true).unwrap(), disk.try_open(true).unwrap()];
    assert_eq!(disk.try_open(false).unwrap_err(), ImageErrorKind::InUse);
    drop(readers);
    disk.open();
}

#[test]
fn a_read_only_image_refuses_every_write() {
    let disk = Disk::new(4096);
    let image = disk.try_open(true).unwrap();
    assert!(image.features().read_only && !image.features().unmap);
    assert_eq!(write_at(&image, 0, &[1]), Err(ImageErrorKind::ReadOnly));
    assert_eq!(kind(image.unmap(0, 1)), ImageErrorKind::ReadOnly);
    assert_eq!(kind(image.write_zeroes(0, 1, true)), ImageErrorKind::ReadOnly);
    assert_eq!(read_at(&image, 0, 4096), Ok(vec![0; 4096]));
    image.flush().unwrap();
    image.health().unwrap();
}

#[test]
fn only_regular_files_are_images() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
        .unwrap();
    let missing = directory.path().join("missing");
    for read_only in [false, true] {
        let open = |path: &Path| {
            kind(RawImage::open(path, OpenOptions { read_only, ..OpenOptions::default() }))
        };
        assert_eq!(open(directory.path()), ImageErrorKind::InvalidFormat);
        // Nor does it wait for somebody at the other end.
        assert_eq!(open(&fifo), ImageErrorKind::InvalidFormat);
        assert_eq!(open(&missing), ImageErrorKind::NotFound);
    }
    assert!(!missing.exists(), "opening creates nothing");
}

#[test]
fn a_truncated_file_is_noticed_by_reads_and_by_health() {
    let disk = Disk::new(10_000);
    let image = disk.open();
    image.health().unwrap();
    disk.resize(6_000);
    let error = image.health().unwrap_err();
    assert_eq!(error.kind(), ImageErrorKind::ShortTransfer);
    assert_eq!((error.offset(), error.length()), (Some(6_000), Some(4_000)));
    assert_eq!(read_at(&image, 0, 6_000), Ok(vec![0; 6_000]));
    assert_eq!(read_at(&image, 5_999, 2), Err(ImageErrorKind::ShortTransfer));
    assert_eq!(read_at(&image, 8_000, 10), Err(ImageErrorKind::ShortTransfer));
    // A longer file is still the disk that it was.
    disk.resize(20_000);
    image.health().unwrap();
    assert_eq!(image.size_bytes(), 10_000);
    assert_eq!(read_at(&image, 9_999, 2), Err(ImageErrorKind::OutOfRange));
}

#[test]
fn a_deleted_file_is_noticed_by_health_and_still_works() {
    let disk = Disk::new(4096);
    let image = disk.open();
    fs::remove_file(&disk.path).unwrap();
    assert_eq!(kind(image.health()), ImageErrorKind::NotFound);
    write_at(&image, 0, &[3; 10]).unwrap();
    assert_eq!(read_at(&image, 0, 10), Ok(vec![3; 10]));
    // Somebody else's file of that name is another one.
    File::create_new(&disk.path).unwrap().set_len(4096).unwrap();
    assert_eq!(kind(image.health()), ImageErrorKind::NotFound);
}

#[test]
fn unmap_gives_space_back_and_leaves_the_neighbours_alone() {
    let disk = Disk::new(4 * MIB);
    let image = disk.open();
    write_at(&image, 0, &vec![9; 4 << 20]).unwrap();
    let before = disk.space();
    // Unaligned at both ends.
    image.unmap(MIB - 100, 2 * MIB + 200).unwrap();
    let bytes = fs::read(&disk.path).unwrap();
    let (hole, end) = (place(MIB - 100), place(3 * MIB + 100));
    assert!(bytes[..hole].iter().chain(&bytes[end..]).all(|byte| *byte == 9));
    assert!(bytes[hole..end].iter().all(|byte| *byte == 0));
    if !image.features().unmap {
        return eprintln!("skipped: this file system has no holes");
    }
    let after = disk.space();
    assert!(after + 2 * MIB - 65_536 <= before, "{before} bytes of space, then {after}");
    let extent = image.block_status(2 * MIB, MIB).unwrap();
    assert_eq!(extent.state, BlockState::Deallocated);
    assert_eq!(image.block_status(0, 4096).unwrap().state, BlockState::Mapped);
    assert_eq!(fs::metadata(&disk.path).unwrap().len(), 4 * MIB);
}

#[test]
fn zeroes_keep_their_space_unless_it_may_go() {
    let disk = Disk::new(4 * MIB);
    let image = disk.open();
    // A hole gets space of its own.
    image.write_zeroes(0, 2 * MIB, false).unwrap();
    assert!(disk.space() >= 2 * MIB, "{} bytes of space", disk.space());
    write_at(&image, 0, &vec![9; 2 << 20]).unwrap();
    image.write_zeroes(100, 2 * MIB - 200, false).unwrap();
    assert!(disk.space() >= 2 * MIB);
    let bytes = read_at(&image, 0, 2 << 20).unwrap();
    assert!(bytes[100..bytes.len() - 100].iter().all(|byte| *byte == 0));
    assert!(bytes[..100].iter().chain(&bytes[bytes.len() - 100..]).all(|byte| *byte == 9));
    image.write_zeroes(0, 2 * MIB, true).unwrap();
    if !image.features().unmap {
        return eprintln!("skipped: this file system has no holes");
    }
    assert!(disk.space() < MIB, "{} bytes of space", disk.space());
}

#[test]
fn without_help_of_the_file_system_zeroes_are_written() {
    let disk = Disk::new(3 * MIB);
    let image = disk.open();
    image.file.forget_features();
    let data = vec![9; 3 << 20];
    image.write(&[IoSlice::new(&data)], 0, Durability::Durable).unwrap();
    assert!(!image.features().unmap);
    image.unmap(10, MIB + 70_000).unwrap();
    image.write_zeroes(2 * MIB, 5, true).unwrap();
    let bytes = fs::read(&disk.path).unwrap();
    let zero = |at: usize| {
        (10..(1 << 20) + 70_010).contains(&at) || (2 << 20..(2 << 20) + 5).contains(&at)
    };
    assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == if zero(at) { 0 } else { 9 }));
}

#[test]
fn a_flush_that_failed_once_stays_failed() {
    let disk = Disk::new(4096);
    let image = disk.open();
    image.flush().unwrap();
    image.file.fail_syncs(Errno::IO);
    for _ in 0..2 {
        let error = image.flush().unwrap_err();
        assert_eq!(error.kind(), ImageErrorKind::SyncFailed);
        assert_eq!(error.errno(), Some(Errno::IO.raw_os_error()));
        let durable = image.write(&[IoSlice::new(&[1])], 0, Durability::Durable);
        assert_eq!(kind(durable), ImageErrorKind::SyncFailed);
        assert_eq!(kind(image.health()), ImageErrorKind::SyncFailed);
    }
    // What promises nothing still works.
    write_at(&image, 0, &[5]).unwrap();
    assert_eq!(read_at(&image, 0, 1), Ok(vec![5]));
}

#[test]
fn a_disk_takes_of_its_file_what_is_its_own_and_grows_when_it_is_told_to() {
    let disk = Disk::new(3 * MIB);
    let options = OpenOptions { size_bytes: Some(MIB), ..OpenOptions::default() };
    let image = RawImage::open(&*disk.path, options).unwrap();
    assert_eq!(image.size_bytes(), MIB);
    assert_eq!(write_at(&image, MIB, &[1]), Err(ImageErrorKind::OutOfRange));
    // The file may be cut down to the disk without harm to it.
    disk.resize(MIB);
    image.health().unwrap();
    assert_eq!(kind(image.grow(2 * MIB)), ImageErrorKind::ShortTransfer);
    disk.resize(2 * MIB);
    image.grow(2 * MIB).unwrap();
    write_at(&image, 2 * MIB - 1, &[1]).unwrap();
    image.grow(MIB).unwrap();
    assert_eq!(image.size_bytes(), 2 * MIB, "it never shrinks");
    drop(image);
    let whole = OpenOptions { size_bytes: Some(9 * MIB), ..OpenOptions::default() };
    assert_eq!(RawImage::open(&*disk.path, whole).unwrap().size_bytes(), 2 * MIB);
}

#[test]
fn the_file_system_copies_between_files_and_within_one() {
    let (one, other) = (Disk::new(4 * MIB), Disk::new(4 * MIB));
    let (source, image) = (one.open(), other.open());
    let data: Vec<u8> = (0..MIB).map(|byte| (byte % 251) as u8).collect();
    source.write(&[IoSlice::new(&data)], 4096, Durability::Cached).unwrap();
    let mut copied = 0;
    while copied < MIB {
        let left = MIB - copied;
        let now = image.copy_from(&source, 4096 + copied, 1000 + copied, left).unwrap();
        assert!((1..=left).contains(&now));
        copied += now;
    }
    assert!(read_at(&image, 1000, data.len()).unwrap() == data);
    assert_eq!(read_at(&image, 0, 1000).unwrap(), [0; 1000]);
    assert_eq!(read_at(&image, 1000 + MIB, 1000).unwrap(), [0; 1000]);
    assert_eq!(source.copy_from(&source, 4096, 2 * MIB, 512).unwrap(), 512);
    assert!(read_at(&source, 2 * MIB, 512).unwrap() == data[..512]);
    // Onto itself it does not.
    assert!(source.copy_from(&source, 4096, 4096 + 512, 4096).is_err());
    let kind = |from, to, length| image.copy_from(&source, from, to, length).unwrap_err().kind();
    assert_eq!(kind(4 * MIB, 0, 1), ImageErrorKind::OutOfRange);
    assert_eq!(kind(0, 4 * MIB, 1), ImageErrorKind::OutOfRange);
    assert_eq!(kind(0, u64::MAX, 2), ImageErrorKind::OutOfRange);
    let memory = MemImage::new(MIB).unwrap();
    let kind = image.copy_from(&memory, 0, 0, 512).unwrap_err().kind();
    assert_eq!(kind, ImageErrorKind::Unsupported);
    assert_eq!(memory.copy_from(&image, 0, 0, 512).unwrap_err().kind(), kind);
    drop(image);
    let image = other.try_open(true).unwrap();
    let kind = image.copy_from(&source, 0, 0, 512).unwrap_err().kind();
    assert_eq!(kind, ImageErrorKind::ReadOnly);
}
