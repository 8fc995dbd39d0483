//! Users, tokens, and what they did.

use std::fmt;

use jiff::Timestamp;
use job_engine::Role;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// A password or token on its way. It is wiped when it goes, and does not get into logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct User {
    /// Its name.
    pub name: String,
    /// What the user may do: `viewer`, `operator`, `administrator`.
    pub role: Role,
    /// When the user was made.
    pub created: Timestamp,
}

/// A request for a new user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// Its name: 1 to 64 letters, digits and `._-@`.
    pub name: String,
    /// What the user may do.
    pub role: Role,
    /// At least 10 characters.
    pub password: Secret,
}

/// A request to change a user; what is not given stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    /// What the user may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Another password; sessions that began with the old one end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Token {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// When it was made.
    pub created: Timestamp,
    /// From then on it allows nothing; null is never.
    pub expires: Option<Timestamp>,
    /// It allows nothing any more.
    pub expired: bool,
}

/// A request for a new token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// Its name: 1 to 64 letters, digits and `._-@`.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// From then on it allows nothing; null is never. It must be given: nothing is valid for ever
    /// by omission.
    #[serde(deserialize_with = "Option::deserialize")]
    pub expires: Option<Timestamp>,
}

/// A token that has just been made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewToken {
    /// What is known of it from now on.
    #[serde(flatten)]
    pub token: Token,
    /// What shows it (`Authorization: Bearer …`); it is not told again.
    pub secret: Secret,
}

/// A request for a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The user.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignedIn {
    /// The user or token; null while nobody is asked for a password.
    pub user: Option<String>,
    /// What they may do.
    pub role: Role,
    /// How they have shown who they are: `open`, `socket`, `password`, `session`, `token`,
    /// `certificate`.
    pub via: String,
}

/// A request for another password of one's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The password until now.
    pub current: Secret,
    /// At least 10 characters.
    pub new: Secret,
}

/// Something that somebody did, or was not let do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditRecord {
    /// When it was answered.
    pub time: Timestamp,
    /// The user or token; null if that is not known.
    pub user: Option<String>,
    /// What they may do; null if that is not known.
    pub role: Option<Role>,
    /// How they have shown who they are, as in a session; `none` if they have not.
    pub via: String,
    /// Where they came from.
    pub address: String,
    /// The HTTP method or CIM operation.
    pub method: String,
    /// The path, or the CIM object.
    pub object: String,
    /// The HTTP status, or the status or return value of the CIM operation.
    pub outcome: String,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
