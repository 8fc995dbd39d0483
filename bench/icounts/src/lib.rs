//! Pieces of the hot path, each run so many times: under callgrind their instructions are counted
//! (`run`), and beside a clock their time is taken (`benches/hot_path.rs`).

mod codec;
mod initiator;
mod plan;
mod whole;

use std::time::Duration;

use anyhow::Result;

/// A piece of the hot path.
#[derive(Debug)]
pub struct Scenario {
    /// What it is known by in baselines.
    pub name: &'static str,
    /// Runs it so many times; how long that took, without what had to be prepared.
    pub run: fn(times: usize) -> Result<Duration>,
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
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
