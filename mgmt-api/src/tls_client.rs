//! TLS as a client: of `lunctl` to the daemon, of the daemon to the listeners of indications and to
//! the collector of traces. The other side's certificate is checked against authorities, or pinned.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme, StreamOwned,
};
use sha2::{Digest as _, Sha256};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

use crate::tls::TlsError;

/// SHA-256 of a certificate, as `openssl x509 -fingerprint -sha256` has it; colons may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted =
            || "64 hexadecimal digits are wanted, colons may stand between them".to_owned();
        let digits: String = text.chars().filter(|it| *it != ':').collect();
        if digits.len() != 64 || !digits.bytes().all(|it| it.is_ascii_hexdigit()) {
            return Err(wanted());
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let pair = digits.get(2 * at..2 * at + 2).ok_or_else(wanted)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wanted())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if at == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// Whom to believe, and what to show.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Certificates that are good, whoever has signed them and whatever names they have.
    pub pins: Vec<Fingerprint>,
    /// PEM: authorities. Those of the system if there are neither these nor pins.
    pub ca: Option<PathBuf>,
    /// PEM: a certificate to show, and its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

impl Trust {
    /// Reads the files.
    ///
    /// # Errors
    /// Names the file.
    pub fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authorities = match (&self.ca, self.pins.is_empty()) {
            (None, false) => None,
            (ca, _) => authorities(ca.as_deref(), &provider)?,
        };
        let verifier =
            Verifier { pins: self.pins.clone(), authorities, provider: provider.clone() };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| bad(Path::new("TLS"), &error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let Some((certificate, key)) = &self.own else {
            return Ok(Arc::new(builder.with_no_client_auth()));
        };
        let chain = certificates(certificate)?;
        let key_of = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, &error))?;
        let config = builder.with_client_auth_cert(chain, key_of);
        Ok(Arc::new(config.map_err(|error| bad(key, &error))?))
    }
}

fn bad(path: &Path, error: &impl fmt::Display) -> TlsError {
    TlsError::Content { path: path.to_path_buf(), reason: error.to_string() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match all {
        Ok(all) if all.is_empty() => Err(bad(path, &"there is no certificate in it")),
        Ok(all) => Ok(all),
        Err(error) => Err(bad(path, &error)),
    }
}

/// What checks chains; none if the system knows no authority.
fn authorities(
    ca: Option<&Path>,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<WebPkiServerVerifier>>, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| bad(path, &error))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Ok(None);
    }
    let builder =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let named = ca.unwrap_or_else(|| Path::new("the system's authorities"));
    builder.map(Some).map_err(|error| bad(named, &error))
}

/// Why a certificate is not trusted.
#[derive(Debug, thiserror::Error)]
#[error("the certificate with SHA-256 {fingerprint} is not trusted: {reason}")]
pub struct Untrusted {
    /// Which certificate was shown.
    pub fingerprint: Fingerprint,
    /// What is wrong with it.
    pub reason: String,
}

/// Pins before authorities.
#[derive(Debug)]
struct Verifier {
    pins: Vec<Fingerprint>,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let fingerprint = Fingerprint(Sha256::digest(end_entity).into());
        if self.pins.contains(&fingerprint) {
            return Ok(ServerCertVerified::assertion());
        }
        let reason = match &self.authorities {
            Some(authorities) => {
                let checked =
                    authorities.verify_server_cert(end_entity, intermediates, name, ocsp, now);
                match checked {
                    Ok(good) => return Ok(good),
                    Err(error) => error.to_string(),
                }
            }
            None if self.pins.is_empty() => "this system knows no authorities".to_owned(),
            None => "another one is pinned".to_owned(),
        };
        let untrusted = Untrusted { fingerprint, reason };
        Err(rustls::Error::Other(OtherError(Arc::new(untrusted))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Puts TLS around connections.
#[derive(Debug)]
pub struct TlsConnector(pub Arc<ClientConfig>);

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Encrypted;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Encrypted>, Error> {
        let Some(transport) = chained else { return Ok(None) };
        let host = details.uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|_| Error::Tls("the host's name"))?;
        let mut connection = ClientConnection::new(self.0.clone(), name).map_err(tls)?;
        let boxed: Box<dyn Transport> = Box::new(transport);
        let mut socket = TransportAdapter::new(boxed, details.current_time.clone());
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket)?;
        let (input, output) =
            (details.config.input_buffer_size(), details.config.output_buffer_size());
        let buffers = LazyBuffers::new(input, output);
        Ok(Some(Encrypted { stream: StreamOwned::new(connection, socket), buffers }))
    }
}

fn tls(error: rustls::Error) -> Error {
    Error::Other(Box::new(error))
}

/// A connection over TLS.
pub struct Encrypted {
    stream: StreamOwned<ClientConnection, TransportAdapter>,
    buffers: LazyBuffers,
}

impl fmt::Debug for Encrypted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encrypted")
    }
}

impl Transport for Encrypted {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output)?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_written_as_it_is_read() {
        let text = "AB:".repeat(31) + "CD";
        let read: Fingerprint = text.parse().unwrap();
        assert_eq!(read.to_string(), text);
        assert_eq!(text.replace(':', "").to_lowercase().parse(), Ok(read));
        for bad in ["", "ab", &"g".repeat(64), &"a".repeat(63), &"a".repeat(66)] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }
}
