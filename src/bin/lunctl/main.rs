//! The command line client.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to people and scripts")]

mod account;
mod args;
mod chap;
mod client;
mod configuration;
mod disk;
mod events;
mod exit;
mod job;
mod limit;
mod manual;
mod output;
mod password;
mod pool;
mod portal_group;
mod progress;
mod session;
mod snapshot;
mod system;
mod target;
mod tls;
mod top;
mod transport;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Arguments, Noun};
use client::Client;
use output::Output;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output { json: arguments.json };
    let done = Client::new(arguments.server.as_deref(), &arguments.credentials, &arguments.trust)
        .and_then(|client| match arguments.noun {
            Noun::Disk(args::DiskCommand { verb, how }) => {
                disk::run(&client.submitting(&how), output, verb)
            }
            Noun::Snapshot(args::SnapshotCommand { verb, how }) => {
                snapshot::run(&client.submitting(&how), output, verb)
            }
            Noun::Target(verb) => target::run(&client, output, verb),
            Noun::Job(verb) => job::run(&client, output, verb),
            Noun::Pool(verb) => pool::run(&client, output, verb),
            Noun::PortalGroup(verb) => portal_group::run(&client, output, verb),
            Noun::Session(verb) => session::run(&client, output, verb),
            Noun::Limit(verb) => limit::run(&client, output, verb),
            Noun::Chap(verb) => chap::run(&client, output, verb),
            Noun::User(verb) => account::user(&client, output, verb),
            Noun::Token(verb) => account::token(&client, output, verb),
            Noun::Audit { limit } => account::audit(&client, output, limit),
            Noun::Whoami => account::whoami(&client, output),
            Noun::State(args::State::Export { output: file }) => {
                system::export_state(&client, output, file.as_deref())
            }
            Noun::Export { output: file } => {
                configuration::export(&client, output, file.as_deref())
            }
            Noun::Diff(from) => configuration::diff(&client, output, &from),
            Noun::Apply { from, dry_run } => configuration::apply(&client, output, &from, dry_run),
            Noun::Events => events::follow(&client, output),
            Noun::Top { every, count } => top::run(&client, output, every, count),
            Noun::Settings => system::settings(&client, output),
            Noun::Status => system::status(&client, output),
            Noun::Openapi => system::openapi(&client),
            Noun::Drain => system::drain(&client, output),
            Noun::Resume => system::resume(&client, output),
            Noun::Completion { shell } => manual::completion(shell),
            Noun::Man { directory } => manual::pages(&directory),
        });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.failure(&error);
            ExitCode::from(error.code())
        }
    }
}
