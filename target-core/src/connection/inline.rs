//! Writes on the connection's own thread. Commands say what is to be written ([`Order`]); it is done
//! when nothing of the connection is in use any more, so that the connection can go on elsewhere
//! should a write hang. Writes that have come together are made in one visit to the desk.

use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use disk_image::{Durability, Image, ImageError};
use iscsi_proto::pdu::{Pdu, Request};
use iscsi_proto::session::TaskId;
use smallvec::SmallVec;

use super::Connection;
use super::core::{Core, Job, Pending, Stage};
use super::write::Streaming;
use crate::clock::Milliseconds;
use crate::io::Work;
use crate::nexus::UnitRef;
use crate::regions::range_of;
use crate::turn::{Mine, Turn};
use crate::unit::SLOW_WRITE;
use crate::watch::{Desk, Orphan, at_desk};

/// Writes of one visit.
pub(crate) const MAX_ORDERS: usize = 32;
/// After so many of them there is a look at the clock, which costs as much as a hundredth of each.
const WRITES_TIMED: usize = 4;

/// What is to be written on this thread.
#[derive(Debug)]
pub(crate) struct Order {
    /// First byte on the image.
    offset: u64,
    /// Where its data stands in the receive buffer.
    data: Range<usize>,
    step: Step,
}

/// What it is of its command.
#[derive(Debug)]
pub(super) enum Step {
    /// All of it.
    Whole { job: Job, device_length: u64 },
    /// One piece of those of a pending command, of which it counts as work.
    Piece { task: TaskId, unit: UnitRef },
}

impl Step {
    pub(super) const fn unit(&self) -> &UnitRef {
        match self {
            Self::Whole { job, .. } => &job.unit,
            Self::Piece { unit, .. } => unit,
        }
    }
}

/// Whether a PDU may be handled in front of writes that came before it: if it is such a write
/// itself, since those are made in the order in which they came.
pub(super) fn joins(pdu: &Pdu<'_>) -> bool {
    match pdu.request() {
        Request::DataOut(_) => true,
        Request::ScsiCommand(command) => match command.cdb {
            [0x0a, ..] => true,
            // WRITE(10), (12) and (16) without FUA.
            [0x2a | 0xaa | 0x8a, flags, ..] => flags & 0x08 == 0,
            _ => false,
        },
        Request::NopOut(_)
        | Request::TaskManagement(_)
        | Request::Login(_)
        | Request::Text(_)
        | Request::Logout(_)
        | Request::Snack(_)
        | Request::Unknown(_) => false,
    }
}

/// What came of orders.
pub(super) enum Written {
    /// They are carried out, unless the connection yields in front of the rest.
    Done(Box<Connection>),
    /// Others write to the unit; the task is woken when it is its turn.
    Waits(Box<Connection>),
    /// A write has hung meanwhile: the connection has gone on as another task.
    Elsewhere,
}

/// Carries orders out.
pub(super) fn write(mut connection: Box<Connection>, waker: &Waker) -> Written {
    while !connection.core.yields
        && let Some(batch) = Batch::of(&connection)
    {
        match batch.write(connection, waker) {
            Written::Done(back) => connection = back,
            stops @ (Written::Waits(_) | Written::Elsewhere) => return stops,
        }
    }
    Written::Done(connection)
}

/// Orders of one unit that came one behind the other: what its thread has of them while the
/// connection lies on the desk.
struct Batch {
    unit: UnitRef,
    places: SmallVec<[(u64, Range<usize>); MAX_ORDERS]>,
    buffer: Arc<Vec<u8>>,
}

impl Batch {
    fn of(connection: &Connection) -> Option<Self> {
        let orders = &connection.core.orders;
        let unit = orders.first()?.step.unit().clone();
        let own = orders.iter().take_while(|order| order.step.unit().is(&unit));
        let places = own.map(|order| (order.offset, order.data.clone())).collect();
        Some(Self { unit, places, buffer: connection.receive.share()? })
    }

    fn write(self, mut connection: Box<Connection>, waker: &Waker) -> Written {
        connection.core.node.watch.sit_down();
        let mut place = connection.place.take();
        let mut turn = None;
        // What has to look for space first may sleep.
        if !self.unit.is_slow(connection.core.now) && !self.unit.is_exhausted() {
            turn = Turn::take(&self.unit, &mut place, waker);
            if turn.is_none() {
                connection.place = place;
                return Written::Waits(connection);
            }
        }
        drop(place);
        let mut waiting = Some(connection);
        let done = at_desk(|desk| {
            turn.as_ref()?;
            // None if no other thread is left that could serve sockets while this one hangs.
            let hanging = desk.may_hang()?;
            // None while an atomic command keeps others out.
            let inside = self.unit.enter()?;
            let image = self.unit.image()?;
            desk.leave(waiting.take()?);
            let (done, result) = self.write_at(desk, image);
            drop((inside, hanging));
            Some(desk.take_back(result).map(|(back, result)| (back, done, result)))
        });
        let yields = turn.is_some_and(Mine::end);
        match (done.flatten(), waiting) {
            (Some(Some((mut connection, done, result))), _) => {
                connection.core.written(done, result);
                connection.core.yields = yields;
                Written::Done(connection)
            }
            (None, Some(mut connection)) => {
                connection.core.hand_off_orders(self.places.len(), &self.buffer);
                connection.core.yields = yields;
                Written::Done(connection)
            }
            (Some(None) | None, _) => Written::Elsewhere,
        }
    }

    /// Writes as many as it can: how many, and what came of the last one of those. It ends with one
    /// that fails, that takes long, or that the connection did not wait for.
    fn write_at(&self, desk: &Desk, image: &Arc<dyn Image>) -> (usize, Result<(), ImageError>) {
        let (mut done, mut result) = (0, Ok(()));
        let slow = SLOW_WRITE + Milliseconds::resolution();
        let start = Milliseconds::now();
        for (number, (offset, range)) in self.places.iter().enumerate() {
            if number > 0 && !desk.go_on_to(number) {
                break;
            }
            let data = self.buffer.get(range.clone()).unwrap_or_default();
            let place = range_of(*offset, data.len());
            self.unit.tokens().changing(&place);
            let slices = [IoSlice::new(data)];
            let write = || image.write(&slices, *offset, Durability::Cached);
            result = self.unit.write(place, write);
            done = number + 1;
            let timed = done % WRITES_TIMED == 0 || done == self.places.len();
            if !timed && result.is_ok() {
                continue;
            }
            // In the page cache they cost microseconds; if not, the unit is known as slow for a while.
            let end = Milliseconds::now();
            if end.since(start) > slow {
                self.unit.write_hangs(end);
                break;
            }
            if result.is_err() {
                break;
            }
        }
        (done, result)
    }
}

impl Connection {
    /// Has the connection go on although one of its orders hangs: as if all that are not done had
    /// been handed off.
    pub(crate) fn rescue(&mut self, hanging: usize) -> Option<Orphan> {
        self.resumes = false;
        let buffer = self.receive.share()?;
        self.core.orphan(hanging, &buffer)
    }
}

impl Core {
    /// Whether one more can be ordered.
    pub(super) const fn takes_orders(&self) -> bool {
        self.orders.len() < MAX_ORDERS
    }

    /// Orders a write whose data stands in the receive buffer; gives the step back if that cannot
    /// be.
    pub(super) fn order(&mut self, offset: u64, data: &[u8], step: Step) -> Result<(), Step> {
        let start = data.as_ptr().addr().checked_sub(self.received_at);
        let Some(start) = start.filter(|_| !self.wakes && self.takes_orders()) else {
            return Err(step);
        };
        if self.orders.capacity() == 0 {
            self.orders = crate::buffers::take_orders();
        }
        self.orders.push(Order { offset, data: start..start + data.len(), step });
        Ok(())
    }

    /// The first `done` orders have been carried out, of which all but the last have succeeded.
    fn written(&mut self, done: usize, result: Result<(), ImageError>) {
        let mut orders = std::mem::take(&mut self.orders);
        let mut result = Some(result);
        for (order, left) in orders.drain(..done.min(orders.len())).zip((0..done).rev()) {
            let last = if left == 0 { result.take() } else { None };
            self.order_written(order, last.unwrap_or(Ok(())));
        }
        self.orders = orders;
    }

    fn order_written(&mut self, order: Order, result: Result<(), ImageError>) {
        match order.step {
            Step::Whole { job, device_length } => match result {
                Ok(()) if job.unit.mode().write_cache_enabled => {
                    self.good(job.task, device_length);
                }
                // It was turned off meanwhile.
                Ok(()) => self.hand_off(job, Work::Flush, device_length),
                Err(error) => self.failed(&job, &error),
            },
            Step::Piece { task, .. } => self.piece_written(task, result),
        }
    }

    /// Hands the first `count` orders off.
    fn hand_off_orders(&mut self, count: usize, buffer: &[u8]) {
        let mut orders = std::mem::take(&mut self.orders);
        for Order { offset, data, step } in orders.drain(..count.min(orders.len())) {
            let data = buffer.get(data).unwrap_or_default().to_vec();
            let work = Work::Write { offset, data, durable: false };
            match step {
                Step::Whole { job, device_length } => self.hand_off(job, work, device_length),
                Step::Piece { task, unit } => self.submit(&unit, Some(task), work),
            }
        }
        self.orders = orders;
    }

    /// Makes the order that hangs work that has been handed off, and hands off those behind it.
    /// Nothing is left that could still be written and that nobody knows of.
    fn orphan(&mut self, hanging: usize, buffer: &[u8]) -> Option<Orphan> {
        self.written(hanging, Ok(()));
        if self.orders.is_empty() {
            return None;
        }
        let Order { offset, data, step } = self.orders.remove(0);
        let (unit, memory) = (step.unit().clone(), data.len());
        (self.working, self.memory) = (self.working + 1, self.memory + memory);
        let task = match step {
            Step::Whole { job, device_length } => {
                let task = job.task;
                let stage = Stage::Write(Streaming::whole(offset, device_length));
                self.pending.push(Pending { working: 1, ..Pending::new(job, stage) });
                task
            }
            Step::Piece { task, .. } => task,
        };
        self.hand_off_orders(self.orders.len(), buffer);
        // The write keeps its seat in the unit's exclusion; what comes behind takes another one.
        let seated = self.nexus.reseat(&unit);
        for pending in self.pending.iter_mut().filter(|it| it.job.unit.is(&unit)) {
            pending.job.unit = seated.clone();
        }
        let (unit, reply) = (Arc::clone(&unit), self.sender.clone());
        Some(Orphan { task: Some(task), unit, memory, reply, since: Instant::now() })
    }
}
