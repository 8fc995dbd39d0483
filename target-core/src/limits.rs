//! Limits of what initiators may use: commands and bytes a second, of a unit or of an initiator.
//!
//! A limit only says when a command may be answered, it never refuses one, and whoever asks says
//! what time it is. What it admits is paid at its rate; up to `burst` of that may be owed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

/// What may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Reads and writes a second; none for as many as there are. Not 0.
    pub iops: Option<u64>,
    /// Bytes of them a second; none for as many as there are. Not 0.
    pub bytes_per_second: Option<u64>,
    /// For so long the rates may have been saved up: what may come at once after a pause.
    pub burst: Duration,
}

/// Whom a limit is for. All sessions that it concerns share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Limited {
    /// The unit of this name, see [`crate::UnitConfig`].
    Unit(String),
    /// The initiator of this name, with all units together.
    Initiator(String),
}

/// Admits at a rate. Times are nanoseconds since whenever.
#[derive(Debug)]
struct Bucket {
    rate: u64,
    burst: u64,
    /// When everything that was admitted is paid.
    paid_at: u64,
    /// Of a nanosecond, in parts of `rate`: no rounding adds up.
    rest: u128,
}

impl Bucket {
    fn new(rate: u64, burst: Duration) -> Self {
        let burst = u64::try_from(burst.as_nanos()).unwrap_or(u64::MAX);
        Self { rate: rate.max(1), burst, paid_at: 0, rest: 0 }
    }

    /// Admits `count`; from when on. Never before what was admitted earlier.
    fn take(&mut self, count: u64, now: u64) -> u64 {
        if self.paid_at < now {
            (self.paid_at, self.rest) = (now, 0);
        }
        let at = self.paid_at.saturating_sub(self.burst).max(now);
        let (rate, cost) = (u128::from(self.rate), u128::from(count) * 1_000_000_000 + self.rest);
        let lasts = u64::try_from(cost / rate).unwrap_or(u64::MAX);
        self.paid_at = self.paid_at.saturating_add(lasts);
        self.rest = cost % rate;
        at
    }
}

/// A limit in force.
#[derive(Debug)]
pub(crate) struct Limiter {
    buckets: Mutex<(Option<Bucket>, Option<Bucket>)>,
}

impl Limiter {
    fn new(limit: &Limit) -> Self {
        let bucket = |rate: Option<u64>| rate.map(|rate| Bucket::new(rate, limit.burst));
        Self { buckets: Mutex::new((bucket(limit.iops), bucket(limit.bytes_per_second))) }
    }

    /// Admits one command; from when on.
    fn take(&self, bytes: u64, now: u64) -> u64 {
        let (commands, amount) = &mut *self.buckets.lock();
        let commands = commands.as_mut().map_or(now, |bucket| bucket.take(1, now));
        amount.as_mut().map_or(now, |bucket| bucket.take(bytes, now)).max(commands)
    }
}

/// When a command of so many bytes may be answered that all of these concern; none for now.
pub(crate) fn admit<'a>(
    limiters: impl Iterator<Item = &'a Arc<Limiter>>,
    bytes: u64,
    now: Instant,
) -> Option<Instant> {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = now.saturating_duration_since(*START.get_or_init(Instant::now));
    let now_nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    let at = limiters.map(|limiter| limiter.take(bytes, now_nanos)).max()?;
    let waits = Duration::from_nanos(at.saturating_sub(now_nanos));
    (!waits.is_zero()).then(|| now + waits)
}

/// All limits of a node.
#[derive(Debug, Default)]
pub(crate) struct Limits(RwLock<HashMap<Limited, Arc<Limiter>>>);

impl Limits {
    pub(crate) fn set(&self, limited: Limited, limit: Option<&Limit>) {
        let mut all = self.0.write();
        match limit {
            Some(limit) => drop(all.insert(limited, Arc::new(Limiter::new(limit)))),
            None => drop(all.remove(&limited)),
        }
    }

    pub(crate) fn get(&self, limited: &Limited) -> Option<Arc<Limiter>> {
        self.0.read().get(limited).cloned()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.read().is_empty()
    }
}

#[cfg(test)]
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "tests"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limiter(iops: Option<u64>, bytes_per_second: Option<u64>, burst: u64) -> Limiter {
        let burst = Duration::from_millis(burst);
        Limiter::new(&Limit { iops, bytes_per_second, burst })
    }

    /// How many commands of `bytes` are answered within `time` for an initiator that always has
    /// `depth` of them under way, each answered as late as `late` after it may be.
    fn answered(limiter: &Limiter, depth: usize, bytes: u64, time: u64, late: u64) -> u64 {
        let mut under_way: Vec<u64> = (0..depth).map(|_| limiter.take(bytes, 0)).collect();
        let mut count = 0;
        loop {
            under_way.sort_unstable();
            let now = under_way.remove(0) + late;
            if now >= time {
                return count;
            }
            count += 1;
            under_way.push(limiter.take(bytes, now));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_rate_holds_within_two_percent(
            iops in 50u64..1_000_000, depth in 1usize..64, late in 0.0..0.5f64,
        ) {
            // Each answer comes too late, but not so much that this depth could not do more.
            let late = (depth as f64 * SECOND as f64 / iops as f64 * late).min(2e6) as u64;
            let time = 5_000 * SECOND / iops;
            let burst = 100;
            let saved = iops * burst / 1000;
            let count = answered(&limiter(Some(iops), None, burst), depth, 4096, time, late);
            let expected = u128::from(iops) * u128::from(time) / u128::from(SECOND);
            let (count, expected) = (count as f64, expected as f64);
            prop_assert!(count <= (expected + saved as f64) * 1.02 + 1.0, "{count} of {expected}");
            // What may be owed is a part of it.
            prop_assert!(count >= expected * 0.98 - depth as f64, "{count} of {expected}");
        }
    }

    #[test]
    fn bytes_count_as_many_as_they_are_and_both_limits_hold() {
        let rate = 300_000_001;
        let count = answered(&limiter(None, Some(rate), 0), 32, 65_536, 100 * SECOND, 0);
        let exact = 100 * rate / 65_536;
        assert!(count.abs_diff(exact) <= 1, "{count} of {exact}");
        for (bytes, expected) in [(4096, 10_000), (4096 * 4, 5_000)] {
            let both = limiter(Some(1000), Some(1000 * 4096 * 2), 0);
            let count = answered(&both, 8, bytes, 10 * SECOND, 0);
            assert!(count.abs_diff(expected) <= 1, "{count} of {expected}");
        }
    }

    #[test]
    fn a_pause_saves_up_a_burst_and_no_more() {
        let bucket = &mut Bucket::new(1000, Duration::from_millis(50));
        let at_once =
            |bucket: &mut Bucket, now| (0..).take_while(|_| bucket.take(1, now) == now).count();
        assert_eq!(at_once(bucket, SECOND), 51);
        assert_eq!(at_once(bucket, 1000 * SECOND), 51);
        // Half of it is paid.
        assert_eq!(at_once(bucket, 1000 * SECOND + SECOND / 40), 24);
    }

    #[test]
    fn what_goes_at_once_needs_no_time() {
        let now = Instant::now();
        assert_eq!(admit([].iter(), 4096, now), None);
        let one = [Arc::new(limiter(Some(10), None, 0))];
        assert_eq!(admit(one.iter(), 4096, now), None);
        let second = admit(one.iter(), 4096, now).unwrap();
        assert_eq!(second - now, Duration::from_millis(100));
    }
}
