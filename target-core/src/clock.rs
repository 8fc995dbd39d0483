//! The time as the hot path needs it: cheap, and good to a few milliseconds.

use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_getres, clock_gettime};

/// Milliseconds since the system was started: CLOCK_MONOTONIC_COARSE, which is the time of the
/// scheduler's last tick and costs no look at a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Milliseconds(pub(crate) u64);

impl Milliseconds {
    pub(crate) fn now() -> Self {
        Self(clock_gettime(COARSE).map_or(0, milliseconds))
    }

    /// What has passed since an earlier time.
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// What two times differ by at most although nothing has passed between them.
    pub(crate) fn resolution() -> Duration {
        static RESOLUTION: OnceLock<Duration> = OnceLock::new();
        let ask = || clock_getres(COARSE).map_or(0, milliseconds) + 1;
        *RESOLUTION.get_or_init(|| Duration::from_millis(ask()))
    }
}

/// Linux has it always.
const COARSE: ClockId = ClockId::CLOCK_MONOTONIC_COARSE;

fn milliseconds(time: TimeSpec) -> u64 {
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(time.tv_sec()) * 1000 + part(time.tv_nsec()) / 1_000_000
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::Milliseconds;

    #[test]
    fn it_goes_on_as_the_fine_clock_does() {
        let (start, fine) = (Milliseconds::now(), Instant::now());
        let resolution = u64::try_from(Milliseconds::resolution().as_millis()).unwrap();
        while Milliseconds::now().0 < start.0 + resolution + 20 {}
        assert!(fine.elapsed().as_millis() >= 20);
    }
}
