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

/// What a job was slower than its least speed is made up for later, up to so long.
const LONGEST_DEBT: Duration = Duration::from_secs(4);

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

/// How long after the beginning of a piece the next may begin; `rest` is what there is of a rest.
pub(super) fn wait(bytes: u64, took: Duration, rate: Option<u64>, rest: Duration) -> Duration {
    let paced = rate.map_or(Duration::ZERO, |rate| time_of(bytes, rate));
    paced.max(took + rest)
}

/// The least that a job does however busy initiators are, if its medium lets it: it rests only as long as
/// it is not behind that.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Least {
    /// When all that was done would be done at the least speed.
    due: Option<Instant>,
}

impl Least {
    /// How long to rest at `now`, the end of a piece of `bytes` that took so long.
    pub(super) fn rest(
        &mut self,
        bytes: u64,
        took: Duration,
        now: Instant,
        least: Option<u64>,
    ) -> Duration {
        let wanted = (took * REST).min(LONGEST_REST);
        let Some(least) = least else { return wanted };
        let begin = now.checked_sub(took).unwrap_or(now);
        // A job that was fast has nothing saved up, or it would stand still for as long.
        let earliest = begin.checked_sub(LONGEST_DEBT).unwrap_or(begin);
        let from = self.due.map_or(begin, |due| due.clamp(earliest, begin));
        let due = from + time_of(bytes, least);
        self.due = Some(due);
        wanted.min(due.saturating_duration_since(now))
    }
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
        let none = Duration::ZERO;
        assert_eq!(wait(1000, SECOND, None, none), SECOND);
        assert_eq!(wait(1000, SECOND, Some(500), none), 2 * SECOND);
        assert_eq!(wait(u64::MAX, SECOND, Some(1), none), Duration::from_micros(1 << 50));
        assert_eq!(wait(0, SECOND, None, 3 * SECOND), 4 * SECOND);
        let rest = |took| Least::default().rest(0, took, Instant::now(), None);
        assert_eq!(rest(SECOND / 10), SECOND / 10 * 3);
        assert_eq!(rest(10 * SECOND), SECOND);
    }

    /// Bytes a second of a job whose pieces take `times` in turn while initiators are busy, and the part
    /// of the time that it works.
    fn run(piece: u64, times: &[Duration], least: Option<u64>) -> (f64, f64) {
        let (begin, mut pacing) = (Instant::now(), Least::default());
        let (mut now, mut bytes, mut worked) = (begin, 0, Duration::ZERO);
        for took in times.iter().cycle().take(10_000) {
            now += *took;
            worked += *took;
            bytes += piece;
            now += pacing.rest(piece, *took, now, least);
        }
        let all = (now - begin).as_secs_f64();
        (bytes as f64 / all, worked.as_secs_f64() / all)
    }

    #[test]
    fn a_job_makes_the_least_speed_if_its_medium_lets_it_and_no_more_than_a_quarter_of_the_time() {
        const KIB: u64 = 1 << 10;
        let milliseconds = Duration::from_millis;
        let least = Some(4096 * KIB);
        // A quarter of the time is more than the least: nothing changes.
        let fast = [milliseconds(1)];
        assert_eq!(run(64 * KIB, &fast, least), run(64 * KIB, &fast, None));
        // Slowed down by the load itself, and by a flush now and then.
        for slow in [vec![milliseconds(10)], [vec![milliseconds(1); 100], vec![SECOND]].concat()] {
            let (without, _) = run(64 * KIB, &slow, None);
            let (with, worked) = run(64 * KIB, &slow, least);
            assert!(without < 4.0 * 1e6 && with > 4096.0 * 1024.0 * 0.99, "{without} {with}");
            assert!(worked > 0.25 && worked < 1.0, "{worked}");
        }
        // What the medium does not give cannot be made; then there is no rest.
        let (with, worked) = run(64 * KIB, &[milliseconds(100)], least);
        assert!((with - 655_360.0).abs() < 1.0 && worked > 0.999, "{with} {worked}");
        // Having been far too slow, or too fast, counts for some seconds.
        let (mut pacing, begin) = (Least::default(), Instant::now());
        pacing.rest(0, 100 * SECOND, begin, least);
        let mut now = begin;
        let mut until_rest = 0;
        while pacing.rest(64 * KIB, milliseconds(1), now, least).is_zero() {
            now += milliseconds(1);
            until_rest += 1;
        }
        assert!((200..=300).contains(&until_rest), "{until_rest}");
        pacing.rest(1 << 50, milliseconds(1), now, least);
        now += milliseconds(500);
        assert_eq!(pacing.rest(64 * KIB, milliseconds(500), now, least), Duration::ZERO);
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
