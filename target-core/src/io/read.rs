//! Reads on a thread that may sleep, which see no logical block half written.

use std::io::IoSliceMut;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use disk_image::{Image, ImageError, Wait};

use crate::regions::range_of;
use crate::unit::LogicalUnit;

/// Read at once where others write: whole logical blocks, that none of them disturbs for long.
const PIECE: usize = 4096;
/// So often a piece is read beside others before everything is read alone.
const ATTEMPTS: u32 = 1000;
/// Between two looks at a write that overlaps it.
const MIN_PAUSE: Duration = Duration::from_micros(100);
const MAX_PAUSE: Duration = Duration::from_millis(10);

/// Reads. What a write that overlaps it holds up waits for that.
pub(super) fn read(
    unit: &LogicalUnit,
    image: &Arc<dyn Image>,
    offset: u64,
    length: usize,
) -> Result<Vec<u8>, ImageError> {
    let mut data = vec![0; length];
    let inside = unit.exclusion().enter_sleeping();
    let result = read_inside(unit, image, offset, &mut data);
    drop(inside);
    let alone = || image.read(&mut [IoSliceMut::new(&mut data)], offset, Wait::Block);
    result.unwrap_or_else(|| unit.exclusion().alone(alone)).map(|()| data)
}

/// The same for who is inside of the unit already, so that no atomic command comes in between.
/// `None` if others write there so much that it must be read alone.
pub(super) fn read_inside(
    unit: &LogicalUnit,
    image: &Arc<dyn Image>,
    offset: u64,
    data: &mut [u8],
) -> Option<Result<(), ImageError>> {
    let range = range_of(offset, data.len());
    let read = || image.read(&mut [IoSliceMut::new(data)], offset, Wait::Block);
    let at_once = unit.regions().read(&range, read);
    if at_once.is_some() {
        return at_once;
    }
    let mut at = offset;
    // Pieces end where blocks do.
    for piece in data.chunks_mut(PIECE) {
        let end = range_of(at, piece.len()).end;
        if let Err(error) = read_piece(unit, image, at, piece)? {
            return Some(Err(error));
        }
        at = end;
    }
    Some(Ok(()))
}

fn read_piece(
    unit: &LogicalUnit,
    image: &Arc<dyn Image>,
    offset: u64,
    piece: &mut [u8],
) -> Option<Result<(), ImageError>> {
    let range = range_of(offset, piece.len());
    let mut read = || image.read(&mut [IoSliceMut::new(piece)], offset, Wait::Block);
    let (mut attempts, mut pause) = (0, MIN_PAUSE);
    while attempts < ATTEMPTS {
        let mut waits = false;
        let overlaps = || {
            waits = unit.is_written(&range);
            waits
        };
        match unit.regions().read_beside(&range, overlaps, &mut read) {
            Some(result) => return Some(result),
            // Whoever writes there is inside as well, and needs nothing that is held here.
            None if waits => {
                thread::sleep(pause);
                pause = MAX_PAUSE.min(pause * 2);
            }
            None => {
                attempts += 1;
                thread::yield_now();
            }
        }
    }
    None
}
