//! A small initiator: one command at a time, data only when the target asks for it.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};

use super::PATIENCE;
use super::pdu::{
    ASYNC_MESSAGE, DATA_IN, LOGIN_RESPONSE, LOGOUT_RESPONSE, NOP_IN, Pdu, R2T, SCSI_RESPONSE,
};
use super::scsi::Done;

/// What every target takes without having said so (RFC 7143 §13.12).
const SEGMENT: usize = 8192;
/// T, from operational negotiation to full feature phase.
const OPERATIONAL: u8 = 0x87;

static NEXT_ISID: AtomicU16 = AtomicU16::new(1);

/// A session that is logged in.
#[derive(Debug)]
pub(crate) struct Session {
    stream: TcpStream,
    task: u32,
    command: u32,
    status: u32,
}

/// An ISID that no other session of this process has.
fn isid() -> [u8; 6] {
    let [high, low] = NEXT_ISID.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    [0x80, 0, 0, 0, high, low]
}

impl Session {
    /// The name under which all sessions log in.
    pub(crate) const NAME: &str = "iqn.2026-01.io.lund:end-to-end";

    #[track_caller]
    pub(crate) fn login(portal: SocketAddr, target: &str) -> Self {
        match Self::try_login(portal, target) {
            Ok(session) => session,
            Err(error) => panic!("login to {target}: {error}"),
        }
    }

    pub(crate) fn try_login(portal: SocketAddr, target: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(portal)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut session = Self { stream, task: 1, command: 1, status: 0 };
        let text = format!(
            "InitiatorName={}\0TargetName={target}\0SessionType=Normal\0HeaderDigest=None\0\
             DataDigest=None\0InitialR2T=Yes\0ImmediateData=No\0MaxRecvDataSegmentLength=262144\0",
            Self::NAME
        );
        let isid = isid();
        let mut request = Pdu::login(OPERATIONAL, isid, text.into_bytes());
        loop {
            request.send(&mut session.stream)?;
            let response = Pdu::receive(&mut session.stream)?;
            assert_eq!(response.operation(), LOGIN_RESPONSE);
            let (class, detail) = (response.header[36], response.header[37]);
            if class != 0 {
                let text = format!("login status {class:02x}{detail:02x}");
                return Err(io::Error::other(text));
            }
            session.status = response.word(24).wrapping_add(1);
            if response.header[1] & 0x80 != 0 {
                return Ok(session);
            }
            request = Pdu::login(OPERATIONAL, isid, Vec::new());
            request.set(28, &session.status.to_be_bytes());
        }
    }

    /// The stream, to see it end.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Waits for an Asynchronous Message: AsyncEvent, Parameter2, Parameter3.
    #[track_caller]
    pub(crate) fn asynchronous_message(&mut self) -> (u8, u16, u16) {
        let pdu = Pdu::receive(&mut self.stream).unwrap();
        assert_eq!(pdu.operation(), ASYNC_MESSAGE);
        assert_eq!(pdu.word(24), self.status);
        self.status = self.status.wrapping_add(1);
        let parameter = |at| u16::from_be_bytes([pdu.header[at], pdu.header[at + 1]]);
        (pdu.header[36], parameter(40), parameter(42))
    }

    pub(crate) fn logout(mut self) {
        let mut pdu = Pdu::new(0x46, 0x80);
        pdu.set(16, &u32::MAX.wrapping_sub(1).to_be_bytes());
        pdu.set(24, &self.command.to_be_bytes()).set(28, &self.status.to_be_bytes());
        pdu.send(&mut self.stream).unwrap();
        let response = Pdu::receive(&mut self.stream).unwrap();
        assert_eq!((response.operation(), response.header[2]), (LOGOUT_RESPONSE, 0));
    }

    /// Runs a command that reads up to `reads` bytes.
    pub(crate) fn run(&mut self, lun: u16, cdb: &[u8], reads: u32) -> io::Result<Done> {
        self.execute(lun, cdb, if reads == 0 { 0x81 } else { 0xc1 }, reads, &[])
    }

    /// Runs a command that writes `data`.
    pub(crate) fn run_with(&mut self, lun: u16, cdb: &[u8], data: &[u8]) -> io::Result<Done> {
        self.execute(lun, cdb, 0xa1, u32::try_from(data.len()).unwrap(), data)
    }

    /// Sends a command that reads up to `reads` bytes, and does not wait for its answer.
    pub(crate) fn start(&mut self, lun: u16, cdb: &[u8], reads: u32) -> io::Result<()> {
        self.send(lun, cdb, 0xc1, reads).map(|_| ())
    }

    /// Sends a command; its tag.
    fn send(&mut self, lun: u16, cdb: &[u8], flags: u8, length: u32) -> io::Result<u32> {
        let task = self.task;
        self.task += 1;
        let mut pdu = Pdu::new(0x01, flags);
        // Flat space addressing is not needed for what the tests have.
        assert!(lun < 256);
        pdu.set(8, &lun.to_be_bytes()).set(16, &task.to_be_bytes());
        pdu.set(20, &length.to_be_bytes()).set(24, &self.command.to_be_bytes());
        pdu.set(28, &self.status.to_be_bytes()).set(32, cdb);
        self.command = self.command.wrapping_add(1);
        pdu.send(&mut self.stream)?;
        Ok(task)
    }

    fn execute(
        &mut self,
        lun: u16,
        cdb: &[u8],
        flags: u8,
        length: u32,
        data: &[u8],
    ) -> io::Result<Done> {
        let task = self.send(lun, cdb, flags, length)?;
        let mut input = Vec::new();
        loop {
            let pdu = Pdu::receive(&mut self.stream)?;
            match pdu.operation() {
                DATA_IN => {
                    assert_eq!((pdu.word(16), pdu.word(40) as usize), (task, input.len()));
                    input.extend_from_slice(&pdu.data);
                    if pdu.header[1] & 0x01 != 0 {
                        self.status = pdu.word(24).wrapping_add(1);
                        return Ok(Done { status: pdu.header[3], data: input, sense: Vec::new() });
                    }
                }
                R2T => self.answer(lun, &pdu, data)?,
                SCSI_RESPONSE => {
                    assert_eq!((pdu.word(16), pdu.header[2]), (task, 0));
                    self.status = pdu.word(24).wrapping_add(1);
                    let sense = pdu.data.get(2..).unwrap_or_default().to_vec();
                    return Ok(Done { status: pdu.header[3], data: input, sense });
                }
                // The target says farewell, or wants to know whether somebody is there.
                ASYNC_MESSAGE | NOP_IN => {}
                other => panic!("PDU {other:#04x} is not what was asked for"),
            }
        }
    }

    /// Sends what an R2T asks for.
    fn answer(&mut self, lun: u16, r2t: &Pdu, data: &[u8]) -> io::Result<()> {
        let (offset, length) = (r2t.word(40) as usize, r2t.word(44) as usize);
        let wanted = &data[offset..offset + length];
        for (number, piece) in wanted.chunks(SEGMENT).enumerate() {
            let last = (number + 1) * SEGMENT >= length;
            let mut pdu = Pdu::new(0x05, if last { 0x80 } else { 0 });
            let at = u32::try_from(offset + number * SEGMENT).unwrap();
            let number = u32::try_from(number).unwrap();
            pdu.set(8, &lun.to_be_bytes()).set(16, &r2t.header[16..24]);
            pdu.set(28, &self.status.to_be_bytes()).set(36, &number.to_be_bytes());
            pdu.set(40, &at.to_be_bytes());
            pdu.data = piece.to_vec();
            pdu.send(&mut self.stream)?;
        }
        Ok(())
    }
}
