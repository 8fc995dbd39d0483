//! Time comes in through here, so that retention can be tested without waiting.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

/// Where the engine takes the time from.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time of day, for what people and clients see.
    fn now(&self) -> Timestamp;

    /// Asks for a call of `wake` whenever time has moved other than by passing.
    fn on_jump(&self, wake: Box<dyn Fn() + Send + Sync>);
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn on_jump(&self, _wake: Box<dyn Fn() + Send + Sync>) {}
}

/// A clock that stands still until it is told otherwise.
pub struct ManualClock {
    now: Mutex<Timestamp>,
    wakers: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
}

impl ManualClock {
    /// A clock that shows `start`.
    #[must_use]
    pub fn new(start: Timestamp) -> Arc<Self> {
        Arc::new(Self { now: Mutex::new(start), wakers: Mutex::new(Vec::new()) })
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        {
            let mut now = self.now.lock();
            *now = later(*now, by);
        }
        for wake in self.wakers.lock().iter() {
            wake();
        }
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManualClock({})", self.now.lock())
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.lock()
    }

    fn on_jump(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.wakers.lock().push(wake);
    }
}

/// `at` plus `by`; the end of time if that is beyond it.
pub(crate) fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// From `from` to `to`; zero if the clock was set back between them.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}
