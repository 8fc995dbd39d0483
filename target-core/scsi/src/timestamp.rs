//! REPORT TIMESTAMP (SPC-4 §5.13, §6.38).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cdb::Cdb;
use crate::commands::Unit;
use crate::plan::Plan;
use crate::reply::{Fields as _, truncate};
use crate::sense::Sense;

/// TIMESTAMP ORIGIN: set by other means than SET TIMESTAMP. The host keeps the time, and the
/// Control Extension mode page says so (TCMOS).
const ORIGIN_OUTSIDE: u8 = 0x03;
/// TIMESTAMP has 48 bits.
const LATEST: u64 = (1 << 48) - 1;

/// The milliseconds since 1970 that the host's clock shows.
pub(crate) fn report_timestamp(
    cdb: Cdb,
    unit: &Unit<'_>,
    reply: &mut Vec<u8>,
) -> Result<Plan, Sense> {
    // TIMESTAMP PARAMETER DATA LENGTH.
    reply.u16(10);
    reply.u8(ORIGIN_OUTSIDE);
    reply.u8(0);
    // Six bytes of TIMESTAMP, and two reserved ones.
    reply.u64(milliseconds((unit.context.clock)()) << 16);
    truncate(reply, cdb.u32_at(6));
    Ok(Plan::DataIn)
}

fn milliseconds(time: SystemTime) -> u64 {
    // A clock before 1970 was never set.
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(LATEST).min(LATEST)
}
