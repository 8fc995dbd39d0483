//! `/chap-accounts`

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};

use super::list::list as listed;
use super::{Shared, answer, nothing, parse};
use crate::api;
use crate::service::{Refusal, ServiceError};

pub(super) async fn list(State(service): Shared, uri: Uri) -> Response {
    listed(service, uri, &[], |service| Ok(service.chap_accounts())).await
}

pub(super) async fn show(State(service): Shared, Path(user): Path<String>) -> Response {
    answer(service, StatusCode::OK, move |service| service.chap_account(&user)).await
}

pub(super) async fn set(
    State(service): Shared,
    Path(user): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(service, StatusCode::OK, move |service| {
        service.set_chap_account(&user, &parse(&headers, &body)?)
    })
    .await
}

/// `?open=true`
pub(super) async fn delete(
    State(service): Shared,
    Path(user): Path<String>,
    how: Result<Query<api::DeleteChapAccount>, QueryRejection>,
) -> Response {
    let how = match how {
        Ok(Query(how)) => how,
        Err(error) => {
            return ServiceError::new(Refusal::Invalid, error.body_text()).into_response();
        }
    };
    nothing(service, move |service| service.delete_chap_account(&user, how.open)).await
}
