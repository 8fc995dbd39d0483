//! What a unit has done, counted by each session for itself and put together when LOG SENSE asks.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use scsi::Statistics;

/// What one session has done with a unit. Only its connection writes it.
#[derive(Debug, Default)]
#[repr(align(64))] // not in one cache line with another session's
pub(crate) struct Counters {
    read_commands: AtomicU64,
    write_commands: AtomicU64,
    blocks_read: AtomicU64,
    blocks_written: AtomicU64,
}

/// With one writer, this loses nothing and locks nothing.
fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn read(&self, blocks: u64) {
        add(&self.read_commands, 1);
        add(&self.blocks_read, blocks);
    }

    pub(crate) fn write(&self, blocks: u64) {
        add(&self.write_commands, 1);
        add(&self.blocks_written, blocks);
    }

    fn add_to(&self, sum: &mut Statistics) {
        sum.read_commands += self.read_commands.load(Ordering::Relaxed);
        sum.write_commands += self.write_commands.load(Ordering::Relaxed);
        sum.blocks_read += self.blocks_read.load(Ordering::Relaxed);
        sum.blocks_written += self.blocks_written.load(Ordering::Relaxed);
    }
}

/// All sessions of a unit together.
#[derive(Debug, Default)]
pub(crate) struct UnitStatistics {
    sessions: Mutex<Sessions>,
    stops: AtomicU32,
}

#[derive(Debug, Default)]
struct Sessions {
    there: Vec<Weak<Counters>>,
    /// Of sessions that are over.
    over: Statistics,
}

impl UnitStatistics {
    /// Counters for a session.
    pub(crate) fn begin(&self) -> Arc<Counters> {
        let counters = Arc::new(Counters::default());
        self.sessions.lock().there.push(Arc::downgrade(&counters));
        counters
    }

    /// The session does not use the unit any more.
    pub(crate) fn end(&self, counters: &Arc<Counters>) {
        let mut sessions = self.sessions.lock();
        counters.add_to(&mut sessions.over);
        let gone = Arc::downgrade(counters);
        sessions.there.retain(|there| !there.ptr_eq(&gone));
    }

    pub(crate) fn stopped(&self) {
        self.stops.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Statistics {
        let sessions = self.sessions.lock();
        let mut sum = sessions.over;
        for counters in sessions.there.iter().filter_map(Weak::upgrade) {
            counters.add_to(&mut sum);
        }
        sum.stops = self.stops.load(Ordering::Relaxed);
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_are_over_still_count() {
        let unit = UnitStatistics::default();
        let (one, two) = (unit.begin(), unit.begin());
        one.read(8);
        two.write(1);
        two.write(2);
        unit.end(&two);
        drop(two);
        one.read(1);
        unit.stopped();
        let expected = Statistics {
            read_commands: 2,
            write_commands: 2,
            blocks_read: 9,
            blocks_written: 3,
            stops: 1,
        };
        assert_eq!(unit.get(), expected);
    }
}
