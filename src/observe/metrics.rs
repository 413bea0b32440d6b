#[cfg(any(feature = "native-histograms", feature = "otlp"))]
mod families;
mod table;

#[cfg(any(feature = "native-histograms", feature = "otlp"))]
pub use families::Families;
#[cfg(any(feature = "native-histograms", feature = "otlp"))]
pub(super) use families::{Family, Point, Value};

pub use table::{METRICS, Metric, MetricKind};

use super::Ceiling;
use super::exposition::Exposed;
use crate::producer::{
    Account, Cause, Durations, EntryOutcome, FlushReason, Holdup, RequestOutcome, ShardAccount, Snapshot,
};
use metrics::{Counter, Gauge, counter, gauge, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use table::{
    ACCEPTED_BYTES, ACHIEVED, BACKLOG, BATCH_ENTRIES, CEILING, CONNECTIONS, CPU, ENTRIES, FLUSHES, GENERATED,
    HELD_BY_SHARDS, HELD_IN_FLIGHT, IN_FLIGHT_BYTES, IN_FLIGHT_REQUESTS, LOAD_RECORDS, LOAD_RESPONSE_TIME,
    LOAD_SCHEDULED, LOAD_SERVICE_TIME, LOAD_TARGET, LOST, MEMORY, MISROUTED, POSSIBLE_DUPLICATES, PROCESSORS,
    QUEUE_TIME, RECORDS, REQUESTS, RESPONSE_TIME, RETRIED_ENTRIES, RUN_INFO, SCHEDULE_LAG, SCHEDULED,
    SENT_BYTES, SERVICE_TIME, SHARD_ACCEPTED, SHARD_EXPECTED, SHARD_LIMIT, SHARD_THROTTLED, SHARDS,
    START_LATENESS, TARGET, UNSETTLED,
};

/// Shards with a label of their own; those past them are summed as `other`, for each stream.
const LABELLED_SHARDS: usize = 64;

const SECONDS: &[f64] =
    &[0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const ENTRIES_BUCKETS: &[f64] = &[1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0];

/// Figures of a run that no engine knows.
#[derive(Clone, Debug)]
pub struct RunGauges {
    /// Open connections, of each stream.
    pub connections: Vec<Arc<AtomicUsize>>,
    /// The names of the loads.
    pub loads: Vec<String>,
    /// The names of the streams.
    pub streams: Vec<String>,
    /// The run's id.
    pub run_id: String,
    /// What this machine can send, if it was calibrated.
    pub ceiling: Option<Ceiling>,
    /// What the system counts for the process, if it does.
    pub process: fn() -> Option<ProcessFigures>,
}

/// What the system counts for the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFigures {
    /// Processor time so far, user and system.
    pub cpu_seconds: f64,
    /// Memory that is resident.
    pub resident_bytes: u64,
    /// Processors that it may use.
    pub processors: usize,
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
    /// Of each load.
    loads: Vec<LoadHandles>,
    connections: Gauge,
    /// Of the first shards, each its own.
    shards: Vec<ShardHandles>,
    /// Of the others, by the place of their stream.
    others: BTreeMap<usize, ShardHandles>,
}

struct ShardHandles {
    accepted: Counter,
    throttled: Counter,
    limit: Gauge,
    expected: Gauge,
}

struct LoadHandles {
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
        let all = Snapshot::sum(loads.iter().map(Arc::as_ref));
        let mut handles = self.handles.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        with_local_recorder(&self.recorder, || handles.update(&all, loads, &self.run));
        drop(handles);
        self.handle.run_upkeep();
        let mut text = self.handle.render();
        for (metric, value) in machine(&self.run) {
            render_value(metric, value, &mut text);
        }
        for (metric, histograms) in histograms(&self.run, &all, loads) {
            Exposed::render_head(metric.name, metric.help, &mut text);
            for histogram in histograms {
                histogram.render(&mut text);
            }
        }
        text
    }
}

/// What is known of the machine and of what the process takes of it.
fn machine(run: &RunGauges) -> Vec<(Metric, f64)> {
    let mut known = Vec::new();
    known.extend(run.ceiling.map(|ceiling| (CEILING, ceiling.records_per_second())));
    if let Some(figures) = (run.process)() {
        let (processors, memory) = (figures.processors as f64, figures.resident_bytes as f64);
        known.extend([(PROCESSORS, processors), (CPU, figures.cpu_seconds), (MEMORY, memory)]);
    }
    known
}

/// Every histogram, of all loads together and of each.
fn histograms<'a>(
    run: &'a RunGauges,
    all: &'a Snapshot,
    loads: &'a [Arc<Snapshot>],
) -> Vec<(Metric, Vec<Exposed<'a>>)> {
    let of_all = TIMES.map(|(metric, times)| (metric, vec![exposed(metric, None, times(&all.account))]));
    let of_loads = LOAD_TIMES.map(|(metric, times)| {
        let each = run.loads.iter().zip(loads);
        (metric, each.map(|(load, of)| exposed(metric, Some(load), times(&of.account))).collect())
    });
    let entries = Exposed {
        name: BATCH_ENTRIES.name,
        load: None,
        histogram: &all.account.batch_entries,
        sum: all.account.entries_sent as f64,
        buckets: ENTRIES_BUCKETS,
        units: 1.0,
    };
    of_all.into_iter().chain(of_loads).chain([(BATCH_ENTRIES, vec![entries])]).collect()
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

/// Appends a metric without labels. The exporter's own counters are whole numbers, and its own metrics
/// are there even where there is nothing to read.
fn render_value(metric: Metric, value: f64, out: &mut String) {
    let Metric { name, help, .. } = metric;
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {}\n{name} {value}", metric.kind.name());
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
        for stream in &run.streams {
            let (id, stream) = (run.run_id.clone(), stream.clone());
            let version = env!("CARGO_PKG_VERSION");
            gauge!(RUN_INFO.name, "run" => id, "stream" => stream, "version" => version).set(1.0);
        }
        Self {
            counters: counters(),
            gauges: gauges(),
            loads: run.loads.iter().map(|name| LoadHandles::register(name)).collect(),
            connections: gauge!(CONNECTIONS.name),
            shards: Vec::new(),
            others: BTreeMap::new(),
        }
    }

    fn update(&mut self, all: &Snapshot, loads: &[Arc<Snapshot>], run: &RunGauges) {
        for (counter, read) in &self.counters {
            counter.absolute(read(all));
        }
        for (gauge, read) in &self.gauges {
            gauge.set(read(all));
        }
        for (load, snapshot) in self.loads.iter().zip(loads) {
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
        let stream = |place: usize| run.streams.get(place).cloned().unwrap_or_default();
        let shards = &snapshot.account.shards;
        let (named, others) = shards.split_at(shards.len().min(LABELLED_SHARDS));
        let no_limit = if shards.iter().any(|shard| shard.limit.is_some()) { 0.0 } else { f64::INFINITY };
        for (place, shard) in named.iter().enumerate() {
            if place == self.shards.len() {
                self.shards.push(ShardHandles::register(stream(shard.stream), shard.id.to_string()));
            }
            self.shards[place].update(&[shard], no_limit);
        }
        let mut by_stream: BTreeMap<usize, Vec<&ShardAccount>> = BTreeMap::new();
        for shard in others {
            by_stream.entry(shard.stream).or_default().push(shard);
        }
        for (place, own) in by_stream {
            let register = || ShardHandles::register(stream(place), "other".into());
            self.others.entry(place).or_insert_with(register).update(&own, no_limit);
        }
    }
}

impl ShardHandles {
    fn register(stream: String, shard: String) -> Self {
        let labels = [("stream", stream), ("shard", shard)];
        Self {
            accepted: counter!(SHARD_ACCEPTED.name, &labels),
            throttled: counter!(SHARD_THROTTLED.name, &labels),
            limit: gauge!(SHARD_LIMIT.name, &labels),
            expected: gauge!(SHARD_EXPECTED.name, &labels),
        }
    }

    /// Shows the sum of these shards, at least one.
    fn update(&self, shards: &[&ShardAccount], no_limit: f64) {
        let sum = |figures: &mut dyn Iterator<Item = f64>| figures.reduce(|a, b| a + b);
        self.accepted.absolute(shards.iter().map(|shard| shard.accepted).sum());
        self.throttled.absolute(shards.iter().map(|shard| shard.throttled).sum());
        let limit = sum(&mut shards.iter().filter_map(|shard| shard.limit));
        self.limit.set(limit.unwrap_or(no_limit));
        let expected = sum(&mut shards.iter().filter_map(|shard| shard.expected));
        self.expected.set(expected.unwrap_or(f64::NAN));
    }
}

impl LoadHandles {
    fn register(name: &str) -> Self {
        let mut counters =
            vec![(counter!(LOAD_SCHEDULED.name, "load" => name.to_owned()), read(|s| s.scheduled))];
        for (outcome, of) in outcomes() {
            let counter = counter!(LOAD_RECORDS.name, "load" => name.to_owned(), "outcome" => outcome);
            counters.push((counter, of));
        }
        Self { counters, target: gauge!(LOAD_TARGET.name, "load" => name.to_owned()) }
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

    fn metrics() -> Metrics {
        Metrics::new(RunGauges {
            connections: Vec::new(),
            loads: vec!["a".into(), "b".into()],
            streams: vec!["s".into()],
            run_id: "r".into(),
            ceiling: Some(Ceiling { records_per_cpu_second: 1000.0, processors: 2 }),
            process: || Some(ProcessFigures::default()),
        })
    }

    /// Names with their types, and every label name, as rendered.
    fn rendered(text: &str) -> (BTreeMap<String, String>, Vec<String>) {
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let types = types.filter_map(|line| line.split_once(' ')).map(|(n, t)| (n.into(), t.into()));
        let labels = text.lines().filter(|line| !line.starts_with('#'));
        let labels = labels.filter_map(|line| line.split_once('{')).flat_map(|(_, rest)| rest.split(','));
        let labels = labels.filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
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
            // Those of the process have the names that every Prometheus client gives them.
            let ours = ["tickgen_", "process_"].iter().any(|start| metric.name.starts_with(start));
            assert!(ours, "{}", metric.name);
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
    fn the_run_and_its_process_are_told() {
        let mut metrics = metrics();
        metrics.run.process =
            || Some(ProcessFigures { cpu_seconds: 1.25, resident_bytes: 4096, processors: 2 });
        let text = metrics.render(&[Arc::new(Snapshot::empty())]);
        let version = env!("CARGO_PKG_VERSION");
        for line in [
            &format!("tickgen_run_info{{run=\"r\",stream=\"s\",version=\"{version}\"}} 1"),
            "process_cpu_seconds_total 1.25",
            "process_resident_memory_bytes 4096",
            "tickgen_processors 2",
            "tickgen_ceiling_records_per_second 2000",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
        (metrics.run.process, metrics.run.ceiling) = (|| None, None);
        let text = metrics.render(&[Arc::new(Snapshot::empty())]);
        assert!(!text.contains("process_cpu") && !text.contains("ceiling"), "{text}");
    }

    /// The first shard of every stream has the same id: only the stream tells them apart.
    #[test]
    fn shards_are_told_with_their_stream() {
        let mut metrics = metrics();
        metrics.run.streams = vec!["s".into(), "t".into()];
        let mut snapshot = Snapshot::empty();
        for (place, accepted) in [(0, 3), (1, 4)] {
            let shard = snapshot.account.shard(place, crate::kinesis::ShardId(0));
            snapshot.account.shards[shard].accepted = accepted;
        }
        for place in [0, 1] {
            for id in 1..=LABELLED_SHARDS as u64 {
                let shard = snapshot.account.shard(place, crate::kinesis::ShardId(id));
                snapshot.account.shards[shard].accepted = 1;
            }
        }
        let text = metrics.render(&[Arc::new(snapshot)]);
        for line in [
            "{stream=\"s\",shard=\"shardId-000000000000\"} 3",
            "{stream=\"t\",shard=\"shardId-000000000000\"} 4",
            "{stream=\"s\",shard=\"other\"} 2",
            "{stream=\"t\",shard=\"other\"} 64",
        ] {
            let line = format!("tickgen_shard_accepted_total{line}");
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
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
        assert!(text.contains("tickgen_shard_accepted_total{stream=\"s\",shard=\"other\"} 36"), "{text}");
        assert!(text.contains("tickgen_shard_accepted_total{stream=\"s\",shard=\"shardId-000000000063\"} 1"));
        assert!(
            text.contains("tickgen_shard_limit_records_per_second{stream=\"s\",shard=\"other\"} 3000"),
            "{text}"
        );
        assert!(text.contains(
            "tickgen_shard_limit_records_per_second{stream=\"s\",shard=\"shardId-000000000063\"} 500"
        ));
        // A limit that is there no more is of a closed shard; none at all is no limit.
        snapshot.account.shards[3].limit = None;
        let text = metrics.render(&[Arc::new(snapshot.clone())]);
        assert!(text.contains(
            "tickgen_shard_limit_records_per_second{stream=\"s\",shard=\"shardId-000000000003\"} 0"
        ));
        for shard in &mut snapshot.account.shards {
            shard.limit = None;
        }
        let text = metrics.render(&[Arc::new(snapshot.clone())]);
        assert!(text.contains(
            "tickgen_shard_limit_records_per_second{stream=\"s\",shard=\"shardId-000000000003\"} inf"
        ));
    }
}
