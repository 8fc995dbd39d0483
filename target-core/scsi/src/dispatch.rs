//! From a CDB to a plan: the checks that all commands have in common, in the order in which SAM
//! and SPC want them.

use crate::asc::AdditionalSense;
use crate::cdb::Cdb;
use crate::commands::{Command, Handler, Needs, Unit, lookup};
use crate::device::{Context, MediumState};
use crate::long_cdb::VARIABLE_LENGTH;
use crate::plan::{BlockRange, Plan};
use crate::sense::{Sense, SenseKey};

/// What the engine must do for `cdb`. Parameter data goes into `reply`, which is cleared first.
pub fn plan(cdb: Cdb, context: &Context<'_>, reply: &mut Vec<u8>) -> Plan {
    reply.clear();
    match check(cdb, context) {
        Ok(command) => match (command.handler, context.device) {
            (Handler::Any(handler), _) => handler(cdb, context, reply).into(),
            (Handler::Unit(handler), Some(device)) => {
                handler(cdb, &Unit { device, context }, reply).into()
            }
            (Handler::Unit(_), None) => Plan::Check(NO_UNIT),
        },
        Err(sense) => Plan::Check(sense),
    }
}

/// What the engine must do now that the data of [`Plan::NeedData`] is there; `ranges` is filled
/// for [`Plan::Unmap`].
pub fn plan_with_data(
    cdb: Cdb,
    context: &Context<'_>,
    data: &[u8],
    ranges: &mut Vec<BlockRange>,
) -> Plan {
    ranges.clear();
    let command = lookup(cdb);
    let handler = command.and_then(|command| command.with_data);
    match (handler, context.device) {
        (Some(handler), Some(device)) => {
            let unit = Unit { device, context };
            // It may have become read-only while the data came.
            let protected = command.map_or(Ok(()), |command| check_protection(command, &unit));
            // Or an operation on the whole medium may have begun.
            let claimed = command.map_or(Ok(()), |it| check_condition(it, cdb, context));
            protected.and(claimed).and_then(|()| handler(cdb, &unit, data, ranges)).into()
        }
        // The unit went away while its data came.
        (_, None) => Plan::Check(NO_UNIT),
        (None, _) => Plan::Check(INVALID_OPERATION_CODE),
    }
}

/// Whether a command that gets this plan has told the initiator of the unit attention that was
/// pending (SAM-5 §5.14.3).
#[must_use]
pub fn clears_unit_attention(cdb: Cdb, context: &Context<'_>) -> bool {
    context.unit_attention.is_some()
        && context.device.is_some()
        && match lookup(cdb) {
            Some(command) => {
                command.needs != Needs::Nothing || command.operation_code == REQUEST_SENSE
            }
            None => false,
        }
}

const REQUEST_SENSE: u8 = 0x03;

pub(crate) const NO_UNIT: Sense = Sense::illegal(AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED);

pub(crate) const INVALID_OPERATION_CODE: Sense =
    Sense::illegal(AdditionalSense::INVALID_COMMAND_OPERATION_CODE);

fn check(cdb: Cdb, context: &Context<'_>) -> Result<&'static Command, Sense> {
    let found = lookup(cdb);
    let Some(device) = context.device else {
        // SPC-4 §5.8: a LUN that is not there answers these three and nothing else.
        let command = found.filter(|command| command.needs == Needs::Nothing).ok_or(NO_UNIT)?;
        return check_reserved(command, cdb).map(|()| command);
    };
    let Some(command) = found.filter(|command| command.exists(device)) else {
        // The operation code exists, the service action does not.
        let known = lookup_operation(cdb.operation_code());
        return Err(if known {
            Sense::invalid_field_in_cdb(1, Some(4))
        } else if device.long_cdbs && cdb.operation_code() == VARIABLE_LENGTH {
            // Its length is wrong: those of the right one do not come here under this code.
            Sense::invalid_field_in_cdb(7, None)
        } else {
            INVALID_OPERATION_CODE
        });
    };
    if let (Some(sense), true) = (context.unit_attention, command.needs != Needs::Nothing) {
        return Err(sense);
    }
    check_reserved(command, cdb)?;
    if let Some(sense) = context.access.refusal(command.access) {
        return Err(sense);
    }
    check_condition(command, cdb, context)?;
    if matches!(command.needs, Needs::Medium | Needs::WritableMedium)
        && let MediumState::NotReady(sense) = context.state
    {
        return Err(sense);
    }
    check_protection(command, &Unit { device, context })?;
    Ok(command)
}

/// While an operation on the whole medium is not over, and after one that failed, only some
/// commands run.
fn check_condition(command: &Command, cdb: Cdb, context: &Context<'_>) -> Result<(), Sense> {
    match context.state {
        MediumState::Claimed(condition, progress) if !condition.permits(command, cdb) => {
            Err(condition.sense(progress))
        }
        MediumState::Claimed(..) | MediumState::NotReady(_) | MediumState::Ready => Ok(()),
    }
}

fn check_protection(command: &Command, unit: &Unit<'_>) -> Result<(), Sense> {
    if command.needs != Needs::WritableMedium || !unit.is_write_protected() {
        return Ok(());
    }
    // What no MODE SELECT can lift goes first.
    let hard = unit.device.read_only || unit.context.read_only;
    let asc = if unit.context.mode.software_write_protect && !hard {
        AdditionalSense::LOGICAL_UNIT_SOFTWARE_WRITE_PROTECTED
    } else {
        AdditionalSense::WRITE_PROTECTED
    };
    Err(Sense::new(SenseKey::DataProtect, asc))
}

/// SPC-4 §4.2.5.1: what is reserved must be 0.
fn check_reserved(command: &Command, cdb: Cdb) -> Result<(), Sense> {
    command
        .reserved_bit(cdb)
        .map_or(Ok(()), |(byte, bit)| Err(Sense::invalid_field_in_cdb(byte, Some(bit))))
}

fn lookup_operation(operation_code: u8) -> bool {
    crate::COMMANDS
        .iter()
        .any(|row| row.operation_code == operation_code && row.service_action.is_some())
}
