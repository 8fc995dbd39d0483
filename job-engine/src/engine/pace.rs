//! How fast jobs go: bandwidth, and giving way to initiators. Pure sums.

use std::time::{Duration, Instant};

/// Bytes between two looks at what clients want, as long as nothing holds a job back.
const LARGEST_PIECE: u64 = 8 << 20;
const SMALLEST_PIECE: u64 = 64 << 10;

/// Commands a second from which on initiators are busy.
const BUSY: u64 = 20;

/// While initiators are busy, a job rests so many times as long as it works: it has a quarter of the
/// time.
const REST: u32 = 3;
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Bytes to do at once under these limits: what they allow in half a second.
pub(super) fn piece((one, all): (Option<u64>, Option<u64>)) -> u64 {
    let rate = one.unwrap_or(u64::MAX).min(all.unwrap_or(u64::MAX));
    (rate / 2).clamp(SMALLEST_PIECE, LARGEST_PIECE)
}

/// Whether so many commands in so long a time are many.
pub(super) fn is_busy(commands: u64, took: Duration) -> bool {
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
    commands.saturating_mul(1000) / milliseconds >= BUSY && commands > 0
}

/// How long after the beginning of a piece the next may begin.
pub(super) fn wait(bytes: u64, took: Duration, rate: Option<u64>, busy: bool) -> Duration {
    let paced = rate.map_or(Duration::ZERO, |rate| time_of(bytes, rate));
    let rested = if busy { took + (took * REST).min(LONGEST_REST) } else { Duration::ZERO };
    paced.max(rested)
}

/// How long so many bytes take at a rate.
fn time_of(bytes: u64, rate: u64) -> Duration {
    let micros = u128::from(bytes) * 1_000_000 / u128::from(rate.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX).min(1 << 50))
}

/// Milliseconds that the rest will take at the speed so far, at least 1; 0 if there is none yet.
pub(super) fn remaining(moved: u64, total: u64, done: u64, elapsed: Duration) -> u64 {
    if moved == 0 || done >= total {
        return 0;
    }
    let left = u128::from(total - done) * elapsed.as_millis() / u128::from(moved);
    u64::try_from(left).unwrap_or(u64::MAX).max(1)
}

/// Whose turn it is, where all jobs share one bandwidth.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    free: Option<Instant>,
}

impl Turns {
    /// Takes what comes next; when it is over.
    pub(super) fn take(&mut self, bytes: u64, rate: Option<u64>, begin: Instant) -> Instant {
        let Some(rate) = rate else {
            self.free = None;
            return begin;
        };
        let from = self.free.map_or(begin, |free| free.max(begin));
        let until = from + time_of(bytes, rate);
        self.free = Some(until);
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn limits_make_pieces_small_and_waits_long() {
        assert_eq!(piece((None, None)), LARGEST_PIECE);
        assert_eq!(piece((Some(1 << 20), Some(4 << 20))), 1 << 19);
        assert_eq!(piece((Some(1), None)), SMALLEST_PIECE);
        assert_eq!(wait(1000, SECOND, None, false), Duration::ZERO);
        assert_eq!(wait(1000, SECOND, Some(500), false), 2 * SECOND);
        assert_eq!(wait(u64::MAX, SECOND, Some(1), false), Duration::from_micros(1 << 50));
        assert_eq!(wait(0, SECOND / 10, None, true), SECOND / 10 * 4);
        assert_eq!(wait(0, 10 * SECOND, None, true), 11 * SECOND);
    }

    #[test]
    fn a_few_commands_are_not_many() {
        assert!(!is_busy(0, Duration::ZERO));
        assert!(!is_busy(1, SECOND));
        assert!(is_busy(20, SECOND));
        assert!(is_busy(1, Duration::from_millis(1)));
    }

    #[test]
    fn jobs_take_turns_at_the_common_bandwidth() {
        let (mut turns, begin) = (Turns::default(), Instant::now());
        assert_eq!(turns.take(1000, Some(1000), begin), begin + SECOND);
        assert_eq!(turns.take(2000, Some(1000), begin), begin + 3 * SECOND);
        // Whoever comes late has no claim to what nobody used.
        assert_eq!(turns.take(1000, Some(1000), begin + 9 * SECOND), begin + 10 * SECOND);
        assert_eq!(turns.take(1000, None, begin), begin);
    }

    #[test]
    fn the_time_that_is_left_follows_from_the_speed() {
        assert_eq!(remaining(0, 100, 0, SECOND), 0);
        assert_eq!(remaining(25, 100, 25, SECOND), 3000);
        assert_eq!(remaining(25, 100, 75, SECOND), 1000);
        assert_eq!(remaining(25, 100, 100, SECOND), 0);
    }
}
