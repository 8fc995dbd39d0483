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

/// Copies `bytes` into `bufs`.
pub(crate) fn scatter(bufs: &mut [IoSliceMut<'_>], mut bytes: &[u8]) {
    for buf in bufs {
        let (head, tail) = bytes.split_at(buf.len().min(bytes.len()));
        if let Some(place) = buf.get_mut(..head.len()) {
            place.copy_from_slice(head);
        }
        bytes = tail;
    }
}

/// Fills `bytes` with what stands in `bufs`.
pub(crate) fn gather(bufs: &[IoSlice<'_>], mut bytes: &mut [u8]) {
    for buf in bufs {
        let (head, tail) = bytes.split_at_mut(buf.len().min(bytes.len()));
        if let Some(data) = buf.get(..head.len()) {
            head.copy_from_slice(data);
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
        let mut flat = [0; 4];
        gather(&[IoSlice::new(&a), IoSlice::new(&b)], &mut flat);
        assert_eq!(flat, [0, 7, 8, 9]);
    }
}
