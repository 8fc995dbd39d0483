//! How jobs run, and what is asked of them.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use job_engine::{RequestKey, Submission};
use serde::de::DeserializeOwned;

use super::{Client, Shared, answer, parse};
use crate::api;
use crate::service::{self, Refusal, Result, Service, ServiceError};

/// Who submits a job, and how it shall run: parameters of the request.
#[derive(Debug)]
pub(super) struct By {
    owner: String,
    request: Option<RequestKey>,
    options: std::result::Result<Query<api::JobOptions>, QueryRejection>,
}

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> std::result::Result<Self, Self::Rejection> {
        let options = Query::from_request_parts(parts, state).await;
        let Client(owner) = Client::from_request_parts(parts, state).await?;
        let request = parts.extensions.get::<RequestKey>().cloned();
        Ok(Self { owner, request, options })
    }
}

impl By {
    /// Of a job that deletes a disk: also whether its data are overwritten.
    pub(super) fn deletion(self) -> Result<(Submission, bool)> {
        let Query(options) =
            self.options.map_err(|error| ServiceError::new(Refusal::Invalid, error.body_text()))?;
        let overwrite = options.overwrite.unwrap_or(false);
        let submission = service::submission(&self.owner, &options)?;
        Ok((Submission { request: self.request, ..submission }, overwrite))
    }

    /// Of any other job.
    pub(super) fn submission(self) -> Result<Submission> {
        if self.options.as_ref().is_ok_and(|Query(options)| options.overwrite.is_some()) {
            let message = "`overwrite` is for the deletion of disks";
            return Err(ServiceError::new(Refusal::Invalid, message));
        }
        Ok(self.deletion()?.0)
    }
}

/// A request that submits a job: its body, and how the job shall run.
pub(super) struct Submit {
    by: By,
    headers: HeaderMap,
    body: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for Submit {
    type Rejection = BytesRejection;

    async fn from_request(
        request: Request,
        state: &S,
    ) -> std::result::Result<Self, BytesRejection> {
        let (mut parts, body) = request.into_parts();
        let by = By::from_request_parts(&mut parts, state).await;
        let by = by.unwrap_or_else(|never| match never {});
        let headers = parts.headers.clone();
        let body = Bytes::from_request(Request::from_parts(parts, body), state).await?;
        Ok(Self { by, headers, body })
    }
}

impl Submit {
    /// Submits what is asked for: `202` with the job.
    pub(super) async fn to<R, F>(self, service: Arc<Service>, submit: F) -> Response
    where
        R: DeserializeOwned,
        F: FnOnce(&Service, R, Submission) -> Result<api::Job> + Send + 'static,
    {
        let Self { by, headers, body } = self;
        answer(service, StatusCode::ACCEPTED, move |service| {
            let request = parse(&headers, &body)?;
            submit(service, request, by.submission()?)
        })
        .await
    }
}

pub(super) async fn cancel(
    State(service): Shared,
    Path(key): Path<String>,
    Client(client): Client,
) -> Response {
    answer(service, StatusCode::ACCEPTED, move |service| service.cancel(&key, &client)).await
}

pub(super) async fn suspend(
    State(service): Shared,
    Path(key): Path<String>,
    Client(client): Client,
) -> Response {
    answer(service, StatusCode::ACCEPTED, move |service| service.suspend(&key, &client)).await
}

pub(super) async fn resume(
    State(service): Shared,
    Path(key): Path<String>,
    Client(client): Client,
) -> Response {
    answer(service, StatusCode::ACCEPTED, move |service| service.resume_job(&key, &client)).await
}

pub(super) async fn kill(
    State(service): Shared,
    Path(key): Path<String>,
    Client(client): Client,
) -> Response {
    answer(service, StatusCode::ACCEPTED, move |service| service.kill(&key, &client)).await
}

pub(super) async fn change(
    State(service): Shared,
    Path(key): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(service, StatusCode::OK, move |service| {
        let change: api::ChangeJob = parse(&headers, &body)?;
        service.change_job(&key, &change)
    })
    .await
}

pub(super) async fn limits(State(service): Shared) -> Response {
    answer(service, StatusCode::OK, |service| Ok(service.job_limits())).await
}

pub(super) async fn set_limits(
    State(service): Shared,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(service, StatusCode::OK, move |service| {
        let limits: api::JobLimits = parse(&headers, &body)?;
        Ok(service.set_job_limits(limits))
    })
    .await
}
