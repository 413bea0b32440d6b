//! Exponential buckets, as Prometheus' native histograms have them.

use super::exposition::Exposed;

/// How fine the buckets are: each is 2^(2^-5) times the one below, 2.2 % wide. From 1 µs to 1 h that makes
/// 1,024 at most; as the schema never changes, what was scraped adds up over the run and over instances.
pub(super) const SCHEMA: i32 = 5;

/// Buckets for each doubling.
const BUCKETS_PER_OCTAVE: f64 = (1 << SCHEMA) as f64;

/// A histogram in exponential buckets: number i holds what is over 2^((i-1)/32) and at most 2^(i/32).
#[derive(Debug, PartialEq)]
pub(super) struct Sparse {
    /// The largest value that counts as zero, half of the least that the source tells from it.
    pub zero_threshold: f64,
    /// Samples that are zero.
    pub zeros: u64,
    /// Number of samples by the number of their bucket; rising, none empty.
    pub buckets: Vec<(i32, u64)>,
}

impl Sparse {
    /// The samples of a histogram, none left out.
    pub(super) fn of(exposed: &Exposed<'_>) -> Self {
        let mut sparse = Self { zero_threshold: 0.5 / exposed.units, zeros: 0, buckets: Vec::new() };
        for (value, count) in exposed.steps() {
            if value <= sparse.zero_threshold {
                sparse.zeros += count;
                continue;
            }
            let number = number(value);
            match sparse.buckets.last_mut() {
                Some((last, counted)) if *last == number => *counted += count,
                _ => sparse.buckets.push((number, count)),
            }
        }
        sparse
    }

    /// Runs of buckets without a gap: how many are left out before each (of the first: the number it begins
    /// with), and its counts.
    pub(super) fn runs(&self) -> Vec<(i32, Vec<u64>)> {
        let mut runs: Vec<(i32, Vec<u64>)> = Vec::new();
        let mut next = 0;
        for &(number, count) in &self.buckets {
            match runs.last_mut() {
                Some((_, counts)) if number == next => counts.push(count),
                _ => runs.push((number - next, vec![count])),
            }
            next = number + 1;
        }
        runs
    }
}

/// The bucket of a positive value.
#[expect(clippy::cast_possible_truncation, reason = "any f64 is 2^±1074: at most 34,368")]
fn number(value: f64) -> i32 {
    (value.log2() * BUCKETS_PER_OCTAVE).ceil() as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;
    use proptest::prelude::*;

    fn exposed(histogram: &Histogram<u64>, units: f64) -> Exposed<'_> {
        Exposed { name: "x", load: None, histogram, sum: 0.0, buckets: &[], units }
    }

    #[test]
    fn bounds_belong_to_the_bucket_below() {
        assert_eq!([0.5, 1.0, 2.0, 4.0].map(number), [-32, 0, 32, 64]);
        assert_eq!([0.5, 1.0, 2.0].map(|bound| number(bound * 1.000_001)), [-31, 1, 33]);
    }

    #[test]
    fn runs_say_what_they_leave_out() {
        let sparse = |buckets: &[(i32, u64)]| {
            Sparse { zero_threshold: 0.5, zeros: 0, buckets: buckets.to_vec() }.runs()
        };
        assert_eq!(sparse(&[]), []);
        assert_eq!(
            sparse(&[(-3, 1), (-2, 5), (0, 2), (9, 1)]),
            [(-3, vec![1, 5]), (1, vec![2]), (8, vec![1])]
        );
        assert_eq!(sparse(&[(0, 1), (1, 5)]), [(0, vec![1, 5])]);
    }

    proptest! {
        #[test]
        fn each_sample_counts_in_a_bucket_that_holds_it(
            samples in prop::collection::vec((prop_oneof![0_u64..100, 0_u64..3_600_000_000], 1_u64..1000), 0..200)
        ) {
            let mut histogram = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3).unwrap();
            let mut expected = std::collections::BTreeMap::new();
            let mut zeros = 0;
            for &(micros, count) in &samples {
                histogram.record_n(micros, count).unwrap();
                if micros == 0 {
                    zeros += count;
                } else {
                    *expected.entry(histogram.median_equivalent(micros)).or_insert(0) += count;
                }
            }
            let sparse = Sparse::of(&exposed(&histogram, 1e6));
            prop_assert_eq!(sparse.zeros, zeros);
            prop_assert_eq!(sparse.zeros + sparse.buckets.iter().map(|(_, n)| n).sum::<u64>(), histogram.len());
            prop_assert!(sparse.buckets.is_sorted_by(|a, b| a.0 < b.0));
            let mut left = sparse.buckets.clone();
            for (micros, count) in expected {
                let value = micros as f64 / 1e6;
                // The bounds are irrational but for powers of two; a float's rounding is allowed for.
                let holds = |number: i32| {
                    let upper = (f64::from(number) / 32.0).exp2();
                    value > upper / (1.0_f64 / 32.0).exp2() * (1.0 - 1e-12) && value <= upper * (1.0 + 1e-12)
                };
                let bucket = left.iter_mut().find(|(number, n)| *n > 0 && holds(*number));
                let Some((_, bucket)) = bucket else { return Err(TestCaseError::fail(format!("{micros}"))) };
                prop_assert!(*bucket >= count);
                *bucket -= count;
            }
            prop_assert!(left.iter().all(|(_, n)| *n == 0));
            let runs = sparse.runs();
            prop_assert_eq!(runs.iter().map(|(_, counts)| counts.len()).sum::<usize>(), sparse.buckets.len());
        }
    }
}
