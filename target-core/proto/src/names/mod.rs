//! iSCSI names and target addresses (RFC 7143 §4.2.7, RFC 3722; §13.8).

mod pattern;

use std::fmt;
use std::net::SocketAddr;

use nom::branch::alt;
use nom::bytes::complete::{tag, tag_no_case, take_while_m_n, take_while1};
use nom::character::complete::{char, u16 as decimal_u16};
use nom::combinator::{all_consuming, opt, recognize, verify};
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

pub use self::pattern::{InitiatorPattern, PatternError};

/// Longest name in bytes (RFC 7143 §4.2.7.1).
pub const MAX_NAME_LENGTH: usize = 223;

/// A name of an initiator or target, in lower case, so that equal names are equal bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IscsiName(String);

/// Why a text is no iSCSI name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' is no iSCSI name: {reason}")]
pub struct NameError {
    /// What was given, cut to 64 characters.
    pub name: String,
    /// What is wrong.
    pub reason: &'static str,
}

impl IscsiName {
    /// Checks a name and folds it to lower case. Of the characters that RFC 3722 leaves, those
    /// of ASCII are taken.
    ///
    /// # Errors
    /// The form is none of `iqn.`, `eui.`, `naa.`, or the name is too long.
    pub fn new(name: &str) -> Result<Self, NameError> {
        let error = |reason| NameError { name: name.chars().take(64).collect(), reason };
        if name.len() > MAX_NAME_LENGTH {
            return Err(error("it is longer than 223 bytes"));
        }
        if let Some(bad) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || "-.:".contains(*c)))
        {
            let reason = if bad == '_' {
                "underscores are not allowed"
            } else {
                "only letters, digits, '-', '.' and ':' are allowed"
            };
            return Err(error(reason));
        }
        let folded = name.to_ascii_lowercase();
        let whole = all_consuming(alt((iqn, eui, naa))).parse(folded.as_str()).is_ok();
        match whole {
            true => Ok(Self(folded)),
            false => Err(error(
                "it must be iqn.YYYY-MM.REVERSED-DOMAIN[:TEXT], eui. with 16 or naa. with 16 or 32 hex digits",
            )),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IscsiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn digits<'a>(
    count: usize,
) -> impl Parser<&'a str, Output = &'a str, Error = nom::error::Error<&'a str>> {
    take_while_m_n(count, count, |c: char| c.is_ascii_digit())
}

/// `iqn.2001-04.com.example:storage.disk1`
fn iqn(input: &str) -> IResult<&str, &str> {
    let month = verify(digits(2), |m: &str| ("01"..="12").contains(&m));
    let authority = verify(
        take_while1(|c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.'),
        |name: &str| !name.starts_with('.') && !name.ends_with('.') && !name.contains(".."),
    );
    let suffix = preceded(char(':'), take_while_m_n(0, MAX_NAME_LENGTH, |_| true));
    recognize((tag("iqn."), digits(4), char('-'), month, char('.'), authority, opt(suffix)))
        .parse(input)
}

fn hex(input: &str, count: usize) -> IResult<&str, &str> {
    take_while_m_n(count, count, |c: char| c.is_ascii_hexdigit())(input)
}

fn eui(input: &str) -> IResult<&str, &str> {
    preceded(tag("eui."), |rest| hex(rest, 16)).parse(input)
}

fn naa(input: &str) -> IResult<&str, &str> {
    preceded(tag("naa."), alt((|rest| hex(rest, 32), |rest| hex(rest, 16)))).parse(input)
}

/// The value of TargetAddress: where a target's portal is (RFC 7143 §13.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetAddress {
    /// A host name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// TCP port, 3260 if none is named.
    pub port: u16,
    /// Portal group tag; redirections have none.
    pub target_portal_group_tag: Option<u16>,
}

impl TargetAddress {
    /// Of a portal in a portal group.
    #[must_use]
    pub fn of_portal(address: SocketAddr, target_portal_group_tag: u16) -> Self {
        Self {
            host: address.ip().to_canonical().to_string(),
            port: address.port(),
            target_portal_group_tag: Some(target_portal_group_tag),
        }
    }

    /// Reads the value of a TargetAddress key.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        all_consuming(target_address).parse(value).ok().map(|(_, address)| address)
    }
}

fn target_address(input: &str) -> IResult<&str, TargetAddress> {
    let v6 = delimited(
        char('['),
        take_while1(|c: char| c.is_ascii_hexdigit() || c == ':' || c == '.'),
        char(']'),
    );
    let plain = take_while1(|c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-');
    let (input, host) = alt((v6, plain)).parse(input)?;
    let (input, port) = opt(preceded(char(':'), decimal_u16)).parse(input)?;
    let (input, tag) = opt(preceded(tag_no_case(","), decimal_u16)).parse(input)?;
    Ok((
        input,
        TargetAddress {
            host: host.to_owned(),
            port: port.unwrap_or(3260),
            target_portal_group_tag: tag,
        },
    ))
}

impl fmt::Display for TargetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "{}:{}", self.host, self.port)?;
        }
        self.target_portal_group_tag.map_or(Ok(()), |tag| write!(f, ",{tag}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_three_forms_are_taken_in_lower_case() {
        for name in [
            "iqn.2001-04.com.example:storage:diskarrays-sn-a8675309",
            "iqn.2001-04.com.example",
            "iqn.1991-05.com.microsoft:host.contoso.com",
            "eui.02004567a425678d",
            "naa.52004567ba64678d",
            "naa.62004567ba64678d0123456789abcdef",
        ] {
            assert_eq!(IscsiName::new(name).unwrap().as_str(), name);
        }
        let mixed = IscsiName::new("IQN.2001-04.com.Example:Disk").unwrap();
        assert_eq!(mixed.as_str(), "iqn.2001-04.com.example:disk");
    }

    #[test]
    fn other_texts_are_refused() {
        let long = format!("iqn.2001-04.com.example:{}", "x".repeat(200));
        for name in [
            "",
            "iqn.",
            "disk",
            "iqn.2001-13.com.example",
            "iqn.2001-4.com.example",
            "iqn.2001-04.",
            "iqn.2001-04..com",
            "iqn.2001-04.com.example:a_b",
            "iqn.2001-04.com.example:a b",
            "eui.123",
            "naa.62004567ba64678d01",
            "iqn.2001-04.com.example:\u{e9}",
            &long,
        ] {
            assert!(IscsiName::new(name).is_err(), "{name} was taken");
        }
    }

    #[test]
    fn addresses_survive_their_text() {
        for (text, host, port, tag) in [
            ("10.0.0.1:3260,1", "10.0.0.1", 3260, Some(1)),
            ("[fe80::1]:860,7", "fe80::1", 860, Some(7)),
            ("storage.example.com:5003", "storage.example.com", 5003, None),
        ] {
            let address = TargetAddress::parse(text).unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port));
            assert_eq!(address.target_portal_group_tag, tag);
            assert_eq!(address.to_string(), text);
        }
        assert_eq!(TargetAddress::parse("10.0.0.1").unwrap().port, 3260);
        for bad in ["", ":1", "[::1", "host:99999", "host:1,", "a b:1"] {
            assert_eq!(TargetAddress::parse(bad), None, "{bad} was taken");
        }
        let mapped = "[::ffff:127.0.0.1]:3260".parse().unwrap();
        assert_eq!(TargetAddress::of_portal(mapped, 1).to_string(), "127.0.0.1:3260,1");
    }
}
