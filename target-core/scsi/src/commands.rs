//! The table of all commands. A new command is a row here and a handler.

use crate::cdb::Cdb;
pub use crate::command::{AccessClass, Command, Needs};
pub(crate) use crate::command::{Handler, Unit, WithData, reserved_bits};
use crate::device::Context;
use crate::plan::Plan;
use crate::sense::Sense;
use crate::{
    atomic, basic, capacity, copy, diagnostic, inquiry, log, mode, mode_select, operation,
    provisioning, read_write, report, target_port_groups, timestamp, verify,
};

/// Seconds that an initiator should wait, if nothing else is said.
const ORDINARY: u32 = 30;
/// Seconds for a command that may have to go over the whole medium.
const WHOLE_MEDIUM: u32 = 3600;
/// Seconds for a command that writes the whole medium, more than once perhaps.
const WRITES_ALL: u32 = 24 * 3600;

/// The row for a CDB.
#[must_use]
pub fn lookup(cdb: Cdb) -> Option<&'static Command> {
    // The commands of the hot path, without the search.
    match cdb.operation_code() {
        0x28 => return Some(&READ_10),
        0x2a => return Some(&WRITE_10),
        0x88 => return Some(&READ_16),
        0x8a => return Some(&WRITE_16),
        _ => {}
    }
    COMMANDS.iter().find(|row| {
        row.operation_code == cdb.operation_code()
            && row.service_action.is_none_or(|action| action == cdb.service_action())
    })
}

const fn unit(
    name: &'static str,
    operation_code: u8,
    usage: &'static [u8],
    needs: Needs,
    handler: fn(Cdb, &Unit<'_>, &mut Vec<u8>) -> Result<Plan, Sense>,
) -> Command {
    Command {
        name,
        operation_code,
        service_action: None,
        usage,
        reserved: reserved_bits(usage),
        needs,
        access: match needs {
            Needs::Nothing => AccessClass::Always,
            Needs::Unit => AccessClass::Standby,
            Medium | WritableMedium => AccessClass::Active,
        },
        timeout_seconds: ORDINARY,
        unmap_only: false,
        handler: Handler::Unit(handler),
        with_data: None,
    }
}

const fn any(
    name: &'static str,
    operation_code: u8,
    usage: &'static [u8],
    handler: fn(Cdb, &Context<'_>, &mut Vec<u8>) -> Result<Plan, Sense>,
) -> Command {
    Command {
        name,
        operation_code,
        service_action: None,
        usage,
        reserved: reserved_bits(usage),
        needs: Needs::Nothing,
        access: AccessClass::Always,
        timeout_seconds: ORDINARY,
        unmap_only: false,
        handler: Handler::Any(handler),
        with_data: None,
    }
}

const fn action(row: Command, service_action: u8) -> Command {
    Command { service_action: Some(service_action), ..row }
}

const fn gathers(row: Command, with_data: WithData) -> Command {
    Command { with_data: Some(with_data), ..row }
}

const fn long(row: Command) -> Command {
    Command { timeout_seconds: WHOLE_MEDIUM, ..row }
}

/// Goes over the whole medium, and writes all of it.
const fn whole_medium(row: Command) -> Command {
    Command { timeout_seconds: WRITES_ALL, ..row }
}

const fn unmap_only(row: Command) -> Command {
    Command { unmap_only: true, ..row }
}

/// Runs in active states only, though it needs no medium.
const fn active(row: Command) -> Command {
    Command { access: AccessClass::Active, ..row }
}

/// Runs in standby, though it needs the medium.
const fn standby(row: Command) -> Command {
    Command { access: AccessClass::Standby, ..row }
}

const fn reserve_in(name: &'static str) -> Command {
    let usage = &[0x5e, 0x1f, 0, 0, 0, 0, 0, 0xff, 0xff, 0];
    unit(name, 0x5e, usage, Needs::Unit, basic::reserve_in)
}

const fn reserve_out(name: &'static str) -> Command {
    let usage = &[0x5f, 0x1f, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0];
    gathers(unit(name, 0x5f, usage, Needs::Unit, basic::reserve_out), basic::reserve_out_with_data)
}

/// CDB USAGE DATA of the commands that copy.
const COPY_LID1_OUT: [u8; 16] = [0x83, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
const TOKEN_OUT: [u8; 16] =
    [0x83, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0];
const COPY_LID1_IN: [u8; 16] =
    [0x84, 0x1f, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];
const COPY_LID4_IN: [u8; 16] =
    [0x84, 0x1f, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0];

const fn copy_out(
    name: &'static str,
    service_action: u8,
    needs: Needs,
    usage: &'static [u8],
) -> Command {
    let row = active(unit(name, 0x83, usage, needs, copy::third_party_copy_out));
    action(gathers(row, copy::third_party_copy_out_with_data), service_action)
}

const fn copy_in(
    name: &'static str,
    service_action: u8,
    usage: &'static [u8],
    handler: fn(Cdb, &Unit<'_>, &mut Vec<u8>) -> Result<Plan, Sense>,
) -> Command {
    action(active(unit(name, 0x84, usage, Needs::Unit, handler)), service_action)
}

/// CDB USAGE DATA of the commands that name a run of blocks: the options of byte 1, and the
/// length of the CDB.
macro_rules! blocks {
    ($opcode:literal, $options:literal, 6) => {
        &[$opcode, $options | 0x1f, 0xff, 0xff, 0xff, 0]
    };
    ($opcode:literal, $options:literal, 10) => {
        &[$opcode, $options, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 0]
    };
    ($opcode:literal, $options:literal, 12) => {
        &[$opcode, $options, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0]
    };
    ($opcode:literal, $options:literal, 16) => {
        &[
            $opcode, $options, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            0xff, 0x1f, 0,
        ]
    };
}

use Needs::{Medium, WritableMedium};

static READ_10: Command = unit("READ(10)", 0x28, blocks!(0x28, 0x18, 10), Medium, read_write::read);
static WRITE_10: Command =
    unit("WRITE(10)", 0x2a, blocks!(0x2a, 0x18, 10), WritableMedium, read_write::write);
static READ_16: Command = unit("READ(16)", 0x88, blocks!(0x88, 0x18, 16), Medium, read_write::read);
static WRITE_16: Command =
    unit("WRITE(16)", 0x8a, blocks!(0x8a, 0x18, 16), WritableMedium, read_write::write);

/// All commands, by operation code.
pub static COMMANDS: &[Command] = &[
    unit("TEST UNIT READY", 0x00, &[0x00, 0, 0, 0, 0, 0], Medium, basic::test_unit_ready),
    any("REQUEST SENSE", 0x03, &[0x03, 0x01, 0, 0, 0xff, 0], basic::request_sense),
    whole_medium(gathers(
        unit(
            "FORMAT UNIT",
            0x04,
            // FMTPINFO, LONGLIST, FMTDATA, CMPLST, DEFECT LIST FORMAT; the interleave is obsolete.
            &[0x04, 0xff, 0, 0, 0x03, 0],
            WritableMedium,
            operation::format_unit,
        ),
        operation::with_data,
    )),
    unit("READ(6)", 0x08, blocks!(0x08, 0x00, 6), Medium, read_write::read),
    unit("WRITE(6)", 0x0a, blocks!(0x0a, 0x00, 6), WritableMedium, read_write::write),
    any("INQUIRY", 0x12, &[0x12, 0x01, 0xff, 0xff, 0xff, 0], inquiry::inquiry),
    gathers(
        unit(
            "MODE SELECT(6)",
            0x15,
            &[0x15, 0x11, 0, 0, 0xff, 0],
            Needs::Unit,
            mode_select::mode_select,
        ),
        mode_select::mode_select_with_data,
    ),
    active(unit("RESERVE(6)", 0x16, &[0x16, 0, 0, 0, 0, 0], Needs::Unit, basic::reserve_unit)),
    active(unit("RELEASE(6)", 0x17, &[0x17, 0, 0, 0, 0, 0], Needs::Unit, basic::reserve_unit)),
    unit(
        "MODE SENSE(6)",
        0x1a,
        &[0x1a, 0x08, 0xff, 0xff, 0xff, 0],
        Needs::Unit,
        mode::mode_sense_6,
    ),
    active(unit(
        "START STOP UNIT",
        0x1b,
        &[0x1b, 0x01, 0, 0x0f, 0xf7, 0],
        Needs::Unit,
        basic::start_stop_unit,
    )),
    unit(
        "RECEIVE DIAGNOSTIC RESULTS",
        0x1c,
        &[0x1c, 0x01, 0xff, 0xff, 0xff, 0],
        Needs::Unit,
        diagnostic::receive_diagnostic_results,
    ),
    gathers(
        unit(
            "SEND DIAGNOSTIC",
            0x1d,
            &[0x1d, 0xf7, 0, 0xff, 0xff, 0],
            Needs::Unit,
            diagnostic::send_diagnostic,
        ),
        diagnostic::send_diagnostic_with_data,
    ),
    active(unit(
        "PREVENT ALLOW MEDIUM REMOVAL",
        0x1e,
        &[0x1e, 0, 0, 0, 0x01, 0],
        Needs::Unit,
        basic::prevent_allow_medium_removal,
    )),
    standby(unit(
        "READ CAPACITY(10)",
        0x25,
        // The address and PMI are obsolete, and still sent.
        &[0x25, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x01, 0],
        Medium,
        capacity::read_capacity_10,
    )),
    unit("READ(10)", 0x28, blocks!(0x28, 0x18, 10), Medium, read_write::read),
    unit("WRITE(10)", 0x2a, blocks!(0x2a, 0x18, 10), WritableMedium, read_write::write),
    gathers(
        unit(
            "WRITE AND VERIFY(10)",
            0x2e,
            blocks!(0x2e, 0x16, 10),
            WritableMedium,
            verify::write_and_verify,
        ),
        verify::write_and_verify_with_data,
    ),
    long(gathers(
        unit("VERIFY(10)", 0x2f, blocks!(0x2f, 0x16, 10), Medium, verify::verify),
        verify::verify_with_data,
    )),
    unit("PRE-FETCH(10)", 0x34, blocks!(0x34, 0x02, 10), Medium, read_write::pre_fetch),
    long(unit(
        "SYNCHRONIZE CACHE(10)",
        0x35,
        blocks!(0x35, 0x06, 10),
        Medium,
        read_write::synchronize_cache,
    )),
    active(unit(
        "READ DEFECT DATA(10)",
        0x37,
        &[0x37, 0, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0],
        Needs::Unit,
        read_write::read_defect_data,
    )),
    long(gathers(
        unit(
            "WRITE SAME(10)",
            0x41,
            blocks!(0x41, 0x18, 10),
            WritableMedium,
            provisioning::write_same,
        ),
        provisioning::write_same_with_data,
    )),
    long(unmap_only(gathers(
        unit(
            "UNMAP",
            0x42,
            &[0x42, 0x01, 0, 0, 0, 0, 0x1f, 0xff, 0xff, 0],
            WritableMedium,
            provisioning::unmap,
        ),
        provisioning::unmap_with_data,
    ))),
    action(
        whole_medium(gathers(
            unit(
                "SANITIZE, OVERWRITE",
                0x48,
                &[0x48, 0xbf, 0, 0, 0, 0, 0, 0xff, 0xff, 0],
                WritableMedium,
                operation::overwrite,
            ),
            operation::with_data,
        )),
        0x01,
    ),
    action(
        whole_medium(unmap_only(unit(
            "SANITIZE, BLOCK ERASE",
            0x48,
            &[0x48, 0xbf, 0, 0, 0, 0, 0, 0, 0, 0],
            WritableMedium,
            operation::block_erase,
        ))),
        0x02,
    ),
    action(
        unit(
            "SANITIZE, EXIT FAILURE MODE",
            0x48,
            &[0x48, 0xbf, 0, 0, 0, 0, 0, 0, 0, 0],
            WritableMedium,
            operation::exit_failure_mode,
        ),
        0x1f,
    ),
    unit(
        "LOG SENSE",
        0x4d,
        &[0x4d, 0x01, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0],
        Needs::Unit,
        log::log_sense,
    ),
    gathers(
        unit(
            "MODE SELECT(10)",
            0x55,
            &[0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0],
            Needs::Unit,
            mode_select::mode_select,
        ),
        mode_select::mode_select_with_data,
    ),
    active(unit(
        "RESERVE(10)",
        0x56,
        &[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        Needs::Unit,
        basic::reserve_unit,
    )),
    active(unit(
        "RELEASE(10)",
        0x57,
        &[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        Needs::Unit,
        basic::reserve_unit,
    )),
    unit(
        "MODE SENSE(10)",
        0x5a,
        &[0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0],
        Needs::Unit,
        mode::mode_sense_10,
    ),
    action(reserve_in("PERSISTENT RESERVE IN, READ KEYS"), 0x00),
    action(reserve_in("PERSISTENT RESERVE IN, READ RESERVATION"), 0x01),
    action(reserve_in("PERSISTENT RESERVE IN, REPORT CAPABILITIES"), 0x02),
    action(reserve_in("PERSISTENT RESERVE IN, READ FULL STATUS"), 0x03),
    action(reserve_out("PERSISTENT RESERVE OUT, REGISTER"), 0x00),
    action(reserve_out("PERSISTENT RESERVE OUT, RESERVE"), 0x01),
    action(reserve_out("PERSISTENT RESERVE OUT, RELEASE"), 0x02),
    action(reserve_out("PERSISTENT RESERVE OUT, CLEAR"), 0x03),
    action(reserve_out("PERSISTENT RESERVE OUT, PREEMPT"), 0x04),
    action(reserve_out("PERSISTENT RESERVE OUT, PREEMPT AND ABORT"), 0x05),
    action(reserve_out("PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY"), 0x06),
    action(reserve_out("PERSISTENT RESERVE OUT, REGISTER AND MOVE"), 0x07),
    action(reserve_out("PERSISTENT RESERVE OUT, REPLACE LOST RESERVATION"), 0x08),
    long(copy_out("EXTENDED COPY(LID1)", 0x00, Needs::Unit, &COPY_LID1_OUT)),
    long(copy_out("EXTENDED COPY(LID4)", 0x01, Needs::Unit, &COPY_LID1_OUT)),
    copy_out("POPULATE TOKEN", 0x10, Medium, &TOKEN_OUT),
    long(copy_out("WRITE USING TOKEN", 0x11, WritableMedium, &TOKEN_OUT)),
    action(
        active(unit(
            "COPY OPERATION ABORT",
            0x83,
            &[0x83, 0x1f, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            Needs::Unit,
            copy::copy_operation_abort,
        )),
        0x1c,
    ),
    copy_in("RECEIVE COPY STATUS(LID1)", 0x00, &COPY_LID1_IN, copy::copy_status_lid1),
    copy_in("RECEIVE COPY OPERATING PARAMETERS", 0x03, &COPY_LID1_IN, copy::operating_parameters),
    copy_in("RECEIVE COPY FAILURE DETAILS(LID1)", 0x04, &COPY_LID1_IN, copy::copy_failure_details),
    copy_in("RECEIVE COPY STATUS(LID4)", 0x05, &COPY_LID4_IN, copy::copy_status_lid4),
    copy_in("RECEIVE ROD TOKEN INFORMATION", 0x07, &COPY_LID4_IN, copy::rod_token_information),
    // It has no list identifier; ddptctl sends one.
    copy_in("REPORT ALL ROD TOKENS", 0x08, &COPY_LID4_IN, copy::report_all_rod_tokens),
    unit("READ(16)", 0x88, blocks!(0x88, 0x18, 16), Medium, read_write::read),
    gathers(
        unit(
            "COMPARE AND WRITE",
            0x89,
            &[0x89, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0x1f, 0],
            WritableMedium,
            verify::compare_and_write,
        ),
        verify::compare_and_write_with_data,
    ),
    unit("WRITE(16)", 0x8a, blocks!(0x8a, 0x18, 16), WritableMedium, read_write::write),
    gathers(
        unit("ORWRITE(16)", 0x8b, blocks!(0x8b, 0x18, 16), WritableMedium, verify::or_write),
        verify::or_write_with_data,
    ),
    gathers(
        unit(
            "WRITE AND VERIFY(16)",
            0x8e,
            blocks!(0x8e, 0x16, 16),
            WritableMedium,
            verify::write_and_verify,
        ),
        verify::write_and_verify_with_data,
    ),
    long(gathers(
        unit("VERIFY(16)", 0x8f, blocks!(0x8f, 0x16, 16), Medium, verify::verify),
        verify::verify_with_data,
    )),
    unit("PRE-FETCH(16)", 0x90, blocks!(0x90, 0x02, 16), Medium, read_write::pre_fetch),
    long(unit(
        "SYNCHRONIZE CACHE(16)",
        0x91,
        blocks!(0x91, 0x06, 16),
        Medium,
        read_write::synchronize_cache,
    )),
    long(gathers(
        unit(
            "WRITE SAME(16)",
            0x93,
            blocks!(0x93, 0x19, 16),
            WritableMedium,
            provisioning::write_same,
        ),
        provisioning::write_same_with_data,
    )),
    gathers(
        unit(
            "WRITE ATOMIC(16)",
            0x9c,
            &[
                0x9c, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0x1f,
                0,
            ],
            WritableMedium,
            atomic::write_atomic,
        ),
        atomic::write_atomic_with_data,
    ),
    action(
        standby(unit(
            "READ CAPACITY(16)",
            0x9e,
            &[
                0x9e, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                0x01, 0,
            ],
            Medium,
            capacity::read_capacity_16,
        )),
        0x10,
    ),
    action(
        unit(
            "GET LBA STATUS",
            0x9e,
            &[
                0x9e, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                0, 0,
            ],
            Medium,
            provisioning::get_lba_status,
        ),
        0x12,
    ),
    any(
        "REPORT LUNS",
        0xa0,
        &[0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
        report::report_luns,
    ),
    Command {
        access: AccessClass::Always,
        ..action(
            unit(
                "REPORT TARGET PORT GROUPS",
                0xa3,
                &[0xa3, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
                Needs::Unit,
                target_port_groups::report_target_port_groups,
            ),
            0x0a,
        )
    },
    action(
        unit(
            "REPORT SUPPORTED OPERATION CODES",
            0xa3,
            &[0xa3, 0x1f, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
            Needs::Unit,
            report::report_supported_operation_codes,
        ),
        0x0c,
    ),
    action(
        unit(
            "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
            0xa3,
            &[0xa3, 0x1f, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
            Needs::Unit,
            report::report_supported_task_management_functions,
        ),
        0x0d,
    ),
    action(
        unit(
            "REPORT TIMESTAMP",
            0xa3,
            &[0xa3, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
            Needs::Unit,
            timestamp::report_timestamp,
        ),
        0x0f,
    ),
    Command {
        access: AccessClass::Unavailable,
        ..action(
            gathers(
                unit(
                    "SET TARGET PORT GROUPS",
                    0xa4,
                    &[0xa4, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
                    Needs::Unit,
                    target_port_groups::set_target_port_groups,
                ),
                target_port_groups::set_target_port_groups_with_data,
            ),
            0x0a,
        )
    },
    unit("READ(12)", 0xa8, blocks!(0xa8, 0x18, 12), Medium, read_write::read),
    unit("WRITE(12)", 0xaa, blocks!(0xaa, 0x18, 12), WritableMedium, read_write::write),
    gathers(
        unit(
            "WRITE AND VERIFY(12)",
            0xae,
            blocks!(0xae, 0x16, 12),
            WritableMedium,
            verify::write_and_verify,
        ),
        verify::write_and_verify_with_data,
    ),
    long(gathers(
        unit("VERIFY(12)", 0xaf, blocks!(0xaf, 0x16, 12), Medium, verify::verify),
        verify::verify_with_data,
    )),
    active(unit(
        "READ DEFECT DATA(12)",
        0xb7,
        &[0xb7, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
        Needs::Unit,
        read_write::read_defect_data,
    )),
];
