//! TLS: the certificate, made at the first start or the operator's own, and its renewal while the
//! daemon runs.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rcgen::{CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, SanType};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::access::Peer;
use crate::server::{Accepting, Handshake, Listener, Stream};

/// Names of what is made at the first start, in the data directory.
const CERTIFICATE: &str = "tls-certificate.pem";
const KEY: &str = "tls-key.pem";

/// Days that a certificate of our own making is good for: it is trusted by itself, and nobody is
/// there who would renew it.
const LIFE_DAYS: i64 = 3650;

/// Where certificates come from.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// PEM: the daemon's certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// PEM: its key.
    pub key: PathBuf,
    /// PEM: authorities of clients that show a certificate; without it none is asked for.
    pub client_ca: Option<PathBuf>,
    /// They are made if they are not there.
    pub own: bool,
}

impl TlsFiles {
    /// Those that are made at the first start.
    #[must_use]
    pub fn in_directory(directory: &Path, client_ca: Option<PathBuf>) -> Self {
        let (certificate, key) = (directory.join(CERTIFICATE), directory.join(KEY));
        Self { certificate, key, client_ca, own: true }
    }
}

/// Why TLS is not possible.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The certificate cannot be made.
    #[error("no certificate can be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// What files looked like when they were read.
type Stamps = Vec<Option<(SystemTime, u64)>>;

/// The certificate that is shown now.
pub struct Tls {
    files: TlsFiles,
    config: ArcSwap<ServerConfig>,
    fingerprint: Mutex<String>,
    stamps: Mutex<Stamps>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files, or makes them for a daemon that is reached at these addresses.
    ///
    /// # Errors
    /// Names the file.
    pub fn open(
        files: TlsFiles,
        addresses: &[SocketAddr],
        host: &str,
    ) -> Result<Arc<Self>, TlsError> {
        if files.own && !(files.certificate.exists() && files.key.exists()) {
            make(&files, addresses, host)?;
        }
        let stamps = stamps(&files);
        let (config, fingerprint) = read(&files)?;
        Ok(Arc::new(Self {
            files,
            config: ArcSwap::from_pointee(config),
            fingerprint: Mutex::new(fingerprint),
            stamps: Mutex::new(stamps),
        }))
    }

    /// SHA-256 of the certificate, as `openssl x509 -fingerprint -sha256` has it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.fingerprint.lock().clone()
    }

    /// Reads the files again. On an error, what was shown until now goes on to be shown.
    ///
    /// # Errors
    /// Names the file.
    pub fn reload(&self) -> Result<(), TlsError> {
        let stamps = stamps(&self.files);
        // Whatever comes of it: it is not tried again before a file changes.
        *self.stamps.lock() = stamps;
        let (config, fingerprint) = read(&self.files)?;
        self.config.store(Arc::new(config));
        *self.fingerprint.lock() = fingerprint;
        Ok(())
    }

    /// Whether a file is another one than when it was read.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        stamps(&self.files) != *self.stamps.lock()
    }
}

fn stamps(files: &TlsFiles) -> Stamps {
    let all = [Some(&files.certificate), Some(&files.key), files.client_ca.as_ref()];
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    all.into_iter().flatten().map(stamp).collect()
}

/// A certificate that nobody has signed but itself.
fn make(files: &TlsFiles, addresses: &[SocketAddr], host: &str) -> Result<(), TlsError> {
    let mut names = vec![host.to_owned(), "localhost".to_owned()];
    names.retain(|name| !name.is_empty());
    names.dedup();
    let mut params = CertificateParams::new(names)?;
    let mut ips = vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    ips.extend(addresses.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()));
    ips.sort_unstable();
    ips.dedup();
    params.subject_alt_names.extend(ips.into_iter().map(SanType::IpAddress));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("lund on {host}"));
    params.is_ca = IsCa::ExplicitNoCa;
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::days(1);
    params.not_after = now + time::Duration::days(LIFE_DAYS);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    // A certificate without its key would not be used.
    write(&files.key, &key.serialize_pem(), 0o600)?;
    write(&files.certificate, &certificate.pem(), 0o644)
}

/// Whole or not at all.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let new = path.with_extension("new");
    let done = || {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    done().map_err(|source| TlsError::Io { path: path.to_path_buf(), source })
}

fn content(path: &Path, reason: &impl ToString) -> TlsError {
    TlsError::Content { path: path.to_path_buf(), reason: reason.to_string() }
}

fn text_of(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Io { path: path.to_path_buf(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = text_of(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| content(path, &error))?;
    if all.is_empty() {
        return Err(content(path, &"there is no certificate in it (PEM is wanted)"));
    }
    Ok(all)
}

/// What rustls works with, and the certificate's fingerprint.
fn read(files: &TlsFiles) -> Result<(ServerConfig, String), TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = certificates(&files.certificate)?;
    let fingerprint = chain.first().map(|leaf| fingerprint(leaf)).unwrap_or_default();
    let key = PrivateKeyDer::from_pem_slice(&text_of(&files.key)?);
    let key = key.map_err(|error| content(&files.key, &error))?;
    let clients = match &files.client_ca {
        None => Arc::new(NoClientAuth),
        Some(path) => clients(path, &provider)?,
    };
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| content(&files.certificate, &error))?;
    let config = builder.with_client_cert_verifier(clients).with_single_cert(chain, key);
    let mut config = config.map_err(|error| content(&files.certificate, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((config, fingerprint))
}

fn clients(
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| content(path, &error))?;
    }
    // Those that have none show a password or token.
    WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| content(path, &error))
}

/// `AB:CD:…`
fn fingerprint(certificate: &[u8]) -> String {
    let bytes = Sha256::digest(certificate);
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

/// The common name of a certificate's subject, if there is exactly one.
fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    names.next().is_none().then_some(name)
}

/// HTTP over TLS.
#[derive(Debug)]
pub struct TlsListener {
    listener: TcpListener,
    tls: Arc<Tls>,
}

impl TlsListener {
    /// Shows the certificate of `tls`, as it is at each connection.
    #[must_use]
    pub fn new(listener: TcpListener, tls: Arc<Tls>) -> Self {
        Self { listener, tls }
    }
}

impl Listener for TlsListener {
    fn accept(&mut self) -> Accepting<'_> {
        Box::pin(async {
            let (stream, address) = self.listener.accept().await?;
            let acceptor = TlsAcceptor::from(self.tls.config.load_full());
            let ready = async move {
                let stream = acceptor.accept(stream).await?;
                let (_, connection) = stream.get_ref();
                let leaf = connection.peer_certificates().and_then(|chain| chain.first());
                let certificate = leaf.and_then(|leaf| common_name(leaf));
                let peer = Peer::Tcp { address, tls: true, certificate };
                Ok((Box::new(stream) as Box<dyn Stream>, peer))
            };
            Ok(Box::pin(ready) as Handshake)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> Arc<Tls> {
        let files = TlsFiles::in_directory(directory, None);
        Tls::open(files, &["192.0.2.1:5989".parse().unwrap()], "storage").unwrap()
    }

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_nobody_elses() {
        let directory = tempfile::tempdir().unwrap();
        let first = open(directory.path()).fingerprint();
        assert_eq!(first.len(), 32 * 3 - 1);
        assert_eq!(open(directory.path()).fingerprint(), first);
        let key = std::fs::metadata(directory.path().join(KEY)).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
        let der = certificates(&directory.path().join(CERTIFICATE)).unwrap();
        assert_eq!(common_name(&der[0]).as_deref(), Some("lund on storage"));
        let (_, parsed) = X509Certificate::from_der(&der[0]).unwrap();
        let names = format!("{:?}", parsed.subject_alternative_name().unwrap().unwrap().value);
        for name in ["\"storage\"", "\"localhost\"", "127, 0, 0, 1", "192, 0, 2, 1"] {
            assert!(names.contains(name), "{name}: {names}");
        }
    }

    #[test]
    fn a_bad_file_is_named_and_the_old_certificate_stays() {
        let directory = tempfile::tempdir().unwrap();
        let tls = open(directory.path());
        let before = tls.fingerprint();
        assert!(!tls.has_changed());
        let path = directory.path().join(CERTIFICATE);
        std::fs::write(&path, "nonsense").unwrap();
        assert!(tls.has_changed());
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.contains(CERTIFICATE) && error.contains("no certificate"), "{error}");
        assert_eq!((tls.fingerprint(), tls.has_changed()), (before.clone(), false));
        // A key that belongs to another certificate.
        let other = tempfile::tempdir().unwrap();
        open(other.path());
        std::fs::copy(other.path().join(CERTIFICATE), &path).unwrap();
        assert!(tls.reload().is_err());
        std::fs::copy(other.path().join(KEY), directory.path().join(KEY)).unwrap();
        tls.reload().unwrap();
        assert_ne!(tls.fingerprint(), before);
    }
}
