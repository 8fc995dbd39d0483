//! Telling subscribers: one thread, in order, so that a slow one delays no job.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::shared::Shared;
use crate::event::ChangeEvent;

/// Called for every change.
pub(crate) type Subscriber = Box<dyn Fn(&ChangeEvent) + Send + Sync>;

enum Notice {
    Subscribe(Subscriber),
    Event(ChangeEvent),
    /// All events up to this number have been sent.
    Reached(u64),
}

/// The engine's end of the thread that calls subscribers.
#[derive(Debug)]
pub(crate) struct Notifier {
    sender: Sender<Notice>,
}

impl Notifier {
    /// Starts the thread. Events up to `sequence` are taken as seen.
    pub(crate) fn start(shared: &Arc<Shared>, sequence: u64) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        let for_thread = shared.clone();
        let mut delivery = shared.delivery.lock();
        let handle = std::thread::Builder::new()
            .name("lund-events".to_owned())
            .spawn(move || deliver(&for_thread, &receiver))?;
        delivery.thread = Some(handle.thread().id());
        delivery.sequence = sequence;
        Ok(Self { sender })
    }

    pub(crate) fn subscribe(&self, subscriber: Subscriber) {
        let _ = self.sender.send(Notice::Subscribe(subscriber));
    }

    pub(crate) fn tell(&self, event: ChangeEvent) {
        let _ = self.sender.send(Notice::Event(event));
    }

    pub(crate) fn reached(&self, sequence: u64) {
        let _ = self.sender.send(Notice::Reached(sequence));
    }
}

fn deliver(shared: &Shared, receiver: &Receiver<Notice>) {
    let mut subscribers = Vec::new();
    while let Ok(notice) = receiver.recv() {
        match notice {
            Notice::Subscribe(subscriber) => subscribers.push(subscriber),
            Notice::Event(event) => {
                for subscriber in &subscribers {
                    if catch_unwind(AssertUnwindSafe(|| subscriber(&event))).is_err() {
                        tracing::error!(sequence = event.sequence, "a subscriber panicked");
                    }
                }
            }
            Notice::Reached(sequence) => {
                shared.delivery.lock().sequence = sequence;
                shared.delivered.notify_all();
            }
        }
    }
    shared.delivery.lock().thread = None;
    shared.delivered.notify_all();
}
