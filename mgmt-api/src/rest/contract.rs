//! What holds for every route: changes that are for a certain state only (`If-Match`), requests
//! that start a job once however often they come (`Idempotency-Key`), errors as problem details.
//!
//! A tag is that of what changes change: the free space of a disk or the progress of a job are no
//! part of it. A change with a condition is made while no other change comes over REST, and the
//! engine looks at the condition once more right before the change, when nobody else changes
//! anything: jobs and CIM clients are kept out too. Of portal groups, the data path does.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::RequestExt as _;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{FromRequestParts as _, MatchedPath, RawPathParams, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use job_engine::{Condition, RequestKey};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Mutex, RwLock};

use super::error::{PROBLEM_JSON, problem};
use super::{Client, PREFIX, accepted};
use crate::service::{Service, lasting};

/// Longer bodies are refused before.
const MAX_BODY: usize = 1 << 20;
/// The longest key of a request.
const MAX_KEY: usize = 128;
/// The longest text of an error that was not made here.
const MAX_TEXT: usize = 4096;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What a change with `If-Match` says when it comes too late.
const TOO_LATE: &str = "somebody has changed it meanwhile: read it again, and decide anew";

tokio::task_local! {
    /// What the engine asks before it carries out the request that is being answered.
    static CONDITION: Condition;
}

/// The condition of the request that is being answered.
pub(super) fn condition() -> Option<Condition> {
    CONDITION.try_with(Clone::clone).ok()
}

/// With what [`keep`] works.
#[derive(Debug, Clone)]
pub(crate) struct Contract {
    service: Arc<Service>,
    /// Held for reading by changes without a condition, for writing by those with one.
    changes: Arc<RwLock<()>>,
    /// Held by requests with a key: of two that come at once, one starts the job.
    keyed: Arc<Mutex<()>>,
}

impl Contract {
    pub(crate) fn new(service: Arc<Service>) -> Self {
        Self { service, changes: Arc::default(), keyed: Arc::default() }
    }
}

/// A resource that a request is about.
#[derive(Debug, Clone)]
struct Resource {
    collection: String,
    key: String,
    /// The request is for it, not for something below it.
    itself: bool,
}

async fn resource(request: &mut Request) -> Option<Resource> {
    let matched = request.extensions().get::<MatchedPath>()?.as_str().to_owned();
    let mut parts = matched.strip_prefix(PREFIX)?.trim_start_matches('/').split('/');
    let collection = parts.next()?.to_owned();
    if is_single(&collection) {
        return Some(Resource { collection, key: String::new(), itself: true });
    }
    let (_, itself) = (parts.next().filter(|part| part.starts_with('{'))?, parts.next().is_none());
    let parameters: RawPathParams = request.extract_parts().await.ok()?;
    let key = parameters.iter().next()?.1.to_owned();
    Some(Resource { collection, key, itself })
}

/// There is one of its kind.
pub(crate) fn is_single(collection: &str) -> bool {
    ["job-limits", "configuration"].contains(&collection)
}

/// The entity tag of a resource; a number is one by itself.
fn tag(resource: Value) -> String {
    if resource.is_number() {
        return format!("\"{resource}\"");
    }
    let digest = Sha256::digest(lasting(resource).to_string());
    let mut tag = String::from("\"");
    for byte in digest.iter().take(12) {
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    tag
}

/// Whether a list of tags has this one. Weak ones never match: nothing here is nearly the same.
fn lists(headers: &HeaderMap, name: HeaderName, tag: Option<&str>) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|one| tag.is_some_and(|tag| one == "*" || one == tag))
}

/// Makes the rules hold for one request.
pub(crate) async fn keep(
    State(contract): State<Contract>,
    mut request: Request,
    next: Next,
) -> Response {
    let resource = resource(&mut request).await;
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        let headers = request.headers().clone();
        let response = next.run(request).await;
        return match resource.filter(|it| it.itself && response.status() == StatusCode::OK) {
            Some(resource) => tagged(&resource, &headers, response).await,
            None => response,
        };
    }
    // They wait for initiators, and change nothing that has a tag.
    let path = request.uri().path();
    if path.strip_prefix(PREFIX).is_some_and(|path| matches!(path, "/drain" | "/resume")) {
        return next.run(request).await;
    }
    // A client that goes away must not leave a change between its check and its end.
    let done = tokio::spawn(change(contract, resource, request, next));
    done.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request failed inside");
        let why = "the request failed inside; the log says why";
        problem(StatusCode::INTERNAL_SERVER_ERROR, why)
    })
}

/// The collections whose resources have tags.
fn has_tag(collection: &str) -> bool {
    collection != "sessions"
}

async fn tagged(resource: &Resource, headers: &HeaderMap, response: Response) -> Response {
    if !has_tag(&resource.collection) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "the answer broke off");
    };
    if let Ok(mut value) = serde_json::from_slice::<Value>(&body) {
        if resource.collection == "configuration"
            && let Some(generation) = value.get_mut("generation")
        {
            value = generation.take();
        }
        let tag = tag(value);
        let same = lists(headers, header::IF_NONE_MATCH, Some(&tag));
        if let Ok(value) = HeaderValue::try_from(tag) {
            parts.headers.insert(header::ETAG, value);
        }
        if same {
            parts.status = StatusCode::NOT_MODIFIED;
            parts.headers.remove(header::CONTENT_TYPE);
            parts.headers.remove(header::CONTENT_LENGTH);
            return Response::from_parts(parts, Body::empty());
        }
    }
    Response::from_parts(parts, Body::from(body))
}

async fn change(
    contract: Contract,
    resource: Option<Resource>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let conditions = [header::IF_MATCH, header::IF_NONE_MATCH];
    let conditional = conditions.iter().any(|name| headers.contains_key(name));
    let (shared, alone);
    if conditional {
        alone = contract.changes.clone().write_owned().await;
        if let Some(why) = unmet(&contract.service, resource.as_ref(), headers).await {
            return problem(StatusCode::PRECONDITION_FAILED, why);
        }
        let (condition, late) = lasting_condition(&contract.service, resource, headers);
        let response = CONDITION.scope(condition, keyed(&contract, request, next)).await;
        drop(alone);
        if late.load(Ordering::Acquire) {
            return problem(StatusCode::PRECONDITION_FAILED, TOO_LATE);
        }
        return response;
    }
    shared = contract.changes.clone().read_owned().await;
    let response = keyed(&contract, request, next).await;
    drop(shared);
    response
}

/// What the engine, or the data path, looks at right before it makes the change, and whether it was not
/// so.
fn lasting_condition(
    service: &Arc<Service>,
    resource: Option<Resource>,
    headers: &HeaderMap,
) -> (Condition, Arc<AtomicBool>) {
    let late = Arc::new(AtomicBool::new(false));
    let (told, service, headers) = (late.clone(), service.clone(), headers.clone());
    let resource = resource.filter(|it| LASTING.contains(&it.collection.as_str()));
    let holds = move || {
        let Some(Resource { collection, key, .. }) = &resource else { return true };
        let tag = service.current(collection, key).map(tag);
        let holds = refusal(tag.as_deref(), &headers).is_none();
        told.store(!holds, Ordering::Release);
        holds
    };
    (Arc::new(holds), late)
}

/// Collections of which the condition is looked at once more where all changes go through: in the
/// engine, and in the data path.
const LASTING: &[&str] =
    &["disks", "snapshots", "targets", "jobs", "users", "tokens", "portal-groups"];

/// Why a state with this tag is not what the client means.
fn refusal(tag: Option<&str>, headers: &HeaderMap) -> Option<&'static str> {
    if headers.contains_key(header::IF_MATCH) && !lists(headers, header::IF_MATCH, tag) {
        return Some(match tag {
            Some(_) => TOO_LATE,
            None => "what If-Match is for is not there, or has no tag",
        });
    }
    if headers.contains_key(header::IF_NONE_MATCH) && lists(headers, header::IF_NONE_MATCH, tag) {
        return Some("it is there already");
    }
    None
}

/// Why the resource is not in the state that the client means.
async fn unmet(
    service: &Arc<Service>,
    resource: Option<&Resource>,
    headers: &HeaderMap,
) -> Option<&'static str> {
    let tag = match resource.filter(|it| has_tag(&it.collection)).cloned() {
        Some(Resource { collection, key, .. }) => {
            let service = service.clone();
            let current =
                tokio::task::spawn_blocking(move || service.current(&collection, &key)).await;
            current.ok().flatten().map(tag)
        }
        None => None,
    };
    refusal(tag.as_deref(), headers)
}

/// A request with a key is answered with the job that it has started before, if it has.
async fn keyed(contract: &Contract, request: Request, next: Next) -> Response {
    let Some(key) = request.headers().get(IDEMPOTENCY_KEY) else {
        return next.run(request).await;
    };
    let visible = |key: &&str| {
        !key.is_empty() && key.len() <= MAX_KEY && key.bytes().all(|it| it.is_ascii_graphic())
    };
    let Some(key) = key.to_str().ok().filter(visible).map(str::to_owned) else {
        let why = format!("Idempotency-Key is 1 to {MAX_KEY} visible ASCII characters");
        return problem(StatusCode::BAD_REQUEST, why);
    };
    let (mut parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long, or broke off");
    };
    let fingerprint = fingerprint(&parts, &body);
    let Ok(Client(owner)) = Client::from_request_parts(&mut parts, &()).await;
    let one = contract.keyed.lock().await;
    let response = match contract.service.job_of_request(&owner, &key) {
        Some((_, other)) if other != fingerprint => {
            let why = format!("the key {key} was used for another request");
            problem(StatusCode::UNPROCESSABLE_ENTITY, why)
        }
        Some((job, _)) => {
            let mut response = accepted(&job);
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
            response
        }
        None => {
            parts.extensions.insert(RequestKey { key, fingerprint });
            next.run(Request::from_parts(parts, Body::from(body))).await
        }
    };
    drop(one);
    response
}

fn fingerprint(parts: &axum::http::request::Parts, body: &Bytes) -> String {
    let target = parts.uri.path_and_query().map_or("", |it| it.as_str());
    let mut digest = Sha256::new();
    for part in [parts.method.as_str().as_bytes(), target.as_bytes(), body.as_ref()] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    digest.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Errors that come from below (a body that is too long, a path that cannot be decoded, a limit of
/// time) become problem details too.
pub(crate) async fn problems(request: Request, next: Next) -> Response {
    let here = request.uri().path().starts_with(PREFIX);
    let response = next.run(request).await;
    let status = response.status();
    let told = response.headers().get(header::CONTENT_TYPE).is_some_and(|it| it == PROBLEM_JSON);
    if !here || told || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, MAX_TEXT).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let detail = match text.trim() {
        "" => "the request cannot be carried out",
        text => text,
    };
    let mut response = problem(status, detail).into_response();
    for name in [header::ALLOW, header::RETRY_AFTER, header::WWW_AUTHENTICATE, header::CONNECTION] {
        if let Some(value) = parts.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    *response.extensions_mut() = parts.extensions;
    response
}
