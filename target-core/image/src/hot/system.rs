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

/// An eighth of the memory that this program may use: of the machine's, or of its control group's. 0
/// where the system does not say how much of it is available.
#[must_use]
pub fn default_hot_bytes() -> u64 {
    let machine = Memory::now().map_or(0, |memory| memory.total);
    group_limit().map_or(machine, |limit| limit.min(machine)) / SHARE
}

/// Others need memory more.
pub(super) fn is_short_of_memory() -> bool {
    Memory::now().is_some_and(|memory| memory.available < memory.total / NEEDED)
}

/// Bytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memory {
    total: u64,
    /// What programs can have without swapping.
    available: u64,
}

impl Memory {
    /// A service may see no file of `/proc` but those of processes (`ProcSubset=pid`), and asks the
    /// memory nodes then.
    fn now() -> Option<Self> {
        let machine = read_to_string("/proc/meminfo").ok();
        machine.and_then(|text| Self::of_machine(&text)).or_else(Self::of_nodes)
    }

    fn of_machine(text: &str) -> Option<Self> {
        Some(Self { total: bytes(text, "MemTotal:")?, available: bytes(text, "MemAvailable:")? })
    }

    fn of_nodes() -> Option<Self> {
        let nodes = std::fs::read_dir("/sys/devices/system/node").ok()?;
        let files = nodes.filter_map(|node| read_to_string(node.ok()?.path().join("meminfo")).ok());
        files.filter_map(|text| Self::of_node(&text)).reduce(|all, one| Self {
            total: all.total + one.total,
            available: all.available + one.available,
        })
    }

    /// What is locked is on neither list.
    fn of_node(text: &str) -> Option<Self> {
        let cached = bytes(text, "Active(file):")? + bytes(text, "Inactive(file):")?;
        Some(Self {
            total: bytes(text, "MemTotal:")?,
            available: bytes(text, "MemFree:")? + cached,
        })
    }
}

/// The number in the line that has this word, in bytes.
fn bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| {
        // `Inactive(file):` has `Active(file):` in it, but not as a word.
        let (before, number) = line.split_once(name)?;
        (before.is_empty() || before.ends_with(' ')).then_some(number)
    })?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_the_system_says() {
        let text = "MemTotal:       24684652 kB\nMemFree:  1 kB\nMemAvailable:   22365400 kB\n";
        let expected = Memory { total: 24_684_652 << 10, available: 22_365_400 << 10 };
        assert_eq!(Memory::of_machine(text), Some(expected));
        let node = "Node 0 MemTotal:       1000 kB\nNode 0 MemFree:         10 kB\n\
                    Node 0 Inactive(anon):  9000 kB\nNode 0 Inactive(file):  20 kB\n\
                    Node 0 Active(file):     30 kB\nNode 0 Unevictable:  500 kB\n";
        let expected = Memory { total: 1000 << 10, available: 60 << 10 };
        assert_eq!(Memory::of_node(node), Some(expected));
        assert_eq!(Memory::of_machine(node), None);
        // Where there are such files, they are as they were when this was written.
        if let (Some(machine), Some(nodes)) = (Memory::now(), Memory::of_nodes()) {
            // Half of a machine has been seen to be missing in its nodes, for minutes; the numbers
            // above are what says that they are read well.
            assert!(nodes.total <= machine.total + machine.total / 8);
            assert!(nodes.total > machine.total / 64);
            assert!(0 < nodes.available && nodes.available <= nodes.total);
        }
    }
}
