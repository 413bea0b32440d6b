//! The metrics as OpenTelemetry's protocol has them: the same names, counters as cumulative sums, histograms with
//! the classic buckets. The SDK's instruments take sample by sample; ours are counted already, so the messages are
//! made here, of OpenTelemetry's own types.

use super::exposition::Exposed;
use super::metrics::{Families, Family, MetricKind, Point, RunGauges, Value};
use crate::load::Nanos;
use crate::producer::Snapshot;
use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue as Attribute};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::transform::common::tonic::Attributes;
use prost::Message as _;
use std::sync::Arc;

/// The metrics of a run as requests to a collector.
#[derive(Debug)]
pub struct Otlp {
    families: Families,
    resource: Resource,
    since: Nanos,
}

impl Otlp {
    /// The metrics of a run that began at `since`, in nanoseconds since 1970.
    #[must_use]
    pub fn new(run: RunGauges, since: Nanos) -> Self {
        let resource = resource(&run);
        Self { families: Families::new(run), resource, since }
    }

    /// The body of a request with the snapshot of each load, taken at `now`, in nanoseconds since 1970.
    #[must_use]
    pub fn request(&self, loads: &[Arc<Snapshot>], now: Nanos) -> Vec<u8> {
        let all = Snapshot::sum(loads.iter().map(Arc::as_ref));
        let span = Span { since: self.since, now };
        let metrics = self.families.read(&all, loads).iter().map(|family| span.metric(family)).collect();
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Default::default()
        };
        let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, schema_url: String::new() }];
        let resource = Some(self.resource.clone());
        let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, schema_url: String::new() }];
        ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
    }

    /// What a collector says that it did not take, if anything.
    #[must_use]
    pub fn rejected(answer: &[u8]) -> Option<String> {
        let partial = ExportMetricsServiceResponse::decode(answer).ok()?.partial_success?;
        let (points, why) = (partial.rejected_data_points, partial.error_message);
        (points > 0).then(|| format!("{points} data points were rejected: {why}"))
    }
}

/// What sends the metrics. `OTEL_RESOURCE_ATTRIBUTES` adds to it.
fn resource(run: &RunGauges) -> Resource {
    let strings: Vec<opentelemetry::StringValue> = run.streams.iter().cloned().map(Into::into).collect();
    let resource = opentelemetry_sdk::Resource::builder()
        .with_service_name(env!("CARGO_PKG_NAME"))
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            // What tells one producer of a load from another.
            KeyValue::new("service.instance.id", run.run_id.clone()),
            KeyValue::new("tickgen.run.id", run.run_id.clone()),
            KeyValue::new("tickgen.stream", opentelemetry::Value::Array(strings.into())),
        ])
        .build();
    let own = resource.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    Resource { attributes: sorted(Attributes::from(own).0), ..Default::default() }
}

fn sorted(mut attributes: Vec<Attribute>) -> Vec<Attribute> {
    attributes.sort_by(|a, b| a.key.cmp(&b.key));
    attributes
}

/// What the values are of.
#[derive(Clone, Copy)]
struct Span {
    since: Nanos,
    now: Nanos,
}

impl Span {
    fn metric(self, family: &Family<'_>) -> Metric {
        let metric = &family.metric;
        let cumulative = AggregationTemporality::Cumulative.into();
        let data = match metric.kind {
            MetricKind::Gauge => Data::Gauge(Gauge { data_points: self.numbers(family) }),
            MetricKind::Counter => Data::Sum(Sum {
                data_points: self.numbers(family),
                aggregation_temporality: cumulative,
                is_monotonic: true,
            }),
            MetricKind::Histogram => Data::Histogram(Histogram {
                data_points: family.points.iter().filter_map(|point| self.histogram(point)).collect(),
                aggregation_temporality: cumulative,
            }),
        };
        Metric {
            name: metric.name.to_owned(),
            description: metric.help.to_owned(),
            unit: unit(metric.unit),
            metadata: Vec::new(),
            data: Some(data),
        }
    }

    fn numbers(self, family: &Family<'_>) -> Vec<NumberDataPoint> {
        let number = |point: &Point<'_>| {
            let value = match point.value {
                Value::Whole(value) => match i64::try_from(value) {
                    Ok(value) => number_data_point::Value::AsInt(value),
                    Err(_) => number_data_point::Value::AsDouble(value as f64),
                },
                Value::Real(value) => number_data_point::Value::AsDouble(value),
                Value::Histogram(_) => return None,
            };
            Some(NumberDataPoint {
                attributes: attributes(point),
                start_time_unix_nano: self.since,
                time_unix_nano: self.now,
                value: Some(value),
                ..Default::default()
            })
        };
        family.points.iter().filter_map(number).collect()
    }

    fn histogram(self, point: &Point<'_>) -> Option<HistogramDataPoint> {
        let Value::Histogram(exposed) = &point.value else { return None };
        Some(HistogramDataPoint {
            attributes: attributes(point),
            start_time_unix_nano: self.since,
            time_unix_nano: self.now,
            count: exposed.histogram.len(),
            sum: Some(exposed.sum),
            bucket_counts: counts(exposed),
            explicit_bounds: exposed.buckets.to_vec(),
            ..Default::default()
        })
    }
}

/// The samples in each bucket, those over the last bound at the end.
fn counts(exposed: &Exposed<'_>) -> Vec<u64> {
    let mut before = 0;
    let cumulative = exposed.cumulative().into_iter().chain([exposed.histogram.len()]);
    cumulative.map(|below| below - std::mem::replace(&mut before, below)).collect()
}

fn attributes(point: &Point<'_>) -> Vec<Attribute> {
    let own = point.labels.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    Attributes::from(own).0
}

/// A unit by the Unified Code for Units of Measure: what it does not know is put in braces.
fn unit(own: &str) -> String {
    match own {
        "seconds" => "s".to_owned(),
        "bytes" => "By".to_owned(),
        other => format!("{{{other}}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::{METRICS, ProcessFigures};
    use super::*;
    use crate::load::MILLISECOND;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsPartialSuccess;
    use opentelemetry_proto::tonic::common::v1::any_value;

    fn run() -> RunGauges {
        RunGauges {
            connections: Vec::new(),
            loads: vec!["a".into(), "b".into()],
            streams: vec!["s".into(), "t".into()],
            run_id: "r".into(),
            ceiling: Some(crate::observe::Ceiling { records_per_cpu_second: 1000.0, processors: 2 }),
            process: || Some(ProcessFigures::default()),
        }
    }

    fn text(attributes: &[Attribute]) -> Vec<String> {
        let value = |own: &Attribute| match own.value.clone().unwrap().value.unwrap() {
            any_value::Value::StringValue(text) => text,
            any_value::Value::ArrayValue(values) => format!("{} values", values.values.len()),
            other => format!("{other:?}"),
        };
        attributes.iter().map(|own| format!("{}={}", own.key, value(own))).collect()
    }

    #[test]
    fn a_request_has_every_metric() {
        let mut snapshot = Snapshot::empty();
        snapshot.account.shard(0, crate::kinesis::ShardId(3));
        snapshot.account.ledger.acked = 12;
        for (millis, records) in [(2, 5), (3, 4), (70_000, 2)] {
            snapshot.account.response_time.record(millis * MILLISECOND, records);
        }
        let loads = [Arc::new(snapshot.clone()), Arc::new(snapshot)];
        let request = Otlp::new(run(), 5).request(&loads, 9);
        let mut request = ExportMetricsServiceRequest::decode(&request[..]).unwrap();
        let mut of_resource = request.resource_metrics.remove(0);
        let resource = text(&of_resource.resource.unwrap().attributes);
        for own in
            ["service.name=tickgen", "service.instance.id=r", "tickgen.run.id=r", "tickgen.stream=2 values"]
        {
            assert!(resource.iter().any(|attribute| attribute == own), "{own}: {resource:?}");
        }
        let metrics = of_resource.scope_metrics.remove(0).metrics;
        let told: Vec<_> = metrics.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(told, METRICS.iter().map(|metric| metric.name).collect::<Vec<_>>());
        let named = |name: &str| metrics.iter().find(|metric| metric.name == name).unwrap();
        let Some(Data::Sum(sum)) = &named("tickgen_records_total").data else { panic!() };
        let cumulative: i32 = AggregationTemporality::Cumulative.into();
        assert_eq!((sum.is_monotonic, sum.aggregation_temporality), (true, cumulative));
        let acked = &sum.data_points[0];
        assert_eq!(text(&acked.attributes), ["outcome=acked"]);
        assert_eq!((acked.start_time_unix_nano, acked.time_unix_nano), (5, 9));
        assert_eq!(acked.value, Some(number_data_point::Value::AsInt(24)));
        let times = named("tickgen_load_response_time_seconds");
        assert_eq!(times.unit, "s");
        let Some(Data::Histogram(times)) = &times.data else { panic!() };
        let point = &times.data_points[1];
        assert_eq!((text(&point.attributes), point.count), (vec!["load=b".to_owned()], 11));
        assert!((point.sum.unwrap() - 140.022).abs() < 1e-9);
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        assert_eq!((&point.bucket_counts[..3], point.bucket_counts.last()), (&[0, 5, 4][..], Some(&2)));
    }

    #[test]
    fn a_collector_may_take_a_part_only() {
        let said = |rejected_data_points| {
            let partial = ExportMetricsPartialSuccess { rejected_data_points, error_message: "old".into() };
            ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec()
        };
        assert_eq!(Otlp::rejected(&said(2)).unwrap(), "2 data points were rejected: old");
        assert_eq!(
            [Otlp::rejected(&said(0)), Otlp::rejected(b""), Otlp::rejected(b"{}")],
            [None, None, None]
        );
    }
}
