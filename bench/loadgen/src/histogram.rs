//! Latencies: a histogram with 32 buckets per power of two, so within about 3 % everywhere.

const SUB_BITS: u32 = 5;
const SUB: usize = 1 << SUB_BITS;
/// Up to 2^40 ns, 18 minutes; all above share the last bucket.
const BUCKETS: usize = (40 - SUB_BITS as usize + 1) * SUB;

/// Counts of nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    sum: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, sum: 0 }
    }

    fn bucket(nanos: u64) -> usize {
        // Small values have a bucket each; above, the leading bit and the five behind it.
        let shift = (63 - (nanos | SUB as u64).leading_zeros()) - SUB_BITS;
        let low = usize::try_from(nanos >> shift).unwrap_or(0);
        (shift as usize * SUB + low).min(BUCKETS - 1)
    }

    /// The middle of a bucket.
    fn value(bucket: usize) -> f64 {
        if bucket < 2 * SUB {
            return bucket as f64;
        }
        let shift = bucket / SUB - 1;
        let low = (bucket % SUB + SUB) as f64;
        (low + 0.5) * (1_u64 << shift) as f64
    }

    pub(crate) fn record(&mut self, nanos: u64) {
        if let Some(count) = self.counts.get_mut(Self::bucket(nanos)) {
            *count += 1;
        }
        self.total += 1;
        self.sum += nanos;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.sum += other.sum;
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Mean in nanoseconds; zero when nothing was recorded.
    pub(crate) fn mean(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.sum as f64 / self.total as f64 }
    }

    /// The value in nanoseconds that `per_mille` thousandths of all do not exceed.
    pub(crate) fn percentile(&self, per_mille: u64) -> f64 {
        let rank = (self.total * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Self::value(bucket);
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() <= want * 0.035, "{got} is not near {want}");
    }

    #[test]
    fn percentiles_of_an_even_spread() {
        let mut h = Histogram::new();
        for n in 1..=100_000_u64 {
            h.record(n * 10);
        }
        near(h.percentile(500), 500_000.0);
        near(h.percentile(990), 990_000.0);
        near(h.percentile(999), 999_000.0);
        near(h.mean(), 500_005.0);
    }

    #[test]
    fn small_values_are_exact_and_huge_ones_counted() {
        let mut h = Histogram::new();
        for n in 0..64 {
            h.record(n);
        }
        assert_eq!(h.percentile(500), 31.0);
        h.record(u64::MAX >> 1);
        assert_eq!(h.total(), 65);
        assert!(h.percentile(1000) > 1e12);
    }

    #[test]
    fn buckets_never_go_back() {
        let mut last = 0;
        for bits in 0..40 {
            for n in [1_u64 << bits, (1 << bits) + (1 << bits) / 3, (2 << bits) - 1] {
                let bucket = Histogram::bucket(n);
                assert!(bucket >= last, "{n}");
                near(Histogram::value(bucket), n as f64);
                last = bucket;
            }
        }
    }

    #[test]
    fn merged_is_the_sum() {
        let (mut a, mut b) = (Histogram::new(), Histogram::new());
        a.record(100);
        b.record(1_000_000);
        a.merge(&b);
        assert_eq!(a.total(), 2);
        near(a.percentile(500), 100.0);
        near(a.percentile(1000), 1_000_000.0);
        assert_eq!(Histogram::new().percentile(990), 0.0);
    }
}
