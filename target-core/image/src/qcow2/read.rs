//! Reading: from host clusters, compressed ones, the parent, or zeroes.

use std::io::IoSliceMut;
use std::sync::{Arc, PoisonError};

use super::compressed::decompress;
use super::entry::Mapping;
use super::gates::L1;
use super::{Problem, Qcow2Image};
use crate::error::{ImageError, ImageErrorKind, Operation};
use crate::image::Wait;
use crate::slices::{part_mut, scatter};

/// Where a run of bytes comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// From this byte of the file on.
    File(u64),
    /// As far as the parent goes, then zeroes.
    Parent,
    Zeroes,
    /// A compressed cluster: its place and length, and the byte in it.
    Compressed {
        at: u64,
        length: u64,
        within: u64,
    },
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn fill_zeroes(bufs: &mut [IoSliceMut<'_>]) {
    bufs.iter_mut().for_each(|buf| buf.fill(0));
}

impl Qcow2Image {
    fn would_block(&self) -> ImageError {
        ImageError::new(ImageErrorKind::WouldBlock, Operation::Read, self.file.path().clone())
    }

    pub(super) fn read_clusters(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        offset: u64,
        length: u64,
        wait: Wait,
    ) -> Result<(), ImageError> {
        let Some(l1) = self.gates.enter(wait) else { return Err(self.would_block()) };
        let mut done = 0;
        while done < length {
            let (source, count) = self.run(&l1, offset + done, length - done, wait)?;
            if count == length {
                return self.read_run(bufs, source, offset, length, wait);
            }
            let mut bufs = part_mut(bufs, index(done), index(count));
            self.read_run(&mut bufs, source, offset + done, count, wait)?;
            done += count;
        }
        Ok(())
    }

    /// Where the bytes from `at` on come from, and how many of `left` do so in one run.
    fn run(&self, l1: &L1, at: u64, left: u64, wait: Wait) -> Result<(Source, u64), ImageError> {
        let geometry = self.geometry;
        let mut run: Option<(Source, u64)> = None;
        loop {
            let done = run.map_or(0, |(_, done)| done);
            if done >= left {
                break;
            }
            let here = at + done;
            let within = geometry.within(here);
            let mapping = match self.mapping(l1, geometry.index(here), wait) {
                Ok(mapping) => mapping,
                Err(error) if run.is_none() => return Err(error),
                // It is met again when its turn comes.
                Err(_) => break,
            };
            let source = match mapping {
                Mapping::Unallocated if here < self.parent_end() => Source::Parent,
                Mapping::Unallocated | Mapping::Zero { .. } => Source::Zeroes,
                Mapping::Data { host, .. } => Source::File(host + within),
                Mapping::Compressed { at, length } => Source::Compressed { at, length, within },
            };
            let count = (geometry.cluster() - within).min(left - done);
            match run {
                None => run = Some((source, count)),
                Some((first, _)) if follows(first, source, done) => {
                    run = Some((first, done + count));
                }
                Some(_) => break,
            }
        }
        Ok(run.unwrap_or((Source::Zeroes, left)))
    }

    fn read_run(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        source: Source,
        at: u64,
        length: u64,
        wait: Wait,
    ) -> Result<(), ImageError> {
        match source {
            Source::File(place) => self.read_file(bufs, place, length, wait),
            Source::Zeroes => {
                fill_zeroes(bufs);
                Ok(())
            }
            Source::Parent => self.read_parent(bufs, at, length, wait),
            Source::Compressed { at: place, length: packed, within } => {
                let cluster = self.decompressed(place, packed, at, wait)?;
                let end = index(within).saturating_add(index(length));
                scatter(bufs, cluster.get(index(within)..end).unwrap_or_default());
                Ok(())
            }
        }
    }

    /// The last cluster of a file need not be whole: the rest of it is zeroes.
    fn read_file(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        place: u64,
        length: u64,
        wait: Wait,
    ) -> Result<(), ImageError> {
        if place + length <= self.data_end {
            return self.file.read(bufs, place, wait);
        }
        let there = self.data_end.saturating_sub(place);
        fill_zeroes(&mut part_mut(bufs, index(there), index(length - there)));
        self.file.read(&mut part_mut(bufs, 0, index(there)), place, wait)
    }

    pub(super) fn read_parent(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        at: u64,
        length: u64,
        wait: Wait,
    ) -> Result<(), ImageError> {
        let end = self.parent_end();
        let there = end.saturating_sub(at).min(length);
        if there < length {
            fill_zeroes(&mut part_mut(bufs, index(there), index(length - there)));
        }
        match &*self.parent.load() {
            Some(parent) if there == length => parent.image.read(bufs, at, wait),
            Some(parent) if there > 0 => {
                parent.image.read(&mut part_mut(bufs, 0, index(there)), at, wait)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A compressed cluster's content. The last one is kept, since readers come again for the rest.
    fn decompressed(
        &self,
        place: u64,
        length: u64,
        guest: u64,
        wait: Wait,
    ) -> Result<Arc<[u8]>, ImageError> {
        let kept = self.decompressed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, cluster)) = kept.filter(|(kept, _)| *kept == place) {
            return Ok(cluster);
        }
        if wait == Wait::Nowait {
            return Err(self.would_block());
        }
        // The last one may end before its sector does.
        let length = length.min(self.file.length()?.saturating_sub(place));
        let mut packed = vec![0; index(length)];
        self.file.read_at(&mut packed, place)?;
        let mut cluster = vec![0; index(self.geometry.cluster())];
        decompress(self.compression, &packed, &mut cluster).map_err(|reason| {
            let reason = format!("the compressed cluster at {place:#x} cannot be read: {reason}");
            self.problem(Problem::new(ImageErrorKind::Corrupt, reason), guest)
        })?;
        let cluster: Arc<[u8]> = cluster.into();
        *self.decompressed.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((place, cluster.clone()));
        Ok(cluster)
    }

    /// What a guest cluster that has no place of its own for writing shows at `at`.
    pub(super) fn old_content(
        &self,
        mapping: Mapping,
        at: u64,
        buf: &mut [u8],
    ) -> Result<(), ImageError> {
        let length = buf.len() as u64;
        let within = self.geometry.within(at);
        let source = match mapping {
            Mapping::Unallocated => Source::Parent,
            Mapping::Zero { .. } => Source::Zeroes,
            Mapping::Data { host, .. } => Source::File(host + within),
            Mapping::Compressed { at, length } => Source::Compressed { at, length, within },
        };
        self.read_run(&mut [IoSliceMut::new(buf)], source, at, length, Wait::Block)
    }
}

/// Whether `next` goes on where `first` is after `done` bytes.
fn follows(first: Source, next: Source, done: u64) -> bool {
    match (first, next) {
        (Source::File(start), Source::File(next)) => start + done == next,
        (Source::Zeroes, Source::Zeroes) | (Source::Parent, Source::Parent) => true,
        _ => false,
    }
}
