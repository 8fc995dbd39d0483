//! Long reads of what is pinned in memory: sent from the page cache, without a copy of this program's
//! ([`ZeroCopyReads`] says which, and what that means for who writes there meanwhile).

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use disk_image::Pinned;
use iscsi_proto::session::{MAX_DATA_IN, Session};
use iscsi_proto::transmit::{Part, Payload, Slices};
use rustix::net::{SendAncillaryBuffer, SendFlags};
use scsi::Status;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::core::{Core, Job};
use super::read::Reading;
use super::{Connection, MAX_SLICES};
use crate::config::ZeroCopyReads;

/// Shorter PDUs are copied: each of the others takes two system calls of its own.
const LEAST: u32 = 64 << 10;

/// The payload of a PDU that stands outside of the queue.
#[derive(Debug, Clone)]
pub(super) enum Data {
    Read(Bytes),
    Pinned(Pinned),
}

impl Payload for Data {
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Read(bytes) => Some(bytes),
            Self::Pinned(_) => None,
        }
    }
}

/// Whether a connection does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InPlace {
    Never,
    /// Where no other session sees the unit, as long as it costs less.
    Alone,
    Always,
}

impl InPlace {
    pub(super) fn of(config: ZeroCopyReads, session: &Session, stream: &TcpStream) -> Self {
        match config {
            // For a digest somebody has to look at the data.
            _ if session.data_has_digest() => Self::Never,
            ZeroCopyReads::Never => Self::Never,
            ZeroCopyReads::Always => Self::Always,
            // BBR sends in small portions, by a clock, whoever copies.
            ZeroCopyReads::Auto => match rustix::net::sockopt::tcp_congestion(stream) {
                Ok(name) if name.starts_with("bbr") => Self::Never,
                Ok(_) | Err(_) => Self::Alone,
            },
        }
    }

    fn is_for(self, job: &Job) -> bool {
        match self {
            Self::Never => false,
            Self::Alone => job.unit.is_seen_by_one(),
            Self::Always => true,
        }
    }
}

impl Core {
    /// Queues the next part of a read without reading it; how far it is then. `None` if it must be
    /// read.
    pub(super) fn read_in_place(&mut self, job: &Job, reading: Reading) -> Option<u32> {
        let Reading { offset, length, done } = reading;
        if self.in_place == InPlace::Never || self.session.data_in_segment() < LEAST {
            return None;
        }
        let part = self.session.data_in_part(job.task, length, done, MAX_DATA_IN)?;
        let count = part.end - part.start;
        // A trace wants to see what is sent.
        if count < LEAST || !self.in_place.is_for(job) || !self.taps.is_empty() || !self.may_fly() {
            return None;
        }
        let from = offset + u64::from(part.start);
        let place = from..from + u64::from(count);
        let data = Data::Pinned(job.unit.image()?.pinned(from, u64::from(count))?);
        if self.in_place == InPlace::Alone && !self.trial.queue(count) {
            return None;
        }
        self.flights.take_off(&job.unit, place, self.session.stat_sn());
        let (task, status) = (job.task, Some(Status::Good.code()));
        self.session.data_in_owned(task, &data, part.clone(), length, status, &mut self.tx);
        Some(part.end)
    }
}

impl Connection {
    /// Sends what comes next: bytes up to the first payload that is sent in place, or some of that.
    pub(super) fn poll_send_in_place(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_io(Interest::WRITABLE, || self.send_in_place()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    fn send_in_place(&self) -> io::Result<usize> {
        let mut slices = Slices::new();
        let mut flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        for part in self.core.tx.parts().take(MAX_SLICES) {
            match part {
                Part::Bytes(bytes) => slices.push(IoSlice::new(bytes)),
                Part::Outside(Data::Pinned(pinned), range) if slices.is_empty() => {
                    return pinned.send_to(&self.stream, &range);
                }
                Part::Outside(..) => {
                    // The header goes into one segment with its data.
                    flags |= SendFlags::MORE;
                    break;
                }
            }
        }
        let mut control = SendAncillaryBuffer::default();
        Ok(rustix::net::sendmsg(&self.stream, &slices, &mut control, flags)?)
    }
}
