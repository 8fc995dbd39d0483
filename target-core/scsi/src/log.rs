//! LOG SENSE (SPC-4 §6.8, §7.3; SBC-3 §6.4). Nothing is saved and nothing can be set.

use crate::cdb::Cdb;
use crate::commands::Unit;
use crate::device::Device;
use crate::plan::Plan;
use crate::provisioning::{AVAILABLE, USED, threshold_sets};
use crate::reply::{Fields as _, truncate};
use crate::sense::Sense;

/// What a unit has done since the daemon's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Commands that read blocks.
    pub read_commands: u64,
    /// Commands that write blocks.
    pub write_commands: u64,
    /// Blocks that were sent to initiators.
    pub blocks_read: u64,
    /// Blocks that came from initiators.
    pub blocks_written: u64,
    /// How often START STOP UNIT has stopped it.
    pub stops: u32,
}

/// A log page.
struct Page {
    code: u8,
    subpage: u8,
    /// Appends what stands behind the header.
    body: fn(&Unit<'_>, &mut Vec<u8>),
    /// The largest parameter code; 0 for a page without parameters.
    last_parameter: u16,
    /// DS: its parameters are not saved. 0 in the lists of pages, which have none.
    disable_save: bool,
    /// It exists only where space is counted.
    thin_only: bool,
}

const fn page(code: u8, last_parameter: u16, body: fn(&Unit<'_>, &mut Vec<u8>)) -> Page {
    Page { code, subpage: 0, body, last_parameter, disable_save: true, thin_only: false }
}

const fn list(subpage: u8, body: fn(&Unit<'_>, &mut Vec<u8>)) -> Page {
    Page { subpage, disable_save: false, ..page(0x00, 0, body) }
}

/// SUBPAGE CODE: all of them.
const ALL_SUBPAGES: u8 = 0xff;

/// The pages in ascending order.
static PAGES: &[Page] = &[
    list(0x00, supported_pages),
    list(ALL_SUBPAGES, supported_pages_and_subpages),
    Page { thin_only: true, ..page(0x0c, 0x0002, logical_block_provisioning) },
    page(0x0d, 0x0001, temperature),
    page(0x0e, 0x0004, start_stop_cycle_counter),
    page(0x19, 0x0003, general_statistics_and_performance),
    page(0x2f, 0x0000, informational_exceptions),
];

/// The pages that this logical unit has.
fn pages_of(device: &Device) -> impl Iterator<Item = &'static Page> {
    let thin = device.is_thin();
    PAGES.iter().filter(move |page| thin || !page.thin_only)
}

/// FORMAT AND LINKING of a log parameter; TSD is set in all of them, since nothing saves them.
#[derive(Clone, Copy)]
enum Format {
    /// A data counter.
    Counter = 0x20,
    /// A list in ASCII.
    Ascii = 0x21,
    /// A binary list.
    Binary = 0x23,
}

fn parameter(reply: &mut Vec<u8>, code: u16, format: Format, value: &[u8]) {
    reply.u16(code);
    reply.u8(format as u8);
    reply.u8(u8::try_from(value.len()).unwrap_or(u8::MAX));
    reply.extend_from_slice(value);
}

/// 00h/00h.
fn supported_pages(unit: &Unit<'_>, reply: &mut Vec<u8>) {
    reply.extend(pages_of(unit.device).filter(|page| page.subpage == 0).map(|page| page.code));
}

/// 00h/FFh.
fn supported_pages_and_subpages(unit: &Unit<'_>, reply: &mut Vec<u8>) {
    reply.extend(pages_of(unit.device).flat_map(|page| [page.code, page.subpage]));
}

/// 0Ch: what is left for all that share the space, and what this unit uses. No parameters before
/// anybody has looked.
fn logical_block_provisioning(unit: &Unit<'_>, reply: &mut Vec<u8>) {
    /// SCOPE: dedicated to the logical unit.
    const OWN: u8 = 1;
    /// SCOPE: not dedicated.
    const SHARED: u8 = 2;
    let Some((available, used)) = unit.device.space.get() else { return };
    for (code, bytes, scope) in [(AVAILABLE, available, SHARED), (USED, used, OWN)] {
        let mut value = Vec::new();
        value.u32(threshold_sets(bytes, unit.device));
        value.extend_from_slice(&[scope, 0, 0, 0]);
        parameter(reply, u16::from(code), Format::Binary, &value);
    }
}

/// 0Dh: TEMPERATURE and REFERENCE TEMPERATURE, neither of them known.
fn temperature(_unit: &Unit<'_>, reply: &mut Vec<u8>) {
    for code in [0x0000, 0x0001] {
        parameter(reply, code, Format::Binary, &[0x00, 0xff]);
    }
}

/// 0Eh: it was made and put into use at no time that is known, and takes any number of cycles.
fn start_stop_cycle_counter(unit: &Unit<'_>, reply: &mut Vec<u8>) {
    for code in [0x0001, 0x0002] {
        parameter(reply, code, Format::Ascii, b"      ");
    }
    parameter(reply, 0x0003, Format::Binary, &u32::MAX.to_be_bytes());
    let stops = (unit.context.statistics)().stops;
    parameter(reply, 0x0004, Format::Binary, &stops.to_be_bytes());
}

/// 19h: commands and blocks. No time is measured: TIME INTERVAL is 0, and so is all that is
/// counted in it.
fn general_statistics_and_performance(unit: &Unit<'_>, reply: &mut Vec<u8>) {
    let statistics = (unit.context.statistics)();
    let mut value = Vec::new();
    value.u64(statistics.read_commands);
    value.u64(statistics.write_commands);
    value.u64(statistics.blocks_written);
    value.u64(statistics.blocks_read);
    value.zeroes(32);
    parameter(reply, 0x0001, Format::Counter, &value);
    // IDLE TIME INTERVALS; TIME INTERVAL.
    parameter(reply, 0x0002, Format::Counter, &[0; 8]);
    parameter(reply, 0x0003, Format::Binary, &[0; 8]);
}

/// 2Fh: no exception; MOST RECENT TEMPERATURE READING: not known.
fn informational_exceptions(_unit: &Unit<'_>, reply: &mut Vec<u8>) {
    parameter(reply, 0x0000, Format::Binary, &[0x00, 0x00, 0xff, 0x00]);
}

/// PC: thresholds and defaults of the counters, of which there are none, are told as the current
/// values are (SPC-4 §6.8 leaves them to the device).
pub(crate) fn log_sense(cdb: Cdb, unit: &Unit<'_>, reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    if cdb.bit(1, 0x01) {
        // SP: nothing can be saved.
        return Err(Sense::invalid_field_in_cdb(1, Some(0)));
    }
    let (code, subpage) = (cdb.byte(2) & 0x3f, cdb.byte(3));
    let mut of_code = pages_of(unit.device).filter(|page| page.code == code).peekable();
    if of_code.peek().is_none() {
        return Err(Sense::invalid_field_in_cdb(2, Some(5)));
    }
    let Some(page) = of_code.find(|page| page.subpage == subpage) else {
        return Err(Sense::invalid_field_in_cdb(3, None));
    };
    let pointer = cdb.u16_at(5);
    if pointer > page.last_parameter {
        return Err(Sense::invalid_field_in_cdb(5, None));
    }
    // DS, SPF.
    let flags = u8::from(page.disable_save) << 7 | u8::from(subpage != 0) << 6;
    reply.extend_from_slice(&[flags | code, subpage, 0, 0]);
    (page.body)(unit, reply);
    drop_parameters(reply, pointer);
    let length = reply.len().saturating_sub(4);
    reply.set_u16(2, length);
    truncate(reply, u32::from(cdb.u16_at(7)));
    Ok(Plan::DataIn)
}

/// Drops the parameters in front of PARAMETER POINTER.
fn drop_parameters(reply: &mut Vec<u8>, pointer: u16) {
    while pointer > 0
        && let Some(&[high, low, _, length]) = reply.get(4..8)
        && u16::from_be_bytes([high, low]) < pointer
    {
        reply.drain(4..reply.len().min(8 + usize::from(length)));
    }
}
