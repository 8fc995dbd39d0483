//! UNMAP, WRITE SAME, GET LBA STATUS (SBC-3 §4.7, §5.8, §5.28, §5.42, §5.43).

use crate::asc::AdditionalSense;
use crate::capacity::reads_zeroes;
use crate::cdb::Cdb;
use crate::commands::Unit;
use crate::device::Device;
use crate::plan::{BlockRange, Plan, WriteSameSource};
use crate::read_write::Run;
use crate::reply::Fields as _;
use crate::sense::Sense;

/// THRESHOLD RESOURCE, and parameter code of a log page: blocks that can still be mapped.
pub(crate) const AVAILABLE: u8 = 0x01;
/// Parameter code of a log page: blocks that are mapped.
pub(crate) const USED: u8 = 0x02;

/// Bytes in a threshold set: what thresholds and resources are counted in (SBC-3 §4.7.3.7).
const THRESHOLD_SET: u64 = 1 << 20;

/// THRESHOLD EXPONENT: a threshold set has 2^n logical blocks.
pub(crate) fn threshold_exponent(device: &Device) -> u8 {
    let blocks = THRESHOLD_SET / u64::from(device.logical_block_length).max(1);
    u8::try_from(blocks.checked_ilog2().unwrap_or(0)).unwrap_or(0)
}

/// Bytes in threshold sets.
pub(crate) fn threshold_sets(bytes: u64, device: &Device) -> u32 {
    let blocks = bytes / u64::from(device.logical_block_length).max(1);
    u32::try_from(blocks >> threshold_exponent(device)).unwrap_or(u32::MAX)
}

/// Bytes before the first block descriptor of an UNMAP parameter list.
const UNMAP_HEADER: usize = 8;
/// Bytes of an UNMAP block descriptor.
const UNMAP_DESCRIPTOR: usize = 16;

pub(crate) fn unmap(cdb: Cdb, unit: &Unit<'_>, _reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    if cdb.bit(1, 0x01) {
        // ANCHOR: there are no anchored blocks here (ANC_SUP = 0).
        return Err(Sense::invalid_field_in_cdb(1, Some(0)));
    }
    let length = u32::from(cdb.u16_at(7));
    if length == 0 {
        return Ok(Plan::Good);
    }
    if (length as usize) < UNMAP_HEADER || unit.context.data_out_length < length {
        return Err(Sense::illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR));
    }
    Ok(Plan::NeedData { length })
}

pub(crate) fn unmap_with_data(
    _cdb: Cdb,
    unit: &Unit<'_>,
    data: &[u8],
    ranges: &mut Vec<BlockRange>,
) -> Result<Plan, Sense> {
    let device = unit.device;
    let Some((header, list)) = data.split_first_chunk::<UNMAP_HEADER>() else {
        return Err(Sense::illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR));
    };
    let [_, _, high, low, ..] = *header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let descriptors = length / UNMAP_DESCRIPTOR;
    if descriptors > device.limits.max_unmap_descriptors as usize {
        return Err(Sense::invalid_field_in_parameter_list(2, None));
    }
    let Some(list) = list.get(..descriptors * UNMAP_DESCRIPTOR) else {
        return Err(Sense::illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR));
    };
    let mut total = 0u64;
    for (index, descriptor) in list.chunks_exact(UNMAP_DESCRIPTOR).enumerate() {
        let Some((lba, rest)) = descriptor.split_first_chunk::<8>() else { break };
        let Some((blocks, _)) = rest.split_first_chunk::<4>() else { break };
        let (lba, blocks) = (u64::from_be_bytes(*lba), u32::from_be_bytes(*blocks));
        Run { lba, blocks, length_at: 0 }.within(device)?;
        total += u64::from(blocks);
        if total > u64::from(device.limits.max_unmap_blocks) {
            let at = UNMAP_HEADER + index * UNMAP_DESCRIPTOR + 8;
            let at = u16::try_from(at).unwrap_or(u16::MAX);
            return Err(Sense::invalid_field_in_parameter_list(at, None));
        }
        if blocks > 0 {
            ranges.push(BlockRange { lba, blocks });
        }
    }
    Ok(Plan::Unmap)
}

/// NDOB, of WRITE SAME(16) only.
fn no_data_out_buffer(cdb: Cdb) -> bool {
    cdb.operation_code() == 0x93 && cdb.bit(1, 0x01)
}

/// The blocks of a WRITE SAME; 0 of them are none that is meant (WSNZ = 1).
fn write_same_run(cdb: Cdb, device: &Device) -> Result<(u64, u64), Sense> {
    let run = Run::of(cdb).within(device)?;
    let blocks = u64::from(run.blocks);
    if blocks == 0 {
        return Err(Sense::invalid_field_in_cdb(run.length_at, None));
    }
    if device.limits.max_write_same_blocks != 0 && blocks > device.limits.max_write_same_blocks {
        return Err(Sense::invalid_field_in_cdb(run.length_at, None));
    }
    Ok((run.lba, blocks))
}

pub(crate) fn write_same(cdb: Cdb, unit: &Unit<'_>, _reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    let device = unit.device;
    if cdb.bit(1, 0x10) {
        return Err(Sense::invalid_field_in_cdb(1, Some(4)));
    }
    let unmap = cdb.bit(1, 0x08);
    if unmap && !device.unmap {
        return Err(Sense::invalid_field_in_cdb(1, Some(3)));
    }
    let (lba, blocks) = write_same_run(cdb, device)?;
    if no_data_out_buffer(cdb) {
        let source = WriteSameSource::Zeroes;
        let durable = unit.is_write_through();
        return Ok(Plan::WriteSame { lba, blocks, unmap, anchor: false, source, durable });
    }
    if unit.context.data_out_length != device.logical_block_length {
        return Err(Sense::illegal(AdditionalSense::INVALID_FIELD_IN_CDB));
    }
    Ok(Plan::NeedData { length: device.logical_block_length })
}

pub(crate) fn write_same_with_data(
    cdb: Cdb,
    unit: &Unit<'_>,
    data: &[u8],
    _ranges: &mut Vec<BlockRange>,
) -> Result<Plan, Sense> {
    let device = unit.device;
    let (lba, blocks) = write_same_run(cdb, device)?;
    let zeroes = data.iter().all(|byte| *byte == 0);
    let source = if zeroes { WriteSameSource::Zeroes } else { WriteSameSource::Data };
    // Space is given back only if what is read afterwards is what was to be written.
    let unmap = cdb.bit(1, 0x08) && zeroes && reads_zeroes(device);
    let durable = unit.is_write_through();
    Ok(Plan::WriteSame { lba, blocks, unmap, anchor: false, source, durable })
}

pub(crate) fn get_lba_status(
    cdb: Cdb,
    unit: &Unit<'_>,
    _reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    let lba = cdb.u64_at(2);
    let count = unit.device.block_count();
    if lba >= count {
        return Err(Sense::lba_out_of_range(lba));
    }
    Ok(Plan::LbaStatus { lba, blocks: count - lba, allocation_length: cdb.u32_at(10) })
}

/// PROVISIONING STATUS (SBC-3 §5.8.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ProvisioningStatus {
    /// Mapped, or not known.
    Mapped = 0,
    /// Deallocated.
    Deallocated = 1,
}

/// Builds the parameter data of GET LBA STATUS.
#[derive(Debug)]
pub struct LbaStatusReply<'a> {
    reply: &'a mut Vec<u8>,
    last: Option<(u64, u64, ProvisioningStatus)>,
    room: usize,
    allocation_length: u32,
}

impl<'a> LbaStatusReply<'a> {
    /// Starts with the header; at most so many descriptors as fit both the allocation length and
    /// a bounded amount of work.
    pub fn new(reply: &'a mut Vec<u8>, allocation_length: u32) -> Self {
        reply.clear();
        reply.zeroes(8);
        let fitting = (allocation_length as usize).saturating_sub(8) / 16;
        Self { reply, last: None, room: fitting.clamp(1, 64), allocation_length }
    }

    /// Adds an extent behind the previous one. False: no more, please.
    pub fn push(&mut self, lba: u64, blocks: u64, status: ProvisioningStatus) -> bool {
        if let Some((_, last_blocks, last_status)) = &mut self.last
            && *last_status == status
        {
            *last_blocks += blocks;
            return true;
        }
        self.write();
        if self.room == 0 {
            return false;
        }
        self.last = Some((lba, blocks, status));
        true
    }

    fn write(&mut self) {
        let Some((lba, blocks, status)) = self.last.take() else { return };
        self.reply.u64(lba);
        self.reply.u32(u32::try_from(blocks).unwrap_or(u32::MAX));
        self.reply.u8(status as u8);
        self.reply.zeroes(3);
        self.room -= 1;
    }

    /// Fills in the length and cuts to the allocation length.
    pub fn finish(mut self) {
        self.write();
        let length = u32::try_from(self.reply.len().saturating_sub(4)).unwrap_or(u32::MAX);
        if let Some(field) = self.reply.get_mut(..4) {
            field.copy_from_slice(&length.to_be_bytes());
        }
        crate::reply::truncate(self.reply, self.allocation_length);
    }
}
