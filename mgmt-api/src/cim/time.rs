//! CIM date-times: `yyyymmddhhmmss.mmmmmmsutc` and intervals `ddddddddhhmmss.mmmmmm:000`
//! (DSP0004 §5.2.4).

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// The most days that an interval can say.
const MAX_DAYS: u64 = 99_999_999;

/// A moment in UTC.
pub(crate) fn datetime(time: Timestamp) -> String {
    let civil = Offset::UTC.to_datetime(time);
    let mut text = String::with_capacity(LENGTH);
    let small = [civil.month(), civil.day(), civil.hour(), civil.minute(), civil.second()];
    push_digits(&mut text, civil.year().max(0).unsigned_abs().into(), 4);
    for field in small {
        push_digits(&mut text, field.unsigned_abs().into(), 2);
    }
    text.push('.');
    push_digits(&mut text, u64::from(civil.subsec_nanosecond().unsigned_abs()) / 1000, 6);
    text.push_str("+000");
    text
}

/// Characters of both forms.
const LENGTH: usize = 25;

/// A number that has so many digits, without formatting: lists have thousands of times in them.
fn push_digits(text: &mut String, mut number: u64, digits: usize) {
    let mut written = [b'0'; 8];
    for place in written.iter_mut().take(digits).rev() {
        *place += u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
    text.extend(written.iter().take(digits).map(|digit| char::from(*digit)));
}

/// A length of time.
pub(crate) fn interval(length: Duration) -> String {
    let seconds = length.as_secs();
    let days = (seconds / 86_400).min(MAX_DAYS);
    let mut text = String::with_capacity(LENGTH);
    push_digits(&mut text, days, 8);
    for field in [seconds / 3600 % 24, seconds / 60 % 60, seconds % 60] {
        push_digits(&mut text, field, 2);
    }
    text.push('.');
    push_digits(&mut text, length.subsec_micros().into(), 6);
    text.push_str(":000");
    text
}

/// A moment; `None` for anything that is none, or that leaves digits open with `*`.
pub(crate) fn parse_datetime(text: &str) -> Option<Timestamp> {
    let (fields, offset) = text.split_at_checked(21)?;
    let sign = match offset.get(..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let minutes: i32 = digits(offset.get(1..)?, 3)?;
    let number =
        |from: usize, length: usize| digits::<i32>(fields.get(from..from + length)?, length);
    let small = |from: usize| i8::try_from(number(from, 2)?).ok();
    let micros = micros(fields)?;
    let civil = DateTime::new(
        i16::try_from(number(0, 4)?).ok()?,
        small(4)?,
        small(6)?,
        small(8)?,
        small(10)?,
        small(12)?,
        micros.checked_mul(1000)?,
    );
    let offset = Offset::from_seconds(sign * minutes * 60).ok()?;
    offset.to_timestamp(civil.ok()?).ok()
}

/// A length of time.
pub(crate) fn parse_interval(text: &str) -> Option<Duration> {
    let fields = text.strip_suffix(":000")?;
    if fields.len() != 21 {
        return None;
    }
    let number =
        |from: usize, length: usize| digits::<u64>(fields.get(from..from + length)?, length);
    let (hours, minutes, seconds) = (number(8, 2)?, number(10, 2)?, number(12, 2)?);
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let whole = number(0, 8)? * 86_400 + hours * 3600 + minutes * 60 + seconds;
    Some(Duration::new(whole, u32::try_from(micros(fields)?).ok()? * 1000))
}

/// The `.mmmmmm` of both forms.
fn micros(fields: &str) -> Option<i32> {
    digits(fields.get(14..)?.strip_prefix('.')?, 6)
}

fn digits<T: std::str::FromStr>(text: &str, length: usize) -> Option<T> {
    let plain = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_survive_and_offsets_are_minutes() {
        let time: Timestamp = "2026-02-03T04:05:06.789012Z".parse().unwrap();
        assert_eq!(datetime(time), "20260203040506.789012+000");
        assert_eq!(parse_datetime("20260203040506.789012+000"), Some(time));
        assert_eq!(parse_datetime("20260203050506.789012+060"), Some(time));
        assert_eq!(parse_datetime("20260202230506.789012-300"), Some(time));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for bad in [
            "",
            "20260203040506",
            "20260203040506.789012",
            "20260203040506.789012*000",
            "20260203040506.******+000",
            "20261303040506.789012+000",
            "20260230040506.789012+000",
            "00000001000000.000000:000",
            "2026020304050é.78901+000",
            "20260203040506.789012+00é",
        ] {
            assert_eq!(parse_datetime(bad), None, "{bad}");
        }
    }

    #[test]
    fn intervals_survive() {
        assert_eq!(interval(Duration::from_secs(300)), "00000000000500.000000:000");
        let odd = Duration::new(2 * 86_400 + 3 * 3600 + 4 * 60 + 5, 678_000);
        assert_eq!(interval(odd), "00000002030405.000678:000");
        assert_eq!(parse_interval("00000002030405.000678:000"), Some(odd));
        assert_eq!(interval(Duration::MAX).len(), 25);
        for bad in [
            "",
            "0000000203040x.000678:000",
            "00000002240405.000678:000",
            "00000002030405.000678+000",
            "00000002030405,000678:000",
        ] {
            assert_eq!(parse_interval(bad), None, "{bad}");
        }
    }
}
