use super::exposition::Exposed;
use crate::producer::{Cause, EntryOutcome, FlushReason, RequestOutcome, Snapshot};
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
    TARGET = "tickgen_target_records_per_second" Gauge [] "user records per second"
        "The rate to be offered; +Inf in a closed loop (--rps max)."
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
    SERVICE_TIME = "tickgen_service_time_seconds" Histogram [] "seconds"
        "Acked user records by the time of their successful attempt, from its start to the answer."
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
    /// Records per second to be offered; `None` in a closed loop.
    pub target_rps: Option<f64>,
    /// Open connections.
    pub connections: Arc<AtomicUsize>,
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
    connections: Gauge,
    shards: Vec<(Counter, Counter, Gauge)>,
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

    /// The text that Prometheus scrapes.
    #[must_use]
    pub fn render(&self, snapshot: &Snapshot) -> String {
        let mut handles = self.handles.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        with_local_recorder(&self.recorder, || handles.update(snapshot, &self.run));
        drop(handles);
        self.handle.run_upkeep();
        let mut text = self.handle.render();
        let account = &snapshot.account;
        let times = [(RESPONSE_TIME, &account.response_time), (SERVICE_TIME, &account.service_time)];
        for (metric, durations) in times {
            let exposed = Exposed {
                name: metric.name,
                help: metric.help,
                histogram: durations.histogram(),
                sum: durations.sum_seconds(),
                buckets: SECONDS,
                units: 1e6,
            };
            exposed.render(&mut text);
        }
        let exposed = Exposed {
            name: BATCH_ENTRIES.name,
            help: BATCH_ENTRIES.help,
            histogram: &account.batch_entries,
            sum: account.entries_sent as f64,
            buckets: ENTRIES_BUCKETS,
            units: 1.0,
        };
        exposed.render(&mut text);
        text
    }
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
        gauge!(TARGET.name).set(run.target_rps.unwrap_or(f64::INFINITY));
        Self {
            counters: counters(),
            gauges: gauges(),
            connections: gauge!(CONNECTIONS.name),
            shards: Vec::new(),
        }
    }

    fn update(&mut self, snapshot: &Snapshot, run: &RunGauges) {
        for (counter, read) in &self.counters {
            counter.absolute(read(snapshot));
        }
        for (gauge, read) in &self.gauges {
            gauge.set(read(snapshot));
        }
        self.connections.set(run.connections.load(Ordering::Relaxed) as f64);
        self.update_shards(snapshot);
    }

    fn update_shards(&mut self, snapshot: &Snapshot) {
        let shards = &snapshot.account.shards;
        for shard in shards.iter().take(LABELLED_SHARDS + 1).skip(self.shards.len()) {
            let name =
                if self.shards.len() < LABELLED_SHARDS { shard.id.to_string() } else { "other".into() };
            self.shards.push((
                counter!(SHARD_ACCEPTED.name, "shard" => name.clone()),
                counter!(SHARD_THROTTLED.name, "shard" => name.clone()),
                gauge!(SHARD_LIMIT.name, "shard" => name),
            ));
        }
        let no_limit = if shards.iter().any(|shard| shard.limit.is_some()) { 0.0 } else { f64::INFINITY };
        for (place, (accepted, throttled, limit)) in self.shards.iter().enumerate() {
            let own = if place < LABELLED_SHARDS { &shards[place..=place] } else { &shards[place..] };
            accepted.absolute(own.iter().map(|shard| shard.accepted).sum());
            throttled.absolute(own.iter().map(|shard| shard.throttled).sum());
            limit.set(own.iter().filter_map(|shard| shard.limit).reduce(|a, b| a + b).unwrap_or(no_limit));
        }
    }
}

fn counters() -> Vec<(Counter, Read<u64>)> {
    fn read(of: impl Fn(&Snapshot) -> u64 + Send + 'static) -> Read<u64> {
        Box::new(of)
    }
    let records = |outcome: &'static str| counter!(RECORDS.name, "outcome" => outcome);
    let mut counters = vec![
        (counter!(SCHEDULED.name), read(|s| s.scheduled)),
        (counter!(GENERATED.name), read(|s| s.account.ledger.generated)),
        (counter!(POSSIBLE_DUPLICATES.name), read(|s| s.account.ledger.possible_duplicates)),
        (counter!(MISROUTED.name), read(|s| s.account.ledger.misrouted)),
        (counter!(RETRIED_ENTRIES.name), read(|s| s.account.retried_entries)),
        (counter!(SENT_BYTES.name), read(|s| s.account.sent_bytes)),
        (counter!(ACCEPTED_BYTES.name), read(|s| s.account.accepted_bytes)),
        (records("acked"), read(|s| s.account.ledger.acked)),
        (records("failed"), read(|s| s.account.ledger.failed)),
        (records("expired"), read(|s| s.account.ledger.expired)),
        (records("dropped"), read(|s| s.account.ledger.dropped)),
    ];
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
        (gauge!(ACHIEVED.name), read(Snapshot::achieved_rps)),
        (gauge!(IN_FLIGHT_REQUESTS.name), read(|s| s.in_flight_requests as f64)),
        (gauge!(IN_FLIGHT_BYTES.name), read(|s| s.in_flight_bytes as f64)),
        (gauge!(BACKLOG.name), read(|s| s.backlog_records as f64)),
        (gauge!(UNSETTLED.name), read(|s| s.unsettled as f64)),
        (gauge!(SHARDS.name), read(|s| s.account.shards.len() as f64)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn metrics() -> Metrics {
        Metrics::new(RunGauges { target_rps: Some(5000.0), connections: Arc::default() })
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
            snapshot.account.shard(crate::kinesis::ShardId(id));
        }
    }

    #[test]
    fn the_table_is_what_is_rendered() {
        let mut snapshot = Snapshot::empty();
        know_shards(&mut snapshot, 3);
        let (types, labels) = rendered(&metrics().render(&snapshot));
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
        let text = metrics.render(&snapshot);
        assert_eq!(text.matches("tickgen_shard_accepted_total{").count(), 65);
        assert!(text.contains("tickgen_shard_accepted_total{shard=\"other\"} 36"), "{text}");
        assert!(text.contains("tickgen_shard_accepted_total{shard=\"shardId-000000000063\"} 1"));
        assert!(text.contains("tickgen_shard_limit_records_per_second{shard=\"other\"} 3000"), "{text}");
        assert!(text.contains("tickgen_shard_limit_records_per_second{shard=\"shardId-000000000063\"} 500"));
        // A limit that is there no more is of a closed shard; none at all is no limit.
        snapshot.account.shards[3].limit = None;
        let text = metrics.render(&snapshot);
        assert!(text.contains("tickgen_shard_limit_records_per_second{shard=\"shardId-000000000003\"} 0"));
        for shard in &mut snapshot.account.shards {
            shard.limit = None;
        }
        let text = metrics.render(&snapshot);
        assert!(text.contains("tickgen_shard_limit_records_per_second{shard=\"shardId-000000000003\"} inf"));
    }
}
