//! Snapshots of disks.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::jobs::{By, Submit};
use super::list::list as listed;
use super::{Shared, answer};
use crate::api;
use crate::service::{Refusal, Service, ServiceError};

/// Which snapshots are listed, beside what every list knows.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Which {
    disk: Option<String>,
}

pub(super) async fn list(
    State(service): Shared,
    query: Result<Query<Which>, QueryRejection>,
    uri: Uri,
) -> Response {
    listed(service, uri, &["disk"], move |service| {
        let Query(Which { disk }) =
            query.map_err(|error| ServiceError::new(Refusal::Invalid, error.body_text()))?;
        service.snapshots(disk.as_deref())
    })
    .await
}

pub(super) async fn show(State(service): Shared, Path(key): Path<String>) -> Response {
    answer(service, StatusCode::OK, move |service| service.snapshot(&key)).await
}

/// Since when, and which page.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    /// The older snapshot: `DISK@NAME` or its identifier.
    since: String,
    /// The first byte to look at; `next` of the page before.
    #[serde(default)]
    offset: u64,
    /// Extents at most, 1 to 10000; 1000 without it.
    #[serde(default)]
    limit: Option<usize>,
}

impl Since {
    fn page(&self) -> Result<(u64, usize), ServiceError> {
        match self.limit.unwrap_or(1000) {
            limit @ 1..=10_000 => Ok((self.offset, limit)),
            _ => Err(ServiceError::new(Refusal::Invalid, "limit is 1 to 10000")),
        }
    }
}

type Asked = Result<Query<Since>, QueryRejection>;

fn asked(query: Asked) -> Result<Since, ServiceError> {
    let Query(since) =
        query.map_err(|error| ServiceError::new(Refusal::Invalid, error.body_text()))?;
    Ok(since)
}

pub(super) async fn changes(
    State(service): Shared,
    Path(key): Path<String>,
    query: Asked,
) -> Response {
    answer(service, StatusCode::OK, move |service| {
        let since = asked(query)?;
        service.changes(&key, &since.since, since.page()?)
    })
    .await
}

pub(super) async fn disk_changes(
    State(service): Shared,
    Path(key): Path<String>,
    query: Asked,
) -> Response {
    answer(service, StatusCode::OK, move |service| {
        let since = asked(query)?;
        service.disk_changes(&key, &since.since, since.page()?)
    })
    .await
}

pub(super) async fn create(State(service): Shared, submit: Submit) -> Response {
    let to = |service: &Service, request: api::CreateSnapshots, by| {
        service.create_snapshots(request, by)
    };
    submit.to(service, to).await
}

pub(super) async fn delete(State(service): Shared, Path(key): Path<String>, by: By) -> Response {
    answer(service, StatusCode::ACCEPTED, move |service| {
        service.delete_snapshot(&key, by.submission()?)
    })
    .await
}

pub(super) async fn roll_back(State(service): Shared, Path(key): Path<String>, by: By) -> Response {
    answer(service, StatusCode::ACCEPTED, move |service| service.roll_back(&key, by.submission()?))
        .await
}

pub(super) async fn check(
    State(service): Shared,
    Path(key): Path<String>,
    submit: Submit,
) -> Response {
    let to = move |service: &Service, request: api::CheckSnapshot, by| {
        service.check_snapshot(&key, &request, by)
    };
    submit.to(service, to).await
}

pub(super) async fn expose(
    State(service): Shared,
    Path(key): Path<String>,
    submit: Submit,
) -> Response {
    let to = move |service: &Service, request: api::ExposeSnapshot, by| {
        service.expose_snapshot(&key, request, by)
    };
    submit.to(service, to).await
}
