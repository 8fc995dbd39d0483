//! An initiator of few instructions: batches of commands whose answers have known lengths. Data
//! that it sends is never copied.

use std::io::{IoSlice, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};
use iscsi_proto::codec::{Decoder, encode};
use iscsi_proto::pdu::{
    BHS_LENGTH, BasicHeaderSegment, Bhs, FINAL, IMMEDIATE, LoginRequest, LoginResponse,
    ScsiCommand, U24, opcode,
};

/// The largest data segment of both directions.
pub(crate) const MAX_SEGMENT: u32 = 256 << 10;
/// Commands outstanding, and bytes of their data: no more than sockets take at once, since it
/// depends on chance how often a full one is tried.
const DEPTH: usize = 32;
const MAX_OUTSTANDING: usize = 128 << 10;

/// Which way the data of a command goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// A session.
pub(crate) struct Initiator {
    stream: TcpStream,
    rules: Decoder,
    cmd_sn: u32,
    exp_stat_sn: u32,
    requests: Vec<u8>,
    answers: Vec<u8>,
}

impl Initiator {
    /// Logs in, and hears of the unit attention that every new session gets.
    pub(crate) fn log_in(address: SocketAddr, target: &str, digests: bool) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut this = Self {
            stream,
            rules: Decoder::for_login(MAX_SEGMENT),
            cmd_sn: 1,
            exp_stat_sn: 0,
            requests: Vec::new(),
            answers: Vec::new(),
        };
        let digest = if digests { "CRC32C" } else { "None" };
        let keys = format!(
            "InitiatorName=iqn.2026-01.invalid.icounts:host\0TargetName={target}\0\
             SessionType=Normal\0HeaderDigest={digest}\0DataDigest={digest}\0\
             MaxRecvDataSegmentLength={MAX_SEGMENT}\0FirstBurstLength={MAX_SEGMENT}\0\
             MaxBurstLength={MAX_SEGMENT}\0InitialR2T=No\0ImmediateData=Yes\0"
        );
        let mut header = LoginRequest::new();
        header.opcode |= IMMEDIATE;
        header.flags = FINAL | 1 << 2 | 3; // from operational negotiation to full feature
        header.isid = [0x80, 0, 0, 0, 0, 1];
        header.cmd_sn = this.cmd_sn.into();
        encode(&this.rules, header.bytes(), &[], keys.as_bytes(), &mut this.requests);
        this.flush()?;
        let answer = this.answer()?;
        ensure!(answer.get(36..38) == Some(&[0, 0]), "the login was refused");
        this.exp_stat_sn = LoginResponse::view(&answer).stat_sn.get().wrapping_add(1);
        (this.rules.header_digest, this.rules.data_digest) = (digests, digests);
        this.command(Direction::Read, &[0; 16], 0);
        this.flush()?;
        this.answer()?;
        Ok(this)
    }

    /// Runs so many commands of `length` bytes, several at a time.
    pub(crate) fn run(
        &mut self,
        direction: Direction,
        times: usize,
        length: usize,
        cdb: impl Fn(usize) -> [u8; 16],
    ) -> Result<()> {
        let mut data = vec![0x5a; if direction == Direction::Write { length } else { 0 }];
        if self.rules.data_digest && !data.is_empty() {
            data.extend(crc32c::crc32c(&data).to_le_bytes());
        }
        let header_length = BHS_LENGTH + usize::from(self.rules.header_digest) * 4;
        let answer_length = header_length
            + match direction {
                Direction::Write => 0,
                Direction::Read => length + usize::from(self.rules.data_digest) * 4,
            };
        let expected = match direction {
            Direction::Read => opcode::DATA_IN,
            Direction::Write => opcode::SCSI_RESPONSE,
        };
        let mut done = 0;
        while done < times {
            let batch = DEPTH.min(MAX_OUTSTANDING / length).min(times - done);
            for number in done..done + batch {
                self.command(direction, &cdb(number), length);
            }
            let headers = self.requests.chunks_exact(header_length);
            let slices = headers.flat_map(|header| [IoSlice::new(header), IoSlice::new(&data)]);
            send(&mut self.stream, &mut slices.collect::<Vec<_>>())?;
            self.requests.clear();
            self.answers.resize(batch * answer_length, 0);
            self.stream.read_exact(&mut self.answers)?;
            for answer in self.answers.chunks_exact(answer_length) {
                let sound = matches!(answer, [code, _, _, 0, ..] if *code == expected);
                ensure!(sound, "another answer: {:02x?}", answer.get(..BHS_LENGTH));
            }
            self.exp_stat_sn = self.exp_stat_sn.wrapping_add(u32::try_from(batch)?);
            done += batch;
        }
        Ok(())
    }

    /// The header of a command; its data goes behind it.
    fn command(&mut self, direction: Direction, cdb: &[u8; 16], length: usize) {
        let (flag, immediate) = match direction {
            Direction::Read => (ScsiCommand::READ, 0),
            Direction::Write => (ScsiCommand::WRITE, length),
        };
        let word = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let expected = word(length);
        let header = ScsiCommand {
            flags: FINAL | flag | 1, // SIMPLE
            data_segment_length: U24::new(word(immediate)),
            initiator_task_tag: self.cmd_sn.into(),
            expected_data_transfer_length: expected.into(),
            cmd_sn: self.cmd_sn.into(),
            exp_stat_sn: self.exp_stat_sn.into(),
            cdb: *cdb,
            ..ScsiCommand::new()
        };
        self.requests.extend_from_slice(header.bytes());
        if self.rules.header_digest {
            self.requests.extend(crc32c::crc32c(header.bytes()).to_le_bytes());
        }
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.requests)?;
        self.requests.clear();
        Ok(())
    }

    /// One answer of whatever length; its header.
    fn answer(&mut self) -> Result<Bhs> {
        let mut header = [0; BHS_LENGTH];
        self.stream.read_exact(&mut header)?;
        let length = BasicHeaderSegment::view(&header).data_segment_length.get() as usize;
        let digest = |present: bool| if present { 4 } else { 0 };
        let rest = digest(self.rules.header_digest)
            + length.next_multiple_of(4)
            + digest(self.rules.data_digest && length > 0);
        self.answers.resize(rest, 0);
        self.stream.read_exact(&mut self.answers).context("the answer is cut short")?;
        if header.first() == Some(&opcode::REJECT) {
            bail!("rejected");
        }
        self.exp_stat_sn = self.exp_stat_sn.wrapping_add(1);
        Ok(header)
    }
}

/// Sends all of the slices.
fn send(stream: &mut TcpStream, mut slices: &mut [IoSlice<'_>]) -> Result<()> {
    while !slices.is_empty() {
        let sent = stream.write_vectored(slices)?;
        ensure!(sent > 0, "the connection is closed");
        IoSlice::advance_slices(&mut slices, sent);
    }
    Ok(())
}
