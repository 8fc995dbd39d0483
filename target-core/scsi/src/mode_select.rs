//! MODE SELECT (SPC-4 §6.9, §6.10).

use crate::asc::AdditionalSense;
use crate::cdb::Cdb;
use crate::commands::Unit;
use crate::device::ModeParameters;
use crate::mode::{Page, changeable, pages_of};
use crate::plan::{BlockRange, Plan};
use crate::sense::Sense;

/// PF: the pages have the format of the standard.
const PAGE_FORMAT: u8 = 0x10;
/// SPF: the page has a subpage code and a length of two bytes.
const SUBPAGE_FORMAT: u8 = 0x40;
/// SP: save them.
const SAVE_PAGES: u8 = 0x01;

const LENGTH_ERROR: Sense = Sense::illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);

fn has_ten_bytes(cdb: Cdb) -> bool {
    cdb.operation_code() == 0x55
}

pub(crate) fn mode_select(cdb: Cdb, unit: &Unit<'_>, _reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    let length = if has_ten_bytes(cdb) { u32::from(cdb.u16_at(7)) } else { u32::from(cdb.byte(4)) };
    if length == 0 {
        // With SP, what is in force is saved (SPC-4 §6.9).
        return Ok(match cdb.bit(1, SAVE_PAGES) {
            true => Plan::ModeSelect { mode: unit.context.mode, save: true },
            false => Plan::Good,
        });
    }
    if !cdb.bit(1, PAGE_FORMAT) {
        return Err(Sense::invalid_field_in_cdb(1, Some(4)));
    }
    if unit.context.data_out_length < length {
        return Err(LENGTH_ERROR);
    }
    Ok(Plan::NeedData { length })
}

pub(crate) fn mode_select_with_data(
    cdb: Cdb,
    unit: &Unit<'_>,
    data: &[u8],
    _ranges: &mut Vec<BlockRange>,
) -> Result<Plan, Sense> {
    let mut rest = List { data, at: 0 };
    let (header, length_at) = if has_ten_bytes(cdb) { (8, 6) } else { (4, 3) };
    let header = rest.take(header)?;
    let long = has_ten_bytes(cdb) && header.get(4).is_some_and(|byte| byte & 1 != 0);
    let descriptor_length = match *header.get(length_at..).unwrap_or_default() {
        [length] => usize::from(length),
        [high, low] => usize::from(u16::from_be_bytes([high, low])),
        _ => 0,
    };
    let expected = if long { 16 } else { 8 };
    if descriptor_length != 0 && descriptor_length != expected {
        return Err(field(length_at, None));
    }
    let at = rest.at;
    check_block_descriptor(rest.take(descriptor_length)?, unit)
        .map_err(|byte| field(at + byte, None))?;

    let mut mode = unit.context.mode;
    while !rest.is_empty() {
        let at = rest.at;
        let page = page_header(&mut rest, unit)?;
        let current = (page.build)(unit.context.mode, unit.device);
        let mask = changeable(page.build, unit.device);
        let body = rest.take(current.len())?;
        for (index, ((new, old), mask)) in body.iter().zip(&current).zip(&mask).enumerate() {
            if (new ^ old) & !mask != 0 {
                return Err(field(at + page.header_length() + index, None));
            }
        }
        apply(&mut mode, page, body);
    }
    Ok(Plan::ModeSelect { mode, save: cdb.bit(1, SAVE_PAGES) })
}

fn field(at: usize, bit: Option<u8>) -> Sense {
    Sense::invalid_field_in_parameter_list(u16::try_from(at).unwrap_or(u16::MAX), bit)
}

/// Takes the header of a page in either format, whose length must be that of the page. PS is
/// reserved here and not looked at.
fn page_header(rest: &mut List<'_>, unit: &Unit<'_>) -> Result<&'static Page, Sense> {
    let at = rest.at;
    let &[first, second] = rest.take(2)? else { return Err(LENGTH_ERROR) };
    let code = first & 0x3f;
    let long = first & SUBPAGE_FORMAT != 0;
    let subpage = if long { second } else { 0 };
    if !pages_of(unit.device).any(|page| page.code == code) {
        return Err(field(at, Some(5)));
    }
    // Subpage 0 has the short format only.
    let page = pages_of(unit.device)
        .find(|page| (page.code, page.subpage) == (code, subpage) && long == (subpage != 0))
        .ok_or(field(at + 1, None))?;
    let (length, length_at) = if long {
        let &[high, low] = rest.take(2)? else { return Err(LENGTH_ERROR) };
        (u16::from_be_bytes([high, low]), at + 2)
    } else {
        (u16::from(second), at + 1)
    };
    if usize::from(length) != (page.build)(unit.context.mode, unit.device).len() {
        return Err(field(length_at, None));
    }
    Ok(page)
}

/// The medium cannot be changed: what the descriptor says must be what is there, or nothing.
fn check_block_descriptor(descriptor: &[u8], unit: &Unit<'_>) -> Result<(), usize> {
    let number = |bytes: &[u8]| bytes.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let (blocks, length_at) = match descriptor.len() {
        8 => (number(descriptor.get(..4).unwrap_or_default()), 5),
        16 => (number(descriptor.get(..8).unwrap_or_default()), 12),
        _ => return Ok(()),
    };
    let count = unit.device.block_count();
    let all = if length_at == 5 { u64::from(u32::MAX) } else { u64::MAX };
    if blocks != 0 && blocks != all && blocks != count.min(all) {
        return Err(0);
    }
    let length = number(descriptor.get(length_at..).unwrap_or_default());
    if length != u64::from(unit.device.logical_block_length) { Err(length_at) } else { Ok(()) }
}

fn apply(mode: &mut ModeParameters, page: &Page, body: &[u8]) {
    let bit = |byte: usize, mask: u8| body.get(byte).is_some_and(|value| value & mask != 0);
    match (page.code, page.subpage) {
        (0x08, 0) => mode.write_cache_enabled = bit(0, 0x04),
        (0x0a, 0) => {
            mode.descriptor_sense = bit(0, 0x04);
            mode.software_write_protect = bit(2, 0x08);
        }
        _ => {}
    }
}

/// A parameter list that is read from the front.
struct List<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> List<'a> {
    fn is_empty(&self) -> bool {
        self.at >= self.data.len()
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Sense> {
        let taken = self.data.get(self.at..self.at + length).ok_or(LENGTH_ERROR)?;
        self.at += length;
        Ok(taken)
    }
}
