//! A span for each job, once it has ended.

use std::sync::Arc;

use job_engine::{ChangeKind, Engine, Job, RequestError};

use super::Exporter;
use super::span::{Event, Nanos, Span, TraceId, attribute};

/// Exports jobs that end from now on.
///
/// # Errors
/// As [`Engine::subscribe`].
pub fn follow(engine: &Engine, exporter: &Arc<Exporter>) -> Result<(), RequestError> {
    let exporter = exporter.clone();
    let subscribed = engine.subscribe(Box::new(move |event| {
        let ended = if let ChangeKind::JobCreated(job) = &event.change {
            Some(job)
        } else if let ChangeKind::JobChanged { previous, current } = &event.change {
            Some(current).filter(|_| !previous.state.is_terminal())
        } else {
            None
        };
        let ended = ended.filter(|job| job.state.is_terminal());
        if let Some(span) = ended.and_then(|job| span(job)) {
            exporter.push(&span);
        }
    }));
    subscribed.map(drop)
}

/// From being submitted to the end; none for a job without a trace.
fn span(job: &Job) -> Option<Span> {
    let trace = TraceId::parse(&job.id.trace())?;
    let name = format!("job {}", job.kind.word());
    let mut span = Span::new(trace, trace.root(), name, job.time_submitted.into());
    span.end = job.end_time.unwrap_or(job.time_of_last_state_change).into();
    span.end = span.end.max(span.start);
    span.attributes = vec![
        attribute("lund.job.id", job.id.to_string()),
        attribute("lund.job.name", job.name.as_str()),
        attribute("lund.job.state", job.state.name()),
    ];
    if !job.owner.is_empty() {
        span.attributes.push(attribute("lund.job.owner", job.owner.as_str()));
    }
    let disk = job.kind.disk();
    span.attributes.push(attribute("lund.disk.id", disk.to_string()));
    if let Some(start) = job.start_time {
        span.push(event(start.into(), "started"));
    }
    for error in &job.errors {
        // The semantic conventions of exceptions.
        let mut failed = event(span.end, "exception");
        failed.attributes = vec![
            attribute("exception.type", error.message_id.as_str()),
            attribute("exception.message", error.message.as_str()),
        ];
        span.push(failed);
    }
    if job.state.is_failure() {
        span.failed(job.error_description());
    }
    Some(span)
}

fn event(time_unix_nano: Nanos, name: &str) -> Event {
    Event { time_unix_nano, name: name.to_owned(), attributes: Vec::new() }
}
