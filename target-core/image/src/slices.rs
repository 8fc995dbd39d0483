//! Parts of scattered buffers.

use std::io::{IoSlice, IoSliceMut};

/// `length` bytes of the buffers, without the first `skip`.
pub(crate) fn part_mut<'a>(
    bufs: &'a mut [IoSliceMut<'_>],
    mut skip: usize,
    mut length: usize,
) -> Vec<IoSliceMut<'a>> {
    let mut parts = Vec::new();
    for buf in bufs {
        let skipped = skip.min(buf.len());
        skip -= skipped;
        let count = length.min(buf.len() - skipped);
        length -= count;
        if let Some(part) = buf.get_mut(skipped..skipped + count)
            && !part.is_empty()
        {
            parts.push(IoSliceMut::new(part));
        }
    }
    parts
}

/// As [`part_mut`].
pub(crate) fn part<'a>(
    bufs: &'a [IoSlice<'_>],
    mut skip: usize,
    mut length: usize,
) -> Vec<IoSlice<'a>> {
    let mut parts = Vec::new();
    for buf in bufs {
        let skipped = skip.min(buf.len());
        skip -= skipped;
        let count = length.min(buf.len() - skipped);
        length -= count;
        if let Some(part) = buf.get(skipped..skipped + count)
            && !part.is_empty()
        {
            parts.push(IoSlice::new(part));
        }
    }
    parts
}
