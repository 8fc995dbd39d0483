//! Delivery to one listener: in order, each once, again and again while the listener is away.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::message;

/// Indications that wait for one listener. Beyond it the oldest are dropped, which the listener
/// sees by a gap in the sequence numbers.
const MAX_WAITING: usize = 10_000;
/// A listener that does not answer for so long has not taken the indication.
const PATIENCE: Duration = Duration::from_secs(10);
/// Until the next attempt: it doubles from the one to the other.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// The longest answer that is read.
const MAX_ANSWER: u64 = 1 << 20;

/// What waits.
#[derive(Debug, Default)]
struct Waiting {
    /// With their numbers.
    messages: VecDeque<(u64, String)>,
    dropped: u64,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

/// The way to one listener; dropped, it ends and forgets what waits.
#[derive(Debug)]
pub(super) struct Delivery {
    url: String,
    shared: Arc<Shared>,
}

impl Delivery {
    /// Starts its thread.
    pub(super) fn start(url: &str) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (for_thread, own) = (shared.clone(), url.to_owned());
        thread::Builder::new()
            .name("lund-listener".to_owned())
            .spawn(move || deliver(&for_thread, &own))?;
        Ok(Self { url: url.to_owned(), shared })
    }

    /// Where it leads.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Puts a message behind the others. Never waits for the listener.
    pub(super) fn push(&self, number: u64, message: String) {
        let mut waiting = self.shared.waiting.lock();
        if waiting.messages.len() >= MAX_WAITING {
            waiting.messages.pop_front();
            waiting.dropped += 1;
            if waiting.dropped.is_power_of_two() {
                tracing::warn!(dropped = waiting.dropped, "a listener misses indications");
            }
        }
        waiting.messages.push_back((number, message));
        self.shared.changed.notify_all();
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.shared.waiting.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

/// Waits for the next message, or the end.
fn next(shared: &Shared) -> Option<(u64, String)> {
    let mut waiting = shared.waiting.lock();
    loop {
        if waiting.closed {
            return None;
        }
        if let Some(first) = waiting.messages.front() {
            return Some(first.clone());
        }
        shared.changed.wait(&mut waiting);
    }
}

/// The message with this number is delivered; it may have been dropped meanwhile.
fn done(shared: &Shared, number: u64) {
    let mut waiting = shared.waiting.lock();
    if waiting.messages.front().is_some_and(|(first, _)| *first == number) {
        waiting.messages.pop_front();
    }
}

/// Waits before the next attempt; false at the end.
fn pause(shared: &Shared, length: Duration) -> bool {
    let mut waiting = shared.waiting.lock();
    let end = std::time::Instant::now() + length;
    while !waiting.closed {
        if shared.changed.wait_until(&mut waiting, end).timed_out() {
            break;
        }
    }
    !waiting.closed
}

fn deliver(shared: &Shared, url: &str) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
    let mut length = FIRST_PAUSE;
    while let Some((number, message)) = next(shared) {
        match post(&agent, url, &message) {
            Ok(()) => {
                done(shared, number);
                length = FIRST_PAUSE;
            }
            Err(reason) => {
                tracing::info!(listener = url, reason, "an indication is not delivered yet");
                if !pause(shared, length) {
                    return;
                }
                length = (length * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

fn post(agent: &ureq::Agent, url: &str, message: &str) -> Result<(), String> {
    let mut response = agent
        .post(url)
        .header("Content-Type", "application/xml; charset=\"utf-8\"")
        .header("CIMExport", "MethodRequest")
        .header("CIMExportMethod", "ExportIndication")
        .send(message)
        .map_err(|error| error.to_string())?;
    let answer = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string();
    message::accepted(&answer.map_err(|error| error.to_string())?)
}
