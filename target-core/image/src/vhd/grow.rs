//! Making a disk larger while it is in use.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::blocks::{Block, Blocks, UNUSED};
use super::footer::{DynamicHeader, Footer, HEADER_LENGTH, LARGEST_DISK};
use super::{SECTOR, Structure, VhdImage};
use crate::error::{ImageError, ImageErrorKind, Operation};

impl VhdImage {
    /// Makes the disk larger, if it is not so large already.
    pub(super) fn resize(&self, size: u64) -> Result<(), ImageError> {
        if size <= self.size() {
            return Ok(());
        }
        let refuse = |kind, reason: &str| {
            Err(self.error(kind, Operation::Resize).at(0, size).because(reason))
        };
        if size > LARGEST_DISK || !size.is_multiple_of(SECTOR) {
            let reason = "a VHD has at most 2040 GiB, in sectors of 512 bytes";
            return refuse(ImageErrorKind::OutOfRange, reason);
        }
        let mut structure = self.structure();
        if size > structure.footer.size() {
            if self.file.is_read_only() {
                return refuse(ImageErrorKind::ReadOnly, "it is open for reading");
            }
            if self.parent.as_ref().is_some_and(|parent| parent.size() > structure.footer.size()) {
                let reason = "the parent is larger, and its data would come to light";
                return refuse(ImageErrorKind::Unsupported, reason);
            }
            match &self.blocks {
                None => self.enlarge_fixed(&mut structure, size)?,
                Some(blocks) => self.enlarge_blocks(&mut structure, blocks, size)?,
            }
        } else if self.blocks.is_none() && !self.file.is_read_only() {
            // Where the footer was when an earlier attempt was interrupted.
            self.file.write_zeroes(self.size(), SECTOR)?;
        }
        self.size.fetch_max(size, Ordering::AcqRel);
        Ok(())
    }

    fn enlarge_fixed(&self, structure: &mut Structure, size: u64) -> Result<(), ImageError> {
        let (old, footer) = (structure.end, structure.footer.resized(size));
        let length = self.file.length()?;
        if length > old + SECTOR {
            self.file.set_length(old + SECTOR)?;
        }
        self.file.write_at(&footer.emit(), size)?;
        self.file.flush()?;
        let slack = structure.footer.size();
        self.file.write_zeroes(slack, (old + SECTOR - slack).min(size - slack))?;
        if size < old + SECTOR {
            // They overlap: what was zeroed of the new one comes back.
            self.file.write_at(&footer.emit(), size)?;
        }
        self.file.flush()?;
        (structure.footer, structure.end, structure.whole) = (footer, size, true);
        Ok(())
    }

    fn enlarge_blocks(
        &self,
        structure: &mut Structure,
        blocks: &Blocks,
        size: u64,
    ) -> Result<(), ImageError> {
        let old = structure.footer.size();
        self.clear_slack(blocks, old)?;
        let Some(header) = structure.header.clone() else { return Ok(()) };
        let wanted = size.div_ceil(blocks.size);
        let known = old.div_ceil(blocks.size);
        let entries: Vec<u32> = {
            let table = blocks.table.read().unwrap_or_else(PoisonError::into_inner);
            table.iter().map(|block| block.sector.load(Ordering::Acquire)).collect()
        };
        let spare = entries.iter().skip(super::index(known));
        if spare.clone().any(|sector| *sector != UNUSED) {
            return Err(self
                .error(ImageErrorKind::Corrupt, Operation::Resize)
                .because("the BAT has blocks behind the end of the disk"));
        }
        let footer = structure.footer.resized(size);
        if wanted > u64::from(header.max_table_entries) {
            self.move_table(structure, blocks, header, &entries, wanted)?;
        }
        self.put_footer(structure, footer)
    }

    /// Has both footers of an image with blocks be this one, and the file end there: one that is farther
    /// behind, as a crash or blocks that are gone have left it, would be taken for the one that counts.
    pub(super) fn put_footer(
        &self,
        structure: &mut Structure,
        footer: Footer,
    ) -> Result<(), ImageError> {
        for offset in [structure.end, 0] {
            self.file.write_at(&footer.emit(), offset)?;
            self.file.flush()?;
        }
        let length = structure.end + SECTOR;
        if self.file.length()? > length {
            self.file.set_length(length)?;
            self.file.flush()?;
        }
        (structure.footer, structure.whole) = (footer, true);
        Ok(())
    }

    /// What lies in the last block behind the end of the disk becomes part of it, as zeroes.
    fn clear_slack(&self, blocks: &Blocks, old: u64) -> Result<(), ImageError> {
        let used = old % blocks.size;
        match blocks.find(old / blocks.size) {
            Some((place, _)) if used > 0 => {
                self.file.write_zeroes(place + blocks.bitmap + used, blocks.size - used)
            }
            _ => Ok(()),
        }
    }

    /// Writes a larger BAT to the end, and makes it the one that counts.
    fn move_table(
        &self,
        structure: &mut Structure,
        blocks: &Blocks,
        header: DynamicHeader,
        entries: &[u32],
        wanted: u64,
    ) -> Result<(), ImageError> {
        let too_large = || self.error(ImageErrorKind::OutOfRange, Operation::Resize);
        let count = usize::try_from(wanted).map_err(|_| too_large())?;
        let mut sectors = entries.to_vec();
        sectors.resize(count, UNUSED);
        let mut table: Vec<u8> = sectors.iter().flat_map(|sector| sector.to_be_bytes()).collect();
        table.resize(table.len().next_multiple_of(super::index(SECTOR)), 0xff);
        let start = structure.end;
        let end = start + super::bytes(table.len());
        if self.file.length()? > start + SECTOR {
            self.file.set_length(start + SECTOR)?;
        }
        self.file.write_at(&structure.footer.emit(), end)?;
        self.file.write_at(&table, start)?;
        self.file.flush()?;
        let max_table_entries = u32::try_from(wanted).map_err(|_| too_large())?;
        let mut bytes = [0; HEADER_LENGTH];
        self.file.read_at(&mut bytes, structure.footer.data_offset)?;
        let first = DynamicHeader::moved(&bytes, start, max_table_entries);
        self.file.write_at(&first, structure.footer.data_offset)?;
        let header = DynamicHeader { table_offset: start, max_table_entries, ..header };
        self.file.flush()?;
        structure.header = Some(header);
        structure.end = end;
        let mut table = blocks.table.write().unwrap_or_else(PoisonError::into_inner);
        table.resize_with(count, || Block::new(UNUSED));
        Ok(())
    }
}
