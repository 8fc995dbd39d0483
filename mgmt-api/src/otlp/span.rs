//! Spans, and their JSON: the mapping of OpenTelemetry's protocol (OTLP 1, "JSON Protobuf Encoding":
//! identifiers as hexadecimal digits, 64-bit numbers as strings, enumerations as numbers).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

/// Bytes of a text in a span; of a longer one the rest is left out.
const MAX_TEXT: usize = 4096;
/// Events of a span; those behind them are counted.
const MAX_EVENTS: usize = 128;

/// 16 bytes, not all of them zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TraceId(u128);

impl TraceId {
    /// Of 32 hexadecimal digits.
    #[must_use]
    pub(super) fn parse(digits: &str) -> Option<Self> {
        let whole = digits.len() == 32 && digits.bytes().all(|it| it.is_ascii_hexdigit());
        let number = u128::from_str_radix(digits, 16).ok().filter(|_| whole)?;
        (number != 0).then_some(Self(number))
    }

    /// A new one whose last 8 bytes are these.
    pub(super) fn ending_with(tail: u64) -> Option<Self> {
        let head = getrandom::u64().ok().filter(|it| *it != 0)?;
        Some(Self((u128::from(head) << 64) | u128::from(tail)))
    }

    /// A new one.
    pub(super) fn random() -> Option<Self> {
        Self::ending_with(getrandom::u64().ok()?)
    }

    /// The span that all others of a job's trace lie below: the job itself. Whoever knows the trace
    /// knows it, also after a restart.
    #[must_use]
    pub(super) fn root(self) -> SpanId {
        // The half of a UUID that is chance, and has its variant, which is never zero.
        let [_, _, _, _, _, _, _, _, tail @ ..] = self.0.to_be_bytes();
        SpanId(u64::from_be_bytes(tail).max(1))
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", self.0))
    }
}

/// 8 bytes, not all of them zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SpanId(u64);

impl SpanId {
    /// Of 16 hexadecimal digits.
    pub(super) fn parse(digits: &str) -> Option<Self> {
        let whole = digits.len() == 16 && digits.bytes().all(|it| it.is_ascii_hexdigit());
        let number = u64::from_str_radix(digits, 16).ok().filter(|_| whole)?;
        (number != 0).then_some(Self(number))
    }

    /// A new one.
    pub(super) fn random() -> Option<Self> {
        getrandom::u64().ok().filter(|it| *it != 0).map(Self)
    }
}

impl Serialize for SpanId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

/// Nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Nanos(u64);

impl Nanos {
    pub(super) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl From<jiff::Timestamp> for Nanos {
    fn from(time: jiff::Timestamp) -> Self {
        Self(u64::try_from(time.as_nanosecond()).unwrap_or_default())
    }
}

impl Serialize for Nanos {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// `AnyValue`, as far as it is needed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) enum Value {
    /// Text.
    #[serde(rename = "stringValue")]
    Text(String),
    /// Yes or no.
    #[serde(rename = "boolValue")]
    Bool(bool),
    /// A number of 64 bits.
    #[serde(rename = "intValue", serialize_with = "as_text")]
    Int(i64),
    /// Any other number.
    #[serde(rename = "doubleValue")]
    Double(f64),
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn as_text<S: Serializer>(number: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(mut text: String) -> Self {
        if text.len() > MAX_TEXT {
            text.truncate(text.floor_char_boundary(MAX_TEXT));
        }
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

/// A number that has no place in 64 bits with a sign is text.
impl From<u64> for Value {
    fn from(number: u64) -> Self {
        i64::try_from(number).map_or_else(|_| Self::Text(number.to_string()), Self::Int)
    }
}

/// `KeyValue`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Attribute {
    key: &'static str,
    value: Value,
}

/// An attribute.
pub(super) fn attribute(key: &'static str, value: impl Into<Value>) -> Attribute {
    Attribute { key, value: value.into() }
}

/// What happened while a span lasted.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    pub(super) time_unix_nano: Nanos,
    pub(super) name: String,
    pub(super) attributes: Vec<Attribute>,
}

/// Another span that has to do with this one.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Link {
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
}

/// `SpanKind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Work of the daemon.
    Internal = 1,
    /// The answer to somebody's request.
    Server = 2,
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(*self as u8)
    }
}

/// `Status`: unset, or an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Status {
    code: u8,
    message: String,
}

/// One span.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Span {
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent_span_id: Option<SpanId>,
    pub(super) name: String,
    pub(super) kind: Kind,
    #[serde(rename = "startTimeUnixNano")]
    pub(super) start: Nanos,
    #[serde(rename = "endTimeUnixNano")]
    pub(super) end: Nanos,
    pub(super) attributes: Vec<Attribute>,
    events: Vec<Event>,
    dropped_events_count: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) links: Vec<Link>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

impl Span {
    /// One that has just begun, and not lasted yet.
    pub(super) fn new(trace_id: TraceId, span_id: SpanId, name: String, start: Nanos) -> Self {
        Self {
            trace_id,
            span_id,
            parent_span_id: None,
            name,
            kind: Kind::Internal,
            start,
            end: start,
            attributes: Vec::new(),
            events: Vec::new(),
            dropped_events_count: 0,
            links: Vec::new(),
            status: None,
        }
    }

    pub(super) fn push(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(event);
        } else {
            self.dropped_events_count = self.dropped_events_count.saturating_add(1);
        }
    }

    /// It ended with an error.
    pub(super) fn failed(&mut self, message: String) {
        self.status = Some(Status { code: 2, message });
    }
}

/// What stands around the spans of a request.
#[derive(Debug)]
pub(super) struct Envelope {
    before: String,
}

const AFTER: &str = "]}]}]}";

impl Envelope {
    /// With what is told of the daemon.
    pub(super) fn new(resource: &[Attribute]) -> serde_json::Result<Self> {
        let resource = serde_json::to_string(resource)?;
        let scope = format!(r#"{{"name":"lund","version":"{}"}}"#, env!("CARGO_PKG_VERSION"));
        let before = format!(
            r#"{{"resourceSpans":[{{"resource":{{"attributes":{resource}}},"scopeSpans":[{{"scope":{scope},"spans":["#
        );
        Ok(Self { before })
    }

    /// `ExportTraceServiceRequest` with spans that are JSON already.
    pub(super) fn around(&self, spans: &[String]) -> String {
        let length = spans.iter().map(|span| span.len() + 1).sum::<usize>();
        let mut text = String::with_capacity(self.before.len() + length + AFTER.len());
        text.push_str(&self.before);
        for (at, span) in spans.iter().enumerate() {
            if at > 0 {
                text.push(',');
            }
            text.push_str(span);
        }
        text.push_str(AFTER);
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_mapping_is_that_of_otlp() {
        let trace = TraceId::parse("0af7651916cd43dd8448eb211c80319c").unwrap();
        let mut span = Span::new(trace, trace.root(), "a \"name\"".to_owned(), Nanos(5));
        span.end = Nanos(u64::MAX);
        span.parent_span_id = SpanId::parse("00000000000000ff");
        span.attributes = vec![
            attribute("text", "x\n"),
            attribute("number", -3_i64),
            attribute("large", u64::MAX),
            Attribute { key: "yes", value: Value::Bool(true) },
            Attribute { key: "half", value: Value::Double(0.5) },
        ];
        span.push(Event { time_unix_nano: Nanos(7), name: "e".to_owned(), attributes: vec![] });
        span.links.push(Link { trace_id: trace, span_id: trace.root() });
        span.failed("why".to_owned());
        let envelope = Envelope::new(&[attribute("service.name", "a\"b")]).unwrap();
        let one = serde_json::to_string(&span).unwrap();
        let text = envelope.around(&[one.clone(), one]);
        let all: serde_json::Value = serde_json::from_str(&text).unwrap();
        let resource = &all["resourceSpans"][0];
        let name = json!([{ "key": "service.name", "value": { "stringValue": "a\"b" } }]);
        assert_eq!(resource["resource"]["attributes"], name);
        let spans = resource["scopeSpans"][0]["spans"].as_array().unwrap();
        assert_eq!(spans.len(), 2);
        let expected = json!({
            "traceId": "0af7651916cd43dd8448eb211c80319c",
            "spanId": "8448eb211c80319c",
            "parentSpanId": "00000000000000ff",
            "name": "a \"name\"",
            "kind": 1,
            "startTimeUnixNano": "5",
            "endTimeUnixNano": "18446744073709551615",
            "attributes": [
                { "key": "text", "value": { "stringValue": "x\n" } },
                { "key": "number", "value": { "intValue": "-3" } },
                { "key": "large", "value": { "stringValue": "18446744073709551615" } },
                { "key": "yes", "value": { "boolValue": true } },
                { "key": "half", "value": { "doubleValue": 0.5 } },
            ],
            "events": [{ "timeUnixNano": "7", "name": "e", "attributes": [] }],
            "droppedEventsCount": 0,
            "links": [{ "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "8448eb211c80319c" }],
            "status": { "code": 2, "message": "why" },
        });
        assert_eq!(spans[1], expected);
    }

    #[test]
    fn a_span_is_bounded() {
        let trace = TraceId::random().unwrap();
        let mut span = Span::new(trace, trace.root(), String::new(), Nanos(0));
        let event = Event { time_unix_nano: Nanos(0), name: String::new(), attributes: vec![] };
        (0..MAX_EVENTS + 3).for_each(|_| span.push(event.clone()));
        assert_eq!((span.events.len(), span.dropped_events_count), (MAX_EVENTS, 3));
        // No character is cut in two.
        let long = Value::from("é".repeat(MAX_TEXT));
        assert_eq!(long, Value::Text("é".repeat(MAX_TEXT / 2)));
        assert_eq!(Value::from(format!("a{}", "é".repeat(MAX_TEXT))), {
            Value::Text(format!("a{}", "é".repeat(MAX_TEXT / 2 - 1)))
        });
    }

    #[test]
    fn identifiers_are_digits_and_not_zero() {
        for bad in ["", "0", &"0".repeat(32), &"g".repeat(32), &"+".repeat(32), &"1".repeat(33)] {
            assert_eq!(TraceId::parse(bad), None, "{bad}");
        }
        for bad in ["", &"0".repeat(16), "+000000000000001", "00000000000000011"] {
            assert_eq!(SpanId::parse(bad), None, "{bad}");
        }
        let ended = TraceId::ending_with(0x0001_0000_0002).unwrap();
        let digits = serde_json::to_string(&ended).unwrap();
        assert!(digits.ends_with("0000000100000002\""), "{digits}");
        assert_eq!(TraceId::parse(digits.trim_matches('"')), Some(ended));
    }
}
