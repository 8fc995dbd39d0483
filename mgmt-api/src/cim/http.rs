//! CIM-XML over HTTP (DSP0200 §7).

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use job_engine::Role;

use super::Cimom;
use super::request::{self, Call, Invalid, Message};
use super::respond::Circumstances;
use super::xml::{self, XmlError};
use crate::access::{Acts, Identity};
use crate::routes::Routes;

/// The longest body that is read.
const MAX_BODY: usize = 4 << 20;

/// Serves `/cimom`.
pub fn routes(cimom: Arc<Cimom>) -> Routes {
    // Other methods are answered as DSP0200 says.
    Routes::below("").any(Method::POST, Role::Viewer, "/cimom", handle).with_state(cimom)
}

/// A refusal below the level of CIM operations.
struct Refusal {
    status: StatusCode,
    /// The `CIMError` header.
    error: Option<&'static str>,
    details: String,
}

impl Refusal {
    fn new(status: StatusCode, error: &'static str, details: impl Into<String>) -> Self {
        Self { status, error: Some(error), details: details.into() }
    }

    fn bad(error: &'static str, details: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, details)
    }

    fn plain(status: StatusCode, details: impl Into<String>) -> Self {
        Self { status, error: None, details: details.into() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, format!("{}\n", self.details)).into_response();
        let headers = response.headers_mut();
        if let Some(error) = self.error {
            headers.insert("CIMError", HeaderValue::from_static(error));
        }
        // Escaped, so that whatever the client sent cannot end the header.
        let details: String = self.details.bytes().take(200).flat_map(percent).collect();
        if let Ok(details) = HeaderValue::from_str(&details) {
            headers.insert("CIMErrorDetails", details);
        }
        response
    }
}

fn percent(byte: u8) -> Vec<char> {
    match byte {
        b' ' | b'%' | 0..=0x1f | 0x7f.. => format!("%{byte:02X}").chars().collect(),
        plain => vec![char::from(plain)],
    }
}

async fn handle(State(cimom): State<Arc<Cimom>>, request: Request<Body>) -> Response {
    if request.method() == Method::POST {
        return match serve(cimom, request).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        };
    }
    if request.method().as_str() == "M-POST" {
        let text = "M-POST is not supported: use POST";
        return Refusal::plain(StatusCode::NOT_IMPLEMENTED, text).into_response();
    }
    let mut response = Refusal::plain(StatusCode::METHOD_NOT_ALLOWED, "use POST").into_response();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

/// The client was silent in the middle of a body.
pub(crate) fn timed_out(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<tower_http::timeout::TimeoutError>() || error.source().is_some_and(timed_out)
}

async fn serve(cimom: Arc<Cimom>, request: Request<Body>) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    check_headers(&parts.headers)?;
    let too_large = || Refusal::plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long");
    let announced = text_header(&parts.headers, CONTENT_LENGTH.as_str());
    if announced
        .and_then(|length| length.parse().ok())
        .is_some_and(|length: u64| length > MAX_BODY as u64)
    {
        return Err(too_large());
    }
    let body = to_bytes(body, MAX_BODY).await.map_err(|error| {
        if timed_out(&error) {
            Refusal::plain(StatusCode::REQUEST_TIMEOUT, "the body does not come")
        } else {
            too_large()
        }
    })?;
    let identity = parts
        .extensions
        .get::<Identity>()
        .cloned()
        .ok_or_else(|| Refusal::plain(StatusCode::FORBIDDEN, "it is not known who asks"))?;
    let how = Circumstances {
        identity,
        host: text_header(&parts.headers, HOST.as_str()).unwrap_or(&cimom.system_name).to_owned(),
        // The client that sends this header does not understand a CIM_Error in an ERROR.
        embed_errors: !parts.headers.contains_key("CIMProtocolVersion"),
    };
    let work = move || {
        let message = read(&body)?;
        compare_headers(&parts.headers, &message)?;
        Ok(cimom.respond(&message, &how))
    };
    let answer = tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a CIM-XML request was not finished");
        Refusal::plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
    })?;
    let headers = [
        (CONTENT_TYPE.as_str(), "application/xml; charset=\"utf-8\""),
        ("CIMOperation", "MethodResponse"),
    ];
    let (answer, acts) = answer?;
    let mut response = (headers, answer).into_response();
    response.extensions_mut().insert(Acts { acts: Some(acts), ..Acts::default() });
    Ok(response)
}

fn text_header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn check_headers(headers: &HeaderMap) -> Result<(), Refusal> {
    let content = text_header(headers, CONTENT_TYPE.as_str()).unwrap_or_default();
    let mut parts = content.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let is_xml = ["application/xml", "text/xml"].iter().any(|own| media.eq_ignore_ascii_case(own));
    let is_utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    if !is_xml || !is_utf8 {
        let text = "the content must be application/xml in UTF-8";
        return Err(Refusal::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    match text_header(headers, "CIMOperation") {
        Some(operation) if operation.trim().eq_ignore_ascii_case("MethodCall") => {}
        _ => {
            let text = "the header CIMOperation must be MethodCall";
            return Err(Refusal::bad("unsupported-operation", text));
        }
    }
    match text_header(headers, "CIMProtocolVersion") {
        Some(version) if !version.trim().starts_with("1.") => Err(Refusal::new(
            StatusCode::NOT_IMPLEMENTED,
            "unsupported-protocol-version",
            "the protocol version is 1.0",
        )),
        _ => Ok(()),
    }
}

fn read(body: &[u8]) -> Result<Message, Refusal> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Refusal::bad("request-not-well-formed", "the body is not UTF-8"))?;
    let tree = xml::parse(text).map_err(|error| match error {
        XmlError::NotWellFormed(text) => Refusal::bad("request-not-well-formed", text),
        XmlError::NotValid(text) => Refusal::bad("request-not-valid", text),
    })?;
    let unsupported = |error, text: &str| Refusal::new(StatusCode::NOT_IMPLEMENTED, error, text);
    request::read(&tree).map_err(|invalid| match invalid {
        Invalid::NotValid(text) => Refusal::bad("request-not-valid", text),
        Invalid::CimVersion => unsupported("unsupported-cim-version", "CIMVERSION must be 2.x"),
        Invalid::DtdVersion => unsupported("unsupported-dtd-version", "DTDVERSION must be 2.x"),
        Invalid::ProtocolVersion => {
            unsupported("unsupported-protocol-version", "PROTOCOLVERSION must be 1.x")
        }
    })
}

/// The headers repeat what the body says, so that firewalls can read it.
fn compare_headers(headers: &HeaderMap, message: &Message) -> Result<(), Refusal> {
    if message.multiple {
        return match headers.contains_key("CIMBatch") {
            true => Ok(()),
            false => Err(Refusal::bad("header-mismatch", "the header CIMBatch is missing")),
        };
    }
    let Some(call) = message.calls.first() else { return Ok(()) };
    let (method, object) = match call {
        Call::Intrinsic { namespace, name, .. } => (name, namespace.clone()),
        Call::Method { object, name, .. } => {
            let namespace = object.namespace.as_deref().unwrap_or_default();
            (name, format!("{namespace}:{}", object.class))
        }
    };
    let header =
        |name: &str| text_header(headers, name).map(|text| decode(text.trim())).unwrap_or_default();
    if !header("CIMMethod").eq_ignore_ascii_case(method) {
        let text = format!("the header CIMMethod does not say {method}");
        return Err(Refusal::bad("header-mismatch", text));
    }
    let given = header("CIMObject");
    let given = given.trim_start_matches('/');
    // The keys of an instance may be written in more than one way.
    let given = given.split_once('.').map_or(given, |(head, _)| head);
    if !given.eq_ignore_ascii_case(&object) {
        let text = format!("the header CIMObject does not say {object}");
        return Err(Refusal::bad("header-mismatch", text));
    }
    Ok(())
}

/// Undoes percent-encoding; what is no such code stays.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = if *first == b'%' { after.split_first_chunk::<2>() } else { None };
        let decoded = digits.and_then(|(code, after)| {
            let code = code.iter().all(u8::is_ascii_hexdigit).then_some(code)?;
            let code = std::str::from_utf8(code).ok()?;
            Some((u8::from_str_radix(code, 16).ok()?, after))
        });
        let (byte, after) = decoded.unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_codes_are_undone_and_half_ones_stay() {
        assert_eq!(decode("root%2Fcimv2%3aC"), "root/cimv2:C");
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("%2"), "%2");
        assert_eq!(decode("%+1x"), "%+1x");
        assert_eq!(decode("%ff"), "\u{fffd}");
    }
}
