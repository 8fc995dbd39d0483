//! The one HTTP server: CIM-XML, REST and the web page, and what protects them.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::{RequestBodyTimeoutLayer, TimeoutLayer};

use crate::cim::{self, Cimom};
use crate::service::Service;
use crate::web;
use crate::{metrics, rest};

/// Requests that are worked on at once; the others wait.
const MAX_REQUESTS: usize = 64;
/// Longer than any request may wait for a job.
const TIME_LIMIT: Duration = Duration::from_secs(90);
/// For so long a client may be silent in the middle of a body: a request that waits for one counts
/// among the [`MAX_REQUESTS`].
const BODY_PAUSE: Duration = Duration::from_secs(5);
/// A request's head must come within so long, a connection without requests is closed after it.
const HEADER_LIMIT: Duration = Duration::from_secs(10);
/// Connections at once; others wait until one of them has ended.
const MAX_CONNECTIONS: usize = 512;
/// After an accept that failed for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);
/// REST takes small bodies; CIM-XML has a bound of its own.
const MAX_BODY: usize = 1 << 20;

/// Everything under one roof.
pub fn router(service: Arc<Service>, cimom: Arc<Cimom>) -> Router {
    rest::router(service.clone())
        .merge(metrics::router(service))
        .layer(RequestBodyLimitLayer::new(MAX_BODY))
        .merge(cim::router(cimom))
        .merge(web::router())
        .layer(RequestBodyTimeoutLayer::new(BODY_PAUSE))
        .layer(from_fn(same_site))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIME_LIMIT))
        .layer(GlobalConcurrencyLimitLayer::new(MAX_REQUESTS))
        .layer(CatchPanicLayer::new())
}

/// Serves until `stopped`; requests that are there are answered first.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
    let (graceful, places) = (GracefulShutdown::new(), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
    let mut stopped = pin!(stopped);
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>((listener.accept().await?.0, place))
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            () = &mut stopped => break,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a management connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = protocol.serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a management connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    graceful.shutdown().await;
    Ok(())
}

/// Nobody is asked for a password on the loopback address, so a web page in a browser there must
/// not be able to ask: neither from another site (`Origin`) nor by a name of its own that leads
/// here (`Host`).
async fn same_site(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST)
        .or_else(|| request.uri().authority().map(axum::http::uri::Authority::as_str));
    if !host.is_some_and(is_loopback) {
        return refuse("the Host header names no loopback address");
    }
    let origin = headers.get(header::ORIGIN).is_none_or(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
        Some(authority) == host
    });
    if !origin {
        return refuse("requests from pages of other sites are refused");
    }
    next.run(request).await
}

fn refuse(why: &'static str) -> Response {
    (StatusCode::FORBIDDEN, format!("{why}\n")).into_response()
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_names_of_this_machine_are_let_in() {
        for good in ["localhost", "localhost:5988", "127.0.0.1:5988", "127.1.2.3", "[::1]:5988"] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in ["", "example.com", "127.0.0.1.example.com", "10.0.0.1:5988", "[2001:db8::1]:1"]
        {
            assert!(!is_loopback(bad), "{bad}");
        }
    }
}
