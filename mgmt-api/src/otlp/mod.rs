//! Traces for a collector: OTLP over HTTP with JSON. A span for each job, for each run of its worker
//! with the steps and lines of the log below it, for each command of an initiator that was slow, and
//! for each request of a management client.
//!
//! A collector that is away harms nobody: spans wait in a bounded queue, and the oldest go first.

mod http;
mod jobs;
mod layer;
mod queue;
mod requests;
mod span;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::http::{Endpoint, Headers};
pub use self::jobs::follow;
pub use self::layer::Spans;
pub use self::queue::Figures;
use self::queue::{Pauses, Queue};
pub use self::requests::traced;
use self::span::{Envelope, Span, attribute};
use crate::tls_client::Trust;

const PAUSES: Pauses = Pauses {
    gather: Duration::from_secs(1),
    first: Duration::from_secs(1),
    longest: Duration::from_secs(30),
};
/// When the daemon ends, the collector may take so long to take what is left.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where traces go.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The collector.
    pub endpoint: Endpoint,
    /// Sent with each request.
    pub headers: Headers,
    /// `service.name`
    pub service_name: String,
    /// `host.name`
    pub host_name: String,
    /// Whom to believe if it is reached over TLS.
    pub trust: Trust,
}

/// The way to the collector.
#[derive(Debug, Default)]
pub struct Exporter {
    queue: Queue,
}

impl Exporter {
    /// Starts its thread.
    ///
    /// # Errors
    /// Files of TLS cannot be read, there is no thread.
    pub fn start(settings: &Settings) -> Result<Arc<Self>, String> {
        let resource = [
            attribute("service.name", settings.service_name.as_str()),
            attribute("service.version", env!("CARGO_PKG_VERSION")),
            attribute("service.instance.id", uuid::Uuid::new_v4().to_string()),
            attribute("host.name", settings.host_name.as_str()),
            attribute("process.pid", i64::from(std::process::id())),
        ];
        let envelope = Envelope::new(&resource).map_err(|error| error.to_string())?;
        let collector = http::Collector::new(settings)?;
        let exporter = Arc::new(Self::default());
        let queue = exporter.clone();
        let send = move || {
            queue.queue.run(PAUSES, |batch| collector.send(envelope.around(batch)));
        };
        let started = std::thread::Builder::new().name("lund-otlp".to_owned()).spawn(send);
        started.map_err(|error| error.to_string())?;
        Ok(exporter)
    }

    fn push(&self, span: &Span) {
        if let Ok(text) = serde_json::to_string(span) {
            self.queue.push(text);
        }
    }

    #[cfg(test)]
    fn waiting(&self) -> Vec<String> {
        self.queue.batch(Duration::ZERO)
    }

    /// Counts since the start.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.queue.figures()
    }

    /// Sends what is left, within two seconds; takes nothing more.
    pub fn stop(&self) {
        self.queue.close(Instant::now() + LAST_WORDS);
    }
}
