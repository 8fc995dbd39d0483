//! Keeps sockets served while a thread of the runtime hangs in a write.
//!
//! One of the runtime's threads waits for sockets, and it runs what they bring. If that hangs, the
//! other threads sleep on and nobody looks at a socket until something wakes one of them. So
//! whoever is about to write leaves a mark, and a thread of its own wakes one of them a little
//! later. Without marks that thread sleeps too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::runtime::Handle;

/// So long a write that hangs may hold up others.
const PERIOD: Duration = Duration::from_millis(10);

/// Wakes the runtime after writes.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    marked: Arc<AtomicBool>,
    /// None if the system has no thread left.
    thread: OnceLock<Option<Thread>>,
}

impl Pulse {
    /// Something is about to run that may hang. Called by tasks of the runtime; of many calls in
    /// one period the first alone writes to memory that they share.
    pub(crate) fn mark(&self) {
        if !self.marked.load(Ordering::Relaxed) {
            self.start();
        }
    }

    #[cold]
    fn start(&self) {
        self.marked.store(true, Ordering::Release);
        let thread = self.thread.get_or_init(|| {
            let (marked, runtime) = (Arc::downgrade(&self.marked), Handle::current());
            let thread = thread::Builder::new().name("lund-pulse".to_owned());
            let thread = thread.spawn(move || run(&marked, &runtime));
            let started = thread.inspect_err(|error| tracing::error!(%error, "no pulse"));
            started.ok().map(|started| started.thread().clone())
        });
        if let Some(thread) = thread {
            thread.unpark();
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.marked = Arc::default();
        if let Some(Some(thread)) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// Ends when the pulse is dropped.
fn run(marked: &Weak<AtomicBool>, runtime: &Handle) {
    loop {
        match marked.upgrade().map(|marked| marked.load(Ordering::Acquire)) {
            None => return,
            Some(false) => thread::park(),
            Some(true) => {
                thread::sleep(PERIOD);
                // Before the wake, so that a mark that comes with it leads to the next one.
                if let Some(marked) = marked.upgrade() {
                    marked.store(false, Ordering::Release);
                }
                runtime.spawn(std::future::ready(()));
            }
        }
    }
}
