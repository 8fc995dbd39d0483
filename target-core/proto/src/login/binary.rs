//! Binary-values (RFC 7143 §6.1) as CHAP_C and CHAP_R have them.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Longest CHAP_C and CHAP_R in bytes (RFC 7143 §12.1.3).
const MAX_LENGTH: usize = 1024;

/// A binary-value in hexadecimal.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads a binary-value of 1 to 1024 bytes in hexadecimal or base64.
#[must_use]
pub fn from_text(value: &str) -> Option<Vec<u8>> {
    let bytes = match value.get(..2)? {
        "0x" | "0X" => from_hex(value.get(2..)?.as_bytes())?,
        "0b" | "0B" => STANDARD.decode(value.get(2..)?).ok()?,
        _ => return None,
    };
    (1..=MAX_LENGTH).contains(&bytes.len()).then_some(bytes)
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|n| u8::try_from(n).ok());
    // An odd number of digits: the first byte has one.
    let (head, pairs) = digits.split_at_checked(digits.len() % 2)?;
    let mut bytes = Vec::with_capacity(digits.len() / 2 + 1);
    if let [only] = head {
        bytes.push(digit(*only)?);
    }
    for pair in pairs.chunks_exact(2) {
        let [high, low] = pair else { return None };
        bytes.push(digit(*high)? << 4 | digit(*low)?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn binary_values_are_read_in_both_forms() {
        assert_eq!(from_text("0x0102ff").unwrap(), [1, 2, 255]);
        assert_eq!(from_text("0XfFA").unwrap(), [0x0f, 0xfa]);
        assert_eq!(from_text("0bAQL/").unwrap(), [1, 2, 255]);
        assert_eq!(from_text("0BAQI=").unwrap(), [1, 2]);
    }

    #[test]
    fn what_is_no_binary_value_is_refused() {
        for bad in [
            "",
            "0",
            "102",
            "x12",
            "0x",
            "0b",
            "0xzz",
            "0x1 ",
            "0x-1",
            "0x12,13",
            "0b!",
            "0bAQI",   // no padding
            "0bAQI=x", // something behind it
            "0bAQJ=",  // bits that belong to no byte
            "0bAQ I=",
            "\u{e9}\u{e9}",
            "0x\u{e9}",
        ] {
            assert_eq!(from_text(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_value_has_1024_bytes_at_most() {
        assert!(from_text(&to_hex(&[1; 1024])).is_some());
        assert!(from_text(&to_hex(&[1; 1025])).is_none());
        assert!(from_text(&format!("0b{}", STANDARD.encode([1; 1024]))).is_some());
        assert!(from_text(&format!("0b{}", STANDARD.encode([1; 1025]))).is_none());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes in prop::collection::vec(any::<u8>(), 1..200)) {
            let base64 = format!("0b{}", STANDARD.encode(&bytes));
            prop_assert_eq!(from_text(&base64), Some(bytes.clone()));
            prop_assert_eq!(from_text(&to_hex(&bytes)), Some(bytes));
        }
    }
}
