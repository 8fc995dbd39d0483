//! A redo journal for one write: all of it or nothing, whatever ends the process or the power.
//!
//! It is a file beside the image, there only while it is needed. A write goes into it first, with
//! checksums, and is made durable there; then it goes to its place, and is made durable there; then
//! the record is struck out, durably. A record that is found whole when an image is opened belongs
//! to a write that nobody was told has ended: it is done again, before anything is read. A record
//! that is not whole belongs to one of which nothing has reached its place.
//!
//! It must be struck out before the write is answered: what is written over the same blocks
//! afterwards must not be undone by an old record.

use std::ffi::OsString;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::block_file::BlockFile;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::file::ImageFile;
use crate::image::Durability;
use crate::pool::sync_directory;

/// The longest write in bytes.
pub(crate) const LIMIT: u32 = 1 << 20;

const MAGIC: [u8; 8] = *b"LUNDREDO";
const VERSION: u32 = 1;
/// Where the data stand, so that the header has a sector of its own.
const DATA_AT: usize = 4096;
const HEADER: usize = 36;

/// The journal of an image in `path`.
pub(crate) fn journal_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".redo");
    name.into()
}

/// A write that was recorded.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    offset: u64,
    data: Vec<u8>,
}

fn header(offset: u64, data: &[u8]) -> Vec<u8> {
    let mut header = Vec::with_capacity(DATA_AT);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&offset.to_le_bytes());
    header.extend_from_slice(&crc32c::crc32c(data).to_le_bytes());
    header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
    header.resize(DATA_AT, 0);
    header
}

/// The record in a journal, if there is a whole one.
fn pending(journal: &dyn BlockFile) -> Result<Option<Record>, ImageError> {
    let mut bytes = [0; HEADER];
    let length = journal.length()?;
    if length < DATA_AT as u64 {
        return Ok(None);
    }
    journal.read_at(&mut bytes, 0)?;
    let (Some((fields, sum)), Some(magic)) =
        (bytes.split_last_chunk::<4>(), bytes.first_chunk::<8>())
    else {
        return Ok(None);
    };
    let word = |at: usize| {
        let found = fields.get(at..).and_then(|rest| rest.first_chunk::<4>());
        found.map_or(0, |word| u32::from_le_bytes(*word))
    };
    let whole = *magic == MAGIC && crc32c::crc32c(fields) == u32::from_le_bytes(*sum);
    let data_length = word(12);
    if !whole || word(8) != VERSION || data_length > LIMIT {
        return Ok(None);
    }
    if length < DATA_AT as u64 + u64::from(data_length) {
        return Ok(None);
    }
    let offset = u64::from(word(20)) | u64::from(word(24)) << 32;
    let mut data = vec![0; usize::try_from(data_length).unwrap_or(0)];
    journal.read_at(&mut data, DATA_AT as u64)?;
    Ok((crc32c::crc32c(&data) == word(28)).then_some(Record { offset, data }))
}

fn strike_out(journal: &dyn BlockFile) -> Result<(), ImageError> {
    journal.write(&[IoSlice::new(&[0; HEADER])], 0, Durability::Durable)
}

/// What a journal is for: a file, or an image.
pub(crate) trait RedoTarget {
    /// The path of its file.
    fn file_path(&self) -> &Arc<Path>;

    /// It is open for reading only.
    fn cannot_be_written(&self) -> bool;

    /// Takes the space that a write will need, as far as that can be done.
    ///
    /// # Errors
    /// `OutOfSpace`.
    fn take_space(&self, offset: u64, length: u64) -> Result<(), ImageError>;

    /// Writes, durably.
    ///
    /// # Errors
    /// As [`BlockFile::write`].
    fn put(&self, data: &[u8], offset: u64) -> Result<(), ImageError>;
}

impl<F: BlockFile> RedoTarget for F {
    fn file_path(&self) -> &Arc<Path> {
        self.path()
    }

    fn cannot_be_written(&self) -> bool {
        self.is_read_only()
    }

    fn take_space(&self, offset: u64, length: u64) -> Result<(), ImageError> {
        self.allocate(offset, length)
    }

    fn put(&self, data: &[u8], offset: u64) -> Result<(), ImageError> {
        self.write(&[IoSlice::new(data)], offset, Durability::Durable)
    }
}

/// Writes through the journal.
fn write(
    journal: &dyn BlockFile,
    target: &dyn RedoTarget,
    offset: u64,
    data: &[u8],
) -> Result<(), ImageError> {
    // A lack of space must show before anything is in its place.
    target.take_space(offset, u64::try_from(data.len()).unwrap_or(u64::MAX))?;
    let header = header(offset, data);
    journal.write(&[IoSlice::new(&header), IoSlice::new(data)], 0, Durability::Cached)?;
    journal.flush()?;
    let written = target.put(data, offset);
    // Even after a failure: who was told of it may write there in another way.
    strike_out(journal)?;
    written
}

/// Does again what a journal has, and strikes it out. True if there was something.
fn replay(journal: &dyn BlockFile, target: &dyn RedoTarget) -> Result<bool, ImageError> {
    let Some(Record { offset, data }) = pending(journal)? else { return Ok(false) };
    target.put(&data, offset)?;
    strike_out(journal)?;
    Ok(true)
}

/// The journal of an open image. Its file is made by the first write that needs it, and goes with
/// the image.
#[derive(Debug)]
pub(crate) struct RedoJournal {
    path: PathBuf,
    /// Also: one write after the other.
    file: Mutex<Option<ImageFile>>,
}

impl RedoJournal {
    /// Finishes what a crash has interrupted. The image is locked by the caller.
    pub(crate) fn open(target: &dyn RedoTarget) -> Result<Self, ImageError> {
        let path = journal_path(target.file_path());
        let journal = Self { path, file: Mutex::default() };
        if let Some(file) = open_file(&journal.path, false)? {
            if target.cannot_be_written() {
                return Err(unfinished(target.file_path()));
            }
            if replay(&file, target)? {
                tracing::info!(path = %target.file_path().display(), "an atomic write is finished");
            }
            *journal.file.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
        }
        Ok(journal)
    }

    pub(crate) fn write(
        &self,
        target: &dyn RedoTarget,
        offset: u64,
        data: &[u8],
    ) -> Result<(), ImageError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let journal = match &mut *file {
            Some(journal) => journal,
            none => match open_file(&self.path, true)? {
                Some(made) => none.insert(made),
                None => return Err(unfinished(target.file_path())),
            },
        };
        let written = write(journal, target, offset, data);
        if written.is_err() && !matches!(pending(journal), Ok(None)) {
            // What was not told to be done must not be done one day.
            *file = None;
            let removed = rustix::fs::unlink(&self.path).and_then(|()| sync_directory(&self.path));
            if let Err(error) = removed {
                tracing::error!(path = %self.path.display(), %error, "remove this file by hand");
            }
        }
        written
    }
}

impl RedoJournal {
    /// The image is not written any more: the file goes. One that could not be struck out stays for
    /// the next opener.
    pub(crate) fn end(&self) {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(journal) = file
            && matches!(pending(&journal), Ok(None))
        {
            let _ = rustix::fs::unlink(&self.path);
        }
    }
}

impl Drop for RedoJournal {
    fn drop(&mut self) {
        self.end();
    }
}

/// For an image that is to be read only: what a crash has interrupted is finished first, which
/// needs the image for a moment as a writer has it.
pub(crate) fn finish(path: &Arc<Path>) -> Result<(), ImageError> {
    let journal = journal_path(path);
    if !journal.exists() {
        return Ok(());
    }
    let target = ImageFile::open(path.clone(), false)?;
    drop(RedoJournal::open(&target)?);
    Ok(())
}

/// Opens the file of a journal, or makes it, durably.
fn open_file(path: &Path, create: bool) -> Result<Option<ImageFile>, ImageError> {
    let fail = |errno: Errno| ImageError::from_io(Operation::Open, path, errno.into());
    let mut flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    flags.set(OFlags::CREATE, create);
    let opened =
        rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, Mode::from_raw_mode(0o600)));
    let file = match opened {
        Ok(file) => file,
        Err(Errno::NOENT) if !create => return Ok(None),
        Err(errno) => return Err(fail(errno)),
    };
    if create {
        // A record that cannot be found again is none.
        sync_directory(path).map_err(fail)?;
    }
    ImageFile::lock(file, path.into(), false).map(Some)
}

fn unfinished(path: &Arc<Path>) -> ImageError {
    ImageError::new(ImageErrorKind::InUse, Operation::Open, path.clone())
        .because("a write that a crash has interrupted must be finished first")
}

/// A journal with a record, as a crash leaves it.
#[cfg(test)]
pub(crate) fn tests_leave(path: &Path, offset: u64, data: &[u8]) {
    std::fs::write(path, [header(offset, data), data.to_vec()].concat()).unwrap();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::io::IoSliceMut;

    use super::*;
    use crate::fault::Fault;
    use crate::format::OpenOptions;
    use crate::image::{AtomicWrites, Image as _, Wait};
    use crate::mem_file::MemFile;
    use crate::raw::RawImage;

    const SIZE: usize = 64 << 10;

    /// Both files as a loss of power leaves them after a write that came as far as `stage`.
    fn lost(
        old: &[u8],
        data: &[u8],
        offset: usize,
        stage: usize,
        mut keep: impl FnMut() -> bool,
    ) -> (MemFile, MemFile, bool) {
        let journal = MemFile::new(Vec::new(), SIZE * 2);
        let target = MemFile::new(old.to_vec(), SIZE);
        // Something was written before, and its record struck out.
        write(&journal, &target, 0, &old[..1000]).unwrap();
        let before = (journal.contents(), target.contents());
        journal.record();
        target.record();
        let dead = |operation| Fault::errno(operation, 5);
        match stage {
            0 => journal.inject(dead(Operation::Write)),
            1 => journal.inject(dead(Operation::Flush)),
            2 => {
                target.inject(dead(Operation::Write));
                journal.inject(dead(Operation::Write).after(1));
            }
            3 => journal.inject(dead(Operation::Write).after(1)),
            _ => {}
        }
        let answered = write(&journal, &target, offset as u64, data).is_ok();
        // The last flush of the file that is at work may or may not have come to its end.
        let cut = |file: &MemFile, base: &[u8], keep: &mut dyn FnMut() -> bool| {
            let events = file.events();
            let count =
                if answered || keep() { events.len() } else { events.len().saturating_sub(1) };
            MemFile::new(MemFile::after_crash(base, &events, count, keep), SIZE * 2)
        };
        let journal = if matches!(stage, 2 | 3) {
            MemFile::new(
                MemFile::after_crash(&before.0, &journal.events(), usize::MAX, &mut keep),
                SIZE * 2,
            )
        } else {
            cut(&journal, &before.0, &mut keep)
        };
        (journal, cut(&target, &before.1, &mut keep), answered)
    }

    proptest! {
        #[test]
        fn a_loss_of_power_at_any_moment_leaves_all_of_a_write_or_nothing(
            old in prop::collection::vec(any::<u8>(), SIZE),
            data in prop::collection::vec(any::<u8>(), 1..20_000),
            at in any::<prop::sample::Index>(),
            stage in 0..5usize,
            kept in prop::collection::vec(any::<bool>(), 1..200),
        ) {
            let offset = at.index(SIZE - data.len());
            let mut kept = kept.iter().cycle();
            let keep = || *kept.next().unwrap();
            let (journal, target, answered) = lost(&old, &data, offset, stage, keep);
            replay(&journal, &target).unwrap();
            let mut new = old.clone();
            new[offset..offset + data.len()].copy_from_slice(&data);
            let found = target.contents();
            prop_assert!(found == new || (!answered && found == old), "stage {}", stage);
            // The record is gone, and what is written later stays.
            prop_assert_eq!(pending(&journal).unwrap(), None);
        }

        #[test]
        fn no_journal_breaks_what_opens_it(mut bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            prop_assert_eq!(pending(&MemFile::new(bytes.clone(), SIZE)).unwrap(), None);
            for (to, from) in bytes.iter_mut().zip(header(7, &[1; 2000])) {
                *to = from;
            }
            let _ = pending(&MemFile::new(bytes, SIZE)).unwrap();
        }
    }

    #[test]
    fn a_recovery_that_is_interrupted_is_done_again() {
        let (old, data) = (vec![1; SIZE], vec![2; 9000]);
        let (journal, target, _) = lost(&old, &data, 300, 2, || true);
        for fault in [Operation::Write, Operation::Flush] {
            target.inject(Fault::errno(fault, 5));
            let _ = replay(&journal, &target);
            target.heal();
        }
        replay(&journal, &target).unwrap();
        assert!(target.contents()[300..9300].iter().all(|byte| *byte == 2));
    }

    #[test]
    fn every_bit_of_a_record_counts() {
        let journal = MemFile::new(Vec::new(), SIZE);
        let bytes = [header(4096, &[7; 600]), vec![7; 600]].concat();
        journal.write_at(&bytes, 0).unwrap();
        let record = Record { offset: 4096, data: vec![7; 600] };
        assert_eq!(pending(&journal).unwrap(), Some(record));
        for at in (0..HEADER).chain(DATA_AT..DATA_AT + 600) {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0x10;
            assert_eq!(pending(&MemFile::new(wrong, SIZE)).unwrap(), None, "byte {at}");
        }
    }

    /// An image of 1 MiB of ones whose daemon was killed when a write of twos was recorded.
    fn interrupted(directory: &Path) -> Arc<Path> {
        let path: Arc<Path> = directory.join("a.raw").into();
        std::fs::write(&path, vec![1; 1 << 20]).unwrap();
        let data = vec![2; 70_000];
        let bytes = [header(1000, &data), data].concat();
        std::fs::write(journal_path(&path), bytes).unwrap();
        path
    }

    fn contents(image: &RawImage) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        image.read(&mut [IoSliceMut::new(&mut bytes)], 0, Wait::Block).unwrap();
        bytes
    }

    #[test]
    fn an_image_is_never_seen_with_half_of_a_write() {
        for read_only in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let path = interrupted(directory.path());
            let options = OpenOptions { read_only, ..OpenOptions::default() };
            let image = RawImage::open(path.clone(), options).unwrap();
            let mut wanted = vec![1; 1 << 20];
            wanted[1000..71_000].fill(2);
            assert!(contents(&image) == wanted);
            drop(image);
            assert!(!journal_path(&path).exists());
        }
    }

    #[test]
    fn an_atomic_write_leaves_no_record_and_a_closed_image_no_journal() {
        let directory = tempfile::tempdir().unwrap();
        let path: Arc<Path> = directory.path().join("a.raw").into();
        std::fs::write(&path, vec![1; 1 << 20]).unwrap();
        let image = RawImage::open(path.clone(), OpenOptions::default()).unwrap();
        assert_eq!(image.atomic_writes(), AtomicWrites { max_length: 1 << 20, alignment: 0 });
        image.write_atomic(&[3; 512], 512, Durability::Cached).unwrap();
        assert!(!journal_path(&path).exists(), "a page needs none");
        image.write_atomic(&[4; 5000], 3000, Durability::Cached).unwrap();
        let journal = open_file_for_test(&journal_path(&path));
        assert_eq!(pending(&journal).unwrap(), None);
        let mut wanted = vec![1; 1 << 20];
        wanted[512..1024].fill(3);
        wanted[3000..8000].fill(4);
        assert!(contents(&image) == wanted);
        let beyond = image.write_atomic(&[5; 5000], (1 << 20) - 4000, Durability::Cached);
        assert_eq!(beyond.unwrap_err().kind(), ImageErrorKind::OutOfRange);
        drop(image);
        assert!(!journal_path(&path).exists());
    }

    fn open_file_for_test(path: &Path) -> MemFile {
        MemFile::new(std::fs::read(path).unwrap(), SIZE)
    }

    #[test]
    fn a_disk_is_deleted_with_its_journal() {
        let directory = tempfile::tempdir().unwrap();
        let path = interrupted(directory.path());
        crate::pool::delete(&path, crate::pool::MissingFile::Refuse).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
