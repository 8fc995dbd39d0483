//! Which blocks of a disk have changed between two of its snapshots, or since one: for backups.

use std::io::IoSliceMut;
use std::sync::Arc;
use std::time::{Duration, Instant};

use disk_image::{
    BlockState, Image, ImageError, ImageFormat, Layers, OpenOptions, Own, Wait, open_image,
};

use super::Engine;
use super::state::State;
use crate::catalogue::DiskSnapshot;
use crate::error::{Cause, RequestError};
use crate::id::{DiskId, SnapshotId};

/// One answer takes no longer than about this.
const BUDGET: Duration = Duration::from_secs(2);
/// Compared at once; what differs is told in these units.
const PIECE: u64 = 64 << 10;

/// A run of bytes that may differ from what they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangedExtent {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// It reads as zeroes now, without being read.
    pub zeroes: bool,
}

/// Changed blocks, a page of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedBlocks {
    /// Size of the disk in bytes: that of the newer of the two.
    pub size_bytes: u64,
    /// In order, none next to another one of its kind.
    pub extents: Vec<ChangedExtent>,
    /// Where the next page begins, if there is one.
    pub next: Option<u64>,
}

/// An image, and where it stands in the tree.
struct Point {
    image: Arc<dyn Image>,
    size: u64,
}

impl Engine {
    /// What has changed from a snapshot to another one of the disk, or to the disk as it is now (which
    /// may change while it is looked at): from byte `from` on, at most `limit` extents. What is not
    /// listed is the same in both; what is listed may be the same too. Where images are laid over each
    /// other their tables tell; elsewhere the data are compared.
    ///
    /// # Errors
    /// `NotFound`, `BadValue` for snapshots that have nothing to do with the disk; as opening and
    /// reading the images.
    pub fn changes(
        &self,
        disk: DiskId,
        until: Option<SnapshotId>,
        since: SnapshotId,
        (from, limit): (u64, usize),
    ) -> Result<ChangedBlocks, RequestError> {
        let refuse = |cause: Cause| self.shared.refuse(cause, None);
        let failed = |error: ImageError| refuse(Cause::from(&error));
        let found = self.pair(disk, until, since).map_err(refuse)?;
        let (until, since, is_above) = found;
        let newer = self.open_point(&until).map_err(failed)?;
        let page = if is_above {
            let older = since.path.as_path();
            let layers = Layers::above(newer.image.clone(), older).map_err(failed)?;
            collect(newer.size, from, limit, |at, left| {
                let layer = layers.at(at, left)?;
                Ok((layer.own, layer.length))
            })
        } else {
            let older = self.open_point(&since).map_err(failed)?;
            let mut buffers = (Vec::new(), Vec::new());
            collect(newer.size, from, limit, |at, left| {
                compare(&newer, &older, at, left, &mut buffers)
            })
        };
        page.map_err(failed)
    }

    /// The two, and whether the one is laid over the other.
    fn pair(
        &self,
        disk: DiskId,
        until: Option<SnapshotId>,
        since: SnapshotId,
    ) -> Result<(Which, Which, bool), Cause> {
        let state = self.shared.state.lock();
        let older = visible(&state, since)?;
        let newer = until.map(|id| visible(&state, id)).transpose()?;
        let found = state
            .disks
            .get(&disk)
            .ok_or_else(|| Cause::NotFound { what: "disk".to_owned(), name: disk.to_string() })?;
        let parent = newer.as_ref().map_or(found.parent, |newer| newer.parent);
        let below = state.line(parent);
        let is_above = below.iter().any(|it| it.id == older.id);
        let is_same = newer.as_ref().is_some_and(|newer| newer.id == older.id);
        let owner = newer.as_ref().map_or(disk, |newer| newer.disk);
        if is_same || (older.disk != owner && !is_above) {
            let reason = format!("snapshot {} is not of the same disk, and older", older.name);
            return Err(Cause::BadValue { property: "since".to_owned(), reason });
        }
        let format = |of: DiskId| state.disks.get(&of).map_or(ImageFormat::Raw, |disk| disk.format);
        let of_snapshot = |it: &DiskSnapshot| Which {
            live: None,
            path: it.path.clone(),
            format: it.format.unwrap_or_else(|| format(it.disk)),
            size: it.size_bytes,
        };
        let newer = newer.as_ref().map_or_else(
            || Which {
                live: Some(disk),
                path: found.path.clone(),
                format: found.format,
                size: found.size_bytes,
            },
            of_snapshot,
        );
        Ok((newer, of_snapshot(&older), is_above))
    }

    fn open_point(&self, which: &Which) -> Result<Point, ImageError> {
        let live = which.live.and_then(|disk| self.shared.live_image(&disk));
        let size = which.size;
        let image = match live {
            Some(image) => image.switch().map_or(image.clone(), disk_image::SwitchImage::current),
            None => {
                let options = OpenOptions { size_bytes: Some(size), ..OpenOptions::read_only() };
                open_image(which.path.as_path(), which.format, &options)?
            }
        };
        Ok(Point { image, size })
    }
}

/// What is to be opened.
struct Which {
    /// The data path may have it open.
    live: Option<DiskId>,
    path: std::path::PathBuf,
    format: ImageFormat,
    size: u64,
}

fn visible(state: &State, id: SnapshotId) -> Result<DiskSnapshot, Cause> {
    let found = state.visible_snapshots().find(|it| it.id == id);
    let found = found.map(|it| DiskSnapshot::clone(it));
    found.ok_or_else(|| Cause::NotFound { what: "snapshot".to_owned(), name: id.to_string() })
}

/// Goes from run to run until the page is full.
fn collect(
    size: u64,
    from: u64,
    limit: usize,
    mut look: impl FnMut(u64, u64) -> Result<(Own, u64), ImageError>,
) -> Result<ChangedBlocks, ImageError> {
    let begin = Instant::now();
    let mut extents: Vec<ChangedExtent> = Vec::new();
    let mut at = from;
    while at < size && begin.elapsed() < BUDGET {
        let (own, length) = look(at, size - at)?;
        let length = length.clamp(1, size - at);
        if own != Own::Nothing {
            let zeroes = own == Own::Zeroes;
            let joins = |last: &&mut ChangedExtent| {
                last.offset + last.length == at && last.zeroes == zeroes
            };
            if let Some(last) = extents.last_mut().filter(joins) {
                last.length += length;
            } else if extents.len() >= limit.max(1) {
                break;
            } else {
                extents.push(ChangedExtent { offset: at, length, zeroes });
            }
        }
        at += length;
    }
    Ok(ChangedBlocks { size_bytes: size, extents, next: (at < size).then_some(at) })
}

/// Compares a piece; what both do not have is the same.
fn compare(
    newer: &Point,
    older: &Point,
    at: u64,
    left: u64,
    (one, other): &mut (Vec<u8>, Vec<u8>),
) -> Result<(Own, u64), ImageError> {
    let hole = |point: &Point, at: u64| -> Result<u64, ImageError> {
        let size = point.image.size_bytes().min(point.size);
        if at >= size {
            return Ok(left);
        }
        let extent = point.image.block_status(at, left.min(size - at))?;
        let hole = extent.state == BlockState::Deallocated;
        Ok(if hole { extent.length } else { 0 })
    };
    let none = hole(newer, at)?.min(hole(older, at)?);
    if none > 0 {
        return Ok((Own::Nothing, none));
    }
    let length = left.min(PIECE - at % PIECE);
    let read = |point: &Point, buffer: &mut Vec<u8>| -> Result<(), ImageError> {
        buffer.clear();
        buffer.resize(usize::try_from(length).unwrap_or(0), 0);
        let size = point.image.size_bytes().min(point.size);
        let there = usize::try_from(size.saturating_sub(at).min(length)).unwrap_or(0);
        let bytes = buffer.get_mut(..there).unwrap_or_default();
        point.image.read(&mut [IoSliceMut::new(bytes)], at, Wait::Block)
    };
    read(newer, one)?;
    read(older, other)?;
    Ok((if one == other { Own::Nothing } else { Own::Data }, length))
}
