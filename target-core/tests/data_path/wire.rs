//! The initiator's end of a connection: PDUs and raw bytes, and the login.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use iscsi_proto::codec::{Decoded, Decoder, encode};
use iscsi_proto::pdu::{
    BasicHeaderSegment, Bhs, FINAL, IMMEDIATE, LoginRequest, LoginResponse, Pdu, opcode,
};
use iscsi_proto::text;

/// Longer than anything takes that is not broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A PDU from the target.
#[derive(Debug, Clone)]
pub struct Received {
    pub bhs: Bhs,
    pub data: Vec<u8>,
}

impl Received {
    pub fn opcode(&self) -> u8 {
        BasicHeaderSegment::view(&self.bhs).opcode()
    }

    pub fn tag(&self) -> u32 {
        BasicHeaderSegment::view(&self.bhs).initiator_task_tag.get()
    }
}

/// A connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// What both directions are cut by.
    pub rules: Decoder,
    inbox: Vec<u8>,
}

impl Wire {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, rules: Decoder::for_login(0x00ff_ffff), inbox: Vec::new() }
    }

    pub fn address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// Sends bytes as they are; false if the target has closed the connection.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        match self.stream.write_all(bytes) {
            Ok(()) => true,
            Err(error) if is_closed(error.kind()) => false,
            Err(error) => panic!("the target takes nothing more: {error}"),
        }
    }

    pub fn send(&mut self, bhs: &Bhs, data: &[u8]) -> bool {
        let mut bytes = Vec::new();
        encode(&self.rules, bhs, &[], data, &mut bytes);
        self.send_bytes(&bytes)
    }

    /// No more bytes will come from here.
    pub fn shut_down_sending(&self) {
        // The target may have closed it first.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next PDU; none if the target has closed the connection.
    pub fn receive(&mut self) -> Option<Received> {
        let patience = format!("nothing came for {PATIENCE:?}");
        self.receive_within(PATIENCE).expect(&patience)
    }

    /// The same, or an error if nothing comes for `patience`.
    fn receive_within(&mut self, patience: Duration) -> Result<Option<Received>, ()> {
        loop {
            match self.rules.decode(&self.inbox).unwrap() {
                Decoded::Pdu { pdu: Pdu { bhs, data, .. }, consumed } => {
                    let received = Received { bhs: *bhs, data: data.to_vec() };
                    self.inbox.drain(..consumed);
                    return Ok(Some(received));
                }
                Decoded::DataDigestMismatch { .. } => panic!("a wrong data digest"),
                Decoded::Incomplete { .. } => {}
            }
            let mut bytes = vec![0; 256 << 10];
            self.stream.set_read_timeout(Some(patience)).unwrap();
            match self.stream.read(&mut bytes) {
                Ok(0) => {
                    assert!(self.inbox.is_empty(), "the connection ends within a PDU");
                    return Ok(None);
                }
                Ok(count) => self.inbox.extend_from_slice(&bytes[..count]),
                Err(error) if is_closed(error.kind()) => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(()),
            }
        }
    }

    /// Nothing comes for a while. Can miss a fault on a slow machine, and cannot invent one.
    pub fn assert_silent(&mut self) {
        match self.receive_within(Duration::from_millis(50)) {
            Err(()) => {}
            Ok(received) => panic!("{received:02x?} came"),
        }
    }

    /// Reads to the end of the connection, which may be in the midst of a PDU.
    pub fn discard_to_end(&mut self) {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = vec![0; 256 << 10];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if is_closed(error.kind()) => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("the connection does not end: {error}"),
            }
        }
    }

    /// Reads to the end of the connection; the opcodes that came before it.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut opcodes = Vec::new();
        // A target that has lost its way may send anything but no broken framing.
        while let Some(received) = self.receive() {
            opcodes.push(received.opcode());
        }
        opcodes
    }
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected)
}

/// Who logs in where.
#[derive(Debug, Clone)]
pub struct Login {
    pub initiator: String,
    /// None in a discovery session.
    pub target: Option<String>,
    pub isid: [u8; 6],
    pub tsih: u16,
    pub cid: u16,
    pub keys: Vec<(&'static str, String)>,
}

/// How a login went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Status-Class and Status-Detail.
    Status(u16),
    /// Without a word.
    Closed,
}

/// What the target answered.
pub type Answers = HashMap<String, String>;

impl Login {
    fn request(&self, flags: u8) -> LoginRequest {
        LoginRequest {
            opcode: opcode::LOGIN_REQUEST | IMMEDIATE,
            flags,
            isid: self.isid,
            tsih: self.tsih.into(),
            initiator_task_tag: 7.into(),
            cid: self.cid.into(),
            cmd_sn: FIRST_CMD_SN.into(),
            exp_stat_sn: FIRST_STAT_SN.into(),
            ..LoginRequest::new()
        }
    }

    /// The keys that introduce the initiator.
    pub fn introduction(&self) -> Vec<u8> {
        let mut text = Vec::new();
        text::push(&mut text, "InitiatorName", &self.initiator);
        match &self.target {
            Some(target) => text::push(&mut text, "TargetName", target),
            None => text::push(&mut text, "SessionType", "Discovery"),
        }
        text
    }

    /// Sends one request.
    pub fn send(&self, wire: &mut Wire, flags: u8, text: &[u8]) -> bool {
        wire.send(self.request(flags).bytes(), text)
    }

    /// Sends the one request of a login without security.
    pub fn begin(&self, wire: &mut Wire) {
        let mut text = self.introduction();
        for (key, value) in &self.keys {
            text::push(&mut text, key, value);
        }
        assert!(self.send(wire, FINAL | OPERATIONAL << 2 | FULL_FEATURE, &text));
    }
}

pub const SECURITY: u8 = 0;
pub const OPERATIONAL: u8 = 1;
pub const FULL_FEATURE: u8 = 3;
/// Close to where serial numbers wrap.
pub const FIRST_CMD_SN: u32 = 0xffff_fff0;
pub const FIRST_STAT_SN: u32 = 0xffff_fff8;

/// Receives a Login Response; its header and keys.
pub fn login_response(wire: &mut Wire) -> Result<(LoginResponse, Answers), Refusal> {
    let received = wire.receive().ok_or(Refusal::Closed)?;
    assert_eq!(received.opcode(), opcode::LOGIN_RESPONSE);
    let response = *LoginResponse::view(&received.bhs);
    let status = u16::from_be_bytes([response.status_class, response.status_detail]);
    if status != 0 {
        return Err(Refusal::Status(status));
    }
    let pairs = text::parse(&received.data).unwrap();
    let answers = pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    Ok((response, answers.collect()))
}
