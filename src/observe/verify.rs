use super::TimeSummary;
use serde::Serialize;
use std::fmt;

/// What reading the stream back proved. Counts are user records.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VerifySummary {
    /// Records that the stream said it stored: those that arrived, and the lost ones.
    pub acked: u64,
    /// Records of this run that arrived, whole; each is counted once.
    pub delivered: u64,
    /// Those of them that were not acked: they failed or expired while their fate was open.
    pub delivered_unacked: u64,
    /// Acked records that did not arrive whole.
    pub lost: u64,
    /// Which, by rising number; the first 1000 ranges of each load.
    pub lost_ranges: Vec<LostRange>,
    /// Copies beyond the first of each record.
    pub duplicated: u64,
    /// Records that have such copies.
    pub duplicated_records: u64,
    /// Records that came after a later one of their partition key.
    pub out_of_order: u64,
    /// Copies whose content is not what seed and number make; they do not count as delivered.
    pub corrupted: u64,
    /// Records that were read and are not of this run.
    pub foreign: u64,
    /// How long the records took from one step to the next.
    #[serde(flatten)]
    pub waterfall: WaterfallSummary,
    /// Why the stream was not read to its end.
    pub error: Option<String>,
}

/// Lost records of rising numbers, both ends included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LostRange {
    /// The load's name; empty if it is the run's only load.
    pub load: String,
    /// The first number.
    pub first: u64,
    /// The last number.
    pub last: u64,
}

/// The times of delivered records by the run's clock.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WaterfallSummary {
    /// From the intended start to the start of the attempt that was acked.
    pub intended_to_sent_ms: TimeSummary,
    /// From there to the answer.
    pub sent_to_acked_ms: TimeSummary,
    /// From the start of the attempt to the arrival in the stream, by the stream's clock.
    pub sent_to_arrived_ms: TimeSummary,
    /// From the intended start to the arrival.
    pub intended_to_arrived_ms: TimeSummary,
    /// From the arrival until the record was read.
    pub arrived_to_read_ms: TimeSummary,
    /// From the intended start until the record was read.
    pub intended_to_read_ms: TimeSummary,
    /// The steps in which the stream tells arrivals, in milliseconds: 1, or 1000 if it tells whole seconds.
    pub arrival_precision_ms: u64,
    /// How far the stream's clock is ahead of the run's, which times of arrival are off by.
    pub stream_clock_ahead_ms: Option<ClockOffset>,
}

/// Bounds of a difference of clocks, in milliseconds: no record arrived before it was sent or after it
/// was acked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClockOffset {
    /// The lower bound.
    pub at_least: f64,
    /// The upper bound.
    pub at_most: f64,
}

impl VerifySummary {
    /// Whether the stream was read to its end, and no acked record is lost or differs.
    #[must_use]
    pub fn proves(&self) -> bool {
        self.error.is_none() && self.lost == 0 && self.corrupted == 0
    }
}

impl fmt::Display for VerifySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proof = if self.proves() { "proved " } else { "NOT PROVED" };
        writeln!(
            f,
            "{proof:<10}  {:>12} delivered = {} acked - {} lost + {} not acked",
            self.delivered, self.acked, self.lost, self.delivered_unacked
        )?;
        writeln!(
            f,
            "            {:>12} duplicated, {} out of order, {} corrupted, {} foreign",
            self.duplicated, self.out_of_order, self.corrupted, self.foreign
        )?;
        for LostRange { load, first, last } in self.lost_ranges.iter().take(10) {
            let of = if load.is_empty() { String::new() } else { format!(" of {load}") };
            writeln!(f, "lost        records {first} to {last}{of}")?;
        }
        if self.lost_ranges.len() > 10 {
            writeln!(f, "lost        and more; the JSON summary has them")?;
        }
        let times = &self.waterfall;
        for (name, times) in [
            ("sent", times.intended_to_sent_ms),
            ("arrived", times.intended_to_arrived_ms),
            ("read", times.intended_to_read_ms),
        ] {
            writeln!(f, "{name:<9}   {} after the intended start", times.percentiles)?;
        }
        if let Some(clock) = times.stream_clock_ahead_ms {
            writeln!(
                f,
                "clock       the stream's is ahead of this machine's by {} to {} ms",
                clock.at_least, clock.at_most
            )?;
        }
        if let Some(error) = &self.error {
            writeln!(f, "The stream was not read to its end: {error}")?;
        }
        Ok(())
    }
}
