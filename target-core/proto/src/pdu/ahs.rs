//! Additional Header Segments (RFC 7143 §11.2.2).

use nom::bytes::complete::take;
use nom::number::complete::{be_u8, be_u16};
use nom::{IResult, Parser};

/// What the additional header segments of a SCSI command say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ahs<'a> {
    /// CDB bytes from the 17th on.
    pub extended_cdb: Option<&'a [u8]>,
    /// Bytes a bidirectional command means to read.
    pub bidirectional_read_length: Option<u32>,
}

/// Why additional header segments cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AhsError {
    /// A length leads out of the segment.
    #[error("an additional header segment is cut short")]
    Truncated,
    /// A type that does not exist.
    #[error("additional header segment of unknown type {0}")]
    UnknownType(u8),
    /// A type that stands there twice.
    #[error("additional header segment of type {0} stands there twice")]
    Duplicate(u8),
    /// A length that its type does not have.
    #[error("additional header segment of type {0} with a wrong length")]
    Length(u8),
}

/// AHSType, then what AHSLength counts: the specific part without the byte before it.
fn segment(input: &[u8]) -> IResult<&[u8], (u8, &[u8])> {
    let (input, (length, kind)) = (be_u16, be_u8).parse(input)?;
    let (input, body) = take(usize::from(length))(input)?;
    let pad = (4 - (usize::from(length) + 3) % 4) % 4;
    let (input, _) = take(pad)(input)?;
    Ok((input, (kind, body)))
}

impl<'a> Ahs<'a> {
    /// Reads all segments.
    ///
    /// # Errors
    /// Any length, type or repetition the RFC does not have.
    pub fn parse(mut input: &'a [u8]) -> Result<Self, AhsError> {
        let mut ahs = Self::default();
        while !input.is_empty() {
            let (rest, (kind, body)) = segment(input).map_err(|_| AhsError::Truncated)?;
            input = rest;
            // The first byte of every body is reserved.
            let (_, body) = body.split_first().ok_or(AhsError::Length(kind))?;
            match kind {
                1 if ahs.extended_cdb.is_some() => return Err(AhsError::Duplicate(kind)),
                1 if body.is_empty() => return Err(AhsError::Length(kind)),
                1 => ahs.extended_cdb = Some(body),
                2 if ahs.bidirectional_read_length.is_some() => {
                    return Err(AhsError::Duplicate(kind));
                }
                2 => {
                    let length = body.try_into().map_err(|_| AhsError::Length(kind))?;
                    ahs.bidirectional_read_length = Some(u32::from_be_bytes(length));
                }
                other => return Err(AhsError::UnknownType(other)),
            }
        }
        Ok(ahs)
    }
}

#[cfg(test)]
mod tests {
    use super::{Ahs, AhsError};

    #[test]
    fn an_extended_cdb_and_a_read_length_are_found() {
        let mut bytes = vec![0, 17, 1, 0];
        bytes.extend(1..=16);
        bytes.extend([0, 5, 2, 0, 0, 0, 0x12, 0x34]);
        let ahs = Ahs::parse(&bytes).unwrap();
        assert_eq!(ahs.extended_cdb.unwrap(), (1..=16).collect::<Vec<u8>>());
        assert_eq!(ahs.bidirectional_read_length, Some(0x1234));
    }

    #[test]
    fn what_the_rfc_does_not_have_is_refused() {
        assert_eq!(Ahs::parse(&[0, 9, 1, 0]), Err(AhsError::Truncated));
        assert_eq!(Ahs::parse(&[0, 1]), Err(AhsError::Truncated));
        assert_eq!(Ahs::parse(&[0, 1, 9, 0]), Err(AhsError::UnknownType(9)));
        assert_eq!(Ahs::parse(&[0, 0, 1, 0]), Err(AhsError::Length(1)));
        assert_eq!(Ahs::parse(&[0, 1, 2, 0]), Err(AhsError::Length(2)));
        let twice = [0, 5, 2, 0, 0, 0, 0, 1, 0, 5, 2, 0, 0, 0, 0, 1];
        assert_eq!(Ahs::parse(&twice), Err(AhsError::Duplicate(2)));
        assert_eq!(Ahs::parse(&[]), Ok(Ahs::default()));
    }
}
