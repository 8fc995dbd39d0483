//! TLS to the daemon.

use std::sync::Arc;

use mgmt_api::tls_client;
use rustls::ClientConfig;

use crate::args::Trust;
use crate::exit::{Failure, Result};

/// What the options say about certificates.
pub(crate) fn config(trust: &Trust) -> Result<Arc<ClientConfig>> {
    let trust = tls_client::Trust {
        pins: trust.pin.into_iter().collect(),
        ca: trust.ca.clone(),
        own: trust.client_certificate.clone().zip(trust.client_key.clone()),
    };
    trust.config().map_err(|error| Failure::Usage(error.to_string()))
}
