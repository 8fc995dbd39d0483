//! Where a guest cluster is: entries of L1 and L2 tables.

use super::Problem;
use crate::error::ImageErrorKind;

/// The offset in an entry of an L1 or L2 table.
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// The reference count is exactly one: may be written in place.
pub(super) const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;
/// Bits of an L1 entry that must be 0.
pub(super) const L1_RESERVED: u64 = !(OFFSET | COPIED);

/// Sizes that follow from the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) cluster_bits: u32,
    pub(super) refcount_order: u32,
    pub(super) version: u32,
}

impl Geometry {
    /// Bytes in a cluster.
    pub(super) const fn cluster(self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bits of an index into an L2 table.
    pub(super) const fn l2_bits(self) -> u32 {
        self.cluster_bits - 3
    }

    /// Bytes of the disk that one L1 entry covers.
    pub(super) const fn l1_span(self) -> u64 {
        1 << (self.cluster_bits + self.l2_bits())
    }

    /// L1 entries for a disk.
    pub(super) const fn l1_entries(self, size: u64) -> u64 {
        size.div_ceil(self.l1_span())
    }

    /// Reference counts in a block.
    pub(super) const fn counts_per_block(self) -> u64 {
        1 << (self.cluster_bits + 3 - self.refcount_order)
    }

    /// The cluster that a byte lies in.
    pub(super) const fn index(self, offset: u64) -> u64 {
        offset >> self.cluster_bits
    }

    /// Clusters that hold so many bytes.
    pub(super) const fn clusters(self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster())
    }

    /// The byte's place in its cluster.
    pub(super) const fn within(self, offset: u64) -> u64 {
        offset & (self.cluster() - 1)
    }
}

/// Where the content of a guest cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mapping {
    /// In the backing file, or nowhere: zeroes.
    Unallocated,
    /// In a host cluster; `copied`: nobody else refers to that.
    Data { host: u64, copied: bool },
    /// Zeroes, whatever the backing file has; `host` is kept for it if it is not 0.
    Zero { host: u64, copied: bool },
    /// Compressed: first byte, and bytes up to the end of the last sector.
    Compressed { at: u64, length: u64 },
}

impl Mapping {
    /// Takes an L2 entry apart. `file_end` is the file's length, rounded up to clusters.
    pub(super) fn parse(entry: u64, geometry: Geometry, file_end: u64) -> Result<Self, Problem> {
        let corrupt = |what: &str| {
            let reason = format!("L2 entry {entry:#018x} {what}");
            Err(Problem::new(ImageErrorKind::Corrupt, reason))
        };
        if entry & COMPRESSED != 0 {
            let shift = 62 - (geometry.cluster_bits - 8);
            let at = entry & ((1 << shift) - 1);
            let sectors = ((entry & !(COMPRESSED | COPIED)) >> shift) + 1;
            let length = sectors * 512 - at % 512;
            if entry & COPIED != 0 {
                return corrupt("is compressed and says that it may be written in place");
            }
            if at >= file_end {
                return corrupt("points beyond the end of the file");
            }
            return Ok(Self::Compressed { at, length });
        }
        let host = entry & OFFSET;
        let copied = entry & COPIED != 0;
        let zero = entry & ZERO != 0;
        if entry & !(OFFSET | COPIED | ZERO) != 0 {
            return corrupt("has bits set that are reserved");
        }
        if zero && geometry.version < 3 {
            return corrupt("has the zero flag, which version 2 does not know");
        }
        if host == 0 {
            if copied {
                return corrupt("refers to the header");
            }
            return Ok(if zero { Self::Zero { host, copied } } else { Self::Unallocated });
        }
        if geometry.within(host) != 0 {
            return corrupt("points into the middle of a cluster");
        }
        if host >= file_end {
            return corrupt("points beyond the end of the file");
        }
        Ok(if zero { Self::Zero { host, copied } } else { Self::Data { host, copied } })
    }

    /// The entry for it.
    pub(super) const fn entry(self) -> u64 {
        match self {
            Self::Unallocated | Self::Compressed { .. } => 0,
            Self::Data { host, copied } => host | if copied { COPIED } else { 0 },
            Self::Zero { host, copied } => host | ZERO | if copied { COPIED } else { 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry = Geometry { cluster_bits: 16, refcount_order: 4, version: 3 };

    fn parse(entry: u64) -> Result<Mapping, ImageErrorKind> {
        Mapping::parse(entry, GEOMETRY, 1 << 30).map_err(|problem| problem.kind)
    }

    #[test]
    fn entries_are_what_the_specification_says() {
        assert_eq!(parse(0), Ok(Mapping::Unallocated));
        assert_eq!(parse(1), Ok(Mapping::Zero { host: 0, copied: false }));
        let host = 5 << 16;
        for (entry, mapping) in [
            (host | COPIED, Mapping::Data { host, copied: true }),
            (host, Mapping::Data { host, copied: false }),
            (host | COPIED | 1, Mapping::Zero { host, copied: true }),
        ] {
            assert_eq!((parse(entry), mapping.entry()), (Ok(mapping), entry));
        }
        // 64 KiB: 54 bits of offset, 8 bits of sectors.
        let compressed = COMPRESSED | 3 << 54 | 0x1_0300;
        assert_eq!(
            parse(compressed),
            Ok(Mapping::Compressed { at: 0x1_0300, length: 4 * 512 - 0x100 })
        );
        for bad in [
            COPIED,
            host | 2,
            host + 512,
            1 << 56 | host,
            1 << 30,
            COMPRESSED | COPIED | host,
            COMPRESSED | 1 << 30,
        ] {
            assert_eq!(parse(bad), Err(ImageErrorKind::Corrupt), "{bad:#x}");
        }
        let old = Geometry { version: 2, ..GEOMETRY };
        assert!(Mapping::parse(host | 1, old, 1 << 30).is_err());
    }

    #[test]
    fn geometry_follows_from_the_cluster_size() {
        assert_eq!(GEOMETRY.l1_span(), 512 << 20);
        assert_eq!(GEOMETRY.counts_per_block(), 32_768);
        assert_eq!(GEOMETRY.l1_entries(16 << 40), 32_768);
        let small = Geometry { cluster_bits: 9, refcount_order: 6, version: 3 };
        assert_eq!((small.l1_span(), small.counts_per_block()), (32_768, 64));
    }
}
