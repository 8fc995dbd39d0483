//! VERIFY, WRITE AND VERIFY, COMPARE AND WRITE, ORWRITE (SBC-3 §5.2, §5.10, §5.29 to §5.31, §5.37
//! to §5.39).

use crate::cdb::Cdb;
use crate::commands::Unit;
use crate::device::Device;
use crate::plan::{BlockRange, Plan};
use crate::read_write::{Run, force_unit_access};
use crate::sense::Sense;

/// BYTCHK.
fn byte_check(cdb: Cdb) -> u8 {
    cdb.byte(1) >> 1 & 0x03
}

/// Bytes of a number of blocks.
fn bytes(device: &Device, blocks: u64) -> Option<u32> {
    u32::try_from(blocks.checked_mul(u64::from(device.logical_block_length))?).ok()
}

/// Asks for exactly so much data. Less or more is refused: nothing tells what the initiator meant.
pub(crate) fn exactly(unit: &Unit<'_>, blocks: u64, length_at: u16) -> Result<Plan, Sense> {
    let wanted = bytes(unit.device, blocks);
    match wanted {
        Some(length) if unit.context.data_out_length == length => Ok(Plan::NeedData { length }),
        _ => Err(Sense::invalid_field_in_cdb(length_at, None)),
    }
}

pub(crate) fn verify(cdb: Cdb, unit: &Unit<'_>, _reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    let run = Run::of(cdb);
    match byte_check(cdb) {
        0 => {
            let Run { lba, blocks, .. } = run.within(unit.device)?;
            Ok(Plan::Verify { lba, blocks })
        }
        1 | 3 if run.blocks == 0 => {
            run.within(unit.device)?;
            Ok(Plan::Good)
        }
        1 => {
            let run = run.transfer(unit.device)?;
            exactly(unit, u64::from(run.blocks), run.length_at)
        }
        3 => {
            let run = run.within(unit.device)?;
            exactly(unit, 1, run.length_at)
        }
        _ => Err(Sense::invalid_field_in_cdb(1, Some(2))),
    }
}

pub(crate) fn verify_with_data(
    cdb: Cdb,
    unit: &Unit<'_>,
    _data: &[u8],
    _ranges: &mut Vec<BlockRange>,
) -> Result<Plan, Sense> {
    let Run { lba, blocks, .. } = Run::of(cdb).within(unit.device)?;
    Ok(Plan::VerifyCompare { lba, blocks, single_block: byte_check(cdb) == 3 })
}

pub(crate) fn write_and_verify(
    cdb: Cdb,
    unit: &Unit<'_>,
    _reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    let run = Run::of(cdb).transfer(unit.device)?;
    match byte_check(cdb) {
        0 | 1 if run.blocks == 0 => Ok(Plan::Good),
        // Like a write, it takes less data than it has blocks: the residual tells.
        0 | 1 => match bytes(unit.device, u64::from(run.blocks)) {
            Some(length) => Ok(Plan::NeedData { length }),
            None => Err(Sense::invalid_field_in_cdb(run.length_at, None)),
        },
        _ => Err(Sense::invalid_field_in_cdb(1, Some(2))),
    }
}

pub(crate) fn write_and_verify_with_data(
    cdb: Cdb,
    unit: &Unit<'_>,
    _data: &[u8],
    _ranges: &mut Vec<BlockRange>,
) -> Result<Plan, Sense> {
    let Run { lba, blocks, .. } = Run::of(cdb).transfer(unit.device)?;
    Ok(Plan::WriteAndVerify { lba, blocks, compare: byte_check(cdb) == 1 })
}

pub(crate) fn compare_and_write(
    cdb: Cdb,
    unit: &Unit<'_>,
    _reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    let run = compare_and_write_run(cdb);
    if run.blocks > u32::from(unit.device.limits.max_compare_and_write_blocks) {
        return Err(Sense::invalid_field_in_cdb(run.length_at, None));
    }
    let run = run.within(unit.device)?;
    if run.blocks == 0 && unit.context.data_out_length == 0 {
        return Ok(Plan::Good);
    }
    // 256 blocks are 0 in this field: the data tells.
    exactly(unit, u64::from(run.blocks) * 2, run.length_at)
}

fn compare_and_write_run(cdb: Cdb) -> Run {
    Run { lba: cdb.u64_at(2), blocks: u32::from(cdb.byte(13)), length_at: 13 }
}

pub(crate) fn compare_and_write_with_data(
    cdb: Cdb,
    unit: &Unit<'_>,
    _data: &[u8],
    _ranges: &mut Vec<BlockRange>,
) -> Result<Plan, Sense> {
    let Run { lba, blocks, .. } = compare_and_write_run(cdb).within(unit.device)?;
    Ok(Plan::CompareAndWrite {
        lba,
        blocks,
        fua: force_unit_access(cdb) || unit.is_write_through(),
    })
}

pub(crate) fn or_write(cdb: Cdb, unit: &Unit<'_>, _reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    let run = Run::of(cdb).transfer(unit.device)?;
    if run.blocks == 0 {
        return Ok(Plan::Good);
    }
    exactly(unit, u64::from(run.blocks), run.length_at)
}

pub(crate) fn or_write_with_data(
    cdb: Cdb,
    unit: &Unit<'_>,
    _data: &[u8],
    _ranges: &mut Vec<BlockRange>,
) -> Result<Plan, Sense> {
    let Run { lba, blocks, .. } = Run::of(cdb).transfer(unit.device)?;
    Ok(Plan::OrWrite { lba, blocks, fua: force_unit_access(cdb) || unit.is_write_through() })
}
