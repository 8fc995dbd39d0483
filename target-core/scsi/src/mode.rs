//! MODE SENSE (SPC-4 §6.11, §6.12, §7.5; SBC-3 §6.5).

use crate::asc::AdditionalSense;
use crate::cdb::Cdb;
use crate::commands::Unit;
use crate::device::{Device, ModeParameters};
use crate::plan::Plan;
use crate::reply::{Fields as _, truncate};
use crate::sense::Sense;

/// Builds the bytes behind a page's two-byte header.
pub(crate) type Page = fn(ModeParameters) -> Vec<u8>;

/// The pages in ascending order.
pub(crate) static PAGES: &[(u8, Page)] =
    &[(0x01, read_write_error_recovery), (0x08, caching), (0x0a, control), (0x1c, exceptions)];

/// PAGE CODE: all of them.
const ALL_PAGES: u8 = 0x3f;

/// The bits of a page that MODE SELECT may change: those in which its extremes differ.
pub(crate) fn changeable(build: Page) -> Vec<u8> {
    let extreme = |value| ModeParameters {
        write_cache_enabled: value,
        descriptor_sense: value,
        software_write_protect: value,
    };
    let (low, high) = (build(extreme(false)), build(extreme(true)));
    low.iter().zip(high).map(|(low, high)| low ^ high).collect()
}

fn read_write_error_recovery(_mode: ModeParameters) -> Vec<u8> {
    // AWRE, ARRE: nobody else reassigns blocks here.
    let mut page = vec![0xc0];
    page.zeroes(9);
    page
}

fn caching(mode: ModeParameters) -> Vec<u8> {
    let mut page = vec![u8::from(mode.write_cache_enabled) << 2];
    page.zeroes(17);
    page
}

fn control(mode: ModeParameters) -> Vec<u8> {
    // D_SENSE; QUEUE ALGORITHM MODIFIER 1: commands are reordered freely; SWP.
    let mut page = vec![
        u8::from(mode.descriptor_sense) << 2,
        0x10,
        u8::from(mode.software_write_protect) << 3,
        0,
        0,
        0,
    ];
    // BUSY TIMEOUT PERIOD: unlimited.
    page.u16(0xffff);
    page.u16(0);
    page
}

fn exceptions(_mode: ModeParameters) -> Vec<u8> {
    let mut page = Vec::new();
    page.zeroes(10);
    page
}

pub(crate) fn mode_sense_6(cdb: Cdb, unit: &Unit<'_>, reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    let device = unit.device;
    reply.extend_from_slice(&[0, 0, device_specific(unit), 0]);
    if !cdb.bit(1, 0x08) {
        short_block_descriptor(device, reply);
        reply.set_u8(3, 8);
    }
    pages(cdb, unit, reply)?;
    let length = reply.len().saturating_sub(1);
    reply.set_u8(0, length);
    truncate(reply, u32::from(cdb.byte(4)));
    Ok(Plan::DataIn)
}

pub(crate) fn mode_sense_10(cdb: Cdb, unit: &Unit<'_>, reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    let device = unit.device;
    reply.extend_from_slice(&[0, 0, 0, device_specific(unit), 0, 0, 0, 0]);
    let (long, disable) = (cdb.bit(1, 0x10), cdb.bit(1, 0x08));
    if !disable && long {
        // LONGLBA: this descriptor has 16 bytes.
        reply.set_u8(4, 1);
        reply.u64(device.block_count);
        reply.u32(0);
        reply.u32(device.logical_block_length);
        reply.set_u16(6, 16);
    } else if !disable {
        short_block_descriptor(device, reply);
        reply.set_u16(6, 8);
    }
    pages(cdb, unit, reply)?;
    let length = reply.len().saturating_sub(2);
    reply.set_u16(0, length);
    truncate(reply, u32::from(cdb.u16_at(7)));
    Ok(Plan::DataIn)
}

/// DEVICE-SPECIFIC PARAMETER: WP, DPOFUA (SBC-3 §6.5.1).
fn device_specific(unit: &Unit<'_>) -> u8 {
    u8::from(unit.is_write_protected()) << 7 | 0x10
}

fn short_block_descriptor(device: &Device, reply: &mut Vec<u8>) {
    reply.u32(u32::try_from(device.block_count).unwrap_or(u32::MAX));
    // Reserved byte and the three of LOGICAL BLOCK LENGTH.
    reply.u32(device.logical_block_length & 0x00ff_ffff);
}

fn pages(cdb: Cdb, unit: &Unit<'_>, reply: &mut Vec<u8>) -> Result<(), Sense> {
    let (control, page, subpage) = (cdb.byte(2) >> 6, cdb.byte(2) & 0x3f, cdb.byte(3));
    if control == 3 {
        return Err(Sense::illegal(AdditionalSense::SAVING_PARAMETERS_NOT_SUPPORTED));
    }
    // Subpage FFh: all of them, and page 0 of each is all there is.
    if subpage != 0 && subpage != 0xff {
        return Err(Sense::invalid_field_in_cdb(3, None));
    }
    let before = reply.len();
    for (code, build) in PAGES.iter().filter(|(code, _)| page == ALL_PAGES || page == *code) {
        let mut body = match control {
            1 => changeable(*build),
            2 => build(unit.device.mode),
            _ => build(unit.context.mode),
        };
        reply.u8(*code);
        reply.u8(u8::try_from(body.len()).unwrap_or(u8::MAX));
        reply.append(&mut body);
    }
    if reply.len() == before {
        return Err(Sense::invalid_field_in_cdb(2, Some(5)));
    }
    Ok(())
}
