//! `/pools`

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;

use super::list::list as listed;
use super::{Shared, answer, nothing, parse};

pub(super) async fn list(State(service): Shared, uri: Uri) -> Response {
    listed(service, uri, &[], |service| Ok(service.pools())).await
}

pub(super) async fn show(State(service): Shared, Path(key): Path<String>) -> Response {
    answer(service, StatusCode::OK, move |service| service.pool(&key)).await
}

pub(super) async fn create(State(service): Shared, headers: HeaderMap, body: Bytes) -> Response {
    answer(service, StatusCode::CREATED, move |service| {
        service.create_pool(parse(&headers, &body)?)
    })
    .await
}

pub(super) async fn change(
    State(service): Shared,
    Path(key): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(service, StatusCode::OK, move |service| {
        service.change_pool(&key, &parse(&headers, &body)?)
    })
    .await
}

pub(super) async fn delete(State(service): Shared, Path(key): Path<String>) -> Response {
    nothing(service, move |service| service.delete_pool(&key)).await
}
