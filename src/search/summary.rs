use super::Answer;
use crate::load::Rate;
use crate::observe::{Limit, Summary, ThresholdResult, TimeSummary};
use serde::Serialize;
use std::fmt;

/// The version of the schema, docs/search.schema.json.
pub const SEARCH_SCHEMA_VERSION: u32 = 1;

/// The result of a search.
#[derive(Clone, Debug, Serialize)]
pub struct SearchSummary {
    /// The version of this form.
    pub schema_version: u32,
    /// The version of tickgen.
    pub tickgen_version: &'static str,
    /// What was asked.
    #[serde(flatten)]
    pub facts: SearchFacts,
    /// What came of it.
    pub verdict: Verdict,
    /// The highest rate found to hold the objective, in records per second.
    pub knee_rps: Option<f64>,
    /// The lowest rate found not to hold it.
    pub fails_at_rps: Option<f64>,
    /// What kept that rate from holding it, in a sentence or two.
    pub limited_by: Option<String>,
    /// What is doubtful about the answer, in a sentence.
    pub doubt: Option<String>,
    /// The error that ended the search.
    pub error: Option<String>,
    /// Every rate tried, in order.
    pub points: Vec<Point>,
}

/// What is known of a search besides its results.
#[derive(Clone, Debug, Serialize)]
pub struct SearchFacts {
    /// When it began, RFC 3339.
    pub started_at: String,
    /// The stream's name or ARN.
    pub stream: String,
    /// The seed of the first point; the next has the next.
    pub seed: u64,
    /// The conditions that a rate must meet.
    pub objective: Vec<String>,
    /// The rate to begin with, in records per second.
    pub from_rps: f64,
    /// The highest rate to try, in records per second.
    pub to_rps: f64,
    /// How close the two ends of the answer must come (0.01 = 1 %).
    pub precision: f64,
    /// Seconds for which a rate is measured.
    pub step_s: f64,
    /// Seconds for which it is offered before that.
    pub warmup_s: f64,
    /// Records per second that the open shards take in the long run; absent where that is not known, as of an
    /// on-demand stream or of aggregated records.
    pub capacity_rps: Option<f64>,
}

/// What came of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The knee was found.
    Found,
    /// Every rate tried holds the objective, the highest too.
    HeldThroughout,
    /// Not even the lowest rate holds it.
    NeverHeld,
    /// A signal ended the search.
    Stopped,
    /// An error ended the search.
    Failed,
}

/// One rate, offered once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The rate offered, in records per second.
    pub target_rps: f64,
    /// Records per second that were acked in time.
    pub achieved_rps: f64,
    /// Whether the objective was held.
    pub held: bool,
    /// Whether it ended before its time, as nothing that could still come would have held the objective.
    /// Its figures are of that moment: what still waited then is not in them; its objective is as it would be
    /// at best.
    pub ended_early: bool,
    /// Seconds for which it was measured.
    pub measured_s: f64,
    /// Acked records by the time from their intended start to the answer.
    pub response_time_ms: TimeSummary,
    /// The part of it until they were made.
    pub schedule_lag_ms: TimeSummary,
    /// The part of it in which they waited to be sent.
    pub queue_time_ms: TimeSummary,
    /// The part of it from there to the answer.
    pub service_time_ms: TimeSummary,
    /// Throttled over answered entries.
    pub throttled_ratio: f64,
    /// Lost over generated records.
    pub error_ratio: f64,
    /// Records that fell due and were not made.
    pub dropped: u64,
    /// The conditions, and whether each was met.
    pub objective: Vec<ThresholdResult>,
    /// What kept the load from its target, if it fell short.
    pub limit: Limit,
}

impl Point {
    /// The point of a run at `target`. `at_best`: how the objective would be at best, of one that ended early.
    #[must_use]
    pub fn new(target: Rate, run: &Summary, at_best: Option<Vec<ThresholdResult>>) -> Self {
        let (figures, ended_early) = (&run.figures, at_best.is_some());
        Self {
            target_rps: target.per_second(),
            achieved_rps: figures.achieved_rps,
            held: run.passed() && !ended_early,
            ended_early,
            measured_s: (figures.schedule_s - figures.warmup_s).max(0.0),
            response_time_ms: figures.response_time_ms,
            schedule_lag_ms: figures.schedule_lag_ms,
            queue_time_ms: figures.queue_time_ms,
            service_time_ms: figures.service_time_ms,
            throttled_ratio: figures.throttled_ratio,
            error_ratio: figures.error_ratio,
            dropped: figures.dropped,
            objective: at_best.unwrap_or_else(|| run.thresholds.clone()),
            limit: figures.limit.clone(),
        }
    }

    /// What it missed and what limited it, in a few words; empty if it held.
    fn missed(&self) -> String {
        let at_best = if self.ended_early { "at best " } else { "" };
        let missed: Vec<String> = self
            .objective
            .iter()
            .filter(|condition| !condition.passed)
            .map(|condition| format!("{} is {at_best}{}", condition.expr, rounded(condition.value)))
            .collect();
        let early = if self.ended_early {
            format!(" (ended early, after {:.1} s)", self.measured_s)
        } else {
            String::new()
        };
        missed.join(", ") + &early
    }

    /// What kept it from holding the objective.
    fn limited_by(&self) -> String {
        let missed = format!("At {}/s {}.", self.target_rps, self.missed());
        if self.limit.fell_short && !self.limit.text.is_empty() {
            return format!("{missed} {}", self.limit.text);
        }
        let parts = [
            ("were made late", self.schedule_lag_ms),
            ("waited to be sent", self.queue_time_ms),
            ("waited for the answer", self.service_time_ms),
        ];
        let longest = parts.into_iter().max_by(|a, b| a.1.percentiles.p99.total_cmp(&b.1.percentiles.p99));
        let longest = longest.map(|(what, times)| {
            format!("Records {what}: {} ms in the 99th percentile.", times.percentiles.p99)
        });
        let shares = [
            (self.limit.shard_limit_share, "their shard's limit"),
            (self.limit.in_flight_share, "room in flight"),
        ];
        let waits = shares.iter().filter(|(share, _)| *share > 0.5).map(|(share, what)| {
            format!("All that waited, waited for {what} for {:.0} % of the time.", share * 100.0)
        });
        let sentences: Vec<String> = [missed].into_iter().chain(longest).chain(waits).collect();
        sentences.join(" ")
    }
}

impl SearchSummary {
    /// Why there is no rate that holds the objective, if there is none.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        match self.verdict {
            Verdict::Found | Verdict::HeldThroughout => None,
            Verdict::NeverHeld => {
                Some(format!("{}/s (--from) does not hold the objective", shown(self.fails_at_rps)))
            }
            Verdict::Stopped => Some("stopped by a signal".to_owned()),
            Verdict::Failed => Some(self.error.clone().unwrap_or_else(|| "an error".to_owned())),
        }
    }

    /// Of a search that ended by itself, with these points.
    #[must_use]
    pub fn answered(facts: SearchFacts, answer: Answer, points: Vec<Point>) -> Self {
        let (verdict, holds, fails) = match answer {
            Answer::Found { holds, fails } => (Verdict::Found, Some(holds), Some(fails)),
            Answer::HeldThroughout(rate) => (Verdict::HeldThroughout, Some(rate), None),
            Answer::NeverHeld(rate) => (Verdict::NeverHeld, None, Some(rate)),
        };
        let mut summary = Self::without_answer(facts, verdict, None, points);
        summary.knee_rps = holds.map(Rate::per_second);
        summary.fails_at_rps = fails.map(Rate::per_second);
        let failed = |point: &&Point| Some(point.target_rps) == summary.fails_at_rps && !point.held;
        summary.doubt = summary.doubt();
        summary.limited_by = summary.points.iter().rev().find(failed).map(Point::limited_by);
        summary
    }

    /// Of a search that was ended, by a signal or an error.
    #[must_use]
    pub fn without_answer(
        facts: SearchFacts,
        verdict: Verdict,
        error: Option<String>,
        points: Vec<Point>,
    ) -> Self {
        Self {
            schema_version: SEARCH_SCHEMA_VERSION,
            tickgen_version: env!("CARGO_PKG_VERSION"),
            facts,
            verdict,
            knee_rps: None,
            fails_at_rps: None,
            limited_by: None,
            doubt: None,
            error,
            points,
        }
    }

    /// A short step ends before a load over the capacity shows.
    fn doubt(&self) -> Option<String> {
        /// What a knee may be off by: a step of 5 s shows more.
        const OFF: f64 = 0.03;
        let (knee, capacity) = (self.knee_rps?, self.facts.capacity_rps?);
        (knee > capacity * (1.0 + OFF)).then(|| {
            format!(
                "The shards take {capacity} records/s in the long run. Steps of {} s are too short to show what is \
                 over that; longer ones (--step-duration, --step-warmup) do.",
                self.facts.step_s
            )
        })
    }

    /// The points by rising rate.
    fn by_rate(&self) -> Vec<&Point> {
        let mut points: Vec<&Point> = self.points.iter().collect();
        points.sort_by(|a, b| a.target_rps.total_cmp(&b.target_rps));
        points
    }
}

/// The heading of the points' lines.
pub(crate) const HEADING: &str = "  offered/s    acked/s   p50 ms   p99 ms  p99.9 ms  service p99  throttled";

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>11}", self.target_rps)?;
        if self.ended_early {
            // What it was acked by then says nothing of what it would have come to.
            let dash = "-";
            write!(f, " {dash:>10} {dash:>8} {dash:>8} {dash:>9} {dash:>12} {dash:>10}  ")?;
        } else {
            let (response, service) = (self.response_time_ms.percentiles, self.service_time_ms.percentiles);
            let throttled = self.throttled_ratio * 100.0;
            write!(
                f,
                " {:>10.1} {:>8.1} {:>8.1} {:>9.1} {:>12.1} {throttled:>8.2} %  ",
                self.achieved_rps, response.p50, response.p99, response.p999, service.p99
            )?;
        }
        if self.held { f.write_str("held") } else { write!(f, "MISSED {}", self.missed()) }
    }
}

impl fmt::Display for SearchSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "objective   {}", self.facts.objective.join(" and "))?;
        writeln!(f, "{HEADING}")?;
        self.by_rate().into_iter().try_for_each(|point| writeln!(f, "{point}"))?;
        self.write_curve(f)?;
        match self.verdict {
            Verdict::Found => writeln!(
                f,
                "knee        {}/s holds the objective, {}/s does not (each tried twice at least)",
                shown(self.knee_rps),
                shown(self.fails_at_rps)
            )?,
            Verdict::HeldThroughout => {
                writeln!(f, "knee        not met: {}/s (--to) holds the objective", shown(self.knee_rps))?;
            }
            Verdict::NeverHeld => writeln!(f, "knee        none: {}", self.failure().unwrap_or_default())?,
            Verdict::Stopped | Verdict::Failed => {
                writeln!(f, "knee        not found: {}", self.failure().unwrap_or_default())?;
            }
        }
        for (name, text) in [("limited by", &self.limited_by), ("doubt     ", &self.doubt)] {
            if let Some(text) = text {
                writeln!(f, "{name}  {text}")?;
            }
        }
        Ok(())
    }
}

/// Columns of the longest response time in the curve.
const WIDTH: f64 = 50.0;

impl SearchSummary {
    /// The curve of throughput against response time: a line for each point that was offered to its end, its
    /// length the logarithm of the time; to the median, on to the 99th percentile, and to the 99.9th.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to WIDTH
    fn write_curve(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut points = self.by_rate();
        points.retain(|point| point.response_time_ms.count > 0 && !point.ended_early);
        points.sort_by(|a, b| a.achieved_rps.total_cmp(&b.achieved_rps));
        let longest = points.iter().map(|point| point.response_time_ms.percentiles.p999).fold(1.0, f64::max);
        let decades = (longest * 10.0).log10().max(1.0);
        // 0.1 ms is the left edge.
        let column = |ms: f64| ((ms.max(0.1) * 10.0).log10() / decades * WIDTH).round() as usize;
        if !points.is_empty() {
            writeln!(
                f,
                "\n    acked/s   response: = to p50, - to p99, . to p99.9; logarithm of 0.1 to {longest:.0} ms"
            )?;
        }
        for point in points {
            let times = point.response_time_ms;
            let (p50, p99, p999) = (
                column(times.percentiles.p50),
                column(times.percentiles.p99),
                column(times.percentiles.p999),
            );
            writeln!(
                f,
                "{:>11.1} {}{}{}{} {:.1} ms",
                point.achieved_rps,
                if point.held { "|" } else { "x" },
                "=".repeat(p50),
                "-".repeat(p99.saturating_sub(p50)),
                ".".repeat(p999.saturating_sub(p99)),
                times.percentiles.p99
            )?;
        }
        writeln!(f)
    }
}

fn shown(rate: Option<f64>) -> String {
    rate.map_or_else(|| "?".to_owned(), |rate| rounded(rate).to_string())
}

fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::SECOND;
    use crate::observe::{About, Judge, LoadFacts, RunFacts, StoppedBy, Threshold};
    use crate::producer::Snapshot;
    use std::sync::Arc;

    /// A point whose records took so many milliseconds.
    fn point(target: &str, millis: u64, early: bool) -> Point {
        let load = LoadFacts {
            name: String::new(),
            seed: 1,
            stream: "s".into(),
            constant_rps: None,
            open_loop: true,
        };
        let facts = RunFacts {
            run_id: "r".into(),
            started_at: String::new(),
            loads: vec![load],
            about: About::default(),
        };
        let judge = Judge::new(vec![Threshold::parse("response_time_ms.p99 < 200").unwrap()], facts);
        let mut seen = Snapshot::empty();
        (seen.elapsed, seen.span, seen.scheduled) = (2 * SECOND, 2 * SECOND, 100);
        seen.account.ledger.acked = 100;
        seen.account.response_time.record(millis * 1_000_000, 100);
        let run = judge.summary(&[Arc::new(seen)], StoppedBy::Schedule, None, None);
        let at_best = early.then(|| {
            vec![ThresholdResult { expr: "achieved_rps >= 99%".into(), value: 1700.0, passed: false }]
        });
        Point::new(target.parse().unwrap(), &run, at_best)
    }

    fn facts(step_s: f64) -> SearchFacts {
        SearchFacts {
            started_at: String::new(),
            stream: "s".into(),
            seed: 1,
            objective: Vec::new(),
            from_rps: 500.0,
            to_rps: 4000.0,
            precision: 0.01,
            step_s,
            warmup_s: 0.0,
            capacity_rps: Some(1000.0),
        }
    }

    #[test]
    fn a_point_that_ended_early_has_no_figures_in_table_and_curve() {
        let early = point("2000", 70, true);
        assert!(!early.held && early.response_time_ms.count == 100);
        let line = early.to_string();
        assert!(line.starts_with("       2000          -        -        -"), "{line}");
        assert!(
            line.ends_with("MISSED achieved_rps >= 99% is at best 1700 (ended early, after 2.0 s)"),
            "{line}"
        );
        let points = vec![point("500", 20, false), early, point("1000", 230, false)];
        assert!(points[0].held && !points[2].held);
        let (holds, fails) = ("500".parse().unwrap(), "1000".parse().unwrap());
        let text = SearchSummary::answered(facts(5.0), Answer::Found { holds, fails }, points).to_string();
        let curve: Vec<&str> =
            text.lines().filter(|line| line.contains(" |=") || line.contains(" x=")).collect();
        assert_eq!(curve.len(), 2, "{text}");
        assert!(!text.contains("doubt"), "{text}");
    }

    #[test]
    fn a_knee_over_the_capacity_is_doubted() {
        let (holds, fails) = ("1090".parse().unwrap(), "1092".parse().unwrap());
        let found = SearchSummary::answered(facts(1.0), Answer::Found { holds, fails }, Vec::new());
        let told = "doubt       The shards take 1000 records/s in the long run. Steps of 1 s are too short";
        assert!(found.to_string().contains(told), "{found}");
        assert_eq!(found.verdict, Verdict::Found);
    }
}
