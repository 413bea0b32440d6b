//! From snapshots to a [`View`]: what happened in the last seconds is the difference of two of them.

use super::view::{Load, Phase, Records, Second, Shard, Times, View, Way};
use crate::kinesis::ShardId;
use crate::load::{Nanos, SECOND};
use crate::observe::Percentiles;
use crate::producer::Snapshot;
use hdrhistogram::Histogram;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Seconds that are kept: as many as the widest chart shows.
const KEPT: usize = 512;

/// Over how many seconds the recent percentiles are.
const RECENT: usize = 5;

/// What is known of a run beforehand.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Its id.
    pub run_id: String,
    /// The names of its streams, in the order of [`ShardAccount::stream`](crate::producer::ShardAccount).
    pub streams: Vec<String>,
    /// Its loads.
    pub loads: Vec<LoadEnd>,
    /// How long the drain may take.
    pub drain_timeout: Nanos,
    /// Whether the records are read back at the end.
    pub reads_back: bool,
}

/// When a load ends.
#[derive(Clone, Debug, Default)]
pub struct LoadEnd {
    /// The load's name.
    pub name: String,
    /// After so many records, if not without end.
    pub records: Option<u64>,
}

/// Makes views of the snapshots that it is shown.
#[derive(Debug)]
pub struct Model {
    facts: Facts,
    view: View,
    history: VecDeque<Second>,
    /// Where the last second ended.
    last: Mark,
    /// The times at the ends of the last seconds, the latest last, with when that was.
    times: VecDeque<(Nanos, TimesSoFar)>,
}

/// The counts at the end of a second.
#[derive(Debug, Default)]
struct Mark {
    elapsed: Nanos,
    loads: Vec<Counted>,
    shards: BTreeMap<(usize, ShardId), ShardCounts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    acked: u64,
    throttled: u64,
    lost: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct ShardCounts {
    accepted: u64,
    throttled: u64,
    limit: Option<f64>,
}

/// The histograms of all loads together.
#[derive(Clone, Debug)]
struct TimesSoFar {
    response: Histogram<u64>,
    service: Histogram<u64>,
}

impl Model {
    /// A run that has not begun.
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        let to = match &facts.streams[..] {
            [] => String::new(),
            [one] => one.clone(),
            several => format!("{} streams", several.len()),
        };
        let view = View { run_id: facts.run_id.clone(), to, ..View::default() };
        Self { facts, view, history: VecDeque::new(), last: Mark::default(), times: VecDeque::new() }
    }

    /// Takes the latest snapshot of each load; what is counted over a second is worked out as often.
    pub fn take(&mut self, loads: &[Arc<Snapshot>]) -> &mut View {
        let elapsed = loads.iter().map(|load| load.elapsed).max().unwrap_or(0);
        self.view.elapsed = seconds(elapsed);
        self.view.records = records(loads);
        self.view.way = way(loads);
        self.view.phase = self.phase(loads, elapsed);
        if elapsed >= self.last.elapsed + SECOND || self.view.phase >= Phase::Settled {
            self.end_second(loads, elapsed);
        }
        self.view.left = self.left(loads, elapsed);
        &mut self.view
    }

    fn phase(&self, loads: &[Arc<Snapshot>], elapsed: Nanos) -> Phase {
        let draining = !loads.is_empty() && loads.iter().all(|load| load.draining);
        let settled = loads.iter().all(|load| load.unsettled == 0 && load.account.ledger.in_flight() == 0);
        let warmup = loads.iter().map(|load| load.account.warmup_span).max().unwrap_or(0);
        match (draining, settled) {
            (true, true) if self.facts.reads_back => Phase::ReadingBack,
            (true, true) => Phase::Settled,
            (true, false) => Phase::Draining,
            _ if loads.iter().any(|load| load.paused) => Phase::Paused,
            _ if elapsed < warmup => Phase::Warmup,
            _ => Phase::Running,
        }
    }

    fn end_second(&mut self, loads: &[Arc<Snapshot>], elapsed: Nanos) {
        let span = seconds(elapsed.saturating_sub(self.last.elapsed));
        if span <= 0.0 {
            return;
        }
        let mark =
            Mark { elapsed, loads: loads.iter().map(|load| counted(load)).collect(), shards: shards(loads) };
        let rates: Vec<Second> = self.rates(loads, &mark, span);
        let mut all = Second { at: seconds(elapsed), target: Some(0.0), ..Second::default() };
        for rate in &rates {
            all.acked += rate.acked;
            all.throttled += rate.throttled;
            all.lost += rate.lost;
            // A closed loop has no rate, so all together have none.
            all.target = all.target.zip(rate.target).map(|(mine, theirs)| mine + theirs);
        }
        self.view.rate = all;
        if self.history.len() == KEPT {
            self.history.pop_front();
        }
        self.history.push_back(all);
        self.view.history = self.history.iter().copied().collect();
        self.view.shards = self.shard_rates(&mark, span);
        self.measure(loads, elapsed);
        self.view.loads = if loads.len() > 1 { self.load_rows(loads, &rates) } else { Vec::new() };
        self.last = mark;
    }

    fn rates(&self, loads: &[Arc<Snapshot>], mark: &Mark, span: f64) -> Vec<Second> {
        let rate = |(place, (load, now)): (usize, (&Arc<Snapshot>, &Counted))| {
            let before = self.last.loads.get(place).copied().unwrap_or_default();
            let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / span;
            Second {
                at: seconds(mark.elapsed),
                acked: per_second(now.acked, before.acked),
                target: if load.draining { Some(0.0) } else { load.target_rps },
                throttled: per_second(now.throttled, before.throttled),
                lost: per_second(now.lost, before.lost),
            }
        };
        loads.iter().zip(&mark.loads).enumerate().map(rate).collect()
    }

    fn shard_rates(&self, mark: &Mark, span: f64) -> Vec<Shard> {
        let several = self.facts.streams.len() > 1;
        let limited = mark.shards.values().any(|shard| shard.limit.is_some());
        let shards = mark.shards.iter().map(|(&(stream, id), now)| {
            let before = self.last.shards.get(&(stream, id)).copied().unwrap_or_default();
            let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / span;
            Shard {
                stream: if several { self.facts.streams.get(stream).cloned() } else { None },
                id: id.0,
                accepted: per_second(now.accepted, before.accepted),
                throttled: per_second(now.throttled, before.throttled),
                limit: now.limit,
            }
        });
        // A shard that lost its limit was closed by a reshard.
        shards.filter(|one| !limited || one.limit.is_some() || one.accepted + one.throttled > 0.0).collect()
    }

    fn measure(&mut self, loads: &[Arc<Snapshot>], elapsed: Nanos) {
        let now = TimesSoFar::sum(loads);
        self.view.whole = now.percentiles();
        if self.times.len() > RECENT {
            self.times.pop_front();
        }
        let (since, recent) = match self.times.front() {
            Some((then, before)) => (*then, now.since(before).percentiles()),
            None => (0, self.view.whole),
        };
        (self.view.recent, self.view.recent_s) = (recent, seconds(elapsed.saturating_sub(since)));
        self.times.push_back((elapsed, now));
    }

    fn load_rows(&self, loads: &[Arc<Snapshot>], rates: &[Second]) -> Vec<Load> {
        let row = |((load, rate), facts): ((&Arc<Snapshot>, &Second), &LoadEnd)| {
            let times = load.account.response_time.histogram();
            Load {
                name: facts.name.clone(),
                rate: *rate,
                p99: (!times.is_empty()).then(|| times.value_at_quantile(0.99) as f64 / 1000.0),
                lost: load.account.ledger.lost() + load.account.ledger.dropped,
            }
        };
        loads.iter().zip(rates).zip(&self.facts.loads).map(row).collect()
    }

    /// Seconds until the last load ends; a drain ends at its timeout at the latest.
    fn left(&self, loads: &[Arc<Snapshot>], elapsed: Nanos) -> Option<f64> {
        match self.view.phase {
            Phase::Settled | Phase::ReadingBack => None,
            Phase::Draining => {
                let begun = loads.iter().map(|load| load.span + load.paused_for).max().unwrap_or(0);
                let ends = begun.saturating_add(self.facts.drain_timeout);
                Some(seconds(ends.saturating_sub(elapsed)))
            }
            _ => {
                let open = loads.iter().zip(&self.facts.loads).filter(|(load, _)| !load.draining);
                open.map(|(load, end)| self.left_of(load, end))
                    .try_fold(0.0, |most: f64, left| Some(left?.max(most)))
            }
        }
    }

    fn left_of(&self, load: &Snapshot, end: &LoadEnd) -> Option<f64> {
        let timed = load.left.map(seconds);
        // A closed loop that ends with its records goes on as it did in the last second.
        let counted = end.records.filter(|_| load.schedule_rps.is_none()).and_then(|records| {
            let rate = self.view.rate.acked;
            (rate > 0.0).then(|| records.saturating_sub(load.scheduled) as f64 / rate)
        });
        timed.into_iter().chain(counted).reduce(f64::min)
    }
}

impl TimesSoFar {
    fn sum(loads: &[Arc<Snapshot>]) -> Self {
        let empty = Snapshot::empty();
        let mut loads = loads.iter().map(Arc::as_ref);
        let first = &loads.next().unwrap_or(&empty).account;
        let (response, service) = (first.response_time.histogram(), first.service_time.histogram());
        let mut sum = Self { response: response.clone(), service: service.clone() };
        for load in loads {
            // A sum that grows, which is all that adding asks for.
            let _ = sum.response.add(load.account.response_time.histogram());
            let _ = sum.service.add(load.account.service_time.histogram());
        }
        sum
    }

    fn since(&self, before: &Self) -> Self {
        let mut since = self.clone();
        // Counts only ever grow, which is all that subtracting asks for.
        let _ = since.response.subtract(&before.response);
        let _ = since.service.subtract(&before.service);
        since
    }

    fn percentiles(&self) -> Times {
        let of = |times: &Histogram<u64>| {
            (!times.is_empty()).then(|| Percentiles::new(|quantile| times.value_at_quantile(quantile)))
        };
        Times { response: of(&self.response), service: of(&self.service) }
    }
}

fn records(loads: &[Arc<Snapshot>]) -> Records {
    let mut sum = Records::default();
    for load in loads {
        let ledger = &load.account.ledger;
        sum.scheduled += load.scheduled;
        sum.acked += ledger.acked;
        sum.failed += ledger.failed;
        sum.expired += ledger.expired;
        sum.dropped += ledger.dropped;
        sum.possible_duplicates += ledger.possible_duplicates;
        sum.payload_failures += load.payload_failures;
        sum.throttled_entries += load.account.throttled_entries;
        sum.retried_entries += load.account.retried_entries;
    }
    sum
}

fn way(loads: &[Arc<Snapshot>]) -> Way {
    let mut sum = Way::default();
    for load in loads {
        sum.backlog_records += load.backlog_records;
        sum.in_flight_requests += load.in_flight_requests;
        sum.in_flight_bytes += load.in_flight_bytes;
    }
    sum
}

fn counted(load: &Snapshot) -> Counted {
    let ledger = &load.account.ledger;
    Counted {
        acked: ledger.acked,
        throttled: load.account.throttled_entries,
        lost: ledger.lost() + ledger.dropped,
    }
}

/// The shards of all loads; those of a stream that loads share are one.
fn shards(loads: &[Arc<Snapshot>]) -> BTreeMap<(usize, ShardId), ShardCounts> {
    let mut shards: BTreeMap<_, ShardCounts> = BTreeMap::new();
    for shard in loads.iter().flat_map(|load| &load.account.shards) {
        let sum = shards.entry((shard.stream, shard.id)).or_default();
        sum.accepted += shard.accepted;
        sum.throttled += shard.throttled;
        sum.limit = sum.limit.into_iter().chain(shard.limit).reduce(|a, b| a + b);
    }
    shards
}

fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / SECOND as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinesis::ShardId;

    fn facts(loads: usize) -> Facts {
        let load = |n: usize| LoadEnd { name: format!("load-{n}"), records: Some(1000) };
        Facts {
            run_id: "b5f31f5c".into(),
            streams: vec!["ticks".into()],
            loads: (0..loads).map(load).collect(),
            drain_timeout: 10 * SECOND,
            reads_back: false,
        }
    }

    /// A load of 100/s with 20 s in all, each record acked at once in `millis`.
    fn load(at: Nanos, millis: u64) -> Snapshot {
        let acked = at / SECOND * 100;
        let mut load = Snapshot { elapsed: at, span: at, scheduled: acked, ..Snapshot::empty() };
        (load.target_rps, load.schedule_rps) = (Some(100.0), Some(100.0));
        load.left = Some(20 * SECOND - at);
        (load.account.ledger.generated, load.account.ledger.acked) = (acked, acked);
        load.account.response_time.record(millis * 1_000_000, acked);
        let shard = load.account.shard(0, ShardId(3));
        load.account.shards[shard].accepted = acked;
        load.account.shards[shard].limit = Some(986.0);
        load
    }

    fn take(model: &mut Model, loads: &[Snapshot]) -> View {
        let loads: Vec<_> = loads.iter().cloned().map(Arc::new).collect();
        model.take(&loads).clone()
    }

    #[test]
    fn rates_are_those_of_the_last_second() {
        let mut model = Model::new(facts(1));
        take(&mut model, &[load(SECOND, 5)]);
        let mut now = load(3 * SECOND, 5);
        (now.account.throttled_entries, now.account.ledger.dropped) = (10, 4);
        let view = take(&mut model, &[now]);
        let second = Second { at: 3.0, acked: 100.0, target: Some(100.0), throttled: 5.0, lost: 2.0 };
        assert_eq!((view.rate, view.history.len()), (second, 2));
        assert_eq!(view.shards, [Shard { id: 3, accepted: 100.0, limit: Some(986.0), ..Shard::default() }]);
        // Less than a second later the counts are new and the rates are not.
        let view = take(&mut model, &[load(3 * SECOND + SECOND / 2, 5)]);
        assert_eq!((view.rate, view.history.len(), view.records.dropped), (second, 2, 0));
    }

    #[test]
    fn recent_times_forget_what_is_older_than_five_seconds() {
        let mut model = Model::new(facts(1));
        let mut now = load(SECOND, 500);
        for second in 1..=8 {
            (now.elapsed, now.span) = (second * SECOND, second * SECOND);
            now.account.response_time.record(5_000_000, 100);
            take(&mut model, &[now.clone()]);
        }
        let view = take(&mut model, &[now]);
        assert!((view.recent.response.unwrap().max - 5.0).abs() < 0.1, "{:?}", view.recent);
        assert!((view.whole.response.unwrap().max - 500.0).abs() < 1.0);
        assert!((view.recent_s - 5.0).abs() < 1e-9, "{}", view.recent_s);
    }

    #[test]
    fn loads_are_summed_and_a_closed_loop_leaves_no_target() {
        let mut model = Model::new(facts(2));
        let view = take(&mut model, &[load(SECOND, 5), load(SECOND, 9)]);
        assert_eq!((view.rate.acked, view.rate.target, view.records.acked), (200.0, Some(200.0), 200));
        assert_eq!((view.loads.len(), view.loads[1].name.as_str()), (2, "load-1"));
        assert_eq!(view.shards[0].limit, Some(1972.0));
        let mut closed = load(2 * SECOND, 5);
        (closed.target_rps, closed.schedule_rps, closed.left) = (None, None, None);
        let view = take(&mut model, &[load(2 * SECOND, 5), closed]);
        assert_eq!((view.rate.target, view.loads[1].rate.target), (None, None));
        // The closed loop has 800 records to go, at the 200/s of both; the other has 18 s.
        assert_eq!(view.left, Some(18.0));
    }

    #[test]
    fn phases_follow_the_run() {
        let mut model = Model::new(facts(1));
        let mut now = load(SECOND, 5);
        now.account.warmup_span = 2 * SECOND;
        assert_eq!(take(&mut model, &[now.clone()]).phase, Phase::Warmup);
        now.elapsed = 2 * SECOND;
        assert_eq!(take(&mut model, &[now.clone()]).phase, Phase::Running);
        now.paused = true;
        assert_eq!(take(&mut model, &[now.clone()]).phase, Phase::Paused);
        // Nine of ten seconds of the drain are left.
        (now.draining, now.unsettled, now.elapsed, now.paused_for) = (true, 3, 3 * SECOND, SECOND);
        let view = take(&mut model, &[now.clone()]);
        assert_eq!((view.phase, view.left), (Phase::Draining, Some(9.0)));
        now.unsettled = 0;
        assert_eq!(take(&mut model, &[now.clone()]).phase, Phase::Settled);
        model.facts.reads_back = true;
        assert_eq!(take(&mut model, &[now]).phase, Phase::ReadingBack);
    }

    #[test]
    fn a_shard_that_was_closed_is_not_shown() {
        let mut model = Model::new(facts(1));
        let mut now = load(SECOND, 5);
        now.account.shard(0, ShardId(9));
        assert_eq!(take(&mut model, &[now]).shards.len(), 1);
    }
}
