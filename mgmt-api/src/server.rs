//! The one HTTP server: CIM-XML, REST and the web page, and what protects them.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

pub use axum::Router;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::{RequestBodyTimeoutLayer, TimeoutLayer};

use crate::access::{self, Access, Guard, Peer, guard};
use crate::cim::{self, Cimom};
use crate::rest::openapi;
use crate::routes::{Routes, Table};
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
/// A connection must be ready for requests within so long.
const READY_LIMIT: Duration = Duration::from_secs(10);
/// Connections at once; others wait until one of them has ended.
const MAX_CONNECTIONS: usize = 512;
/// After an accept that failed for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);
/// REST takes small bodies; CIM-XML has a bound of its own.
const MAX_BODY: usize = 1 << 20;

/// All routes, without what protects them.
fn routes(service: Arc<Service>, cimom: Arc<Cimom>, access: Arc<Access>) -> Routes {
    let contract = rest::Contract::new(service.clone());
    rest::routes(service.clone())
        .merge(access::routes(access))
        .layered(|router| router.layer(from_fn_with_state(contract, rest::keep)))
        .layered(|router| router.layer(from_fn(rest::slow_bodies)))
        .layered(|router| router.layer(no_store()))
        .merge(metrics::routes(service))
        .layered(|router| router.layer(RequestBodyLimitLayer::new(MAX_BODY)))
        .merge(cim::wsman::routes(cimom.clone()))
        .merge(cim::routes(cimom))
        .merge(web::routes())
}

/// What REST answers is old at once, and may be confidential.
fn no_store() -> SetResponseHeaderLayer<HeaderValue> {
    let value = HeaderValue::from_static("no-store");
    SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, value)
}

/// Headers of all responses that take from browsers what they should not do with them.
fn hardened(router: Router) -> Router {
    const HEADERS: [(HeaderName, &str); 3] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ];
    HEADERS.into_iter().fold(router, |router, (name, value)| {
        let value = HeaderValue::from_static(value);
        router.layer(SetResponseHeaderLayer::if_not_present(name, value))
    })
}

/// Everything under one roof, and whom each route is for. Requests must carry their [`Peer`].
pub fn router(service: Arc<Service>, cimom: Arc<Cimom>, access: Arc<Access>) -> (Router, Table) {
    let described = openapi::Cell::default();
    let routes = routes(service, cimom, access.clone()).merge(openapi::routes(described.clone()));
    let (router, table) = routes.into_parts();
    let _ = described.set(openapi::document(&table).to_string().into());
    let state = Guard { access, table: Arc::new(table.clone()) };
    let router = router
        .fallback(rest::no_such_path)
        .layer(RequestBodyTimeoutLayer::new(BODY_PAUSE))
        .layer(from_fn_with_state(state, guard))
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIME_LIMIT))
        .layer(GlobalConcurrencyLimitLayer::new(MAX_REQUESTS))
        .layer(CatchPanicLayer::new())
        .layer(from_fn(rest::problems));
    (hardened(router), table)
}

/// The bytes of a connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What becomes a connection once the client has done its part.
pub type Handshake = Pin<Box<dyn Future<Output = io::Result<(Box<dyn Stream>, Peer)>> + Send>>;

/// A listener that waits for the next connection.
pub type Accepting<'a> = Pin<Box<dyn Future<Output = io::Result<Handshake>> + Send + 'a>>;

/// Where connections come from.
pub trait Listener: Send {
    /// The next one. What waits for the client is left to the handshake.
    fn accept(&mut self) -> Accepting<'_>;
}

/// Serves until `stopped`; requests that are there are answered first.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    mut listener: impl Listener,
    router: Router,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
    let (graceful, places) = (GracefulShutdown::new(), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
    let mut stopped = pin!(stopped);
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((listener.accept().await?, place))
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            () = &mut stopped => break,
        };
        let (handshake, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a management connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (protocol, router, watcher) = (protocol.clone(), router.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            let (stream, peer) = match tokio::time::timeout(READY_LIMIT, handshake).await {
                Ok(Ok(ready)) => ready,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a management connection failed");
                    return;
                }
                Err(_) => return,
            };
            let service = router.map_request(move |mut request: hyper::Request<_>| {
                request.extensions_mut().insert(peer.clone());
                request
            });
            let service = TowerToHyperService::new(service);
            let connection = protocol.serve_connection(TokioIo::new(stream), service);
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(%error, "a management connection ended");
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
    Ok(())
}
