//! iSCSI PDUs as bytes (RFC 7143 §11), without digests.

use std::io::{self, Read, Write};

pub(crate) const NOP_IN: u8 = 0x20;
pub(crate) const SCSI_RESPONSE: u8 = 0x21;
pub(crate) const LOGIN_RESPONSE: u8 = 0x23;
pub(crate) const TEXT_RESPONSE: u8 = 0x24;
pub(crate) const DATA_IN: u8 = 0x25;
pub(crate) const LOGOUT_RESPONSE: u8 = 0x26;
pub(crate) const R2T: u8 = 0x31;
pub(crate) const ASYNC_MESSAGE: u8 = 0x32;

/// A basic header segment and its data.
#[derive(Debug, Clone)]
pub(crate) struct Pdu {
    pub(crate) header: [u8; 48],
    pub(crate) data: Vec<u8>,
}

impl Pdu {
    pub(crate) fn new(operation: u8, flags: u8) -> Self {
        let mut header = [0; 48];
        header[0] = operation;
        header[1] = flags;
        Self { header, data: Vec::new() }
    }

    pub(crate) fn set(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.header[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn operation(&self) -> u8 {
        self.header[0] & 0x3f
    }

    pub(crate) fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.header[at..at + 4].try_into().unwrap())
    }

    /// What goes over the wire: the data is padded to words.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.to_vec();
        let length = u32::try_from(self.data.len()).unwrap().to_be_bytes();
        bytes[5..8].copy_from_slice(&length[1..]);
        bytes.extend_from_slice(&self.data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    pub(crate) fn send(&self, stream: &mut impl Write) -> io::Result<()> {
        stream.write_all(&self.bytes())
    }

    pub(crate) fn receive(stream: &mut impl Read) -> io::Result<Self> {
        let mut header = [0; 48];
        stream.read_exact(&mut header)?;
        assert_eq!(header[4], 0, "additional header segments were not asked for");
        let length = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
        let mut data = vec![0; length.next_multiple_of(4)];
        stream.read_exact(&mut data)?;
        data.truncate(length);
        Ok(Self { header, data })
    }

    /// A Login Request. `flags` are T, C, CSG and NSG.
    pub(crate) fn login(flags: u8, isid: [u8; 6], text: Vec<u8>) -> Self {
        let mut pdu = Self::new(0x43, flags);
        pdu.set(8, &isid).set(16, &1u32.to_be_bytes()).set(24, &1u32.to_be_bytes());
        pdu.data = text;
        pdu
    }
}
