use super::{Nanos, Rate, SECOND};

/// Which records of the run one engine offers: every `of`-th, beginning with `index`.
///
/// Record numbers are shared out, not ranges of time, so that the run as a whole offers the same
/// records at the same intended starts whatever the number of engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stride {
    /// This engine's place, from 0 to `of` - 1.
    pub index: u64,
    /// How many engines share the run; at least 1.
    pub of: u64,
}

impl Stride {
    /// One engine that offers every record.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// How many of the run's first `count` records are this engine's.
    #[must_use]
    pub fn share(self, count: u64) -> u64 {
        count.saturating_sub(self.index).div_ceil(self.of)
    }

    /// The run's number of this engine's `k`-th record.
    #[must_use]
    pub fn record(self, k: u64) -> u64 {
        self.index + k * self.of
    }
}

/// When records are due.
///
/// Record *n* (from 0) is meant to start at `n / rate`; `due(t)` counts the records whose intended
/// start is not after `t`. Both are computed, never accumulated, so they agree at any time:
/// `due(t) = |{ n : start(n) <= t }|`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    rate: Rate,
    total: u64,
    // When it ends, if that is by time rather than by the last record.
    ends: Option<Nanos>,
}

impl Schedule {
    /// A constant rate, for `total` records (`u64::MAX`: without an end).
    #[must_use]
    pub fn constant(rate: Rate, total: u64) -> Self {
        Self { rate, total, ends: None }
    }

    /// The same schedule, ended after `span` if it has not ended by then.
    #[must_use]
    pub fn until(self, span: Nanos) -> Self {
        let within = Self::count_within(self.rate, span);
        if within > self.total { self } else { Self { total: within, ends: Some(span), ..self } }
    }

    /// How many records a constant `rate` makes due in `[0, span)`.
    #[must_use]
    pub fn count_within(rate: Rate, span: Nanos) -> u64 {
        let thousandths = u128::from(rate.thousandths());
        let count = (u128::from(span) * thousandths).div_ceil(u128::from(SECOND) * 1000);
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// How many records are due `elapsed` after the start of the run.
    #[must_use]
    pub fn due(&self, elapsed: Nanos) -> u64 {
        let thousandths = u128::from(self.rate.thousandths());
        let count = u128::from(elapsed) * thousandths / (u128::from(SECOND) * 1000) + 1;
        u64::try_from(count).unwrap_or(u64::MAX).min(self.total)
    }

    /// The intended start of record `n`, rounded up to a whole nanosecond.
    #[must_use]
    pub fn start(&self, n: u64) -> Nanos {
        let rate = self.rate.thousandths();
        let Some(scaled) = n.checked_mul(1000) else {
            return Nanos::MAX;
        };
        // Split at the second, which keeps the product below within 64 bits: the remainder is
        // under 10^10 (Rate::MAX), times 10^9.
        let (seconds, rest) = (scaled / rate, scaled % rate);
        seconds.saturating_mul(SECOND).saturating_add((rest * SECOND).div_ceil(rate))
    }

    /// The number of records of the whole schedule; `None` if it has no end.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        (self.total != u64::MAX).then_some(self.total)
    }

    /// How long the schedule lasts: until its end, or until the record after the last would start.
    #[must_use]
    pub fn span(&self) -> Option<Nanos> {
        self.ends.or_else(|| self.total().map(|total| self.start(total)))
    }

    /// When it ends, if that is by time rather than by the last record.
    #[must_use]
    pub fn ends(&self) -> Option<Nanos> {
        self.ends
    }

    /// Ends the schedule at `elapsed`: what is due by then stays due, nothing after it.
    pub fn stop(&mut self, elapsed: Nanos) {
        self.total = self.due(elapsed);
        self.ends = Some(elapsed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(thousandths: u64) -> Rate {
        Rate::from_thousandths(thousandths).unwrap()
    }

    #[test]
    fn thirty_seconds_at_5000_are_150000_records() {
        let rate = rate(5_000_000);
        let schedule = Schedule::constant(rate, u64::MAX).until(30 * SECOND);
        assert_eq!(schedule.total(), Some(150_000));
        assert_eq!(schedule.due(30 * SECOND), 150_000);
        assert_eq!(schedule.span(), Some(30 * SECOND));
        assert_eq!(schedule.start(1), 200_000);
    }

    #[test]
    fn the_earlier_of_two_ends_counts() {
        let schedule = Schedule::constant(rate(1_000_000), 500);
        assert_eq!((schedule.until(SECOND).span(), schedule.until(SECOND).ends()), (Some(SECOND / 2), None));
        let by_time = schedule.until(SECOND / 10);
        assert_eq!((by_time.total(), by_time.span()), (Some(100), Some(SECOND / 10)));
        // A record in twenty seconds: the first is due at once, and three seconds are three seconds.
        let slow = Schedule::constant(rate(50), u64::MAX).until(3 * SECOND);
        assert_eq!((slow.total(), slow.span()), (Some(1), Some(3 * SECOND)));
    }

    #[test]
    fn stop_keeps_what_was_due() {
        let mut schedule = Schedule::constant(rate(1_000_000), u64::MAX);
        schedule.stop(SECOND / 2);
        assert_eq!(schedule.total(), Some(501));
        assert_eq!(schedule.due(10 * SECOND), 501);
    }

    proptest! {
        /// due(t) counts exactly the records whose start is not after t, for a year of schedule.
        #[test]
        fn due_counts_the_starts(thousandths in 1_u64..10_000_000_000, elapsed in 0_u64..31_536_000 * SECOND) {
            let schedule = Schedule::constant(rate(thousandths), u64::MAX);
            let due = schedule.due(elapsed);
            prop_assert!(schedule.start(due - 1) <= elapsed);
            prop_assert!(schedule.start(due) > elapsed);
        }

        /// The count is within one record of the integral of the rate.
        #[test]
        fn due_is_the_integral(thousandths in 1_u64..10_000_000_000, elapsed in 0_u64..86_400 * SECOND) {
            let schedule = Schedule::constant(rate(thousandths), u64::MAX);
            let integral = u128::from(elapsed) * u128::from(thousandths);
            let due = u128::from(schedule.due(elapsed)) * 1_000 * u128::from(SECOND);
            prop_assert!(due >= integral && due - integral <= 1_000 * u128::from(SECOND));
        }

        /// Strides share every record out exactly once.
        #[test]
        fn strides_partition_the_records(of in 1_u64..9, count in 0_u64..1_000) {
            let mut seen = vec![0; usize::try_from(count).unwrap()];
            for index in 0..of {
                let stride = Stride { index, of };
                for k in 0..stride.share(count) {
                    seen[usize::try_from(stride.record(k)).unwrap()] += 1;
                }
            }
            prop_assert!(seen.iter().all(|&times| times == 1));
        }
    }
}
