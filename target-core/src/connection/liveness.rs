//! Whether the initiator is still there (RFC 7143 §11.19).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// How long an initiator has been silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// Not long.
    Short,
    /// It should be asked now.
    Long,
    /// It was asked, and has not answered.
    TooLong,
}

/// One timer, that is looked at only when it fires: a busy session never moves it.
#[derive(Debug)]
pub(super) struct Liveness {
    interval: Duration,
    timer: Pin<Box<Sleep>>,
    /// Something has come since the timer was set.
    heard: bool,
    asked: bool,
}

impl Liveness {
    pub(super) fn new(interval: Duration) -> Self {
        let timer = Box::pin(tokio::time::sleep(interval));
        Self { interval, timer, heard: false, asked: false }
    }

    /// Something has come, whatever it is.
    pub(super) const fn heard(&mut self) {
        self.heard = true;
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Silence {
        let mut silence = Silence::Short;
        while self.timer.as_mut().poll(cx) == Poll::Ready(()) {
            self.timer.as_mut().reset(Instant::now() + self.interval);
            silence = match (std::mem::take(&mut self.heard), self.asked) {
                (true, _) => Silence::Short,
                (false, false) => Silence::Long,
                (false, true) => Silence::TooLong,
            };
            self.asked = silence == Silence::Long;
        }
        silence
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_initiator_is_asked_once_and_then_given_up() {
        let interval = Duration::from_secs(10);
        let mut liveness = Liveness::new(interval);
        let look = async |liveness: &mut Liveness| {
            tokio::time::advance(interval).await;
            poll_fn(|cx| Poll::Ready(liveness.poll(cx))).await
        };
        liveness.heard();
        assert_eq!(look(&mut liveness).await, Silence::Short);
        assert_eq!(look(&mut liveness).await, Silence::Long);
        liveness.heard();
        assert_eq!(look(&mut liveness).await, Silence::Short, "it has answered");
        assert_eq!(look(&mut liveness).await, Silence::Long);
        assert_eq!(look(&mut liveness).await, Silence::TooLong);
    }
}
