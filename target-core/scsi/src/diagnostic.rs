//! SEND DIAGNOSTIC and RECEIVE DIAGNOSTIC RESULTS (SPC-4 §6.42, §7.2).

use crate::asc::AdditionalSense;
use crate::cdb::Cdb;
use crate::commands::Unit;
use crate::device::MediumState;
use crate::plan::{BlockRange, Plan};
use crate::reply::{Fields as _, truncate};
use crate::sense::Sense;

/// SELFTEST: the default self-test.
const SELF_TEST: u8 = 0x04;
/// PF: the parameter list is a diagnostic page.
const PAGE_FORMAT: u8 = 0x10;

const LENGTH_ERROR: Sense = Sense::illegal(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);

/// The default self-test passes as long as the medium is there; DEVOFFL and UNITOFFL allow what is
/// not done. The only page that can be sent asks for the list of pages, which is what RECEIVE
/// DIAGNOSTIC RESULTS gives in any case.
pub(crate) fn send_diagnostic(
    cdb: Cdb,
    unit: &Unit<'_>,
    _reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    // SELF-TEST CODE: no background or foreground self-test.
    if cdb.byte(1) >> 5 != 0 {
        return Err(Sense::invalid_field_in_cdb(1, Some(7)));
    }
    let length = cdb.u16_at(3);
    if length != 0 {
        // SPC-4 §6.42: none with a self-test, and in no format of our own.
        if cdb.bit(1, SELF_TEST) || !cdb.bit(1, PAGE_FORMAT) {
            return Err(Sense::invalid_field_in_cdb(3, None));
        }
        let length = u32::from(length);
        let sent = unit.context.data_out_length;
        return if sent < length { Err(LENGTH_ERROR) } else { Ok(Plan::NeedData { length }) };
    }
    match unit.context.state {
        MediumState::NotReady(sense) if cdb.bit(1, SELF_TEST) => Err(sense),
        MediumState::NotReady(_) | MediumState::Claimed(..) | MediumState::Ready => Ok(Plan::Good),
    }
}

pub(crate) fn send_diagnostic_with_data(
    _cdb: Cdb,
    _unit: &Unit<'_>,
    data: &[u8],
    _ranges: &mut Vec<BlockRange>,
) -> Result<Plan, Sense> {
    let &[page, _, high, low, ref rest @ ..] = data else { return Err(LENGTH_ERROR) };
    if page != 0 {
        return Err(Sense::invalid_field_in_parameter_list(0, None));
    }
    if high != 0 || low != 0 {
        return Err(Sense::invalid_field_in_parameter_list(2, None));
    }
    if rest.is_empty() { Ok(Plan::Good) } else { Err(LENGTH_ERROR) }
}

/// The only page is that of the supported pages; without PCV too, where the standard leaves open
/// what answers a SEND DIAGNOSTIC that asked for nothing.
pub(crate) fn receive_diagnostic_results(
    cdb: Cdb,
    _unit: &Unit<'_>,
    reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    if cdb.byte(2) != 0 {
        return Err(Sense::invalid_field_in_cdb(2, None));
    }
    // 00h: PAGE CODE, reserved, PAGE LENGTH, and the list.
    reply.u16(0x0000);
    reply.u16(1);
    reply.u8(0x00);
    truncate(reply, u32::from(cdb.u16_at(3)));
    Ok(Plan::DataIn)
}
