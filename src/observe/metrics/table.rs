//! Every metric: name, kind, labels, unit and meaning.

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
        $(pub(super) const $id: Metric = Metric {
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
    SHARD_ACCEPTED = "tickgen_shard_accepted_total" Counter ["stream" "shard"] "Kinesis records"
        "Kinesis records accepted by a shard; the first 64 shards by name, the others of a stream as other."
    SHARD_THROTTLED = "tickgen_shard_throttled_total" Counter ["stream" "shard"] "Kinesis records"
        "Kinesis records throttled by a shard; the first 64 shards by name, the others of a stream as other."
    SHARD_LIMIT = "tickgen_shard_limit_records_per_second" Gauge ["stream" "shard"] "Kinesis records per second"
        "What the limit of a shard admits at present, +Inf without a limit, 0 once it is closed; the first 64 shards by name, the others of a stream as other."
    SHARD_EXPECTED = "tickgen_shard_expected_records" Gauge ["stream" "shard"] "user records"
        "User records made that were expected to go to a shard, by their keys and the shard map, NaN if unknown; the first 64 shards by name, the others of a stream as other."
    TARGET = "tickgen_target_records_per_second" Gauge [] "user records per second"
        "The rate that is offered now, by all loads; +Inf in a closed loop (--rps max)."
    ACHIEVED = "tickgen_achieved_records_per_second" Gauge [] "user records per second"
        "Acked user records per second of the schedule so far."
    IN_FLIGHT_REQUESTS = "tickgen_in_flight_requests" Gauge [] "requests"
        "Requests that wait for their answer; bounded by --max-requests and --max-connections."
    IN_FLIGHT_BYTES = "tickgen_in_flight_bytes" Gauge [] "bytes"
        "Bytes that the request bodies in flight were expected to take; bounded by --max-in-flight-bytes."
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
        "User records of each [[load]] settled or dropped, main if the run has no [[load]]; tickgen_records_total is of all together."
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
    RUN_INFO = "tickgen_run_info" Gauge ["run" "stream" "version"] "1"
        "Always 1; its labels are the run's id, each of its streams and the version of tickgen."
    PROCESSORS = "tickgen_processors" Gauge [] "processors"
        "Processors that the process may use, by the quota of its container and its affinity; on Linux only."
    CEILING = "tickgen_ceiling_records_per_second" Gauge [] "user records per second"
        "What this machine can send with the run's settings, as tickgen calibrate measured it; only where it did."
    CPU = "process_cpu_seconds_total" Counter [] "seconds"
        "Processor time of the process, user and system; on Linux only."
    MEMORY = "process_resident_memory_bytes" Gauge [] "bytes"
        "Memory of the process that is resident; on Linux only."
}
