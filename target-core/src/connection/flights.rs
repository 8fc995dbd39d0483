//! What was sent in place ([`in_place`](super::in_place)) and may still be on its way: in sockets there are
//! pages of the page cache, not copies. What writes there waits, as a dormant command, until the initiator
//! has acknowledged a response that was sent behind the data.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Weak};

use iscsi_proto::StatSn;
use iscsi_proto::pdu::{DataOut, Pdu, Request};
use iscsi_proto::session::Command;
use scsi::{Cdb, Changes};

use super::copy::Copying;
use super::core::{Core, Stage};
use crate::nexus::UnitRef;
use crate::regions::overlap;
use crate::unit::LogicalUnit;

/// So many may be on their way.
const MOST: usize = 256;

#[derive(Debug)]
struct Flight {
    /// A session that is idle keeps no unit from being closed.
    unit: Weak<LogicalUnit>,
    /// Bytes on the image.
    place: Range<u64>,
    /// That of the first response behind it.
    stat_sn: StatSn,
}

impl Flight {
    fn is_of(&self, unit: &Arc<LogicalUnit>) -> bool {
        std::ptr::eq(self.unit.as_ptr(), Arc::as_ptr(unit))
    }
}

/// All of a connection, in the order in which they were sent.
#[derive(Debug, Default)]
pub(super) struct Flights(VecDeque<Flight>);

impl Flights {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Gives memory back.
    pub(super) fn rest(&mut self) {
        if self.0.is_empty() && self.0.capacity() > 0 {
            self.0 = VecDeque::new();
        }
    }

    pub(super) fn take_off(&mut self, unit: &UnitRef, place: Range<u64>, stat_sn: StatSn) {
        match self.0.back_mut() {
            // The next part of the same read.
            Some(last)
                if last.is_of(unit) && last.stat_sn == stat_sn && last.place.end == place.start =>
            {
                last.place.end = place.end;
            }
            _ => self.0.push_back(Flight { unit: Arc::downgrade(unit), place, stat_sn }),
        }
    }

    /// The initiator has everything in front of this one.
    fn land(&mut self, exp_stat_sn: StatSn) {
        while self.0.front().is_some_and(|flight| flight.stat_sn.lt(exp_stat_sn)) {
            self.0.pop_front();
        }
    }

    /// The last one that is in the way of a command.
    fn in_the_way(&self, unit: &UnitRef, changes: &Changes, block_length: u64) -> Option<StatSn> {
        let place = match changes {
            Changes::Nothing => return None,
            Changes::Units => return self.0.back().map(|flight| flight.stat_sn),
            Changes::Unit => 0..u64::MAX,
            Changes::Blocks(blocks) => {
                blocks.start.saturating_mul(block_length)..blocks.end.saturating_mul(block_length)
            }
        };
        let is_in_the_way = |flight: &&Flight| flight.is_of(unit) && overlap(&flight.place, &place);
        self.0.iter().rev().find(is_in_the_way).map(|flight| flight.stat_sn)
    }
}

impl Core {
    /// Whether something may be sent in place: nothing is under way that writes, and nothing waits.
    pub(super) fn may_fly(&self) -> bool {
        let reads = |stage: &Stage| matches!(stage, Stage::Read(_));
        self.flights.0.len() < MOST
            && self.working == 0
            && self.orders.is_empty()
            && !self.copies.iter().any(Copying::is_under_way)
            && self.dormant.is_empty()
            && self.pending.iter().all(|pending| reads(&pending.stage))
    }

    /// The response for which a command has to wait; `None` if it need not.
    pub(super) fn must_wait_for(&self, command: &Command<'_>, unit: &UnitRef) -> Option<StatSn> {
        let changes = if command.extended_cdb.is_empty() {
            Changes::of(Cdb::new(command.cdb))
        } else {
            Changes::Unit
        };
        let block_length = u64::from(unit.device().logical_block_length);
        self.flights.in_the_way(unit, &changes, block_length)
    }

    /// Takes note of what the initiator has. What waited for that goes on.
    pub(super) fn landed(&mut self, pdu: &Pdu<'_>) {
        // At the same place in everything that an initiator sends.
        self.flights.land(StatSn(DataOut::view(pdu.bhs).exp_stat_sn.get()));
        if self.dormant.is_empty() {
            return;
        }
        let last = self.flights.0.front().map(|flight| flight.stat_sn);
        let waits = self.enable_landed(|stat_sn| last.is_none_or(|last| stat_sn.lt(last)));
        // It asked before all of the data was sent.
        if waits && matches!(pdu.request(), Request::NopOut(_)) {
            self.ping();
        }
    }
}

#[cfg(test)]
mod tests {
    use disk_image::MemImage;
    use scsi::Device;

    use super::*;
    use crate::unit::UnitConfig;

    fn unit() -> UnitRef {
        let device = Device::new("disk", [0x60; 16], 512, 1 << 11);
        let image = Arc::new(MemImage::new(1 << 20).unwrap());
        UnitRef::new(&LogicalUnit::new(UnitConfig::new("disk", device, Ok(image))))
    }

    #[test]
    fn a_command_waits_for_the_last_flight_that_it_would_change() {
        let (one, other) = (unit(), unit());
        let mut flights = Flights::default();
        flights.take_off(&one, 0..512, StatSn(u32::MAX));
        flights.take_off(&one, 512..1024, StatSn(u32::MAX));
        flights.take_off(&one, 4096..8192, StatSn(0));
        flights.take_off(&one, 0..512, StatSn(1));
        assert_eq!(flights.0.len(), 3);
        let found =
            |flights: &Flights, unit: &UnitRef, changes| flights.in_the_way(unit, &changes, 512);
        let blocks = |unit, range| found(&flights, unit, Changes::Blocks(range));
        assert_eq!(blocks(&one, 0..1), Some(StatSn(1)));
        assert_eq!(blocks(&one, 1..8), Some(StatSn(u32::MAX)));
        assert_eq!(blocks(&one, 15..20), Some(StatSn(0)));
        assert_eq!(blocks(&one, 2..8), None);
        assert_eq!(blocks(&other, 0..1), None);
        assert_eq!(found(&flights, &other, Changes::Unit), None);
        assert_eq!(found(&flights, &one, Changes::Unit), Some(StatSn(1)));
        assert_eq!(found(&flights, &other, Changes::Units), Some(StatSn(1)));
        assert_eq!(found(&flights, &one, Changes::Nothing), None);
        flights.land(StatSn(0));
        assert_eq!(found(&flights, &one, Changes::Blocks(1..8)), None);
        flights.land(StatSn(1));
        assert_eq!(found(&flights, &one, Changes::Unit), Some(StatSn(1)));
        flights.land(StatSn(2));
        assert!(flights.is_empty());
    }
}
