//! Names and patterns of initiators, in rules of who may do what.

use std::fmt;

use super::{IscsiName, MAX_NAME_LENGTH};

/// An initiator's iSCSI name, or a pattern in which `*` stands for any text, also for none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InitiatorPattern(String);

/// Why a text is no [`InitiatorPattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is neither an iSCSI name nor a pattern of its characters and '*'")]
pub struct PatternError(String);

impl InitiatorPattern {
    /// Checks a name or pattern and folds it to lower case, as names are.
    ///
    /// # Errors
    /// It has no `*` and is no name, or has characters that no name has, or more than 223 bytes.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-.:*".contains(c);
        let good = if text.contains('*') {
            text.len() <= MAX_NAME_LENGTH && text.chars().all(plain)
        } else {
            IscsiName::new(text).is_ok()
        };
        if good {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(PatternError(text.chars().take(64).collect()))
        }
    }

    /// Whether it has no `*`: one name is meant.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// Bytes that are not `*`.
    #[must_use]
    pub fn literal_length(&self) -> usize {
        self.0.bytes().filter(|byte| *byte != b'*').count()
    }

    /// Whether a name, in lower case, is meant. Takes at most the product of both lengths.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (Some((head, rest)), Some((_, tail))) =
            (self.0.split_once('*'), self.0.rsplit_once('*'))
        else {
            return self.0 == name;
        };
        let Some(inner) = name.strip_prefix(head).and_then(|name| name.strip_suffix(tail)) else {
            return false;
        };
        // Between the first `*` and the last one: each piece at its first place is as good as any.
        let middle = rest.strip_suffix(tail).unwrap_or_default();
        let mut left = inner;
        middle.split('*').all(|piece| match left.split_once(piece) {
            Some((_, behind)) => {
                left = behind;
                true
            }
            None => false,
        })
    }
}

impl fmt::Display for InitiatorPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_patterns_are_told_from_what_is_neither() {
        for good in [
            "iqn.2026-01.org.example:host",
            "eui.02004567A425678D",
            "*",
            "iqn.2026-01.*",
            "*:web-*",
            "**",
        ] {
            assert_eq!(InitiatorPattern::new(good).unwrap().0, good.to_lowercase());
        }
        let long = format!("{}*", "x".repeat(223));
        for bad in ["", "host", "iqn.*_", "iqn.2026-01.org.example:a b", "?*", long.as_str()] {
            assert!(InitiatorPattern::new(bad).is_err(), "{bad}");
        }
    }

    /// The definition, taken literally.
    fn matches_slowly(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|skip| matches_slowly(rest, &name[skip..])),
            Some((byte, rest)) => name.first() == Some(byte) && matches_slowly(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn patterns_mean_what_their_definition_says(
            pattern in "[ab*]{0,8}", name in "[ab]{0,10}",
        ) {
            let slowly = matches_slowly(pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(InitiatorPattern(pattern).matches(&name), slowly);
        }
    }
}
