//! One connection's bytes: PDUs out of one large receive buffer, a batch of PDUs into one write.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::pdu::{self, BHS_LEN, Bhs, opcode};

/// What we declare; a larger PDU is the target's error.
pub(crate) const MAX_RECV_SEGMENT: usize = 256 * 1024;
/// Room for the largest PDU and what follows it in the same receive.
const BUFFER: usize = 2 * MAX_RECV_SEGMENT;
/// Pieces per write: with queue depth 32 one call takes all.
const MAX_SLICES: usize = 128;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A PDU that arrived; its data are in the link's buffer until the next receive.
#[derive(Debug)]
pub(crate) struct Pdu {
    pub(crate) header: Bhs,
    /// Length of the data segment.
    pub(crate) len: usize,
    data: Range<usize>,
}

/// A part of the batch: bytes queued in the link, or of the data the caller holds.
#[derive(Clone, Copy, Debug)]
enum Piece {
    Queued(usize, usize),
    Caller(usize, usize),
}

/// A Data-In whose data are thrown away as they arrive.
#[derive(Debug)]
struct Partial {
    header: Bhs,
    left: usize,
}

#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    input: Vec<u8>,
    begin: usize,
    end: usize,
    partial: Option<Partial>,
    queued: Vec<u8>,
    pieces: Vec<Piece>,
    pub(crate) header_digest: bool,
    pub(crate) data_digest: bool,
    /// Hand out the data of Data-In: otherwise they are dropped without being moved or looked at.
    pub(crate) keep_data: bool,
}

impl Link {
    pub(crate) fn connect(address: &str) -> Result<Self> {
        let mut last = None;
        for address in address.to_socket_addrs().with_context(|| format!("address {address}"))? {
            match TcpStream::connect_timeout(&address, Duration::from_secs(10)) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
                    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
                    return Ok(Self::new(stream));
                }
                Err(e) => last = Some(e),
            }
        }
        match last {
            Some(e) => Err(e).with_context(|| format!("cannot connect to {address}")),
            None => bail!("{address} has no address"),
        }
    }

    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            input: vec![0; BUFFER],
            begin: 0,
            end: 0,
            partial: None,
            queued: Vec::with_capacity(64 * 1024),
            pieces: Vec::with_capacity(1024),
            header_digest: false,
            data_digest: false,
            keep_data: true,
        }
    }

    /// For a session held idle: silence is no error.
    pub(crate) fn wait_forever(&self) -> Result<()> {
        Ok(self.stream.set_read_timeout(None)?)
    }

    fn queue(&mut self, bytes: &[u8]) {
        let at = self.queued.len();
        self.queued.extend_from_slice(bytes);
        if let Some(Piece::Queued(_, len)) = self.pieces.last_mut() {
            *len += bytes.len();
        } else {
            self.pieces.push(Piece::Queued(at, bytes.len()));
        }
    }

    /// Queues a header, and its digest.
    fn queue_header(&mut self, header: &Bhs) {
        self.queue(header);
        if self.header_digest {
            self.queue(&crc32c::crc32c(header).to_le_bytes());
        }
    }

    /// Queues a PDU whose data, if any, are few and copied.
    pub(crate) fn send_small(&mut self, header: &Bhs, data: &[u8]) {
        self.queue_header(header);
        if !data.is_empty() {
            let pad = pdu::padded(data.len()) - data.len();
            self.queue(data);
            self.queue([0; 3].get(..pad).unwrap_or(&[]));
            if self.data_digest {
                let crc =
                    crc32c::crc32c_append(crc32c::crc32c(data), [0; 3].get(..pad).unwrap_or(&[]));
                self.queue(&crc.to_le_bytes());
            }
        }
    }

    /// Queues a PDU with `arena[at..at + len]`, which must be given to `flush` unchanged and be a
    /// multiple of four bytes long.
    pub(crate) fn send_data(&mut self, header: &Bhs, arena: &[u8], at: usize, len: usize) {
        self.queue_header(header);
        self.pieces.push(Piece::Caller(at, len));
        if self.data_digest {
            let crc = crc32c::crc32c(arena.get(at..at + len).unwrap_or(&[]));
            self.queue(&crc.to_le_bytes());
        }
    }

    /// Sends the batch.
    pub(crate) fn flush(&mut self, arena: &[u8]) -> Result<()> {
        for batch in self.pieces.chunks(MAX_SLICES) {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            for (slice, piece) in slices.iter_mut().zip(batch) {
                let bytes = match *piece {
                    Piece::Queued(at, len) => self.queued.get(at..at + len),
                    Piece::Caller(at, len) => arena.get(at..at + len),
                };
                *slice = IoSlice::new(bytes.context("a piece beyond its buffer")?);
            }
            let mut left = slices.get_mut(..batch.len()).unwrap_or_default();
            while !left.is_empty() {
                match self.stream.write_vectored(left) {
                    Ok(0) => bail!("the target does not take any more data"),
                    Ok(n) => IoSlice::advance_slices(&mut left, n),
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) => return Err(timeout_named(e)).context("cannot send"),
                }
            }
        }
        self.queued.clear();
        self.pieces.clear();
        Ok(())
    }

    /// One receive of as much as there is; waits for something.
    pub(crate) fn receive(&mut self) -> Result<()> {
        // What is left is less than one PDU, and without `keep_data` less than one header.
        self.input.copy_within(self.begin..self.end, 0);
        self.end -= self.begin;
        self.begin = 0;
        let room = self.input.get_mut(self.end..).unwrap_or_default();
        let n = loop {
            match self.stream.read(room) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                result => break result.map_err(timeout_named).context("cannot receive")?,
            }
        };
        if n == 0 {
            bail!("the target closed the connection");
        }
        self.end += n;
        Ok(())
    }

    /// The next whole PDU of what was received.
    pub(crate) fn next(&mut self) -> Result<Option<Pdu>> {
        if let Some(mut partial) = self.partial.take() {
            let taken = partial.left.min(self.end - self.begin);
            self.begin += taken;
            partial.left -= taken;
            if partial.left > 0 {
                self.partial = Some(partial);
                return Ok(None);
            }
            let len = pdu::data_len(&partial.header);
            return Ok(Some(Pdu { header: partial.header, len, data: 0..0 }));
        }
        let ready = self.input.get(self.begin..self.end).unwrap_or(&[]);
        let Some(&header) = ready.first_chunk::<BHS_LEN>() else { return Ok(None) };
        let plain = BHS_LEN + pdu::ahs_len(&header);
        let head = plain + if self.header_digest { 4 } else { 0 };
        let len = pdu::data_len(&header);
        let tail = if self.data_digest && len > 0 { 4 } else { 0 };
        let body = pdu::padded(len);
        if ready.len() < head {
            return Ok(None);
        }
        if self.header_digest {
            digest(ready.get(..plain), ready.get(plain..head), "header")?;
        }
        if len > MAX_RECV_SEGMENT {
            bail!("the target sends {len} bytes in one PDU: more than we declared");
        }
        if ready.len() < head + body + tail {
            if pdu::opcode_of(&header) == opcode::DATA_IN && !self.keep_data && !self.data_digest {
                self.partial = Some(Partial { header, left: head + body - ready.len() });
                self.begin = self.end;
            }
            return Ok(None);
        }
        if tail > 0 {
            let end = head + body;
            digest(ready.get(head..end), ready.get(end..end + 4), "data")?;
        }
        let start = self.begin + head;
        self.begin += head + body + tail;
        Ok(Some(Pdu { header, len, data: start..start + len }))
    }

    /// The data of a PDU just taken.
    pub(crate) fn data(&self, pdu: &Pdu) -> &[u8] {
        self.input.get(pdu.data.clone()).unwrap_or(&[])
    }
}

fn timeout_named(error: std::io::Error) -> std::io::Error {
    if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        return error;
    }
    let text = format!("the target did nothing for {} s", ANSWER_TIMEOUT.as_secs());
    std::io::Error::new(ErrorKind::TimedOut, text)
}

fn digest(covered: Option<&[u8]>, received: Option<&[u8]>, what: &str) -> Result<()> {
    let computed = crc32c::crc32c(covered.unwrap_or(&[]));
    let received = received.and_then(|b| b.first_chunk::<4>()).map(|b| u32::from_le_bytes(*b));
    if received != Some(computed) {
        bail!("{what} digest mismatch: received {received:x?}, computed {computed:x}");
    }
    Ok(())
}
