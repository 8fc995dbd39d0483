//! What a connection hears through. Messages are boxed: the channel keeps room for 32 of them from the
//! start, which would be most of the memory of a session that has nothing to do.

use std::task::{Context, Poll};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Message;

/// The connection is gone.
#[derive(Debug)]
pub(crate) struct Gone;

/// Reaches one connection.
#[derive(Debug, Clone)]
pub(crate) struct Sender(UnboundedSender<Box<Message>>);

/// What has reached it.
#[derive(Debug)]
pub(crate) struct Mailbox(UnboundedReceiver<Box<Message>>);

/// Both ends.
pub(crate) fn mailbox() -> (Sender, Mailbox) {
    let (sender, receiver) = unbounded_channel();
    (Sender(sender), Mailbox(receiver))
}

impl Sender {
    pub(crate) fn send(&self, message: Message) -> Result<(), Gone> {
        self.0.send(Box::new(message)).map_err(|_| Gone)
    }

    /// Whether both reach the same connection.
    pub(crate) fn same_channel(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }
}

impl Mailbox {
    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        self.0.poll_recv(cx).map(|message| message.map(|boxed| *boxed))
    }

    #[cfg(test)]
    pub(crate) fn try_recv(&mut self) -> Option<Message> {
        self.0.try_recv().ok().map(|boxed| *boxed)
    }
}
