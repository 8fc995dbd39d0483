//! A span for each request of a management client.

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use job_engine::JobId;

use super::Exporter;
use super::span::{Attribute, Kind, Link, Nanos, Span, SpanId, TraceId, attribute};
use crate::access::Peer;

/// What is worth a span: not the page's files, nor what asks every few seconds whether lund is well.
const TRACED: [&str; 3] = ["/api/", "/cimom", "/wsman"];
/// W3C Trace Context.
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// What CIM-XML does, for those who do not read bodies (DSP0200).
const CIM_METHOD: HeaderName = HeaderName::from_static("cimmethod");

/// With a span for each request.
pub fn traced(router: Router, exporter: Arc<Exporter>) -> Router {
    router.layer(from_fn_with_state(exporter, trace))
}

async fn trace(State(exporter): State<Arc<Exporter>>, request: Request, next: Next) -> Response {
    if !TRACED.iter().any(|prefix| request.uri().path().starts_with(prefix)) {
        return next.run(request).await;
    }
    let span = begun(&request);
    let response = next.run(request).await;
    if let Some(mut span) = span {
        answered(&mut span, response.status(), response.headers());
        exporter.push(&span);
    }
    response
}

fn begun(request: &Request) -> Option<Span> {
    let headers = request.headers();
    let (trace, parent) = match parent(text(headers, TRACE_PARENT)) {
        Some((trace, parent)) => (trace, Some(parent)),
        None => (TraceId::random()?, None),
    };
    let method = request.method().as_str();
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let name = format!("{method} {}", route.unwrap_or_default());
    let mut span = Span::new(trace, SpanId::random()?, name.trim_end().to_owned(), Nanos::now());
    span.parent_span_id = parent;
    span.kind = Kind::Server;
    // The names are those of the semantic conventions for HTTP.
    span.attributes.push(attribute("http.request.method", method));
    span.attributes.push(attribute("url.path", request.uri().path()));
    let mut tell = |key, value: Option<&str>| {
        span.attributes.extend(value.map(|value| -> Attribute { attribute(key, value) }));
    };
    tell("http.route", route);
    tell("user_agent.original", text(headers, header::USER_AGENT));
    tell("cim.method", text(headers, CIM_METHOD));
    let peer = request.extensions().get::<Peer>().map(Peer::shown);
    tell("client.address", peer.as_deref());
    Some(span)
}

fn answered(span: &mut Span, status: StatusCode, headers: &HeaderMap) {
    span.end = Nanos::now().max(span.start);
    let code = i64::from(status.as_u16());
    span.attributes.push(attribute("http.response.status_code", code));
    if status.is_server_error() {
        span.failed(String::new());
    }
    // The job that it has started has a trace of its own.
    let job = text(headers, header::LOCATION).and_then(|it| it.split_once("/jobs/"));
    let job: Option<JobId> = job.and_then(|(_, id)| id.parse().ok());
    if let Some(trace_id) = job.and_then(|id| TraceId::parse(&id.trace())) {
        span.links.push(Link { trace_id, span_id: trace_id.root() });
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The trace of a client, and its span. A header that is no trace context is none.
fn parent(header: Option<&str>) -> Option<(TraceId, SpanId)> {
    let mut parts = header?.split('-');
    let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let flags = parts.next()?;
    // Other versions may have more behind it; ff is none.
    let known = version.len() == 2 && version != "ff" && flags.len() == 2;
    if !known || (version == "00" && parts.next().is_some()) {
        return None;
    }
    Some((TraceId::parse(trace)?, SpanId::parse(span)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_context_is_whole_or_none() {
        const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
        let good = parent(Some(&format!("00-{TRACE}-b7ad6b7169203331-01"))).unwrap();
        assert_eq!(Some(good.0), TraceId::parse(TRACE));
        assert_eq!(Some(good.1), SpanId::parse("b7ad6b7169203331"));
        assert!(parent(Some(&format!("01-{TRACE}-b7ad6b7169203331-01-more"))).is_some());
        assert!(parent(None).is_none());
        for bad in [
            "",
            TRACE,
            &format!("00-{TRACE}-b7ad6b7169203331"),
            &format!("00-{TRACE}-b7ad6b7169203331-01-more"),
            &format!("ff-{TRACE}-b7ad6b7169203331-01"),
            &format!("00-{TRACE}-0000000000000000-01"),
            &format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
        ] {
            assert!(parent(Some(bad)).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_starts_a_job_leads_to_its_trace() {
        let trace = TraceId::random().unwrap();
        let mut span = Span::new(trace, SpanId::random().unwrap(), String::new(), Nanos::now());
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, format!("/api/v1/jobs/{id}").parse().unwrap());
        answered(&mut span, StatusCode::ACCEPTED, &headers);
        let of_job = TraceId::parse(&id.replace('-', "")).unwrap();
        assert_eq!(span.links, [Link { trace_id: of_job, span_id: of_job.root() }]);
    }
}
