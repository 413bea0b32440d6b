use super::figures::{Circumstances, Figures, ShardSummary, SteeredSummary, TimeSummary, WindowSummary};
use super::{Judge, StoppedBy};
use crate::producer::Snapshot;
use serde::Serialize;
use std::sync::Arc;

/// The most changes of the rate that a status names: the last ones.
const CHANGES: usize = 10;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The load has not begun.
    Waiting,
    /// The load is on.
    Running,
    /// The load is on, and its schedule stands still.
    Paused,
    /// Nothing falls due any more; what is on its way is waited for.
    Draining,
    /// All is settled.
    Ended,
}

/// A run at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Where it stands.
    pub state: State,
    /// Whether this is a try of `tickgen search`, which sets its own rates.
    pub search: bool,
    /// The run's name; null before it begins, as everything that is not known then.
    pub run_id: Option<String>,
    /// When it began, RFC 3339.
    pub started_at: Option<String>,
    /// The stream's name or ARN; several are separated by commas.
    pub stream: Option<String>,
    /// Seconds since it began.
    pub elapsed_s: f64,
    /// Seconds of the schedule that are left; null without an end that is known.
    pub left_s: Option<f64>,
    /// Seconds in which the schedule stood still.
    pub paused_s: f64,
    /// Records per second that are offered now, in a pause none; null for as many as answers allow.
    pub target_rps: Option<f64>,
    /// Acked records per second of the schedule so far, the warmup left out.
    pub achieved_rps: f64,
    /// Records that fell due.
    pub scheduled: u64,
    /// Records that were made.
    pub generated: u64,
    /// Records that fell due and were not made.
    pub dropped: u64,
    /// Records that the stream said it stored.
    pub acked: u64,
    /// Records given up.
    pub failed: u64,
    /// Records given up because their time to live passed.
    pub expired: u64,
    /// Records that wait to be sent, or sent again.
    pub backlog_records: u64,
    /// Requests that wait for their answer.
    pub in_flight_requests: u64,
    /// Bytes that their bodies were expected to take.
    pub in_flight_bytes: u64,
    /// Answered requests.
    pub requests: u64,
    /// Entries that failed and were sent again.
    pub retried_entries: u64,
    /// Entries rejected for the rate.
    pub throttled_entries: u64,
    /// Acked records by the time from their intended start to the answer.
    pub response_time_ms: TimeSummary,
    /// Acked records by the time of their successful attempt.
    pub service_time_ms: TimeSummary,
    /// The last whole second; of a long run, the last window of its summary.
    pub last_window: Option<WindowSummary>,
    /// Per shard.
    pub shards: Vec<ShardSummary>,
    /// Per load; empty before it begins.
    pub loads: Vec<LoadStatus>,
    /// How what is offered was last changed, at most ten changes.
    pub steered: Vec<SteeredSummary>,
}

/// One load at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct LoadStatus {
    /// Its name; empty if it is the run's only load.
    pub name: String,
    /// As [`Status::target_rps`].
    pub target_rps: Option<f64>,
    /// As [`Status::left_s`].
    pub left_s: Option<f64>,
    /// Records that the stream said it stored.
    pub acked: u64,
}

impl Status {
    /// Of a run that has not begun.
    #[must_use]
    pub fn waiting(search: bool) -> Self {
        let nothing = Snapshot::empty();
        let figures = Figures::new(&nothing, None, &Circumstances::default());
        Self { left_s: None, target_rps: None, ..Self::of(State::Waiting, search, &nothing, figures) }
    }

    /// Of a run that began.
    #[must_use]
    pub fn new(search: bool, judge: &Judge, loads: &[Arc<Snapshot>]) -> Self {
        let all = Snapshot::sum(loads.iter().map(Arc::as_ref));
        let summary = judge.summary(loads, StoppedBy::Schedule, None, None);
        let state = match () {
            () if all.draining && all.unsettled == 0 => State::Ended,
            () if all.draining => State::Draining,
            () if all.paused => State::Paused,
            () => State::Running,
        };
        let of_load = |(facts, load): (&super::LoadFacts, &Arc<Snapshot>)| LoadStatus {
            name: facts.name.clone(),
            target_rps: load.target_rps,
            left_s: load.left.map(|left| left as f64 / 1e9),
            acked: load.account.ledger.acked,
        };
        let skipped = summary.steered.len().saturating_sub(CHANGES);
        Self {
            run_id: Some(summary.run_id),
            started_at: Some(summary.started_at),
            stream: Some(summary.stream),
            last_window: summary.windows.last().copied(),
            loads: judge.facts().loads.iter().zip(loads).map(of_load).collect(),
            steered: summary.steered.into_iter().skip(skipped).collect(),
            ..Self::of(state, search, &all, summary.figures)
        }
    }

    fn of(state: State, search: bool, seen: &Snapshot, figures: Figures) -> Self {
        Self {
            state,
            search,
            run_id: None,
            started_at: None,
            stream: None,
            elapsed_s: figures.elapsed_s,
            left_s: seen.left.map(|left| left as f64 / 1e9),
            paused_s: figures.paused_s,
            target_rps: seen.target_rps,
            achieved_rps: figures.achieved_rps,
            scheduled: figures.scheduled,
            generated: figures.generated,
            dropped: figures.dropped,
            acked: figures.acked,
            failed: figures.failed,
            expired: figures.expired,
            backlog_records: seen.backlog_records,
            in_flight_requests: seen.in_flight_requests,
            in_flight_bytes: seen.in_flight_bytes,
            requests: figures.requests,
            retried_entries: figures.retried_entries,
            throttled_entries: figures.throttled_entries,
            response_time_ms: figures.response_time_ms,
            service_time_ms: figures.service_time_ms,
            last_window: None,
            shards: figures.shards,
            loads: Vec::new(),
            steered: Vec::new(),
        }
    }
}
