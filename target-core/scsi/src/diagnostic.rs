//! SEND DIAGNOSTIC and RECEIVE DIAGNOSTIC RESULTS (SPC-4 §6.42, §7.2).

use crate::cdb::Cdb;
use crate::commands::Unit;
use crate::device::MediumState;
use crate::plan::Plan;
use crate::reply::{Fields as _, truncate};
use crate::sense::Sense;

/// SELFTEST: the default self-test.
const SELF_TEST: u8 = 0x04;

/// The default self-test passes as long as the medium is there; DEVOFFL and UNITOFFL allow what is
/// not done, PF is about a parameter list, and there is none.
pub(crate) fn send_diagnostic(
    cdb: Cdb,
    unit: &Unit<'_>,
    _reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    // SELF-TEST CODE: no background or foreground self-test.
    if cdb.byte(1) >> 5 != 0 {
        return Err(Sense::invalid_field_in_cdb(1, Some(7)));
    }
    if cdb.u16_at(3) != 0 {
        return Err(Sense::invalid_field_in_cdb(3, None));
    }
    match unit.context.state {
        MediumState::NotReady(sense) if cdb.bit(1, SELF_TEST) => Err(sense),
        MediumState::NotReady(_) | MediumState::Ready => Ok(Plan::Good),
    }
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
