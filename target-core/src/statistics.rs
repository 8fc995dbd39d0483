//! What a unit has done, counted by each session for itself and put together when LOG SENSE or the
//! management asks; and how long commands took: those that had to be handed off, and of all reads and
//! writes some.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use disk_image::CacheCounters;
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

/// Of so many reads of a session, and of so many writes, the first one is timed: a look at the clock
/// costs as much as a hundredth of a command.
pub const TIMED_OF: u64 = 64;

/// With one writer, this loses nothing and locks nothing. What it was before.
fn add(counter: &AtomicU64, count: u64) -> u64 {
    let before = counter.load(Ordering::Relaxed);
    counter.store(before.wrapping_add(count), Ordering::Relaxed);
    before
}

impl Counters {
    /// Counts a read; whether it is to be timed.
    pub(crate) fn read(&self, blocks: u64) -> bool {
        add(&self.blocks_read, blocks);
        add(&self.read_commands, 1).is_multiple_of(TIMED_OF)
    }

    /// Counts a write; whether it is to be timed.
    pub(crate) fn write(&self, blocks: u64) -> bool {
        add(&self.blocks_written, blocks);
        add(&self.write_commands, 1).is_multiple_of(TIMED_OF)
    }

    fn add_to(&self, sum: &mut Statistics) {
        sum.read_commands += self.read_commands.load(Ordering::Relaxed);
        sum.write_commands += self.write_commands.load(Ordering::Relaxed);
        sum.blocks_read += self.blocks_read.load(Ordering::Relaxed);
        sum.blocks_written += self.blocks_written.load(Ordering::Relaxed);
    }
}

/// What a command is, or what of it was handed off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It reads or verifies.
    Read,
    /// It writes or unmaps, what must be durable before it is answered too.
    Write,
    /// SYNCHRONIZE CACHE.
    Flush,
    /// Everything else.
    Other,
}

impl Kind {
    /// All of them, in the order of [`UnitCounters::handed_off`].
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Flush, Self::Other];
}

/// Upper bounds of the classes of [`Times`], in microseconds; beyond the last one is one more.
pub const BOUNDS: [u64; 14] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 1_000_000, 5_000_000,
    30_000_000,
];

/// How often what took how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// One for each of [`BOUNDS`], and one for what took longer; not cumulative.
    pub classes: [u64; BOUNDS.len() + 1],
    /// All of it together.
    pub nanoseconds: u64,
}

/// Those of one kind.
#[derive(Debug, Default)]
struct Timed {
    classes: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Timed {
    fn count(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let class = BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(class) = self.classes.get(class) {
            class.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    fn get(&self) -> Times {
        Times {
            classes: std::array::from_fn(|class| {
                self.classes.get(class).map_or(0, |class| class.load(Ordering::Relaxed))
            }),
            nanoseconds: self.nanoseconds.load(Ordering::Relaxed),
        }
    }
}

/// How long commands took, by [`Kind`]. Most are of one kind: the others take no memory.
#[derive(Debug, Default)]
pub(crate) struct KindTimes([OnceLock<Box<Timed>>; Kind::ALL.len()]);

impl KindTimes {
    /// A command of this kind took so long.
    pub(crate) fn count(&self, kind: Kind, time: Duration) {
        if let Some(timed) = self.0.get(kind as usize) {
            timed.get_or_init(Box::default).count(time);
        }
    }

    pub(crate) fn get(&self) -> [Times; Kind::ALL.len()] {
        let timed = |kind: usize| self.0.get(kind).and_then(OnceLock::get);
        std::array::from_fn(|kind| timed(kind).map(|timed| timed.get()).unwrap_or_default())
    }
}

/// A unit's counts since it is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnitCounters {
    /// Commands that read blocks.
    pub read_commands: u64,
    /// Commands that write blocks.
    pub write_commands: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Commands that were handed off to a thread that may sleep, from then until they were done;
    /// by [`Kind`]. All others were answered from the page cache, without a wait.
    pub handed_off: [Times; Kind::ALL.len()],
    /// Commands from their arrival until their answer went to the socket, however they were carried
    /// out: the first of every [`TIMED_OF`] READs and WRITEs of a session, and all others, by [`Kind`].
    pub commands: [Times; Kind::ALL.len()],
    /// Pieces of work that wait for a thread now.
    pub waiting: usize,
    /// Threads that work for the unit now.
    pub threads: usize,
    /// Its image's cache of tables.
    pub cache: Option<CacheCounters>,
}

/// All sessions of a unit together.
#[derive(Debug, Default)]
pub(crate) struct UnitStatistics {
    sessions: Mutex<Sessions>,
    stops: AtomicU32,
    handed_off: KindTimes,
    commands: KindTimes,
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

    /// A command that was handed off is done.
    pub(crate) fn handed_off(&self, kind: Kind, time: Duration) {
        self.handed_off.count(kind, time);
    }

    /// A command that was timed is answered.
    pub(crate) fn answered(&self, kind: Kind, time: Duration) {
        self.commands.count(kind, time);
    }

    /// For the management; `block_length` in bytes.
    pub(crate) fn counters(&self, block_length: u64) -> UnitCounters {
        let sum = self.get();
        UnitCounters {
            read_commands: sum.read_commands,
            write_commands: sum.write_commands,
            read_bytes: sum.blocks_read.saturating_mul(block_length),
            written_bytes: sum.blocks_written.saturating_mul(block_length),
            handed_off: self.handed_off.get(),
            commands: self.commands.get(),
            ..UnitCounters::default()
        }
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
    fn a_time_is_counted_in_the_class_whose_bound_it_does_not_exceed() {
        let unit = UnitStatistics::default();
        for micros in [0, 50, 51, 30_000_000, 30_000_001] {
            unit.handed_off(Kind::Write, Duration::from_micros(micros));
        }
        let [read, write, ..] = unit.counters(512).handed_off;
        assert_eq!(read, Times::default());
        let found: Vec<u64> = write.classes.to_vec();
        assert_eq!(found, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(write.nanoseconds, 60_000_102_000);
    }

    #[test]
    fn the_first_of_every_so_many_is_timed_of_reads_and_of_writes() {
        let counters = Counters::default();
        let timed = |count: fn(&Counters, u64) -> bool| {
            (0..3 * TIMED_OF).filter(|_| count(&counters, 1)).count()
        };
        assert!(counters.read(1));
        assert_eq!((timed(Counters::read), timed(Counters::write)), (3, 3));
    }

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
