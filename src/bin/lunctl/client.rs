//! The daemon's REST interface.

use std::time::Duration;

use mgmt_api::api::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::exit::{Failure, Result};

/// Longer than the daemon lets any request wait.
const LIMIT: Duration = Duration::from_secs(100);

/// A daemon.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    server: String,
}

impl Client {
    pub(crate) fn new(server: &str) -> Result<Self> {
        let server = server.trim_end_matches('/').to_owned();
        if !server.starts_with("http://") {
            let message = format!("--server {server}: it begins with http://");
            return Err(Failure::Usage(message));
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(LIMIT))
            .user_agent(concat!("lunctl/", env!("CARGO_PKG_VERSION")))
            // What is on this machine is not reached through a proxy.
            .proxy(None)
            .build()
            .new_agent();
        Ok(Self { agent, server })
    }

    fn url(&self, path: &[&str]) -> String {
        let mut url = format!("{}/api/v1", self.server);
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

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T> {
        self.read(self.agent.get(self.url(path)).call())
    }

    /// A job, once it has ended or so many seconds have passed.
    pub(crate) fn get_waiting<T: DeserializeOwned>(
        &self,
        path: &[&str],
        seconds: u64,
    ) -> Result<T> {
        let seconds = seconds.to_string();
        self.read(self.agent.get(self.url(path)).query("wait_seconds", &seconds).call())
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
        let request = self.agent.get(self.url(path)).query_pairs(query);
        let response = request.config().timeout_global(None).build().call();
        let response = self.accepted(response)?;
        Ok(response.into_body().into_reader())
    }

    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T> {
        self.read(self.agent.post(self.url(path)).send_json(body))
    }

    pub(crate) fn put<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T> {
        self.read(self.agent.put(self.url(path)).send_json(body))
    }

    /// Deletes what the given parameters name.
    pub(crate) fn delete_of<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, Option<&str>)],
    ) -> Result<T> {
        let given = query.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
        self.read(self.agent.delete(self.url(path)).query_pairs(given).call())
    }

    pub(crate) fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T> {
        self.read(self.agent.delete(self.url(path)).call())
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
        let text = response.body_mut().read_to_string().map_err(|it| self.unreachable(&it))?;
        let problem = serde_json::from_str(&text).unwrap_or_else(|_| Problem {
            message: format!("the daemon answered {status}: {}", text.trim()),
            error: None,
        });
        Err(Failure::Refused { status: status.as_u16(), problem: Box::new(problem) })
    }

    fn read<T: DeserializeOwned>(
        &self,
        response: std::result::Result<Response<Body>, ureq::Error>,
    ) -> Result<T> {
        let mut response = self.accepted(response)?;
        let text = response.body_mut().read_to_string().map_err(|it| self.unreachable(&it))?;
        let text = if text.is_empty() { "null" } else { &text };
        serde_json::from_str(text)
            .map_err(|error| Failure::Other(format!("the daemon's answer cannot be read: {error}")))
    }
}
