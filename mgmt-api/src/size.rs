//! Sizes as people write them.

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no size: write bytes, or a number with KiB, MiB, GiB or TiB, as in 10GiB")]
pub struct InvalidSize(String);

/// Suffixes in upper case. All of them are powers of two: storage people mean no others here.
const UNITS: &[(&str, u32)] = &[
    ("KIB", 10),
    ("MIB", 20),
    ("GIB", 30),
    ("TIB", 40),
    ("PIB", 50),
    ("K", 10),
    ("M", 20),
    ("G", 30),
    ("T", 40),
    ("P", 50),
    ("B", 0),
];

/// Reads `1073741824`, `1GiB`, `1G`, `0.5 TiB`.
///
/// # Errors
/// The text is no size, or no whole number of bytes, or more than 2^64 of them.
pub fn parse(text: &str) -> Result<u64, InvalidSize> {
    let invalid = || InvalidSize(text.to_owned());
    let upper = text.trim().to_ascii_uppercase();
    let unit = UNITS.iter().find_map(|(suffix, shift)| Some((upper.strip_suffix(suffix)?, *shift)));
    let (number, shift) = unit.unwrap_or((&upper, 0));
    let number = number.trim_end();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 12 {
        return Err(invalid());
    }
    // In 10^-n units, so that 0.1 GiB is refused and 0.5 GiB is exact.
    let scale = 10u128.pow(u32::try_from(fraction.len()).map_err(|_| invalid())?);
    let value: u128 = format!("{whole}{fraction}").parse().map_err(|_| invalid())?;
    let bytes = value.checked_shl(shift).filter(|bytes| bytes >> shift == value);
    let bytes = bytes.ok_or_else(invalid)?;
    if bytes % scale != 0 {
        return Err(invalid());
    }
    u64::try_from(bytes / scale).map_err(|_| invalid())
}

/// `1 GiB`, `1.5 GiB`, `513 B`: exact where three digits suffice, else rounded down.
#[must_use]
pub fn format(bytes: u64) -> String {
    let units = [("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in units {
        let whole = bytes >> shift;
        if whole > 0 {
            let tenths = ((u128::from(bytes) * 10) >> shift) % 10;
            return if tenths == 0 {
                std::format!("{whole} {unit}")
            } else {
                std::format!("{whole}.{tenths} {unit}")
            };
        }
    }
    std::format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::{format, parse};

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1073741824", 1 << 30),
            ("1GiB", 1 << 30),
            ("1g", 1 << 30),
            ("10 MiB", 10 << 20),
            ("0.5TiB", 1 << 39),
            ("512B", 512),
            ("64T", 64 << 40),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "GiB", "-1", "1.2.3G", "0.1GiB", "1 gallon", "99999999999T", "1e9", "0x10"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_written_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (513, "513 B"),
            (1 << 30, "1 GiB"),
            (3 << 29, "1.5 GiB"),
            (u64::MAX, "16383.9 PiB"),
        ] {
            assert_eq!(format(bytes), text);
        }
    }
}
