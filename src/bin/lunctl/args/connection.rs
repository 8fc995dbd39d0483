//! How to reach a daemon: who asks, and whom to trust.

use std::path::PathBuf;

use clap::Args;
use mgmt_api::tls_client::Fingerprint;

/// Who asks. Over the socket, the daemon knows that anyway.
#[derive(Debug, Args)]
pub(crate) struct Credentials {
    /// A file that holds a token
    #[arg(long, global = true, env = "LUND_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Sign in as this user, with a password from the terminal or --login-password-file
    #[arg(long, global = true, value_name = "USER", conflicts_with = "token_file")]
    pub(crate) login: Option<String>,
    /// A file that holds the password of --login
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) login_password_file: Option<PathBuf>,
}

/// How the daemon shows who it is, over https.
#[derive(Debug, Args)]
pub(crate) struct Trust {
    /// A file with the certificates that are trusted: the daemon's own, or its authority's
    /// [default: those of the system]
    #[arg(long, global = true, env = "LUND_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The SHA-256 fingerprint of the daemon's certificate; nothing else is looked at
    #[arg(long, global = true, env = "LUND_PIN", value_name = "SHA256", conflicts_with = "ca")]
    pub(crate) pin: Option<Fingerprint>,
    /// A certificate to sign in with
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) client_certificate: Option<PathBuf>,
    /// Its key
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) client_key: Option<PathBuf>,
}
