//! What waits for the collector: bounded, sent in batches, again and again while it is away. Whoever
//! puts a span in waits for nobody.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Spans, and bytes of them, that wait; beyond either the oldest are dropped.
const MAX_SPANS: usize = 4096;
const MAX_BYTES: usize = 4 << 20;
/// Spans and bytes of a request.
const BATCH_SPANS: usize = 256;
const BATCH_BYTES: usize = 512 << 10;

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pauses {
    /// For more spans, before those that are there go.
    pub(super) gather: Duration,
    /// Before a request is made again: it doubles from the one to the other.
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The collector has it, but for so many spans.
    Taken { rejected: u64, reason: String },
    /// It does not want it; the same request would be refused again.
    Refused(String),
    /// It is not there, or busy, and may say for how long.
    Away { reason: String, pause: Option<Duration> },
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Spans that the collector has.
    pub exported: u64,
    /// Spans that it refused.
    pub rejected: u64,
    /// Spans that there was no room for, or no time at the end.
    pub dropped: u64,
    /// Requests that did not reach it, or found it busy.
    pub failed_requests: u64,
    /// Spans that wait now.
    pub waiting: u64,
}

#[derive(Debug, Default)]
struct State {
    spans: VecDeque<String>,
    bytes: usize,
    figures: Figures,
    closed: bool,
    ended: bool,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl Queue {
    /// Puts a span, as JSON, behind the others.
    pub(super) fn push(&self, span: String) {
        let mut state = self.state.lock();
        if state.closed || span.len() > BATCH_BYTES {
            state.figures.dropped += 1;
            return;
        }
        state.bytes += span.len();
        state.spans.push_back(span);
        while state.spans.len() > MAX_SPANS || state.bytes > MAX_BYTES {
            let oldest = state.spans.pop_front().unwrap_or_default();
            state.bytes = state.bytes.saturating_sub(oldest.len());
            state.figures.dropped += 1;
        }
        drop(state);
        self.changed.notify_all();
    }

    pub(super) fn figures(&self) -> Figures {
        let state = self.state.lock();
        Figures { waiting: number(state.spans.len()), ..state.figures }
    }

    /// Takes nothing more; what waits gets until `deadline`.
    pub(super) fn close(&self, deadline: Instant) {
        let mut state = self.state.lock();
        state.closed = true;
        self.changed.notify_all();
        while !state.ended {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }

    /// The next spans to send; none at the end.
    pub(super) fn batch(&self, gather: Duration) -> Vec<String> {
        let mut state = self.state.lock();
        while state.spans.is_empty() && !state.closed {
            self.changed.wait(&mut state);
        }
        let deadline = Instant::now() + gather;
        while state.spans.len() < BATCH_SPANS && state.bytes < BATCH_BYTES && !state.closed {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(next) = state.spans.pop_front() {
            if batch.len() == BATCH_SPANS || bytes + next.len() > BATCH_BYTES {
                state.spans.push_front(next);
                break;
            }
            bytes += next.len();
            batch.push(next);
        }
        state.bytes = state.bytes.saturating_sub(bytes);
        batch
    }

    fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Waits before another attempt, or until it is closed.
    fn pause(&self, length: Duration) {
        let mut state = self.state.lock();
        let end = Instant::now() + length;
        while !state.closed {
            if self.changed.wait_until(&mut state, end).timed_out() {
                break;
            }
        }
    }

    /// Sends what comes, until it is closed. Then everything is tried once more, until a request
    /// fails.
    pub(super) fn run(&self, pauses: Pauses, mut send: impl FnMut(&[String]) -> Outcome) {
        let mut log = Log::default();
        loop {
            let batch = self.batch(pauses.gather);
            if batch.is_empty() || !self.deliver(&batch, pauses, &mut send, &mut log) {
                break;
            }
        }
        let mut state = self.state.lock();
        state.figures.dropped += number(state.spans.len());
        state.spans.clear();
        state.ended = true;
        self.changed.notify_all();
    }

    /// Sends one batch; false if it was given up.
    fn deliver(
        &self,
        batch: &[String],
        pauses: Pauses,
        send: &mut impl FnMut(&[String]) -> Outcome,
        log: &mut Log,
    ) -> bool {
        let count = number(batch.len());
        let mut length = pauses.first;
        loop {
            let last = self.is_closed();
            match send(batch) {
                Outcome::Taken { rejected, reason } => {
                    let rejected = rejected.min(count);
                    let figures = &mut self.state.lock().figures;
                    figures.rejected += rejected;
                    figures.exported += count - rejected;
                    log.tell((rejected > 0).then_some(reason));
                    return true;
                }
                Outcome::Refused(reason) => {
                    self.state.lock().figures.rejected += count;
                    log.tell(Some(reason));
                    return true;
                }
                Outcome::Away { reason, pause } => {
                    self.state.lock().figures.failed_requests += 1;
                    log.tell(Some(reason));
                    if last {
                        self.state.lock().figures.dropped += count;
                        return false;
                    }
                    self.pause(pause.unwrap_or(length).clamp(pauses.first, pauses.longest));
                    length = (length * 2).min(pauses.longest);
                }
            }
        }
    }
}

/// Each reason once: a collector may be away for days.
#[derive(Debug, Default)]
struct Log(Option<String>);

impl Log {
    fn tell(&mut self, reason: Option<String>) {
        if let Some(reason) = reason.as_ref().filter(|reason| self.0.as_ref() != Some(*reason)) {
            tracing::warn!(reason, "the collector of traces does not take them");
        } else if reason.is_none() && self.0.is_some() {
            tracing::info!("the collector takes traces again");
        }
        self.0 = reason;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const PAUSES: Pauses = Pauses {
        gather: Duration::ZERO,
        first: Duration::from_millis(1),
        longest: Duration::from_millis(2),
    };
    /// Only the end cuts it short.
    const FOR_EVER: Duration = Duration::from_secs(3600);

    /// A collector that answers what it is told to, and shows what it got.
    fn sending(queue: &Arc<Queue>, pauses: Pauses) -> (Sender<Outcome>, Receiver<Vec<String>>) {
        let ((answer, answers), (got, shown)) = (channel(), channel());
        let queue = queue.clone();
        std::thread::spawn(move || {
            queue.run(pauses, |batch| {
                let _ = got.send(batch.to_vec());
                answers.recv().unwrap()
            });
        });
        (answer, shown)
    }

    fn taken() -> Outcome {
        Outcome::Taken { rejected: 0, reason: String::new() }
    }

    fn away(pause: Option<Duration>) -> Outcome {
        Outcome::Away { reason: "away".to_owned(), pause }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_batch_is_sent_until_it_is_taken_and_counted_once() {
        let queue = Arc::new(Queue::default());
        let (answer, got) = sending(&queue, PAUSES);
        queue.push("1".to_owned());
        for _ in 0..5 {
            assert_eq!(got.recv().unwrap(), ["1"]);
            answer.send(away(None)).unwrap();
        }
        assert_eq!(got.recv().unwrap(), ["1"]);
        queue.push("2".to_owned());
        answer.send(taken()).unwrap();
        assert_eq!(got.recv().unwrap(), ["2"]);
        answer.send(Outcome::Refused("no".to_owned())).unwrap();
        queue.push("3".to_owned());
        assert_eq!(got.recv().unwrap(), ["3"]);
        answer.send(Outcome::Taken { rejected: 9, reason: "odd".to_owned() }).unwrap();
        queue.close(soon());
        let figures =
            Figures { exported: 1, rejected: 2, failed_requests: 5, ..Figures::default() };
        assert_eq!(queue.figures(), figures);
    }

    #[test]
    fn what_has_no_room_pushes_out_the_oldest_and_is_counted() {
        let queue = Queue::default();
        for at in 0..MAX_SPANS + 10 {
            queue.push(at.to_string());
        }
        assert_eq!((queue.figures().dropped, queue.figures().waiting), (10, number(MAX_SPANS)));
        let first = queue.batch(Duration::ZERO);
        assert_eq!((first.len(), first[0].as_str()), (BATCH_SPANS, "10"));
        // By bytes, too.
        let queue = Queue::default();
        let large = "x".repeat(BATCH_BYTES / 2);
        let fit = MAX_BYTES / large.len();
        (0..fit + 3).for_each(|_| queue.push(large.clone()));
        assert_eq!((queue.figures().dropped, queue.figures().waiting), (3, number(fit)));
        assert_eq!(queue.batch(Duration::ZERO).len(), 2);
        queue.push("x".repeat(BATCH_BYTES + 1));
        assert_eq!(queue.figures().dropped, 4);
    }

    #[test]
    fn the_end_sends_what_waits_and_waits_for_no_dead_collector() {
        let queue = Arc::new(Queue::default());
        let pauses = Pauses { gather: FOR_EVER, ..PAUSES };
        let (answer, got) = sending(&queue, pauses);
        (0..BATCH_SPANS + 1).for_each(|at| queue.push(at.to_string()));
        assert_eq!(got.recv().unwrap().len(), BATCH_SPANS);
        answer.send(taken()).unwrap();
        // The last one waits for more; the end does not.
        answer.send(taken()).unwrap();
        queue.close(soon());
        assert_eq!(got.recv().unwrap(), [BATCH_SPANS.to_string()]);
        assert_eq!(queue.figures().exported, number(BATCH_SPANS + 1));
        queue.push("late".to_owned());
        assert_eq!(queue.figures().dropped, 1);

        // In the middle of a long pause it is tried once more, and then given up.
        let queue = Arc::new(Queue::default());
        let pauses = Pauses { longest: FOR_EVER, ..PAUSES };
        let (answer, got) = sending(&queue, pauses);
        queue.push("1".to_owned());
        got.recv().unwrap();
        queue.push("2".to_owned());
        answer.send(away(Some(FOR_EVER))).unwrap();
        answer.send(away(None)).unwrap();
        queue.close(soon());
        assert_eq!(got.recv().unwrap(), ["1"]);
        assert!(got.recv().is_err(), "the rest is not tried");
        let figures = Figures { dropped: 2, failed_requests: 2, ..Figures::default() };
        assert_eq!(queue.figures(), figures);

        // One that never answers is left alone.
        let queue = Arc::new(Queue::default());
        let (answer, got) = sending(&queue, PAUSES);
        queue.push("1".to_owned());
        got.recv().unwrap();
        queue.close(Instant::now());
        assert_eq!(queue.figures(), Figures::default());
        answer.send(taken()).unwrap();
    }
}
