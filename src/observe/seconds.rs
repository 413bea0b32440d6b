//! Response times second by second, in memory that is bounded for runs of any length.

use super::figures::Percentiles;
use super::hdr_log::Interval;
use crate::load::{MILLISECOND, Nanos};
use crate::producer::{Durations, Snapshot};
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::sync::Arc;

/// The shares whose response times are kept of each second.
const SHARES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 1.0];

/// The response times of the records that were acked in one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Second {
    from_ms: u64,
    span_ms: u32,
    records: u32,
    micros: [u32; SHARES.len()],
}

/// The seconds of a run, one after another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seconds {
    kept: VecDeque<Second>,
    forgotten: u64,
}

/// Cuts what a run measures into seconds.
#[derive(Debug)]
pub struct SecondCutter {
    // What is in seconds already.
    seen: Histogram<u64>,
    until: Nanos,
    seconds: Seconds,
}

impl Second {
    /// Of the times, in microseconds, that came in `span` from `from` on.
    fn new(from: Nanos, span: Nanos, times: &Histogram<u64>) -> Self {
        let fit = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Self {
            from_ms: from / MILLISECOND,
            span_ms: fit(span / MILLISECOND),
            records: fit(times.len()),
            micros: SHARES
                .map(|share| if times.is_empty() { 0 } else { fit(times.value_at_quantile(share)) }),
        }
    }

    /// When it began, in seconds from the start of the run.
    #[must_use]
    pub fn at_s(&self) -> f64 {
        self.from_ms as f64 / 1e3
    }

    /// How many seconds it was: about one, but for the last, and more where the process was held up or a histogram log
    /// has longer intervals.
    #[must_use]
    pub fn span_s(&self) -> f64 {
        f64::from(self.span_ms) / 1e3
    }

    /// Its acked records that are measured.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records.into()
    }

    /// Their response times.
    #[must_use]
    pub fn response_time_ms(&self) -> Percentiles {
        Percentiles::new(|quantile| {
            let place = SHARES.iter().position(|share| *share >= quantile);
            place.and_then(|place| self.micros.get(place)).copied().unwrap_or(0).into()
        })
    }
}

impl Seconds {
    /// The most seconds that are kept, some six days: 21 MB. Of a longer run the first are forgotten.
    pub const MOST: usize = 1 << 19;

    /// Those of the lines of a histogram log.
    #[must_use]
    pub fn of_log(intervals: &[Interval]) -> Self {
        let mut seconds = Self::default();
        for one in intervals.iter().filter(|one| one.tag == "response") {
            seconds.push(Second::new(nanos(one.at_s), nanos(one.span_s), &one.times));
        }
        seconds
    }

    /// Whether each is about a second, rather than the interval of a histogram log that is longer.
    #[must_use]
    pub fn are_seconds(&self) -> bool {
        let long = self.kept.iter().filter(|second| second.span_ms > 1_500).count();
        // A process that is held up now and then makes some of them longer.
        long * 2 <= self.kept.len()
    }

    /// The seconds that are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Second> {
        self.kept.iter()
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many came before those that are kept.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn push(&mut self, second: Second) {
        if self.kept.len() == Self::MOST {
            self.kept.pop_front();
            self.forgotten += 1;
        }
        self.kept.push_back(second);
    }
}

/// Seconds of a log, which may be any number.
fn nanos(seconds: f64) -> Nanos {
    let time = std::time::Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(std::time::Duration::MAX);
    Nanos::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}

impl Default for SecondCutter {
    fn default() -> Self {
        Self { seen: Durations::new().histogram().clone(), until: 0, seconds: Seconds::default() }
    }
}

impl SecondCutter {
    /// Makes a second of what the snapshots of the loads have more than those before; to be called once in each.
    pub fn cut(&mut self, loads: &[Arc<Snapshot>]) {
        let now = loads.iter().map(|load| load.elapsed).max().unwrap_or(0);
        if now <= self.until {
            return;
        }
        let mut all = Durations::new().histogram().clone();
        for load in loads {
            // The sum grows, and has all that was seen, so neither can fail.
            let _ = all.add(load.account.response_time.histogram());
        }
        let mut new = all.clone();
        let _ = new.subtract(&self.seen);
        self.seconds.push(Second::new(self.until, now - self.until, &new));
        self.seen = all;
        self.until = now;
    }

    /// The seconds so far.
    #[must_use]
    pub fn seconds(&self) -> &Seconds {
        &self.seconds
    }

    /// Gives the seconds so far away.
    #[must_use]
    pub fn take(&mut self) -> Seconds {
        std::mem::take(&mut self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::SECOND;

    /// Cuts the seconds of a run in which `records` of one time are acked in each second.
    fn run(seconds: u64, records: u64, millis: impl Fn(u64) -> u64) -> SecondCutter {
        let (mut snapshot, mut cutter) = (Snapshot::empty(), SecondCutter::default());
        for second in 0..seconds {
            snapshot.account.response_time.record(millis(second) * MILLISECOND, records);
            snapshot.elapsed = (second + 1) * SECOND;
            cutter.cut(&[Arc::new(snapshot.clone())]);
        }
        cutter
    }

    #[test]
    fn every_second_of_an_hour_has_its_percentiles() {
        // Each second another time, so that none can stand in for another.
        let cutter = run(3600, 7, |second| second + 1);
        assert_eq!(cutter.seconds().len(), 3600);
        for (second, seen) in cutter.seconds().iter().enumerate() {
            assert_eq!((seen.at_s(), seen.span_s(), seen.records()), (second as f64, 1.0, 7));
            let Percentiles { p50, p90, p99, p999, max } = seen.response_time_ms();
            for value in [p50, p90, p99, p999, max] {
                let truth = (second + 1) as f64;
                assert!((truth..=truth * 1.001).contains(&value), "{value} ms in second {second}");
            }
        }
    }

    #[test]
    fn each_percentile_is_its_own() {
        let mut snapshot = Snapshot::empty();
        (1..=2_000).for_each(|millis| snapshot.account.response_time.record(millis * MILLISECOND, 1));
        snapshot.elapsed = SECOND;
        let mut cutter = SecondCutter::default();
        cutter.cut(&[Arc::new(snapshot)]);
        let Percentiles { p50, p90, p99, p999, max } =
            cutter.seconds().iter().next().unwrap().response_time_ms();
        for (value, truth) in [(p50, 1000.0), (p90, 1800.0), (p99, 1980.0), (p999, 1998.0), (max, 2000.0)] {
            assert!((truth..=truth * 1.001).contains(&value), "{value} for {truth}");
        }
    }

    #[test]
    fn loads_are_one_distribution() {
        let load = |millis: u64, records: u64, elapsed: Nanos| {
            let mut load = Snapshot::empty();
            load.account.response_time.record(millis * MILLISECOND, records);
            load.elapsed = elapsed;
            Arc::new(load)
        };
        let mut cutter = SecondCutter::default();
        // One publishes a little later than the other.
        cutter.cut(&[load(10, 95, SECOND), load(200, 5, SECOND * 9 / 10)]);
        let second = cutter.seconds().iter().next().unwrap();
        let Percentiles { p90, p99, .. } = second.response_time_ms();
        assert_eq!((second.records(), p90.round(), p99.round()), (100, 10.0, 200.0));
    }

    #[test]
    fn intervals_of_a_log_may_be_any_numbers() {
        let mut times = Durations::new().histogram().clone();
        times.record(5_000).unwrap();
        let line = |at_s, span_s, tag: &str| Interval { tag: tag.into(), at_s, span_s, times: times.clone() };
        let lines =
            [line(0.0, 60.0, "response"), line(1e30, f64::NAN, "response"), line(0.0, 60.0, "service")];
        let seconds = Seconds::of_log(&lines);
        assert_eq!((seconds.len(), seconds.are_seconds()), (2, true));
        assert!(!Seconds::of_log(&lines[..1]).are_seconds());
    }

    #[test]
    fn three_days_are_kept_by_the_second() {
        let mut cutter = SecondCutter::default();
        let times = Durations::new().histogram().clone();
        for second in 0..3 * 86_400 {
            cutter.seconds.push(Second::new(second * SECOND, SECOND, &times));
        }
        assert_eq!((cutter.seconds().len(), cutter.seconds().forgotten()), (3 * 86_400, 0));
    }

    #[test]
    fn longer_runs_keep_their_last_days_in_as_much_memory() {
        let mut cutter = SecondCutter::default();
        let times = Durations::new().histogram().clone();
        let most = Seconds::MOST as u64;
        for second in 0..most + 1000 {
            cutter.seconds.push(Second::new(second * SECOND, SECOND, &times));
        }
        let seconds = cutter.seconds();
        assert_eq!((seconds.len(), seconds.forgotten()), (Seconds::MOST, 1000));
        assert_eq!(seconds.iter().next().unwrap().from_ms, 1_000_000);
        let bytes = seconds.kept.capacity() * size_of::<Second>();
        assert!(bytes <= 21_000_000, "{bytes} bytes");
    }
}
