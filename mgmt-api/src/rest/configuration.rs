//! `/configuration`

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::{Shared, answer, parse, problem, run};
use crate::api;
use crate::service::{Refusal, ServiceError};

pub(super) async fn show(State(service): Shared) -> Response {
    answer(service, StatusCode::OK, super::super::service::Service::configuration).await
}

/// The generations that a change may be for; `None`: whatever there is (`*`).
fn generations(headers: &HeaderMap) -> Option<Vec<u64>> {
    let values = headers.get_all(header::IF_MATCH).into_iter();
    let values = values.filter_map(|value| value.to_str().ok());
    let tags: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    let number = |tag: &&str| tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok();
    (!tags.contains(&"*")).then(|| tags.iter().filter_map(number).collect())
}

pub(super) async fn set(
    State(service): Shared,
    how: Result<Query<api::Configure>, QueryRejection>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let how = match how {
        Ok(Query(how)) => how,
        Err(error) => {
            return ServiceError::new(Refusal::Invalid, error.body_text()).into_response();
        }
    };
    let conditional = headers.contains_key(header::IF_MATCH);
    if !conditional && !how.dry_run {
        let why = "say with If-Match which generation this is for: its number in quotes, as in the \
                   ETag of what you have read, or * for whatever there is";
        return problem(StatusCode::PRECONDITION_REQUIRED, why);
    }
    let done = run(service, move |service| {
        let wanted: api::Configuration = parse(&headers, &body)?;
        let generations = if conditional { generations(&headers) } else { None };
        service.configure(&wanted, how, generations.as_deref())
    });
    match done.await {
        Ok(done) => {
            let tag = HeaderValue::try_from(format!("\"{}\"", done.generation));
            let mut response = axum::Json(done).into_response();
            if let Ok(tag) = tag {
                response.headers_mut().insert(header::ETAG, tag);
            }
            response
        }
        Err(error) => error.into_response(),
    }
}
