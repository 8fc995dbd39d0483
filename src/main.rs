//! The daemon.
#![forbid(unsafe_code)]

mod access_states;
mod args;
mod chap_accounts;
mod config;
mod data_path;
mod demo;
mod io_limits;
mod isns;
mod limits;
mod local;
mod logging;
mod management;
mod portals;
mod run;
mod secure;
mod sessions;
mod systemd;
mod watch;
mod wiring;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser as _};

use args::{Arguments, Command};
use mgmt_api::otlp::Exporter;

fn main() -> ExitCode {
    let serve = match Arguments::parse().command {
        Command::Serve(serve) => serve,
        Command::ImportState(import) => return import_state(import),
        Command::Man { directory } => {
            return match clap_mangen::generate_to(Arguments::command(), &directory) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&anyhow::Error::new(error), 1),
            };
        }
    };
    let config = match config::Config::load(&serve) {
        Ok(config) => config,
        Err(error) => return fail(&error, 2),
    };
    let exporter = match exporter(&config) {
        Ok(exporter) => exporter,
        Err(error) => return fail(&error, 2),
    };
    if let Err(error) = logging::start(&config, exporter.as_ref()) {
        return fail(&error, 2);
    }
    let result = run::run(&config, exporter.as_ref());
    if let Some(exporter) = exporter {
        exporter.stop();
    }
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "lund stops");
            fail(&error, 1)
        }
    }
}

/// What sends traces, if there is a collector.
fn exporter(config: &config::Config) -> anyhow::Result<Option<Arc<Exporter>>> {
    let Some(telemetry) = &config.telemetry else { return Ok(None) };
    let exporter = Exporter::start(&telemetry.collector).map_err(anyhow::Error::msg);
    exporter.context("telemetry").map(Some)
}

#[allow(clippy::print_stdout, reason = "it talks to who called it")]
fn import_state(import: args::ImportState) -> ExitCode {
    let args::ImportState { file, data_dir, config, replace } = import;
    let serve = args::Serve { data_dir, config, ..args::Serve::default() };
    let config = match config::Config::load(&serve) {
        Ok(config) => config,
        Err(error) => return fail(&error, 2),
    };
    let directory = job_engine::EngineConfig::new(&config.data_dir);
    match job_engine::import_state(&directory, &file, replace) {
        Ok(imported) => {
            if let Some(old) = imported.moved_to {
                println!("the database that was there is kept as {}", old.display());
            }
            println!("{} records imported into {}", imported.records, config.data_dir.display());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&anyhow::Error::new(error), 1),
    }
}

#[allow(clippy::print_stderr, reason = "the last word of a program that ends")]
fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("lund: {error:#}");
    ExitCode::from(code)
}
