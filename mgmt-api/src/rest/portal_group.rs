//! `/portal-groups`

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};

use super::list::list as listed;
use super::{Shared, answer, parse};
use crate::api;
use crate::service::{Refusal, ServiceError};

pub(super) async fn list(State(service): Shared, uri: Uri) -> Response {
    listed(service, uri, &[], |service| Ok(service.portal_groups())).await
}

pub(super) async fn show(State(service): Shared, Path(key): Path<String>) -> Response {
    answer(service, StatusCode::OK, move |service| service.portal_group(&key)).await
}

pub(super) async fn set_state(
    State(service): Shared,
    Path(key): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(service, StatusCode::OK, move |service| {
        service.set_access_state(&key, &parse(&headers, &body)?)
    })
    .await
}

/// `?target=`: for that one only.
pub(super) async fn reset_state(
    State(service): Shared,
    Path(key): Path<String>,
    of: Result<Query<api::ResetAccessState>, QueryRejection>,
) -> Response {
    let of = match of {
        Ok(Query(of)) => of,
        Err(error) => {
            return ServiceError::new(Refusal::Invalid, error.body_text()).into_response();
        }
    };
    answer(service, StatusCode::OK, move |service| service.reset_access_state(&key, &of)).await
}
