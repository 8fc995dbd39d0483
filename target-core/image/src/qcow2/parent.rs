//! The image that a disk shows where it has nothing of its own, and exchanging it.

use std::io::IoSlice;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use super::entry::Mapping;
use super::header::{Backing, Header};
use super::open::Layout;
use super::{Problem, Qcow2Image};
use crate::block_file::BlockFile;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::file::ImageFile;
use crate::format::{ImageFormat, OpenOptions};
use crate::image::{Durability, Image, Wait};
use crate::layers::Own;
use crate::redo::{RedoJournal, RedoTarget};

/// Clusters that one question about what is the image's own may look at.
const MAX_EXTENT_CLUSTERS: u64 = 1 << 16;

/// What a disk shows where it has nothing of its own.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) image: Arc<dyn Image>,
    pub(super) size: u64,
    /// It was the disk itself a moment ago: not all of it is durable.
    unsettled: AtomicBool,
}

impl Parent {
    /// A parent that nobody writes any more.
    pub(super) fn of(image: Arc<dyn Image>) -> Self {
        Self { size: image.size_bytes(), image, unsettled: AtomicBool::new(false) }
    }
}

impl Qcow2Image {
    /// Opens an image over one that is open: its file must be the one that the image names. What was
    /// answered for that one and is not durable yet becomes so with the first flush.
    ///
    /// # Errors
    /// As [`crate::open_image`]; `ParentMismatch` for another one.
    pub(crate) fn open_over(
        file: ImageFile,
        options: &OpenOptions,
        parent: Arc<dyn Image>,
    ) -> Result<Self, ImageError> {
        let file: Arc<dyn BlockFile> = Arc::new(file);
        let layout = Layout::read(&*file).map_err(|error| error.during(Operation::Open))?;
        let path = file.path().clone();
        let named = layout.header.backing.as_ref().map(|backing| {
            let directory = path.parent().unwrap_or(Path::new("."));
            directory.join(&backing.name).canonicalize()
        });
        match (named, parent.path().canonicalize()) {
            (Some(Ok(named)), Ok(parent)) if named == parent => {}
            _ => {
                let reason = format!("its parent is not {}", parent.path().display());
                return Err(Problem::new(ImageErrorKind::ParentMismatch, reason).on(&path));
            }
        }
        let cache = parent.cache_budget().unwrap_or_else(|| options.cache.clone());
        let options = OpenOptions { cache, ..options.clone() };
        let lower = parent.clone();
        let parent = Parent { unsettled: AtomicBool::new(true), ..Parent::of(parent) };
        let image = Self::assemble(file, layout, &options, Some(parent))?;
        lower.trim_caches();
        Ok(image)
    }

    /// The end of what the parent shows.
    pub(super) fn parent_end(&self) -> u64 {
        self.parent.load().as_ref().map_or(0, |parent| parent.size)
    }

    /// Makes durable what is not of a parent that was the disk itself.
    pub(super) fn settle_parent(&self) -> Result<(), ImageError> {
        let parent = self.parent.load();
        if let Some(parent) = &*parent
            && parent.unsettled.load(Ordering::Acquire)
        {
            parent.image.flush()?;
            parent.unsettled.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// What the image has itself from `offset` on.
    pub(super) fn own(&self, offset: u64, length: u64) -> Result<(Own, u64), ImageError> {
        let geometry = self.geometry;
        let Some(l1) = self.gates.enter(Wait::Block) else {
            return Err(self.error(ImageErrorKind::Io, Operation::BlockStatus, offset, length));
        };
        let nothing = if self.parent.load().is_some() { Own::Nothing } else { Own::Zeroes };
        let mut own = None;
        let (mut done, mut looked_at) = (0, 0);
        while done < length && looked_at < MAX_EXTENT_CLUSTERS {
            let at = offset + done;
            let cluster = geometry.index(at);
            let (here, span) = if l1.get(cluster >> geometry.l2_bits()) == 0 {
                // A whole L2 table that is not there.
                (nothing, geometry.l1_span() - at % geometry.l1_span())
            } else {
                looked_at += 1;
                let here = match self.mapping(&l1, cluster, Wait::Block)? {
                    Mapping::Unallocated => nothing,
                    Mapping::Zero { .. } => Own::Zeroes,
                    Mapping::Data { .. } | Mapping::Compressed { .. } => Own::Data,
                };
                (here, geometry.cluster() - geometry.within(at))
            };
            if *own.get_or_insert(here) != here {
                break;
            }
            done += span.min(length - done);
        }
        Ok((own.unwrap_or(nothing), done.clamp(1, length.max(1))))
    }

    /// Names another parent in the header, durably, and shows that one.
    pub(super) fn change_parent(
        &self,
        name: &str,
        format: ImageFormat,
        parent: Arc<dyn Image>,
    ) -> Result<(), ImageError> {
        self.check_write(Operation::Write, 0, 0)?;
        {
            // Whoever changes fields of the header holds one of these.
            let _resizing = self.resizing.lock().unwrap_or_else(PoisonError::into_inner);
            let _committing = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
            write_backing(&*self.file, name, format)?;
        }
        self.parent.store(Some(Arc::new(Parent::of(parent))));
        Ok(())
    }

    /// Finishes an atomic write that a crash has interrupted, and is ready for others.
    pub(crate) fn with_journal(mut self) -> Result<Self, ImageError> {
        let journal = RedoJournal::open(&self)?;
        if !self.read_only {
            self.redo = Some(journal);
        }
        Ok(self)
    }
}

impl RedoTarget for Qcow2Image {
    fn file_path(&self) -> &Arc<Path> {
        self.file.path()
    }

    fn cannot_be_written(&self) -> bool {
        self.read_only
    }

    /// Clusters are taken by the write itself.
    fn take_space(&self, _offset: u64, _length: u64) -> Result<(), ImageError> {
        Ok(())
    }

    fn put(&self, data: &[u8], offset: u64) -> Result<(), ImageError> {
        self.write(&[IoSlice::new(data)], offset, Durability::Durable)
    }
}

/// Writes the name of another parent into the header of an image that has one: in one piece, so that
/// a crash leaves the one or the other.
pub(crate) fn write_backing(
    file: &dyn BlockFile,
    name: &str,
    format: ImageFormat,
) -> Result<(), ImageError> {
    let refuse = |problem: Problem| problem.on(file.path());
    let mut first = vec![0; usize::try_from(file.length()?.min(512)).unwrap_or(0)];
    file.read_at(&mut first, 0)?;
    let wanted = usize::try_from(Header::wanted(&first).map_err(refuse)?.min(file.length()?));
    first.resize(wanted.unwrap_or(0), 0);
    file.read_at(&mut first, 0)?;
    let header = super::header::rebased(&first, &Backing::new(name, format)).map_err(refuse)?;
    file.write_at(&header, 0)?;
    file.flush()
}
