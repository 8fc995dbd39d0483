//! A sparse file: grains, and tables that say where they are.

use std::io::{IoSliceMut, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::{Decompress, FlushDecompress, Status};

use super::descriptor::MAX_DESCRIPTOR_BYTES;
use super::{SECTOR, SPARSE_MARK, bytes, index};
use crate::block_file::BlockFile;
use crate::defect::Defect;
use crate::error::{ImageError, Operation};
use crate::image::{BlockState, Wait};

/// The place of the directory stands in the footer.
const IN_FOOTER: u64 = u64::MAX;
/// Where that is, from the end of the file.
const FOOTER: u64 = 1024;
/// Grains are compressed.
const COMPRESSED: u32 = 1 << 16;
/// A grain table has entries of 1, which stand for zeroes.
const ZERO_GRAINS: u32 = 1 << 2;
/// RFC 1950.
const DEFLATE: u16 = 1;
/// Sizes of grains in sectors: 4 KiB to 2 MiB.
const GRAIN_SECTORS: std::ops::RangeInclusive<u64> = 8..=4096;
/// Entries of a grain table, as QEMU has it.
const MAX_TABLE_ENTRIES: u32 = 512;
/// The largest directory, in entries: 64 TiB with grains of 64 KiB.
const MAX_TABLES: u64 = 2 << 20;
/// In front of a compressed grain: its first sector, and its length in bytes.
const GRAIN_MARKER: u64 = 12;

/// What the header says, checked as far as that goes without the rest of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    flags: u32,
    capacity: u64,
    grain_sectors: u64,
    descriptor: (u64, u64),
    table_entries: u32,
    directory: u64,
    compression: u16,
}

fn le<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|word| word.try_into().ok()).unwrap_or([0; N])
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, Defect> {
        if bytes.get(..4) != Some(SPARSE_MARK) {
            return Err(Defect::invalid_format("there is no header of a sparse extent"));
        }
        let number = |at| u64::from_le_bytes(le(bytes, at));
        let version = u32::from_le_bytes(le(bytes, 4));
        if !(1..=3).contains(&version) {
            return Err(Defect::unsupported(format!("it has version {version}, and not 1 to 3")));
        }
        let header = Self {
            flags: u32::from_le_bytes(le(bytes, 8)),
            capacity: number(12),
            grain_sectors: number(20),
            descriptor: (number(28), number(36)),
            table_entries: u32::from_le_bytes(le(bytes, 44)),
            directory: number(56),
            compression: u16::from_le_bytes(le(bytes, 77)),
        };
        // Line ends that a transfer as text has changed have changed other bytes, too.
        if header.flags & 1 != 0 && le(bytes, 73) != *b"\n \r\n" {
            return Err(Defect::corrupt("the file was transferred as text"));
        }
        let grain = header.grain_sectors;
        if !GRAIN_SECTORS.contains(&grain) || !grain.is_power_of_two() {
            return Err(Defect::unsupported(format!("a grain has {grain} sectors")));
        }
        if header.table_entries == 0 || header.table_entries > MAX_TABLE_ENTRIES {
            let what = format!("a grain table has {} entries", header.table_entries);
            return Err(Defect::unsupported(what));
        }
        if header.capacity == 0 || header.tables() > MAX_TABLES {
            return Err(Defect::unsupported(format!("the disk has {} sectors", header.capacity)));
        }
        if header.is_compressed() && header.compression != DEFLATE {
            let what = format!("grains are compressed with algorithm {}", header.compression);
            return Err(Defect::unsupported(what));
        }
        Ok(header)
    }

    fn is_compressed(&self) -> bool {
        self.flags & COMPRESSED != 0
    }

    fn tables(&self) -> u64 {
        self.capacity.div_ceil(self.grain_sectors * u64::from(self.table_entries))
    }
}

/// Where a grain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grain {
    Zeroes,
    /// The first byte in the file, of what stands in front of it if it is compressed.
    At(u64),
}

/// A number and what belongs to it: a table, or what came out of a grain.
type Kept<T> = Mutex<Option<(u64, Arc<[T]>)>>;

/// An open sparse file.
#[derive(Debug)]
pub(super) struct Sparse {
    file: Arc<dyn BlockFile>,
    header: Header,
    /// Sectors of the grain tables; 0 for one that is not there.
    directory: Vec<u32>,
    table: Kept<u32>,
    grain: Kept<u8>,
}

impl Sparse {
    /// Opens it, and looks at all of its tables: every grain has its place in the file.
    pub(super) fn open(file: Arc<dyn BlockFile>) -> Result<Self, ImageError> {
        let fail = |defect: Defect| defect.into_error(Operation::Open, file.path().clone());
        let length = file.length()?;
        let mut sector = vec![0; index(SECTOR)];
        let header = |sector: &mut Vec<u8>, at: u64| -> Result<Header, ImageError> {
            if at.checked_add(SECTOR).is_none_or(|end| end > length) {
                return Err(fail(Defect::corrupt("the file ends within its header")));
            }
            file.read_at(sector, at)?;
            Header::parse(sector).map_err(fail)
        };
        let mut found = header(&mut sector, 0)?;
        if found.directory == IN_FOOTER {
            let last = header(&mut sector, length.saturating_sub(FOOTER))?;
            let same = (last.capacity, last.grain_sectors, last.table_entries)
                == (found.capacity, found.grain_sectors, found.table_entries);
            if last.directory == IN_FOOTER || !same {
                return Err(fail(Defect::corrupt("the footer contradicts the header")));
            }
            found = Header { directory: last.directory, ..found };
        }
        let entries = found.tables();
        let place = found.directory.checked_mul(SECTOR);
        let end = place.and_then(|place| place.checked_add(entries * 4));
        let Some(place) = place.filter(|_| end.is_some_and(|end| end <= length)) else {
            return Err(fail(Defect::corrupt("the file ends within its grain directory")));
        };
        let directory = numbers(&*file, place, entries)?;
        let (table, grain) = (Mutex::default(), Mutex::default());
        let sparse = Self { file, header: found, directory, table, grain };
        sparse.check(length)?;
        Ok(sparse)
    }

    fn defect(&self, defect: Defect) -> ImageError {
        defect.into_error(Operation::Open, self.file.path().clone())
    }

    /// Every table and grain lies in the file, and there are no more grains than it has room for.
    fn check(&self, length: u64) -> Result<(), ImageError> {
        let entries = u64::from(self.header.table_entries);
        let least = if self.header.is_compressed() { SECTOR } else { self.grain_bytes() };
        let mut grains: u64 = 0;
        for number in 0..self.directory.len() {
            let place = self.table_place(bytes(number));
            if place == 0 {
                continue;
            }
            if place.saturating_add(entries * 4) > length {
                let what = format!("grain table {number} lies behind the end of the file");
                return Err(self.defect(Defect::corrupt(what)));
            }
            for (entry, at) in numbers(&*self.file, place, entries)?.into_iter().enumerate() {
                let Grain::At(at) = self.place(at) else { continue };
                grains += 1;
                if at.saturating_add(least) > length {
                    let what =
                        format!("grain {entry} of table {number} lies behind the end of the file");
                    return Err(self.defect(Defect::corrupt(what)));
                }
            }
        }
        if grains.saturating_mul(least) > length {
            let what =
                format!("it has {grains} grains, for which the file has no room: they overlap");
            return Err(self.defect(Defect::corrupt(what)));
        }
        Ok(())
    }

    /// Bytes of the disk.
    pub(super) fn size(&self) -> u64 {
        self.header.capacity * SECTOR
    }

    /// The descriptor inside of the file.
    pub(super) fn descriptor(&self) -> Result<Option<Vec<u8>>, ImageError> {
        let (start, sectors) = self.header.descriptor;
        if start == 0 || sectors == 0 {
            return Ok(None);
        }
        let (start, length) = (start.saturating_mul(SECTOR), sectors.saturating_mul(SECTOR));
        let end = start.saturating_add(length);
        if length > MAX_DESCRIPTOR_BYTES || end > self.file.length()? {
            return Err(self.defect(Defect::corrupt("the descriptor has no place in the file")));
        }
        let mut text = vec![0; index(length)];
        self.file.read_at(&mut text, start)?;
        Ok(Some(text))
    }

    fn grain_bytes(&self) -> u64 {
        self.header.grain_sectors * SECTOR
    }

    fn table_place(&self, number: u64) -> u64 {
        self.directory.get(index(number)).map_or(0, |sector| u64::from(*sector) * SECTOR)
    }

    fn place(&self, entry: u32) -> Grain {
        match entry {
            0 => Grain::Zeroes,
            1 if self.header.flags & ZERO_GRAINS != 0 => Grain::Zeroes,
            sector => Grain::At(u64::from(sector) * SECTOR),
        }
    }

    /// Where a grain is.
    fn find(&self, number: u64) -> Result<Grain, ImageError> {
        let entries = u64::from(self.header.table_entries);
        let (table, entry) = (number / entries, index(number % entries));
        let place = self.table_place(table);
        if place == 0 {
            return Ok(Grain::Zeroes);
        }
        let kept = self.table.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let table = match kept {
            Some((kept, found)) if kept == table => found,
            _ => {
                let found: Arc<[u32]> = numbers(&*self.file, place, entries)?.into();
                *self.table.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some((table, found.clone()));
                found
            }
        };
        Ok(self.place(table.get(entry).copied().unwrap_or(0)))
    }

    /// Fills the buffers with what is at `offset`; all of it lies in the disk.
    pub(super) fn read(&self, bufs: &mut [IoSliceMut<'_>], offset: u64) -> Result<(), ImageError> {
        let grain_bytes = self.grain_bytes();
        let mut at = offset;
        for buf in bufs {
            let mut rest: &mut [u8] = buf;
            while !rest.is_empty() {
                let (number, within) = (at / grain_bytes, at % grain_bytes);
                let count = index(grain_bytes - within).min(rest.len());
                let (now, more) = std::mem::take(&mut rest).split_at_mut(count);
                match self.find(number)? {
                    Grain::Zeroes => now.fill(0),
                    Grain::At(place) if self.header.is_compressed() => {
                        let grain = self.inflated(number, place)?;
                        let from = grain.get(index(within)..).unwrap_or_default();
                        let mut now = now;
                        // As long as a grain is.
                        let _ = now.write(from);
                    }
                    Grain::At(place) => {
                        let mut all = [IoSliceMut::new(now)];
                        self.file.read(&mut all, place + within, Wait::Block)?;
                    }
                }
                rest = more;
                at += bytes(count);
            }
        }
        Ok(())
    }

    /// A compressed grain's content; the last one is kept.
    fn inflated(&self, number: u64, place: u64) -> Result<Arc<[u8]>, ImageError> {
        let kept = self.grain.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, grain)) = kept.filter(|(kept, _)| *kept == number) {
            return Ok(grain);
        }
        let wrong = |what: String| self.defect(Defect::corrupt(format!("grain {number} {what}")));
        let mut marker = [0; 12];
        self.file.read_at(&mut marker, place)?;
        let first = u64::from_le_bytes(le(&marker, 0));
        let length = u64::from(u32::from_le_bytes(le(&marker, 8)));
        if first != number * self.header.grain_sectors {
            return Err(wrong(format!("says of itself that it is at sector {first}")));
        }
        let end = place.saturating_add(GRAIN_MARKER).saturating_add(length);
        if length == 0 || length > 2 * self.grain_bytes() || end > self.file.length()? {
            return Err(wrong(format!("has {length} compressed bytes")));
        }
        let mut packed = vec![0; index(length)];
        self.file.read_at(&mut packed, place + GRAIN_MARKER)?;
        let mut grain = vec![0; index(self.grain_bytes())];
        let mut decoder = Decompress::new(true);
        let status = decoder.decompress(&packed, &mut grain, FlushDecompress::Finish);
        let status = status.map_err(|error| wrong(format!("cannot be decompressed: {error}")))?;
        // The last one of a disk may be shorter.
        let wanted = self.grain_bytes().min(self.size() - number * self.grain_bytes());
        let done = decoder.total_out();
        if status != Status::StreamEnd || done < wanted {
            return Err(wrong(format!("has {done} bytes, or more than {}", self.grain_bytes())));
        }
        let grain: Arc<[u8]> = grain.into();
        *self.grain.lock().unwrap_or_else(PoisonError::into_inner) = Some((number, grain.clone()));
        Ok(grain)
    }

    /// Whether there is something at `offset`, and for how many of `length` bytes that is so.
    pub(super) fn status(&self, offset: u64, length: u64) -> Result<(BlockState, u64), ImageError> {
        /// Grains that one call looks at.
        const MOST: u64 = 4096;
        let grain_bytes = self.grain_bytes();
        let first = offset / grain_bytes;
        let state = |grain| match grain {
            Grain::Zeroes => BlockState::Deallocated,
            Grain::At(_) => BlockState::Mapped,
        };
        let found = state(self.find(first)?);
        let mut end = first + 1;
        while end - first < MOST && end * grain_bytes < offset + length {
            if state(self.find(end)?) != found {
                break;
            }
            end += 1;
        }
        Ok((found, (end * grain_bytes - offset).min(length)))
    }
}

fn numbers(file: &dyn BlockFile, place: u64, count: u64) -> Result<Vec<u32>, ImageError> {
    let mut raw = vec![0; index(count * 4)];
    file.read_at(&mut raw, place)?;
    let (words, _) = raw.as_chunks::<4>();
    Ok(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
}
