//! From spans and lines of the log to spans of a trace.
//!
//! A span that has a field `trace` (32 digits) is exported when it ends, as are those inside of it.
//! The lines inside of them are their events. A line named `slow_command` is a span of its own: the
//! command that it tells of.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::Exporter;
use super::span::{self, Attribute, Kind, Nanos, Span, SpanId, TraceId, Value, attribute};

/// The name of a line that is a span.
const SLOW_COMMAND: &str = "slow_command";

/// Exports them.
#[derive(Debug)]
pub struct Spans(pub Arc<Exporter>);

/// A span that has not ended.
struct Open(Span);

/// The fields of a span or a line.
#[derive(Default)]
struct Fields {
    message: String,
    trace: Option<String>,
    milliseconds: u64,
    all: Vec<Attribute>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::Text(text)) => self.message = text,
            ("trace", Value::Text(text)) => self.trace = Some(text),
            (name, value) => self.all.push(attribute(name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "milliseconds" {
            self.milliseconds = value;
        }
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::Double(value));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(new) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let outer = new.parent().and_then(|outer| {
            outer.extensions().get::<Open>().map(|Open(span)| (span.trace_id, span.span_id))
        });
        let own = fields.trace.as_deref().and_then(TraceId::parse);
        let Some((trace, parent)) = outer.or_else(|| own.map(|own| (own, own.root()))) else {
            return;
        };
        let Some(id) = SpanId::random() else { return };
        let mut span = Span::new(trace, id, attributes.metadata().name().to_owned(), Nanos::now());
        span.parent_span_id = Some(parent);
        span.attributes = fields.all;
        new.extensions_mut().insert(Open(span));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().name() == SLOW_COMMAND {
            let mut fields = Fields::default();
            event.record(&mut fields);
            if let Some(span) = slow_command(fields) {
                self.0.push(&span);
            }
            return;
        }
        let Some(around) = context.event_span(event) else { return };
        let mut extensions = around.extensions_mut();
        let Some(Open(span)) = extensions.get_mut::<Open>() else { return };
        let mut fields = Fields::default();
        event.record(&mut fields);
        fields.all.push(attribute("level", event.metadata().level().as_str()));
        span.push(span::Event {
            time_unix_nano: Nanos::now(),
            name: fields.message,
            attributes: fields.all,
        });
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(ended) = context.span(&id) else { return };
        let open = ended.extensions_mut().remove::<Open>();
        if let Some(Open(mut span)) = open {
            span.end = Nanos::now().max(span.start);
            self.0.push(&span);
        }
    }
}

/// The command that a line tells of. The last 16 digits of its trace are those of the line: TSIH and
/// Initiator Task Tag, which come again, so the first 16 are chance.
fn slow_command(fields: Fields) -> Option<Span> {
    let numbers = fields.trace?;
    let (tsih, itt) = numbers.split_once('-')?;
    let tsih = u64::from(u16::from_str_radix(tsih, 16).ok()?);
    let itt = u64::from(u32::from_str_radix(itt, 16).ok()?);
    let end = Nanos::now();
    let start = end.before(Duration::from_millis(fields.milliseconds));
    let trace = TraceId::ending_with((tsih << 32) | itt)?;
    let mut span = Span::new(trace, SpanId::random()?, "SCSI command".to_owned(), start);
    span.kind = Kind::Server;
    span.end = end;
    span.attributes = fields.all;
    span.attributes.push(attribute("trace", numbers));
    Some(span)
}

#[cfg(test)]
mod tests {
    use tracing::{debug, info, info_span, warn};
    use tracing_subscriber::filter::LevelFilter;
    use tracing_subscriber::prelude::*;

    use super::*;

    const TRACE: &str = "01890a5dac96774bbcceb302099a8057";

    /// What is exported of some work.
    fn exported(work: impl FnOnce()) -> Vec<serde_json::Value> {
        let exporter = Arc::new(Exporter::default());
        let layer = Spans(exporter.clone()).with_filter(LevelFilter::INFO);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        let spans = exporter.waiting();
        spans.iter().map(|span| serde_json::from_str(span).unwrap()).collect()
    }

    #[test]
    fn a_job_has_its_steps_and_their_lines() {
        let spans = exported(|| {
            info!("outside");
            info_span!("other").in_scope(|| info!("without a trace"));
            info_span!("job", trace = TRACE, job = 1).in_scope(|| {
                info!(name = "n", "the job runs");
                info_span!("step", trace = TRACE, action = "copy").in_scope(|| {
                    debug!("not told");
                    warn!(left = 3, fine = true, "inside");
                });
            });
        });
        let [step, job] = spans.as_slice() else { panic!("{spans:?}") };
        assert_eq!((&job["name"], &step["name"]), (&"job".into(), &"step".into()));
        assert_eq!((&job["traceId"], &step["traceId"]), (&TRACE.into(), &TRACE.into()));
        assert_eq!(job["parentSpanId"], "bcceb302099a8057", "the job itself");
        assert_eq!(step["parentSpanId"], job["spanId"]);
        let event = &job["events"][0];
        assert_eq!((&event["name"], &job["events"][1]), (&"the job runs".into(), &().into()));
        let expected = serde_json::json!([
            { "key": "left", "value": { "intValue": "3" } },
            { "key": "fine", "value": { "boolValue": true } },
            { "key": "level", "value": { "stringValue": "WARN" } },
        ]);
        assert_eq!(step["events"][0]["attributes"], expected);
        let action = serde_json::json!([{ "key": "action", "value": { "stringValue": "copy" } }]);
        assert_eq!(step["attributes"], action);
    }

    #[test]
    fn a_slow_command_is_a_span_that_lies_behind_it() {
        let spans = exported(|| {
            let trace = format_args!("{:04x}-{:08x}", 1, 10);
            warn!(name: "slow_command", %trace, milliseconds = 2500_u64, lun = 3, "was slow");
        });
        let [span] = spans.as_slice() else { panic!("{spans:?}") };
        assert!(span["traceId"].as_str().unwrap().ends_with("000000010000000a"), "{span}");
        let time = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
        assert_eq!(time("endTimeUnixNano") - time("startTimeUnixNano"), 2_500_000_000);
        assert_eq!(span["kind"], 2);
        assert!(span.to_string().contains("0001-0000000a"));
        assert_eq!(span["parentSpanId"], serde_json::Value::Null);
    }
}
