//! Bodies that do not come: told as what they are, whichever route waits for one.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::BoxError;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::error::problem;
use crate::cim::timed_out;

/// A body, and whether it broke off because its client was silent for too long.
struct Watched {
    body: Body,
    silent: Arc<AtomicBool>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = Pin::new(&mut self.body).poll_frame(context);
        next.map_err(|error| {
            if timed_out(&error) {
                self.silent.store(true, Ordering::Release);
            }
            // In one box more nobody would find a limit of length in it.
            error.into_inner()
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whoever reads a body makes a bad request of one that breaks off. If that is so because its
/// client was silent for too long, the answer is another one: 408.
pub(crate) async fn slow_bodies(request: Request, next: Next) -> Response {
    let silent = Arc::new(AtomicBool::new(false));
    let seen = silent.clone();
    let request = request.map(|body| Body::new(Watched { body, silent: seen }));
    let response = next.run(request).await;
    if !silent.load(Ordering::Acquire) || !response.status().is_client_error() {
        return response;
    }
    let (parts, _) = response.into_parts();
    let mut response = problem(StatusCode::REQUEST_TIMEOUT, "the body does not come");
    // Of the audit log.
    *response.extensions_mut() = parts.extensions;
    response
}
