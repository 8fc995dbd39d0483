//! Text: `key=value` pairs, each behind the other with a NUL (RFC 7143 §6.1).

use nom::bytes::complete::{tag, take_till, take_while_m_n};
use nom::{IResult, Parser};

/// Longest key (RFC 7143 §6.1: a standard-label).
pub const MAX_KEY_LENGTH: usize = 63;
/// Longest value that is taken. Most are far below; binary values may have 1024 bytes, which
/// are 2050 characters in hexadecimal.
pub const MAX_VALUE_LENGTH: usize = 8192;
/// Most pairs that are taken at once.
pub const MAX_PAIRS: usize = 128;

/// Why text cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// No `key=`, or a key of characters no key has.
    #[error("no key=value pair at byte {0}")]
    NoPair(usize),
    /// A value that is too long.
    #[error("the value at byte {0} is longer than {MAX_VALUE_LENGTH} bytes")]
    ValueTooLong(usize),
    /// A value that is not UTF-8.
    #[error("the value at byte {0} is not UTF-8")]
    NotUtf8(usize),
    /// More pairs than anybody needs.
    #[error("more than {MAX_PAIRS} pairs")]
    TooManyPairs,
    /// More text than is kept.
    #[error("more than {0} bytes of text")]
    TooMuch(usize),
}

/// One pair.
pub type Pair<'a> = (&'a str, &'a str);

fn is_key_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-+@_/".contains(&byte)
}

/// `key=value`, then a NUL or the end.
fn pair(input: &[u8]) -> IResult<&[u8], (&[u8], &[u8])> {
    let (input, key) = take_while_m_n(1, MAX_KEY_LENGTH, is_key_character)(input)?;
    let (input, _) = tag("=").parse(input)?;
    let (input, value) = take_till(|byte| byte == 0)(input)?;
    Ok((input.strip_prefix(&[0]).unwrap_or(input), (key, value)))
}

/// Reads all pairs. NULs between them, as some initiators send for padding, are passed over.
///
/// # Errors
/// The first thing that no text has, with its place.
pub fn parse(text: &[u8]) -> Result<Vec<Pair<'_>>, TextError> {
    let mut pairs = Vec::new();
    let mut input = text;
    loop {
        while let Some(rest) = input.strip_prefix(&[0]) {
            input = rest;
        }
        if input.is_empty() {
            return Ok(pairs);
        }
        let at = text.len() - input.len();
        if pairs.len() == MAX_PAIRS {
            return Err(TextError::TooManyPairs);
        }
        let (rest, (key, value)) = pair(input).map_err(|_| TextError::NoPair(at))?;
        if value.len() > MAX_VALUE_LENGTH {
            return Err(TextError::ValueTooLong(at));
        }
        let key = std::str::from_utf8(key).map_err(|_| TextError::NotUtf8(at))?;
        let value = std::str::from_utf8(value).map_err(|_| TextError::NotUtf8(at))?;
        pairs.push((key, value));
        input = rest;
    }
}

/// Appends a pair.
pub fn push(out: &mut Vec<u8>, key: &str, value: &str) {
    out.reserve(key.len() + value.len() + 2);
    out.extend_from_slice(key.as_bytes());
    out.push(b'=');
    out.extend_from_slice(value.as_bytes());
    out.push(0);
}

/// Text that comes in several PDUs with the C bit (RFC 7143 §6.2).
#[derive(Debug)]
pub struct TextAccumulator {
    text: Vec<u8>,
    limit: usize,
}

impl TextAccumulator {
    /// Keeps at most `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { text: Vec::new(), limit }
    }

    /// Takes the next part.
    ///
    /// # Errors
    /// [`TextError::TooMuch`].
    pub fn push(&mut self, part: &[u8]) -> Result<(), TextError> {
        if self.text.len() + part.len() > self.limit {
            return Err(TextError::TooMuch(self.limit));
        }
        self.text.extend_from_slice(part);
        Ok(())
    }

    /// All text that came; the next text starts from nothing.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.text)
    }

    /// Whether nothing is kept.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pairs_are_read_as_initiators_send_them() {
        let text = b"InitiatorName=iqn.x\0SessionType=Normal\0X-a=b=c\0Empty=\0\0\0";
        assert_eq!(
            parse(text).unwrap(),
            [("InitiatorName", "iqn.x"), ("SessionType", "Normal"), ("X-a", "b=c"), ("Empty", "")]
        );
        // The last NUL may be missing.
        assert_eq!(parse(b"a=b").unwrap(), [("a", "b")]);
        assert_eq!(parse(b"").unwrap(), []);
    }

    #[test]
    fn what_is_no_pair_is_refused_with_its_place() {
        assert_eq!(parse(b"a=b\0novalue\0"), Err(TextError::NoPair(4)));
        assert_eq!(parse(b"=x\0"), Err(TextError::NoPair(0)));
        assert_eq!(parse(b"sp ace=x\0"), Err(TextError::NoPair(0)));
        assert_eq!(parse(&[b"k".repeat(64), b"=v".to_vec()].concat()), Err(TextError::NoPair(0)));
        assert_eq!(parse(b"a=\xff\0"), Err(TextError::NotUtf8(0)));
        let long = [b"a=".to_vec(), vec![b'x'; MAX_VALUE_LENGTH + 1]].concat();
        assert_eq!(parse(&long), Err(TextError::ValueTooLong(0)));
        assert_eq!(parse(&b"a=b\0".repeat(MAX_PAIRS + 1)), Err(TextError::TooManyPairs));
    }

    #[test]
    fn more_text_than_the_limit_is_refused() {
        let mut text = TextAccumulator::new(10);
        text.push(b"123456").unwrap();
        assert_eq!(text.push(b"78901"), Err(TextError::TooMuch(10)));
        text.push(b"7890").unwrap();
        assert_eq!(text.take(), b"1234567890");
        assert!(text.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            pairs in prop::collection::vec(("[A-Za-z][A-Za-z0-9.+@_-]{0,62}", "[^\u{0}]{0,100}"), 0..20)
        ) {
            let mut text = Vec::new();
            for (key, value) in &pairs {
                push(&mut text, key, value);
            }
            let read = parse(&text).unwrap();
            prop_assert_eq!(read.len(), pairs.len());
            for (read, written) in read.iter().zip(&pairs) {
                prop_assert_eq!(read, &(written.0.as_str(), written.1.as_str()));
            }
        }

        #[test]
        fn random_text_never_panics(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&text);
        }
    }
}
