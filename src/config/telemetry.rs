//! `[telemetry]`: where traces go.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use mgmt_api::otlp::{Endpoint, Headers, Settings};
use serde::Deserialize;
use toml::Spanned;

use super::Source;
use super::management::{TrustTable, trust};

/// A collector, and what it is told.
#[derive(Debug, Clone)]
pub(crate) struct Telemetry {
    pub(crate) collector: Settings,
    /// Whether requests of management clients are.
    pub(crate) requests: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    endpoint: Spanned<String>,
    service_name: Option<Spanned<String>>,
    #[serde(default)]
    headers: BTreeMap<String, Spanned<String>>,
    headers_file: Option<Spanned<PathBuf>>,
    requests: Option<bool>,
    tls: Option<TrustTable>,
}

pub(super) fn telemetry(
    source: &Source<'_>,
    table: Option<&Table>,
) -> anyhow::Result<Option<Telemetry>> {
    let Some(table) = table else { return Ok(None) };
    let endpoint: Endpoint = table
        .endpoint
        .get_ref()
        .parse()
        .map_err(|reason: &str| source.error("telemetry.endpoint", &table.endpoint, reason))?;
    let service_name = match &table.service_name {
        Some(name) if !(1..=255).contains(&name.get_ref().len()) => {
            return Err(source.error("telemetry.service_name", name, "must have 1 to 255 bytes"));
        }
        Some(name) => name.get_ref().clone(),
        None => "lund".to_owned(),
    };
    let mut headers = Headers::default();
    for (name, value) in &table.headers {
        let fail = |reason: String| source.error("telemetry.headers", value, &reason);
        headers.add(name, value.get_ref()).map_err(fail)?;
    }
    if let Some(path) = &table.headers_file {
        let fail = |error: anyhow::Error| {
            source.error("telemetry.headers_file", path, &format!("{error:#}"))
        };
        read_headers(path.get_ref(), &mut headers).map_err(fail)?;
    }
    let tls = table.tls.as_ref().map(|tls| trust(source, "telemetry.tls", tls)).transpose()?;
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let trust = tls.unwrap_or_default();
    let collector = Settings { endpoint, headers, service_name, host_name, trust };
    Ok(Some(Telemetry { collector, requests: table.requests.unwrap_or(true) }))
}

/// Lines `Name: value`, in a file that nobody else can read.
fn read_headers(path: &Path, headers: &mut Headers) -> anyhow::Result<()> {
    let unread = || format!("names {}, which cannot be read", path.display());
    let mode = std::fs::metadata(path).with_context(unread)?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!("names {}, which others can read: give it mode 0600", path.display());
    }
    let text = std::fs::read_to_string(path).with_context(unread)?;
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let fail = |reason: &str| anyhow!("names {}, line {}: {reason}", path.display(), at + 1);
        let (name, value) = line.split_once(':').ok_or_else(|| fail("`Name: value` is wanted"))?;
        headers.add(name.trim(), value.trim()).map_err(|reason| fail(&reason))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::*;

    fn telemetry(text: &str) -> anyhow::Result<Option<Telemetry>> {
        load(&format!("[telemetry]\n{text}"), &[]).map(|config| config.telemetry)
    }

    fn refused(text: &str) -> String {
        format!("{:#}", telemetry(text).unwrap_err())
    }

    #[test]
    fn there_is_no_telemetry_unless_it_is_configured() {
        assert!(load("", &[]).unwrap().telemetry.is_none());
        let set = telemetry("endpoint = 'http://127.0.0.1:4318/'").unwrap().unwrap();
        assert_eq!(set.collector.endpoint.to_string(), "http://127.0.0.1:4318");
        assert_eq!((set.collector.service_name.as_str(), set.requests), ("lund", true));
        let text = "endpoint = 'https://a'\nservice_name = 'x'\nrequests = false\n\
                    headers = { x-scope = '1' }\n[telemetry.tls]\nca = '/c'";
        let set = telemetry(text).unwrap().unwrap();
        assert_eq!((set.collector.service_name.as_str(), set.requests), ("x", false));
        assert_eq!(set.collector.trust.ca, Some("/c".into()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        const GOOD: &str = "endpoint = 'http://a'\n";
        assert!(refused("").contains("endpoint"));
        assert!(refused("endpoint = 'a:1'").starts_with("lund.toml:2: `telemetry.endpoint` "));
        for (text, message) in [
            ("endpoints = 'x'", "unknown field"),
            ("service_name = ''", "lund.toml:3: `telemetry.service_name` must have"),
            ("headers = { 'a b' = 'x' }", "lund.toml:3: `telemetry.headers` `a b` is no"),
            ("headers_file = '/no/such'", "lund.toml:3: `telemetry.headers_file` names /no/such"),
            ("[telemetry.tls]\nkey = '/k'", "`telemetry.tls.key` needs `certificate`"),
            ("[telemetry.tls]\npins = ['1']", "`telemetry.tls.pins` 64 hexadecimal digits"),
        ] {
            let error = refused(&format!("{GOOD}{text}"));
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn secret_headers_have_a_file_of_their_own() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str, mode| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            format!("endpoint = 'http://a'\nheaders_file = {path:?}")
        };
        let good = write("good", "Authorization: Basic YTpi\n\nX-Scope: 1\n", 0o600);
        let set = telemetry(&good).unwrap().unwrap();
        assert_eq!(format!("{:?}", set.collector.headers), r#"["authorization", "x-scope"]"#);
        assert!(!format!("{set:?}").contains("YTpi"));
        let open = refused(&write("open", "A: b\n", 0o640));
        assert!(open.contains("0600"), "{open}");
        let odd = refused(&write("odd", "A: b\nsecret\n", 0o600));
        assert!(odd.contains("line 2") && !odd.contains("secret"), "{odd}");
        let twice = refused(&write("twice", "A: b\na: c\n", 0o600));
        assert!(twice.contains("twice"), "{twice}");
    }
}
