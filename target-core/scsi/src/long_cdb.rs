//! Commands with CDBs of 32 bytes (SPC-4 §4.2.3, VARIABLE LENGTH). Each is one of 16 bytes with its
//! fields elsewhere, and room for protection information, of which there is none here. So it is
//! brought into that form and goes on as the shorter command.

use crate::cdb::Cdb;
use crate::commands::{Command, lookup};
use crate::device::Context;
use crate::dispatch::{INVALID_OPERATION_CODE, NO_UNIT, plan};
use crate::plan::Plan;
use crate::sense::{FieldPointer, Sense};

/// OPERATION CODE of all of them.
pub(crate) const VARIABLE_LENGTH: u8 = 0x7f;

/// Bytes of their CDBs.
const LENGTH: usize = 32;

/// ADDITIONAL CDB LENGTH.
const ADDITIONAL_LENGTH: u8 = 0x18;

/// A command with a CDB of 32 bytes.
#[derive(Debug, Clone, Copy)]
pub struct LongCommand {
    /// Its name in the standard.
    pub name: &'static str,
    /// SERVICE ACTION.
    pub service_action: u16,
    /// CDB USAGE DATA, as in [`Command`].
    pub usage: [u8; LENGTH],
    short: u8,
}

impl LongCommand {
    /// Options stand in byte 10 as they do in byte 1 of the command with 16 bytes.
    const fn new(name: &'static str, service_action: u16, short: u8, options: u8) -> Self {
        let mut usage = [0; LENGTH];
        usage[0] = VARIABLE_LENGTH;
        usage[6] = 0x1f;
        usage[7] = ADDITIONAL_LENGTH;
        [usage[8], usage[9]] = service_action.to_be_bytes();
        usage[10] = options;
        // LOGICAL BLOCK ADDRESS; TRANSFER LENGTH behind tags that nobody compares.
        if let Some(lba) = usage.split_at_mut(12).1.first_chunk_mut::<8>() {
            *lba = [0xff; 8];
        }
        if let Some(length) = usage.last_chunk_mut::<4>() {
            *length = [0xff; 4];
        }
        Self { name, service_action, usage, short }
    }

    /// The command with 16 bytes that does the same: what it needs, when it runs and how long it
    /// takes is true of both.
    ///
    /// `None` cannot be: a test looks.
    #[must_use]
    pub fn short(&self) -> Option<&'static Command> {
        lookup(Cdb::new(&[self.short]))
    }

    /// The first bit, from the left, that is set and must not be.
    fn reserved_bit(&self, cdb: &[u8; LENGTH]) -> Option<(u16, u8)> {
        let compared = |at: usize| !IGNORED.contains(&at);
        let wrong = cdb.iter().zip(&self.usage).map(|(byte, used)| byte & !used);
        let (at, bits) = wrong.enumerate().find(|(at, bits)| *bits != 0 && compared(*at))?;
        let bit = u8::try_from(7 - bits.leading_zeros()).unwrap_or(0);
        Some((u16::try_from(at).unwrap_or(u16::MAX), bit))
    }
}

/// EXPECTED INITIAL LOGICAL BLOCK REFERENCE TAG, EXPECTED LOGICAL BLOCK APPLICATION TAG and LOGICAL
/// BLOCK APPLICATION TAG MASK: without protection information they say nothing (SBC-3 §5.11).
const IGNORED: std::ops::Range<usize> = 20..28;

/// All of them, by service action.
pub static LONG_COMMANDS: &[LongCommand] = &[
    LongCommand::new("READ(32)", 0x0009, 0x88, 0x18),
    LongCommand::new("VERIFY(32)", 0x000a, 0x8f, 0x16),
    LongCommand::new("WRITE(32)", 0x000b, 0x8a, 0x18),
    LongCommand::new("WRITE AND VERIFY(32)", 0x000c, 0x8e, 0x16),
    LongCommand::new("WRITE SAME(32)", 0x000d, 0x93, 0x19),
];

/// What the engine must do for a CDB of more than 16 bytes, as [`plan`] has it, and the shorter
/// CDB under which that goes on.
pub fn plan_long(
    head: &[u8; 16],
    rest: &[u8],
    context: &Context<'_>,
    reply: &mut Vec<u8>,
) -> (Cdb, Plan) {
    let disabled = context.device.is_some_and(|device| !device.long_cdbs);
    if disabled && head[0] == VARIABLE_LENGTH {
        return (Cdb::new(head), Plan::Check(INVALID_OPERATION_CODE));
    }
    let Some(whole) = whole(head, rest) else {
        // No other command has so many bytes.
        let cdb = Cdb::new(head);
        let plan = plan(cdb, context, reply);
        let refused = matches!(plan, Plan::Check(_));
        return (cdb, if refused { plan } else { invalid(16, None) });
    };
    let service_action = u16::from_be_bytes([whole[8], whole[9]]);
    let row = LONG_COMMANDS.iter().find(|row| row.service_action == service_action);
    let Some(row) = row else {
        let nobody = context.device.is_none();
        let plan = if nobody { Plan::Check(NO_UNIT) } else { invalid(8, Some(7)) };
        return (Cdb::new(head), plan);
    };
    let cdb = shorter(&whole, row.short);
    let plan = match (plan(cdb, context, reply), row.reserved_bit(&whole)) {
        // These go before what is wrong in the CDB.
        (Plan::Check(sense), _)
            if context.device.is_none() || Some(sense) == context.unit_attention =>
        {
            Plan::Check(sense)
        }
        (_, Some((byte, bit))) => invalid(byte, Some(bit)),
        (Plan::Check(sense), None) => Plan::Check(longer(sense)),
        (plan, None) => plan,
    };
    (cdb, plan)
}

const fn invalid(byte: u16, bit: Option<u8>) -> Plan {
    Plan::Check(Sense::invalid_field_in_cdb(byte, bit))
}

/// The CDB, if it has the form that all of them have.
fn whole(head: &[u8; 16], rest: &[u8]) -> Option<[u8; LENGTH]> {
    let form = head[0] == VARIABLE_LENGTH && head[7] == ADDITIONAL_LENGTH;
    let rest = <&[u8; 16]>::try_from(rest).ok().filter(|_| form)?;
    let mut whole = [0; LENGTH];
    let (first, second) = whole.split_at_mut(16);
    first.copy_from_slice(head);
    second.copy_from_slice(rest);
    Some(whole)
}

/// Where the bytes of a CDB of 16 bytes stand in one of 32, but for the operation code.
const PLACES: [u8; 16] = [0, 10, 12, 13, 14, 15, 16, 17, 18, 19, 28, 29, 30, 31, 6, 1];

fn shorter(whole: &[u8; LENGTH], operation_code: u8) -> Cdb {
    let mut short = [0; 16];
    for (byte, place) in short.iter_mut().zip(PLACES) {
        *byte = whole.get(usize::from(place)).copied().unwrap_or(0);
    }
    short[0] = operation_code;
    Cdb::new(&short)
}

/// Sense data about the shorter CDB, as it is about the longer one.
fn longer(sense: Sense) -> Sense {
    let field = sense.field.map(|field| {
        let place = PLACES.get(usize::from(field.byte)).filter(|_| field.cdb);
        FieldPointer { byte: place.map_or(field.byte, |place| u16::from(*place)), ..field }
    });
    Sense { field, ..sense }
}
