//! Keeps a command that must be atomic apart from every other command of a unit, at next to no
//! cost for the others: a reader-writer lock whose readers each have a flag of their own.
//!
//! A command that runs on its connection's thread ([`Seat::enter`]) sets a flag that only its own
//! session writes, and looks at one that nobody writes as long as nothing is atomic. A command
//! that must be alone ([`Exclusion::alone`]) raises that one and waits until every flag is down.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use crate::regions::overlap;
use crate::unit::LogicalUnit;

/// So often the processor is given away before the thread sleeps.
const YIELDS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// The flag of one session.
#[derive(Debug, Default)]
#[repr(align(64))] // not in one cache line with another session's
pub(crate) struct Seat {
    inside: AtomicBool,
    /// What is being written, in bytes; nothing while the end is 0.
    start: AtomicU64,
    end: AtomicU64,
}

impl Seat {
    /// Says what is being written from here on. One thread uses a seat.
    pub(crate) fn writes(&self, range: &Range<u64>) {
        self.start.store(range.start, Ordering::Relaxed);
        self.end.store(range.end, Ordering::Release);
    }

    /// It has been written.
    pub(crate) fn has_written(&self) {
        self.end.store(0, Ordering::Release);
    }

    fn is_writing(&self, range: &Range<u64>) -> bool {
        let end = self.end.load(Ordering::Acquire);
        end != 0 && overlap(&(self.start.load(Ordering::Relaxed)..end), range)
    }
}

/// While it is held, no command is alone.
#[derive(Debug)]
pub(crate) struct Inside<'a>(&'a Seat);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.store(false, Ordering::Release);
    }
}

/// The lock of a unit.
#[derive(Debug, Default)]
pub(crate) struct Exclusion {
    /// Commands that are alone, or wait to be; and whoever keeps all of them out.
    wanted: Arc<AtomicU32>,
    seats: Mutex<Vec<Weak<Seat>>>,
    /// For commands on threads that may sleep.
    sleepers: RwLock<()>,
}

impl Exclusion {
    /// A seat for a session.
    pub(crate) fn seat(&self) -> Arc<Seat> {
        let seat = Arc::new(Seat::default());
        let mut seats = self.seats.lock();
        seats.retain(|seat| seat.strong_count() > 0);
        seats.push(Arc::downgrade(&seat));
        seat
    }

    /// Enters without waiting; `None` if somebody is alone or wants to be. One thread uses a seat.
    pub(crate) fn enter<'a>(&self, seat: &'a Seat) -> Option<Inside<'a>> {
        // Sequentially consistent, both here and in `alone`: one of the two sees the other.
        seat.inside.store(true, Ordering::SeqCst);
        let inside = Inside(seat);
        (self.wanted.load(Ordering::SeqCst) == 0).then_some(inside)
    }

    /// Whether a session writes there on its own thread.
    pub(crate) fn is_written(&self, range: &Range<u64>) -> bool {
        self.seats.lock().iter().filter_map(Weak::upgrade).any(|seat| seat.is_writing(range))
    }

    /// Enters on a thread that may sleep.
    pub(crate) fn enter_sleeping(&self) -> RwLockReadGuard<'_, ()> {
        self.sleepers.read()
    }

    /// Runs `command` while no other command is inside. May sleep.
    pub(crate) fn alone<T>(&self, command: impl FnOnce() -> T) -> T {
        let _lock = self.sleepers.write();
        let _wanted = Wanted::new(&self.wanted);
        let seats: Vec<Arc<Seat>> = self.seats.lock().iter().filter_map(Weak::upgrade).collect();
        for seat in seats {
            // Inside is a page-cache copy, or a write to a device that is slow or hangs.
            let mut yields = 0;
            while seat.inside.load(Ordering::SeqCst) {
                yields += 1;
                if yields < YIELDS {
                    std::thread::yield_now();
                } else {
                    std::thread::sleep(PAUSE);
                }
            }
        }
        command()
    }
}

/// Runs `work` once, while no command is inside any of these units: everything that was answered
/// before is in their images, and nothing of what comes later. May sleep.
///
/// Nobody else holds two units, and this takes them in the order of their names, so that two of it
/// do not wait for each other.
pub fn pause(units: &[Arc<LogicalUnit>], work: &mut dyn FnMut()) {
    let mut units: Vec<_> = units.iter().collect();
    units.sort_by(|one, other| one.name().cmp(other.name()));
    units.dedup_by(|one, other| Arc::ptr_eq(one, other));
    alone_in(&units, work);
}

fn alone_in(units: &[&Arc<LogicalUnit>], work: &mut dyn FnMut()) {
    match units.split_first() {
        None => work(),
        Some((first, rest)) => first.exclusion().alone(|| alone_in(rest, work)),
    }
}

impl Exclusion {
    /// Lets nobody enter without waiting until this is dropped. Who may sleep enters all the same,
    /// and must look for himself whether he may.
    pub(crate) fn shut(&self) -> Shut {
        self.wanted.fetch_add(1, Ordering::SeqCst);
        Shut(self.wanted.clone())
    }
}

/// While it is held, nobody enters without waiting.
#[derive(Debug)]
pub(crate) struct Shut(Arc<AtomicU32>);

impl Drop for Shut {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Wanted<'a>(&'a AtomicU32);

impl<'a> Wanted<'a> {
    fn new(wanted: &'a AtomicU32) -> Self {
        wanted.fetch_add(1, Ordering::SeqCst);
        Self(wanted)
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_inside_while_one_is_alone() {
        let exclusion = Exclusion::default();
        let (low, high) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let seat = exclusion.seat();
                    let mut entered = 0;
                    while entered < 20_000 {
                        let Some(_inside) = exclusion.enter(&seat) else {
                            let _inside = exclusion.enter_sleeping();
                            continue;
                        };
                        entered += 1;
                        // `alone` changes the one before the other.
                        let before = high.load(Ordering::Acquire);
                        assert_eq!(low.load(Ordering::Acquire), before);
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        exclusion.alone(|| {
                            let now = low.fetch_add(1, Ordering::AcqRel);
                            std::hint::spin_loop();
                            assert_eq!(high.fetch_add(1, Ordering::AcqRel), now);
                        });
                    }
                });
            }
        });
        assert_eq!(high.into_inner(), 4_000);
    }

    #[test]
    fn while_it_is_shut_only_those_enter_that_may_sleep() {
        let exclusion = Exclusion::default();
        let seat = exclusion.seat();
        let shut = exclusion.shut();
        assert!(exclusion.enter(&seat).is_none());
        drop(exclusion.enter_sleeping());
        assert_eq!(exclusion.alone(|| 7), 7);
        assert!(exclusion.enter(&seat).is_none());
        drop(shut);
        assert!(exclusion.enter(&seat).is_some());
    }

    #[test]
    fn a_seat_that_is_gone_is_forgotten() {
        let exclusion = Exclusion::default();
        drop(exclusion.seat());
        let _one = exclusion.seat();
        assert_eq!(exclusion.seats.lock().len(), 1);
        assert_eq!(exclusion.alone(|| 7), 7);
    }
}
