mod text;

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

/// The version of the summary's schema, docs/summary.schema.json.
pub const SCHEMA_VERSION: u32 = 2;

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
}

fn nan_if_null<'de, D: serde::Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Option::<f64>::deserialize(from).map(|value| value.unwrap_or(f64::NAN))
}
