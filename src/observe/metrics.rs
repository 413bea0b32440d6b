use super::exposition::Exposed;
use crate::producer::{
    Account, Cause, Durations, EntryOutcome, FlushReason, Holdup, RequestOutcome, ShardAccount, Snapshot,
};
use metrics::{Counter, Gauge, counter, gauge, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A metric as documented in docs/METRICS.md.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// Its unit.
    pub unit: &'static str,
    /// What it means.
    pub help: &'static str,
}

/// The kinds of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Prometheus' own words
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

impl MetricKind {
    /// The name in Prometheus' text form.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

macro_rules! metrics_table {
    ($($id:ident = $name:literal $kind:ident [$($label:literal)*] $unit:literal $help:literal)*) => {
        /// Every metric.
        pub const METRICS: &[Metric] = &[$($id),*];
        $(const $id: Metric = Metric {
            name: $name, kind: MetricKind::$kind, labels: &[$($label),*], unit: $unit, help: $help,
        };)*
    };
}

metrics_table! {
    RECORDS = "tickgen_records_total" Counter ["outcome"] "user records"
        "User records settled: acked, failed or expired, or dropped before they were made."
    LOST = "tickgen_lost_records_total" Counter ["cause"] "user records"
        "Failed and expired user records by the cause of their last failure."
    SCHEDULED = "tickgen_scheduled_records_total" Counter [] "user records"
        "User records that fell due by the schedule."
    GENERATED = "tickgen_generated_records_total" Counter [] "user records"
        "User records made."
    POSSIBLE_DUPLICATES = "tickgen_possible_duplicates_total" Counter [] "user records"
        "User records sent again after an answer that left their fate open."
    MISROUTED = "tickgen_misrouted_records_total" Counter [] "user records"
        "Acked user records that a shard other than the expected one took."
    ENTRIES = "tickgen_entries_total" Counter ["code"] "Kinesis records"
        "Entries of answered requests by result: ok, the error code of the entry, or request_failed."
    RETRIED_ENTRIES = "tickgen_retried_entries_total" Counter [] "Kinesis records"
        "Failed entries whose records were kept to be sent again."
    REQUESTS = "tickgen_requests_total" Counter ["outcome"] "requests"
        "PutRecords requests answered or given up, by outcome."
    FLUSHES = "tickgen_flushes_total" Counter ["reason"] "batches"
        "Batches by why they left: entries, bytes, linger or drain."
    SENT_BYTES = "tickgen_sent_bytes_total" Counter [] "bytes"
        "Bytes of all entries sent, resends included: data before base64 plus partition keys."
    ACCEPTED_BYTES = "tickgen_accepted_bytes_total" Counter [] "bytes"
        "Bytes of accepted entries: data before base64 plus partition keys."
    SHARD_ACCEPTED = "tickgen_shard_accepted_total" Counter ["shard"] "Kinesis records"
        "Kinesis records accepted by a shard; the first 64 shards by name, the others as other."
    SHARD_THROTTLED = "tickgen_shard_throttled_total" Counter ["shard"] "Kinesis records"
        "Kinesis records throttled by a shard; the first 64 shards by name, the others as other."
    SHARD_LIMIT = "tickgen_shard_limit_records_per_second" Gauge ["shard"] "Kinesis records per second"
        "What the limit of a shard admits at present, +Inf without a limit, 0 once it is closed; the first 64 shards by name, the others as other."
    SHARD_EXPECTED = "tickgen_shard_expected_records" Gauge ["shard"] "user records"
        "User records made that were expected to go to a shard, by their keys and the shard map, NaN if unknown; the first 64 shards by name, the others as other."
    TARGET = "tickgen_target_records_per_second" Gauge [] "user records per second"
        "The rate that is offered now, by all loads; +Inf in a closed loop (--rps max)."
    ACHIEVED = "tickgen_achieved_records_per_second" Gauge [] "user records per second"
        "Acked user records per second of the schedule so far."
    IN_FLIGHT_REQUESTS = "tickgen_in_flight_requests" Gauge [] "requests"
        "Requests that wait for their answer; bounded by --max-requests and --max-connections."
    IN_FLIGHT_BYTES = "tickgen_in_flight_bytes" Gauge [] "bytes"
        "Bytes of request bodies that wait for their answer; bounded by --max-in-flight-bytes."
    BACKLOG = "tickgen_backlog_records" Gauge [] "user records"
        "User records that wait to be sent or sent again."
    UNSETTLED = "tickgen_unsettled_records" Gauge [] "user records"
        "User records made and not settled, waiting or in flight; bounded by --max-backlog."
    CONNECTIONS = "tickgen_connections" Gauge [] "connections"
        "Open connections to the endpoint; bounded by --max-connections."
    SHARDS = "tickgen_shards" Gauge [] "shards"
        "Shards seen in the run."
    RESPONSE_TIME = "tickgen_response_time_seconds" Histogram [] "seconds"
        "Acked user records by the time from their intended start to the answer."
    SCHEDULE_LAG = "tickgen_schedule_lag_seconds" Histogram [] "seconds"
        "Acked user records by the time from their intended start until they were made."
    QUEUE_TIME = "tickgen_queue_time_seconds" Histogram [] "seconds"
        "Acked user records by the time from then to the start of their successful attempt."
    START_LATENESS = "tickgen_start_lateness_seconds" Histogram [] "seconds"
        "User records made, acked or not, by how long after their intended start that was."
    SERVICE_TIME = "tickgen_service_time_seconds" Histogram [] "seconds"
        "Acked user records by the time of their successful attempt, from its start to the answer."
    HELD_IN_FLIGHT = "tickgen_held_in_flight_ratio" Gauge [] "share of the run"
        "Share of the run so far in which batches waited for room in flight."
    HELD_BY_SHARDS = "tickgen_held_shard_limit_ratio" Gauge [] "share of the run"
        "Share of the run so far in which all that waited, waited for its shard's limit."
    LOAD_RECORDS = "tickgen_load_records_total" Counter ["load" "outcome"] "user records"
        "User records of each [[load]] settled or dropped; tickgen_records_total is of all together."
    LOAD_SCHEDULED = "tickgen_load_scheduled_records_total" Counter ["load"] "user records"
        "User records of each [[load]] that fell due."
    LOAD_TARGET = "tickgen_load_target_records_per_second" Gauge ["load"] "user records per second"
        "The rate that each [[load]] offers now; +Inf in a closed loop."
    LOAD_RESPONSE_TIME = "tickgen_load_response_time_seconds" Histogram ["load"] "seconds"
        "Acked user records of each [[load]] by the time from their intended start to the answer."
    LOAD_SERVICE_TIME = "tickgen_load_service_time_seconds" Histogram ["load"] "seconds"
        "Acked user records of each [[load]] by the time of their successful attempt."
    BATCH_ENTRIES = "tickgen_batch_entries" Histogram [] "entries"
        "Requests by their number of entries."
}

/// Shards with a label of their own; those past them are summed as `other`.
const LABELLED_SHARDS: usize = 64;

const SECONDS: &[f64] =
    &[0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const ENTRIES_BUCKETS: &[f64] = &[1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0];

/// Figures of a run that no engine knows.
#[derive(Clone, Debug)]
pub struct RunGauges {
    /// Open connections, of each stream.
    pub connections: Vec<Arc<AtomicUsize>>,
    /// The names of the loads; empty for the only one of a run.
    pub loads: Vec<String>,
    /// The names of the streams.
    pub streams: Vec<String>,
}

impl RunGauges {
    /// The label of a shard: its id, after its stream's name if there are several.
    fn shard_label(&self, shard: &ShardAccount) -> String {
        match self.streams.get(shard.stream) {
            Some(stream) if self.streams.len() > 1 => format!("{stream}/{}", shard.id),
            _ => shard.id.to_string(),
        }
    }
}

/// Every metric, rendered from a snapshot. Handles are looked up once, here.
pub struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    run: RunGauges,
    handles: Mutex<Handles>,
}

struct Handles {
    counters: Vec<(Counter, Read<u64>)>,
    gauges: Vec<(Gauge, Read<f64>)>,
    /// Of each load that has a name.
    loads: Vec<LoadHandles>,
    connections: Gauge,
    shards: Vec<ShardHandles>,
}

struct ShardHandles {
    accepted: Counter,
    throttled: Counter,
    limit: Gauge,
    expected: Gauge,
}

struct LoadHandles {
    /// Its place among the loads.
    place: usize,
    counters: Vec<(Counter, Read<u64>)>,
    target: Gauge,
}

/// Reads a figure from a snapshot.
type Read<T> = Box<dyn Fn(&Snapshot) -> T + Send>;

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("run", &self.run).finish_non_exhaustive()
    }
}

impl Metrics {
    /// The metrics of a run.
    #[must_use]
    pub fn new(run: RunGauges) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let handles = with_local_recorder(&recorder, || {
            describe();
            Handles::register(&run)
        });
        Self { recorder, handle, run, handles: Mutex::new(handles) }
    }

    /// The text that Prometheus scrapes, from the snapshot of each load.
    #[must_use]
    pub fn render(&self, loads: &[Arc<Snapshot>]) -> String {
        let mut all = Snapshot::empty();
        for load in loads {
            all.merge(load);
        }
        let mut handles = self.handles.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        with_local_recorder(&self.recorder, || handles.update(&all, loads, &self.run));
        drop(handles);
        self.handle.run_upkeep();
        let mut text = self.handle.render();
        for (metric, times) in TIMES {
            Exposed::render_head(metric.name, metric.help, &mut text);
            exposed(metric, None, times(&all.account)).render(&mut text);
        }
        for (metric, times) in LOAD_TIMES {
            Exposed::render_head(metric.name, metric.help, &mut text);
            for (load, snapshot) in self.run.loads.iter().zip(loads).filter(|(load, _)| !load.is_empty()) {
                exposed(metric, Some(load), times(&snapshot.account)).render(&mut text);
            }
        }
        Exposed::render_head(BATCH_ENTRIES.name, BATCH_ENTRIES.help, &mut text);
        let entries = Exposed {
            name: BATCH_ENTRIES.name,
            load: None,
            histogram: &all.account.batch_entries,
            sum: all.account.entries_sent as f64,
            buckets: ENTRIES_BUCKETS,
            units: 1.0,
        };
        entries.render(&mut text);
        text
    }
}

/// A histogram of times, and where it is in an account.
type Times = (Metric, fn(&Account) -> &Durations);

const TIMES: [Times; 5] = [
    (RESPONSE_TIME, |account| &account.response_time),
    (SCHEDULE_LAG, |account| &account.schedule_lag),
    (QUEUE_TIME, |account| &account.queue_time),
    (SERVICE_TIME, |account| &account.service_time),
    (START_LATENESS, |account| &account.start_lateness),
];

const LOAD_TIMES: [Times; 2] = [
    (LOAD_RESPONSE_TIME, |account| &account.response_time),
    (LOAD_SERVICE_TIME, |account| &account.service_time),
];

fn exposed<'a>(metric: Metric, load: Option<&'a str>, times: &'a Durations) -> Exposed<'a> {
    let (histogram, sum) = (times.histogram(), times.sum_seconds());
    Exposed { name: metric.name, load, histogram, sum, buckets: SECONDS, units: 1e6 }
}

fn describe() {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(metric.name, metric.help),
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            MetricKind::Histogram => {}
        }
    }
}

impl Handles {
    fn register(run: &RunGauges) -> Self {
        let named = run.loads.iter().enumerate().filter(|(_, name)| !name.is_empty());
        Self {
            counters: counters(),
            gauges: gauges(),
            loads: named.map(|(place, name)| LoadHandles::register(place, name)).collect(),
            connections: gauge!(CONNECTIONS.name),
            shards: Vec::new(),
        }
    }

    fn update(&mut self, all: &Snapshot, loads: &[Arc<Snapshot>], run: &RunGauges) {
        for (counter, read) in &self.counters {
            counter.absolute(read(all));
        }
        for (gauge, read) in &self.gauges {
            gauge.set(read(all));
        }
        for load in &self.loads {
            let Some(snapshot) = loads.get(load.place) else { continue };
            for (counter, read) in &load.counters {
                counter.absolute(read(snapshot));
            }
            load.target.set(target(snapshot));
        }
        let connections: usize = run.connections.iter().map(|open| open.load(Ordering::Relaxed)).sum();
        self.connections.set(connections as f64);
        self.update_shards(all, run);
    }

    fn update_shards(&mut self, snapshot: &Snapshot, run: &RunGauges) {
        let shards = &snapshot.account.shards;
        for shard in shards.iter().take(LABELLED_SHARDS + 1).skip(self.shards.len()) {
            let name =
                if self.shards.len() < LABELLED_SHARDS { run.shard_label(shard) } else { "other".into() };
            self.shards.push(ShardHandles {
                accepted: counter!(SHARD_ACCEPTED.name, "shard" => name.clone()),
                throttled: counter!(SHARD_THROTTLED.name, "shard" => name.clone()),
                limit: gauge!(SHARD_LIMIT.name, "shard" => name.clone()),
                expected: gauge!(SHARD_EXPECTED.name, "shard" => name),
            });
        }
        let no_limit = if shards.iter().any(|shard| shard.limit.is_some()) { 0.0 } else { f64::INFINITY };
        let sum = |figures: &mut dyn Iterator<Item = f64>| figures.reduce(|a, b| a + b);
        for (place, handles) in self.shards.iter().enumerate() {
            let own = if place < LABELLED_SHARDS { &shards[place..=place] } else { &shards[place..] };
            handles.accepted.absolute(own.iter().map(|shard| shard.accepted).sum());
            handles.throttled.absolute(own.iter().map(|shard| shard.throttled).sum());
            let limit = sum(&mut own.iter().filter_map(|shard| shard.limit));
            handles.limit.set(limit.unwrap_or(no_limit));
            let expected = sum(&mut own.iter().filter_map(|shard| shard.expected));
            handles.expected.set(expected.unwrap_or(f64::NAN));
        }
    }
}

impl LoadHandles {
    fn register(place: usize, name: &str) -> Self {
        let mut counters =
            vec![(counter!(LOAD_SCHEDULED.name, "load" => name.to_owned()), read(|s| s.scheduled))];
        for (outcome, of) in outcomes() {
            let counter = counter!(LOAD_RECORDS.name, "load" => name.to_owned(), "outcome" => outcome);
            counters.push((counter, of));
        }
        Self { place, counters, target: gauge!(LOAD_TARGET.name, "load" => name.to_owned()) }
    }
}

fn target(snapshot: &Snapshot) -> f64 {
    snapshot.target_rps.unwrap_or(f64::INFINITY)
}

fn read(of: impl Fn(&Snapshot) -> u64 + Send + 'static) -> Read<u64> {
    Box::new(of)
}

/// What becomes of records.
fn outcomes() -> [(&'static str, Read<u64>); 4] {
    [
        ("acked", read(|s| s.account.ledger.acked)),
        ("failed", read(|s| s.account.ledger.failed)),
        ("expired", read(|s| s.account.ledger.expired)),
        ("dropped", read(|s| s.account.ledger.dropped)),
    ]
}

fn counters() -> Vec<(Counter, Read<u64>)> {
    let mut counters = vec![
        (counter!(SCHEDULED.name), read(|s| s.scheduled)),
        (counter!(GENERATED.name), read(|s| s.account.ledger.generated)),
        (counter!(POSSIBLE_DUPLICATES.name), read(|s| s.account.ledger.possible_duplicates)),
        (counter!(MISROUTED.name), read(|s| s.account.ledger.misrouted)),
        (counter!(RETRIED_ENTRIES.name), read(|s| s.account.retried_entries)),
        (counter!(SENT_BYTES.name), read(|s| s.account.sent_bytes)),
        (counter!(ACCEPTED_BYTES.name), read(|s| s.account.accepted_bytes)),
    ];
    for (outcome, of) in outcomes() {
        counters.push((counter!(RECORDS.name, "outcome" => outcome), of));
    }
    for cause in Cause::ALL {
        let counter = counter!(LOST.name, "cause" => cause.name());
        counters.push((counter, read(move |s| s.account.ledger.lost_by(cause))));
    }
    for outcome in EntryOutcome::ALL {
        let counter = counter!(ENTRIES.name, "code" => outcome.code());
        counters.push((counter, read(move |s| s.account.entries.of(outcome))));
    }
    for outcome in RequestOutcome::ALL {
        let counter = counter!(REQUESTS.name, "outcome" => outcome.name());
        counters.push((counter, read(move |s| s.account.requests.of(outcome))));
    }
    for reason in FlushReason::ALL {
        let counter = counter!(FLUSHES.name, "reason" => reason.name());
        counters.push((counter, read(move |s| s.account.flushes.of(reason))));
    }
    counters
}

fn gauges() -> Vec<(Gauge, Read<f64>)> {
    fn read(of: impl Fn(&Snapshot) -> f64 + Send + 'static) -> Read<f64> {
        Box::new(of)
    }
    vec![
        (gauge!(TARGET.name), read(target)),
        (gauge!(ACHIEVED.name), read(Snapshot::achieved_rps)),
        (gauge!(IN_FLIGHT_REQUESTS.name), read(|s| s.in_flight_requests as f64)),
        (gauge!(IN_FLIGHT_BYTES.name), read(|s| s.in_flight_bytes as f64)),
        (gauge!(BACKLOG.name), read(|s| s.backlog_records as f64)),
        (gauge!(UNSETTLED.name), read(|s| s.unsettled as f64)),
        (gauge!(HELD_IN_FLIGHT.name), read(|s| s.held_share(Holdup::InFlight))),
        (gauge!(HELD_BY_SHARDS.name), read(|s| s.held_share(Holdup::ShardLimit))),
        (gauge!(SHARDS.name), read(|s| s.account.shards.len() as f64)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn metrics() -> Metrics {
        Metrics::new(RunGauges {
            connections: Vec::new(),
            loads: vec!["a".into(), "b".into()],
            streams: Vec::new(),
        })
    }

    /// Names with their types, and every label name, as rendered.
    fn rendered(text: &str) -> (BTreeMap<String, String>, Vec<String>) {
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let types = types.filter_map(|line| line.split_once(' ')).map(|(n, t)| (n.into(), t.into()));
        let labels = text.lines().filter(|line| !line.starts_with('#'));
        let labels = labels.filter_map(|line| Some(line.split_once('{')?.1.split_once('=')?.0.to_owned()));
        (types.collect(), labels.collect())
    }

    fn know_shards(snapshot: &mut Snapshot, count: u64) {
        for id in 0..count {
            snapshot.account.shard(0, crate::kinesis::ShardId(id));
        }
    }

    #[test]
    fn the_table_is_what_is_rendered() {
        let mut snapshot = Snapshot::empty();
        know_shards(&mut snapshot, 3);
        let (types, labels) = rendered(&metrics().render(&[Arc::new(snapshot)]));
        let table: BTreeMap<String, String> =
            METRICS.iter().map(|m| (m.name.to_owned(), m.kind.name().to_owned())).collect();
        assert_eq!(types, table);
        for label in labels.iter().filter(|label| *label != "le") {
            assert!(METRICS.iter().any(|m| m.labels.contains(&label.as_str())), "{label}");
        }
    }

    #[test]
    fn names_follow_prometheus_conventions() {
        for metric in METRICS {
            assert!(metric.name.starts_with("tickgen_"), "{}", metric.name);
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == MetricKind::Counter,
                "{}",
                metric.name
            );
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn shards_past_the_64th_are_summed() {
        let mut snapshot = Snapshot::empty();
        know_shards(&mut snapshot, 100);
        for shard in &mut snapshot.account.shards {
            shard.accepted = 1;
        }
        for shard in &mut snapshot.account.shards[..70] {
            shard.limit = Some(500.0);
        }
        let metrics = metrics();
        let text = metrics.render(&[Arc::new(snapshot.clone())]);
        assert_eq!(text.matches("tickgen_shard_accepted_total{").count(), 65);
        assert!(text.contains("tickgen_shard_accepted_total{shard=\"other\"} 36"), "{text}");
        assert!(text.contains("tickgen_shard_accepted_total{shard=\"shardId-000000000063\"} 1"));
        assert!(text.contains("tickgen_shard_limit_records_per_second{shard=\"other\"} 3000"), "{text}");
        assert!(text.contains("tickgen_shard_limit_records_per_second{shard=\"shardId-000000000063\"} 500"));
        // A limit that is there no more is of a closed shard; none at all is no limit.
        snapshot.account.shards[3].limit = None;
        let text = metrics.render(&[Arc::new(snapshot.clone())]);
        assert!(text.contains("tickgen_shard_limit_records_per_second{shard=\"shardId-000000000003\"} 0"));
        for shard in &mut snapshot.account.shards {
            shard.limit = None;
        }
        let text = metrics.render(&[Arc::new(snapshot.clone())]);
        assert!(text.contains("tickgen_shard_limit_records_per_second{shard=\"shardId-000000000003\"} inf"));
    }
}
