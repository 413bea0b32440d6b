use super::Threshold;
use crate::producer::{Counts, Durations, EntryOutcome, FlushReason, RequestOutcome, Snapshot};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// The version of the summary's schema, docs/summary.schema.json.
pub const SCHEMA_VERSION: u32 = 1;

/// What is known of a run besides its counts.
#[derive(Clone, Debug)]
pub struct RunFacts {
    /// Its name, unlike any other run's.
    pub run_id: String,
    /// The seed of its records.
    pub seed: u64,
    /// The stream's name or ARN.
    pub stream: String,
    /// When it began, as RFC 3339 in UTC.
    pub started_at: String,
    /// Records per second that were to be offered; `None` in a closed loop.
    pub target_rps: Option<f64>,
}

/// What ended the generating of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoppedBy {
    /// The end of `--duration` or `--records`.
    Schedule,
    /// SIGINT or SIGTERM.
    Signal,
    /// An error that no retry mends.
    Error,
}

/// The result of a run. Counts are user records unless their name says otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The version of this form.
    pub schema_version: u32,
    /// The version of tickgen.
    pub tickgen_version: &'static str,
    /// The run's name.
    pub run_id: String,
    /// The seed of its records.
    pub seed: u64,
    /// The stream's name or ARN.
    pub stream: String,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// What ended the generating.
    pub stopped_by: StoppedBy,
    /// The error that ended the run.
    pub error: Option<String>,
    /// Records per second that were to be offered; absent in a closed loop.
    pub target_rps: Option<f64>,
    /// Acked records per second of the schedule, the drain left out.
    pub achieved_rps: f64,
    /// Acked records left out of the rate: they could not start on time and were acked in the drain.
    pub acked_late: u64,
    /// Seconds from start to end, the drain included.
    pub elapsed_s: f64,
    /// Seconds of the schedule, the drain left out.
    pub schedule_s: f64,
    /// Records that fell due.
    pub scheduled: u64,
    /// Records that were made.
    pub generated: u64,
    /// Records that fell due and were not made, for want of room in the backlog.
    pub dropped: u64,
    /// Records that the stream said it stored.
    pub acked: u64,
    /// Records given up after their attempts, by a fatal error or at the end of the drain.
    pub failed: u64,
    /// Records given up because their time to live passed.
    pub expired: u64,
    /// Failed plus expired.
    pub lost: u64,
    /// Lost records by their last cause.
    pub lost_by_cause: BTreeMap<&'static str, u64>,
    /// Lost over generated.
    pub error_ratio: f64,
    /// Dropped over scheduled.
    pub dropped_ratio: f64,
    /// Records sent again after an answer that left their fate open.
    pub possible_duplicates: u64,
    /// Acked records that a shard other than the expected one took.
    pub misrouted: u64,
    /// Whether every count adds up and nothing is left on its way.
    pub balanced: bool,
    /// Answered requests.
    pub requests: u64,
    /// Answered requests by outcome.
    pub requests_by_outcome: BTreeMap<&'static str, u64>,
    /// Kinesis records that were stored.
    pub kinesis_records: u64,
    /// Their bytes, data plus partition keys.
    pub bytes: u64,
    /// Answered entries by code.
    pub entries_by_code: BTreeMap<&'static str, u64>,
    /// Entries that failed and whose records were kept to be sent again.
    pub retried_entries: u64,
    /// Entries rejected for the rate.
    pub throttled_entries: u64,
    /// Throttled over answered entries.
    pub throttled_ratio: f64,
    /// Batches by why they left.
    pub flushes: BTreeMap<&'static str, u64>,
    /// Acked records by the time from their intended start to the answer.
    pub response_time_ms: TimeSummary,
    /// Acked records by the time of their successful attempt.
    pub service_time_ms: TimeSummary,
    /// Per shard.
    pub shards: Vec<ShardSummary>,
    /// What had to hold.
    pub thresholds: Vec<ThresholdResult>,
}

/// Percentiles in milliseconds, three significant digits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs)] // percentiles, by name
pub struct TimeSummary {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    pub mean: f64,
    /// Records measured.
    pub count: u64,
}

/// One shard's part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShardSummary {
    /// Its id.
    pub id: String,
    /// User records that it stored.
    pub acked: u64,
    /// Kinesis records that it throttled.
    pub throttled: u64,
    /// Kinesis records per second that its limit admits at the end; absent without a limit, and once
    /// it is closed.
    pub limit_rps: Option<f64>,
}

/// Whether a threshold held.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ThresholdResult {
    /// The expression.
    pub expr: String,
    /// The figure's value.
    pub value: f64,
    /// Whether it held.
    pub passed: bool,
}

impl TimeSummary {
    fn new(times: &Durations) -> Self {
        let histogram = times.histogram();
        let millis = |micros: u64| micros as f64 / 1000.0;
        let at = |quantile| millis(histogram.value_at_quantile(quantile));
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: millis(histogram.max()),
            mean: times.mean_millis(),
            count: histogram.len(),
        }
    }
}

fn named<K: Copy + PartialEq, const N: usize>(
    counts: &Counts<K, N>,
    name: impl Fn(K) -> &'static str,
) -> BTreeMap<&'static str, u64> {
    counts.iter().filter(|(_, n)| *n > 0).map(|(kind, n)| (name(kind), n)).collect()
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl Summary {
    /// The summary of a run that ended with this snapshot.
    #[must_use]
    pub fn new(
        facts: &RunFacts,
        last: &Snapshot,
        stopped_by: StoppedBy,
        error: Option<String>,
        thresholds: &[Threshold],
    ) -> Self {
        let account = &last.account;
        let ledger = &account.ledger;
        let mut summary = Self {
            schema_version: SCHEMA_VERSION,
            tickgen_version: env!("CARGO_PKG_VERSION"),
            run_id: facts.run_id.clone(),
            seed: facts.seed,
            stream: facts.stream.clone(),
            started_at: facts.started_at.clone(),
            stopped_by,
            error,
            target_rps: facts.target_rps,
            achieved_rps: last.achieved_rps(),
            acked_late: account.acked_late,
            elapsed_s: last.elapsed as f64 / 1e9,
            schedule_s: last.span as f64 / 1e9,
            scheduled: last.scheduled,
            generated: ledger.generated,
            dropped: ledger.dropped,
            acked: ledger.acked,
            failed: ledger.failed,
            expired: ledger.expired,
            lost: ledger.lost(),
            lost_by_cause: ledger.lost_by_cause().map(|(cause, n)| (cause.name(), n)).collect(),
            error_ratio: ratio(ledger.lost(), ledger.generated),
            dropped_ratio: ratio(ledger.dropped, last.scheduled),
            possible_duplicates: ledger.possible_duplicates,
            misrouted: ledger.misrouted,
            balanced: last.balances(),
            requests: account.requests.total(),
            requests_by_outcome: named(&account.requests, RequestOutcome::name),
            kinesis_records: account.shards.iter().map(|shard| shard.accepted).sum(),
            bytes: account.accepted_bytes,
            entries_by_code: named(&account.entries, EntryOutcome::code),
            retried_entries: account.retried_entries,
            throttled_entries: account.throttled_entries,
            throttled_ratio: ratio(account.throttled_entries, account.entries.total()),
            flushes: named(&account.flushes, FlushReason::name),
            response_time_ms: TimeSummary::new(&account.response_time),
            service_time_ms: TimeSummary::new(&account.service_time),
            shards: account
                .shards
                .iter()
                .map(|shard| ShardSummary {
                    id: shard.id.to_string(),
                    acked: shard.acked,
                    throttled: shard.throttled,
                    limit_rps: shard.limit.map(rounded),
                })
                .collect(),
            thresholds: Vec::new(),
        };
        summary.thresholds = thresholds
            .iter()
            .map(|threshold| {
                let (value, passed) = threshold.evaluate(&summary);
                ThresholdResult { expr: threshold.text().to_owned(), value, passed }
            })
            .collect();
        summary
    }

    /// A figure by its path, such as `response_time_ms.p99`.
    #[must_use]
    pub fn figure(&self, path: &str) -> Option<f64> {
        if path == "shards.max_share" {
            let most = self.shards.iter().map(|shard| shard.acked).max().unwrap_or(0);
            return Some(ratio(most, self.acked));
        }
        let value = serde_json::to_value(self).ok()?;
        path.split('.').try_fold(&value, |value, name| value.get(name))?.as_f64()
    }

    /// Whether every threshold held.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.thresholds.iter().all(|threshold| threshold.passed)
    }

    /// Why the run did not do what it was asked, if it did not, in a sentence each.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(error) = &self.error {
            remarks.push(format!("The run was ended by an error: {error}"));
        }
        if self.acked_late > 0 {
            remarks.push(format!(
                "{} records could not start on time and were acked after the schedule; the rate leaves them out.",
                self.acked_late
            ));
        }
        if self.dropped > 0 {
            remarks.push(format!(
                "{} records fell due and were not made, as --max-backlog records were on their way already.",
                self.dropped
            ));
        }
        if !self.balanced {
            remarks.push(
                "The counts do not add up; please report this as a bug with the JSON summary.".to_owned(),
            );
        }
        remarks
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target_rps.map_or_else(|| "max".to_owned(), |rate| format!("{rate}/s"));
        writeln!(f, "stream      {}", self.stream)?;
        writeln!(
            f,
            "rate        {:.1}/s acked of {target} offered, over {:.1} s (run {}, seed {})",
            self.achieved_rps, self.schedule_s, self.run_id, self.seed
        )?;
        writeln!(
            f,
            "scheduled   {:>12} = {} generated + {} dropped",
            self.scheduled, self.generated, self.dropped
        )?;
        writeln!(
            f,
            "generated   {:>12} = {} acked + {} failed + {} expired{}",
            self.generated,
            self.acked,
            self.failed,
            self.expired,
            if self.balanced { "" } else { "  (does not add up)" }
        )?;
        if self.lost > 0 {
            writeln!(f, "lost        {:>12}   {}", self.lost, listed(&self.lost_by_cause))?;
        }
        writeln!(
            f,
            "requests    {:>12}   {} Kinesis records, {} bytes, {} entries throttled, {} resent",
            self.requests, self.kinesis_records, self.bytes, self.throttled_entries, self.retried_entries
        )?;
        if self.possible_duplicates + self.misrouted > 0 {
            writeln!(
                f,
                "doubtful    {:>12} possible duplicates, {} misrouted",
                self.possible_duplicates, self.misrouted
            )?;
        }
        for (name, times) in [("response", self.response_time_ms), ("service ", self.service_time_ms)] {
            writeln!(
                f,
                "{name}    p50 {} ms, p90 {} ms, p99 {} ms, p99.9 {} ms, max {} ms",
                times.p50, times.p90, times.p99, times.p999, times.max
            )?;
        }
        for threshold in &self.thresholds {
            let verdict = if threshold.passed { "held  " } else { "MISSED" };
            writeln!(f, "threshold   {verdict} {} (is {})", threshold.expr, rounded(threshold.value))?;
        }
        self.remarks().iter().try_for_each(|remark| writeln!(f, "{remark}"))
    }
}

fn listed(counts: &BTreeMap<&'static str, u64>) -> String {
    let mut text = String::new();
    for (name, count) in counts {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{name} {count}");
    }
    text
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::FIGURES;

    fn summary(thresholds: &[&str]) -> Summary {
        let facts = RunFacts {
            run_id: "r".into(),
            seed: 1,
            stream: "s".into(),
            started_at: "2026-11-22T18:54:00Z".into(),
            target_rps: Some(100.0),
        };
        let thresholds: Vec<_> = thresholds.iter().map(|t| Threshold::parse(t).unwrap()).collect();
        Summary::new(&facts, &Snapshot::empty(), StoppedBy::Schedule, None, &thresholds)
    }

    #[test]
    fn every_figure_is_in_the_summary() {
        for figure in FIGURES {
            assert!(summary(&[]).figure(figure).is_some(), "{figure}");
        }
    }

    #[test]
    fn thresholds_are_evaluated() {
        let mut one = summary(&[]);
        one.achieved_rps = 99.0;
        one.error_ratio = 0.002;
        for (text, passed) in [
            ("achieved_rps >= 99%", true),
            ("achieved_rps > 99%", false),
            ("achieved_rps >= 99.1", false),
            ("error_ratio < 0.1%", false),
            ("error_ratio <= 0.2%", true),
            ("lost == 0", true),
        ] {
            assert_eq!(Threshold::parse(text).unwrap().evaluate(&one).1, passed, "{text}");
        }
        assert!(summary(&["lost == 0"]).passed());
        assert!(!summary(&["lost == 0", "acked > 0"]).passed());
    }
}
