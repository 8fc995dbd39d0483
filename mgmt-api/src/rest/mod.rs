//! The service over HTTP and JSON, below `/api/v1`.

mod chap;
mod configuration;
mod contract;
mod copying;
mod error;
mod events;
mod jobs;
mod limits;
mod list;
pub(crate) mod openapi;
mod pools;
mod portal_group;
mod session;
mod slow;
mod snapshots;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use job_engine::Role;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub(crate) use self::contract::{Contract, is_single, keep, problems};
pub(crate) use self::error::problem;
pub(crate) use self::events::MAX_READERS;
use self::jobs::{By, Submit};
pub(crate) use self::list::{Wanted, list, narrowed};
pub(crate) use self::slow::slow_bodies;
use crate::access::{Acts, Identity};
use crate::api;
use crate::routes::Routes;
use crate::service::{Refusal, Result, Service, ServiceError};

/// What stands before all paths.
pub(crate) const PREFIX: &str = "/api/v1";

/// The longest that a request waits for a job.
const MAX_WAIT: Duration = Duration::from_secs(60);

type Shared = State<Arc<Service>>;

/// What starts jobs of disks.
fn disk_jobs(routes: Routes<Arc<Service>>) -> Routes<Arc<Service>> {
    use Role::Operator;
    routes
        .post(Operator, "/disks/{disk}/expand", expand_disk)
        .post(Operator, "/disks/{disk}/shrink", copying::shrink)
        .post(Operator, "/disks/{disk}/provision", copying::provision)
        .post(Operator, "/disks/{disk}/clone", copying::clone)
        .post(Operator, "/disks/{disk}/check", copying::check)
        .post(Operator, "/disks/{disk}/convert", copying::convert)
        .post(Operator, "/disks/{disk}/move", copying::move_to)
        .post(Operator, "/disks/{disk}/compact", copying::compact)
        .post(Operator, "/disks/{disk}/export", copying::export)
        .post(Operator, "/import", copying::import)
}

/// The routes.
pub fn routes(service: Arc<Service>) -> Routes {
    use Role::{Administrator, Operator, Viewer};
    let open = Routes::<()>::below("").everybody(Method::GET, "/healthz", async || "ok\n");
    disk_jobs(Routes::below(PREFIX))
        .get(Viewer, "/status", status)
        // Secrets are in it.
        .get(Administrator, "/state", saved_state)
        .get(Viewer, "/configuration", configuration::show)
        // Who proves what he is with which secret is in it.
        .put(Administrator, "/configuration", configuration::set)
        .post(Operator, "/drain", drain)
        .post(Operator, "/resume", resume)
        .get(Viewer, "/events", events::follow)
        .get(Viewer, "/settings", settings)
        .get(Viewer, "/pools", pools::list)
        // Any directory of the host can be named.
        .post(Administrator, "/pools", pools::create)
        .get(Viewer, "/pools/{pool}", pools::show)
        .patch(Operator, "/pools/{pool}", pools::change)
        .delete(Administrator, "/pools/{pool}", pools::delete)
        .get(Viewer, "/portal-groups", portal_group::list)
        .get(Viewer, "/portal-groups/{group}", portal_group::show)
        .put(Operator, "/portal-groups/{group}/state", portal_group::set_state)
        .delete(Operator, "/portal-groups/{group}/state", portal_group::reset_state)
        .get(Viewer, "/chap-accounts", chap::list)
        .get(Viewer, "/chap-accounts/{user}", chap::show)
        .put(Administrator, "/chap-accounts/{user}", chap::set)
        .delete(Administrator, "/chap-accounts/{user}", chap::delete)
        .get(Viewer, "/limits", limits::list)
        .put(Operator, "/limits/disks/{disk}", limits::set_disk)
        .delete(Operator, "/limits/disks/{disk}", limits::lift_disk)
        .put(Operator, "/limits/initiators/{initiator}", limits::set_initiator)
        .delete(Operator, "/limits/initiators/{initiator}", limits::lift_initiator)
        .get(Viewer, "/sessions", session::list)
        .get(Viewer, "/sessions/{session}", session::show)
        .delete(Operator, "/sessions/{session}", session::end)
        .post(Operator, "/sessions/{session}/logout", session::ask_logout)
        .post(Operator, "/sessions/{session}/renegotiate", session::ask_renegotiation)
        // What initiators read and write is in it.
        .get(Administrator, "/sessions/{session}/trace", session::trace)
        .get(Viewer, "/disks", disks)
        .post(Operator, "/disks", create_disk)
        .get(Viewer, "/disks/{disk}", disk)
        .patch(Operator, "/disks/{disk}", change_disk)
        .delete(Operator, "/disks/{disk}", delete_disk)
        .get(Viewer, "/snapshots", snapshots::list)
        .post(Operator, "/snapshots", snapshots::create)
        .get(Viewer, "/snapshots/{snapshot}", snapshots::show)
        .delete(Operator, "/snapshots/{snapshot}", snapshots::delete)
        .post(Operator, "/snapshots/{snapshot}/check", snapshots::check)
        .post(Operator, "/snapshots/{snapshot}/rollback", snapshots::roll_back)
        .post(Operator, "/snapshots/{snapshot}/expose", snapshots::expose)
        .get(Viewer, "/snapshots/{snapshot}/changes", snapshots::changes)
        .get(Viewer, "/disks/{disk}/changes", snapshots::disk_changes)
        .get(Viewer, "/targets", targets)
        .post(Operator, "/targets", create_target)
        .get(Viewer, "/targets/{target}", target)
        .delete(Operator, "/targets/{target}", delete_target)
        .put(Operator, "/targets/{target}/access", replace_access)
        .post(Operator, "/targets/{target}/access", allow)
        .delete(Operator, "/targets/{target}/access", disallow)
        .post(Operator, "/targets/{target}/luns", map)
        .delete(Operator, "/targets/{target}/luns/{lun}", unmap)
        .get(Viewer, "/jobs", all_jobs)
        .get(Viewer, "/jobs/{job}", job)
        .delete(Operator, "/jobs/{job}", delete_job)
        .post(Operator, "/jobs/{job}/cancel", jobs::cancel)
        .post(Operator, "/jobs/{job}/suspend", jobs::suspend)
        .post(Operator, "/jobs/{job}/resume", jobs::resume)
        .post(Operator, "/jobs/{job}/kill", jobs::kill)
        .put(Operator, "/jobs/{job}/settings", jobs::change)
        .get(Viewer, "/job-limits", jobs::limits)
        .put(Operator, "/job-limits", jobs::set_limits)
        .get(Viewer, "/jobs/{job}/errors", errors)
        .other_methods(no_such_method)
        .with_state(service)
        .merge(open.with_state(()))
}

/// Runs a function where it may wait for the medium.
async fn run<S, T, F>(state: Arc<S>, function: F) -> Result<T>
where
    S: Send + Sync + 'static,
    T: Send + 'static,
    F: FnOnce(&S) -> Result<T> + Send + 'static,
{
    let condition = contract::condition();
    let work = move || job_engine::under(condition, || function(&state));
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        tracing::error!(%error, "a request failed inside");
        Err(ServiceError::new(Refusal::Internal, "the request failed inside; the log says why"))
    })
}

pub(crate) async fn answer<S, T, F>(state: Arc<S>, status: StatusCode, function: F) -> Response
where
    S: Send + Sync + 'static,
    T: Serialize + Send + 'static,
    F: FnOnce(&S) -> Result<T> + Send + 'static,
{
    match run(state, function).await {
        Ok(value) => {
            let made = matches!(status, StatusCode::CREATED | StatusCode::ACCEPTED);
            let detail = made.then(|| name_of(&value)).flatten();
            let place = place(status, &value);
            let mut response = (status, Json(value)).into_response();
            if let Some(place) = place {
                response.headers_mut().insert(header::LOCATION, place);
            }
            if detail.is_some() {
                response.extensions_mut().insert(Acts { detail, ..Acts::default() });
            }
            response
        }
        Err(error) => error.into_response(),
    }
}

/// Where the job is that was begun.
fn place(status: StatusCode, value: &impl Serialize) -> Option<HeaderValue> {
    if status != StatusCode::ACCEPTED {
        return None;
    }
    let value = serde_json::to_value(value).ok()?;
    let id = value.get("id").and_then(serde_json::Value::as_str)?;
    HeaderValue::try_from(format!("{PREFIX}/jobs/{id}")).ok()
}

/// A job that was begun.
fn accepted(job: &api::Job) -> Response {
    let place = place(StatusCode::ACCEPTED, job);
    let mut response = (StatusCode::ACCEPTED, Json(job)).into_response();
    if let Some(place) = place {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

/// What the audit log calls something that was made or begun.
fn name_of(value: &impl Serialize) -> Option<String> {
    let value = serde_json::to_value(value).ok()?;
    let text = |key: &str| value.get(key).and_then(serde_json::Value::as_str);
    match (text("name"), text("id")) {
        (Some(name), Some(id)) => Some(format!("{name} ({id})")),
        (Some(one), None) | (None, Some(one)) => Some(one.to_owned()),
        (None, None) => None,
    }
}

pub(crate) async fn nothing<S, F>(state: Arc<S>, function: F) -> Response
where
    S: Send + Sync + 'static,
    F: FnOnce(&S) -> Result<()> + Send + 'static,
{
    match run(state, function).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.into_response(),
    }
}

/// A body as JSON. It must say that it is JSON: a web page of another site cannot.
pub(crate) fn parse<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next()).map(str::trim);
    if !essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        let message = "send the body as JSON, with Content-Type: application/json";
        return Err(ServiceError::new(Refusal::Invalid, message));
    }
    serde_json::from_slice(body).map_err(|error| {
        ServiceError::new(Refusal::Invalid, format!("the body cannot be read: {error}"))
    })
}

/// Who asks, for `Owner` and for errors of cancelled jobs: the user, or else the program.
struct Client(String);

impl<S: Sync> FromRequestParts<S> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> std::result::Result<Self, Infallible> {
        if let Some(name) = parts.extensions.get::<Identity>().and_then(|it| it.name.clone()) {
            return Ok(Self(name));
        }
        let agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let agent = agent.unwrap_or("REST").chars().filter(|c| !c.is_control()).take(64);
        Ok(Self(agent.collect()))
    }
}

async fn status(State(service): Shared) -> Response {
    answer(service, StatusCode::OK, |service| Ok(service.status())).await
}

/// For `lund import-state`: as text, since its checksum is that of the text.
async fn saved_state(State(service): Shared) -> Response {
    match run(service, Service::saved_state).await {
        Ok(text) => {
            let kind = [(header::CONTENT_TYPE, "application/json")];
            (StatusCode::OK, kind, text).into_response()
        }
        Err(error) => error.into_response(),
    }
}

async fn drain(State(service): Shared) -> Response {
    answer(service, StatusCode::OK, |service| Ok(service.drain())).await
}

async fn resume(State(service): Shared) -> Response {
    answer(service, StatusCode::OK, Service::resume).await
}

async fn settings(State(service): Shared, uri: Uri) -> Response {
    list(service, uri, &[], |service| Ok(service.settings())).await
}

async fn disks(State(service): Shared, uri: Uri) -> Response {
    narrowed(service, uri, &[], |service, wanted| Ok(service.disks_wanted(wanted))).await
}

async fn disk(State(service): Shared, Path(key): Path<String>) -> Response {
    answer(service, StatusCode::OK, move |service| service.disk(&key)).await
}

async fn create_disk(State(service): Shared, submit: Submit) -> Response {
    let to = |service: &Service, request: api::CreateDisk, by| service.create_disk(request, by);
    submit.to(service, to).await
}

async fn delete_disk(State(service): Shared, Path(key): Path<String>, by: By) -> Response {
    answer(service, StatusCode::ACCEPTED, move |service| {
        let (submission, overwrite) = by.deletion()?;
        if overwrite {
            service.overwrite_disk(&key, submission)
        } else {
            service.delete_disk(&key, submission)
        }
    })
    .await
}

async fn expand_disk(State(service): Shared, Path(key): Path<String>, submit: Submit) -> Response {
    let to = move |service: &Service, request: api::ExpandDisk, by| {
        service.expand_disk(&key, &request, by)
    };
    submit.to(service, to).await
}

async fn change_disk(
    State(service): Shared,
    Path(key): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(service, StatusCode::OK, move |service| {
        service.change_disk(&key, &parse(&headers, &body)?)
    })
    .await
}

async fn targets(State(service): Shared, uri: Uri) -> Response {
    list(service, uri, &[], |service| Ok(service.targets())).await
}

async fn target(State(service): Shared, Path(key): Path<String>) -> Response {
    answer(service, StatusCode::OK, move |service| service.target(&key)).await
}

async fn create_target(State(service): Shared, headers: HeaderMap, body: Bytes) -> Response {
    answer(service, StatusCode::CREATED, move |service| {
        service.create_target(parse(&headers, &body)?)
    })
    .await
}

async fn delete_target(State(service): Shared, Path(key): Path<String>) -> Response {
    nothing(service, move |service| service.delete_target(&key)).await
}

async fn replace_access(
    State(service): Shared,
    Path(key): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(service, StatusCode::OK, move |service| {
        service.replace_access(&key, parse(&headers, &body)?)
    })
    .await
}

async fn allow(
    State(service): Shared,
    Path(key): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(service, StatusCode::OK, move |service| service.allow(&key, parse(&headers, &body)?))
        .await
}

/// `?initiator=`, `?address=`: the conditions of the entry.
async fn disallow(
    State(service): Shared,
    Path(key): Path<String>,
    entry: std::result::Result<Query<api::Disallow>, QueryRejection>,
) -> Response {
    let entry = match entry {
        Ok(Query(entry)) => entry,
        Err(error) => {
            return ServiceError::new(Refusal::Invalid, error.body_text()).into_response();
        }
    };
    answer(service, StatusCode::OK, move |service| service.disallow(&key, entry)).await
}

async fn map(
    State(service): Shared,
    Path(target): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(service, StatusCode::CREATED, move |service| {
        let request: api::Map = parse(&headers, &body)?;
        service.map(&target, &request)
    })
    .await
}

async fn unmap(
    State(service): Shared,
    Path((target, lun)): Path<(String, String)>,
    Client(by): Client,
) -> Response {
    nothing(service, move |service| {
        let lun = lun.parse().map_err(|_| {
            ServiceError::new(Refusal::Invalid, format!("`{lun}` is no LUN: a number is wanted"))
        })?;
        service.unmap(&target, lun, &by)
    })
    .await
}

/// Which jobs are listed, beside what every list knows.
#[derive(Debug, Default, Deserialize, JsonSchema)]
struct Newest {
    /// So many, the newest first, instead of pages in the order of submission.
    #[schemars(range(min = 1))]
    newest: Option<usize>,
}

async fn all_jobs(
    State(service): Shared,
    query: std::result::Result<Query<Newest>, QueryRejection>,
    uri: Uri,
) -> Response {
    narrowed(service, uri, &["newest"], |service, wanted: &Wanted| {
        let invalid = |message: String| ServiceError::new(Refusal::Invalid, message);
        let Query(Newest { newest }) = query.map_err(|error| invalid(error.body_text()))?;
        let paged = wanted.limit.is_some() || wanted.after.is_some();
        if newest == Some(0) || (newest.is_some() && paged) {
            return Err(invalid("newest is a number above 0, without limit and cursor".to_owned()));
        }
        Ok(service.jobs_wanted(wanted, newest))
    })
    .await
}

/// `?wait_seconds=`: not before the job has ended, or so many seconds have passed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Wait {
    /// 0 to 60.
    #[serde(default)]
    #[schemars(range(max = 60))]
    wait_seconds: u64,
}

async fn job(
    State(service): Shared,
    Path(key): Path<String>,
    wait: std::result::Result<Query<Wait>, QueryRejection>,
) -> Response {
    let wait = match wait {
        Ok(Query(wait)) if Duration::from_secs(wait.wait_seconds) > MAX_WAIT => {
            let message = "`wait_seconds` is 60 at most: ask again after that";
            return ServiceError::new(Refusal::Invalid, message).into_response();
        }
        Ok(Query(wait)) => Duration::from_secs(wait.wait_seconds),
        Err(error) => {
            return ServiceError::new(Refusal::Invalid, error.body_text()).into_response();
        }
    };
    answer(service, StatusCode::OK, move |service| service.wait(&key, wait)).await
}

async fn delete_job(State(service): Shared, Path(key): Path<String>) -> Response {
    nothing(service, move |service| service.delete_job(&key)).await
}

async fn errors(State(service): Shared, Path(key): Path<String>) -> Response {
    answer(service, StatusCode::OK, move |service| Ok(service.job(&key)?.errors)).await
}

pub(crate) async fn no_such_path(uri: Uri) -> Response {
    ServiceError::new(Refusal::NotFound, format!("there is nothing at {}", uri.path()))
        .into_response()
}

pub(crate) async fn no_such_method(method: Method) -> Response {
    let message = format!("{method} is not possible here");
    problem(StatusCode::METHOD_NOT_ALLOWED, message)
}
