//! `[management]`: where management clients connect, and who they are on this machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::bail;
use job_engine::Role;
use mgmt_api::tls::TlsFiles;
use mgmt_api::tls_client::{Fingerprint, Trust};
use nix::unistd::Group;
use serde::Deserialize;
use toml::Spanned;

use super::Source;
use crate::args::Serve;

const PORT: u16 = 5988;

/// The socket's name in the data directory.
const SOCKET: &str = "lund.sock";

/// Longest path of a socket in bytes (`sun_path`, with a zero behind it).
const MAX_SOCKET: usize = 107;

/// Where management clients connect.
#[derive(Debug, Clone)]
pub(crate) struct Management {
    /// Plain HTTP: a loopback address.
    pub(crate) listen: SocketAddr,
    pub(crate) socket: Option<PathBuf>,
    /// Who may connect to the socket beside the daemon's user and root.
    pub(crate) socket_group: Option<u32>,
    /// Groups of this machine, and what their members may do.
    pub(crate) groups: Vec<(u32, Role)>,
    pub(crate) tls: Option<TlsConfig>,
    /// Which listeners of indications are believed; none: those of the system's authorities.
    pub(crate) listeners: Option<Trust>,
}

/// HTTP over TLS.
#[derive(Debug, Clone)]
pub(crate) struct TlsConfig {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) files: TlsFiles,
}

/// The table in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    listen: Option<Spanned<SocketAddr>>,
    socket: Option<Spanned<PathBuf>>,
    socket_group: Option<Spanned<String>>,
    #[serde(default)]
    groups: Groups,
    tls: Option<TlsTable>,
    listeners: Option<TrustTable>,
}

/// Whom to believe over TLS.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrustTable {
    ca: Option<PathBuf>,
    #[serde(default)]
    pins: Vec<Spanned<String>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsTable {
    listen: Spanned<Vec<SocketAddr>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<PathBuf>>,
    client_ca: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Groups {
    #[serde(default)]
    viewers: Vec<Spanned<String>>,
    #[serde(default)]
    operators: Vec<Spanned<String>>,
    #[serde(default)]
    administrators: Vec<Spanned<String>>,
}

pub(super) fn management(
    source: &Source<'_>,
    serve: &Serve,
    table: &Table,
    data_dir: &Path,
) -> anyhow::Result<Management> {
    let group = |key: &str, name: &Spanned<String>| group(source, key, name);
    let socket_group = table.socket_group.as_ref();
    let socket_group = socket_group.map(|name| group("management.socket_group", name));
    let mut groups = Vec::new();
    for (key, names, role) in [
        ("management.groups.viewers", &table.groups.viewers, Role::Viewer),
        ("management.groups.operators", &table.groups.operators, Role::Operator),
        ("management.groups.administrators", &table.groups.administrators, Role::Administrator),
    ] {
        for name in names {
            groups.push((group(key, name)?, role));
        }
    }
    let listeners = table.listeners.as_ref();
    let listeners = listeners.map(|table| trust(source, "management.listeners", table));
    Ok(Management {
        listen: listen(source, serve, table.listen.as_ref())?,
        socket: socket(source, table.socket.as_ref(), data_dir)?,
        socket_group: socket_group.transpose()?,
        groups,
        tls: table.tls.as_ref().map(|table| tls(source, table, data_dir)).transpose()?,
        listeners: listeners.transpose()?,
    })
}

/// The table `name`.
pub(super) fn trust(source: &Source<'_>, name: &str, table: &TrustTable) -> anyhow::Result<Trust> {
    let key = |key: &str| format!("{name}.{key}");
    let mut pins = Vec::new();
    for text in &table.pins {
        let pin = text.get_ref().parse::<Fingerprint>();
        pins.push(pin.map_err(|reason| source.error(&key("pins"), text, &reason))?);
    }
    let own = match (&table.certificate, &table.key) {
        (Some(certificate), Some(key)) => {
            Some((certificate.get_ref().clone(), key.get_ref().clone()))
        }
        (None, None) => None,
        (Some(given), None) => {
            return Err(source.error(&key("certificate"), given, "needs `key` beside it"));
        }
        (None, Some(given)) => {
            return Err(source.error(&key("key"), given, "needs `certificate` beside it"));
        }
    };
    Ok(Trust { pins, ca: table.ca.clone(), own })
}

fn tls(source: &Source<'_>, table: &TlsTable, data_dir: &Path) -> anyhow::Result<TlsConfig> {
    if table.listen.get_ref().is_empty() {
        let reason = "is empty: name an address, as in [\"0.0.0.0:5989\"]";
        return Err(source.error("management.tls.listen", &table.listen, reason));
    }
    let client_ca = table.client_ca.clone();
    let files = match (&table.certificate, &table.key) {
        (Some(certificate), Some(key)) => TlsFiles {
            certificate: certificate.get_ref().clone(),
            key: key.get_ref().clone(),
            client_ca,
            own: false,
        },
        (None, None) => TlsFiles::in_directory(data_dir, client_ca),
        (Some(given), None) => {
            return Err(source.error("management.tls.certificate", given, "needs `key` beside it"));
        }
        (None, Some(given)) => {
            return Err(source.error("management.tls.key", given, "needs `certificate` beside it"));
        }
    };
    Ok(TlsConfig { listen: table.listen.get_ref().clone(), files })
}

/// The number of a group of this machine.
fn group(source: &Source<'_>, key: &str, name: &Spanned<String>) -> anyhow::Result<u32> {
    match Group::from_name(name.get_ref()) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => {
            let reason = format!("names `{}`, which is no group of this machine", name.get_ref());
            Err(source.error(key, name, &reason))
        }
        Err(error) => Err(source.error(key, name, &format!("cannot be looked up: {error}"))),
    }
}

fn socket(
    source: &Source<'_>,
    given: Option<&Spanned<PathBuf>>,
    data_dir: &Path,
) -> anyhow::Result<Option<PathBuf>> {
    let fits = |path: &Path| path.as_os_str().len() <= MAX_SOCKET;
    match given {
        Some(path) if path.get_ref().as_os_str().is_empty() => Ok(None),
        Some(path) if fits(path.get_ref()) => Ok(Some(path.get_ref().clone())),
        Some(path) => {
            let reason = "is too long: the path of a socket has at most 107 bytes";
            Err(source.error("management.socket", path, reason))
        }
        // A directory with a long name is no reason not to serve.
        None => Ok(Some(data_dir.join(SOCKET)).filter(|path| fits(path))),
    }
}

fn listen(
    source: &Source<'_>,
    serve: &Serve,
    file: Option<&Spanned<SocketAddr>>,
) -> anyhow::Result<SocketAddr> {
    const REASON: &str = "is no loopback address: over a network, passwords would go as they \
                          are (management.tls.listen is for that)";
    if let Some(value) = file.filter(|value| !value.get_ref().ip().is_loopback()) {
        return Err(source.error("management.listen", value, REASON));
    }
    match (serve.mgmt_listen, file) {
        (Some(address), _) if !address.ip().is_loopback() => {
            bail!("--mgmt-listen {address} {REASON}")
        }
        (Some(address), _) => Ok(address),
        (None, Some(value)) => Ok(*value.get_ref()),
        (None, None) => Ok(SocketAddr::from(([127, 0, 0, 1], PORT))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::*;

    #[test]
    fn the_socket_lies_in_the_data_directory_unless_it_is_said_otherwise() {
        let socket = |text: &str| load(text, &[]).unwrap().management.socket;
        assert_eq!(socket("data_dir = '/a'"), Some("/a/lund.sock".into()));
        assert_eq!(socket("[management]\nsocket = '/run/x.sock'"), Some("/run/x.sock".into()));
        assert_eq!(socket("[management]\nsocket = ''"), None);
        let long = "x".repeat(108);
        assert_eq!(socket(&format!("data_dir = '/{long}'")), None);
        let text = format!("[management]\nsocket = '{long}'");
        let error = format!("{:#}", load(&text, &[]).unwrap_err());
        assert!(error.starts_with("lund.toml:2: `management.socket` is too long"), "{error}");
    }

    #[test]
    fn a_certificate_is_configured_with_its_key_or_made() {
        let tls = |text: &str| load(text, &[]).map(|config| config.management.tls.unwrap().files);
        let made = tls("data_dir = '/a'\n[management.tls]\nlisten = ['0.0.0.0:5989']").unwrap();
        assert!(made.own && made.key.starts_with("/a"));
        let given = "[management.tls]\nlisten = ['[::1]:1']\ncertificate = '/c'\nkey = '/k'";
        assert!(!tls(given).unwrap().own);
        for (text, key) in [
            ("[management.tls]\nlisten = []", "management.tls.listen"),
            ("[management.tls]\nlisten = ['[::1]:1']\nkey = '/k'", "management.tls.key"),
            ("[management.tls]\nlisten = ['[::1]:1']\ncertificate = '/c'", "tls.certificate"),
        ] {
            let error = format!("{:#}", tls(text).unwrap_err());
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn listeners_are_believed_by_authority_or_pin() {
        let listeners = |text: &str| {
            load(&format!("[management.listeners]\n{text}"), &[]).map(|it| it.management.listeners)
        };
        assert!(load("", &[]).unwrap().management.listeners.is_none());
        let pin = "0".repeat(64);
        let trust = listeners(&format!("ca = '/c'\npins = ['{pin}']")).unwrap().unwrap();
        assert_eq!((trust.ca, trust.pins), (Some("/c".into()), vec![Fingerprint([0; 32])]));
        for (text, key) in [
            ("pins = ['12']", "lund.toml:2: `management.listeners.pins` 64 hexadecimal digits"),
            ("key = '/k'", "lund.toml:2: `management.listeners.key` needs `certificate`"),
            ("certificate = '/c'", "lund.toml:2: `management.listeners.certificate` needs `key`"),
            ("pin = ['12']", "unknown field"),
        ] {
            let error = format!("{:#}", listeners(text).unwrap_err());
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn groups_are_those_of_this_machine() {
        let text = "[management]\nsocket_group = 'root'\n[management.groups]\nviewers = ['root']\n\
                    administrators = ['daemon']";
        let management = load(text, &[]).unwrap().management;
        assert_eq!(management.socket_group, Some(0));
        let roles: Vec<Role> = management.groups.iter().map(|(_, role)| *role).collect();
        assert_eq!(roles, [Role::Viewer, Role::Administrator]);
        let text = "[management.groups]\noperators = ['no such group']";
        let error = format!("{:#}", load(text, &[]).unwrap_err());
        assert!(error.starts_with("lund.toml:2: `management.groups.operators`"), "{error}");
        assert!(error.contains("no such group"), "{error}");
    }
}
