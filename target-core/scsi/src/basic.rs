//! TEST UNIT READY, REQUEST SENSE, START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL.

use crate::cdb::Cdb;
use crate::commands::{AccessClass, Unit};
use crate::device::{Context, MediumState};
use crate::dispatch;
use crate::plan::{BlockRange, Plan};
use crate::reply::truncate;
use crate::reservation::parameter_list_length;
use crate::sense::{Sense, SenseFormat};

/// SPC-4 §6.47; the medium's state was checked with the rest of the table.
pub(crate) fn test_unit_ready(
    _cdb: Cdb,
    _unit: &Unit<'_>,
    _reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    Ok(Plan::Good)
}

/// SPC-4 §6.39: the pending unit attention, the state of the port or that of the medium, as parameter data.
pub(crate) fn request_sense(
    cdb: Cdb,
    context: &Context<'_>,
    reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    let format = if cdb.bit(1, 0x01) { SenseFormat::Descriptor } else { SenseFormat::Fixed };
    let inaccessible = context.access.refusal(AccessClass::Active);
    let attention = context.unit_attention.or(inaccessible);
    let sense = match (context.device, attention, context.state) {
        (None, _, _) => dispatch::NO_UNIT,
        (Some(_), Some(sense), _) => sense,
        (Some(_), None, MediumState::NotReady(sense)) => sense,
        (Some(_), None, MediumState::Claimed(condition, progress)) => condition.sense(progress),
        (Some(_), None, MediumState::Ready) => Sense::NONE,
    };
    let mut bytes = [0; Sense::MAX_LENGTH];
    let length = sense.encode(format, &mut bytes);
    reply.extend_from_slice(bytes.get(..length).unwrap_or_default());
    truncate(reply, u32::from(cdb.byte(4)));
    Ok(Plan::DataIn)
}

/// PERSISTENT RESERVE IN, whatever its service action.
pub(crate) fn reserve_in(_cdb: Cdb, _unit: &Unit<'_>, _reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    Ok(Plan::ReserveIn)
}

/// PERSISTENT RESERVE OUT.
pub(crate) fn reserve_out(cdb: Cdb, unit: &Unit<'_>, _reply: &mut Vec<u8>) -> Result<Plan, Sense> {
    let length = parameter_list_length(cdb, unit.context.data_out_length)?;
    Ok(Plan::NeedData { length })
}

pub(crate) fn reserve_out_with_data(
    _cdb: Cdb,
    _unit: &Unit<'_>,
    _data: &[u8],
    _ranges: &mut Vec<BlockRange>,
) -> Result<Plan, Sense> {
    Ok(Plan::ReserveOut)
}

/// RESERVE and RELEASE.
pub(crate) fn reserve_unit(
    cdb: Cdb,
    _unit: &Unit<'_>,
    _reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    // 17h and 57h are RELEASE.
    Ok(Plan::ReserveUnit { release: cdb.operation_code() & 1 != 0 })
}

/// SPC-4 §6.16, of SBC-3 too. What cannot be removed stays where it is in any case.
pub(crate) fn prevent_allow_medium_removal(
    _cdb: Cdb,
    _unit: &Unit<'_>,
    _reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    Ok(Plan::Good)
}

/// SBC-3 §5.25. There is nothing to eject and no power to save; START is kept for the unit.
pub(crate) fn start_stop_unit(
    cdb: Cdb,
    unit: &Unit<'_>,
    _reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    let power_condition = cdb.byte(4) >> 4;
    match power_condition {
        0 => {}
        // ACTIVE, IDLE, STANDBY, LU_CONTROL, FORCE_IDLE_0, FORCE_STANDBY_0: nothing to do.
        0x1..=0x3 | 0x7 | 0xa | 0xb => return Ok(Plan::Good),
        _ => return Err(Sense::invalid_field_in_cdb(4, Some(7))),
    }
    if cdb.bit(4, 0x02) {
        // LOEJ: the medium is not removable.
        return Err(Sense::invalid_field_in_cdb(4, Some(1)));
    }
    let flush = !cdb.bit(4, 0x04) && !unit.is_write_protected();
    Ok(Plan::StartStop { start: cdb.bit(4, 0x01), immediate: cdb.bit(1, 0x01), flush })
}
