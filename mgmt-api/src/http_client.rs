//! HTTP as a client: of the daemon to the listeners of indications and to the collector of traces.

use std::sync::Arc;

use rustls::ClientConfig;
use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector as _, TcpConnector};

use crate::tls_client::{TlsConnector, Trust};

/// Whether a URL is for TLS.
pub(crate) fn is_secure(url: &str) -> bool {
    url.get(..6).is_some_and(|head| head.eq_ignore_ascii_case("https:"))
}

/// What calls a URL. `tls` says whom to believe where that is https.
///
/// # Errors
/// The system's authorities cannot be read.
pub(crate) fn agent(
    url: &str,
    tls: Option<Arc<ClientConfig>>,
    config: ConfigBuilder<AgentScope>,
) -> Result<ureq::Agent, String> {
    if !is_secure(url) {
        return Ok(config.build().into());
    }
    let tls = match tls {
        Some(tls) => tls,
        // Who is trusted by the whole system.
        None => Trust::default().config().map_err(|error| error.to_string())?,
    };
    let connector = ().chain(TcpConnector::default()).chain(TlsConnector(tls));
    let config = config.proxy(None).https_only(true).build();
    Ok(ureq::Agent::with_parts(config, connector, DefaultResolver::default()))
}
