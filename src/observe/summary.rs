use super::Threshold;
use super::figures::{Figures, WindowSummary, ratio};
use crate::producer::Snapshot;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

/// The version of the summary's schema, docs/summary.schema.json.
pub const SCHEMA_VERSION: u32 = 2;

/// What is known of a run besides its counts.
#[derive(Clone, Debug)]
pub struct RunFacts {
    /// Its name, unlike any other run's.
    pub run_id: String,
    /// When it began, as RFC 3339 in UTC.
    pub started_at: String,
    /// Its loads; at least one.
    pub loads: Vec<LoadFacts>,
}

/// What is known of a load besides its counts.
#[derive(Clone, Debug)]
pub struct LoadFacts {
    /// Its name; empty if it is the run's only load.
    pub name: String,
    /// The seed of its records.
    pub seed: u64,
    /// The stream's name or ARN.
    pub stream: String,
    /// The records per second that it offers throughout, if it has one rate.
    pub constant_rps: Option<f64>,
    /// Whether records fall due whatever becomes of them.
    pub open_loop: bool,
}

/// What ended the generating of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoppedBy {
    /// The end of the schedule.
    Schedule,
    /// SIGINT or SIGTERM.
    Signal,
    /// A threshold that was missed, with `--abort-on-threshold`.
    Threshold,
    /// An error that no retry mends.
    Error,
}

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The version of this form.
    pub schema_version: u32,
    /// The version of tickgen.
    pub tickgen_version: &'static str,
    /// The run's name.
    pub run_id: String,
    /// The seed of its records; of the first load, if there are several.
    pub seed: u64,
    /// The stream's name or ARN; several are separated by commas.
    pub stream: String,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// What ended the generating.
    pub stopped_by: StoppedBy,
    /// The error that ended the run.
    pub error: Option<String>,
    /// All loads together.
    #[serde(flatten)]
    pub figures: Figures,
    /// Each load, if there are several.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub loads: BTreeMap<String, LoadSummary>,
    /// What happened second by second; in long runs, by longer windows.
    pub windows: Vec<WindowSummary>,
    /// What had to hold.
    pub thresholds: Vec<ThresholdResult>,
}

/// The result of one of several loads.
#[derive(Clone, Debug, Serialize)]
pub struct LoadSummary {
    /// The seed of its records.
    pub seed: u64,
    /// The stream's name or ARN.
    pub stream: String,
    /// What it counted and measured.
    #[serde(flatten)]
    pub figures: Figures,
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

/// Sums a run up and judges it by its thresholds.
#[derive(Clone, Debug)]
pub struct Judge {
    facts: RunFacts,
    streams: Vec<String>,
    thresholds: Vec<Threshold>,
}

impl Judge {
    /// Of a run of these facts, with the thresholds given and those that always apply.
    #[must_use]
    pub fn new(given: &[Threshold], facts: RunFacts) -> Self {
        let mut streams: Vec<String> = Vec::new();
        for load in &facts.loads {
            if !streams.contains(&load.stream) {
                streams.push(load.stream.clone());
            }
        }
        let open_loop = facts.loads.iter().all(|load| load.open_loop);
        Self { thresholds: Threshold::with_defaults(given, open_loop), facts, streams }
    }

    /// The first threshold that does not hold for a run that is under way. Those that only its end can
    /// tell (of a count that must be reached) are left out.
    #[must_use]
    pub fn missed(&self, loads: &[Arc<Snapshot>]) -> Option<String> {
        let summary = self.figures(loads);
        let missed = |threshold: &&Threshold| !threshold.is_for_the_end() && !threshold.evaluate(&summary).1;
        self.thresholds.iter().find(missed).map(|threshold| threshold.text().to_owned())
    }

    /// The summary of a run whose loads ended with these snapshots.
    #[must_use]
    pub fn summary(&self, loads: &[Arc<Snapshot>], stopped_by: StoppedBy, error: Option<String>) -> Summary {
        let mut summary = Summary { stopped_by, error, ..self.figures(loads) };
        summary.thresholds = self
            .thresholds
            .iter()
            .map(|threshold| {
                let (value, passed) = threshold.evaluate(&summary);
                ThresholdResult { expr: threshold.text().to_owned(), value, passed }
            })
            .collect();
        summary
    }

    /// Everything but the verdict.
    fn figures(&self, snapshots: &[Arc<Snapshot>]) -> Summary {
        let mut all = Snapshot::empty();
        let mut loads = BTreeMap::new();
        let mut target_rps = Some(0.0);
        for (facts, snapshot) in self.facts.loads.iter().zip(snapshots) {
            all.merge(snapshot);
            let target =
                facts.open_loop.then(|| facts.constant_rps.unwrap_or_else(|| snapshot.scheduled_rps()));
            target_rps = target_rps.zip(target).map(|(sum, target)| sum + target);
            if !facts.name.is_empty() {
                let figures = Figures::new(snapshot, target, &self.streams);
                let (seed, stream) = (facts.seed, facts.stream.clone());
                loads.insert(facts.name.clone(), LoadSummary { seed, stream, figures });
            }
        }
        if self.facts.loads.len() > 1 && target_rps.is_some() {
            // Loads of different lengths: what fell due in the span of the longest.
            target_rps = Some(all.scheduled_rps());
        }
        Summary {
            schema_version: SCHEMA_VERSION,
            tickgen_version: env!("CARGO_PKG_VERSION"),
            run_id: self.facts.run_id.clone(),
            seed: self.facts.loads.first().map_or(0, |load| load.seed),
            stream: self.streams.join(","),
            started_at: self.facts.started_at.clone(),
            stopped_by: StoppedBy::Schedule,
            error: None,
            figures: Figures::new(&all, target_rps, &self.streams),
            loads,
            windows: all.account.windows.iter().map(WindowSummary::new).collect(),
            thresholds: Vec::new(),
        }
    }
}

impl Summary {
    /// A figure by its path, such as `response_time_ms.p99` or `loads.orders.lost`.
    #[must_use]
    pub fn figure(&self, path: &str) -> Option<f64> {
        if let Some((figures, "shards.max_share")) = self.part(path) {
            let most = figures.shards.iter().map(|shard| shard.acked).max().unwrap_or(0);
            return Some(ratio(most, figures.acked));
        }
        let (figures, path) = self.part(path)?;
        let value = serde_json::to_value(figures).ok()?;
        path.split('.').try_fold(&value, |value, name| value.get(name))?.as_f64()
    }

    /// The figures that a path is into, and the rest of it.
    fn part<'a>(&self, path: &'a str) -> Option<(&Figures, &'a str)> {
        let Some(rest) = path.strip_prefix("loads.") else { return Some((&self.figures, path)) };
        // A load's name may have dots; the longest that fits is meant.
        let fits =
            |name: &&String| rest.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with('.'));
        let name = self.loads.keys().filter(fits).max_by_key(|name| name.len())?;
        Some((&self.loads[name].figures, &rest[name.len() + 1..]))
    }

    /// Whether every threshold held.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.thresholds.iter().all(|threshold| threshold.passed)
    }

    /// Why the run did not do what it was asked, if it did not, in a sentence each.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let figures = &self.figures;
        if let Some(error) = &self.error {
            remarks.push(format!("The run was ended by an error: {error}"));
        }
        if figures.acked_late > 0 {
            remarks.push(format!(
                "{} records could not start on time and were acked after the schedule; the rate leaves them out.",
                figures.acked_late
            ));
        }
        if figures.dropped > 0 {
            remarks.push(format!(
                "{} records fell due and were not made, as --max-backlog records were on their way already.",
                figures.dropped
            ));
        }
        if figures.limit.fell_short && !figures.limit.text.is_empty() {
            remarks.push(figures.limit.text.clone());
        }
        if !figures.balanced {
            remarks.push(
                "The counts do not add up; please report this as a bug with the JSON summary.".to_owned(),
            );
        }
        remarks
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "run         {}, seed {}", self.run_id, self.seed)?;
        for (name, load) in &self.loads {
            writeln!(f, "load        {name}")?;
            writeln!(f, "stream      {}", load.stream)?;
            load.figures.fmt(f)?;
        }
        if !self.loads.is_empty() {
            writeln!(f, "load        all together")?;
        }
        writeln!(f, "stream      {}", self.stream)?;
        self.figures.fmt(f)?;
        for threshold in &self.thresholds {
            let verdict = if threshold.passed { "held  " } else { "MISSED" };
            writeln!(f, "threshold   {verdict} {} (is {})", threshold.expr, rounded(threshold.value))?;
        }
        self.remarks().iter().try_for_each(|remark| writeln!(f, "{remark}"))
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target_rps.map_or_else(|| "max".to_owned(), |rate| format!("{}/s", rounded(rate)));
        let warmup =
            if self.warmup_s > 0.0 { format!(" after {} s of warmup", self.warmup_s) } else { String::new() };
        writeln!(
            f,
            "rate        {:.1}/s acked of {target} offered, over {:.1} s{warmup}",
            self.achieved_rps,
            self.schedule_s - self.warmup_s.min(self.schedule_s)
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
        for (name, times) in [
            ("response", self.response_time_ms),
            ("= lag   ", self.schedule_lag_ms),
            ("+ queue ", self.queue_time_ms),
            ("+ service", self.service_time_ms),
        ] {
            writeln!(
                f,
                "{name:<9}   p50 {} ms, p90 {} ms, p99 {} ms, p99.9 {} ms, max {} ms",
                times.p50, times.p90, times.p99, times.p999, times.max
            )?;
        }
        Ok(())
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
pub(super) mod tests {
    use super::*;

    pub(in crate::observe) fn judge(thresholds: &[&str], names: &[&str]) -> Judge {
        let load = |name: &&str| LoadFacts {
            name: (*name).to_owned(),
            seed: 1,
            stream: "s".into(),
            constant_rps: Some(100.0),
            open_loop: true,
        };
        let facts = RunFacts {
            run_id: "r".into(),
            started_at: "2026-11-22T18:54:00Z".into(),
            loads: names.iter().map(load).collect(),
        };
        let thresholds: Vec<_> = thresholds.iter().map(|t| Threshold::parse(t).unwrap()).collect();
        Judge::new(&thresholds, facts)
    }

    fn summary(thresholds: &[&str]) -> Summary {
        judge(thresholds, &[""]).summary(&[Arc::new(Snapshot::empty())], StoppedBy::Schedule, None)
    }

    #[test]
    fn thresholds_are_evaluated() {
        let mut one = summary(&[]);
        one.figures.achieved_rps = 99.0;
        one.figures.error_ratio = 0.002;
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
        assert!(summary(&["achieved_rps >= 0"]).passed());
        assert!(!summary(&["achieved_rps >= 0", "acked > 0"]).passed());
    }

    #[test]
    fn loads_have_figures_of_their_own() {
        let judge = judge(
            &["loads.b.c.acked >= 5", "loads.a.acked >= 5", "loads.a.achieved_rps >= 5%"],
            &["a", "b.c"],
        );
        let mut acked = Snapshot::empty();
        acked.account.ledger.acked = 7;
        let snapshots = [Arc::new(Snapshot::empty()), Arc::new(acked)];
        let summary = judge.summary(&snapshots, StoppedBy::Schedule, None);
        let of = |text: &str| summary.thresholds.iter().find(|t| t.expr.starts_with(text)).unwrap();
        assert!(of("loads.b.c.").passed && !of("loads.a.acked").passed && !of("loads.a.achieved").passed);
        assert_eq!((summary.figures.acked, summary.loads["b.c"].figures.acked), (7, 7));
        // A figure of a load that is not there is missed, not passed.
        assert!(!Threshold::parse("loads.zzz.lost == 0").unwrap().evaluate(&summary).1);
    }

    #[test]
    fn a_running_load_is_judged_by_what_time_can_still_not_mend() {
        let judge = judge(&["acked > 1000", "lost < 5"], &[""]);
        let mut snapshot = Snapshot::empty();
        (snapshot.span, snapshot.account.ledger.acked) = (crate::load::SECOND, 100);
        assert_eq!(judge.missed(&[Arc::new(snapshot.clone())]), None);
        snapshot.account.ledger.failed = 5;
        assert_eq!(judge.missed(&[Arc::new(snapshot)]), Some("lost < 5".to_owned()));
    }
}
