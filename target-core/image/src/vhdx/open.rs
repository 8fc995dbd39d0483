//! Opening: everything in the file is looked at before anything of it is used.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use uuid::Uuid;

use super::bat::{BatEntry, Claims, ENTRY_LENGTH, Geometry};
use super::header::{self, FILE_SIGNATURE, HEADER_LENGTH, HEADER_OFFSETS, Header};
use super::journal::Journal;
use super::log::{Change, Entry, Log};
use super::metadata::{self, Parsed};
use super::parents::{NoParents, Parents};
use super::region::{self, RegionTable, TABLE_OFFSETS, check_disjoint};
use super::{MIB, VhdxImage, bytes, index};
use crate::block_file::BlockFile;
use crate::cache::TableCache;
use crate::defect::Defect;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::file::ImageFile;
use crate::format::OpenOptions;
use crate::parents::Ancestors;

/// The longest log that is read. Hyper-V and QEMU make logs of 1 MiB.
const LONGEST_LOG: u32 = 64 << 20;
/// The longest file: four times what the largest disk needs.
const LONGEST_FILE: u64 = 256 << 40;

impl VhdxImage {
    /// Opens the image in a locked file, and its parents. A log that was left is replayed.
    ///
    /// # Errors
    /// As [`crate::open_image`].
    pub(crate) fn open_file(file: ImageFile, options: &OpenOptions) -> Result<Self, ImageError> {
        let mut ancestors = Ancestors::of(&file);
        Self::open(Arc::new(file), options, &mut ancestors)
    }

    /// Opens the image in a file that is not on a disk: it has no parent.
    ///
    /// # Errors
    /// As [`crate::open_image`].
    pub fn open_bytes(file: Arc<dyn BlockFile>, options: &OpenOptions) -> Result<Self, ImageError> {
        Self::open(file, options, &mut NoParents)
    }

    /// Opens the image in `file`.
    ///
    /// # Errors
    /// `InvalidFormat` if it is no VHDX, `Corrupt` if it contradicts itself, `Unsupported` if it
    /// needs something that is not known here, `ParentMismatch` if the parent is not the one it was
    /// made for, `ReadOnly` if the log must be replayed and the file may not be written. The reason
    /// says what exactly is wrong.
    pub(super) fn open(
        file: Arc<dyn BlockFile>,
        options: &OpenOptions,
        parents: &mut dyn Parents,
    ) -> Result<Self, ImageError> {
        let fail = |defect: Defect| defect.into_error(Operation::Open, file.path().clone());
        let (mut place, mut header) = read_headers(&*file)?;
        let mut journal_number = 1;
        if !header.log_guid.is_nil() {
            let replayed =
                replay(&*file, &header).map_err(|error| error.during(Operation::Open))?;
            if let Some(number) = replayed {
                (place, header) = clear_log(&*file, place, header)?;
                journal_number = number;
            }
        }
        let regions = read_regions(&*file)?;
        let Parsed { metadata, size_offset } = read_metadata(&*file, &regions)?;
        let geometry = metadata.geometry();
        let length = file.length()?;
        let end = check_space(&*file, &header, &regions, geometry, length)?;
        let parent = match &metadata.parent {
            Some(locator) => Some(parents.find(file.path(), locator, options)?),
            None => None,
        };
        if metadata.logical_sector_size == 4096
            && let Some(parent) = &parent
            && parent.geometry.sector_size != 4096
        {
            return Err(fail(Defect::unsupported("the parent has smaller logical sectors")));
        }
        let size = geometry.size.min(options.size_bytes.unwrap_or(geometry.size));
        if size % geometry.sector_size != 0 {
            return Err(fail(Defect::corrupt(format!("{size} bytes are no whole sectors"))));
        }
        let journal = Journal {
            header,
            place,
            size_offset: regions.metadata.offset + u64::from(size_offset),
            regions,
            head: header.log_length.into(),
            sequence_number: journal_number,
            end,
            stable: 0,
            virtual_disk_size: geometry.size,
        };
        Ok(Self {
            size: AtomicU64::new(size),
            geometry,
            virtual_disk_size: AtomicU64::new(geometry.size),
            fixed: metadata.leave_blocks_allocated,
            virtual_disk_id: metadata.virtual_disk_id,
            data_write_guid_at_open: header.data_write_guid,
            physical_sector_size: metadata.physical_sector_size,
            bat_offset: AtomicU64::new(journal.regions.bat.offset),
            end: AtomicU64::new(end),
            cache: TableCache::new(super::log::SECTOR, &options.cache),
            parent,
            stripes: std::array::from_fn(|_| super::Stripe::default()),
            started: AtomicBool::new(false),
            logged: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            journal: Mutex::new(journal),
            file,
        })
    }
}

fn read(file: &dyn BlockFile, offset: u64, length: usize) -> Result<Vec<u8>, ImageError> {
    let mut bytes = vec![0; length];
    file.read_at(&mut bytes, offset).map_err(|error| {
        let short = error.kind() == ImageErrorKind::ShortTransfer;
        let error = error.during(Operation::Open);
        if short {
            error.with_kind(ImageErrorKind::Corrupt).because("it ends there")
        } else {
            error
        }
    })?;
    Ok(bytes)
}

fn read_headers(file: &dyn BlockFile) -> Result<(usize, Header), ImageError> {
    let fail = |defect: Defect| defect.into_error(Operation::Open, file.path().clone());
    let length = file.length()?;
    let signature = if length < 8 { Vec::new() } else { read(file, 0, FILE_SIGNATURE.len())? };
    if signature != FILE_SIGNATURE {
        return Err(fail(Defect::invalid_format("it does not begin with vhdxfile")));
    }
    if length > LONGEST_FILE {
        return Err(fail(Defect::unsupported(format!("a file of {length} bytes is too long"))));
    }
    let mut headers = [None, None];
    for (header, offset) in headers.iter_mut().zip(HEADER_OFFSETS) {
        let bytes = read(file, offset, HEADER_LENGTH)?;
        *header = bytes.first_chunk().and_then(Header::parse);
    }
    let [first, second] = headers;
    let (place, header) = header::current(first, second).map_err(fail)?;
    if header.log_length > LONGEST_LOG {
        let length = header.log_length;
        return Err(fail(Defect::unsupported(format!("a log of {length} bytes is too long"))));
    }
    let log = log_range(&header);
    if log.end > length {
        let what = format!("the log ends at {}, the file at {length}", log.end);
        return Err(fail(Defect::corrupt(what)));
    }
    Ok((place, header))
}

fn log_range(header: &Header) -> Range<u64> {
    header.log_offset..header.log_offset.saturating_add(header.log_length.into())
}

/// Brings what the log has to its place. The next number for entries, or `None` if there was nothing
/// in the log.
fn replay(file: &dyn BlockFile, header: &Header) -> Result<Option<u64>, ImageError> {
    let fail = |defect: Defect| defect.into_error(Operation::Open, file.path().clone());
    let ring = read(file, header.log_offset, index(header.log_length.into()))?;
    let entries = Log::new(&ring, header.log_guid).active().map_err(fail)?;
    let Some(last) = entries.last() else { return Ok(None) };
    let (length, end) = check_replay(&entries, header, file.length()?).map_err(fail)?;
    if file.is_read_only() {
        return Err(ImageError::new(
            ImageErrorKind::ReadOnly,
            Operation::Open,
            file.path().clone(),
        )
        .because("its log has to be replayed, for which it must be opened for writing"));
    }
    if end > length {
        file.set_length(end)?;
    }
    for change in entries.iter().flat_map(|entry| &entry.changes) {
        match change {
            Change::Zero { offset, length } => file.write_zeroes(*offset, *length)?,
            Change::Data { offset, page } => file.write_at(&**page, *offset)?,
        }
    }
    file.flush()?;
    Ok(Some(last.head.sequence_number.saturating_add(1)))
}

/// Refuses a log that a truncated file is left with, or that changes what no log may change. How
/// long the file is, and how long it has to become.
fn check_replay(entries: &[Entry], header: &Header, length: u64) -> Result<(u64, u64), Defect> {
    let flushed = entries.iter().map(|entry| entry.head.flushed_file_offset).max().unwrap_or(0);
    if flushed > length {
        return Err(Defect::corrupt(format!(
            "the file was truncated: it has {length} bytes and had {flushed}"
        )));
    }
    let last = entries.last().map_or(0, |entry| entry.head.last_file_offset);
    if last > LONGEST_FILE {
        return Err(Defect::corrupt(format!("the log wants a file of {last} bytes")));
    }
    let end = last.max(length);
    let log = log_range(header);
    for change in entries.iter().flat_map(|entry| &entry.changes) {
        let (offset, count) = match change {
            Change::Zero { offset, length } => (*offset, *length),
            Change::Data { offset, page } => (*offset, bytes(page.len())),
        };
        let inside = offset >= TABLE_OFFSETS[0]
            && offset.checked_add(count).is_some_and(|to| to <= end)
            && (offset >= log.end || offset + count <= log.start);
        if !inside {
            return Err(Defect::corrupt(format!("the log changes {count} bytes at {offset}")));
        }
    }
    Ok((length, end))
}

/// Writes headers that say that the log is empty.
fn clear_log(
    file: &dyn BlockFile,
    place: usize,
    header: Header,
) -> Result<(usize, Header), ImageError> {
    let regions = RegionTable {
        bat: region::Region { offset: 0, length: 0 },
        metadata: region::Region { offset: 0, length: 0 },
        others: Vec::new(),
    };
    let mut journal = Journal {
        header,
        place,
        regions,
        size_offset: 0,
        head: 0,
        sequence_number: 1,
        end: 0,
        stable: 0,
        virtual_disk_size: 0,
    };
    journal.write_header(file, |header| {
        header.file_write_guid = Uuid::new_v4();
        header.log_guid = Uuid::nil();
    })?;
    Ok((journal.place, journal.header))
}

fn read_regions(file: &dyn BlockFile) -> Result<RegionTable, ImageError> {
    let [first, second] = TABLE_OFFSETS;
    let first = read(file, first, region::TABLE_LENGTH)?;
    let second = read(file, second, region::TABLE_LENGTH)?;
    RegionTable::parse([&first, &second])
        .map_err(|defect| defect.into_error(Operation::Open, file.path().clone()))
}

/// Reading an item may fail for two reasons.
enum ItemError {
    Defect(Defect),
    Image(ImageError),
}

impl From<Defect> for ItemError {
    fn from(defect: Defect) -> Self {
        Self::Defect(defect)
    }
}

fn read_metadata(file: &dyn BlockFile, regions: &RegionTable) -> Result<Parsed, ImageError> {
    let region = regions.metadata;
    let table = read(file, region.offset, metadata::TABLE_LENGTH)?;
    let item = |offset: u32, length: u32| {
        let offset = region.offset + u64::from(offset);
        read(file, offset, index(length.into())).map_err(ItemError::Image)
    };
    metadata::parse(&table, region.length, item).map_err(|error| match error {
        ItemError::Image(error) => error,
        ItemError::Defect(defect) => defect.into_error(Operation::Open, file.path().clone()),
    })
}

/// Goes through the whole BAT: every block must have its place to itself. Where what is used ends.
///
/// The table may have 512 MiB, but is read as what it mostly is, a hole; what is kept is one bit for
/// each MiB of the file.
fn check_space(
    file: &dyn BlockFile,
    header: &Header,
    regions: &RegionTable,
    geometry: Geometry,
    length: u64,
) -> Result<u64, ImageError> {
    let fail = |defect: Defect| defect.into_error(Operation::Open, file.path().clone());
    let mut fixed: Vec<_> = regions.all().map(region::Region::range).collect();
    fixed.extend([0..MIB, log_range(header)]);
    check_disjoint(fixed.clone(), length).map_err(fail)?;
    let wanted = geometry.entries() * ENTRY_LENGTH;
    if wanted > u64::from(regions.bat.length) {
        let has = regions.bat.length;
        return Err(fail(Defect::corrupt(format!("the BAT has {has} bytes and needs {wanted}"))));
    }
    let mut claims = Claims::new(length);
    for piece in &fixed {
        claims.take(piece).map_err(fail)?;
    }
    let mut buffer = vec![0; index(MIB)];
    let mut done = 0;
    while done < wanted {
        let count = MIB.min(wanted - done);
        let Some(piece) = buffer.get_mut(..index(count)) else { break };
        file.read_at(piece, regions.bat.offset + done)?;
        for (word, index) in piece.as_chunks::<8>().0.iter().zip(done / ENTRY_LENGTH..) {
            if *word == [0; 8] {
                continue;
            }
            let entry = BatEntry(u64::from_le_bytes(*word));
            if let Some(claim) = geometry.claim(index, entry).map_err(fail)? {
                claims.take(&claim).map_err(fail)?;
            }
        }
        done += count;
    }
    Ok(claims.end())
}
