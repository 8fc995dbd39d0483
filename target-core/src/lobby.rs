//! Connections that have not logged in yet.
//!
//! Their number is bounded. When all places are taken, whoever comes takes the place of the one
//! that has been silent for the longest: an initiator speaks at once, and a flood of connections
//! that never do cannot shut it out.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The places.
#[derive(Debug)]
pub(crate) struct Lobby {
    state: Mutex<State>,
    places: usize,
}

#[derive(Debug, Default)]
struct State {
    /// Those that have sent no whole PDU yet, in the order in which they came.
    silent: BTreeMap<u64, CancellationToken>,
    /// How many have sent one.
    speaking: usize,
    next: u64,
}

impl Lobby {
    pub(crate) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), places })
    }

    /// A place for somebody who has just come; none if all are taken by logins that have begun.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.state.lock();
        if state.silent.len() + state.speaking >= self.places {
            let (_, oldest) = state.silent.pop_first()?;
            oldest.cancel();
        }
        let number = state.next;
        state.next += 1;
        let lost = CancellationToken::new();
        state.silent.insert(number, lost.clone());
        Some(Place { lobby: self.clone(), number, lost, speaks: false })
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    lobby: Arc<Lobby>,
    number: u64,
    lost: CancellationToken,
    speaks: bool,
}

impl Place {
    /// A whole PDU has come: the place is kept. False if it was lost before that.
    pub(crate) fn speaks(&mut self) -> bool {
        if !self.speaks {
            let mut state = self.lobby.state.lock();
            if state.silent.remove(&self.number).is_some() {
                state.speaking += 1;
                self.speaks = true;
            }
        }
        self.speaks
    }

    /// Cancelled when somebody else takes the place.
    pub(crate) fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.lobby.state.lock();
        if self.speaks {
            state.speaking -= 1;
        } else {
            state.silent.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_was_silent_for_the_longest_makes_room() {
        let lobby = Lobby::new(3);
        let mut places: Vec<_> = (0..3).map(|_| lobby.enter().unwrap()).collect();
        assert!(places[0].speaks() && places[0].speaks());
        let fourth = lobby.enter().unwrap();
        let lost: Vec<_> = places.iter().map(|place| place.lost().is_cancelled()).collect();
        assert_eq!(lost, [false, true, false]);
        assert!(!places[1].speaks(), "too late");
        drop(places.remove(1));
        assert!(!fourth.lost().is_cancelled());
        let _fifth = lobby.enter().unwrap();
        assert!(places[1].lost().is_cancelled());
    }

    #[test]
    fn logins_that_have_begun_are_not_pushed_out_and_leave_room_when_they_end() {
        let lobby = Lobby::new(2);
        let mut places: Vec<_> = (0..2).map(|_| lobby.enter().unwrap()).collect();
        assert!(places.iter_mut().all(Place::speaks));
        assert!(lobby.enter().is_none());
        places.pop();
        let mut last = lobby.enter().unwrap();
        assert!(last.speaks());
        assert!(lobby.enter().is_none());
        drop((places, last));
        let state = lobby.state.lock();
        assert_eq!((state.speaking, state.silent.len()), (0, 0));
    }
}
