//! The header of a qcow2 file, its extensions and feature bits (QEMU's docs/interop/qcow2).

use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::format::ImageFormat;

use super::Problem;

pub(crate) const MAGIC: u32 = 0x5146_49fb;
const V2_LENGTH: u64 = 72;
const V3_LENGTH: u64 = 104;
/// Cluster sizes that QEMU has too: 512 bytes to 2 MiB.
pub(crate) const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// The largest tables that QEMU opens, in bytes.
pub(crate) const MAX_L1_BYTES: u64 = 32 << 20;
pub(crate) const MAX_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;
const MAX_SNAPSHOTS: u32 = 65_536;
const MAX_BACKING_NAME: u64 = 1023;

const END: u32 = 0;
const BACKING_FORMAT: u32 = 0xe279_2aca;
const FEATURE_NAMES: u32 = 0x6803_f857;
const BITMAPS: u32 = 0x2385_2875;

pub(crate) const INCOMPATIBLE_DIRTY: u64 = 1;
pub(crate) const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
const INCOMPATIBLE_DATA_FILE: u64 = 1 << 2;
const INCOMPATIBLE_COMPRESSION: u64 = 1 << 3;
const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;

/// Where fields that are changed in place lie.
pub(crate) const SIZE_AT: u64 = 24;
pub(crate) const L1_AT: u64 = 36;
pub(crate) const REFCOUNT_TABLE_AT: u64 = 48;
pub(crate) const AUTOCLEAR_AT: u64 = 88;

/// How clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Raw deflate.
    Deflate,
    /// Zstandard frames.
    Zstd,
}

/// The image that unallocated clusters show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backing {
    /// As it is written in the file.
    pub(crate) name: String,
    pub(crate) format: String,
}

impl Backing {
    pub(crate) fn new(name: &str, format: ImageFormat) -> Self {
        // QEMU has another name for VHD.
        let format = if format == ImageFormat::Vhd { "vpc" } else { format.name() };
        Self { name: name.to_owned(), format: format.to_owned() }
    }
}

/// The first bytes of an image that has a parent, with another one named in it: as many as are to be
/// written anew. All that lies in front of the extensions stays.
pub(crate) fn rebased(first: &[u8], backing: &Backing) -> Result<Vec<u8>, Problem> {
    let header = Header::parse(first)?;
    if header.backing.is_none() {
        return Err(unsupported("the image has no parent that could be another one"));
    }
    let length = if header.version == 2 { V2_LENGTH } else { u64::from(be32(first, 100)) };
    let end = be64(first, 8).min(1 << header.cluster_bits);
    let mut out = slice(first, 0, length).unwrap_or_default().to_vec();
    extension(&mut out, BACKING_FORMAT, backing.format.as_bytes());
    let mut at = length;
    while at + 8 <= end {
        let Some(head) = slice(first, at, 8) else { break };
        let (kind, length) = (be32(head, 0), u64::from(be32(head, 4)));
        if kind == END {
            break;
        }
        if kind != BACKING_FORMAT {
            extension(&mut out, kind, slice(first, at + 8, length).unwrap_or_default());
        }
        at += 8 + length.next_multiple_of(8);
    }
    out.extend_from_slice(&[0; 8]);
    put_name(&mut out, &backing.name)?;
    if out.len() > 1_usize << header.cluster_bits {
        return Err(unsupported("the header does not fit one cluster"));
    }
    out.resize(out.len().next_multiple_of(512), 0);
    Ok(out)
}

fn extension(out: &mut Vec<u8>, kind: u32, data: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&u32::try_from(data.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(8), 0);
}

/// The name of the parent, and where it is.
fn put_name(out: &mut Vec<u8>, name: &str) -> Result<(), Problem> {
    let at = u64::try_from(out.len()).unwrap_or(0);
    let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(name.as_bytes());
    if let Some(place) = out.get_mut(8..16) {
        place.copy_from_slice(&at.to_be_bytes());
    }
    if let Some(place) = out.get_mut(16..20) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    if u64::from(length) > MAX_BACKING_NAME {
        return Err(unsupported("the path of the parent has more than 1023 bytes"));
    }
    Ok(())
}

/// What a header says, checked as far as that goes without the rest of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) cluster_bits: u32,
    pub(crate) size: u64,
    pub(crate) l1_entries: u32,
    pub(crate) l1_offset: u64,
    pub(crate) refcount_table_offset: u64,
    pub(crate) refcount_table_clusters: u32,
    pub(crate) snapshots: u32,
    pub(crate) snapshots_offset: u64,
    pub(crate) incompatible: u64,
    pub(crate) autoclear: u64,
    pub(crate) refcount_order: u32,
    pub(crate) compression: Compression,
    pub(crate) backing: Option<Backing>,
    pub(crate) has_bitmaps: bool,
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or(0, u32::from_be_bytes)
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
    word.map_or(0, u64::from_be_bytes)
}

fn slice(bytes: &[u8], start: u64, length: u64) -> Option<&[u8]> {
    let end = usize::try_from(start.checked_add(length)?).ok()?;
    bytes.get(usize::try_from(start).ok()?..end)
}

fn invalid(reason: impl Into<String>) -> Problem {
    Problem::new(ImageErrorKind::InvalidFormat, reason)
}

fn corrupt(reason: impl Into<String>) -> Problem {
    Problem::new(ImageErrorKind::Corrupt, reason)
}

fn unsupported(reason: impl Into<String>) -> Problem {
    Problem::new(ImageErrorKind::Unsupported, reason)
}

impl Header {
    /// How many bytes [`Self::parse`] wants of a file that begins like this: its first cluster.
    pub(crate) fn wanted(first: &[u8]) -> Result<u64, Problem> {
        if be32(first, 0) != MAGIC {
            return Err(invalid("the file does not begin with the mark of qcow2"));
        }
        let bits = be32(first, 20);
        if !CLUSTER_BITS.contains(&bits) {
            return Err(unsupported(format!("clusters have 2^{bits} bytes, and not 2^9 to 2^21")));
        }
        Ok(1 << bits)
    }

    /// Parses the first cluster, or as much of it as there is.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let cluster = Self::wanted(bytes)?;
        let version = be32(bytes, 4);
        if !(2..=3).contains(&version) {
            return Err(unsupported(format!("version {version} of the format is not known")));
        }
        let length = if version == 2 { V2_LENGTH } else { u64::from(be32(bytes, 100)) };
        let least = if version == 2 { V2_LENGTH } else { V3_LENGTH };
        if length < least || length > cluster || !length.is_multiple_of(8) {
            return Err(corrupt(format!("the header says that it has {length} bytes")));
        }
        if slice(bytes, 0, length).is_none() {
            return Err(corrupt("the file ends inside of the header"));
        }
        if be32(bytes, 32) != 0 {
            return Err(unsupported("the image is encrypted"));
        }
        let field = |at: usize| if version == 2 { 0 } else { be64(bytes, at) };
        let mut header = Self {
            version,
            cluster_bits: be32(bytes, 20),
            size: be64(bytes, 24),
            l1_entries: be32(bytes, 36),
            l1_offset: be64(bytes, 40),
            refcount_table_offset: be64(bytes, 48),
            refcount_table_clusters: be32(bytes, 56),
            snapshots: be32(bytes, 60),
            snapshots_offset: be64(bytes, 64),
            incompatible: field(72),
            autoclear: field(88),
            refcount_order: if version == 2 { 4 } else { be32(bytes, 96) },
            compression: Compression::Deflate,
            backing: None,
            has_bitmaps: false,
        };
        let extensions = Extensions::parse(bytes, length, be64(bytes, 8), cluster)?;
        header.has_bitmaps = extensions.has_bitmaps;
        header.check_features(&extensions)?;
        if header.incompatible & INCOMPATIBLE_COMPRESSION != 0 {
            header.compression = match bytes.get(104) {
                Some(1) if length > V3_LENGTH => Compression::Zstd,
                Some(other) if length > V3_LENGTH => {
                    return Err(unsupported(format!("compression type {other} is not known")));
                }
                _ => return Err(corrupt("the compression type is missing")),
            };
        }
        header.backing = backing(bytes, length, cluster, extensions.backing_format)?;
        header.check_places(cluster)?;
        Ok(header)
    }

    fn check_features(&self, extensions: &Extensions) -> Result<(), Problem> {
        let refused = [
            (INCOMPATIBLE_DATA_FILE, "the data is in another file (external data file)"),
            (INCOMPATIBLE_EXTENDED_L2, "the image has subclusters (extended L2 entries)"),
        ];
        for (bit, reason) in refused {
            if self.incompatible & bit != 0 {
                return Err(unsupported(reason));
            }
        }
        let unknown = self.incompatible
            & !(INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT | INCOMPATIBLE_COMPRESSION);
        if unknown != 0 {
            let bit = unknown.trailing_zeros();
            let named = extensions.incompatible_names.iter().find(|(other, _)| *other == bit);
            let name = named.map_or_else(String::new, |(_, name)| format!(", `{name}`"));
            return Err(unsupported(format!(
                "the image needs a feature that is not known here: incompatible bit {bit}{name}"
            )));
        }
        if self.refcount_order > 6 {
            let order = self.refcount_order;
            return Err(unsupported(format!("reference counts have 2^{order} bits, more than 64")));
        }
        Ok(())
    }

    fn check_places(&self, cluster: u64) -> Result<(), Problem> {
        let aligned = |what: &str, offset: u64| {
            if offset.is_multiple_of(cluster) {
                return Ok(());
            }
            Err(corrupt(format!("the {what} is at {offset:#x}, inside of a cluster")))
        };
        aligned("L1 table", self.l1_offset)?;
        aligned("reference count table", self.refcount_table_offset)?;
        if self.snapshots > 0 {
            aligned("snapshot table", self.snapshots_offset)?;
        }
        if self.snapshots > MAX_SNAPSHOTS {
            let count = self.snapshots;
            return Err(unsupported(format!("{count} snapshots are more than {MAX_SNAPSHOTS}")));
        }
        let l1_bytes = u64::from(self.l1_entries) * 8;
        if l1_bytes > MAX_L1_BYTES {
            return Err(unsupported(format!("an L1 table of {l1_bytes} bytes is too large")));
        }
        let table_bytes = u64::from(self.refcount_table_clusters) * cluster;
        if table_bytes > MAX_REFCOUNT_TABLE_BYTES.max(cluster) || table_bytes == 0 {
            return Err(unsupported(format!(
                "a reference count table of {table_bytes} bytes is not possible"
            )));
        }
        let covered = u128::from(self.l1_entries) * u128::from(cluster) * u128::from(cluster / 8);
        if u128::from(self.size) > covered {
            let (size, entries) = (self.size, self.l1_entries);
            return Err(corrupt(format!(
                "a disk of {size} bytes does not fit an L1 table of {entries} entries"
            )));
        }
        if i64::try_from(self.size).is_err() {
            return Err(unsupported(format!("a disk of {} bytes is too large", self.size)));
        }
        Ok(())
    }

    /// The first cluster of a new image of version 3.
    pub(crate) fn emit(&self) -> Result<Vec<u8>, Problem> {
        let cluster = 1_usize << self.cluster_bits;
        let mut out = Vec::with_capacity(512);
        let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
        put(&MAGIC.to_be_bytes());
        put(&3_u32.to_be_bytes());
        put(&[0; 12]);
        put(&self.cluster_bits.to_be_bytes());
        put(&self.size.to_be_bytes());
        put(&0_u32.to_be_bytes());
        put(&self.l1_entries.to_be_bytes());
        put(&self.l1_offset.to_be_bytes());
        put(&self.refcount_table_offset.to_be_bytes());
        put(&self.refcount_table_clusters.to_be_bytes());
        put(&[0; 12]);
        put(&self.incompatible.to_be_bytes());
        put(&0_u64.to_be_bytes());
        put(&0_u64.to_be_bytes());
        put(&self.refcount_order.to_be_bytes());
        put(&112_u32.to_be_bytes());
        put(&[u8::from(self.compression == Compression::Zstd), 0, 0, 0, 0, 0, 0, 0]);
        if let Some(backing) = &self.backing {
            extension(&mut out, BACKING_FORMAT, backing.format.as_bytes());
        }
        out.extend_from_slice(&[0; 8]);
        if let Some(backing) = &self.backing {
            put_name(&mut out, &backing.name)?;
        }
        if out.len() > cluster {
            return Err(unsupported("the header does not fit one cluster"));
        }
        out.resize(cluster, 0);
        Ok(out)
    }
}

fn backing(
    bytes: &[u8],
    length: u64,
    cluster: u64,
    format: Option<String>,
) -> Result<Option<Backing>, Problem> {
    let (at, count) = (be64(bytes, 8), u64::from(be32(bytes, 16)));
    if at == 0 {
        return Ok(None);
    }
    let inside = at >= length && at.checked_add(count).is_some_and(|end| end <= cluster);
    if !inside || count == 0 || count > MAX_BACKING_NAME {
        return Err(corrupt(format!("the backing file's name is at {at:#x}, {count} bytes")));
    }
    let name = slice(bytes, at, count).and_then(|name| std::str::from_utf8(name).ok());
    let Some(name) = name.filter(|name| !name.contains('\0')) else {
        return Err(unsupported("the backing file's name is no UTF-8 text"));
    };
    let Some(format) = format else {
        return Err(unsupported(format!(
            "the format of the backing file `{name}` is not written down, and guessing it is not \
             safe; `qemu-img rebase -u -F` writes it"
        )));
    };
    Ok(Some(Backing { name: name.to_owned(), format }))
}

/// The header extensions that matter.
#[derive(Debug, Default)]
struct Extensions {
    backing_format: Option<String>,
    incompatible_names: Vec<(u32, String)>,
    has_bitmaps: bool,
}

impl Extensions {
    fn parse(
        bytes: &[u8],
        header_length: u64,
        backing_at: u64,
        cluster: u64,
    ) -> Result<Self, Problem> {
        let mut found = Self::default();
        let end = if backing_at == 0 { cluster } else { backing_at.min(cluster) };
        let mut at = header_length;
        while at + 8 <= end {
            let Some(head) = slice(bytes, at, 8) else { break };
            let (kind, length) = (be32(head, 0), u64::from(be32(head, 4)));
            if kind == END {
                break;
            }
            at += 8;
            if at + length > end {
                return Err(corrupt(format!("header extension {kind:#010x} is too long")));
            }
            let Some(data) = slice(bytes, at, length) else {
                return Err(corrupt("the file ends inside of the header extensions"));
            };
            match kind {
                BACKING_FORMAT => {
                    found.backing_format = Some(String::from_utf8_lossy(data).into_owned());
                }
                FEATURE_NAMES => found.names(data),
                BITMAPS => found.has_bitmaps = true,
                // The rest may be ignored, says the specification.
                _ => {}
            }
            at += length.next_multiple_of(8);
        }
        Ok(found)
    }

    fn names(&mut self, table: &[u8]) {
        for entry in table.chunks_exact(48) {
            let (Some(0), Some(bit), Some(name)) = (entry.first(), entry.get(1), entry.get(2..))
            else {
                continue;
            };
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            let name = String::from_utf8_lossy(name);
            let shown = name.chars().filter(|c| !c.is_control()).collect();
            self.incompatible_names.push((u32::from(*bit), shown));
        }
    }
}

/// The format behind a name in a backing format extension.
pub(crate) fn backing_format(name: &str) -> Result<ImageFormat, Problem> {
    name.parse().map_err(|_| {
        unsupported(format!("the backing file's format is `{name}`, which cannot be read here"))
    })
}

impl Problem {
    /// As an error about opening `path`.
    pub(crate) fn on(self, path: &std::sync::Arc<std::path::Path>) -> ImageError {
        ImageError::new(self.kind, Operation::Open, path.clone()).because(self.reason)
    }
}

#[cfg(test)]
mod tests;
