//! MODE SENSE (SPC-4 §6.11, §6.12, §7.5; SBC-3 §6.5).

use crate::cdb::Cdb;
use crate::commands::Unit;
use crate::device::{Device, ModeParameters};
use crate::plan::Plan;
use crate::provisioning::{AVAILABLE, threshold_sets};
use crate::reply::{Fields as _, truncate};
use crate::sense::Sense;

/// Builds the bytes behind a page's header.
pub(crate) type Build = fn(ModeParameters, &Device) -> Vec<u8>;

/// A mode page, or a subpage of one.
pub(crate) struct Page {
    pub(crate) code: u8,
    /// 0 for the page_0 format.
    pub(crate) subpage: u8,
    /// It exists only where blocks can be unmapped.
    unmap_only: bool,
    /// Builds the bytes behind the header.
    pub(crate) build: Build,
}

const fn page(code: u8, build: Build) -> Page {
    Page { code, subpage: 0, unmap_only: false, build }
}

/// The pages in ascending order.
static PAGES: &[Page] = &[
    page(0x01, read_write_error_recovery),
    page(0x08, caching),
    page(0x0a, control),
    Page { subpage: 0x01, ..page(0x0a, control_extension) },
    page(0x1a, power_condition),
    page(0x1c, informational_exceptions_control),
    Page { subpage: 0x02, unmap_only: true, ..page(0x1c, logical_block_provisioning) },
];

/// More threshold descriptors are not told of: the page stays short enough for MODE SENSE(6).
const MAX_THRESHOLDS: usize = 8;

/// PAGE CODE: all of them.
const ALL_PAGES: u8 = 0x3f;
/// SUBPAGE CODE: all of them, and the page itself.
const ALL_SUBPAGES: u8 = 0xff;

/// The pages that this logical unit has.
pub(crate) fn pages_of(device: &Device) -> impl Iterator<Item = &'static Page> {
    let unmap = device.unmap;
    PAGES.iter().filter(move |page| unmap || !page.unmap_only)
}

impl Page {
    /// Bytes in front of the mode parameters.
    pub(crate) fn header_length(&self) -> usize {
        if self.subpage == 0 { 2 } else { 4 }
    }

    /// PS = 1: all pages are saved; SPF, and the header of its format (SPC-4 §7.5.7).
    fn header(&self, length: usize, reply: &mut Vec<u8>) {
        if self.subpage == 0 {
            reply.u8(0x80 | self.code);
            reply.u8(u8::try_from(length).unwrap_or(u8::MAX));
        } else {
            reply.u8(0x80 | 0x40 | self.code);
            reply.u8(self.subpage);
            reply.u16(u16::try_from(length).unwrap_or(u16::MAX));
        }
    }
}

/// The bits of a page that MODE SELECT may change: those in which its extremes differ.
pub(crate) fn changeable(build: Build, device: &Device) -> Vec<u8> {
    let extreme = |value| ModeParameters {
        write_cache_enabled: value,
        descriptor_sense: value,
        software_write_protect: value,
    };
    let (low, high) = (build(extreme(false), device), build(extreme(true), device));
    low.iter().zip(high).map(|(low, high)| low ^ high).collect()
}

fn read_write_error_recovery(_mode: ModeParameters, _device: &Device) -> Vec<u8> {
    // AWRE, ARRE: nobody else reassigns blocks here.
    let mut page = vec![0xc0];
    page.zeroes(9);
    page
}

fn caching(mode: ModeParameters, _device: &Device) -> Vec<u8> {
    let mut page = vec![u8::from(mode.write_cache_enabled) << 2];
    page.zeroes(17);
    page
}

fn control(mode: ModeParameters, _device: &Device) -> Vec<u8> {
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

/// 0Ah/01h: the command priority and MAXIMUM SENSE DATA LENGTH have no say here.
fn control_extension(_mode: ModeParameters, _device: &Device) -> Vec<u8> {
    // TCMOS: the timestamp is the host's time, whatever an initiator thinks it is.
    let mut page = vec![0x04];
    page.zeroes(27);
    page
}

fn power_condition(_mode: ModeParameters, _device: &Device) -> Vec<u8> {
    // No timer runs.
    let mut page = vec![0; 37];
    // CCF IDLE, CCF STANDBY, CCF STOPPED: no CHECK CONDITION on the way back.
    page.u8(0x54);
    page
}

fn informational_exceptions_control(_mode: ModeParameters, _device: &Device) -> Vec<u8> {
    vec![0; 10]
}

fn logical_block_provisioning(_mode: ModeParameters, device: &Device) -> Vec<u8> {
    thresholds_page(device)
}

/// 1Ch/02h: the soft thresholds, which the operator sets (SBC-3 §6.5.8).
pub(crate) fn thresholds_page(device: &Device) -> Vec<u8> {
    // SITUA = 0: every I_T nexus is told.
    let mut page = vec![0; 12];
    let thresholds = device.soft_thresholds.get();
    let told_of = if device.is_thin() { MAX_THRESHOLDS } else { 0 };
    for threshold in thresholds.iter().take(told_of) {
        // ENABLED; THRESHOLD TYPE 0h: soft; THRESHOLD ARMING 0h: as the resource decreases.
        page.u8(0x80);
        page.u8(AVAILABLE);
        page.u16(0);
        page.u32(threshold_sets(*threshold, device));
    }
    page
}

pub(crate) fn mode_sense_6(cdb: Cdb, unit: &Unit<'_>, reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    let device = unit.device;
    reply.extend_from_slice(&[0, 0, device_specific(unit), 0]);
    if !cdb.bit(1, 0x08) {
        short_block_descriptor(device, reply);
        reply.set_u8(3, 8);
    }
    append_pages(cdb, unit, reply)?;
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
        reply.u64(device.block_count());
        reply.u32(0);
        reply.u32(device.logical_block_length);
        reply.set_u16(6, 16);
    } else if !disable {
        short_block_descriptor(device, reply);
        reply.set_u16(6, 8);
    }
    append_pages(cdb, unit, reply)?;
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
    reply.u32(u32::try_from(device.block_count()).unwrap_or(u32::MAX));
    // Reserved byte and the three of LOGICAL BLOCK LENGTH.
    reply.u32(device.logical_block_length & 0x00ff_ffff);
}

fn append_pages(cdb: Cdb, unit: &Unit<'_>, reply: &mut Vec<u8>) -> Result<(), Sense> {
    let (control, code, subpage) = (cdb.byte(2) >> 6, cdb.byte(2) & 0x3f, cdb.byte(3));
    let mut of_code =
        pages_of(unit.device).filter(|page| code == ALL_PAGES || code == page.code).peekable();
    if of_code.peek().is_none() {
        return Err(Sense::invalid_field_in_cdb(2, Some(5)));
    }
    // With all pages, 01h to FEh are reserved.
    let exact = code != ALL_PAGES || subpage == 0;
    let mut wanted = of_code
        .filter(|page| subpage == ALL_SUBPAGES || exact && page.subpage == subpage)
        .peekable();
    if wanted.peek().is_none() {
        return Err(Sense::invalid_field_in_cdb(3, None));
    }
    for page in wanted {
        let mut body = match control {
            1 => changeable(page.build, unit.device),
            2 => (page.build)(unit.device.mode, unit.device),
            3 => (page.build)(unit.context.saved_mode, unit.device),
            _ => (page.build)(unit.context.mode, unit.device),
        };
        page.header(body.len(), reply);
        reply.append(&mut body);
    }
    Ok(())
}
