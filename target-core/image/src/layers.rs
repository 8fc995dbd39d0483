//! What the images of a chain have each for themselves: what has changed between two of them, and
//! bringing several into one.

use std::io::{IoSlice, IoSliceMut};
use std::path::Path;
use std::sync::Arc;

use crate::create::Progress;
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::image::{Durability, Image, Wait};

/// Read at once.
const PIECE: u64 = 1 << 20;
/// Zeroed at once.
const ZERO_PIECE: u64 = 64 << 20;

/// What an image has itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// Data.
    Data,
    /// It says that there are zeroes.
    Zeroes,
    /// Nothing: its parent shows.
    Nothing,
}

/// A run of bytes of which the same can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// First byte.
    pub offset: u64,
    /// Bytes, at least 1.
    pub length: u64,
    /// What the images that were looked at have there; the topmost counts.
    pub own: Own,
}

/// The images of a chain that lie above another one of it.
#[derive(Debug)]
pub struct Layers {
    images: Vec<Arc<dyn Image>>,
}

impl Layers {
    /// `top` and its parents, down to the one in the file `stop`, which is none of them.
    ///
    /// # Errors
    /// `ParentMismatch` if that is not in the chain.
    pub fn above(top: Arc<dyn Image>, stop: &Path) -> Result<Self, ImageError> {
        let path = top.path();
        let mut images = Vec::new();
        let mut next = Some(top);
        while let Some(image) = next {
            if same_file(&image.path(), stop) {
                return Ok(Self { images });
            }
            next = image.parent();
            images.push(image);
        }
        let reason = format!("{} is not one of its parents", stop.display());
        let kind = ImageErrorKind::ParentMismatch;
        Err(ImageError::new(kind, Operation::Open, path).because(reason))
    }

    /// What they have at `offset`, and for how many of `length` bytes.
    ///
    /// # Errors
    /// As [`Image::own_extent`].
    pub fn at(&self, offset: u64, length: u64) -> Result<Layer, ImageError> {
        let mut left = length.max(1);
        for image in &self.images {
            let size = image.size_bytes();
            // Behind its end an image shows zeroes to those above, whatever lies below it: the disk was
            // smaller once, and an image that has grown since is silent about what it was larger before.
            if offset >= size {
                return Ok(Layer { offset, length: left, own: Own::Zeroes });
            }
            let (own, length) = image.own_extent(offset, left.min(size - offset))?;
            left = left.min(length.max(1));
            if own != Own::Nothing {
                return Ok(Layer { offset, length: left, own });
            }
        }
        Ok(Layer { offset, length: left, own: Own::Nothing })
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    one == other
        || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// Brings what the upper images of a chain have into a lower one, in steps as [`crate::FileCopier`]
/// has them. Whoever looks at the chain from above sees the same all the time: where the lower one
/// is written, the upper ones have something themselves.
#[derive(Debug)]
pub struct LayerCopier {
    layers: Layers,
    top: Arc<dyn Image>,
    into: Arc<dyn Image>,
    size: u64,
    done: u64,
    buffer: Vec<u8>,
}

impl LayerCopier {
    /// Starts to bring `top`, and what lies between, into `into`, the image in a file of its chain,
    /// which is made as large; or goes on after `done` bytes.
    ///
    /// # Errors
    /// `ParentMismatch` if it is none; as [`Image::grow`].
    pub fn begin(
        top: Arc<dyn Image>,
        into: Arc<dyn Image>,
        size: u64,
        done: u64,
    ) -> Result<Self, ImageError> {
        let layers = Layers::above(top.clone(), &into.path())?;
        if into.size_bytes() < size {
            into.grow(size)?;
        }
        Ok(Self { layers, top, into, size, done: done.min(size), buffer: Vec::new() })
    }

    /// How far it is, in bytes of the disk.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress { done: self.done, total: self.size }
    }

    /// Does the next part: about `max_bytes` of data, or more of what is not to be copied.
    ///
    /// # Errors
    /// As reading and writing. The step can be repeated.
    pub fn step(&mut self, max_bytes: u64) -> Result<Progress, ImageError> {
        let left = self.size.saturating_sub(self.done);
        if left == 0 {
            return Ok(self.progress());
        }
        let layer = self.layers.at(self.done, left)?;
        let length = match layer.own {
            Own::Nothing => layer.length.min(left),
            Own::Zeroes => {
                let length = layer.length.min(left).min(ZERO_PIECE);
                self.into.write_zeroes(self.done, length, true)?;
                length
            }
            Own::Data => {
                let length = layer.length.min(left).min(max_bytes.clamp(4096, PIECE));
                let mut buffer = std::mem::take(&mut self.buffer);
                buffer.resize(usize::try_from(length).unwrap_or(0), 0);
                self.top.read(&mut [IoSliceMut::new(&mut buffer)], self.done, Wait::Block)?;
                self.into.write(&[IoSlice::new(&buffer)], self.done, Durability::Cached)?;
                self.buffer = buffer;
                length
            }
        };
        self.done += length;
        Ok(self.progress())
    }

    /// Makes what was copied durable, before a checkpoint says that it is there. In the end the lower image
    /// is as small as the upper one: who grows it later must not find what it had there before.
    ///
    /// # Errors
    /// `SyncFailed`; as [`Image::cut`].
    pub fn sync(&self) -> Result<(), ImageError> {
        if self.done < self.size {
            return self.into.flush();
        }
        self.into.cut(self.size)?;
        self.into.flush()?;
        self.into.close()
    }
}

#[cfg(test)]
mod tests;
