//! Opening an image: everything is checked that can be without reading all of its tables.

use arc_swap::ArcSwapOption;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::mem::replace;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, RwLock};

use super::entry::{COPIED, Geometry, L1_RESERVED, OFFSET};
use super::gates::{Gates, L1};
use super::header::{self, Header};
use super::owner::Owner;
use super::parent::Parent;
use super::{PIECE_BYTES, Problem, Qcow2Image};
use crate::block_file::BlockFile;
use crate::cache::TableCache;
use crate::chain::Chain;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::format::{ImageFormat, OpenOptions};

/// All snapshot tables and their L1 tables together, in bytes.
const MAX_SNAPSHOT_BYTES: u64 = 64 << 20;

/// A table of big-endian words in the file.
fn read_table(file: &dyn BlockFile, offset: u64, entries: u64) -> Result<Vec<u64>, ImageError> {
    let mut bytes = vec![0; usize::try_from(entries * 8).unwrap_or(usize::MAX)];
    file.read_at(&mut bytes, offset)?;
    let words = bytes.as_chunks::<8>().0.iter();
    Ok(words.map(|word| u64::from_be_bytes(*word)).collect())
}

/// An L1 table of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SnapshotTable {
    pub(super) offset: u64,
    pub(super) entries: u64,
}

/// What the tables at hand say, before it is an image.
pub(super) struct Layout {
    pub(super) header: Header,
    pub(super) geometry: Geometry,
    /// The file's length, rounded up to clusters.
    pub(super) file_end: u64,
    pub(super) l1: Vec<u64>,
    pub(super) counts: Vec<u64>,
    pub(super) snapshots: Vec<SnapshotTable>,
    /// Bytes of the table of snapshots.
    pub(super) snapshot_bytes: u64,
}

fn corrupt(reason: String) -> Problem {
    Problem::new(ImageErrorKind::Corrupt, reason)
}

impl Layout {
    /// Reads and checks what is needed of a file.
    pub(super) fn read(file: &dyn BlockFile) -> Result<Self, ImageError> {
        let path = file.path();
        let length = file.length()?;
        let refuse = |problem: Problem| problem.on(path);
        let mut first = vec![0; usize::try_from(length.min(512)).unwrap_or(0)];
        file.read_at(&mut first, 0)?;
        let wanted = Header::wanted(&first).map_err(refuse)?.min(length);
        first.resize(usize::try_from(wanted).unwrap_or(0), 0);
        file.read_at(&mut first, 0)?;
        let header = Header::parse(&first).map_err(refuse)?;
        let geometry = Geometry {
            cluster_bits: header.cluster_bits,
            refcount_order: header.refcount_order,
            version: header.version,
        };
        let file_end = length.next_multiple_of(geometry.cluster());
        let inside = |what: &str, offset: u64, bytes: u64| {
            let end = offset.checked_add(bytes);
            if offset >= geometry.cluster() && end.is_some_and(|end| end <= length) {
                return Ok(());
            }
            Err(corrupt(format!(
                "the {what} ({bytes} bytes at {offset:#x}) is not inside of the file's {length} bytes"
            ))
            .on(path))
        };
        let l1_entries = u64::from(header.l1_entries);
        if l1_entries > 0 {
            inside("L1 table", header.l1_offset, l1_entries * 8)?;
        }
        let count_bytes = u64::from(header.refcount_table_clusters) << header.cluster_bits;
        inside("reference count table", header.refcount_table_offset, count_bytes)?;
        let l1 = read_table(file, header.l1_offset, l1_entries)?;
        let counts = read_table(file, header.refcount_table_offset, count_bytes / 8)?;
        let (snapshots, snapshot_bytes) =
            read_snapshots(file, &header, length).map_err(|found| match found {
                Found::Problem(problem) => problem.on(path),
                Found::Error(error) => error,
            })?;
        Ok(Self { header, geometry, file_end, l1, counts, snapshots, snapshot_bytes })
    }

    /// The clusters that hold metadata, none of them twice.
    pub(super) fn metadata(&self) -> Result<HashSet<u64>, Problem> {
        let Self { header, geometry, .. } = self;
        let mut found = HashSet::with_capacity(self.l1.len() / 2 + self.counts.len() / 2);
        let mut add = |what: &dyn Fn() -> String, offset: u64, bytes: u64| {
            let start = geometry.index(offset);
            for cluster in start..start + geometry.clusters(bytes) {
                if !found.insert(cluster) {
                    let what = what();
                    return Err(corrupt(format!(
                        "the {what} overlaps other tables at {offset:#x}"
                    )));
                }
            }
            Ok(())
        };
        add(&|| "header".to_owned(), 0, geometry.cluster())?;
        let l1_bytes = u64::from(header.l1_entries) * 8;
        add(&|| "L1 table".to_owned(), header.l1_offset, l1_bytes)?;
        let bytes = u64::from(header.refcount_table_clusters) << header.cluster_bits;
        add(&|| "reference count table".to_owned(), header.refcount_table_offset, bytes)?;
        add(&|| "snapshot table".to_owned(), header.snapshots_offset, self.snapshot_bytes)?;
        for (n, snapshot) in self.snapshots.iter().enumerate() {
            let what = || format!("L1 table of snapshot {n}");
            add(&what, snapshot.offset, snapshot.entries * 8)?;
        }
        let place = |what: &dyn Fn() -> String, entry: u64, reserved: u64| {
            let offset = entry & OFFSET;
            if entry & reserved != 0 || geometry.within(offset) != 0 {
                return Err(corrupt(format!("{} is not valid: {entry:#018x}", what())));
            }
            if offset >= self.file_end {
                let what = what();
                return Err(corrupt(format!(
                    "{what} points beyond the end of the file: {entry:#018x}"
                )));
            }
            Ok(offset)
        };
        for (n, entry) in self.counts.iter().enumerate().filter(|(_, entry)| **entry != 0) {
            let what = || format!("entry {n} of the reference count table");
            let offset = place(&what, *entry, !OFFSET)?;
            add(&|| format!("block behind {}", what()), offset, geometry.cluster())?;
        }
        for (n, entry) in self.l1.iter().enumerate().filter(|(_, entry)| **entry != 0) {
            let what = || format!("entry {n} of the L1 table");
            let offset = place(&what, *entry, L1_RESERVED)?;
            if offset == 0 {
                return Err(corrupt(format!("entry {n} of the L1 table refers to the header")));
            }
            // A snapshot may have the same L2 table, but the disk has it once.
            add(&|| format!("L2 table behind {}", what()), offset, geometry.cluster())?;
        }
        Ok(found)
    }
}

enum Found {
    Problem(Problem),
    Error(ImageError),
}

impl From<ImageError> for Found {
    fn from(error: ImageError) -> Self {
        Self::Error(error)
    }
}

impl From<Problem> for Found {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// The L1 tables of the snapshots, and how long the table of snapshots is.
fn read_snapshots(
    file: &dyn BlockFile,
    header: &Header,
    length: u64,
) -> Result<(Vec<SnapshotTable>, u64), Found> {
    let mut found = Vec::new();
    let mut at = header.snapshots_offset;
    let mut total = 0;
    for n in 0..header.snapshots {
        let mut entry = [0; 40];
        let out_of_file = || corrupt(format!("snapshot {n} is not inside of the file"));
        if at.checked_add(40).is_none_or(|end| end > length) {
            return Err(out_of_file().into());
        }
        file.read_at(&mut entry, at)?;
        let number = |range: std::ops::Range<usize>| {
            let bytes = entry.get(range).unwrap_or_default();
            bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let table = SnapshotTable { offset: number(0..8), entries: number(8..12) };
        let bytes = 40 + number(36..40) + number(12..14) + number(14..16);
        at = at.saturating_add(bytes.next_multiple_of(8));
        total += bytes + table.entries * 8;
        if total > MAX_SNAPSHOT_BYTES {
            let reason = format!("snapshots take more than {MAX_SNAPSHOT_BYTES} bytes of tables");
            return Err(Problem::new(ImageErrorKind::Unsupported, reason).into());
        }
        let end = table.offset.checked_add(table.entries * 8);
        if !table.offset.is_multiple_of(1 << header.cluster_bits)
            || end.is_none_or(|end| end > length)
            || at > length.next_multiple_of(8)
        {
            return Err(out_of_file().into());
        }
        found.push(table);
    }
    Ok((found, at - header.snapshots_offset))
}

impl Qcow2Image {
    /// Opens the image in a file of any kind. A parent is not followed: what is there reads as
    /// zeroes, so such an image is opened for reading only, or refused.
    ///
    /// # Errors
    /// As [`crate::open_image`]; `Unsupported` if it has a parent and can be written.
    pub fn open_file(file: Arc<dyn BlockFile>, options: &OpenOptions) -> Result<Self, ImageError> {
        let layout = Layout::read(&*file).map_err(|error| error.during(Operation::Open))?;
        if layout.header.backing.is_some() && !file.is_read_only() {
            let reason = "a file that stands alone cannot have a parent";
            return Err(Problem::new(ImageErrorKind::Unsupported, reason).on(file.path()));
        }
        Self::assemble(file, layout, options, None)
    }

    /// Opens the image in a file, and its parents.
    pub(crate) fn open(
        file: Arc<dyn BlockFile>,
        options: &OpenOptions,
        chain: &Chain,
    ) -> Result<Self, ImageError> {
        let (mut file, mut options, mut chain) = (file, options.clone(), chain.clone());
        // Not one inside of the other: hundreds of images would need more stack than threads have.
        let mut above = Vec::new();
        let (layout, lowest) = loop {
            let layout = Layout::read(&*file).map_err(|error| error.during(Operation::Open))?;
            let Some(backing) = layout.header.backing.as_ref().filter(|_| chain.follows()) else {
                break (layout, None);
            };
            let path = file.path();
            let format =
                header::backing_format(&backing.format).map_err(|problem| problem.on(path))?;
            let mut link = chain.parent(path, &backing.name, format, &options)?;
            if link.format != ImageFormat::Qcow2 {
                break (layout, Some(Parent::of(link.open()?)));
            }
            let below: Arc<dyn BlockFile> = Arc::new(link.open_file()?);
            above.push((replace(&mut file, below), layout, replace(&mut options, link.options)));
            chain = link.chain;
        };
        let mut image = Self::assemble(file, layout, &options, lowest)?;
        while let Some((file, layout, options)) = above.pop() {
            let parent = Parent::of(Arc::new(image.with_journal()?));
            image = Self::assemble(file, layout, &options, Some(parent))?;
        }
        Ok(image)
    }

    pub(super) fn assemble(
        file: Arc<dyn BlockFile>,
        layout: Layout,
        options: &OpenOptions,
        parent: Option<Parent>,
    ) -> Result<Self, ImageError> {
        let read_only = file.is_read_only();
        let metadata = layout.metadata().map_err(|problem| problem.on(file.path()))?;
        let Layout { header, geometry, file_end, l1, counts, .. } = layout;
        let data_end = file.length()?;
        if !read_only {
            begin_to_write(&*file, &header, file_end)?;
        }
        let l1 = Arc::new(L1::new(l1.into_iter()));
        let piece = usize::try_from(geometry.cluster().min(PIECE_BYTES)).unwrap_or(4096);
        let end = file_end >> geometry.cluster_bits;
        let owner = Owner {
            l1: l1.clone(),
            l1_offset: header.l1_offset,
            l1_dirty: BTreeSet::new(),
            counts,
            counts_offset: header.refcount_table_offset,
            counts_dirty: BTreeSet::new(),
            end,
            length: file_end,
            free: BTreeMap::new(),
            unscanned: 0..end,
            released: Vec::new(),
            busy: Vec::new(),
        };
        Ok(Self {
            geometry,
            compression: header.compression,
            read_only,
            capacity: AtomicU64::new(header.size),
            size: AtomicU64::new(header.size.min(options.size_bytes.unwrap_or(header.size))),
            data_end: if read_only { data_end } else { u64::MAX },
            file_end: AtomicU64::new(file_end),
            gates: Gates::new(&l1),
            tables: TableCache::new(piece, &options.cache),
            metadata: RwLock::new(metadata),
            parent: ArcSwapOption::from(parent.map(Arc::new)),
            redo: None,
            decompressed: Mutex::default(),
            owner: Mutex::new(owner),
            idle: Condvar::new(),
            committing: Mutex::default(),
            resizing: Mutex::default(),
            commits_begun: AtomicU64::new(0),
            commits_done: AtomicU64::new(0),
            changed: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            file,
        })
    }
}

/// What has to be done before anything is written.
fn begin_to_write(file: &dyn BlockFile, header: &Header, end: u64) -> Result<(), ImageError> {
    let refuse = |reason: &str| Err(Problem::new(ImageErrorKind::Corrupt, reason).on(file.path()));
    if header.incompatible & header::INCOMPATIBLE_CORRUPT != 0 {
        return refuse("it is marked as corrupt; it can be opened for reading only");
    }
    if header.incompatible & header::INCOMPATIBLE_DIRTY != 0 {
        return refuse(
            "it is marked as dirty, so its reference counts may be wrong; `qemu-img check -r all` \
             counts anew",
        );
    }
    if header.autoclear != 0 {
        // Whoever knows these features must learn that somebody wrote who does not.
        file.write_at(&[0; 8], header::AUTOCLEAR_AT)?;
        file.flush()?;
    }
    if file.length()? != end {
        file.set_length(end)?;
    }
    Ok(())
}

/// Whether an L1 entry's table belongs to the disk alone.
pub(super) const fn is_private(entry: u64) -> bool {
    entry & COPIED != 0
}
