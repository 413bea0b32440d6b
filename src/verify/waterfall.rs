use crate::load::Nanos;
use crate::observe::{ClockOffset, TimeSummary, WaterfallSummary};
use crate::producer::Durations;
use std::collections::HashMap;

/// The times of records on their way, on the run's clock: nanoseconds since its start.
///
/// Arrival is told by the stream's clock, in steps of a millisecond, or of a second by some servers. A record arrived after it was sent and
/// before it was acked, so every record bounds how far that clock is ahead of the run's.
#[derive(Debug)]
pub struct Waterfall {
    intended_to_sent: Durations,
    sent_to_acked: Durations,
    intended_to_arrived: Durations,
    sent_to_arrived: Durations,
    arrived_to_read: Durations,
    intended_to_read: Durations,
    ahead_at_least: Option<i64>,
    ahead_at_most: Option<i64>,
    // Whether an arrival was told that was not a whole second.
    tells_milliseconds: bool,
    // Records acked and not read yet, and read and not acked yet.
    acked: HashMap<(u8, u64), (Nanos, Nanos)>,
    read: HashMap<(u8, u64), Read>,
}

#[derive(Clone, Copy, Debug)]
struct Read {
    intended: Nanos,
    arrived: i64,
}

/// Records that wait for their other half, at most; past it they are left out of the times.
const MOST_WAITING: usize = 1 << 18;

const MILLISECOND: i64 = 1_000_000;
const SECOND: i64 = 1000 * MILLISECOND;

impl Default for Waterfall {
    fn default() -> Self {
        Self {
            intended_to_sent: Durations::new(),
            sent_to_acked: Durations::new(),
            intended_to_arrived: Durations::new(),
            sent_to_arrived: Durations::new(),
            arrived_to_read: Durations::new(),
            intended_to_read: Durations::new(),
            ahead_at_least: None,
            ahead_at_most: None,
            tells_milliseconds: false,
            acked: HashMap::new(),
            read: HashMap::new(),
        }
    }
}

impl Waterfall {
    /// Notes when a record was sent and acked.
    pub(super) fn acked(&mut self, record: (u8, u64), sent: Nanos, acked: Nanos) {
        if let Some(read) = self.read.remove(&record) {
            self.both(read, sent, acked);
        } else if self.acked.len() < MOST_WAITING {
            self.acked.insert(record, (sent, acked));
        }
    }

    /// Notes that an arrival was told as this time since 1970-01-01 UTC, in nanoseconds.
    pub(super) fn told(&mut self, arrived_unix: i64) {
        self.tells_milliseconds |= arrived_unix % SECOND != 0;
    }

    /// Notes when a record arrived and, if that says something, was read, the first time that it was.
    pub(super) fn read(&mut self, record: (u8, u64), intended: Nanos, arrived: i64, read: Option<Nanos>) {
        let signed = |time: Nanos| i64::try_from(time).unwrap_or(i64::MAX);
        self.intended_to_arrived.record(span(signed(intended), arrived), 1);
        if let Some(read) = read {
            self.arrived_to_read.record(span(arrived, signed(read)), 1);
            self.intended_to_read.record(read.saturating_sub(intended), 1);
        }
        let arrival = Read { intended, arrived };
        if let Some((sent, acked)) = self.acked.remove(&record) {
            self.both(arrival, sent, acked);
        } else if self.read.len() < MOST_WAITING {
            self.read.insert(record, arrival);
        }
    }

    fn both(&mut self, read: Read, sent: Nanos, acked: Nanos) {
        let signed = |time: Nanos| i64::try_from(time).unwrap_or(i64::MAX);
        self.intended_to_sent.record(sent.saturating_sub(read.intended), 1);
        self.sent_to_acked.record(acked.saturating_sub(sent), 1);
        self.sent_to_arrived.record(span(signed(sent), read.arrived), 1);
        let least = read.arrived.saturating_sub(signed(acked));
        let most = read.arrived.saturating_sub(signed(sent));
        self.ahead_at_least = Some(self.ahead_at_least.map_or(least, |bound| bound.max(least)));
        self.ahead_at_most = Some(self.ahead_at_most.map_or(most, |bound| bound.min(most)));
    }

    pub(super) fn summary(&self) -> WaterfallSummary {
        let step = if self.tells_milliseconds { MILLISECOND } else { SECOND };
        let millis = |nanos: i64| (nanos as f64 / 1000.0).round() / 1000.0;
        WaterfallSummary {
            intended_to_sent_ms: TimeSummary::new(&self.intended_to_sent),
            sent_to_acked_ms: TimeSummary::new(&self.sent_to_acked),
            sent_to_arrived_ms: TimeSummary::new(&self.sent_to_arrived),
            intended_to_arrived_ms: TimeSummary::new(&self.intended_to_arrived),
            arrived_to_read_ms: TimeSummary::new(&self.arrived_to_read),
            intended_to_read_ms: TimeSummary::new(&self.intended_to_read),
            arrival_precision_ms: if self.tells_milliseconds { 1 } else { 1000 },
            // A time told in whole steps was up to one later.
            stream_clock_ahead_ms: self.ahead_at_least.zip(self.ahead_at_most).map(|(least, most)| {
                ClockOffset { at_least: millis(least), at_most: millis(most.saturating_add(step)) }
            }),
        }
    }
}

/// The time between two; none if the clocks say that the second was first.
fn span(from: i64, to: i64) -> Nanos {
    Nanos::try_from(to.saturating_sub(from)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn each_stage_is_measured_whichever_half_comes_first() {
        let mut times = Waterfall::default();
        times.acked((0, 1), 12 * MS, 20 * MS);
        times.read((0, 1), 10 * MS, 15 * MILLISECOND, Some(100 * MS));
        times.read((0, 2), 10 * MS, 15 * MILLISECOND, Some(100 * MS));
        times.acked((0, 2), 12 * MS, 20 * MS);
        let summary = times.summary();
        for (times, expected) in [
            (summary.intended_to_sent_ms, 2.0),
            (summary.sent_to_acked_ms, 8.0),
            (summary.sent_to_arrived_ms, 3.0),
            (summary.intended_to_arrived_ms, 5.0),
            (summary.arrived_to_read_ms, 85.0),
            (summary.intended_to_read_ms, 90.0),
        ] {
            assert_eq!(times.count, 2);
            assert!((times.mean - expected).abs() < 1e-6, "{times:?} {expected}");
        }
        assert!(times.acked.is_empty() && times.read.is_empty());
    }

    #[test]
    fn the_clocks_difference_is_bounded_by_sending_and_answer() {
        // The stream's clock is 50 ms ahead.
        let mut times = Waterfall::default();
        for n in 0..100_u64 {
            let (sent, acked) = (n * 10 * MS, n * 10 * MS + (5 + n % 7) * MS);
            let arrived = i64::try_from(sent + MS * (1 + n % 4)).unwrap() + 50 * MILLISECOND;
            times.told(arrived);
            times.acked((0, n), sent, acked);
            times.read((0, n), sent, arrived / MILLISECOND * MILLISECOND, Some(acked));
        }
        let clock = times.summary().stream_clock_ahead_ms.unwrap();
        assert!(clock.at_least <= 50.0 && 50.0 <= clock.at_most, "{clock:?}");
        assert!(clock.at_most - clock.at_least <= 7.0, "{clock:?}");
        assert_eq!(times.summary().arrival_precision_ms, 1);
        times.tells_milliseconds = false;
        assert!(times.summary().stream_clock_ahead_ms.unwrap().at_most > 1_000.0);
    }
}
