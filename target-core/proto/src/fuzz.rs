//! Entry points for fuzz targets and property tests: no input may panic.

use crate::codec::{Decoded, Decoder};
use crate::pdu::{Ahs, Request};
use crate::text;

/// Cuts `input` into PDUs under every combination of digests.
pub fn bhs(input: &[u8]) {
    for bits in 0..4u8 {
        let decoder = Decoder {
            header_digest: bits & 1 != 0,
            data_digest: bits & 2 != 0,
            max_recv_data_segment_length: 65536,
        };
        let mut rest = input;
        while let Ok(
            Decoded::Pdu { pdu, consumed } | Decoded::DataDigestMismatch { pdu, consumed },
        ) = decoder.decode(rest)
        {
            assert!(consumed >= 48 && consumed <= rest.len());
            if let Request::ScsiCommand(_) = pdu.request() {
                let _ = Ahs::parse(pdu.ahs);
            }
            rest = rest.get(consumed..).unwrap_or_default();
        }
    }
}

/// Reads `input` as text; what was read must read the same again.
pub fn text(input: &[u8]) {
    let Ok(pairs) = text::parse(input) else { return };
    let mut again = Vec::new();
    for (key, value) in &pairs {
        text::push(&mut again, key, value);
    }
    assert_eq!(text::parse(&again).as_ref(), Ok(&pairs));
}
