//! Runs one piece of the hot path so many times. `run` counts the instructions under callgrind,
//! twice with different numbers of times, so that everything else cancels out.
//!
//! ```text
//! icounts --list
//! icounts SCENARIO TIMES
//! ```
#![allow(clippy::print_stdout, reason = "a command-line tool")]

mod codec;
mod initiator;
mod plan;
mod whole;

use anyhow::{Context, Result, bail};

/// A piece of the hot path.
struct Scenario {
    name: &'static str,
    run: fn(times: usize) -> Result<()>,
}

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "decode-command", run: codec::command },
    Scenario { name: "decode-command-header-digest", run: codec::command_with_digest },
    Scenario { name: "decode-data-out-4k-digests", run: codec::data_out_with_digests },
    Scenario { name: "plan-read16", run: plan::read16 },
    Scenario { name: "plan-write10", run: plan::write10 },
    Scenario { name: "read-4k", run: |times| whole::reads(times, 4 << 10, false) },
    Scenario { name: "read-4k-digests", run: |times| whole::reads(times, 4 << 10, true) },
    Scenario { name: "read-64k", run: |times| whole::reads(times, 64 << 10, false) },
    Scenario { name: "write-4k", run: |times| whole::writes(times, 4 << 10, false) },
    Scenario { name: "write-4k-digests", run: |times| whole::writes(times, 4 << 10, true) },
    Scenario { name: "write-64k", run: |times| whole::writes(times, 64 << 10, false) },
];

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().context("usage: icounts --list | SCENARIO TIMES")?;
    if name == "--list" {
        for scenario in SCENARIOS {
            println!("{}", scenario.name);
        }
        return Ok(());
    }
    let times = arguments.next().context("how many times?")?.parse().context("TIMES")?;
    let Some(scenario) = SCENARIOS.iter().find(|scenario| scenario.name == name) else {
        bail!("no scenario {name:?}; --list names them");
    };
    (scenario.run)(times)
}
