//! Cuts a byte stream into PDUs (RFC 7143 §11.1, §11.2).
//!
//! Nothing is copied and nothing is allocated. Every limit is checked on the header alone, so a
//! PDU that is too long is refused before any of its payload is waited for.

use crate::digest::{self, Digest};
use crate::error::FramingError;
use crate::pdu::{BHS_LENGTH, BasicHeaderSegment, Bhs, Pdu};

/// The longest additional header segments that are taken: an extended CDB of 244 bytes, a
/// bidirectional read length, and room for one more.
pub const MAX_AHS_LENGTH: u32 = 272;

/// Bytes of padding behind `length` bytes.
#[must_use]
pub const fn padding(length: usize) -> usize {
    length.wrapping_neg() & 3
}

/// The rules by which a connection's bytes are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoder {
    /// HeaderDigest=CRC32C is in force.
    pub header_digest: bool,
    /// DataDigest=CRC32C is in force.
    pub data_digest: bool,
    /// The most bytes a data segment may have.
    pub max_recv_data_segment_length: u32,
}

/// What stands at the head of the input.
#[derive(Debug, Clone, Copy)]
pub enum Decoded<'a> {
    /// Not a whole PDU yet.
    Incomplete {
        /// Bytes that are needed in all, as far as that is known.
        total: usize,
    },
    /// A PDU.
    Pdu {
        /// It.
        pdu: Pdu<'a>,
        /// Bytes it takes of the input.
        consumed: usize,
    },
    /// A PDU whose header is sound and whose data is not.
    DataDigestMismatch {
        /// It.
        pdu: Pdu<'a>,
        /// Bytes it takes of the input.
        consumed: usize,
    },
}

impl Decoder {
    /// The rules before anything is negotiated (RFC 7143 §13.12).
    #[must_use]
    pub const fn for_login(max_recv_data_segment_length: u32) -> Self {
        Self { header_digest: false, data_digest: false, max_recv_data_segment_length }
    }

    /// Reads the PDU at the head of `input`.
    ///
    /// # Errors
    /// The stream cannot be read any further.
    pub fn decode<'a>(&self, input: &'a [u8]) -> Result<Decoded<'a>, FramingError> {
        let Some((bhs, rest)) = input.split_first_chunk::<BHS_LENGTH>() else {
            return Ok(Decoded::Incomplete { total: BHS_LENGTH });
        };
        let lengths = self.lengths(bhs)?;
        let Some((ahs, rest)) = rest.split_at_checked(lengths.ahs) else {
            return Ok(Decoded::Incomplete { total: lengths.total });
        };
        let rest = if self.header_digest {
            let Some((received, rest)) = rest.split_first_chunk::<4>() else {
                return Ok(Decoded::Incomplete { total: lengths.total });
            };
            check_header(bhs, ahs, *received)?;
            rest
        } else {
            rest
        };
        if input.len() < lengths.total {
            return Ok(Decoded::Incomplete { total: lengths.total });
        }
        let (padded, rest) = rest.split_at_checked(lengths.padded).unwrap_or((rest, &[]));
        let data = padded.get(..lengths.data).unwrap_or(padded);
        let pdu = Pdu { bhs, ahs, data };
        if self.data_digest && lengths.data > 0 {
            let received = rest.first_chunk::<4>().map(|bytes| digest::from_wire(*bytes));
            if received != Some(digest::crc32c(padded)) {
                return Ok(Decoded::DataDigestMismatch { pdu, consumed: lengths.total });
            }
        }
        Ok(Decoded::Pdu { pdu, consumed: lengths.total })
    }

    fn lengths(&self, bhs: &Bhs) -> Result<Lengths, FramingError> {
        let basic = BasicHeaderSegment::view(bhs);
        let data = basic.data_segment_length.get();
        let ahs = u32::from(basic.total_ahs_length) * 4;
        if data > self.max_recv_data_segment_length {
            let max = self.max_recv_data_segment_length;
            return Err(FramingError::DataSegmentTooLong { length: data, max });
        }
        if ahs > MAX_AHS_LENGTH {
            return Err(FramingError::AhsTooLong { length: ahs, max: MAX_AHS_LENGTH });
        }
        // At most 272 and 2^24 - 1.
        let (ahs, data) = (ahs as usize, data as usize);
        let padded = data + padding(data);
        let digests =
            usize::from(self.header_digest) * 4 + usize::from(self.data_digest && data > 0) * 4;
        Ok(Lengths { ahs, data, padded, total: BHS_LENGTH + ahs + padded + digests })
    }
}

struct Lengths {
    ahs: usize,
    data: usize,
    padded: usize,
    total: usize,
}

fn check_header(bhs: &Bhs, ahs: &[u8], received: [u8; 4]) -> Result<(), FramingError> {
    let mut digest = Digest::default();
    digest.update(bhs);
    digest.update(ahs);
    let (computed, received) = (digest.value(), digest::from_wire(received));
    if computed == received {
        Ok(())
    } else {
        Err(FramingError::HeaderDigest { computed, received })
    }
}

/// Appends a PDU as this decoder's counterpart sends it: `bhs` with its lengths set, header
/// digest, data, padding and data digest.
pub fn encode(decoder: &Decoder, bhs: &Bhs, ahs: &[u8], data: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(bhs);
    out.extend_from_slice(ahs);
    out.resize(out.len() + padding(ahs.len()), 0);
    let words = u8::try_from(ahs.len().div_ceil(4)).unwrap_or(u8::MAX);
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes();
    if let Some([slot, a, b, c]) = out.get_mut(start + 4..start + 8) {
        (*slot, *a, *b, *c) = (words, length[1], length[2], length[3]);
    }
    if decoder.header_digest {
        let value = digest::crc32c(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&value.to_le_bytes());
    }
    let start = out.len();
    out.extend_from_slice(data);
    out.resize(out.len() + padding(data.len()), 0);
    if decoder.data_digest && !data.is_empty() {
        let value = digest::crc32c(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pdu::{DataOut, U24, opcode};

    fn decoder(header_digest: bool, data_digest: bool) -> Decoder {
        Decoder { header_digest, data_digest, max_recv_data_segment_length: 8192 }
    }

    #[test]
    fn limits_hold_from_the_header_alone() {
        let mut header = DataOut { opcode: opcode::DATA_OUT, ..DataOut::zeroed() };
        header.data_segment_length = U24::new(8193);
        let refused = decoder(false, false).decode(header.bytes()).unwrap_err();
        assert_eq!(refused, FramingError::DataSegmentTooLong { length: 8193, max: 8192 });
        header.data_segment_length = U24::new(8192);
        let Decoded::Incomplete { total } = decoder(true, true).decode(header.bytes()).unwrap()
        else {
            panic!("8192 bytes are allowed");
        };
        assert_eq!(total, 48 + 4 + 8192 + 4);
        header.total_ahs_length = 69;
        assert!(matches!(
            decoder(false, false).decode(header.bytes()),
            Err(FramingError::AhsTooLong { length: 276, .. })
        ));
    }

    #[test]
    fn a_flipped_bit_is_found_by_the_digest_that_covers_it() {
        let rules = decoder(true, true);
        let mut wire = Vec::new();
        encode(&rules, &[0; 48], &[0, 1, 2, 3], b"hello", &mut wire);
        assert!(matches!(rules.decode(&wire), Ok(Decoded::Pdu { consumed: 68, .. })));
        for bit in 0..wire.len() * 8 {
            let mut broken = wire.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            match rules.decode(&broken) {
                // Header, AHS or header digest; a changed length may also ask for more.
                Err(_) | Ok(Decoded::Incomplete { .. }) => assert!(bit < 56 * 8),
                Ok(Decoded::DataDigestMismatch { .. }) => assert!(bit >= 56 * 8),
                Ok(Decoded::Pdu { .. }) => panic!("bit {bit} went unnoticed"),
            }
        }
    }

    proptest! {
        #[test]
        fn any_cut_of_the_stream_gives_the_same_pdus(
            pdus in prop::collection::vec(
                (any::<[u8; 4]>(), prop::collection::vec(any::<u8>(), 0..64),
                 prop::collection::vec(any::<u8>(), 0..300)), 1..8),
            digests in any::<(bool, bool)>(),
            cuts in prop::collection::vec(1usize..97, 1..50),
        ) {
            let rules = decoder(digests.0, digests.1);
            let mut wire = Vec::new();
            for (head, ahs, data) in &pdus {
                let mut bhs = [0; 48];
                bhs[44..].copy_from_slice(head);
                encode(&rules, &bhs, ahs, data, &mut wire);
            }
            let (mut seen, mut buffer, mut fed) = (0, Vec::new(), 0);
            let mut cuts = cuts.iter().cycle();
            while seen < pdus.len() {
                match rules.decode(&buffer).unwrap() {
                    Decoded::Incomplete { total } => {
                        prop_assert!(total > buffer.len());
                        prop_assert!(fed < wire.len());
                        let end = wire.len().min(fed + cuts.next().unwrap());
                        buffer.extend_from_slice(&wire[fed..end]);
                        fed = end;
                    }
                    Decoded::Pdu { pdu, consumed } => {
                        let (head, ahs, data) = &pdus[seen];
                        prop_assert_eq!(&pdu.bhs[44..], head);
                        prop_assert_eq!(&pdu.ahs[..ahs.len()], &ahs[..]);
                        prop_assert_eq!(pdu.data, &data[..]);
                        buffer.drain(..consumed);
                        seen += 1;
                    }
                    Decoded::DataDigestMismatch { .. } => panic!("nothing was broken"),
                }
            }
            prop_assert!(buffer.is_empty() && fed == wire.len());
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = decoder(bytes.len() % 2 == 0, bytes.len() % 3 == 0).decode(&bytes);
        }
    }
}
