//! Whether long reads cost less if they are sent without a copy. That depends on the machine: on one
//! with fast memory the copy is cheaper than all the pages of which a socket has to keep track. So a
//! connection does both for a while, in turns, and goes on with what cost the program less time of the
//! processors; after some gigabytes it looks again.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Bytes before the first look: what has just begun says nothing.
const BEGIN: u64 = 128 << 20;
/// Bytes in front of each window, behind which what was queued before has left.
const SETTLE: u64 = 4 << 20;
/// Bytes that are measured.
const WINDOW: u64 = 16 << 20;
/// Windows of each kind, of which the one in the middle counts: in some the program did more besides.
const WINDOWS: usize = 5;
/// Bytes until the next look.
const HOLD: u64 = 16 << 30;
/// What is not better by one part of so many changes nothing.
const MARGIN: u64 = 20;

/// Both ways of sending, in turns.
#[derive(Debug)]
pub(super) struct Trial {
    in_place: bool,
    stage: Stage,
    /// Bytes until the stage ends.
    left: u64,
    /// Windows of this look that are over, of both kinds.
    windows: usize,
    /// Picoseconds a byte in each of them: copied, in place.
    costs: [[u64; WINDOWS]; 2],
    /// What was queued since the turn began.
    bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is measured.
    Holds,
    Settles,
    Measures {
        bytes: u64,
        since: Duration,
    },
}

impl Trial {
    pub(super) const fn new() -> Self {
        let (stage, costs) = (Stage::Holds, [[0; WINDOWS]; 2]);
        Self { in_place: true, stage, left: BEGIN, windows: 0, costs, bytes: 0 }
    }

    /// So many bytes are queued; whether in place.
    pub(super) const fn queue(&mut self, bytes: u32) -> bool {
        self.bytes += bytes as u64;
        self.in_place
    }

    /// A turn of the connection is over.
    pub(super) fn turn_over(&mut self) {
        if self.bytes > 0 {
            self.count(processor_time);
        }
    }

    fn count(&mut self, clock: impl FnOnce() -> Duration) {
        let queued = std::mem::take(&mut self.bytes);
        if let Stage::Measures { bytes, .. } = &mut self.stage {
            *bytes += queued;
        }
        self.left = self.left.saturating_sub(queued);
        if self.left == 0 {
            self.stage_over(clock());
        }
    }

    #[cold]
    fn stage_over(&mut self, now: Duration) {
        match self.stage {
            Stage::Holds => {
                self.windows = 0;
                (self.stage, self.left) = (Stage::Settles, SETTLE);
            }
            Stage::Settles => {
                self.stage = Stage::Measures { bytes: 0, since: now };
                self.left = WINDOW;
            }
            Stage::Measures { bytes, since } => {
                let cost = now.saturating_sub(since).as_nanos().saturating_mul(1000);
                let cost = cost / u128::from(bytes.max(1));
                let [copied, in_place] = &mut self.costs;
                let costs = if self.in_place { in_place } else { copied };
                if let Some(place) = costs.get_mut(self.windows / 2) {
                    *place = u64::try_from(cost).unwrap_or(u64::MAX);
                }
                self.windows += 1;
                (self.stage, self.left) = (Stage::Settles, SETTLE);
                // An even number of them ends with what was there before.
                self.in_place = !self.in_place;
                if self.windows == 2 * WINDOWS {
                    self.decide();
                }
            }
        }
    }

    #[cold]
    fn decide(&mut self) {
        let [copied, in_place] = self.costs.map(|mut costs| {
            costs.sort_unstable();
            costs.get(WINDOWS / 2).copied().unwrap_or_default()
        });
        let (now, other) = if self.in_place { (in_place, copied) } else { (copied, in_place) };
        if other < now - now / MARGIN {
            self.in_place = !self.in_place;
        }
        (self.stage, self.left) = (Stage::Holds, HOLD);
        tracing::debug!(copied, in_place, "picoseconds a byte of long reads");
    }
}

/// What the processors have spent on this program.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: u32 = 1 << 20;

    /// Nanoseconds of turns, and what has passed.
    struct Machine {
        copied: u64,
        in_place: u64,
        passed: u64,
    }

    impl Machine {
        fn new(copied: u64, in_place: u64) -> Self {
            Self { copied, in_place, passed: 0 }
        }

        /// One turn; whether it was in place.
        fn turn(&mut self, trial: &mut Trial) -> bool {
            let in_place = trial.queue(TURN);
            self.passed += if in_place { self.in_place } else { self.copied };
            trial.count(|| Duration::from_nanos(self.passed));
            in_place
        }

        fn turns(&mut self, trial: &mut Trial, bytes: u64) -> Vec<bool> {
            (0..bytes / u64::from(TURN)).map(|_| self.turn(trial)).collect()
        }

        /// Until it looks no more; how many turns of each kind.
        fn look(&mut self, trial: &mut Trial) -> [u64; 2] {
            let mut turns = [0; 2];
            while trial.stage != Stage::Holds {
                turns[usize::from(self.turn(trial))] += 1;
                assert!(turns[0] + turns[1] < 1000, "it does not end");
            }
            turns
        }
    }

    fn begun(machine: &mut Machine) -> Trial {
        let mut trial = Trial::new();
        assert!(machine.turns(&mut trial, BEGIN).iter().all(|in_place| *in_place));
        trial
    }

    #[test]
    fn what_costs_less_is_gone_on_with() {
        for (copied, in_place, chosen) in [
            (100_000, 80_000, true),
            (80_000, 100_000, false),
            // Hardly better: as it was.
            (98_000, 100_000, true),
        ] {
            let mut machine = Machine::new(copied, in_place);
            let mut trial = begun(&mut machine);
            let turns = machine.look(&mut trial);
            let each = (SETTLE + WINDOW) * WINDOWS as u64 / u64::from(TURN);
            assert_eq!(turns, [each; 2]);
            assert!(machine.turns(&mut trial, HOLD / 2).iter().all(|it| *it == chosen));
        }
    }

    #[test]
    fn it_looks_again_after_a_while_and_finds_what_has_changed() {
        let mut machine = Machine::new(80_000, 100_000);
        let mut trial = begun(&mut machine);
        machine.look(&mut trial);
        (machine.copied, machine.in_place) = (100_000, 80_000);
        assert!(machine.turns(&mut trial, HOLD).iter().all(|in_place| !in_place));
        machine.look(&mut trial);
        assert!(machine.turns(&mut trial, HOLD).iter().all(|in_place| *in_place));
        machine.look(&mut trial);
        assert!(machine.turn(&mut trial));
    }

    #[test]
    fn windows_in_which_something_else_was_done_decide_nothing() {
        for (odd, cost) in [(0, 10_000_000), (1, 10_000_000), (0, 1), (1, 1)] {
            let mut machine = Machine::new(100_000, 80_000);
            let mut trial = begun(&mut machine);
            while trial.stage != Stage::Holds {
                let is_odd = trial.windows < 4 && trial.windows % 2 == odd;
                let (copied, in_place) = if is_odd { (cost, cost) } else { (100_000, 80_000) };
                (machine.copied, machine.in_place) = (copied, in_place);
                machine.turn(&mut trial);
            }
            assert!(trial.queue(0), "{odd} {cost}");
        }
    }

    #[test]
    fn nothing_is_measured_without_long_reads() {
        let mut trial = Trial::new();
        (0..1000).for_each(|_| trial.turn_over());
        assert_eq!((trial.stage, trial.left), (Stage::Holds, BEGIN));
    }
}
