//! Refusals as HTTP.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::service::{Refusal, ServiceError};

impl IntoResponse for ServiceError {
    fn into_response(self) -> Response {
        let status = match self.refusal {
            Refusal::Invalid => StatusCode::BAD_REQUEST,
            Refusal::NotFound => StatusCode::NOT_FOUND,
            Refusal::Conflict => StatusCode::CONFLICT,
            Refusal::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
            Refusal::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(self.problem)).into_response()
    }
}
