//! What every request must pass before it is handled, and what is written down of it afterwards.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use jiff::Timestamp;
use job_engine::Role;

use super::{Access, Identity, Peer, Unknown, Via};
use crate::api::AuditRecord;
use crate::rest::problem;
use crate::routes::{Table, Who};

/// The longest text of a request that is written down.
const MAX_TEXT: usize = 512;

/// Something that a request did, in the terms of its protocol.
#[derive(Debug, Clone)]
pub(crate) struct Act {
    /// The method or operation.
    pub(crate) method: String,
    /// What it was done to.
    pub(crate) object: String,
    /// How it went.
    pub(crate) outcome: String,
}

/// What a response tells of the request, for the audit log. Without it, a request that may change
/// something is one act.
#[derive(Debug, Clone, Default)]
pub(crate) struct Acts {
    /// Instead of the HTTP request itself.
    pub(crate) acts: Option<Vec<Act>>,
    /// Who it was, if that was not known before.
    pub(crate) user: Option<String>,
    /// What came of it.
    pub(crate) detail: Option<String>,
}

/// With what [`guard`] works.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    pub(crate) access: Arc<Access>,
    pub(crate) table: Arc<Table>,
}

/// Lets those in that the table lets in.
pub(crate) async fn guard(State(state): State<Guard>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>();
    // `localhost` is a name of other servers on this machine, too.
    let lasting = peer.is_some_and(|peer| peer.is_tls() && !peer.is_loopback());
    let mut response = judge(state, request, next).await;
    if lasting {
        let year = HeaderValue::from_static("max-age=31536000");
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    response
}

async fn judge(Guard { access, table }: Guard, mut request: Request, next: Next) -> Response {
    // Without one nobody has accepted the connection: a mistake that must not open anything.
    let Some(peer) = request.extensions().get::<Peer>().cloned() else {
        return problem(StatusCode::FORBIDDEN, "it is not known who asks");
    };
    let open = access.is_open() && peer.is_loopback();
    if let Err(why) = same_site(&request, open) {
        return problem(StatusCode::FORBIDDEN, why);
    }
    let path = request.extensions().get::<MatchedPath>().map(|it| it.as_str().to_owned());
    let who = match &path {
        Some(path) => table.who(request.method(), path),
        None => Who::AtLeast(Role::Viewer),
    };
    let mut record = Record::of(&request, &peer);
    let identity = access.identify(&peer, request.headers()).await;
    let refused = match (&identity, who) {
        (Err(Unknown::Limited(_) | Unknown::Busy | Unknown::Wrong(_)), _)
        | (Err(_), Who::AtLeast(_)) => {
            identity.as_ref().err().map(|unknown| unauthorized(unknown, path.as_deref()))
        }
        (Ok(identity), Who::AtLeast(role)) if identity.role < role => {
            Some(forbidden(identity, role))
        }
        (Ok(identity), _) => foreign(identity, &request),
        (Err(Unknown::Nothing), Who::Everybody) => None,
    };
    if let Ok(identity) = &identity {
        record.identity = Some(identity.clone());
    }
    if let Some(mut refused) = refused {
        // A stranger who shows nothing, and one who is told to wait, would fill the log.
        match identity {
            Err(Unknown::Nothing | Unknown::Limited(_) | Unknown::Busy) => {}
            Err(Unknown::Wrong(user)) => {
                refused.extensions_mut().insert(Acts { user, ..Acts::default() });
                write(&access, record.told(&refused, true)).await;
            }
            Ok(_) => write(&access, record.told(&refused, true)).await,
        }
        return refused;
    }
    if let Ok(identity) = identity {
        request.extensions_mut().insert(identity);
    }
    let reads_secrets = who == Who::AtLeast(Role::Administrator);
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !changes && !reads_secrets {
        let response = next.run(request).await;
        write(&access, record.told(&response, false)).await;
        return response;
    }
    // What was begun is finished and written down, even if the client does not wait for it.
    let Ok(place) = access.places.clone().acquire_owned().await else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping");
    };
    let begun = tokio::spawn(async move {
        let response = next.run(request).await;
        write(&access, record.told(&response, true)).await;
        drop(place);
        response
    });
    match begun.await {
        Ok(response) => response,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => problem(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping"),
        },
    }
}

/// What is known of a request before it is carried out.
struct Record {
    address: String,
    method: String,
    object: String,
    identity: Option<Identity>,
}

fn shortened(text: &str) -> String {
    text.chars().filter(|it| !it.is_control()).take(MAX_TEXT).collect()
}

impl Record {
    fn of(request: &Request, peer: &Peer) -> Self {
        let object = request.uri().path_and_query().map_or("", |it| it.as_str());
        Self {
            address: peer.shown(),
            method: request.method().to_string(),
            object: shortened(object),
            identity: None,
        }
    }

    /// What a response tells; the request itself if it does not and `default` says so.
    fn told(self, response: &Response, default: bool) -> Vec<AuditRecord> {
        let told = response.extensions().get::<Acts>().cloned().unwrap_or_default();
        let whole = || {
            let outcome = response.status().as_u16().to_string();
            vec![Act { method: self.method.clone(), object: self.object.clone(), outcome }]
        };
        let acts = match told.acts {
            Some(acts) => acts,
            None if default => whole(),
            None => return Vec::new(),
        };
        let identity = self.identity.as_ref();
        acts.into_iter()
            .map(|act| AuditRecord {
                time: Timestamp::now(),
                user: identity.and_then(|it| it.name.clone()).or_else(|| told.user.clone()),
                role: identity.map(|it| it.role),
                via: identity.map_or("none", |it| it.via.name()).to_owned(),
                address: self.address.clone(),
                method: shortened(&act.method),
                object: shortened(&act.object),
                outcome: shortened(&act.outcome),
                detail: told.detail.as_deref().map(shortened),
            })
            .collect()
    }
}

/// Before the answer goes out: nothing is acknowledged that is not written down.
async fn write(access: &Access, records: Vec<AuditRecord>) {
    if records.is_empty() {
        return;
    }
    let audit = access.audit.clone();
    let written = tokio::task::spawn_blocking(move || {
        for record in &records {
            audit.write(record);
        }
    });
    if let Err(error) = written.await {
        tracing::error!(%error, "the audit log was not written");
    }
}

/// While nobody is asked for a password, a web page in a browser of this machine must not be able
/// to ask: neither from another site (`Origin`) nor by a name of its own that leads here (`Host`).
fn same_site(request: &Request, open: bool) -> Result<(), &'static str> {
    let host = host(request.headers(), request.uri());
    if open && !host.is_some_and(is_loopback) {
        return Err("the Host header names no loopback address");
    }
    if request.headers().get(ORIGIN).is_some_and(|origin| !is_of(origin, host)) {
        return Err("requests from pages of other sites are refused");
    }
    Ok(())
}

fn host<'r>(headers: &'r HeaderMap, uri: &'r Uri) -> Option<&'r str> {
    let given = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    given.or_else(|| uri.authority().map(axum::http::uri::Authority::as_str))
}

fn is_of(origin: &HeaderValue, host: Option<&str>) -> bool {
    let origin = origin.to_str().unwrap_or_default();
    let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
    Some(authority) == host
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A browser sends the cookie by itself, so it must also say that the page which asks is ours.
fn foreign(identity: &Identity, request: &Request) -> Option<Response> {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD);
    if identity.via != Via::Session || safe {
        return None;
    }
    let headers = request.headers();
    let own_page = headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin");
    // That it is the right one was looked at before.
    if own_page || headers.contains_key(ORIGIN) {
        return None;
    }
    let why = "a session changes things for the page it belongs to only: send Origin, or use a \
               token";
    Some(problem(StatusCode::FORBIDDEN, why))
}

fn forbidden(identity: &Identity, role: Role) -> Response {
    let (who, own) = (identity.name.as_deref().unwrap_or("whoever asks"), identity.role);
    problem(StatusCode::FORBIDDEN, format!("this is for the role {role}; {who} is {own}"))
}

/// Nobody is known: what to show instead.
pub(super) fn unauthorized(unknown: &Unknown, path: Option<&str>) -> Response {
    let wait = |status, message: &str, seconds: u64| {
        let mut response = problem(status, message);
        response.headers_mut().insert(RETRY_AFTER, seconds.max(1).into());
        response
    };
    let message = match unknown {
        Unknown::Nothing => "sign in first: a user and password, or a token, is needed",
        Unknown::Wrong(_) => "the user or the password, or the token, is wrong",
        Unknown::Limited(time) => {
            let message = "too many wrong passwords or tokens: try again later";
            return wait(StatusCode::TOO_MANY_REQUESTS, message, time.as_secs() + 1);
        }
        Unknown::Busy => {
            let message = "too many passwords are being checked: try again";
            return wait(StatusCode::SERVICE_UNAVAILABLE, message, 1);
        }
    };
    let mut response = problem(StatusCode::UNAUTHORIZED, message);
    // With Basic, a browser would put a window of its own before the page.
    let scheme = match path {
        Some("/cimom" | "/wsman" | "/metrics") => "Basic realm=\"lund\", charset=\"UTF-8\"",
        _ => "Bearer realm=\"lund\"",
    };
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
    response
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_names_of_this_machine_are_let_in() {
        for good in ["localhost", "localhost:5988", "127.0.0.1:5988", "127.1.2.3", "[::1]:5988"] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in ["", "example.com", "127.0.0.1.example.com", "10.0.0.1:5988", "[2001:db8::1]:1"]
        {
            assert!(!is_loopback(bad), "{bad}");
        }
    }
}
