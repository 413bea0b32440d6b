use super::ceiling::CeilingSummary;
use super::figures::{Figures, Named, SteeredSummary, WindowSummary};
use super::threshold::{is_of_proof, largest, of_a_load};
use super::{DrillSummary, Environment, Seconds, ShardHeat, VerifySummary};
use crate::cost::CostSummary;
use crate::verify::Manifest;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// The version of the summary's schema, docs/summary.schema.json.
pub const SCHEMA_VERSION: u32 = 2;

/// The most changes of the rate that the text names.
const STEERED_LINES: usize = 20;

/// What ended the generating of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoppedBy {
    /// The end of the schedule.
    Schedule,
    /// SIGINT or SIGTERM.
    Signal,
    /// A threshold that was missed, with `--abort-on-threshold`.
    Threshold,
    /// The application under test was gone, with `--stop-when-gone`.
    Gone,
    /// `POST /drain` to the admin server, or a key in the live view.
    Told,
    /// The budget of `--max-cost`, which more records would have passed.
    Cost,
    /// An error that no retry mends.
    Error,
}

/// The result of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Summary {
    /// The version of this form.
    pub schema_version: u32,
    /// The version of tickgen.
    pub tickgen_version: Cow<'static, str>,
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
    /// Why the first payload could not be made that could not.
    #[serde(skip)]
    pub payload_failure: Option<String>,
    /// Dropped records of a replayed file that there was no room to keep.
    #[serde(skip)]
    pub unkept: u64,
    /// Whether no record was meant to start after the warmup.
    #[serde(skip)]
    pub nothing_measured: bool,
    /// All times that were measured, of a run that has ended.
    #[serde(skip)]
    pub times: Option<Times>,
    /// Its seconds; none without a report or a histogram log.
    #[serde(skip)]
    pub seconds: Seconds,
    /// All loads together.
    #[serde(flatten)]
    pub figures: Figures,
    /// Each load, if there are several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub loads: BTreeMap<String, LoadSummary>,
    /// What happened second by second; in long runs, by longer windows.
    pub windows: Vec<WindowSummary>,
    /// How what is offered was changed while the run was on, by rising time.
    pub steered: Vec<SteeredSummary>,
    /// What the run changed of its stream, by rising time.
    pub drills: Vec<DrillSummary>,
    /// What `tickgen verify` must know of it.
    pub manifest: Manifest,
    /// What reading the stream back proved, with `--verify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<VerifySummary>,
    /// What had to hold.
    pub thresholds: Vec<ThresholdResult>,
    /// What the run would cost at list price; absent if it went to no stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostSummary>,
    /// What this machine can send with these settings, and the share of it that the run used.
    #[serde(default)]
    pub ceiling: CeilingSummary,
    /// The settings that were given, by name; of several loads, their own as `loads.NAME.SETTING`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub configuration: BTreeMap<String, String>,
    /// Where it ran, and against what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// What each shard took over time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard_heat: Option<ShardHeat>,
    /// The runs that this is the sum of, if it is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merged_from: Vec<MergedRun>,
}

/// A run that was added to others.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct MergedRun {
    /// Its name.
    pub run_id: String,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// The file of its summary.
    pub file: String,
    /// Its acked records.
    pub acked: u64,
    /// Its rate.
    pub achieved_rps: f64,
}

/// All times that were measured, in microseconds.
#[derive(Clone, Debug)]
pub struct Times {
    /// Response times.
    pub response: Histogram<u64>,
    /// Service times.
    pub service: Histogram<u64>,
}

/// The result of one of several loads.
#[derive(Clone, Debug, Deserialize, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ThresholdResult {
    /// The expression.
    pub expr: String,
    /// The figure's value; not a number, in JSON null, if there is none.
    #[serde(deserialize_with = "nan_if_null")]
    pub value: f64,
    /// Whether it held.
    pub passed: bool,
}

impl fmt::Display for ThresholdResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed { "held  " } else { "MISSED" };
        write!(f, "threshold   {verdict} {} (is {})", self.expr, rounded(self.value))
    }
}

impl Summary {
    /// A figure by its path, such as `response_time_ms.p99` or `loads.orders.lost`. A cause or code that did
    /// not occur counts as 0.
    #[must_use]
    pub fn figure(&self, path: &str) -> Option<f64> {
        if is_of_proof(path) {
            return self.verify.as_ref()?.figure(path);
        }
        let (figures, path) = match of_a_load(path) {
            Some((load, path)) => (&self.loads.get(load)?.figures, path),
            None => (&self.figures, path),
        };
        if path == "shards.max_share" {
            return Some(figures.max_share);
        }
        match path.split_once(".max_") {
            Some(("shards", field)) => return largest(&figures.shards, field).or(Some(0.0)),
            // A run without drills has none that took long.
            Some(("drills", _)) if self.drills.is_empty() => return Some(0.0),
            Some(("drills", field)) => return largest(&self.drills, field),
            _ => {}
        }
        if let Some(part) = path.strip_prefix("cost.") {
            return serde_json::to_value(self.cost.as_ref()?).ok()?.get(part)?.as_f64();
        }
        let value = serde_json::to_value(figures).ok()?;
        let (name, part) = path.split_once('.').unwrap_or((path, ""));
        let value = value.get(name)?;
        if part.is_empty() {
            value.as_f64()
        } else {
            value.get(part).map_or(Some(0.0), serde_json::Value::as_f64)
        }
    }

    /// Whether every threshold held.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.thresholds.iter().all(|threshold| threshold.passed)
    }

    /// Whether nothing speaks against the delivery of any acked record; true if none was looked for.
    #[must_use]
    pub fn proved(&self) -> bool {
        self.verify.as_ref().is_none_or(VerifySummary::proves)
    }

    /// Whether the run failed, whatever its thresholds say: an error ended it, its counts do not add up,
    /// or a drill could not be done.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.failure().is_some()
    }

    /// Why it failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let of_drill =
            |drill: &DrillSummary| Some(format!("--drill {}: {}", drill.drill, drill.error.as_ref()?));
        let uneven = || {
            (!self.figures.balanced)
                .then(|| "the counts do not add up; please report this as a bug".to_owned())
        };
        self.error.clone().or_else(uneven).or_else(|| self.drills.iter().find_map(of_drill))
    }

    /// Why the run did not do what it was asked, if it did not, in a sentence each.
    pub(super) fn remarks(&self) -> Vec<String> {
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
                "{} records fell due and were not made, as {} were on their way already.",
                figures.dropped,
                if self.unkept > 0 { "--max-replay-bytes" } else { "--max-backlog records" }
            ));
        }
        if self.nothing_measured {
            remarks.push("Nothing was measured: no record was meant to start after the warmup.".to_owned());
        }
        if let Some(failure) = &self.payload_failure {
            remarks.push(format!(
                "{} payloads could not be made, the first: {failure}",
                figures.payload_failures
            ));
        }
        if let Some(cost) = &self.cost
            && self.stopped_by == StoppedBy::Cost
        {
            remarks.push(cost.drained());
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
        // As many as one can read; the JSON summary has them all.
        for steered in self.steered.iter().take(STEERED_LINES) {
            writeln!(f, "steered     {steered}")?;
        }
        if self.steered.len() > STEERED_LINES {
            writeln!(f, "steered     and {} times more", self.steered.len() - STEERED_LINES)?;
        }
        for drill in &self.drills {
            writeln!(f, "drill       {drill}")?;
        }
        if let Some(verify) = &self.verify {
            verify.fmt(f)?;
        }
        if let Some(cost) = &self.cost {
            writeln!(f, "cost        {cost}")?;
        }
        self.ceiling.fmt(f)?;
        for threshold in &self.thresholds {
            writeln!(f, "{threshold}")?;
        }
        self.remarks().iter().try_for_each(|remark| writeln!(f, "{remark}"))
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target_rps.map_or_else(|| "max".to_owned(), |rate| format!("{}/s", rounded(rate)));
        let paused =
            if self.paused_s > 0.0 { format!(", paused for {:.1} s", self.paused_s) } else { String::new() };
        let warmup =
            if self.warmup_s > 0.0 { format!(" after {} s of warmup", self.warmup_s) } else { String::new() };
        writeln!(
            f,
            "rate        {:.1}/s acked of {target} offered, over {:.1} s{warmup}{paused}",
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
            writeln!(f, "{name:<9}   {}", times.percentiles)?;
        }
        self.hottest().map_or(Ok(()), |hottest| writeln!(f, "hottest     {hottest}"))
    }
}

impl Figures {
    /// Which shard took most and by which key, if the load was uneven: half as much again as an equal part, of
    /// enough records for that not to be chance.
    fn hottest(&self) -> Option<String> {
        let shards = self.shards.len() as u64;
        let shard = self.shards.iter().max_by_key(|shard| shard.acked)?;
        let uneven = shards > 1 && self.acked >= 100 * shards && shard.acked * shards * 2 > self.acked * 3;
        let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        let key = self.hot_keys.first().map_or_else(String::new, |key| {
            format!("; key {:?} had {:.1} % of those made", key.key, percent(key.records, self.generated))
        });
        uneven.then(|| {
            format!(
                "{} took {:.1} % of the records, {} entries throttled{key}",
                shard.id,
                percent(shard.acked, self.acked),
                shard.throttled
            )
        })
    }
}

fn listed(counts: &Named) -> String {
    let mut text = String::new();
    for (name, count) in counts {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{name} {count}");
    }
    text
}

fn rounded(value: f64) -> f64 {
    let steps = if value.abs() < 0.01 { 1e6 } else { 1e3 };
    (value * steps).round() / steps
}

fn nan_if_null<'de, D: serde::Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Option::<f64>::deserialize(from).map(|value| value.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Circumstances, HotKey};
    use super::*;
    use crate::kinesis::ShardId;
    use crate::producer::Snapshot;

    #[test]
    fn the_hottest_shard_and_key_of_an_uneven_load_are_told() {
        let hottest = |taken: [u64; 4]| {
            let mut snapshot = Snapshot::empty();
            (snapshot.account.ledger.generated, snapshot.account.ledger.acked) = (1_000, 1_000);
            for (id, acked) in (0..).zip(taken) {
                let place = snapshot.account.shard(0, ShardId(id));
                (snapshot.account.shards[place].acked, snapshot.account.shards[place].throttled) =
                    (acked, id);
            }
            let mut figures = Figures::new(&snapshot, Some(10.0), &Circumstances::default());
            figures.hot_keys = vec![HotKey { key: "k1".into(), records: 400 }];
            figures.to_string().lines().find_map(|line| line.strip_prefix("hottest     ").map(str::to_owned))
        };
        assert_eq!(hottest([250, 260, 240, 250]), None);
        assert_eq!(
            hottest([200, 100, 600, 100]).unwrap(),
            "shardId-000000000002 took 60.0 % of the records, 2 entries throttled; key \"k1\" had 40.0 % of those made"
        );
    }
}
