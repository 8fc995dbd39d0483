//! Writes on the connection's own thread. The command says what is to be written ([`Order`]); it
//! is done when nothing of the connection is in use any more, so that the connection can go on
//! elsewhere should the write hang.

use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use disk_image::{Durability, ImageError};

use super::Connection;
use super::core::{Core, Job, Pending, Stage};
use crate::io::Work;
use crate::nexus::UnitRef;
use crate::regions::range_of;
use crate::watch::{Orphan, at_desk};

/// What is to be written on this thread.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) unit: UnitRef,
    /// First byte on the image.
    pub(super) offset: u64,
    /// Where its data stands in the receive buffer.
    pub(super) data: Range<usize>,
    pub(super) step: Step,
}

/// What it is of its command.
#[derive(Debug)]
pub(super) enum Step {
    /// All of it.
    Whole { job: Job, device_length: u64 },
    /// One piece of those of a pending command, of which it counts as work.
    Piece { at: usize },
}

/// Carries an order out. `None` if the write has hung meanwhile: then the connection has gone on as
/// another task.
pub(super) fn write(connection: Box<Connection>) -> Option<Box<Connection>> {
    let Some(order) = &connection.core.order else { return Some(connection) };
    let (unit, offset, range) = (order.unit.clone(), order.offset, order.data.clone());
    let Some(buffer) = connection.receive.share() else { return Some(connection) };
    let data = buffer.get(range).unwrap_or_default();
    connection.core.node.watch.sit_down();
    let mut waiting = Some(connection);
    let done = at_desk(|desk| {
        // None if no other thread is left that could serve sockets while this one hangs.
        let hanging = desk.may_hang()?;
        // None while an atomic command keeps others out.
        let inside = unit.enter()?;
        let image = unit.image()?;
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        unit.tokens().changing(&(offset..offset.saturating_add(length)));
        desk.leave(waiting.take()?);
        let start = Instant::now();
        let place = range_of(offset, data.len());
        let result =
            unit.write(place, || image.write(&[IoSlice::new(data)], offset, Durability::Cached));
        // In the page cache it costs microseconds; if not, the unit is known as slow for a while.
        unit.write_took(start, start.elapsed());
        drop((inside, hanging));
        Some(desk.take_back(result))
    });
    match (done.flatten(), waiting) {
        (Some(back), _) => back.map(|(mut connection, result)| {
            connection.core.written(result);
            connection
        }),
        (None, Some(mut connection)) => {
            connection.core.hand_off_order(data);
            Some(connection)
        }
        (None, None) => None,
    }
}

impl Connection {
    /// Has the connection go on although its write hangs: as if that had been handed off.
    pub(crate) fn rescue(&mut self) -> Option<Orphan> {
        self.resumes = false;
        self.core.orphan()
    }
}

impl Core {
    /// Orders a write whose data stands in the receive buffer; gives the step back if that cannot
    /// be.
    pub(super) fn order(
        &mut self,
        unit: UnitRef,
        offset: u64,
        data: &[u8],
        step: Step,
    ) -> Result<(), Step> {
        let start = data.as_ptr().addr().checked_sub(self.received_at);
        let Some(start) = start.filter(|_| !self.wakes && self.order.is_none()) else {
            return Err(step);
        };
        self.order = Some(Order { unit, offset, data: start..start + data.len(), step });
        Ok(())
    }

    fn written(&mut self, result: Result<(), ImageError>) {
        let Some(order) = self.order.take() else { return };
        match order.step {
            Step::Whole { job, device_length } => match result {
                Ok(()) => self.good(job.task, device_length),
                Err(error) => self.failed(&job, &error),
            },
            Step::Piece { at } => self.piece_written(at, result),
        }
    }

    fn hand_off_order(&mut self, data: &[u8]) {
        let Some(Order { offset, step, .. }) = self.order.take() else { return };
        let work = Work::Write { offset, data: data.to_vec(), durable: false };
        match step {
            Step::Whole { job, device_length } => self.hand_off(job, work, device_length),
            Step::Piece { at } => self.hand_off_piece(at, work),
        }
    }

    /// Makes an order that hangs work that has been handed off.
    fn orphan(&mut self) -> Option<Orphan> {
        let Order { unit, data, step, .. } = self.order.take()?;
        let memory = data.len();
        (self.working, self.memory) = (self.working + 1, self.memory + memory);
        let task = match step {
            Step::Whole { job, device_length } => {
                let task = job.task;
                let stage = Stage::Work { device_length };
                self.pending.push(Pending { working: 1, ..Pending::new(job, stage) });
                Some(task)
            }
            Step::Piece { at } => self.pending.get(at).map(|pending| pending.job.task),
        };
        // The write keeps its seat in the unit's exclusion; what comes behind takes another one.
        let seated = self.nexus.reseat(&unit);
        for pending in self.pending.iter_mut().filter(|it| it.job.unit.is(&unit)) {
            pending.job.unit = seated.clone();
        }
        let (unit, reply) = (Arc::clone(&unit), self.sender.clone());
        Some(Orphan { task, unit, memory, reply })
    }
}
