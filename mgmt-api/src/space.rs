//! Parts of a pool and over-commitment, as people write them.

use job_engine::{Overcommit, Threshold};

use crate::size;

/// Reads `10%` (1 to 99) and sizes such as `10GiB`.
///
/// # Errors
/// Says what the text is not.
pub fn threshold(text: &str) -> Result<Threshold, String> {
    let Some(percent) = text.trim().strip_suffix('%') else {
        let bytes = size::parse(text)
            .map_err(|error| format!("is neither a size nor like 10%: {error}"))?;
        return Ok(Threshold::Bytes(bytes));
    };
    match percent.trim().parse() {
        Ok(percent @ 1..=99) => Ok(Threshold::Percent(percent)),
        _ => Err(format!("is `{text}`; it must lie between 1% and 99%")),
    }
}

/// Reads `none`, `unlimited` and `200%`.
///
/// # Errors
/// Says what the text is not.
pub fn overcommit(text: &str) -> Result<Overcommit, String> {
    let percent = || text.trim().strip_suffix('%')?.trim().parse().ok().filter(|it| *it > 0);
    match (text, percent()) {
        ("none", _) => Ok(Overcommit::None),
        ("unlimited", _) => Ok(Overcommit::Unlimited),
        (_, Some(percent)) => Ok(Overcommit::Percent(percent)),
        (_, None) => Err(format!("is `{text}`, and none of `none`, `unlimited` or like 200%")),
    }
}

/// As [`overcommit`] reads it.
#[must_use]
pub fn show(overcommit: Overcommit) -> String {
    match overcommit {
        Overcommit::None => "none".to_owned(),
        Overcommit::Percent(percent) => format!("{percent}%"),
        Overcommit::Unlimited => "unlimited".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_as_what_it_was() {
        for text in ["none", "unlimited", "200%", "1%"] {
            assert_eq!(show(overcommit(text).unwrap()), text);
        }
        for text in ["", "0%", "-1%", "many", "5"] {
            assert!(overcommit(text).is_err(), "{text}");
        }
        for text in ["10%", "1", "99%"] {
            assert_eq!(threshold(text).unwrap().to_string(), text);
        }
        assert_eq!(threshold("10GiB"), Ok(Threshold::Bytes(10 << 30)));
        for text in ["", "0%", "100%", "x%", "much"] {
            assert!(threshold(text).is_err(), "{text}");
        }
    }
}
