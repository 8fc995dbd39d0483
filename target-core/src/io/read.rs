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
/// So often a piece is read beside others before it is read alone.
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
    let range = range_of(offset, length);
    let at_once = {
        let _inside = unit.exclusion().enter_sleeping();
        let read = || image.read(&mut [IoSliceMut::new(&mut data)], offset, Wait::Block);
        unit.regions().read(&range, read)
    };
    if let Some(result) = at_once {
        return result.map(|()| data);
    }
    let mut at = offset;
    // Pieces end where blocks do.
    for piece in data.chunks_mut(PIECE) {
        read_piece(unit, image, at, piece)?;
        at = range_of(at, piece.len()).end;
    }
    Ok(data)
}

fn read_piece(
    unit: &LogicalUnit,
    image: &Arc<dyn Image>,
    offset: u64,
    piece: &mut [u8],
) -> Result<(), ImageError> {
    let range = range_of(offset, piece.len());
    let mut read = || image.read(&mut [IoSliceMut::new(piece)], offset, Wait::Block);
    let (mut attempts, mut pause) = (0, MIN_PAUSE);
    while attempts < ATTEMPTS {
        let mut waits = false;
        let overlaps = || {
            waits = unit.is_written(&range);
            waits
        };
        let inside = unit.exclusion().enter_sleeping();
        let result = unit.regions().read_beside(&range, overlaps, &mut read);
        drop(inside);
        match result {
            Some(result) => return result,
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
    unit.exclusion().alone(read)
}
