//! What a connection has still to send, so laid out that one vectored write takes it all.
//!
//! Headers and most payloads stand one behind the other in one buffer, in which the data path
//! reserves room and reads blocks straight from the page cache. Payloads that were read
//! elsewhere are owned pieces between them and are never copied.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;

use smallvec::SmallVec;

/// From this many sent bytes on, what is left is moved to the front of the buffer.
const COMPACT: usize = if cfg!(test) { 4 << 10 } else { 256 << 10 };

/// The slices of a vectored write.
pub type Slices<'a> = SmallVec<[IoSlice<'a>; 16]>;

/// A queue of bytes to send. `P` is a payload that was read elsewhere.
#[derive(Debug)]
pub struct TransmitQueue<P> {
    /// Its length is the high-water mark: what is behind `filled` is old and is overwritten, so
    /// that nothing is zeroed twice.
    buffer: Vec<u8>,
    filled: usize,
    sent: usize,
    pieces: VecDeque<Piece<P>>,
}

#[derive(Debug)]
struct Piece<P> {
    /// The payload goes out before the buffer's byte of this place.
    at: usize,
    payload: P,
    range: Range<usize>,
}

impl<P> Default for TransmitQueue<P> {
    fn default() -> Self {
        Self { buffer: Vec::new(), filled: 0, sent: 0, pieces: VecDeque::new() }
    }
}

impl<P: AsRef<[u8]>> TransmitQueue<P> {
    /// An empty queue that holds no memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether everything is sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sent == self.filled && self.pieces.is_empty()
    }

    /// Bytes that are still to be sent.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.filled - self.sent + self.pieces.iter().map(|piece| piece.range.len()).sum::<usize>()
    }

    /// Whether it has a buffer to work with.
    #[must_use]
    pub const fn has_buffer(&self) -> bool {
        self.buffer.capacity() > 0
    }

    /// Gives an empty queue a buffer to work with.
    pub fn attach(&mut self, buffer: Vec<u8>) {
        if self.buffer.capacity() == 0 {
            self.buffer = buffer;
        }
    }

    /// Takes the buffer back from a queue that has sent everything: a connection that waits
    /// holds no memory.
    pub fn detach(&mut self) -> Option<Vec<u8>> {
        if !self.is_empty() || self.buffer.capacity() == 0 {
            return None;
        }
        (self.filled, self.sent) = (0, 0);
        Some(std::mem::take(&mut self.buffer))
    }

    /// What is to be sent, in order.
    #[must_use]
    pub fn io_slices(&self) -> Slices<'_> {
        let mut slices = Slices::new();
        let mut from = self.sent;
        for piece in &self.pieces {
            push_slice(&mut slices, self.buffer.get(from..piece.at));
            push_slice(&mut slices, piece.payload.as_ref().get(piece.range.clone()));
            from = piece.at;
        }
        push_slice(&mut slices, self.buffer.get(from..self.filled));
        slices
    }

    /// Takes note that the first `count` bytes are sent; payloads that are out are dropped.
    pub fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let end = self.pieces.front().map_or(self.filled, |piece| piece.at);
            let step = count.min(end - self.sent);
            self.sent += step;
            count -= step;
            let Some(piece) = self.pieces.front_mut().filter(|_| self.sent == end) else { break };
            let step = count.min(piece.range.len());
            piece.range.start += step;
            count -= step;
            if !piece.range.is_empty() {
                break;
            }
            self.pieces.pop_front();
        }
        if self.pieces.is_empty() && self.sent == self.filled {
            (self.filled, self.sent) = (0, 0);
        } else if self.sent >= COMPACT {
            self.compact();
        }
    }

    /// Appends bytes that are not a session's: a login's last response.
    pub fn append(&mut self, bytes: &[u8]) {
        self.push(bytes);
    }

    /// Appends room for `length` bytes whose content is undefined; where it starts.
    pub(crate) fn reserve(&mut self, length: usize) -> usize {
        let start = self.filled;
        self.filled += length;
        if self.buffer.len() < self.filled {
            self.buffer.resize(self.filled, 0);
        }
        start
    }

    /// Appends bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let start = self.reserve(bytes.len());
        if let Some(room) = self.buffer.get_mut(start..self.filled) {
            room.copy_from_slice(bytes);
        }
    }

    /// Appends a payload without copying it.
    pub(crate) fn push_payload(&mut self, payload: P, range: Range<usize>) {
        if !range.is_empty() {
            self.pieces.push_back(Piece { at: self.filled, payload, range });
        }
    }

    /// Where the next byte will stand.
    pub(crate) const fn end(&self) -> usize {
        self.filled
    }

    /// Takes the bytes from `start` on back; nothing of them may be sent.
    pub(crate) fn truncate(&mut self, start: usize) {
        self.filled = self.filled.min(start).max(self.sent);
    }

    /// Bytes that were reserved.
    pub(crate) fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        self.buffer.get_mut(range).unwrap_or_default()
    }

    fn compact(&mut self) {
        let sent = self.sent;
        self.buffer.copy_within(sent..self.filled, 0);
        self.filled -= sent;
        self.sent = 0;
        for piece in &mut self.pieces {
            piece.at -= sent;
        }
    }
}

fn push_slice<'a>(slices: &mut Slices<'a>, bytes: Option<&'a [u8]>) {
    if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
        slices.push(IoSlice::new(bytes));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::TransmitQueue;

    fn bytes_of(queue: &TransmitQueue<Vec<u8>>) -> Vec<u8> {
        queue.io_slices().iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn an_idle_queue_gives_its_buffer_back() {
        let mut queue = TransmitQueue::<Vec<u8>>::new();
        queue.attach(Vec::with_capacity(100));
        queue.push(b"abc");
        assert!(queue.detach().is_none(), "there is something to send");
        queue.advance(3);
        assert!(queue.is_empty());
        assert_eq!(queue.detach().unwrap().capacity(), 100);
        assert!(queue.detach().is_none());
        queue.push(b"de");
        assert_eq!(bytes_of(&queue), b"de");
    }

    #[test]
    fn what_is_taken_back_is_not_sent() {
        let mut queue = TransmitQueue::<Vec<u8>>::new();
        queue.push(b"keep");
        let start = queue.reserve(100);
        queue.truncate(start);
        queue.push(b"!");
        assert_eq!(bytes_of(&queue), b"keep!");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn bytes_leave_in_the_order_in_which_they_came(
            steps in prop::collection::vec(
                (0u8..4, prop::collection::vec(any::<u8>(), 1..900), 1usize..2000), 1..80)
        ) {
            let mut queue = TransmitQueue::<Vec<u8>>::new();
            let (mut expected, mut seen) = (Vec::new(), Vec::new());
            for (kind, bytes, count) in steps {
                match kind {
                    0 => {
                        expected.extend_from_slice(&bytes);
                        queue.push(&bytes);
                    }
                    1 => {
                        let range = bytes.len() / 3..bytes.len();
                        expected.extend_from_slice(&bytes[range.clone()]);
                        queue.push_payload(bytes, range);
                    }
                    _ => {
                        let all = bytes_of(&queue);
                        prop_assert_eq!(all.len(), queue.pending_bytes());
                        let count = count.min(all.len());
                        seen.extend_from_slice(&all[..count]);
                        queue.advance(count);
                    }
                }
            }
            seen.extend(bytes_of(&queue));
            queue.advance(queue.pending_bytes());
            prop_assert!(queue.is_empty());
            prop_assert_eq!(seen, expected);
        }
    }
}
