//! CPU time of both ends, and what is printed.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::histogram::Histogram;
use crate::options::Options;

/// CPU time used so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    client: Duration,
    server: Option<Duration>,
}

impl Cpu {
    pub(crate) fn now(server: Option<u32>) -> Result<Self> {
        let client = clock_gettime(ClockId::ProcessCPUTime);
        let seconds = u64::try_from(client.tv_sec)?;
        let client = Duration::new(seconds, u32::try_from(client.tv_nsec)?);
        Ok(Self { client, server: server.map(of_process).transpose()? })
    }
}

/// User and system time of all threads of a process, those that ended included.
fn of_process(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let ticks = ticks(&stat).with_context(|| format!("{path} is not as expected"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// utime and stime, fields 14 and 15; the name before them may contain anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// What logins and logouts cost.
#[derive(Debug, Serialize)]
pub(crate) struct Cycles {
    cycles: u32,
    per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_cpu_us: Option<f64>,
}

impl Cycles {
    pub(crate) fn new(cycles: u32, elapsed: Duration, before: Cpu, after: Cpu) -> Self {
        let used = after.server.zip(before.server).map(|(a, b)| a.saturating_sub(b));
        Self {
            cycles,
            per_second: f64::from(cycles) / elapsed.as_secs_f64(),
            server_cpu_us: used.map(|used| used.as_secs_f64() * 1e6 / f64::from(cycles.max(1))),
        }
    }
}

/// The result of one run; the names are those of the JSON output.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    rw: &'static str,
    block: u32,
    depth: u32,
    connections: u32,
    digests: bool,
    seconds: f64,
    ios: u64,
    iops: f64,
    mb_s: f64,
    mean_us: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    client_cpu_us: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_cpu_us: Option<f64>,
}

impl Report {
    pub(crate) fn new(
        options: &Options,
        latencies: &Histogram,
        elapsed: Duration,
        before: Cpu,
        after: Cpu,
    ) -> Self {
        let ios = latencies.total();
        let seconds = elapsed.as_secs_f64();
        let iops = ios as f64 / seconds;
        let per_io = |used: Duration| used.as_secs_f64() * 1e6 / ios.max(1) as f64;
        let server = after.server.zip(before.server).map(|(a, b)| per_io(a.saturating_sub(b)));
        Self {
            rw: options.rw.name(),
            block: options.block,
            depth: options.depth,
            connections: options.connections,
            digests: options.digests,
            seconds,
            ios,
            iops,
            mb_s: iops * f64::from(options.block) / 1e6,
            mean_us: latencies.mean() / 1e3,
            p50_us: latencies.percentile(500) / 1e3,
            p99_us: latencies.percentile(990) / 1e3,
            p999_us: latencies.percentile(999) / 1e3,
            client_cpu_us: per_io(after.client.saturating_sub(before.client)),
            server_cpu_us: server,
        }
    }

    pub(crate) fn text(&self) -> String {
        let server =
            self.server_cpu_us.map(|us| format!(", server {us:.2} µs")).unwrap_or_default();
        format!(
            "{} {} B, depth {}, {} connection(s), {:.2} s: {:.0} IOPS, {:.1} MB/s\n\
             latency: mean {:.1}, p50 {:.1}, p99 {:.1}, p99.9 {:.1} µs\n\
             CPU per I/O: client {:.2} µs{server}",
            self.rw,
            self.block,
            self.depth,
            self.connections,
            self.seconds,
            self.iops,
            self.mb_s,
            self.mean_us,
            self.p50_us,
            self.p99_us,
            self.p999_us,
            self.client_cpu_us,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_fields_14_and_15() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 100 0 0 0 700 35 0 0 20 0 4 0 100";
        assert_eq!(ticks(stat), Some(735));
        assert_eq!(ticks("42 (x) S 1"), None);
    }

    #[test]
    fn this_process_has_used_some() {
        assert!(of_process(std::process::id()).is_ok());
        assert!(of_process(0).is_err());
    }
}
