//! Lets a READ find out that a WRITE was at work where it has read. File systems like ext4 do not
//! keep the two apart: without this a READ could see half of a logical block that another session
//! writes.
//!
//! Every write counts itself in and out of the regions of 64 KiB that it touches; a read looks at
//! those counts before and after, writes nothing, and reads again if somebody was there. The counts
//! belong to all units together, each region of each unit to one of them, so that sessions meet at
//! one only if they use the same place, or by chance, which costs no more than another look.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use parking_lot::Mutex;

/// Bits of an offset within a region.
const REGION: u32 = 16;
/// Regions whose counts are apart; few enough to stay in the processor's cache.
const COUNTS: usize = 256;

#[derive(Debug)]
#[repr(align(64))] // not in one cache line with another region's
struct Count {
    entered: AtomicU64,
    left: AtomicU64,
}

static ALL: [Count; COUNTS] =
    [const { Count { entered: AtomicU64::new(0), left: AtomicU64::new(0) } }; COUNTS];

/// The regions of a unit.
#[derive(Debug)]
pub(crate) struct Regions {
    first: usize,
    /// What is being written by threads that may sleep.
    elsewhere: Mutex<Vec<Range<u64>>>,
}

/// While it is held, what is read from its regions may be half written.
#[derive(Debug)]
pub(crate) struct Writing<'a> {
    regions: &'a Regions,
    range: Range<u64>,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.regions.each(&self.range, |count| {
            // Behind the write.
            count.left.fetch_add(1, Ordering::SeqCst);
        });
    }
}

impl Regions {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let unit = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { first: unit.wrapping_mul(61), elsewhere: Mutex::default() }
    }

    fn each(&self, range: &Range<u64>, mut with: impl FnMut(&'static Count)) {
        let (begin, end) = (range.start >> REGION, range.end.saturating_sub(1) >> REGION);
        // Each count once.
        let end = end.min(begin.saturating_add(COUNTS as u64 - 1));
        let mut region = begin;
        loop {
            let at = usize::try_from(region).unwrap_or_default();
            if let Some(count) = ALL.get(self.first.wrapping_add(at) % COUNTS) {
                with(count);
            }
            if region >= end {
                return;
            }
            region += 1;
        }
    }

    fn sum(&self, range: &Range<u64>, of: impl Fn(&Count) -> &AtomicU64) -> u64 {
        let mut sum: u64 = 0;
        self.each(range, |count| sum = sum.wrapping_add(of(count).load(Ordering::SeqCst)));
        sum
    }

    fn entered(&self, range: &Range<u64>) -> u64 {
        self.sum(range, |count| &count.entered)
    }

    /// Counts a write in; out when what comes back is dropped.
    pub(crate) fn enter(&self, range: Range<u64>) -> Writing<'_> {
        self.each(&range, |count| {
            // Before the write.
            count.entered.fetch_add(1, Ordering::SeqCst);
        });
        Writing { regions: self, range }
    }

    /// Writes on a thread that may sleep.
    pub(crate) fn write<T>(&self, range: Range<u64>, write: impl FnOnce() -> T) -> T {
        // Known before it is counted: see `quiet`.
        self.elsewhere.lock().push(range.clone());
        let writing = self.enter(range.clone());
        let result = write();
        drop(writing);
        let mut elsewhere = self.elsewhere.lock();
        if let Some(at) = elsewhere.iter().position(|it| *it == range) {
            elsewhere.swap_remove(at);
        }
        result
    }

    /// Whether a thread that may sleep writes there.
    pub(crate) fn is_written_elsewhere(&self, range: &Range<u64>) -> bool {
        self.elsewhere.lock().iter().any(|it| overlap(it, range))
    }

    /// Reads; `None` if somebody may have written in these regions meanwhile.
    pub(crate) fn read<T>(&self, range: &Range<u64>, read: impl FnOnce() -> T) -> Option<T> {
        // None that has entered is inside: each leaves after it entered, and this looks for that
        // first.
        let left = self.sum(range, |count| &count.left);
        let entered = self.entered(range);
        (left == entered).then(|| self.unless_entered(range, entered, read)).flatten()
    }

    /// Reads although others write in these regions, as long as `overlaps` does not find them in
    /// that very place; `None` if they do, or another one came.
    pub(crate) fn read_beside<T>(
        &self,
        range: &Range<u64>,
        overlaps: impl FnOnce() -> bool,
        read: impl FnOnce() -> T,
    ) -> Option<T> {
        // Who is counted already has said where it writes.
        let entered = self.entered(range);
        (!overlaps()).then(|| self.unless_entered(range, entered, read)).flatten()
    }

    fn unless_entered<T>(
        &self,
        range: &Range<u64>,
        entered: u64,
        read: impl FnOnce() -> T,
    ) -> Option<T> {
        let result = read();
        // What was read was read before the look at the counts.
        fence(Ordering::Acquire);
        (self.entered(range) == entered).then_some(result)
    }
}

/// The bytes from an offset on.
pub(crate) fn range_of(offset: u64, length: usize) -> Range<u64> {
    offset..offset.saturating_add(u64::try_from(length).unwrap_or(u64::MAX))
}

/// Whether two ranges have a byte in common.
pub(crate) fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION_LENGTH: u64 = 1 << REGION;

    #[test]
    fn a_read_is_good_unless_a_write_is_in_its_regions() {
        let regions = Regions::new();
        let write = regions.enter(REGION_LENGTH - 1..REGION_LENGTH + 1);
        assert_eq!(regions.read(&(0..1), || ()), None);
        assert_eq!(regions.read(&(REGION_LENGTH..REGION_LENGTH + 1), || ()), None);
        assert_eq!(regions.read(&(2 * REGION_LENGTH..3 * REGION_LENGTH), || ()), Some(()));
        drop(write);
        assert_eq!(regions.read(&(0..REGION_LENGTH + 1), || ()), Some(()));
    }

    #[test]
    fn a_write_of_any_length_is_known_wherever_it_is() {
        let regions = Regions::new();
        let end = 10_000 * REGION_LENGTH;
        let write = regions.enter(0..end);
        for at in [0, REGION_LENGTH, 5_000 * REGION_LENGTH, end - 1] {
            assert_eq!(regions.read(&(at..at + 1), || ()), None, "{at}");
        }
        drop(write);
        assert_eq!(regions.read(&(0..end), || ()), Some(()));
    }

    #[test]
    fn a_write_that_comes_or_goes_meanwhile_is_noticed() {
        let regions = Regions::new();
        let come_and_go = || drop(regions.enter(0..1));
        assert_eq!(regions.read(&(0..9), come_and_go), None);
        assert_eq!(regions.read_beside(&(0..9), || false, come_and_go), None);
    }

    #[test]
    fn a_read_beside_a_write_is_good_where_they_have_no_byte_in_common() {
        let regions = Regions::new();
        let overlaps = |range: Range<u64>| regions.is_written_elsewhere(&range);
        regions.write(512..1024, || {
            for (range, good) in [(0..512, true), (1024..2048, true), (0..513, false)] {
                let read = regions.read_beside(&range, || overlaps(range.clone()), || ());
                assert_eq!(read.is_some(), good, "{range:?}");
                assert_eq!(regions.read(&range, || ()), None);
            }
        });
        assert!(!overlaps(512..1024));
    }
}
