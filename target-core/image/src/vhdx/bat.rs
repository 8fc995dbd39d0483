//! The block allocation table ([MS-VHDX] 2.5): its entries, and where they stand.

use std::ops::Range;

use super::MIB;
use crate::defect::Defect;

/// Bytes of an entry.
pub(super) const ENTRY_LENGTH: u64 = 8;
/// Sectors that one sector bitmap block describes.
const SECTORS_PER_BITMAP: u64 = 1 << 23;
/// Bytes of a sector bitmap block.
pub(super) const BITMAP_LENGTH: u64 = MIB;
/// The largest disk that the format knows.
pub(super) const LARGEST_DISK: u64 = 64 << 40;

/// State of a payload block (2.5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PayloadBlockState {
    /// Never written: the parent's data, zeroes without a parent.
    NotPresent,
    /// Contents are not defined; lund reads zeroes.
    Undefined,
    /// All zeroes.
    Zero,
    /// Was unmapped; lund reads zeroes. The offset may still name space that is the block's.
    Unmapped,
    /// In this file.
    FullyPresent,
    /// Some sectors in this file, the others in the parent's.
    PartiallyPresent,
}

/// An entry as it stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct BatEntry(pub(super) u64);

impl BatEntry {
    /// An entry for a payload block.
    pub(super) fn payload(state: PayloadBlockState, offset: u64) -> Self {
        let state = match state {
            PayloadBlockState::NotPresent => 0,
            PayloadBlockState::Undefined => 1,
            PayloadBlockState::Zero => 2,
            PayloadBlockState::Unmapped => 3,
            PayloadBlockState::FullyPresent => 6,
            PayloadBlockState::PartiallyPresent => 7,
        };
        Self((offset & !(MIB - 1)) | state)
    }

    /// An entry for a sector bitmap block that is there.
    pub(super) fn bitmap(offset: u64) -> Self {
        Self((offset & !(MIB - 1)) | 6)
    }

    /// Where the block is, if the state says that it is anywhere.
    pub(super) fn offset(self) -> u64 {
        self.0 & !(MIB - 1)
    }

    /// State of a payload block, `None` if it is reserved.
    pub(super) fn state(self) -> Option<PayloadBlockState> {
        Some(match self.0 & 7 {
            0 => PayloadBlockState::NotPresent,
            1 => PayloadBlockState::Undefined,
            2 => PayloadBlockState::Zero,
            3 => PayloadBlockState::Unmapped,
            6 => PayloadBlockState::FullyPresent,
            7 => PayloadBlockState::PartiallyPresent,
            _ => return None,
        })
    }

    /// Whether a sector bitmap block is there, `None` if the state is reserved.
    pub(super) fn bitmap_present(self) -> Option<bool> {
        match self.0 & 7 {
            0 => Some(false),
            6 => Some(true),
            _ => None,
        }
    }
}

/// The numbers that follow from a disk's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Size of the disk in bytes.
    pub(super) size: u64,
    /// Bytes of a payload block, a power of two.
    pub(super) block_size: u64,
    /// Bytes of a logical sector, 512 or 4096.
    pub(super) sector_size: u64,
    /// Whether there is a parent.
    pub(super) has_parent: bool,
}

/// What an index into the table is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// The payload block with this number.
    Payload(u64),
    /// The sector bitmap block with this number.
    Bitmap(u64),
}

impl Geometry {
    /// Payload blocks that share a sector bitmap block: the chunk ratio.
    pub(super) fn chunk_ratio(self) -> u64 {
        SECTORS_PER_BITMAP * self.sector_size / self.block_size
    }

    /// Payload blocks of the disk.
    pub(super) fn blocks(self) -> u64 {
        self.size.div_ceil(self.block_size)
    }

    /// Sector bitmap blocks that a disk with a parent has.
    pub(super) fn bitmaps(self) -> u64 {
        self.blocks().div_ceil(self.chunk_ratio())
    }

    /// Entries that the table has at least.
    pub(super) fn entries(self) -> u64 {
        if self.has_parent {
            self.bitmaps() * (self.chunk_ratio() + 1)
        } else {
            let blocks = self.blocks();
            blocks + blocks.saturating_sub(1) / self.chunk_ratio()
        }
    }

    /// Bytes of the table, in whole MiB.
    pub(super) fn table_length(self) -> u64 {
        (self.entries() * ENTRY_LENGTH).next_multiple_of(MIB).max(MIB)
    }

    /// Index of the entry of a payload block.
    pub(super) fn payload_index(self, block: u64) -> u64 {
        block + block / self.chunk_ratio()
    }

    /// Index of the entry of the sector bitmap block that describes a payload block.
    pub(super) fn bitmap_index(self, block: u64) -> u64 {
        let ratio = self.chunk_ratio();
        (block / ratio) * (ratio + 1) + ratio
    }

    /// What the entry with this index is for.
    pub(super) fn slot(self, index: u64) -> Slot {
        let run = self.chunk_ratio() + 1;
        let (chunk, place) = (index / run, index % run);
        if place == self.chunk_ratio() {
            Slot::Bitmap(chunk)
        } else {
            Slot::Payload(chunk * self.chunk_ratio() + place)
        }
    }

    /// The piece of the file that an entry claims, or `None` if it claims none.
    pub(super) fn claim(self, index: u64, entry: BatEntry) -> Result<Option<Range<u64>>, Defect> {
        let offset = entry.offset();
        let piece = |length: u64| {
            if offset < MIB {
                let what = format!("entry {index} of the BAT points into the headers");
                return Err(Defect::corrupt(what));
            }
            let Some(end) = offset.checked_add(length) else {
                let what = format!("entry {index} of the BAT points nowhere");
                return Err(Defect::corrupt(what));
            };
            Ok(Some(offset..end))
        };
        let reserved =
            || Defect::corrupt(format!("entry {index} of the BAT has a state that is reserved"));
        match self.slot(index) {
            Slot::Bitmap(_) => match entry.bitmap_present().ok_or_else(reserved)? {
                true => piece(BITMAP_LENGTH),
                false => Ok(None),
            },
            Slot::Payload(block) if block >= self.blocks() => Ok(None),
            Slot::Payload(_) => match entry.state().ok_or_else(reserved)? {
                PayloadBlockState::PartiallyPresent if !self.has_parent => {
                    let what = format!("entry {index} of the BAT needs a parent, there is none");
                    Err(Defect::corrupt(what))
                }
                PayloadBlockState::FullyPresent | PayloadBlockState::PartiallyPresent => {
                    piece(self.block_size)
                }
                PayloadBlockState::Unmapped if offset >= MIB => piece(self.block_size),
                PayloadBlockState::Unmapped
                | PayloadBlockState::NotPresent
                | PayloadBlockState::Undefined
                | PayloadBlockState::Zero => Ok(None),
            },
        }
    }
}

/// The MiB of a file that are taken, to find two claims on one.
#[derive(Debug)]
pub(super) struct Claims {
    bits: Vec<u64>,
    file_length: u64,
    end: u64,
}

impl Claims {
    /// Nothing is taken of a file of `file_length` bytes.
    pub(super) fn new(file_length: u64) -> Self {
        let words = (file_length / MIB).div_ceil(64) + 1;
        Self { bits: vec![0; usize::try_from(words).unwrap_or(0)], file_length, end: 0 }
    }

    /// Takes a piece, which begins and ends at a multiple of 1 MiB.
    pub(super) fn take(&mut self, piece: &Range<u64>) -> Result<(), Defect> {
        if piece.end > self.file_length {
            return Err(Defect::corrupt(format!(
                "a block ends at {}, the file at {}",
                piece.end, self.file_length
            )));
        }
        self.end = self.end.max(piece.end);
        for unit in piece.start / MIB..piece.end.div_ceil(MIB) {
            let word = usize::try_from(unit / 64).ok().and_then(|word| self.bits.get_mut(word));
            let bit = 1 << (unit % 64);
            match word {
                Some(word) if *word & bit == 0 => *word |= bit,
                _ => {
                    let at = unit * MIB;
                    return Err(Defect::corrupt(format!("two blocks claim the space at {at}")));
                }
            }
        }
        Ok(())
    }

    /// Where the last piece that was taken ends.
    pub(super) fn end(&self) -> u64 {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ImageErrorKind;

    fn geometry(size: u64, block_size: u64, sector_size: u64, has_parent: bool) -> Geometry {
        Geometry { size, block_size, sector_size, has_parent }
    }

    #[test]
    fn the_numbers_are_those_of_the_specification() {
        let small = geometry(100 * MIB, 32 * MIB, 512, false);
        assert_eq!((small.chunk_ratio(), small.blocks(), small.entries()), (128, 4, 4));
        let child = Geometry { has_parent: true, ..small };
        assert_eq!(child.entries(), 129);
        let exact = geometry(128 * 32 * MIB, 32 * MIB, 512, false);
        assert_eq!(exact.entries(), 128);
        let more = geometry(129 * 32 * MIB, 32 * MIB, 512, false);
        assert_eq!(more.entries(), 130);
        let large = geometry(LARGEST_DISK, 32 * MIB, 4096, false);
        assert_eq!((large.chunk_ratio(), large.table_length()), (1024, 17 * MIB));
        let least = geometry(512, 256 * MIB, 512, false);
        assert_eq!((least.chunk_ratio(), least.entries(), least.table_length()), (16, 1, MIB));
    }

    #[test]
    fn every_index_is_for_one_thing() {
        let disk = geometry(40 * 256 * MIB, 256 * MIB, 512, true);
        assert_eq!(disk.chunk_ratio(), 16);
        for block in 0..disk.blocks() {
            assert_eq!(disk.slot(disk.payload_index(block)), Slot::Payload(block));
            assert_eq!(disk.slot(disk.bitmap_index(block)), Slot::Bitmap(block / 16));
        }
        assert_eq!(disk.payload_index(16), 17);
        assert_eq!(disk.bitmap_index(15), 16);
    }

    #[test]
    fn entries_that_cannot_be_are_refused() {
        let disk = geometry(100 * MIB, MIB, 512, false);
        let claim = |entry| disk.claim(0, BatEntry(entry)).map_err(|defect| defect.kind());
        assert_eq!(claim((7 * MIB) | 6), Ok(Some(7 * MIB..8 * MIB)));
        assert_eq!(claim((7 * MIB) | 3), Ok(Some(7 * MIB..8 * MIB)));
        assert_eq!(claim((7 * MIB) | 2), Ok(None));
        for wrong in [6, (7 * MIB) | 7, 4, 5, u64::MAX - 1] {
            assert_eq!(claim(wrong), Err(ImageErrorKind::Corrupt), "{wrong:x}");
        }
    }

    #[test]
    fn space_is_given_away_once() {
        let mut claims = Claims::new(200 * MIB);
        claims.take(&(MIB..65 * MIB)).unwrap();
        claims.take(&(65 * MIB..66 * MIB)).unwrap();
        assert!(claims.take(&(64 * MIB..66 * MIB)).is_err());
        assert!(claims.take(&(199 * MIB..201 * MIB)).is_err());
        assert_eq!(claims.end(), 66 * MIB);
    }
}
