//! Messages as they go over a TCP connection (RFC 4171 §5).

/// The port of iSNS servers.
pub const PORT: u16 = 3205;

/// Bytes of the header of a PDU.
const HEADER: usize = 12;
/// The longest payload of a PDU.
const MAX_PAYLOAD: usize = 65_532;
/// The longest payload of a message that is taken; more is not asked for.
const MAX_MESSAGE: usize = 1 << 20;
const VERSION: u16 = 1;

const FROM_CLIENT: u16 = 0x8000;
/// DevAttrReg takes the place of what was registered before.
const REPLACE: u16 = 0x1000;
const LAST: u16 = 0x0800;
const FIRST: u16 = 0x0400;
/// What a response has in its function ID.
const RESPONSE: u16 = 0x8000;

/// Function IDs (RFC 4171 §4.1.3).
#[allow(missing_docs, reason = "the names are the RFC's")]
pub mod function {
    pub const DEV_ATTR_REG: u16 = 1;
    pub const DEV_ATTR_QRY: u16 = 2;
    pub const DEV_DEREG: u16 = 4;
    pub const SCN_REG: u16 = 5;
    pub const SCN: u16 = 8;
    pub const ESI: u16 = 13;
}

/// Attribute tags (RFC 4171 §6.1).
#[allow(missing_docs, reason = "the names are the RFC's")]
pub mod tag {
    pub const DELIMITER: u32 = 0;
    pub const ENTITY_IDENTIFIER: u32 = 1;
    pub const ENTITY_PROTOCOL: u32 = 2;
    pub const TIMESTAMP: u32 = 4;
    pub const REGISTRATION_PERIOD: u32 = 6;
    pub const PORTAL_IP_ADDRESS: u32 = 16;
    pub const PORTAL_TCP_PORT: u32 = 17;
    pub const SCN_PORT: u32 = 23;
    pub const ISCSI_NAME: u32 = 32;
    pub const ISCSI_NODE_TYPE: u32 = 33;
    pub const ISCSI_ALIAS: u32 = 34;
    pub const ISCSI_SCN_BITMAP: u32 = 35;
    pub const PG_ISCSI_NAME: u32 = 48;
    pub const PG_PORTAL_IP_ADDRESS: u32 = 49;
    pub const PG_PORTAL_TCP_PORT: u32 = 50;
    pub const PG_TAG: u32 = 51;
}

/// Why a stream cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// iSNSP VERSION.
    #[error("iSNS version {0}, which is not known")]
    Version(u16),
    /// A payload is longer than anything that was asked for, or not a multiple of four.
    #[error("a payload of {0} bytes")]
    Length(usize),
    /// PDUs of several messages, or out of order.
    #[error("a PDU that does not belong where it is")]
    Sequence,
    /// An attribute goes beyond its message.
    #[error("an attribute that ends behind its message")]
    Attribute,
}

/// A message that has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Function ID, without the bit that marks responses.
    pub function: u16,
    /// It answers a request.
    pub is_response: bool,
    /// TRANSACTION ID.
    pub transaction: u16,
    /// Behind the headers.
    pub payload: Vec<u8>,
}

impl Message {
    /// Status Code of a response (RFC 4171 §5.4): 0 is success.
    #[must_use]
    pub fn status(&self) -> u32 {
        let status = self.payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        // A response without one says nothing good.
        status.unwrap_or(1)
    }

    /// The attributes, in their order.
    ///
    /// # Errors
    /// [`MessageError::Attribute`].
    pub fn attributes(&self) -> Result<Vec<(u32, &[u8])>, MessageError> {
        let status = if self.is_response { 4 } else { 0 };
        let mut rest = self.payload.get(status..).unwrap_or_default();
        let mut attributes = Vec::new();
        while let Some((tag, behind)) = rest.split_first_chunk() {
            let (length, behind) = behind.split_first_chunk().ok_or(MessageError::Attribute)?;
            let length = u32::from_be_bytes(*length) as usize;
            let (value, behind) = behind.split_at_checked(length).ok_or(MessageError::Attribute)?;
            attributes.push((u32::from_be_bytes(*tag), value));
            // Everything is padded, the length says nothing of it.
            rest = behind.get(length.wrapping_neg() & 3..).unwrap_or_default();
        }
        Ok(attributes)
    }
}

/// Attributes, one behind the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes(Vec<Vec<u8>>);

impl Attributes {
    /// Appends one; its value is padded.
    #[must_use]
    pub fn with(mut self, tag: u32, value: &[u8]) -> Self {
        // Values are names, addresses and numbers.
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        let mut bytes = [tag.to_be_bytes(), length.to_be_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        self.0.push(bytes);
        self
    }

    /// Appends a number.
    #[must_use]
    pub fn number(self, tag: u32, value: u32) -> Self {
        self.with(tag, &value.to_be_bytes())
    }

    /// Appends a text, which a zero ends.
    #[must_use]
    pub fn text(self, tag: u32, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        // The length has the padding in it (RFC 4171 §6.1).
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        self.with(tag, &bytes)
    }

    /// Appends the delimiter between the message key and the operating attributes.
    #[must_use]
    pub fn delimiter(self) -> Self {
        self.with(tag::DELIMITER, &[])
    }

    /// Appends others.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }
}

/// A request as bytes: as many PDUs as it needs, cut between attributes.
#[must_use]
pub fn request(function: u16, transaction: u16, replace: bool, attributes: &Attributes) -> Vec<u8> {
    let flags = FROM_CLIENT | if replace { REPLACE } else { 0 };
    pdus(function, flags, transaction, &attributes.0)
}

/// The response to a request of the server's: success, and these attributes.
#[must_use]
pub fn response(function: u16, transaction: u16, attributes: &Attributes) -> Vec<u8> {
    let mut parts = vec![0_u32.to_be_bytes().to_vec()];
    parts.extend(attributes.0.iter().cloned());
    pdus(function | RESPONSE, FROM_CLIENT, transaction, &parts)
}

fn pdus(function: u16, flags: u16, transaction: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    let mut payloads = vec![Vec::new()];
    for part in parts {
        match payloads.last_mut() {
            Some(last) if last.len() + part.len() <= MAX_PAYLOAD => last.extend_from_slice(part),
            _ => payloads.push(part.clone()),
        }
    }
    let mut bytes = Vec::new();
    let count = payloads.len();
    for (sequence, payload) in (0_u16..).zip(&payloads) {
        let first = if sequence == 0 { FIRST } else { 0 };
        let last = if usize::from(sequence) + 1 == count { LAST } else { 0 };
        let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        for field in [VERSION, function, length, flags | first | last, transaction, sequence] {
            bytes.extend_from_slice(&field.to_be_bytes());
        }
        bytes.extend_from_slice(payload);
    }
    bytes
}

/// Puts messages together from a stream of bytes.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// The message whose last PDU has not come.
    partial: Option<(Message, u16)>,
}

impl Reader {
    /// Takes bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message.
    ///
    /// # Errors
    /// The stream cannot be read any further.
    #[allow(clippy::should_implement_trait, reason = "an iterator does not end and go on")]
    pub fn next(&mut self) -> Result<Option<Message>, MessageError> {
        loop {
            let Some((header, rest)) = self.buffer.split_first_chunk::<HEADER>() else {
                return Ok(None);
            };
            let [v0, v1, f0, f1, l0, l1, g0, g1, t0, t1, s0, s1] = *header;
            let version = u16::from_be_bytes([v0, v1]);
            if version != VERSION {
                return Err(MessageError::Version(version));
            }
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            if length % 4 != 0 {
                return Err(MessageError::Length(length));
            }
            let Some(payload) = rest.get(..length) else { return Ok(None) };
            let (function, flags) = (u16::from_be_bytes([f0, f1]), u16::from_be_bytes([g0, g1]));
            let transaction = u16::from_be_bytes([t0, t1]);
            let sequence = u16::from_be_bytes([s0, s1]);
            let message = match self.partial.take() {
                None if flags & FIRST != 0 => Message {
                    function: function & !RESPONSE,
                    is_response: function & RESPONSE != 0,
                    transaction,
                    payload: payload.to_vec(),
                },
                Some((mut message, before))
                    if flags & FIRST == 0
                        && message.transaction == transaction
                        && before.wrapping_add(1) == sequence =>
                {
                    message.payload.extend_from_slice(payload);
                    message
                }
                _ => return Err(MessageError::Sequence),
            };
            if message.payload.len() > MAX_MESSAGE {
                return Err(MessageError::Length(message.payload.len()));
            }
            self.buffer.drain(..HEADER + length);
            if flags & LAST != 0 {
                return Ok(Some(message));
            }
            self.partial = Some((message, sequence));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_has_the_layout_of_the_rfc() {
        let attributes = Attributes::default()
            .text(tag::ISCSI_NAME, "iqn.a")
            .delimiter()
            .number(tag::ISCSI_NODE_TYPE, 1);
        let bytes = request(function::DEV_ATTR_REG, 7, true, &attributes);
        let header = [0, 1, 0, 1, 0, 36, 0x9c, 0, 0, 7, 0, 0];
        assert_eq!(bytes[..12], header);
        assert_eq!(bytes[12..28], *b"\0\0\0\x20\0\0\0\x08iqn.a\0\0\0");
        assert_eq!(bytes[28..36], [0; 8]);
        assert_eq!(bytes[36..], [0, 0, 0, 33, 0, 0, 0, 4, 0, 0, 0, 1]);
    }

    #[test]
    fn a_request_that_is_too_long_for_a_pdu_is_cut_between_attributes() {
        let mut attributes = Attributes::default();
        for number in 0..2000_u32 {
            attributes = attributes.text(tag::ISCSI_NAME, &format!("iqn.{number:0>200}"));
        }
        let bytes = request(function::DEV_ATTR_REG, 9, false, &attributes);
        // The flags of the first PDU: not the last.
        assert_eq!(bytes[6..8], [0x84, 0]);
        let mut reader = Reader::default();
        reader.push(&bytes);
        let message = reader.next().unwrap().unwrap();
        assert_eq!(message.attributes().unwrap().len(), 2000);
        assert_eq!(reader.next(), Ok(None));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let good = request(function::SCN, 1, false, &Attributes::default().number(1, 2));
        let refused = |change: fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            let mut reader = Reader::default();
            reader.push(&bytes);
            reader.next().and_then(|message| {
                message.unwrap().attributes().map(|attributes| attributes.len())
            })
        };
        assert_eq!(refused(|_| {}), Ok(1));
        assert_eq!(refused(|bytes| bytes[1] = 2), Err(MessageError::Version(2)));
        assert_eq!(refused(|bytes| bytes[5] = 11), Err(MessageError::Length(11)));
        assert_eq!(refused(|bytes| bytes[6] = 0x88), Err(MessageError::Sequence));
        assert_eq!(refused(|bytes| bytes[19] = 5), Err(MessageError::Attribute));
    }

    proptest! {
        #[test]
        fn a_stream_may_come_in_any_pieces(
            values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
            cut in 1_usize..30,
        ) {
            let attributes = values.iter().fold(Attributes::default(), |all, value| all.with(77, value));
            let bytes = [
                response(function::DEV_ATTR_QRY, 3, &attributes),
                request(function::SCN, 4, false, &attributes),
            ].concat();
            let (mut reader, mut seen) = (Reader::default(), Vec::new());
            for piece in bytes.chunks(cut) {
                reader.push(piece);
                while let Some(message) = reader.next().unwrap() {
                    let all: Vec<_> =
                        message.attributes().unwrap().iter().map(|(_, value)| value.to_vec()).collect();
                    prop_assert_eq!(&all, &values);
                    seen.push((message.is_response, message.transaction));
                }
            }
            prop_assert_eq!(seen, [(true, 3), (false, 4)]);
        }

        #[test]
        fn nothing_that_comes_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = Reader::default();
            reader.push(&[&[0, 1, 0x80, 1][..], &bytes].concat());
            while let Ok(Some(message)) = reader.next() {
                let _ = message.attributes();
            }
        }
    }
}
