use super::{ThresholdResult, TimeSummary};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What reading the stream back proved. Counts are user records.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct VerifySummary {
    /// Records that the stream said it stored: those that arrived, the lost and the unread ones.
    pub acked: u64,
    /// Records of this run that arrived, whole; each is counted once.
    pub delivered: u64,
    /// Those of them that were not acked: they failed or expired while their fate was open.
    pub delivered_unacked: u64,
    /// Acked records that did not arrive whole.
    pub lost: u64,
    /// Which, by rising number; the first 1000 ranges of each load.
    pub lost_ranges: Vec<LostRange>,
    /// Acked records that were not seen in what was read; not all was.
    #[serde(default)]
    pub unread: u64,
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
    /// Acked records that arrived and are not among the times of sending and answer.
    #[serde(default)]
    pub untimed: u64,
    /// How long the records took from one step to the next.
    #[serde(flatten)]
    pub waterfall: WaterfallSummary,
    /// Why the stream was not read to its end.
    pub error: Option<String>,
}

/// What was counted of a run that is known by its id alone.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CountedSummary {
    /// Records that bear the run's stamp; each is counted once.
    pub delivered: u64,
    /// Copies beyond the first of each record.
    pub duplicated: u64,
    /// Records that have such copies.
    pub duplicated_records: u64,
    /// Records that were read and do not bear it.
    pub foreign: u64,
    /// Those of its loads that were seen.
    pub loads: Vec<CountedLoad>,
    /// Why not all was read.
    pub error: Option<String>,
}

/// What was counted of a load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CountedLoad {
    /// Its place in the stamps.
    pub place: String,
    /// Its records; each is counted once.
    pub delivered: u64,
    /// One more than the highest number that was seen.
    pub numbers: u64,
    /// The numbers below it that were not seen: of records that were lost, or failed, or never made.
    pub gaps: u64,
}

/// What `tickgen verify` found.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    /// The version of this form.
    pub schema_version: u32,
    /// The version of tickgen.
    pub tickgen_version: &'static str,
    /// The run's name.
    pub run_id: String,
    /// What was read: the streams, by commas, or the index with its address.
    pub read: String,
    /// When the reading began, RFC 3339.
    pub started_at: String,
    /// What was proved, or only counted.
    pub verify: Settled,
    /// When documents became searchable; absent for a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<IndexSummary>,
    /// What had to hold.
    pub thresholds: Vec<ThresholdResult>,
}

/// The version of the report's schema, docs/verify.schema.json.
pub const VERIFY_SCHEMA_VERSION: u32 = 1;

/// What came of the reading.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Settled {
    /// Each record was settled against what the run says it sent.
    Proved(Box<VerifySummary>),
    /// Nothing is known of the run but its id.
    Counted(Box<CountedSummary>),
}

/// How documents came into an index.
#[derive(Clone, Debug, Default, Serialize)]
pub struct IndexSummary {
    /// Documents that bear the run's stamp, copies included, by the index' own count at the end.
    pub documents: u64,
    /// From the intended start of a record until a look at the index found its document; of those that an
    /// earlier look had not found. `None`: of no record.
    pub event_to_searchable_ms: Option<TimeSummary>,
    /// The share of the delivered records that these times are of; `None` if none was delivered.
    pub measured_ratio: Option<f64>,
    /// How much shorter it may have been at most, in milliseconds: the longest time between two looks.
    pub between_looks_ms: f64,
    /// Documents that the first look found, of which nothing is known but that it was before.
    pub found_at_first_look: u64,
    /// Whether the documents had settled, rather than `--settle-timeout` ended the wait for them.
    pub settled: bool,
}

impl VerifyReport {
    /// A figure by its path, such as `verify.lost`.
    #[must_use]
    pub fn figure(&self, path: &str) -> Option<f64> {
        number_at(self, path)
    }

    /// Whether nothing speaks against the delivery of any acked record; of a run that is known by its id
    /// alone, whether all was read.
    #[must_use]
    pub fn proved(&self) -> bool {
        match &self.verify {
            Settled::Proved(proof) => proof.proves(),
            Settled::Counted(counted) => counted.error.is_none(),
        }
    }

    /// What speaks against it, if anything does.
    #[must_use]
    pub fn unproved(&self) -> Option<String> {
        match &self.verify {
            Settled::Proved(proof) => proof.unproved(),
            Settled::Counted(counted) => {
                counted.error.as_ref().map(|error| format!("not all was read: {error}"))
            }
        }
    }

    /// Whether every threshold held.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.thresholds.iter().all(|threshold| threshold.passed)
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "run         {}", self.run_id)?;
        writeln!(f, "read        {}", self.read)?;
        match &self.verify {
            Settled::Proved(proof) => proof.fmt(f)?,
            Settled::Counted(counted) => counted.fmt(f)?,
        }
        if let Some(index) = &self.index {
            index.fmt(f)?;
        }
        self.thresholds.iter().try_for_each(|threshold| writeln!(f, "{threshold}"))
    }
}

impl fmt::Display for CountedSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "counted     {:>12} delivered, {} duplicated, {} foreign",
            self.delivered, self.duplicated, self.foreign
        )?;
        for CountedLoad { place, delivered, numbers, gaps } in &self.loads {
            writeln!(f, "load {place:<6} {delivered:>12} delivered = {numbers} numbers - {gaps} not seen")?;
        }
        writeln!(
            f,
            "NOT PROVED  which records were acked, lost or corrupted: that takes the run's summary (--summary-of)"
        )?;
        self.error.iter().try_for_each(|error| writeln!(f, "Not all was read: {error}"))
    }
}

impl fmt::Display for IndexSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "documents   {:>12} of the run", self.documents)?;
        let share = 100.0 * self.measured_ratio.unwrap_or(0.0);
        if let Some(times) = self.event_to_searchable_ms {
            writeln!(
                f,
                "searchable  {} after the intended start, or up to {} ms earlier ({} records, {share:.1}%)",
                times.percentiles, self.between_looks_ms, times.count
            )?;
        } else if self.documents > 0 {
            writeln!(
                f,
                "searchable  not measured: begin before the documents come (--run with --summary-of)"
            )?;
        }
        if self.found_at_first_look > 0 {
            writeln!(f, "            {:>12} were there at the first look", self.found_at_first_look)?;
        }
        if !self.settled {
            writeln!(f, "The documents had not settled when --settle-timeout ended the wait for them.")?;
        }
        Ok(())
    }
}

/// Lost records of rising numbers, both ends included.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct LostRange {
    /// The load's name; empty if it is the run's only load.
    pub load: String,
    /// The first number.
    pub first: u64,
    /// The last number.
    pub last: u64,
}

/// The times of delivered records by the run's clock.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct ClockOffset {
    /// The lower bound.
    pub at_least: f64,
    /// The upper bound.
    pub at_most: f64,
}

/// The number at a path into what serializes to JSON.
fn number_at(value: &impl Serialize, path: &str) -> Option<f64> {
    let value = serde_json::to_value(value).ok()?;
    path.split('.').try_fold(&value, |value, name| value.get(name))?.as_f64()
}

impl VerifySummary {
    /// A figure by its path, such as `verify.lost`.
    pub(super) fn figure(&self, path: &str) -> Option<f64> {
        number_at(self, path.strip_prefix("verify.")?)
    }

    /// Whether the stream was read to its end, and no acked record is lost or differs.
    #[must_use]
    pub fn proves(&self) -> bool {
        self.error.is_none() && self.lost == 0 && self.corrupted == 0
    }

    /// What speaks against it, if anything does.
    #[must_use]
    pub fn unproved(&self) -> Option<String> {
        let counted = || format!("{} acked records are lost, {} corrupted", self.lost, self.corrupted);
        let why = || self.error.as_ref().map_or_else(counted, |error| format!("not all was read: {error}"));
        (!self.proves()).then(why)
    }
}

impl fmt::Display for VerifySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proof = if self.proves() { "proved " } else { "NOT PROVED" };
        let unread = if self.unread > 0 { format!(" - {} not read", self.unread) } else { String::new() };
        writeln!(
            f,
            "{proof:<10}  {:>12} delivered = {} acked - {} lost{unread} + {} not acked",
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
        let steps = if times.arrival_precision_ms > 1 { " (told in whole seconds)" } else { "" };
        for (name, times, how) in [
            ("sent", times.intended_to_sent_ms, ""),
            ("arrived", times.intended_to_arrived_ms, steps),
            ("read", times.intended_to_read_ms, ""),
        ] {
            if times.count > 0 {
                writeln!(f, "{name:<9}   {} after the intended start{how}", times.percentiles)?;
            }
        }
        // Another process than the run knows of none when it was sent.
        if self.untimed > 0 && times.sent_to_acked_ms.count > 0 {
            writeln!(
                f,
                "untimed     {:>12} records: the reading was too far behind the sending",
                self.untimed
            )?;
        }
        if let Some(clock) = times.stream_clock_ahead_ms {
            writeln!(
                f,
                "clock       the stream's is ahead of this machine's by {} to {} ms",
                clock.at_least, clock.at_most
            )?;
        }
        if let Some(error) = &self.error {
            writeln!(f, "Not all was read: {error}")?;
        }
        Ok(())
    }
}
