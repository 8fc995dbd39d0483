//! WS-Management over HTTP (DSP0226 annex C).

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use job_engine::Role;

use super::super::Cimom;
use super::super::respond::Circumstances;
use super::MAX_ENVELOPE;
use super::fault::{self, SoapFault};
use super::respond::{Answer, identify, is_identify, receive, refusal, respond};
use crate::access::{Acts, Identity};
use crate::routes::Routes;

/// Without an `OperationTimeout`, as Windows has it.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest request of somebody who is not known.
const MAX_IDENTIFY: usize = 16 << 10;

/// Serves `/wsman`, and `/wsman-anon/identify` for those that do not know yet what this is.
pub(crate) fn routes(cimom: Arc<Cimom>) -> Routes {
    Routes::below("")
        .any(Method::POST, Role::Viewer, "/wsman", handle)
        .everybody(Method::POST, "/wsman-anon/identify", identify_to_strangers)
        .with_state(cimom)
}

/// The charset of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Charset {
    Utf8,
    Utf16,
}

fn text_header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// UTF-8 unless the client says otherwise; `None` for what is no SOAP 1.2.
fn charset(headers: &HeaderMap) -> Option<Charset> {
    let content = text_header(headers, CONTENT_TYPE.as_str())?;
    let mut parts = content.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("application/soap+xml") {
        return None;
    }
    for parameter in parts {
        let (name, value) = parameter.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("charset") {
            let value = value.trim().trim_matches('"');
            return match value {
                _ if value.eq_ignore_ascii_case("utf-8") => Some(Charset::Utf8),
                _ if value.eq_ignore_ascii_case("utf-16") => Some(Charset::Utf16),
                _ => None,
            };
        }
    }
    Some(Charset::Utf8)
}

fn decoded(body: &[u8], charset: Charset) -> Option<String> {
    if charset == Charset::Utf8 {
        return std::str::from_utf8(body).ok().map(str::to_owned);
    }
    let (big, body) = match body {
        [0xfe, 0xff, rest @ ..] => (true, rest),
        [0xff, 0xfe, rest @ ..] | rest => (false, rest),
    };
    let (pairs, odd) = body.as_chunks::<2>();
    let unit =
        |pair: &[u8; 2]| if big { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) };
    let text: String = char::decode_utf16(pairs.iter().map(unit)).collect::<Result<_, _>>().ok()?;
    odd.is_empty().then_some(text)
}

fn encoded(text: &str, charset: Charset) -> (&'static str, Vec<u8>) {
    match charset {
        Charset::Utf8 => ("application/soap+xml;charset=UTF-8", text.as_bytes().to_vec()),
        Charset::Utf16 => {
            // The declaration would say something else.
            let text = text.split_once("?>").map_or(text, |(_, rest)| rest);
            let units = std::iter::once(0xfeff).chain(text.encode_utf16());
            ("application/soap+xml;charset=UTF-16", units.flat_map(u16::to_le_bytes).collect())
        }
    }
}

/// A fault comes with 500, whoever is to blame: clients look for the reason there alone.
fn answer(answer: Answer, charset: Charset, status: Option<StatusCode>) -> Response {
    let fault = if answer.is_fault { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    let (content, body) = encoded(&answer.envelope, charset);
    let mut response = (status.unwrap_or(fault), [(CONTENT_TYPE, content)], body).into_response();
    response.extensions_mut().insert(Acts { acts: Some(answer.acts), ..Acts::default() });
    response
}

async fn handle(State(cimom): State<Arc<Cimom>>, request: Request<Body>) -> Response {
    if request.method() != Method::POST {
        let refused = (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "POST")], "use POST\n");
        return refused.into_response();
    }
    let (parts, body) = request.into_parts();
    let Some(charset) = charset(&parts.headers) else {
        let text = "the content must be application/soap+xml in UTF-8 or UTF-16\n";
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response();
    };
    let refused = |kind, text: &str, status| {
        let refusal = refusal(&cimom, &SoapFault::new(kind, text), None);
        answer(refusal, charset, Some(status))
    };
    // UTF-16 takes twice the bytes.
    let limit = if charset == Charset::Utf16 { 2 * MAX_ENVELOPE } else { MAX_ENVELOPE };
    let too_large = || {
        let text = format!("an envelope has at most {MAX_ENVELOPE} bytes");
        refused(&fault::REQUEST_TOO_LARGE, &text, StatusCode::PAYLOAD_TOO_LARGE)
    };
    let announced = text_header(&parts.headers, CONTENT_LENGTH.as_str());
    let announced = announced.and_then(|length| length.parse().ok());
    if announced.is_some_and(|length: usize| length > limit) {
        return too_large();
    }
    let body = match to_bytes(body, limit).await {
        Ok(body) => body,
        Err(error) if super::super::http::timed_out(&error) => {
            let text = "the body does not come";
            return refused(&fault::TIMED_OUT, text, StatusCode::REQUEST_TIMEOUT);
        }
        Err(_) => return too_large(),
    };
    let Some(text) = decoded(&body, charset) else {
        let text = "the body is not in the charset that its header names";
        return refused(&fault::CHARACTER_SET, text, StatusCode::BAD_REQUEST);
    };
    let Some(identity) = parts.extensions.get::<Identity>().cloned() else {
        return (StatusCode::FORBIDDEN, "it is not known who asks\n").into_response();
    };
    let host = text_header(&parts.headers, HOST.as_str()).unwrap_or(&cimom.system_name).to_owned();
    let how = Circumstances { identity, host, embed_errors: true };
    let failed = |error: tokio::task::JoinError| {
        tracing::error!(%error, "a request of WS-Management was not finished");
        refused(&fault::INTERNAL, "internal error", StatusCode::INTERNAL_SERVER_ERROR)
    };
    let reader = cimom.clone();
    let message = match tokio::task::spawn_blocking(move || receive(&reader, &text)).await {
        Ok(Ok(message)) => message,
        Ok(Err(known)) => return answer(known, charset, None),
        Err(error) => return failed(error),
    };
    // What changes something is short, and what came of it must not be lost.
    let limit = message.time_limit().map_or(Duration::MAX, |given| given.unwrap_or(TIMEOUT));
    let relates_to = message.relates_to.clone();
    let worker = cimom.clone();
    let work = tokio::task::spawn_blocking(move || respond(&worker, &message, &how));
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(done)) => answer(done, charset, None),
        Ok(Err(error)) => failed(error),
        Err(_) => {
            let fault = SoapFault::new(&fault::TIMED_OUT, "not done within OperationTimeout");
            answer(refusal(&cimom, &fault, relates_to.as_deref()), charset, None)
        }
    }
}

/// Whoever asks is told which protocol this is (DSP0226 clause 11).
async fn identify_to_strangers(
    State(cimom): State<Arc<Cimom>>,
    request: Request<Body>,
) -> Response {
    let charset = charset(request.headers());
    let body = to_bytes(request.into_body(), MAX_IDENTIFY).await.unwrap_or_default();
    let text = charset.and_then(|charset| decoded(&body, charset)).unwrap_or_default();
    let charset = charset.unwrap_or(Charset::Utf8);
    if is_identify(&text) {
        let envelope = identify(false);
        return answer(Answer { envelope, ..Answer::default() }, charset, None);
    }
    let fault = SoapFault::new(&fault::INVALID_BODY, "nothing but Identify is answered here");
    answer(refusal(&cimom, &fault, None), charset, Some(StatusCode::BAD_REQUEST))
}
