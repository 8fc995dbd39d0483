//! The service over HTTP and JSON, below `/api/v1`.

mod error;
mod portal_group;
mod session;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::api;
use crate::service::{Refusal, Result, Service, ServiceError};

/// The longest that a request waits for a job.
const MAX_WAIT: Duration = Duration::from_secs(60);

type Shared = State<Arc<Service>>;

/// The routes.
pub fn router(service: Arc<Service>) -> Router {
    let api = Router::new()
        .route("/status", get(status))
        .route("/drain", post(drain))
        .route("/resume", post(resume))
        .route("/pools", get(pools))
        .route("/portal-groups", get(portal_group::list))
        .route(
            "/portal-groups/{group}/state",
            put(portal_group::set_state).delete(portal_group::reset_state),
        )
        .route("/sessions", get(session::list))
        .route("/sessions/{session}", get(session::show).delete(session::end))
        .route("/sessions/{session}/logout", post(session::ask_logout))
        .route("/sessions/{session}/renegotiate", post(session::ask_renegotiation))
        .route("/sessions/{session}/trace", get(session::trace))
        .route("/disks", get(disks).post(create_disk))
        .route("/disks/{disk}", get(disk).delete(delete_disk))
        .route("/disks/{disk}/expand", post(expand_disk))
        .route("/targets", get(targets).post(create_target))
        .route("/targets/{target}", get(target).delete(delete_target))
        .route("/targets/{target}/access", put(replace_access).post(allow).delete(disallow))
        .route("/targets/{target}/luns", post(map))
        .route("/targets/{target}/luns/{lun}", delete(unmap))
        .route("/jobs", get(jobs))
        .route("/jobs/{job}", get(job).delete(delete_job))
        .route("/jobs/{job}/cancel", post(cancel))
        .route("/jobs/{job}/errors", get(errors))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(service);
    Router::new().nest("/api/v1", api).route("/healthz", get(|| async { "ok\n" }))
}

/// Runs a function of the service where it may wait for the medium.
async fn run<T, F>(service: Arc<Service>, function: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&Service) -> Result<T> + Send + 'static,
{
    let done = tokio::task::spawn_blocking(move || function(&service)).await;
    done.unwrap_or_else(|error| {
        tracing::error!(%error, "a request failed inside");
        Err(ServiceError::new(Refusal::Internal, "the request failed inside; the log says why"))
    })
}

async fn answer<T, F>(service: Arc<Service>, status: StatusCode, function: F) -> Response
where
    T: Serialize + Send + 'static,
    F: FnOnce(&Service) -> Result<T> + Send + 'static,
{
    match run(service, function).await {
        Ok(value) => (status, Json(value)).into_response(),
        Err(error) => error.into_response(),
    }
}

async fn nothing<F>(service: Arc<Service>, function: F) -> Response
where
    F: FnOnce(&Service) -> Result<()> + Send + 'static,
{
    match run(service, function).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.into_response(),
    }
}

/// A body as JSON. It must say that it is JSON: a web page of another site cannot.
fn parse<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T> {
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

/// Who asks, for `Owner` and for errors of cancelled jobs.
fn client(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let agent = agent.unwrap_or("REST").chars().filter(|c| !c.is_control()).take(64);
    agent.collect()
}

async fn status(State(service): Shared) -> Response {
    answer(service, StatusCode::OK, |service| Ok(service.status())).await
}

async fn drain(State(service): Shared) -> Response {
    answer(service, StatusCode::OK, |service| Ok(service.drain())).await
}

async fn resume(State(service): Shared) -> Response {
    answer(service, StatusCode::OK, Service::resume).await
}

async fn pools(State(service): Shared) -> Response {
    answer(service, StatusCode::OK, |service| Ok(service.pools())).await
}

async fn disks(State(service): Shared) -> Response {
    answer(service, StatusCode::OK, |service| Ok(service.disks())).await
}

async fn disk(State(service): Shared, Path(key): Path<String>) -> Response {
    answer(service, StatusCode::OK, move |service| service.disk(&key)).await
}

async fn create_disk(State(service): Shared, headers: HeaderMap, body: Bytes) -> Response {
    answer(service, StatusCode::ACCEPTED, move |service| {
        let request: api::CreateDisk = parse(&headers, &body)?;
        service.create_disk(request, &client(&headers))
    })
    .await
}

async fn delete_disk(
    State(service): Shared,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Response {
    answer(service, StatusCode::ACCEPTED, move |service| {
        service.delete_disk(&key, &client(&headers))
    })
    .await
}

async fn expand_disk(
    State(service): Shared,
    Path(key): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(service, StatusCode::ACCEPTED, move |service| {
        let request: api::ExpandDisk = parse(&headers, &body)?;
        service.expand_disk(&key, &request, &client(&headers))
    })
    .await
}

async fn targets(State(service): Shared) -> Response {
    answer(service, StatusCode::OK, |service| Ok(service.targets())).await
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
    entry: std::result::Result<Query<api::Disallow>, axum::extract::rejection::QueryRejection>,
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

async fn unmap(State(service): Shared, Path((target, lun)): Path<(String, String)>) -> Response {
    nothing(service, move |service| {
        let lun = lun.parse().map_err(|_| {
            ServiceError::new(Refusal::Invalid, format!("`{lun}` is no LUN: a number is wanted"))
        })?;
        service.unmap(&target, lun)
    })
    .await
}

async fn jobs(State(service): Shared) -> Response {
    answer(service, StatusCode::OK, |service| Ok(service.jobs())).await
}

/// `?wait_seconds=`: not before the job has ended, or so many seconds have passed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    #[serde(default)]
    wait_seconds: u64,
}

async fn job(
    State(service): Shared,
    Path(key): Path<String>,
    wait: std::result::Result<Query<Wait>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let wait = match wait {
        Ok(Query(wait)) => Duration::from_secs(wait.wait_seconds).min(MAX_WAIT),
        Err(error) => {
            return ServiceError::new(Refusal::Invalid, error.body_text()).into_response();
        }
    };
    answer(service, StatusCode::OK, move |service| service.wait(&key, wait)).await
}

async fn delete_job(State(service): Shared, Path(key): Path<String>) -> Response {
    nothing(service, move |service| service.delete_job(&key)).await
}

async fn cancel(State(service): Shared, Path(key): Path<String>, headers: HeaderMap) -> Response {
    answer(service, StatusCode::ACCEPTED, move |service| service.cancel(&key, &client(&headers)))
        .await
}

async fn errors(State(service): Shared, Path(key): Path<String>) -> Response {
    answer(service, StatusCode::OK, move |service| Ok(service.job(&key)?.errors)).await
}

async fn no_such_path(uri: axum::http::Uri) -> Response {
    ServiceError::new(Refusal::NotFound, format!("there is nothing at {}", uri.path()))
        .into_response()
}

async fn no_such_method(method: axum::http::Method) -> Response {
    let message = format!("{method} is not possible here");
    let problem = api::Problem { message, error: None };
    (StatusCode::METHOD_NOT_ALLOWED, Json(problem)).into_response()
}
