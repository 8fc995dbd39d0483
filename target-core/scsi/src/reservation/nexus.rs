//! Who reserves: initiator ports, target ports, and the TransportIDs that name them
//! (SPC-4 §7.6.4.6).

use crate::device::Port;
use crate::reply::Fields as _;

/// PROTOCOL IDENTIFIER of iSCSI (SPC-4 §7.6.1).
const ISCSI: u8 = 0x05;
/// Between the iSCSI name and the ISID of an initiator port's name.
const SEPARATOR: &str = ",i,0x";
/// The longest iSCSI name (RFC 7143 §4.2.7.1).
const MAX_NAME: usize = 223;
/// TransportIDs are padded to this many bytes behind ADDITIONAL LENGTH.
const MIN_ADDITIONAL_LENGTH: usize = 20;

/// An iSCSI initiator port: the initiator's name and an ISID (RFC 7143 §4.4.5).
///
/// Names are compared without regard to the case of ASCII letters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InitiatorPort {
    // In front of the name because it is what tells the ports of one initiator apart.
    isid: [u8; 6],
    name: String,
}

impl InitiatorPort {
    /// The port that `name` (an iSCSI name, as checked at login) opens with `isid`.
    #[must_use]
    pub fn new(name: &str, isid: [u8; 6]) -> Self {
        Self { isid, name: name.to_ascii_lowercase() }
    }

    /// The initiator's iSCSI name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The ISID.
    #[must_use]
    pub const fn isid(&self) -> [u8; 6] {
        self.isid
    }
}

/// An I_T nexus: an initiator port and a target port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nexus {
    /// The initiator port.
    pub initiator: InitiatorPort,
    /// The target port: target name, portal group tag and relative target port identifier.
    pub target: Port,
}

/// A TransportID for iSCSI (SPC-4 §7.6.4.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportId {
    /// FORMAT CODE 00b: every initiator port of the initiator with this name.
    Initiator(String),
    /// FORMAT CODE 01b: one initiator port.
    Port(InitiatorPort),
}

/// Why bytes are no TransportID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// It is longer than the bytes that are there.
    Truncated,
    /// A field is wrong: byte, and most significant bit if it is no whole byte.
    Field(usize, Option<u8>),
}

impl TransportId {
    /// Reads the TransportID at the start of `bytes`; returns it and its length.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, usize), Malformed> {
        let Some(([first, _, high, low], rest)) = bytes.split_first_chunk::<4>() else {
            return Err(Malformed::Truncated);
        };
        if first & 0x0f != ISCSI {
            return Err(Malformed::Field(0, Some(3)));
        }
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length < MIN_ADDITIONAL_LENGTH || !length.is_multiple_of(4) {
            return Err(Malformed::Field(2, None));
        }
        let text = rest.get(..length).ok_or(Malformed::Truncated)?;
        // The first null ends the text, whatever is behind it.
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = std::str::from_utf8(text).map_err(|_| Malformed::Field(4, None))?;
        let id = match first >> 6 {
            0 => checked_name(text).map(|name| Self::Initiator(name.to_ascii_lowercase())),
            1 => text.split_once(SEPARATOR).and_then(|(name, isid)| {
                Some(Self::Port(InitiatorPort::new(checked_name(name)?, parse_isid(isid)?)))
            }),
            _ => return Err(Malformed::Field(0, Some(7))),
        };
        Ok((id.ok_or(Malformed::Field(4, None))?, 4 + length))
    }

    /// Appends the TransportID of `port` with FORMAT CODE 01b; returns its length.
    pub(super) fn append(port: &InitiatorPort, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.u8(0x40 | ISCSI);
        out.u8(0);
        out.u16(0);
        out.extend_from_slice(port.name.as_bytes());
        out.extend_from_slice(SEPARATOR.as_bytes());
        for byte in port.isid {
            out.extend_from_slice(format!("{byte:02x}").as_bytes());
        }
        // At least one null, then up to a multiple of four.
        let text = out.len() - start - 4 + 1;
        let length = text.next_multiple_of(4).max(MIN_ADDITIONAL_LENGTH);
        out.resize(start + 4 + length, 0);
        out.set_u16(start + 2, length);
        4 + length
    }
}

fn checked_name(name: &str) -> Option<&str> {
    (1..=MAX_NAME).contains(&name.len()).then_some(name)
}

/// An ISID in hexadecimal digits; leading zeroes may be missing.
fn parse_isid(digits: &str) -> Option<[u8; 6]> {
    let plain = (1..=12).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let value = u64::from_str_radix(digits, 16).ok().filter(|_| plain)?;
    let [_, _, isid @ ..] = value.to_be_bytes();
    Some(isid)
}
