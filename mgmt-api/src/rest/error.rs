//! Refusals as HTTP: problem details (RFC 9457), with the `CIM_Error` as a member of its own.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::Problem;
use crate::service::{Refusal, ServiceError};

/// Media type of problem details.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Problem details. `type` is left out: it is `about:blank`, and `title` the name of the status
/// (RFC 9457 §4.2.1). What a client can tell apart it finds in `error`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ProblemDetails")]
pub(crate) struct Document<'a> {
    /// The name of the status.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    #[serde(flatten)]
    problem: &'a Problem,
}

/// A response with problem details.
pub(crate) fn refused(status: StatusCode, problem: &Problem) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let document = Document { title, status: status.as_u16(), problem };
    let mut response = (status, Json(document)).into_response();
    let media_type = HeaderValue::from_static(PROBLEM_JSON);
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

/// Problem details without a `CIM_Error`.
pub(crate) fn problem(status: StatusCode, detail: impl Into<String>) -> Response {
    refused(status, &Problem { message: detail.into(), error: None })
}

impl IntoResponse for ServiceError {
    fn into_response(self) -> Response {
        let status = match self.refusal {
            Refusal::Invalid => StatusCode::BAD_REQUEST,
            Refusal::NotFound => StatusCode::NOT_FOUND,
            Refusal::Conflict => StatusCode::CONFLICT,
            Refusal::Changed => StatusCode::PRECONDITION_FAILED,
            Refusal::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
            Refusal::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        refused(status, &self.problem)
    }
}
