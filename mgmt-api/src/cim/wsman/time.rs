//! Durations and moments as XML Schema writes them, and as CIM does.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

use super::super::time;

/// An `xs:duration` that is not negative; days have 24 hours, months and years are not taken.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if !text.starts_with('P') || text.len() > 64 {
        return None;
    }
    let span: Span = text.parse().ok()?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(length).ok()
}

/// As an `xs:duration`.
pub(super) fn duration(length: Duration) -> String {
    SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX).to_string()
}

/// What of DSP0230's `cimDateTime` a CIM date-time is: the element and its text.
pub(super) fn from_cim(text: &str) -> (&'static str, String) {
    if let Some(length) = time::parse_interval(text) {
        return ("Interval", duration(length));
    }
    match time::parse_datetime(text) {
        Some(moment) => ("Datetime", moment.to_string()),
        None => ("CIM_DateTime", text.to_owned()),
    }
}

/// The other way; what is neither is left to those that check values.
pub(super) fn to_cim(text: &str) -> String {
    let text = text.trim();
    if let Some(length) = parse_duration(text) {
        return time::interval(length);
    }
    match text.parse::<Timestamp>() {
        Ok(moment) => time::datetime(moment),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_survive() {
        for (text, seconds) in [("PT20S", 20), ("PT1H2M", 3720), ("P2DT1S", 172_801), ("PT0S", 0)] {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)), "{text}");
            let again = duration(Duration::from_secs(seconds));
            assert_eq!(parse_duration(&again), Some(Duration::from_secs(seconds)), "{again}");
        }
        assert_eq!(parse_duration("PT0.5S"), Some(Duration::from_millis(500)));
        for bad in
            ["", "20", "20s", "-PT1S", "P1Y", "P1M", "PT", "P", "PTxS", "PT99999999999999999S"]
        {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn moments_and_intervals_of_cim_survive() {
        let moment = "20260203040506.789012+000";
        assert_eq!(from_cim(moment), ("Datetime", "2026-02-03T04:05:06.789012Z".to_owned()));
        assert_eq!(to_cim("2026-02-03T04:05:06.789012Z"), moment);
        let interval = "00000000000500.000000:000";
        assert_eq!(from_cim(interval).0, "Interval");
        assert_eq!(to_cim(&from_cim(interval).1), interval);
        assert_eq!(to_cim("nothing"), "nothing");
    }
}
