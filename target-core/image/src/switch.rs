//! An image behind which another one can take its place while it is used.

use std::io::{IoSlice, IoSliceMut};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::cache::{CacheBudget, CacheCounters};
use crate::error::ImageError;
use crate::format::ImageFormat;
use crate::hot::Pinned;
use crate::image::{AtomicWrites, Durability, Extent, Features, Image, Wait};
use crate::layers::Own;

/// Stands for another image. Each call goes to the one that is current when it begins, so whoever
/// puts another in its place sees to it that nothing is under way, or that both have the same bytes.
///
/// Reading who is current touches nothing that other threads write.
#[derive(Debug)]
pub struct SwitchImage {
    current: ArcSwap<Arc<dyn Image>>,
}

impl SwitchImage {
    /// Stands for `image`.
    #[must_use]
    pub fn new(image: Arc<dyn Image>) -> Self {
        Self { current: ArcSwap::from_pointee(image) }
    }

    /// The image behind it now.
    #[must_use]
    pub fn current(&self) -> Arc<dyn Image> {
        Arc::clone(&self.current.load())
    }

    /// Puts `image` in the place of the current one, which is returned.
    pub fn set(&self, image: Arc<dyn Image>) -> Arc<dyn Image> {
        let before = self.current.swap(Arc::new(image));
        Arc::clone(&before)
    }
}

impl Image for SwitchImage {
    fn size_bytes(&self) -> u64 {
        self.current.load().size_bytes()
    }

    fn features(&self) -> Features {
        self.current.load().features()
    }

    fn path(&self) -> Arc<Path> {
        self.current.load().path()
    }

    fn read(&self, bufs: &mut [IoSliceMut<'_>], offset: u64, wait: Wait) -> Result<(), ImageError> {
        self.current.load().read(bufs, offset, wait)
    }

    fn write(
        &self,
        bufs: &[IoSlice<'_>],
        offset: u64,
        durability: Durability,
    ) -> Result<(), ImageError> {
        self.current.load().write(bufs, offset, durability)
    }

    fn flush(&self) -> Result<(), ImageError> {
        self.current.load().flush()
    }

    fn unmap(&self, offset: u64, length: u64) -> Result<(), ImageError> {
        self.current.load().unmap(offset, length)
    }

    fn write_zeroes(&self, offset: u64, length: u64, may_unmap: bool) -> Result<(), ImageError> {
        self.current.load().write_zeroes(offset, length, may_unmap)
    }

    fn block_status(&self, offset: u64, length: u64) -> Result<Extent, ImageError> {
        self.current.load().block_status(offset, length)
    }

    fn pinned(&self, offset: u64, length: u64) -> Option<Pinned> {
        self.current.load().pinned(offset, length)
    }

    fn is_plain(&self) -> bool {
        self.current.load().is_plain()
    }

    fn switch(&self) -> Option<&SwitchImage> {
        Some(self)
    }

    fn cache(&self) -> Option<CacheCounters> {
        self.current.load().cache()
    }

    fn cache_budget(&self) -> Option<CacheBudget> {
        self.current.load().cache_budget()
    }

    fn trim_caches(&self) {
        self.current.load().trim_caches();
    }

    fn parent(&self) -> Option<Arc<dyn Image>> {
        self.current.load().parent()
    }

    fn own_extent(&self, offset: u64, length: u64) -> Result<(Own, u64), ImageError> {
        self.current.load().own_extent(offset, length)
    }

    fn set_parent(&self, parent: Arc<dyn Image>) -> Result<(), ImageError> {
        self.current.load().set_parent(parent)
    }

    fn rebase(
        &self,
        name: &str,
        format: ImageFormat,
        parent: Arc<dyn Image>,
    ) -> Result<(), ImageError> {
        self.current.load().rebase(name, format, parent)
    }

    fn retire(&self) -> Result<(), ImageError> {
        self.current.load().retire()
    }

    fn copy_from(
        &self,
        source: &dyn Image,
        from: u64,
        to: u64,
        length: u64,
    ) -> Result<u64, ImageError> {
        self.current.load().copy_from(source, from, to, length)
    }

    fn grow(&self, size_bytes: u64) -> Result<(), ImageError> {
        self.current.load().grow(size_bytes)
    }

    fn shrink(&self, size_bytes: u64) -> Result<(), ImageError> {
        self.current.load().shrink(size_bytes)
    }

    fn cut(&self, size_bytes: u64) -> Result<(), ImageError> {
        self.current.load().cut(size_bytes)
    }

    fn close(&self) -> Result<(), ImageError> {
        self.current.load().close()
    }

    fn atomic_writes(&self) -> AtomicWrites {
        self.current.load().atomic_writes()
    }

    fn write_atomic(
        &self,
        data: &[u8],
        offset: u64,
        durability: Durability,
    ) -> Result<(), ImageError> {
        self.current.load().write_atomic(data, offset, durability)
    }

    fn health(&self) -> Result<(), ImageError> {
        self.current.load().health()
    }
}
