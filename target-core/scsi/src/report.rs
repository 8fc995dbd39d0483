//! REPORT LUNS, REPORT SUPPORTED OPERATION CODES, REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS
//! (SPC-4 §6.33, §6.35, §6.36).

use crate::cdb::Cdb;
use crate::commands::{COMMANDS, Command, Unit};
use crate::device::{Context, Device};
use crate::long_cdb::{LONG_COMMANDS, VARIABLE_LENGTH};
use crate::plan::Plan;
use crate::reply::{Fields as _, truncate};
use crate::sense::Sense;

pub(crate) fn report_luns(
    cdb: Cdb,
    context: &Context<'_>,
    reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    // The least allocation length is 16 bytes (§6.33.1).
    let allocation_length = cdb.u32_at(6);
    if allocation_length < 16 {
        return Err(Sense::invalid_field_in_cdb(6, None));
    }
    let luns: &[u64] = match cdb.byte(2) {
        0x00 | 0x02 => context.luns,
        // Well known logical units only, administrative ones only, conglomerates: none here.
        0x01 | 0x10 | 0x11 | 0x12 => &[],
        _ => return Err(Sense::invalid_field_in_cdb(2, None)),
    };
    reply.u32(u32::try_from(luns.len() * 8).unwrap_or(u32::MAX));
    reply.u32(0);
    for lun in luns {
        reply.u64(*lun);
    }
    truncate(reply, allocation_length);
    Ok(Plan::DataIn)
}

/// REPORTING OPTIONS (SPC-4 table 241).
mod option {
    pub(super) const ALL: u8 = 0;
    pub(super) const OPERATION_CODE: u8 = 1;
    pub(super) const SERVICE_ACTION: u8 = 2;
    pub(super) const EITHER: u8 = 3;
}

pub(crate) fn report_supported_operation_codes(
    cdb: Cdb,
    unit: &Unit<'_>,
    reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    let timeouts = cdb.bit(2, 0x80);
    let (operation_code, service_action) = (cdb.byte(3), cdb.u16_at(4));
    let rows = || entries().filter(|row| row.exists(unit.device));
    let of_code = || rows().filter(|row| row.operation_code == operation_code);
    let with_action = || of_code().find(|row| row.service_action == Some(service_action));
    let has_actions = of_code().any(|row| row.service_action.is_some());
    match cdb.byte(2) & 0x07 {
        option::ALL => all(rows(), timeouts, reply),
        option::OPERATION_CODE if has_actions => {
            return Err(Sense::invalid_field_in_cdb(2, Some(2)));
        }
        option::OPERATION_CODE => one(of_code().next(), timeouts, reply),
        option::SERVICE_ACTION if of_code().next().is_some() && !has_actions => {
            return Err(Sense::invalid_field_in_cdb(2, Some(2)));
        }
        option::SERVICE_ACTION => one(with_action(), timeouts, reply),
        option::EITHER if has_actions => one(with_action(), timeouts, reply),
        option::EITHER => {
            one(of_code().next().filter(|_| service_action == 0), timeouts, reply);
        }
        _ => return Err(Sense::invalid_field_in_cdb(2, Some(2))),
    }
    truncate(reply, cdb.u32_at(6));
    Ok(Plan::DataIn)
}

/// A command, however long its CDB is.
struct Entry {
    operation_code: u8,
    service_action: Option<u16>,
    usage: &'static [u8],
    /// The row that says the rest.
    row: &'static Command,
}

impl Entry {
    fn exists(&self, device: &Device) -> bool {
        (device.long_cdbs || self.operation_code != VARIABLE_LENGTH) && self.row.exists(device)
    }
}

/// All commands, by operation code.
fn entries() -> impl Iterator<Item = Entry> {
    let short = |row: &'static Command| Entry {
        operation_code: row.operation_code,
        service_action: row.service_action.map(u16::from),
        usage: row.usage,
        row,
    };
    let long = LONG_COMMANDS.iter().filter_map(|long| {
        let (operation_code, service_action) = (VARIABLE_LENGTH, Some(long.service_action));
        Some(Entry { operation_code, service_action, usage: &long.usage, row: long.short()? })
    });
    let before = |row: &&Command| row.operation_code < VARIABLE_LENGTH;
    let first = COMMANDS.iter().filter(before).map(short);
    first.chain(long).chain(COMMANDS.iter().filter(move |row| !before(row)).map(short))
}

fn all(rows: impl Iterator<Item = Entry>, timeouts: bool, reply: &mut Vec<u8>) {
    reply.u32(0);
    for row in rows {
        reply.u8(row.operation_code);
        reply.u8(0);
        reply.u16(row.service_action.unwrap_or(0));
        reply.u8(0);
        // CTDP, SERVACTV.
        reply.u8(u8::from(timeouts) << 1 | u8::from(row.service_action.is_some()));
        reply.u16(u16::try_from(row.usage.len()).unwrap_or(0));
        if timeouts {
            timeouts_descriptor(row.row, reply);
        }
    }
    let length = u32::try_from(reply.len().saturating_sub(4)).unwrap_or(u32::MAX);
    if let Some(field) = reply.get_mut(..4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

fn one(row: Option<Entry>, timeouts: bool, reply: &mut Vec<u8>) {
    let Some(row) = row else {
        // SUPPORT 001b: there is no such command.
        reply.extend_from_slice(&[0, 0x01, 0, 0]);
        return;
    };
    // CTDP; SUPPORT 011b: as the standard has it.
    reply.extend_from_slice(&[0, u8::from(timeouts) << 7 | 0x03]);
    reply.u16(u16::try_from(row.usage.len()).unwrap_or(0));
    let usage = reply.len();
    reply.extend_from_slice(row.usage);
    // A longer CDB has its own in its usage data.
    if let Some(action) = row.row.service_action {
        // In place of the service action's bits stands the service action.
        let others = row.usage.get(1).map_or(0, |usage| usage & !0x1f);
        reply.set_u8(usage + 1, usize::from(others | action));
    }
    if timeouts {
        timeouts_descriptor(row.row, reply);
    }
}

/// Command timeouts descriptor (SPC-4 §6.35.4).
fn timeouts_descriptor(row: &Command, reply: &mut Vec<u8>) {
    reply.u16(10);
    // Reserved, COMMAND SPECIFIC; NOMINAL COMMAND PROCESSING TIMEOUT: nothing is promised.
    reply.u16(0);
    reply.u32(0);
    reply.u32(row.timeout_seconds);
}

pub(crate) fn report_supported_task_management_functions(
    cdb: Cdb,
    unit: &Unit<'_>,
    reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    let allocation_length = cdb.u32_at(6);
    if allocation_length < 4 {
        return Err(Sense::invalid_field_in_cdb(6, None));
    }
    // ATS, ATSS, CTSS, LURS, TRS; no ACA.
    let mut functions = [0x80 | 0x40 | 0x10 | 0x08 | 0x02, 0, 0, 0];
    if unit.context.protocol_level >= 2 {
        // QTS; QAES, QTSS, ITNRS.
        functions[0] |= 0x04;
        functions[1] |= 0x04 | 0x02 | 0x01;
    }
    reply.extend_from_slice(&functions);
    if cdb.bit(2, 0x80) {
        reply.set_u8(3, 12);
        reply.zeroes(12);
    }
    truncate(reply, allocation_length);
    Ok(Plan::DataIn)
}
