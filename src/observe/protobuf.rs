//! Prometheus' protobuf form: each metric as `io.prometheus.client.MetricFamily` with its length before it,
//! histograms with classic and native buckets. The messages have the fields that are used here, by the numbers
//! of `io/prometheus/client/metrics.proto`.

use super::exposition::Exposed;
use super::metrics::{Families, Family, MetricKind, Point, Value};
use super::sparse::{SCHEMA, Sparse};
use crate::producer::Snapshot;
use prost::Message;
use std::sync::Arc;

/// What a server calls this form.
pub const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// The metrics of a run in protobuf.
#[derive(Debug)]
pub struct Protobuf(Families);

impl Protobuf {
    /// The metrics of a run.
    #[must_use]
    pub fn new(families: Families) -> Self {
        Self(families)
    }

    /// The bytes that Prometheus scrapes, from the snapshot of each load.
    #[must_use]
    pub fn render(&self, loads: &[Arc<Snapshot>]) -> Vec<u8> {
        let all = Snapshot::sum(loads.iter().map(Arc::as_ref));
        let families = self.0.read(&all, loads);
        families.into_iter().flat_map(|f| MetricFamily::of(&f).encode_length_delimited_to_vec()).collect()
    }
}

/// Whether an `Accept` header asks for protobuf rather than for text, or does not mind.
#[must_use]
pub fn prefers_protobuf(accept: &str) -> bool {
    let mut text = 0.0_f64;
    let mut protobuf = 0.0_f64;
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let parameter = |name: &str| {
            let found = parameters.iter().find(|(own, _)| own.trim().eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.trim().trim_matches('"'))
        };
        let quality = parameter("q").map_or(1.0, |q| q.parse().unwrap_or(0.0));
        if ["text/plain", "text/*", "*/*"].iter().any(|own| kind.eq_ignore_ascii_case(own)) {
            text = text.max(quality);
        }
        if kind.eq_ignore_ascii_case("application/vnd.google.protobuf")
            && parameter("proto") == Some("io.prometheus.client.MetricFamily")
            && parameter("encoding") == Some("delimited")
        {
            protobuf = protobuf.max(quality);
        }
    }
    protobuf > 0.0 && protobuf >= text
}

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    #[prost(enumeration = "Kind", optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum Kind {
    Counter = 0,
    Gauge = 1,
    Histogram = 4,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Label>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

/// A counter or a gauge.
#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    sample_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sample_sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<Span>,
    /// Each bucket's count less that of the one before.
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    positive_delta: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    cumulative_count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    upper_bound: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

impl MetricFamily {
    fn of(family: &Family<'_>) -> Self {
        let kind = match family.metric.kind {
            MetricKind::Counter => Kind::Counter,
            MetricKind::Gauge => Kind::Gauge,
            MetricKind::Histogram => Kind::Histogram,
        };
        Self {
            name: Some(family.metric.name.to_owned()),
            help: Some(family.metric.help.to_owned()),
            kind: Some(kind.into()),
            metric: family.points.iter().map(|point| Metric::of(kind, point)).collect(),
        }
    }
}

impl Metric {
    fn of(kind: Kind, point: &Point<'_>) -> Self {
        let label = point.labels.iter().cloned();
        let label = label.map(|(name, value)| Label { name: Some(name), value: Some(value) }).collect();
        let (number, histogram) = match &point.value {
            Value::Whole(value) => (Some(Number { value: Some(*value as f64) }), None),
            Value::Real(value) => (Some(Number { value: Some(*value) }), None),
            Value::Histogram(exposed) => (None, Some(Histogram::of(exposed))),
        };
        let (counter, gauge) = if kind == Kind::Counter { (number, None) } else { (None, number) };
        Self { label, gauge, counter, histogram }
    }
}

impl Histogram {
    fn of(exposed: &Exposed<'_>) -> Self {
        let bounds = exposed.buckets.iter().zip(exposed.cumulative());
        let sparse = Sparse::of(exposed);
        let mut histogram = Self {
            sample_count: Some(exposed.histogram.len()),
            sample_sum: Some(exposed.sum),
            bucket: bounds
                .map(|(&bound, below)| Bucket { cumulative_count: Some(below), upper_bound: Some(bound) })
                .collect(),
            schema: Some(SCHEMA),
            zero_threshold: Some(sparse.zero_threshold),
            zero_count: Some(sparse.zeros),
            positive_span: Vec::new(),
            positive_delta: Vec::new(),
        };
        let mut before = 0;
        for (offset, counts) in sparse.runs() {
            let length = u32::try_from(counts.len()).unwrap_or(u32::MAX);
            histogram.positive_span.push(Span { offset: Some(offset), length: Some(length) });
            for count in counts {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                histogram.positive_delta.push(count - before);
                before = count;
            }
        }
        histogram
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::{METRICS, ProcessFigures, RunGauges};
    use super::*;
    use crate::load::MILLISECOND;

    fn run() -> RunGauges {
        RunGauges {
            connections: Vec::new(),
            loads: vec!["a\"".into(), "b".into()],
            streams: vec!["s".into()],
            run_id: "r".into(),
            ceiling: Some(crate::observe::Ceiling { records_per_cpu_second: 1000.0, processors: 2 }),
            process: || Some(ProcessFigures { cpu_seconds: 1.25, resident_bytes: 4096, processors: 2 }),
        }
    }

    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::empty();
        let shard = snapshot.account.shard(0, crate::kinesis::ShardId(3));
        snapshot.account.shards[shard].accepted = 7;
        snapshot.account.ledger.acked = 12;
        for (millis, records) in [(0, 1), (2, 5), (3, 4), (70_000, 2)] {
            snapshot.account.response_time.record(millis * MILLISECOND, records);
        }
        snapshot
    }

    fn decoded(mut bytes: &[u8]) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        while !bytes.is_empty() {
            families.push(MetricFamily::decode_length_delimited(&mut bytes).unwrap());
        }
        families
    }

    #[test]
    fn both_forms_say_the_same() {
        let loads = [Arc::new(snapshot()), Arc::new(snapshot())];
        let text = super::super::Metrics::new(run()).render(&loads);
        let families = decoded(&Protobuf::new(Families::new(run())).render(&loads));
        let names: Vec<_> = families.iter().map(|family| family.name.clone().unwrap()).collect();
        assert_eq!(names, METRICS.iter().map(|metric| metric.name).collect::<Vec<_>>());
        let mut lines: Vec<String> = Vec::new();
        for family in families {
            let name = family.name.unwrap();
            lines.push(format!("# HELP {name} {}", family.help.unwrap()));
            let kind = Kind::try_from(family.kind.unwrap()).unwrap();
            lines.push(format!("# TYPE {name} {}", format!("{kind:?}").to_lowercase()));
            lines.extend(family.metric.iter().flat_map(|metric| metric.lines(&name)));
        }
        lines.sort();
        let mut expected: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        expected.sort_unstable();
        assert_eq!(lines, expected);
    }

    impl Metric {
        /// As the text form has it; labels there are by name.
        fn lines(&self, name: &str) -> Vec<String> {
            let text = |own: &Label, mark: &str| {
                let (name, value) = (own.name.clone().unwrap(), own.value.clone().unwrap());
                format!("{name}={mark}{}{mark}", value.replace('"', "\\\""))
            };
            let labels: Vec<_> = self.label.iter().map(|label| text(label, "\"")).collect();
            let with = |more: Option<String>| {
                let all: Vec<_> = labels.iter().cloned().chain(more).collect();
                if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
            };
            if let Some(number) = self.counter.as_ref().or(self.gauge.as_ref()) {
                return vec![format!("{name}{} {}", with(None), number.value.unwrap())];
            }
            let histogram = self.histogram.as_ref().unwrap();
            let count = histogram.sample_count.unwrap();
            let bucket = |bound: String, below: u64| {
                format!("{name}_bucket{} {below}", with(Some(format!("le=\"{bound}\""))))
            };
            let of =
                |own: &Bucket| bucket(own.upper_bound.unwrap().to_string(), own.cumulative_count.unwrap());
            let mut lines: Vec<_> = histogram.bucket.iter().map(of).collect();
            lines.push(bucket("+Inf".into(), count));
            lines.push(format!("{name}_sum{} {}", with(None), histogram.sample_sum.unwrap()));
            lines.push(format!("{name}_count{} {count}", with(None)));
            lines
        }
    }

    #[test]
    fn native_buckets_are_spans_of_differences() {
        let snapshot = snapshot();
        let exposed = Exposed {
            name: "x",
            load: None,
            histogram: snapshot.account.response_time.histogram(),
            sum: 140.022,
            buckets: &[0.002_5],
            units: 1e6,
        };
        let histogram = Histogram::of(&exposed);
        assert_eq!((histogram.sample_count, histogram.sample_sum), (Some(12), Some(140.022)));
        assert_eq!((histogram.schema, histogram.zero_count), (Some(5), Some(1)));
        // log2(0.002) * 32 = -286.9, log2(0.003) * 32 = -268.2, log2(70) * 32 = 196.1
        let spans: Vec<_> =
            histogram.positive_span.iter().map(|s| (s.offset.unwrap(), s.length.unwrap())).collect();
        assert_eq!(spans, [(-286, 1), (17, 1), (464, 1)]);
        assert_eq!(histogram.positive_delta, [5, -1, -2]);
        assert_eq!(histogram.bucket[0].cumulative_count, Some(6));
    }

    #[test]
    fn protobuf_is_for_those_who_ask_for_it() {
        let protobuf =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        for accept in [
            protobuf,
            PROTOBUF,
            &format!(
                "{protobuf},application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
            ),
            &format!("{protobuf};escaping=allow-utf-8;q=0.6,text/plain;q=0.5,*/*;q=0.2"),
        ] {
            assert!(prefers_protobuf(accept), "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/plain",
            "application/vnd.google.protobuf",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
            &format!("{protobuf};q=0"),
            &format!("{protobuf};q=x"),
            &format!("{protobuf};q=0.3,text/plain;version=0.0.4;q=0.5"),
        ] {
            assert!(!prefers_protobuf(accept), "{accept}");
        }
    }
}
