//! The log: on standard error, for people or for programs.

use std::io::{IsTerminal as _, stderr};
use std::sync::Arc;

use anyhow::Context as _;
use mgmt_api::otlp::{Exporter, Spans};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, Registry};

use crate::args::LogFormat;
use crate::config::Config;

/// Starts to log. What jobs and slow commands log becomes spans, too, if somebody collects them,
/// whatever the filter of the log says.
pub(crate) fn start(config: &Config, exporter: Option<&Arc<Exporter>>) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log_level).context("the log filter")?;
    let human = match config.log_format {
        LogFormat::Auto => stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let log = tracing_subscriber::fmt::layer().with_writer(stderr);
    let log: Box<dyn Layer<Registry> + Send + Sync> = if human {
        log.with_ansi(stderr().is_terminal()).boxed()
    } else {
        log.json().flatten_event(true).boxed()
    };
    match exporter {
        None => tracing_subscriber::registry().with(log.with_filter(filter)).init(),
        Some(exporter) => {
            let spans = Spans(exporter.clone()).with_filter(LevelFilter::INFO);
            tracing_subscriber::registry().with(log.with_filter(filter)).with(spans).init();
        }
    }
    Ok(())
}
