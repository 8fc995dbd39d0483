//! The bytes that have come and are not understood yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;

use crate::buffers::{self, RECEIVE_BUFFER};

/// A PDU of more bytes than this is received by itself, so that it begins where the buffer does
/// and nothing is moved.
const LARGE_PDU: usize = 32 << 10;

/// The beginning of a PDU that is not longer than this waits for the rest in a buffer of its own
/// size: an initiator that is slow does not hold a whole one.
const SMALL: usize = 4 << 10;

/// A buffer that is only held while there is something in it.
#[derive(Debug)]
pub(super) struct Receive {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes that the PDU at `start` has in all, as far as that is known.
    expected: usize,
}

impl Receive {
    /// With what has come already.
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut this = Self { buffer: Vec::new(), start: 0, end: 0, expected: 0 };
        if !bytes.is_empty() {
            this.buffer = buffers::take_receive();
            if let Some(room) = this.buffer.get_mut(..bytes.len()) {
                room.copy_from_slice(bytes);
                this.end = bytes.len();
            }
        }
        this
    }

    pub(super) fn filled(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The last `count` bytes.
    pub(super) fn newest(&self, count: usize) -> &[u8] {
        self.buffer.get(self.end.saturating_sub(count)..self.end).unwrap_or_default()
    }

    /// The first `count` bytes are dealt with.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        self.expected = 0;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// The PDU at the front needs so many bytes.
    pub(super) fn expect(&mut self, total: usize) {
        self.expected = total;
        if self.start > 0 && self.start + total > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    /// Receives once.
    pub(super) fn poll(
        &mut self,
        stream: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.buffer.len() < RECEIVE_BUFFER {
            let kept = std::mem::replace(&mut self.buffer, buffers::take_receive());
            if let Some(room) = self.buffer.get_mut(..kept.len()) {
                room.copy_from_slice(&kept);
            }
        }
        let limit = if self.expected > LARGE_PDU {
            (self.start + self.expected).min(self.buffer.len())
        } else {
            self.buffer.len()
        };
        let Some(room) = self.buffer.get_mut(self.end..limit).filter(|room| !room.is_empty())
        else {
            // The decoder refuses a PDU that does not fit before it gets here.
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        };
        let mut buffer = ReadBuf::new(room);
        match Pin::new(stream).poll_read(cx, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                let count = buffer.filled().len();
                self.end += count;
                Poll::Ready(Ok(count))
            }
        }
    }

    /// Gives the buffer back if there is little in it.
    pub(super) fn rest(&mut self) {
        if self.buffer.len() == RECEIVE_BUFFER && self.end - self.start <= SMALL {
            let kept = self.filled().to_vec();
            (self.start, self.end) = (0, kept.len());
            buffers::give_receive(std::mem::replace(&mut self.buffer, kept));
        }
    }
}
