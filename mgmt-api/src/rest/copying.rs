//! Copies of disks and files, and smaller disks.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::jobs::By;
use super::{Shared, answer, parse};
use crate::api;

pub(super) async fn clone(
    State(service): Shared,
    Path(key): Path<String>,
    by: By,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(service, StatusCode::ACCEPTED, move |service| {
        let request: api::CloneDisk = parse(&headers, &body)?;
        service.clone_disk(&key, request, by.submission()?)
    })
    .await
}

pub(super) async fn export(
    State(service): Shared,
    Path(key): Path<String>,
    by: By,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(service, StatusCode::ACCEPTED, move |service| {
        let request: api::ExportDisk = parse(&headers, &body)?;
        service.export_disk(&key, request, by.submission()?)
    })
    .await
}

pub(super) async fn convert(
    State(service): Shared,
    Path(key): Path<String>,
    by: By,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(service, StatusCode::ACCEPTED, move |service| {
        let request: api::ConvertDisk = parse(&headers, &body)?;
        service.convert_disk(&key, &request, by.submission()?)
    })
    .await
}

pub(super) async fn check(
    State(service): Shared,
    Path(key): Path<String>,
    by: By,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(service, StatusCode::ACCEPTED, move |service| {
        let request: api::CheckDisk = parse(&headers, &body)?;
        service.check_disk(&key, &request, by.submission()?)
    })
    .await
}

pub(super) async fn shrink(
    State(service): Shared,
    Path(key): Path<String>,
    by: By,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(service, StatusCode::ACCEPTED, move |service| {
        let request: api::ExpandDisk = parse(&headers, &body)?;
        service.shrink_disk(&key, &request, by.submission()?)
    })
    .await
}

pub(super) async fn provision(
    State(service): Shared,
    Path(key): Path<String>,
    by: By,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(service, StatusCode::ACCEPTED, move |service| {
        let request: api::ProvisionDisk = parse(&headers, &body)?;
        service.provision_disk(&key, &request, by.submission()?)
    })
    .await
}

pub(super) async fn import(
    State(service): Shared,
    by: By,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(service, StatusCode::ACCEPTED, move |service| {
        let request: api::ImportDisk = parse(&headers, &body)?;
        service.import_disk(request, by.submission()?)
    })
    .await
}
