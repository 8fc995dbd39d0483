//! What lies in the part of a disk that is to go.

use std::io::IoSliceMut;

use crate::error::ImageError;
use crate::image::{BlockState, Image, Wait};
use crate::layers::Own;

/// Read at once.
const PIECE: usize = 1 << 20;

/// The first byte from `from` on, to the end of the image, that is not zero, or one not far in front of
/// it. Of what has space at most `most` bytes are read: what comes behind those counts as used.
///
/// # Errors
/// As [`Image::read`].
pub fn first_used(image: &dyn Image, from: u64, most: u64) -> Result<Option<u64>, ImageError> {
    let end = image.size_bytes();
    let (mut at, mut left) = (from, most);
    let mut buffer = Vec::new();
    while at < end {
        // Zeroes may have space.
        let (own, length) = image.own_extent(at, end - at)?;
        let known = length.clamp(1, end - at);
        if own == Own::Zeroes {
            at += known;
            continue;
        }
        let extent = image.block_status(at, known)?;
        let after = at + extent.length.clamp(1, known);
        if extent.state == BlockState::Deallocated {
            at = after;
            continue;
        }
        while at < after {
            let count = usize::try_from(after - at).unwrap_or(PIECE).min(PIECE);
            let length = count as u64;
            if left < length {
                return Ok(Some(at));
            }
            buffer.resize(count, 0);
            image.read(&mut [IoSliceMut::new(&mut buffer)], at, Wait::Block)?;
            if let Some(used) = (0..).zip(&buffer).find(|(_, byte)| **byte != 0) {
                return Ok(Some(at + used.0));
            }
            (at, left) = (at + length, left - length);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;
    use crate::image::Durability;
    use crate::mem::MemImage;

    #[test]
    fn zeroes_are_no_data_whether_they_have_space_or_not() {
        let image = MemImage::new(8 << 20).unwrap();
        let write = |at, bytes: &[u8]| {
            image.write(&[IoSlice::new(bytes)], at, Durability::Cached).unwrap();
        };
        write(0, &[7; 4097]);
        write(5 << 20, &vec![0; 2 << 20]);
        let used = |from, most| first_used(&image, from, most).unwrap();
        assert_eq!((used(0, u64::MAX), used(4096, u64::MAX)), (Some(0), Some(4096)));
        assert_eq!(used(4097, u64::MAX), None);
        assert_eq!(used(4097, (1 << 20) + 4096), Some(6 << 20), "that was not looked at");
        write((7 << 20) - 3, &[1]);
        assert_eq!(used(8192, u64::MAX), Some((7 << 20) - 3));
        assert_eq!((used((7 << 20) - 2, u64::MAX), used(8 << 20, 0)), (None, None));
    }
}
