//! Checking an image that nobody uses: counts against references. The memory it takes is bounded:
//! large files are looked at in several passes.

use std::path::Path;
use std::sync::Arc;

use super::entry::{COPIED, Geometry, Mapping, OFFSET};
use super::open::Layout;
use super::owner::read_count;
use crate::block_file::BlockFile;
use crate::error::{ImageError, ImageErrorKind};
use crate::file::ImageFile;

/// Host clusters that one pass counts.
const WINDOW: u64 = 4 << 20;
/// Errors that are kept in words.
const MAX_ERRORS: usize = 32;

/// What a check has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Host clusters that are counted and that nobody refers to: lost space, no harm.
    pub leaked_clusters: u64,
    /// Bytes in one of them.
    pub cluster_bytes: u64,
    /// They have been freed.
    pub repaired: bool,
    /// Contradictions in all.
    pub error_count: u64,
    /// The first of them.
    pub errors: Vec<Finding>,
}

/// A contradiction that a check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The first byte of the disk that it concerns, if it is one of the disk's.
    pub offset: Option<u64>,
    /// What is wrong, as one clause.
    pub text: String,
}

impl CheckReport {
    pub(crate) fn error(&mut self, offset: Option<u64>, text: String) {
        self.error_count += 1;
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(Finding { offset, text });
        }
    }
}

/// Checks the image in `path`; `repair` frees leaked clusters if nothing else is wrong.
///
/// # Errors
/// `InUse` if somebody has it open; whatever keeps its tables from being read at all. What is wrong
/// with them stands in the report.
pub fn check(path: impl Into<Arc<Path>>, repair: bool) -> Result<CheckReport, ImageError> {
    let file = ImageFile::open(path, !repair)?;
    check_file(&file, repair)
}

/// The same for a file that is open, and that nobody else uses.
///
/// # Errors
/// As [`check`].
pub fn check_file(file: &dyn BlockFile, repair: bool) -> Result<CheckReport, ImageError> {
    let layout = Layout::read(file)?;
    let cluster_bytes = layout.geometry.cluster();
    let mut report = CheckReport { cluster_bytes, ..CheckReport::default() };
    if let Err(problem) = layout.metadata() {
        report.error(None, problem.reason);
    }
    let end = layout.geometry.index(layout.file_end);
    for start in (0..end).step_by(usize::try_from(WINDOW).unwrap_or(usize::MAX)) {
        let mut window = Window::new(file, &layout, start, (start + WINDOW).min(end));
        window.count(&mut report, start == 0)?;
        window.compare(&mut report)?;
        window.check_flags(&mut report)?;
    }
    // Bitmaps have clusters too, and are not read here.
    let sound = report.error_count == 0 && !layout.header.has_bitmaps;
    if layout.header.has_bitmaps {
        report.leaked_clusters = 0;
    }
    if repair && sound && report.leaked_clusters > 0 {
        for start in (0..end).step_by(usize::try_from(WINDOW).unwrap_or(usize::MAX)) {
            let mut window = Window::new(file, &layout, start, (start + WINDOW).min(end));
            window.count(&mut CheckReport::default(), false)?;
            window.repair()?;
        }
        file.flush()?;
        report.repaired = true;
    }
    Ok(report)
}

/// References to the host clusters from `start` on.
struct Window<'a> {
    file: &'a dyn BlockFile,
    layout: &'a Layout,
    start: u64,
    references: Vec<u32>,
}

impl<'a> Window<'a> {
    fn new(file: &'a dyn BlockFile, layout: &'a Layout, start: u64, end: u64) -> Self {
        let length = usize::try_from(end - start).unwrap_or(0);
        Self { file, layout, start, references: vec![0; length] }
    }

    fn get(&self, cluster: u64) -> Option<u32> {
        let index = usize::try_from(cluster.checked_sub(self.start)?).ok()?;
        self.references.get(index).copied()
    }

    /// Notes references to all clusters that have some of these bytes.
    fn refer(&mut self, offset: u64, length: u64) {
        if length == 0 {
            return;
        }
        let geometry = self.layout.geometry;
        let (first, last) = (geometry.index(offset), geometry.index(offset + length - 1));
        let end = self.start + self.references.len() as u64;
        for cluster in first.max(self.start)..(last + 1).min(end) {
            let index = usize::try_from(cluster - self.start).unwrap_or(usize::MAX);
            if let Some(count) = self.references.get_mut(index) {
                *count = count.saturating_add(1);
            }
        }
    }

    fn l2_table(&self, offset: u64) -> Result<Vec<u64>, ImageError> {
        let cluster = usize::try_from(self.layout.geometry.cluster()).unwrap_or(0);
        let mut bytes = vec![0; cluster];
        self.file.read_at(&mut bytes, offset)?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_be_bytes(*word)).collect())
    }

    /// Counts everything that refers to a cluster; `tell` says whether bad entries are reported.
    fn count(&mut self, report: &mut CheckReport, tell: bool) -> Result<(), ImageError> {
        let layout = self.layout;
        let (header, cluster) = (&layout.header, layout.geometry.cluster());
        self.refer(0, cluster);
        self.refer(header.l1_offset, layout.l1.len() as u64 * 8);
        let table_bytes = u64::from(header.refcount_table_clusters) * cluster;
        self.refer(header.refcount_table_offset, table_bytes);
        self.refer(header.snapshots_offset, layout.snapshot_bytes);
        for block in layout.counts.iter().filter(|block| **block != 0) {
            self.refer(*block & OFFSET, cluster);
        }
        self.count_l1(&layout.l1, "", report, tell)?;
        for (n, snapshot) in layout.snapshots.iter().enumerate() {
            self.refer(snapshot.offset, snapshot.entries * 8);
            let mut bytes = vec![0; usize::try_from(snapshot.entries * 8).unwrap_or(0)];
            self.file.read_at(&mut bytes, snapshot.offset)?;
            let l1 = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_be_bytes(*word));
            let l1: Vec<u64> = l1.collect();
            self.count_l1(&l1, &format!(" of snapshot {n}"), report, tell)?;
        }
        Ok(())
    }

    fn count_l1(
        &mut self,
        l1: &[u64],
        whose: &str,
        report: &mut CheckReport,
        tell: bool,
    ) -> Result<(), ImageError> {
        let layout = self.layout;
        let geometry = layout.geometry;
        for (n, entry) in l1.iter().enumerate() {
            let offset = entry & OFFSET;
            if offset == 0 {
                continue;
            }
            if geometry.within(offset) != 0 || offset + geometry.cluster() > layout.file_end {
                if tell {
                    let at = whose.is_empty().then(|| geometry.l1_span().saturating_mul(n as u64));
                    let text = format!("entry {n} of the L1 table{whose}: {entry:#018x}");
                    report.error(at, text);
                }
                continue;
            }
            self.refer(offset, geometry.cluster());
            for (m, entry) in self.l2_table(offset)?.into_iter().enumerate() {
                match Mapping::parse(entry, geometry, layout.file_end) {
                    Ok(Mapping::Unallocated | Mapping::Zero { host: 0, .. }) => {}
                    Ok(Mapping::Data { host, .. } | Mapping::Zero { host, .. }) => {
                        self.refer(host, geometry.cluster());
                    }
                    Ok(Mapping::Compressed { at, length }) => self.refer(at, length),
                    Err(problem) if tell => {
                        let reason = problem.reason;
                        let at = whose.is_empty().then(|| place(geometry, n, m));
                        report.error(at, format!("entry {m} of L2 table {n}{whose}: {reason}"));
                    }
                    Err(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Calls `look` with each reference count block, where it lies, and its first cluster.
    fn blocks(
        &self,
        mut look: impl FnMut(&mut Vec<u8>, u64, u64) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let geometry = self.layout.geometry;
        let per_block = geometry.counts_per_block();
        let end = self.start + self.references.len() as u64;
        let mut bytes = vec![0; usize::try_from(geometry.cluster()).unwrap_or(0)];
        for block in self.start / per_block..end.div_ceil(per_block) {
            let index = usize::try_from(block).unwrap_or(usize::MAX);
            let offset = self.layout.counts.get(index).copied().unwrap_or(0);
            let valid = offset != 0
                && geometry.within(offset) == 0
                && offset
                    .checked_add(geometry.cluster())
                    .is_some_and(|end| end <= self.layout.file_end);
            if valid {
                // The file of somebody else may end inside of its last cluster.
                let there = self.file.length()?.saturating_sub(offset).min(geometry.cluster());
                bytes.fill(0);
                let there = usize::try_from(there).unwrap_or(0);
                if let Some(bytes) = bytes.get_mut(..there) {
                    self.file.read_at(bytes, offset)?;
                }
            } else {
                bytes.fill(0);
            }
            look(&mut bytes, if valid { offset } else { 0 }, block * per_block)?;
        }
        Ok(())
    }

    /// The clusters of a block that are in this window, each with its bit in the block.
    fn places(&self, first: u64) -> impl Iterator<Item = (u64, usize)> + use<'_> {
        let geometry = self.layout.geometry;
        let end = self.start + self.references.len() as u64;
        let last = (first + geometry.counts_per_block()).min(end);
        (first.max(self.start)..last).map(move |cluster| {
            let bit = (cluster - first) << geometry.refcount_order;
            (cluster, usize::try_from(bit).unwrap_or(usize::MAX))
        })
    }

    fn compare(&self, report: &mut CheckReport) -> Result<(), ImageError> {
        let order = self.layout.geometry.refcount_order;
        self.blocks(|bytes, _, first| {
            for (cluster, bit) in self.places(first) {
                let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
                let count = read_count(byte, bit, order);
                let references = u64::from(self.get(cluster).unwrap_or(0));
                if count > references {
                    report.leaked_clusters += 1;
                } else if count < references {
                    let text = format!(
                        "cluster {cluster} is referred to {references} times, and counted {count}"
                    );
                    report.error(None, text);
                }
            }
            Ok(())
        })
    }

    /// "May be written in place" must mean that nobody else refers to it.
    fn check_flags(&self, report: &mut CheckReport) -> Result<(), ImageError> {
        let geometry = self.layout.geometry;
        let mut flag = |what: String, at: u64, host: u64, copied: bool| {
            let Some(references) = self.get(geometry.index(host)) else { return };
            if copied && references != 1 {
                let text = format!("{what} may be written in place, with {references} references");
                report.error(Some(at), text);
            }
        };
        for (n, entry) in self.layout.l1.iter().enumerate() {
            let offset = entry & OFFSET;
            if offset == 0 || offset + geometry.cluster() > self.layout.file_end {
                continue;
            }
            flag(format!("L2 table {n}"), place(geometry, n, 0), offset, entry & COPIED != 0);
            for (m, entry) in self.l2_table(offset)?.into_iter().enumerate() {
                match Mapping::parse(entry, geometry, self.layout.file_end) {
                    Ok(Mapping::Data { host, copied } | Mapping::Zero { host, copied })
                        if host != 0 =>
                    {
                        flag(
                            format!("entry {m} of L2 table {n}"),
                            place(geometry, n, m),
                            host,
                            copied,
                        );
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn repair(&self) -> Result<(), ImageError> {
        let order = self.layout.geometry.refcount_order;
        self.blocks(|bytes, offset, first| {
            let mut changed = false;
            for (cluster, bit) in self.places(first) {
                let count = read_count(|at| bytes.get(at).copied().unwrap_or(0), bit, order);
                let references = u64::from(self.get(cluster).unwrap_or(0));
                if count > references {
                    put_count(bytes, bit, order, references);
                    changed = true;
                }
            }
            if changed && offset == 0 {
                let error = ImageError::new(
                    ImageErrorKind::Corrupt,
                    crate::error::Operation::Write,
                    self.file.path().clone(),
                );
                return Err(error);
            }
            if changed { self.file.write_at(bytes, offset) } else { Ok(()) }
        })
    }
}

/// The first byte of the disk that an entry of an L2 table stands for.
fn place(geometry: Geometry, table: usize, entry: usize) -> u64 {
    let (table, entry) = (table as u64, entry as u64);
    let cluster = entry.saturating_mul(geometry.cluster());
    geometry.l1_span().saturating_mul(table).saturating_add(cluster)
}

/// Writes a count into the bytes of a block, from its first bit on.
pub(super) fn put_count(bytes: &mut [u8], bit: usize, order: u32, count: u64) {
    let all = count.to_be_bytes();
    if order < 3 {
        let mask = ((1_u8 << (1 << order)) - 1) << (bit % 8);
        if let (Some(byte), [.., last]) = (bytes.get_mut(bit / 8), all) {
            *byte = *byte & !mask | last << (bit % 8) & mask;
        }
        return;
    }
    let length = 1_usize << (order - 3);
    let place = bytes.get_mut(bit / 8..bit / 8 + length);
    if let (Some(place), Some(value)) = (place, all.get(8 - length..)) {
        place.copy_from_slice(value);
    }
}
