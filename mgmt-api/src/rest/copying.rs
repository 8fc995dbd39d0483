//! Copies of disks and files, other formats and sizes, checks.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::jobs::{By, Submit};
use super::{Shared, answer};
use crate::api;
use crate::service::Service;

pub(super) async fn clone(
    State(service): Shared,
    Path(key): Path<String>,
    submit: Submit,
) -> Response {
    let to =
        move |service: &Service, request: api::CloneDisk, by| service.clone_disk(&key, request, by);
    submit.to(service, to).await
}

pub(super) async fn export(
    State(service): Shared,
    Path(key): Path<String>,
    submit: Submit,
) -> Response {
    let to = move |service: &Service, request: api::ExportDisk, by| {
        service.export_disk(&key, request, by)
    };
    submit.to(service, to).await
}

pub(super) async fn convert(
    State(service): Shared,
    Path(key): Path<String>,
    submit: Submit,
) -> Response {
    let to = move |service: &Service, request: api::ConvertDisk, by| {
        service.convert_disk(&key, &request, by)
    };
    submit.to(service, to).await
}

pub(super) async fn move_to(
    State(service): Shared,
    Path(key): Path<String>,
    submit: Submit,
) -> Response {
    let to =
        move |service: &Service, request: api::MoveDisk, by| service.move_disk(&key, &request, by);
    submit.to(service, to).await
}

pub(super) async fn compact(State(service): Shared, Path(key): Path<String>, by: By) -> Response {
    let submit = move |service: &Service| service.compact_disk(&key, by.submission()?);
    answer(service, StatusCode::ACCEPTED, submit).await
}

pub(super) async fn check(
    State(service): Shared,
    Path(key): Path<String>,
    submit: Submit,
) -> Response {
    let to = move |service: &Service, request: api::CheckDisk, by| {
        service.check_disk(&key, &request, by)
    };
    submit.to(service, to).await
}

pub(super) async fn shrink(
    State(service): Shared,
    Path(key): Path<String>,
    submit: Submit,
) -> Response {
    let to = move |service: &Service, request: api::ExpandDisk, by| {
        service.shrink_disk(&key, &request, by)
    };
    submit.to(service, to).await
}

pub(super) async fn provision(
    State(service): Shared,
    Path(key): Path<String>,
    submit: Submit,
) -> Response {
    let to = move |service: &Service, request: api::ProvisionDisk, by| {
        service.provision_disk(&key, &request, by)
    };
    submit.to(service, to).await
}

pub(super) async fn import(State(service): Shared, submit: Submit) -> Response {
    let to = |service: &Service, request: api::ImportDisk, by| service.import_disk(request, by);
    submit.to(service, to).await
}
