//! Which names are allowed.

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(pub &'static str);

/// Longest iSCSI name in bytes (RFC 7143 §4.2.7.2).
const MAX_ISCSI_NAME: usize = 223;

/// Longest name of a disk in characters.
const MAX_DISK_NAME: usize = 128;

/// Checks the name of a disk: 1 to 128 printable characters that do not begin or end with a space.
///
/// # Errors
/// Says which rule is broken.
pub fn check_disk_name(name: &str) -> Result<(), InvalidName> {
    if name.is_empty() {
        Err(InvalidName("it is empty"))
    } else if name.chars().count() > MAX_DISK_NAME {
        Err(InvalidName("it has more than 128 characters"))
    } else if name.trim() != name {
        Err(InvalidName("it begins or ends with white space"))
    } else if name.chars().any(|c| c.is_control() || c == '/' || c == '\u{fffd}') {
        Err(InvalidName("it contains a character that cannot be printed, or `/`"))
    } else {
        Ok(())
    }
}

/// Checks an iSCSI name in its normalized form: `iqn.yyyy-mm.<reversed domain>[:<text>]`,
/// `eui.<16 hex>`, `naa.<16 or 32 hex>` (RFC 7143 §4.2.7).
///
/// # Errors
/// Says which rule is broken.
pub fn check_iscsi_name(name: &str) -> Result<(), InvalidName> {
    if name.len() > MAX_ISCSI_NAME {
        return Err(InvalidName("it has more than 223 bytes"));
    }
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some(rest) = name.strip_prefix("iqn.") {
        check_iqn(rest)
    } else if let Some(rest) = name.strip_prefix("eui.") {
        let valid = rest.len() == 16 && hex(rest);
        valid.then_some(()).ok_or(InvalidName("`eui.` is followed by 16 hexadecimal digits"))
    } else if let Some(rest) = name.strip_prefix("naa.") {
        let valid = (rest.len() == 16 || rest.len() == 32) && hex(rest);
        valid.then_some(()).ok_or(InvalidName("`naa.` is followed by 16 or 32 hexadecimal digits"))
    } else {
        Err(InvalidName("it starts with none of `iqn.`, `eui.`, `naa.`"))
    }
}

/// Checks an initiator's iSCSI name in its normalized form, or a pattern in which `*` stands for
/// any text.
///
/// # Errors
/// Says which rule is broken.
pub fn check_initiator_pattern(text: &str) -> Result<(), InvalidName> {
    if !text.contains('*') {
        return check_iscsi_name(text);
    }
    if text.len() > MAX_ISCSI_NAME {
        return Err(InvalidName("it has more than 223 bytes"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-.:*".contains(c);
    let good = text.chars().all(plain);
    good.then_some(())
        .ok_or(InvalidName("a pattern has letters, digits, `-`, `.`, `:` and `*` only"))
}

/// `yyyy-mm.<reversed domain>[:<text>]`
fn check_iqn(rest: &str) -> Result<(), InvalidName> {
    const DATE: InvalidName = InvalidName("`iqn.` is followed by a date `yyyy-mm.`");
    let (date, rest) = rest.split_once('.').ok_or(DATE)?;
    let (year, month) = date.split_once('-').ok_or(DATE)?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let valid_month = month.len() == 2 && month.parse().is_ok_and(|m: u8| (1..=12).contains(&m));
    if year.len() != 4 || !digits(year) || !digits(month) || !valid_month {
        return Err(DATE);
    }
    let (domain, text) = rest.split_once(':').unwrap_or((rest, "-"));
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if !domain.split('.').all(label) {
        return Err(InvalidName("the date is followed by a reversed domain name in lower case"));
    }
    let plain = |c: char| match c {
        '-' | '.' | ':' => true,
        c if c.is_ascii() => c.is_ascii_lowercase() || c.is_ascii_digit(),
        c => c.is_alphanumeric() && !c.is_uppercase(),
    };
    if text.is_empty() || !text.chars().all(plain) {
        return Err(InvalidName(
            "after the `:` come lower-case letters, digits, `-`, `.` and `:` only",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_rfc_7143_are_accepted_and_near_misses_are_not() {
        for good in [
            "iqn.2001-04.com.example:storage.disk2.sys1.xyz",
            "iqn.2001-04.com.example",
            "iqn.2026-01.io.lund:demo",
            "eui.02004567a425678d",
            "naa.52004567ba64678d",
            "naa.62004567ba64678d0123456789abcdef",
        ] {
            assert_eq!(check_iscsi_name(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "demo",
            "iqn.",
            "iqn.2026",
            "iqn.26-01.io.lund:x",
            "iqn.2026-13.io.lund:x",
            "iqn.2026-1.io.lund:x",
            "iqn.2026-01.:x",
            "iqn.2026-01.io..lund:x",
            "iqn.2026-01.io.lund:",
            "iqn.2026-01.io.lund:X",
            "iqn.2026-01.io.lund:a b",
            "iqn.2026-01.io.lund:a_b",
            "iqn.2026-01.io.lund:a,t,0x1",
            "eui.123",
            "naa.62004567ba64678g",
        ] {
            assert!(check_iscsi_name(bad).is_err(), "{bad}");
        }
        assert!(check_iscsi_name(&format!("iqn.2026-01.io.lund:{}", "x".repeat(204))).is_err());
    }

    #[test]
    fn a_disk_may_be_called_anything_that_people_can_read_and_type() {
        for good in ["demo", "Mail store 2", "größe", "a.b-c_d"] {
            assert_eq!(check_disk_name(good), Ok(()), "{good}");
        }
        for bad in ["", " x", "x ", "a/b", "a\nb", "\0"] {
            assert!(check_disk_name(bad).is_err(), "{bad:?}");
        }
        assert!(check_disk_name(&"x".repeat(129)).is_err());
    }
}
