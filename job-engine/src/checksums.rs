//! Checksums of what disks and snapshots hold, each in a file of the data directory.
//!
//! They belong to the files that the image lay in when they were made: names, inodes, lengths and times
//! of the last change. Whoever writes to an image writes to one of its files, so checksums whose files
//! are not the same any more say nothing; a medium that has lost data changes none of that. Writers
//! pay nothing for it.
//!
//! A loss of power may take the time of a change with it and leave the data (`fdatasync`), so checksums
//! are void before initiators may write, whatever the times say later.

use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use disk_image::Image;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The first line's `mark`.
const MARK: &str = "lund checksums 1";
/// The shortest region in bytes.
const REGION: u64 = 1 << 20;
/// At most so many regions: 4 MiB of checksums, whatever the size.
const REGIONS: u64 = 1 << 20;
/// The longest first line.
const HEAD: usize = 1 << 20;

/// A file as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileState {
    path: PathBuf,
    inode: u64,
    length: u64,
    seconds: i64,
    nanoseconds: i64,
}

/// The files of an image and of those that it is laid over.
pub(crate) fn files_of(image: &dyn Image) -> Vec<PathBuf> {
    let mut files = vec![image.path().to_path_buf()];
    let mut next = image.parent();
    while let Some(image) = next {
        files.push(image.path().to_path_buf());
        next = image.parent();
    }
    files
}

/// Has the system forget what it has of a file in memory, so that the next one who reads it reads the
/// medium.
pub(crate) fn forget(path: &Path) -> std::io::Result<()> {
    let file = std::fs::File::open(path)?;
    file.sync_all()?;
    Ok(rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?)
}

/// A block device does not say when it was written: it has changed whenever it is asked.
pub(crate) fn state_of(path: &Path) -> std::io::Result<FileState> {
    let file = std::fs::metadata(path)?;
    if file.file_type().is_block_device() {
        let now = Timestamp::now();
        return Ok(FileState {
            path: path.to_path_buf(),
            inode: file.ino(),
            length: 0,
            seconds: now.as_second(),
            nanoseconds: i64::from(now.subsec_nanosecond()),
        });
    }
    Ok(FileState {
        path: path.to_path_buf(),
        inode: file.ino(),
        length: file.len(),
        seconds: file.mtime(),
        nanoseconds: file.mtime_nsec(),
    })
}

/// How long a change may go unnoticed since another one has the same time: the clock of files ticks
/// slowly, in whole seconds on some file systems.
pub(crate) fn settles_in(files: &[FileState], now: Timestamp) -> Duration {
    let longest = files.iter().map(|file| {
        let tick = if file.nanoseconds == 0 { 2000 } else { 50 };
        let changed = i128::from(file.seconds) * 1000 + i128::from(file.nanoseconds) / 1_000_000;
        let left = changed + tick - i128::from(now.as_millisecond());
        u64::try_from(left.clamp(0, tick)).unwrap_or(0)
    });
    Duration::from_millis(longest.max().unwrap_or(0))
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    mark: String,
    size_bytes: u64,
    region_bytes: u64,
    made: Timestamp,
    files: Vec<FileState>,
}

/// Why there are no checksums to compare with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unknown {
    Absent,
    /// An empty file stands for those that were there.
    Void,
    Damaged(String),
}

/// A checksum (CRC-32C) for each region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checksums {
    head: Head,
    sums: Vec<u32>,
}

impl Checksums {
    pub(crate) fn made(&self) -> Timestamp {
        self.head.made
    }

    /// Whether they are those of an image in these files.
    pub(crate) fn are_of(&self, size_bytes: u64, files: &[FileState]) -> bool {
        let Head { size_bytes: size, region_bytes, files: known, .. } = &self.head;
        *size == size_bytes && *region_bytes == region_bytes_of(size_bytes) && known == files
    }

    /// Those that a file holds.
    ///
    /// # Errors
    /// There are none that can be used.
    pub(crate) fn load(path: &Path) -> Result<Self, Unknown> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) if bytes.is_empty() => return Err(Unknown::Void),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Unknown::Absent);
            }
            Err(error) => return Err(Unknown::Damaged(error.to_string())),
        };
        Self::parse(&bytes).ok_or_else(|| Unknown::Damaged("its content is damaged".to_owned()))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (rest, sum) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(rest) != u32::from_le_bytes(*sum) {
            return None;
        }
        let end = rest.iter().take(HEAD).position(|byte| *byte == b'\n')?;
        let (head, sums) = rest.split_at_checked(end)?;
        let head: Head = serde_json::from_slice(head).ok()?;
        let sums = sums.get(1..)?.chunks(4).map(|sum| sum.try_into().map(u32::from_le_bytes));
        let sums: Vec<u32> = sums.collect::<Result<_, _>>().ok()?;
        let regions = head.size_bytes.div_ceil(head.region_bytes.max(1));
        let whole = head.mark == MARK && u64::try_from(sums.len()) == Ok(regions);
        whole.then_some(Self { head, sums })
    }

    /// Puts them into a new file, durably; [`keep`] gives it its name.
    pub(crate) fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut bytes = serde_json::to_vec(&self.head)?;
        bytes.push(b'\n');
        bytes.extend(self.sums.iter().flat_map(|sum| sum.to_le_bytes()));
        let sum = crc32c::crc32c(&bytes);
        bytes.extend(sum.to_le_bytes());
        std::fs::create_dir_all(parent(path))?;
        let mut file = std::fs::File::create(path)?;
        file.write_all(&bytes)?;
        file.sync_all()
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// Syncs the directory of a file, and the one that it was made in.
fn sync_directory(path: &Path) -> std::io::Result<()> {
    let directory = parent(path);
    std::fs::File::open(directory)?.sync_all()?;
    std::fs::File::open(parent(directory))?.sync_all()
}

/// Checksums that were written become those of `path`, all of them at once, durably.
pub(crate) fn keep(written: &Path, path: &Path) -> std::io::Result<()> {
    std::fs::rename(written, path)?;
    sync_directory(path)
}

/// Makes checksums void, durably, if there are any.
pub(crate) fn void(directory: &Path, id: Uuid) {
    let path = path_of(directory, id);
    let open = std::fs::File::options().write(true).truncate(true).open(&path);
    let voided = match open {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        open => open.and_then(|file| file.sync_all()),
    };
    if let Err(error) = voided {
        tracing::error!(path = %path.display(), %error, "checksums that hold no more are left");
    }
}

/// Removes checksums, durably, if there are any.
pub(crate) fn remove(directory: &Path, id: Uuid) {
    let path = path_of(directory, id);
    let removed = match std::fs::remove_file(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        removed => removed.and_then(|()| sync_directory(&path)),
    };
    if let Err(error) = removed {
        tracing::warn!(path = %path.display(), %error, "checksums are left");
    }
}

/// The file with the checksums of a disk or a snapshot.
pub(crate) fn path_of(directory: &Path, id: Uuid) -> PathBuf {
    directory.join("checksums").join(id.simple().to_string())
}

/// Removes checksums of what is not there any more, and what a crash has left of new ones.
pub(crate) fn sweep(directory: &Path, is_known: impl Fn(Uuid) -> bool) {
    let Ok(entries) = std::fs::read_dir(directory.join("checksums")) else { return };
    for entry in entries.flatten() {
        let id = entry.file_name().to_str().and_then(|name| Uuid::try_parse(name).ok());
        if !id.is_some_and(&is_known) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn region_bytes_of(size_bytes: u64) -> u64 {
    size_bytes.div_ceil(REGIONS).next_power_of_two().max(REGION)
}

/// A part that is not what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// Takes in what an image shows, from its first byte on.
#[derive(Debug)]
pub(crate) struct Summer {
    size_bytes: u64,
    region_bytes: u64,
    at: u64,
    sum: u32,
    /// Part of the region could not be read.
    unknown: bool,
    sums: Vec<Option<u32>>,
    of_zeroes: Option<u32>,
}

impl Summer {
    pub(crate) fn new(size_bytes: u64) -> Self {
        let region_bytes = region_bytes_of(size_bytes);
        let (sums, of_zeroes) = (Vec::new(), None);
        Self { size_bytes, region_bytes, at: 0, sum: 0, unknown: false, sums, of_zeroes }
    }

    /// Bytes up to the end of the region.
    fn room(&self) -> u64 {
        let end = (self.at / self.region_bytes + 1).saturating_mul(self.region_bytes);
        end.min(self.size_bytes).saturating_sub(self.at)
    }

    fn advance(&mut self, length: u64) {
        self.at += length;
        if self.at >= self.size_bytes || self.at.is_multiple_of(self.region_bytes) {
            self.sums.push((!self.unknown).then_some(self.sum));
            (self.sum, self.unknown) = (0, false);
        }
    }

    pub(crate) fn data(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.room() > 0 {
            let length = usize::try_from(self.room()).unwrap_or(usize::MAX).min(bytes.len());
            let (now, rest) = bytes.split_at(length);
            self.sum = crc32c::crc32c_append(self.sum, now);
            self.advance(u64::try_from(length).unwrap_or(0));
            bytes = rest;
        }
    }

    pub(crate) fn zeroes(&mut self, mut length: u64) {
        const ZEROES: [u8; 4096] = [0; 4096];
        while length > 0 && self.room() > 0 {
            let now = self.room().min(length);
            let whole = now == self.region_bytes;
            if let (true, Some(sum)) = (whole, self.of_zeroes) {
                self.sum = sum;
            } else {
                let mut left = now;
                while left > 0 {
                    let piece = left.min(4096);
                    let zeroes = ZEROES.get(..usize::try_from(piece).unwrap_or(0));
                    self.sum = crc32c::crc32c_append(self.sum, zeroes.unwrap_or_default());
                    left -= piece;
                }
                if whole {
                    self.of_zeroes = Some(self.sum);
                }
            }
            self.advance(now);
            length -= now;
        }
    }

    /// What cannot be read.
    pub(crate) fn unknown(&mut self, mut length: u64) {
        while length > 0 && self.room() > 0 {
            let now = self.room().min(length);
            self.unknown = true;
            self.advance(now);
            length -= now;
        }
    }

    /// What differs from what was known of it, as ranges of whole regions.
    pub(crate) fn differences(&self, known: &Checksums) -> Vec<Difference> {
        let pairs = (0_u64..).zip(self.sums.iter().zip(&known.sums));
        let differ = pairs.filter(|(_, (now, before))| now.is_some_and(|now| now != **before));
        let mut ranges: Vec<Difference> = Vec::new();
        for (n, _) in differ {
            let offset = n.saturating_mul(self.region_bytes);
            let length = self.region_bytes.min(self.size_bytes.saturating_sub(offset));
            match ranges.last_mut() {
                Some(last) if last.offset + last.length == offset => last.length += length,
                _ => ranges.push(Difference { offset, length }),
            }
        }
        ranges
    }

    /// The checksums, if everything was taken in.
    pub(crate) fn finish(self, made: Timestamp, files: Vec<FileState>) -> Option<Checksums> {
        let Self { size_bytes, region_bytes, .. } = self;
        if self.at < size_bytes {
            return None;
        }
        let sums: Vec<u32> = self.sums.into_iter().collect::<Option<_>>()?;
        let head = Head { mark: MARK.to_owned(), size_bytes, region_bytes, made, files };
        Some(Checksums { head, sums })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = (3 << 20) + 512;

    fn finished(summer: Summer) -> Checksums {
        summer.finish(Timestamp::UNIX_EPOCH, Vec::new()).unwrap()
    }

    fn of(bytes: &[u8]) -> Summer {
        let mut summer = Summer::new(SIZE);
        bytes.chunks(70_000).for_each(|piece| summer.data(piece));
        summer
    }

    #[test]
    fn holes_count_as_zeroes_and_what_differs_is_found_by_its_region() {
        let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
        bytes[5] = 1;
        let known = finished(of(&bytes));
        let mut holes = Summer::new(SIZE);
        holes.data(&bytes[..6]);
        holes.zeroes(SIZE - 6);
        assert_eq!(holes.differences(&known), []);
        assert_eq!(finished(holes), known);
        bytes[(2 << 20) + 7] = 1;
        bytes[3 << 20] = 1;
        let differ = of(&bytes).differences(&known);
        let region = |offset, length| Difference { offset, length };
        assert_eq!(differ, [region(2 << 20, (1 << 20) + 512)]);
        bytes[5] = 2;
        let differ = of(&bytes).differences(&known);
        assert_eq!(differ, [region(0, 1 << 20), region(2 << 20, (1 << 20) + 512)]);
        let mut unread = Summer::new(SIZE);
        unread.unknown(SIZE);
        assert_eq!(unread.differences(&known), []);
        assert_eq!(unread.finish(Timestamp::UNIX_EPOCH, Vec::new()), None);
        assert_eq!(Summer::new(SIZE).finish(Timestamp::UNIX_EPOCH, Vec::new()), None);
    }

    #[test]
    fn their_file_is_whole_or_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = path_of(directory.path(), Uuid::from_u128(7));
        assert_eq!(Checksums::load(&path), Err(Unknown::Absent));
        void(directory.path(), Uuid::from_u128(7));
        let known = finished(of(&vec![3; usize::try_from(SIZE).unwrap()]));
        let written = path.with_extension("new");
        known.write(&written).unwrap();
        assert_eq!(Checksums::load(&path), Err(Unknown::Absent));
        keep(&written, &path).unwrap();
        assert_eq!(Checksums::load(&path), Ok(known));
        let whole = std::fs::read(&path).unwrap();
        for end in 0..whole.len() {
            assert_eq!(Checksums::parse(&whole[..end]), None, "{end}");
            let mut bad = whole.clone();
            bad[end] ^= 1;
            assert_eq!(Checksums::parse(&bad), None, "{end}");
        }
        void(directory.path(), Uuid::from_u128(7));
        assert_eq!(Checksums::load(&path), Err(Unknown::Void));
        std::fs::write(&written, b"half").unwrap();
        sweep(directory.path(), |id| id == Uuid::from_u128(7));
        assert!(path.exists() && !written.exists());
        sweep(directory.path(), |_| false);
        assert!(!path.exists());
        remove(directory.path(), Uuid::from_u128(7));
    }

    #[test]
    fn however_large_a_disk_is_its_checksums_take_four_mebibytes() {
        for size in [1, 1 << 20, 1 << 40, (1 << 40) + 1, 64 << 40, (1 << 63) - 4096] {
            let region = region_bytes_of(size);
            assert!(size.div_ceil(region) <= REGIONS && region >= REGION, "{size}");
        }
    }
}
