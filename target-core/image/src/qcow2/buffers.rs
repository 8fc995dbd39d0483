//! Parts of scattered buffers.

use std::io::{IoSlice, IoSliceMut};

/// `count` bytes of `bufs` behind the first `skip`.
pub(super) fn part<'a>(
    bufs: &'a [IoSlice<'_>],
    mut skip: usize,
    mut count: usize,
) -> Vec<IoSlice<'a>> {
    let mut out = Vec::with_capacity(bufs.len());
    for buf in bufs {
        let skipped = skip.min(buf.len());
        skip -= skipped;
        let length = (buf.len() - skipped).min(count);
        count -= length;
        if let Some(bytes) = buf.get(skipped..skipped + length)
            && length > 0
        {
            out.push(IoSlice::new(bytes));
        }
    }
    out
}

/// The same, to be filled.
pub(super) fn part_mut<'a>(
    bufs: &'a mut [IoSliceMut<'_>],
    mut skip: usize,
    mut count: usize,
) -> Vec<IoSliceMut<'a>> {
    let mut out = Vec::with_capacity(bufs.len());
    for buf in bufs {
        let skipped = skip.min(buf.len());
        skip -= skipped;
        let length = (buf.len() - skipped).min(count);
        count -= length;
        if let Some(bytes) = buf.get_mut(skipped..skipped + length)
            && length > 0
        {
            out.push(IoSliceMut::new(bytes));
        }
    }
    out
}

/// Copies `bytes` into `bufs`.
pub(super) fn scatter(bufs: &mut [IoSliceMut<'_>], mut bytes: &[u8]) {
    for buf in bufs {
        let (head, tail) = bytes.split_at(buf.len().min(bytes.len()));
        if let Some(place) = buf.get_mut(..head.len()) {
            place.copy_from_slice(head);
        }
        bytes = tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_cut_across_buffers() {
        let (a, b) = ([1, 2, 3], [4, 5, 6]);
        let bufs = [IoSlice::new(&a), IoSlice::new(&[]), IoSlice::new(&b)];
        let flat =
            |bufs: Vec<IoSlice<'_>>| bufs.iter().flat_map(|b| b.to_vec()).collect::<Vec<_>>();
        assert_eq!(flat(part(&bufs, 2, 3)), [3, 4, 5]);
        assert_eq!(flat(part(&bufs, 3, 9)), [4, 5, 6]);
        assert!(part(&bufs, 6, 1).is_empty());
        let (mut a, mut b) = ([0; 2], [0; 3]);
        let mut bufs = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        scatter(&mut part_mut(&mut bufs, 1, 3), &[7, 8, 9]);
        assert_eq!((a, b), ([0, 7], [8, 9, 0]));
    }
}
