//! Making new images.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use super::footer::{
    DiskType, DynamicHeader, FOOTER_LENGTH, Footer, HEADER_LENGTH, LARGEST_DISK, Locator, W2KU,
    W2RU, time_stamp,
};
use super::{SECTOR, VhdImage, bytes};
use crate::block_file::BlockFile;
use crate::create::{CreateOptions, NewImage, Preallocation};
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::file::ImageFile;
use crate::format::OpenOptions;
use crate::image::Image as _;

/// Bytes of a block, unless the options say otherwise: what every reader knows.
const BLOCK: u32 = 2 << 20;

/// What a new disk has of its parent.
#[derive(Debug, Clone)]
pub(super) struct ParentOf {
    pub(super) unique_id: Uuid,
    pub(super) time_stamp: u32,
    /// Relative to the child's directory.
    pub(super) relative: String,
    pub(super) absolute: String,
}

/// What a new image looks like.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    footer: Footer,
    block: u32,
    parent: Option<ParentOf>,
}

/// Checks what can be said before there is a file.
pub(crate) fn check(options: &CreateOptions) -> Result<(), String> {
    let block = options.block_bytes.unwrap_or(BLOCK);
    if !block.is_power_of_two() || !(512 << 10..=256 << 20).contains(&block) {
        return Err(format!("a VHD has blocks of 512 KiB, 1, 2 … 256 MiB, not of {block} bytes"));
    }
    let (size, logical) = (options.size_bytes, options.logical_block_bytes);
    if size == 0 || size > LARGEST_DISK || !size.is_multiple_of(u64::from(logical.max(512))) {
        return Err(format!("a VHD has at most 2040 GiB in whole blocks, not {size} bytes"));
    }
    if options.parent.is_some() && options.preallocation == Preallocation::Full {
        return Err("a VHD with a parent takes its space when it is written".to_owned());
    }
    Ok(())
}

impl Plan {
    /// What the options want for the image `path`. A parent is opened, to see what it is.
    pub(crate) fn of(path: &Arc<Path>, options: &CreateOptions) -> Result<Self, ImageError> {
        let refuse = |kind, reason: String| {
            ImageError::new(kind, Operation::Create, path.clone()).because(reason)
        };
        check(options).map_err(|reason| refuse(ImageErrorKind::Unsupported, reason))?;
        let Some(parent) = &options.parent else { return Ok(Self::new(options, None)) };
        let directory = crate::pool::directory_of(path);
        let place = directory.join(&parent.path);
        let file = ImageFile::open(place.as_path(), true)?;
        let open = OpenOptions {
            // Whoever asks for it knows where it is.
            parent_directories: place.parent().map(Path::to_path_buf).into_iter().collect(),
            ..OpenOptions::read_only()
        };
        let image = VhdImage::open_file(file, &open)?;
        if image.size_bytes() > options.size_bytes {
            let reason = format!("the parent has {} bytes", image.size_bytes());
            return Err(refuse(ImageErrorKind::ParentMismatch, reason));
        }
        let changed = std::fs::metadata(&place).and_then(|file| file.modified());
        let (Some(relative), Ok(absolute), Ok(changed)) =
            (parent.path.to_str(), place.canonicalize(), changed)
        else {
            let reason = "the parent's path is no text".to_owned();
            return Err(refuse(ImageErrorKind::Unsupported, reason));
        };
        let parent = ParentOf {
            unique_id: image.structure().footer.unique_id,
            time_stamp: time_stamp(changed),
            relative: format!(r".\{}", relative.replace('/', r"\")),
            absolute: absolute.to_string_lossy().into_owned(),
        };
        Ok(Self::new(options, Some(parent)))
    }

    /// What the options want, which have been checked; `parent` if there is one.
    pub(super) fn new(options: &CreateOptions, parent: Option<ParentOf>) -> Self {
        let kind = match options.preallocation {
            Preallocation::Full => DiskType::Fixed,
            Preallocation::Sparse if parent.is_some() => DiskType::Differencing,
            Preallocation::Sparse => DiskType::Dynamic,
        };
        let footer = Footer::new(kind, options.size_bytes);
        Self { footer, block: options.block_bytes.unwrap_or(BLOCK), parent }
    }

    /// Footer, header, paths of the parent, BAT, footer.
    fn write_blocks(&self, file: &dyn BlockFile) -> Result<(), ImageError> {
        let encode =
            |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let mut at = bytes(FOOTER_LENGTH + HEADER_LENGTH);
        let mut locators = Vec::new();
        if let Some(parent) = &self.parent {
            for (platform, text) in [(W2RU, &parent.relative), (W2KU, &parent.absolute)] {
                let text = encode(text);
                let length = u32::try_from(text.len()).unwrap_or(0);
                file.write_at(&text, at)?;
                locators.push(Locator { platform, length, offset: at });
                at = (at + bytes(text.len())).next_multiple_of(SECTOR);
            }
        }
        let entries = self.footer.size().div_ceil(self.block.into());
        let name = self.parent.as_ref().map(|parent| &parent.relative);
        let name = name.and_then(|path| path.rsplit('\\').next()).unwrap_or_default();
        let header = DynamicHeader {
            table_offset: at,
            max_table_entries: u32::try_from(entries).unwrap_or(u32::MAX),
            block_size: self.block,
            parent_unique_id: self.parent.as_ref().map_or(Uuid::nil(), |parent| parent.unique_id),
            parent_time_stamp: self.parent.as_ref().map_or(0, |parent| parent.time_stamp),
            parent_name: name.to_owned(),
            locators,
        };
        let length = super::index((entries * 4).next_multiple_of(SECTOR));
        file.write_at(&vec![0xff; length], at)?;
        file.write_at(&self.footer.emit(), at + bytes(length))?;
        file.write_at(&header.emit(), self.footer.data_offset)?;
        file.write_at(&self.footer.emit(), 0)
    }
}

impl NewImage for Plan {
    fn write(&self, file: &dyn BlockFile) -> Result<(), ImageError> {
        match self.footer.disk_type {
            DiskType::Fixed => file.write_at(&self.footer.emit(), self.footer.size()),
            DiskType::Dynamic | DiskType::Differencing => self.write_blocks(file),
        }
    }

    fn space(&self) -> Range<u64> {
        match self.footer.disk_type {
            DiskType::Fixed => 0..self.footer.size(),
            DiskType::Dynamic | DiskType::Differencing => 0..0,
        }
    }
}
