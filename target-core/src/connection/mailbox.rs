//! What a connection hears through: a queue that takes no memory as long as it is empty, as that of
//! most sessions is, and to which a look costs no more than one load.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::Message;

/// Room for so many messages is kept when all of them are read.
const KEPT: usize = 16;

/// The connection is gone.
#[derive(Debug)]
pub(crate) struct Gone;

#[derive(Debug, Default)]
struct Shared {
    /// There may be something in the queue. It is raised and lowered under the lock.
    any: AtomicBool,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Boxed: some are long.
    messages: VecDeque<Box<Message>>,
    /// It stays when it was woken: who finds its own one there need not come for the lock.
    waker: Option<Waker>,
    gone: bool,
}

/// Reaches one connection.
#[derive(Debug, Clone)]
pub(crate) struct Sender(Arc<Shared>);

/// What has reached it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    shared: Arc<Shared>,
    /// That in the queue.
    waker: Option<Waker>,
}

/// Both ends.
pub(crate) fn mailbox() -> (Sender, Mailbox) {
    let shared = Arc::<Shared>::default();
    (Sender(shared.clone()), Mailbox { shared, waker: None })
}

impl Sender {
    pub(crate) fn send(&self, message: Message) -> Result<(), Gone> {
        let waker = {
            let mut queue = self.0.queue.lock();
            if queue.gone {
                return Err(Gone);
            }
            queue.messages.push_back(Box::new(message));
            self.0.any.store(true, Ordering::Release);
            queue.waker.clone()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Whether both reach the same connection.
    pub(crate) fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Mailbox {
    /// The next message; otherwise the task is woken by the one that comes next.
    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Message> {
        let known = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        // A message that this does not see yet wakes the task, as its waker is in the queue.
        if known && !self.shared.any.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        let mut queue = self.shared.queue.lock();
        if let Some(message) = queue.messages.pop_front() {
            return Poll::Ready(*message);
        }
        self.shared.any.store(false, Ordering::Relaxed);
        if queue.messages.capacity() > KEPT {
            queue.messages = VecDeque::new();
        }
        if !known {
            queue.waker = Some(cx.waker().clone());
            self.waker.clone_from(&queue.waker);
        }
        Poll::Pending
    }

    #[cfg(test)]
    pub(crate) fn try_recv(&mut self) -> Option<Message> {
        self.shared.queue.lock().messages.pop_front().map(|boxed| *boxed)
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        let mut queue = self.shared.queue.lock();
        queue.gone = true;
        // Those may reach this very queue when they are dropped.
        let rest = (std::mem::take(&mut queue.messages), queue.waker.take());
        drop(queue);
        drop(rest);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;
    use std::thread::{self, Thread};

    use super::*;

    struct Parked(Thread, AtomicUsize);

    impl Wake for Parked {
        fn wake(self: Arc<Self>) {
            self.1.fetch_add(1, Ordering::SeqCst);
            self.0.unpark();
        }
    }

    fn parked() -> (Arc<Parked>, Waker) {
        let parked = Arc::new(Parked(thread::current(), AtomicUsize::new(0)));
        (parked.clone(), Waker::from(parked))
    }

    #[test]
    fn every_message_wakes_the_task_that_asked_last() {
        let (sender, mut mailbox) = mailbox();
        let ([first, second], limits) = ([parked(), parked()], || Message::Limits);
        let woken = || [&first, &second].map(|(parked, _)| parked.1.load(Ordering::SeqCst));
        sender.send(limits()).unwrap();
        let mut one = Context::from_waker(&first.1);
        assert!(mailbox.poll_recv(&mut one).is_ready());
        assert!(
            mailbox.poll_recv(&mut one).is_pending() && mailbox.poll_recv(&mut one).is_pending()
        );
        sender.send(limits()).unwrap();
        assert_eq!(woken(), [1, 0]);
        let mut two = Context::from_waker(&second.1);
        assert!(mailbox.poll_recv(&mut two).is_ready() && mailbox.poll_recv(&mut two).is_pending());
        sender.send(limits()).unwrap();
        assert_eq!(woken(), [1, 1]);
        assert!(mailbox.poll_recv(&mut two).is_ready());
        drop(mailbox);
        assert!(sender.send(limits()).is_err());
        assert_eq!(woken(), [1, 1]);
    }

    #[test]
    fn no_message_is_missed_and_none_comes_twice() {
        const EACH: usize = 20_000;
        let (sender, mut mailbox) = mailbox();
        thread::scope(|scope| {
            for _ in 0..3 {
                let sender = sender.clone();
                scope.spawn(move || (0..EACH).for_each(|_| sender.send(Message::Limits).unwrap()));
            }
            let (_, waker) = parked();
            let mut cx = Context::from_waker(&waker);
            let mut count = 0;
            while count < 3 * EACH {
                match mailbox.poll_recv(&mut cx) {
                    Poll::Ready(Message::Limits) => count += 1,
                    Poll::Ready(other) => panic!("{other:?}"),
                    // Whoever forgets to wake it makes this wait for ever.
                    Poll::Pending => thread::park(),
                }
            }
        });
        let (_, waker) = parked();
        assert!(mailbox.poll_recv(&mut Context::from_waker(&waker)).is_pending());
    }
}
