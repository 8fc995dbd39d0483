//! The bytes that have come and are not understood yet.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpStream;

use super::low_water;
use crate::buffers::{self, RECEIVE_BUFFER};

/// A PDU of more bytes than this is received by itself, so that it begins where the buffer does
/// and nothing is moved.
const LARGE_PDU: usize = 32 << 10;

/// The beginning of a PDU that is not longer than this waits for the rest in a buffer of its own
/// size: an initiator that is slow does not hold a whole one.
const SMALL: usize = 4 << 10;

/// A buffer that is only held while there is something in it.
#[derive(Debug, Default)]
pub(super) struct Receive {
    /// Shared while a write from it is under way; then it is not changed.
    buffer: Option<Arc<Vec<u8>>>,
    start: usize,
    end: usize,
    /// Bytes that the PDU at `start` has in all, as far as that is known.
    expected: usize,
    /// The socket's low-water mark, if it is not the usual one.
    low_water: Option<usize>,
    /// Everything that comes is heard of, until the PDU is there.
    eager: bool,
}

impl Receive {
    /// With what has come already.
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut this = Self::default();
        if !bytes.is_empty()
            && let Some(room) = this.own().get_mut(..bytes.len())
        {
            room.copy_from_slice(bytes);
            this.end = bytes.len();
        }
        this
    }

    fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.buffer.as_ref().and_then(|buffer| buffer.get(range)).unwrap_or_default()
    }

    pub(super) fn filled(&self) -> &[u8] {
        self.bytes(self.start..self.end)
    }

    /// The last `count` bytes.
    pub(super) fn newest(&self, count: usize) -> &[u8] {
        self.bytes(self.end.saturating_sub(count)..self.end)
    }

    /// Where the buffer begins in memory.
    pub(super) fn address(&self) -> usize {
        self.buffer.as_ref().map_or(0, |buffer| buffer.as_ptr().addr())
    }

    /// The buffer as it is, for as long as somebody writes from it.
    pub(super) fn share(&self) -> Option<Arc<Vec<u8>>> {
        self.buffer.clone()
    }

    /// A buffer of full size that nobody else has, with what is in the one that is there.
    fn own(&mut self) -> &mut [u8] {
        let is_own = |buffer: &mut Arc<Vec<u8>>| {
            Arc::get_mut(buffer).is_some_and(|bytes| bytes.len() == RECEIVE_BUFFER)
        };
        if !self.buffer.as_mut().is_some_and(is_own) {
            let mut fresh = buffers::take_receive();
            let filled = self.filled();
            let room = Arc::get_mut(&mut fresh).and_then(|bytes| bytes.get_mut(..filled.len()));
            if let Some(room) = room {
                room.copy_from_slice(filled);
            }
            (self.start, self.end) = (0, filled.len());
            self.buffer = Some(fresh);
        }
        let own = self.buffer.as_mut().and_then(Arc::get_mut);
        own.map_or_else(Default::default, Vec::as_mut_slice)
    }

    /// The first `count` bytes are dealt with.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        (self.expected, self.eager) = (0, false);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// The PDU at the front needs so many bytes.
    pub(super) fn expect(&mut self, total: usize) {
        self.expected = total;
        if self.start > 0 && self.start + total > RECEIVE_BUFFER {
            self.own();
            let (start, end) = (self.start, self.end);
            if start > 0 {
                self.own().copy_within(start..end, 0);
                (self.start, self.end) = (0, end - start);
            }
        }
    }

    /// Receives once.
    pub(super) fn poll(
        &mut self,
        stream: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.own();
        let (end, mut limit) = (self.end, RECEIVE_BUFFER);
        if self.expected > LARGE_PDU {
            limit = limit.min(self.start + self.expected);
        }
        let Some(room) = self.own().get_mut(end..limit).filter(|room| !room.is_empty()) else {
            // The decoder refuses a PDU that does not fit before it gets here.
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        };
        let mut buffer = ReadBuf::new(room);
        match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
            Poll::Pending => {
                self.sleep_deeply(stream);
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                let count = buffer.filled().len();
                self.end += count;
                Poll::Ready(Ok(count))
            }
        }
    }

    /// Of a large PDU the rest is waited for, not each piece of it: whatever comes wakes a thread, and
    /// where the task is at work already, one more.
    fn sleep_deeply(&mut self, stream: &TcpStream) {
        let missing = (self.start + self.expected).saturating_sub(self.end);
        let wanted = (self.expected > LARGE_PDU && !self.eager).then_some(missing);
        if wanted != self.low_water && low_water::set(stream, wanted.unwrap_or(1)) {
            self.low_water = wanted;
        }
    }

    /// The initiator seems to be silent: perhaps it is only slow.
    pub(super) fn listen(&mut self, stream: &TcpStream) {
        self.eager = true;
        self.sleep_deeply(stream);
    }

    /// Gives the buffer back if there is little in it.
    pub(super) fn rest(&mut self) {
        let full = self.buffer.take_if(|buffer| buffer.len() == RECEIVE_BUFFER);
        let Some(buffer) = full else { return };
        let filled = buffer.get(self.start..self.end).unwrap_or_default();
        if filled.len() > SMALL {
            self.buffer = Some(buffer);
            return;
        }
        let kept = (!filled.is_empty()).then(|| Arc::new(filled.to_vec()));
        (self.start, self.end) = (0, filled.len());
        self.buffer = kept;
        buffers::give_receive(buffer);
    }
}
