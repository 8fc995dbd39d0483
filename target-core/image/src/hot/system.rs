//! What the system says of time and memory.

use std::fs::read_to_string;

use rustix::time::{ClockId, clock_gettime};

/// Of all memory, at most so much is pinned if nobody says how much.
const SHARE: u64 = 8;
/// With less than this share of it available, what is pinned is given back.
const NEEDED: u64 = 16;

/// A quarter of a second, by number; they begin anew after a minute.
pub(super) fn moment() -> u16 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    u16::try_from((now.tv_sec * 4 + now.tv_nsec / 250_000_000) & 0xff).unwrap_or_default()
}

/// An eighth of the memory that this program may use: of the machine's, or of its control group's.
#[must_use]
pub fn default_hot_bytes() -> u64 {
    let machine = memory("MemTotal:").unwrap_or(0);
    group_limit().map_or(machine, |limit| limit.min(machine)) / SHARE
}

/// Others need memory more.
pub(super) fn is_short_of_memory() -> bool {
    let (total, available) = (memory("MemTotal:"), memory("MemAvailable:"));
    matches!((total, available), (Some(total), Some(available)) if available < total / NEEDED)
}

/// A line of `/proc/meminfo`, in bytes.
fn memory(name: &str) -> Option<u64> {
    let text = read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The least limit of the control groups that this program is in (version 2).
fn group_limit() -> Option<u64> {
    let own = read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?.trim_end();
    let mut group = std::path::Path::new("/sys/fs/cgroup").join(path);
    let mut least = None;
    while group.starts_with("/sys/fs/cgroup") {
        let limit = read_to_string(group.join("memory.max")).ok();
        if let Some(limit) = limit.and_then(|text| text.trim().parse::<u64>().ok()) {
            least = Some(least.map_or(limit, |least: u64| least.min(limit)));
        }
        group.pop();
    }
    least
}
