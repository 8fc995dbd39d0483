//! Runs one piece of the hot path so many times. `run` counts the instructions under callgrind,
//! twice with different numbers of times, so that everything else cancels out.
//!
//! ```text
//! icounts --list
//! icounts SCENARIO TIMES
//! ```
#![allow(clippy::print_stdout, reason = "a command-line tool")]

use anyhow::{Context, Result, bail};
use icounts::SCENARIOS;

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
    (scenario.run)(times).map(drop)
}
