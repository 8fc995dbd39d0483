//! What a connection has still to send, so laid out that one vectored write takes it all.
//!
//! Headers and most payloads stand one behind the other in one buffer, in which the data path
//! reserves room and reads blocks straight from the page cache. Payloads that were read
//! elsewhere are pieces between them, and so are those that are sent from where they stand.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;

use smallvec::SmallVec;

/// From this many sent bytes on, what is left is moved to the front of the buffer.
const COMPACT: usize = if cfg!(test) { 4 << 10 } else { 256 << 10 };

/// The slices of a vectored write.
pub type Slices<'a> = SmallVec<[IoSlice<'a>; 16]>;

/// What stands outside of the queue's buffer.
pub trait Payload {
    /// Its bytes; `None` if they stand where this program does not look at them.
    fn bytes(&self) -> Option<&[u8]>;
}

impl<T: AsRef<[u8]>> Payload for T {
    fn bytes(&self) -> Option<&[u8]> {
        Some(self.as_ref())
    }
}

/// A part of what is to be sent.
#[derive(Debug)]
pub enum Part<'a, P> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// This range of a payload whose bytes nobody looks at.
    Outside(&'a P, Range<usize>),
}

/// A queue of bytes to send.
#[derive(Debug)]
pub struct TransmitQueue<P> {
    /// Its length is the high-water mark: what is behind `filled` is old and is overwritten, so
    /// that nothing is zeroed twice.
    buffer: Vec<u8>,
    filled: usize,
    sent: usize,
    pieces: VecDeque<Piece<P>>,
    /// Bytes of them that are [`Part::Outside`].
    outside: usize,
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
        Self { buffer: Vec::new(), filled: 0, sent: 0, pieces: VecDeque::new(), outside: 0 }
    }
}

impl<P: Payload> TransmitQueue<P> {
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

    /// How many of those are [`Part::Outside`].
    #[must_use]
    pub const fn outside_bytes(&self) -> usize {
        self.outside
    }

    /// What is to be sent, in order.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_, P>> {
        let mut from = self.sent;
        let bytes = |range: Range<usize>| {
            self.buffer.get(range).filter(|it| !it.is_empty()).map(Part::Bytes)
        };
        let pieces = self.pieces.iter().flat_map(move |piece| {
            let before = bytes(std::mem::replace(&mut from, piece.at)..piece.at);
            [before, piece.part()].into_iter().flatten()
        });
        let last = self.pieces.back().map_or(self.sent, |piece| piece.at);
        pieces.chain(bytes(last..self.filled))
    }

    /// The same as slices, up to the first part that is [`Part::Outside`].
    #[must_use]
    pub fn io_slices(&self) -> Slices<'_> {
        let bytes = self.parts().map_while(|part| match part {
            Part::Bytes(bytes) => Some(IoSlice::new(bytes)),
            Part::Outside(..) => None,
        });
        bytes.collect()
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
            if self.outside > 0 && piece.payload.bytes().is_none() {
                self.outside -= step;
            }
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
            if payload.bytes().is_none() {
                self.outside += range.len();
            }
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

impl<P: Payload> Piece<P> {
    fn part(&self) -> Option<Part<'_, P>> {
        let range = self.range.clone();
        match self.payload.bytes() {
            Some(bytes) => bytes.get(range).map(Part::Bytes),
            None => Some(Part::Outside(&self.payload, range)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Part, Payload, Range, TransmitQueue};

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

    /// A payload whose bytes nobody looks at.
    struct Far;

    impl Payload for Far {
        fn bytes(&self) -> Option<&[u8]> {
            None
        }
    }

    #[test]
    fn what_is_outside_stops_the_slices_until_it_is_sent() {
        let mut queue = TransmitQueue::new();
        queue.push(b"a");
        queue.push_payload(Far, 1..8);
        queue.push(b"z");
        assert_eq!((queue.pending_bytes(), queue.outside_bytes()), (9, 7));
        assert_eq!(queue.io_slices().len(), 1);
        let parts: Vec<_> = queue.parts().collect();
        assert!(matches!(parts[1], Part::Outside(_, Range { start: 1, end: 8 })));
        assert!(matches!(parts[2], Part::Bytes(b"z")) && parts.len() == 3);
        queue.advance(3);
        assert_eq!((queue.pending_bytes(), queue.outside_bytes()), (6, 5));
        assert!(queue.io_slices().is_empty() && !queue.is_empty());
        assert!(matches!(queue.parts().next(), Some(Part::Outside(_, Range { start: 3, end: 8 }))));
        queue.advance(5);
        assert_eq!((queue.io_slices().len(), queue.outside_bytes()), (1, 0));
        queue.advance(1);
        assert!(queue.is_empty() && queue.detach().is_some());
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
