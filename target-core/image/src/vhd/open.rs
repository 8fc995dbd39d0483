//! Opening: everything in the file is looked at before anything of it is used.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, RwLock};

use super::blocks::{Block, Blocks, UNUSED};
use super::footer::{
    DiskType, DynamicHeader, FOOTER_LENGTH, Footer, HEADER_LENGTH, LARGEST_DISK, W2KU, W2RU,
};
use super::{SECTOR, Structure, VhdImage, bytes, index};
use crate::block_file::BlockFile;
use crate::cache::TableCache;
use crate::defect::Defect;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::file::ImageFile;
use crate::format::OpenOptions;
use crate::parents::Ancestors;

/// The longest path in a parent locator, in bytes.
const LONGEST_PATH: u32 = 64 << 10;

/// Where parents come from: the child's path, and the paths and the identity that it names.
pub(super) trait Parents {
    /// The parent of an image.
    ///
    /// # Errors
    /// `ParentMismatch` with a reason if there is none that fits.
    fn find(
        &mut self,
        child: &Path,
        paths: &[String],
        header: &DynamicHeader,
        options: &OpenOptions,
    ) -> Result<Arc<VhdImage>, ImageError>;
}

impl Parents for Ancestors {
    fn find(
        &mut self,
        child: &Path,
        paths: &[String],
        header: &DynamicHeader,
        options: &OpenOptions,
    ) -> Result<Arc<VhdImage>, ImageError> {
        let (file, options) = self.open_parent(child, paths.iter().cloned(), options)?;
        let path = file.path().clone();
        let parent = VhdImage::open(Arc::new(file), &options, self)?;
        if parent.structure().footer.unique_id != header.parent_unique_id {
            return Err(ImageError::new(ImageErrorKind::ParentMismatch, Operation::Open, path)
                .because("it is not the disk that the child was made of"));
        }
        Ok(Arc::new(parent))
    }
}

/// No parents at all.
#[derive(Debug)]
pub(super) struct NoParents;

impl Parents for NoParents {
    fn find(
        &mut self,
        child: &Path,
        _: &[String],
        _: &DynamicHeader,
        _: &OpenOptions,
    ) -> Result<Arc<VhdImage>, ImageError> {
        Err(ImageError::new(ImageErrorKind::ParentMismatch, Operation::Open, child)
            .because("a parent cannot be found from here"))
    }
}

impl VhdImage {
    /// Opens the image in a locked file, and its parents.
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

    pub(super) fn open(
        file: Arc<dyn BlockFile>,
        options: &OpenOptions,
        parents: &mut dyn Parents,
    ) -> Result<Self, ImageError> {
        let fail = |defect: Defect| defect.into_error(Operation::Open, file.path().clone());
        let length = file.length()?;
        let (footer, whole) = find_footer(&*file, length, options)?;
        let size = footer.size();
        if size == 0 || size > LARGEST_DISK {
            let what = format!("disk size {size} is not from one sector to 2040 GiB");
            return Err(fail(Defect::corrupt(what)));
        }
        let (structure, blocks, parent) = if footer.disk_type == DiskType::Fixed {
            let end = whole.unwrap_or(size);
            if end < size {
                let what = format!("the disk has {size} bytes, its footer is at {end}");
                return Err(fail(Defect::corrupt(what)));
            }
            (Structure { footer, header: None, end, whole: whole.is_some() }, None, None)
        } else {
            let header = read_header(&*file, &footer, length)?;
            let paths = read_paths(&*file, &header, length)?;
            let (table, end) = read_table(&*file, &footer, &header, length)?;
            let parent = match footer.disk_type {
                DiskType::Differencing => {
                    Some(parents.find(file.path(), &paths, &header, options)?)
                }
                DiskType::Fixed | DiskType::Dynamic => None,
            };
            let block = u64::from(header.block_size);
            let blocks = Blocks {
                size: block,
                bitmap: bitmap_length(block),
                table: RwLock::new(table),
                cache: TableCache::new(index(SECTOR), &options.cache),
            };
            let whole = whole.is_some_and(|at| at >= end);
            (Structure { footer, header: Some(header), end, whole }, Some(blocks), parent)
        };
        let visible = size.min(options.size_bytes.unwrap_or(size));
        Ok(Self {
            size: AtomicU64::new(visible),
            blocks,
            parent,
            changed: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            started: AtomicBool::new(false),
            structure: Mutex::new(structure),
            file,
        })
    }
}

/// Bytes of a block's sector bitmap.
pub(super) fn bitmap_length(block: u64) -> u64 {
    (block / SECTOR / 8).next_multiple_of(SECTOR)
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

/// The footer that counts, and where it is if it is at the end. The end comes first, since in a
/// fixed disk the start is the user's; then where the disk is known to have ended when it grew; then
/// the copy at the start.
fn find_footer(
    file: &dyn BlockFile,
    length: u64,
    options: &OpenOptions,
) -> Result<(Footer, Option<u64>), ImageError> {
    let fail = |defect: Defect| defect.into_error(Operation::Open, file.path().clone());
    let at = |offset: u64| -> Result<Option<Footer>, ImageError> {
        // Old footers lack their last byte.
        let count = length.saturating_sub(offset).min(bytes(FOOTER_LENGTH));
        if count + 1 < bytes(FOOTER_LENGTH) {
            return Ok(None);
        }
        let mut footer = read(file, offset, index(count))?;
        footer.resize(FOOTER_LENGTH, 0);
        let Some(footer) = footer.first_chunk() else { return Ok(None) };
        Footer::parse(footer).map_err(fail)
    };
    let last = length.saturating_sub(1) / SECTOR * SECTOR;
    if let Some(footer) = at(last)? {
        return Ok((footer, Some(last)));
    }
    if let Some(size) = options.size_bytes
        && let Some(footer) = at(size)?
        && footer.disk_type == DiskType::Fixed
    {
        return Ok((footer, Some(size)));
    }
    match at(0)? {
        Some(footer) if footer.disk_type != DiskType::Fixed => Ok((footer, None)),
        _ => Err(fail(Defect::invalid_format("it has no footer, neither at its end nor a copy"))),
    }
}

fn read_header(
    file: &dyn BlockFile,
    footer: &Footer,
    length: u64,
) -> Result<DynamicHeader, ImageError> {
    let fail = |defect: Defect| defect.into_error(Operation::Open, file.path().clone());
    let offset = footer.data_offset;
    let inside = offset >= SECTOR
        && offset.is_multiple_of(SECTOR)
        && offset.checked_add(bytes(HEADER_LENGTH)).is_some_and(|end| end <= length);
    if !inside {
        let what = format!("the dynamic disk header cannot be at {offset}");
        return Err(fail(Defect::corrupt(what)));
    }
    let header = read(file, offset, HEADER_LENGTH)?;
    let Some(header) = header.first_chunk() else {
        return Err(fail(Defect::corrupt("the dynamic disk header is damaged")));
    };
    let header = DynamicHeader::parse(header).map_err(fail)?;
    let wanted = footer.size().div_ceil(header.block_size.into());
    let has = u64::from(header.max_table_entries);
    if wanted > has {
        let what = format!("the BAT has {has} entries and needs {wanted}");
        return Err(fail(Defect::corrupt(what)));
    }
    if has > LARGEST_DISK.div_ceil(header.block_size.into()) {
        let what = format!("a BAT of {has} entries is larger than any disk needs");
        return Err(fail(Defect::unsupported(what)));
    }
    let table = table_range(&header);
    if !table.start.is_multiple_of(SECTOR) || table.end > length {
        let what = format!("the BAT cannot be at {}", table.start);
        return Err(fail(Defect::corrupt(what)));
    }
    Ok(header)
}

fn table_range(header: &DynamicHeader) -> Range<u64> {
    let length = (u64::from(header.max_table_entries) * 4).next_multiple_of(SECTOR);
    header.table_offset..header.table_offset.saturating_add(length)
}

/// The paths of the parent, the relative one first.
fn read_paths(
    file: &dyn BlockFile,
    header: &DynamicHeader,
    length: u64,
) -> Result<Vec<String>, ImageError> {
    let mut paths = Vec::new();
    for platform in [W2RU, W2KU] {
        for locator in header.locators.iter().filter(|locator| locator.platform == platform) {
            let end = locator.offset.checked_add(locator.length.into());
            if locator.length > LONGEST_PATH || end.is_none_or(|end| end > length) {
                let what = format!("a parent locator cannot be at {}", locator.offset);
                let defect = Defect::corrupt(what);
                return Err(defect.into_error(Operation::Open, file.path().clone()));
            }
            let text = read(file, locator.offset, index(locator.length.into()))?;
            let units = text.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
            let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
            paths.push(String::from_utf16_lossy(&units).replace('\\', "/"));
        }
    }
    if paths.is_empty() && !header.parent_name.is_empty() {
        paths.push(header.parent_name.replace('\\', "/"));
    }
    Ok(paths)
}

/// The BAT, in which every block has its place to itself, and where what is used ends.
fn read_table(
    file: &dyn BlockFile,
    footer: &Footer,
    header: &DynamicHeader,
    length: u64,
) -> Result<(Vec<Block>, u64), ImageError> {
    let fail = |defect: Defect| defect.into_error(Operation::Open, file.path().clone());
    let raw = read(file, header.table_offset, index(u64::from(header.max_table_entries) * 4))?;
    let block = u64::from(header.block_size);
    let block = block + bitmap_length(block);
    let mut pieces = vec![
        0..SECTOR,
        footer.data_offset..footer.data_offset + bytes(HEADER_LENGTH),
        table_range(header),
    ];
    pieces.extend(
        header
            .locators
            .iter()
            .filter(|locator| locator.length > 0)
            .map(|locator| locator.offset..locator.offset.saturating_add(locator.length.into())),
    );
    let mut table = Vec::with_capacity(raw.len() / 4);
    for entry in raw.as_chunks::<4>().0 {
        let sector = u32::from_be_bytes(*entry);
        table.push(Block::new(sector));
        if sector != UNUSED {
            let start = u64::from(sector) * SECTOR;
            pieces.push(start..start + block);
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces.sort_unstable_by_key(|piece| piece.start);
    for pair in pieces.windows(2) {
        if let [first, second] = pair
            && first.end > second.start
        {
            let what = format!("what lies at {} and at {} overlaps", first.start, second.start);
            return Err(fail(Defect::corrupt(what)));
        }
    }
    let end = pieces.last().map_or(0, |piece| piece.end);
    if end > length {
        let what = format!("a block ends at {end}, the file at {length}");
        return Err(fail(Defect::corrupt(what)));
    }
    Ok((table, end.next_multiple_of(SECTOR)))
}
