//! The table of all commands. A new command is a row here and a handler.

use crate::cdb::Cdb;
use crate::device::{Context, Device};
use crate::plan::{BlockRange, Plan};
use crate::sense::Sense;
use crate::{
    basic, capacity, inquiry, mode, mode_select, provisioning, read_write, report, verify, vpd,
};

/// What a command needs of the logical unit before it may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: answered for a LUN that does not exist, and in front of unit attentions.
    Nothing,
    /// The logical unit, in whatever state.
    Unit,
    /// A medium that can be read.
    Medium,
    /// A medium that can be written.
    WritableMedium,
}

/// A command (SPC-4 §4.3, SBC-3 §5).
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// Its name in the standard.
    pub name: &'static str,
    /// OPERATION CODE.
    pub operation_code: u8,
    /// SERVICE ACTION, if the operation code has several.
    pub service_action: Option<u8>,
    /// CDB USAGE DATA (SPC-4 §6.35.3): the CDB's length, and a 1 for every bit that is looked at.
    pub usage: &'static [u8],
    /// What must be there.
    pub needs: Needs,
    /// It exists only where blocks can be unmapped.
    pub unmap_only: bool,
    pub(crate) handler: Handler,
    pub(crate) with_data: Option<WithData>,
}

/// Looks at the CDB.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Handler {
    /// Works without a logical unit.
    Any(fn(Cdb, &Context<'_>, &mut Vec<u8>) -> Result<Plan, Sense>),
    /// Needs one.
    Unit(fn(Cdb, &Unit<'_>, &mut Vec<u8>) -> Result<Plan, Sense>),
}

/// Looks at the CDB and the data that was gathered.
pub(crate) type WithData = fn(Cdb, &Unit<'_>, &[u8], &mut Vec<BlockRange>) -> Result<Plan, Sense>;

/// A logical unit and everything around it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit<'a> {
    pub(crate) device: &'a Device,
    pub(crate) context: &'a Context<'a>,
}

impl Unit<'_> {
    /// Whether writes are refused for any reason.
    pub(crate) fn is_write_protected(&self) -> bool {
        self.device.read_only || self.context.mode.software_write_protect
    }

    /// Without a write cache every write is durable before its answer.
    pub(crate) fn is_write_through(&self) -> bool {
        !self.context.mode.write_cache_enabled
    }
}

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

impl Command {
    /// The first bit, from the left, that is set and must not be: byte and bit.
    pub(crate) fn reserved_bit(&self, cdb: Cdb) -> Option<(u16, u8)> {
        let mut used = [0; 16];
        for (to, from) in used.iter_mut().zip(self.usage) {
            *to = *from;
        }
        let wrong = cdb.bits() & !u128::from_be_bytes(used);
        // What is behind the CDB's end is not looked at.
        let length = u32::try_from(self.usage.len()).unwrap_or(16).min(16);
        let wrong =
            wrong.checked_shr(8 * (16 - length)).map_or(0, |bits| bits << (8 * (16 - length)));
        let zeros = wrong.leading_zeros();
        // The operation code and the service action are what led here.
        let byte = u16::try_from(zeros / 8).unwrap_or(u16::MAX);
        let bit = u8::try_from(7 - zeros % 8).unwrap_or(0);
        (wrong != 0).then_some((byte, bit))
    }
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
        needs,
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
        needs: Needs::Nothing,
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

const fn unmap_only(row: Command) -> Command {
    Command { unmap_only: true, ..row }
}

const fn reserve_in(name: &'static str) -> Command {
    let usage = &[0x5e, 0x1f, 0, 0, 0, 0, 0, 0xff, 0xff, 0];
    unit(name, 0x5e, usage, Needs::Unit, basic::reserve_in)
}

const fn reserve_out(name: &'static str) -> Command {
    let usage = &[0x5f, 0x1f, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0];
    gathers(unit(name, 0x5f, usage, Needs::Unit, basic::reserve_out), basic::reserve_out_with_data)
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
    unit("RESERVE(6)", 0x16, &[0x16, 0, 0, 0, 0, 0], Needs::Unit, basic::reserve_unit),
    unit("RELEASE(6)", 0x17, &[0x17, 0, 0, 0, 0, 0], Needs::Unit, basic::reserve_unit),
    unit(
        "MODE SENSE(6)",
        0x1a,
        &[0x1a, 0x08, 0xff, 0xff, 0xff, 0],
        Needs::Unit,
        mode::mode_sense_6,
    ),
    unit(
        "START STOP UNIT",
        0x1b,
        &[0x1b, 0x01, 0, 0x0f, 0xf7, 0],
        Needs::Unit,
        basic::start_stop_unit,
    ),
    unit(
        "READ CAPACITY(10)",
        0x25,
        // The address and PMI are obsolete, and still sent.
        &[0x25, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x01, 0],
        Medium,
        capacity::read_capacity_10,
    ),
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
    gathers(
        unit("VERIFY(10)", 0x2f, blocks!(0x2f, 0x16, 10), Medium, verify::verify),
        verify::verify_with_data,
    ),
    unit("PRE-FETCH(10)", 0x34, blocks!(0x34, 0x02, 10), Medium, read_write::pre_fetch),
    unit(
        "SYNCHRONIZE CACHE(10)",
        0x35,
        blocks!(0x35, 0x06, 10),
        Medium,
        read_write::synchronize_cache,
    ),
    unit(
        "READ DEFECT DATA(10)",
        0x37,
        &[0x37, 0, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0],
        Needs::Unit,
        read_write::read_defect_data,
    ),
    gathers(
        unit(
            "WRITE SAME(10)",
            0x41,
            blocks!(0x41, 0x18, 10),
            WritableMedium,
            provisioning::write_same,
        ),
        provisioning::write_same_with_data,
    ),
    unmap_only(gathers(
        unit(
            "UNMAP",
            0x42,
            &[0x42, 0x01, 0, 0, 0, 0, 0x1f, 0xff, 0xff, 0],
            WritableMedium,
            provisioning::unmap,
        ),
        provisioning::unmap_with_data,
    )),
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
    unit("RESERVE(10)", 0x56, &[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0], Needs::Unit, basic::reserve_unit),
    unit("RELEASE(10)", 0x57, &[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0], Needs::Unit, basic::reserve_unit),
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
    gathers(
        unit("VERIFY(16)", 0x8f, blocks!(0x8f, 0x16, 16), Medium, verify::verify),
        verify::verify_with_data,
    ),
    unit("PRE-FETCH(16)", 0x90, blocks!(0x90, 0x02, 16), Medium, read_write::pre_fetch),
    unit(
        "SYNCHRONIZE CACHE(16)",
        0x91,
        blocks!(0x91, 0x06, 16),
        Medium,
        read_write::synchronize_cache,
    ),
    gathers(
        unit(
            "WRITE SAME(16)",
            0x93,
            blocks!(0x93, 0x19, 16),
            WritableMedium,
            provisioning::write_same,
        ),
        provisioning::write_same_with_data,
    ),
    action(
        unit(
            "READ CAPACITY(16)",
            0x9e,
            &[
                0x9e, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                0x01, 0,
            ],
            Medium,
            capacity::read_capacity_16,
        ),
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
    gathers(
        unit("VERIFY(12)", 0xaf, blocks!(0xaf, 0x16, 12), Medium, verify::verify),
        verify::verify_with_data,
    ),
    unit(
        "READ DEFECT DATA(12)",
        0xb7,
        &[0xb7, 0x1f, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],
        Needs::Unit,
        read_write::read_defect_data,
    ),
];

/// The VPD pages, in ascending order (SPC-4 §7.8).
pub(crate) static VPD_PAGES: &[(u8, vpd::Page)] = &[
    (0x00, vpd::supported_pages),
    (0x80, vpd::unit_serial_number),
    (0x83, vpd::device_identification),
    (0x86, vpd::extended_inquiry_data),
    (0xb0, vpd::block_limits),
    (0xb1, vpd::block_device_characteristics),
    (0xb2, vpd::logical_block_provisioning),
];
