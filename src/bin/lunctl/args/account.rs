//! Users, tokens and CHAP accounts.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use job_engine::Role;

use super::Filter;

#[derive(Debug, Subcommand)]
pub(crate) enum Chap {
    /// List all, without their secrets
    List,
    /// Show one, without its secret
    Show {
        /// Its user name
        user: String,
    },
    /// Make an account, or give one another form; logins go by it from then on
    Set {
        /// What initiators send as their name (CHAP_N)
        user: String,
        /// File with the secret in its first line, 12 to 255 bytes; `-`: standard input
        /// [default: an account that is there keeps its own]
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
        /// A target it is good for (repeatable) [default: all]
        #[arg(long = "target", value_name = "TARGET")]
        targets: Vec<String>,
        /// An initiator it is good for, a name or a pattern with `*` (repeatable) [default: all]
        #[arg(long = "initiator", value_name = "INITIATOR")]
        initiators: Vec<String>,
        /// Targets that no other account protects may be open to everybody from then on
        #[arg(long)]
        open: bool,
    },
    /// Take an account away
    Delete {
        /// The account's user
        user: String,
        /// Targets that no other account protects may be open to everybody from then on
        #[arg(long)]
        open: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Make a user; the first administrator ends the time in which nobody is asked who they are
    Add {
        /// Its name: letters, digits and `._-@`
        name: String,
        /// viewer, operator or administrator
        #[arg(long)]
        role: Role,
        #[command(flatten)]
        password: NewPassword,
    },
    /// List all users
    List(Filter),
    /// Show one
    Show {
        /// The name
        name: String,
    },
    /// Remove a user
    Remove {
        /// Its name
        name: String,
    },
    /// Give a user, or oneself, another password
    Passwd {
        /// Its name [default: oneself, who must know the password until now]
        name: Option<String>,
        /// The password until now, in the first line of a file, or `-` for standard input
        #[arg(long, value_name = "FILE", conflicts_with = "name")]
        current_password_file: Option<PathBuf>,
        #[command(flatten)]
        password: NewPassword,
    },
    /// Let a user do more or less
    Role {
        /// Its name
        name: String,
        /// viewer, operator or administrator
        role: Role,
    },
}

/// Where a new password comes from: never from the command line, which others can see.
#[derive(Debug, Args)]
pub(crate) struct NewPassword {
    /// A file whose first line is the new password, `-` for standard input [default: ask on the
    /// terminal]
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token and print its secret, once
    Create {
        /// Its name: letters, digits and `._-@`
        name: String,
        /// viewer, operator or administrator
        #[arg(long)]
        role: Role,
        /// For so long, as in 12h or 90d, or `never`
        #[arg(long, default_value = "90d", value_parser = life)]
        expires: Life,
    },
    /// List all tokens
    List(Filter),
    /// Show one, without what has to be shown
    Show {
        /// The name
        name: String,
    },
    /// Remove a token
    Revoke {
        /// Its name
        name: String,
    },
}

/// How long a token lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Seconds(u32),
    Forever,
}

/// `30m`, `12h`, `90d`, `never`
fn life(text: &str) -> Result<Life, String> {
    if text == "never" {
        return Ok(Life::Forever);
    }
    let wanted = || "a number with m, h or d is wanted, as in 90d, or `never`".to_owned();
    let unit = match text.chars().last() {
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(wanted()),
    };
    let number: u32 =
        text.get(..text.len() - 1).unwrap_or_default().parse().map_err(|_| wanted())?;
    number.checked_mul(unit).filter(|it| *it > 0).map(Life::Seconds).ok_or_else(wanted)
}
