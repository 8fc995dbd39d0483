//! A protocol trace of a connection, while it runs: what it receives and sends in its full feature
//! phase, as a pcapng file that Wireshark reads.
//!
//! The bytes are those of the socket; the IP and TCP headers around them are made here. Whoever
//! reads a trace too slowly misses packets, and the connection never waits for them: what is
//! missing shows as a gap in the sequence numbers, and is counted at the end of the file.

mod pcapng;

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use etherparse::PacketBuilder;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::pcapng::Direction;
use crate::sessions::Ends;

/// Traces at a time, in all.
pub(crate) const MAX_TRACES: usize = 16;
/// Blocks that wait for the reader of a trace.
const QUEUE: usize = 256;
/// Bytes of a packet; an IP packet has less than 64 KiB.
const MAX_PAYLOAD: usize = 32 << 10;

/// Why there is no trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// There is no such session.
    #[error("there is no session {0}")]
    NoSuchSession(u16),
    /// So many are taken already.
    #[error("{MAX_TRACES} traces are taken already")]
    TooMany,
}

/// A trace that is being taken; it ends with its connection, or when it is dropped.
#[derive(Debug)]
pub struct Trace {
    blocks: Receiver<Bytes>,
    _permit: OwnedSemaphorePermit,
}

impl Trace {
    /// The next bytes of the file; none when the connection has ended.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.blocks.poll_recv(cx)
    }
}

/// A trace and its end in the connection.
pub(crate) fn trace(permits: &Arc<Semaphore>) -> Result<(Trace, Tap), TraceError> {
    let permit = permits.clone().try_acquire_owned().map_err(|_| TraceError::TooMany)?;
    let (sender, blocks) = channel(QUEUE);
    let tap = Tap {
        sender,
        ends: None,
        receives: Stream::default(),
        sends: Stream::default(),
        packets: 0,
        dropped: 0,
    };
    Ok((Trace { blocks, _permit: permit }, tap))
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Stream {
    /// A PDU begins with the next byte: before that nothing is taken.
    begun: bool,
    /// The next byte's number.
    sequence: u32,
}

/// Where a trace is taken.
#[derive(Debug)]
pub(crate) struct Tap {
    sender: Sender<Bytes>,
    /// None before the trace has begun.
    ends: Option<Ends>,
    receives: Stream,
    sends: Stream,
    packets: u64,
    dropped: u64,
}

impl Tap {
    /// Sends a block, or leaves it out. The last place is kept for the last block.
    fn block(&mut self, block: Vec<u8>) {
        self.packets += 1;
        if self.sender.capacity() < 2 || self.sender.try_send(block.into()).is_err() {
            self.dropped += 1;
        }
    }

    fn packet(&mut self, direction: Direction, payload: &[u8]) {
        let Some(ends) = self.ends else { return };
        let time = SystemTime::now();
        for payload in payload.chunks(MAX_PAYLOAD) {
            let (from, to, ours, theirs) = match direction {
                Direction::Inbound => (ends.peer, ends.local, &mut self.receives, &self.sends),
                Direction::Outbound => (ends.local, ends.peer, &mut self.sends, &self.receives),
            };
            let packet = segment(from, to, ours.sequence, theirs.sequence, payload);
            // A payload is never longer than MAX_PAYLOAD.
            let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
            ours.sequence = ours.sequence.wrapping_add(length);
            self.block(pcapng::packet(time, direction, &packet));
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if self.ends.is_some() {
            let end = pcapng::end(SystemTime::now(), self.packets, self.dropped);
            let _ = self.sender.try_send(end.into());
        }
    }
}

/// An IP packet with a TCP segment.
fn segment(from: SocketAddr, to: SocketAddr, sequence: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    const HOPS: u8 = 64;
    let (source, destination) = (from.ip().to_canonical(), to.ip().to_canonical());
    let builder = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            PacketBuilder::ipv4(source.octets(), destination.octets(), HOPS)
        }
        (source, destination) => PacketBuilder::ipv6(octets(source), octets(destination), HOPS),
    };
    let builder = builder.tcp(from.port(), to.port(), sequence, u16::MAX).ack(ack).psh();
    let mut packet = Vec::with_capacity(builder.size(payload.len()));
    // Writing to memory does not fail, and the payload is short enough.
    let _ = builder.write(&mut packet, payload);
    packet
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The taps of a connection; mostly none.
#[derive(Debug, Default)]
pub(crate) struct Taps(Vec<Tap>);

impl Taps {
    pub(crate) fn add(&mut self, tap: Tap) {
        self.0.push(tap);
    }

    /// Ends all traces.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Begins those that are new, at the next PDU of each direction: `received` is what has come
    /// and is not understood yet, `sent` whether nothing is left to be sent.
    pub(crate) fn begin(&mut self, ends: Ends, interface: &str, received: &[u8], sent: bool) {
        self.0.retain(|tap| !tap.sender.is_closed());
        for tap in &mut self.0 {
            if tap.ends.is_none() {
                tap.ends = Some(ends);
                let _ = tap.sender.try_send(pcapng::begin(interface).into());
                tap.receives.begun = true;
                tap.packet(Direction::Inbound, received);
            }
            tap.sends.begun |= sent;
        }
    }

    /// Takes what has just been received.
    pub(crate) fn received(&mut self, bytes: &[u8]) {
        for tap in &mut self.0 {
            if tap.receives.begun {
                tap.packet(Direction::Inbound, bytes);
            }
        }
    }

    /// Takes the first `count` bytes of `slices`, which have just been sent.
    pub(crate) fn sent(&mut self, slices: &[IoSlice<'_>], count: usize) {
        if self.0.iter().all(|tap| !tap.sends.begun) {
            return;
        }
        let mut bytes = Vec::with_capacity(count);
        for slice in slices {
            let left = count - bytes.len();
            bytes.extend_from_slice(slice.get(..left).unwrap_or(slice));
        }
        for tap in &mut self.0 {
            if tap.sends.begun {
                tap.packet(Direction::Outbound, &bytes);
            }
        }
    }
}
