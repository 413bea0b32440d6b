use crate::load::Nanos;
use hdrhistogram::Histogram;

/// A count for each of a few kinds of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts<K: 'static, const N: usize> {
    kinds: &'static [K; N],
    counts: [u64; N],
}

impl<K: Copy + PartialEq, const N: usize> Counts<K, N> {
    pub(super) fn new(kinds: &'static [K; N]) -> Self {
        Self { kinds, counts: [0; N] }
    }

    pub(super) fn add(&mut self, kind: K, count: u64) {
        if let Some(place) = self.kinds.iter().position(|&k| k == kind) {
            self.counts[place] += count;
        }
    }

    /// The count of one kind.
    #[must_use]
    pub fn of(&self, kind: K) -> u64 {
        self.iter().filter(|(k, _)| *k == kind).map(|(_, n)| n).sum()
    }

    /// The count of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Every kind with its count.
    pub fn iter(&self) -> impl Iterator<Item = (K, u64)> + '_ {
        self.kinds.iter().copied().zip(self.counts)
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
    }

    /// Of times that passed at once the longest counts.
    pub(super) fn merge_longest(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine = theirs.max(*mine);
        }
    }
}

/// Accepted Kinesis records in the units that the service charges for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Billed {
    /// PUT payload units: each record in chunks of 25 KiB, the last one rounded up.
    pub put_units: u64,
    /// Each record rounded up to a KiB.
    pub kib: u64,
}

impl Billed {
    /// Adds an accepted record of so many bytes.
    pub(super) fn add(&mut self, bytes: u64) {
        self.put_units += bytes.div_ceil(25 * 1024).max(1);
        self.kib += bytes.div_ceil(1024).max(1);
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.put_units += other.put_units;
        self.kib += other.kib;
    }
}

/// User records by the time they took, in microseconds: 1 µs to 1 hour (longer counts as that),
/// three significant digits.
#[derive(Clone, Debug)]
pub struct Durations {
    histogram: Histogram<u64>,
    sum: u128,
}

impl Durations {
    /// The longest time that is told from longer ones.
    pub(crate) const LONGEST_MICROS: u64 = 3_600_000_000;

    /// Up to 131 ms a histogram has 64 KiB, up to an hour 190: it grows with what it counts, as each snapshot is a copy
    /// of some of them.
    const USUAL_MICROS: u64 = (1 << 17) - 1;

    /// No times yet.
    pub(crate) fn new() -> Self {
        let mut histogram = histogram(Self::USUAL_MICROS);
        histogram.auto(true);
        Self { histogram, sum: 0 }
    }

    /// Adds this time for so many records.
    pub(crate) fn record(&mut self, duration: Nanos, records: u64) {
        self.count(duration / 1000, records);
        self.sum += u128::from(duration) * u128::from(records);
    }

    /// Adds this time in microseconds to the histogram alone; the sum is told apart.
    #[expect(clippy::expect_used, reason = "it fails only where it may not grow, and past what it may count")]
    pub(super) fn count(&mut self, micros: u64, records: u64) {
        self.histogram.record_n(micros.min(Self::LONGEST_MICROS), records).expect("a histogram that grows");
    }

    /// The histogram, in microseconds.
    #[must_use]
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// The sum of all times in seconds, exact to the nanosecond before it is rounded to a float.
    #[must_use]
    pub fn sum_seconds(&self) -> f64 {
        self.sum as f64 / 1e9
    }

    /// The mean time in milliseconds; 0 without a record.
    #[must_use]
    pub fn mean_millis(&self) -> f64 {
        let count = self.histogram.len().max(1);
        self.sum as f64 / count as f64 / 1e6
    }

    pub(super) fn add_sum(&mut self, nanos: u128) {
        self.sum += nanos;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        add(&mut self.histogram, &other.histogram);
        self.sum += other.sum;
    }
}

/// A histogram of 1 to `highest` with three significant digits.
#[expect(clippy::expect_used, reason = "the bounds are constants, which the crate accepts")]
pub(crate) fn histogram(highest: u64) -> Histogram<u64> {
    Histogram::new_with_bounds(1, highest, 3).expect("constant bounds")
}

/// Adds a histogram to one that grows, or has the same bounds.
#[expect(clippy::expect_used, reason = "adding fails only where there is no room")]
pub(super) fn add(sum: &mut Histogram<u64>, other: &Histogram<u64>) {
    sum.add(other).expect("room for what is added");
}
