//! Copies between units.

use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;

use disk_image::{Durability, ImageError, Wait};

use crate::unit::LogicalUnit;

/// Copied at once.
const PIECE: u64 = 1 << 20;

/// Bytes of one unit that become bytes of another, or of the same.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) source: Arc<LogicalUnit>,
    pub(crate) source_offset: u64,
    pub(crate) destination: Arc<LogicalUnit>,
    pub(crate) destination_offset: u64,
    pub(crate) length: u64,
}

/// How far a copy came.
#[derive(Debug)]
pub(crate) struct Copied {
    /// Runs that were copied whole.
    pub(crate) runs: usize,
    /// Bytes in all.
    pub(crate) bytes: u64,
    /// Why it stopped, and at which unit.
    pub(crate) failure: Option<ImageError>,
    pub(crate) list_identifier: Option<u8>,
}

/// Copies, until something fails.
pub(super) fn copy(runs: &[Run], list_identifier: Option<u8>) -> Copied {
    let mut copied = Copied { runs: 0, bytes: 0, failure: None, list_identifier };
    let mut buffer = Vec::new();
    for run in runs {
        if let Err(failure) = copy_run(run, &mut buffer, &mut copied.bytes) {
            copied.failure = Some(failure);
            break;
        }
        copied.runs += 1;
    }
    copied
}

fn copy_run(run: &Run, buffer: &mut Vec<u8>, bytes: &mut u64) -> Result<(), ImageError> {
    let (Some(source), Some(destination)) = (run.source.image(), run.destination.image()) else {
        return Ok(());
    };
    let mut done = 0;
    while done < run.length {
        let piece = PIECE.min(run.length - done);
        buffer.resize(usize::try_from(piece).unwrap_or(0), 0);
        {
            // One unit after the other: who holds two could wait for who waits for him.
            let _inside = run.source.exclusion().enter_sleeping();
            let at = run.source_offset + done;
            source.read(&mut [IoSliceMut::new(buffer)], at, Wait::Block)?;
        }
        let durability = if run.destination.mode().write_cache_enabled {
            Durability::Cached
        } else {
            Durability::Durable
        };
        let _inside = run.destination.exclusion().enter_sleeping();
        destination.write(&[IoSlice::new(buffer)], run.destination_offset + done, durability)?;
        done += piece;
        *bytes += piece;
    }
    Ok(())
}
