//! Delivery to one listener: in order, each once, again and again while the listener is away.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustls::ClientConfig;

use super::message;
use crate::http_client;

/// Indications that wait for one listener. Beyond it the oldest are dropped, which the listener
/// sees by a gap in the sequence numbers.
const MAX_WAITING: usize = 10_000;
/// A listener that does not answer for so long has not taken the indication.
const PATIENCE: Duration = Duration::from_secs(10);
/// Until the next attempt: it doubles from the one to the other.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(RETRY_SECONDS as u64);
/// A listener that is away is called at least so often.
pub(crate) const RETRY_SECONDS: u32 = 15;
/// The longest answer that is read.
const MAX_ANSWER: u64 = 1 << 20;

/// Where messages lie until they are delivered.
pub(super) trait Source: Send + Sync {
    /// The text of a message; nothing if it is not there any more.
    fn text(&self, key: &str) -> Option<String>;
    /// It is delivered: it must not be delivered again, not even after a crash.
    fn delivered(&self, key: String);
}

/// What waits.
#[derive(Debug, Default)]
struct Waiting {
    /// Keys of messages.
    messages: VecDeque<String>,
    dropped: u64,
    /// An attempt is under way.
    calling: bool,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

/// The way to one listener; dropped, it ends. What waits stays where it lies.
pub(super) struct Delivery {
    url: String,
    shared: Arc<Shared>,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Delivery {
    /// With what waits already.
    pub(super) fn new(url: &str, messages: VecDeque<String>) -> Self {
        let waiting = Waiting { messages, ..Waiting::default() };
        let shared = Arc::new(Shared { waiting: Mutex::new(waiting), ..Shared::default() });
        Self { url: url.to_owned(), shared }
    }

    /// Starts its thread. `tls` says whom to believe where the URL is https.
    pub(super) fn start(
        &self,
        source: Arc<dyn Source>,
        tls: Option<Arc<ClientConfig>>,
    ) -> io::Result<()> {
        let (shared, url) = (self.shared.clone(), self.url.clone());
        thread::Builder::new()
            .name("lund-listener".to_owned())
            .spawn(move || deliver(&shared, &url, tls, &*source))
            .map(|_| ())
    }

    /// Where it leads.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Puts a message behind the others. Never waits for the listener.
    pub(super) fn push(&self, key: String) {
        self.shared.waiting.lock().messages.push_back(key);
        self.shared.changed.notify_all();
    }

    /// Drops the oldest message if there is no room for another one.
    pub(super) fn make_room(&self) -> Option<String> {
        let mut waiting = self.shared.waiting.lock();
        if waiting.messages.len() < MAX_WAITING {
            return None;
        }
        waiting.dropped += 1;
        if waiting.dropped.is_power_of_two() {
            tracing::warn!(dropped = waiting.dropped, "a listener misses indications");
        }
        waiting.messages.pop_front()
    }

    /// Everything that waits.
    pub(super) fn keys(&self) -> Vec<String> {
        self.shared.waiting.lock().messages.iter().cloned().collect()
    }

    /// Begins no other attempt.
    pub(super) fn close(&self) {
        self.shared.waiting.lock().closed = true;
        self.shared.changed.notify_all();
    }

    /// Waits until the attempt that is under way has ended, as long as that is not over.
    pub(super) fn wait(&self, deadline: Instant) {
        let mut waiting = self.shared.waiting.lock();
        while waiting.calling {
            if self.shared.changed.wait_until(&mut waiting, deadline).timed_out() {
                return;
            }
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.close();
    }
}

/// Waits for the next message, or the end.
fn next(shared: &Shared) -> Option<String> {
    let mut waiting = shared.waiting.lock();
    loop {
        if waiting.closed {
            return None;
        }
        if let Some(first) = waiting.messages.front() {
            let first = first.clone();
            waiting.calling = true;
            return Some(first);
        }
        shared.changed.wait(&mut waiting);
    }
}

/// An attempt has ended; if it did well, its message is done with. It may have been dropped.
fn ended(shared: &Shared, delivered: Option<&str>) {
    let mut waiting = shared.waiting.lock();
    waiting.calling = false;
    if delivered.is_some() && waiting.messages.front().map(String::as_str) == delivered {
        waiting.messages.pop_front();
    }
    shared.changed.notify_all();
}

/// Waits before the next attempt; false at the end.
fn pause(shared: &Shared, length: Duration) -> bool {
    let mut waiting = shared.waiting.lock();
    let end = Instant::now() + length;
    while !waiting.closed {
        if shared.changed.wait_until(&mut waiting, end).timed_out() {
            break;
        }
    }
    !waiting.closed
}

fn deliver(shared: &Shared, url: &str, tls: Option<Arc<ClientConfig>>, source: &dyn Source) {
    let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE));
    let agent = http_client::agent(url, tls, config);
    let (mut length, mut told) = (FIRST_PAUSE, None);
    while let Some(key) = next(shared) {
        let send = |message: String| match &agent {
            Ok(agent) => post(agent, url, &message),
            Err(reason) => Err(reason.clone()),
        };
        let done = source.text(&key).map_or(Ok(()), send);
        match done {
            Ok(()) => {
                source.delivered(key.clone());
                ended(shared, Some(&key));
                (length, told) = (FIRST_PAUSE, None);
            }
            Err(reason) => {
                ended(shared, None);
                // Each reason once: a listener may be away for days.
                if told.as_ref() == Some(&reason) {
                    tracing::debug!(listener = url, reason, "an indication is not delivered yet");
                } else {
                    tracing::warn!(listener = url, reason, "an indication is not delivered yet");
                    told = Some(reason);
                }
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
