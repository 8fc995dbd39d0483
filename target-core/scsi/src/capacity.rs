//! READ CAPACITY (SBC-3 §5.15, §5.16).

use crate::cdb::Cdb;
use crate::commands::Unit;
use crate::device::Device;
use crate::plan::Plan;
use crate::reply::{Fields as _, truncate};
use crate::sense::Sense;

pub(crate) fn read_capacity_10(
    _cdb: Cdb,
    unit: &Unit<'_>,
    reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    let device = unit.device;
    // FFFFFFFFh: ask with READ CAPACITY(16).
    reply.u32(u32::try_from(device.last_lba()).unwrap_or(u32::MAX));
    reply.u32(device.logical_block_length);
    Ok(Plan::DataIn)
}

pub(crate) fn read_capacity_16(
    cdb: Cdb,
    unit: &Unit<'_>,
    reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    let device = unit.device;
    reply.u64(device.last_lba());
    capacity_parameters(device, reply);
    truncate(reply, cdb.u32_at(10));
    Ok(Plan::DataIn)
}

/// The data of READ CAPACITY(16) behind the last address: 24 bytes.
pub(crate) fn capacity_parameters(device: &Device, reply: &mut Vec<u8>) {
    reply.u32(device.logical_block_length);
    // No protection information.
    reply.u8(0);
    reply.u8(device.physical_block_exponent & 0x0f);
    // LBPME, LBPRZ; the lowest aligned LBA is 0.
    reply.u16(u16::from(device.unmap) << 15 | u16::from(reads_zeroes(device)) << 14);
    reply.zeroes(16);
}

pub(crate) fn reads_zeroes(device: &Device) -> bool {
    device.unmap && device.lbprz
}
