//! Writes on the connection's own thread. Commands say what is to be written ([`Order`]); it is done
//! when nothing of the connection is in use any more, so that the connection can go on elsewhere
//! should a write hang. Writes that have come together are made in one visit to the desk, those of
//! blocks that adjoin in one call.

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
use super::adjacent::adjoining;
use super::core::{Core, Job, Pending, Stage};
use super::write::Streaming;
use crate::clock::Milliseconds;
use crate::io::Work;
use crate::nexus::UnitRef;
use crate::regions::range_of;
use crate::turn::{Mine, Turn};
use crate::unit::SLOW_WRITE;
use crate::watch::{Call, Desk, Orphan, at_desk};

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

/// First byte on the image, and where its data stands in the receive buffer.
type Place = (u64, Range<usize>);

/// First byte on the image, and how many.
fn extent((offset, data): &Place) -> (u64, usize) {
    (*offset, data.len())
}

/// Orders of one unit that came one behind the other: what its thread has of them while the
/// connection lies on the desk.
struct Batch {
    unit: UnitRef,
    places: SmallVec<[Place; MAX_ORDERS]>,
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
            let joins = self.joins(image);
            let call = self.call(0, joins)?;
            desk.leave(waiting.take()?, call);
            let outcome = self.write_at(desk, image, call, joins);
            drop((inside, hanging));
            Some(desk.take_back(outcome))
        });
        let yields = turn.is_some_and(Mine::end);
        match (done.flatten(), waiting) {
            (Some(Some((mut connection, outcome))), _) => {
                connection.core.written(outcome);
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

    /// Whether orders that adjoin are one call: there are some, and the image wants that.
    fn joins(&self, image: &Arc<dyn Image>) -> bool {
        let mut places = self.places.iter().zip(self.places.iter().skip(1));
        let adjoin = |(one, next): (&Place, &Place)| adjoining([one, next].map(extent)) > 1;
        places.any(adjoin) && image.features().joins_writes
    }

    /// The orders of this number and behind it that are one call; none if there is none.
    fn call(&self, first: usize, joins: bool) -> Option<Call> {
        let left = self.places.get(first..).filter(|left| !left.is_empty())?;
        let count = if joins { adjoining(left.iter().map(extent)) } else { 1 };
        Some(Call { first, count })
    }

    /// Writes as many as it can. It ends with one that fails, that takes long, or that the
    /// connection did not wait for.
    fn write_at(&self, desk: &Desk, image: &Arc<dyn Image>, first: Call, joins: bool) -> Outcome {
        let mut outcome = Outcome::default();
        let slow = SLOW_WRITE + Milliseconds::resolution();
        let start = Milliseconds::now();
        let (mut call, mut calls) = (first, 0);
        loop {
            self.write_some(image, call, &mut outcome);
            calls += 1;
            let next = self.call(outcome.done, joins);
            let timed = calls % WRITES_TIMED == 0 || call.count > 1 || next.is_none();
            if timed || !outcome.failed.is_empty() {
                // In the page cache they cost microseconds; if not, the unit is known as slow for a
                // while.
                let end = Milliseconds::now();
                if end.since(start) > slow {
                    self.unit.write_hangs(end);
                    break;
                }
            }
            match next.filter(|next| outcome.failed.is_empty() && desk.go_on(call, *next)) {
                Some(next) => call = next,
                None => break,
            }
        }
        outcome
    }

    /// Makes one call.
    fn write_some(&self, image: &Arc<dyn Image>, call: Call, outcome: &mut Outcome) {
        let Call { first, count } = call;
        outcome.done = first + count;
        let places = self.places.get(first..outcome.done).unwrap_or_default();
        if let [place] = places {
            if let Err(error) = self.write_slices(image, place.0, &[self.slice(place)]) {
                outcome.failed.push((first, error));
            }
            return;
        }
        self.write_several(image, first, places, outcome);
    }

    #[inline(never)]
    fn write_several(
        &self,
        image: &Arc<dyn Image>,
        first: usize,
        places: &[Place],
        outcome: &mut Outcome,
    ) {
        let slices: SmallVec<[_; MAX_ORDERS]> = places.iter().map(|it| self.slice(it)).collect();
        let offset = places.first().map_or(0, |(offset, _)| *offset);
        if self.write_slices(image, offset, &slices).is_ok() {
            return;
        }
        // Each by itself: whose it is that cannot be written.
        for ((number, (offset, _)), slice) in (first..).zip(places).zip(&slices) {
            if let Err(error) = self.write_slices(image, *offset, std::slice::from_ref(slice)) {
                outcome.failed.push((number, error));
            }
        }
    }

    fn slice(&self, (_, data): &Place) -> IoSlice<'_> {
        IoSlice::new(self.buffer.get(data.clone()).unwrap_or_default())
    }

    fn write_slices(
        &self,
        image: &Arc<dyn Image>,
        offset: u64,
        slices: &[IoSlice<'_>],
    ) -> Result<(), ImageError> {
        let place = range_of(offset, slices.iter().map(|slice| slice.len()).sum());
        self.unit.tokens().changing(&place);
        self.unit.write(place, || image.write(slices, offset, Durability::Cached))
    }
}

/// What came of the orders of a visit.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How many have been carried out, in their order.
    pub(crate) done: usize,
    /// Those of them that have failed, in their order.
    pub(crate) failed: Vec<(usize, ImageError)>,
}

impl Connection {
    /// Has the connection go on although one of its orders hangs: as if all that are not done had
    /// been handed off.
    pub(crate) fn rescue(&mut self, hanging: Call) -> Option<Orphan> {
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

    /// Orders have been carried out.
    fn written(&mut self, Outcome { done, mut failed }: Outcome) {
        let mut orders = std::mem::take(&mut self.orders);
        for (number, order) in orders.drain(..done.min(orders.len())).enumerate() {
            let own = failed.iter().position(|(at, _)| *at == number);
            let error = own.map(|at| failed.swap_remove(at).1);
            self.order_written(order, error.map_or(Ok(()), Err));
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

    /// Hands the first `count` orders off, those that adjoin together.
    fn hand_off_orders(&mut self, count: usize, buffer: &[u8]) {
        let mut orders = std::mem::take(&mut self.orders);
        let mut left = orders.drain(..count.min(orders.len()));
        while let Some(first) = left.as_slice().first() {
            let (unit, offset) = (first.step.unit().clone(), first.offset);
            let own = left.as_slice().iter().take_while(|order| order.step.unit().is(&unit));
            let count = adjoining(own.map(|order| (order.offset, order.data.len())));
            let joins = |image: &Arc<dyn Image>| image.features().joins_writes;
            let count = if count > 1 && unit.image().is_some_and(joins) { count } else { 1 };
            let own = left.as_slice().iter().take(count);
            let mut data = Vec::with_capacity(own.map(|order| order.data.len()).sum());
            let mut parts = Vec::with_capacity(count);
            for order in left.by_ref().take(count) {
                let own = buffer.get(order.data).unwrap_or_default();
                data.extend_from_slice(own);
                let stage = |_, device_length| Stage::Work { device_length, sent: 0 };
                parts.push((self.begin_work(order.offset, order.step, stage), own.len()));
            }
            self.submit_write(&unit, offset, data, parts);
        }
        drop(left);
        self.orders = orders;
    }

    /// An order becomes work that is done elsewhere; of which command.
    fn begin_work(
        &mut self,
        offset: u64,
        step: Step,
        stage: impl FnOnce(u64, u64) -> Stage,
    ) -> TaskId {
        match step {
            Step::Whole { job, device_length } => {
                let task = job.task;
                let stage = stage(offset, device_length);
                self.pending.push(Pending { working: 1, ..Pending::new(job, stage) });
                task
            }
            // It counts already.
            Step::Piece { task, .. } => task,
        }
    }

    /// Makes the orders that hang work that has been handed off, and hands off those behind them.
    /// Nothing is left that could still be written and that nobody knows of.
    fn orphan(&mut self, hanging: Call, buffer: &[u8]) -> Option<Orphan> {
        let Call { first, count } = hanging;
        self.written(Outcome { done: first, failed: Vec::new() });
        let unit = self.orders.first()?.step.unit().clone();
        let mut orders = std::mem::take(&mut self.orders);
        let mut parts = Vec::with_capacity(count);
        for order in orders.drain(..count.min(orders.len())) {
            let memory = order.data.len();
            (self.working, self.memory) = (self.working + 1, self.memory + memory);
            // Nobody has looked whether the write cache is on, as who does work handed off does.
            let stage = |offset, length| Stage::Write(Streaming::whole(offset, length));
            parts.push((self.begin_work(order.offset, order.step, stage), memory));
        }
        self.orders = orders;
        self.hand_off_orders(self.orders.len(), buffer);
        // The write keeps its seat in the unit's exclusion; what comes behind takes another one.
        let seated = self.nexus.reseat(&unit);
        for pending in self.pending.iter_mut().filter(|it| it.job.unit.is(&unit)) {
            pending.job.unit = seated.clone();
        }
        let (unit, reply) = (Arc::clone(&unit), self.sender.clone());
        Some(Orphan { first, parts, unit, reply, since: Instant::now() })
    }
}
