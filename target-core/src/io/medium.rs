//! Operations on the whole medium. Nobody else touches a block meanwhile.

use std::io::IoSlice;
use std::sync::Arc;

use disk_image::{BlockState, Durability, Image, ImageError, ImageErrorKind, Operation};
use scsi::operation::{MediumOperation, Method};

use crate::operation::{OperationControl, OperationError};
use crate::unit::LogicalUnit;

/// Done between two looks at whether it may go on.
const PIECE: u64 = 4 << 20;
/// Written between two flushes.
const STRIDE: u64 = 256 << 20;

/// Does it, from `position` on: bytes of all passes, one behind the other.
pub(crate) fn run(
    unit: &Arc<LogicalUnit>,
    operation: &MediumOperation,
    position: u64,
    control: &dyn OperationControl,
) -> Result<(), OperationError> {
    let Some(image) = unit.image() else {
        return Err(OperationError::Refused("the disk's image cannot be opened"));
    };
    let device = unit.device();
    let size = device.block_count() * u64::from(device.logical_block_length);
    let total = size * u64::from(operation.method.passes());
    let mut writer = Writer { image, device: unit.device(), piece: Vec::new(), pass: None };
    // What stands for blocks of it stands for nothing any more.
    unit.tokens().changing(&(0..u64::MAX));
    let (mut at, mut durable) = (position.min(total), position);
    while at < total {
        unit.claim().set_progress(at, total);
        control.progress(at, total)?;
        let during = operation.during();
        let piece = unit.claim().piece(during).ok_or(OperationError::Stopped)?;
        let (pass, offset) = (at / size, at % size);
        let length = PIECE.min(size - offset);
        let pass = u8::try_from(pass).unwrap_or(u8::MAX);
        writer.piece(&operation.method, pass, offset, length)?;
        drop(piece);
        at += length;
        // A pass is durable before the next one covers it up.
        if at - durable >= STRIDE || at % size == 0 {
            image.flush()?;
            durable = at;
            control.reached(at)?;
        }
    }
    Ok(())
}

struct Writer<'a> {
    image: &'a Arc<dyn Image>,
    device: &'a scsi::Device,
    /// Blocks of a pass.
    piece: Vec<u8>,
    pass: Option<u8>,
}

impl Writer<'_> {
    fn piece(
        &mut self,
        method: &Method,
        pass: u8,
        offset: u64,
        length: u64,
    ) -> Result<(), ImageError> {
        let may_unmap = self.device.provisioning.get() == scsi::Provisioning::Thin;
        match method {
            Method::Overwrite { .. } | Method::Format { pattern: Some(_) } => {
                self.write(method, pass, offset, length)
            }
            Method::Format { pattern: None } => self.image.write_zeroes(offset, length, may_unmap),
            // First over what is there, as a hole alone would leave it in the host's free space.
            Method::BlockErase if pass == 0 => self.erase(method, offset, length),
            Method::BlockErase => self.image.unmap(offset, length),
        }
    }

    fn write(
        &mut self,
        method: &Method,
        pass: u8,
        offset: u64,
        length: u64,
    ) -> Result<(), ImageError> {
        if self.pass != Some(pass) {
            let block = method.block(pass, self.device.logical_block_length);
            let whole = usize::try_from(PIECE).unwrap_or(usize::MAX);
            self.piece = block.repeat(whole / block.len().max(1));
            self.pass = Some(pass);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let piece = self.piece.get(..length).unwrap_or(&self.piece);
        self.image.write(&[IoSlice::new(piece)], offset, Durability::Cached)
    }

    /// Zeroes over what has space.
    fn erase(&mut self, method: &Method, offset: u64, length: u64) -> Result<(), ImageError> {
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let extent = self.image.block_status(at, end - at)?;
            if extent.length == 0 {
                // A loop that stands still would be worse.
                let path = self.image.path();
                return Err(ImageError::new(ImageErrorKind::Corrupt, Operation::BlockStatus, path));
            }
            if extent.state == BlockState::Mapped {
                self.write(method, 0, at, extent.length)?;
            }
            at += extent.length;
        }
        Ok(())
    }
}
