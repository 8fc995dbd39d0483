//! Copies between units: in pieces, so that they can be stopped and leave room for others.

use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::time::Instant;

use disk_image::{BlockState, Durability, Image, ImageError};
use parking_lot::{Condvar, Mutex};
use scsi::reservation::Nexus;
use scsi::{Cdb, MediumState, Provisioning, Sense};

use crate::copies::{self, LONG_COPY};
use crate::regions::range_of;
use crate::tokens::{End, InUse, Request, Token, Tokens};
use crate::unit::LogicalUnit;

/// Copied through memory at once.
const PIECE: u64 = 1 << 20;
/// Zeroed, or copied by the file system, at once.
const WHOLE: u64 = 8 << 20;
/// After so much it is the turn of what waits in the unit's queue.
const SLICE: u64 = 16 << 20;
/// READ(16) and WRITE(16) stand for a copy where reservations are looked at.
const READ: u8 = 0x88;
const WRITE: u8 = 0x8a;
const SESSION_ENDED: &str = "the end of its session";

/// Where bytes come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Zeroes,
    Unit { unit: Arc<LogicalUnit>, offset: u64 },
}

/// Bytes of one unit that become bytes of another, or of the same.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) source: Source,
    pub(crate) destination: Arc<LogicalUnit>,
    pub(crate) destination_offset: u64,
    pub(crate) length: u64,
}

/// Why a copy shall end early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stop {
    /// COPY OPERATION ABORT, a task management function, or an operator.
    Aborted = 1,
    /// Its initiator may not use one of the units any more.
    Unreachable,
    /// The session ends.
    Cancelled,
}

/// What others see of a copy, and how they stop it.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// [`Stop`]; 0 while it shall go on.
    stop: AtomicU8,
    /// Runs that were copied whole.
    runs: AtomicU16,
    /// Bytes in all.
    bytes: AtomicU64,
    /// Bytes when it is done.
    total: u64,
    /// How it ended, for who follows it.
    end: Mutex<Option<CopyEnd>>,
    ended: Condvar,
}

/// How a copy ended.
#[derive(Debug)]
pub(crate) enum CopyEnd {
    Done,
    Failed(ImageError),
    /// What ended it.
    Cancelled(&'static str),
}

impl Control {
    /// Ends it behind the piece that it is at; the first reason counts.
    pub(crate) fn stop(&self, stop: Stop) {
        let _ = self.stop.compare_exchange(0, stop as u8, Ordering::AcqRel, Ordering::Acquire);
    }

    fn stopped(&self) -> Option<Stop> {
        match self.stop.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Stop::Aborted),
            2 => Some(Stop::Unreachable),
            _ => Some(Stop::Cancelled),
        }
    }

    /// Runs that were copied whole.
    pub(crate) fn runs(&self) -> u16 {
        self.runs.load(Ordering::Relaxed)
    }

    /// Bytes in all.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes when it is done.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Its end, if it comes until then. Told once.
    pub(crate) fn wait(&self, until: Instant) -> Option<CopyEnd> {
        let mut end = self.end.lock();
        if end.is_none() {
            self.ended.wait_until(&mut end, until);
        }
        end.take()
    }

    fn set_end(&self, end: CopyEnd) {
        *self.end.lock() = Some(end);
        self.ended.notify_all();
    }
}

/// Why a copy ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It could not be read.
    Source(Arc<LogicalUnit>, ImageError),
    /// It could not be written.
    Destination(Arc<LogicalUnit>, ImageError),
    /// A unit is not ready, or reserved or protected.
    NotReachable,
    /// The token ended.
    Token(End),
    /// It was stopped.
    Stopped(Stop),
    /// There is nothing to make a token with.
    Refused(Sense),
}

impl Failure {
    /// For who follows the copy.
    fn end(&self) -> CopyEnd {
        CopyEnd::Cancelled(match self {
            Self::Source(_, error) | Self::Destination(_, error) => {
                return CopyEnd::Failed(error.again());
            }
            Self::NotReachable => "a disk that is reserved, write-protected or not ready",
            Self::Token(_) => "the end of its token",
            Self::Stopped(Stop::Aborted) | Self::Refused(_) => "its initiator",
            Self::Stopped(Stop::Unreachable) => "a change of what its initiator may use",
            Self::Stopped(Stop::Cancelled) => SESSION_ENDED,
        })
    }
}

/// A copy, as far as it came.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) control: Arc<Control>,
    /// The token, if it was to be made.
    pub(crate) result: Result<Option<Arc<Token>>, Failure>,
}

/// A copy that goes on.
#[derive(Debug)]
pub(crate) struct Copy {
    runs: Vec<Run>,
    control: Arc<Control>,
    /// Who copies.
    nexus: Nexus,
    /// What stands for the source.
    token: Option<InUse>,
    /// The run that it is at, and how much of that is done.
    next: usize,
    done: u64,
    /// Its first slice has begun.
    begun: bool,
    /// Who follows it knows its end.
    told: bool,
}

/// What is to be done with a copy.
pub(crate) enum Slice {
    More(Box<Copy>),
    Done(Copied),
}

impl Copy {
    pub(crate) fn new(runs: Vec<Run>, nexus: Nexus, token: Option<InUse>) -> Box<Self> {
        let total = runs.iter().map(|run| run.length).fold(0, u64::saturating_add);
        let control = Arc::new(Control { total, ..Control::default() });
        Box::new(Self { runs, control, nexus, token, next: 0, done: 0, begun: false, told: false })
    }

    pub(crate) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Copies a slice.
    pub(super) fn slice(mut self: Box<Self>) -> Slice {
        if !std::mem::replace(&mut self.begun, true)
            && self.control.total >= LONG_COPY
            && self.control.stopped().is_none()
            && let Some(first) = self.runs.first()
        {
            copies::record(&first.destination, self.nexus.initiator.name(), &self.control);
        }
        let mut left = SLICE;
        while let Some(run) = self.runs.get(self.next) {
            if self.done == run.length {
                (self.next, self.done) = (self.next + 1, 0);
                self.control.runs.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            if left == 0 {
                return Slice::More(self);
            }
            match self.check(run).and_then(|()| self.piece(run)) {
                Ok(copied) => {
                    self.done += copied;
                    self.control.bytes.fetch_add(copied, Ordering::Relaxed);
                    left = left.saturating_sub(copied);
                }
                Err(failure) => return self.over(Err(failure)),
            }
        }
        self.over(Ok(None))
    }

    fn over(&mut self, result: Result<Option<Arc<Token>>, Failure>) -> Slice {
        let end = result.as_ref().map_or_else(Failure::end, |_| CopyEnd::Done);
        self.control.set_end(end);
        self.told = true;
        Slice::Done(Copied { control: self.control.clone(), result })
    }

    /// Whether the next piece may be copied: anything may have changed since the last one.
    fn check(&self, run: &Run) -> Result<(), Failure> {
        if let Some(stop) = self.control.stopped() {
            return Err(Failure::Stopped(stop));
        }
        if let Source::Unit { unit, .. } = &run.source {
            self.check_unit(unit, READ)?;
        }
        self.check_unit(&run.destination, WRITE)
    }

    fn check_unit(&self, unit: &LogicalUnit, access: u8) -> Result<(), Failure> {
        let refused = unit.reservations().refusal(&self.nexus, Cdb::new(&[access]));
        let protected = access == WRITE && unit.is_write_protected();
        if refused.is_some() || protected || unit.state() != MediumState::Ready {
            return Err(Failure::NotReachable);
        }
        Ok(())
    }

    fn check_token(&self) -> Result<(), Failure> {
        self.token.as_ref().map_or(Ok(()), |token| token.check().map_err(Failure::Token))
    }

    /// Copies some of what is left of a run; how much.
    fn piece(&self, run: &Run) -> Result<u64, Failure> {
        let left = run.length - self.done;
        let to = run.destination_offset + self.done;
        let Source::Unit { unit, offset } = &run.source else {
            let range = to..to + left.min(WHOLE);
            return write_zeroes(&run.destination, &range);
        };
        let (source, from) = (image(unit)?, offset + self.done);
        let failed = |error| Failure::Source(unit.clone(), error);
        let extent = source.block_status(from, left.min(WHOLE)).map_err(failed)?;
        if extent.state == BlockState::Deallocated {
            self.check_token()?;
            return write_zeroes(&run.destination, &(to..to + extent.length));
        }
        if let Some(copied) = self.by_file(unit, run, from, to, extent.length)? {
            return Ok(copied);
        }
        let length = extent.length.min(PIECE);
        let whole = usize::try_from(length).unwrap_or(0);
        reachable(unit)?;
        // One unit after the other: who holds two could wait for who waits for him.
        let data = super::read::read(unit, source, from, whole).map_err(failed)?;
        reachable(unit)?;
        // What was read is what the token stands for, if that has not changed until now.
        self.check_token()?;
        write(&run.destination, to, &data)?;
        Ok(length)
    }
}

impl Drop for Copy {
    /// One that nobody goes on with, as its session is gone.
    fn drop(&mut self) {
        if !self.told {
            self.control.set_end(CopyEnd::Cancelled(SESSION_ENDED));
        }
    }
}

impl Copy {
    /// Has the file system copy some bytes, if it can.
    fn by_file(
        &self,
        source: &Arc<LogicalUnit>,
        run: &Run,
        from: u64,
        to: u64,
        length: u64,
    ) -> Result<Option<u64>, Failure> {
        let unit = &run.destination;
        let (image, source_image) = (image(unit)?, image(source)?);
        if !image.is_plain() || !source_image.is_plain() {
            return Ok(None);
        }
        // Both at once, which lie on one file system: if one of them hangs, so does the other.
        // Always in the same order, so that nobody waits for who waits for him.
        let (source_at, unit_at) = (Arc::as_ptr(source).addr(), Arc::as_ptr(unit).addr());
        let (first, second) = if source_at < unit_at { (source, unit) } else { (unit, source) };
        let _first = first.exclusion().enter_sleeping();
        let _second = (source_at != unit_at).then(|| second.exclusion().enter_sleeping());
        reachable(source)?;
        reachable(unit)?;
        // Shared blocks take no space, but nobody knows beforehand that they will be shared.
        let failed = |error| Failure::Destination(unit.clone(), error);
        unit.check_space(image, to..to + length).map_err(failed)?;
        unit.tokens().changing(&(to..to + length));
        let copy = || image.copy_from(&**source_image, from, to, length);
        let write = || unit.regions().write(to..to + length, copy);
        // What fails here fails again, or succeeds, when it is read and written; so does what others
        // wrote to meanwhile, whose blocks may not have been seen whole.
        let Some(Ok(copied)) = source.regions().read(&(from..from + length), write) else {
            return Ok(None);
        };
        self.check_token()?;
        if !unit.mode().write_cache_enabled {
            image.flush().map_err(|error| Failure::Destination(unit.clone(), error))?;
        }
        Ok(Some(copied))
    }
}

/// Inside of the unit: refuses one whose medium an operation has for itself.
fn reachable(unit: &LogicalUnit) -> Result<(), Failure> {
    unit.claim().refusal().map_or(Ok(()), |_| Err(Failure::NotReachable))
}

fn image(unit: &LogicalUnit) -> Result<&Arc<dyn Image>, Failure> {
    unit.image().ok_or(Failure::NotReachable)
}

fn write(unit: &Arc<LogicalUnit>, offset: u64, data: &[u8]) -> Result<(), Failure> {
    let image = image(unit)?;
    let cached = unit.mode().write_cache_enabled;
    let durability = if cached { Durability::Cached } else { Durability::Durable };
    let _inside = unit.exclusion().enter_sleeping();
    reachable(unit)?;
    let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
    let range = offset..offset.saturating_add(length);
    let failed = |error| Failure::Destination(unit.clone(), error);
    unit.check_space(image, range.clone()).map_err(failed)?;
    unit.tokens().changing(&range);
    let written = unit.regions().write(range_of(offset, data.len()), || {
        image.write(&[IoSlice::new(data)], offset, durability)
    });
    let turned_off = || cached && !unit.mode().write_cache_enabled;
    let written = written.and_then(|()| if turned_off() { image.flush() } else { Ok(()) });
    written.map_err(|error| Failure::Destination(unit.clone(), error))
}

/// Zeroes without space of their own, where blocks need not have some.
fn write_zeroes(unit: &Arc<LogicalUnit>, range: &Range<u64>) -> Result<u64, Failure> {
    let image = image(unit)?;
    let may_unmap = unit.device().unmap && unit.device().provisioning.get() == Provisioning::Thin;
    let length = range.end - range.start;
    let _inside = unit.exclusion().enter_sleeping();
    reachable(unit)?;
    unit.tokens().changing(range);
    let zero = || image.write_zeroes(range.start, length, may_unmap);
    let mut written = unit.regions().write(range.clone(), zero);
    if written.is_ok() && !unit.mode().write_cache_enabled {
        written = image.flush();
    }
    written.map_err(|error| Failure::Destination(unit.clone(), error))?;
    Ok(length)
}

/// POPULATE TOKEN.
#[derive(Debug)]
pub(crate) struct MakeToken {
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) unit: Arc<LogicalUnit>,
    pub(crate) request: Request,
    pub(crate) control: Arc<Control>,
}

impl MakeToken {
    pub(super) fn run(self) -> Copied {
        let Self { tokens, unit, request, control } = self;
        let result = match control.stopped() {
            Some(stop) => Err(Failure::Stopped(stop)),
            None => tokens.make(&unit, request, Instant::now()).map_err(Failure::Refused),
        };
        if let Ok(token) = &result {
            let bytes = token.ranges().iter().map(|range| range.end - range.start).sum();
            control.bytes.store(bytes, Ordering::Relaxed);
        }
        Copied { control, result: result.map(Some) }
    }
}
