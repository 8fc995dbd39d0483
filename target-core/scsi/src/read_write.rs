//! READ, WRITE, SYNCHRONIZE CACHE, PRE-FETCH, READ DEFECT DATA (SBC-3 §5.8, §5.11 to §5.14, §5.17,
//! §5.18, §5.32 to §5.36).

use crate::cdb::Cdb;
use crate::commands::Unit;
use crate::device::Device;
use crate::plan::Plan;
use crate::reply::{Fields as _, truncate};
use crate::sense::Sense;

/// The run of blocks that a CDB names, and where its length stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) lba: u64,
    pub(crate) blocks: u32,
    pub(crate) length_at: u16,
}

impl Run {
    /// Reads the fields, which stand at the same places in all commands of a length.
    pub(crate) fn of(cdb: Cdb) -> Self {
        match cdb.operation_code() >> 5 {
            0 => {
                let blocks = cdb.byte(4);
                Self {
                    lba: u64::from(cdb.u32_at(0) & 0x1f_ffff),
                    // A READ(6) or WRITE(6) of 0 blocks is one of 256.
                    blocks: if blocks == 0 { 256 } else { u32::from(blocks) },
                    length_at: 4,
                }
            }
            4 => Self { lba: cdb.u64_at(2), blocks: cdb.u32_at(10), length_at: 10 },
            5 => Self { lba: u64::from(cdb.u32_at(2)), blocks: cdb.u32_at(6), length_at: 6 },
            _ => Self {
                lba: u64::from(cdb.u32_at(2)),
                blocks: u32::from(cdb.u16_at(7)),
                length_at: 7,
            },
        }
    }

    /// Refuses what is not on the medium.
    pub(crate) fn within(self, device: &Device) -> Result<Self, Sense> {
        match self.lba.checked_add(u64::from(self.blocks)) {
            Some(end) if end <= device.block_count() => Ok(self),
            _ => Err(Sense::lba_out_of_range(self.lba)),
        }
    }

    /// Refuses more than MAXIMUM TRANSFER LENGTH too.
    pub(crate) fn transfer(self, device: &Device) -> Result<Self, Sense> {
        let max = device.limits.max_transfer_blocks;
        if max != 0 && self.blocks > max {
            return Err(Sense::invalid_field_in_cdb(self.length_at, None));
        }
        self.within(device)
    }
}

pub(crate) fn read(cdb: Cdb, unit: &Unit<'_>, _reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    let Run { lba, blocks, .. } = Run::of(cdb).transfer(unit.device)?;
    Ok(Plan::Read { lba, blocks, fua: force_unit_access(cdb) })
}

pub(crate) fn write(cdb: Cdb, unit: &Unit<'_>, _reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    let Run { lba, blocks, .. } = Run::of(cdb).transfer(unit.device)?;
    Ok(Plan::Write { lba, blocks, fua: force_unit_access(cdb) || unit.is_write_through() })
}

/// FUA; the commands of six bytes have none.
pub(crate) fn force_unit_access(cdb: Cdb) -> bool {
    cdb.operation_code() >= 0x20 && cdb.bit(1, 0x08)
}

pub(crate) fn pre_fetch(cdb: Cdb, unit: &Unit<'_>, _reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    let Run { lba, blocks, .. } = Run::of(cdb).within(unit.device)?;
    let blocks = match blocks {
        0 => unit.device.block_count() - lba,
        blocks => u64::from(blocks),
    };
    Ok(Plan::PreFetch { lba, blocks, immediate: cdb.bit(1, 0x02) })
}

/// READ DEFECT DATA (SBC-3 §5.17): both lists are empty, in whatever format.
pub(crate) fn read_defect_data(
    cdb: Cdb,
    _unit: &Unit<'_>,
    reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    let (lists, length_bytes, allocation_length) = match cdb.operation_code() {
        0x37 => (cdb.byte(2), 2, u32::from(cdb.u16_at(7))),
        _ => (cdb.byte(1), 6, cdb.u32_at(6)),
    };
    reply.u8(0);
    reply.u8(lists & 0x1f);
    reply.zeroes(length_bytes);
    truncate(reply, allocation_length);
    Ok(Plan::DataIn)
}

pub(crate) fn synchronize_cache(
    cdb: Cdb,
    unit: &Unit<'_>,
    _reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    let Run { lba, blocks, .. } = Run::of(cdb).within(unit.device)?;
    Ok(Plan::Flush { lba, blocks, immediate: cdb.bit(1, 0x02) })
}
