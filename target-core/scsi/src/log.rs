//! LOG SENSE (SPC-4 §6.8, §7.3). Nothing is counted here and nothing saved: the pages are the
//! lists of pages, and the one that says that there is no informational exception.

use crate::cdb::Cdb;
use crate::commands::Unit;
use crate::plan::Plan;
use crate::reply::{Fields as _, truncate};
use crate::sense::Sense;

/// A log page.
struct Page {
    code: u8,
    subpage: u8,
    /// What stands behind the header.
    body: fn(&mut Vec<u8>),
    /// The largest parameter code; 0 for a page without parameters.
    last_parameter: u16,
    /// DS: its parameters are not saved. 0 in the lists of pages, which have none.
    disable_save: bool,
}

/// SUBPAGE CODE: all of them.
const ALL_SUBPAGES: u8 = 0xff;

/// The pages in ascending order.
static PAGES: &[Page] = &[
    Page { code: 0x00, subpage: 0, body: supported_pages, last_parameter: 0, disable_save: false },
    Page {
        code: 0x00,
        subpage: ALL_SUBPAGES,
        body: supported_pages_and_subpages,
        last_parameter: 0,
        disable_save: false,
    },
    Page {
        code: 0x2f,
        subpage: 0,
        body: informational_exceptions,
        last_parameter: 0,
        disable_save: true,
    },
];

/// 00h/00h.
fn supported_pages(reply: &mut Vec<u8>) {
    reply.extend(PAGES.iter().filter(|page| page.subpage == 0).map(|page| page.code));
}

/// 00h/FFh.
fn supported_pages_and_subpages(reply: &mut Vec<u8>) {
    reply.extend(PAGES.iter().flat_map(|page| [page.code, page.subpage]));
}

/// 2Fh/00h.
fn informational_exceptions(reply: &mut Vec<u8>) {
    // PARAMETER CODE 0000h.
    reply.u16(0);
    // TSD, since nothing saves it; FORMAT AND LINKING 11b: a binary list.
    reply.u8(0x23);
    reply.u8(4);
    // No exception; MOST RECENT TEMPERATURE READING: not known.
    reply.extend_from_slice(&[0x00, 0x00, 0xff, 0x00]);
}

/// PC is not looked at: none of the parameters is a data counter (SPC-4 §6.8).
pub(crate) fn log_sense(cdb: Cdb, _unit: &Unit<'_>, reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    if cdb.bit(1, 0x01) {
        // SP: nothing can be saved.
        return Err(Sense::invalid_field_in_cdb(1, Some(0)));
    }
    let (code, subpage) = (cdb.byte(2) & 0x3f, cdb.byte(3));
    let mut of_code = PAGES.iter().filter(|page| page.code == code).peekable();
    if of_code.peek().is_none() {
        return Err(Sense::invalid_field_in_cdb(2, Some(5)));
    }
    let Some(page) = of_code.find(|page| page.subpage == subpage) else {
        return Err(Sense::invalid_field_in_cdb(3, None));
    };
    if cdb.u16_at(5) > page.last_parameter {
        return Err(Sense::invalid_field_in_cdb(5, None));
    }
    // DS, SPF.
    let flags = u8::from(page.disable_save) << 7 | u8::from(subpage != 0) << 6;
    reply.extend_from_slice(&[flags | code, subpage, 0, 0]);
    (page.body)(reply);
    let length = reply.len().saturating_sub(4);
    reply.set_u16(2, length);
    truncate(reply, u32::from(cdb.u16_at(7)));
    Ok(Plan::DataIn)
}
