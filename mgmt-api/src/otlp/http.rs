//! One request to the collector: `POST <endpoint>/v1/traces`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};

use super::Settings;
use super::queue::Outcome;
use crate::http_client;

/// The path of traces behind an endpoint.
const PATH: &str = "/v1/traces";
/// A collector that does not answer for so long is away.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const MAX_ANSWER: u64 = 64 << 10;

/// The URL of a collector, as `OTEL_EXPORTER_OTLP_ENDPOINT` has it: `/v1/traces` is put behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(String);

impl FromStr for Endpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|_| "is no URL")?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("must begin with http:// or https://");
        }
        let authority = uri.authority().filter(|it| !it.host().is_empty());
        let authority = authority.ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("has a user name: `headers_file` is for secrets");
        }
        if uri.query().is_some() || text.contains('#') {
            return Err("must end with its path");
        }
        let base = text.trim_end_matches('/');
        if base.ends_with(PATH) {
            return Err("is the collector's, without /v1/traces, which is put behind it");
        }
        Ok(Self(base.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Headers of each request; their values are secrets.
#[derive(Clone, Default)]
pub struct Headers(HeaderMap);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl Headers {
    /// Adds one.
    ///
    /// # Errors
    /// It is no header, stands there already, or is lund's own.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), String> {
        let key: HeaderName = name.parse().map_err(|_| format!("`{name}` is no header's name"))?;
        if matches!(key.as_str(), "content-type" | "content-length" | "host" | "transfer-encoding")
        {
            return Err(format!("`{name}` is what lund says itself"));
        }
        let mut value: HeaderValue =
            value.parse().map_err(|_| format!("the value of `{name}` cannot be sent"))?;
        value.set_sensitive(true);
        match self.0.insert(key, value) {
            Some(_) => Err(format!("`{name}` stands there twice")),
            None => Ok(()),
        }
    }
}

/// The collector.
pub(super) struct Collector {
    url: String,
    headers: HeaderMap,
    agent: ureq::Agent,
}

/// `ExportTraceServiceResponse`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Answer {
    partial_success: Partial,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Partial {
    rejected_spans: Count,
    error_message: String,
}

/// 64 bits, which collectors write as text or as a number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Count {
    Number(u64),
    Text(String),
}

impl Default for Count {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl Collector {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let url = format!("{}{PATH}", settings.endpoint);
        let tls = http_client::is_secure(&url).then(|| settings.trust.config()).transpose();
        let tls = tls.map_err(|error| error.to_string())?;
        // A redirect would take the headers elsewhere.
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("lund/", env!("CARGO_PKG_VERSION")));
        let agent = http_client::agent(&url, tls, config)?;
        Ok(Self { url, headers: settings.headers.0.clone(), agent })
    }

    pub(super) fn send(&self, body: String) -> Outcome {
        let mut request = self.agent.post(&self.url).header("Content-Type", "application/json");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut response = match request.send(body) {
            Ok(response) => response,
            Err(error) => return Outcome::Away { reason: error.to_string(), pause: None },
        };
        let after = response.headers().get("retry-after").and_then(|it| it.to_str().ok());
        let after = after.and_then(|it| it.parse().ok()).map(Duration::from_secs);
        let answer = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string();
        outcome(response.status(), after, &answer.unwrap_or_default())
    }
}

/// OTLP 1.x, "OTLP/HTTP Response": which requests are made again.
fn outcome(status: StatusCode, pause: Option<Duration>, body: &str) -> Outcome {
    let reason = || {
        let text: String = body.chars().filter(|it| !it.is_control()).take(200).collect();
        format!("{status} {text}").trim_end().to_owned()
    };
    match status.as_u16() {
        200..=299 => {
            let partial = serde_json::from_str::<Answer>(body).unwrap_or_default().partial_success;
            let rejected = match partial.rejected_spans {
                Count::Number(count) => count,
                Count::Text(text) => text.parse().unwrap_or_default(),
            };
            Outcome::Taken { rejected, reason: partial.error_message }
        }
        429 | 502..=504 => Outcome::Away { reason: reason(), pause },
        _ => Outcome::Refused(reason()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_base() {
        for (given, whole) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
            ("https://[::1]:4318/", "https://[::1]:4318"),
            ("https://a.example/otlp/x/", "https://a.example/otlp/x"),
        ] {
            assert_eq!(given.parse::<Endpoint>().unwrap().to_string(), whole);
        }
        for bad in [
            "",
            "a",
            "127.0.0.1:4318",
            "grpc://a:4317",
            "http://",
            "http://u:p@a",
            "http://a?b",
            "http://a#b",
            "http://a/v1/traces",
            "http://a/v1/traces/",
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn headers_are_not_shown() {
        let mut headers = Headers::default();
        headers.add("Authorization", "Bearer secret").unwrap();
        assert_eq!(format!("{headers:?}"), r#"["authorization"]"#);
        for (name, value) in [
            ("authorization", "again"),
            ("a b", "x"),
            ("", "x"),
            ("x", "a\nb"),
            ("Content-Type", "text/plain"),
            ("host", "x"),
        ] {
            assert!(headers.add(name, value).is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_made_again_is_what_the_protocol_says() {
        fn of(status: u16, body: &str) -> Outcome {
            outcome(StatusCode::from_u16(status).unwrap(), None, body)
        }
        let taken = |rejected, reason: &str| Outcome::Taken { rejected, reason: reason.to_owned() };
        for body in ["", "{}", "ok", r#"{"partialSuccess":{}}"#] {
            assert_eq!(of(200, body), taken(0, ""), "{body}");
        }
        for count in ["3", "\"3\""] {
            let body =
                format!(r#"{{"partialSuccess":{{"rejectedSpans":{count},"errorMessage":"old"}}}}"#);
            assert_eq!(of(200, &body), taken(3, "old"));
        }
        for status in [429, 502, 503, 504] {
            assert!(matches!(of(status, ""), Outcome::Away { pause: None, .. }), "{status}");
        }
        for status in [302, 400, 401, 404, 413, 500, 501] {
            assert!(matches!(of(status, ""), Outcome::Refused(_)), "{status}");
        }
        assert_eq!(of(400, "a\nb"), Outcome::Refused("400 Bad Request ab".to_owned()));
    }
}
