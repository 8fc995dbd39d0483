//! Whose turn it is to write to a unit's file. File systems let one writer into a file at a time;
//! connections that meet there spin and sleep in the kernel, with all that their threads have to do.
//! So of the connections that write on their own threads one has its turn, and the others go to sleep
//! as tasks: their threads take in and answer what other connections have.
//!
//! Who is alone pays one atomic exchange to begin and one to end.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

use crate::nexus::UnitRef;

/// Nobody writes.
const FREE: u8 = 0;
/// Somebody does, and nobody is known to wait.
const TAKEN: u8 = 1;
/// Somebody does, and must wake who waits.
const WANTED: u8 = 2;

/// The turns of one unit.
#[derive(Debug, Default)]
#[repr(align(64))] // it changes often, and nothing beside it does
pub(crate) struct Turn {
    state: AtomicU8,
    waiting: Mutex<VecDeque<(u64, Waker)>>,
    next: AtomicU64,
}

/// The place of one that waits, or was woken and has not taken its turn.
#[derive(Debug)]
pub(crate) struct Place {
    /// None when it was taken.
    unit: Option<UnitRef>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(unit) = &self.unit {
            unit.turn().leave(self.number);
        }
    }
}

/// It is somebody's turn as long as this is held.
#[derive(Debug)]
pub(crate) struct Mine<'a>(Option<&'a Turn>);

impl Mine<'_> {
    /// Ends the turn; whether that has woken somebody.
    pub(crate) fn end(mut self) -> bool {
        self.0.take().is_some_and(Turn::free)
    }
}

impl Drop for Mine<'_> {
    fn drop(&mut self) {
        self.0.take().map(Turn::free);
    }
}

impl Turn {
    /// Takes the turn; who cannot has a place in `place`, and is woken when it is worth another try.
    pub(crate) fn take<'a>(
        unit: &'a UnitRef,
        place: &mut Option<Place>,
        waker: &Waker,
    ) -> Option<Mine<'a>> {
        let turn = unit.turn();
        let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
        if place.is_none() && turn.state.compare_exchange(FREE, TAKEN, success, failure).is_ok() {
            return Some(Mine(Some(turn)));
        }
        turn.take_or_wait(unit, place, waker)
    }

    #[cold]
    fn take_or_wait<'a>(
        &'a self,
        unit: &UnitRef,
        place: &mut Option<Place>,
        waker: &Waker,
    ) -> Option<Mine<'a>> {
        let mut waiting = self.waiting.lock();
        let number = place.as_ref().map(|place| place.number);
        let at = number.and_then(|own| waiting.iter().position(|(number, _)| *number == own));
        // Under the lock: who frees it sees that it is wanted, and finds the one that waits.
        if self.state.swap(WANTED, Ordering::Acquire) == FREE {
            if let Some(at) = at {
                waiting.remove(at);
            }
            drop(waiting);
            // Those behind it are woken when its turn ends.
            if let Some(mut place) = place.take() {
                place.unit = None;
            }
            return Some(Mine(Some(self)));
        }
        match (at.and_then(|at| waiting.get_mut(at)), number) {
            (Some((_, known)), _) => known.clone_from(waker),
            // It was its turn, and another one was faster.
            (None, Some(number)) => waiting.push_front((number, waker.clone())),
            (None, None) => {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                waiting.push_back((number, waker.clone()));
                *place = Some(Place { unit: Some(unit.clone()), number });
            }
        }
        None
    }

    /// Has all that wait look whether they should.
    pub(crate) fn wake_all(&self) {
        let all = std::mem::take(&mut *self.waiting.lock());
        all.into_iter().for_each(|(_, waker)| waker.wake());
    }

    fn free(&self) -> bool {
        self.state.swap(FREE, Ordering::Release) == WANTED && self.wake_next()
    }

    #[cold]
    fn wake_next(&self) -> bool {
        let next = self.waiting.lock().pop_front();
        next.map(|(_, waker)| waker.wake()).is_some()
    }

    /// One that had a place does not want it any more. If it was woken, the next one is.
    fn leave(&self, own: u64) {
        let mut waiting = self.waiting.lock();
        let at = waiting.iter().position(|(number, _)| *number == own);
        match at {
            Some(at) => drop(waiting.remove(at)),
            None => {
                drop(waiting);
                self.wake_next();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;
    use std::thread;

    use disk_image::MemImage;
    use scsi::Device;

    use super::*;
    use crate::unit::{LogicalUnit, UnitConfig};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One that writes, and how often it was woken.
    struct Writer {
        count: Arc<Count>,
        waker: Waker,
        place: Option<Place>,
    }

    impl Writer {
        fn new() -> Self {
            let count = Arc::new(Count::default());
            Self { waker: count.clone().into(), count, place: None }
        }

        fn take<'a>(&mut self, unit: &'a UnitRef) -> Option<Mine<'a>> {
            Turn::take(unit, &mut self.place, &self.waker)
        }

        fn woken(&self) -> usize {
            self.count.0.load(Ordering::Relaxed)
        }
    }

    fn unit() -> UnitRef {
        let device = Device::new("disk", [0x60; 16], 512, 1 << 20);
        let image = Arc::new(MemImage::new(1 << 20).unwrap());
        UnitRef::new(&LogicalUnit::new(UnitConfig::new("disk", device, Ok(image))))
    }

    #[test]
    fn turns_come_in_the_order_in_which_they_were_wanted() {
        let unit = unit();
        let [mut one, mut two, mut three] = [(); 3].map(|()| Writer::new());
        let first = one.take(&unit).unwrap();
        assert!(two.take(&unit).is_none() && three.take(&unit).is_none());
        // Once more changes nothing.
        assert!(two.take(&unit).is_none());
        assert!(first.end());
        assert_eq!((two.woken(), three.woken()), (1, 0));
        assert!(two.take(&unit).unwrap().end());
        assert_eq!((two.woken(), three.woken()), (1, 1));
        let third = three.take(&unit).unwrap();
        assert!(one.take(&unit).is_none());
        assert!(third.end() && one.take(&unit).is_some_and(|it| !it.end()));
    }

    #[test]
    fn who_is_overtaken_goes_before_those_behind_it() {
        let unit = unit();
        let [mut one, mut two, mut three] = [(); 3].map(|()| Writer::new());
        let first = one.take(&unit).unwrap();
        assert!(two.take(&unit).is_none() && three.take(&unit).is_none());
        assert!(first.end());
        let again = one.take(&unit).unwrap();
        assert!(two.take(&unit).is_none());
        assert!(again.end());
        assert_eq!((two.woken(), three.woken()), (2, 0));
    }

    #[test]
    fn who_goes_away_holds_up_nobody() {
        let unit = unit();
        let [mut one, mut two, mut three, mut four] = [(); 4].map(|()| Writer::new());
        let first = one.take(&unit).unwrap();
        for other in [&mut two, &mut three, &mut four] {
            assert!(other.take(&unit).is_none());
        }
        // It waits, and then it does not.
        drop(three.place.take());
        assert!(first.end());
        // It was woken, and is gone.
        drop(two.place.take());
        assert_eq!((three.woken(), four.woken()), (0, 1));
        assert!(four.take(&unit).is_some());
    }

    #[test]
    fn everybody_is_told_of_a_write_that_hangs() {
        let unit = unit();
        let [mut one, mut two, mut three] = [(); 3].map(|()| Writer::new());
        let hangs = one.take(&unit).unwrap();
        assert!(two.take(&unit).is_none() && three.take(&unit).is_none());
        unit.turn().wake_all();
        assert_eq!((two.woken(), three.woken()), (1, 1));
        // One goes elsewhere, the other one goes on waiting.
        assert!(three.take(&unit).is_none());
        drop(two.place.take());
        assert!(hangs.end() || three.woken() == 2);
        assert!(three.take(&unit).is_some());
    }

    #[test]
    fn one_at_a_time_has_its_turn() {
        let unit = unit();
        let (inside, turns) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    struct Thread(thread::Thread);
                    impl Wake for Thread {
                        fn wake(self: Arc<Self>) {
                            self.0.unpark();
                        }
                    }
                    let waker = Waker::from(Arc::new(Thread(thread::current())));
                    let mut place = None;
                    for _ in 0..20_000 {
                        let mine = loop {
                            match Turn::take(&unit, &mut place, &waker) {
                                Some(mine) => break mine,
                                // Whoever forgets to wake it makes this wait for ever.
                                None => thread::park(),
                            }
                        };
                        assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                        turns.fetch_add(1, Ordering::Relaxed);
                        inside.fetch_sub(1, Ordering::Relaxed);
                        mine.end();
                    }
                });
            }
        });
        assert_eq!(turns.into_inner(), 80_000);
    }
}
