//! `/limits`

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;

use super::list::list as listed;
use super::{Shared, nothing, parse};

pub(super) async fn list(State(service): Shared, uri: Uri) -> Response {
    listed(service, uri, &[], |service| Ok(service.limits())).await
}

pub(super) async fn set_disk(
    State(service): Shared,
    Path(disk): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    nothing(service, move |service| service.limit_disk(&disk, Some(parse(&headers, &body)?))).await
}

pub(super) async fn lift_disk(State(service): Shared, Path(disk): Path<String>) -> Response {
    nothing(service, move |service| service.limit_disk(&disk, None)).await
}

pub(super) async fn set_initiator(
    State(service): Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    nothing(service, move |service| service.limit_initiator(&name, Some(parse(&headers, &body)?)))
        .await
}

pub(super) async fn lift_initiator(State(service): Shared, Path(name): Path<String>) -> Response {
    nothing(service, move |service| service.limit_initiator(&name, None)).await
}
