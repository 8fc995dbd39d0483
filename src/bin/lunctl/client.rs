//! The daemon's REST interface.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mgmt_api::api::{Problem, Secret};
use mgmt_api::tls_client::TlsConnector;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::Response;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector as _, TcpConnector};
use ureq::{Agent, Body, RequestBuilder, ResponseExt as _};

use crate::args::{Credentials, Filter, How, Trust};
use crate::exit::{Failure, Result};
use crate::password;
use crate::tls;
use crate::transport::{NoAddresses, Socket};

/// Longer than the daemon lets any request wait.
const LIMIT: Duration = Duration::from_secs(100);

/// Where a daemon that runs on this machine has its socket: that of a package, and that of `lund
/// serve` in the same directory.
const SOCKETS: [&str; 3] =
    ["/run/lund/lund.sock", "/var/lib/lund/lund.sock", "./lund-data/lund.sock"];

/// Without a socket.
const SERVER: &str = "http://127.0.0.1:5988";

/// A daemon.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    /// As people write it.
    server: String,
    /// What stands before all paths.
    base: String,
    /// The header `Authorization`.
    authorization: Option<Secret>,
    /// How jobs run that are submitted: parameters of every request that may submit one.
    options: Vec<(&'static str, String)>,
}

/// The longest answer that is read: that of 100,000 jobs with their errors is shorter.
const MAX_ANSWER: u64 = 1 << 30;

/// What can be done about an answer, where the daemon cannot know what its clients are called.
fn hint(status: u16, path: &str) -> Option<String> {
    let mut parts = path.strip_prefix("/api/v1/")?.split('/');
    let (collection, key) = (parts.next()?, parts.next());
    let noun = match collection {
        "disks" | "snapshots" | "targets" | "jobs" | "pools" | "sessions" | "users" | "tokens"
        | "portal-groups" => Some(collection.trim_end_matches('s')),
        "chap-accounts" => Some("chap"),
        "limits" => Some("limit"),
        _ => None,
    };
    let text = match (status, collection, key) {
        (401, ..) => "Say who you are, with --login USER or --token-file FILE.",
        (403, ..) => "`lunctl whoami` says what you may do; docs/access.md, who may do this.",
        (404, ..) => return noun.map(|it| format!("`lunctl {it} list` shows what there is.")),
        (409, "disks", Some(_)) => {
            "`lunctl disk show DISK` says where it is exposed, `lunctl job list --filter \
             ended=false` what works on it."
        }
        (409, "targets", Some(_)) => {
            "`lunctl target show TARGET` has its LUNs; `lunctl target unmap TARGET LUN` takes one away."
        }
        (412, ..) => "Look at it again, and decide anew.",
        (507, ..) => "`lunctl pool list` says how much space there is.",
        _ => return None,
    };
    Some(text.to_owned())
}

/// The header `Authorization` for what was given.
fn authorization(credentials: &Credentials) -> Result<Option<Secret>> {
    if let Some(path) = &credentials.token_file {
        let token = password::from_file(path)?;
        return Ok(Some(Secret(format!("Bearer {}", token.0))));
    }
    let Some(user) = &credentials.login else { return Ok(None) };
    let (file, prompt) =
        (credentials.login_password_file.as_deref(), format!("Password of {user}: "));
    let password = password::existing(file, &prompt, "--login-password-file")?;
    let pair = Secret(format!("{user}:{}", password.0));
    Ok(Some(Secret(format!("Basic {}", BASE64_STANDARD.encode(&pair.0)))))
}

impl Client {
    pub(crate) fn new(
        server: Option<&str>,
        credentials: &Credentials,
        trust: &Trust,
    ) -> Result<Self> {
        let server = match server {
            Some(server) => server.trim_end_matches('/').to_owned(),
            None => {
                let there = SOCKETS.iter().find(|path| UnixStream::connect(path).is_ok());
                there.map_or_else(|| SERVER.to_owned(), |path| format!("unix:{path}"))
            }
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(LIMIT))
            .user_agent(concat!("lunctl/", env!("CARGO_PKG_VERSION")))
            // What is on this machine is not reached through a proxy.
            .proxy(None)
            .build();
        let (agent, base) = if let Some(path) = server.strip_prefix("unix:") {
            let socket = Socket(path.trim_start_matches("//").into());
            (Agent::with_parts(config, socket, NoAddresses), "http://localhost".to_owned())
        } else if server.starts_with("https://") {
            let connector =
                ().chain(TcpConnector::default()).chain(TlsConnector(tls::config(trust)?));
            (Agent::with_parts(config, connector, DefaultResolver::default()), server.clone())
        } else if server.starts_with("http://") {
            (config.new_agent(), server.clone())
        } else {
            let message = format!("--server {server}: it begins with https://, http:// or unix:");
            return Err(Failure::Usage(message));
        };
        let authorization = authorization(credentials)?;
        Ok(Self { agent, server, base, authorization, options: Vec::new() })
    }

    fn with<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.authorization {
            Some(value) => request.header("Authorization", &value.0),
            None => request,
        }
    }

    fn url(&self, path: &[&str]) -> String {
        let mut url = format!("{}/api/v1", self.base);
        for part in path {
            url.push('/');
            for byte in part.bytes() {
                if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
                    url.push(char::from(byte));
                } else {
                    url.push_str(&format!("%{byte:02X}"));
                }
            }
        }
        url
    }

    /// The same, for jobs that run as the command line says.
    pub(crate) fn submitting(mut self, how: &How) -> Self {
        let after = (!how.after.is_empty()).then(|| how.after.join(","));
        let given = [
            ("after", after),
            ("priority", how.job_priority.map(|it| it.to_string())),
            ("start_at", how.job_start_at.map(|it| it.to_string())),
            ("time_limit_seconds", how.job_time_limit.map(|it| it.to_string())),
            ("bandwidth", how.job_bandwidth.map(|it| it.to_string())),
        ];
        self.options = given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        self
    }

    fn options(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.options.iter().map(|(name, value)| (*name, value.as_str()))
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T> {
        self.get_of(path, &[])
    }

    /// A list, as far as it is wanted.
    pub(crate) fn list<T: DeserializeOwned>(&self, path: &[&str], filter: &Filter) -> Result<T> {
        let query: Vec<_> =
            filter.filters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.get_of(path, &query)
    }

    /// A job, once it has ended or so many seconds have passed.
    pub(crate) fn get_waiting<T: DeserializeOwned>(
        &self,
        path: &[&str],
        seconds: u64,
    ) -> Result<T> {
        self.get_of(path, &[("wait_seconds", &seconds.to_string())])
    }

    pub(crate) fn get_of<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T> {
        let query = query.iter().copied();
        self.read(self.with(self.agent.get(self.url(path))).query_pairs(query).call())
    }

    /// What the daemon sends for as long as it does.
    pub(crate) fn stream(
        &self,
        path: &[&str],
        name: &str,
        value: Option<u32>,
    ) -> Result<impl std::io::Read + use<>> {
        let value = value.map(|value| value.to_string());
        let query = value.iter().map(|value| (name, value.as_str()));
        let request = self.with(self.agent.get(self.url(path))).query_pairs(query);
        let response = request.config().timeout_global(None).build().call();
        let response = self.accepted(response)?;
        Ok(response.into_body().into_reader())
    }

    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T> {
        self.read(
            self.with(self.agent.post(self.url(path)).query_pairs(self.options())).send_json(body),
        )
    }

    pub(crate) fn put<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T> {
        self.read(self.with(self.agent.put(self.url(path))).send_json(body))
    }

    /// With parameters, for one generation of what is changed.
    pub(crate) fn put_of<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        generation: Option<u64>,
        body: &impl Serialize,
    ) -> Result<T> {
        let mut request = self.with(self.agent.put(self.url(path)));
        request = request.query_pairs(query.iter().copied());
        if let Some(generation) = generation {
            request = request.header("If-Match", format!("\"{generation}\""));
        }
        self.read(request.send_json(body))
    }

    pub(crate) fn patch<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T> {
        self.read(self.with(self.agent.patch(self.url(path))).send_json(body))
    }

    /// Deletes what the given parameters name.
    pub(crate) fn delete_of<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, Option<&str>)],
    ) -> Result<T> {
        let given = query.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
        self.read(
            self.with(self.agent.delete(self.url(path)).query_pairs(self.options()))
                .query_pairs(given)
                .call(),
        )
    }

    pub(crate) fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T> {
        self.read(self.with(self.agent.delete(self.url(path)).query_pairs(self.options())).call())
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        Failure::Unreachable { server: self.server.clone(), reason: error.to_string() }
    }

    /// A response that is none of an error.
    fn accepted(
        &self,
        response: std::result::Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>> {
        let mut response = response.map_err(|it| self.unreachable(&it))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let hint = hint(status.as_u16(), response.get_uri().path());
        let text = response.body_mut().read_to_string().map_err(|it| self.unreachable(&it))?;
        let problem = serde_json::from_str(&text).unwrap_or_else(|_| Problem {
            message: format!("the daemon answered {status}: {}", text.trim()),
            error: None,
        });
        Err(Failure::Refused { status: status.as_u16(), problem: Box::new(problem), hint })
    }

    fn read<T: DeserializeOwned>(
        &self,
        response: std::result::Result<Response<Body>, ureq::Error>,
    ) -> Result<T> {
        let mut response = self.accepted(response)?;
        // A list of all jobs may be longer than the 10 MiB that are usual.
        let body = response.body_mut().with_config().limit(MAX_ANSWER);
        let text = body.read_to_string().map_err(|it| self.unreachable(&it))?;
        let text = if text.is_empty() { "null" } else { &text };
        serde_json::from_str(text)
            .map_err(|error| Failure::Other(format!("the daemon's answer cannot be read: {error}")))
    }
}
