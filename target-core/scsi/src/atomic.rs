//! WRITE ATOMIC(16) (SBC-4): all of its blocks or none, for every reader and across a crash.
//!
//! How long it may be and where it may begin, the image says: one that has a journal takes a
//! mebibyte anywhere, one that has none a page.

use crate::cdb::Cdb;
use crate::commands::Unit;
use crate::device::Device;
use crate::plan::{BlockRange, Plan};
use crate::read_write::{Run, force_unit_access};
use crate::reply::Fields as _;
use crate::sense::Sense;
use crate::verify::exactly;

/// ATOMIC BOUNDARY, of 2 bytes, is reserved: MAXIMUM ATOMIC BOUNDARY SIZE is 0.
fn run(cdb: Cdb) -> Run {
    Run { lba: cdb.u64_at(2), blocks: u32::from(cdb.u16_at(12)), length_at: 12 }
}

/// Refuses what is not on the medium, or could be torn.
fn checked(cdb: Cdb, device: &Device) -> Result<Run, Sense> {
    let run = run(cdb).within(device)?;
    let (max_blocks, alignment_blocks) = device.atomic.get();
    if run.blocks > max_blocks {
        return Err(Sense::invalid_field_in_cdb(run.length_at, None));
    }
    if run.lba % u64::from(alignment_blocks.max(1)) != 0 {
        return Err(Sense::invalid_field_in_cdb(2, None));
    }
    Ok(run)
}

pub(crate) fn write_atomic(cdb: Cdb, unit: &Unit<'_>, _reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    let run = checked(cdb, unit.device)?;
    if run.blocks == 0 {
        return Ok(Plan::Good);
    }
    // Part of the data would be part of the write.
    exactly(unit, u64::from(run.blocks), run.length_at)
}

pub(crate) fn write_atomic_with_data(
    cdb: Cdb,
    unit: &Unit<'_>,
    _data: &[u8],
    _ranges: &mut Vec<BlockRange>,
) -> Result<Plan, Sense> {
    let Run { lba, blocks, .. } = checked(cdb, unit.device)?;
    Ok(Plan::WriteAtomic { lba, blocks, fua: force_unit_access(cdb) || unit.is_write_through() })
}

/// The end of the Block Limits VPD page (SBC-4): MAXIMUM ATOMIC TRANSFER LENGTH, ATOMIC
/// ALIGNMENT, ATOMIC TRANSFER LENGTH GRANULARITY (none), MAXIMUM ATOMIC TRANSFER LENGTH WITH ATOMIC
/// BOUNDARY and MAXIMUM ATOMIC BOUNDARY SIZE (there are no boundaries).
pub(crate) fn limits(device: &Device, reply: &mut Vec<u8>) {
    let (max_blocks, alignment_blocks) = device.atomic.get();
    reply.u32(max_blocks);
    reply.u32(if max_blocks == 0 { 0 } else { alignment_blocks });
    reply.zeroes(12);
}
