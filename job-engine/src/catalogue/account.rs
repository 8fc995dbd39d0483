//! Who may manage the daemon: users and tokens.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::name::InvalidName;

/// What somebody may do; each may do what those before it may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at everything but users, tokens and the audit log.
    Viewer,
    /// Change disks, targets, jobs and sessions.
    Operator,
    /// Everything.
    Administrator,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Administrator];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Administrator => "administrator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| {
            format!("`{text}` is no role: there are viewer, operator and administrator")
        })
    }
}

/// What a secret is recognized by: not the secret itself, and not for logs either.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretHash(pub String);

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

/// Somebody with a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Unique among users.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The password as a PHC string; nothing here reads it.
    pub password: SecretHash,
    /// When the user was made.
    pub created: Timestamp,
}

/// A secret that a program shows instead of a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Unique among tokens.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// What the secret is recognized by; nothing here reads it.
    pub secret: SecretHash,
    /// When it was made.
    pub created: Timestamp,
    /// From then on it allows nothing; `None` is never.
    pub expires: Option<Timestamp>,
}

impl Token {
    /// It allows nothing any more.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

/// Longest name of a user or token in bytes.
const MAX_NAME: usize = 64;

/// Checks the name of a user or token: letters, digits and `._-@`, as it can stand in a header, a
/// path and the subject of a certificate.
///
/// # Errors
/// Says which rule is broken.
pub fn check_account_name(name: &str) -> Result<(), InvalidName> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(InvalidName("it has 1 to 64 characters"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    if !name.bytes().all(plain) || !name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric) {
        return Err(InvalidName(
            "it has letters, digits and `._-@` only, and begins with a letter or digit",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_do_what_those_before_it_may() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Administrator);
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().is_err());
    }

    #[test]
    fn names_can_stand_in_headers_and_paths() {
        for good in ["a", "root", "backup-1", "j.doe@example.com"] {
            assert_eq!(check_account_name(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a:b", "a b", "a/b", "ä", "a\n", &"x".repeat(65)] {
            assert!(check_account_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_hash_does_not_get_into_logs() {
        assert!(!format!("{:?}", SecretHash("$argon2id$x".to_owned())).contains("argon"));
    }
}
