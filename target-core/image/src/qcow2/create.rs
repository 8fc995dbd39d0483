//! New images.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::check::put_count;
use super::entry::Geometry;
use super::header::{self, Backing, Compression, Header};
use super::{Problem, Qcow2Image};
use crate::block_file::BlockFile;
use crate::chain::Chain;
use crate::create::{
    CreateOptions, Creator, Preallocation, Progress, check_space, give_name, open_partial,
    partial_path,
};
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::file::ImageFile;
use crate::format::OpenOptions;
use crate::image::{BlockState, Image as _};
use crate::pool::{MissingFile, delete};

/// 64 KiB, as QEMU has it.
const DEFAULT_CLUSTER_BITS: u32 = 16;

/// The metadata of a new image, from its first byte on.
fn new_image(options: &CreateOptions) -> Result<Vec<u8>, Problem> {
    new_image_of(options, geometry(options)?)
}

/// Writes a new image into an empty file.
pub(crate) fn write_new(file: &ImageFile, options: &CreateOptions) -> Result<(), ImageError> {
    let refuse = |problem: Problem| problem.on(file.path()).during(Operation::Create);
    file.write_at(&new_image(options).map_err(refuse)?, 0)
}

/// The same with counts of another width.
pub(super) fn new_image_of(
    options: &CreateOptions,
    geometry: Geometry,
) -> Result<Vec<u8>, Problem> {
    let cluster = geometry.cluster();
    let entries = geometry.l1_entries(options.size_bytes);
    let l1_clusters = geometry.clusters(entries * 8).max(1);
    // The table has room for the counts of a disk that is full.
    let data = geometry.clusters(options.size_bytes);
    let most = data + data / (cluster / 8) + entries + l1_clusters + 1024;
    let blocks = most.div_ceil(geometry.counts_per_block());
    let table_bytes = (blocks * 8 + blocks / 64).clamp(1, header::MAX_REFCOUNT_TABLE_BYTES);
    let table_clusters = geometry.clusters(table_bytes);
    let mut count_blocks = 1;
    while (1 + table_clusters + count_blocks + l1_clusters).div_ceil(geometry.counts_per_block())
        > count_blocks
    {
        count_blocks += 1;
    }
    let first_block = 1 + table_clusters;
    let l1_at = first_block + count_blocks;
    let used = l1_at + l1_clusters;
    let header = Header {
        version: 3,
        cluster_bits: geometry.cluster_bits,
        size: options.size_bytes,
        l1_entries: u32::try_from(entries).unwrap_or(0),
        l1_offset: l1_at * cluster,
        refcount_table_offset: cluster,
        refcount_table_clusters: u32::try_from(table_clusters).unwrap_or(0),
        snapshots: 0,
        snapshots_offset: 0,
        incompatible: 0,
        autoclear: 0,
        refcount_order: geometry.refcount_order,
        compression: Compression::Deflate,
        backing: backing(options)?,
        has_bitmaps: false,
    };
    let mut out = header.emit()?;
    let table = (0..count_blocks).flat_map(|n| ((first_block + n) * cluster).to_be_bytes());
    out.extend(table);
    let size = |clusters: u64| usize::try_from(clusters * cluster).unwrap_or(usize::MAX);
    out.resize(size(first_block), 0);
    let mut blocks = vec![0; size(count_blocks)];
    for cluster in 0..used {
        let bit = usize::try_from(cluster << geometry.refcount_order).unwrap_or(usize::MAX);
        put_count(&mut blocks, bit, geometry.refcount_order, 1);
    }
    out.extend(blocks);
    out.resize(size(used), 0);
    Ok(out)
}

pub(super) fn geometry(options: &CreateOptions) -> Result<Geometry, Problem> {
    let cluster_bits = match options.block_bytes {
        None => DEFAULT_CLUSTER_BITS,
        Some(bytes) if bytes.is_power_of_two() => bytes.trailing_zeros(),
        Some(_) => 0,
    };
    let refuse = |reason: String| Err(Problem::new(ImageErrorKind::Unsupported, reason));
    if !header::CLUSTER_BITS.contains(&cluster_bits) {
        return refuse("a cluster has a power of two of bytes from 512 to 2097152".to_owned());
    }
    let geometry = Geometry { cluster_bits, refcount_order: 4, version: 3 };
    let most = header::MAX_L1_BYTES / 8 * geometry.l1_span().min(1 << 41);
    if options.size_bytes > most {
        return refuse(format!("a qcow2 disk with clusters of this size has at most {most} bytes"));
    }
    Ok(geometry)
}

fn backing(options: &CreateOptions) -> Result<Option<Backing>, Problem> {
    let Some(parent) = &options.parent else { return Ok(None) };
    let refuse = |reason: &str| Err(Problem::new(ImageErrorKind::Unsupported, reason));
    if options.preallocation == Preallocation::Full {
        return refuse("a disk that is based on a parent is thin");
    }
    let Some(name) = parent.path.to_str() else {
        return refuse("the path of the parent is no UTF-8 text");
    };
    Ok(Some(Backing::new(name, parent.format)))
}

/// What is wrong with options for a new image.
pub(crate) fn check_create(options: &CreateOptions) -> Result<(), String> {
    geometry(options).and_then(|_| backing(options)).map(|_| ()).map_err(|problem| problem.reason)
}

/// A qcow2 image being made.
#[derive(Debug)]
pub(crate) struct Qcow2Creator {
    image: Qcow2Image,
    path: Arc<Path>,
    partial: PathBuf,
    options: CreateOptions,
    done: u64,
}

impl Qcow2Creator {
    /// Starts to create `path`, or goes on with the partial file that an earlier run left.
    pub(crate) fn begin(path: Arc<Path>, options: CreateOptions) -> Result<Self, ImageError> {
        let refuse = |problem: Problem| problem.on(&path).during(Operation::Create);
        let start = new_image(&options).map_err(refuse)?;
        let partial = partial_path(&path);
        let file: Arc<ImageFile> = open_partial(&path)?.into();
        let is_full = options.preallocation == Preallocation::Full;
        if is_full && let Some((image, done)) = go_on(&file, &options) {
            let creator = Self { image, path, partial, options, done };
            creator.check_space()?;
            return Ok(creator);
        }
        let failed = |error: ImageError| error.during(Operation::Create);
        file.set_length(0).map_err(failed)?;
        file.write_at(&start, 0).map_err(failed)?;
        let image = open(&file).map_err(failed)?;
        let creator = Self { image, path, partial, options, done: 0 };
        creator.check_space()?;
        Ok(creator)
    }

    fn check_space(&self) -> Result<(), ImageError> {
        if self.options.preallocation == Preallocation::Sparse {
            return Ok(());
        }
        check_space(&self.path, self.options.size_bytes, self.done, &self.partial)
    }
}

/// The parent is not needed for making the image, and may be in use.
fn open(file: &Arc<ImageFile>) -> Result<Qcow2Image, ImageError> {
    let file: Arc<dyn BlockFile> = file.clone();
    Qcow2Image::open_alone(file, &OpenOptions::default())
}

/// What an earlier run has made, if it was to be the same.
fn go_on(file: &Arc<ImageFile>, options: &CreateOptions) -> Option<(Qcow2Image, u64)> {
    let image = open(file).ok()?;
    let size = options.size_bytes;
    let same = image.size_bytes() == size && Some(image.geometry) == geometry(options).ok();
    if !same || size == 0 {
        return None;
    }
    let mut done = 0;
    while done < size {
        let extent = image.block_status(done, size - done).ok()?;
        if extent.state == BlockState::Deallocated {
            break;
        }
        done += extent.length;
    }
    Some((image, done))
}

impl Creator for Qcow2Creator {
    fn progress(&self) -> Progress {
        Progress { done: self.done, total: self.options.size_bytes }
    }

    fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError> {
        let left = self.options.size_bytes - self.done;
        match self.options.preallocation {
            Preallocation::Sparse => self.done = self.options.size_bytes,
            Preallocation::Full => {
                let count = left.min(max_bytes.max(1));
                self.image
                    .write_zeroes(self.done, count, false)
                    .and_then(|()| self.image.flush())
                    .map_err(|error| error.during(Operation::Create))?;
                self.done += count;
            }
        }
        Ok(self.progress())
    }

    fn finish(self: Box<Self>) -> Result<(), ImageError> {
        if !self.progress().is_complete() {
            let kind = ImageErrorKind::Cancelled;
            return Err(ImageError::new(kind, Operation::Create, self.path.clone()));
        }
        let synced = self.image.commit().and_then(|()| self.image.file.flush());
        synced.map_err(|error| error.during(Operation::Create))?;
        give_name(&self.partial, &self.path)
    }

    fn abort(self: Box<Self>) -> Result<(), ImageError> {
        delete(&self.partial, MissingFile::Tolerate)
    }
}

impl Qcow2Image {
    /// Opens an image without its parent: for whoever touches no data.
    pub(super) fn open_alone(
        file: Arc<dyn BlockFile>,
        options: &OpenOptions,
    ) -> Result<Self, ImageError> {
        Self::open(file, options, &Chain::without_parents())
    }
}
