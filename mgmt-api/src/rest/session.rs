//! `/sessions`

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::Deserialize;

use super::list::list as listed;
use super::{Shared, answer, nothing, parse};
use crate::api;
use crate::service::{Refusal, ServiceError, SessionRequest};

pub(super) async fn list(State(service): Shared, uri: Uri) -> Response {
    listed(service, uri, &[], |service| Ok(service.sessions())).await
}

pub(super) async fn show(State(service): Shared, Path(key): Path<String>) -> Response {
    answer(service, StatusCode::OK, move |service| service.session(&key)).await
}

pub(super) async fn end(State(service): Shared, Path(key): Path<String>) -> Response {
    nothing(service, move |service| service.ask_session(&key, SessionRequest::End)).await
}

pub(super) async fn ask_logout(
    service: Shared,
    key: Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    ask(service, key, headers, body, |seconds| SessionRequest::Logout { seconds }).await
}

pub(super) async fn ask_renegotiation(
    service: Shared,
    key: Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    ask(service, key, headers, body, |seconds| SessionRequest::Renegotiate { seconds }).await
}

async fn ask(
    State(service): Shared,
    Path(key): Path<String>,
    headers: HeaderMap,
    body: Bytes,
    request: fn(u16) -> SessionRequest,
) -> Response {
    nothing(service, move |service| {
        let api::AskInitiator { seconds } = parse(&headers, &body)?;
        service.ask_session(&key, request(seconds))
    })
    .await
}

/// `?seconds=`: for so long; without it, until the connection or the client goes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct For {
    seconds: Option<u32>,
}

/// A pcapng file that grows with what the connection receives and sends.
pub(super) async fn trace(
    State(service): Shared,
    Path(key): Path<String>,
    limit: Result<Query<For>, QueryRejection>,
) -> Response {
    let limit = match limit {
        Ok(Query(limit)) => limit.seconds.map(|seconds| Duration::from_secs(seconds.into())),
        Err(error) => {
            return ServiceError::new(Refusal::Invalid, error.body_text()).into_response();
        }
    };
    let trace = match service.trace(&key) {
        Ok(trace) => trace,
        Err(error) => return error.into_response(),
    };
    let over = async move {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let bytes = trace.take_until(Box::pin(over)).map(Ok::<_, Infallible>);
    ([(header::CONTENT_TYPE, "application/x-pcapng")], Body::from_stream(bytes)).into_response()
}
