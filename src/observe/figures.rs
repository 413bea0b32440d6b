use super::verdict::Limit;
use crate::producer::{
    Cause, Counts, Durations, EntryOutcome, FlushReason, RequestOutcome, ShardAccount, Snapshot, Steered,
    Window,
};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// What figures depend on besides what is counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Circumstances {
    /// The names of the run's streams, by their places.
    pub(super) streams: Vec<String>,
    /// Whether records are written as lines, in place of being sent.
    pub(super) lines: bool,
    /// The share of its processors' time that the process used in the run, if that is known.
    pub(super) processor_share: Option<f64>,
}

/// Counts by what they are of.
pub type Named = BTreeMap<Cow<'static, str>, u64>;

/// What is counted and measured, of one load or of all together. Counts are user records unless their
/// name says otherwise.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Figures {
    /// Records per second that were to be offered: of a constant rate that rate, of a shape, a replayed file
    /// or a load that was given another rate what fell due; absent in a closed loop.
    pub target_rps: Option<f64>,
    /// Acked records per second of the schedule, warmup and drain left out.
    pub achieved_rps: f64,
    /// Acked records left out of the rate: they could not start on time and were acked in the drain.
    pub acked_late: u64,
    /// Seconds from start to end, the drain included.
    pub elapsed_s: f64,
    /// Seconds of the schedule, pauses and the drain left out.
    pub schedule_s: f64,
    /// Seconds in which the schedule stood still, told to pause.
    pub paused_s: f64,
    /// Seconds of the warmup, which the times, ratios and rates leave out.
    pub warmup_s: f64,
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
    pub lost_by_cause: Named,
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
    pub requests_by_outcome: Named,
    /// Kinesis records that were stored.
    pub kinesis_records: u64,
    /// Their bytes, data plus partition keys.
    pub bytes: u64,
    /// Answered entries by code.
    pub entries_by_code: Named,
    /// Entries that failed and whose records were kept to be sent again.
    pub retried_entries: u64,
    /// Entries rejected for the rate.
    pub throttled_entries: u64,
    /// Throttled over answered entries.
    pub throttled_ratio: f64,
    /// Batches by why they left.
    pub flushes: Named,
    /// Acked records by the time from their intended start to the answer; of each, the sum of the next
    /// three.
    pub response_time_ms: TimeSummary,
    /// Acked records by the time from their intended start until they were made.
    pub schedule_lag_ms: TimeSummary,
    /// Acked records by the time from then to the start of their successful attempt.
    pub queue_time_ms: TimeSummary,
    /// Acked records by the time of their successful attempt.
    pub service_time_ms: TimeSummary,
    /// All records made, acked or not, by how long after their intended start that was.
    pub start_lateness_ms: TimeSummary,
    /// What kept the load from going faster.
    pub limit: Limit,
    /// Per shard.
    pub shards: Vec<ShardSummary>,
    /// The largest share of the acked records that one shard took, the warmup left out.
    #[serde(rename = "shards_max_share", default)]
    pub max_share: f64,
    /// The partition keys with the most records made, the hottest first; empty where each record has its
    /// own.
    pub hot_keys: Vec<HotKey>,
    /// Payloads that a template could not make; they were sent saying so.
    pub payload_failures: u64,
}

/// Times in milliseconds, three significant digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct TimeSummary {
    /// Its percentiles.
    #[serde(flatten)]
    pub percentiles: Percentiles,
    /// The mean.
    pub mean: f64,
    /// Records measured.
    pub count: u64,
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[allow(missing_docs)] // percentiles, by name
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Percentiles {
    /// Of what does not exceed `micros` of a share of the records.
    pub(crate) fn new(micros: impl Fn(f64) -> u64) -> Self {
        let at = |quantile| micros(quantile) as f64 / 1000.0;
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1.0) }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p90, p99, p999, max } = self;
        write!(f, "p50 {p50} ms, p90 {p90} ms, p99 {p99} ms, p99.9 {p999} ms, max {max} ms")
    }
}

/// One shard's part.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ShardSummary {
    /// The stream's name or ARN, where the run has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Its id.
    pub id: String,
    /// User records that it stored.
    pub acked: u64,
    /// Kinesis records that it stored.
    pub accepted: u64,
    /// Kinesis records that it throttled.
    pub throttled: u64,
    /// Kinesis records per second that its limit admits at the end, of a load that shares a limit an equal
    /// part; absent without a limit, and once it is closed.
    pub limit_rps: Option<f64>,
    /// User records that were expected to go to it, by their keys and the shard map; absent if unknown.
    pub expected: Option<f64>,
}

/// A partition key and how many records had it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct HotKey {
    /// The key.
    pub key: String,
    /// Records made with it, by a sketch that may count a little too few.
    pub records: u64,
}

/// A change of what a load offers, while it runs.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct SteeredSummary {
    /// Seconds from the start of the run.
    pub at_s: f64,
    /// Which load, where the run has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<String>,
    /// `rate`, `shape`, `pause` or `resume`.
    pub action: Cow<'static, str>,
    /// The records per second that the schedule offers from then on, 0 for a pause; null in a closed loop (max).
    pub rps: Option<f64>,
}

/// What happened in a window of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct WindowSummary {
    /// Seconds from the start of the run to its start.
    pub at_s: f64,
    /// How many seconds it was.
    pub span_s: f64,
    /// Records that fell due in it.
    #[serde(default)]
    pub scheduled: u64,
    /// Records made in it.
    pub generated: u64,
    /// Records acked in it.
    pub acked: u64,
    /// Records given up in it.
    pub lost: u64,
    /// Records dropped in it.
    pub dropped: u64,
    /// Entries throttled in it.
    pub throttled_entries: u64,
    /// Entries kept in it to be sent again.
    pub retried_entries: u64,
    /// Response times of the records acked in it, to a percent.
    pub response_time_ms: Percentiles,
}

impl TimeSummary {
    /// Of these times.
    #[must_use]
    pub fn new(times: &Durations) -> Self {
        let histogram = times.histogram();
        Self {
            percentiles: Percentiles::new(|quantile| histogram.value_at_quantile(quantile)),
            mean: times.mean_millis(),
            count: histogram.len(),
        }
    }
}

impl SteeredSummary {
    /// The summary of a change.
    #[must_use]
    pub fn new(load: Option<String>, steered: &Steered) -> Self {
        Self {
            at_s: steered.at as f64 / 1e9,
            load,
            action: steered.action.name().into(),
            rps: steered.rps.map(rounded),
        }
    }
}

impl fmt::Display for SteeredSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_s, load, action, rps } = self;
        let rps = rps.map_or_else(|| "max".to_owned(), |rps| format!("{rps}/s"));
        let load = load.as_ref().map_or_else(String::new, |load| format!(" ({load})"));
        write!(f, "{at_s:.1} s: {action} {rps}{load}")
    }
}

impl ShardSummary {
    /// `streams`: their names, if there are several.
    fn new(shard: &ShardAccount, streams: &[String]) -> Self {
        Self {
            stream: if streams.len() > 1 { streams.get(shard.stream).cloned() } else { None },
            id: shard.id.to_string(),
            acked: shard.acked,
            accepted: shard.accepted,
            throttled: shard.throttled,
            limit_rps: shard.limit.map(rounded),
            expected: shard.expected.map(rounded),
        }
    }
}

impl WindowSummary {
    /// The summary of a window.
    #[must_use]
    pub fn new(window: &Window) -> Self {
        Self {
            at_s: window.from as f64 / 1e9,
            span_s: window.span as f64 / 1e9,
            scheduled: window.scheduled,
            generated: window.generated,
            acked: window.acked,
            lost: window.lost,
            dropped: window.dropped,
            throttled_entries: window.throttled,
            retried_entries: window.retried,
            response_time_ms: Percentiles::new(|quantile| window.response_micros(quantile)),
        }
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn named<K: Copy + PartialEq, const N: usize>(
    counts: &Counts<K, N>,
    name: impl Fn(K) -> &'static str,
) -> Named {
    counts.iter().filter(|(_, n)| *n > 0).map(|(kind, n)| (name(kind).into(), n)).collect()
}

pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The largest share of the records acked after the warmup that one shard took.
fn max_share(shards: &[ShardAccount]) -> f64 {
    let acked = |shard: &ShardAccount| shard.acked - shard.warmup_acked;
    ratio(shards.iter().map(acked).max().unwrap_or(0), shards.iter().map(acked).sum())
}

impl Figures {
    /// Figures in which every cause, code and outcome stands, to know their names.
    pub(super) fn with_every_count() -> Self {
        let around = Circumstances { processor_share: Some(0.0), ..Circumstances::default() };
        let none = |names: Vec<&'static str>| names.into_iter().map(|name| (name.into(), 0)).collect();
        Self {
            lost_by_cause: none(Cause::ALL.iter().map(|cause| cause.name()).collect()),
            requests_by_outcome: none(RequestOutcome::ALL.iter().map(|outcome| outcome.name()).collect()),
            entries_by_code: none(EntryOutcome::ALL.iter().map(|outcome| outcome.code()).collect()),
            flushes: none(FlushReason::ALL.iter().map(|reason| reason.name()).collect()),
            ..Self::new(&Snapshot::empty(), Some(0.0), &around)
        }
    }

    /// The figures of a snapshot. `target_rps`: the rate to be offered.
    pub(super) fn new(last: &Snapshot, target_rps: Option<f64>, around: &Circumstances) -> Self {
        let account = &last.account;
        let (ledger, warmup) = (&account.ledger, &account.warmup);
        Self {
            target_rps,
            achieved_rps: last.achieved_rps(),
            acked_late: account.acked_late,
            elapsed_s: last.elapsed as f64 / 1e9,
            schedule_s: last.span as f64 / 1e9,
            paused_s: last.paused_for as f64 / 1e9,
            warmup_s: account.warmup_span as f64 / 1e9,
            scheduled: last.scheduled,
            generated: ledger.generated,
            dropped: ledger.dropped,
            acked: ledger.acked,
            failed: ledger.failed,
            expired: ledger.expired,
            lost: ledger.lost(),
            lost_by_cause: ledger.lost_by_cause().map(|(cause, n)| (cause.name().into(), n)).collect(),
            error_ratio: ratio(ledger.lost() - warmup.lost(), ledger.generated - warmup.generated),
            dropped_ratio: ratio(
                ledger.dropped - warmup.dropped,
                last.scheduled.saturating_sub(warmup.generated + warmup.dropped),
            ),
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
            throttled_ratio: ratio(
                account.throttled_entries - account.warmup_throttled,
                account.entries.total() - account.warmup_entries,
            ),
            flushes: named(&account.flushes, FlushReason::name),
            response_time_ms: TimeSummary::new(&account.response_time),
            schedule_lag_ms: TimeSummary::new(&account.schedule_lag),
            queue_time_ms: TimeSummary::new(&account.queue_time),
            service_time_ms: TimeSummary::new(&account.service_time),
            start_lateness_ms: TimeSummary::new(&account.start_lateness),
            limit: Limit::new(last, target_rps, around),
            shards: account.shards.iter().map(|shard| ShardSummary::new(shard, &around.streams)).collect(),
            max_share: max_share(&account.shards),
            hot_keys: account
                .hot_keys
                .iter()
                .map(|(key, records)| HotKey { key: key.clone(), records: *records })
                .collect(),
            payload_failures: last.payload_failures,
        }
    }
}
