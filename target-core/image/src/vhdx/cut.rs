//! Making the disk smaller while it is in use: nobody looks behind its new end any more.

use std::sync::atomic::Ordering;

use super::bat::{BatEntry, ENTRY_LENGTH, Geometry};
use super::{MIB, VhdxImage};
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::image::Wait;

impl VhdxImage {
    /// Makes the disk as small as `size`, if it is not so small already. Blocks behind its new end are out
    /// of the BAT before that is its size, so a crash leaves zeroes there; where they were is a hole.
    pub(super) fn cut_to(&self, size: u64) -> Result<(), ImageError> {
        let refuse = |kind, reason: String| {
            Err(self.error(kind, Operation::Resize).at(0, size).because(reason))
        };
        if size < self.virtual_disk_size.load(Ordering::Acquire) {
            if self.file.is_read_only() {
                return refuse(ImageErrorKind::ReadOnly, "it is open for reading".to_owned());
            }
            let sector = self.geometry.sector_size;
            if size == 0 || !size.is_multiple_of(sector) {
                let reason = format!("this VHDX has sectors of {sector} bytes");
                return refuse(ImageErrorKind::OutOfRange, reason);
            }
            if self.parent.as_ref().is_some_and(|parent| parent.size() > size) {
                let reason = "the parent is larger, and its data would come to light";
                return refuse(ImageErrorKind::Unsupported, reason.to_owned());
            }
            self.begin_writing()?;
            let mut journal = self.journal();
            self.size.fetch_min(size, Ordering::AcqRel);
            if !journal.size_offset.is_multiple_of(ENTRY_LENGTH) {
                let reason = "the size in the metadata is not aligned".to_owned();
                return refuse(ImageErrorKind::Unsupported, reason);
            }
            let large = Geometry { size: journal.virtual_disk_size, ..self.geometry };
            let small = Geometry { size, ..large };
            if small.size < large.size {
                let gone = self.places(small.blocks()..large.blocks())?;
                self.clear_entries(&mut journal, small, large)?;
                self.set_size(&mut journal, size)?;
                journal.sync(&*self.file)?;
                for place in gone {
                    self.file.punch(place, self.geometry.block_size)?;
                }
            }
        }
        self.size.fetch_min(size, Ordering::AcqRel);
        Ok(())
    }

    /// Where these blocks are in the file, those that are.
    fn places(&self, blocks: std::ops::Range<u64>) -> Result<Vec<u64>, ImageError> {
        let mut places = Vec::new();
        for block in blocks {
            let entry: BatEntry = self.payload(block, Wait::Block)?;
            if entry.offset() >= MIB {
                places.push(entry.offset());
            }
        }
        Ok(places)
    }
}
